"""An idle service sleeps: no process of it is woken until somebody comes."""

import re
import signal
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_harness import Command, eventually
from portico import cli
from supervisor.playing_systemd import Service

pytestmark = pytest.mark.slow  # processes, one after another

HELLO = Path(__file__).parents[2] / "examples" / "hello.py"

#: Seconds in which nothing is to happen: no condition tells when that is so.
SECONDS = 3.0

#: The same where strace looks on.
TRACED_SECONDS = 10.0

#: Short, so that it is over before anybody looks; seconds.
HEAD_TIMEOUT = 1.0

WORKERS = 2


def family(service):
    """The ids of all its processes."""
    return sorted({service.pid, *service.see_children()})


def switches(pids):
    """How often each thread has been given a processor: (process, thread) -> count."""
    found = {}
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            counts = re.findall(r"ctxt_switches:\t(\d+)", (task / "status").read_text())
            found[pid, int(task.name)] = sum(map(int, counts))
    return found


def woken(pids, seconds=SECONDS):
    """Look on for a while; gives the threads that were woken meanwhile, and how often."""
    before = switches(pids)
    threading.Event().wait(seconds)
    after = switches(pids)
    return {
        thread: after.get(thread, 0) - before.get(thread, 0)
        for thread in before.keys() | after.keys()
        if after.get(thread) != before.get(thread)
    }


def settled(pids):
    """Wait until nobody is woken for a while: what the last request set going is over.

    It is once behind `head_timeout`: a connection that came, and waited for its first octets, is
    looked at by then. However many came, one wake-up sees to it.
    """
    eventually(lambda: not woken(pids, 1.5 * HEAD_TIMEOUT), "the rest after the last request")


def ask(address, capsys, times=20):
    for _ in range(times):
        assert cli.main(["request", address]) == 0
        assert "Hello" in capsys.readouterr().out


@contextmanager
def rested(tmp_path, capsys, *words, kind=Command, **more):
    """A service that has answered, told its status, and come to rest."""
    bind = f"fastcgi+unix://{tmp_path}/app.sock"
    status = tmp_path / "status.sock"
    with kind(
        "serve", HELLO, "--bind", bind, "--workers", WORKERS, "--status-socket", status,
        "--head-timeout", HEAD_TIMEOUT, *words, **more,
    ) as service:  # fmt: skip
        service.await_text("serving", "err")
        ask(f"{bind}:/", capsys)
        assert cli.main(["status", str(status)]) == 0
        assert "serving" in capsys.readouterr().out
        settled(service.see_children())  # the parent may have systemd to tell
        yield service, f"{bind}:/"
        service.kill(signal.SIGTERM)
        assert service.finish() == 0


@pytest.mark.parametrize("words", [(), ("--preload",), ("--on-demand",)], ids=" ".join)
def test_nobody_is_woken(words, tmp_path, capsys):
    with rested(tmp_path, capsys, *words) as (service, address):
        pids = family(service)
        assert woken(pids) == {}
        before = switches(pids)
        ask(address, capsys, 1)
        assert switches(pids) != before  # somebody is where we look


def test_nothing_but_the_parent_is_woken_for_systemd(tmp_path, capsys):
    with rested(tmp_path, capsys, kind=Service, watchdog_seconds=2) as (service, _):
        service.await_notification("WATCHDOG=1")
        heard = len(service.said("WATCHDOG"))
        found = woken(family(service))
        pings = len(service.said("WATCHDOG")) - heard
        assert set(found) == {(service.pid, service.pid)}
        assert pings >= 2
        assert found[service.pid, service.pid] <= 2 * (pings + 1)
        assert service.strangers() == []


@pytest.mark.slow
@pytest.mark.frontend("strace")
def test_no_system_call_is_made(tmp_path, capsys):
    trace = tmp_path / "trace"
    with rested(tmp_path, capsys) as (service, address):
        who = [word for pid in family(service) for word in ("-p", str(pid))]
        with subprocess.Popen(
            ["strace", "-f", "-tt", "-o", trace, *who], stderr=subprocess.DEVNULL
        ) as strace:
            try:
                assert grown(trace, 0, TRACED_SECONDS) == ""
                length = len(trace.read_text())
                ask(address, capsys, 1)
                eventually(lambda: "accept4" in trace.read_text()[length:], "a trace of a request")
            finally:
                strace.send_signal(signal.SIGINT)


def grown(trace, length, seconds):
    """Wait until those that strace has interrupted wait again; gives what comes in *seconds*."""

    def is_settled():
        nonlocal length
        before, length = length, trace.stat().st_size if trace.exists() else 0
        threading.Event().wait(0.5)
        return before == length > 0

    eventually(is_settled, "the rest after strace has come")
    threading.Event().wait(seconds)
    return trace.read_text()[length:]
