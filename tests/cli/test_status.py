"""``portico status``: what is shown of a real service, once and again and again."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import sys
import termios
import threading

import pytest

from cli_harness import WAIT, Command, eventually, one_sentence
from portico import cli
from portico.cli import _status_view as view

APPLICATION = """\
import os, time

def application(environ, start_response):
    while environ["QUERY_STRING"] and not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"0123456789"]
"""


@pytest.fixture
def service(tmp_path):
    """Two workers that have served three requests and run one."""
    (tmp_path / "site.py").write_text(APPLICATION)
    bind = f"scgi+unix://{tmp_path}/app.sock"
    with Command(
        *("serve", tmp_path / "site.py", "--bind", bind, "--workers", "2"),
        *("--status-socket", tmp_path / "status.sock"),
    ) as command:
        command.await_text("serving", "err")
        for _ in range(3):
            with Command("request", f"{bind}:/some") as request:
                assert request.finish() == 0
        with Command("request", f"{bind}:/%1b[31m/slow?{tmp_path}/go"):
            yield command
            (tmp_path / "go").touch()


def shown(capsys, *arguments):
    assert cli.main(["status", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_table_tells_of_workers_and_running_requests(service, tmp_path, capsys):
    path = tmp_path / "status.sock"
    eventually(lambda: "/slow" in shown(capsys, path), "the running request")
    eventually(lambda: "3 requests, 0 errors" in shown(capsys, path), "the counts")
    lines = shown(capsys, path).splitlines()
    assert f"process {service.pid}: serving, generation 1" in lines[0]
    assert str(tmp_path / "site.py") in lines[1]
    assert all(len(line) <= 80 for line in lines)
    (heading,) = (at for at, line in enumerate(lines) if line.startswith("WORKER  ") and at < 6)
    states = {line.split()[3] for line in lines[heading + 1 : heading + 3]}
    assert states == {"busy", "idle"}
    assert {int(line.split()[1]) for line in lines[heading + 1 : heading + 3]} == set(
        service.children()
    )


def test_json_is_all_that_is_known(service, tmp_path, capsys):
    eventually(lambda: "/slow" in shown(capsys, tmp_path / "status.sock"), "the running request")
    found = json.loads(shown(capsys, tmp_path / "status.sock", "--json"))
    assert found["parent"]["pid"] == service.pid
    assert found["total"]["protocols"] == {"scgi": found["total"]["requests"]}
    assert all(worker["rss"] > 1_000_000 for worker in found["workers"])


def test_socket_may_be_named_by_the_file_or_the_environment(service, tmp_path, capsys, monkeypatch):
    assert service.running()
    file = tmp_path / "portico.yaml"
    file.write_text(f"status_socket: {tmp_path}/status.sock\n")
    assert "WORKER" in shown(capsys, "--config", file)
    monkeypatch.setenv("PORTICO_STATUS_SOCKET", str(tmp_path / "status.sock"))
    assert "WORKER" in shown(capsys)


def test_socket_is_for_its_user_alone(service, tmp_path):
    assert service.running()
    assert (tmp_path / "status.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["q", "SIGINT", "SIGTERM"])
def test_watch_is_a_screen_that_is_given_back(service, tmp_path, how):
    assert service.running()
    pid, fd = pty.fork()
    if pid == 0:
        path = str(tmp_path / "status.sock")
        os.execv(  # noqa: S606 - in a terminal of its own
            sys.executable,
            [sys.executable, "-m", "portico", "status", path, "--watch", "0.1"],
        )
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    os.kill(pid, signal.SIGWINCH)
    said = b""

    def hear():
        nonlocal said
        if select.select([fd], [], [], 0.05)[0]:
            try:
                said += os.read(fd, 65_536)
            except OSError:  # Linux's way to say that the other end is closed
                return True
        return False

    eventually(lambda: hear() or b"requests/s" in said, "the second picture")
    before = termios.tcgetattr(fd)
    assert not before[3] & termios.ICANON
    if how == "q":
        os.write(fd, b"q")
    else:
        os.kill(pid, getattr(signal, how))
    eventually(hear, "the end")
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    assert os.waitstatus_to_exitcode(status) == (0 if how == "q" else 130)
    text = said.decode()
    assert text.startswith("\x1b[?1049h")
    assert text.rstrip().endswith("\x1b[?25h\x1b[?1049l")
    pictures = text.split("\x1b[H")[1:]
    assert all(line.count("\x1b[31m") == 0 for line in pictures)
    assert any("\x1b[J" in picture for picture in pictures)


def test_without_a_terminal_watch_prints_one_table_after_the_other(service, tmp_path):
    assert service.running()
    with Command("status", tmp_path / "status.sock", "--watch", "0.1") as command:
        eventually(lambda: command.out.count("WORKER  ") >= 4, "two tables")
        command.kill(signal.SIGTERM)
        assert command.finish() == 130
        assert "\x1b" not in command.out


def test_nobody_answers(tmp_path, capsys):
    assert cli.main(["status", str(tmp_path / "none")]) == 1
    assert "is it running, and with --status-socket" in one_sentence(capsys.readouterr().err)


def test_something_else_answers(tmp_path, capsys):

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def answer():
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert cli.main(["status", str(tmp_path / "s")]) == 1
        thread.join(WAIT)
    assert "is no service's status socket" in one_sentence(capsys.readouterr().err)


def test_no_socket_is_named(capsys, monkeypatch):
    monkeypatch.delenv("PORTICO_STATUS_SOCKET", raising=False)
    assert cli.main(["status"]) == 2
    assert "start the service with --status-socket" in one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0.0s"),
        (9.94, "9.9s"),
        (59, "59s"),
        (600, "10m"),
        (7200, "2h"),
        (1e6, "12d"),
    ],
)
def test_ages_are_short(seconds, text):
    assert view.age(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0K"), (1536, "1.5K"), (20_000_000, "19M"), (2**50, "1.0P")],
)
def test_amounts_are_short(octets, text):
    assert view.amount(octets) == text


def test_control_characters_never_reach_the_terminal():
    assert view.plain("/\x1b[31m\n\u202e") == "/?[31m??"
