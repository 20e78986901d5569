"""Workers and parents that die though nobody wanted it."""

import concurrent.futures
import http.client
import os
import re
import signal
from contextlib import closing

import pytest

from cli_harness import WAIT, eventually
from nginx_harness import forbid_second_tries
from portico.servers.launch import launch
from portico.servers.site import Site
from portico.transports.bind import parse
from supervisor_harness import Service, is_cut, processor_seconds


@pytest.fixture
def stubborn_nginx(monkeypatch):
    """nginx as it is configured for users, but for a second try, which it never makes."""
    forbid_second_tries(monkeypatch)


def visit(port, path):
    """A visitor's request; gives status and process that answered, 0 if none did."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status, int(response.headers.get("X-Process", 0))


@pytest.mark.frontend("nginx")
@pytest.mark.usefixtures("stubborn_nginx")
@pytest.mark.parametrize("protocol", ["fastcgi", "uwsgi"])
def test_killed_worker_fails_its_own_request_alone(protocol, tmp_path):
    with (
        Service(tmp_path, "--workers", 2, "--threads", 1, protocol=protocol) as service,
        launch(
            "nginx",
            Site(via=protocol, bind=parse(f"{protocol}+unix://{service.socket}"), listen_port=0),
        ) as front,
        concurrent.futures.ThreadPoolExecutor(2) as visitors,
    ):
        port = front.site.listen_port
        visits = [visitors.submit(visit, port, f"/held?{name}") for name in ("one", "two")]
        killed, other = map(service.holder, ("one", "two"))
        assert killed != other
        os.kill(killed, signal.SIGKILL)
        assert visits[0].result(WAIT) == (502, 0)
        pids = service.await_serving(2, but=[killed])
        assert other in pids
        service.let_go()
        assert visits[1].result(WAIT) == (200, other)
        assert visit(port, "/")[0] == 200
        assert service.status()["parent"]["crashes"] == 1
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        service.assert_left_nothing()


def pauses(service):
    """The pauses before new workers that the log tells of, seconds."""
    return [float(text) for text in re.findall(r"started in (\S+) seconds", service.err)]


def test_worker_that_dies_of_a_request_is_replaced(tmp_path):
    with Service(tmp_path, "--workers", 1) as service:
        for crashes in (1, 2, 3):
            (pid,) = service.await_serving(1)
            assert is_cut(service.begin("/dying"))
            service.await_serving(1, but=[pid])
            assert service.status()["parent"]["crashes"] == crashes
        assert pauses(service) == [0.1, 0.2, 0.4]
        assert service.count("has ended with status 3; starting another") == 3
        assert service.ask().status == "200 OK"


def test_application_that_dies_at_each_start_is_no_busy_loop(tmp_path):
    """Each pause is twice the one before; the parent does next to nothing meanwhile."""
    with Service(tmp_path, "--workers", 1) as service:
        (tmp_path / "dies").touch()
        before = processor_seconds(service.pid)
        os.kill(service.serving()[0], signal.SIGKILL)
        service.await_text("started in 0.8 seconds", "err")
        assert pauses(service) == [0.1, 0.2, 0.4, 0.8]
        assert service.count("ended with status 3 before it could serve") == 3
        # the pauses were 0.7 seconds, all of which a busy loop would have taken
        assert processor_seconds(service.pid) - before < 0.4
        waiting = service.begin("/")
        (tmp_path / "dies").unlink()
        with waiting:
            assert waiting.finish().status == "200 OK"
        service.await_serving(1)


def test_workers_finish_and_end_without_their_parent(tmp_path):
    with Service(tmp_path, "--workers", 2) as service:
        frontend, holder = service.hold()
        service.see_children()
        service.kill(signal.SIGKILL)
        service.await_death()
        eventually(lambda: service.leftovers() == [holder], "the end of the idle worker")
        service.let_go()
        with frontend:
            assert frontend.finish().status == "200 OK"
        service.assert_left_nothing()
        (tmp_path / "go").unlink()
        with Service(tmp_path) as next_one:
            assert next_one.ask().status == "200 OK"


def test_worker_whose_request_does_not_end_ends_without_its_parent(tmp_path):
    """Nobody is there who would kill it, and its main thread hears nothing."""
    with Service(tmp_path, "--workers", 1, "--graceful-timeout", 0.2) as service:
        late = service.begin("/hashing")
        eventually((tmp_path / "hashing").exists, "the request in the main thread")
        service.kill(signal.SIGKILL)
        service.await_death()
        assert is_cut(late)
        service.assert_left_nothing()


def test_worker_that_loads_as_its_parent_dies_ends_too(tmp_path):
    with Service(tmp_path, "--workers", 1) as service:
        (tmp_path / "hangs").touch()
        service.kill(signal.SIGHUP)
        eventually(lambda: len(service.imports()) == 2, "the import")
        service.kill(signal.SIGKILL)
        service.await_death()
        eventually(lambda: service.leftovers() == service.imports()[1:], "the end of the first")
        (tmp_path / "hangs").unlink()
        service.assert_left_nothing()
