"""``portico up`` in a process of its own: by every way, and gone without a trace."""

import errno
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli_harness import (
    WAIT,
    Command,
    eventually,
    fetch,
    free_port,
    is_free,
    one_sentence,
)
from portico import cli
from portico.cli import up
from portico.servers import catalog

pytestmark = pytest.mark.slow  # processes, one after another

HELLO = Path(__file__).parents[2] / "examples" / "hello.py"

#: How the operator ends it.
ENDINGS = {
    "ctrl-c": (signal.SIGINT,),
    "sigterm": (signal.SIGTERM,),
    "ctrl-c-then-sigterm": (signal.SIGINT, signal.SIGTERM),
    "terminal-closed": (signal.SIGHUP,),
}

#: Seconds in which all is gone where no request runs.
SOON = 5


#: Every server; each but the built-in front needs to be installed.
FRONTS = [
    "builtin",
    *(pytest.param(name, marks=pytest.mark.frontend(name)) for name in catalog.PRODUCTS),
]


def ways():
    """Every server by every route, each ended in the next manner."""
    pairs = [("builtin", via) for via in ("fastcgi", "scgi", "ajp", "uwsgi")]
    for product in catalog.PRODUCTS.values():
        pairs += [(product.name, via) for via in product.routes]
    for number, (server, via) in enumerate(pairs):
        ending = list(ENDINGS)[number % len(ENDINGS)]
        marks = () if server == "builtin" else pytest.mark.frontend(server)
        yield pytest.param(server, via, ENDINGS[ending], id=f"{server}-{via}-{ending}", marks=marks)


def port_of(url):
    return urlsplit(url).port


def running(*arguments, **options):
    return Command("up", "--port", "0", *arguments, **options)


