"""The load of `bench/scale.py`: prepared octets over Unix sockets, one thread, epoll.

A web server in between would use more CPU time than Portico does and hide how that grows, and it
would not hold 5,000 connections open by itself; so this speaks the gateway protocols. It encodes a
request once and then only sends it and compares what comes back with the answer that was decoded
and looked at before: so little work that two cores are enough for both sides. Unix sockets,
because a connection a request would use up the ports of a TCP address within a second or two.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from portico.codecs import client_codec
from portico.errors import PorticoError
from portico.events import ResponseBodyReceived, ResponseEnded, ResponseReceived
from portico.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portico.codecs import ClientCodec

PATIENCE_SECONDS = 20.0
READ_BYTES = 262_144
#: Protocols whose connections are kept; the others have one for each request.
KEPT = frozenset({"fastcgi", "ajp"})

_TIMEOUT = struct.pack("ll", int(PATIENCE_SECONDS), 0)


class WrongAnswer(Exception):  # noqa: N818 - says what happened
    """The server answered something else than it should; the text says what."""


class Load(NamedTuple):
    """What a load was: requests, seconds, and the generator's own CPU time in seconds."""

    requests: int
    seconds: float
    own_seconds: float


class Answer(NamedTuple):
    """An answer that was decoded: its octets on the wire, and its body."""

    octets: bytes
    body: bytes


def connect(path: str) -> socket.socket:
    """Give a blocking connection on which no wait is longer than `PATIENCE_SECONDS`.

    The kernel keeps the time: Python's own timeouts cost a poll(2) for each call.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEOUT)
    sock.connect(path)
    return sock


def encode(protocol: str, environ: Mapping[str, str], packet_bytes: int = 65_536) -> bytes:
    """Give the octets of a request without a body."""
    return _codec(protocol, packet_bytes).send_request(environ)


def _codec(protocol: str, packet_bytes: int = 65_536) -> ClientCodec:
    options = {"packet_size": packet_bytes} if protocol == "ajp" else {}
    return client_codec(protocol, Limits(), **options)


def ask(
    path: str, protocol: str, request: bytes, take: Callable[[bytes], object] | None = None
) -> Answer:
    """Send one request without a body, and decode its answer.

    Raises:
        WrongAnswer: it is not 200, or there is none.
    """
    with connect(path) as sock:
        try:
            sock.sendall(request)
        except OSError as error:
            raise WrongAnswer(f"it cannot be sent: {error}") from error
        return receive(sock, protocol, take)


def receive(
    sock: socket.socket, protocol: str, take: Callable[[bytes], object] | None = None
) -> Answer:
    """Decode the answer to a request that was sent.

    Args:
        sock: Where it comes.
        protocol: What it is decoded from.
        take: Gets the body in pieces, and the answer has none then, for it may be long.

    Raises:
        WrongAnswer: it is not 200, or there is none.
    """
    codec = _codec(protocol)
    codec.send_request({"REQUEST_METHOD": "GET", "REQUEST_URI": "/"})  # one like it
    octets: list[bytes] = []
    pieces: list[bytes] = []
    status, ended = "none", False
    try:
        while not ended:
            data = sock.recv(READ_BYTES)
            if take is None:
                octets.append(data)
            for event in codec.receive_data(data) if data else codec.receive_eof():
                if isinstance(event, ResponseBodyReceived):
                    (take or pieces.append)(event.data)
                elif isinstance(event, ResponseReceived):
                    status = event.status
                elif isinstance(event, ResponseEnded):
                    ended = True
    except (OSError, PorticoError) as error:
        raise WrongAnswer(f"no answer: {error}") from error
    if status[:3] != "200":
        raise WrongAnswer(f"status {status}: {b''.join(pieces)[:200]!r}")
    return Answer(b"".join(octets), b"".join(pieces))


def kept(
    sockets: list[socket.socket],
    request: bytes,
    answer: bytes,
    *,
    active: int,
    seconds: float,
    turns: int = 8,
) -> Load:
    """Send *request* over kept connections, *active* of them at a time.

    With more connections than that each sends *turns* requests one after the other and passes on
    to the one that has waited longest, so that all are used again and again.
    """
    resting = deque(sock.fileno() for sock in sockets)
    left = dict.fromkeys(resting, turns)
    poll = select.epoll(len(sockets))
    for descriptor in resting:
        poll.register(descriptor, select.EPOLLIN)
    done, running = 0, True
    with poll:
        started, own = time.perf_counter(), time.process_time()
        end = started + seconds
        try:
            flying = min(active, len(sockets))
            for _ in range(flying):
                os.write(resting.popleft(), request)
            while flying:
                for descriptor in _ready(poll):
                    compare(descriptor, answer)
                    done += 1
                    if not running:
                        flying -= 1
                        continue
                    left[descriptor] -= 1
                    if not left[descriptor]:
                        left[descriptor] = turns
                        resting.append(descriptor)
                        descriptor = resting.popleft()  # noqa: PLW2901 - its turn is over
                    os.write(descriptor, request)
                running = running and time.perf_counter() < end
        except OSError as error:
            raise WrongAnswer(f"a kept connection broke: {error}") from error
        return Load(done, time.perf_counter() - started, time.process_time() - own)


def one_shot(path: str, request: bytes, answer: bytes, *, active: int, seconds: float) -> Load:
    """Send *request* over a new connection each time, *active* of them at a time."""
    flying: dict[int, socket.socket] = {}

    def begin() -> None:
        sock = connect(path)
        descriptor = sock.fileno()
        flying[descriptor] = sock
        os.write(descriptor, request)
        poll.register(descriptor, select.EPOLLIN)

    done, running = 0, True
    with select.epoll() as poll:
        started, own = time.perf_counter(), time.process_time()
        end = started + seconds
        try:
            for _ in range(active):
                begin()
            while flying:
                for descriptor in _ready(poll):
                    compare(descriptor, answer)
                    flying.pop(descriptor).close()
                    done += 1
                    if running:
                        begin()
                running = running and time.perf_counter() < end
        except OSError as error:
            raise WrongAnswer(f"a connection broke: {error}") from error
        finally:
            for sock in flying.values():
                sock.close()
        return Load(done, time.perf_counter() - started, time.process_time() - own)


def _ready(poll: select.epoll) -> Iterator[int]:
    found = poll.poll(PATIENCE_SECONDS, 64)
    if not found:
        raise WrongAnswer(f"no answer within {PATIENCE_SECONDS:g} seconds")
    for descriptor, _ in found:
        yield descriptor


def compare(descriptor: int, answer: bytes) -> None:
    """Read one answer, which must be *answer*, octet for octet.

    Raises:
        WrongAnswer: it is another one.
    """
    data = os.read(descriptor, READ_BYTES)
    while len(data) < len(answer):
        more = os.read(descriptor, READ_BYTES)
        if not more:
            break
        data += more
    if data != answer:
        raise WrongAnswer(f"{len(data)} octets, not the {len(answer)} expected: {data[:200]!r}")


def download(sock: socket.socket, protocol: str, request: bytes) -> int:
    """Send *request* and count the octets of its answer, head and body.

    FastCGI's are counted without the headers of records, which depend on how octets came together.

    Raises:
        WrongAnswer: the connection breaks.
    """
    try:
        sock.sendall(request)
        if protocol == "fastcgi":
            return _count_records(sock)
        count = 0
        buffer = bytearray(READ_BYTES)
        while size := sock.recv_into(buffer):
            count += size
    except OSError as error:
        raise WrongAnswer(f"the answer broke: {error}") from error
    return count


def _count_records(sock: socket.socket) -> int:
    """Count the octets of FCGI_STDOUT up to FCGI_END_REQUEST, an answer's last record."""
    buffer = memoryview(bytearray(READ_BYTES))
    count = left = 0
    held = b""  # what has come of a record's header
    ended = False
    while size := sock.recv_into(buffer):
        at = 0
        while at < size:
            if left:
                step = min(left, size - at)
                left -= step
                at += step
            else:
                step = min(8 - len(held), size - at)
                held += buffer[at : at + step]
                at += step
                if len(held) < 8:
                    break
                content = held[4] << 8 | held[5]
                left = content + held[6]
                count += content if held[1] == 6 else 0  # FCGI_STDOUT
                ended = held[1] == 3  # FCGI_END_REQUEST, which is never empty
                held = b""
        if ended and not left:
            return count
    raise WrongAnswer(f"the connection closed after {count} octets of answer")


