"""The parent of the workers: starts, watches, replaces and retires them; runs no application.

All of it happens in one thread, by one loop: workers are forked, so nothing else may run here.
A replacement serves before the old worker retires, and a new generation serves, to the last of
its workers, before the old one is told to go: so nobody who comes finds fewer than there should
be, unless one crashed.
"""

from __future__ import annotations

import gc
import logging
import random
import signal
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from portico.errors import ConfigError, PorticoError, TransportError
from portico.supervisor.child import RETIRING, SERVING, STARTING, STOP, STOP_AT_ONCE
from portico.supervisor.crew import MARGIN, Crew
from portico.supervisor.demand import Demand
from portico.supervisor.generation import Generation
from portico.supervisor.ledger import Ledger
from portico.supervisor.listeners import Listeners
from portico.supervisor.logfiles import change_level
from portico.supervisor.loop import Loop
from portico.supervisor.presence import Presence
from portico.supervisor.privileges import warn_if_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.supervisor.child import Child
    from portico.supervisor.generation import Service
    from portico.supervisor.loop import Timer
    from portico.supervisor.notify import Notifier

log = logging.getLogger("portico")

#: Seconds that a worker must have lived for its death not to count as a hasty one.
_LIVED = 5.0

#: Seconds until a worker that died hastily is replaced: after the first, and at most. Each
#: further such death doubles the pause.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0

#: Seconds after a change of code until it is loaded.
_CHANGE_SECONDS = 0.8

#: Settings that a reload does not change.
_FIXED = ("pid_file", "status_socket", "log_file", "access_log")


