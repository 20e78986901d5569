"""The body of a request on its way to a backend: bytes, a file or blocks, held to its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from portico.errors import LocalProtocolError, RequestAborted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    class Readable(Protocol):
        """A file, or ``wsgi.input``."""

        def read(self, size: int, /) -> bytes:
            """Read at most *size* octets; empty at the end."""
            ...


#: Octets of one piece.
PIECE_BYTES = 65_536

#: More digits than any body has octets.
_MAX_DIGITS = 18


def content_length(environ: dict[str, str]) -> int | None:
    """Give CONTENT_LENGTH, None where it is absent or empty.

    Raises:
        LocalProtocolError: it is not a length.
    """
    value = environ.get("CONTENT_LENGTH")
    if not value:
        return None
    length = parse_length(value)
    if length is None:
        raise LocalProtocolError(f"CONTENT_LENGTH is not a length: {value[:40]!a}")
    return length


def parse_length(value: str) -> int | None:
    """Give the number of a Content-Length, None for anything but 1 to 18 digits."""
    # int alone would take "+5", "1_0" and other scripts' digits
    fits = value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
    return int(value) if fits else None


def data_upload(data: bytes | Readable | Upload | None, environ: dict[str, str]) -> Upload | None:
    """Give the upload of a FastCGI Filter's data, held to FCGI_DATA_LENGTH (§6.4).

    Raises:
        LocalProtocolError: its length is not known, or is not that of the bytes.
    """
    if data is None or isinstance(data, Upload):
        upload = data
    else:
        upload = Upload(data, parse_length(environ.get("FCGI_DATA_LENGTH", "")))
    if upload is not None and upload.length is None:
        raise LocalProtocolError("a Filter's data needs FCGI_DATA_LENGTH, its octets")
    return upload


class Upload:
    """A request's body, read piece by piece as the backend takes it.

    Args:
        source: All of it as bytes, a file to read from where it stands (through ``read1`` where
            it has that, so that what is there goes on at once), or an iterable of bytes. Not
            closed. Where reading may wait for a peer, a method ``wait_fd`` lets the response
            come meanwhile: it gives the descriptor that would be waited on, or None while a
            read would not wait.
        length: Octets to send; None where only the source's end tells.

    Attributes:
        length: Octets of the whole body; None while unknown.
        ended: Whether the last octet has been read.
    """

    __slots__ = (
        "_again",
        "_first",
        "_pull",
        "_pulls",
        "_read",
        "_source_fd",
        "_whole",
        "ended",
        "length",
    )

    def __init__(self, source: bytes | Readable | Iterable[bytes], length: int | None) -> None:
        self._whole = source if isinstance(source, bytes) else None
        self._source_fd: Callable[[], int | None] | None = getattr(source, "wait_fd", None)
        if isinstance(source, bytes):
            length = len(source) if length is None else length
            if length != len(source):
                raise LocalProtocolError(
                    f"CONTENT_LENGTH says {length} octets, the body has {len(source)}"
                )
            self._pull: Callable[[int], bytes] = _Blocks([source]).read
        elif hasattr(source, "read"):
            self._pull = getattr(source, "read1", source.read)
        else:
            self._pull = _Blocks(source).read
        self.length = length
        self.ended = length == 0
        self._first = b""
        self._again = b""
        self._pulls = 0
        self._read = 0

    def read(self, size: int = PIECE_BYTES) -> bytes:
        """Give the next piece, at most *size* octets; empty only at the end.

        Raises:
            RequestAborted: the source ended before *length* octets.
            Exception: whatever the source raises.
        """
        if self._again:
            piece, self._again = self._again[:size], self._again[size:]
        elif self.ended:
            return b""
        else:
            piece = self._draw(size)
        self._read += len(piece)
        if not piece or (not self._again and self._read == self.length):
            self.ended = True
            self.length = self._read
        return piece

    def wait_fd(self) -> int | None:
        """Give the descriptor that `read` would wait on; None: it would not, or none is known."""
        if self._again or self.ended or self._source_fd is None:
            return None
        return self._source_fd()

    def _draw(self, size: int) -> bytes:
        if self.length is not None:
            size = min(size, self.length - self._read)
        piece = self._pull(size)
        if not piece and self.length is not None:
            raise RequestAborted(
                f"the request's body ended {self.length - self._read} octets before its length"
            )
        self._first = piece if not self._pulls else b""
        self._pulls += 1
        return piece

    def rewind(self) -> bool:
        """Go back to the body's start, if it is bytes or only its first piece has been read.

        Returns:
            Whether the body will be read whole once more.
        """
        if self._whole is not None:
            self._pull = _Blocks([self._whole]).read
            self._first, self._pulls = b"", 0
        elif self._pulls > 1:
            return False
        self._again = self._first
        self._read = 0
        self.ended = self.length == 0
        return True

    def probe(self) -> None:
        """Find out whether a body of unknown length is empty, keeping what this reads."""
        if self.length is None:
            self.read()
            self.rewind()


class _Blocks:
    """Reads an iterable of bytes in pieces."""

    __slots__ = ("_at", "_block", "_blocks")

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks: Iterator[bytes] = iter(blocks)
        self._block = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        while self._at >= len(self._block):
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._block, self._at = block, 0
        piece = self._block[self._at : self._at + size]
        self._at += len(piece)
        return piece
