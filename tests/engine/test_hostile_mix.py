"""Ten thousand hostile connections of many kinds beside a thousand good requests, all at once.

One real ``portico serve`` on four sockets. Every good request is answered right, and afterwards
the process is as it was: threads, descriptors, memory, and no more lines in the log than
connections that deserved one.
"""

from __future__ import annotations

import errno
import random
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from pathlib import Path

import pytest

from engine_harness import PROTOCOLS, Frontend, Process, until
from hostile_kinds import ANSWER, END, KINDS, RESET, SECRET

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not hasattr(select, "epoll"), reason="the crowd is polled as Linux does"),
]

HOSTILE = 10_000
GOOD = 1_000

#: glibc keeps memory that is given back, in one store a thread. Told to give it to the system,
#: what is resident is what is held.
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_MMAP_THRESHOLD_": "32768",
}

#: Connections before the first look at the memory: 25.4 MB after 8,000, 26.0 after 12,000, and
#: the same after 24,000.
WARM_UP = 10_000

#: What may be more afterwards: resident octets, in parts of what was there; and Python's blocks.
#: Three are kept of each of 1024 request targets, and one leaked a connection would be 10,000.
MOST_GROWTH = 0.04
MOST_BLOCKS = 5_000

#: Hostile connections that are open at the same time, and clients that ask good requests.
CROWD = 150
CLIENTS = 2

#: Longest life of a hostile connection, seconds; the server ends each long before.
PATIENCE = 15.0

THREADS = 8

OPTIONS = {
    "--workers": 0,  # it is this very process that is looked at
    "--threads": THREADS,
    "--max-params-bytes": 32_768,
    "--max-params": 100,
    "--max-body-bytes": 1_000_000,
    "--drain-bytes": 65_536,
    "--head-timeout": 1.0,
    "--body-timeout": 0.3,
    "--write-timeout": 0.3,
    "--drain-timeout": 0.5,
    "--log-level": "info",
}

APPLICATION = '''\
"""Echoes, and says what no peer may have set."""

import gc
import sys

NEVER = {"HTTP_PROXY", "REMOTE_USER", "SSL_CLIENT_CERT", "UWSGI_FILE"}
LARGE = bytes(8_000_000)  # more than the kernel takes for a peer that does not read


def application(environ, start_response):
    wrong = NEVER & environ.keys()
    wrong |= {name for name, value in environ.items() if value == "evil"}
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [LARGE]
    if environ["PATH_INFO"] == "/blocks":
        gc.collect()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"%d" % sys.getallocatedblocks()]
    body = environ["PATH_INFO"].encode() + b":" + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"WRONG " + repr(sorted(wrong)).encode()] if wrong else [body]
'''


# -- the crowd -----------------------------------------------------------------------------


class Peer:
    """One hostile connection under way."""

    def __init__(self, kind, protocol, address, chance):
        self.kind = kind
        self.protocol = protocol
        self.sock = connect(address)
        self.sock.setblocking(False)
        self.steps = kind.act(protocol, chance)
        self.out = memoryview(b"")
        self.received = bytearray()
        self.waits_for = ""
        self.wakes_at = 0.0
        self.ends_at = time.monotonic() + PATIENCE
        self.refused = False
        self.over = False

    def __str__(self):
        return f"{self.kind.name} towards {self.protocol}"

    def go_on(self, value=None):
        """Take steps until one has to wait; *value* answers the last."""
        try:
            while not self.over:
                step = self.steps.send(value)
                value = None
                if type(step) is bytes:
                    self.out = memoryview(step)
                    if not self.push():
                        return
                elif type(step) is float:
                    self.wakes_at = time.monotonic() + step
                    return
                elif step == RESET:
                    linger = struct.pack("ii", 1, 0)
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.over = True
                else:
                    self.waits_for = step
                    return
        except StopIteration:
            self.over = True

    def push(self):
        """Send; whether all has gone."""
        try:
            while self.out:
                self.out = self.out[self.sock.send(self.out) :]
        except BlockingIOError:
            return False
        except OSError:  # the server has had enough: what it said can be read still
            self.out = memoryview(b"")
            self.waits_for = END
            self.refused = True
            return False
        return True

    def pull(self):
        """Read; goes on where what was waited for is there."""
        try:
            data = self.sock.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and len(self.received) < 100_000:
            self.received += data
        answered = self.protocol == "ajp" and self.received.endswith(b"AB\0\2\5\1")
        if not data and self.refused:
            self.over = True
        elif not data or (self.waits_for == ANSWER and answered):
            self.waits_for = ""
            self.go_on(bytes(self.received))

    def events(self):
        wanted = select.EPOLLOUT if self.out else 0
        return wanted | (select.EPOLLIN if self.waits_for else 0)

    def ready(self):
        if self.out:
            if self.push():
                self.go_on()
        elif self.waits_for:
            self.pull()

    def close(self):
        self.steps.close()
        self.sock.close()


