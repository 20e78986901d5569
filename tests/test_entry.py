"""portico.run finds out where it was started; portico.serve serves."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import portico
from cgi_harness import REQUEST
from conftest import SEARCH
from engine_harness import WAIT, Frontend, Process, hello, until
from portico import entry
from portico.errors import ConfigError
from warm_harness import end_residents

SCRIPT = """\
import os, sys
import portico

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [
        "{wsgi[run_once]} {protocol} {script}|{path} {stdin}".format(
            wsgi={"run_once": environ["wsgi.run_once"]},
            protocol=environ["portico.protocol"],
            script=environ["SCRIPT_NAME"],
            path=environ["PATH_INFO"],
            stdin=os.readlink("/proc/self/fd/0"),
        ).encode()
    ]

OPTIONS
portico.run(application, **options)
"""


@pytest.fixture
def script(tmp_path):
    return write_script(tmp_path)


def write_script(directory, options="options = {}"):
    path = directory / "app.fcgi"
    path.write_text(SCRIPT.replace("OPTIONS", options))
    return path


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def started(tmp_path):
    """Start processes that end with the test; without what this one's environment may say."""
    processes = []

    def start(*arguments, env=None, **options):
        cleaned = dict.fromkeys(("GATEWAY_INTERFACE", "REQUEST_METHOD", "LISTEN_FDS"), None)
        kept = {k: v for k, v in os.environ.items() if k not in cleaned}
        process = Process(tmp_path, *arguments, env={**kept, **(env or {})}, **options)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.__exit__()


# -- FastCGI on descriptor 0 ---------------------------------------------------------------


def test_listening_tcp_socket_on_descriptor_0_means_fastcgi(script, listener, started):
    process = started(script, stdin=listener)
    with Frontend("fastcgi", listener.getsockname()) as frontend:
        answer = frontend.ask("/there")
        assert answer.body == b"False fastcgi |/there /dev/null"
        assert frontend.ask("/again").body == b"False fastcgi |/again /dev/null"
    process.signal(signal.SIGTERM)
    assert process.ends() == 0
    assert process.stderr == ""


def test_listening_unix_socket_on_descriptor_0_means_fastcgi(script, tmp_path, started):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = started(script, stdin=listener)
        with Frontend("fastcgi", path) as frontend:
            assert frontend.ask("/there").body == b"False fastcgi |/there /dev/null"
        process.signal(signal.SIGTERM)
        assert process.ends() == 0
    assert Path(path).exists()  # it is not ours to remove


def test_descriptors_1_and_2_may_be_closed(script, listener, started):
    """FastCGI 1.0 §2.2: "the Web server leaves a single file descriptor"."""
    launcher = "import os, sys; os.close(1); os.close(2); os.execv(sys.executable, sys.argv[1:])"
    started("-c", launcher, sys.executable, script, stdin=listener)
    for _ in range(3):
        with Frontend("fastcgi", listener.getsockname()) as frontend:
            assert frontend.ask("/there").body == b"False fastcgi |/there /dev/null"


def test_gateway_interface_does_not_matter_where_a_socket_listens(script, listener, started):
    """mod_fcgid passes the environment of a CGI process along."""
    started(script, stdin=listener, env=REQUEST)
    with Frontend("fastcgi", listener.getsockname()) as frontend:
        assert frontend.ask("/there").body.startswith(b"False fastcgi")


def test_options_are_settings(tmp_path, listener, started):
    script = write_script(tmp_path, "options = {'mount': '/app', 'threads': 2}")
    started(script, stdin=listener)
    with Frontend("fastcgi", listener.getsockname()) as frontend:
        answer = frontend.ask("/app/x", SCRIPT_NAME="", PATH_INFO="/app/x")
        assert answer.body.startswith(b"False fastcgi /app|/x")


def test_wrong_option_is_named(tmp_path, listener, started):
    process = started(write_script(tmp_path, "options = {'thraeds': 2}"), stdin=listener)
    assert process.ends() == 1
    assert "thraeds" in process.stderr


