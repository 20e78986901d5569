"""AJP/1.3: forward requests, body packets on demand, response messages, CPing.

Spec: AJPv13 ("ajpv13a.html", Apache Tomcat Connectors); what it leaves open is decided by what
mod_proxy_ajp, mod_jk and lighttpd send and accept.
"""

from __future__ import annotations

from struct import Struct

from portico.codecs._ajp_client import (
    ClientCodec as ClientCodec,  # noqa: PLC0414 - an export, to type checkers
)
from portico.codecs._ajp_forward import NO_NAMES, bad_request, decode_forward_request
from portico.codecs._ajp_forward import (
    check_attribute as check_attribute,  # noqa: PLC0414 - likewise
)
from portico.codecs._ajp_tables import RESPONSE_HEADERS
from portico.codecs._ajp_wire import (
    BODY_OVERHEAD,
    CHUNK_OVERHEAD,
    CPING,
    FORWARD_REQUEST,
    GET_BODY_CHUNK,
    LEAST_CODE,
    PACKETS,
    REQUEST,
    SEND_BODY_CHUNK,
    check_length,
    check_packet_size,
    content_length,
    encode_string,
    has_long_name,
)
from portico.errors import (
    ApplicationError,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from portico.events import AbortReceived, BodyEnded, BodyReceived, RequestReceived
from portico.refusals import plain_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portico.events import Event
    from portico.limits import Limits

#: States of the server's side, body packets being what makes AJP's parsing depend on a state:
#: nothing under way; a body packet is on its way; the body is not complete but the peer sends
#: nothing unless asked; the body is complete; over. Only the first two decode anything.
IDLE, PACKET_DUE, BODY_HELD, BODY_DONE, CLOSED = range(5)

#: (state, what happened) -> next state; anything absent changes nothing or is refused.
#: The tests hold the codec to it; nothing reads it at run time.
TRANSITIONS = {
    (IDLE, "cping"): IDLE,
    (IDLE, "empty packet"): IDLE,
    (IDLE, "request without body"): BODY_DONE,
    (IDLE, "request with content-length"): PACKET_DUE,
    (IDLE, "chunked request"): BODY_HELD,
    (PACKET_DUE, "part of the body"): BODY_HELD,
    (PACKET_DUE, "end of the body"): BODY_DONE,
    (PACKET_DUE, "response ended"): CLOSED,
    (BODY_HELD, "body wanted"): PACKET_DUE,
    (BODY_HELD, "response ended"): IDLE,
    (BODY_DONE, "response ended"): IDLE,
}

#: States of the answer: no request, none sent yet, head sent, no more answers.
_NONE, _DUE, _BEGUN, _SILENT = range(4)

#: How body packets are framed: not known yet, with an inner length, lighttpd's way without.
_UNKNOWN, _INNER, _BARE = range(3)

#: Empty packets skipped before a request: lighttpd sends one after each request without a body.
_MAX_EMPTY = 8

#: Octets held at most while nothing was asked for: two of the engine's reads.
_MAX_UNASKED_BYTES = 131_072

#: Magic, payload length, type, and the integer that follows: a chunk's length, octets wanted.
_MESSAGE = Struct(">HHBH")
_PING = bytes((CPING,))
_PONG = b"AB\0\x01\x09"
_END_REUSE = b"AB\0\x02\x05\x01"
_END_CLOSE = b"AB\0\x02\x05\x00"

#: A chunk without content, octet for octet Tomcat's. mod_proxy_ajp and mod_jk gather a response
#: in blocks of 8 KiB and take this for the wish that what they hold goes to the client at once.
_FLUSH = b"AB\0\x04\x03\0\0\0"

#: Names of response headers, encoded, in the spellings that applications use.
_RESPONSE_NAMES = {
    spelling: f"\xa0{chr(code)}"
    for code, name in enumerate(RESPONSE_HEADERS)
    if name
    for spelling in (name, name.lower())
}


class ServerCodec:
    """The application server's side of an AJP connection."""

    __slots__ = (
        "_allowed",
        "_answer",
        "_buffer",
        "_empty",
        "_flush",
        "_framing",
        "_left",
        "_limits",
        "_out",
        "_packet_size",
        "_secret",
        "_state",
        "keep_open",
        "pending",
    )

    protocol = "ajp"
    raw_body = False
    crowded = False
    excess = False

    def __init__(
        self,
        limits: Limits,
        *,
        secret: str = "",
        packet_size: int = 8192,
        allowed_attributes: frozenset[str] = NO_NAMES,
    ) -> None:
        """Make the codec of one connection.

        Args:
            limits: Ceilings; shared, not changed.
            secret: What each request must carry; empty for none.
            packet_size: Most octets of a packet, the same on both sides: 8192 to 65536.
            allowed_attributes: Request attributes that become parameters under their own name.

        Raises:
            ConfigError: an impossible *packet_size*, or an attribute that would pass for a
                parameter which means something.
        """
        check_packet_size(packet_size)
        for name in allowed_attributes:
            check_attribute(name)
        self.keep_open = True
        self.pending = False
        self._limits = limits
        self._secret = secret.encode()
        self._packet_size = packet_size
        self._allowed = allowed_attributes
        self._state = IDLE
        self._answer = _NONE
        self._framing = _UNKNOWN
        self._left = 0  # octets of the body that have not come; -1: nobody knows
        self._empty = 0  # empty packets in a row
        self._flush = b""  # what follows a block that is not the last
        self._buffer = b""
        self._out = bytearray()  # a flood of CPings would make bytes grow in quadratic time

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the peer.

        Raises:
            RemoteProtocolError: a packet is malformed or out of place, or the secret is wrong.
            LimitExceeded: a packet or what it holds passes a ceiling.
        """
        if self._state == CLOSED:
            return []
        if self._buffer:
            data = self._buffer + data
        events: list[Event] = []
        try:
            at = self._decode(data, events)
        except RemoteProtocolError as exc:
            self._close()
            if self._answer == _NONE and not exc.status_hint:
                self._answer = _SILENT
            raise
        self._buffer = data[at:]
        self.pending = self._state > PACKET_DUE and at < len(data)
        return events

    def _decode(self, data: bytes, events: list[Event]) -> int:
        """Decode whole packets while the state lets any be decoded; return where it stopped."""
        at = 0
        length = len(data)
        if self._state > PACKET_DUE and length > max(_MAX_UNASKED_BYTES, len(self._buffer)):
            raise RemoteProtocolError("the peer goes on sending unasked", section=PACKETS)
        request: RequestReceived | None = None
        while self._state <= PACKET_DUE and length - at >= 4:
            if data[at] != 0x12 or data[at + 1] != 0x34:
                break
            size = data[at + 2] << 8 | data[at + 3]
            stop = at + 4 + size
            if size > self._packet_size - 4:
                if self._state == IDLE and length - at < 5:
                    return at
                # A request, which the type tells, is worth an answer: an administrator raised
                # packet_size on one side alone. Anything else is no server's.
                is_request = self._state == IDLE and data[at + 4] == FORWARD_REQUEST
                check_length(size, self._packet_size, 431 if is_request else 0)
            if stop > length:
                return at
            if self._state == PACKET_DUE:
                self._take_body(data, at + 4, stop, request, events)
            elif size and data[at + 4] == FORWARD_REQUEST:
                request = self._take_request(data[at + 4 : stop])
                events.append(request)
            else:
                self._take_other(data[at + 4 : stop])
            at = stop
        if self._state <= PACKET_DUE and not b"\x12\x34".startswith(data[at : at + 2]):
            raise RemoteProtocolError(
                f"an AJP packet begins with 12 34, not {data[at : at + 2].hex(' ')}",
                section=PACKETS,
            )
        return at

    def _take_other(self, payload: bytes) -> None:
        """Take what is no forward request where one is due."""
        if payload == _PING:
            self._out += _PONG
            self._empty = 0
        elif payload:
            # Shutdown (7) above all: whoever reaches the port could stop the server.
            raise RemoteProtocolError(
                f"message type {payload[0]} where a forward request is due", section=REQUEST
            )
        elif self._empty < _MAX_EMPTY:
            self._empty += 1
        else:
            raise RemoteProtocolError("empty packets instead of a request", section=PACKETS)

    def _take_request(self, payload: bytes) -> RequestReceived:
        limits = self._limits
        if len(payload) > limits.max_params_bytes:
            raise LimitExceeded(
                f"forward request of {len(payload)} octets, {limits.max_params_bytes} allowed",
                option="max_params_bytes",
                section=REQUEST,
                status_hint=431,
            )
        environ, secret = decode_forward_request(
            payload, allowed=self._allowed, max_params=limits.max_params
        )
        if self._secret and not _same(secret, self._secret):
            raise bad_request("the secret is missing or wrong", 403)
        self._empty = 0
        self._state = self._body_state(environ)
        self._answer = _DUE
        return RequestReceived(0, environ, b"", self._state == BODY_DONE)

    def _body_state(self, environ: dict[str, str]) -> int:
        """Find out how the body of a new request will come."""
        announced = environ.get("CONTENT_LENGTH")
        length = content_length(announced) if announced else 0
        if length is None:
            raise bad_request("content-length is no length")
        coding = environ.get("HTTP_TRANSFER_ENCODING")
        if coding:
            if coding.strip(" \t").lower() != "chunked":
                raise bad_request(f"transfer coding {coding[:40]!a} is not supported", 501)
            self._left = -1
            if announced is not None:
                # RFC 9112 §6.3: the coding overrides the length, and the connection must close,
                # since the peer may think of another end than ours.
                del environ["CONTENT_LENGTH"]
                self.keep_open = False
            return BODY_HELD
        self._left = length
        return PACKET_DUE if length else BODY_DONE

    def _take_body(
        self,
        data: bytes,
        start: int,
        stop: int,
        request: RequestReceived | None,
        events: list[Event],
    ) -> None:
        """Take a body packet; into *request* if that was decoded in this very call."""
        piece = self._body_piece(data, start, stop)
        if not piece:
            if self._left < 0:
                events.append(BodyEnded(0))
            else:
                events.append(AbortReceived(0))  # an end mark before content-length is reached
                self.keep_open = False
            self._state = BODY_DONE
            return
        done = False
        if self._left >= 0:
            self._left -= len(piece)
            if self._left < 0:
                raise bad_request("more body than content-length announced")
            done = self._left == 0
        self._state = BODY_DONE if done else BODY_HELD
        if request is not None:
            request.body = piece
            request.complete = done
            return
        events.append(BodyReceived(0, piece))
        if done:
            events.append(BodyEnded(0))

    def _body_piece(self, data: bytes, start: int, stop: int) -> bytes:
        """The content of a body packet; empty for both forms of the end mark."""
        size = stop - start
        if size == 0:
            return b""
        if self._framing != _BARE:
            if size >= 2 and data[start] << 8 | data[start + 1] == size - 2:
                self._framing = _INNER
                return data[start + 2 : stop]
            # lighttpd 1.4.69 leaves the inner length out (observed), always with a
            # content-length. That shows only in a connection's first body packet.
            if self._framing == _INNER or self._left < 0:
                raise bad_request("a body packet's inner length does not agree with the packet's")
            self._framing = _BARE
        return data[start:stop]

    def receive_eof(self) -> list[Event]:
        """Take the peer's end of file; an `AbortReceived` if it cut a body short.

        Raises:
            RemoteProtocolError: it cut a packet short where a request was due.
        """
        state = self._state
        rest = self._buffer
        self._close()
        if state in (PACKET_DUE, BODY_HELD):
            return [AbortReceived(0)]
        if state == IDLE and rest:
            self._answer = _SILENT
            raise RemoteProtocolError("end of file within an AJP packet", section=PACKETS)
        return []

    def data_to_send(self) -> bytes:
        """Give, once, what is owed: CPongs and requests for body."""
        out = self._out
        if not out:
            return b""
        self._out = bytearray()
        return bytes(out)

    def want_body(self, request_id: int, size: int) -> None:  # noqa: ARG002 - the codecs' contract
        """Ask for at most *size* octets of body; does nothing while a packet is on its way."""
        if self._state != BODY_HELD:
            return
        size = min(size, self._packet_size - BODY_OVERHEAD)
        if 0 <= self._left < size:
            size = self._left
        if size > 0:
            self._out += _MESSAGE.pack(0x4142, 3, GET_BODY_CHUNK, size)
            self._state = PACKET_DUE

    def send_response(
        self,
        request_id: int,  # noqa: ARG002 - the codecs' contract
        status: str,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        *,
        end: bool = True,
    ) -> bytes:
        """Encode a checked head, the body's first octets and, with *end*, the response's end.

        Raises:
            ApplicationError: the head does not fit a packet; nothing has been encoded.
            LocalProtocolError: no request waits for its head.
        """
        if self._answer != _DUE:
            raise LocalProtocolError("no AJP request waits for a response's head")
        head = self._encode_head(status, headers)
        self._answer = _BEGUN
        size = len(body)
        if not end:
            # Of a known length, nobody waits for a part.
            known = "content-length" in [name.lower() for name, _ in headers]
            self._flush = b"" if known else _FLUSH
        if not size:
            return head + self._end() if end else head
        if size <= self._packet_size - CHUNK_OVERHEAD:
            chunk = _MESSAGE.pack(0x4142, size + 4, SEND_BODY_CHUNK, size)
            return b"".join((head, chunk, body, b"\0", self._end() if end else self._flush))
        return b"".join([head, *self.send_body_parts(0, body, end=end)])

    def _encode_head(self, status: str, headers: list[tuple[str, str]]) -> bytes:
        names = _RESPONSE_NAMES
        fields = "".join(
            [
                f"{names.get(name) or encode_string(name)}{encode_string(value)}"
                for name, value in headers
            ]
        )
        reason = status[4:]
        # The message's type, status, reason's length and NUL, and the count: 8 octets.
        size = 8 + len(reason) + len(fields)
        if size > self._packet_size - 4:
            raise ApplicationError(
                f"the response's {len(headers)} headers take {size + 4} octets; an AJP packet"
                f" holds {self._packet_size}: raise packet_size here and in the web server, or"
                " send less"
            )
        if size > LEAST_CODE and has_long_name(headers):
            raise ApplicationError("a response header's name is too long for AJP")
        code = int(status[:3])
        count = len(headers)
        return (
            f"AB{chr(size >> 8)}{chr(size & 255)}\x04{chr(code >> 8)}{chr(code & 255)}"
            f"{encode_string(reason)}{chr(count >> 8)}{chr(count & 255)}{fields}"
        ).encode("latin-1")

    def send_body(self, request_id: int, data: bytes, *, end: bool = False) -> bytes:
        """Encode more body; *data* may be empty with *end* alone.

        Raises:
            LocalProtocolError: no response is under way.
        """
        return b"".join(self.send_body_parts(request_id, data, end=end))

    def send_body_parts(
        self,
        request_id: int,  # noqa: ARG002 - the codecs' contract
        data: bytes,
        *,
        end: bool = False,
    ) -> list[bytes | memoryview]:
        """Encode a large piece of body as buffers for a gathered write, copying none of it.

        Of a response without a length, each block but the last is followed by an empty chunk,
        which lets the server hand it on at once.

        Raises:
            LocalProtocolError: no response is under way.
        """
        if self._answer != _BEGUN:
            raise LocalProtocolError("no AJP response is under way")
        step = self._packet_size - CHUNK_OVERHEAD
        view = memoryview(data)
        parts: list[bytes | memoryview] = []
        nul = b""  # ends the chunk before
        for at in range(0, len(data), step):
            piece = view[at : at + step]
            size = len(piece)
            parts.append(nul + _MESSAGE.pack(0x4142, size + 4, SEND_BODY_CHUNK, size))
            parts.append(piece)
            nul = b"\0"
        closing = nul + (self._end() if end else self._flush if data else b"")
        if closing:
            parts.append(closing)
        return parts

    def _end(self) -> bytes:
        """Encode End Response, and decide whether the connection can go on.

        The peer sends no body that it was not asked for, so unread body does not hurt; a packet
        that is on its way does: it could come after the answer and be taken for a request, which
        the client would have written.
        """
        state = self._state
        if self.keep_open and (state == BODY_DONE or (state == BODY_HELD and not self._buffer)):
            self._state = IDLE
            self._answer = _NONE
            return _END_REUSE
        self._close()
        self._answer = _SILENT
        return _END_CLOSE

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come since the last answer."""
        return self._state == IDLE and not self._buffer

    def refuse(self, status: int) -> bytes:
        """Encode an error answer.

        Empty once a head was sent, for what is no AJP at all, and where nothing of a request has
        come: a server would take an answer on an idle connection for that to its next request.
        """
        silent = self.idle or self._answer in (_BEGUN, _SILENT)
        self._close()
        if silent:
            self._answer = _SILENT
            return b""
        line, headers, text = plain_refusal(status)
        self._answer = _DUE
        return self.send_response(0, line, headers, text)

    def abort(self, request_id: int) -> None:  # noqa: ARG002 - the codecs' contract
        """Give up the response: closing without End Response tells the peer that it is cut."""
        self._close()
        self._answer = _SILENT

    def _close(self) -> None:
        self._state = CLOSED
        self.keep_open = False
        self.pending = False
        self._buffer = b""


def _same(secret: str, expected: bytes) -> bool:
    from hmac import compare_digest  # noqa: PLC0415 - 5.6 ms that only a secret is worth

    return compare_digest(secret.encode("latin-1"), expected)
