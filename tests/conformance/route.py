"""A route to the applications: HTTP spoken octet by octet to whatever stands in front."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Seconds after which a front is taken for hanging.
DEADLINE = 30

#: Octets up to which a request is sent before its response is read.
_SEND_FIRST = 65_536


@dataclass(frozen=True)
class Request:
    """What the client sends.

    Attributes:
        target: Below the route's mount point, encoded, with its query.
        method: As in the request line.
        headers: Beyond Host and those that frame the body; in latin-1.
        body: None for none at all.
        chunk: Size of the chunks to send the body in; 0 for a Content-Length.
        version: HTTP version; 1.0 sends no Host.
        expect: Whether the body waits for 100 Continue.
    """

    target: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    chunk: int = 0
    version: str = "1.1"
    expect: bool = False

    def head(self, route: Route) -> bytes:
        target = f"{route.mount}{self.target}" or "/"
        lines = [f"{self.method} {target} HTTP/{self.version}"]
        if self.version == "1.1":
            lines.append(f"Host: {route.host}:{route.port}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunk:
            lines.append("Transfer-Encoding: chunked")
        elif self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.expect:
            lines.append("Expect: 100-continue")
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")

    def framed(self) -> bytes:
        body = self.body or b""
        if not self.chunk:
            return body
        cut = [body[at : at + self.chunk] for at in range(0, len(body), self.chunk)]
        return b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in cut) + b"0\r\n\r\n"


@dataclass
class Reply:
    """What the client got.

    Attributes:
        status: Code and reason.
        headers: In order, in latin-1.
        body: As far as it came.
        complete: Whether it ended as its framing says; False where it was cut.
        interim: Codes of interim responses before it.
    """

    status: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = True
    interim: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        return int(self.status[:3])

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


class Connection:
    """One connection of a client."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._sock = socket.create_connection((route.host, route.port), DEADLINE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def ask(self, request: Request) -> Reply:
        """Send *request* and read its whole reply, both at the same time."""
        head, body = request.head(self._route), request.framed()
        if request.expect:
            self._sock.sendall(head)
            first = self.read_head(request)
            if first.code != 100:
                return self.read_body(request, first)
            self._sock.sendall(body)
            reply = self.read_body(request, self.read_head(request))
            reply.interim.append(first.status)
            return reply
        if len(body) <= _SEND_FIRST:
            self._sock.sendall(head + body)
            return self.read_body(request, self.read_head(request))
        sender = threading.Thread(target=self._send, args=(head, body))
        sender.start()
        try:
            return self.read_body(request, self.read_head(request))
        finally:
            sender.join(DEADLINE)
            assert not sender.is_alive(), "the front took no more of the request"

    @contextmanager
    def sending(self, request: Request) -> Iterator[threading.Thread]:
        """Send *request* meanwhile, in the thread given; at the end the connection is shut down."""
        parts = request.head(self._route), request.framed()
        sender = threading.Thread(target=self._send, args=parts)
        sender.start()
        try:
            yield sender
        finally:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            sender.join(DEADLINE)
            assert not sender.is_alive()

    def send_head(self, request: Request) -> None:
        self._sock.sendall(request.head(self._route))

    def _send(self, *parts: bytes) -> None:
        with suppress(OSError):  # answered and closed early: the reply tells
            for part in parts:
                self._sock.sendall(part)

    def read_head(self, request: Request) -> Reply:
        """Read up to the blank line; interim responses are skipped unless asked for."""
        interim = []
        while True:
            while b"\r\n\r\n" not in self._buffer:
                data = self._receive()
                assert data, f"no head in {self._buffer[:2000]!r}"
                self._buffer += data
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            version, _, status = first.partition(" ")
            assert version in {"HTTP/1.1", "HTTP/1.0"}, first
            pairs = [line.partition(":") for line in rest]
            reply = Reply(status, [(name, value.strip()) for name, _, value in pairs])
            reply.interim = interim
            if status[:1] != "1" or (request.expect and not interim):
                return reply
            interim.append(status)

    def read_body(self, request: Request, reply: Reply) -> Reply:
        """Read the body that the head announces."""
        if request.method == "HEAD" or reply.code in {204, 304} or reply.code < 200:
            return reply
        length = reply.header("Content-Length")
        if (reply.header("Transfer-Encoding") or "").lower() == "chunked":
            reply.body, reply.complete = self._read_chunks()
        elif length is not None:
            reply.body = self._take(int(length))
            reply.complete = len(reply.body) == int(length)
        else:
            pieces = [self._buffer]
            self._buffer = b""
            try:
                while data := self._sock.recv(1 << 20):
                    pieces.append(data)
            except ConnectionError:
                reply.complete = False
            reply.body = b"".join(pieces)
        return reply

    def read_some(self) -> bytes:
        """Read what is there of a body, framing and all; empty at the end."""
        data, self._buffer = self._buffer or self._receive(), b""
        return data

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long, not even the end."""
        return not self._buffer and not select.select([self._sock], [], [], seconds)[0]

    def wait_until_it_takes_no_more(self, sender: threading.Thread, seconds: float) -> None:
        """Wait until all is sent, or the front has taken nothing of it for so long."""
        deadline = time.monotonic() + DEADLINE
        while sender.is_alive() and select.select([], [self._sock], [], seconds)[1]:
            assert time.monotonic() < deadline, "the front neither takes it nor leaves it"
            time.sleep(0.01)

    def at_end(self) -> bool:
        """Whether the front has closed, and sent nothing more than what was read."""
        return not self._buffer and not self._receive()

    def _receive(self) -> bytes:
        try:
            return self._sock.recv(1 << 20)
        except ConnectionError:
            return b""

    def _take(self, count: int) -> bytes:
        """Give *count* octets, fewer only where the connection ends."""
        pieces, missing = [self._buffer[:count]], count - len(self._buffer[:count])
        self._buffer = self._buffer[count:]
        while missing:
            data = self._receive()
            if not data:
                break
            pieces.append(data[:missing])
            self._buffer = data[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _take_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            data = self._receive()
            if not data:
                return b""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _read_chunks(self) -> tuple[bytes, bool]:
        pieces = []
        while line := self._take_line():
            size = int(line.partition(b";")[0], 16)
            if not size:
                while self._take_line():  # trailers
                    pass
                return b"".join(pieces), True
            data = self._take(size + 2)
            pieces.append(data[:size])
            if len(data) < size + 2:
                break
        return b"".join(pieces), False


@dataclass(frozen=True)
class Route:
    """Where the applications are reached, and what stands in between.

    Attributes:
        host: Of the front.
        port: Of the front.
        mount: URL path of the applications, ``""`` or ``"/app"``.
        journals: A directory that applications may write to.
        lacks: What the front or its protocol cannot do, by flag, each with its reason. The
            flags are those of `Case.needs`.
    """

    host: str
    port: int
    journals: Path
    mount: str = ""
    lacks: dict[str, str] = field(default_factory=dict)

    def connect(self) -> Connection:
        return Connection(self)

    def ask(self, request: Request) -> Reply:
        """Send *request* over a connection of its own."""
        with self.connect() as connection:
            return connection.ask(request)
