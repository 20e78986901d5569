"""An engine in a thread with real listeners, and web servers' sides of connections to it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from portico.codecs import client_codec
from portico.config.settings import Settings
from portico.engine.leader import Engine
from portico.events import (
    BodyWanted,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
    StderrReceived,
)
from portico.limits import Limits
from portico.transports.bind import parse
from portico.transports.listen import open_listeners

#: The engine's threads that never call the application.
WATCHERS = {"portico-watchdog", "portico-deadlines"}

#: Bound on everything a test waits for, seconds.
WAIT = 20.0

PROTOCOLS = ("fastcgi", "scgi", "ajp", "uwsgi")
KEEPING = ("fastcgi", "ajp")
ONE_SHOT = ("scgi", "uwsgi")

PLAIN = [("Content-Type", "text/plain")]


def environ_for(path="/", method="GET", **more):
    """Parameters as nginx sends them, without what no test looks at."""
    path, _, query = path.partition("?")
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_URI": f"{path}?{query}" if query else path,
        "SERVER_NAME": "www.example.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "nginx/1.22.1",
        "REMOTE_ADDR": "192.0.2.7",
        **more,
    }


def request_octets(protocol, path="/", body=b"", *, keep=True, method="", **more):
    """One whole request as octets."""
    environ = environ_for(path, method or ("POST" if body else "GET"), **more)
    environ["CONTENT_LENGTH"] = str(len(body)) if body or protocol == "scgi" else ""
    return make_codec(protocol, keep=keep).send_request(environ, body, end=True)


def make_codec(protocol, *, keep=True, **options):
    if protocol in KEEPING:
        options["keep_open"] = keep
    return client_codec(protocol, Limits(), **options)


def until(condition, what="the condition", seconds=WAIT):
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} seconds"
        pause.wait(0.002)


class Records(logging.Handler):
    """What Portico logged."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def lines(self, level=logging.INFO):
        return [record.getMessage() for record in list(self.records) if record.levelno >= level]

    def having(self, text, level=logging.DEBUG):
        return [line for line in self.lines(level) if text in line]


class Running:
    """An engine that serves *app* in a thread of its own while the block runs.

    Attributes:
        engine: The engine.
        ports: Protocol -> port on 127.0.0.1.
        log: What it logged, `Records`.
        errors: ``wsgi.errors``, an `io.StringIO`.
    """

    def __init__(self, app, *protocols, query="", binds=(), engine=(), **settings):
        settings.setdefault("graceful_timeout", 5.0)
        self.settings = Settings(**settings)
        binds = binds or [f"{name}://127.0.0.1:0{query}" for name in protocols or PROTOCOLS]
        self._listeners = open_listeners([parse(bind) for bind in binds])
        self.ports = {one.bind.protocol: one.bind.port for one in self._listeners}
        self.paths = {one.bind.protocol: one.bind.path for one in self._listeners}
        self.errors = io.StringIO()
        self.log = Records()
        self._frontends = []
        self.failure = None
        self.engine = Engine(app, self._listeners, self.settings, self.errors, **dict(engine))
        self.thread = threading.Thread(target=self._serve, name="engine-under-test", daemon=True)

    def _serve(self):
        try:
            self.engine.serve()
        except BaseException as error:
            self.failure = error
            raise

    def __enter__(self):
        logger = logging.getLogger("portico")
        logger.addHandler(self.log)
        self._level = logger.level
        logger.setLevel(logging.DEBUG)
        self._before = set(threading.enumerate())
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        for frontend in self._frontends:
            frontend.close()
        self.engine.stop()
        self.thread.join(WAIT)
        logger = logging.getLogger("portico")
        logger.removeHandler(self.log)
        logger.setLevel(self._level)
        if kind is None:
            assert not self.thread.is_alive(), "the engine did not stop"
            until(lambda: not self.threads(), f"the end of {self.threads()}")
            assert self.failure is None
            assert not self.log.having("internal error")

    def threads(self):
        """The engine's threads, without that which runs `serve`."""
        found = set(threading.enumerate()) - self._before - {self.thread}
        return [one for one in found if one.name.startswith("portico-")]

    def workers(self):
        """The engine's threads that may call the application, the first among them."""
        return 1 + sum(one.name not in WATCHERS for one in self.threads())

    def connect(self, protocol, **options):
        """Connect; the connection closes with the block at the latest."""
        address = self.paths[protocol] or ("127.0.0.1", self.ports[protocol])
        frontend = Frontend(protocol, address, **options)
        self._frontends.append(frontend)
        return frontend

    def ask(self, protocol, path="/", body=b"", **more):
        """One request on a connection of its own; gives the `Answer`."""
        with self.connect(protocol, keep=False) as frontend:
            return frontend.ask(path, body, **more)


