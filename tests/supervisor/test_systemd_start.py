"""Started as systemd does it: with its sockets, and with somebody to notify."""

import signal
from pathlib import Path

import pytest

from cli_harness import one_sentence
from portico import cli
from supervisor.playing_systemd import Service, tcp, unix

HELLO = Path(__file__).parents[2] / "examples" / "hello.py"


def ask(capsys, protocol, service, name):
    """``portico request`` to a socket of the service."""
    status = cli.main(["request", protocol + service.address(name) + "/"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def test_sockets_that_systemd_opened_are_served(tmp_path, capsys):
    """Each by its own protocol, whatever their order."""
    words = ["--bind", "scgi+systemd://b", "--bind", "fastcgi+systemd://a"]
    with Service(
        "serve", HELLO, *words, listen={"a": unix(tmp_path / "a.sock"), "b": tcp()}
    ) as service:
        service.await_text(r"(?s) on scgi.* on fastcgi", "err")
        for protocol, name in (("fastcgi", "a"), ("scgi", "b"), ("fastcgi", "a")):
            assert "Hello" in ask(capsys, protocol, service, name)
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        assert (tmp_path / "a.sock").exists()  # systemd's, which goes on listening
        assert service.strangers() == []


def test_connection_waits_for_a_service_that_starts_later(tmp_path, capsys):
    """The kernel's queue takes it as soon as systemd listens."""
    sock = unix(tmp_path / "web.sock")
    url = "fastcgi+systemd://web"
    with Service("serve", HELLO, "--bind", url, listen={"web": sock}) as service:
        assert "Hello" in ask(capsys, "fastcgi", service, "web")
        service.kill(signal.SIGTERM)
        assert service.finish() == 0


def test_socket_of_another_name_is_refused_in_a_sentence():
    with Service("serve", HELLO, "--bind", "scgi+systemd://wep", listen={"web": tcp()}) as service:
        assert service.finish() == 2
        assert "systemd passed no socket 'wep': it passed web" in one_sentence(service.err)


#: What the parent will do with a `Notifier`.
NOTIFYING = """
import os
from portico.supervisor.notify import Notifier
from portico.transports import systemd
notifier = Notifier(os.environ)
assert notifier.ready(f"{notifier.watchdog_seconds} {systemd.passed_sockets(os.environ)}")
assert notifier.watchdog()
assert notifier.reloading("new") and notifier.ready("old go") and notifier.stopping()
"""


def test_service_is_heard():
    with Service(
        script=NOTIFYING, watchdog_seconds=3, listen={"web": tcp(), "x": tcp()}
    ) as service:
        stopping = service.await_notification("STOPPING=1")
        assert stopping.pid == service.pid
        assert service.finish() == 0, service.err
        assert service.said("STATUS") == ["1.5 [('web', 3), ('x', 4)]", "new", "old go"]
        assert service.said("WATCHDOG") == ["1"]
        assert [next(iter(each.fields)) for each in service.hear()] == [
            "READY", "WATCHDOG", "RELOADING", "READY", "STOPPING",
        ]  # fmt: skip
        assert service.strangers() == []


#: A worker that speaks in its parent's name.
FORGING = """
import os
from portico.supervisor.notify import Notifier
if not os.fork():
    Notifier(os.environ).ready("forged")
    os._exit(0)
os.wait()
"""


def test_stranger_is_told_from_the_service():
    with Service(script=FORGING) as service:
        assert service.finish() == 0, service.err
        (stranger,) = service.strangers()
        assert stranger.fields == {"READY": "1", "STATUS": "forged"}


def test_end_without_a_notification_is_noticed():
    with (
        Service(script="print('gone')") as service,
        pytest.raises(AssertionError, match="READY=1"),
    ):
        service.await_notification("READY=1")
