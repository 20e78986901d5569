"""The built-in front: a small HTTP/1.1 server over the client, for a first look at a page.

It needs nothing but Python, a thread a connection, and is no production server: no TLS, no
files, no limits on how many connect.
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import sys
import threading
import time
from email.utils import formatdate
from select import POLLIN, POLLOUT
from typing import TYPE_CHECKING, Any, Self, TextIO

from portico import __version__
from portico.client.exchange import Timeouts
from portico.client.forward import Forward
from portico.core.pages import error_page, traceback_text
from portico.core.response import run_request
from portico.errors import RequestAborted, TransportError
from portico.head import find_end
from portico.servers._front_request import (
    DRAIN_BYTES,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    BrokenUpload,
    Refused,
    Upload,
    authority,
    body_length,
    bracketed,
    name_of,
    parse_fields,
    request_line,
    tokens,
)
from portico.target import decode_path, path_of
from portico.transports.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.transports.bind import Bind

SOFTWARE = f"Portico-front/{__version__}"

#: Seconds: between requests, for a whole head, for one wait to write, for a close, for
#: the backend's next octet.
_IDLE_SECONDS = 30.0
_HEAD_SECONDS = 20.0
_WRITE_SECONDS = 60.0
_LINGER_SECONDS = 2.0
_BACKEND_SECONDS = 300.0


class Front:
    """Serves HTTP on a loopback port and forwards each request to a backend.

    Args:
        bind: Where the backend listens: a `Bind` or a bind URL.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        mount: Path prefix under which the backend's application lives, e.g. ``"/app"``; it
            becomes SCRIPT_NAME, and what is outside it is 404.
        timeouts: Bounds of waiting for the backend; by default it may take five minutes, since
            who looks at an application for the first time may be in its debugger.
        errors: Takes what goes wrong; standard error by default.
    """

    def __init__(
        self,
        bind: Bind | str,
        host: str = "127.0.0.1",
        port: int = 0,
        mount: str = "",
        *,
        timeouts: Timeouts | None = None,
        errors: TextIO | None = None,
    ) -> None:
        self._forward = Forward(bind, timeouts=timeouts or Timeouts(read=_BACKEND_SECONDS))
        self._address = (host, port)
        self._mount = mount.rstrip("/")
        self._errors = errors or sys.stderr
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port listened on; before `start`, the one asked for."""
        return self._server.port if self._server else self._address[1]

    def start(self) -> None:
        """Listen and serve in threads of its own.

        Raises:
            TransportError: the port is taken, or not to be had.
        """
        host, port = self._address
        try:
            self._server = _Server(self._address, self._forward, self._mount, self._errors)
        except OSError as exc:
            raise TransportError(
                f"cannot listen on {host} port {port}: {exc.strerror or exc}"
            ) from exc
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="portico-front", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut what is still under way; does nothing the second time."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()
            server.cut_all()
        self._forward.close()


class _Server(socketserver.ThreadingTCPServer):
    """Accepts, a thread a connection.

    ``http.server`` would add a reverse DNS lookup at start and a parser that lets pass what must
    be refused: repeated lengths, folded headers, names that are no tokens.
    """

    allow_reuse_address = os.name == "posix"  # elsewhere it lets two listen on one port
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], app: Callable[..., Any], mount: str, errors: TextIO
    ) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.address_family = family
        self.app = app
        self.mount = mount
        self.errors = errors
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, socketserver.BaseRequestHandler)
        self.port: int = self.socket.getsockname()[1]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        with self._lock:
            self._open[request] = threading.current_thread()
        try:
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Stream(os.dup(request.fileno()))
            try:
                _Connection(self, stream, client_address, request.getsockname()).run()
            finally:
                stream.close()
        except OSError:
            pass  # the client went away
        except Exception as exc:  # noqa: BLE001 - a fault of ours ends one connection, not the front
            self.errors.write(traceback_text(exc))
        finally:
            with self._lock:
                del self._open[request]
            request.close()

    def cut_all(self) -> None:
        """Cut every connection and wait a moment for its thread."""
        with self._lock:
            threads = list(self._open.values())
            for request in self._open:
                with contextlib.suppress(OSError):  # it may be gone already
                    request.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_LINGER_SECONDS)


