"""uWSGI as the application server behind our client: uwsgi, SCGI, FastCGI."""

import json

import pytest

from peers_harness import (
    LARGE,
    Program,
    Source,
    ask,
    digest_of,
    environ,
    find,
    free_port,
    pattern_digest,
)
from portico.client.exchange import BackendError
from portico.client.pool import Pool

pytestmark = pytest.mark.peer("uwsgi")

APP = """
import hashlib, json

BLOCK = bytes(range(256)) * 256

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"]
    if path == "/raise":
        raise ValueError("on purpose")
    if path == "/digest":
        whole, size = hashlib.sha256(), 0
        while block := body.read(65536):
            whole.update(block)
            size += len(block)
        start_response("200 OK", [])
        return [f"{size} {whole.hexdigest()}".encode()]
    if path == "/download":
        size = int(environ["QUERY_STRING"])
        start_response("200 OK", [("Content-Length", str(size))])
        return (BLOCK[: size - at] for at in range(0, size, len(BLOCK)))
    if path == "/late":
        start_response("200 OK", [("Content-Length", "1000000")])
        return broken()
    params = {name: text for name, text in environ.items() if type(text) is str}
    params["body"] = body.read().decode("latin-1")
    start_response("200 OK", [("X-Two", "1"), ("X-Two", "2")])
    return [json.dumps(params).encode()]

def broken():
    yield b"x" * 1000
    raise ValueError("on purpose")
"""

SOCKETS = {"uwsgi": "--uwsgi-socket", "scgi": "--scgi-socket", "fastcgi": "--fastcgi-socket"}


@pytest.fixture(scope="module")
def uwsgi():
    """One uWSGI with a socket of each protocol, the last one a Unix socket too."""
    with Program() as program:
        (program.home / "app.py").write_text(APP)
        ports = {protocol: ("127.0.0.1", free_port()) for protocol in SOCKETS}
        command = [find("uwsgi"), "--plugin", "python3", "--wsgi-file", "app.py", "--master"]
        command += ["--processes", "2", "--disable-logging", "--die-on-term"]
        urls = {}
        for protocol, option in SOCKETS.items():
            host, port = ports[protocol]
            command += [option, f"{host}:{port}"]
            urls[protocol] = f"{protocol}://{host}:{port}"
        path = program.home / "s"
        command += ["--uwsgi-socket", path]
        urls["unix"] = f"uwsgi+unix://{path}"
        program.start(command, [*ports.values(), path])
        yield urls


@pytest.fixture(params=["uwsgi", "scgi", "fastcgi", "unix"])
def pool(uwsgi, request):
    with Pool(uwsgi[request.param]) as pool:
        yield pool


def test_get(pool):
    with pool.open(environ("/x", "a=%E9", HTTP_X_A="1")) as answer:
        shown = json.loads(b"".join(answer))
    assert answer.status == "200 OK"
    assert [value for name, value in answer.headers if name == "X-Two"] == ["1", "2"]
    assert (shown["PATH_INFO"], shown["QUERY_STRING"], shown["HTTP_X_A"]) == ("/x", "a=%E9", "1")


def test_post(pool):
    status, _, content = ask(pool, environ("/x", method="POST"), b"some body")
    assert status == "200 OK"
    assert json.loads(content)["body"] == "some body"


def test_head(pool):
    status, headers, content = ask(pool, environ("/download", "1000", method="HEAD"))
    assert (status, headers["content-length"], content) == ("200 OK", "1000", b"")


def test_50_mb_up(pool):
    params = environ("/digest", method="POST", CONTENT_LENGTH=str(LARGE))
    status, _, content = ask(pool, params, Source(LARGE))
    assert (status, content.decode()) == ("200 OK", f"{LARGE} {pattern_digest(LARGE)}")


def test_50_mb_down(pool):
    with pool.open(environ("/download", str(LARGE))) as answer:
        assert digest_of(answer) == (LARGE, pattern_digest(LARGE))


def test_1000_requests(pool):
    for number in range(1000):
        status, _, content = ask(pool, environ("/x", str(number)))
        assert status == "200 OK"
        assert json.loads(content)["QUERY_STRING"] == str(number)


def test_an_application_that_fails_at_once_gives_no_whole_answer(pool):
    """uWSGI closes without a head: 502, as any web server in front of it answers."""
    with pytest.raises(BackendError) as caught:
        pool.open(environ("/raise"))
    assert caught.value.status_hint == 502


def test_an_application_that_fails_late_is_a_cut_response(pool):
    """Seen by its Content-Length alone; at once, where the end comes along with the head."""
    with pytest.raises(BackendError):
        ask(pool, environ("/late"))


def test_an_unread_upload_does_not_hang(pool):
    """What uWSGI did not read may reset its answer away: then it is a 502, in time."""
    params = environ("/download", "10", method="POST", CONTENT_LENGTH=str(LARGE))
    try:
        answer = ask(pool, params, Source(LARGE))
    except BackendError as error:
        answer = error
    if isinstance(answer, BackendError):
        assert answer.status_hint == 502
    else:
        assert (answer[0], answer[2]) == ("200 OK", bytes(range(10)))
