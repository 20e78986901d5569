"""Reloads: what is read again, what is refused, and who serves meanwhile."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cli_harness import WAIT, Command, eventually, free_port, is_free
from supervisor.playing_systemd import Service as Unit
from supervisor.playing_systemd import tcp

pytestmark = pytest.mark.slow  # processes, one after another

APPLICATION = """\
import os, pwd
VERSION = "first"

def application(environ, start_response):
    if environ["PATH_INFO"] == "/ill" and os.path.exists(__file__ + ".ill"):
        raise RuntimeError("the database is away")
    start_response("200 OK", [("Content-Type", "text/plain")])
    who = pwd.getpwuid(os.geteuid()).pw_name
    words = [VERSION, os.environ.get("GREETING", "-"), who, environ["portico.bind"]]
    return [" ".join(words).encode()]
"""


class Service(Command):
    """A service with a configuration file that a test rewrites."""

    def __init__(self, directory, *, announce=True, **lines):
        self.directory = directory
        self.file = directory / "portico.yaml"
        self.bind = f"scgi+unix://{directory}/app.sock"
        (directory / "site.py").write_text(APPLICATION)
        self.write(**lines)
        super().__init__("serve", "--config", self.file)
        if announce:
            self.await_text("serving", "err")
        else:  # where the log is to say nothing of it
            eventually((directory / "app.sock").exists, "the socket")
            self.ask()

    def write(self, text="", **lines):
        settings = {
            "app": f"{self.directory}/site.py",
            "bind": [self.bind],
            "status_socket": f"{self.directory}/status.sock",
            **lines,
        }
        body = "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
        self.file.write_text(body + text)

    def status(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT)
            client.connect(f"{self.directory}/status.sock")
            data = b""
            while piece := client.recv(65_536):
                data += piece
        return json.loads(data)

    def reload(self):
        before = self.status()["parent"]["reloads"]
        self.kill(signal.SIGHUP)

        def is_done():
            status = self.status()
            there = {one["generation"] for one in status["workers"]}
            # the old workers may take what comes until they have heard that they are to go
            return status["parent"]["reloads"] > before and there == {
                status["parent"]["generation"]
            }

        eventually(is_done, f"the reload: {self.err}")

    def fail_to_reload(self):
        before = self.status()["parent"]["failed_reloads"]
        self.kill(signal.SIGHUP)
        eventually(lambda: self.status()["parent"]["failed_reloads"] > before, "the refusal")
        # the status may be faster than the pipe
        eventually(lambda: self.err.count("goes on serving\n") > before, "the log")
        return self.status()["parent"]["last_failure"]

    def ask(self, bind=""):
        return ask(bind or f"{self.bind}:/")


def ask(url, *options):
    done = subprocess.run(
        [sys.executable, "-m", "portico", "request", url, *options],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


def test_configuration_is_read_again(tmp_path):
    port = free_port()
    with Service(tmp_path) as service:
        assert service.ask()[:2] == ["first", "-"]
        added = f"fastcgi://127.0.0.1:{port}"
        service.write(
            bind=[service.bind, added], workers=3, environment={"GREETING": "hello"}, threads=2
        )
        service.reload()
        assert service.ask()[:2] == ["first", "hello"]
        assert ask(added + "/")[3] == added
        assert service.status()["parent"]["configured"] == 3
        eventually(lambda: len(service.children()) == 3, "three workers")
        service.await_text(r"\(up to 2 threads\)", "err")
        service.write(bind=[added])
        service.reload()
        assert ask(added + "/")[:2] == ["first", "-"]
        assert not (tmp_path / "app.sock").exists()
        service.write()
        service.reload()
        eventually(lambda: is_free(port), "the port")
        assert service.ask()[0] == "first"
        service.kill(signal.SIGTERM)
        assert service.finish() == 0


MISTAKES = [
    pytest.param({"text": "treads: 3\n"}, "line 4: there is no setting 'treads'; did", id="key"),
    pytest.param({"threads": "many"}, "threads is 'many', must be", id="value"),
    pytest.param({"app": "/nowhere/site.py"}, "cannot be loaded", id="application"),
    pytest.param({"user": "no-such-user-here"}, "there is no user", id="user"),
    pytest.param({"bind": []}, "nothing to listen on", id="no-bind"),
    pytest.param({"bind": ["scgi+unix:///nowhere/app.sock"]}, "does not exist", id="directory"),
    pytest.param({"health": "/ill"}, "the database is away", id="health"),
]


def test_mistake_changes_nothing_but_log_and_status(tmp_path):
    (tmp_path / "site.py.ill").touch()
    with Service(tmp_path, environment={"GREETING": "hello"}) as service:
        for mistake in MISTAKES:
            changes, sentence = mistake.values
            service.write(**changes)
            assert sentence in service.fail_to_reload()
            assert sentence in service.err
            assert service.ask()[:2] == ["first", "hello"]
        taken = socket.create_server(("127.0.0.1", 0))
        with taken:
            other = f"scgi://127.0.0.1:{taken.getsockname()[1]}"
            service.write(bind=[service.bind, other])
            assert "is taken" in service.fail_to_reload()
        (service.directory / "site.py").write_text("import nothing_of_this_name\n")
        service.write()
        assert "nothing_of_this_name" in service.fail_to_reload()
        assert service.ask()[:2] == ["first", "hello"]
        assert service.status()["parent"]["generation"] == 1
        (service.directory / "site.py").write_text(APPLICATION.replace("first", "the-second"))
        service.reload()
        assert service.ask()[:2] == ["the-second", "-"]
        assert service.status()["parent"]["last_failure"] == ""
        assert service.status()["parent"]["crashes"] == 0


def test_signals_during_a_reload(tmp_path):
    """One more reload follows; an end is an end."""
    with Service(tmp_path, workers=2) as service:
        service.kill(signal.SIGHUP, signal.SIGHUP, signal.SIGHUP)
        eventually(lambda: service.status()["parent"]["reloads"] >= 1, "a reload")
        service.kill(signal.SIGHUP, signal.SIGTERM)
        assert service.finish() == 0
        service.assert_left_nothing()
        assert not (tmp_path / "app.sock").exists()


def test_options_of_an_open_listener_change(tmp_path):
    port = free_port()
    with Service(tmp_path, bind=[f"scgi://127.0.0.1:{port}"]) as service:
        assert ask(f"scgi://127.0.0.1:{port}/")[0] == "first"
        service.write(bind=[f"scgi://127.0.0.1:{port}?allow=192.0.2.1"])
        service.reload()
        with socket.create_connection(("127.0.0.1", port), WAIT) as client:
            assert client.recv(1) == b""
        service.write(bind=[f"fastcgi://127.0.0.1:{port}"])
        service.reload()
        assert ask(f"fastcgi://127.0.0.1:{port}/")[0] == "first"


def test_what_takes_a_restart_is_named(tmp_path):
    with Service(tmp_path) as service:
        service.write(
            pid_file=f"{tmp_path}/portico.pid",
            access_log=f"{tmp_path}/access.log",
            bind=[f"{service.bind}?mode=600"],
        )
        service.reload()
        service.await_text("generation 2 serves", "err")
        for name in ("pid_file", "access_log", "mode"):
            assert f"{name} stays as it is: another one takes a restart" in service.err
        assert service.err.count("takes a restart") == 3
        assert not (tmp_path / "portico.pid").exists()
        assert service.ask()[0] == "first"


# -- systemd -------------------------------------------------------------------------------


def test_systemd_is_told_how_it_goes(tmp_path):
    app = tmp_path / "site.py"
    app.write_text(APPLICATION)
    with Unit(
        "serve", app, "--workers", "2", listen={"scgi": tcp(), "fastcgi-admin": tcp()}
    ) as unit:
        ready = unit.await_notification("READY=1")
        assert "2 workers serving" in ready.fields["STATUS"]
        assert len(unit.children()) == 2
        assert ask(f"scgi{unit.address('scgi')}/")[0] == "first"
        assert ask(f"fastcgi{unit.address('fastcgi-admin')}/")[0] == "first"
        unit.kill(signal.SIGHUP)
        reloading = unit.await_notification("RELOADING=1")
        assert int(reloading.fields["MONOTONIC_USEC"]) > 0
        unit.await_notification("READY=1", 2)
        app.write_text("import nothing_of_this_name\n")
        unit.kill(signal.SIGHUP)
        again = unit.await_notification("READY=1", 3)
        assert "the last reload failed" in again.fields["STATUS"]
        assert "WATCHDOG" not in {name for each in unit.hear() for name in each.fields}
        unit.kill(signal.SIGTERM)
        unit.await_notification("STOPPING=1")
        assert unit.finish() == 0
        assert unit.strangers() == []


def test_systemd_s_watchdog_is_petted_if_it_asks(tmp_path):
    app = tmp_path / "site.py"
    app.write_text(APPLICATION)
    with Unit("serve", app, listen={"scgi": tcp()}, watchdog_seconds=0.4) as unit:
        unit.await_notification("WATCHDOG=1", 4)
        assert unit.strangers() == []


# -- who it is -----------------------------------------------------------------------------


@pytest.fixture
def open_path():
    """A directory that any account may pass through: pytest's own are for us alone."""
    with tempfile.TemporaryDirectory(prefix="test-reload-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_workers_become_another_user_and_the_parent_does_not(open_path):
    tmp_path = open_path
    log = tmp_path / "error.log"
    with Service(
        tmp_path,
        user="nobody",
        pid_file=f"{tmp_path}/portico.pid",
        access_log=f"{tmp_path}/access.log",
    ) as service:
        assert service.ask()[2] == "nobody"
        assert (tmp_path / "portico.pid").read_text() == f"{service.pid}\n"
        assert "runs as root" not in service.err
        # a generation that never serves gets no files
        changes = {"pid_file": f"{tmp_path}/portico.pid", "access_log": f"{tmp_path}/access.log"}
        service.write(user="daemon", bind=["scgi+unix:///nowhere/app.sock"], **changes)
        assert "does not exist" in service.fail_to_reload()
        (tmp_path / "access.log").rename(log)
        service.kill(signal.SIGUSR1)
        eventually((tmp_path / "access.log").exists, "the new file")
        eventually(
            lambda: (tmp_path / "access.log").stat().st_uid == pwd.getpwnam("nobody").pw_uid,
            "its owner",
        )
        eventually(
            lambda: service.ask() and "GET / " in (tmp_path / "access.log").read_text(), "a line"
        )
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        assert not (tmp_path / "portico.pid").exists()


def test_second_service_with_the_same_pid_file_is_refused(tmp_path):
    with Service(tmp_path, pid_file=f"{tmp_path}/portico.pid") as service:
        other = Command(
            *("serve", tmp_path / "site.py", "--bind", f"scgi+unix://{tmp_path}/other.sock"),
            *("--pid-file", tmp_path / "portico.pid"),
        )
        with other:
            assert other.finish() == 1
            assert f"process {service.pid}" in other.err
            assert not (tmp_path / "other.sock").exists()
        assert service.ask()[0] == "first"
