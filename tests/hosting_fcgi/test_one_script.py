"""One and the same script under everything that starts scripts."""

import contextlib
import hashlib
import os
import signal
import subprocess
from functools import partial

import pytest

from engine_harness import WAIT, until
from fcgi_harness import (
    Cgid,
    Fcgid,
    LighttpdCgi,
    Multiwatch,
    ProcessManager,
    Script,
    SpawnFcgi,
    Spawning,
    count_threads,
    is_ready,
    prefork,
    spawner,
)


@pytest.fixture(scope="module")
def script():
    made = Script()
    yield made
    made.close()


@pytest.fixture
def gate(script):
    """A file that lets held requests go once it is there; it tells who has begun one."""
    path = script.gates / "gate"
    yield path
    for left in script.gates.iterdir():
        left.unlink()


def entered(script):
    """The processes that have begun a held request."""
    return [int(one.name.split(".")[1]) for one in script.gates.glob("*.*")]


#: One process serves one request and ends.
CGI = [
    spawner("mod_cgid", Cgid, "apache"),
    spawner("mod_cgi", partial(Cgid, change=prefork), "apache"),
    spawner("lighttpd-cgi", LighttpdCgi, "lighttpd"),
]

#: Processes stay, and whoever started one starts another where it ends.
KEPT = [
    spawner("mod_fcgid", Fcgid, "apache"),
    spawner("lighttpd-spawn", Spawning, "lighttpd"),
    spawner("multiwatch", Multiwatch, "spawn-fcgi", "multiwatch"),
    spawner("process-manager", ProcessManager),
    spawner("process-manager-3", partial(ProcessManager, children=3)),
]

#: Processes stay, and nobody looks after them.
LEFT = [
    spawner("spawn-fcgi-unix", SpawnFcgi, "spawn-fcgi"),
    spawner("spawn-fcgi-tcp", partial(SpawnFcgi, tcp=True), "spawn-fcgi"),
    spawner("spawn-fcgi-forked", partial(SpawnFcgi, foreground=False, children=3), "spawn-fcgi"),
    spawner("spawn-fcgi-forked-tcp", partial(SpawnFcgi, tcp=True, foreground=False), "spawn-fcgi"),
]

EVERY = pytest.mark.parametrize("make", [*CGI, *KEPT, *LEFT])
RESIDENT = pytest.mark.parametrize("make", [*KEPT, *LEFT])


@EVERY
def test_it_answers(make, script):
    body = os.urandom(70_000)
    with make(script) as spawner:
        facts = spawner.ask("/there?a=b", authorization="Basic eDp5").facts()
        assert (facts["script"], facts["path"], facts["query"]) == ("", "/there", "a=b")
        assert facts["authorization"] == "Basic eDp5"
        is_cgi = make in [one.values[0] for one in CGI]
        assert facts["protocol"] == ("cgi" if is_cgi else "fastcgi")
        assert facts["run_once"] == is_cgi
        assert facts["multithread"] == (not is_cgi)
        digest = hashlib.sha256(body).hexdigest()
        assert spawner.ask("/body", body).body == f"70000 {digest}".encode()
        large = spawner.ask("/large?3145728")
        assert large.status == 200
        assert large.body == b"0123456789abcdef" * 196_608
        printing = spawner.ask("/print")
        assert printing.body == b"printed"
        if not spawner.has_log:  # but the web server has one
            assert printing.errors == b"written to its errors\n"
        else:
            until(lambda: "printed by the application" in spawner.log(), "what was printed")
            until(lambda: "written to its errors" in spawner.log(), "what was written")
        if not is_cgi:
            # it must not be the socket: programs that the application starts would inherit it
            assert facts["descriptors"]["0"] == os.devnull
            assert script.processes()


@RESIDENT
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_process_told_to_end_finishes_what_runs(make, number, script, gate):
    with make(script) as spawner:
        finish = spawner.begin(f"/held/1?{gate}")
        until(lambda: entered(script), "the request")
        (pid,) = entered(script)
        os.kill(pid, number)
        # once more, as managers do that signal a process and its group
        os.kill(pid, number)
        gate.touch()
        assert finish().body == b"finished"
        until(lambda: pid not in script.processes(), "its end")
        assert "Traceback" not in spawner.log()


@pytest.mark.parametrize("make", KEPT)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_another_process_takes_the_place_of_one_that_ended(make, number, script):
    with make(script) as spawner:
        pids = {spawner.ask("/").facts()["pid"]}
        for pid in script.processes():
            os.kill(pid, number)
            pids.add(pid)
        until(lambda: not pids.intersection(script.processes()), "their end")

        def answers():
            with contextlib.suppress(ConnectionRefusedError):
                answer = spawner.ask("/")
                return answer.status == 200 and answer.facts()["pid"] not in pids
            return False

        until(answers, "an answer of another process")


@RESIDENT
def test_requests_at_once_are_served(make, script, gate):
    """By threads where the web server sends several to a process, by processes elsewhere."""
    with make(script) as spawner:
        finishers = [spawner.begin(f"/held/{one}?{gate}") for one in range(4)]
        if make is Fcgid:
            until(lambda: len(entered(script)) == 4, "four processes")
        else:
            until(lambda: entered(script), "the requests")
        gate.touch()
        assert [finish().body for finish in finishers] == [b"finished"] * 4


