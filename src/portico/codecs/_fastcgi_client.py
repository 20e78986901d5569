"""FastCGI 1.0: the web server's side."""

from __future__ import annotations

from portico.codecs._fastcgi_records import (
    BEGIN_BODY,
    EMPTY_PARAMS_1,
    EMPTY_STDIN_1,
    END_BODY,
    END_BYTES,
    FCGI_ABORT_REQUEST,
    FCGI_AUTHORIZER,
    FCGI_BEGIN_REQUEST,
    FCGI_CANT_MPX_CONN,
    FCGI_DATA,
    FCGI_END_REQUEST,
    FCGI_FILTER,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_KEEP_CONN,
    FCGI_OVERLOADED,
    FCGI_PARAMS,
    FCGI_REQUEST_COMPLETE,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_ROLE,
    FCGI_UNKNOWN_TYPE,
    HEADER_BYTES,
    decode_pairs,
    encode_pairs,
    record,
    stream,
    unpack_header,
)
from portico.errors import ConfigError, LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.events import (
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
    StderrReceived,
    ValuesReceived,
)
from portico.head import find_end, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from portico.events import Event
    from portico.limits import Limits

#: Roles by their names in options (§6).
ROLES = {"responder": FCGI_RESPONDER, "authorizer": FCGI_AUTHORIZER, "filter": FCGI_FILTER}

#: What an Authorizer is not told, since it belongs to the content that is protected (§6.3).
_NOT_FOR_AUTHORIZERS = frozenset({"CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME"})

#: What a Filter is told of its data: octets, and seconds since 1970 (§6.4).
_DATA_LENGTH = "FCGI_DATA_LENGTH"
_DATA_LAST_MOD = "FCGI_DATA_LAST_MOD"

#: What a rejection says, by its protocolStatus (§5.5), and what to answer.
_REJECTIONS = {
    FCGI_CANT_MPX_CONN: ("FCGI_CANT_MPX_CONN: it takes one request at a time", 502),
    FCGI_OVERLOADED: ("FCGI_OVERLOADED: it is out of some resource", 503),
    FCGI_UNKNOWN_ROLE: ("FCGI_UNKNOWN_ROLE: it does not serve as {role}", 502),
}

#: Most content of an FCGI_GET_VALUES, whose pairs may not go on in another record (§4.1).
_MAX_VALUES_BYTES = 65_535

#: More digits than any file has octets.
_MAX_DIGITS = 18

_EMPTY_DATA_1 = record(FCGI_DATA, 1)

#: States of a client's connection: no request; the response's head arrives; its body arrives;
#: STDOUT has ended; the request was given up and END_REQUEST is awaited.
CLIENT_IDLE, CLIENT_HEAD, CLIENT_BODY, CLIENT_ENDED, CLIENT_ABORTED = range(5)

#: (state, type of a record with the request's id, empty?) -> next state; anything absent is
#: refused, unknown types are skipped. A head is complete, and HEAD left for BODY, where its
#: blank line comes. END_REQUEST is never empty.
CLIENT_TRANSITIONS = {
    (CLIENT_HEAD, FCGI_STDOUT, False): CLIENT_BODY,
    (CLIENT_HEAD, FCGI_STDERR, False): CLIENT_HEAD,
    (CLIENT_HEAD, FCGI_STDERR, True): CLIENT_HEAD,
    (CLIENT_BODY, FCGI_STDOUT, False): CLIENT_BODY,
    (CLIENT_BODY, FCGI_STDOUT, True): CLIENT_ENDED,
    (CLIENT_BODY, FCGI_STDERR, False): CLIENT_BODY,
    (CLIENT_BODY, FCGI_STDERR, True): CLIENT_BODY,
    (CLIENT_BODY, FCGI_END_REQUEST, False): CLIENT_IDLE,
    (CLIENT_ENDED, FCGI_STDERR, False): CLIENT_ENDED,
    (CLIENT_ENDED, FCGI_STDERR, True): CLIENT_ENDED,
    (CLIENT_ENDED, FCGI_END_REQUEST, False): CLIENT_IDLE,
    (CLIENT_ABORTED, FCGI_STDOUT, False): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_STDOUT, True): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_STDERR, False): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_STDERR, True): CLIENT_ABORTED,
    (CLIENT_ABORTED, FCGI_END_REQUEST, False): CLIENT_IDLE,
}


