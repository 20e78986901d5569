"""Small application servers for tests: real codecs over blocking sockets, or written octets."""

from __future__ import annotations

import io
import socket
import struct
import threading
from contextlib import suppress

from portico.codecs import server_codec
from portico.core.input import RequestBody
from portico.core.response import run_request
from portico.errors import RemoteProtocolError, RequestAborted
from portico.events import AbortReceived, BodyEnded, BodyReceived, RequestReceived
from portico.limits import Limits

#: Bound on everything a backend waits for, seconds.
WAIT = 20

PROTOCOLS = ("fastcgi", "scgi", "uwsgi", "ajp")


class Listening:
    """Accepts on a free port of 127.0.0.1, or on a Unix socket; a thread a connection."""

    def __init__(self, path=None):
        family = socket.AF_INET if path is None else socket.AF_UNIX
        self._listener = socket.socket(family)
        self._listener.bind(("127.0.0.1", 0) if path is None else str(path))
        self._listener.listen(64)
        self.address = self._listener.getsockname()
        self.accepted = 0
        self.errors = io.StringIO()
        self._open = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for conn in self._open:
            with suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive(), "a backend's thread hangs"

    def _accept(self):
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            conn.settimeout(WAIT)
            if conn.family == socket.AF_INET:  # else each AJP body chunk waits for a delayed ACK
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(conn)
            thread = threading.Thread(target=self._run, args=(conn,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, conn):
        with conn, suppress(OSError):
            self.serve(conn)

    def serve(self, conn):
        raise NotImplementedError


class Scripted(Listening):
    """Plays one function a connection, in order; the last one again for all that follow."""

    def __init__(self, *scripts, path=None):
        self._scripts = list(scripts)
        super().__init__(path)

    def url(self, protocol):
        return f"{protocol}://127.0.0.1:{self.address[1]}"

    def serve(self, conn):
        script = self._scripts[min(self.accepted, len(self._scripts)) - 1]
        script(conn)


class Backend(Listening):
    """A WSGI application behind one of the server codecs."""

    def __init__(self, protocol, app, *, path=None, **options):
        self.protocol = protocol
        self.app = app
        self.options = options
        self.aborted = threading.Event()
        super().__init__(path)
        where = f"+unix://{path}" if path else f"://127.0.0.1:{self.address[1]}"
        self.url = f"{protocol}{where}"

    def serve(self, conn):
        codec = server_codec(self.protocol, Limits(), **self.options)
        while True:
            try:
                request = _Request(self, conn, codec)
                request.run()
            except RequestAborted:
                self.aborted.set()
                return
            except RemoteProtocolError as exc:
                conn.sendall(codec.refuse(exc.status_hint))
                return
            if request.cut or not codec.keep_open:
                return


class _Request:
    """One request on its way through; the sink of its response."""

    def __init__(self, backend, conn, codec):
        self._backend = backend
        self._conn = conn
        self._codec = codec
        self._events = []
        self._ended = False
        self.cut = False

    def run(self):
        event = self._next(head=True)
        if event is None:
            raise RequestAborted("no request")
        self._id = event.request_id
        self._ended = event.complete
        body = RequestBody(event.body, None if event.complete else self._feed)
        environ = {
            **event.environ,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": body,
            "wsgi.input_terminated": True,
            "wsgi.errors": self._backend.errors,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "test.stderr": self._stderr,
        }
        run_request(self._backend.app, environ, self)
        if not self._codec.keep_open:
            return
        while not self._ended and not self.cut:
            self._feed()

    def _stderr(self, text):
        data = text.encode()  # FastCGI 1.0 §5.3: type 7
        self._conn.sendall(struct.pack(">BBHHBB", 1, 7, self._id, len(data), 0, 0) + data)

    def _feed(self):
        if self._ended:
            return b""
        self._codec.want_body(self._id, 8186)
        event = self._next()
        kind = type(event)
        if kind is BodyReceived:
            return event.data
        if kind is BodyEnded:
            self._ended = True
            return b""
        raise RequestAborted("the peer is gone")

    def _next(self, *, head=False):
        while not self._events:
            owed = self._codec.data_to_send()
            if owed:
                self._conn.sendall(owed)
            if self._codec.pending:
                self._events = self._codec.receive_data(b"")
                if self._events:
                    break
            data = self._conn.recv(65_536)
            if data:
                self._events = self._codec.receive_data(data)
            else:
                self._events = self._codec.receive_eof()
                if not self._events:
                    return None
        event = self._events.pop(0)
        assert head == (type(event) is RequestReceived) or type(event) is AbortReceived
        return event

    def send_response(self, status, headers, body, *, end):
        self._send(self._codec.send_response(self._id, status, headers, body, end=end))

    def send_body(self, data, *, end):
        self._send(self._codec.send_body(self._id, data, end=end))

    def send_file(self, fd, offset, count):
        raise NotImplementedError

    def flush(self):
        pass

    def abort(self):
        self._codec.abort(self._id)
        self.cut = True

    def _send(self, data):
        try:
            self._conn.sendall(data)
        except OSError as exc:
            self._backend.aborted.set()
            raise RequestAborted("the peer is gone") from exc
