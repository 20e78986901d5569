"""The built-in front's requests: their heads, parsed strictly, and their bodies, unframed.

Spec: RFC 9112 (HTTP/1.1), RFC 3875 §4.1 (meta-variables).
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from portico.client.upload import PIECE_BYTES, parse_length
from portico.core.input import Spool
from portico.errors import RemoteProtocolError, RequestAborted
from portico.head import is_token
from portico.params import merge

if TYPE_CHECKING:
    from collections.abc import Callable

    class Source(Protocol):
        """The connection a body comes from.

        Attributes:
            buffer: What has been received and not taken yet.
            fd: Its descriptor, to wait on.
        """

        buffer: bytearray
        fd: int

        def receive(self, seconds: float) -> bool:
            """Add what comes next to the buffer; False at the end."""
            ...

        def write(self, data: bytes) -> None:
            """Send to the client."""
            ...


#: Octets of a request line, a whole head; header fields; octets of a chunk's first line.
MAX_LINE_BYTES = 8_192
MAX_HEAD_BYTES = 65_536
MAX_FIELDS = 100
_MAX_CHUNK_LINE_BYTES = 4_096

#: Seconds of one wait for body that is read, and for body that nobody reads.
_BODY_SECONDS = 60.0
_DRAIN_SECONDS = 2.0

#: An upload that was left unread is read up to here to keep the connection.
DRAIN_BYTES = 262_144

#: An upload that arrives while its client takes no response: in memory, then in a file, up to.
_SPOOL_MEMORY_BYTES = 262_144
_SPOOL_BYTES = 1 << 28

_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class Refused(Exception):  # noqa: N818 - the event, not the class, is the news
    """A request that is answered by the front itself; the connection closes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.status = f"{code} {reason}"


def request_line(line: str) -> tuple[str, str, str]:
    """Split a request line (RFC 9112 §3)."""
    parts = line.split(" ")
    if len(line) > MAX_LINE_BYTES:
        raise Refused(414, "URI Too Long")
    if len(parts) != 3 or not is_token(parts[0]) or not parts[1] or not _is_clean(line):
        raise Refused(400, "Bad Request")
    method, target, version = parts
    if not (len(version) == 8 and version.startswith("HTTP/") and version[6] == "."):
        raise Refused(400, "Bad Request")
    if version[5] != "1":
        raise Refused(505, "HTTP Version Not Supported")
    if not target.startswith(("/", "http://", "https://")):
        raise Refused(400, "Bad Request")
    return method, target, version


def parse_fields(lines: list[str]) -> dict[str, str]:
    """Turn header lines into parameters, repeats joined (RFC 9112 §5, RFC 3875 §4.1.18).

    A name with an underscore could pose as one with a hyphen, ``Proxy`` as a proxy setting
    (httpoxy): both are dropped.
    """
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not is_token(name) or not _is_clean(value.replace("\t", "")):
            raise Refused(400, "Bad Request")
        if "_" not in name and name.lower() != "proxy":
            pairs.append((f"HTTP_{name.upper().replace('-', '_')}", value))
    if sum(name == "HTTP_TRANSFER_ENCODING" for name, _ in pairs) > 1:
        raise Refused(400, "Bad Request")
    try:
        fields = merge(pairs)
    except RemoteProtocolError:
        raise Refused(400, "Bad Request") from None
    content_type = fields.pop("HTTP_CONTENT_TYPE", "")
    if content_type:
        fields["CONTENT_TYPE"] = content_type
    return fields


def body_length(fields: dict[str, str], *, modern: bool) -> int | None:
    """Octets of the body; None: chunked. Takes the fields that say so (RFC 9112 §6.3)."""
    length = fields.pop("HTTP_CONTENT_LENGTH", None)
    coding = fields.pop("HTTP_TRANSFER_ENCODING", None)
    if coding is not None:
        if length is not None or not modern:
            raise Refused(400, "Bad Request")  # two opinions of where the body ends
        if coding.lower() != "chunked":
            raise Refused(501, "Not Implemented")
        return None
    if length is None:
        return 0
    number = parse_length(length)
    if number is None:
        raise Refused(400, "Bad Request")
    return number


def _is_clean(text: str) -> bool:
    """Whether *text* holds no control character."""
    return text.isprintable() or not any(c < " " or c == "\x7f" for c in text)


def tokens(value: str) -> set[str]:
    return {token.strip().lower() for token in value.split(",")}


def authority(target: str) -> str:
    """The host and port of an absolute-form target, which win over Host (RFC 9112 §3.2.2)."""
    if target.startswith("/"):
        return ""
    return target.partition("://")[2].partition("/")[0].partition("?")[0]


def bracketed(address: str) -> str:
    """An address as it stands in place of a host (RFC 3875 §4.1.14)."""
    return f"[{address}]" if ":" in address else address


