"""The web server's side of AJP/1.3."""

from __future__ import annotations

from portico.codecs._ajp_forward import encode_forward_request
from portico.codecs._ajp_tables import RESPONSE_HEADERS
from portico.codecs._ajp_wire import (
    BODY_OVERHEAD,
    CPONG,
    END_RESPONSE,
    GET_BODY_CHUNK,
    RESPONSE,
    SEND_BODY_CHUNK,
    SEND_HEADERS,
    check_length,
    check_packet_size,
    content_length,
    decode_string,
    has_break,
)
from portico.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.events import (
    BodyWanted,
    PongReceived,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
)
from portico.head import is_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.events import Event
    from portico.limits import Limits

_PING = b"\x12\x34\0\x01\x0a"
_END_MARK = b"\x12\x34\0\0"

#: States of the client's side: no request under way, head due, body due, over.
_READY, _HEAD_DUE, _ANSWERED, _OVER = range(4)


class ClientCodec:
    """The web server's side of an AJP connection.

    Body is sent when the backend asks for it. What `send_request` and `send_body` are given
    beyond that is held; for each `BodyWanted` call `send_body` (with more, or with nothing) and
    send what it gives.
    """

    __slots__ = (
        "_buffer",
        "_ended",
        "_held",
        "_left",
        "_limits",
        "_packet_size",
        "_pinged",
        "_secret",
        "_state",
        "_wanted",
        "keep_open",
    )

    protocol = "ajp"
    body_on_demand = True

    def __init__(
        self,
        limits: Limits,
        *,
        keep_open: bool = True,
        secret: str = "",
        packet_size: int = 8192,
    ) -> None:
        """Make the codec of one connection.

        Args:
            limits: Ceilings; shared, not changed.
            keep_open: Whether more requests are to follow the first.
            secret: What the backend demands of each request; empty for none.
            packet_size: Most octets of a packet, the same on both sides: 8192 to 65536.

        Raises:
            ConfigError: an impossible *packet_size*.
        """
        check_packet_size(packet_size)
        self.keep_open = keep_open
        self._limits = limits
        self._secret = secret
        self._packet_size = packet_size
        self._state = _READY
        self._pinged = False
        self._buffer = b""
        self._held = bytearray()  # body given, not asked for yet
        self._left = 0  # octets of CONTENT_LENGTH not given yet; -1: chunked
        self._ended = True  # the body has been given whole
        self._wanted = 0  # octets asked for and not sent yet; the first packet is asked for unsaid

    def ping(self) -> bytes:
        """Encode a CPing; a `PongReceived` answers it.

        Raises:
            LocalProtocolError: a request is under way, or the connection is over.
        """
        if self._state != _READY:
            raise LocalProtocolError("a CPing goes between requests alone")
        self._pinged = True
        return _PING

    def send_request(
        self, environ: Mapping[str, str], body: bytes = b"", *, end: bool = True
    ) -> bytes:
        """Encode a Forward Request and, where a length is known, the first body packet.

        Without CONTENT_LENGTH a body is announced as chunked if more is to come, and else with
        its length.

        Args:
            environ: CGI parameters, latin-1 strings.
            body: First octets of the body; all of them with *end*.
            end: Whether the body is complete.

        Raises:
            LocalProtocolError: a request is under way, the environ cannot be encoded, or
                CONTENT_LENGTH does not agree with the body.
            LimitExceeded: the request does not fit a packet.
        """
        if self._state != _READY or self._pinged or self._buffer:
            raise LocalProtocolError("the AJP connection is not ready for a request")
        announced = environ.get("CONTENT_LENGTH")
        length = content_length(announced) if announced else len(body)
        if length is None:
            raise LocalProtocolError(f"CONTENT_LENGTH is not a length: {announced!a}")
        chunked = not announced and not end
        framed = dict(environ)
        framed.pop("HTTP_TRANSFER_ENCODING", None)
        if chunked:
            framed["HTTP_TRANSFER_ENCODING"] = "chunked"
        elif body:
            framed["CONTENT_LENGTH"] = str(length)
        head = encode_forward_request(framed, secret=self._secret, packet_size=self._packet_size)
        self._left = -1 if chunked else length
        self._ended = False
        self._wanted = 0 if chunked or not length else self._packet_size - BODY_OVERHEAD
        first = self._give(body, end=end)
        self._state = _HEAD_DUE
        return head + first if first else head

    def send_body(self, data: bytes, *, end: bool = False) -> bytes:
        """Take more body and encode the packet that the backend waits for, if any.

        Returns:
            One body packet or the end mark; empty while the backend has not asked, and once
            it has answered: then nobody wants the rest.

        Raises:
            LocalProtocolError: the body does not agree with CONTENT_LENGTH, or has ended.
        """
        return self._give(data, end=end) if self._state in (_HEAD_DUE, _ANSWERED) else b""

    def _give(self, data: bytes, *, end: bool) -> bytes:
        if data:
            if self._ended:
                raise LocalProtocolError("body after the body's end")
            self._held += data
            if self._left >= 0:
                self._left -= len(data)
                if self._left < 0:
                    raise LocalProtocolError("the body is longer than CONTENT_LENGTH says")
        if end:
            if self._left > 0:
                raise LocalProtocolError("the body is shorter than CONTENT_LENGTH says")
            self._ended = True
        wanted = self._wanted
        if not wanted:
            return b""
        held = self._held
        if held:
            piece = bytes(held[:wanted])
            del held[:wanted]
        elif self._ended:
            self._wanted = 0
            return _END_MARK
        else:
            return b""
        self._wanted = 0
        size = len(piece)
        return b"".join((b"\x12\x34", (size + 2).to_bytes(2), size.to_bytes(2), piece))

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the backend.

        Raises:
            RemoteProtocolError: a packet is malformed or out of place.
            LimitExceeded: a packet or the response's head passes a ceiling.
        """
        if self._state == _OVER:
            return []
        if self._buffer:
            data = self._buffer + data
        events: list[Event] = []
        at = 0
        length = len(data)
        try:
            while length - at >= 4 and data[at] == 0x41 and data[at + 1] == 0x42:
                size = data[at + 2] << 8 | data[at + 3]
                check_length(size, self._packet_size, 502)
                stop = at + 4 + size
                if stop > length:
                    break
                self._take(data[at + 4 : stop], events)
                at = stop
            if not b"AB".startswith(data[at : at + 2]):
                raise _wrong(f"an AJP packet begins with 41 42, not {data[at : at + 2].hex(' ')}")
        except IndexError:
            self.abort()
            raise _wrong("a message ends within a field") from None
        except RemoteProtocolError:
            self.abort()
            raise
        self._buffer = data[at:]
        if self._buffer and events and type(last := events[-1]) is ResponseEnded:
            # Nobody asked for what follows: the next answer would begin with it.
            last.reusable = self.keep_open = False
        return events

    def _take(self, payload: bytes, events: list[Event]) -> None:
        kind = payload[0]
        state = self._state
        if kind == SEND_BODY_CHUNK and state == _ANSWERED:
            size = payload[1] << 8 | payload[2]
            if len(payload) - 3 - size not in (0, 1):  # with the NUL that some leave out
                raise _wrong("a chunk's length does not agree with the packet's")
            if size:
                events.append(ResponseBodyReceived(payload[3 : 3 + size]))
        elif kind == SEND_HEADERS and state == _HEAD_DUE:
            response = self._decode_head(payload)
            if response.status >= "2":  # an interim response says nothing about this one
                self._state = _ANSWERED
                events.append(response)
        elif kind == GET_BODY_CHUNK and state in (_HEAD_DUE, _ANSWERED):
            self._take_wish(payload[1] << 8 | payload[2], events)
        elif kind == END_RESPONSE and state == _ANSWERED:
            if self._wanted or not payload[1]:
                self.keep_open = False
            self._state = _READY if self.keep_open else _OVER
            self._held = bytearray()
            self._ended = True
            events.append(ResponseEnded(self.keep_open))
        elif kind == CPONG and self._pinged:
            self._pinged = False
            events.append(PongReceived())
        else:
            raise _wrong(f"message type {kind} out of place")

    def _take_wish(self, size: int, events: list[Event]) -> None:
        if not size or self._wanted:
            raise _wrong("a request for body of no octet, or before the last was answered")
        self._wanted = min(size, self._packet_size - BODY_OVERHEAD)
        events.append(BodyWanted(self._wanted))

    def _decode_head(self, payload: bytes) -> ResponseReceived:
        limits = self._limits
        if len(payload) > limits.max_response_head_bytes:
            raise LimitExceeded(
                f"response head of {len(payload)} octets, {limits.max_response_head_bytes} allowed",
                option="max_response_head_bytes",
                section=RESPONSE,
                status_hint=502,
            )
        text = payload.decode("latin-1")
        code = payload[1] << 8 | payload[2]
        reason, at = decode_string(payload, text, 3)
        if not 100 <= code <= 999 or not (reason or "").isprintable():
            raise _wrong(f"malformed status {code}")
        count = payload[at] << 8 | payload[at + 1]
        at += 2
        headers: list[tuple[str, str]] = []
        for _ in range(count):
            name: str | None
            if payload[at] == 0xA0:
                low = payload[at + 1]
                at += 2
                name = RESPONSE_HEADERS[low] if low < len(RESPONSE_HEADERS) else ""
            else:
                name, at = decode_string(payload, text, at)
            value, at = decode_string(payload, text, at)
            if not name or not is_token(name):
                raise _wrong("a response header's name is null, no token, or an unknown code")
            if value is None or has_break(value):
                raise _wrong(f"response header {name} is null or holds a line break or NUL")
            headers.append((name, value))
        if at != len(payload):
            raise _wrong("octets follow the end of the response's head")
        return ResponseReceived(f"{code} {reason or ''}", headers)

    def receive_eof(self) -> list[Event]:
        """Take the backend's end of file.

        Raises:
            RemoteProtocolError: a response or a CPong was due.
        """
        cut = self._state in (_HEAD_DUE, _ANSWERED) or self._pinged or bool(self._buffer)
        self.abort()
        if cut:
            raise _wrong("the backend closed before the end of its answer")
        return []

    def abort(self) -> bytes:
        """Give nothing: closing the connection gives the request up."""
        self._state = _OVER
        self.keep_open = False
        self._buffer = b""
        self._held = bytearray()
        return b""


def _wrong(message: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, section=RESPONSE, status_hint=502)
