"""Where connections come from: the listeners, and other processes that hand kept ones over."""

from __future__ import annotations

import errno
import logging
import os
from math import inf
from typing import TYPE_CHECKING, Any, cast

from portico.engine.connection import IDLE, Connection

if TYPE_CHECKING:
    from portico.engine.figures import Observer
    from portico.engine.gate import Gate
    from portico.engine.handover import Handover
    from portico.engine.leader import Engine, Served
    from portico.engine.parking import Parking
    from portico.engine.waiting import Waiting
    from portico.engine.worker import Worker

log = logging.getLogger("portico")

#: Errors of accept() that say "not now": no descriptors, no memory.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: Seconds between two lines that say that max_connections is reached.
_FULL_SECONDS = 60.0

#: Seconds until accepting is tried again after such an error.
_SHORTAGE_PAUSE = 0.5

#: Seconds for which a process that has more connections than others leaves the next one to them,
#: and for which it does so no more where nobody took it.
_REST_SECONDS = 0.002
_USELESS_SECONDS = 0.02


class Accepting:
    """The gates of an engine, and the pauses in which nobody comes through them.

    Args:
        engine: Whose they are.
        waiting: Its poller.
        parking: Its requests that wait for a thread.
        gates: One a listener; owned.
        handover: Where kept connections come from, and go to, between processes.
        observer: Knows how many connections other processes have; None for none.

    Attributes:
        paused: Whether new connections are left in the kernel's queue.
        resting: Whether they are left to other processes for a moment.
        closed: Whether there are no listeners any more.
    """

    __slots__ = (
        "_engine", "_full_told", "_handover", "_items", "_least", "_no_rest_until", "_observer",
        "_parking", "_places", "_rest_until", "_roomy", "_waiting", "closed", "gates", "paused",
        "resting",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        waiting: Waiting,
        parking: Parking,
        gates: list[Gate],
        *,
        handover: Handover | None,
        observer: Observer | None,
    ) -> None:
        settings = engine.settings
        self._engine = engine
        self._waiting = waiting
        self._items = waiting.items
        self._parking = parking
        self._places = {gate.name: gate for gate in gates}
        self._handover = handover
        self.gates = list(gates)
        if handover is not None:
            self.gates.append(gates[0].standing_at(handover))
        self.paused = False
        self.resting = False
        self.closed = False
        self._observer = observer if handover is not None and settings.workers > 1 else None
        self._rest_until = self._no_rest_until = 0.0
        self._least = 0
        self._full_told = -inf
        # descriptors waiting up to which there is room whatever the threads do
        self._roomy = settings.max_connections - settings.threads + len(self.gates)

    def start(self) -> None:
        """Let connections in."""
        for gate in self.gates:
            self._waiting.items[gate.listener.fd] = gate
            self._waiting.poller.register(gate.listener.fd, shared=True)
        self.settle()

    # -- one connection --------------------------------------------------------------------

    def accept(self, gate: Gate, worker: Worker) -> Connection | None:
        """Take a connection, in the leader, *worker*; None if there is none, or none may stay."""
        if (len(self._items) > self._roomy or self._parking.count) and self._is_full():
            return None
        listener = gate.listener
        try:
            fd, address = listener.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _SHORTAGES:
                # no traceback: it would say nothing more
                log.error(  # noqa: TRY400
                    "%s: cannot accept: %s; pausing", gate.name, error.strerror
                )
                self.pause()
                with self._waiting.lock:
                    self._waiting.add_timer(self._engine.now + _SHORTAGE_PAUSE, None)
            else:  # the connection died in the queue
                log.debug("%s: accept: %s", gate.name, error)
            return None
        if listener.checks_peers and not listener.permits(fd, address):
            if cast("object", listener) is self._handover:
                return self._adopt(fd, address, worker)
            log.warning("%s: %s is not allowed", gate.name, listener.peer_name(address, fd))
            os.close(fd)
            return None
        os.set_blocking(fd, False)
        return Connection(fd, address, gate, worker)

    def _adopt(self, fd: int, origin: tuple[str, Any], worker: Worker) -> Connection | None:
        """Go on with a connection that another process has handed over."""
        place, address = origin
        gate = self._places.get(place)
        if gate is None:  # a reload has taken its listener away
            os.close(fd)
            return None
        connection = Connection(fd, address, gate, worker)
        connection.phase = IDLE
        connection.deadline = self._engine.idle_until
        return connection

    def pass_on(self, connection: Served) -> None:
        """Let another process go on with a kept connection; it stays if none has room for it.

        Args:
            connection: Free of any request; closed here if it goes.
        """
        gate, address = connection.origin()
        self._engine.unwatch(connection)
        connection.push()  # before its first request it may be corked, which is not passed on
        try:
            if cast("Handover", self._handover).send(connection.fd, gate.name, address):
                connection.close()
                return
        except OSError as error:
            log.debug("%s: cannot be handed over: %s", connection.peer_name(), error)
            self._engine.drop(connection)
            return
        self._engine.watch(connection)

    # -- pauses ----------------------------------------------------------------------------

    def rest(self) -> None:
        """Let other processes take the next connection, as this one has just taken one that stays.

        The system wakes the first process in its queue that waits, and one that is awake comes
        before any that must be woken: all connections would end up in one process, and their
        requests on one processor. So who has more than another leaves the next one alone for a
        moment, and comes back to the end of the queue.
        """
        if self._observer is None:
            return
        count = len(self._items)
        least = self._observer.settle(count)
        if count > least + 1 and self._engine.now >= self._no_rest_until:
            with self._waiting.lock:
                if not (self.paused or self.resting or self.closed):
                    self.resting = True
                    self._least = least
                    self._rest_until = self._engine.now + _REST_SECONDS
                    for gate in self.gates:
                        self._waiting.poller.unregister(gate.listener.fd)

    def settle(self) -> None:
        """Tell the other processes how many connections are here."""
        if self._observer is not None and not self.closed:
            self._observer.settle(len(self._items))

    def rest_left(self) -> float:
        """Give the seconds that a rest still takes; 0 once it is over, and connections come in."""
        left = self._rest_until - self._engine.now
        observer = cast("Observer", self._observer)
        count = len(self._items)
        least = observer.settle(count)
        if left > 0 and count > least + 1:
            return left
        if least == self._least:
            self._no_rest_until = self._engine.now + _USELESS_SECONDS
        with self._waiting.lock:
            if self.resting:
                self.resting = False
                for gate in self.gates:
                    self._waiting.poller.register(gate.listener.fd, shared=True)
        return 0.0

    def _is_full(self) -> bool:
        """Whether there are as many connections as may be; then accepting pauses."""
        engine = self._engine
        most = engine.settings.max_connections
        if engine.open_connections() < most:
            return False
        self.pause()
        if engine.now - self._full_told >= _FULL_SECONDS:
            self._full_told = engine.now
            log.warning(
                "%d connections are open: further ones wait in the kernel's queue; raise"
                " max_connections to serve them",
                most,
            )
        if engine.open_connections() < most:  # one ended before it could see the pause
            self.resume()
        return True

    def pause(self) -> None:
        """Leave new connections to the kernel's queue until one of ours ends."""
        with self._waiting.lock:
            if not self.paused and not self.closed:
                self.paused = True
                if self.resting:
                    self.resting = False
                    return
                for gate in self.gates:
                    self._waiting.poller.unregister(gate.listener.fd)

    def resume(self) -> None:
        """Let connections in again."""
        with self._waiting.lock:
            if self.paused and not self.closed:
                self.paused = False
                for gate in self.gates:
                    self._waiting.poller.register(gate.listener.fd, shared=True)

    # -- the end ---------------------------------------------------------------------------

    def accept_the_last(self, worker: Worker) -> list[Connection]:
        """Take what the kernel has accepted for us: nobody else will."""
        taken: list[Connection] = []
        for gate in self.gates:
            room = self._engine.settings.max_connections - self._engine.open_connections()
            while len(taken) < room and (connection := self.accept(gate, worker)) is not None:
                taken.append(connection)
        return taken

    def close(self) -> None:
        """Let nobody in any more; under the lock."""
        if self.closed:
            return
        self.closed = True
        watched = not (self.paused or self.resting)
        for gate in self.gates:
            if self._waiting.items.pop(gate.listener.fd, None) is not None and watched:
                self._waiting.poller.unregister(gate.listener.fd)
            gate.listener.close()
        self.resting = False
        if self._observer is not None:
            self._observer.settle(None)
