"""What an overridden `error` of flup is given: a request that failed, to be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.head import find_end, parse

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Output:
    """Takes an answer as CGI has it: head, blank line, body."""

    __slots__ = ("octets",)

    def __init__(self) -> None:
        self.octets = bytearray()

    def write(self, data: bytes | str) -> None:
        """Take more of the answer."""
        self.octets += data.encode("latin-1") if isinstance(data, str) else data

    def flush(self) -> None:
        """Do nothing: the answer leaves when `error` has returned."""


class FailedRequest:
    """A request whose application raised, as flup's servers hand it to `error`.

    Attributes:
        server: The `WSGIServer`.
        environ: The request's environ.
        params: The same, as FastCGI's servers call it.
        stdin: The request's body.
        stderr: ``wsgi.errors``.
        stdout: Takes head and body (FastCGI and SCGI).
    """

    def __init__(self, server: object, environ: dict[str, Any]) -> None:
        self.server = server
        self.environ = self.params = environ
        self.stdin = environ["wsgi.input"]
        self.stderr = environ["wsgi.errors"]
        self.stdout = _Output()

    def startResponse(self, statusCode: int, statusMsg: Any, headers: Iterable[Any]) -> None:
        """Begin the answer (AJP)."""
        lines = [("Status", f"{statusCode} {_text(statusMsg)}"), *headers]
        head = "".join(f"{_text(name)}: {_text(value)}\r\n" for name, value in lines)
        self.stdout.write(f"{head}\r\n")

    def write(self, data: bytes) -> None:
        """Go on with the answer (AJP)."""
        self.stdout.write(data)

    def answer(self) -> tuple[str, list[tuple[str, str]], bytes]:
        """Give status, headers and body.

        Raises:
            RemoteProtocolError: what was written is no response.
        """
        octets = bytes(self.stdout.octets)
        end, body = find_end(octets) or (len(octets), len(octets))
        status, headers = parse(octets[:end])
        return status, headers, octets[body:]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
