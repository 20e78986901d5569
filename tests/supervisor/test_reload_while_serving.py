"""What a reload changes while requests come, and what goes on meanwhile."""

import signal
import socket
import threading

import pytest

from cli_harness import WAIT, eventually, free_port
from engine_harness import Frontend
from supervisor.playing_systemd import Service as Unit
from supervisor.playing_systemd import tcp
from supervisor.test_reload import APPLICATION, Service, ask
from supervisor_harness import Service as Doing


class Knocking(threading.Thread):
    """Connects again and again, and takes note of whoever refuses that."""

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.connections = 0
        self.failures = []
        self.enough = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        self.join(WAIT)

    def run(self):
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        while not self.enough.wait(0.001):
            with socket.socket(family) as client:
                client.settimeout(WAIT)
                try:
                    client.connect(self.address)
                except OSError as error:
                    self.failures.append(error)
                else:
                    self.connections += 1


def test_listener_that_stays_refuses_nobody(tmp_path):
    port, other = free_port(), free_port()
    kept = f"scgi://127.0.0.1:{port}"
    with Service(tmp_path, bind=[kept], workers=2) as service:
        with Knocking(("127.0.0.1", port)) as knocking:
            for binds in ([f"fastcgi://127.0.0.1:{other}", kept], [kept], [f"{kept}?backlog=5"]):
                before = knocking.connections
                service.write(bind=binds, workers=2)
                service.reload()
                eventually(lambda: knocking.connections > before, "connections")  # noqa: B023
        assert knocking.failures == []
        assert ask(f"{kept}/")[0] == "first"


def test_secret_of_an_open_listener_changes(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the first")
    url = f"ajp://127.0.0.1:{free_port()}"
    with Service(tmp_path, bind=[f"{url}?secret_file={secret}"]) as service:
        assert ask(f"{url}/", "--option", f"secret_file={secret}")[0] == "first"
        old = tmp_path / "old"
        secret.rename(old)
        secret.write_text("the second")
        service.reload()
        assert ask(f"{url}/", "--option", f"secret_file={secret}")[0] == "first"
        assert ask(f"{url}/", "--option", f"secret_file={old}")[0] == "403"
        secret.unlink()
        assert "cannot be read" in service.fail_to_reload()
        assert "the second" not in service.err


def test_log_becomes_louder_and_quieter(tmp_path):
    """In the parent and in the workers; a reload that is refused changes it in neither."""
    with Service(tmp_path, log_level="warning", announce=False) as service:
        service.write(log_level="info", app="/nowhere/site.py")
        service.fail_to_reload()
        assert " INFO " not in service.err
        service.write(log_level="debug")
        service.reload()
        service.await_text("INFO reloaded: generation 2", "err")
        service.write(log_level="error")
        service.reload()
        service.reload()
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        assert service.err.count("INFO reloading") == 1
        assert service.err.count("INFO reloaded") == 1
        assert "stopping" not in service.err


def test_mounts_change(tmp_path):
    (tmp_path / "shop.py").write_text(APPLICATION.replace("first", "shop"))
    with Service(tmp_path) as service:
        assert ask(f"{service.bind}:/shop/")[0] == "first"
        service.write(mounts={"/shop": "shop.py"})
        assert "no such file" in service.fail_to_reload()
        service.write(mounts={"/shop": f"{tmp_path}/shop.py"})
        service.reload()
        assert ask(f"{service.bind}:/shop/")[0] == "shop"
        assert ask(f"{service.bind}:/")[0] == "first"


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        pytest.param(0, "to serve without a parent takes a restart", id="none"),
        pytest.param(1000, "more workers than 240 take a restart", id="more-than-seen"),
    ],
)
def test_number_of_workers_that_takes_a_restart(workers, words, tmp_path):
    with Service(tmp_path) as service:
        service.write(workers=workers)
        assert words in service.fail_to_reload()
        assert len(service.children()) == 1
        assert service.ask()[0] == "first"