def connect(address):
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    # a small window, so that a peer that does not read is soon felt
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    while True:
        try:
            sock.connect(address)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EINTR}:
                sock.close()
                raise
        else:
            return sock


def plan(count, seed):
    """Which kind comes when, and towards whom: each often, all mixed."""
    chance = random.Random(seed)  # noqa: S311 - the same each time
    rounds = [kind for kind in KINDS for _ in range(kind.share)]
    chosen = [rounds[number % len(rounds)] for number in range(count)]
    turns = Counter()
    made = []
    for kind in chosen:
        turns[kind.name] += 1
        made.append((kind, kind.protocols[turns[kind.name] % len(kind.protocols)]))
    chance.shuffle(made)
    return made


def crowd(server, planned, seed):
    """Let all *planned* peers do what they do, `CROWD` of them at a time."""
    chance = random.Random(seed)  # noqa: S311 - likewise
    due = deque(planned)
    peers = {}
    epoll = select.epoll()
    try:
        while due or peers:
            while due and len(peers) < CROWD:
                kind, protocol = due.popleft()
                peer = Peer(kind, protocol, server.addresses[protocol], chance)
                peers[peer.sock.fileno()] = peer
                epoll.register(peer.sock, 0)
                peer.go_on()
                watch(epoll, peers, peer)
            for fd, _ in epoll.poll(0.01):
                peers[fd].ready()
                watch(epoll, peers, peers[fd])
            now = time.monotonic()
            for peer in list(peers.values()):
                assert now < peer.ends_at, f"{peer} goes on for ever"
                if peer.wakes_at and now >= peer.wakes_at:
                    peer.wakes_at = 0.0
                    peer.go_on()
                    watch(epoll, peers, peer)
    finally:
        for peer in peers.values():
            peer.close()
        epoll.close()


def watch(epoll, peers, peer):
    fd = peer.sock.fileno()
    if peer.over:
        del peers[fd]
        epoll.unregister(fd)
        peer.close()
    else:
        # an error shows whatever is asked for: only while something is waited for
        wanted = peer.events()
        epoll.modify(fd, wanted | select.EPOLLONESHOT if wanted else select.EPOLLET)


# -- good clients --------------------------------------------------------------------------


def good_client(server, count, seed, delays):
    """Ask *count* good requests, on kept and on new connections; each is answered right."""
    chance = random.Random(seed)  # noqa: S311 - likewise
    kept = {}
    try:
        for number in range(count):
            protocol = PROTOCOLS[number % 4]
            if chance.random() < 0.2 and protocol in kept:
                kept.pop(protocol).close()
            frontend = kept.pop(protocol, None) or server.frontend(protocol)
            path = f"/{seed}/{number}"
            body = chance.randbytes(chance.choice((0, 1, 100, 7000)))
            began = time.monotonic()
            answer = frontend.ask(path, body)
            delays.append(time.monotonic() - began)
            assert answer.status == "200 OK"
            assert bytes(answer.body) == path.encode() + b":" + body
            if answer.reusable:
                kept[protocol] = frontend
            else:
                frontend.close()
    finally:
        for frontend in kept.values():
            frontend.close()


