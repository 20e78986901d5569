import http.client
import io
import json
import select
import socket
import threading
import time
import urllib.request
from contextlib import suppress

import pytest

from backends import PROTOCOLS, WAIT, Backend, Scripted
from portico.client.exchange import Timeouts
from portico.errors import TransportError
from portico.servers import _front_request
from portico.servers import front as front_module
from portico.servers.front import Front


def show(environ, start_response):
    """Answers with its parameters as JSON; the length of its body among them."""
    params = {name: value for name, value in environ.items() if type(value) is str}
    params["body"] = environ["wsgi.input"].read().decode("latin-1")
    body = json.dumps(params).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def echo(environ, start_response):
    start_response("200 OK", [])
    while block := environ["wsgi.input"].read(65_536):
        yield block


class Client:
    """A raw HTTP client."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), WAIT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def head(self):
        status = self.file.readline().decode("latin-1").rstrip("\r\n")
        headers = {}
        while line := self.file.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(": ")
            assert name not in headers
            headers[name] = value
        return status, headers

    def answer(self):
        """Read a whole response that has a Content-Length."""
        status, headers = self.head()
        return status, headers, self.file.read(int(headers["Content-Length"]))

    def ask(self, data):
        self.send(data)
        return self.answer()

    def rest(self):
        """Read to the end; a reset raises."""
        return self.file.read()

    def closed(self):
        return self.file.read(1) == b""


@pytest.fixture
def backend():
    with Backend("fastcgi", show) as backend:
        yield backend


@pytest.fixture
def errors():
    return io.StringIO()


@pytest.fixture
def front(backend, errors):
    with Front(backend.url, errors=errors) as front:
        yield front


@pytest.fixture
def client(front):
    with Client(front.port) as client:
        yield client


def serve(app, protocol="fastcgi"):
    """A front with a backend of its own, for a with statement."""

    class Both:
        def __enter__(self):
            self.backend = Backend(protocol, app)
            self.front = Front(self.backend.url, errors=io.StringIO())
            self.front.start()
            return self.front.port

        def __exit__(self, *_):
            self.front.close()
            self.backend.close()

    return Both()


# -- the environ ---------------------------------------------------------------------------


def test_the_environ(client, front):
    _, _, body = client.ask(
        "POST /a%20b/%C3%A9%2525?q=%20&r HTTP/1.1\r\nHost: example.org:8080\r\n"
        "Content-Type: text/x\r\nContent-Length: 4\r\nX-Two: 1\r\nx-two:2 \r\n"
        "Cookie: a=1\r\nCookie: b=2\r\nX_Under: 1\r\nProxy: http://evil/\r\n\r\nbody"
    )
    environ = json.loads(body)
    assert environ == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": front_module.SOFTWARE,
        "SERVER_NAME": "example.org",
        "SERVER_PORT": str(front.port),
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_METHOD": "POST",
        "REQUEST_SCHEME": "http",
        "REQUEST_URI": "/a%20b/%C3%A9%2525?q=%20&r",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/\xc3\xa9%25",
        "QUERY_STRING": "q=%20&r",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(client.sock.getsockname()[1]),
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "4",
        "HTTP_HOST": "example.org:8080",
        "HTTP_X_TWO": "1, 2",
        "HTTP_COOKIE": "a=1; b=2",
        "body": "body",
        "wsgi.url_scheme": "http",
    }


@pytest.mark.parametrize(
    ("mount", "target", "script", "path"),
    [
        ("", "/", "", "/"),
        ("/app", "/app", "/app", ""),
        ("/app", "/app?x", "/app", ""),
        ("/app/", "/app/x", "/app", "/x"),
        ("/app", "/%61pp/x", "/app", "/x"),
        ("/app", "http://h/app/x", "/app", "/x"),
        ("/app", "/application", None, None),
        ("/app", "/", None, None),
    ],
)
def test_the_mount_is_matched_on_whole_segments(backend, mount, target, script, path):
    with Front(backend.url, mount=mount) as front, Client(front.port) as client:
        status, _, body = client.ask(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
    if script is None:
        assert status == "HTTP/1.1 404 Not Found"
        assert backend.accepted == 0
    else:
        environ = json.loads(body)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, path)
        assert environ["REQUEST_URI"] == target


@pytest.mark.parametrize(
    ("target", "host", "name"),
    [
        ("/", "h", "h"),
        ("/", "[::1]:80", "[::1]"),
        ("/", "", "127.0.0.1"),
        ("http://other:1/", "h", "other"),
    ],
)
def test_the_server_is_named_by_the_request(client, target, host, name):
    version = "1.1" if host else "1.0"  # HTTP/1.0 may come without Host
    field = f"Host: {host}\r\n" if host else ""
    _, _, body = client.ask(f"GET {target} HTTP/{version}\r\n{field}\r\n")
    assert json.loads(body)["SERVER_NAME"] == name


# -- requests that are refused -------------------------------------------------------------

HOST = "Host: h\r\n"


@pytest.mark.parametrize(
    ("request_head", "code"),
    [
        pytest.param("GET /\r\n\r\n", 400, id="http-0.9"),
        pytest.param(f"GET / x HTTP/1.1\r\n{HOST}\r\n", 400, id="blank-in-target"),
        pytest.param(f"GET  / HTTP/1.1\r\n{HOST}\r\n", 400, id="two-blanks"),
        pytest.param(f"G@T / HTTP/1.1\r\n{HOST}\r\n", 400, id="method-no-token"),
        pytest.param(f"GET x HTTP/1.1\r\n{HOST}\r\n", 400, id="no-path"),
        pytest.param(f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n", 400, id="asterisk"),
        pytest.param(f"CONNECT h:80 HTTP/1.1\r\n{HOST}\r\n", 400, id="connect"),
        pytest.param(f"GET /\x01 HTTP/1.1\r\n{HOST}\r\n", 400, id="control-in-target"),
        pytest.param(f"GET / HTTP/2.0\r\n{HOST}\r\n", 505, id="http-2"),
        pytest.param(f"GET / HTP/1.1\r\n{HOST}\r\n", 400, id="no-http"),
        pytest.param("GET / HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Host: i\r\n\r\n", 400, id="two-hosts"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}X\r\n\r\n", 400, id="no-colon"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}X : 1\r\n\r\n", 400, id="blank-before-colon"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}X: 1\r\n 2\r\n\r\n", 400, id="folded"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}X: a\x00b\r\n\r\n", 400, id="nul"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}X: a\rb\r\n\r\n", 400, id="lone-cr"),
        pytest.param(f"POST / HTTP/1.1\r\n{HOST}Content-Length: +1\r\n\r\n", 400, id="length"),
        pytest.param(
            f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
            id="two-lengths",
        ),
        pytest.param(
            f"POST / HTTP/1.1\r\n{HOST}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            id="length-and-chunked",
        ),
        pytest.param(
            f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n"
            "Transfer-Encoding: chunked\r\n\r\n",
            400,
            id="chunked-twice",
        ),
        pytest.param(
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="chunked-in-1.0"
        ),
        pytest.param(
            f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n", 501, id="gzip"
        ),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}Expect: tea\r\n\r\n", 417, id="expectation"),
        pytest.param(f"GET /{'x' * 9000} HTTP/1.1\r\n{HOST}\r\n", 414, id="long-target"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}X: {'x' * 70_000}\r\n\r\n", 431, id="long-head"),
        pytest.param(f"GET / HTTP/1.1\r\n{HOST}{'X: 1' + chr(13) + chr(10)}" * 1 + "X: 1\r\n" * 100
                     + "\r\n", 431, id="many-fields"),
    ],
)  # fmt: skip
def test_requests_that_are_refused(client, backend, request_head, code):
    status, headers, page = client.ask(request_head)
    assert status.split(" ")[1] == str(code)
    assert headers["Connection"] == "close"
    assert page.startswith(b"<!DOCTYPE html>")
    assert client.closed()
    assert backend.accepted == 0


def test_a_request_line_without_end_is_cut_off(client):
    client.send(b"x" * 9000)
    assert client.answer()[0] == "HTTP/1.1 414 URI Too Long"
    assert client.closed()


def test_a_head_that_never_ends_is_408(front, monkeypatch):
    monkeypatch.setattr(front_module, "_HEAD_SECONDS", 0.2)
    with Client(front.port) as client:
        status, _, _ = client.ask("GET / HTTP/1.1\r\nHost: h\r\n")
        assert status == "HTTP/1.1 408 Request Timeout"
        assert client.closed()


def test_a_connection_that_stays_idle_is_closed(front, monkeypatch):
    monkeypatch.setattr(front_module, "_IDLE_SECONDS", 0.2)
    with Client(front.port) as client:
        assert client.closed()


# -- bodies --------------------------------------------------------------------------------

CHUNKED = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        "4\r\nbody\r\n0\r\n\r\n",
        "2;x=y\r\nbo\r\n2 \r\ndy\r\n0\r\n\r\n",
        "0004\r\nbody\r\n000\r\nX-Trailer: 1\r\nY: 2\r\n\r\n",
    ],
)
def test_chunked_uploads_however_they_are_cut(front, octets):
    request = (CHUNKED + octets).encode()
    with Client(front.port) as client:
        for at in range(len(CHUNKED) - 2, len(request)):
            client.send(request[:at])
            client.send(request[at:])
            status, _, body = client.answer()
            assert status == "HTTP/1.1 200 OK"
            assert json.loads(body)["body"] == "body"
            assert "CONTENT_LENGTH" not in json.loads(body)


@pytest.mark.parametrize(
    "octets", ["x\r\n", "-1\r\n", "1_0\r\n", "4\r\nbodyXX", "\r\n", "f" * 16 + "\r\n", "1" * 5000]
)
def test_broken_chunks_are_refused(client, octets):
    client.send(CHUNKED + octets)
    status, headers, _ = client.answer()
    assert status == "HTTP/1.1 400 Bad Request"
    assert headers["Connection"] == "close"
    assert client.closed()


def test_an_upload_that_is_cut_short_never_looks_whole():
    seen = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as exc:
            seen.append(exc)
            raise
        start_response("200 OK", [])
        return []

    with Backend("scgi", app) as backend, Front(backend.url) as front:
        with Client(front.port) as client:
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
        assert backend.aborted.wait(WAIT)
    assert len(seen) == 1


def test_100_continue_comes_when_the_body_is_read(client):
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert client.head() == ("HTTP/1.1 100 Continue", {})
    status, _, body = client.ask("body")
    assert status == "HTTP/1.1 200 OK"
    assert json.loads(body)["body"] == "body"


def test_no_100_continue_where_nobody_reads():
    """The front refuses by itself: SCGI needs a length."""
    with serve(show, "scgi") as port, Client(port) as client:
        client.send(
            "POST / HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody"
        )  # HTTP/1.0 knows no interim responses
        assert client.answer()[0] == "HTTP/1.1 200 OK"


def test_a_client_that_sends_all_before_it_reads_does_not_deadlock():
    """An application that answers while it reads, and a client that does not read meanwhile."""
    body = bytes(range(256)) * 80_000
    with serve(echo) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=WAIT) as response:  # noqa: S310 - ours
            assert response.read() == body


@pytest.mark.parametrize(
    ("protocol", "framing"),
    [(p, "Content-Length: 15") for p in PROTOCOLS]
    + [(p, "Transfer-Encoding: chunked") for p in ("fastcgi", "ajp")],
)
def test_client_and_application_talk_in_turns(protocol, framing):
    """Each side waits for the other's words: neither may be held back for more to come."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "15")])
        for _ in range(3):
            yield environ["wsgi.input"].read(5)

    with serve(app, protocol) as port, Client(port) as client:
        client.send(f"POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n")
        for number, word in enumerate(["hello", "there", "hello"]):
            client.send(f"5\r\n{word}\r\n" if "chunked" in framing else word)
            if number == 0:
                client.head()
            assert client.file.read(5).decode() == word


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("half", ["", "half"])
def test_an_answer_to_a_client_that_stalls_within_its_upload(protocol, half):
    def refuse(_environ, start_response):
        start_response("413 Content Too Large", [("Content-Length", "7")])
        return [b"too big"]

    with serve(refuse, protocol) as port, Client(port) as client:
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + half)
        assert client.answer()[::2] == ("HTTP/1.1 413 Content Too Large", b"too big")