def name_of(host: str) -> str:
    """The host without its port; an IPv6 address keeps its brackets (RFC 3875 §4.1.14)."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


class BrokenUpload(RequestAborted):
    """The client broke the framing of its own body: 400 where nothing was answered yet."""


class Upload:
    """``wsgi.input``: decodes the body as it comes; the one application here reads in pieces."""

    def __init__(self, connection: Source, length: int | None, *, expects: bool) -> None:
        self._connection = connection
        self._left = 0 if length is None else length  # of the body, or of a chunk
        self._chunked = length is None
        self._in_chunk = False
        self._expects = expects
        self.ended = length == 0
        self._spool: Spool | None = None
        self._spooled = 0
        self._ready = b""  # decoded to find out whether there is any

    def read(self, size: int = -1) -> bytes:
        """Give what is here, at most *size* octets, waiting for one; empty at the end.

        Raises:
            RequestAborted: the client went away.
            BrokenUpload: it broke its own framing.
        """
        limit = size if size >= 0 else DRAIN_BYTES
        piece = self._take(limit)
        while not piece and not self.ended and limit:
            piece = self._decode(limit)
            if not piece and not self.ended:
                if self._expects:
                    self._expects = False
                    self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._receive(_BODY_SECONDS)
        return piece

    def wait_fd(self) -> int | None:
        """Give the descriptor that `read` would wait on, None while it would not."""
        if not self._ready:
            self._ready = self._take(PIECE_BYTES) or self._decode(PIECE_BYTES)
        return None if self._ready or self.ended or self._expects else self._connection.fd

    def _take(self, size: int) -> bytes:
        """Give body that was decoded before, at most *size* octets."""
        if self._ready:
            piece, self._ready = self._ready[:size], self._ready[size:]
            return piece
        return self._spool.take(size) if self._spool is not None else b""

    def may_spool(self) -> bool:
        """Whether more of the body is to come and may be put by."""
        return not self.ended and not self._expects and self._spooled < _SPOOL_BYTES

    def spool(self) -> None:
        """Put by what the client has sent, without waiting."""
        if self._spool is None:
            make = cast("Callable[[], BinaryIO]", tempfile.TemporaryFile)
            self._spool = Spool(_SPOOL_MEMORY_BYTES, make)
        self._receive(0)
        while piece := self._decode(DRAIN_BYTES):
            self._spool.append(piece)
            self._spooled += len(piece)

    def drain(self) -> bool:
        """Read what was left of a short body; whether the connection is in step again."""
        left = DRAIN_BYTES
        while not self.ended and left > 0:
            if self._expects:
                return False
            left -= len(self._decode(left))
            if not self.ended and left > 0:
                self._receive(_DRAIN_SECONDS)
        return self.ended

    def close(self) -> None:
        """Let go of what was put by."""
        if self._spool is not None:
            self._spool.close()

    def _receive(self, seconds: float) -> None:
        try:
            more = self._connection.receive(seconds)
        except OSError as exc:
            raise RequestAborted(f"the upload stalled: {exc}") from exc
        if not more:
            raise RequestAborted("the client closed within its upload")

    def _decode(self, size: int) -> bytes:
        """Take body out of the connection's buffer, at most *size* octets."""
        buffer = self._connection.buffer
        if not self._chunked:
            piece = bytes(buffer[: min(size, self._left)])
            del buffer[: len(piece)]
            self._left -= len(piece)
            self.ended = self._left == 0
            return piece
        pieces = []
        while size and not self.ended and self._next_chunk(buffer):
            piece = bytes(buffer[: min(size, self._left)])
            if not piece:
                break
            del buffer[: len(piece)]
            self._left -= len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _next_chunk(self, buffer: bytearray) -> bool:
        """Stand within a chunk, reading the framing before it (RFC 9112 §7.1); False: not here."""
        while self._left == 0:
            if self._in_chunk:
                if len(buffer) < 2:
                    return False
                if buffer[:2] != b"\r\n":
                    raise BrokenUpload("a chunk of the upload does not end where it said")
                del buffer[:2]
                self._in_chunk = False
            end = buffer.find(b"\r\n", 0, _MAX_CHUNK_LINE_BYTES)
            if end < 0:
                if len(buffer) >= _MAX_CHUNK_LINE_BYTES:
                    raise BrokenUpload("a chunk's head of the upload is too long")
                return False
            digits = bytes(buffer[:end]).partition(b";")[0].rstrip(b" \t")
            if not digits or len(digits) > 15 or not _HEX_DIGITS.issuperset(digits):
                raise BrokenUpload(f"not the size of a chunk: {digits[:20]!a}")
            self._left = int(digits, 16)
            if self._left == 0:
                return self._end_chunks(buffer, end)
            del buffer[: end + 2]
            self._in_chunk = True
        return True

    def _end_chunks(self, buffer: bytearray, end: int) -> bool:
        """Skip the trailers once they are all here; their fields are dropped."""
        trailers = buffer.find(b"\r\n\r\n", end, end + MAX_HEAD_BYTES)
        if trailers >= 0:
            del buffer[: trailers + 4]
            self.ended = True
        elif len(buffer) > end + MAX_HEAD_BYTES:
            raise BrokenUpload("the trailers of the upload are too long")
        return False