def mix(server, hostile, good, seed):
    """Both at once; gives what was planned, and how long the good ones took."""
    planned = plan(hostile, seed)
    failures = []
    delays = []

    def run(function, *arguments):
        try:
            function(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    jobs = [(crowd, server, planned, seed)]
    jobs += [(good_client, server, good // CLIENTS, seed + at, delays) for at in range(CLIENTS)]
    threads = [threading.Thread(target=run, args=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "it does not come to an end"
    if failures:
        raise failures[0]
    return planned, delays


# -- the process ---------------------------------------------------------------------------


class Server(Process):
    """`portico serve` on four sockets."""

    def __init__(self, directory):
        (directory / "mixed.py").write_text(APPLICATION)
        ports = {name: free_port() for name in ("fastcgi", "ajp")}
        secret = SECRET.replace(" ", "%20")
        binds = [
            f"fastcgi://127.0.0.1:{ports['fastcgi']}",
            f"ajp://127.0.0.1:{ports['ajp']}?secret={secret}",
            f"scgi+unix://{directory}/scgi",
            f"uwsgi+unix://{directory}/uwsgi",
        ]
        words = [word for pair in OPTIONS.items() for word in map(str, pair)]
        words += [word for bind in binds for word in ("--bind", bind)]
        self.addresses = {name: ("127.0.0.1", port) for name, port in ports.items()}
        self.addresses |= {name: str(directory / name) for name in ("scgi", "uwsgi")}
        words = ["-m", "portico", "serve", directory / "mixed.py", *words]
        super().__init__(directory, *words, env=MALLOC)

    def frontend(self, protocol):
        options = {"secret": SECRET} if protocol == "ajp" else {}
        return Frontend(protocol, self.addresses[protocol], **options)

    def lines(self):
        return self.stderr.splitlines()

    def threads(self):
        return int(re.search(r"Threads:\s+(\d+)", self._status())[1])

    def memory(self):
        """Resident octets."""
        return int(re.search(r"VmRSS:\s+(\d+)", self._status())[1]) * 1024

    def descriptors(self):
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def blocks(self):
        """Blocks that Python's objects take up, without what is garbage."""
        with self.frontend("scgi") as frontend:
            return int(frontend.ask("/blocks").body)

    def _status(self):
        return Path(f"/proc/{self.process.pid}/status").read_text()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as process:
        process.wait_for("uwsgi")
        until(lambda: len(process.lines()) >= 4, "the sockets")
        for protocol in PROTOCOLS:  # by then it polls
            with process.frontend(protocol) as frontend:
                assert frontend.ask("/first").body == b"/first:"
        process.idle = settled(process)
        yield process


def settled(server):
    """Wait until the descriptors stay as many as they are; gives their number."""
    seen = []

    def quiet():
        seen.append(server.descriptors())
        return len(seen) > 50 and len(set(seen[-50:])) == 1

    until(quiet, "a constant number of descriptors")
    return seen[-1]


def test_there_are_thirty_kinds_and_each_protocol_meets_twenty():
    assert len(KINDS) >= 30
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    for protocol in PROTOCOLS:
        assert sum(protocol in kind.protocols for kind in KINDS) >= 20


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_each_kind_alone_makes_its_lines_and_leaves_nothing(server, kind):
    idle = server.idle
    for protocol in kind.protocols:
        told = len(server.lines())
        crowd(server, [(kind, protocol)] * 5, seed=1)
        until(lambda: server.descriptors() == idle, f"the end of {kind.name}")
        least, most = kind.lines
        until(lambda: len(server.lines()) - told >= 5 * least, f"the lines about {kind.name}")  # noqa: B023
        with server.frontend(protocol) as frontend:
            assert frontend.ask("/after").body == b"/after:"
        until(lambda: server.descriptors() == idle, "the end of a good one")
        lines = server.lines()[told:]
        assert len(lines) <= 5 * most, lines
        assert not any("Traceback" in line or "internal error" in line for line in lines)
        assert not any(SECRET in line for line in lines)


def test_ten_thousand_hostile_connections_and_a_thousand_good_requests(server):
    idle = server.idle
    mix(server, WARM_UP, GOOD, seed=100)  # what is learnt and grown once is there afterwards
    until(lambda: server.descriptors() == idle, "the end of the warm-up")
    before = (server.threads(), server.memory(), server.blocks())
    told = len(server.lines())
    began = time.monotonic()
    planned, delays = mix(server, HOSTILE, GOOD, seed=1)
    took = time.monotonic() - began
    until(lambda: server.descriptors() == idle, "the end of all connections")
    after = (server.threads(), server.memory(), server.blocks())
    sys.stdout.write(
        f"{took:.1f} s; good ones {sorted(delays)[len(delays) // 2] * 1000:.1f} ms in the middle,"
        f" {max(delays) * 1000:.0f} at most; threads, memory, blocks {before} -> {after}\n"
    )

    assert len(planned) == HOSTILE
    assert len(delays) == GOOD
    assert after[0] == before[0] <= THREADS + 2  # with those that watch and that time requests
    assert after[1] < before[1] * (1 + MOST_GROWTH)
    assert after[2] < before[2] + MOST_BLOCKS

    # no connection makes more lines than it deserves
    lines = server.lines()[told:]
    assert len(lines) <= sum(kind.lines[1] for kind, _ in planned)
    assert len(lines) >= sum(kind.lines[0] for kind, _ in planned)
    # an address may stand in it twice; of what a peer sent, a line repeats little
    most = 400 + 2 * max(len(str(one)) for one in server.addresses.values())
    assert max(map(len, lines)) < most
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    assert "Traceback" not in server.stderr
    assert "internal error" not in server.stderr
    assert "unfinished" not in server.stderr  # nothing was left parked
    assert SECRET not in server.stderr
