"""`run()`: what it returns at which signal, what it leaves behind, where it may be called."""

import json
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cgi_harness import environment
from engine_harness import WAIT, Frontend, Process, until
from flup_harness import FORKING, OURS, PROGRAM, SERVERS, THREADED, Flup, accepts

pytestmark = pytest.mark.slow  # processes, one after another

each = pytest.mark.parametrize("server", SERVERS)


@each
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGHUP, 42), (signal.SIGTERM, 0), (signal.SIGINT, 0)]
)
def test_run_returns_true_at_sighup_alone(server, number, status, place):
    with Flup(place, server) as program:
        assert program.ask().status == "200 OK"
        program.signal(number)
        assert program.ends() == status
    assert f"returned {status == 42} same handlers" in program.stderr
    assert not (place / "sock").exists()


@each
def test_requests_that_run_are_finished(server, place):
    with Flup(place, server, "waiting") as program, program.begin("/wait") as frontend:
        program.await_entered("wait")
        program.signal(signal.SIGINT)  # what Ctrl-C sends; flup lets requests finish
        until(lambda: not accepts(program.address), "the end of the listening")
        program.let_go()
        assert frontend.finish().body == b"done"
        assert program.ends() == 0


@pytest.mark.parametrize("server", FORKING)
def test_the_first_signal_decides(server, place):
    with Flup(place, server, "waiting") as program, program.begin("/wait") as frontend:
        program.await_entered("wait")
        program.signal(signal.SIGHUP)
        until(lambda: not accepts(program.address), "the end of the listening")
        program.let_go()
        frontend.finish()
        assert program.ends() == 42


@pytest.mark.parametrize("server", THREADED)
def test_off_the_main_thread_no_signal_is_touched(server, place):
    with Flup(place, server, off_main=True) as program:
        assert program.ask().status == "200 OK"
        program.let_go()
        assert program.ends() == 42  # as _exit(reload=True) said
    assert "returned True same handlers" in program.stderr
    assert not (place / "sock").exists()


@pytest.mark.parametrize("server", FORKING)
def test_a_forking_server_off_the_main_thread_says_what_to_do(server, place):
    with Flup(place, server, off_main=True, prepared=False) as program:
        plain = server.removesuffix("_fork")
        program.wait_for(f"run it there, or use flup.server.{plain}\n")
        program.let_go()
        assert program.ends() == 1


@each
def test_a_stale_socket_is_replaced_and_a_file_is_not(server, place):
    path = place / "sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with Flup(place, server, bindAddress=str(path)) as program:
        assert program.ask().status == "200 OK"
        program.signal(signal.SIGTERM)
        assert program.ends() == 0
    path.write_text("somebody's letter")
    with Flup(place, server, bindAddress=str(path), prepared=False) as program:
        # FastCGI's raise OSError; the others log, and return False
        assert program.ends() == (1 if server.startswith("fcgi") else 0)
    assert "is no socket, so it is left alone" in program.stderr
    assert ("OSError" in program.stderr) == server.startswith("fcgi")
    assert path.read_text() == "somebody's letter"


@each
def test_a_running_server_keeps_its_socket(server, place):
    with Flup(place, server) as first:
        with Flup(place, server, prepared=False) as second:
            second.ends()
        assert "a server answers on it" in second.stderr
        assert first.ask().status == "200 OK"


@pytest.mark.parametrize("server", ["fcgi", "fcgi_single", "fcgi_fork"])
def test_the_socket_on_descriptor_0_is_served(server, place):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "inherited"))
        listener.listen(8)
        with Flup(place, server, inherited=listener) as program:
            assert program.environ("/x")["PATH_INFO"] == "/x"
            program.signal(signal.SIGHUP)
            assert program.ends() == 42
    assert (place / "inherited").exists()  # it belongs to who made it


TWICE = """
import sys
from portico.compat.flup.server.fcgi import WSGIServer

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [turn]

for turn in (b"first", b"second"):
    print(turn, WSGIServer(application).run(), file=sys.stderr, flush=True)
"""


def test_a_loop_around_run_serves_descriptor_0_again(place):
    def ask():
        with Frontend("fastcgi", str(place / "inherited"), keep=False) as frontend:
            return frontend.ask().body

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "inherited"))
        listener.listen(8)
        with Process(place, "-c", TWICE, stdin=listener) as program:
            assert ask() == b"first"
            program.signal(signal.SIGHUP)
            program.wait_for("b'first' True")
            assert ask() == b"second"
            program.signal(signal.SIGTERM)
            assert program.ends() == 0
    assert "b'second' False" in program.stderr


# -- CGI -----------------------------------------------------------------------------------


