"""``portico serve`` in a process of its own: what it is told, by whom, and how it ends."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli_harness import WAIT, Command, eventually, is_free, one_sentence
from portico import cli

pytestmark = pytest.mark.slow  # processes, one after another

HELLO = Path(__file__).parents[2] / "examples" / "hello.py"

#: A line of the log: time, process, severity.
LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} portico\[\d+\] [A-Z]+ .*"

#: Ends a request when the file exists that its query names, or never.
SLOW = """\
import os, time

def app(environ, start_response):
    print("called", flush=True)
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""


def serving(*arguments, **options):
    return Command("serve", *arguments, **options)


def binds(command, count=1):
    """Wait until it listens everywhere; gives the bind URLs."""
    pattern = r"(?:.*\n)*?.*" + r" on (\S+) \(up to \d+ threads\)\n(?:.*\n)*?.*" * (count - 1)
    command.await_text(pattern + r" on (\S+) \(up to \d+ threads\)", "err")
    return re.findall(r" on (\S+) \(up to \d+ threads\)", command.err)


def request(bind, path="/", *more):
    """``portico request``; gives status and output."""
    url = bind + (f":{path}" if "+unix" in bind else path)
    done = subprocess.run(
        [sys.executable, "-m", "portico", "request", url, *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def slow(tmp_path):
    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    return path


@pytest.fixture
def inquiry():
    """Ask in a thread, for an answer that comes later."""
    threads = []

    def ask(*arguments):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(request(*arguments)))
        thread.start()
        threads.append(thread)
        return lambda: (thread.join(WAIT), *answers)[1:]

    yield ask
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


# -- listening -------------------------------------------------------------------------------


def test_two_binds_serve_at_once(tmp_path):
    unix = f"fastcgi+unix://{tmp_path}/app.sock"
    with serving(HELLO, "--bind", "scgi://127.0.0.1:0", "--bind", unix) as command:
        one, other = binds(command, 2)
        assert re.fullmatch(r"scgi://127\.0\.0\.1:[1-9]\d*", one)
        assert other == unix
        for bind in (one, other):
            assert request(bind) == (0, "Hello from behind the portico.\n")


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])
def test_request_reaches_every_protocol(protocol):
    app = "portico.apps.inspector:application"
    with serving(app, "--bind", f"{protocol}://127.0.0.1:0", "--mount", "/app") as command:
        (bind,) = binds(command)
        status, text = request(bind, "/app/x%20y?format=text", "-i", "-d", "some data")
        assert status == 0
        assert text.startswith("200 OK\n")
        assert re.search(r"SCRIPT_NAME\W+/app\n", text)
        assert re.search(r"PATH_INFO\W+/x y\n", text)
        assert "some data" in text


def test_socket_has_its_mode_and_is_removed(tmp_path):
    path = tmp_path / "app.sock"
    with serving(HELLO, "--bind", f"scgi+unix://{path}?mode=640") as command:
        binds(command)
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert path.stat().st_mode & 0o777 == 0o640
        command.kill(signal.SIGTERM)
        assert command.finish() == 0
        assert list(tmp_path.iterdir()) == []


def test_socket_left_by_a_crash_is_replaced(tmp_path):
    bind = f"scgi+unix://{tmp_path}/app.sock"
    with serving(HELLO, "--bind", bind) as command:
        binds(command)
        command.kill(signal.SIGKILL)
        assert command.finish() == -signal.SIGKILL
    with serving(HELLO, "--bind", bind) as command:
        binds(command)
        assert request(bind) == (0, "Hello from behind the portico.\n")


