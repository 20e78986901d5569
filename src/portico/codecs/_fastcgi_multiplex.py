"""FastCGI 1.0: several requests in flight on one connection, and the Filter's second stream.

Takes over from a `ServerCodec`, which serves one request at a time, when a frontend proves to
need more. Sections are those of the FastCGI 1.0 specification (1996).
"""

from __future__ import annotations

from portico.codecs._fastcgi_records import (
    BEGIN_BODY,
    BEGIN_BYTES,
    FCGI_ABORT_REQUEST,
    FCGI_AUTHORIZER,
    FCGI_BEGIN_REQUEST,
    FCGI_CANT_MPX_CONN,
    FCGI_DATA,
    FCGI_FILTER,
    FCGI_GET_VALUES,
    FCGI_KEEP_CONN,
    FCGI_OVERLOADED,
    FCGI_PARAMS,
    FCGI_REQUEST_COMPLETE,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
    HEADER_BYTES,
    Values,
    announced_length,
    decode_params,
    end_request,
    not_version_1,
    stream,
    tail,
    too_many_params,
    unpack_header,
)
from portico.errors import LocalProtocolError, RemoteProtocolError
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    DataEnded,
    DataReceived,
    RequestReceived,
    RequestRefused,
)
from portico.head import encode_cgi
from portico.refusals import plain_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portico.events import Event
    from portico.limits import Limits

#: States of one request: its parameters arrive; its STDIN; a Filter's DATA; all has arrived and
#: the answer has not ended; the frontend has given it up and the answer has not ended. A request
#: that ended, or never began, has none.
PARAMS, STDIN, DATA, ANSWER, ABORTED = range(5)

#: (state, record type, empty?) -> next state, with `STDIN` leading to `DATA` for a Filter alone.
#: Every other type that an application receives is refused; types that it does not know are
#: skipped. An empty STDIN or DATA that comes too early leads to ABORTED.
#: The tests hold the codec to this table; nothing reads it at run time.
TRANSITIONS = {
    (PARAMS, FCGI_PARAMS, False): PARAMS,
    (PARAMS, FCGI_PARAMS, True): STDIN,
    (STDIN, FCGI_STDIN, False): STDIN,
    (STDIN, FCGI_STDIN, True): ANSWER,
    (DATA, FCGI_DATA, False): DATA,
    (DATA, FCGI_DATA, True): ANSWER,
    (ABORTED, FCGI_STDIN, False): ABORTED,
    (ABORTED, FCGI_STDIN, True): ABORTED,
    (ABORTED, FCGI_DATA, False): ABORTED,
    (ABORTED, FCGI_DATA, True): ABORTED,
    (STDIN, FCGI_ABORT_REQUEST, True): ABORTED,
    (DATA, FCGI_ABORT_REQUEST, True): ABORTED,
    (ANSWER, FCGI_ABORT_REQUEST, True): ABORTED,
    (ABORTED, FCGI_ABORT_REQUEST, True): ABORTED,
}

#: Parameters still arriving, of all requests of a connection together, in units of
#: `max_params_bytes`: a request beyond it is answered FCGI_OVERLOADED.
_MOST_PARAMS = 4


class _Request:
    """One request in flight.

    Attributes:
        role: Its FastCGI role.
        state: As above.
        params: Its parameters as far as they have come.
        left: Octets of the present stream still promised, or -1.
        data_length: What FCGI_DATA_LENGTH promises a Filter, or -1.
        wrote_errors: Whether FCGI_STDERR was used, and so must be ended.
    """

    __slots__ = ("data_length", "left", "params", "role", "state", "wrote_errors")

    def __init__(self, role: int, state: int = PARAMS, left: int = -1) -> None:
        self.role = role
        self.state = state
        self.params = bytearray()
        self.left = left
        self.data_length = -1
        self.wrote_errors = False


