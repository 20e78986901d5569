"""What SCGI and uwsgi share: one request a connection, unframed bodies, an end by closing."""

from __future__ import annotations

from portico.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    RequestReceived,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
)
from portico.head import find_end, parse
from portico.refusals import plain_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.events import Event
    from portico.limits import Limits

#: States of a server's connection: nothing yet that shows the protocol, a head on its way, a
#: body on its way, the request complete. A client's connection starts in HEAD.
STRANGER, HEAD, BODY, DONE = range(4)

#: (state, what arrived) -> next state; anything absent changes nothing or is refused.
#: The tests hold both codecs to it; nothing reads it at run time.
TRANSITIONS = {
    (STRANGER, "part of the head"): HEAD,
    (STRANGER, "head"): BODY,
    (STRANGER, "request"): DONE,
    (HEAD, "head"): BODY,
    (HEAD, "request"): DONE,
    (BODY, "rest of the body"): DONE,
    (BODY, "end of file"): DONE,
}

#: Most digits of a length: what fits a signed 64-bit integer whatever the digits are.
MAX_LENGTH_DIGITS = 18


def content_length(value: str) -> int:
    """Decode a CONTENT_LENGTH, octets, strictly: ASCII digits and nothing else.

    Raises:
        RemoteProtocolError: signs, blanks, underscores, other scripts' digits, a number beyond
            all sense; answer 400.

    Spec: RFC 3875 §4.1.2.
    """
    if value.isascii() and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS:
        return int(value)
    raise RemoteProtocolError(
        f"CONTENT_LENGTH is not a length: {value[:40]!a}",
        section="RFC 3875 §4.1.2",
        status_hint=400,
    )


class OneShotServer:
    """The application server's side of a connection; a protocol adds its heads.

    Octets beyond the request mean nothing and are ignored.
    """

    __slots__ = ("_held", "_left", "_limits", "_state", "excess")

    protocol = ""
    keep_open = False
    pending = False
    idle = False
    raw_body = True
    crowded = False

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = STRANGER
        self._held: bytearray | None = None  # an incomplete head
        self._left = 0  # octets missing: of the whole head so far, of the body later
        self.excess = False

    def _receive_head(self, data: bytes) -> list[Event]:
        """Decode *data*, all octets so far; calls `_hold` or `_begin` and returns its result."""
        raise NotImplementedError

    @staticmethod
    def _encode_head(status: str, headers: list[tuple[str, str]]) -> bytes:
        raise NotImplementedError

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the peer.

        Raises:
            RemoteProtocolError: the request is malformed.
            LimitExceeded: its parameters are more than the limits allow.
        """
        state = self._state
        if state == BODY:
            return self._receive_body(data)
        if state == DONE or not data:
            return []
        held = self._held
        if held is not None:
            held += data
            if len(held) < self._left:
                return []
            data = bytes(held)
        return self._receive_head(data)

    def _hold(self, data: bytes, needed: int) -> list[Event]:
        """Keep an incomplete head until *needed* octets are there (0: not known yet)."""
        if self._held is None:
            self._held = bytearray(data)
        self._left = needed
        return []

    def _begin(self, environ: dict[str, str], data: bytes, at: int, length: int) -> list[Event]:
        """Report a request whose body of *length* octets begins in *data* at *at*."""
        self._held = None
        if not length and len(data) == at:
            self._state = DONE
            return [RequestReceived(0, environ, b"", True)]
        end = at + length
        if len(data) >= end:
            self._state = DONE
            self.excess = len(data) > end
            return [RequestReceived(0, environ, data[at:end], True)]
        self._state = BODY
        self._left = end - len(data)
        return [RequestReceived(0, environ, data[at:], False)]

    def _receive_body(self, data: bytes) -> list[Event]:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return [BodyReceived(0, data)] if data else []
        self._state = DONE
        self.excess = left < 0
        return [BodyReceived(0, data[: self._left]), BodyEnded(0)]

    def receive_eof(self) -> list[Event]:
        """Take the peer's end of file; nothing follows from one before the first octet.

        Raises:
            RemoteProtocolError: it cut the head short.
        """
        state = self._state
        if state == BODY:
            self._state = DONE
            return [AbortReceived(0)]
        if state != DONE and self._held is not None:
            raise RemoteProtocolError(f"end of file within the {self.protocol} head")
        return []

    def data_to_send(self) -> bytes:
        """Give nothing: these protocols have no replies of their own."""
        return b""

    def send_response(
        self,
        request_id: int,  # noqa: ARG002 - the codecs' contract
        status: str,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        *,
        end: bool = True,  # noqa: ARG002 - closing ends the response
    ) -> bytes:
        """Encode a checked head and the body's first octets."""
        head = self._encode_head(status, headers)
        return head + body if body else head

    def send_body(self, request_id: int, data: bytes, *, end: bool = False) -> bytes:  # noqa: ARG002 - the codecs' contract
        """Give *data* itself: bodies are not framed."""
        return data

    def send_body_parts(
        self,
        request_id: int,  # noqa: ARG002 - the codecs' contract
        data: bytes,
        *,
        end: bool = False,  # noqa: ARG002 - closing ends the response
    ) -> list[bytes | memoryview]:
        """Give *data* itself: bodies are not framed."""
        return [data]

    def want_body(self, request_id: int, size: int) -> None:
        """Do nothing: the peer sends its body unasked."""

    def refuse(self, status: int) -> bytes:
        """Encode an error answer; empty while nothing shows that the peer speaks the protocol."""
        if self._state == STRANGER:
            return b""
        line, headers, text = plain_refusal(status)
        return self._encode_head(line, headers) + text

    def abort(self, request_id: int) -> None:
        """Do nothing: closing the connection is all there is."""


