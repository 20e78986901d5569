"""A worker's memory stays what it is, whatever has been asked of it and however it went.

`make check` leaves it out; it takes about half a minute.
"""

import itertools
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from cli_harness import Command, eventually
from engine_harness import KEEPING, PROTOCOLS, make_codec, request_octets
from portico import cli
from portico.events import ResponseEnded, ResponseReceived

#: Requests in all, and those after which memory is taken for settled.
REQUESTS = 200_000
FIRST = 20_000

#: How much more a worker may have in the end, as a share.
MOST_GROWTH = 0.05

#: Connections that are asked at the same time.
AT_ONCE = 8

APPLICATION = """\
BLOCK = bytes(1000)


def application(environ, start_response):
    kind = environ["PATH_INFO"][1:]
    if kind == "raise":
        raise ValueError(kind)
    status = "500 Internal Server Error" if kind == "error" else "200 OK"
    start_response(status, [("Content-Type", "text/plain")])
    if kind == "stream":
        return (BLOCK for _ in range(10))
    if kind == "flood":
        return (BLOCK for _ in range(10_000))
    return [environ["wsgi.input"].read() or b"whole"]
"""

#: Kinds of requests that are answered whole: what is asked, and the status of the answer.
ANSWERED = {
    "plain": ({}, 200),
    "echo": ({"body": b"x" * 3000}, 200),
    "stream": ({}, 200),
    "head": ({"method": "HEAD"}, 200),
    "error": ({}, 500),
}

#: How a kept connection shows the end of a response.
ENDS = {
    "fastcgi": lambda data: data[-16:-14] == b"\1\3",
    "ajp": lambda data: data.endswith(b"AB\0\2\5\1"),
}


def status_of(protocol, method, data, *, keep):
    """Check by the codec of a web server that an answer is whole; gives its status."""
    codec = make_codec(protocol, keep=keep)
    codec.send_request({"REQUEST_METHOD": method, "REQUEST_URI": "/", "CONTENT_LENGTH": "0"})
    events = codec.receive_data(data)
    if not keep:
        events += codec.receive_eof()
    (head,) = (event for event in events if type(event) is ResponseReceived)
    assert type(events[-1]) is ResponseEnded
    return int(head.status[:3])


class Visitor:
    """Asks one protocol in one way, kept connections or new ones, again and again."""

    def __init__(self, path, protocol, *, keep):
        self._path = str(path)
        self._protocol = protocol
        self._keep = keep
        self._stays = keep or protocol == "ajp"  # which knows no other way
        self._kept = []
        self._lengths = {}  # kind -> octets of the answer, once one has been looked at
        self._octets = {
            kind: request_octets(protocol, f"/{kind}", keep=keep, **asked)
            for kind, (asked, _) in {**ANSWERED, "raise": ({}, 500), "flood": ({}, 200)}.items()
        }

    def _connect(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(self._path)
        return sock

    def _take(self, sock):
        data = sock.recv(65_536)
        while not (self._stays and ENDS[self._protocol](data)):
            more = sock.recv(65_536)
            if not more:
                assert not self._stays, "a kept connection was closed"
                break
            data += more
        return data

    def ask(self, kind):
        """Ask on all connections at a time, and see to it that each gets all of its answer."""
        socks = self._kept or [self._connect() for _ in range(AT_ONCE)]
        for sock in socks:
            sock.sendall(self._octets[kind])
        for sock in socks:
            data = self._take(sock)
            if kind not in self._lengths:
                asked, wanted = ANSWERED.get(kind, ({}, 500))
                method = asked.get("method", "GET")
                assert status_of(self._protocol, method, data, keep=self._keep) == wanted
                self._lengths[kind] = len(data)
            assert len(data) == self._lengths[kind], data
        self._kept = socks if self._keep else []
        if not self._keep:
            self._close(socks)
        return len(socks)

    def go_away(self):
        """Ask for much and close; ask with half a body and close; let go of the kept ones."""
        self._close(self._kept)
        self._kept = []
        for octets in (self._octets["flood"], self._octets["echo"][:-1500]):
            socks = [self._connect() for _ in range(AT_ONCE // 2)]
            for sock in socks:
                sock.sendall(octets)
            self._close(socks)
        return AT_ONCE

    def close(self):
        self._close(self._kept)

    def _close(self, socks):
        for sock in socks:
            sock.close()


def visit(visitors, number, turns):
    """Ask everything of everybody until *number* requests have been made; gives how many."""
    asked = 0
    while asked < number:
        for visitor in visitors:
            asked += sum(visitor.ask(kind) for kind in ANSWERED)
            if next(turns) % 8 == 0:
                asked += visitor.go_away() + visitor.ask("raise")
    return asked


def look(status, capsys):
    """The one worker's figures, and the total, once it rests."""

    def is_at_rest():
        assert cli.main(["status", "--json", str(status)]) == 0
        seen = json.loads(capsys.readouterr().out)
        return seen if not seen["total"]["busy"] else None

    seen = eventually(is_at_rest, "the end of the last request")
    (worker,) = seen["workers"]
    pages = int(Path(f"/proc/{worker['pid']}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE"), seen


@pytest.mark.slow
def test_memory_stays(tmp_path, capsys):
    app = tmp_path / "site.py"
    app.write_text(APPLICATION)
    binds = [
        word
        for protocol in PROTOCOLS
        for word in ("--bind", f"{protocol}+unix://{tmp_path}/{protocol}")
    ]
    status = tmp_path / "status"
    with Command(
        "serve", app, *binds, "--status-socket", status, "--access-log", "/dev/null",
        "--log-file", "/dev/null",
    ) as service:  # fmt: skip
        eventually(status.exists, "the service")
        ways = [(protocol, keep) for protocol in PROTOCOLS for keep in (False, True)]
        visitors = [
            Visitor(tmp_path / protocol, protocol, keep=keep)
            for protocol, keep in ways
            if protocol in KEEPING or not keep
        ]
        turns = itertools.count()
        asked = visit(visitors, FIRST, turns)
        before, _ = look(status, capsys)
        asked += visit(visitors, REQUESTS - asked, turns)
        after, seen = look(status, capsys)
        for visitor in visitors:
            visitor.close()
        figures = f"{before} octets after {FIRST} requests, {after} after {asked}: {seen['total']}"
        print(figures)  # noqa: T201 - to be seen with -s
        assert after <= before * (1 + MOST_GROWTH), figures
        assert seen["parent"]["crashes"] == 0
        # those who went away may not have got as far as a request
        assert 0.9 * REQUESTS < seen["total"]["requests"] <= asked
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
