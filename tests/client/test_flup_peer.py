"""flup 1.0.3 as the application server behind our client."""

import io
import select
import signal
import socket
import subprocess
import sys
import time

import flup.server.ajp
import flup.server.fcgi
import flup.server.scgi
import pytest

from portico.client.exchange import BackendError, Timeouts
from portico.client.forward import Forward
from portico.client.pool import Pool

# The other way round there is nothing to run: flup's clients (flup.client.fcgi_app and scgi_app)
# need types.StringTypes, which Python 3 does not have, in their first request.

pytestmark = pytest.mark.peer

SERVERS = {
    "fastcgi": flup.server.fcgi.WSGIServer,
    "scgi": flup.server.scgi.WSGIServer,
    "ajp": flup.server.ajp.WSGIServer,
}

#: Started as a program: flup takes over the signals of its process.
PROGRAM = """
import importlib, sys

def application(environ, start_response):
    path = environ["PATH_INFO"]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if path == "/raise":
        raise ValueError("on purpose")
    if path == "/stderr":
        environ["wsgi.errors"].write("a warning")
    body = environ["wsgi.input"].read(length) if length else b""
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Query", environ["QUERY_STRING"])])
    if path == "/large":
        return (b"x" * 10_000 for _ in range(500))
    return [environ["REQUEST_METHOD"].encode(), b" ", body]

module = importlib.import_module(sys.argv[1])
module.WSGIServer(application, bindAddress=("127.0.0.1", int(sys.argv[2]))).run()
"""

GET = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/x",
    "QUERY_STRING": "q=1",
    "REQUEST_URI": "/x?q=1",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
}
POST = {**GET, "REQUEST_METHOD": "POST"}


@pytest.fixture(scope="module", params=SERVERS)
def url(request):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    module = SERVERS[request.param].__module__
    command = [sys.executable, "-c", PROGRAM, module, str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "flup did not start"
                assert time.monotonic() < deadline, "flup does not listen"
                select.select([], [], [], 0.02)
        yield f"{request.param}://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)  # its threads keep it from ending otherwise
        process.wait(20)


@pytest.fixture
def pool(url):
    with Pool(url) as pool:
        yield pool


def test_get(pool):
    with pool.open(GET) as answer:
        assert answer.status == "200 OK"
        assert ("X-Query", "q=1") in answer.headers
        assert b"".join(answer) == b"GET "


@pytest.mark.parametrize("size", [1, 8186, 8187, 100_000])
def test_post(pool, size):
    body = bytes(range(256)) * (size // 256 + 1)
    with pool.open(POST, body[:size]) as answer:
        assert b"".join(answer) == b"POST " + body[:size]


def test_requests_one_after_another(pool):
    for number in range(5):
        body = b"%d" % number
        with pool.open(POST, body) as answer:
            assert b"".join(answer) == b"POST " + body


def test_a_large_response(pool):
    environ = {**GET, "PATH_INFO": "/large", "REQUEST_URI": "/large"}
    with pool.open(environ) as answer:
        assert sum(map(len, answer)) == 5_000_000


def test_an_application_that_fails(url, pool):
    environ = {**GET, "PATH_INFO": "/raise", "REQUEST_URI": "/raise"}
    with pool.open(environ) as answer:
        page = b"".join(answer)
    # flup answers over AJP with 200 "Internal Server Error": that is what it says
    expected = "200" if url.startswith("ajp") else "500"
    assert answer.status[:3] == expected
    assert page


def test_forwarding(url):
    forward = Forward(url)
    got = []
    errors = io.StringIO()
    environ = {
        **POST,
        "PATH_INFO": "/stderr",
        "REQUEST_URI": "/stderr?q=1",
        "CONTENT_LENGTH": "4",
        "wsgi.input": io.BytesIO(b"body"),
        "wsgi.errors": errors,
    }
    result = forward(environ, lambda *args: got.append(args))
    assert b"".join(result) == b"POST body"
    assert got[0][0] == "200 OK"
    if url.startswith("fastcgi"):
        assert errors.getvalue() == "a warning"
    forward.close()


def test_a_protocol_that_flup_does_not_expect_ends_in_time(url):
    """flup waits for more of what it takes for a request of its own."""
    other = {"fastcgi": "scgi", "scgi": "fastcgi", "ajp": "fastcgi"}[url.partition(":")[0]]
    other_url = f"{other}://{url.partition('://')[2]}"
    with Pool(other_url, timeouts=Timeouts(read=0.3)) as pool, pytest.raises(BackendError):
        pool.open(GET)
