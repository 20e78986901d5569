"""Where connections come from: the listeners, and other processes that hand kept ones over."""

from __future__ import annotations

import errno
import logging
import os
from math import inf
from typing import TYPE_CHECKING, Any, cast

from portico.engine.connection import IDLE, Connection

if TYPE_CHECKING:
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


class Accepting:
    """The gates of an engine, and the pauses in which nobody comes through them.

    Args:
        engine: Whose they are.
        waiting: Its poller.
        parking: Its requests that wait for a thread.
        gates: One a listener; owned.
        handover: Where kept connections come from, and go to, between processes.

    Attributes:
        paused: Whether new connections are left in the kernel's queue.
        closed: Whether there are no listeners any more.
    """

    __slots__ = (
        "_engine", "_full_told", "_handover", "_items", "_parking", "_places", "_roomy", "_waiting",
        "closed", "gates", "paused",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        waiting: Waiting,
        parking: Parking,
        gates: list[Gate],
        handover: Handover | None,
    ) -> None:
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
        self.closed = False
        self._full_told = -inf
        # descriptors waiting up to which there is room whatever the threads do
        settings = engine.settings
        self._roomy = settings.max_connections - settings.threads + len(self.gates)

    def start(self) -> None:
        """Let connections in."""
        for gate in self.gates:
            self._waiting.items[gate.listener.fd] = gate
            self._waiting.poller.register(gate.listener.fd, shared=True)

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
        for gate in self.gates:
            if self._waiting.items.pop(gate.listener.fd, None) is not None and not self.paused:
                self._waiting.poller.unregister(gate.listener.fd)
            gate.listener.close()
