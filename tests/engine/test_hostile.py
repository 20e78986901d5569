"""Ten thousand bad connections: each refused with one line, nothing left of them."""

import json
import random
import re
import signal
import socket
import struct
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from engine_harness import (
    PROTOCOLS,
    WAIT,
    Frontend,
    Process,
    environ_for,
    make_codec,
    request_octets,
    until,
)

#: Bad and good connections in all, and how many at once.
CONNECTIONS = 10_000
CLIENTS = 4

THREADS = 4

#: Blocks of memory and octets that the process may hold more afterwards: a leak of one object
#: a connection would show.
MOST_BLOCKS = 6_000
MOST_BYTES = 12_000_000

SECRET = "long enough"  # noqa: S105 - of this test alone

SERVER = """\
import gc, json, logging, os, sys, threading
import portico

def application(environ, start_response):
    if environ["PATH_INFO"] == "/inspect":
        gc.collect()
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        answer = {
            "threads": threading.active_count(),
            "descriptors": sorted(os.listdir("/proc/self/fd")),
            "blocks": sys.getallocatedblocks(),
            "bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        }
        body = json.dumps(answer).encode()
    else:
        body = environ["PATH_INFO"].encode() + b":" + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]

logging.basicConfig(level="INFO", format="%(levelname)s %(message)s", stream=sys.stderr)
portico.serve(application, *sys.argv[2:], **json.loads(sys.argv[1]))
"""


class Kind(NamedTuple):
    """One way to behave badly.

    Attributes:
        name: For messages.
        octets: What is sent.
        end: How the connection ends: "wait" for the server, "close" or "reset" it.
        rule: What its log line must say; none may come where it is empty.
    """

    name: str
    octets: bytes
    end: str
    rule: str


def fastcgi(kind, content=b"", request_id=1, version=1):
    return struct.pack(">BBHHBB", version, kind, request_id, len(content), 0, 0) + content


BEGIN = fastcgi(1, b"\0\1\1\0\0\0\0\0")
ONCE = fastcgi(1, b"\0\1\0\0\0\0\0\0")

FOREIGN = {
    "http": b"GET / HTTP/1.1\r\nHost: www.example.test\r\n\r\n",
    "tls": bytes.fromhex("160301020001 0001fc0303") + bytes(500),
    "random": b"\xfe" + random.Random(1).randbytes(3000),  # noqa: S311 - the same each time
    "zeros of another kind": b"\x05" * 100,
}

MALFORMED = {
    "fastcgi": [
        ("later version", fastcgi(1, bytes(8), version=2), "FastCGI 1.0"),
        ("short begin", fastcgi(1, b"\0\1"), "FastCGI 1.0 §5.1"),
        ("stdin before params", BEGIN + fastcgi(5, b"x"), "FastCGI 1.0 §6.2"),
        ("overrun", BEGIN + fastcgi(4, b"\x09\x09ab") + fastcgi(4), "FastCGI 1.0 §3.4"),
        ("too many octets", BEGIN + fastcgi(4, b"\x01\x00a" * 8000) * 2, "max_params_bytes"),
        ("too many", BEGIN + fastcgi(4, b"\x01\x00a" * 200) + fastcgi(4), "max_params to"),
        ("null id", fastcgi(4, b"x", request_id=0), "FastCGI 1.0 §3.3"),
        ("no method", ONCE + fastcgi(4, b"\x01\x01ab") + fastcgi(4) + fastcgi(5), "REQUEST_M"),
    ],
    "scgi": [
        ("leading zero", b"07:", "SCGI, Protocol: netstring"),
        ("endless digits", b"1" * 40, "SCGI, Protocol: netstring"),
        ("no comma", b"3:a\0\0;", "SCGI, Protocol: netstring"),
        ("no NUL", b"3:abc,", "SCGI, Request Format"),
        ("no SCGI", b"17:CONTENT_LENGTH\x000\0,", "SCGI, Request Format"),
        ("huge", b"999999999:", "max_params_bytes"),
        ("negative", b"27:CONTENT_LENGTH\x00-1\x00SCGI\x001\x00\x00\x00,", "SCGI, Request Format"),
        ("length", b"25:CONTENT_LENGTH\x00-1\x00SCGI\x001\x00,", "RFC 3875 §4.1.2"),
    ],
    "uwsgi": [
        ("modifier", b"\x07\x10\0\0", "uwsgi, packet header"),
        ("nothing", b"\0\0\0\0", "uwsgi, packet header"),
        ("huge", b"\0\xff\xff\0", "max_params_bytes"),
        ("overrun", b"\0\x06\0\0\x09\0abcd", "uwsgi, block vars"),
        ("empty name", b"\0\x04\0\0\0\0\0\0", "uwsgi, block vars"),
        ("length", b"\0\x14\0\0\x0e\0CONTENT_LENGTH\x02\0-1", "RFC 3875 §4.1.2"),
    ],
    "ajp": [
        ("huge", b"\x12\x34\xff\xff\x02", "AJP"),
        ("shutdown", b"\x12\x34\0\1\x07", "AJP"),
        ("empty packets", b"\x12\x34\0\0" * 100, "AJP"),
        ("overrun", b"\x12\x34\0\x04\x02\x02\x00\x50", "AJP"),
        ("body for nothing", b"\x12\x34\0\x03\0\1a", "AJP"),
    ],
}