class OneShotClient:
    """The web server's side of a connection; a protocol adds its request heads.

    Body octets beyond a response's Content-Length are dropped.
    """

    __slots__ = ("_bodiless", "_held", "_left", "_limits", "_state", "_unsent")

    protocol = ""
    keep_open = False
    body_on_demand = False

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = HEAD
        self._bodiless = False  # the answer to HEAD
        self._held = bytearray()  # an incomplete response head
        self._left: int | None = None  # octets missing of the response's body; None: to the close
        self._unsent: int | None = None  # octets missing of the request's body; None: no request

    def _encode_request(self, environ: Mapping[str, str], length: int) -> bytes:
        """Encode a request's head; *length* octets of body follow."""
        raise NotImplementedError

    def send_request(
        self, environ: Mapping[str, str], body: bytes = b"", *, end: bool = True
    ) -> bytes:
        """Encode a request's head and the body's first octets.

        Args:
            environ: Latin-1 strings; CONTENT_LENGTH may be missing only with *end*.
            body: First octets of the body; all of them with *end*.
            end: Whether the body is complete.

        Raises:
            LocalProtocolError: the environ cannot be encoded, CONTENT_LENGTH does not agree with
                the body, or the connection has carried a request already.
        """
        if self._unsent is not None:
            raise LocalProtocolError(f"one request per {self.protocol} connection")
        announced = environ.get("CONTENT_LENGTH")
        if announced:
            length = _own_length(announced)
        elif end:
            length = len(body)
        else:
            raise LocalProtocolError("a body in pieces needs a CONTENT_LENGTH in the environ")
        head = self._encode_request(environ, length)
        self._unsent = length
        self._bodiless = environ.get("REQUEST_METHOD") == "HEAD"
        self._count_out(body, end=end)
        return head + body if body else head

    def send_body(self, data: bytes, *, end: bool = False) -> bytes:
        """Give *data* itself: bodies are not framed.

        Raises:
            LocalProtocolError: the body does not agree with CONTENT_LENGTH, or there is no request.
        """
        self._count_out(data, end=end)
        return data

    def _count_out(self, data: bytes, *, end: bool) -> None:
        if self._unsent is None:
            raise LocalProtocolError("body without a request")
        unsent = self._unsent - len(data)
        if unsent < 0 or (end and unsent):
            raise LocalProtocolError(
                f"the body is {'longer' if unsent < 0 else 'shorter'} than CONTENT_LENGTH says"
            )
        self._unsent = unsent

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the backend.

        Raises:
            RemoteProtocolError: the response's head is malformed.
            LimitExceeded: its head is longer than ``max_response_head_bytes``.
        """
        if not data:
            return []
        if self._state == BODY:
            return self._receive_body(data)
        if self._state == DONE:
            return []
        held = self._held
        start = max(0, len(held) - 3)
        held += data
        end = find_end(held, start)
        limit = self._limits.max_response_head_bytes
        if end is None:
            if len(held) - held.endswith(b"\r") > limit:  # that may begin the blank line
                raise LimitExceeded(
                    f"response head of more than {limit} octets",
                    option="max_response_head_bytes",
                    section="RFC 3875 §6",
                    status_hint=502,
                )
            return []
        status, headers = parse(bytes(held[: end[0]]), max_bytes=limit)
        rest = bytes(held[end[1] :])
        self._held = bytearray()
        self._left = _body_length(status, headers, bodiless=self._bodiless)
        self._state = BODY
        events: list[Event] = [ResponseReceived(status, headers)]
        if rest:
            events += self._receive_body(rest)
        return events

    def _receive_body(self, data: bytes) -> list[Event]:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return [ResponseBodyReceived(data)] if data else []

    def receive_eof(self) -> list[Event]:
        """Take the backend's end of file, which ends the response.

        Raises:
            RemoteProtocolError: the head or an announced body is not complete.
        """
        if self._state == DONE:
            return []
        if self._state == HEAD:
            where = "within the response's head" if self._held else "without a response"
            raise RemoteProtocolError(f"the backend closed {where}", status_hint=502)
        if self._left:
            raise RemoteProtocolError(
                f"the backend closed {self._left} octets before its Content-Length",
                section="RFC 9112 §6.3",
            )
        self._state = DONE
        return [ResponseEnded(False)]

    def abort(self) -> bytes:
        """Give nothing: closing the connection gives the request up."""
        return b""


def _own_length(value: str) -> int:
    try:
        return content_length(value)
    except RemoteProtocolError as exc:
        raise LocalProtocolError(str(exc)) from None


def _body_length(status: str, headers: list[tuple[str, str]], *, bodiless: bool) -> int | None:
    """Octets of the body that follow a response's head; None where closing ends it.

    Spec: RFC 9112 §6.3.
    """
    if status < "2":
        raise RemoteProtocolError(
            f"status {status[:40]!a} is not a final response",
            section="RFC 3875 §6.3.3",
            status_hint=502,
        )
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    if len(lengths) > 1 or not all(
        value.isascii() and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS for value in lengths
    ):
        raise RemoteProtocolError(
            f"Content-Length is not a length: {', '.join(sorted(lengths))[:80]!a}",
            section="RFC 9110 §8.6",
            status_hint=502,
        )
    if bodiless or status[:3] in ("204", "304"):
        return 0
    return int(lengths.pop()) if lengths else None