def test_an_answer_before_the_upload_is_read_reaches_the_client():
    def refuse(_environ, start_response):
        start_response("413 Content Too Large", [("Content-Length", "7")])
        return [b"too big"]

    with serve(refuse, "scgi") as port, Client(port) as client:
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n")

        def upload():
            with suppress(OSError):
                client.send(b"x" * 100_000_000)

        thread = threading.Thread(target=upload)
        thread.start()
        assert client.answer()[::2] == ("HTTP/1.1 413 Content Too Large", b"too big")
        thread.join(WAIT)
        assert not thread.is_alive()


def test_a_short_upload_that_nobody_read_leaves_the_connection_in_step():
    def ignore(_environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with serve(ignore, "scgi") as port, Client(port) as client:
        for _ in range(3):
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n" + "x" * 5000)
            assert client.answer()[::2] == ("HTTP/1.1 200 OK", b"ok")


# -- responses -----------------------------------------------------------------------------


def lines(environ, start_response):
    """A response of unknown length; breaks off after the first line where asked to."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first\n"
    if environ["QUERY_STRING"] == "cut":
        raise ValueError
    yield b"second\n"


def test_an_unknown_length_is_chunked():
    received = threading.Semaphore(0)

    def app(_environ, start_response):
        start_response("200 OK", [])
        yield b"first\n"
        assert received.acquire(timeout=WAIT)
        yield b"second\n"

    with serve(app) as port, Client(port) as client:
        for _ in range(2):  # and the connection goes on
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            _, headers = client.head()
            assert headers["Transfer-Encoding"] == "chunked"
            assert [client.file.readline() for _ in range(3)] == [b"6\r\n", b"first\n", b"\r\n"]
            received.release()
            assert [client.file.readline() for _ in range(3)] == [b"7\r\n", b"second\n", b"\r\n"]
            assert [client.file.readline() for _ in range(2)] == [b"0\r\n", b"\r\n"]


def test_an_unknown_length_ends_with_the_connection_in_http_1_0():
    with serve(lines) as port, Client(port) as client:
        client.send("GET / HTTP/1.0\r\n\r\n")
        status, headers = client.head()
        assert status == "HTTP/1.1 200 OK"
        assert headers["Connection"] == "close"
        assert "Transfer-Encoding" not in headers
        assert client.rest() == b"first\nsecond\n"


@pytest.mark.parametrize("protocol", ["fastcgi", "ajp"])
def test_a_cut_response_is_seen_to_be_cut(protocol):
    with serve(lines, protocol) as port:
        with Client(port) as client:
            client.send("GET /?cut HTTP/1.1\r\nHost: h\r\n\r\n")
            client.head()
            assert client.rest() == b"6\r\nfirst\n\r\n"  # no last chunk
        with Client(port) as client:
            client.send("GET /?cut HTTP/1.0\r\n\r\n")
            client.head()
            with pytest.raises(ConnectionResetError):
                client.rest()


def test_a_response_short_of_its_length_closes():
    def app(_environ, start_response):
        start_response("200 OK", [("Content-Length", "100")])
        yield b"first"
        raise ValueError

    with serve(app, "scgi") as port, Client(port) as client:
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.head()[1]["Content-Length"] == "100"
        assert client.rest() == b"first"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_head_and_empty_statuses_have_no_body(protocol):
    def app(environ, start_response):
        start_response(environ["QUERY_STRING"].replace("+", " "), [])
        return [b"body"]

    with serve(app, protocol) as port, Client(port) as client:
        client.send("HEAD /?200+OK HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.head()[0] == "HTTP/1.1 200 OK"
        for status in ("204 No Content", "304 Not Modified"):
            client.send(f"GET /?{status.replace(' ', '+')} HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.head()[0] == f"HTTP/1.1 {status}"
        client.send("GET /?200+OK HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        status, headers, body = client.answer()
        assert (status, body, headers["Connection"]) == ("HTTP/1.1 200 OK", b"body", "close")
        assert client.closed()


def test_heads_are_complete(client):
    _, headers, _ = client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert headers["Server"] == front_module.SOFTWARE
    assert headers["Date"].endswith(" GMT")
    assert "Connection" not in headers


def test_pipelined_requests_are_answered_in_order(client):
    client.send("".join(f"GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n" for n in range(5)))
    paths = [json.loads(client.answer()[2])["PATH_INFO"] for _ in range(5)]
    assert paths == ["/0", "/1", "/2", "/3", "/4"]


def test_blank_lines_before_a_request_are_skipped(client):
    assert client.ask("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")[0] == "HTTP/1.1 200 OK"


def test_lines_may_end_in_lf_alone(client):
    assert client.ask("GET / HTTP/1.1\nHost: h\n\n")[0] == "HTTP/1.1 200 OK"


def test_a_client_that_goes_away_frees_the_backend():
    def app(_environ, start_response):
        start_response("200 OK", [])
        while True:
            yield b"x" * 100_000

    with Backend("fastcgi", app) as backend, Front(backend.url) as front:
        with Client(front.port) as client:
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            client.head()
        assert backend.aborted.wait(WAIT)


def test_many_clients_at_once(front):
    wrong = []

    def work(name):
        conn = http.client.HTTPConnection("127.0.0.1", front.port, timeout=WAIT)
        for number in range(20):
            conn.request("POST", f"/{name}/{number}", body=f"{name}.{number}")
            got = json.loads(conn.getresponse().read())
            if (got["PATH_INFO"], got["body"]) != (f"/{name}/{number}", f"{name}.{number}"):
                wrong.append(got)
        conn.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


# -- the front itself ----------------------------------------------------------------------


def test_a_backend_that_is_not_there_is_502():
    with Scripted(lambda _conn: None) as gone:
        url = gone.url("scgi")
    errors = io.StringIO()
    with Front(url, errors=errors) as front, Client(front.port) as client:
        status, _, page = client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert status == "HTTP/1.1 502 Bad Gateway"
    assert page.startswith(b"<!DOCTYPE html>")
    assert errors.getvalue().startswith("portico: 502: nothing listens on 127.0.0.1:")


def test_a_backend_that_stalls_is_504():
    done = threading.Event()
    with Scripted(lambda _conn: done.wait(WAIT)) as slow:
        timeouts = Timeouts(read=0.2)
        with (
            Front(slow.url("scgi"), timeouts=timeouts, errors=io.StringIO()) as front,
            Client(front.port) as client,
        ):
            status, _, _ = client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        done.set()
    assert status == "HTTP/1.1 504 Gateway Timeout"


def test_a_port_that_is_taken_is_said_in_one_sentence(front, backend):
    second = Front(backend.url, port=front.port)
    with pytest.raises(TransportError) as caught:
        second.start()
    second.close()
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1 port {front.port}: Address already in use"
    )


def test_the_port_is_known_before_and_after(backend):
    front = Front(backend.url, port=0)
    assert front.port == 0
    front.start()
    assert front.port > 0
    front.close()
    front.close()


def test_closing_ends_connections_and_threads(backend):
    before = set(threading.enumerate())
    front = Front(backend.url)
    front.start()
    port = front.port
    with Client(port) as client:
        client.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        started = time.monotonic()
        front.close()
        assert time.monotonic() - started < 2
        assert client.closed()
    own = {t for t in threading.enumerate() if "portico-front" in t.name} - before
    deadline = time.monotonic() + WAIT
    while any(thread.is_alive() for thread in own):
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_ipv6(backend):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with (
        Front(backend.url, host="::1") as front,
        socket.create_connection(("::1", front.port), WAIT) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = sock.makefile("rb").read()
    environ = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert environ["REMOTE_ADDR"] == "::1"
    assert environ["SERVER_NAME"] == "[::1]"


class Sending:
    """A client that has sent all of its body already."""

    fd = -1

    def __init__(self, body):
        self.buffer = bytearray()
        self.body = body

    def receive(self, _seconds):
        piece, self.body = self.body[:400], self.body[400:]
        self.buffer += piece
        return piece


def test_what_is_put_by_of_an_upload_is_bounded(monkeypatch):
    monkeypatch.setattr(_front_request, "_SPOOL_BYTES", 1000)
    upload = _front_request.Upload(Sending(bytes(5000)), 5000, expects=False)
    times = 0
    while upload.may_spool():
        upload.spool()
        times += 1
    assert times == 3
    assert sum(map(len, iter(lambda: upload.read(300), b""))) == 5000
    upload.close()
