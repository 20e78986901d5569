"""Notifying systemd, with a socket in systemd's place."""

import logging
import os
import socket
import subprocess
import sys
import time

import pytest

from engine_harness import WAIT
from portico.supervisor.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A datagram socket, and what NOTIFY_SOCKET says of it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@portico-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
        sock.settimeout(WAIT)
        yield sock, name


@pytest.fixture
def told(tmp_path):
    """Make a notifier that tells a socket, and give both."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        sock.settimeout(WAIT)
        yield Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")}), sock


def test_each_call_is_one_datagram(manager):
    sock, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.ready("2 workers")
    assert notifier.ready()
    assert notifier.stopping("waiting for 3 requests")
    assert notifier.status("busy")
    assert notifier.status("")
    assert notifier.watchdog()
    assert [sock.recv(4096) for _ in range(6)] == [
        b"READY=1\nSTATUS=2 workers",
        b"READY=1",
        b"STOPPING=1\nSTATUS=waiting for 3 requests",
        b"STATUS=busy",
        b"STATUS=",
        b"WATCHDOG=1",
    ]
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(4096)


def test_reload_tells_its_time_on_the_monotonic_clock(told):
    notifier, sock = told
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier.reloading("new workers")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, when, last = sock.recv(4096).decode().split("\n")
    assert (first, last) == ("RELOADING=1", "STATUS=new workers")
    assert before <= int(when.removeprefix("MONOTONIC_USEC=")) <= after


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        pytest.param("a\nREADY=1\r\0\x1b[1m", b"a READY=1   [1m", id="controls"),
        pytest.param("a\u2028b\x85c", b"a b c", id="line-separators"),
        pytest.param("caf\u00e9", b"caf\xc3\xa9", id="utf-8"),
        pytest.param("x\udcff", b"x ", id="surrogate"),
        pytest.param("y" * 5000, b"y" * 256, id="long"),
    ],
)
def test_status_is_one_short_line(told, text, sent):
    notifier, sock = told
    assert notifier.status(text)
    assert sock.recv(9000) == b"STATUS=" + sent


def test_full_queue_neither_blocks_nor_raises(told, caplog):
    caplog.set_level(logging.DEBUG, "portico")
    notifier, sock = told
    for _ in range(10_000):
        if not notifier.watchdog():
            break
    else:
        pytest.fail("the queue never filled")
    assert len(caplog.records) == 1
    assert "systemd was not told WATCHDOG=1" in caplog.text
    sock.recv(4096)
    assert notifier.watchdog()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("/nowhere/notify", id="missing"),
        pytest.param("/" + "x" * 200, id="too-long"),
        pytest.param("@nobody-listens-here", id="abstract"),
    ],
)
def test_unreachable_socket_is_a_debug_line(name, caplog):
    caplog.set_level(logging.DEBUG, "portico")
    assert not Notifier({"NOTIFY_SOCKET": name}).ready("x")
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert "READY=1" in record.getMessage()


def test_closed_socket_is_forgiven(told):
    notifier, sock = told
    sock.close()
    assert not notifier.stopping()


def test_address_of_another_kind_is_a_debug_line(caplog):
    caplog.set_level(logging.DEBUG, "portico")
    assert not Notifier({"NOTIFY_SOCKET": "vsock:2:9999"}).ready()
    assert "neither a path nor abstract" in caplog.text


def test_without_systemd_nothing_is_sent(caplog):
    caplog.set_level(logging.DEBUG, "portico")
    environ = {"HOME": "/"}
    notifier = Notifier(environ)
    sent = [notifier.ready("x"), notifier.reloading(), notifier.status("y"), notifier.watchdog()]
    assert not any(sent)
    assert notifier.watchdog_seconds is None
    assert environ == {"HOME": "/"}
    assert not caplog.records


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "own"}, 15.0, id="own-pid"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, id="other-pid"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="zero"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no-number"),
        pytest.param({"WATCHDOG_USEC": "9" * 400}, None, id="endless"),
        pytest.param({"WATCHDOG_PID": "own"}, None, id="not-asked"),
    ],
)
def test_watchdog_interval(variables, seconds):
    environ = {name: text.replace("own", str(os.getpid())) for name, text in variables.items()}
    assert Notifier(environ).watchdog_seconds == seconds


def test_subprocesses_inherit_nothing_of_it(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    Notifier(os.environ)
    script = "import os; print([n for n in os.environ if n.startswith(('NOTIFY', 'WATCHDOG'))])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert done.stdout == "[]\n"
