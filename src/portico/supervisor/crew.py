"""The workers of a parent: how they are started, heard, told to leave, and buried.

What is done about all that, the parent decides; it hears of it as `Watch`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from portico.engine.handover import Handover
from portico.engine.snapshot import shaped
from portico.supervisor.child import (
    BUSY,
    CHANGED,
    ENDED,
    FAILED,
    FORKED,
    IDLE,
    LEAVING,
    READY,
    RETIRING,
    SERVING,
    STARTING,
    WORN,
    Child,
    Orders,
    send_signal,
)
from portico.supervisor.fork import Forked, fork
from portico.supervisor.template import Template, TemplatePost
from portico.supervisor.worker import Post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portico.engine.scoreboard import Scoreboard
    from portico.supervisor.generation import Generation
    from portico.supervisor.loop import Loop

log = logging.getLogger("portico")

#: Seconds from the moment at which a worker must have ended by itself, to its being killed.
MARGIN = 2.0

#: Seconds beyond the hard limit of a request, after which a worker that says nothing is stuck.
_STUCK_SECONDS = 3.0

#: What of a worker's figures tells that it is not.
_SIGNS_OF_LIFE = {"published": 0.0, "busy": 0, "lost": 0}


class Watch(Protocol):
    """Who is told what happens to workers."""

    def serves(self, child: Child) -> None:
        """*child* has come to serve."""
        ...

    def leaves(self, child: Child) -> None:
        """*child* was told to leave by somebody else, and takes nothing new."""
        ...

    def is_worn(self, child: Child, reason: str) -> None:
        """*child* had better be replaced."""
        ...

    def rests(self, child: Child) -> None:
        """*child* has neither request nor connection; told where workers come on demand."""
        ...

    def changed(self, path: str) -> None:
        """Code that is loaded has changed, the file *path*."""
        ...

    def ended(self, child: Child, code: int) -> None:
        """*child* is gone, with exit status *code*, or minus the number of a signal."""
        ...


class Crew:
    """All workers, and the processes that they are forked from where those are not the parent.

    Args:
        loop: The parent's.
        signals: What the parent takes; blocked while it forks.
        watch: Told what happens.
        leave: Lets go, in a process forked for a generation, of what else is the parent's.
        board: Where the workers tell their figures.

    Attributes:
        orders: How the workers are to take SIGTERM.
        handover: Where kept connections wait for a worker that goes on.
        forced: Whether one had to be killed that did not end in time.
    """

    def __init__(
        self,
        loop: Loop,
        signals: frozenset[int],
        watch: Watch,
        leave: Callable[[Generation], None],
        board: Scoreboard,
    ) -> None:
        self.orders = Orders()
        self.handover = Handover()
        self.forced = False
        self._loop = loop
        self._signals = signals
        self._watch = watch
        self._leave = leave
        self._board = board
        self._children: list[Child] = []
        self._templates: list[Template] = []
        self._alive, self._lifeline = os.pipe()

    def __iter__(self) -> Iterator[Child]:
        return iter(tuple(self._children))

    def __contains__(self, child: Child) -> bool:
        return child in self._children

    @property
    def is_gone(self) -> bool:
        """Whether no process is left."""
        return not self._children and not self._templates

    def members(self, generation: Generation) -> list[Child]:
        """Give those of *generation* that serve or will; no stand-ins for one of them."""
        return [
            child
            for child in self._children
            if child.generation is generation and child.state != RETIRING and child.replaces is None
        ]

    def close(self) -> None:
        """Let go of what they shared; all have ended."""
        self.handover.close_all()
        os.close(self._alive)
        os.close(self._lifeline)

    # -- starting --------------------------------------------------------------------------

    def start(self, generation: Generation, replaces: Child | None = None) -> None:
        """Start a worker.

        Args:
            generation: What it is to serve.
            replaces: For whom it stands in.

        Raises:
            OSError: the system has no process for it.
            Forked: in the new process.
        """
        taken = {child.slot for child in self._children}
        slot = next(number for number in range(1, len(taken) + 2) if number not in taken)
        template = None
        if generation.service.settings.preload:
            # before there is a pipe: it would keep a copy, and nobody would see the worker's end
            template = self._template_of(generation)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        child = Child(slot, generation, reading)
        child.replaces = replaces
        try:
            if template is not None:
                # it may be gone: then it is buried soon, and the worker with it
                with suppress(BrokenPipeError, ConnectionResetError):
                    template.order(slot, writing)
            else:
                child.pid = fork(self._signals)
                if child.pid == 0:
                    raise Forked(self._make_post(generation, slot, writing))
        except OSError:
            child.close()
            os.close(writing)
            raise
        os.close(writing)
        self._children.append(child)
        self._loop.watch(reading, partial(self._hear, child))
        self._loop.after(
            generation.service.settings.startup_timeout, partial(self._give_up_on, child)
        )
        log.debug("%s is started", child)

    def _make_post(self, generation: Generation, slot: int, writing: int) -> Post:
        """In a new process: let go of what is the parent's alone; gives what to do here."""
        self._leave(generation)
        self._loop.leave()
        os.close(self._lifeline)
        for child in self._children:
            child.close()
        for template in self._templates:
            template.close()
        return Post(
            slot=slot,
            generation=generation.number,
            service=generation.service,
            listeners=generation.listeners,
            fd=writing,
            alive=self._alive,
            orders=self.orders,
            handover=self.handover,
            board=self._board,
            account=generation.account,
        )

    def _template_of(self, generation: Generation) -> Template:
        """Find the process that workers of *generation* are forked from, or start it."""
        for template in self._templates:
            if template.generation is generation and not template.failure:
                return template
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            pid = fork(self._signals)
        except OSError:
            os.close(reading)
            os.close(writing)
            orders.close()
            theirs.close()
            raise
        if pid == 0:
            os.close(reading)
            orders.close()
            raise Forked(TemplatePost(self._make_post(generation, 0, -1), writing, theirs))
        os.close(writing)
        theirs.close()
        template = Template(pid, generation, reading, orders)
        self._templates.append(template)
        self._loop.watch(reading, partial(self._hear_template, template))
        return template

    def _give_up_on(self, child: Child) -> None:
        """Kill a worker that has not come to serve in time."""
        if child in self._children and child.state == STARTING:
            seconds = child.generation.service.settings.startup_timeout
            child.failure = f"it did not come to serve within startup_timeout ({seconds:g} seconds)"
            self._kill(child)

    # -- hearing ---------------------------------------------------------------------------

    def _hear(self, child: Child) -> None:
        messages = child.hear()
        for kind, text in messages or ():
            self._take(child, kind, text)
        if messages is None:
            self._loop.unwatch(child.fd)
            child.close()
            if child.generation.service.settings.preload and self._is_orphan(child):
                self._remove(child, 0)

    def _take(self, child: Child, kind: str, text: str) -> None:
        """Act on one message."""
        if kind == READY and child.state == STARTING:
            child.state = SERVING
            self._watch.serves(child)
        elif kind == FAILED:
            child.failure = text
        elif kind == LEAVING and child.state != RETIRING:
            child.state = RETIRING
            self._see_to_its_end(child)
            self._watch.leaves(child)
        elif kind == WORN and child.state == SERVING:
            self._watch.is_worn(child, text)
        elif kind == CHANGED and child.state == SERVING:
            self._watch.changed(text)
        elif kind == IDLE and child.state == SERVING:
            self._watch.rests(child)
        elif kind == BUSY and not child.busy_at:
            child.busy_at = time.time()
            self._look_after(child)

    def _look_after(self, child: Child) -> None:
        """See to a worker that works under a limit of time, until it rests."""
        seconds = child.generation.service.settings.timeout + _STUCK_SECONDS
        self._loop.after(seconds, partial(self._kill_if_stuck, child))

    def _kill_if_stuck(self, child: Child) -> None:
        """Kill a worker none of whose threads has run for longer than a request may take.

        The interpreter's lock is held by C code then, a regular expression for instance, and
        nothing in that process can end the request.
        """
        if child not in self._children or child.state == RETIRING:
            return  # gone, or ended by the time that it has for that
        entry = shaped(self._board.read(child.slot), _SIGNS_OF_LIFE)
        published = entry["published"]
        limit = child.generation.service.settings.timeout + _STUCK_SECONDS
        if entry["busy"] <= entry["lost"] and published > child.busy_at:
            child.busy_at = 0.0  # it rests, and says so when requests come
        elif time.time() - max(published, child.busy_at) >= limit - 1.0:
            log.error("%s has been stuck in C code for longer than timeout and is killed", child)
            child.signal(signal.SIGKILL)
        else:
            self._look_after(child)

    def _hear_template(self, template: Template) -> None:
        messages = template.hear()
        for kind, text in messages or ():
            if kind == FAILED:
                template.failure = text
            elif kind in {FORKED, ENDED}:
                with suppress(ValueError):  # two numbers, unless the application has said it
                    one, other = map(int, text.split())
                    if kind == FORKED:
                        self._name(template, slot=one, pid=other)
                    else:
                        self._lose(pid=one, code=other)
        if messages is None:
            self._loop.unwatch(template.fd)

    def _name(self, template: Template, slot: int, pid: int) -> None:
        """Take note of the process of a worker that a template has forked."""
        account = template.generation.account
        owner = None if account is None else account.uid
        for child in self._children:
            if child.slot == slot and child.generation is template.generation and not child.pid:
                child.pid, child.owner = pid, owner
                if child.state == RETIRING:
                    child.signal(signal.SIGTERM)
                return
        # it was given up meanwhile: nobody else would ever end it
        send_signal(pid, signal.SIGTERM, owner)

    def _is_orphan(self, child: Child) -> bool:
        """Whether nobody is left who would tell of its end but its pipe."""
        return all(one.generation is not child.generation for one in self._templates)

    # -- ending ----------------------------------------------------------------------------

    def retire(self, child: Child) -> None:
        """Tell a worker to take nothing new, finish what it has, and end."""
        # one that still loads ends at once; it may serve already, and just not have been heard
        child.signal(signal.SIGTERM)
        child.state = RETIRING
        self._see_to_its_end(child)

    def dismiss(self, generation: Generation) -> None:
        """Fork no more workers of *generation*."""
        for template in self._templates:
            if template.generation is generation:
                template.dismiss()

    def end_all(self, number: int, seconds: float) -> None:
        """Send each worker signal *number*, and kill in *seconds* whom it has not ended."""
        self.forced = False  # whatever became of workers that retired before
        for template in self._templates:
            template.dismiss()
        for child in self._children:
            child.signal(signal.SIGTERM if child.state == STARTING else number)
            child.state = RETIRING
            self._loop.after(seconds, partial(self._force, child))

    def pass_on(self, number: int) -> None:
        """Send signal *number* to all, those included that workers are forked from."""
        for template in self._templates:
            os.kill(template.pid, number)
        for child in self._children:
            child.signal(number)

    def _see_to_its_end(self, child: Child) -> None:
        seconds = child.generation.service.settings.graceful_timeout + MARGIN
        self._loop.after(seconds, partial(self._force, child))

    def _force(self, child: Child) -> None:
        if child in self._children:
            log.warning("%s has not ended in time and is killed", child)
            self.forced = True
            self._kill(child)

    def _kill(self, child: Child) -> None:
        child.signal(signal.SIGKILL)
        for template in self._templates:
            if template.generation is child.generation and not child.pid:
                os.kill(template.pid, signal.SIGKILL)  # it still loads

    def bury(self) -> None:
        """Take note of the processes that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            template = next((one for one in self._templates if one.pid == pid), None)
            if template is not None:
                self._bury_template(template, code)
            else:
                self._lose(pid, code)

    def _bury_template(self, template: Template, code: int) -> None:
        """Take note of a template's end, and of that of the workers that it has not forked."""
        if template.fd >= 0:
            self._hear_template(template)  # its last words
        self._templates.remove(template)
        self._loop.unwatch(template.fd)
        template.close()
        for child in tuple(self._children):
            if child.generation is template.generation:
                if not child.pid:
                    child.failure = child.failure or template.failure
                    self._remove(child, code)
                elif child.fd < 0:
                    self._remove(child, 0)

    def _lose(self, pid: int, code: int) -> None:
        child = next((one for one in self._children if one.pid == pid), None)
        if child is not None:
            if child.fd >= 0:
                self._hear(child)  # its last words
            if child in self._children:
                self._remove(child, code)

    def _remove(self, child: Child, code: int) -> None:
        self._children.remove(child)
        if child.fd >= 0:
            self._loop.unwatch(child.fd)
            child.close()
        for other in self._children:
            if other.replaces is child:
                other.replaces = None
        self._watch.ended(child, code)
