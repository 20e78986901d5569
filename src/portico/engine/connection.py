"""One connection of a frontend: a stream, a codec, and the core in between.

A connection is itself the sink that the core writes its response to, so that no adapter exists
per request. It is owned by one thread at a time: the leader while it is served inline, else the
thread that lost or gave up the token in it, else (waiting) the poller.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any, cast

from portico.core import pages
from portico.core.identity import label
from portico.core.input import RequestBody, Spool
from portico.core.response import Response
from portico.core.roles import as_authorizer
from portico.engine.errorstream import FrontendErrors
from portico.engine.pace import target_of
from portico.errors import (
    ApplicationError,
    LimitExceeded,
    RemoteProtocolError,
    RequestAborted,
    RequestTimeout,
)
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    ProtocolDetected,
    RequestReceived,
)
from portico.transports.stream import MOST_BUFFERS, READ_BYTES, Stream, unsent

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.codecs import ServerCodec
    from portico.engine.accesslog import AccessLog, Entry
    from portico.engine.gate import Gate
    from portico.engine.leader import Engine, Served
    from portico.engine.worker import Tally, Worker
    from portico.events import Event

log = logging.getLogger("portico")

#: What a waiting connection waits for. `AWAY` and `BUSY` are for one that carries several requests:
#: a thread of its own reads, or the poller watches while requests run.
FRESH, HEAD, IDLE, DRAINING, PARKED, AWAY, BUSY = range(7)

#: Up to here a response is joined and leaves in one write; above, its pieces are gathered:
#: 64 KiB cost 6.3 µs gathered, 9.6 joined.
_JOIN_BYTES = 16_384

#: Octets of one gathered write, about, and up to which there is but one. A MiB in one call cost 1.1
#: of the CPU that it costs in eight: the system then takes pages that nobody has touched lately,
#: while in slices it gets back what the peer has just read.
_SLICE_BYTES = 131_072
_WHOLE_BYTES = 262_144

#: Octets of a file in one framed piece: four FastCGI records.
_FILE_BYTES = 262_144

#: Octets in a row, received while a body is due, that bring none of it: more than a record or
#: packet on its way, and what else a web server may say meanwhile.
_MOST_ASIDE_BYTES = 1_048_576

#: Stands for the request's id once its response has ended.
ANSWERED = -1

#: The status of a request that the client or the web server gave up; no application's, which has
#: a space behind the number.
_GIVEN_UP = "499"

#: FastCGI roles; every other protocol has the first alone.
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3
ROLES = {"responder": RESPONDER, "authorizer": AUTHORIZER, "filter": FILTER}


#: The input of every request without a body: it has no state to share.
NO_BODY = RequestBody()


class Connection(Stream):
    """One accepted connection.

    Attributes:
        worker: The thread that serves it at present.
        phase: What it waits for while no thread serves it.
        deadline: When its waiting ends, monotonic seconds.
        timer: When the engine next looks at the deadline.
        waiting: Whether the poller watches it.
        untried: While it is parked, whether nothing is known of its request's duration.
    """

    __slots__ = (
        "_address", "_backlog", "_body_ended", "_broken", "_codec", "_corked", "_event", "_gate",
        "_inlet",
        "_multiplexer", "_request_id", "_reset", "_room", "_skipped", "_spool",
        "deadline", "engine", "phase", "timer", "untried", "waiting", "worker",
    )  # fmt: skip

    def __init__(self, fd: int, address: Any, gate: Gate, worker: Worker) -> None:
        self.fd = fd
        self._address = address
        self._gate = gate
        self._codec: ServerCodec = gate.make_codec()
        self._corked = gate.corks
        self._request_id = 0
        self._body_ended = True
        self._broken = False
        self._reset = False
        self._skipped = 0
        self._room = 0  # octets of body that the application may still get
        self._backlog: list[Event] = []
        self._event: RequestReceived | None = None
        self._spool: Spool | None = None
        self.engine: Engine = gate.engine
        self.worker = worker
        self.phase = FRESH
        self.deadline = 0.0
        self.timer = inf
        self.waiting = False
        self.untried = False

    def peer_name(self) -> str:
        """Name the peer for a log line."""
        return self._gate.listener.peer_name(self._address)

    def origin(self) -> tuple[Gate, Any]:
        """Give the gate where it came in, and the peer's address."""
        return self._gate, self._address

    def carrier(self) -> Served:
        """Give what owns the descriptor."""
        return self

    def is_free(self) -> bool:
        """Whether nothing of a request is in it, so that another process could go on with it."""
        return self._codec.idle and not self._codec.pending

    def peer_gone(self) -> bool:
        """Whether the peer is gone; so it is once the connection has ended."""
        return self._peer_gone()  # by the class of the moment: applications keep this method

    def _peer_gone(self) -> bool:
        return self.fd < 0 or super().peer_gone()

    def report_slow_head(self) -> None:
        """Log that the head did not come in time."""
        log.warning(
            "%s: %s: no complete request within head_timeout", self._gate.name, self.peer_name()
        )

    # -- reading ---------------------------------------------------------------------------

    def serve(self) -> bool:
        """Take what is readable and act on it.

        Returns:
            Whether the connection goes on, waiting as `phase` and `deadline` say.
        """
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            if self.phase == FRESH and not self.waiting:
                self.deadline = time.monotonic() + self.engine.settings.head_timeout
            return True
        except OSError as error:
            log.debug("%s: %s", self.peer_name(), error)
            return False
        if self.phase == DRAINING:
            return self._drain(data)
        try:
            events = self._codec.receive_data(data) if data else self._codec.receive_eof()
            return self._act(events, data)
        except RemoteProtocolError as error:
            return self._refuse_first(error, data) if self.phase == FRESH else self._refuse(error)
        except (RequestAborted, OSError) as error:  # while writing what the codec owes
            log.debug("%s: %s", self.peer_name(), error)
            return False

    def resume(self, *, refuse: bool = False) -> bool:
        """Serve a parked request, or *refuse* it as too late and serve nothing; as `serve`."""
        event, self._event = self._event, None
        self.phase = IDLE
        if event is None:
            return True
        try:
            if refuse or time.monotonic() >= self.deadline:
                return self._refuse_late(event)
            return self._act([event, *self._backlog], None, parked=True)
        except RemoteProtocolError as error:
            return self._refuse(error)

    def _act(self, events: list[Event], data: bytes | None, *, parked: bool = False) -> bool:
        """Serve the requests among *events*, and what the codec holds behind them.

        Args:
            events: What the codec made of *data*.
            data: Empty at the end of file; None where it has been counted before.
            parked: Whether a thread has been found for the first request.
        """
        codec = self._codec
        while True:
            if codec.crowded:
                return self._make_way(events)
            owed = codec.data_to_send()
            if owed:
                self.write_all(owed)
                self.push()
                if not events and not codec.keep_open:
                    # the codec itself refused a request on a one-request connection
                    self._start_draining()
                    return True
            if not events:
                return data != b"" and self._wait_for_more(
                    len(data) if data and not owed else 0,
                )
            event = events[0]
            if type(event) is not RequestReceived:
                if type(event) is ProtocolDetected:
                    self._gate = self._gate.spoken[event.protocol]
                    self._codec = codec = self._gate.make_codec()
                    events = codec.receive_data(event.data)
                    continue
                if data == b"":
                    return False
                events = events[1:]
                continue
            self._backlog = events[1:]
            if self.engine.pace.active and not parked and not self.engine.may_call(self, event):
                self._event = event
                self.phase = PARKED
                return True
            parked = False
            self._answer(event)
            if not self._is_over():
                return False
            if self.phase == DRAINING:
                return True
            if not codec.pending:
                self._skipped = 0
                self.deadline = self.engine.idle_until
                return True
            events = codec.receive_data(b"")

    def _make_way(self, events: list[Event]) -> bool:
        """Between requests: let a multiplexer go on; this connection is over.

        Args:
            events: Decoded, and not acted on yet.
        """
        # 1 ms to load, and hardly any frontend needs it
        from portico.engine.multiplex import Multiplexer  # noqa: PLC0415

        self.engine.unwatch(self)
        self.push()
        multiplexer = Multiplexer(self, self._codec.several())  # type: ignore[attr-defined] # FastCGI's
        self.fd = -1
        multiplexer.start(self, events)
        return False

    def _share(self) -> None:
        """In the middle of a request: go on as one of several of a multiplexer."""
        from portico.engine.multiplex import Channel, Multiplexer  # noqa: PLC0415 - as above

        self.engine.release(self)
        self.engine.unwatch(self)
        self.push()
        multiplexer = Multiplexer(self, self._codec.several())  # type: ignore[attr-defined] # FastCGI's
        self.__class__ = Channel
        self.join(multiplexer, self._request_id, ended=self._body_ended)  # type: ignore[attr-defined]
        multiplexer.start(self, [])

    def _refuse_late(self, event: RequestReceived) -> bool:
        """Answer 503 to a request for which no thread became free in time; park what follows."""
        self._request_id = event.request_id
        self._body_ended = event.complete
        self._answer_late(event)
        if not self._is_over() or self.phase == DRAINING:
            return self.phase == DRAINING
        codec = self._codec
        events = codec.receive_data(b"") if codec.pending else []
        for at, behind in enumerate(events):
            if type(behind) is RequestReceived:
                self._event, self._backlog = behind, events[at + 1 :]
                self.phase = PARKED
                self.deadline = time.monotonic() + self.engine.settings.queue_timeout
                return True
        return self._act(events, None)

    def _wait_for_more(self, octets: int) -> bool:
        """Wait for a request, or the rest of its head; what comes in between is bounded.

        Args:
            octets: Octets received, for which nothing is there to show: a part of a head, or of
                a body that the application did not read, which the codec skips.
        """
        settings = self.engine.settings
        now = time.monotonic()
        self._skipped += octets
        if self._codec.idle:
            self.phase = IDLE
            self.deadline = now + settings.idle_timeout
            most = settings.drain_bytes
        elif self.phase == HEAD and now >= self.deadline:
            self.report_slow_head()
            return False
        else:
            if self.phase == IDLE or (self.phase == FRESH and not self.waiting):
                self.deadline = now + settings.head_timeout
            self.phase = HEAD
            most = settings.drain_bytes + settings.max_params_bytes
        if self._skipped > most:
            self._start_draining()
        return True

    def _is_over(self) -> bool:
        """After a response: whether the connection lives on, drained first if need be."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._broken:
            return False
        if self._codec.keep_open and self.engine.keeps:
            return True
        if self._body_ended and not self._codec.excess:
            return False
        # Closing over unread octets would reset the connection and could destroy the response.
        self._start_draining()
        return True

    def _start_draining(self) -> None:
        self.shutdown_write()
        self.phase = DRAINING
        self._skipped = 0
        self.deadline = time.monotonic() + self.engine.settings.drain_timeout

    def _drain(self, data: bytes) -> bool:
        """Throw away what the peer still sends after the answer, up to a bound."""
        self._skipped += len(data)
        return (
            bool(data)
            and self._skipped <= self.engine.settings.drain_bytes
            and time.monotonic() < self.deadline
        )

    def _refuse_first(self, error: RemoteProtocolError, data: bytes) -> bool:
        """Refuse a connection's first octets: another protocol's in that protocol.

        Args:
            error: What the codec said of them.
            data: The octets; never empty.
        """
        # 2 ms that an ordinary process never spends
        from portico.codecs import foreign  # noqa: PLC0415

        spoken = self._codec.protocol
        if foreign.FIRST_OCTETS.get(data[0]) == spoken:
            return self._refuse(error)
        self._codec = foreign.ServerCodec(spoken, error)
        try:
            return self._act(self._codec.receive_data(data), data)
        except RemoteProtocolError as fault:
            return self._refuse(fault)
        except RequestAborted as fault:
            log.debug("%s: %s", self.peer_name(), fault)
            return False

    def _refuse(self, error: RemoteProtocolError) -> bool:
        """Answer what could not be decoded, in the peer's protocol if that is possible."""
        hint = f"; raise {error.option} to allow it" if isinstance(error, LimitExceeded) else ""
        section = f" ({error.section})" if error.section else ""
        log.warning(
            "%s: refused %s: %s%s%s", self._gate.name, self.peer_name(), error, section, hint
        )
        answer = self._codec.refuse(error.status_hint) if error.status_hint else b""
        if not answer:
            return False
        try:
            self.write_all(answer)
        except RequestAborted:
            self._gate.note_refusal({}, error.status_hint, 0, aborted=True)
            return False
        self._gate.note_refusal({}, error.status_hint, 0)
        self._start_draining()
        return True

    # -- one request -----------------------------------------------------------------------

    def _answer(self, event: RequestReceived) -> None:
        """Serve one request; afterwards `_broken` tells whether the connection must close."""
        self._request_id = event.request_id
        self._body_ended = event.complete
        self.phase = IDLE
        gate = self._gate
        pace = self.engine.pace
        started = 0.0
        target = ""
        if pace.active:
            started = time.monotonic()
            target = target_of(event.environ)
        try:
            environ = gate.rules.finish(event.environ)
            if event.body or not event.complete:
                environ["wsgi.input"] = self._open_body(event)
        except RemoteProtocolError as error:
            self._answer_error(error, event)
            return
        environ["portico.client_gone"] = self.peer_gone
        application = gate.application
        if event.role != RESPONDER:
            application = self._take_role(event.role, environ)
        if gate.errors_to_frontend:
            environ["wsgi.errors"] = FrontendErrors(self.send_errors, environ["wsgi.errors"])
        worker = self.worker
        worker.environ = environ
        response = Response(environ, self)
        entry = None if gate.access is None else gate.access.begin(environ)
        try:
            gate.run(response, application, environ)
        except BaseException as error:  # noqa: BLE001 - a request must not end a thread
            self._report_end(error, response, environ)
        worker.environ = None
        tally = worker.tallies[gate.protocol]
        tally.requests += 1
        tally.octets += response.sent
        if self._broken or response.status >= "4":
            self._count_failure(tally, response)
        if entry is not None:
            self._log_access(entry, response)
        if started:
            now = time.monotonic()
            pace.note(target, now - started, now)

    def _open_body(self, event: RequestReceived) -> RequestBody:
        """Make ``wsgi.input`` of a request that has a body.

        Raises:
            LimitExceeded: by its announced length it is too long.
        """
        self._room = self.engine.settings.max_body_bytes - len(event.body)
        announced = 0 if event.complete else int(event.environ.get("CONTENT_LENGTH") or 0)
        if self._room < max(0, announced - len(event.body)):
            raise self._too_large()
        return RequestBody(event.body, None if event.complete else self.feed)

    def _count_failure(self, tally: Tally, response: Response) -> None:
        """Count a request that was not answered with success."""
        # an application may go on where the frontend has given up
        if response.status == _GIVEN_UP or (self._broken and not self._reset):
            response.status = _GIVEN_UP
            tally.aborted += 1
        elif response.status >= "5":
            tally.errors += 1

    def _take_role(self, role: int, environ: dict[str, Any]) -> Callable[..., Any]:
        """Prepare for an Authorizer's or a Filter's request; gives what to call."""
        if role == FILTER:
            environ["portico.role"] = "filter"
            environ["portico.data"] = self.data_input()  # type: ignore[attr-defined] # a Channel's
            return self._gate.application
        environ["portico.role"] = "authorizer"
        return as_authorizer(self._gate.application)

    def _log_access(self, entry: Entry, response: Response) -> None:
        """Write the access line of a request that is done."""
        access = cast("AccessLog", self._gate.access)
        status = int(response.status[:3] or 500)
        complete = not self._broken and response.status != _GIVEN_UP
        access.end(entry, status, response.sent, complete=complete)

    def _report_end(
        self, error: BaseException, response: Response, environ: dict[str, Any]
    ) -> None:
        """Log what has ended a request, where that was no response.

        The traceback of what is meant to end a process or task is in wsgi.errors already.
        """
        if isinstance(error, RequestAborted):
            response.status = _GIVEN_UP
            if self._request_id != ANSWERED:
                self._broken = True
            peer = self.peer_name()
            log.info("%s: 499 %s: %s%s", self._gate.name, peer, error, label(environ))
            return
        if isinstance(error, KeyboardInterrupt) and (
            threading.current_thread() is threading.main_thread()
        ):
            raise error  # Ctrl-C, where nobody handles SIGINT
        what = (
            f"called sys.exit({error.code})"
            if isinstance(error, SystemExit)
            else (f"raised {type(error).__name__}")
        )
        name = label(environ)
        log.error("%s: the application %s; only the request ended%s", self._gate.name, what, name)

    def _too_large(self) -> LimitExceeded:
        most = self.engine.settings.max_body_bytes
        return LimitExceeded(
            f"a body of more than {most} octets", option="max_body_bytes", status_hint=413
        )

    def _answer_late(self, event: RequestReceived) -> None:
        """Answer 503 to a request that has waited for a thread for too long."""
        self._answer_error(
            RemoteProtocolError("no thread became free within queue_timeout", status_hint=503),
            event,
        )

    def _answer_error(self, error: RemoteProtocolError, event: RequestReceived) -> None:
        """Answer a request that cannot become an environ, or whose body is too long."""
        hint = f"; raise {error.option} to allow it" if isinstance(error, LimitExceeded) else ""
        name = label(event.environ)
        log.warning("%s: refused %s: %s%s%s", self._gate.name, self.peer_name(), error, hint, name)
        status, headers, body = pages.refusal(error.status_hint or 400)
        if error.status_hint == 503:
            seconds = max(1, round(self.engine.settings.queue_timeout))
            headers.append(("Retry-After", str(seconds)))
        try:
            self.send_response(status, headers, body, end=True)
        except RequestAborted:
            self._broken = True
        self._gate.note_refusal(event.environ, int(status[:3]), len(body), aborted=self._broken)

    def feed(self) -> bytes:
        """Give the next octets of the body; empty at its end.

        Raises:
            RequestAborted: the frontend gave up, or was silent for `body_timeout`.
            LimitExceeded: the body passes `max_body_bytes`, of which no length had warned.
        """
        data = self._next_piece()
        self._room -= len(data)
        if self._room < 0:
            raise self._too_large()
        return data

    def _next_piece(self) -> bytes:
        """Give the next octets of the body, kept or new; empty at its end."""
        if self._spool is not None:
            data = self._spool.take()
            if data:
                return data
        while not self._body_ended:
            if self._codec.crowded and not self._backlog:
                self._share()
                continue
            if self._broken:
                raise RequestAborted("the frontend went away before the body's end")
            if self._request_id == ANSWERED and not self._codec.raw_body:
                # the codec skips it; behind it may be the next request already
                raise RequestAborted("the response has ended, and the body with it")
            data = self._take(self._backlog or self._pull())
            if data:
                return data
        return b""

    def _pull(self) -> list[Event]:
        """Ask for body, wait for octets, decode them."""
        codec = self._codec
        try:
            if codec.pending:  # a fault found behind octets that were handed over first
                events = codec.receive_data(b"")
                if events:
                    return events
            codec.want_body(self._request_id, READ_BYTES)
            owed = codec.data_to_send()
            if owed:
                self.write_all(owed)
                self.push()
            try:
                data = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                self.engine.release(self)
                data = self.read(self.engine.settings.body_timeout)
            return self._counted(codec.receive_data(data) if data else codec.receive_eof(), data)
        except RequestAborted:
            raise
        except TimeoutError:
            reason = "the frontend sent no body for body_timeout seconds"
        except OSError as error:
            reason = f"the frontend went away in the body: {error}"
        except RemoteProtocolError as error:
            reason = f"the frontend broke the protocol in the body: {error}"
        self._broken = True
        raise RequestAborted(reason)

    def _counted(self, events: list[Event], data: bytes) -> list[Event]:
        """Give back *events* of *data*; bounds what comes instead of the body.

        That is records which mean nothing, and floods of questions.

        Raises:
            RemoteProtocolError: there is no end of it.
        """
        self._skipped = 0 if events else self._skipped + len(data)
        if self._skipped > _MOST_ASIDE_BYTES:
            raise RemoteProtocolError(f"{self._skipped} octets that are no body, where one is due")
        return events

    def _take(self, events: list[Event]) -> bytes:
        """Sort *events* of the running request; gives the body octets among them."""
        self._backlog = []
        pieces: list[bytes] = []
        for event in events:
            kind = type(event)
            if kind is BodyReceived:
                pieces.append(event.data)  # type: ignore[union-attr] # told by its type
            elif kind is BodyEnded:
                self._body_ended = True
            elif kind is AbortReceived:
                self._broken = True
        if self._broken and not pieces:
            raise RequestAborted("the frontend aborted the request")
        return b"".join(pieces)

    # -- the sink: what the core calls -----------------------------------------------------

    def send_response(
        self, status: str, headers: list[tuple[str, str]], body: bytes, *, end: bool
    ) -> None:
        """Send the head with the body's first octets."""
        codec = self._codec
        try:
            if len(body) <= _JOIN_BYTES:
                data = codec.send_response(self._request_id, status, headers, body, end=end)
                parts = None
            else:
                data = codec.send_response(self._request_id, status, headers, b"", end=False)
                parts = codec.send_body_parts(self._request_id, body, end=end)
        except ApplicationError as error:  # the head does not fit; nothing is encoded
            error.answered = True
            self._answer_unencodable()
            raise
        if end:
            self._request_id = ANSWERED
        if parts is None:
            self.write_all(data)
        else:
            self._write_parts([data, *parts])
        if self._corked:
            self._push_unless_last(end=end)

    def _answer_unencodable(self) -> None:
        """Answer 500 here: the core takes the head for sent."""
        self.write_all(self._codec.send_response(self._request_id, *pages.refusal(500)))
        self._request_id = ANSWERED

    def send_body(self, data: bytes, *, end: bool) -> None:
        """Send more body."""
        codec = self._codec
        request_id = self._request_id
        if end:
            self._request_id = ANSWERED
        if len(data) <= _JOIN_BYTES:
            self.write_all(codec.send_body(request_id, data, end=end))
        else:
            self._write_parts(codec.send_body_parts(request_id, data, end=end))
        if self._corked:
            self._push_unless_last(end=end)

    def send_errors(self, data: bytes) -> bool:
        """Send text of ``wsgi.errors``; whether there is a response that it belongs to."""
        if self._request_id == ANSWERED or self._broken:
            return False
        self.write_all(self._codec.send_errors(self._request_id, data))  # type: ignore[attr-defined] # FastCGI's
        self.push()
        return True

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send part of a file: by the kernel where body octets travel unframed."""
        sent = 0
        while sent < count:
            if self._codec.raw_body:
                done = self._sendfile(fd, offset + sent, count - sent)
            else:
                block = os.pread(fd, min(count - sent, _FILE_BYTES), offset + sent)
                if block:
                    self.send_body(block, end=False)
                done = len(block)
            if not done:
                break
            sent += done
        return sent

    def abort(self) -> None:
        """Break the response off; the frontend must not take it for complete."""
        if self._request_id == ANSWERED:
            return
        self._codec.abort(self._request_id)
        self._broken = True
        self._reset = True

    # -- deadlines: for the thread that has taken the request from the application ---------

    def answer_and_hang_up(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send a whole response, and that the connection takes no further request."""
        if self._codec.keep_open:
            self._codec.keep_open = False
        self.send_response(status, headers, body, end=True)
        self.shutdown_write()

    def hang_up(self) -> None:
        """Say that the connection takes no further request."""
        if self._codec.keep_open:
            self._codec.keep_open = False
        self.shutdown_write()

    def cut(self) -> None:
        """Break the response off at once, complete or not."""
        self._broken = self._reset = True
        self.engine.cut(self)

    # -- writing ---------------------------------------------------------------------------

    def push(self) -> None:
        """Let nothing written wait any longer."""
        if self._corked:
            self._corked = False
            self.uncork()

    def _push_unless_last(self, *, end: bool) -> None:
        """Leave what was just written to the connection's close, if that is next.

        The close may be a while off, where the application goes on behind its last octet. Then
        the watchdog takes the token away, and pushes. A thread without the token is slow already.
        Asked after the write, since the token may go at any moment.
        """
        if not (end and self.worker.claim and not self._codec.keep_open):
            self.push()

    def flush(self) -> None:
        """Let nothing of the response wait: it is complete, and application code follows."""
        if self._corked and self.engine.alone:
            self.push()

    def write_all(self, data: bytes) -> None:
        """Write *data*; one system call when the peer keeps up.

        Raises:
            RequestAborted: the peer is gone or took nothing for `write_timeout`.
        """
        if not data:
            return
        try:
            sent = os.write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._gone(error)
        if sent != len(data):
            self._write_rest([memoryview(data)[sent:]])

    def _write_parts(self, parts: list[bytes | memoryview]) -> None:
        total = sum(map(len, parts))
        step = min(len(parts), MOST_BUFFERS)
        if total > _WHOLE_BYTES:
            step = min(step, max(2, len(parts) * _SLICE_BYTES // total))
        for at in range(0, len(parts), step):
            now = parts[at : at + step]
            try:
                sent = os.writev(self.fd, now)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._gone(error)
            if sent != sum(map(len, now)):
                self._write_rest(unsent(parts[at:], sent))
                return

    def _write_rest(self, parts: list[bytes | memoryview]) -> None:
        """Write against a peer that does not keep up, taking in what it sends meanwhile."""
        while parts:
            self._wait_writable()
            if self._codec.crowded:
                self._share()
                self._write_parts(parts)  # a Channel's
                return
            try:
                sent = os.writev(self.fd, parts[:MOST_BUFFERS])
            except BlockingIOError:
                continue
            except OSError as error:
                self._gone(error)
            parts = unsent(parts, sent)

    def _sendfile(self, fd: int, offset: int, count: int) -> int:
        while True:
            try:
                return os.sendfile(self.fd, fd, offset, min(count, 1 << 30))
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                self._gone(error)

    def wait(self, events: int, timeout: float) -> int:
        """Wait as `Stream` does, but no longer than the request may take.

        Raises:
            TimeoutError: nothing came within *timeout* seconds.
            RequestTimeout: the request's limit came before that.
        """
        until = self.worker.until
        left = timeout if until == inf else max(0.0, until - time.monotonic())
        try:
            return super().wait(events, min(timeout, left))
        except TimeoutError:
            if left < timeout:
                raise RequestTimeout from None
            raise

    def _wait_writable(self) -> None:
        """Wait until the peer takes octets; body that comes meanwhile goes into the spool.

        Without that, a frontend that sends its whole body before it reads, and an application
        that answers before it has read, would wait for each other.
        """
        self.engine.release(self)
        settings = self.engine.settings
        timeout = settings.write_timeout
        spooled = self._spool.size if self._spool is not None else 0
        reading = 0 if self._body_ended or self._broken else select.POLLIN
        while True:
            if reading and spooled >= settings.max_spool_bytes:
                reading = 0
            try:
                ready = self.wait(select.POLLOUT | reading, timeout)
            except TimeoutError as error:
                full = spooled and spooled >= settings.max_spool_bytes
                more = ", with max_spool_bytes of its body kept" if full else ""
                self._gone(TimeoutError(f"{error} (write_timeout){more}"))
            except OSError as error:
                self._gone(error)
            if ready & select.POLLOUT or not ready & select.POLLIN:
                return
            try:
                data = os.read(self.fd, READ_BYTES)
                codec = self._codec
                events = self._counted(
                    codec.receive_data(data) if data else codec.receive_eof(), data
                )
                taken = self._take([*self._backlog, *events])
            except BlockingIOError:
                continue
            except (OSError, RemoteProtocolError) as error:
                self._gone(error)
            if taken:
                if self._spool is None:
                    self._spool = self.engine.make_spool()
                self._spool.append(taken)
                spooled = self._spool.size
            if self._codec.crowded:
                return
            if self._body_ended or self._broken:
                reading = 0

    def _gone(self, error: Exception) -> None:
        """Turn a failed transfer into the request's end."""
        self._broken = True
        if isinstance(error, RequestAborted):
            raise error
        raise RequestAborted(f"the frontend went away: {error}") from error

    def finish(self) -> None:
        """Close: with a reset where the response was broken off."""
        if self._reset:
            self.reset()
        elif self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
