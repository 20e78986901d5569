"""One script, and everything that starts such scripts: web servers, spawners, process managers.

The script is written once for all tests and never changed: every spawner starts the same file.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from conftest import SEARCH
from engine_harness import WAIT, Frontend, until
from portico.servers import apache, launch
from portico.servers.script import write_script
from portico.servers.site import Site

#: What `portico.servers.script` writes is made for root's web servers too: an interpreter and a
#: package that the account can reach which they start scripts as.
_APPLICATION = '''\
"""An application that tells about its process."""

import hashlib
import json
import os
import sys
import threading
import time


def facts(environ):
    found = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "uid": os.getuid(),
        "protocol": environ["portico.protocol"],
        "script": environ["SCRIPT_NAME"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "multithread": environ["wsgi.multithread"],
        "multiprocess": environ["wsgi.multiprocess"],
        "run_once": environ["wsgi.run_once"],
        "threads": [one.name for one in threading.enumerate()],
        "authorization": environ.get("HTTP_AUTHORIZATION"),
        "environment": sorted(os.environ),
        "descriptors": {str(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)},
    }
    return json.dumps(found).encode()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    status, body = "200 OK", b""
    if path == "/body":
        taken = environ["wsgi.input"].read()
        body = b"%d %s" % (len(taken), hashlib.sha256(taken).hexdigest().encode())
    elif path == "/large":
        body = b"0123456789abcdef" * (int(environ["QUERY_STRING"]) // 16)
    elif path == "/print":
        print("printed by the application")
        print("written to its errors", file=environ["wsgi.errors"])
        body = b"printed"
    elif path.startswith("/held/"):
        # runs until somebody makes the file that the query names
        name = environ["QUERY_STRING"]
        with open(f"{name}.{os.getpid()}.{path[6:]}", "w"):
            pass
        while not os.path.exists(name):
            time.sleep(0.01)
        body = b"finished"
    elif path == "/memory":
        bytearray(int(environ["QUERY_STRING"]))
        body = b"there was room"
    else:
        body = facts(environ)
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''


class Script:
    """The script, in a directory that any account may pass through.

    Attributes:
        path: Where it stands.
        directory: Where everything is.
        source: The module with the application.
        gates: Writable for every account.
    """

    def __init__(
        self, application: str = _APPLICATION, *, first: str = "", **options: object
    ) -> None:
        """Write it.

        Args:
            application: Source of the module with the application.
            first: A statement of the script, before it serves.
            **options: Settings by name.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="portico-"))
        self.directory.chmod(0o755)
        self.gates = self.directory / "gates"
        self.gates.mkdir()
        self.gates.chmod(0o777)
        self.source = self.directory / "site.py"
        self.source.write_text(application)
        self.source.chmod(0o644)
        self.path = write_script(
            self.directory, str(self.source), drops_privileges=True, options=options
        )
        text = self.path.read_text()
        self.path.write_text(text.replace("portico.run(", f"{first}\nportico.run("))
        self._octets = self.path.read_bytes()

    def close(self):
        """Remove it; it must be what it was."""
        assert self.path.read_bytes() == self._octets
        shutil.rmtree(self.directory)

    def processes(self):
        """The ids of all processes that run it."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if str(self.path).encode() in words[1:2]:
                        found.append(int(entry.name))
        return sorted(found)


class Reply:
    """An answer as it came through: status, headers by lower-case name, body, error stream."""

    def __init__(self, status, headers, body, errors=b""):
        self.errors = errors
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    def facts(self):
        assert self.status == 200, self.body
        return json.loads(self.body)


class Spawner:
    """Something that starts the script; a context manager that leaves nothing running.

    Attributes:
        has_log: Whether what the script says is kept.
    """

    has_log = True

    def __init__(self, script, *, serves=200):
        self.script = script
        self.serves = serves  # the status of its first answers

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None:
            until(lambda: not self.script.processes(), "the end of the script's processes")

    def start(self):
        raise NotImplementedError

    def stop(self):
        raise NotImplementedError

    def ask(self, path, body=b"", **headers):
        raise NotImplementedError

    def log(self):
        """What the script said, as far as it is kept."""
        raise NotImplementedError

    def begin(self, path):
        """Begin a request; gives what waits for its answer."""
        raise NotImplementedError


class WebServer(Spawner):
    """A real web server, with what `portico config` prints for it."""

    product = ""
    via = ""

    def __init__(self, script, *, change=None, more="", serves=200, **site):
        super().__init__(script, serves=serves)
        self._more = more
        self._site = Site(
            via=self.via, script=str(script.path), listen_host="127.0.0.1", listen_port=0, **site
        )
        self._change = change
        self._said = ""
        self.server = None
        self.port = 0  # of another of its sites than the generated one

    def start(self):
        with contextlib.ExitStack() as changed:
            if self._change:
                changed.enter_context(self._change())
            if self._more:
                changed.enter_context(self._added())
            self.server = launch.launch(self.product, self._site)

    @contextlib.contextmanager
    def _added(self):
        """Put more directives behind the configuration."""
        write = launch._write_private

        def write_more(path, text):
            write(path, f"{text}\n{self._more}")

        with mock.patch.object(launch, "_write_private", write_more):
            yield

    def stop(self):
        if self.server is not None:
            self.server.stop()

    def connect(self):
        port = self.port or self.server.site.listen_port
        return http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)

    def ask(self, path, body=b"", **headers):
        connection = self.connect()
        try:
            connection.request("POST" if body else "GET", path, body or None, headers)
            return self._read(connection)
        finally:
            connection.close()

    @staticmethod
    def _read(connection):
        response = connection.getresponse()
        return Reply(response.status, response.getheaders(), response.read())

    def begin(self, path):
        connection = self.connect()
        connection.request("GET", path)

        def finish():
            try:
                return self._read(connection)
            finally:
                connection.close()

        return finish

    def log(self):
        self._said += self.server.news()
        return self._said


class Fcgid(WebServer):
    product, via = "apache", "fcgid"


class Cgid(WebServer):
    product, via = "apache", "cgi"


@contextlib.contextmanager
def prefork():
    """Have Apache load the prefork MPM, with which CGI is mod_cgi's, and no daemon's."""
    load = ["LoadModule mpm_prefork_module modules/mod_mpm_prefork.so"]
    with (
        mock.patch.object(apache, "_load_mpm", return_value=load),
        mock.patch.object(launch, "_has_cgi_daemon", return_value=True),
    ):
        yield


class Spawning(WebServer):
    product, via = "lighttpd", "spawn"


class LighttpdCgi(WebServer):
    product, via = "lighttpd", "cgi"


class Direct(Spawner):
    """A program that starts the script on a listening socket; the test is the web server."""

    def __init__(self, script, *, tcp=False, serves=200):
        super().__init__(script, serves=serves)
        self.home = Path(tempfile.mkdtemp(prefix="portico-"))
        self.home.chmod(0o755)
        self.tcp = tcp
        self.address = self._free_port() if tcp else str(self.home / "s")
        self.process = None
        self.errors = self.home / "stderr"

    @staticmethod
    def _free_port():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            return sock.getsockname()

    def run(self, *words, **options):
        """Run a program in a session of its own."""
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                **options,
            )
        return self.process

    def await_answer(self):
        def answers():
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
                return self.ask("/").status == self.serves
            return False

        until(answers, f"an answer; it said {self.log()}")

    def stop(self):
        if self.process is not None:
            # the whole session, or one that is just being started would be left
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(WAIT)
        for pid in self.script.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)

    def ask(self, path, body=b"", **headers):
        return self.begin(path, body, **headers)()

    def begin(self, path, body=b"", **headers):
        frontend = Frontend("fastcgi", self.address, keep=False)
        params = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        try:
            frontend.begin(path, body, **params)
        except OSError:
            frontend.close()
            raise

        def finish():
            with frontend:
                answer = frontend.finish()
            body, errors = bytes(answer.body), bytes(answer.errors)
            return Reply(int(answer.status[:3]), answer.headers, body, errors)

        return finish

    def log(self):
        return self.errors.read_text() if self.errors.exists() else ""


class SpawnFcgi(Direct):
    """spawn-fcgi: in the foreground the script takes its place, otherwise it forks children."""

    def __init__(self, script, *, tcp=False, foreground=True, children=1, command=(), serves=200):
        super().__init__(script, tcp=tcp, serves=serves)
        self._foreground = foreground
        self._children = children
        self._command = command or (script.path,)
        self.has_log = foreground  # it gives children the null device

    def start(self):
        program = shutil.which("spawn-fcgi", path=SEARCH)
        host, port = self.address if self.tcp else ("", 0)
        where = ["-a", host, "-p", port] if self.tcp else ["-s", self.address]
        how = ["-n"] if self._foreground else ["-F", self._children]
        self.run(program, *how, *where, "--", *self._command)
        if not self._foreground:
            assert self.process.wait(WAIT) == 0, self.log()
        self.await_answer()


class Multiwatch(SpawnFcgi):
    """multiwatch below spawn-fcgi: several children on one socket, each one replaced."""

    def __init__(self, script, *, children=3, serves=200):
        program = shutil.which("multiwatch", path=SEARCH)
        command = (program, "-f", children, "--", script.path)
        super().__init__(script, command=command, serves=serves)


#: Starts scripts as mod_fastcgi's process manager does: nothing but the listening socket is open,
#: the environment is bare, and a child that ends is started again.
_MANAGER = """
import os, signal, socket, sys, time
path, number, script = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sock = socket.socket(socket.AF_UNIX)
sock.bind(path)
os.chmod(path, 0o666)
sock.listen(5)
children, over = set(), []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
while not over or children:
    while not over and len(children) < number:
        pid = os.fork()
        if not pid:
            os.dup2(sock.fileno(), 0)
            os.closerange(1, 256)
            os.execve(script, [script], {})
        children.add(pid)
    if over:
        for pid in children:
            os.kill(pid, signal.SIGTERM)
    time.sleep(0.01)
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        children.remove(pid)
        print(pid, os.waitstatus_to_exitcode(status), flush=True)
"""


class ProcessManager(Direct):
    """mod_fastcgi's way: descriptors 1 and 2 closed, an empty environment."""

    has_log = False

    def __init__(self, script, *, children=1, serves=200):
        super().__init__(script, serves=serves)
        self._children = children

    def start(self):
        self.run(sys.executable, "-c", _MANAGER, self.address, self._children, self.script.path)
        self.await_answer()


def count_threads(pid):
    """The threads of a process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def is_ready(pid):
    """Whether a process of the script takes SIGTERM: it has come to serve."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def spawner(name, make, *programs):
    """A parameter of tests: how to make a spawner, and the programs that it needs."""
    return pytest.param(make, id=name, marks=[pytest.mark.frontend(one) for one in programs])
