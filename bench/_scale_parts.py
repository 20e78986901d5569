"""The parts of `bench/scale.py`: which servers run, and what is asked of them in each cell."""

from __future__ import annotations

import re
import resource
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import _scale_load as load
from _scale_application import BLOCK, BODY, FILES
from codec import ENVIRON
from machine import check_open_files
from machinery import NotStarted, cpu_seconds, pss, start, tree
from portico.errors import ProtocolError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

HERE = Path(__file__).parent
KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

WORKERS = (1, 2, 4)
CONNECTIONS = (10, 100, 1_000, 5_000)
HEADS = (1 * KIB, 8 * KIB, 64 * KIB)
BODIES = (1 * KIB, 32 * KIB, 1 * MIB, 32 * MIB, 1 * GIB)

ACTIVE = 16
NAMES = {"fastcgi": "FastCGI", "scgi": "SCGI", "ajp": "AJP", "uwsgi": "uwsgi"}
START_SECONDS = 30.0
#: More than any head of an answer here.
HEAD_BYTES = 1_024
#: Descriptors that a process needs beside those of its connections.
OTHER_DESCRIPTORS = 200
#: Octets of a header's value where a head has many; its name has some twenty.
FIELD_BYTES = 60

Figures = dict[str, float]


@dataclass
class Cell:
    """One figure of a part: what to do for it, and what came of that.

    Attributes:
        part: The part it belongs to.
        series: The line that it is a point of.
        x: Where on that line.
        run: Load for so many seconds; gives figures.
        check: Look at an answer as a whole, before the first run.
        share: Of the seconds of a turn.
        samples: Figures of each round.
        first: Those of the first round, which warms up: peaks of memory, before anything large.
        wrong: Why there is no figure; empty as long as all is right.
    """

    part: str
    series: str
    x: int
    run: Callable[[float], Figures]
    check: Callable[[], None]
    share: float = 1.0
    samples: list[Figures] = field(default_factory=list)
    first: Figures = field(default_factory=dict)
    wrong: str = ""


class Server:
    """Portico with the application, listening on a Unix socket for each protocol."""

    def __init__(
        self, stack: ExitStack, directory: Path, protocols: tuple[str, ...], *options: str
    ) -> None:
        name = f"server{len(list(directory.glob('*.log')))}"
        self.paths = {protocol: str(directory / f"{name}.{protocol}") for protocol in protocols}
        command = [sys.executable, "-m", "portico", "serve", str(HERE / "_scale_application.py")]
        command += ["--log-level", "warning", "--threads", "16", *options]
        for protocol, path in self.paths.items():
            more = "?packet_size=65536" if protocol == "ajp" else ""
            command += ["--bind", f"{protocol}+unix://{path}{more}"]
        log = directory / f"{name}.log"
        process = start(stack, command, log, {FILES: str(directory)})
        for path in self.paths.values():
            _wait_for(path, process, log)
        self.pid = process.pid

    def measured(self, run: Callable[[], load.Load]) -> Figures:
        """Give CPU time for each request, requests a second, and what the load itself cost."""
        before = cpu_seconds(self.pid)
        done = run()
        used = cpu_seconds(self.pid) - before
        return {
            "cpu_us": used / done.requests * 1e6,
            "rate": done.requests / done.seconds,
            "generator_us": done.own_seconds / done.requests * 1e6,
        }


