"""Resident servers: who is one, when it leaves, and that no request is lost over its end."""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from cgi_harness import DEADLINE, environment
from portico.warm import GO, LEAVE, Trouble
from portico.warm.exchange import encode_head
from portico.warm.seat import Seat
from warm_harness import end_residents, until, wait_for_end

pytestmark = pytest.mark.slow  # processes, one after another

HELLO = """
import os
with open(JOURNAL, "a") as journal:
    journal.write(f"loaded by {os.getpid()}\\n")

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['wsgi.run_once']}".encode()]
"""

IS_ROOT = os.geteuid() == 0


def by(answer):
    """Which process has answered, and whether it was the CGI process itself."""
    assert (answer.status, answer.exit_status) == ("200 OK", 0), answer
    pid, _, once = answer.body.decode().partition(" ")
    return int(pid), once == "True"


def is_plain(answer, reason):
    """Whether plain CGI has answered, and one line in the log says why."""
    assert answer.errors.startswith(f"portico: warm CGI: {reason}"), answer.errors
    assert answer.errors.endswith("; this request is served as plain CGI\n")
    assert answer.errors.count("\n") == 1
    return by(answer)[1]


# -- the directory -------------------------------------------------------------------------


def link(path):
    elsewhere = path.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    path.symlink_to(elsewhere)


def open_to_the_group(path):
    path.mkdir()
    path.chmod(0o770)


def somebody_elses(path):
    path.mkdir(mode=0o700)
    os.chown(path, 65_534, 65_534)