@pytest.mark.parametrize(
    ("addresses", "admitted"),
    [("127.0.0.1", True), ("192.0.2.1,127.0.0.1", True), ("192.0.2.1", False)],
)
def test_fcgi_web_server_addrs_is_honoured(script, listener, started, addresses, admitted):
    process = started(script, stdin=listener, env={"FCGI_WEB_SERVER_ADDRS": addresses})
    with Frontend("fastcgi", listener.getsockname()) as frontend:
        if admitted:
            assert frontend.ask("/there").status == "200 OK"
            return
        assert frontend.ends() in {"eof", "reset"}
        process.wait_for(f"{frontend.name} is not allowed")


def test_fcgi_web_server_addrs_that_is_none_is_refused(script, listener, started):
    process = started(script, stdin=listener, env={"FCGI_WEB_SERVER_ADDRS": "the web server"})
    assert process.ends() == 1
    assert "FCGI_WEB_SERVER_ADDRS" in process.stderr


@pytest.mark.frontend("spawn-fcgi")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_spawn_fcgi(script, tmp_path, kind):
    program = shutil.which("spawn-fcgi", path=SEARCH)
    if kind == "unix":
        address = str(tmp_path / "s")
        where = ["-s", address]
    else:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            address = sock.getsockname()
        where = ["-a", "127.0.0.1", "-p", str(address[1])]
    script.write_text(f"#!{sys.executable}\n{script.read_text()}")
    script.chmod(0o755)
    process = subprocess.Popen([program, "-n", *where, "--", script])
    try:

        def answers():
            assert process.poll() is None
            try:
                with Frontend("fastcgi", address) as frontend:
                    return frontend.ask("/there").body == b"False fastcgi |/there /dev/null"
            except (ConnectionRefusedError, FileNotFoundError):
                return False

        until(answers, "an answer")
        process.terminate()
        assert process.wait(WAIT) == 0
    finally:
        process.kill()
        process.wait(WAIT)


# -- systemd -------------------------------------------------------------------------------

#: Does what systemd does: descriptors from 3 on, and their number in the environment.
SYSTEMD = """\
import os, sys
given = [int(fd) for fd in sys.argv[1].split(",")]
for at, fd in enumerate(given):
    os.dup2(fd, 100 + at)
for at in range(len(given)):
    os.dup2(100 + at, 3 + at)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def test_sockets_of_systemd(script, started):
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
        socket.create_server(("127.0.0.1", 0)) as third,
        socket.create_server(("127.0.0.1", 0)) as fourth,
    ):
        given = [sock.fileno() for sock in (first, second, third, fourth)]
        process = started(
            *("-c", SYSTEMD, ",".join(map(str, given)), script),
            pass_fds=given,
            env={"LISTEN_FDS": "4", "LISTEN_FDNAMES": "app:scgi-app:uwsgi.socket:auto"},
        )
        for sock, protocol in (
            (first, "fastcgi"),
            (second, "scgi"),
            (third, "uwsgi"),
            (fourth, "ajp"),
            (fourth, "scgi"),
        ):
            with Frontend(protocol, sock.getsockname()) as frontend:
                assert frontend.ask("/x").body.startswith(f"False {protocol} |/x".encode())
        process.signal(signal.SIGTERM)
        assert process.ends() == 0


def test_sockets_for_another_process_are_left(script, started):
    process = started(script, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert process.ends() == 2


@pytest.mark.parametrize(("number", "told"), [("0", "nothing to listen on"), ("x", "no number")])
def test_numbers_of_systemd_that_cannot_be(script, started, number, told):
    process = started("-c", SYSTEMD, "0", script, env={"LISTEN_FDS": number})
    assert process.ends() == 1
    assert told in process.stderr


# -- CGI -----------------------------------------------------------------------------------


def as_cgi(script, started, **more):
    process = started(script, env={**REQUEST, **more}, stdout=subprocess.PIPE)
    output = process.process.stdout.read()
    assert process.ends() == 0, process.stderr
    return output


def test_environment_of_a_request_means_cgi(script, started):
    output = as_cgi(script, started, PATH_INFO="/there")
    assert b"Status: 200 OK\r\n" in output
    assert output.endswith(b"True cgi /app.cgi|/there /dev/null")


def test_cgi_takes_mount_and_passes_over_the_engine_s_settings(tmp_path, started):
    script = write_script(tmp_path, "options = {'mount': '/app.cgi/deep', 'threads': 9}")
    assert b"/app.cgi/deep|/x" in as_cgi(script, started, PATH_INFO="/deep/x")


@pytest.mark.parametrize(
    ("value", "shown"),
    [("True", True), ("'yes'", True), ("'no'", False), ("False", False), ("None", False)],
)
def test_cgi_shows_tracebacks_only_where_debug_says_yes(tmp_path, started, value, shown):
    script = write_script(tmp_path, f"options = {{'debug': {value}}}; application = None")
    output = as_cgi(script, started)
    assert b"Status: 500" in output
    assert (b"TypeError" in output) == shown


@pytest.mark.parametrize("value", ["'iis-path-info other'", "['iis-path-info']"])
def test_cgi_takes_names_of_repairs_in_both_forms(tmp_path, started, value):
    script = write_script(
        tmp_path,
        "import portico.core.mount as mount\n"
        "made = mount.Mounting\n"
        "def noting(*names, disabled):\n"
        "    print(sorted(disabled), file=sys.stderr)\n"
        "    return made(*names)\n"
        "mount.Mounting = noting\n"
        f"options = {{'disable_repairs': {value}}}",
    )
    process = started(script, env=REQUEST)
    assert process.ends() == 0
    assert "'iis-path-info'" in process.stderr


def test_connected_socket_on_descriptor_0_is_no_listening_one(script, started):
    """Apache's mod_cgid may pass one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = started(script, stdin=theirs, stdout=theirs, env=REQUEST)
        theirs.close()
        ours.settimeout(WAIT)
        output = b""
        while data := ours.recv(4096):
            output += data
        assert process.ends() == 0
    assert b"True cgi" in output