def _wait_for(path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as sock:
            if not sock.connect_ex(path):
                return
        time.sleep(0.05)
    raise NotStarted(log.read_text(errors="replace")[-2000:] or "the server said nothing")


def request_environ(path: str) -> dict[str, str]:
    """Give the parameters of a browser's request for *path*, some 800 octets."""
    environ = {key: value for key, value in ENVIRON.items() if key != "HTTP_REFERER"}
    places = dict.fromkeys(("REQUEST_URI", "DOCUMENT_URI", "PATH_INFO"), path)
    return {**environ, "SCRIPT_NAME": "", "QUERY_STRING": "", "CONTENT_LENGTH": "0", **places}


class Hello:
    """The small page over one protocol: asked once with care, then many times."""

    def __init__(self, server: Server, protocol: str, request: bytes = b"") -> None:
        self.server = server
        self.protocol = protocol
        self.path = server.paths[protocol]
        self.request = request or load.encode(protocol, request_environ("/"))
        self._answer = b""

    def check(self) -> None:
        """Ask with `request`, and look at the answer.

        Raises:
            WrongAnswer: it is not the page.
        """
        self.answer(new=True)

    def answer(self, *, new: bool = False) -> bytes:
        """Give the right answer's octets, asked for where they are not known."""
        if new or not self._answer:
            found = load.ask(self.path, self.protocol, self.request)
            if found.body != BODY:
                raise load.WrongAnswer(f"not the page: {found.body[:200]!r}")
            self._answer = found.octets
        return self._answer

    def load(self, seconds: float) -> load.Load:
        """Ask over `ACTIVE` connections, kept ones where the protocol keeps them."""
        answer = self.answer()
        if self.protocol not in load.KEPT:
            return load.one_shot(self.path, self.request, answer, active=ACTIVE, seconds=seconds)
        sockets = [load.connect(self.path) for _ in range(ACTIVE)]
        try:
            return load.kept(sockets, self.request, answer, active=ACTIVE, seconds=seconds)
        finally:
            for sock in sockets:
                sock.close()


def workers(stack: ExitStack, directory: Path) -> Iterator[Cell]:
    """Give the cells of 1, 2 and 4 workers."""
    for count in WORKERS:
        server = Server(stack, directory, ("fastcgi", "scgi"), "--workers", str(count))
        for protocol, series in (("fastcgi", "FastCGI, kept"), ("scgi", "SCGI")):
            hello = Hello(server, protocol)

            def run(seconds: float, hello: Hello = hello) -> Figures:
                processes = tree(hello.server.pid)[1:]
                before = [cpu_seconds(pid) for pid in processes]
                figures = hello.server.measured(lambda: hello.load(seconds))
                used = [cpu_seconds(pid) - b for pid, b in zip(processes, before, strict=True)]
                figures["busiest"] = max(used) / sum(used)
                figures["pss_mib"] = pss(hello.server.pid)
                return figures

            yield Cell("workers", series, count, run, hello.check)


def connections(stack: ExitStack, directory: Path) -> Iterator[Cell]:
    """Give the cells of 10 to 5,000 open connections, of which 16 are in use at a time."""
    check_open_files(sum(CONNECTIONS) + OTHER_DESCRIPTORS)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for count in CONNECTIONS:
        needed = sum(CONNECTIONS[: CONNECTIONS.index(count) + 1]) + OTHER_DESCRIPTORS
        server = Server(
            stack, directory, ("fastcgi",), "--max-connections", str(count + OTHER_DESCRIPTORS)
        )
        hello = Hello(server, "fastcgi")
        open_now: list[socket.socket] = []
        base: list[float] = []

        def check(
            hello: Hello = hello,
            open_now: list[socket.socket] = open_now,
            base: list[float] = base,
            count: int = count,
            missing: int = needed - most,
        ) -> None:
            if missing > 0:
                raise load.WrongAnswer(f"RLIMIT_NOFILE is {missing} too low")
            hello.check()
            hello.load(0.3)  # threads and caches that 16 requests at a time need in any case
            base.append(pss(hello.server.pid))
            for _ in range(count):
                sock = load.connect(hello.path)
                stack.callback(sock.close)
                open_now.append(sock)
                load.kept([sock], hello.request, hello.answer(), active=1, seconds=0)

        def run(
            seconds: float,
            hello: Hello = hello,
            open_now: list[socket.socket] = open_now,
            base: list[float] = base,
        ) -> Figures:
            answer = hello.answer()
            figures = hello.server.measured(
                lambda: load.kept(open_now, hello.request, answer, active=ACTIVE, seconds=seconds)
            )
            figures["pss_mib"] = pss(hello.server.pid)
            grown = (figures["pss_mib"] - base[0]) * MIB
            figures["octets_a_connection"] = grown / len(open_now)
            return figures

        yield Cell("connections", "FastCGI, kept", count, run, check)


def head_of(protocol: str, octets: int, *, many: bool) -> bytes:
    """Give a request for the small page of exactly so many octets, its framing included.

    Args:
        protocol: What it is encoded in.
        octets: How many; 1024 at least.
        many: Whether many headers fill it, or one cookie.

    Raises:
        ValueError: no such request can be made.
    """
    environ = request_environ("/")
    environ["HTTP_COOKIE"] = ""
    if many:
        for count in range(octets):
            longer = {**environ, f"HTTP_X_FIELD_{count:04}": f"{count:04}" * (FIELD_BYTES // 4)}
            if octets_of(protocol, longer) > octets:
                break
            environ = longer
    for _ in range(8):  # a length may take more octets as it grows
        missing = octets - len(load.encode(protocol, environ))
        if not missing:
            return load.encode(protocol, environ)
        size = len(environ["HTTP_COOKIE"]) + missing
        environ["HTTP_COOKIE"] = ("session=6f1ed002ab5595859014ebf0951522d9; " * (size // 42 + 1))[
            : max(size, 0)
        ]
    raise ValueError(f"no {protocol} request of exactly {octets} octets")


def octets_of(protocol: str, environ: dict[str, str]) -> int:
    """Give the octets that a request takes; one too many for what does not go into a packet."""
    try:
        return len(load.encode(protocol, environ))
    except ProtocolError:
        return max(HEADS) + 1


def heads(stack: ExitStack, directory: Path) -> Iterator[Cell]:
    """Give the cells of request heads of 1, 8 and 64 KiB."""
    server = Server(stack, directory, tuple(NAMES))
    for protocol, name in NAMES.items():
        for many, kind in ((False, "one cookie"), (True, "many headers")):
            for octets in HEADS:
                hello = Hello(server, protocol, head_of(protocol, octets, many=many))

                def run(seconds: float, hello: Hello = hello) -> Figures:
                    return hello.server.measured(lambda: hello.load(seconds))

                yield Cell("heads", f"{name}, {kind}", octets, run, hello.check, share=0.5)


class Body:
    """A download or an upload of a fixed length, one after the other over one connection."""

    def __init__(self, server: Server, protocol: str, kind: str, size: int) -> None:
        self.server = server
        self.protocol = protocol
        self.path = server.paths[protocol]
        self.kind = kind
        self.size = size
        self._environ = request_environ("/upload" if kind == "upload" else f"/{kind}/{size}")
        self._expected = 0
        self._answer = b""
        if kind == "upload":
            self._environ["REQUEST_METHOD"] = "POST"
            self._upload = load.upload(protocol, self._environ, size)
        else:
            self._request = load.encode(protocol, self._environ)

    def check(self) -> None:
        """Ask once and look at every octet.

        Raises:
            WrongAnswer: one of them is wrong.
        """
        if self.kind == "upload":
            self._check_upload()
        else:
            self._check_download()

    def _check_upload(self) -> None:
        """Have the application give the digest of what came, then their number alone."""
        digested = load.upload(self.protocol, {**self._environ, "PATH_INFO": "/digest"}, self.size)
        for upload, right in ((digested, digested.digest), (self._upload, b"%d" % self.size)):
            with load.connect(self.path) as sock:
                upload.send(sock)
                answer = load.receive(sock, self.protocol)
            if answer.body != right:
                raise load.WrongAnswer(f"{answer.body[:200]!r}, not {right!r}")
            self._answer = answer.octets

    def _check_download(self) -> None:
        count = 0
        pattern = BLOCK + BLOCK if self.kind == "blocks" else bytes(2 * len(BLOCK))

        def take(data: bytes) -> None:
            nonlocal count
            for at in range(0, len(data), len(BLOCK)):
                piece = data[at : at + len(BLOCK)]
                begin = count % len(BLOCK)
                if piece != pattern[begin : begin + len(piece)]:
                    raise load.WrongAnswer(f"wrong octets behind {count}")
                count += len(piece)

        load.ask(self.path, self.protocol, self._request, take)
        if count != self.size:
            raise load.WrongAnswer(f"{count} octets of body, not {self.size}")
        with load.connect(self.path) as sock:
            self._expected = load.download(sock, self.protocol, self._request)
        if not 0 < self._expected - self.size < HEAD_BYTES:
            raise load.WrongAnswer(f"{self._expected} octets of head and body for {self.size}")

    def run(self, seconds: float) -> Figures:
        """Ask again and again for so many seconds, once at least."""
        reset_peak(self.server.pid)
        figures = self.server.measured(lambda: self._load(seconds))
        mib = self.size / MIB
        figures["cpu_us_a_mib"] = figures["cpu_us"] / mib
        figures["mib_a_second"] = figures["rate"] * mib
        figures["peak_mib"] = peak(self.server.pid)
        return figures

    def _load(self, seconds: float) -> load.Load:
        started, own = time.perf_counter(), time.process_time()
        done = 0
        sock = load.connect(self.path)
        try:
            while not done or time.perf_counter() - started < seconds:
                if done and self.protocol not in load.KEPT:
                    sock.close()
                    sock = load.connect(self.path)
                self._once(sock)
                done += 1
        finally:
            sock.close()
        return load.Load(done, time.perf_counter() - started, time.process_time() - own)

    def _once(self, sock: socket.socket) -> None:
        if self.kind == "upload":
            self._upload.send(sock)
            load.compare(sock.fileno(), self._answer)
            return
        count = load.download(sock, self.protocol, self._request)
        if count != self._expected:
            raise load.WrongAnswer(f"{count} octets, not {self._expected}")


def bodies(stack: ExitStack, directory: Path) -> Iterator[Cell]:
    """Give the cells of bodies of 1 KiB to 1 GiB, smallest first: peaks of memory never shrink."""
    for size in BODIES:
        with (directory / str(size)).open("wb") as sparse:
            sparse.truncate(size)
    kinds = {"blocks": "blocks of 64 KiB", "file": "wsgi.file_wrapper", "upload": "upload"}
    servers = {kind: Server(stack, directory, ("fastcgi", "scgi")) for kind in kinds}
    for size in BODIES:
        for kind, name in kinds.items():
            for protocol in ("fastcgi", "scgi"):
                body = Body(servers[kind], protocol, kind, size)
                series = f"{NAMES[protocol]}, {name}"
                yield Cell("bodies", series, size, body.run, body.check, share=0.5)


def reset_peak(root: int) -> None:
    """Let the kernel count the peak of resident memory of a process tree anew (proc(5))."""
    for pid in tree(root):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(root: int) -> float:
    """Give the sum of the peaks of resident memory of a process tree, in MiB."""
    total = 0
    for pid in tree(root):
        found = re.search(
            r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
        )
        total += int(found[1]) if found else 0
    return total / 1024


PARTS = {"workers": workers, "connections": connections, "heads": heads, "bodies": bodies}
