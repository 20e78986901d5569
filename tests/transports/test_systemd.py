"""Sockets passed by systemd: by name, by index, and why there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from portico.errors import ConfigError
from portico.transports import systemd


def environment(count, names=None, pid=None):
    environ = {"LISTEN_PID": str(os.getpid() if pid is None else pid), "LISTEN_FDS": str(count)}
    if names is not None:
        environ["LISTEN_FDNAMES"] = names
    return environ


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (environment(2, "web:admin"), [("web", 3), ("admin", 4)]),
        (environment(2, "web:web"), [("web", 3), ("web", 4)]),
        (environment(2), [("unknown", 3), ("unknown", 4)]),
        (environment(2, "web"), [("web", 3), ("unknown", 4)]),
        (environment(0), []),
        (environment(1, "web", pid=1), []),
        ({"LISTEN_FDS": "1"}, []),
        ({}, []),
    ],
)
def test_sockets_are_listed(environ, expected):
    assert systemd.passed_sockets(environ) == expected


@pytest.mark.parametrize(
    ("name", "environ", "fd"),
    [
        ("web", environment(2, "admin:web"), 4),
        ("web:0", environment(1, "web"), 3),
        ("web:1", environment(3, "web:admin:web"), 5),
        ("", environment(1, "web"), 3),
        (":1", environment(2, "web:admin"), 4),
    ],
)
def test_socket_is_found(name, environ, fd):
    assert systemd.find(name, environ) == fd


@pytest.mark.parametrize(
    ("name", "environ", "words"),
    [
        ("web", {}, "LISTEN_FDS is not set"),
        ("web", environment(0), "LISTEN_FDS is 0"),
        ("web", environment(1, "web", pid=1), "for process 1, this one is"),
        ("web", {"LISTEN_FDS": "1"}, "no LISTEN_PID"),
        ("wep", environment(2, "web:admin"), "no socket 'wep': it passed web, admin"),
        ("web:1", environment(1, "web"), "no socket 'web:1'"),
        ("web", environment(2, "web:web"), "choose one of web:0, web:1"),
        ("", environment(2, "web:admin"), "choose one of :0, :1"),
        ("web", environment("x"), "LISTEN_FDS is 'x', no number"),
        ("web", environment(1, pid="self"), "LISTEN_PID is 'self', no number"),
    ],
)
def test_missing_socket_is_explained(name, environ, words):
    with pytest.raises(ConfigError) as caught:
        systemd.find(name, environ)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


SERVE = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from portico.transports.bind import parse
from portico.transports.listen import open_listener
listener = open_listener(parse("scgi+systemd://web"))
print(listener.fd, flush=True)
import select
select.select([listener.fd], [], [], 20)
fd, _ = listener.accept()
os.write(fd, b"served")
"""


def test_passed_socket_serves():
    """As systemd does it: descriptor 3, its name in the environment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        passed = server.fileno()
        launch = f"import os,sys; os.dup2({passed}, 3); os.execv(sys.executable, sys.argv[1:])"
        with subprocess.Popen(
            [sys.executable, "-c", launch, sys.executable, "-c", SERVE],
            pass_fds=[passed, 3] if passed != 3 else [3],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout.readline() == "3\n"
            with socket.create_connection(server.getsockname(), 10) as client:
                assert client.recv(10) == b"served"
            assert process.wait(20) == 0
