"""Workers that come with the first request and leave when they have nothing to do."""

import json
import os
import socket
import time

import pytest

from cli_harness import WAIT, Command, eventually

APPLICATION = """\
import os, time

def application(environ, start_response):
    until = environ["QUERY_STRING"]
    while until and not os.path.exists(until):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def begin(path, query=""):
    """Send a request of SCGI; gives the socket."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(WAIT)
    client.connect(str(path))
    pairs = ["CONTENT_LENGTH", "0", "SCGI", "1", "REQUEST_METHOD", "GET", "QUERY_STRING", query]
    head = "\0".join([*pairs, "SCRIPT_NAME", "", "PATH_INFO", "/", ""])
    client.sendall(f"{len(head)}:{head},".encode())
    return client


def finish(client):
    """The process id that an answer tells."""
    with client:
        data = b""
        while piece := client.recv(65_536):
            data += piece
    return int(data.rpartition(b"\r\n\r\n")[2])


def status(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(WAIT)
        client.connect(str(path))
        data = b""
        while piece := client.recv(65_536):
            data += piece
    return json.loads(data)


@pytest.fixture
def serve(tmp_path):
    (tmp_path / "site.py").write_text(APPLICATION)
    started = []

    def start(*options):
        command = Command(
            *("serve", tmp_path / "site.py", "--bind", f"scgi+unix://{tmp_path}/app.sock"),
            *("--status-socket", tmp_path / "status.sock", "--on-demand", *options),
        )
        started.append(command)
        command.await_text("serving", "err")
        return command

    yield start
    for command in started:
        command.__exit__()


def test_worker_leaves_when_idle_and_comes_back_with_the_next_request(serve, tmp_path):
    command = serve("--workers", "2", "--worker-idle-timeout", "0.3")
    eventually(lambda: not command.children(), "the end of the idle worker")
    for _ in range(3):
        pid = finish(begin(tmp_path / "app.sock"))
        assert pid in command.started or pid in command.see_children()
        eventually(lambda: not command.children(), "the end of the idle worker")
    eventually(lambda: not status(tmp_path / "status.sock")["workers"], "an empty table")
    totals = status(tmp_path / "status.sock")
    assert totals["total"]["requests"] == 3
    assert totals["parent"]["crashes"] == 0


def test_more_workers_come_as_requests_wait_and_no_more_than_may_be(serve, tmp_path):
    command = serve("--workers", "3", "--threads", "1", "--worker-idle-timeout", "60")
    go = tmp_path / "go"
    clients = [begin(tmp_path / "app.sock", str(go)) for _ in range(6)]
    eventually(lambda: status(tmp_path / "status.sock")["total"]["busy"] == 3, "three workers")
    go.touch()
    assert len({finish(client) for client in clients}) == 3
    assert len(command.children()) == 3


def test_worker_with_a_kept_connection_stays(serve, tmp_path):
    """Closing it might lose a request that is on its way."""
    command = serve("--workers", "1", "--worker-idle-timeout", "0.2", "--head-timeout", "60")
    with socket.socket(socket.AF_UNIX) as kept:
        kept.connect(str(tmp_path / "app.sock"))
        eventually(
            lambda: status(tmp_path / "status.sock")["total"]["connections"] == 1, "the connection"
        )
        (pid,) = command.children()
        for _ in range(2):
            assert finish(begin(tmp_path / "app.sock")) == pid
        waited = time.monotonic() + 1
        eventually(lambda: time.monotonic() > waited, "a second")
        assert command.children() == [pid]
    eventually(lambda: not command.children(), "the end of the idle worker")


def test_application_that_cannot_be_loaded_is_refused_at_the_start(tmp_path):
    (tmp_path / "site.py").write_text("import nothing_of_this_name\n")
    bind = f"scgi+unix://{tmp_path}/app.sock"
    with Command("serve", tmp_path / "site.py", "--bind", bind, "--on-demand") as command:
        assert command.finish() == 2
        assert "nothing_of_this_name" in command.err
        assert not (tmp_path / "app.sock").exists()


def test_parent_that_ends_ends_idle_service_at_once(serve, tmp_path):
    command = serve("--workers", "1", "--worker-idle-timeout", "0.2")
    eventually(lambda: not command.children(), "the end of the idle worker")
    os.kill(command.pid, 15)
    assert command.finish() == 0
    assert not (tmp_path / "app.sock").exists()
    command.assert_left_nothing()