class Parent:
    """The processes of one service.

    Args:
        service: What is served.
        reread: Reads the configuration again, for a reload; raises `ConfigError`.
        notifier: Tells systemd.

    Raises:
        PorticoError: something that it needs cannot be had; then nothing is left half started.
    """

    def __init__(self, service: Service, reread: Callable[[], Service], notifier: Notifier) -> None:
        self._reread = reread
        self._listeners = Listeners()
        self._next: Generation | None = None
        self._again = False
        self._worn: deque[tuple[Child, str]] = deque()
        self._hasty_deaths = 0
        self._pause: Timer | None = None
        self._change: Timer | None = None
        self._started = False
        self._stopping = False
        self._status = 0
        self._failure: PorticoError | None = None
        signals: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop_at_once,
            signal.SIGQUIT: self._stop_with_stacks,
            signal.SIGHUP: self.reload,
            signal.SIGTTIN: partial(self._adjust, 1),
            signal.SIGTTOU: partial(self._adjust, -1),
            signal.SIGUSR1: self._reopen,
            signal.SIGCHLD: self._bury,
        }
        self._loop = Loop(signals)  # first: a signal must find no socket half made
        try:
            self._current = Generation(1, service, [])
            self._current.own_files()
            self._ledger = Ledger(service.settings.workers)
            self._presence = Presence(service.settings, self._loop, notifier, self._ledger.board)
            try:
                self._current.listeners = self._listeners.open(service.binds)
            except BaseException:
                self._presence.close()
                raise
        except BaseException:
            self._loop.close()
            raise
        self._crew = Crew(self._loop, frozenset(signals), self, self._leave, self._ledger.board)
        self._demand = Demand(
            self._loop, lambda: not self._crew.members(self._current), self._start_on_demand
        )

    def work(self) -> int:
        """Serve until a signal says stop; gives the exit status, 1 where requests were cut.

        Raises:
            PorticoError: the first workers cannot serve.
            Forked: in each new process.
        """
        # what is loaded by now stays: workers share it as long as nobody writes to it
        gc.collect()
        gc.freeze()
        self._fill()
        while not self._stopping or not self._crew.is_gone:
            self._loop.step()
            self._publish()
        self._listeners.close()
        self._crew.close()
        self._presence.close()
        self._loop.close()
        if self._failure is not None:
            raise self._failure
        return 1 if self._crew.forced else self._status

    def _leave(self, generation: Generation) -> None:
        """In a forked process: let go of all but what its generation needs."""
        change_level(self._current.service.settings, generation.service.settings)
        self._presence.leave()
        self._listeners.leave(generation.listeners)

    def _bury(self) -> None:
        self._crew.bury()

    @property
    def _is_spawned(self) -> bool:
        """Whether somebody who opened the socket has started this; as in `worker.run`."""
        return any(bind.transport == "fd" for bind in self._current.service.binds)

    def _reopen(self) -> None:
        """Open the log files anew, here first: the workers may not be able to make them."""
        if self._is_spawned and not self._current.service.files.has_own:
            self._stop()  # what the signal means to programs that were spawned
            return
        self._current.service.files.reopen()
        self._crew.pass_on(signal.SIGUSR1)

    def _publish(self) -> None:
        """Tell the scoreboard what is new."""
        state = "serving" if self._started else "starting"
        if self._stopping:
            state = "stopping"
        elif self._next is not None:
            state = "reloading"
        self._ledger.publish(state, self._current, self._crew)

    # -- the number of workers -------------------------------------------------------------

    def _fill(self) -> None:
        """Start as many workers as are missing, or let those go that are too many."""
        if self._stopping or self._pause is not None:
            return
        generation = self._current
        members = self._crew.members(generation)
        service = generation.service
        if service.settings.on_demand and self._started and len(members) >= service.least:
            self._attend(members)
            return
        for _ in range(generation.needed - len(members)):
            if not self._start(generation):
                return
        for child in members[: max(0, len(members) - generation.wanted)]:
            self._crew.retire(child)

    def _attend(self, members: list[Child]) -> None:
        """Start the next worker when requests ask for one, if there may be one more."""
        starting = any(child.state == STARTING for child in members)
        if starting or len(members) >= self._current.wanted:
            self._demand.stop()
        else:
            waiting = [listener.fd for listener in self._current.listeners]
            self._demand.resume([*waiting, self._crew.handover.fd])

    def _start_on_demand(self) -> None:
        if not self._stopping and self._pause is None:
            self._start(self._current)

    def _start(self, generation: Generation, replaces: Child | None = None) -> bool:
        """Start a worker; False where the system has no process for one."""
        try:
            self._crew.start(generation, replaces)
        except OSError as error:
            log.error("no worker can be started: %s", error.strerror)  # noqa: TRY400 - it says all
            self._hold()
            return False
        return True

    def _adjust(self, change: int) -> None:
        """Have one worker more, or one fewer."""
        wanted = min(self._current.wanted + change, self._ledger.most_workers)
        self._current.wanted = max(1, wanted)
        log.info("%d workers are wanted", self._current.wanted)
        self._fill()

    def _hold(self) -> None:
        """Start no worker for a while, which grows with each hasty death in a row."""
        if self._pause is None and not self._stopping:
            self._hasty_deaths += 1
            seconds = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._hasty_deaths - 1, 10))
            log.info("the next worker is started in %g seconds", seconds)
            self._pause = self._loop.after(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._fill()
        self._replace_next()

    # -- what happens to workers: `Watch` --------------------------------------------------

    def serves(self, child: Child) -> None:
        """Act on a worker that has come to serve."""
        settings = child.generation.service.settings
        replaced, child.replaces = child.replaces, None
        if replaced is not None and replaced in self._crew:
            self._crew.retire(replaced)
        if settings.max_lifetime:
            jitter = settings.recycle_jitter / 100 * random.random()  # noqa: S311 - no secret
            self._loop.after(
                settings.max_lifetime * (1 + jitter), partial(self.is_worn, child, "max_lifetime")
            )
        if child.generation is self._next:
            self._go_on_reloading()
        elif not self._started and self._is_complete(self._current):
            self._started = True
            self._announce(self._current)
            warn_if_root(log, self._current.account)
        self._fill()
        self.rests(child)

    def changed(self, path: str) -> None:
        """Load changed code, in development."""
        if self._change is None and not self._stopping:
            log.info("%s has changed", path)
            # all workers notice, and an editor may write several files
            self._change = self._loop.after(_CHANGE_SECONDS, self._load_change)

    def _load_change(self) -> None:
        self._change = None
        self.reload()

    def rests(self, child: Child) -> None:
        """Let a worker that came on demand leave when it has rested for long enough."""
        settings = child.generation.service.settings
        if settings.on_demand:
            is_timed, child.idle_at = bool(child.idle_at), time.monotonic()
            if not is_timed:
                self._loop.after(settings.worker_idle_timeout, partial(self._let_rest, child))

    def _let_rest(self, child: Child) -> None:
        if child.state != SERVING or child not in self._crew:
            return
        entry = self._ledger.board.read(child.slot) or {}
        rested = time.monotonic() - child.idle_at
        generation = child.generation
        left = generation.service.settings.worker_idle_timeout - rested
        stays = len(self._crew.members(generation)) <= generation.service.least
        if stays or any(entry.get(name) for name in ("busy", "connections", "waiting")):
            child.idle_at = 0.0  # it says when it rests again
        elif left > 0:
            self._loop.after(left, partial(self._let_rest, child))
        else:
            log.info("%s has nothing to do and leaves", child)
            self._crew.retire(child)
            self._fill()

    def leaves(self, child: Child) -> None:
        """Act on a worker that somebody else has told to leave."""
        if not self._stopping:
            log.info("%s was told to leave; starting another", child)
            self._fill()

    def is_worn(self, child: Child, reason: str) -> None:
        """Have a worker replaced, when it is its turn."""
        queued = any(one is child for one, _ in self._worn)
        if child.state == SERVING and child in self._crew and not queued:
            self._worn.append((child, reason))
            self._replace_next()

    def ended(self, child: Child, code: int) -> None:
        """Act on a worker's end."""
        self._ledger.bury(child.slot)
        if child.state == RETIRING or self._stopping:
            log.debug("%s has %s", child, _describe(code))
            if self._stopping and code > 0:
                self._status = 1
        elif child.state == STARTING:
            self._fail_to_start(child, code)
        else:
            self._ledger.crashes += 1
            log.error("%s has %s; starting another", child, _describe(code))
            if time.monotonic() - child.started >= _LIVED:
                self._hasty_deaths = 0
            else:
                self._hold()
        self._publish()  # without it and before its slot is cleared, or the totals would fall
        self._ledger.board.clear(child.slot)
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
                self.is_worn(child.replaces, "once more")

    def _replace_next(self) -> None:
        """Start a stand-in for the next worn worker, once the last one replaced is gone."""
        if self._stopping or self._next is not None or self._pause is not None:
            return
        if any(child.replaces or child.state == RETIRING for child in self._crew):
            return
        while self._worn:
            child, reason = self._worn.popleft()
            if child.state == SERVING and child.generation is self._current:
                log.info("%s is replaced: %s", child, reason)
                if not self._start(child.generation, replaces=child):
                    self._worn.append((child, reason))
                return

    def _is_complete(self, generation: Generation) -> bool:
        members = self._crew.members(generation)
        return sum(child.state == SERVING for child in members) >= generation.needed

    def _announce(self, generation: Generation) -> None:
        self._presence.ready(self._describe())
        for listener in generation.listeners:
            log.info(
                "serving %s on %s (up to %d threads)",
                generation.service.name,
                listener.bind,
                generation.service.settings.threads,
            )

    # -- reloading -------------------------------------------------------------------------

    def reload(self) -> None:
        """Start a new generation; the current one goes on until that serves."""
        if self._stopping or not self._started:
            return
        if self._next is not None:
            self._again = True
            return
        log.info("reloading")
        self._presence.reloading()
        try:
            service = self._reread()
            self._check_number(service.settings.workers)
            generation = Generation(self._current.number + 1, service, [])
            generation.listeners = self._listeners.open(service.binds)
            self._name_unchanged(service)
        except PorticoError as error:
            self._refuse_reload(str(error))
            return
        self._next = generation
        if not self._start(generation):
            self._give_up_reloading("the system has no process for a worker")

    def _check_number(self, workers: int) -> None:
        """Refuse a number of workers that this process cannot have; raises `ConfigError`."""
        if not workers:
            raise ConfigError("to serve without a parent takes a restart", key="workers")
        if workers > self._ledger.most_workers:
            raise ConfigError(
                f"more workers than {self._ledger.most_workers} take a restart", key="workers"
            )

    def _name_unchanged(self, service: Service) -> None:
        """Say which of the new settings take a restart."""
        old = self._current.service.settings
        for name in _FIXED:
            if getattr(service.settings, name) != getattr(old, name):
                log.warning("%s stays as it is: another one takes a restart", name)

    def _go_on_reloading(self) -> None:
        """Act on one more worker of the next generation that serves."""
        generation = self._next
        if generation is None:
            return
        members = self._crew.members(generation)
        if self._is_complete(generation):
            self._switch(generation)
        elif len(members) < generation.needed and all(one.state == SERVING for one in members):
            # the first has shown that it can be done
            for _ in range(generation.needed - len(members)):
                if not self._start(generation):
                    self._give_up_reloading("the system has no process for a worker")
                    return

    def _switch(self, generation: Generation) -> None:
        """Let the old generation go."""
        old = self._current
        self._current, self._next = generation, None
        self._worn.clear()
        self._demand.stop()
        change_level(old.service.settings, generation.service.settings)
        self._listeners.keep(generation.listeners)
        generation.own_files()
        self._crew.dismiss(old)
        for child in self._crew:
            if child.generation is old and child.state != RETIRING:
                self._crew.retire(child)
        self._fill()
        self._ledger.succeed()
        self._announce(generation)
        log.info("reloaded: generation %d serves", generation.number)
        self._reload_again()

    def _give_up_reloading(self, reason: str) -> None:
        """Stop the next generation; the current one has never stopped to serve."""
        generation, self._next = self._next, None
        if generation is not None:
            self._crew.dismiss(generation)
        for child in self._crew:
            if child.generation is generation and child.state != RETIRING:
                self._crew.retire(child)
        self._listeners.keep(self._current.listeners)
        self._refuse_reload(reason)

    def _refuse_reload(self, reason: str) -> None:
        self._ledger.fail(reason)
        self._presence.ready(f"{self._describe()}; the last reload failed")
        log.error("not reloaded: %s\ngeneration %d goes on serving", reason, self._current.number)
        self._reload_again()

    def _reload_again(self) -> None:
        """Reload once more where that was asked for meanwhile."""
        again, self._again = self._again, False
        if again:
            self.reload()

    # -- stopping --------------------------------------------------------------------------

    def _stop(self) -> None:
        """End gracefully; told again, at once, unless by a process manager, which may repeat it."""
        if self._stopping:
            if not self._is_spawned:
                self._stop_at_once()
            return
        log.info("stopping")
        self._crew.orders.set(STOP)
        self._end_all(signal.SIGTERM, self._current.service.settings.graceful_timeout + MARGIN)

    def _stop_at_once(self) -> None:
        """End, and let nobody finish."""
        log.info("stopping at once")
        self._end_at_once(signal.SIGTERM)

    def _stop_with_stacks(self) -> None:
        """End at once; each worker logs where its threads are."""
        log.info("stopping at once, with the stacks of all threads")
        self._end_at_once(signal.SIGQUIT)

    def _end_at_once(self, number: int) -> None:
        self._crew.orders.set(STOP_AT_ONCE)
        self._end_all(number, MARGIN)

    def _describe(self) -> str:
        """Say how it is going, for systemd."""
        generation = self._current
        workers = "worker" if generation.wanted == 1 else "workers"
        return (
            f"generation {generation.number}: {generation.wanted} {workers} serving"
            f" {generation.service.name}"
        )

    def _end_all(self, number: int, seconds: float) -> None:
        self._stopping = True
        self._presence.stopping()
        self._demand.stop()
        self._listeners.close()
        self._crew.end_all(number, seconds)


def _describe(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"been ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"been ended by signal {-code}"