def kinds_of(protocol):
    """All bad behaviours towards a listener of *protocol*."""
    for name, octets in FOREIGN.items():
        rule = {"fastcgi": "FastCGI", "scgi": "SCGI", "ajp": "AJP", "uwsgi": "uwsgi"}[protocol]
        yield Kind(name, octets, "wait", rule)
    for name, octets, rule in MALFORMED[protocol]:
        yield Kind(name, octets, "wait", rule)
    options = {"secret": SECRET} if protocol == "ajp" else {}
    environ = {**environ_for(method="POST"), "CONTENT_LENGTH": "90000"}
    good = make_codec(protocol, **options).send_request(environ, b"b" * 5000, end=False)
    half = good[:80]
    yield Kind("empty", b"", "close", "")
    yield Kind("empty and reset", b"", "reset", "")
    yield Kind("half a head and reset", half, "reset", "")
    # FastCGI's request can be given up at any time
    yield Kind("half a head", half, "close", "" if protocol == "fastcgi" else "end of file within")
    yield Kind("half a body", good, "close", "499")
    if protocol == "ajp":
        for secret in ("", "wrong"):
            octets = make_codec("ajp", secret=secret).send_request(environ_for(), b"")
            yield Kind(f"secret {secret!r}", octets, "wait", "the secret is missing or wrong")


