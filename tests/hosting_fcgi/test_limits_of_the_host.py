"""Tight limits of processes, memory, descriptors, time and file size: fewer threads, no crash."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import docs_harness as docs
from engine_harness import WAIT, Frontend, until
from fcgi_harness import Direct, Script, count_threads
from portico.errors import PorticoError

pytestmark = pytest.mark.slow  # processes, one after another

#: Becomes the script, as another user where root runs the tests: no limit of processes is root's.
_WRAPPER = """
import os, resource, sys
uid = int(sys.argv[1])
limits = [pair.split("=") for pair in sys.argv[2].split(",")]
if uid:
    os.setgid(uid)
    os.setuid(uid)
for name, value in limits:
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (int(value), int(value)))
os.execv(sys.argv[3], sys.argv[3:])
"""

#: An account that runs nothing else; it has a number each test, as a limit counts all of its.
_FIRST_UID = 61_000

APPLICATION = """\
import os
import sys
import threading
import time

def early(body):
    yield b"y" * 4_000_000
    yield b"%d" % len(body.read())


def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = b"done"
    if path == "/held":
        with open(f"{query}.{threading.get_ident()}", "w"):
            pass
        while not os.path.exists(query):
            time.sleep(0.01)
    elif path == "/threads":
        body = b"%d" % len(os.listdir("/proc/self/task"))
    elif path == "/much":
        bytearray(int(query))
    elif path == "/everything":
        # until not even the smallest piece is to be had, and for a while
        held = []
        try:
            for size in (1 << 20, 1 << 16, 1 << 12, 1 << 9, 64):
                with_room = True
                while with_room:
                    try:
                        held.append(bytearray(size))
                    except MemoryError:
                        with_room = False
        except MemoryError:
            pass
        time.sleep(0.3)
        del held
    elif path == "/body":
        body = b"%d" % len(environ["wsgi.input"].read())
    elif path == "/early":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return early(environ["wsgi.input"])
    elif path == "/burn":
        until = time.process_time() + float(query)
        while time.process_time() < until:
            pass
    elif path == "/fork":
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


MOD_FCGID = (docs.ROOT / "docs/howto/mod_fcgid.md").read_text("utf-8")


def without_numbers(text):
    return re.sub(r"\d+", "N", text)


@pytest.fixture(scope="module")
def script():
    made = Script(APPLICATION)
    yield made
    made.close()


class Limited(Direct):
    """The script under limits, on a socket that the test listens on."""

    number = 0

    def __init__(self, script, *, user=False, env=None, **limits):
        super().__init__(script)
        Limited.number += 1
        self.uid = 0
        if user and os.geteuid() == 0:
            self.uid = _FIRST_UID + (os.getpid() * 50 + Limited.number) % 4000
        self._limits = ",".join(f"{name}={value}" for name, value in limits.items())
        self._env = env

    def start(self):
        self.gates = self.home / "gates"
        self.gates.mkdir()
        self.gates.chmod(0o777)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(256)
            words = [sys.executable, "-c", _WRAPPER, self.uid, self._limits, self.script.path]
            self.run(*words, stdin=listener, env={**os.environ, **(self._env or {})})
        self.await_answer()

    @property
    def pid(self):
        return self.process.pid

    def threads(self):
        return count_threads(self.pid)

    def held(self):
        return len(list(self.gates.glob("gate.*")))

    def lines(self, text):
        return [line for line in self.log().splitlines() if text in line]


def occupied(uid):
    """Processes and threads of a user: what its RLIMIT_NPROC counts."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid:
                    count += count_threads(entry.name)
    return count


def nproc(threads):
    """A limit with room for so many threads of one process."""
    here = 0 if os.geteuid() == 0 else occupied(os.geteuid())
    return here + threads


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 6])
def test_processes_and_threads_are_few(script, threads):
    with Limited(script, user=True, NPROC=nproc(threads)) as process:
        gate = process.gates / "gate"
        finishers = [process.begin(f"/held?{gate}") for _ in range(8)]
        until(lambda: process.lines("no more threads"), "the line")
        until(lambda: process.held() >= max(1, threads - 2), "requests")
        gate.touch()
        assert [finish().body for finish in finishers] == [b"done"] * 8
        for _ in range(50):
            assert process.ask("/threads").status == 200
        assert process.threads() <= threads
        (line,) = process.log().splitlines()
        if threads > 1:  # as the how-to page shows it
            assert without_numbers(line) in {
                without_numbers(shown.replace("; queue_timeout does not hold", ending))
                for shown in MOD_FCGID.splitlines()
                for ending in ("", "; queue_timeout does not hold")
            }
        assert "no more threads to be had (RLIMIT_NPROC is" in line
        assert "of 16" in line
        assert ("slow requests hold the others up" in line) == (threads == 1)
        process.process.terminate()
        assert process.process.wait(WAIT) == 0


@contextlib.contextmanager
def others(process, number):
    """Other processes of the same user, which take up what it may have."""
    user = {"user": process.uid, "group": process.uid} if process.uid else {}
    sleeping = [
        subprocess.Popen(["sleep", str(WAIT * 3)], extra_groups=[] if user else None, **user)
        for _ in range(number)
    ]
    try:
        yield
    finally:
        for one in sleeping:
            one.kill()
            one.wait(WAIT)


def hold(process, number, condition):
    """Hold so many requests at once until *condition*; all are answered."""
    gate = process.gates / "gate"
    finishers = [process.begin(f"/held?{gate}") for _ in range(number)]
    until(condition, "the condition")
    gate.touch()
    assert [finish().body for finish in finishers] == [b"done"] * number
    for left in process.gates.iterdir():
        left.unlink()


def test_threads_come_back_when_others_have_left(script):
    """A user's other processes count too, and end."""
    with Limited(script, user=True, NPROC=nproc(23)) as process:
        with others(process, 20):
            hold(process, 8, lambda: process.lines("no more threads"))
        hold(process, 1, lambda: True)

        def serves_more():
            with contextlib.suppress(AssertionError):
                hold_briefly(process)
                return True
            return False

        until(serves_more, "more threads than before")
        assert len(process.lines("no more threads")) == 1