class _Connection:
    """One client: its requests one after another, each response written as it comes.

    It is itself the sink that `run_request` writes to.
    """

    def __init__(self, server: _Server, stream: Stream, peer: Any, local: Any) -> None:
        self._server = server
        self._stream = stream
        self._peer = peer
        self._local = local
        self.fd = stream.fd
        self.buffer = bytearray()
        self._upload: Upload | None = None
        self._keep = True
        self._chunked = False
        self._until_close = False
        self._cut = False
        self._begun = False  # the present response
        self._modern = True  # HTTP/1.1

    def run(self) -> None:
        """Serve until either side has had enough."""
        while self._keep:
            try:
                head = self._read_head()
                if head is None:
                    return
                self._serve(*self._parse(head))
            except Refused as exc:
                self._refuse(exc.status)
                return
            except RequestAborted as exc:
                if isinstance(exc, BrokenUpload) and not self._begun:
                    self._refuse("400 Bad Request")
                    return
                self._cut = True
                break
        if self._cut and self._until_close:
            self._stream.reset()  # closing would look like the body's end
        elif self._cut:
            return
        elif self._upload is not None and not self._upload.ended:
            self._linger()

    def receive(self, seconds: float) -> bool:
        """Take what the client sends next; False at its end."""
        data = self._stream.read(seconds)
        self.buffer += data
        return bool(data)

    def write(self, data: bytes) -> None:
        """Write, taking the upload meanwhile where the client does nothing else."""
        view = memoryview(data)
        upload = self._upload
        try:
            while view:
                try:
                    view = view[os.write(self._stream.fd, view) :]
                    continue
                except BlockingIOError:
                    pass
                both = upload is not None and upload.may_spool()
                ready = self._stream.wait(POLLOUT | POLLIN if both else POLLOUT, _WRITE_SECONDS)
                if upload is not None and both and ready & POLLIN and not ready & POLLOUT:
                    upload.spool()
        except OSError as exc:
            raise RequestAborted(f"the client is gone: {exc}") from exc

    # What run_request calls.

    def send_response(
        self, status: str, headers: list[tuple[str, str]], body: bytes, *, end: bool
    ) -> None:
        """Send the head, and frame what follows."""
        self._begun = True
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in headers]
        if "date" not in names:
            lines.append(f"Date: {formatdate(usegmt=True)}\r\n")
        if "server" not in names:
            lines.append(f"Server: {SOFTWARE}\r\n")
        self._chunked = self._until_close = False
        if not end and "content-length" not in names:
            if self._modern:
                self._chunked = True
                lines.append("Transfer-Encoding: chunked\r\n")
            else:
                self._until_close = True
                self._keep = False
        if not self._keep:
            lines.append("Connection: close\r\n")
        lines.append("\r\n")
        self.write("".join(lines).encode("latin-1") + self._framed(body, end=end))

    def send_body(self, data: bytes, *, end: bool) -> None:
        """Send more body."""
        self.write(self._framed(data, end=end))

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send part of a file, whose length the head has told."""
        sent = 0
        while sent < count and (data := os.pread(fd, min(65_536, count - sent), offset + sent)):
            self.write(data)
            sent += len(data)
        return sent

    def flush(self) -> None:
        """Do nothing: nothing sent waits."""

    def abort(self) -> None:
        """Break off: the connection closes before what was announced is complete."""
        self._cut = True
        self._keep = False

    def _framed(self, data: bytes, *, end: bool) -> bytes:
        if not self._chunked:
            return data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk + b"0\r\n\r\n" if end else chunk

    def _serve(self, environ: dict[str, Any], upload: Upload) -> None:
        self._upload = upload
        self._begun = False
        try:
            run_request(self._server.app, environ, self)
            if self._keep and not upload.drain():
                self._keep = False
        finally:
            upload.close()

    def _refuse(self, status: str) -> None:
        """Answer in the application's place and close."""
        page = error_page(status)
        self._keep = False
        self._upload = None
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(page))),
        ]
        self.send_response(status, headers, page, end=True)
        self._linger()

    def _linger(self) -> None:
        """Close so that the client still reads the answer, though it goes on sending."""
        self._stream.shutdown_write()
        deadline = time.monotonic() + _LINGER_SECONDS
        left = DRAIN_BYTES
        while left > 0 and (seconds := deadline - time.monotonic()) > 0:
            data = self._stream.read(seconds)
            if not data:
                return
            left -= len(data)

    def _read_head(self) -> bytes | None:
        """Read through the blank line; None where the client closes or stays idle."""
        buffer = self.buffer
        try:
            if not buffer and not self.receive(_IDLE_SECONDS):
                return None
        except TimeoutError:
            return None
        deadline = time.monotonic() + _HEAD_SECONDS
        while True:
            while buffer.startswith((b"\r", b"\n")):  # RFC 9112 §2.2: blank lines before a request
                del buffer[:1]
            found = find_end(buffer)
            if found is not None and found[0] <= MAX_HEAD_BYTES:
                head = bytes(buffer[: found[0]])
                del buffer[: found[1]]
                return head
            if b"\n" not in buffer[:MAX_LINE_BYTES] and len(buffer) >= MAX_LINE_BYTES:
                raise Refused(414, "URI Too Long")
            if len(buffer) > MAX_HEAD_BYTES:
                raise Refused(431, "Request Header Fields Too Large")
            try:
                if not self.receive(max(0.0, deadline - time.monotonic())):
                    return None
            except TimeoutError:
                raise Refused(408, "Request Timeout") from None

    def _parse(self, head: bytes) -> tuple[dict[str, Any], Upload]:
        """Turn a request's head into an environ and its body (RFC 9112 §3, RFC 3875 §4.1)."""
        first, *lines = head.decode("latin-1").removesuffix("\n").split("\n")
        method, target, version = request_line(first.removesuffix("\r"))
        self._modern = version != "HTTP/1.0"
        if len(lines) > MAX_FIELDS:
            raise Refused(431, "Request Header Fields Too Large")
        fields = parse_fields([line.removesuffix("\r") for line in lines])
        self._keep = self._modern and "close" not in tokens(fields.get("HTTP_CONNECTION", ""))
        expect = fields.get("HTTP_EXPECT", "").lower()
        if expect not in ("", "100-continue"):
            raise Refused(417, "Expectation Failed")
        length = body_length(fields, modern=self._modern)
        environ = self._environ(method, target, version, fields)
        if length:
            environ["CONTENT_LENGTH"] = str(length)
        expects = self._modern and expect != "" and not self.buffer
        upload = Upload(self, length, expects=expects)
        environ["wsgi.input"] = upload
        return environ, upload

    def _environ(
        self, method: str, target: str, version: str, fields: dict[str, str]
    ) -> dict[str, Any]:
        host = authority(target) or fields.get("HTTP_HOST", "")
        if host:
            fields["HTTP_HOST"] = host
        elif self._modern:
            raise Refused(400, "Bad Request")  # RFC 9112 §3.2: a request must have a Host
        path = decode_path(path_of(target))
        mount = self._server.mount
        if not path.startswith("/"):
            raise Refused(400, "Bad Request")
        if mount and path != mount and not path.startswith(f"{mount}/"):
            raise Refused(404, "Not Found")
        return {
            **fields,
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REQUEST_METHOD": method,
            "REQUEST_URI": target,
            "REQUEST_SCHEME": "http",
            "SCRIPT_NAME": mount,
            "PATH_INFO": path[len(mount) :],
            "QUERY_STRING": target.partition("?")[2],
            "SERVER_NAME": name_of(host) or bracketed(self._local[0]),
            "SERVER_PORT": str(self._local[1]),
            "SERVER_ADDR": self._local[0],
            "SERVER_PROTOCOL": version,
            "SERVER_SOFTWARE": SOFTWARE,
            "REMOTE_ADDR": self._peer[0],
            "REMOTE_PORT": str(self._peer[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": self._server.errors,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