def test_closed_descriptor_0_is_no_listening_one(script, started):
    launcher = "import os, sys; os.close(0); os.execv(sys.executable, sys.argv[1:])"
    process = started(
        *("-c", launcher, sys.executable, script), env=REQUEST, stdout=subprocess.PIPE
    )
    assert b"True cgi" in process.process.stdout.read()
    assert process.ends() == 0


# -- by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
def test_started_by_hand_it_says_what_to_do(script, started, stdin):
    process = started(script, stdin=stdin, stdout=subprocess.PIPE, cwd=script.parent)
    assert process.process.stdout.read() == b""
    assert process.ends() == 2
    if process.process.stdin:
        process.process.stdin.close()
    assert process.stderr.startswith("app.fcgi: this is a script for a web server to start")
    assert "portico up app.fcgi" in process.stderr
    assert "portico serve app.fcgi --bind" in process.stderr
    assert "Traceback" not in process.stderr


def test_started_by_hand_where_the_directory_is_gone(script, started, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    launcher = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, sys.argv[1:])"
    process = started("-c", launcher, sys.executable, script, cwd=gone)
    assert process.ends() == 2
    assert "Traceback" not in process.stderr


# -- serve ---------------------------------------------------------------------------------


def test_serve_without_a_bind_is_refused():
    with pytest.raises(ConfigError, match="nothing to listen on"):
        portico.serve(hello)


def test_serve_with_a_wrong_bind_is_refused():
    with pytest.raises(ConfigError):
        portico.serve(hello, "gopher://127.0.0.1:70")


def test_serve_with_a_wrong_option_opens_nothing(tmp_path):
    with pytest.raises(ConfigError, match="repair"):
        portico.serve(
            hello, f"scgi+unix://{tmp_path}/s", threads=1, disable_repairs=["no such repair"]
        )
    assert list(tmp_path.iterdir()) == []


def test_serve_serves_on_all_binds(tmp_path, started):
    code = (
        "import sys, portico\n"
        "from engine_harness import hello\n"
        "portico.serve(hello, *sys.argv[1:], threads=2)\n"
    )
    paths = {name: f"{tmp_path}/{name}" for name in ("fastcgi", "scgi", "ajp", "uwsgi")}
    process = started(
        *("-c", code, *(f"{name}+unix://{path}" for name, path in paths.items())),
        env={"PYTHONPATH": str(Path(__file__).parent)},
    )
    until(Path(paths["uwsgi"]).exists, "the last socket")
    for name, path in paths.items():
        with Frontend(name, path) as frontend:
            assert frontend.ask().body == b"hello"
    process.signal(signal.SIGTERM)
    assert process.ends() == 0
    assert not any(Path(path).exists() for path in paths.values())