def test_long_request_is_finished_by_the_old_generation(tmp_path):
    with Doing(tmp_path, "--workers", 2) as service:
        before = service.await_serving(2)
        frontend, holder = service.hold()
        service.app.write_text(service.app.read_text().replace('"first"', '"second version"'))
        service.kill(signal.SIGHUP)
        service.await_text("generation 2 serves", "err")
        (other,) = set(before) - {holder}
        eventually(lambda: other not in service.children(), "the end of the idle one")
        assert service.ask().body == b"second version"
        states = {one["pid"]: one["state"] for one in service.status()["workers"]}
        assert states[holder] == "retiring"
        service.let_go()
        with frontend:
            answer = frontend.finish()
        assert answer.status == "200 OK"
        assert dict(answer.headers)["X-Process"] == str(holder)
        service.await_serving(2, but=before)


def test_signals_during_a_reload_are_one_more(tmp_path):
    with Doing(tmp_path) as service:
        (tmp_path / "hangs").touch()
        before = len(service.imports())
        service.kill(signal.SIGHUP)
        eventually(lambda: len(service.imports()) > before, "the next generation")
        assert service.status()["parent"]["state"] == "reloading"
        for number in (1, 2, 3):
            service.kill(signal.SIGHUP)
            # it answers behind the signal
            assert service.status()["parent"]["reloads"] == 0, number
        (tmp_path / "hangs").unlink()
        service.await_text("generation 3 serves", "err")
        assert service.ask().status == "200 OK"
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        assert service.count("reloading\n") == 2


# -- systemd -------------------------------------------------------------------------------

#: The second worker waits for a file.
SLOW = """\
import os, pathlib, time

def first():
    try:
        pathlib.Path("one").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

if not first():
    pathlib.Path("two").touch()
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


def test_service_is_ready_once_all_workers_serve(tmp_path):
    (tmp_path / "site.py").write_text(SLOW + APPLICATION)
    words = ("serve", "site.py", "--workers", "2", "--status-socket", tmp_path / "status.sock")
    with Unit(*words, listen={"scgi": tcp()}, cwd=tmp_path) as unit:
        eventually((tmp_path / "two").exists, "the second worker")
        # the first serves already
        eventually(lambda: ask(f"scgi{unit.address('scgi')}/")[0] == "first", "a worker")
        assert unit.said("READY") == []
        (tmp_path / "go").touch()
        unit.await_notification("READY=1")
        assert unit.said("READY") == ["1"]
        assert unit.strangers() == []


def test_connections_wait_in_the_sockets_of_systemd(tmp_path):
    """From a stop to the next start; also those that nobody had accepted."""
    (tmp_path / "site.py").write_text(APPLICATION)
    with tcp() as sock:
        port = sock.getsockname()[1]
        url = f"scgi://127.0.0.1:{port}"
        for _ in range(2):
            with Unit("serve", "site.py", listen={"scgi": sock.dup()}, cwd=tmp_path) as unit:
                unit.await_notification("READY=1")
                assert ask(f"{url}/")[0] == "first"
                unit.kill(signal.SIGTERM)
                unit.await_notification("STOPPING=1")
                assert unit.finish() == 0
        with Frontend("scgi", ("127.0.0.1", port), keep=False) as waiting:
            waiting.begin("/")
            with Unit("serve", "site.py", listen={"scgi": sock.dup()}, cwd=tmp_path) as unit:
                unit.await_notification("READY=1")
                assert waiting.finish().status == "200 OK"


def test_start_that_fails_is_no_readiness(tmp_path):
    (tmp_path / "site.py").write_text("import nothing_of_this_name\n")
    with Unit("serve", "site.py", listen={"scgi": tcp()}, cwd=tmp_path) as unit:
        assert unit.finish() == 2
        assert unit.said("READY") == []
        assert unit.strangers() == []
