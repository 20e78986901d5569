"""Load by wrk, and the check that every answer of it was whole, right and from the right server.

A hook that looks at each response would cost wrk more than the servers need for theirs. So: before
and after each turn one full answer is compared octet by octet; and what wrk has read in the turn
must be as many octets as its number of answers takes, to within the answers that the end of the
turn cut. Beside that wrk tells statuses over 399, connections that failed and time-outs.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds that a single request may take, and wrk beyond its turn.
WAIT = 20

#: What wrk prints for us, exact where its own report rounds.
MARK = "figures: "

_SCRIPT = """\
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n%s{"requests": %%d, "bytes": %%d, "microseconds": %%d, "p50": %%d, '
    .. '"p99": %%d, "connect": %%d, "read": %%d, "write": %%d, "status": %%d, "timeout": %%d}\\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""

_UPLOAD = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
local file = io.open("%s", "rb")
wrk.body = file:read("*a")
file:close()
"""


class WrongAnswer(Exception):  # noqa: N818 - says what happened
    """A server answered wrongly, or not at all: no figure."""


@dataclass(frozen=True)
class Expected:
    """What a request must bring.

    Attributes:
        served_by: What the X-Served-By header says.
        body: The content.
    """

    served_by: str
    body: bytes


@dataclass(frozen=True)
class Sample:
    """What one turn of load came to; times in microseconds, ``bytes`` with heads."""

    requests: int
    bytes: int
    microseconds: int
    p50: int
    p99: int
    connect: int = 0
    read: int = 0
    write: int = 0
    status: int = 0
    timeout: int = 0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests * 1e6 / self.microseconds


def write_scripts(directory: Path, upload: bytes) -> None:
    """Write what wrk needs into *directory*."""
    (directory / "upload.bin").write_bytes(upload)
    script = _SCRIPT % MARK
    (directory / "get.lua").write_text(script)
    (directory / "post.lua").write_text(_UPLOAD % (directory / "upload.bin") + script)


def parse(output: str) -> Sample:
    """Read what wrk has printed.

    Raises:
        WrongAnswer: there is nothing to read, or no request was answered.
    """
    for line in output.splitlines():
        if line.startswith(MARK):
            sample = Sample(**json.loads(line.removeprefix(MARK)))
            if sample.requests:
                return sample
            raise WrongAnswer("no request was answered")
    raise WrongAnswer(f"wrk: {output.strip()[-300:]}")


def check(sample: Sample, size: int, connections: int) -> None:
    """Hold what wrk has counted against what the answers should be.

    Args:
        sample: The turn's.
        size: Octets of one answer with its head.
        connections: As many answers may have been cut by the end of the turn.

    Raises:
        WrongAnswer: statuses, failures, or octets that do not fit.
    """
    wrong = {
        name: number
        for name in ("connect", "read", "write", "status", "timeout")
        if (number := getattr(sample, name))
    }
    if wrong:
        told = ", ".join(f"{number} {name} errors" for name, number in wrong.items())
        raise WrongAnswer(f"{told} in {sample.requests} requests")
    over = sample.bytes - sample.requests * size
    if not 0 <= over <= connections * size:
        raise WrongAnswer(
            f"{sample.requests} answers of {size} octets took {sample.bytes}: {over:+d}"
        )


class Load:
    """One turn of wrk; it runs from the start of the object."""

    def __init__(
        self, url: str, scripts: Path, *, connections: int, seconds: float, post: bool = False
    ) -> None:
        self.connections = connections
        self._limit = seconds + WAIT
        script = scripts / ("post.lua" if post else "get.lua")
        self._process = subprocess.Popen(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", f"--timeout={WAIT}s",
             "-s", str(script), url],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def finish(self, size: int) -> Sample:
        """Wait for the end.

        Args:
            size: Octets of one right answer, from `ask`.

        Raises:
            WrongAnswer: see `check`.
        """
        try:
            output = self._process.communicate(timeout=self._limit)[0]
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise WrongAnswer("wrk did not come to its end: a server hangs") from None
        sample = parse(output)
        check(sample, size, self.connections)
        return sample


def ask(port: int, path: str, expected: Expected, content: bytes | None = None) -> int:
    """Ask once, as wrk asks, on a connection of its own; for the rest see `ask_on`."""
    try:
        with socket.create_connection(("127.0.0.1", port), WAIT) as sock:
            return ask_on(sock, path, expected, content)
    except OSError as exc:
        raise WrongAnswer(f"no answer: {exc}") from exc


def ask_on(sock: socket.socket, path: str, expected: Expected, content: bytes | None = None) -> int:
    """Ask on a connection that stays open, and compare.

    Args:
        sock: A connection to the web server.
        path: Of the request.
        expected: What must come.
        content: What to POST; a GET without.

    Returns:
        The octets of the answer, with its head.

    Raises:
        WrongAnswer: something else came.
    """
    host = f"{sock.getpeername()[0]}:{sock.getpeername()[1]}"
    head = f"{'GET' if content is None else 'POST'} {path} HTTP/1.1\r\nHost: {host}\r\n"
    if content is not None:
        head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n"
    try:
        sock.sendall(head.encode() + b"\r\n" + (content or b""))
        with sock.makefile("rb") as file:
            line = file.readline(65_536)
            fields = []
            while (field := file.readline(65_536)) not in {b"\r\n", b""}:
                fields.append(field)
            headers = http.client.parse_headers(io.BytesIO(b"".join([*fields, b"\r\n"])))
            length = headers.get("Content-Length")
            body = file.read(int(length)) if length else b""
    except (OSError, ValueError) as exc:
        raise WrongAnswer(f"no answer: {exc}") from exc
    _compare(line, headers, body, expected)
    return len(line) + sum(map(len, fields)) + 2 + len(body)


def _compare(
    line: bytes, headers: http.client.HTTPMessage, body: bytes, expected: Expected
) -> None:
    if not line.startswith(b"HTTP/1.1 200 "):
        raise WrongAnswer(f"it answered {line.decode('latin-1').strip()!r}")
    served_by = headers.get_all("X-Served-By")
    if served_by != [expected.served_by]:
        raise WrongAnswer(f"not the server meant: X-Served-By is {served_by}")
    if "Content-Length" not in headers:
        raise WrongAnswer("the answer has no Content-Length, though the application gave it")
    if body != expected.body:
        raise WrongAnswer(f"{len(body)} octets came that are not the {len(expected.body)} expected")


def digest_of(content: bytes) -> bytes:
    """Give what ``/digest`` answers for *content*."""
    return hashlib.sha256(content).hexdigest().encode()
