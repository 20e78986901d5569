"""The parent of the workers: starts, watches, replaces and retires them; runs no application.

All of it happens in one thread, by one loop: workers are forked, so nothing else may run here.
A replacement serves before the old worker retires, and a new generation serves, to the last of
its workers, before the old one is told to go: so nobody who comes finds fewer than there should
be, unless one crashed.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from portico.engine.handover import Handover
from portico.errors import ConfigError, PorticoError, TransportError
from portico.supervisor.child import (
    FAILED,
    LEAVING,
    READY,
    RETIRING,
    SERVING,
    STARTING,
    STOP,
    STOP_AT_ONCE,
    WORN,
    Child,
    Orders,
)
from portico.supervisor.generation import Generation
from portico.supervisor.listeners import Listeners
from portico.supervisor.loop import Loop
from portico.supervisor.worker import Post

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.supervisor.generation import Service
    from portico.supervisor.loop import Timer

log = logging.getLogger("portico")

#: Seconds that a worker must have lived for its death not to count as a hasty one.
_LIVED = 5.0

#: Seconds until a worker that died hastily is replaced: after the first, and at most. Each
#: further such death doubles the pause.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0

#: Seconds from the moment at which a worker must have ended by itself, to its being killed.
_MARGIN = 2.0


class Forked(BaseException):
    """This process has become a worker.

    Attributes:
        post: What it is to do.
    """

    def __init__(self, post: Post) -> None:
        super().__init__()
        self.post = post


class Parent:
    """The processes of one service.

    Args:
        service: What is served.
        reread: Reads the configuration again, for a reload; raises `ConfigError`.

    Raises:
        PorticoError: a listener cannot be opened; then none is.
    """

    def __init__(self, service: Service, reread: Callable[[], Service]) -> None:
        self._reread = reread
        self._listeners = Listeners()
        self._next: Generation | None = None
        self._again = False
        self._children: dict[int, Child] = {}
        self._worn: deque[tuple[Child, str]] = deque()
        self._hasty_deaths = 0
        self._pause: Timer | None = None
        self._started = False
        self._stopping = False
        self._status = 0
        self._failure: PorticoError | None = None
        self._signals: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop_at_once,
            signal.SIGQUIT: self._stop_with_stacks,
            signal.SIGHUP: self.reload,
            signal.SIGTTIN: partial(self._adjust, 1),
            signal.SIGTTOU: partial(self._adjust, -1),
            signal.SIGCHLD: self._bury,
        }
        self._loop = Loop(self._signals)  # first: a signal must find no socket half made
        try:
            self._current = Generation(1, service, self._listeners.open(service.binds))
        except BaseException:
            self._loop.close()
            raise
        self._orders = Orders()
        self._handover = Handover()
        self._alive, self._lifeline = os.pipe()

    def run(self) -> int:
        """Serve until a signal says stop; gives the exit status, 1 where requests were cut.

        Raises:
            PorticoError: the first workers cannot serve.
            Forked: in each process that has become a worker.
        """
        # what is loaded by now stays: workers share it as long as nobody writes to it
        gc.collect()
        gc.freeze()
        self._fill()
        while not self._stopping or self._children:
            self._loop.step()
        self._listeners.close()
        self._handover.close_all()
        self._loop.close()
        os.close(self._alive)
        os.close(self._lifeline)
        if self._failure is not None:
            raise self._failure
        return self._status

    # -- starting workers ------------------------------------------------------------------

    def _members(self, generation: Generation) -> list[Child]:
        """Give those of *generation* that serve or will; no stand-ins for one of them."""
        return [
            child
            for child in self._children.values()
            if child.generation is generation and child.state != RETIRING and child.replaces is None
        ]

    def _fill(self) -> None:
        """Start as many workers as are missing, or let those go that are too many."""
        if self._stopping or self._pause is not None:
            return
        generation = self._current
        members = self._members(generation)
        for _ in range(generation.wanted - len(members)):
            if self._spawn(generation) is None:
                return
        for child in members[: max(0, len(members) - generation.wanted)]:
            self._retire(child)

    def _spawn(self, generation: Generation, replaces: Child | None = None) -> Child | None:
        """Start a worker; None where the system has no process for one."""
        taken = {child.slot for child in self._children.values()}
        slot = next(number for number in range(1, len(taken) + 2) if number not in taken)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            pid = _fork(frozenset(self._signals))
        except OSError as error:
            os.close(reading)
            os.close(writing)
            log.error("no worker can be started: %s", error.strerror)  # noqa: TRY400 - it says all
            self._hold()
            return None
        if pid == 0:
            os.close(reading)
            raise Forked(self._leave(generation, slot, writing))
        os.close(writing)
        child = Child(pid, slot, generation, reading)
        child.replaces = replaces
        self._children[pid] = child
        self._loop.watch(reading, partial(self._hear, child))
        self._loop.after(
            generation.service.settings.startup_timeout, partial(self._give_up_on, child)
        )
        log.debug("%s started", child)
        return child

    def _leave(self, generation: Generation, slot: int, writing: int) -> Post:
        """In a new process: let go of what is the parent's alone; gives what to do here."""
        self._loop.leave()
        os.close(self._lifeline)
        for child in self._children.values():
            child.close()
        return Post(
            slot=slot,
            generation=generation.number,
            service=generation.service,
            listeners=generation.listeners,
            fd=writing,
            alive=self._alive,
            orders=self._orders,
            handover=self._handover,
        )

    def _give_up_on(self, child: Child) -> None:
        """Kill a worker that has not come to serve in time."""
        if child.state == STARTING and child.pid in self._children:
            seconds = child.generation.service.settings.startup_timeout
            child.failure = f"it did not come to serve within startup_timeout ({seconds:g} seconds)"
            child.signal(signal.SIGKILL)

    def _hold(self) -> None:
        """Start no worker for a while, which grows with each hasty death in a row."""
        if self._pause is None and not self._stopping:
            self._hasty_deaths += 1
            seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (self._hasty_deaths - 1))
            log.info("the next worker is started in %g seconds", seconds)
            self._pause = self._loop.after(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._fill()
        self._replace_next()

    # -- what workers say ------------------------------------------------------------------

    def _hear(self, child: Child) -> None:
        while messages := child.hear():
            for kind, text in messages:
                if kind == READY:
                    self._welcome(child)
                elif kind == FAILED:
                    child.failure = text
                elif kind == LEAVING:
                    self._let_go(child)
                elif kind == WORN:
                    self._queue_replacing(child, text)
        if messages is None:
            self._loop.unwatch(child.fd)
            child.close()

    def _welcome(self, child: Child) -> None:
        """Take note that a worker serves."""
        if child.state != STARTING:
            return
        child.state = SERVING
        replaced, child.replaces = child.replaces, None
        if replaced is not None and replaced.pid in self._children:
            self._retire(replaced)
        lifetime = child.generation.service.settings.max_lifetime
        if lifetime:
            jitter = child.generation.service.settings.recycle_jitter / 100
            seconds = lifetime * (1 + jitter * random.random())  # noqa: S311 - no secret
            self._loop.after(seconds, partial(self._queue_replacing, child, "max_lifetime"))
        if child.generation is self._next:
            self._go_on_reloading()
        elif not self._started and self._is_complete(self._current):
            self._started = True
            self._announce(self._current)

    def _is_complete(self, generation: Generation) -> bool:
        serving = [child for child in self._members(generation) if child.state == SERVING]
        return len(serving) >= generation.wanted

    def _announce(self, generation: Generation) -> None:
        settings = generation.service.settings
        for listener in generation.listeners:
            log.info(
                "serving %s on %s (up to %d threads)",
                generation.service.name,
                listener.bind,
                settings.threads,
            )

    def _let_go(self, child: Child) -> None:
        """Take note that a worker leaves, whom somebody else has told to."""
        if child.state != RETIRING:
            if child.state == SERVING and not self._stopping:
                log.info("%s was told to leave; starting another", child)
            child.state = RETIRING
            self._see_to_its_end(child)
            self._fill()

    # -- replacing and retiring ------------------------------------------------------------

    def _queue_replacing(self, child: Child, reason: str) -> None:
        """Have a worker replaced, when it is its turn."""
        queued = any(one is child for one, _ in self._worn)
        if child.state == SERVING and child.pid in self._children and not queued:
            self._worn.append((child, reason))
            self._replace_next()

    def _replace_next(self) -> None:
        """Start a stand-in for the next worker, once the last one replaced is gone."""
        if self._stopping or self._next is not None or self._pause is not None:
            return
        if any(child.replaces or child.state == RETIRING for child in self._children.values()):
            return
        while self._worn:
            child, reason = self._worn.popleft()
            if child.state == SERVING and child.generation is self._current:
                log.info("%s is replaced: %s", child, reason)
                if self._spawn(child.generation, replaces=child) is None:
                    self._worn.append((child, reason))
                return

    def _retire(self, child: Child) -> None:
        """Tell a worker to take nothing new, finish what it has, and end."""
        if child.state == STARTING:
            child.signal(signal.SIGKILL)  # nothing is lost: it does not serve yet
        else:
            child.signal(signal.SIGTERM)
        child.state = RETIRING
        self._see_to_its_end(child)

    def _see_to_its_end(self, child: Child) -> None:
        seconds = child.generation.service.settings.graceful_timeout + _MARGIN
        self._loop.after(seconds, partial(self._kill, child))

    def _kill(self, child: Child) -> None:
        if child.pid in self._children:
            log.warning("%s has not ended in time and is killed", child)
            self._status = 1
            child.signal(signal.SIGKILL)

    def _bury(self) -> None:
        """Take note of the workers that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.get(pid)
            if child is not None:
                if child.fd >= 0:
                    self._hear(child)  # its last words
                del self._children[pid]
                self._loop.unwatch(child.fd)
                child.close()
                self._mourn(child, os.waitstatus_to_exitcode(status))

    def _mourn(self, child: Child, code: int) -> None:
        """Act on a worker's end.

        Args:
            child: Who it was.
            code: Its exit status; a signal's number, negative, if one ended it.
        """
        for other in self._children.values():
            if other.replaces is child:
                other.replaces = None
        if child.state == RETIRING or self._stopping:
            log.debug("%s has %s", child, _describe(code))
            if self._stopping and code > 0:
                self._status = 1
        elif child.state == STARTING:
            self._fail_to_start(child, code)
        else:
            log.error("%s has %s; starting another", child, _describe(code))
            if time.monotonic() - child.started >= _LIVED:
                self._hasty_deaths = 0
            else:
                self._hold()
        self._fill()
        self._replace_next()

    def _fail_to_start(self, child: Child, code: int) -> None:
        """Act on the end of a worker that never served."""
        text = child.failure or f"it has {_describe(code)} before it could serve"
        if child.generation is self._next:
            self._give_up_reloading(text)
        elif not self._started:
            wrong = ConfigError if child.failure else TransportError
            self._failure = wrong(text)
            self._end_at_once(signal.SIGTERM)
        else:
            log.error("%s cannot serve: %s", child, text)
            self._hold()
            if child.replaces is not None:
                self._queue_replacing(child.replaces, "once more")

    def _adjust(self, change: int) -> None:
        """Have one worker more, or one fewer."""
        self._current.wanted = max(1, self._current.wanted + change)
        log.info("%d workers are wanted", self._current.wanted)
        self._fill()

    # -- reloading -------------------------------------------------------------------------

    def reload(self) -> None:
        """Start a new generation; the current one goes on until that serves."""
        if self._stopping or not self._started:
            return
        if self._next is not None:
            self._again = True
            return
        log.info("reloading")
        try:
            service = self._reread()
            generation = Generation(
                self._current.number + 1, service, self._listeners.open(service.binds)
            )
        except PorticoError as error:
            self._refuse_reload(str(error))
            return
        self._next = generation
        if self._spawn(generation) is None:
            self._give_up_reloading("the system has no process for a worker")

    def _go_on_reloading(self) -> None:
        """Act on one more worker of the next generation that serves."""
        generation = self._next
        if generation is None:
            return
        members = self._members(generation)
        if self._is_complete(generation):
            self._switch(generation)
        elif len(members) < generation.wanted and all(one.state == SERVING for one in members):
            # the first has shown that it can be done
            for _ in range(generation.wanted - len(members)):
                if self._spawn(generation) is None:
                    self._give_up_reloading("the system has no process for a worker")
                    return

    def _switch(self, generation: Generation) -> None:
        """Let the old generation go."""
        old = self._current
        self._current, self._next = generation, None
        self._worn.clear()
        self._listeners.keep(generation.listeners)
        for child in list(self._children.values()):
            if child.generation is old and child.state != RETIRING:
                self._retire(child)
        self._announce(generation)
        log.info("reloaded: generation %d serves", generation.number)
        self._reload_again()

    def _give_up_reloading(self, reason: str) -> None:
        """Stop the next generation; the current one has never stopped to serve."""
        generation, self._next = self._next, None
        for child in list(self._children.values()):
            if child.generation is generation and child.state != RETIRING:
                self._retire(child)
        self._listeners.keep(self._current.listeners)
        self._refuse_reload(reason)

    def _refuse_reload(self, reason: str) -> None:
        log.error("not reloaded: %s\ngeneration %d goes on serving", reason, self._current.number)
        self._reload_again()

    def _reload_again(self) -> None:
        """Reload once more where that was asked for meanwhile."""
        again, self._again = self._again, False
        if again:
            self.reload()

    # -- stopping --------------------------------------------------------------------------

    def _stop(self) -> None:
        """End gracefully; told again, at once."""
        if self._stopping:
            self._stop_at_once()
            return
        log.info("stopping")
        self._orders.set(STOP)
        self._tell_all(signal.SIGTERM, self._current.service.settings.graceful_timeout + _MARGIN)

    def _stop_at_once(self) -> None:
        """End, and let nobody finish."""
        log.info("stopping at once")
        self._end_at_once(signal.SIGTERM)

    def _stop_with_stacks(self) -> None:
        """End at once; each worker logs where its threads are."""
        log.info("stopping at once, with the stacks of all threads")
        self._end_at_once(signal.SIGQUIT)

    def _end_at_once(self, number: int) -> None:
        self._orders.set(STOP_AT_ONCE)
        self._tell_all(number, _MARGIN)

    def _tell_all(self, number: int, seconds: float) -> None:
        """Send each worker a signal, and kill in *seconds* whom it has not ended."""
        self._stopping = True
        self._listeners.close()
        for child in self._children.values():
            child.signal(signal.SIGKILL if child.state == STARTING else number)
            child.state = RETIRING
            self._loop.after(seconds, partial(self._kill, child))


def _fork(signals: frozenset[int]) -> int:
    """Fork; in the new process *signals* stay blocked until their handlers are its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"been ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"been ended by signal {-code}"