class Upload(NamedTuple):
    """A request with a body, in pieces that are sent again and again.

    Attributes:
        head: Its head, encoded.
        piece: Sent *times* times.
        times: So often.
        end: The rest of the body and its end.
        digest: Of the whole body, SHA-256 in hexadecimal.
    """

    head: bytes
    piece: bytes
    times: int
    end: bytes
    digest: bytes

    def send(self, sock: socket.socket) -> None:
        """Send it all.

        Raises:
            WrongAnswer: the connection breaks.
        """
        try:
            sock.sendall(self.head)
            for _ in range(self.times):
                sock.sendall(self.piece)
            if self.end:  # where all has come the server may have closed, and EPIPE be due
                sock.sendall(self.end)
        except OSError as error:
            raise WrongAnswer(f"the upload broke: {error}") from error


def upload(protocol: str, environ: Mapping[str, str], size: int) -> Upload:
    """Prepare a request with *size* octets of body, FastCGI in records of 32 KiB as nginx does."""
    codec = _codec(protocol)
    body = bytes(range(256)) * (1_048_576 // 256)
    head = codec.send_request({**environ, "CONTENT_LENGTH": str(size)}, end=False)
    times, rest = divmod(size, len(body))
    digest = hashlib.sha256()
    for _ in range(times):
        digest.update(body)
    digest.update(body[:rest])
    piece, end = body if times else b"", body[:rest]
    if protocol == "fastcgi":
        piece, end = _records(piece), _records(end) + _record(b"")
    return Upload(head, piece, times, end, digest.hexdigest().encode())


def _records(body: bytes) -> bytes:
    return b"".join(_record(body[at : at + 32_768]) for at in range(0, len(body), 32_768))


def _record(content: bytes) -> bytes:
    return struct.pack("!BBHHBx", 1, 5, 1, len(content), 0) + content  # FCGI_STDIN of request 1
