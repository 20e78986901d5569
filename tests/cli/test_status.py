"""`portico status`: whom it asks, what it shows, and the live screen that leaves no trace."""

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli_harness import WAIT, Command, eventually, one_sentence
from portico import cli
from portico.cli import _status_view as view
from portico.cli import status
from portico.engine import snapshot
from terminal_harness import PORTICO, SHELL, Terminal

pytestmark = pytest.mark.slow  # processes, one after another

APPLICATION = """\
import os, time

def application(environ, start_response):
    while environ["QUERY_STRING"] and not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"0123456789"]
"""


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("PORTICO_STATUS_SOCKET", raising=False)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "status.sock")


@contextlib.contextmanager
def serving(tmp_path, *, workers=2, name="site.py"):
    """A real service, told of on status.sock."""
    (tmp_path / name).write_text(APPLICATION)
    bind = f"scgi+unix://{tmp_path}/app.sock"
    with Command(
        *("serve", tmp_path / name, "--bind", bind, "--workers", workers),
        *("--status-socket", tmp_path / "status.sock"),
    ) as command:
        command.await_text("serving", "err")
        yield command


@contextlib.contextmanager
def asking(tmp_path, target="/some"):
    with Command("request", f"scgi+unix://{tmp_path}/app.sock:{target}") as request:
        yield request


@pytest.fixture
def service(tmp_path):
    """Two workers that have served three requests and run one."""
    with serving(tmp_path) as command:
        for _ in range(3):
            with asking(tmp_path) as request:
                assert request.finish() == 0
        with asking(tmp_path, f"/%1b[31m/slow?{tmp_path}/go"):
            eventually(
                lambda: (
                    (found := status.ask(str(tmp_path / "status.sock"))["total"])["requests"] == 3
                    and found["busy"] == 1
                ),
                "three requests and a fourth",
            )
            yield command
            (tmp_path / "go").touch()