def test_inherited_socket_is_served():
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    code = (
        "import os, sys\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'portico', 'serve', *sys.argv[1:]])"
    )
    with listener:
        process = subprocess.Popen(
            [sys.executable, "-c", code, HELLO, "--bind", "scgi+fd://0"],
            stdin=listener,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            assert " on scgi+fd://0 (up to 16 threads)" in process.stderr.readline()
            assert request(f"scgi://127.0.0.1:{port}") == (0, "Hello from behind the portico.\n")
        finally:
            process.terminate()
        assert process.wait(WAIT) == 0


# -- options ---------------------------------------------------------------------------------


def test_options_come_from_a_file(tmp_path):
    (tmp_path / "portico.yaml").write_text(
        "bind: [scgi://127.0.0.1:0, 'ajp://127.0.0.1:0']\nthreads: 3\nmount: /app\n"
    )
    app = "portico.apps.inspector:application"
    with serving(app, "--config", "portico.yaml", cwd=tmp_path) as command:
        one, other = binds(command, 2)
        assert one.startswith("scgi://127.0.0.1:")
        assert other.startswith("ajp://127.0.0.1:")
        assert "(up to 3 threads)" in command.err
        assert re.search(r"SCRIPT_NAME\W+/app\n", request(one, "/app/x?format=text")[1])


def test_options_come_from_the_environment():
    env = {"PORTICO_BIND": "scgi://127.0.0.1:0 uwsgi://127.0.0.1:0", "PORTICO_THREADS": "3"}
    with serving(HELLO, env=env) as command:
        assert [bind.partition(":")[0] for bind in binds(command, 2)] == ["scgi", "uwsgi"]
        assert "(up to 3 threads)" in command.err


def test_command_line_beats_environment_beats_file(tmp_path):
    file = tmp_path / "portico.yaml"
    file.write_text("bind: [ajp://127.0.0.1:0]\nthreads: 3\nmax_connections: 77\n")
    env = {"PORTICO_BIND": "scgi://127.0.0.1:0", "PORTICO_THREADS": "4"}
    with serving(HELLO, "--config", file, "--threads", "5", env=env) as command:
        (bind,) = binds(command)
        assert bind.startswith("scgi://")
        assert "(up to 5 threads)" in command.err


def test_log_is_as_loud_as_it_is_told():
    bind = "scgi://127.0.0.1:0"
    with serving(HELLO, "--bind", bind, "--log-level", "error") as command:
        eventually(lambda: any(map(listens, command.children())), "listening")
        command.kill(signal.SIGTERM)
        assert (command.finish(), command.out, command.err) == (0, "", "")


def listens(pid):
    """Whether a process has its event queue, which it makes after its sockets."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "eventpoll" in str(fd.readlink()):
                return True
        except FileNotFoundError:
            continue
    return False


WRONG = [
    pytest.param([], {}, "nothing to listen on; add --bind", id="no-bind"),
    pytest.param(["--bind", "http://127.0.0.1:1"], {}, "in a browser: portico up", id="http"),
    pytest.param(["--bind", "fast://127.0.0.1:1"], {}, "uwsgi, auto", id="no-protocol"),
    pytest.param(
        ["--bind", "auto://10.0.0.7:1?allow=10.0.0.5"], {}, "name one protocol", id="auto-exposed"
    ),
    pytest.param(["--bind", "scgi://127.0.0.1"], {}, "(command line, --bind)", id="no-port"),
    pytest.param(["--bind", "scgi://0.0.0.0:0"], {}, "allow=", id="exposed"),
    pytest.param(["--threads", "0"], {}, "threads is '0', must be a whole number", id="threads"),
    pytest.param(["--log-level", "loud"], {}, "debug, info, warning, error", id="level"),
    pytest.param(["--mount", "app"], {}, "does not begin with a slash", id="mount"),
    pytest.param(["--config", "nowhere.yaml"], {}, "nowhere.yaml cannot be read", id="no-file"),
    pytest.param(
        [], {"PORTICO_THREADS": "x"}, "(environment variable PORTICO_THREADS)", id="environment"
    ),
]


@pytest.mark.parametrize(("arguments", "env", "words"), WRONG)
def test_wrong_options_get_one_sentence(arguments, env, words, monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("PORTICO_")]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    more = [] if "--bind" in arguments or not (arguments or env) else ["--bind", "scgi://[::1]:0"]
    assert cli.main(["serve", str(HELLO), *arguments, *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in one_sentence(err)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("threads: 3\nthread: 4\n", "line 2: there is no setting 'thread'; did you mean threads?"),
        ("threads: many\n", "threads is 'many', must be"),
        ("threads: [\n", "is no valid YAML"),
    ],
    ids=["unknown", "value", "syntax"],
)
def test_wrong_file_gets_one_sentence(text, words, tmp_path, capsys):
    file = tmp_path / "portico.yaml"
    file.write_text(text)
    assert cli.main(["serve", str(HELLO), "--config", str(file)]) == 2
    sentence = one_sentence(capsys.readouterr().err)
    assert words in sentence
    assert f"{file} line" in sentence


def test_taken_port_gets_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as other:
        bind = f"scgi://127.0.0.1:{other.getsockname()[1]}"
        with serving(HELLO, "--bind", bind) as command:
            assert command.finish() == 1
            assert "is taken, another process listens there" in one_sentence(command.err)


def test_one_bind_that_fails_leaves_none_behind(tmp_path):
    good = f"scgi+unix://{tmp_path}/app.sock"
    with serving(HELLO, "--bind", good, "--bind", "scgi+unix:///nowhere/app.sock") as command:
        assert command.finish() == 1
        assert "/nowhere" in one_sentence(command.err)
        assert list(tmp_path.iterdir()) == []


def test_application_that_does_not_load_is_said_above_its_traceback(tmp_path):
    (tmp_path / "site.py").write_text("import nothing_of_this_name\n")
    bind = f"scgi+unix://{tmp_path}/app.sock"
    with serving("site.py", "--bind", bind, cwd=tmp_path) as command:
        assert command.finish() == 2
        first, below, *_, last = command.err.splitlines()
        assert first.startswith("portico: application 'site.py' cannot be loaded: ")
        assert below == "Traceback (most recent call last):"
        assert last == "ModuleNotFoundError: No module named 'nothing_of_this_name'"
        assert not (tmp_path / "app.sock").exists()


# -- the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_log_tells_the_start_and_the_end(number):
    with serving(HELLO, "--bind", "scgi://127.0.0.1:0") as command:
        (bind,) = binds(command)
        port = int(bind.rpartition(":")[2])
        command.kill(number)
        assert command.finish() == 0
        assert command.out == ""
        start, *warning, stopping, end = command.err.splitlines()
        assert len(warning) == (os.geteuid() == 0)
        assert "INFO stopping" in stopping
        assert re.fullmatch(LINE, start)
        assert start.endswith(f"INFO serving {HELLO} on {bind} (up to 16 threads)")
        assert re.fullmatch(LINE, end)
        assert end.endswith("INFO stopped")
        assert is_free(port)
        command.assert_left_nothing()


def test_running_request_is_finished(slow, inquiry, tmp_path):
    go = tmp_path / "go"
    with serving(slow, "--bind", f"scgi+unix://{tmp_path}/a.sock") as command:
        (bind,) = binds(command)
        answer = inquiry(bind, f"/?{go}")
        command.await_text("called")
        command.kill(signal.SIGTERM)
        eventually(lambda: not (tmp_path / "a.sock").exists(), "the end of accepting")
        assert command.running()
        go.touch()
        assert answer() == ((0, "done"),)
        assert command.finish() == 0
        assert command.err.endswith("INFO stopped\n")


def test_request_that_does_not_end_is_given_up_in_time(slow, tmp_path):
    options = ["--graceful-timeout", "0.2", "--bind", f"scgi+unix://{tmp_path}/a.sock"]
    with serving(slow, *options) as command:
        binds(command)
        with asking(tmp_path / "a.sock"):
            command.await_text("called")
            command.kill(signal.SIGTERM)
            command.finish(5)
            assert "stopping with 1 requests or connections unfinished" in command.err


def test_second_signal_ends_it_at_once(slow, tmp_path):
    with serving(slow, "--bind", f"scgi+unix://{tmp_path}/a.sock") as command:
        binds(command)
        with asking(tmp_path / "a.sock"):
            command.await_text("called")
            command.kill(signal.SIGTERM)
            eventually(lambda: not (tmp_path / "a.sock").exists(), "the end of accepting")
            assert command.running()
            command.kill(signal.SIGTERM)
            assert command.finish(5) == 1
            command.assert_left_nothing()


class asking:  # noqa: N801 - reads as a word
    """A request of SCGI whose answer nobody waits for."""

    def __init__(self, path):
        self._client = socket.socket(socket.AF_UNIX)
        self._client.settimeout(WAIT)
        self._client.connect(str(path))
        pairs = ["CONTENT_LENGTH", "0", "SCGI", "1", "REQUEST_METHOD", "GET"]
        head = "\0".join([*pairs, "QUERY_STRING", "/never", ""])
        self._client.sendall(f"{len(head)}:{head},".encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_before_it_serves_leaves_no_socket(number, tmp_path):
    """Whoever ends it as soon as its socket is there must not come too early."""
    path = tmp_path / "app.sock"
    for _ in range(3):
        with serving(HELLO, "--bind", f"scgi+unix://{path}", "--log-level", "error") as command:
            while not path.exists():
                assert command.running()
            os.kill(command.pid, number)
            assert (command.finish(), command.err) == (0, "")
            assert list(tmp_path.iterdir()) == []


def test_standard_output_and_error_may_be_closed(tmp_path):
    bind = f"scgi+unix://{tmp_path}/app.sock"
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, "-m", "portico", "serve",
         HELLO, "--bind", bind]
    )  # fmt: skip
    with process:
        try:
            eventually((tmp_path / "app.sock").exists, "the socket")
            assert request(bind) == (0, "Hello from behind the portico.\n")
        finally:
            process.terminate()
        assert process.wait(WAIT) == 0