DIRECTORIES = {
    "a link": (link, "{path} is a symbolic link"),
    "a file": (Path.touch, "{path} is no directory"),
    "the group's": (open_to_the_group, "{path} is open to others (mode 770); have it be 700"),
    "readable": (lambda path: path.mkdir(mode=0o755), "{path} is open to others (mode 755)"),
    "nowhere": (lambda path: path.parent.rmdir(), "No such file or directory: {path}"),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_a_directory_that_is_not_the_users_own_is_not_used(make_site, kind):
    make, reason = DIRECTORIES[kind]
    site = make_site(HELLO)
    make(site.directory)
    path = site.directory
    assert is_plain(site.ask(), reason.format(path=path))
    if kind == "nowhere":
        path.parent.mkdir()
        return
    assert not path.is_dir() or not list(path.iterdir())
    if path.is_symlink():
        path.unlink()


def test_a_directory_of_another_user_is_not_used(make_site):
    if IS_ROOT:
        site = make_site(HELLO)
        somebody_elses(site.directory)
        owner = 65_534
    else:  # the root directory is root's
        site = make_site(HELLO)
        site.script.write_text(site.script.read_text().replace(str(site.directory), "/"))
        owner = 0
    assert f"belongs to user {owner}" in (answer := site.ask()).errors
    assert is_plain(answer, "/")


def test_a_directory_whose_path_is_too_long_is_named(make_site, tmp_path):
    site = make_site(HELLO)
    long = tmp_path / ("x" * 100)
    site.script.write_text(site.script.read_text().replace(str(site.directory), str(long)))
    assert is_plain(site.ask(), f"{long} is too long for a socket's path")


def test_a_directory_that_cannot_be_written_is_plain_cgi(make_site):
    """A file system that is full or read-only; /proc takes no files from anybody."""
    site = make_site(HELLO)
    site.script.write_text(site.script.read_text().replace(str(site.directory), "/proc/warm"))
    assert is_plain(site.ask(), "")


# -- the system refuses --------------------------------------------------------------------

REFUSALS = {
    "no fork": (
        "import os\ndef fork(): raise BlockingIOError(11, 'no process is left')\nos.fork = fork",
        "no process is left",
    ),
    "no sockets": (
        """
import _socket
def refuse(*_):
    raise OSError(24, 'no descriptor is left')
_socket.socket = refuse
""",
        "no descriptor is left",
    ),
    "no peer": ("import _socket\ndel _socket.SO_PEERCRED", "this system does not tell who is"),
    "no listening": (
        """
from portico.warm import GO, LEAVE, Trouble
from portico.warm.exchange import encode_head
from portico.warm import seat
def take(self):
    raise OSError(28, 'the disk is full')
seat.Seat.take = take
""",
        "the resident server cannot start: [Errno 28] the disk is full",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_the_system_refuses_is_plain_cgi(make_site, kind):
    before, reason = REFUSALS[kind]
    site = make_site(HELLO, before=before)
    assert is_plain(site.ask(), reason)


def test_a_limit_of_processes_is_plain_cgi(make_site):
    if not IS_ROOT:
        before = "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (1, 1))"
    else:  # whom it does not hold back
        before = (
            "import os, resource, sys\nsys.dont_write_bytecode = True\n"
            "import fcntl, portico.entry, portico.cgi, portico.loader\n"
            "import portico.warm.relay, portico.warm.start\n"
            "import site_application\n"
            "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\nos.setuid(54_321)"
        )
    site = make_site(HELLO, before=before)
    site.journal.chmod(0o666)
    if IS_ROOT:
        os.chown(site.directory.parent, 54_321, -1)
    answer = site.ask()
    assert is_plain(answer, "Resource temporarily unavailable")


ENDS_BY_ITSELF = (
    """
import os
with open(JOURNAL, "a") as journal:
    journal.write(f"{os.getpid()}\\n")
if os.getppid() != PARENT:
    os._exit(3)
"""
    + HELLO
)


def test_an_application_that_ends_its_process_is_loaded_a_few_times(make_site):
    """In the resident servers; in the CGI process, whose parent is this one, it goes on."""
    site = make_site(ENDS_BY_ITSELF.replace("PARENT", str(os.getpid())))
    assert is_plain(site.ask(), "its servers end at the start; their log is ")
    assert len(site.noted()) == 5  # and two lines of the CGI process


# -- who listens ---------------------------------------------------------------------------


def test_a_socket_that_nobody_listens_on_is_replaced(make_site):
    site = make_site(HELLO)
    first = by(site.ask())[0]
    os.kill(first, signal.SIGKILL)
    wait_for_end({first})
    assert list(site.directory.glob("*.sock"))
    answer = site.ask()
    assert answer.errors == ""
    assert by(answer) == (site.resident(), False)
    assert site.resident() != first


FOREIGN = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
os.setuid(65_534)
listener.listen()
print("listening", flush=True)
connection = listener.accept()[0]
print(connection.recv(1000), flush=True)
"""


def test_a_server_of_another_user_is_told_nothing(make_site, monkeypatch):
    site = make_site(HELLO)
    site.ask()
    (path,) = site.directory.glob("*.sock")
    if not IS_ROOT:
        seat = Seat("site_application", str(site.script), str(site.directory), "")
        monkeypatch.setattr(os, "geteuid", lambda: 65_534)
        seat.path = str(path)
        with pytest.raises(Trouble, match="belongs to a process of user"):
            seat.connect()
        return
    end_residents(site.directory)
    path.unlink(missing_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", FOREIGN, str(path)], stdout=subprocess.PIPE
    ) as foreign:
        assert foreign.stdout.readline() == b"listening\n"
        answer = site.ask()
        assert foreign.communicate(timeout=DEADLINE)[0] == b"b''\n"
    assert is_plain(answer, f"{path} belongs to a process of user 65534")


def test_a_server_of_another_version_is_not_asked(make_site):
    site = make_site(HELLO)
    first = by(site.ask())[0]
    script = site.script.read_text()
    stamp = site.script.stat()
    site.script.write_text(f"import portico\nportico.__version__ = '0.0.9'\n{script}")
    os.utime(site.script, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    second = by(site.ask())[0]
    assert site.residents() == {first, second}


def test_a_stopped_server_is_not_waited_for_and_answers_no_more(make_site):
    site = make_site("""
import os
def application(environ, start_response):
    with open(JOURNAL, "a") as journal:
        journal.write(environ["QUERY_STRING"] + "\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['wsgi.run_once']}".encode()]
""")
    pid = by(site.ask(QUERY_STRING="first"))[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = site.ask(QUERY_STRING="once", REQUEST_METHOD="POST", CONTENT_LENGTH="0")
        assert is_plain(answer, f"the resident server, process {pid}, is stopped")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert by(site.ask(QUERY_STRING="last")) == (pid, False)
    assert site.noted() == ["first", "once", "last"]


def test_a_server_whose_threads_are_all_busy_is_not_waited_for_long(make_site):
    site = make_site(
        """
import os, time
def application(environ, start_response):
    if environ["QUERY_STRING"] == "long":
        with open(JOURNAL, "a") as journal:
            journal.write("long\\n")
        environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['wsgi.run_once']}".encode()]
""",
        "threads=1",
    )
    with site.start(QUERY_STRING="long", REQUEST_METHOD="POST", CONTENT_LENGTH="1") as long:
        until(lambda: site.noted() == ["long"], "the long request")
        answer = site.ask()
        pid = site.resident()
        assert is_plain(answer, f"the resident server, process {pid}, is busy")
        output = long.communicate(b"x", DEADLINE)[0]
        assert output.endswith(b"%d False" % pid)


LEAVES_A_CHILD = """
import os, time
if not os.fork():
    time.sleep(600)
    os._exit(0)
with open(JOURNAL, "a") as journal:
    journal.write("loaded\\n")
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['wsgi.run_once']}".encode()]
"""


def test_a_child_that_a_dead_server_leaves_does_not_stand_in_the_way(make_site):
    site = make_site(LEAVES_A_CHILD)
    children = set()
    try:
        first = by(site.ask())[0]
        children |= children_of(first)
        os.kill(first, signal.SIGKILL)
        wait_for_end({first})
        answer = site.ask()
        assert answer.errors == ""
        second, plain = by(answer)
        children |= children_of(second)
        assert (second == first, plain) == (False, False)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    wait_for_end(children)


def children_of(pid):
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


# -- when it leaves ------------------------------------------------------------------------


def test_it_leaves_when_it_has_been_idle(make_site):
    site = make_site(HELLO, "worker_idle_timeout=0.3")
    pid = by(site.ask())[0]
    wait_for_end({pid})
    assert "ending: no request for 0.3 seconds" in site.log()
    assert not list(site.directory.glob("*.sock"))
    assert by(site.ask())[1] is False


def test_it_does_not_leave_while_it_serves(make_site):
    site = make_site(
        """
import glob, time
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    time.sleep(0.6)
    return [str(len(glob.glob(environ["QUERY_STRING"]))).encode()]
""",
        "worker_idle_timeout=0.1",
    )
    answer = site.ask(QUERY_STRING=f"{site.directory}/*.sock")
    assert (answer.body, answer.errors) == (b"1", "")
    until(lambda: not list(site.directory.glob("*.sock")), "its end")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("max_requests=3", "3 requests (max_requests)"),
        ("max_lifetime=0.3", "it is 0.3 seconds old (max_lifetime)"),
        ("max_memory=1000", "bytes of memory (max_memory)"),
    ],
)
def test_it_leaves_when_it_is_worn_and_no_request_fails(make_site, options, reason):
    site = make_site(HELLO, options)
    seen = set()

    def has_changed():
        answer = site.ask()
        assert answer.errors == ""
        pid, plain = by(answer)
        assert not plain
        seen.add(pid)
        return len(seen) > 1

    until(has_changed, "another server")
    until(lambda: reason in site.log(), "the reason")


ALWAYS_LOOKING = """
from portico.supervisor import resident
resident._LOOK_SECONDS = 0
resident.DEFAULTS["max_memory"] = 1000
"""


def test_a_large_application_is_not_loaded_again_and_again(make_site):
    """Without a limit of the script's own, what it takes once loaded counts."""
    site = make_site(HELLO, before=ALWAYS_LOOKING)
    assert len({by(site.ask()) for _ in range(4)}) == 1
    site = make_site(HELLO, "max_memory=1000", before=ALWAYS_LOOKING)
    assert len({by(site.ask()) for _ in range(4)}) > 1


def test_changed_code_is_loaded(make_site):
    site = make_site(HELLO)
    first = by(site.ask())[0]
    site.write(HELLO.replace("def application", "import json\ndef application"))
    until(lambda: by(site.ask())[0] != first, "another server")
    wait_for_end({first})
    assert "site_application.py has changed" in site.log()


@pytest.mark.parametrize("change", ["options", "touched"])
def test_changed_options_are_heeded_at_once(make_site, change):
    site = make_site(HELLO)
    first = by(site.ask())[0]
    script = site.script.read_text()
    if change == "options":
        script = script.replace(
            "portico.run('site_application'", "portico.run('site_application', threads=3"
        )
    site.script.write_text(script)
    answer = site.ask()
    second, plain = by(answer)
    assert (answer.errors, second == first, plain) == ("", False, False)
    wait_for_end({first})
    assert "the script or its options have changed" in site.log()


def test_a_server_that_is_told_to_end_finishes_what_it_does(make_site):
    site = make_site("""
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    environ["wsgi.input"].read()
    yield b"second"
""")
    with site.start(REQUEST_METHOD="POST", CONTENT_LENGTH="1") as process:
        output = b""
        while not output.endswith(b"first"):
            output += os.read(process.stdout.fileno(), 1000)
        pid = site.resident()
        os.kill(pid, signal.SIGTERM)
        until(lambda: pid not in site.residents(), "the end of its listening")
        assert process.communicate(b"x", DEADLINE)[0] == b"second"
    wait_for_end({pid})


# -- many at once --------------------------------------------------------------------------


def test_200_first_requests_at_once_start_one_server(make_site):
    slow = HELLO.replace("import os\n", "import os, decimal, email.message, http.client\n", 1)
    site = make_site(slow)
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: site.ask(), range(200)))
    pid = site.resident()
    assert {by(answer) for answer in answers} == {(pid, False)}
    assert {answer.errors for answer in answers} == {""}
    assert site.noted() == [f"loaded by {pid}"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_ended_under_load_costs_no_request(make_site, number):
    site = make_site(HELLO)
    site.ask()
    killed = set()
    done = threading.Event()

    def kill():
        while len(killed) < 8 and not done.is_set():
            new = site.residents() - killed
            if not new:
                done.wait(0.05)
            for pid in new:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
                killed.add(pid)
            done.wait(0.4)

    killer = threading.Thread(target=kill)
    killer.start()
    answers = []
    try:
        with ThreadPoolExecutor(6) as pool:
            while killer.is_alive():
                answers += pool.map(lambda _: site.ask(), range(12))
    finally:
        done.set()
        killer.join()
    assert len(killed) == 8
    assert {answer.status for answer in answers} == {"200 OK"}
    assert {answer.exit_status for answer in answers} == {0}
    assert len(answers) > len(killed)


SLOW = """
import os
def application(environ, start_response):
    with open(JOURNAL, "a") as journal:
        journal.write(f"{os.getpid()}\\n")
    if len(open(JOURNAL).read().splitlines()) == 1:
        import time
        time.sleep(600)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['wsgi.run_once']}".encode()]
"""


def killed_over(site, **params):
    """The answer to a request over which its server is killed."""
    with site.start(**params) as process:
        (pid,) = until(site.noted, "the request")
        os.kill(int(pid), signal.SIGKILL)
        output, errors = process.communicate(timeout=DEADLINE)
    return output, errors.decode(), process.returncode


def test_a_request_that_may_be_repeated_is(make_site):
    site = make_site(SLOW)
    output, errors, status = killed_over(site)
    assert (output.rpartition(b"\r\n")[2], errors, status) == (
        b"%d False" % site.resident(),
        "",
        0,
    )
    assert len(site.noted()) == 2


def test_a_request_that_may_have_had_effects_is_not_repeated(make_site):
    site = make_site(SLOW)
    output, errors, status = killed_over(site, REQUEST_METHOD="POST", CONTENT_LENGTH="0")
    assert b"Status: 502 Bad Gateway\r\n" in output
    assert errors.startswith("portico: warm CGI: the response broke off")
    assert (errors.count("\n"), status, len(site.noted())) == (1, 1, 1)


def test_a_502_that_nobody_reads_is_no_traceback(make_site):
    site = make_site(SLOW)
    with site.start(REQUEST_METHOD="POST", CONTENT_LENGTH="0") as process:
        (pid,) = until(site.noted, "the request")
        process.stdout.close()
        os.kill(int(pid), signal.SIGKILL)
        first, second = process.stderr.read().decode().splitlines()
        assert process.wait(DEADLINE) == 1
    assert first.startswith("portico: warm CGI: the response broke off")
    assert second.startswith("portico: 499: the web server went away")


# -- whose requests it takes ---------------------------------------------------------------


def test_a_directory_on_its_own_gets_one_lock_per_script(make_site):
    one = make_site(HELLO)
    other = make_site(HELLO)
    other.script.write_text(
        other.script.read_text().replace(str(other.directory), str(one.directory))
    )
    assert by(one.ask())[0] != by(other.ask())[0]
    assert len(one.residents()) == 2


def test_whoever_speaks_without_being_the_script_is_sent_away(make_site, monkeypatch):
    """Of the same user, with another identity: the server takes nothing for it, and leaves."""
    site = make_site(HELLO)
    pid = by(site.ask())[0]
    (path,) = site.directory.glob("*.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.settimeout(DEADLINE)
        monkeypatch.setattr(os, "environb", environment())
        sock.sendall(encode_head("somebody else", end=True))
        data = b""
        while more := sock.recv(1000):
            data += more
    assert LEAVE in data
    assert GO not in data
    wait_for_end({pid})
