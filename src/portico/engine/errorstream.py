"""``wsgi.errors``: the process's standard error, or FastCGI's error stream."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from portico.errors import RequestAborted

if TYPE_CHECKING:
    from collections.abc import Callable


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

    Args:
        send: Sends octets; tells whether there was a response to send them with.
        otherwise: Takes what comes when the response has ended, or the frontend is gone.
    """

    __slots__ = ("_otherwise", "_send")

    def __init__(self, send: Callable[[bytes], bool], otherwise: Any) -> None:
        self._send = send
        self._otherwise = otherwise

    def guard(self, through: Callable[[Callable[[bytes], bool]], Callable[[bytes], bool]]) -> None:
        """Let *through* stand before the sending."""
        self._send = through(self._send)

    def write(self, text: str) -> int:
        """Send *text* in UTF-8; lone surrogates are escaped."""
        if text:
            with suppress(RequestAborted):
                if self._send(text.encode("utf-8", "backslashreplace")):
                    return len(text)
            self._otherwise.write(text)
        return len(text)

    def send(self, data: bytes) -> bool:
        """Send *data*; whether there was a response to send it with.

        Raises:
            RequestAborted: the frontend is gone.
        """
        return self._send(data)

    def writelines(self, lines: list[str]) -> None:
        """Send all of *lines*."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Do nothing: each call has sent its text already."""
