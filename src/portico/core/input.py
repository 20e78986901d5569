"""``wsgi.input``: pulls the body from the connection as the application reads it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO


class Spool:
    """Body octets that arrived while the application was not reading, oldest first.

    Held in memory up to *memory_bytes*, then in a file made by *make_file*, which the spool
    owns and closes.
    """

    __slots__ = ("_file", "_make_file", "_memory", "_memory_bytes", "_read_at", "_size")

    def __init__(self, memory_bytes: int, make_file: "Callable[[], IO[bytes]]") -> None:
        self._memory_bytes = memory_bytes
        self._make_file = make_file
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._read_at = 0
        self._size = 0

    @property
    def size(self) -> int:
        """Octets that it takes up, in memory and in its file."""
        return len(self._memory) + self._size

    def append(self, data: bytes) -> None:
        """Keep *data* behind what is here already; raises `OSError` where the disk is full."""
        if self._file is None:
            if len(self._memory) + len(data) <= self._memory_bytes:
                self._memory += data
                return
            self._file = self._make_file()
        self._file.seek(0, 2)
        self._file.write(data)
        self._size += len(data)

    def take(self, size: int = 65_536) -> bytes:
        """Give and forget the oldest octets, at most *size*; empty when there are none."""
        if self._memory:
            data = bytes(self._memory[:size])
            del self._memory[:size]
            return data
        if self._file is None or self._read_at == self._size:
            return b""
        self._file.seek(self._read_at)
        data = self._file.read(size)
        self._read_at += len(data)
        if self._read_at == self._size:  # what has been read takes up no disk
            self._file.truncate(0)
            self._read_at = self._size = 0
        return data

    @property
    def unread(self) -> int:
        """Octets that are here."""
        return len(self._memory) + self._size - self._read_at

    def close(self) -> None:
        """Let go of the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._read_at = self._size = 0


class RequestBody:
    """The body of one request as PEP 3333's input stream.

    Reads end by themselves at the body's end, whatever CONTENT_LENGTH says. A body that was cut
    short raises in the read that meets the cut; it never looks like an end.

    Args:
        data: The part of the body that is here already.
        feed: Gives more, empty at the end; None when *data* is the whole body. Whatever it
            raises comes out of the read.
    """

    __slots__ = ("_at", "_buffer", "_feed")

    def __init__(self, data: bytes = b"", feed: "Callable[[], bytes] | None" = None) -> None:
        self._buffer = data
        self._at = 0
        self._feed = feed

    def read(self, size: "int | None" = -1) -> bytes:
        """Read *size* octets, fewer only at the end; all of them without a size."""
        if size is None or size < 0:
            return self._read_all()
        at = self._at
        buffer = self._buffer
        if len(buffer) - at >= size:  # within the buffer: one slice
            self._at = at + size
            return buffer[at : at + size]
        pieces = [buffer[at:]]
        missing = size - len(pieces[0])
        self._buffer, self._at = b"", 0
        while missing and self._feed is not None:
            piece = self._more()
            if len(piece) > missing:
                self._buffer, self._at = piece, missing
                piece = piece[:missing]
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def readline(self, size: "int | None" = -1) -> bytes:
        r"""Read through the next ``\n``, at most *size* octets."""
        limit = -1 if size is None or size < 0 else size
        pieces: list[bytes] = []
        got = 0
        while limit < 0 or got < limit:
            if self._at >= len(self._buffer):
                if self._feed is None:
                    break
                self._buffer, self._at = self._more(), 0
                continue
            end = self._buffer.find(b"\n", self._at) + 1 or len(self._buffer)
            if limit >= 0:
                end = min(end, self._at + limit - got)
            piece = self._buffer[self._at : end]
            self._at = end
            pieces.append(piece)
            got += len(piece)
            if piece.endswith(b"\n"):
                break
        return b"".join(pieces)

    def readlines(self, hint: "int | None" = -1) -> "list[bytes]":
        """Read lines to the end, or until *hint* octets have been read."""
        lines: list[bytes] = []
        got = 0
        for line in self:
            lines.append(line)
            got += len(line)
            if hint is not None and 0 < hint <= got:
                break
        return lines

    def __iter__(self) -> "Iterator[bytes]":
        return iter(self.readline, b"")

    def _read_all(self) -> bytes:
        pieces = [self._buffer[self._at :]]
        self._buffer, self._at = b"", 0
        while self._feed is not None:
            pieces.append(self._more())
        return b"".join(pieces)

    def guard(self, through: "Callable[[Callable[[], bytes]], Callable[[], bytes]]") -> None:
        """Let *through* stand before the feed, if more is to come."""
        if self._feed is not None:
            self._feed = through(self._feed)

    def _more(self) -> bytes:
        """Pull once; forgets the feed at the end."""
        feed = self._feed
        piece = feed() if feed is not None else b""
        if not piece:
            self._feed = None
        return piece