class ClientCodec:
    """The web server's side of a connection, one request at a time, always with id 1.

    Args:
        limits: A ceiling on the response's head.
        keep_open: Whether to ask the backend to keep the connection (FCGI_KEEP_CONN). May be
            changed between requests.
        role: What the backend is asked to be: a key of `ROLES`.

    Attributes:
        takes_data: Whether each request has data beside its body, for `send_data`: a Filter's.

    Raises:
        ConfigError: there is no such role.
    """

    __slots__ = (
        "_asked",
        "_data_left",
        "_head",
        "_hint",
        "_max_head_bytes",
        "_rest",
        "_role",
        "_sent",
        "_state",
        "keep_open",
        "takes_data",
    )

    protocol = "fastcgi"
    body_on_demand = False

    def __init__(self, limits: Limits, *, keep_open: bool = True, role: str = "responder") -> None:
        if role not in ROLES:
            raise ConfigError(f"unknown role {role!r}; known: {', '.join(ROLES)}", key="role")
        self._max_head_bytes = limits.max_response_head_bytes
        self.keep_open = keep_open
        self._role = role
        self.takes_data = role == "filter"
        self._state = CLIENT_IDLE
        self._sent = True  # STDIN has ended
        self._data_left: int | None = None  # octets of DATA not given yet; None: it has ended
        self._asked = False  # FCGI_GET_VALUES awaits its answer
        self._hint = 0  # what to answer where nothing of a response has been reported
        self._head = bytearray()
        self._rest = bytearray()

    def send_request(
        self, environ: Mapping[str, str], body: bytes = b"", *, end: bool = True
    ) -> bytes:
        """Encode a request: all of *environ*, the body's first octets.

        A Filter's data follows the body's end, by `send_data`. An Authorizer gets no body, but
        its end (§6.3 does not speak of it): some applications wait for it.

        Args:
            environ: What to send as parameters; the caller has chosen them. A Filter's must have
                FCGI_DATA_LENGTH, octets, and FCGI_DATA_LAST_MOD, seconds since 1970. What
                belongs to the protected content is left out of an Authorizer's.
            body: The body's first octets.
            end: Whether they are all.

        Raises:
            LocalProtocolError: the response to the last request has not ended, a parameter is
                not latin-1, or the role's demands are not met.
        """
        if self._state != CLIENT_IDLE:
            raise LocalProtocolError("the last response has not ended")
        data_left = None
        if self.takes_data:
            data_left = _data_length(environ)
        elif self._role == "authorizer":
            if body or not end:
                raise LocalProtocolError("an Authorizer gets no body")
            environ = {k: v for k, v in environ.items() if k not in _NOT_FOR_AUTHORIZERS}
        flags = FCGI_KEEP_CONN if self.keep_open else 0
        params = stream(FCGI_PARAMS, 1, encode_pairs(environ.items()))
        begin = record(FCGI_BEGIN_REQUEST, 1, BEGIN_BODY.pack(ROLES[self._role], flags))
        self._state = CLIENT_HEAD
        self._sent = False
        self._data_left = data_left
        return b"".join((begin, *params, EMPTY_PARAMS_1, self.send_body(body, end=end)))

    def send_body(self, data: bytes, *, end: bool = False) -> bytes:
        """Encode more of the body.

        Raises:
            LocalProtocolError: the body or the response has ended.
        """
        if self._sent or self._state == CLIENT_IDLE:
            raise LocalProtocolError("no request body is open")
        parts = stream(FCGI_STDIN, 1, data)
        if end:
            self._sent = True
            parts.append(EMPTY_STDIN_1)
        return b"".join(parts)

    def send_data(self, data: bytes, *, end: bool = False) -> bytes:
        """Encode more of a Filter's data, once the body has ended (§6.4).

        Raises:
            LocalProtocolError: the data does not agree with FCGI_DATA_LENGTH or has ended, the
                body has not, or the role is another.
        """
        if not self._sent or self._data_left is None or self._state == CLIENT_IDLE:
            raise LocalProtocolError("no data is open: it belongs to a Filter, behind its body")
        left = self._data_left - len(data)
        if left < 0 or (end and left):
            raise LocalProtocolError(
                f"the data is {'longer' if left < 0 else 'shorter'} than {_DATA_LENGTH} says"
            )
        self._data_left = None if end else left
        parts = stream(FCGI_DATA, 1, data)
        if end:
            parts.append(_EMPTY_DATA_1)
        return b"".join(parts)

    def get_values(self, names: Iterable[str]) -> bytes:
        """Encode FCGI_GET_VALUES; a `ValuesReceived` answers it (§4.1).

        Raises:
            LocalProtocolError: the last question has no answer yet, or the names do not fit a
                record.
        """
        content = encode_pairs((name, "") for name in names)
        if self._asked or len(content) > _MAX_VALUES_BYTES:
            raise LocalProtocolError("one FCGI_GET_VALUES at a time, of 65535 octets at most")
        self._asked = True
        return record(FCGI_GET_VALUES, 0, content)

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the backend.

        Raises:
            RemoteProtocolError: they are no response, or END_REQUEST rejects the request;
                `status_hint` is what to answer where no head has been reported yet.
            LimitExceeded: the head is longer than the limits allow.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed():
                return []
            data = bytes(self._rest)
            self._rest.clear()
        self._hint = 502 if self._state == CLIENT_HEAD else 0
        events: list[Event] = []
        body: list[bytes] = []
        stderr: list[bytes] = []
        pos = 0
        size = len(data)
        while size - pos >= HEADER_BYTES:
            version, kind, request_id, length, padding = unpack_header(data, pos)
            if version != 1:
                raise self._fault(f"FastCGI version {version}", "FastCGI 1.0 §3.3")
            start = pos + HEADER_BYTES
            end = start + length
            if end + padding > size:
                break
            pos = end + padding
            if request_id != 1:
                self._take_other(request_id, kind, data[start:end], events)
            elif kind == FCGI_STDOUT:
                self._take_stdout(data[start:end], events, body)
            elif kind == FCGI_STDERR and self._state != CLIENT_IDLE:
                if length:
                    stderr.append(data[start:end])
            elif kind == FCGI_END_REQUEST:
                app_status = self._take_end(data[start:end])
                sent = self._sent and self._data_left is None
                events.append(ResponseEnded(self.keep_open and sent and pos == size, app_status))
            elif kind <= FCGI_UNKNOWN_TYPE or self._state == CLIENT_IDLE:
                raise self._fault(f"record type {kind} from a backend", "FastCGI 1.0 §3.3")
        if pos < size:
            if data[pos] != 1:
                raise self._fault(f"FastCGI version {data[pos]}", "FastCGI 1.0 §3.3")
            self._rest += memoryview(data)[pos:]
        return _in_order(events, body, stderr)

    def _needed(self) -> int:
        """Tell how many octets the first record in `_rest` takes, at least."""
        if len(self._rest) < HEADER_BYTES:
            return HEADER_BYTES
        _, _, _, length, padding = unpack_header(self._rest)
        return HEADER_BYTES + int(length) + int(padding)

    def _take_other(self, request_id: int, kind: int, content: bytes, events: list[Event]) -> None:
        """Take what a backend says of itself; without a question it is skipped (§4)."""
        if request_id:
            raise self._fault(f"record of a request {request_id}", "FastCGI 1.0 §3.3")
        if not self._asked:
            return
        if kind == FCGI_GET_VALUES_RESULT:
            values = dict(decode_pairs(content))
        elif kind == FCGI_UNKNOWN_TYPE and content[:1] == b"\x09":  # what it does not know (§4.2)
            values = {}
        else:
            return
        self._asked = False
        events.insert(0, ValuesReceived(values))

    def _take_stdout(self, content: bytes, events: list[Event], body: list[bytes]) -> None:
        state = self._state
        if state == CLIENT_BODY:
            if content:
                body.append(content)
            else:
                self._state = CLIENT_ENDED
        elif state == CLIENT_HEAD and content:
            self._take_head(content, events, body)
        elif state != CLIENT_ABORTED:
            raise self._fault(
                f"FCGI_STDOUT of {len(content)} octets in state {state}", "FastCGI 1.0 §5.3"
            )

    def _take_head(self, content: bytes, events: list[Event], body: list[bytes]) -> None:
        head = self._head
        looked = max(0, len(head) - 3)
        head += content
        found = find_end(head, looked)
        # A CR at the end may begin the blank line, which does not count.
        size = found[0] if found else len(head) - head.endswith(b"\r")
        if size > self._max_head_bytes:
            raise LimitExceeded(
                f"response head of more than {self._max_head_bytes} octets",
                option="max_response_head_bytes",
                section="RFC 3875 §6",
                status_hint=502,
            )
        if found is None:
            return
        status, headers = parse(bytes(head[: found[0]]), max_bytes=self._max_head_bytes)
        events.append(ResponseReceived(status, headers))
        if found[1] < len(head):
            body.append(bytes(head[found[1] :]))
        self._head = bytearray()
        self._state = CLIENT_BODY

    def _take_end(self, content: bytes) -> int:
        """Take END_REQUEST; gives the appStatus."""
        state = self._state
        if state == CLIENT_IDLE or len(content) < END_BYTES:
            raise self._fault(
                f"FCGI_END_REQUEST of {len(content)} octets in state {state}", "FastCGI 1.0 §5.5"
            )
        app_status, protocol_status = END_BODY.unpack_from(content)
        if protocol_status != FCGI_REQUEST_COMPLETE:
            reason, hint = _REJECTIONS.get(protocol_status, ("a status without a name", 502))
            raise RemoteProtocolError(
                f"the backend rejected the request: protocolStatus {protocol_status},"
                f" {reason.format(role=self._role)}",
                section="FastCGI 1.0 §5.5",
                status_hint=hint if self._hint else 0,
            )
        if state == CLIENT_HEAD:
            raise self._fault(
                f"a response without a complete head, appStatus {app_status}", "RFC 3875 §6.2"
            )
        self._state = CLIENT_IDLE
        self._head = bytearray()
        return int(app_status)

    def _fault(self, message: str, section: str) -> RemoteProtocolError:
        return RemoteProtocolError(message, section=section, status_hint=self._hint)

    def receive_eof(self) -> list[Event]:
        """Take the backend's end of file.

        Raises:
            RemoteProtocolError: FCGI_END_REQUEST has not come; an end of file alone does not
                show that a response is whole.
        """
        self.keep_open = False
        self._hint = 502 if self._state == CLIENT_HEAD else 0
        if self._state != CLIENT_IDLE:
            raise self._fault("the backend closed before FCGI_END_REQUEST", "FastCGI 1.0 §5.5")
        if self._asked:
            raise self._fault(
                "the backend closed before FCGI_GET_VALUES_RESULT", "FastCGI 1.0 §4.1"
            )
        return []

    def abort(self) -> bytes:
        """Encode FCGI_ABORT_REQUEST; what the backend still answers is dropped.

        `ResponseEnded` follows where the backend goes on to end the request. Empty where
        there is no request.
        """
        if self._state == CLIENT_IDLE:
            return b""
        self._state = CLIENT_ABORTED
        self._sent = True
        self._data_left = None
        return record(FCGI_ABORT_REQUEST, 1)


def _data_length(environ: Mapping[str, str]) -> int:
    """Give the octets of a Filter's data, as its parameters say."""
    for name in (_DATA_LENGTH, _DATA_LAST_MOD):
        value = environ.get(name, "")
        if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
            raise LocalProtocolError(f"a Filter needs {name}, a number, not {value[:40]!a}")
    return int(environ[_DATA_LENGTH])


def _in_order(events: list[Event], body: list[bytes], stderr: list[bytes]) -> list[Event]:
    """Put what was said on both streams between the head and the end, each joined."""
    ended = [events.pop()] if events and type(events[-1]) is ResponseEnded else []
    if stderr:
        events.append(StderrReceived(b"".join(stderr)))
    if body:
        events.append(ResponseBodyReceived(b"".join(body)))
    return events + ended