@pytest.fixture
def server(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    binds = [f"{name}://127.0.0.1:{free_port()}" for name in PROTOCOLS]
    binds[PROTOCOLS.index("ajp")] += f"?secret={SECRET.replace(' ', '%20')}"
    options = {
        "max_params_bytes": 16384,
        "max_params": 100,
        "threads": THREADS,
        "head_timeout": 3.0,
    }
    with Process(tmp_path, script, json.dumps(options), *binds) as process:
        process.ports = {
            name: int(re.search(r":(\d+)", bind.split("//")[1])[1])
            for name, bind in zip(PROTOCOLS, binds, strict=True)
        }
        until(lambda: answers(process), "the server")
        yield process


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def connect(server, protocol, **options):
    if protocol == "ajp":
        options["secret"] = SECRET
    return Frontend(protocol, ("127.0.0.1", server.ports[protocol]), **options)


def answers(server):
    assert server.process.poll() is None, server.stderr
    try:
        with connect(server, "scgi") as frontend:
            return frontend.ask("/there").body == b"/there:"
    except ConnectionRefusedError:
        return False


def inspect(server):
    with connect(server, "scgi") as frontend:
        return json.loads(frontend.ask("/inspect").body)


def misbehave(server, protocol, kind):
    """Behave as *kind* says; gives the name of the connection."""
    sock = socket.socket()
    with sock:
        sock.settimeout(WAIT)
        sock.connect(("127.0.0.1", server.ports[protocol]))
        name = f"127.0.0.1:{sock.getsockname()[1]}"
        try:
            sock.sendall(kind.octets)
            if kind.end == "wait":
                while sock.recv(65_536):
                    pass
        except (ConnectionResetError, BrokenPipeError):
            pass
        if kind.end == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return name


def client(server, count, seed, refused):
    """Make *count* connections, one in ten of them good; tells of refused ones by their rule."""
    choose = random.Random(seed)  # noqa: S311 - the same each time
    kinds = {protocol: list(kinds_of(protocol)) for protocol in PROTOCOLS}
    with ExitStack() as stack:
        kept = {}
        for number in range(count):
            protocol = choose.choice(PROTOCOLS)
            if number % 10:
                kind = choose.choice(kinds[protocol])
                name = misbehave(server, protocol, kind)
                if kind.rule:
                    refused.append((name, kind.rule))
                continue
            frontend = kept.pop(protocol, None) or stack.enter_context(connect(server, protocol))
            path, body = f"/{seed}/{number}", b"b" * choose.choice((0, 10, 9000))
            answer = frontend.ask(path, body)
            assert answer.status == "200 OK"
            assert answer.body == path.encode() + b":" + body
            if answer.reusable:
                kept[protocol] = frontend
            else:
                frontend.close()


def attack(server, count, seed):
    """Let some clients make *count* connections in all; gives who was refused, and why."""
    refused = []
    failures = []

    def run(number):
        try:
            client(server, count // CLIENTS, seed + number, refused)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a client hangs"
    if failures:
        raise failures[0]
    return refused


@pytest.mark.timeout(180)
def test_ten_thousand_bad_connections(server):
    attack(server, 2000, seed=100)  # what is learnt and grown once is there afterwards
    before = settled(server)
    told = len(server.stderr.splitlines())
    refused = attack(server, CONNECTIONS, seed=1)
    until(lambda: len(server.stderr.splitlines()) - told >= len(refused), "the log lines")
    after = settled(server)
    lines = server.stderr.splitlines()[told:]

    # one line for each, which names the peer and the rule
    assert len(refused) > CONNECTIONS * 0.6
    assert len(lines) == len(refused), Counter(line.split(" ")[0] for line in lines)
    by_name = {}
    for line in lines:
        by_name.setdefault(re.search(r" (?:refused|499) (\S+): ", line)[1], []).append(line)
    assert Counter(name for name, _ in refused) == {k: len(v) for k, v in by_name.items()}
    for name, rule in refused:  # a port may come twice
        assert any(rule in line for line in by_name[name]), (rule, by_name[name])

    # nothing is left
    assert after["threads"] <= THREADS + 1  # with the watchdog
    assert after["descriptors"] == before["descriptors"]
    assert after["blocks"] - before["blocks"] < MOST_BLOCKS
    assert after["bytes"] - before["bytes"] < MOST_BYTES
    server.signal(signal.SIGTERM)
    assert server.ends() == 0
    assert "Traceback" not in server.stderr


def settled(server):
    """Wait until all connections have ended, the last half a head among them."""
    seen = []

    def quiet():
        seen.append(inspect(server))
        return len(seen) > 5 and all(
            seen[-1]["descriptors"] == one["descriptors"] for one in seen[-5:]
        )

    until(quiet, "a constant number of descriptors")
    return seen[-1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_bad_connection_alone(server, protocol):
    """The same one by one, so that a failure shows which it is."""
    told = len(server.stderr.splitlines())
    for kind in kinds_of(protocol):
        name = misbehave(server, protocol, kind)
        assert answers(server)
        if kind.rule:
            until(lambda: len(server.stderr.splitlines()) > told, f"a line about {kind.name}")  # noqa: B023
        lines = server.stderr.splitlines()[told:]
        assert len(lines) == bool(kind.rule), (kind.name, lines)
        if kind.rule:
            assert kind.rule in lines[0], kind.name
            assert name in lines[0], kind.name
            assert f"{protocol}://127.0.0.1" in lines[0], kind.name
            assert SECRET not in lines[0]
        told += len(lines)


def test_many_slow_heads_cost_no_thread_and_end(server):
    before = settled(server)
    slow = []
    for number in range(400):
        protocol = PROTOCOLS[number % 4]
        octets = request_octets(protocol)[: 1 + number % 30]
        sock = socket.create_connection(("127.0.0.1", server.ports[protocol]), WAIT)
        sock.sendall(octets)
        slow.append(sock)
    during = inspect(server)
    assert during["threads"] == before["threads"]
    for sock in slow:
        with suppress(ConnectionResetError):
            assert sock.recv(100) == b""
        sock.close()
    after = settled(server)["descriptors"]
    # those of another test's connections may still have been there before
    assert set(after) <= set(before["descriptors"])
    assert len(during["descriptors"]) >= len(after) + 400
    lines = [line for line in server.stderr.splitlines() if "head_timeout" in line]
    assert len(lines) == 400


SHORT_OF_DESCRIPTORS = """\
import logging, resource, sys
import portico

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"here"]

logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
portico.serve(application, sys.argv[1])
"""


def test_shortage_of_descriptors_pauses_accepting(tmp_path):
    """Beyond them connections wait in the kernel; the process neither spins nor ends."""
    script = tmp_path / "server.py"
    script.write_text(SHORT_OF_DESCRIPTORS)
    path = tmp_path / "s"
    with Process(tmp_path, script, f"fastcgi+unix://{path}") as server:
        until(path.exists, "the socket")
        served, waiting = [], []
        for _ in range(50):
            frontend = Frontend("fastcgi", str(path))
            frontend.begin()
            (waiting if waiting or not readable(frontend) else served).append(frontend)
        server.wait_for("cannot accept")
        assert 20 < len(served) < 40
        for frontend in served:
            frontend.finish()
        spent = cpu_seconds(server)
        quiet = threading.Event()
        quiet.wait(1.0)
        assert cpu_seconds(server) - spent < 0.3
        assert server.stderr.count("cannot accept") < 10
        for frontend in served:
            assert frontend.ask().body == b"here"  # those inside go on
        for frontend in served:
            frontend.close()
        for frontend in waiting:
            assert frontend.finish().body == b"here"
            frontend.close()
        assert "Traceback" not in server.stderr


def readable(frontend):
    frontend.sock.settimeout(0.5)
    try:
        return bool(frontend.sock.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        frontend.sock.settimeout(WAIT)


def cpu_seconds(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
