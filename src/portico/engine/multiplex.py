"""Several FastCGI requests in flight on one connection; loaded when a frontend does it.

A `Multiplexer` takes the connection's place in the engine: it reads, and hands what comes to
`Channel` objects, one a request, each served by a thread of its own like any slow request. FastCGI
has no flow control, so what an application has not read yet waits in a spool of its request and
holds up nobody else.

Any thread may be the reader: the leader where the poller reports octets, else a thread that waits
for its own body or for the peer to take its response, since there is no leader while every thread
is in a request. Who reads is told by one flag under the multiplexer's lock; the others wait until
something has been handed out.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from contextlib import contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Any

from portico.core.input import RequestBody, Spool
from portico.engine.connection import (
    ANSWERED,
    AWAY,
    BUSY,
    DRAINING,
    HEAD,
    IDLE,
    PARKED,
    Connection,
)
from portico.errors import RemoteProtocolError, RequestAborted, RequestTimeout
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    DataEnded,
    DataReceived,
    RequestReceived,
    RequestRefused,
)
from portico.transports.stream import MOST_BUFFERS, READ_BYTES, Stream, unsent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.codecs._fastcgi_multiplex import MultiplexCodec
    from portico.engine.gate import Gate
    from portico.engine.leader import Engine
    from portico.engine.worker import Worker
    from portico.events import Event

log = logging.getLogger("portico")

#: Seconds after which a thread that waits to write looks again whether it has to read as well.
_LOOK_SECONDS = 0.1


class Inlet:
    """What came for one request and was not read yet; used under the multiplexer's lock.

    Attributes:
        streams: Octets of STDIN, and of a Filter's DATA.
        ended: Which of the two are complete.
        aborted: Whether the frontend gave the request up.
    """

    __slots__ = ("aborted", "ended", "streams")

    def __init__(self, body: Spool, data: Spool, *, body_ended: bool) -> None:
        self.streams = (body, data)
        self.ended = [body_ended, False]
        self.aborted = False


#: Places of an inlet's streams.
_BODY, _DATA = range(2)


class Channel(Connection):
    """One request of a connection that carries several; owned by the thread that serves it.

    To the core it is what a connection is: the sink of the response and the feed of the body. A
    plain connection that turns out to carry several in the middle of a request becomes one by its
    class, since the application already holds its methods: hence no slots of its own.
    """

    __slots__ = ()

    @classmethod
    def begin(cls, multiplexer: Multiplexer, event: RequestReceived) -> Channel:
        """Make one for a decoded request; it waits for a thread."""
        channel = cls(-1, multiplexer.address, multiplexer.gate, multiplexer.worker)
        channel.phase = PARKED
        channel.untried = True  # it must not wait behind what is known to be slow
        channel._event = event
        channel.join(multiplexer, event.request_id, ended=event.complete)
        return channel

    def join(self, multiplexer: Multiplexer, request_id: int, *, ended: bool) -> None:
        """Become a request of *multiplexer*, which owns the descriptor."""
        self.fd = -1
        self._corked = False
        self._codec = multiplexer.codec
        self._request_id = request_id
        self._multiplexer: Multiplexer = multiplexer
        spool = self._spool or self.engine.make_spool()
        inlet = Inlet(spool, self.engine.make_spool(), body_ended=ended)
        self._inlet: Inlet | None = inlet
        self._spool = None
        multiplexer.admit(request_id, inlet)

    def carrier(self) -> Multiplexer:
        """Give the multiplexer, which owns the descriptor."""
        return self._multiplexer

    def resume(self, *, refuse: bool = False) -> bool:
        """Serve the request, or *refuse* it as too late; the connection's part in it ends here."""
        event, self._event = self._event, None
        if event is None:
            return False
        self._request_id = event.request_id
        try:
            if not refuse and time.monotonic() < self.deadline:
                self._answer(event)
            else:
                self._body_ended = event.complete
                self._answer_late(event)
        finally:
            self._is_over()
        return False

    def data_input(self) -> RequestBody:
        """Make the stream of a Filter's file."""
        return RequestBody(b"", self._feed_data)

    def _pull(self) -> list[Event]:
        """Wait for more of STDIN; what `feed` gets, whenever the application was given it."""
        try:
            data = self._multiplexer.draw(self, self._inlet, _BODY)
        except RequestAborted:
            self._broken = True
            raise
        return [BodyReceived(0, data)] if data else [BodyEnded(0)]

    def _feed_data(self) -> bytes:
        return self._multiplexer.draw(self, self._inlet, _DATA)

    def _peer_gone(self) -> bool:
        return self._multiplexer.is_gone(self._inlet)

    def write_all(self, data: bytes) -> None:
        """Write *data* in one piece, whatever the other requests write."""
        if data:
            self._multiplexer.send(self, [data], waits=self.worker.until > 0)

    def _write_parts(self, parts: list[bytes | memoryview]) -> None:
        self._multiplexer.send(self, parts)

    def abort(self) -> None:
        """Break the response off: it gets no end, and the connection closes after the others."""
        if self._request_id != ANSWERED:
            self._codec.abort(self._request_id)
            self._request_id = ANSWERED
            self._broken = self._reset = True

    def answer_and_hang_up(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send a whole response; by its id nothing late can be taken for another's."""
        data = self._codec.send_response(self._request_id, status, headers, body)
        self._request_id = ANSWERED
        self._multiplexer.send(self, [data], waits=False)

    def hang_up(self) -> None:
        """Do nothing: a request's id tells it from the next one."""

    def cut(self) -> None:
        """Break the response off, complete or not."""
        self.abort()

    def _is_over(self) -> bool:
        """Leave the connection to the other requests."""
        inlet, self._inlet = self._inlet, None
        if inlet is not None:
            self._multiplexer.leave(self, inlet, self._request_id)
        return False

    def finish(self) -> None:
        """Leave, where the request was never served; the descriptor is the multiplexer's."""
        self._is_over()


class Multiplexer(Stream):
    """A connection that carries several requests; to the engine, the connection itself.

    `phase`, `deadline`, `timer`, `waiting`, `worker` and `untried` are what the engine keeps of
    each connection. In `AWAY` the poller does not watch it, in `BUSY` it does while requests run.

    Args:
        connection: Whose descriptor it takes over.
        codec: Its codec's successor.

    Attributes:
        codec: Decodes for the reader, encodes for every thread that writes.
        gate: Where the connection came in.
        address: The peer's.
    """

    __slots__ = (
        "_changed", "_failure", "_head_until", "_inlets", "_owed", "_reading", "_reads", "_skipped",
        "_skips", "_spooled", "_writing", "address", "codec", "deadline", "engine", "gate", "phase",
        "timer", "untried", "waiting", "worker",
    )  # fmt: skip

    def __init__(self, connection: Connection, codec: MultiplexCodec) -> None:
        self.fd = connection.fd
        self.gate: Gate
        self.address: Any
        self.gate, self.address = connection.origin()
        self.codec = codec
        self.engine: Engine = connection.engine
        self.worker: Worker = connection.worker
        self.phase = AWAY
        self.deadline = inf
        self.timer = inf
        self.waiting = False
        self.untried = False
        self._changed = threading.Condition(threading.Lock())
        self._reading = True  # by who makes it, until `start`
        self._reads = True  # whether there can be more to read
        self._head_until = inf  # when the head that is arriving must be complete
        self._inlets: dict[int, Inlet] = {}
        self._owed: list[bytes | memoryview] = []
        self._spooled = 0
        self._skips = False  # whether input of answered requests may still come
        self._skipped = 0
        self._writing = threading.Lock()
        self._failure = ""  # why the peer cannot be reached any more

    def peer_name(self) -> str:
        """Name the peer for a log line."""
        return self.gate.listener.peer_name(self.address)

    def report_slow_head(self) -> None:
        """Log that the head did not come in time."""
        log.warning(
            "%s: %s: no complete request within head_timeout", self.gate.name, self.peer_name()
        )

    # -- for the engine --------------------------------------------------------------------

    def origin(self) -> tuple[Gate, Any]:
        """Give the gate where it came in, and the peer's address."""
        return self.gate, self.address

    def carrier(self) -> Multiplexer:
        """Give itself: what owns the descriptor."""
        return self

    def is_free(self) -> bool:
        """Whether nothing of a request is in it, so that another process could go on with it."""
        return self.codec.idle and not self._skips

    def start(self, owner: Connection, events: list[Event]) -> None:
        """Go on where the plain connection has stopped, and wait in the poller for more.

        Args:
            owner: The connection; here and below, what the present thread serves.
            events: Decoded and not acted on yet; what the codec holds comes behind them.
        """
        try:
            self._act(events)
            self._decode(b"", at_end=False)
        finally:
            self._hand_back(owner)

    def serve(self) -> bool:
        """Take what is readable and hand it out; called by the leader, as `Connection.serve`."""
        with self._changed:
            if self._reading:
                return True  # who reads will have the poller watch it
            self._reading = True
        if self.phase == DRAINING:
            goes_on = self._drain()
        else:
            self._receive()
            goes_on = True
        goes_on = self._stop_reading() and goes_on
        self._flush(self)
        if self.phase == AWAY:
            self.engine.unwatch(self)
        return goes_on

    def finish(self) -> None:
        """Close, or see to it that the last request does."""
        with self._changed:
            self._failure = self._failure or "the connection was closed"
            self._changed.notify_all()
            if not self._inlets and not self._reading:
                self.close()
                return
            self._shut_down()

    # -- reading ---------------------------------------------------------------------------

    def _receive(self) -> None:
        """Read once and hand out, as the reader."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(f"the frontend went away: {error}")
            return
        self._decode(data, at_end=not data)

    def _receive_within(self, seconds: float) -> None:
        """Wait so long to read, as a reader that is not the leader; a slow head ends all."""
        until_head = self._head_until - time.monotonic()
        try:
            self.wait(select.POLLIN, max(0.0, min(seconds, until_head)))
        except TimeoutError:
            if until_head <= seconds:
                self.report_slow_head()
                self._fail("the head of another request did not come in time")
            return
        self._receive()

    def _decode(self, data: bytes, *, at_end: bool) -> None:
        codec = self.codec
        if at_end:
            self._reads = False
        try:
            self._act(codec.receive_eof() if at_end else codec.receive_data(data))
            while codec.pending:
                self._act(codec.receive_data(b""))
        except RemoteProtocolError as error:
            section = f" ({error.section})" if error.section else ""
            log.warning("%s: refused %s: %s%s", self.gate.name, self.peer_name(), error, section)
            self._fail("the frontend broke the protocol")

    def _act(self, events: list[Event]) -> None:
        """Hand *events* out to their requests, and let threads begin with new ones."""
        begun: list[Channel] = []
        for event in events:
            kind = type(event)
            if kind is RequestReceived:
                begun.append(Channel.begin(self, event))  # type: ignore[arg-type] # by its type
            elif kind is RequestRefused:
                self._refuse(event)  # type: ignore[arg-type] # likewise
            else:
                self._deliver(event)
        with self._changed:
            self._changed.notify_all()
        for channel in begun:
            self.engine.dispatch(channel)

    def _deliver(self, event: Event) -> None:
        """Put octets, an end or an abort where the request finds it."""
        kind = type(event)
        with self._changed:
            inlet = self._inlets.get(event.request_id)  # type: ignore[union-attr] # a server's
            if inlet is None:
                return  # the response has ended: what comes late is for nobody
            if kind is BodyReceived or kind is DataReceived:
                self._keep(inlet, _DATA if kind is DataReceived else _BODY, event.data)  # type: ignore[union-attr]
            elif kind is AbortReceived:
                inlet.aborted = True
            elif kind is BodyEnded:
                inlet.ended[_BODY] = True
            elif kind is DataEnded:
                inlet.ended[_DATA] = True

    def _keep(self, inlet: Inlet, place: int, data: bytes) -> None:
        """Spool *data* until the application reads it; under the lock."""
        try:
            inlet.streams[place].append(data)
            self._spooled += len(data)
        except OSError as error:  # no room left on the disk: this one request's loss
            log.error("%s: cannot keep a body: %s", self.gate.name, error)  # noqa: TRY400
            inlet.aborted = True

    def _refuse(self, event: RequestRefused) -> None:
        """Answer a request that could not be decoded; the others know nothing of it."""
        error = event.error
        option = getattr(error, "option", "")
        hint = f"; raise {option} to allow it" if option else ""
        log.warning("%s: refused %s: %s%s", self.gate.name, self.peer_name(), error, hint)
        status = error.status_hint or 400
        self.codec.refuse_request(event.request_id, status)
        self.gate.note_refusal({}, status, 0)

    def _drain(self) -> bool:
        """Throw away what the peer still sends behind the last answer, up to a bound."""
        settings = self.engine.settings
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._skipped += len(data)
        return (
            bool(data)
            and self._skipped <= settings.drain_bytes
            and time.monotonic() < self.deadline
        )

    @contextmanager
    def _as_reader(
        self, owner: Connection | Multiplexer, *, writing: bool = False
    ) -> Iterator[bool]:
        """Be the reader if nobody is and there is something to read; gives whether.

        Args:
            owner: As in `start`.
            writing: Whether this thread is in `send`, which sends what is owed itself.
        """
        with self._changed:
            mine = self._reads and not self._reading and not self._failure
            if mine:
                self._reading = True
                self.phase = AWAY
        if not mine:
            yield False
            return
        self.engine.unwatch(self)
        try:
            yield True
        finally:
            self._hand_back(owner, writing=writing)

    def _hand_back(self, owner: Connection | Multiplexer, *, writing: bool = False) -> None:
        """Stop reading in a thread that is not the leader: let the poller watch, or close."""
        goes_on = self._stop_reading()
        if not writing:
            self._flush(owner)
        if not goes_on:
            self.engine.drop(self)
        elif self.phase == AWAY:
            self.engine.unwatch(self)
        else:
            self.engine.watch(self)

    def _stop_reading(self) -> bool:
        """Let others read; whether the connection goes on."""
        with self._changed:
            owed = self.codec.data_to_send()
            if owed:
                self._owed.append(owed)
            self._reading = False
            self._changed.notify_all()
            return self._choose_phase()

    def _flush(self, owner: Connection | Multiplexer) -> None:
        """Send what the codec owes the peer."""
        if self._owed:
            with suppress(RequestAborted):
                self.send(owner, [])

    def _choose_phase(self) -> bool:
        """Decide what the connection waits for; under the lock. False where it is over."""
        settings = self.engine.settings
        now = time.monotonic()
        if not self.codec.gathering:
            self._head_until = inf
        elif self._head_until == inf:
            self._head_until = now + settings.head_timeout
        if self._inlets:
            # a frontend must not fill the disk through an application that does not read
            room = self._spooled <= settings.max_spool_bytes
            reads = self._reads and not self._failure and room
            self.phase = AWAY if not reads else BUSY if self._head_until == inf else HEAD
            self.deadline = self._head_until if reads else inf
        elif not self._reads or self._failure:
            return False
        elif self.phase == DRAINING:
            return True
        elif not self.codec.keep_open or not self.engine.keeps:
            if not self._skips:
                return False
            # Closing over unread octets would reset the connection and could destroy a response.
            self.shutdown_write()
            self._skipped = 0
            self.phase, self.deadline = DRAINING, now + settings.drain_timeout
        elif self._head_until < inf:
            self.phase, self.deadline = HEAD, self._head_until
        else:
            self.phase, self.deadline = IDLE, now + settings.idle_timeout
        return True

    # -- for the requests ------------------------------------------------------------------

    def admit(self, request_id: int, inlet: Inlet) -> None:
        """Take note of a request."""
        with self._changed:
            self._inlets[request_id] = inlet
            self._spooled += inlet.streams[_BODY].unread

    def draw(self, channel: Channel, inlet: Inlet | None, place: int) -> bytes:
        """Give the next octets of a request's stream; empty at its end.

        Raises:
            RequestAborted: the frontend gave up, or was silent for `body_timeout`.
        """
        if inlet is None:
            raise RequestAborted("the response has ended, and the body with it")
        deadline = time.monotonic() + self.engine.settings.body_timeout
        limit = channel.worker.until
        while True:
            with self._changed:
                data = inlet.streams[place].take()
                self._spooled -= len(data)
                if data:
                    break
                if inlet.aborted:
                    raise RequestAborted("the frontend aborted the request")
                self._check()
                if inlet.ended[place]:
                    return b""
            left = min(deadline, limit) - time.monotonic()
            if left <= 0:
                if limit < deadline:
                    raise RequestTimeout
                raise RequestAborted("the frontend sent no body for body_timeout seconds")
            self.engine.release(channel)
            with self._as_reader(channel) as reading:
                if reading:
                    self._receive_within(left)
                    continue
            with self._changed:
                if self._reading:
                    self._changed.wait(left)
        if self._spooled + len(data) > self.engine.settings.max_spool_bytes >= self._spooled:
            with self._as_reader(channel):
                pass  # there is room again
        return data

    def is_gone(self, inlet: Inlet | None) -> bool:
        """Whether a request's client, or the frontend itself, is gone."""
        return inlet is None or inlet.aborted or bool(self._failure) or super().peer_gone()

    def send(
        self,
        owner: Connection | Multiplexer,
        parts: list[bytes | memoryview],
        *,
        waits: bool = True,
    ) -> None:
        """Write *parts*, whole records, in one piece, and what is owed behind them.

        Args:
            owner: As in `start`.
            parts: Given away.
            waits: Whether this thread may wait for the peer; else what that does not take now is
                owed, and goes with the next piece.

        Raises:
            RequestAborted: the peer is gone, or took nothing for `write_timeout` seconds.
        """
        timeout = self.engine.settings.write_timeout
        if not self._writing.acquire(blocking=False):
            if not waits:
                self._owe(parts)
                return
            self.engine.release(owner)
            if not self._writing.acquire(timeout=timeout):
                raise RequestAborted(f"the frontend took nothing for {timeout:g} seconds")
        try:
            while parts := parts or self._take_owed():
                self._check()
                try:
                    parts = unsent(parts, os.writev(self.fd, parts[:MOST_BUFFERS]))
                except BlockingIOError:
                    if not waits:
                        self._owe(parts)
                        break
                    self.engine.release(owner)
                    self._await_writable(owner, timeout)
        except RequestAborted:
            raise
        except OSError as error:
            self._fail(f"the frontend went away: {error}")
            raise RequestAborted(self._failure) from error
        finally:
            self._writing.release()
        if self._owed and waits:  # by a thread that does not wait, between the last look and now
            self._flush(owner)

    def _check(self) -> None:
        """Raise `RequestAborted` if the peer cannot be reached any more."""
        if self._failure:
            raise RequestAborted(self._failure)

    def _owe(self, parts: list[bytes | memoryview]) -> None:
        """Keep *parts*, the rest of a record among them, for who writes next."""
        with self._changed:
            self._owed = parts + self._owed

    def _take_owed(self) -> list[bytes | memoryview]:
        with self._changed:
            owed, self._owed = self._owed, []
            return owed

    def _await_writable(self, owner: Connection | Multiplexer, timeout: float) -> None:
        """Wait until the peer takes octets, and read meanwhile unless somebody does.

        A frontend that sends before it reads, and requests that write before they read, would
        wait for each other otherwise.
        """
        deadline = time.monotonic() + timeout
        while True:
            with self._as_reader(owner, writing=True) as reading:
                wanted = select.POLLOUT | (select.POLLIN if reading else 0)
                ready = 0
                with suppress(TimeoutError):
                    ready = self.wait(wanted, _LOOK_SECONDS)
                if reading and ready & select.POLLIN:
                    self._receive()
            if ready & ~select.POLLIN or self._failure:
                return
            if time.monotonic() >= deadline:
                raise TimeoutError(f"it took nothing for {timeout:g} seconds")

    def leave(self, channel: Channel, inlet: Inlet, request_id: int) -> None:
        """Forget a request that is done.

        Args:
            channel: Whose request it was.
            inlet: What is left of its input.
            request_id: Its id where the response has not ended: the frontend gave it up.
        """
        if request_id != ANSWERED and not self._failure:
            with suppress(RequestAborted):
                self.send(channel, [self.codec.send_body(request_id, b"", end=True)])
        with self._changed:
            for number, other in list(self._inlets.items()):
                if other is inlet:
                    del self._inlets[number]
            self._skips = self._skips or not inlet.ended[_BODY]
            for spool in inlet.streams:
                self._spooled -= spool.unread
                spool.close()
            if self._reading:
                return  # who reads decides what becomes of the connection
            self._reading = True
        self._hand_back(channel)

    def _fail(self, reason: str) -> None:
        """Give the connection up: every request learns of it, the last one closes."""
        with self._changed:
            self._failure = self._failure or reason
            self._changed.notify_all()
            self._shut_down()

    def _shut_down(self) -> None:
        """Wake whoever waits for the peer."""
        if self.fd >= 0:
            sock = socket.socket(fileno=self.fd)
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.detach()