@pytest.mark.frontend("apache")
def test_mod_fcgid_asks_a_process_one_thing_at_a_time(script, gate):
    """So threads that start with the first need for them are few, whatever `threads` says."""
    with Fcgid(script) as server:
        for _ in range(3):
            gate.unlink(missing_ok=True)
            finishers = [server.begin(f"/held/{one}?{gate}") for one in range(3)]
            until(lambda: len(entered(script)) == 3, "three processes")
            pids = script.processes()
            assert len(pids) == 3
            gate.touch()
            assert [finish().status for finish in finishers] == [200] * 3
            for left in script.gates.iterdir():
                left.unlink()
        for pid in pids:
            # the main thread, the watchdog, and one that polls while another is in a request
            assert count_threads(pid) <= 3


@pytest.mark.frontend("apache")
def test_idle_process_that_mod_fcgid_ends_leaves_nothing(script):
    more = "FcgidIdleTimeout 1\nFcgidIdleScanInterval 1\nFcgidMinProcessesPerClass 0\n"
    with Fcgid(script, more=more) as server:
        pid = server.ask("/").facts()["pid"]
        sockets = server.server.directory / "fcgid"
        assert [one for one in sockets.iterdir() if one.is_socket()]
        until(lambda: pid not in script.processes(), "its end")
        until(lambda: not [one for one in sockets.iterdir() if one.is_socket()], "its socket's")
        assert "Traceback" not in server.log()
        assert "SIGKILL" not in server.log()
        assert server.ask("/").facts()["pid"] != pid


@pytest.mark.frontend("spawn-fcgi")
@pytest.mark.frontend("multiwatch")
def test_multiwatch_ends_its_children_and_a_further_signal_cuts_nothing(script, gate):
    """It sends them SIGUSR1; a service manager may add a SIGTERM for each."""
    with Multiwatch(script) as spawner:
        until(lambda: all(map(is_ready, script.processes())), "all of them")
        finish = spawner.begin(f"/held/1?{gate}")
        until(lambda: entered(script), "the request")
        spawner.process.terminate()
        until(lambda: script.processes() == entered(script), "the end of the idle ones")
        (pid,) = entered(script)
        os.kill(pid, signal.SIGTERM)
        gate.touch()
        assert finish().body == b"finished"
        assert spawner.process.wait(WAIT) == 0


def test_manager_that_ends_takes_its_children_along(script, gate):
    with ProcessManager(script, children=3) as spawner:
        until(lambda: all(map(is_ready, script.processes())), "all of them")
        finish = spawner.begin(f"/held/1?{gate}")
        until(lambda: entered(script), "the request")
        spawner.process.terminate()
        until(lambda: len(script.processes()) == 1, "the end of the idle ones")
        gate.touch()
        assert finish().body == b"finished"
        assert spawner.process.wait(WAIT) == 0
        statuses = {line.split()[1] for line in spawner.log().splitlines()}
        assert statuses == {"0"}


@pytest.mark.frontend("spawn-fcgi")
@pytest.mark.frontend("multiwatch")
def test_parent_of_several_workers_ends_as_one_process_does():
    made = Script(workers=2)
    with Multiwatch(made, children=2) as spawner:
        until(lambda: len(made.processes()) == 6, "two parents with two workers each")
        until(lambda: all(map(is_ready, made.processes())), "all of them")
        gate = made.gates / "gate"
        finish = spawner.begin(f"/held/1?{gate}")
        until(lambda: entered(made), "the request")
        spawner.process.terminate()
        until(lambda: len(made.processes()) == 2, "the end of the idle ones")
        for pid in made.processes():
            os.kill(pid, signal.SIGTERM)
        gate.touch()
        assert finish().body == b"finished"
        assert spawner.process.wait(WAIT) == 0
    made.close()


def test_log_file_of_its_own_is_opened_anew_by_sigusr1(tmp_path):
    """Then it is no order to end: whoever moves logs away sends it."""
    log = tmp_path / "log"
    made = Script(log_file=str(log))
    with ProcessManager(made) as spawner:
        (pid,) = made.processes()
        assert spawner.ask("/print").errors == b""
        until(lambda: "written to its errors" in log.read_text(), "what was written")
        assert "printed by the application" in log.read_text()
        log.rename(tmp_path / "log.1")
        os.kill(pid, signal.SIGUSR1)
        until(log.exists, "the new file")
        assert spawner.ask("/print").body == b"printed"
        until(lambda: "written to its errors" in log.read_text(), "what was written")
        assert made.processes() == [pid]
    made.close()


# -- by hand -------------------------------------------------------------------------------


def run_by_hand(script, *words, **options):
    return subprocess.run(
        [*words, str(script.path)], capture_output=True, timeout=WAIT, check=False, **options
    )


def test_by_hand_without_a_terminal_it_says_what_it_is_for(script):
    done = run_by_hand(script, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"this is a script for a web server to start" in done.stderr


def test_by_hand_at_a_terminal_it_says_what_it_is_for(script):
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [str(script.path)], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # the terminal's end
            while data := terminal.read(4096):
                said += data
        assert process.wait(WAIT) == 2
    assert b"this is a script for a web server to start" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("words", [(), ("setsid", "--wait")], ids=["", "setsid"])
def test_by_hand_with_descriptors_closed(script, closed, words):
    command = f'exec {" ".join(words)} "$0" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, str(script.path)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 2
    assert (b"this is a script" in done.stderr) == ("2>&-" not in closed)
    assert b"Traceback" not in done.stderr