class Answer:
    """A response as far as it came."""

    def __init__(self):
        self.status = ""
        self.headers = []
        self.body = bytearray()
        self.errors = bytearray()
        self.whole = False
        self.reusable = False

    def header(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Frontend:
    """A web server's side of one connection, blocking, every wait bounded."""

    def __init__(self, protocol, address, *, keep=True, receive_bytes=0, **options):
        self.protocol = protocol
        self.codec = make_codec(protocol, keep=keep, **options)
        local = isinstance(address, str)
        self.sock = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        self.sock.settimeout(WAIT)
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise
        if not local:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.name = address if local else f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.answer = Answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, octets):
        self.sock.sendall(octets)

    def begin(self, path="/", body=b"", *, length=None, method="", end=True, **more):
        """Send a request, or with *end* false its beginning."""
        environ = environ_for(path, method or ("POST" if body or length else "GET"), **more)
        if length is None and end:
            length = len(body)
        if length is not None and (length or self.protocol == "scgi"):
            environ["CONTENT_LENGTH"] = str(length)
        self.answer = Answer()
        self.send(self.codec.send_request(environ, body, end=end))

    def more(self, data, *, end=False):
        octets = self.codec.send_body(data, end=end)
        if octets:
            self.send(octets)

    def ask(self, path="/", body=b"", **more):
        self.begin(path, body, **more)
        return self.finish()

    def step(self):
        """Take one read's worth of the response; False where the connection has ended."""
        data = self.sock.recv(262_144)
        for event in self.codec.receive_data(data) if data else self.codec.receive_eof():
            kind = type(event)
            if kind is ResponseReceived:
                self.answer.status, self.answer.headers = event.status, event.headers
            elif kind is ResponseBodyReceived:
                self.answer.body += event.data
            elif kind is ResponseEnded:
                self.answer.whole, self.answer.reusable = True, event.reusable
            elif kind is StderrReceived:
                self.answer.errors += event.data
            elif kind is BodyWanted:
                self.more(b"")
        return bool(data)

    def finish(self):
        """Take the rest of the response; raises where it is cut."""
        while not self.answer.whole:
            self.step()
        return self.answer

    def dribble(self, octets, pause):
        """Send octet after octet with pauses of *pause* seconds until the connection breaks."""
        stopped = threading.Event()
        try:
            for at in range(len(octets)):
                stopped.wait(pause)
                self.send(octets[at : at + 1])
        except OSError:
            return
        raise AssertionError("the peer took everything")

    def ends(self):
        """Wait for the connection's end: "eof" or "reset"; nothing else may come."""
        try:
            data = self.sock.recv(65_536)
        except ConnectionResetError:
            return "reset"
        assert not data, f"unexpected octets {data[:80]!r}"
        return "eof"


def hello(_environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"hello"]


def reading(environ, start_response):
    """Reads the whole body and tells its length."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", PLAIN)
    return [b"%d" % len(body)]


def path_of(environ, start_response):
    start_response("200 OK", PLAIN)
    return [environ["PATH_INFO"].encode("latin-1") + b"?" + environ["QUERY_STRING"].encode()]


class Held:
    """An application whose requests wait until they are let go, each by its path.

    Requests for paths outside ``/held`` are answered at once.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.running = 0
        self.most = 0
        self.order = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.order.append(path)
        self.entered.release()
        try:
            if path.startswith("/held"):
                assert self.gate.wait(WAIT), "nobody let the request go"
        finally:
            with self.lock:
                self.running -= 1
        start_response("200 OK", PLAIN)
        return [path.encode()]

    def wait_entered(self, number=1):
        for _ in range(number):
            assert self.entered.acquire(timeout=WAIT), "no request came"


def open_descriptors():
    """Descriptors of this process: number -> what it is open on."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            found[int(entry.name)] = str(entry.readlink())
    return found


@contextlib.contextmanager
def in_background(function, *args):
    """Run *function* in a thread beside the block; its failure fails the test."""
    failures = []

    def run():
        try:
            function(*args)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield thread
    thread.join(WAIT)
    assert not thread.is_alive(), "the background thread hangs"
    if failures:
        raise failures[0]


class Process:
    """A Python process of the test's own, its error output in a file; ends with the block."""

    def __init__(self, directory, *arguments, env=None, **options):
        self._path = directory / "stderr"
        with self._path.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                stderr=stderr,
                stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=options.pop("stdout", subprocess.DEVNULL),
                env={**os.environ, **(env or {})},
                **options,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT)
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def stderr(self):
        return self._path.read_text()

    def wait_for(self, text):
        """Wait until *text* stands in the error output."""

        def told():
            assert self.process.poll() is None or text in self.stderr, self.stderr
            return text in self.stderr

        until(told, f"{text!r} on standard error")

    def signal(self, number):
        self.process.send_signal(number)

    def ends(self, seconds=WAIT):
        return self.process.wait(seconds)
