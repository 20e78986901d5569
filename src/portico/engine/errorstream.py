"""``wsgi.errors``: the process's standard error, or FastCGI's error stream."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from portico.errors import RequestAborted

if TYPE_CHECKING:
    from portico.engine.connection import Connection


class ErrorStream:
    """Text that goes to the process's standard error, whole at each call."""

    __slots__ = ()

    def write(self, text: str) -> int:
        """Write *text*; characters that the stream cannot hold are escaped."""
        stream = sys.stderr
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each of *lines*."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Hand on what is buffered."""
        sys.stderr.flush()


class FrontendErrors:
    """Text of one request that the web server logs: FCGI_STDERR (FastCGI 1.0 §5.3).

    What comes when the response has ended, or the frontend is gone, goes to *otherwise*.
    """

    __slots__ = ("_connection", "_otherwise")

    def __init__(self, connection: Connection, otherwise: Any) -> None:
        self._connection = connection
        self._otherwise = otherwise

    def write(self, text: str) -> int:
        """Send *text* in UTF-8; lone surrogates are escaped."""
        if text:
            with suppress(RequestAborted):
                if self._connection.send_errors(text.encode("utf-8", "backslashreplace")):
                    return len(text)
            self._otherwise.write(text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Send all of *lines*."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Do nothing: each call has sent its text already."""