class MultiplexCodec:
    """The application's side of a connection, several requests at a time.

    The methods are those of `ServerCodec`; one thread at a time may receive, and meanwhile
    others may send, each for its own request.

    Args:
        limits: Ceilings on the parameters of one request.
        roles: Roles accepted.
        values: What FCGI_GET_VALUES is answered.
        most: Requests in flight; one more is answered FCGI_OVERLOADED (with 1:
            FCGI_CANT_MPX_CONN).
    """

    __slots__ = (
        "_fault", "_gathered", "_limits", "_most", "_out", "_requests", "_rest", "_roles",
        "_values", "keep_open",
    )  # fmt: skip

    protocol = "fastcgi"
    raw_body = False
    crowded = False
    excess = False

    def __init__(
        self, limits: Limits, *, roles: tuple[int, ...], values: Values, most: int
    ) -> None:
        self._limits = limits
        self._roles = roles
        self._values = values
        self._most = most
        self.keep_open = True
        self._requests: dict[int, _Request] = {}
        self._gathered = 0  # octets of parameters still arriving, of all requests
        self._rest = b""
        self._out = bytearray()
        self._fault: RemoteProtocolError | None = None

    def inherit(self, rest: bytes, owed: bytes, *, keep_open: bool) -> None:
        """Take over octets: *rest* that are not decoded yet, and *owed* to the peer.

        The next `receive_data` decodes them, also when it is given none.
        """
        self._rest = rest
        self._out += owed
        self.keep_open = keep_open

    def adopt(
        self,
        request_id: int,
        role: int,
        *,
        answering: bool,
        aborted: bool,
        left: int,
        wrote_errors: bool,
    ) -> None:
        """Go on with a request that was reported already.

        Args:
            request_id: Its id.
            role: Its role.
            answering: Whether its STDIN has ended.
            aborted: Whether the frontend has given it up.
            left: Octets of STDIN that are still promised, or -1.
            wrote_errors: Whether FCGI_STDERR was used.
        """
        state = ABORTED if aborted else ANSWER if answering else STDIN
        request = self._requests[request_id] = _Request(role, state, left)
        request.wrote_errors = wrote_errors

    def adopt_params(self, request_id: int, role: int, params: bytes) -> None:
        """Go on with a request of whose parameters *params* have come."""
        request = self._requests[request_id] = _Request(role)
        request.params += params
        self._gathered += len(params)

    @property
    def pending(self) -> bool:
        """Whether a fault found behind events that were handed over first is still to be raised."""
        return self._fault is not None

    @property
    def idle(self) -> bool:
        """Whether no request is in flight and no part of a record has come."""
        return not self._requests and not self._rest

    @property
    def gathering(self) -> bool:
        """Whether part of a record or of a request's parameters has come, and the rest has not."""
        # a copy: who answers a request takes it out meanwhile
        return bool(self._rest) or any(one.state == PARAMS for one in list(self._requests.values()))

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the peer.

        Raises:
            RemoteProtocolError: the records are malformed; all requests are lost. What was
                decoded before is handed over first: `pending` says so.
        """
        if self._fault is not None:
            raise self._fault
        if self._rest:
            data = self._rest + data
        events: list[Event] = []
        pos = 0
        size = len(data)
        try:
            while size - pos >= HEADER_BYTES:
                version, kind, request_id, length, padding = unpack_header(data, pos)
                if version != 1:
                    raise not_version_1(version)
                start = pos + HEADER_BYTES
                if start + length + padding > size:
                    break
                self._receive_record(kind, request_id, data[start : start + length], events)
                pos = start + length + padding
            if pos < size and data[pos] != 1:
                raise not_version_1(data[pos])
        except RemoteProtocolError as error:
            self._fault = error
            if not events:
                raise
        self._rest = data[pos:]
        return events

    def _receive_record(
        self, kind: int, request_id: int, content: bytes, events: list[Event]
    ) -> None:
        if request_id == 0:
            self._out += self._values.manage(kind, content)
            return
        if kind == FCGI_BEGIN_REQUEST:
            self._begin(request_id, content)
            return
        if kind == FCGI_GET_VALUES:
            raise RemoteProtocolError(
                f"FCGI_GET_VALUES with request id {request_id}", section="FastCGI 1.0 §3.3"
            )
        request = self._requests.get(request_id)
        if request is None:
            return  # of a request that is over, or was rejected: discarded
        state = request.state
        if kind == FCGI_STDIN and state == STDIN:
            self._take_stdin(request_id, request, content, events)
        elif kind == FCGI_PARAMS and state == PARAMS:
            try:
                self._take_params(request_id, request, content, events)
            except RemoteProtocolError as error:  # this one's fault alone
                self._forget(request_id)
                events.append(RequestRefused(request_id, error))
        elif kind == FCGI_DATA and state == DATA:
            self._take_data(request_id, request, content, events)
        elif kind == FCGI_ABORT_REQUEST:
            self._take_abort(request_id, request, events)
        elif kind in {FCGI_PARAMS, FCGI_STDIN} and not (
            kind == FCGI_STDIN and (state == ABORTED or request.role == FCGI_AUTHORIZER)
        ):
            raise RemoteProtocolError(
                f"record type {kind} in state {state} of request {request_id}",
                section="FastCGI 1.0 §6.2",
            )
        elif kind == FCGI_DATA and request.role == FCGI_FILTER and state in {PARAMS, STDIN}:
            raise RemoteProtocolError(
                f"FCGI_DATA before the end of FCGI_STDIN of request {request_id}",
                section="FastCGI 1.0 §6.4",
            )

    def _begin(self, request_id: int, content: bytes) -> None:
        if len(content) < BEGIN_BYTES:
            raise RemoteProtocolError(
                f"FCGI_BEGIN_REQUEST of {len(content)} octets", section="FastCGI 1.0 §5.1"
            )
        if request_id in self._requests:
            raise RemoteProtocolError(
                f"FCGI_BEGIN_REQUEST for request {request_id}, which is active",
                section="FastCGI 1.0 §3.3",
            )
        role, flags = BEGIN_BODY.unpack_from(content)
        if not flags & FCGI_KEEP_CONN:
            self.keep_open = False
        if role not in self._roles:
            self._out += end_request(request_id, FCGI_UNKNOWN_ROLE)
        elif len(self._requests) >= self._most:
            status = FCGI_CANT_MPX_CONN if self._most == 1 else FCGI_OVERLOADED
            self._out += end_request(request_id, status)
        else:
            self._requests[request_id] = _Request(role)

    def _take_params(
        self, request_id: int, request: _Request, content: bytes, events: list[Event]
    ) -> None:
        params = request.params
        if content:
            if len(params) + len(content) > self._limits.max_params_bytes:
                raise too_many_params(self._limits.max_params_bytes)
            if self._gathered + len(content) > _MOST_PARAMS * self._limits.max_params_bytes:
                self._forget(request_id)
                self._out += end_request(request_id, FCGI_OVERLOADED)
                return
            self._gathered += len(content)
            params += content
            return
        self._gathered -= len(params)
        request.params = bytearray()
        environ: dict[str, str] = {}
        decode_params(bytes(params), environ, max_params=self._limits.max_params)
        complete = request.role == FCGI_AUTHORIZER  # §6.3: nothing but parameters
        request.state = ANSWER if complete else STDIN
        request.left = announced_length(environ.get("CONTENT_LENGTH"))
        if request.role == FCGI_FILTER:
            request.data_length = announced_length(environ.get("FCGI_DATA_LENGTH"))
        events.append(RequestReceived(request_id, environ, b"", complete, request.role))

    def _take_stdin(
        self, request_id: int, request: _Request, content: bytes, events: list[Event]
    ) -> None:
        if content:
            content = _within(request, content)
            if content:
                events.append(BodyReceived(request_id, content))
        elif request.left > 0:
            request.state = ABORTED
            events.append(AbortReceived(request_id))
        else:
            request.state = ANSWER
            if request.role == FCGI_FILTER:
                request.state = DATA
                request.left = request.data_length
            events.append(BodyEnded(request_id))

    def _take_data(
        self, request_id: int, request: _Request, content: bytes, events: list[Event]
    ) -> None:
        """Take a Filter's file (§6.4); short of FCGI_DATA_LENGTH it was cut."""
        if content:
            content = _within(request, content)
            if content:
                events.append(DataReceived(request_id, content))
        elif request.left > 0:
            request.state = ABORTED
            events.append(AbortReceived(request_id))
        else:
            request.state = ANSWER
            events.append(DataEnded(request_id))

    def _take_abort(self, request_id: int, request: _Request, events: list[Event]) -> None:
        """Take ABORT_REQUEST: a request not yet reported is answered here (§5.4)."""
        if request.state == PARAMS:
            self._forget(request_id)
            self._out += end_request(request_id, FCGI_REQUEST_COMPLETE)
        elif request.state != ABORTED:
            request.state = ABORTED
            events.append(AbortReceived(request_id))

    def _forget(self, request_id: int) -> _Request | None:
        request = self._requests.pop(request_id, None)
        if request is not None and request.params:  # the count is the receiving thread's alone
            self._gathered -= len(request.params)
        return request

    def receive_eof(self) -> list[Event]:
        """Take the peer's end of file: requests whose input has not ended are aborted."""
        self.keep_open = False
        events: list[Event] = []
        for request_id, request in list(self._requests.items()):
            if request.state == PARAMS:
                self._forget(request_id)
            elif request.state in {STDIN, DATA}:
                request.state = ABORTED
                events.append(AbortReceived(request_id))
        return events

    def data_to_send(self) -> bytes:
        """Give, once, replies to management records and rejected requests."""
        out, self._out = self._out, bytearray()
        return bytes(out)

    def send_response(
        self,
        request_id: int,
        status: str,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        *,
        end: bool = True,
    ) -> bytes:
        """Encode a checked head, the body's first octets and, with *end*, the response's end.

        Raises:
            LocalProtocolError: there is no such request.
        """
        return self.send_body(request_id, encode_cgi(status, headers) + body, end=end)

    def send_body(self, request_id: int, data: bytes, *, end: bool = False) -> bytes:
        """Encode more body; with no octets and *end* it also closes a request without response.

        Raises:
            LocalProtocolError: there is no such request.
        """
        return b"".join(self.send_body_parts(request_id, data, end=end))

    def send_body_parts(
        self, request_id: int, data: bytes, *, end: bool = False
    ) -> list[bytes | memoryview]:
        """Encode a large piece of body as record headers and views of *data*.

        Raises:
            LocalProtocolError: there is no such request.
        """
        request = self._requests.get(request_id)
        if request is None:
            raise LocalProtocolError(f"request {request_id} is not open")
        parts = stream(FCGI_STDOUT, request_id, data)
        if end:
            self._forget(request_id)
            parts.append(tail(request_id, errors=request.wrote_errors))
        return parts

    def send_errors(self, request_id: int, data: bytes) -> bytes:
        """Encode text of the request's error stream, FCGI_STDERR (§5.3).

        Raises:
            LocalProtocolError: there is no such request.
        """
        request = self._requests.get(request_id)
        if request is None:
            raise LocalProtocolError(f"request {request_id} is not open")
        request.wrote_errors = True
        return b"".join(stream(FCGI_STDERR, request_id, data))

    def refuse_request(self, request_id: int, status: int) -> None:
        """Answer a request that was reported as `RequestRefused`; called by who receives.

        The answer comes with `data_to_send`.
        """
        line, headers, text = plain_refusal(status)
        self._requests[request_id] = _Request(FCGI_RESPONDER, ANSWER)
        self._out += self.send_response(request_id, line, headers, text)

    def refuse(self, status: int) -> bytes:  # noqa: ARG002 - the codecs' contract
        """Give nothing: malformed records belong to no request."""
        return b""

    def want_body(self, request_id: int, size: int) -> None:
        """Do nothing: a frontend sends its streams unasked."""

    def abort(self, request_id: int) -> None:
        """Give up a response that cannot be completed: no end is sent, the connection must close.

        The other requests may be finished first; new ones are answered FCGI_OVERLOADED.
        """
        self._forget(request_id)
        self.keep_open = False
        self._most = 0


def _within(request: _Request, content: bytes) -> bytes:
    """Cut *content* to what its stream still promises."""
    if request.left < 0:
        return content
    content = content[: request.left]
    request.left -= len(content)
    return content