@pytest.fixture
def app(tmp_path):
    """Write an application; gives its path."""

    def write(text, name="site.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# -- it runs, and it ends --------------------------------------------------------------------


@pytest.mark.parametrize(("server", "via", "numbers"), list(ways()))
def test_it_serves_until_it_is_told_to_end(server, via, numbers):
    with running("--server", server, "--via", via) as command:
        url = command.await_url()
        status, text = fetch(url, "x%20y?format=json")
        front = "built-in front" if server == "builtin" else server
        assert f"browser -> {front} -> {via}" in command.out
        assert "-> portico.apps.inspector:application\n" in command.out
        assert status == 200
        assert json.loads(text)["environ"]["mounting"]["PATH_INFO"] == "/x y"
        command.kill(*numbers)
        assert command.finish(SOON) == 0
        assert command.err == ""
        command.assert_left_nothing()
        assert is_free(port_of(url))


@pytest.mark.parametrize("numbers", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("server", FRONTS)
def test_signal_before_it_serves_leaves_nothing(server, numbers, app):
    """Between its first words and the last nothing is started that would not be ended."""
    path = app("import sys\nprint('loading', flush=True)\ndef app(e, s): ...\n")
    with running(path, "--server", server) as command:
        command.await_text("loading")
        eventually(
            lambda: not command.running() or list(command.temporary.iterdir()), "the directory"
        )
        command.kill(*numbers)
        assert command.finish(SOON) == 0
        assert command.err == ""
        command.assert_left_nothing()


def test_ctrl_c_again_and_again_is_one_ctrl_c():
    with running() as command:
        command.await_url()
        while command.running():
            command.kill(signal.SIGINT, signal.SIGTERM)
        assert (command.finish(), command.err) == (0, "")
        command.assert_left_nothing()


@pytest.mark.parametrize(
    "server", ["builtin", pytest.param("nginx", marks=pytest.mark.frontend("nginx"))]
)
def test_request_that_never_ends_does_not_keep_it(server, app):
    path = app(
        "import threading\n"
        "def app(environ, start_response):\n"
        "    print('called', flush=True)\n"
        "    threading.Event().wait()\n"
    )
    with running(path, "--server", server) as command:
        url = command.await_url()
        client = socket.create_connection(("127.0.0.1", port_of(url)), timeout=WAIT)
        with client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            command.await_text("called")
            command.kill(signal.SIGINT)
            assert command.finish(10) == 0
        command.assert_left_nothing()


@pytest.mark.frontend("nginx")
def test_request_that_is_nearly_done_is_finished(app):
    path = app(
        "import os, time\n"
        "def app(environ, start_response):\n"
        "    print('called', flush=True)\n"
        "    while not os.path.exists(environ['QUERY_STRING']): time.sleep(0.01)\n"
        "    start_response('200 OK', [])\n"
        "    return [b'done']\n"
    )
    go = path.parent / "go"
    answers = []
    with running(path, "--server", "nginx") as command:
        url = command.await_url()
        thread = threading.Thread(target=lambda: answers.append(fetch(url, f"?{go}")))
        thread.start()
        command.await_text("called")
        command.kill(signal.SIGINT)
        eventually(lambda: not is_answering(url), "the closing of the port")
        go.touch()
        thread.join(WAIT)
        assert answers == [(200, "done")]
        assert command.finish() == 0


def is_answering(url):
    try:
        socket.create_connection(("127.0.0.1", port_of(url)), timeout=WAIT).close()
    except ConnectionRefusedError:
        return False
    return True


def test_thread_that_the_application_leaves_running_ends_with_the_second_ctrl_c(app):
    path = app(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "def app(environ, start_response): ...\n"
    )
    with running(path) as command:
        url = command.await_url()
        command.kill(signal.SIGINT)
        eventually(lambda: is_free(port_of(url)), "the end of the front")
        eventually(lambda: not list(command.temporary.iterdir()), "the cleaning up")
        while command.running():
            command.kill(signal.SIGINT)
        assert (command.finish(), command.err) == (0, "")


def test_reader_that_leaves_ends_it():
    reader, writer = os.pipe()
    os.close(reader)
    with running(stdout=writer) as command:
        os.close(writer)
        assert (command.finish(), command.err) == (0, "")
        command.assert_left_nothing()


@pytest.mark.frontend("nginx")
def test_reader_that_leaves_ends_the_web_server_too():
    reader, writer = os.pipe()
    os.close(reader)
    with running("--server", "nginx", stdout=writer) as command:
        os.close(writer)
        assert (command.finish(), command.err) == (0, "")
        command.assert_left_nothing()


def test_reader_that_leaves_later_does_no_harm():
    """With the first line even: as ``portico up | grep -m1 http`` does."""
    reader, writer = os.pipe()
    with running(stdout=writer, env={"PYTHONUNBUFFERED": "1"}) as command:
        os.close(writer)
        with os.fdopen(reader) as lines:
            url = next(line for line in lines if "http://" in line).strip()
        assert fetch(url)[0] == 200
        command.kill(signal.SIGINT)
        assert (command.finish(), command.err) == (0, "")


#: Every route on which the web server itself starts the application, as a script.
SCRIPTS = [
    pytest.param(product.name, via, marks=pytest.mark.frontend(product.name))
    for product in catalog.PRODUCTS.values()
    for via, route in product.routes.items()
    if route.starts_script
]


@pytest.fixture
def open_place():
    """A directory that every account may read, with a name short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="test-up-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(("server", "via"), SCRIPTS)
def test_what_a_script_says_is_shown_as_it_comes(server, via, open_place):
    text = "def application(environ, start_response):\n    raise ValueError('it broke')\n"
    (open_place / "broken.py").write_text(text)
    way = ("--server", server, "--via", via)
    with running(open_place / "broken.py", *way) as command:
        assert fetch(command.await_url())[0] == 500
        command.await_text("ValueError: it broke", "err")
        command.kill(signal.SIGINT)
        assert command.finish() == 0


# -- what it is given ------------------------------------------------------------------------


@pytest.mark.parametrize(("server", "via"), SCRIPTS)
def test_script_finds_a_file_of_the_working_directory(server, via, open_place):
    (open_place / "my-site.wsgi").write_text(HELLO.read_text())
    way = ("--server", server, "--via", via)
    with running("my-site.wsgi", *way, cwd=open_place) as command:
        assert fetch(command.await_url()) == (200, "Hello from behind the portico.\n")


def test_application_is_a_file_of_the_working_directory(app):
    path = app(HELLO.read_text(), "my-site.wsgi")
    with running("my-site.wsgi", cwd=path.parent) as command:
        assert fetch(command.await_url()) == (200, "Hello from behind the portico.\n")
        assert "-> my-site.wsgi\n" in command.out


@pytest.mark.parametrize("mount", ["/app", "/app/"])
@pytest.mark.parametrize(
    ("server", "via"),
    [
        pytest.param("builtin", "uwsgi", id="builtin"),
        pytest.param("nginx", "scgi", id="nginx", marks=pytest.mark.frontend("nginx")),
        pytest.param("lighttpd", "cgi", id="lighttpd", marks=pytest.mark.frontend("lighttpd")),
    ],
)
def test_mount_is_in_the_url_and_in_script_name(server, via, mount):
    with running("--server", server, "--via", via, "--mount", mount) as command:
        url = command.await_url()
        mounting = json.loads(fetch(url, "x?format=json")[1])["environ"]["mounting"]
        assert url.endswith("/app/")
        assert (mounting["SCRIPT_NAME"], mounting["PATH_INFO"]) == ("/app", "/x")


@pytest.mark.frontend("apache")
def test_server_goes_by_its_other_name_too():
    with running("--server", "httpd", "--via", "fcgid") as command:
        assert fetch(command.await_url())[0] == 200
        assert "browser -> apache -> fcgid" in command.out


def test_protocol_goes_by_its_other_name_too():
    with running("--via", "fcgi") as command:
        assert fetch(command.await_url())[0] == 200
        assert "-> fastcgi over unix" in command.out


def test_free_ports_differ():
    with running() as one, running() as other:
        urls = {one.await_url(), other.await_url()}
        assert len(urls) == 2
        assert [fetch(url)[0] for url in urls] == [200, 200]


def test_port_is_the_one_asked_for():
    port = free_port()
    with Command("up", "--port", port) as command:
        assert command.await_url() == f"http://127.0.0.1:{port}/"
        assert fetch(f"http://127.0.0.1:{port}/")[0] == 200


def test_it_is_for_this_machine_alone():
    """The front listens on 127.0.0.1, so that another of loopback's addresses is refused."""
    with running() as command:
        port = port_of(command.await_url())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=WAIT)


def test_socket_is_for_this_user_alone():
    with running() as command:
        command.await_url()
        (directory,) = command.temporary.iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "app.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_the_traceback_to_the_visitor(debug, app):
    path = app("def app(environ, start_response): raise KeyError('one of mine')\n")
    with running(path, *(["--debug"] if debug else [])) as command:
        status, text = fetch(command.await_url())
        assert status == 500
        assert ("one of mine" in text) is debug
        command.await_text("KeyError: 'one of mine'", "err")


# -- what goes wrong ---------------------------------------------------------------------------

REFUSED = [
    pytest.param(
        ["--server", "nginxx"], "known are builtin, nginx, apache, lighttpd", id="unknown-server"
    ),
    pytest.param(
        ["--server", "nginx", "--via", "ajp"],
        "nginx does not serve applications via 'ajp'; it can do so via fastcgi, scgi, uwsgi",
        id="nginx-ajp",
    ),
    pytest.param(
        ["--server", "nginx", "--via", "cgi"], "it starts no scripts; it can do so", id="nginx-cgi"
    ),
    pytest.param(
        ["--server", "lighttpd", "--via", "ajp"],
        "it can do so via fastcgi, scgi, uwsgi, cgi",
        id="lighttpd-ajp",
    ),
    pytest.param(
        ["--via", "cgi"],
        "the built-in front does not speak 'cgi'; it speaks fastcgi, scgi, ajp, uwsgi",
        id="builtin-cgi",
    ),
    pytest.param(["--mount", "/a b"], "the mount point '/a b'", id="mount"),
    pytest.param(["nowhere.py"], "no such file: nowhere.py", id="no-file"),
    pytest.param(["nowhere:app"], "there is no module 'nowhere'", id="no-module"),
    pytest.param(["os:nothing"], "its module has no 'nothing'", id="no-callable"),
    pytest.param(["os:sep"], "sep is a str and cannot be called", id="not-callable"),
]


@pytest.fixture
def no_start(monkeypatch):
    """Nothing may be started, nothing written."""

    def refuse(*_, **__):
        raise AssertionError("something was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(up, "open_listener", refuse)
    monkeypatch.setattr(up.tempfile, "TemporaryDirectory", refuse)
    before = [signal.getsignal(number) for number in ENDINGS["ctrl-c-then-sigterm"]]
    yield
    assert [signal.getsignal(number) for number in ENDINGS["ctrl-c-then-sigterm"]] == before


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
@pytest.mark.usefixtures("no_start")
def test_what_cannot_be_is_refused_at_once(arguments, words, capsys):
    assert cli.main(["up", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in one_sentence(err)


@pytest.mark.parametrize("server", ["builtin", "nginx", "apache", "lighttpd"])
@pytest.mark.usefixtures("no_start")
def test_application_that_does_not_load_is_said_above_its_traceback(server, app, capsys):
    path = app("def broken():\n    raise ValueError('no database')\nbroken()\n")
    assert cli.main(["up", str(path), "--server", server]) == 2
    out, err = capsys.readouterr()
    first, below, *_, last = err.splitlines()
    assert out == ""
    assert first == (
        f"portico: application '{path}' cannot be loaded: its import raised ValueError: no database"
    )
    assert below == "Traceback (most recent call last):"
    assert f'File "{path}", line 2, in broken' in err
    assert last == "ValueError: no database"


@pytest.mark.parametrize("server", FRONTS)
def test_taken_port_is_said_with_what_to_do(server):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Command("up", "--port", port, "--server", server) as command:
            assert command.finish() == 1
            assert command.out == ""
            assert one_sentence(command.err) == (
                f"portico: port {port} is taken, another program listens there;"
                " choose another with --port (0 takes a free one)"
            )
            command.assert_left_nothing()


def test_port_without_permission_is_said_in_a_sentence(monkeypatch, capsys, open_place):
    monkeypatch.setattr("portico.servers.front._Server.__init__", deny)
    monkeypatch.setattr(up.tempfile, "tempdir", str(open_place))
    with keeping_signals():
        assert cli.main(["up", "--port", "80"]) == 1
    assert one_sentence(capsys.readouterr().err) == (
        "portico: cannot listen on 127.0.0.1 port 80: Permission denied"
    )
    assert list(open_place.iterdir()) == []


def deny(*_):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


class keeping_signals:  # noqa: N801 - reads as a word
    """Give the signals back: the command takes them until its process ends."""

    def __enter__(self):
        numbers = {number for numbers in ENDINGS.values() for number in numbers}
        self._before = {number: signal.getsignal(number) for number in numbers}

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


@pytest.fixture
def empty_path(monkeypatch, open_place):
    """No program is to be found; what is temporary goes to *open_place*."""
    monkeypatch.setenv("PATH", str(open_place))
    monkeypatch.setattr("portico.servers.launch.SYSTEM_DIRECTORIES", ("/nowhere",))
    monkeypatch.setattr(up.tempfile, "tempdir", str(open_place))


@pytest.mark.parametrize(
    ("server", "via", "words"),
    [
        ("nginx", "scgi", "nginx is not installed: there is no nginx on the PATH or in"),
        ("apache", "cgi", "Apache httpd is not installed: there is no apache2 or httpd on the"),
        ("lighttpd", "fastcgi", "lighttpd is not installed: there is no lighttpd on the PATH"),
    ],
)
@pytest.mark.usefixtures("empty_path")
def test_server_that_is_not_installed_is_said(server, via, words, open_place, capsys):
    with keeping_signals():
        assert cli.main(["up", str(HELLO), "--port", "0", "--server", server, "--via", via]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in one_sentence(err)
    assert list(open_place.iterdir()) == []


DEATHS = [
    pytest.param("nginx", "scgi", signal.SIGKILL, "was ended from outside by SIGKILL", ""),
    pytest.param("nginx", "fastcgi", signal.SIGTERM, "ended by itself with status ", ""),
    pytest.param("apache", "fcgid", signal.SIGTERM, "ended by itself with status ", "SIGTERM"),
    pytest.param("lighttpd", "cgi", signal.SIGTERM, "ended by itself with status ", "stopped"),
]


@pytest.mark.parametrize(
    ("server", "via", "number", "how", "words"),
    [
        pytest.param(*case.values, marks=pytest.mark.frontend(case.values[0]),
                     id=f"{case.values[0]}-{case.values[2].name}")
        for case in DEATHS
    ],
)  # fmt: skip
def test_web_server_that_ends_by_itself_ends_all(server, via, number, how, words):
    with running("--server", server, "--via", via) as command:
        url = command.await_url()
        assert fetch(url)[0] == 200
        command.see_children()
        (server_pid,) = command.children()
        os.kill(server_pid, number)
        assert command.finish(SOON) == 1
        # what the server said before its end may have been shown already
        _, said, below = command.err.partition(f"portico: {server} {how}")
        assert said
        assert "Traceback" not in command.err
        assert words in below
        command.assert_left_nothing()
        assert is_free(port_of(url))


def test_engine_that_fails_ends_all(monkeypatch, open_place):
    serve = up.Engine.serve

    def fail(engine):
        engine.stop()
        serve(engine)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(up.Engine, "serve", fail)
    monkeypatch.setattr(up.tempfile, "tempdir", str(open_place))
    with keeping_signals(), pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["up", "--port", "0"])
    assert list(open_place.iterdir()) == []