def hold_briefly(process):
    """Hold six requests at once, or tell that they are not served at once."""
    gate = process.gates / "gate"
    finishers = [process.begin(f"/held?{gate}") for _ in range(6)]
    try:
        until(lambda: process.held() == 6, "six", seconds=0.5)
    finally:
        gate.touch()
        assert [finish().body for finish in finishers] == [b"done"] * 6
        for left in process.gates.iterdir():
            left.unlink()


@pytest.mark.parametrize("mebibytes", [96, 128, 200, 256, 400, 1024])
def test_address_space_is_small(script, mebibytes):
    with Limited(script, AS=mebibytes << 20) as process:
        gate = process.gates / "gate"
        finishers = [process.begin(f"/held?{gate}") for _ in range(24)]
        until(lambda: process.held() >= 1, "requests")
        gate.touch()
        assert [finish().body for finish in finishers] == [b"done"] * 24
        # what the application needs is there beside the threads
        assert process.ask(f"/much?{mebibytes << 18}").body == b"done"
        assert process.ask(f"/much?{mebibytes << 21}").status == 500
        assert process.ask("/threads").status == 200
        assert process.process.poll() is None
        assert not process.lines("no more threads")
        process.process.terminate()
        assert process.process.wait(WAIT) == 0


def test_memory_that_one_request_takes_whole_is_missed_by_none_later(script):
    """What runs meanwhile may be answered, refused or cut; the process goes on."""
    with Limited(script, AS=160 << 20) as process:
        for _ in range(3):
            running = [process.begin("/everything")]
            for _ in range(6):
                with contextlib.suppress(OSError):
                    running.append(process.begin("/threads"))
            for finish in running:
                with contextlib.suppress(OSError, PorticoError):
                    assert finish().status in {200, 500}
            assert process.process.poll() is None
            assert process.ask("/threads").status == 200
        process.process.terminate()
        assert process.process.wait(WAIT) == 0


def test_descriptors_are_few(script):
    with Limited(script, NOFILE=64) as process, contextlib.ExitStack() as idle:
        for _ in range(80):
            idle.enter_context(Frontend("fastcgi", process.address))
        until(lambda: process.lines("cannot accept"), "the line")
        idle.close()
        for _ in range(20):
            assert process.ask("/body", b"x" * 500_000).body == b"500000"
        process.process.terminate()
        assert process.process.wait(WAIT) == 0


def test_file_size_is_small(script):
    """A body that must be spooled beyond it ends its request; the process goes on."""
    with Limited(script, FSIZE=300_000) as process:
        # read as it comes, it needs no file
        assert process.ask("/body", b"x" * 2_000_000).body == b"2000000"
        with contextlib.ExitStack() as stack:
            frontend = stack.enter_context(Frontend("fastcgi", process.address))
            with pytest.raises(OSError, match=r"pipe|reset"):
                # the response fills the connection before the body has come
                frontend.begin("/early", b"x" * 4_000_000)
        until(lambda: process.lines("File too large"), "the reason")
        assert process.ask("/body", b"x" * 50_000).body == b"50000"
        process.process.terminate()
        assert process.process.wait(WAIT) == 0


def test_processor_time_ends(script):
    """It is no crash: what runs is finished, and whoever started the process starts another."""
    with Limited(script, CPU=4) as process:
        assert process.ask("/burn?2.3").body == b"done"
        assert process.process.wait(WAIT) == 0
        assert "Traceback" not in process.log()


def test_worker_whose_processor_time_ends_is_replaced():
    made = Script(APPLICATION, workers=2)
    try:
        with Limited(made, user=True, CPU=4) as process:
            burning = set(made.processes())
            for _ in range(2):
                with contextlib.suppress(OSError):
                    assert process.ask("/burn?2.3").body == b"done"
            until(lambda: len(set(made.processes()) - burning) >= 1, "another worker")
            assert process.log() == ""  # as it would tell a crash
            assert process.ask("/body", b"x").body == b"1"
            assert process.process.poll() is None
            process.process.terminate()
            assert process.process.wait(WAIT) == 0
    finally:
        made.close()


def test_workers_that_cannot_be_forked_are_tried_again():
    """With the pauses that a worker has that ends at once."""
    made = Script(APPLICATION, workers=3)
    try:
        limited = Limited(made, user=True, NPROC=nproc(22))
        with contextlib.ExitStack() as stack:
            with others(limited, 20):
                process = stack.enter_context(limited)
                until(lambda: process.lines("no worker can be started"), "the line")
                assert process.ask("/body", b"x").body == b"1"
            until(lambda: len(made.processes()) == 4, "all of them")
            assert process.process.poll() is None
            process.process.terminate()
            assert process.process.wait(WAIT) == 0
    finally:
        made.close()
