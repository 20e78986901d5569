"""Runs ``python -m portico`` as an operator does, and finds what it has left behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

#: Bound on everything that is waited for, seconds.
WAIT = 20


def eventually(condition, what, seconds=WAIT):
    """Wait until *condition* gives something true, and give that."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} took more than {seconds} s"
        pause.wait(0.01)
    return found


class Command:
    """One run of the command, in a session and with a temporary directory of its own.

    Leaving it as a context manager kills what is left.
    """

    #: What of Python is run with the arguments.
    program = ("-m", "portico")

    def __init__(self, *arguments, cwd=None, env=(), stdout=subprocess.PIPE, pass_fds=()):
        # where any account may pass through: Apache's has to, on its way to the socket
        self.temporary = Path(tempfile.mkdtemp(prefix="test-cli-"))
        self.temporary.chmod(0o755)
        self.started = {}  # process id -> session, of all that it has been seen to start
        environ = {name: text for name, text in os.environ.items() if "PORTICO" not in name}
        self._process = subprocess.Popen(
            [sys.executable, *self.program, *map(str, arguments)],
            cwd=cwd,
            pass_fds=pass_fds,
            env=environ | {"TMPDIR": str(self.temporary), **dict(env)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._texts = {}
        self._readers = []
        for name in ("stdout", "stderr"):
            self._texts[name] = []
            if pipe := getattr(self._process, name):
                reader = threading.Thread(target=self._read, args=(name, pipe), daemon=True)
                reader.start()
                self._readers.append(reader)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.see_children()
        for pid in [self.pid, *self.leftovers()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(WAIT)
        for reader in self._readers:
            reader.join(WAIT)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        shutil.rmtree(self.temporary, ignore_errors=True)

    @property
    def out(self):
        return "".join(self._texts["stdout"])

    @property
    def err(self):
        return "".join(self._texts["stderr"])

    def _read(self, name, pipe):
        for line in pipe:
            self._texts[name].append(line.decode())

    def await_text(self, pattern, stream="out"):
        """Wait until *pattern* is found in what it has said; gives the match."""

        def found():
            ended = self._process.poll() is not None
            match = re.search(pattern, getattr(self, stream))
            assert match or not ended, f"ended with {self._process.returncode}: {self.err}"
            return match

        return eventually(found, f"{pattern!r} on {stream}")

    def await_url(self):
        """Wait until it has told its URL, and note what it has started by then."""
        self.await_text("Ctrl-C")
        self.see_children()
        return re.search(r"http://\S+", self.out)[0]

    def kill(self, *numbers):
        """Send signals, one at once after the other."""
        self.see_children()
        for number in numbers:
            os.kill(self.pid, number)

    def finish(self, seconds=WAIT):
        """Wait for the end; gives the exit status."""
        status = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(seconds)
            assert not reader.is_alive(), "somebody else still has its standard output"
        return status

    def running(self):
        return self._process.poll() is None

    def see_children(self):
        """Take note of every process that descends from it; gives the ids of those there now."""
        table = _processes()
        family = {self.pid}
        while more := {pid for pid, (parent, _) in table.items() if parent in family} - family:
            family |= more
        family.discard(self.pid)
        self.started |= {pid: table[pid][1] for pid in family}
        return family

    def children(self):
        """The ids of the processes that it has started itself."""
        return [pid for pid, (parent, _) in _processes().items() if parent == self.pid]

    def leftovers(self):
        """The processes left of all that it has started, seen or told by their command line."""
        sessions = {self.pid, *self.started.values()}
        return [
            pid
            for pid, (_, session) in _processes().items()
            if pid != self.pid
            and (pid in self.started or session in sessions or self._is_named_by(pid))
        ]

    def _is_named_by(self, pid):
        try:
            return os.fsencode(self.temporary) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def assert_left_nothing(self):
        """No process, and nothing in the temporary directory."""
        eventually(lambda: not self.leftovers(), "the end of all that was started", 5)
        assert list(self.temporary.iterdir()) == []


def _processes():
    """All processes but zombies, which are init's to bury: id -> parent, session."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "stat").read_text(encoding="latin-1")
                state, parent, _, session, *_ = line.rpartition(")")[2].split()
                if state != "Z":
                    found[int(entry.name)] = int(parent), int(session)
    return found


def fetch(url, path="", **headers):
    """GET; gives status and text."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WAIT)
    with contextlib.closing(connection):
        connection.request("GET", (parts.path or "/") + path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def is_free(port):
    """Whether a server could listen on *port* of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


def free_port():
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def one_sentence(text):
    """Check that *text* is one line for the operator, and give it."""
    (line,) = text.splitlines()
    assert line.startswith("portico")
    assert "Traceback" not in line
    return line
