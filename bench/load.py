"""Load by wrk, and the check that every answer of it was whole, right and from the right server.

In the round that only warms up, wrk compares every answer under load: status, server and content.
That costs it more than the servers need for theirs, so in the rounds that count: before and after
each turn one full answer is compared octet by octet; and what wrk has read in the turn must be as
many octets as its number of answers takes, to within the answers that the end of the turn cut.
Beside that wrk tells statuses over 399, connections that failed and time-outs.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Seconds that a single request may take, and wrk beyond its turn.
WAIT = 20

#: What wrk prints for us, exact where its own report rounds.
MARK = "figures: "

_SCRIPT = Path(__file__).with_name("wrk.lua")


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
    wrong: int = 0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests * 1e6 / self.microseconds


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
        for name in ("connect", "read", "write", "status", "timeout", "wrong")
        if (number := getattr(sample, name))
    }
    if wrong:
        told = ", ".join(
            f"{number} {name}{' answers' if name == 'wrong' else ' errors'}"
            for name, number in wrong.items()
        )
        raise WrongAnswer(f"{told} in {sample.requests} requests")
    over = sample.bytes - sample.requests * size
    if not 0 <= over <= connections * size:
        raise WrongAnswer(
            f"{sample.requests} answers of {size} octets took {sample.bytes}: {over:+d}"
        )


class Load:
    """One turn of wrk; it runs from the start of the object."""

    def __init__(
        self,
        url: str,
        expected: Expected,
        directory: Path,
        *,
        connections: int,
        seconds: int,
        each: bool = False,
        content: bytes | None = None,
    ) -> None:
        """Start it.

        Args:
            url: What is asked for.
            expected: What must come.
            directory: For files that wrk reads.
            connections: Kept ones, all busy.
            seconds: How long; whole ones.
            each: Whether every answer is compared.
            content: What is sent with a POST; a GET without.
        """
        self._connections = connections
        self._limit = seconds + WAIT
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={WAIT}s"]
        argv += ["-s", str(_SCRIPT), url, "--", expected.served_by]
        argv += [_file(directory, expected.body), "each" if each else "none"]
        argv += [] if content is None else [_file(directory, content)]
        self._process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

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
        check(sample, size, self._connections)
        return sample


def _file(directory: Path, content: bytes) -> str:
    """Give the path of a file with *content*."""
    path = directory / f"content-{hashlib.sha256(content).hexdigest()[:16]}"
    if not path.exists():
        path.write_bytes(content)
    return str(path)


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