def test_is_listening_of_what_is_no_socket(tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert not entry._is_listening(file.fileno())
    assert not entry._is_listening(9999)


# -- the command portico cgi ---------------------------------------------------------------

NAMED = """\
import sys
import tempfile
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    script, path = environ["SCRIPT_NAME"], environ["PATH_INFO"]
    once = environ["wsgi.run_once"]
    return [f"{script}|{path} {once} {sys.argv[1:]} {environ['portico.protocol']}".encode()]
"""


def cgi_command(directory, *arguments, **params):
    """Run ``portico cgi`` for one request."""
    return subprocess.run(
        [sys.executable, "-m", "portico", "cgi", *arguments],
        env={**REQUEST, "SCRIPT_NAME": "", "PATH_INFO": "/app/x", "LC_ALL": "C.UTF-8", **params},
        cwd=directory,
        capture_output=True,
        timeout=WAIT,
        check=False,
        text=True,
    )


@pytest.fixture
def named(tmp_path):
    (tmp_path / "named.py").write_text(NAMED)
    return tmp_path


@pytest.mark.parametrize("spec", ["named.py", "named", "named:application", "{0}/named.py"])
def test_the_command_serves_a_request(named, spec):
    done = cgi_command(named, spec.format(named))
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.endswith("\n\n|/app/x True [] cgi")


def test_options_of_the_command_are_settings(named):
    done = cgi_command(named, "named.py", "--mount=/app")
    assert done.stdout.endswith("\n\n/app|/x True [] cgi")


def test_the_command_can_be_warm(named):
    directory = Path(tempfile.mkdtemp(prefix="portico-"))
    try:
        done = cgi_command(named, "named.py", f"--warm={directory}/w")
        assert (done.stderr, done.returncode) == ("", 0)
        assert done.stdout.endswith("\n\n|/app/x False [] cgi")
        assert len(end_residents(directory / "w")) == 1
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("--mount=/app", ["--mount=/app"]),  # no server appends that: it is a pair
        ("--debug+--mount%3D/app", ["--debug", "--mount=/app"]),
        ("%2D%2Dmount%3D%2Fapp", ["\\--mount\\=/app"]),
        ("test", ["test"]),
    ],
)
def test_words_of_a_query_are_no_options(named, query, words):
    """CVE-2012-1823 was PHP taking them for some."""
    appended = words if "=" not in query else []
    done = cgi_command(named, "named.py", *appended, QUERY_STRING=query)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.endswith("\n\n|/app/x True [] cgi")


def test_words_of_a_query_are_no_arguments_of_a_script(named):
    script = named / "app.cgi"
    script.write_text("import portico\nportico.run('named')\n")
    done = subprocess.run(
        [sys.executable, script, "test"],
        env={**REQUEST, "QUERY_STRING": "test"},
        capture_output=True,
        timeout=WAIT,
        check=True,
    )
    assert done.stdout.endswith(b" True [] cgi")


@pytest.mark.parametrize("arguments", [[], ["named.py", "named.py"]])
def test_the_command_takes_one_application(named, arguments):
    done = cgi_command(named, *arguments)
    assert "\nStatus: 500 Internal Server Error\n" in done.stdout
    assert "portico cgi takes one application" in done.stderr


@pytest.mark.parametrize("options", [[], ["--warm"], ["--mount=/app", "--warm=/x"]])
def test_the_command_started_by_hand_says_what_it_is_for(named, options):
    done = subprocess.run(
        [sys.executable, "-m", "portico", "cgi", "named.py", *options],
        env={"LC_ALL": "C.UTF-8"},
        cwd=named,
        capture_output=True,
        timeout=WAIT,
        check=False,
        text=True,
    )
    assert done.returncode == 2
    assert "portico cgi named.py is for a web server to start" in done.stderr
