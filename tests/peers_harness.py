"""Starts application servers that others wrote, unprivileged, and asks them as a web server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from conftest import PROGRAMS, SEARCH

#: Bound on a server's start, seconds: a JVM on a busy machine takes its time.
START = 60

#: Bound on its end, seconds; what goes on is killed.
END = 5

#: Octets of the large bodies.
LARGE = 50_000_000

_BLOCK = bytes(range(256)) * 256


def find(product):
    """Where *product*'s program is; `peer(product)` marks have made sure that it is."""
    found = (shutil.which(name, path=SEARCH) for name in PROGRAMS[product])
    return next(path for path in found if path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """One server with a directory of its own, in a session of its own; root gives it away first.

    Leaving it as a context manager ends the server and all that it started.
    """

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="test-peer-"))
        self.home.chmod(0o755)
        self._process = None
        self._account = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.home, nobody.pw_uid, nobody.pw_gid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._end()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def give_away(self):
        """Let the server's account own all that is in its directory."""
        if self._account:
            for path in self.home.rglob("*"):
                os.chown(path, self._account["user"], self._account["group"])

    def start(self, command, addresses, **environ):
        """Run *command* until something accepts on each of *addresses*."""
        with (self.home / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.home,
                env={**os.environ, "TMPDIR": str(self.home), "HOME": str(self.home), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self._account,
            )
        deadline = time.monotonic() + START
        for address in addresses:
            while not _accepts(address):
                assert self._process.poll() is None, f"the server ended:\n{self.output()}"
                assert time.monotonic() < deadline, f"the server is silent:\n{self.output()}"
                threading.Event().wait(0.02)

    def output(self):
        return (self.home / "output").read_text(errors="replace")

    def _end(self):
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END)
        with contextlib.suppress(ProcessLookupError):  # what is left of its session
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(END)


def _accepts(address):
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(address) if isinstance(address, Path) else address)
        except OSError:
            return False
        return True


class Source:
    """A large body that is never in memory: octets 00 01 .. FF 00 01 .. and so on."""

    def __init__(self, size):
        self._size = size
        self._at = 0

    def read(self, size):
        start = self._at % 256
        block = _BLOCK[start : start + min(size, self._size - self._at)]
        self._at += len(block)
        return block


def pattern_digest(size):
    """SHA-256 of what a `Source` of *size* octets gives, in hexadecimal."""
    source = Source(size)
    return digest_of(iter(lambda: source.read(len(_BLOCK)), b""))[1]


def digest_of(blocks):
    """Octets and SHA-256 of all *blocks*."""
    whole = hashlib.sha256()
    size = 0
    for block in blocks:
        whole.update(block)
        size += len(block)
    return size, whole.hexdigest()


def environ(path, query="", *, method="GET", **more):
    """What a web server would send for *path*."""
    target = f"{path}?{query}" if query else path
    return {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "REQUEST_SCHEME": "http",
        "DOCUMENT_ROOT": "/",
        "SERVER_NAME": "localhost",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "localhost",
        **more,
    }


def ask(pool, params, body=b""):
    """Send one request; gives status, headers by lower-case name, body."""
    with pool.open(params, body) as answer:
        content = b"".join(answer)
        return answer.status, {name.lower(): value for name, value in answer.headers}, content