def shown(capsys, *arguments):
    """What the command prints."""
    assert cli.main(["status", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refusal(capsys, *arguments, code):
    """The sentence with which the command refuses."""
    assert cli.main(["status", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return one_sentence(err)


def made_up(workers=2, running=1, *, target="/shop", **parent):
    """A snapshot of so many workers with so many requests each."""
    found = {
        "portico": "0.1.0",
        "time": 10_000.0,
        "parent": {
            "pid": 4000, "started": 2020.0, "state": "serving", "generation": 3,
            "configured": workers, "reloads": 2, "failed_reloads": 1, "crashes": 5,
            "application": "site:app", "binds": ["fastcgi+unix:///run/site.sock"], **parent,
        },
        "workers": [
            {
                "slot": slot, "pid": 4000 + slot, "generation": 3, "state": "busy",
                "started": 9940.0, "rss": 58 << 20, "requests": 1000 * slot, "errors": slot,
                "octets": 5_000_000 * slot, "threads": 16, "busy": running, "connections": 7,
                "running": [
                    {
                        "method": "GET", "target": f"{target}?slot={slot}&n={number}",
                        "protocol": "fastcgi", "peer": "192.0.2.7",
                        "since": 10_000.0 - 10 * slot - number,
                    }
                    for number in range(running)
                ],
            }
            for slot in range(1, workers + 1)
        ],
        "total": {
            "requests": 3100, "errors": 4, "aborted": 2, "octets": 15_000_000, "threads": 32,
            "busy": 2, "connections": 14, "protocols": {"fastcgi": 2790, "ajp": 310},
            "repairs": {"iis-path": 6},
        },
    }  # fmt: skip
    return snapshot.parse(json.dumps(found).encode())


def later(found, seconds, **counts):
    """The same service, when its totals have grown by *counts*."""
    found = json.loads(json.dumps(found))
    found["time"] += seconds
    for name, number in counts.items():
        found["total"][name] += number
    return found


def texts(found, before=None, *, columns=80, rows=None):
    return [line.text for line in view.draw(found, before, columns=columns, rows=rows)]


# -- what it shows -------------------------------------------------------------------------


def test_table_of_a_real_service(service, path, capsys):
    lines = shown(capsys, path).splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(rf"/site\.py: serving, up \S+   pid {service.pid}\b", lines[0])
    assert re.match(r"requests +3 +workers +2 of 2 +generation +1$", lines[3])
    (heading,) = (at for at, line in enumerate(lines) if line.startswith("  #     PID"))
    workers = [line.split() for line in lines[heading + 1 : heading + 3]]
    assert {worker[2] for worker in workers} == {"busy", "idle"}
    assert {int(worker[1]) for worker in workers} == set(service.children())
    assert r"GET /%1b[31m/slow?" in lines[-1]


def test_json_of_a_real_service(service, path, capsys):
    found = json.loads(shown(capsys, path, "--json"))
    assert found["parent"]["pid"] == service.pid
    assert found["total"]["protocols"] == {"scgi": 3}
    assert all(worker["rss"] > 1_000_000 for worker in found["workers"])
    (running,) = (one for worker in found["workers"] for one in worker["running"])
    assert running["method"] == "GET"


@pytest.mark.usefixtures("service")
def test_socket_is_for_its_user_alone(path):
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_table():
    assert texts(made_up(last_failure="no module\n  shop")) == [
        "site:app: serving, up 2h13m   pid 4000   Portico 0.1.0",
        "fastcgi+unix:///run/site.sock",
        "",
        "requests     3,100               workers          2 of 2   generation        3",
        "errors           4               busy threads    2 of 32   reloads           2",
        "aborted          2               connections          14   failed reloads    1",
        "sent        14 MiB               waiting               0   crashes           5",
        "protocols   fastcgi 2,790, ajp 310",
        "repairs     iis-path 6",
        "last failure: no module shop",
        "",
        "  #     PID  STATE     GEN    AGE   BUSY CONN WAIT REQUESTS  ERRORS   MEMORY",
        "  1    4001  busy        3  1m00s   1/16    7    0    1,000       1   58 MiB",
        "  2    4002  busy        3  1m00s   1/16    7    0    2,000       2   58 MiB",
        "",
        "  # RUNS FOR  PEER       REQUEST",
        "  2      20s  192.0.2.7  GET /shop?slot=2&n=0",
        "  1      10s  192.0.2.7  GET /shop?slot=1&n=0",
    ]


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        (80, "...srv/srv/srv/srv/srv/srv/mysite/application.wsgi: serving, up 2h13m   pid 4000"),
        (45, "...ication.wsgi: serving, up 2h13m   pid 4000"),
        (18, "...tion.wsgi: s..."),
    ],
)
def test_a_long_name_hides_no_state(columns, title):
    name = "/" + "srv/" * 20 + "mysite/application.wsgi"
    assert texts(made_up(application=name), columns=columns)[0] == title


def test_an_idle_service_has_no_requests():
    lines = texts(made_up(running=0))
    assert not any("RUNS FOR" in line or "failure:" in line for line in lines)


def test_rates_are_of_the_time_between_two_looks():
    first = made_up()
    second = later(first, 2.0, requests=30, octets=4096)
    second["workers"][0]["requests"] += 30
    lines = texts(second, first)
    assert lines[3].startswith("requests     3,130      15.0/s   ")
    assert lines[4].startswith("errors           4         0/s   ")
    assert lines[6].startswith("sent        14 MiB   2.0 KiB/s   ")
    table = [line.split() for line in lines if "busy  " in line and "/16" in line]
    assert [line[8] for line in table] == ["15.0", "0"]


def test_there_are_no_rates_between_two_services():
    first = made_up()
    assert view.rates_between(None, first) is None
    assert view.rates_between(later(first, 2.0), first) is None
    assert view.rates_between(first, later(first, 2.0)) is not None
    second = later(first, 2.0)
    second["parent"]["pid"] += 1
    assert view.rates_between(first, second) is None
    assert not re.search(r"\d/s\b", "\n".join(texts(second, first)))


ESCAPES = "\x1b[2J\x1b]0;mine\x07 \x9b31m \u202e \ud800 caf\xe9 \x7f\n\r\t\0"


def test_what_clients_send_drives_no_terminal():
    found = made_up(target=ESCAPES, application=ESCAPES, binds=[ESCAPES], last_failure=ESCAPES)
    found["workers"][0]["running"][0] |= dict.fromkeys(("method", "peer", "protocol"), ESCAPES)
    found["total"]["repairs"] = {ESCAPES: 1}
    for columns in (80, 200):
        for line in texts(found, columns=columns):
            assert line.isascii()
            assert not line or line.isprintable()
    assert r"\x1b[2J" in texts(found)[1]


@settings(deadline=None)
@given(
    workers=st.integers(0, 40),
    running=st.integers(0, 40),
    target=st.text(max_size=100),
    size=st.tuples(st.integers(1, 200), st.integers(1, 60) | st.none()),
    rates=st.booleans(),
)
def test_every_picture_fits(workers, running, target, size, rates):
    columns, rows = size
    found = made_up(workers, running, target=target, last_failure=target)
    before = found if rates else None
    lines = view.draw(later(found, 1.0, requests=9), before, columns=columns, rows=rows)
    assert rows is None or len(lines) <= rows
    for line in lines:
        assert len(line.text) <= columns
        assert len(re.sub(r"\x1b\[[\d;]*m", "", view.style(line, columns, colour=True))) <= columns
        assert not line.text or line.text.isprintable()


@pytest.mark.parametrize("rows", range(10, 80, 3))
def test_what_does_not_fit_is_counted(rows):
    lines = texts(made_up(30, 1), rows=rows)
    text = "\n".join(lines)
    for what, pattern in (("workers", r"^ +\d+ +40\d\d  busy"), ("requests", r" GET /shop")):
        there = len(re.findall(pattern, text, re.MULTILINE))
        more = re.search(rf"\.\.\. and (\d+) more {what}", text)
        assert there + (int(more[1]) if more else 0) == 30
    assert len(lines) == min(rows, 11 + 30 + 2 + 30)


def test_requests_are_shown_even_where_there_are_many_workers():
    assert sum("GET" in line for line in texts(made_up(40, 1), rows=24)) >= 4


def test_a_narrow_table_keeps_what_matters_most():
    headings = {
        columns: next(line for line in texts(made_up(), columns=columns) if "PID" in line).split()
        for columns in (40, 60, 80, 120)
    }
    assert headings[40] == ["#", "PID", "STATE", "BUSY", "REQUESTS"]
    assert headings[60] == ["#", "PID", "STATE", "AGE", "BUSY", "WAIT", "REQUESTS", "ERRORS"]
    assert headings[80][-1] == "MEMORY"
    assert headings[120][-1] == "SENT"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"), (0, "0.0s"), (9.94, "9.9s"), (59.4, "59s"), (59.6, "1m00s"), (600, "10m00s"),
        (7200, "2h00m"), (1e6, "11d13h"), (1e8, "1157d"),
    ],
)  # fmt: skip
def test_ages_are_short(seconds, text):
    assert view.age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (999_999, "999,999"), (1_000_000, "1M"), (1_234_567, "1.23M"),
        (999_600_000, "1G"), (2**53, "9.01P"),
    ],
)  # fmt: skip
def test_counts_are_short(number, text):
    assert view.count(number) == text