def run_as_cgi(place, server, application="report", env=None, **arguments):
    """Run a program as a CGI script; gives head and body, its errors and its status."""
    done = subprocess.run(
        [sys.executable, PROGRAM, OURS, server, application, json.dumps(arguments)],
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT,
        cwd=place,
        check=False,
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body, done.stderr.decode(), done.returncode


@pytest.mark.parametrize("server", ["fcgi", "fcgi_single", "fcgi_fork", "cgi"])
def test_without_a_socket_it_is_cgi(server, place):
    head, body, errors, status = run_as_cgi(place, server, "texts")
    assert b"Status: 201 Made" in head
    assert body == b"caf\xe9 one two three"
    assert status == 0
    assert ("returned None" in errors) == (server == "cgi")  # the others end the process


def test_as_cgi_the_flags_say_so(place):
    _, body, _, _ = run_as_cgi(place, "fcgi", environ={"EXTRA": "here"})
    seen = json.loads(body)["environ"]
    assert seen["wsgi.run_once"] is True
    assert seen["wsgi.multiprocess"] is True
    assert seen["wsgi.multithread"] is False
    assert seen["EXTRA"] == "here"


@pytest.mark.parametrize(
    ("arguments", "env"),
    [({"forceCGI": True}, {}), ({}, {"FCGI_FORCE_CGI": "y"}), ({}, {"FCGI_FORCE_CGI": "YES"})],
)
def test_cgi_can_be_forced(arguments, env, place):
    """With a listening socket on descriptor 0."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "inherited"))
        listener.listen(8)
        params = {"REQUEST_METHOD": "GET", "SERVER_NAME": "x", "SERVER_PORT": "80"}
        with Flup(
            place, "fcgi", inherited=listener, prepared=False, env={**params, **env}, **arguments
        ) as program:
            assert program.ends() == 0
    assert "returned" not in program.stderr


def test_by_hand_it_answers_for_the_root_and_says_why(place):
    given = {name: value for name, value in environment().items() if name != b"REQUEST_METHOD"}
    head, body, errors, status = run_as_cgi(place, "fcgi", env=given)
    assert b"Status: 200 OK" in head
    assert json.loads(body)["environ"]["REQUEST_METHOD"] == "GET"
    assert "name a bindAddress to listen" in errors
    assert status == 0


# -- processes -----------------------------------------------------------------------------


def children_of(pid):
    """The processes that *pid* has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("server", FORKING)
def test_children_grow_with_the_requests_and_stop_at_the_most(server, place):
    """flup's own never do: it compares a byte with a text (defect 20)."""
    with Flup(place, server, "waiting", minSpare=1, maxSpare=2, maxChildren=4) as program:
        until(lambda: len(children_of(program.process.pid)) == 2, "the spare children")
        held = [program.begin(f"/wait{number}") for number in range(4)]
        busy = {program.await_entered(f"wait{number}") for number in range(4)}
        assert len(busy) == 4
        with program.begin("/") as fifth:  # waits for one of them
            program.let_go()
            assert fifth.finish().body == b"done"
        assert len(children_of(program.process.pid)) <= 4
        for frontend in held:
            with frontend:
                assert frontend.finish().body == b"done"


@pytest.mark.parametrize("server", FORKING)
def test_a_child_ends_after_so_many_requests(server, place):
    with Flup(place, server, maxSpare=1, maxChildren=1, maxRequests=2) as program:
        seen = set()

        def replaced():
            (process,) = program.ask().header("X-Process")
            seen.add(process)
            return len(seen) > 2

        until(replaced, "two other children")


@pytest.mark.parametrize("server", FORKING)
def test_a_request_that_takes_too_long_is_ended(server, place):
    with Flup(place, server, "sleeping", maxSpare=1, timeout=0.3) as program:
        assert program.ask().status.startswith("504")


@pytest.mark.parametrize("server", FORKING)
def test_sigusr1_replaces_the_children(server, place):
    """flup's parent dies of it, and leaves its children behind (defect 22)."""
    with Flup(place, server, maxSpare=1, maxChildren=1) as program:
        before = program.ask().header("X-Process")
        program.signal(signal.SIGUSR1)
        until(lambda: program.ask().header("X-Process") != before, "another child")
        assert program.process.poll() is None


@pytest.mark.parametrize("server", FORKING)
def test_no_child_is_left(server, place):
    with Flup(place, server, maxSpare=3) as program:
        until(lambda: len(children_of(program.process.pid)) == 3, "the children")
        children = children_of(program.process.pid)
        program.signal(signal.SIGTERM)
        assert program.ends() == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_umask_makes_the_mode(umask, place):
    with Flup(place, "scgi", umask=umask):
        assert stat.S_IMODE((place / "sock").stat().st_mode) == 0o777 & ~umask
