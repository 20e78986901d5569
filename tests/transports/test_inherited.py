"""Descriptors a process was started with: telling FastCGI from CGI, taking a socket over."""

from __future__ import annotations

import _socket
import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from portico.errors import ConfigError, TransportError
from portico.transports import inherited


def test_listening_sockets_are_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert inherited.is_listening(server.fileno())
        os.fstat(server.fileno())  # still open
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
        assert not inherited.is_listening(server.fileno())
        server.listen()
        assert inherited.is_listening(server.fileno())


def test_everything_else_is_no_listening_socket(tmp_path):
    reading, writing = os.pipe()
    ours, theirs = socket.socketpair()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    file = (tmp_path / "f").open("w")
    with ours, theirs, datagrams, file:
        for fd in (reading, writing, ours.fileno(), datagrams.fileno(), file.fileno()):
            assert not inherited.is_listening(fd)
    os.close(reading)
    os.close(writing)
    assert not inherited.is_listening(reading)  # closed


class WithoutOption:
    """A socket whose system does not tell SO_ACCEPTCONN."""

    type = socket.SOCK_STREAM

    def __init__(self, fileno):
        self._sock = _socket.socket(fileno=fileno)
        self.getpeername = self._sock.getpeername
        self.detach = self._sock.detach

    def getsockopt(self, *_):
        raise OSError(92, "Protocol not available")


def test_peer_name_decides_where_the_option_cannot_be_read(monkeypatch):
    system = SimpleNamespace(**vars(_socket) | {"socket": WithoutOption})
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(inherited, "_socket", system)
    with socket.create_server(("127.0.0.1", 0)) as server, ours, theirs:
        assert inherited.is_listening(server.fileno())
        assert not inherited.is_listening(ours.fileno())


def test_taking_what_does_not_listen_is_refused():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TransportError, match="no listening socket: the program"):
        inherited.take(ours.fileno())


def test_taken_socket_is_not_inherited_further():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        assert inherited.take(server.fileno()) == server.fileno()
        assert not server.get_inheritable()


TAKE_FD_0 = """
import json, os, subprocess, sys
from portico.transports import inherited
fd = inherited.take(0)
child = subprocess.run([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"],
                       capture_output=True, text=True)
print(json.dumps({"fd": fd, "listening": inherited.is_listening(fd),
                  "again": inherited.is_listening(0), "read": os.read(0, 10).decode(),
                  "child": child.stdout.strip()}))
"""


def test_socket_on_standard_input_is_moved_away():
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", TAKE_FD_0],
            stdin=server.fileno(),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    said = json.loads(done.stdout)
    assert said.pop("fd") > 2
    assert said == {"listening": True, "again": False, "read": "", "child": "''"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1/32",)),
        (" 10.0.0.1 ,10.0.0.2,\t::1,", ("10.0.0.1/32", "10.0.0.2/32", "::1/128")),
        ("::ffff:10.0.0.1", ("10.0.0.1/32",)),
        ("10.0.0.0/8", ("10.0.0.0/8",)),
        ("", ()),
        ("  ", ()),
    ],
)
def test_web_servers_are_read(text, expected):
    assert inherited.web_server_addresses({"FCGI_WEB_SERVER_ADDRS": text}) == expected


def test_no_web_servers_are_named():
    assert inherited.web_server_addresses({}) == ()


def test_bad_web_server_is_refused():
    with pytest.raises(ConfigError, match="FCGI_WEB_SERVER_ADDRS: 'web1' is no IP address"):
        inherited.web_server_addresses({"FCGI_WEB_SERVER_ADDRS": "10.0.0.1,web1"})


def test_the_question_costs_little():
    """It is asked on the way to CGI as well."""
    code = (
        "import sys; before = set(sys.modules); import portico.transports.inherited;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "_socket" in loaded
    assert not loaded & {"socket", "ipaddress", "typing", "dataclasses", "re", "portico.config"}