# -- whom it asks --------------------------------------------------------------------------


def answering(path, octets):
    """A thread that sends *octets* to whoever connects first, as long as that one reads."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.settimeout(WAIT)

    def answer():
        with listener, listener.accept()[0] as peer, contextlib.suppress(OSError):
            for piece in octets:
                peer.sendall(piece)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def one_look(path):
    return answering(path, [json.dumps(made_up()).encode()])


@pytest.mark.parametrize("way", ["positional", "option", "file", "variable", "relative"])
def test_ways_to_name_the_socket(way, path, tmp_path, monkeypatch, capsys):
    arguments = {"positional": [path], "option": ["--socket", path], "variable": []}.get(way)
    if way == "variable":
        monkeypatch.setenv("PORTICO_STATUS_SOCKET", path)
    elif way == "relative":
        monkeypatch.chdir(tmp_path)
        arguments = ["status.sock"]
    elif way == "file":
        file = tmp_path / "portico.yaml"
        file.write_text(f"threads: none of our business\nstatus_socket: {path}\n")
        arguments = ["--config", file]
    thread = one_look(path)
    assert "site:app" in shown(capsys, *arguments)
    thread.join(WAIT)


def test_the_nearest_name_wins(path, tmp_path, monkeypatch, capsys):
    file = tmp_path / "portico.yaml"
    file.write_text("status_socket: /nowhere/file\n")
    monkeypatch.setenv("PORTICO_STATUS_SOCKET", "/nowhere/variable")
    assert "/nowhere/file" in refusal(capsys, "--config", file, code=1)
    assert path in refusal(capsys, path, "--config", file, code=1)
    file.write_text("threads: 4\n")
    assert "/nowhere/variable" in refusal(capsys, "--config", file, code=1)


def test_without_a_socket_it_says_how_to_switch_it_on(capsys, tmp_path):
    assert "start the service with --status-socket" in refusal(capsys, code=2)
    file = tmp_path / "portico.yaml"
    file.write_text("threads: 4\n")
    assert "start the service with --status-socket" in refusal(capsys, "--config", file, code=2)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["a", "--socket", "b"], "named twice", 2),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml", 2),
        (["a", "--watch", "0"], "from 0.1 to 3600", 2),
        (["a", "--watch", "nan"], "from 0.1 to 3600", 2),
        (["a", "--watch", "often"], "invalid float value: 'often'", 2),
        (["x" * 200], "path too long", 1),
    ],
    ids=["twice", "no-file", "zero", "nan", "word", "long"],
)
def test_wrong_command_lines(arguments, words, code, capsys):
    assert words in refusal(capsys, *arguments, code=code)


def test_a_wrong_value_in_the_file_is_named(tmp_path, capsys):
    file = tmp_path / "portico.yaml"
    file.write_text("threads: 4\nstatus_socket: [a]\n")
    assert f"{file} line 2" in refusal(capsys, "--config", file, code=2)


# -- nobody answers ------------------------------------------------------------------------


def test_nothing_is_there(path, capsys):
    assert "is it running, and with --status-socket" in refusal(capsys, path, code=1)


def test_nobody_listens(path, capsys):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    assert "is it running, and with --status-socket" in refusal(capsys, path, code=1)


def test_another_server_that_waits_for_us(path, capsys, monkeypatch):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        monkeypatch.setattr(status, "ask", lambda path, ask=status.ask: ask(path, 0.05))
        assert "has not answered within 0.05 seconds" in refusal(capsys, path, code=1)


@pytest.mark.parametrize(
    "octets",
    [b"", b"220 mail ready\r\n", b"\xff" * 100_000, b'{"parent": {}, "total": {}}', b"[" * 99_999],
    ids=["nothing", "mail", "noise", "another-object", "deep"],
)
def test_another_server_that_talks(octets, path, capsys):
    thread = answering(path, [octets])
    assert "is no service's status socket" in refusal(capsys, path, code=1)
    thread.join(WAIT)


def test_an_answer_without_end_is_given_up(path, capsys, monkeypatch):
    monkeypatch.setattr(status, "_MOST_BYTES", 1_000_000)
    thread = answering(path, iter(lambda: b"[" * 65_536, None))
    assert "is no service's status socket" in refusal(capsys, path, code=1)
    thread.join(WAIT)
    assert not thread.is_alive()


def test_another_version_may_say_less_and_more(path, capsys):
    said = {"workers": [{"pid": 5, "running": [{}], "new": 1}, None], "parent": {"pid": 4}}
    thread = answering(path, [json.dumps(said).encode()])
    assert " pid 4 " in shown(capsys, path)
    thread.join(WAIT)


# -- again and again -----------------------------------------------------------------------


@pytest.mark.usefixtures("service")
def test_without_a_terminal_watch_prints_one_table_after_the_other(path):
    with Command("status", path, "--watch", "0.1") as command:
        command.await_text(r"(?s)\d/s .*\d/s ")
        command.kill(signal.SIGINT)
        assert command.finish() == 130
        assert command.err == ""
        assert "\x1b" not in command.out


@pytest.mark.usefixtures("service")
def test_watching_as_json_prints_a_line_a_look(path):
    with Command("status", path, "--watch", "0.1", "--json") as command:
        eventually(lambda: command.out.count("\n") >= 2, "two lines")
        command.kill(signal.SIGTERM)
        assert command.finish() == -signal.SIGTERM
        first, second, *_ = map(json.loads, command.out.splitlines())
        assert first["time"] < second["time"]


@pytest.mark.usefixtures("service")
def test_watching_into_a_pipe_ends_with_its_reader(path):
    with subprocess.Popen(
        [sys.executable, "-m", "portico", "status", path, "--watch", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert b"serving" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(WAIT) == 0
        assert process.stderr.read() == b""


def watching(path, seconds="0.1", **more):
    return Terminal(*PORTICO, "status", path, "--watch", seconds, **more)


def assert_restored(terminal):
    assert not terminal.alternate
    assert terminal.cursor
    assert terminal.wraps
    assert terminal.text().strip() == ""
    assert terminal.mode() == terminal.before
    assert terminal.received.endswith(b"\x1b[?1049l")


@pytest.mark.usefixtures("service")
def test_screen_shows_the_service_and_is_left_with_q(path):
    with watching(path) as terminal:
        terminal.await_screen(lambda it: "0/s" in it.text(), "two looks")
        text = terminal.text()
        assert terminal.alternate
        assert not terminal.cursor
        assert terminal.mode() != terminal.before
        assert "GET /%1b[31m/slow" in text
        assert text.splitlines()[23] == "every 0.1 s   q ends"
        assert max(map(len, text.splitlines())) <= 80
        terminal.type(b"q")
        assert terminal.await_end() == 0
        assert_restored(terminal)
        assert terminal.process.stderr.read() == b""
        assert {"1", "7", "2"} <= terminal.looks


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
@pytest.mark.usefixtures("service")
def test_screen_is_plain_where_it_is_to_be(path, name):
    with watching(path, env={name: "dumb"}) as terminal:
        terminal.await_screen(lambda it: "q ends" in it.text(), "the screen")
        assert not terminal.looks


@pytest.mark.usefixtures("service")
def test_screen_follows_the_service(path, tmp_path):
    with watching(path) as terminal:
        terminal.await_screen(lambda it: "GET /" in it.text(), "the running request")
        (tmp_path / "go").touch()
        terminal.await_screen(lambda it: "GET /" not in it.text(), "its end")
        terminal.await_screen(lambda it: re.search(r"requests +4 ", it.text()), "its being counted")


@pytest.mark.usefixtures("service")
def test_screen_fits_the_window_as_soon_as_that_changes(path):
    with watching(path, "3600", columns=60, rows=12) as terminal:  # no look but the first
        terminal.await_screen(lambda it: "q ends" in it.lines.get(12, ""), "a small window")
        assert max(map(len, terminal.text().splitlines())) <= 60
        assert set(terminal.lines) <= set(range(1, 13))
        terminal.resize(120, 40)
        terminal.await_screen(lambda it: "q ends" in it.lines.get(40, ""), "a large window")
        assert "SENT" in terminal.text()
        terminal.resize(5, 2)
        terminal.await_screen(lambda it: it.lines.get(2) == "every", "a tiny window")
        terminal.type(b"Q")
        assert terminal.await_end() == 0


@pytest.mark.parametrize(
    ("key", "code"), [(b"\x03", 130), (b"\x1c", -signal.SIGQUIT)], ids=["ctrl-c", "ctrl-backslash"]
)
@pytest.mark.usefixtures("service")
def test_keys_that_send_signals(key, code, path):
    with watching(path) as terminal:
        terminal.await_screen(lambda it: "q ends" in it.text(), "the screen")
        terminal.type(key)
        assert terminal.await_end() == code
        assert_restored(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.usefixtures("service")
def test_signals_end_it_and_restore_the_terminal(number, path):
    with watching(path) as terminal:
        terminal.await_screen(lambda it: "q ends" in it.text(), "the screen")
        terminal.process.send_signal(number)
        assert terminal.await_end() == (130 if number == signal.SIGINT else -number)
        assert_restored(terminal)


@pytest.mark.usefixtures("service")
def test_other_keys_change_nothing(path, tmp_path):
    with watching(path) as terminal:
        terminal.await_screen(lambda it: "GET /" in it.text(), "the screen")
        terminal.type(b"x\x1b[A\xff")
        (tmp_path / "go").touch()
        terminal.await_screen(lambda it: "GET /" not in it.text(), "a further look")
        terminal.type(b"\x04q")
        assert terminal.await_end() == 0


def states_of_children(pid):
    """The letters of their states: T is stopped."""
    states = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, *_ = file.read_text("latin-1").rpartition(")")[2].split()
            states += [state] if int(parent) == pid else []
    return states


@pytest.mark.usefixtures("service")
def test_stopped_and_continued(path):
    with Terminal(*SHELL, columns=200) as terminal:
        terminal.type(shlex.join([*PORTICO, "status", path, "--watch", "0.1"]).encode() + b"\n")
        terminal.await_screen(lambda it: "q ends" in it.text(), "the screen")
        terminal.type(b"\x1a")
        terminal.await_screen(lambda it: not it.alternate, "the terminal")
        eventually(lambda: states_of_children(terminal.process.pid) == ["T"], "the stop")
        assert terminal.cursor
        terminal.type(b"fg\n")
        terminal.await_screen(lambda it: it.alternate and "q ends" in it.text(), "the screen")
        terminal.type(b"q")
        terminal.await_screen(lambda it: not it.alternate, "the end")
        terminal.type(b"exit $((40 + $?))\n")
        assert terminal.await_end() == 40


def test_screen_outlasts_a_restart_of_the_service(path, tmp_path):
    with serving(tmp_path, workers=1) as command:
        terminal = watching(path)
        terminal.await_screen(lambda it: "q ends" in it.text(), "the screen")
        command.kill(signal.SIGTERM)
        assert command.finish() == 0
    with terminal:
        terminal.await_screen(lambda it: "old: no service answers" in it.text(), "the trouble")
        assert f"pid {command.pid}" in terminal.lines[1]
        with serving(tmp_path, workers=3, name="other.py") as other:
            terminal.await_screen(lambda it: "3 of 3" in it.text(), "the service again")
            assert f"pid {other.pid}" in terminal.lines[1]
            terminal.await_screen(lambda it: "no service" not in it.text(), "a look without it")
        terminal.type(b"q")
        assert terminal.await_end() == 0
        assert_restored(terminal)


def test_a_terminal_is_left_alone_where_nobody_answers(path):
    with watching(path) as terminal:
        assert terminal.await_end() == 1
        assert terminal.received == b""
        assert "no service answers" in one_sentence(terminal.process.stderr.read().decode())
