import argparse
import io
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from backends import PROTOCOLS, WAIT, Backend, Scripted
from cli_harness import Command, eventually
from portico.cli import main, request
from portico.errors import ConfigError


def show(environ, start_response):
    params = {name: value for name, value in environ.items() if type(value) is str}
    params["body"] = environ["wsgi.input"].read().decode("latin-1")
    body = json.dumps(params).encode()
    start_response("201 Created", [("X-A", "1"), ("X-A", "2")])
    return [body]


@pytest.fixture
def portico(capfdbinary):
    """Run ``portico request``; gives exit status, standard output and error."""

    def run(*arguments):
        status = main(["request", *map(str, arguments)])
        captured = capfdbinary.readouterr()
        return status, captured.out, captured.err.decode()

    return run


@pytest.fixture
def backend():
    with Backend("scgi", show) as backend:
        yield backend


# -- URLs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "bind", "target"),
    [
        ("scgi://127.0.0.1:4000/path?x=1", "scgi://127.0.0.1:4000", "/path?x=1"),
        ("scgi://127.0.0.1:4000", "scgi://127.0.0.1:4000", "/"),
        ("scgi://127.0.0.1:4000?x=/1", "scgi://127.0.0.1:4000", "/?x=/1"),
        ("uwsgi://[::1]:4000/a:/b", "uwsgi://[::1]:4000", "/a:/b"),
        ("fastcgi+unix:///run/a.sock:/p?x", "fastcgi+unix:///run/a.sock", "/p?x"),
        ("fastcgi+unix:///run/a.sock", "fastcgi+unix:///run/a.sock", "/"),
        ("fastcgi+unix:///run/a:b.sock:/p:/q", "fastcgi+unix:///run/a:b.sock", "/p:/q"),
    ],
)
def test_urls_are_a_bind_and_a_target(url, bind, target):
    assert request.split_url(url, []) == (bind, target)


def test_options_go_into_the_bind():
    where = request.split_url("ajp://h:8009/x?y", ["secret=a&b=c", "packet_size=65536"])
    assert where == ("ajp://h:8009?secret=a%26b%3Dc&packet_size=65536", "/x?y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["localhost"], "not a URL like"),
        (["scgi://"], "not a URL like"),
        (["fastcgi+unix:///run/a.sock?x=1"], "ends with a colon"),
        (["scgi://127.0.0.1:4000/a b"], "percent-encoded"),
        (["scgi://127.0.0.1:4000/é"], "percent-encoded"),
        (["scgi://127.0.0.1/x"], "port"),
        (["gopher://127.0.0.1:70/"], "unknown protocol 'gopher'"),
        (["scgi://127.0.0.1:4000/", "-H", "nonsense"], "not a header"),
        (["scgi://127.0.0.1:4000/", "-H", "a b: c"], "not a header"),
        (["scgi://127.0.0.1:4000/", "-H", "A: b\r\nC: d"], "not a header"),
        (["scgi://127.0.0.1:4000/", "--env", "NAME"], "not NAME=VALUE"),
        (["scgi://127.0.0.1:4000/", "--env", "=x"], "not NAME=VALUE"),
        (["scgi://127.0.0.1:4000/", "--env", "wsgi.input=x"], "not NAME=VALUE"),
        (["scgi://127.0.0.1:4000/", "--option", "x"], "not NAME=VALUE"),
        (["scgi://127.0.0.1:4000/", "-X", "G T"], "not a method"),
        (["scgi://127.0.0.1:4000/", "-d", "@/nowhere/at all"], "cannot read"),
        (["scgi://127.0.0.1:4000/", "--timeout", "0"], "more than 0"),
        (["scgi://127.0.0.1:4000/", "--timeout", "nan"], "more than 0"),
        (["scgi://127.0.0.1:4000/", "--timeout", "soon"], "invalid float"),
    ],
)
def test_wrong_use_is_status_2_and_one_sentence(portico, arguments, message):
    status, out, err = portico(*arguments)
    assert status == 2
    assert out == b""
    assert message in err
    assert "Traceback" not in err


def test_a_length_that_disagrees_with_the_data_is_wrong_use(portico, backend):
    status, _, err = portico(backend.url, "-d", "body", "--env", "CONTENT_LENGTH=5")
    assert status == 2
    assert "says 5 octets, the body has 4" in err


def test_the_help_explains_urls():
    parser = argparse.ArgumentParser()
    request.add_arguments(parser)
    assert "fastcgi+unix:///run/app.sock:/path?x=1" in request.__doc__
    assert "--option" in parser.format_help()


# -- requests ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request(portico, protocol):
    with Backend(protocol, show) as backend:
        status, out, err = portico(f"{backend.url}/a%20b/%C3%A9?x=1")
    environ = json.loads(out)
    assert (status, err) == (0, "")
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["REQUEST_URI"] == "/a%20b/%C3%A9?x=1"
    assert environ["PATH_INFO"] == ("/a b/\xc3\xa9")
    assert environ["SCRIPT_NAME"] == ""
    assert environ["QUERY_STRING"] == "x=1"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["HTTP_HOST"] == "localhost"
    assert environ["body"] == ""


def test_the_environ_is_what_a_web_server_would_send(portico, backend):
    _, out, _ = portico(f"{backend.url}/x")
    environ = json.loads(out)
    assert {
        "GATEWAY_INTERFACE", "HTTP_ACCEPT", "HTTP_HOST", "HTTP_USER_AGENT", "PATH_INFO",
        "QUERY_STRING", "REMOTE_ADDR", "REMOTE_PORT", "REQUEST_METHOD", "REQUEST_SCHEME",
        "REQUEST_URI", "SCRIPT_NAME", "SERVER_ADDR", "SERVER_NAME", "SERVER_PORT",
        "SERVER_PROTOCOL", "SERVER_SOFTWARE",
    } <= set(environ)  # fmt: skip


def test_headers_and_parameters(portico, backend):
    _, out, _ = portico(
        backend.url, "-X", "PUT", "-d", "body", "-H", "X-A: 1", "-H", "x-a:2", "-H", "Cookie: a=1",
        "-H", "Cookie: b=é", "-H", "Content-Type: text/x", "--env", "REMOTE_USER=me",
        "--env", "SERVER_NAME=", "--env", "SCRIPT_NAME=/app",
    )  # fmt: skip
    environ = json.loads(out)
    assert environ["REQUEST_METHOD"] == "PUT"
    assert environ["HTTP_X_A"] == "1, 2"
    assert environ["HTTP_COOKIE"] == "a=1; b=\xc3\xa9"
    assert environ["CONTENT_TYPE"] == "text/x"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert environ["REMOTE_USER"] == "me"
    assert environ["SERVER_NAME"] == ""
    assert environ["SCRIPT_NAME"] == "/app"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_data(portico, protocol):
    with Backend(protocol, show) as backend:
        _, out, _ = portico(backend.url, "-d", "a=é")
    environ = json.loads(out)
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["CONTENT_LENGTH"] == "4"
    assert environ["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert environ["body"] == "a=\xc3\xa9"


def test_empty_data_is_a_post_all_the_same(portico, backend):
    environ = json.loads(portico(backend.url, "-d", "")[1])
    assert (environ["REQUEST_METHOD"], environ["CONTENT_LENGTH"]) == ("POST", "0")


def test_data_from_a_file(portico, backend, tmp_path):
    file = tmp_path / "body"
    file.write_bytes(bytes(range(256)) * 1000)
    environ = json.loads(portico(backend.url, "-d", f"@{file}")[1])
    assert environ["body"].encode("latin-1") == file.read_bytes()


def test_data_from_a_pipe(portico, backend, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = threading.Thread(target=fifo.write_bytes, args=(b"piped" * 10_000,))
    thread.start()
    environ = json.loads(portico(backend.url, "-d", f"@{fifo}")[1])
    thread.join(WAIT)
    assert environ["body"] == "piped" * 10_000


def test_data_from_standard_input(portico, backend, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"typed"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert json.loads(portico(backend.url, "-d", "@-")[1])["body"] == "typed"


def test_the_head_is_printed_where_asked_for(portico, backend):
    _, out, _ = portico(backend.url, "-i")
    head, _, body = out.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"201 Created"
    assert lines[1:3] == [b"X-A: 1", b"X-A: 2"]
    assert json.loads(body)["PATH_INFO"] == "/"


def test_bodies_are_printed_raw(portico):
    body = bytes(range(256)) * 2000

    def app(_environ, start_response):
        start_response("500 Internal Server Error", [])
        return [body]

    with Backend("uwsgi", app) as backend:
        status, out, err = portico(backend.url)
    assert (status, out, err) == (0, body, "")


def test_the_error_stream_is_told_apart(portico):
    def app(environ, start_response):
        environ["test.stderr"]("one\ntwo")
        start_response("200 OK", [])
        return [b"body"]

    with Backend("fastcgi", app) as backend:
        status, out, err = portico(backend.url)
    assert (status, out, err) == (0, b"body", "stderr: one\nstderr: two\n")


def test_a_unix_socket(portico, tmp_path):
    with Backend("fastcgi", show, path=tmp_path / "app.sock") as backend:
        status, out, _ = portico(f"{backend.url}:/path?x=1")
    assert status == 0
    assert json.loads(out)["REQUEST_URI"] == "/path?x=1"


def test_an_ajp_secret_is_an_option(portico, tmp_path):
    file = tmp_path / "secret"
    file.write_text("s3cret")
    with Backend("ajp", show, secret="s3cret") as backend:  # noqa: S106 - a test's
        status, out, _ = portico(backend.url, "--option", f"secret_file={file}")
        assert status == 0
        assert json.loads(out)["PATH_INFO"] == "/"
        status, out, _ = portico(backend.url, "-i")
        assert (status, out[:3]) == (0, b"403")


# -- failures ------------------------------------------------------------------------------


def test_nothing_listening_is_status_1_and_one_sentence(portico):
    with Scripted(lambda _conn: None) as backend:
        url = backend.url("scgi")
    status, out, err = portico(url)
    assert (status, out) == (1, b"")
    assert err.startswith(f"portico: {url}: nothing listens on 127.0.0.1:")
    assert err.count("\n") == 1


def test_no_such_socket_is_status_1(portico, tmp_path):
    status, _, err = portico(f"scgi+unix://{tmp_path}/none:/x")
    assert status == 1
    assert "there is no socket" in err


def test_a_timeout_is_status_1(portico):
    done = threading.Event()
    with Scripted(lambda _conn: done.wait(WAIT)) as backend:
        status, _, err = portico(backend.url("scgi"), "--timeout", "0.2")
        done.set()
    assert status == 1
    assert "sent nothing for 0.2 seconds" in err


def test_the_wrong_protocol_is_status_1(portico):
    with Backend("scgi", show) as backend:
        status, _, err = portico(backend.url.replace("scgi", "fastcgi"))
    assert status == 1
    assert err.count("\n") == 1


def test_a_cut_is_status_1_after_what_came(portico):
    def script(conn):
        conn.recv(65_536)
        conn.sendall(b"Content-Length: 9\r\n\r\nbody")

    with Scripted(script) as backend:
        status, out, err = portico(backend.url("scgi"))
    assert (status, out) == (1, b"body")
    assert "cut its response" in err


def test_a_secret_is_never_printed(portico):
    with Scripted(lambda _conn: None) as backend:
        url = backend.url("ajp")
    _, out, err = portico(url, "--option", "secret=hushhush")
    assert b"hushhush" not in out
    assert "hushhush" not in err


def test_a_reader_that_goes_away_ends_it_quietly():
    def app(_environ, start_response):
        start_response("200 OK", [])
        while True:
            yield b"x" * 65_536

    with Backend("scgi", app) as backend:
        process = subprocess.Popen(
            [sys.executable, "-m", "portico", "request", backend.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout.read(10) == b"x" * 10
        process.stdout.close()
        err = process.stderr.read()
        process.wait(WAIT)
        process.stderr.close()
    assert err == b""


def test_wrong_use_raises_for_callers():
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        request.split_url("scgi://127.0.0.1:1/", ["x"])


# -- records -------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path):
    """Start ``portico serve`` on a Unix socket; gives its URL."""
    (tmp_path / "app.py").write_text(
        "def application(environ, start_response):\n"
        "    body = environ['wsgi.input'].read()\n"
        "    start_response('200 OK', [('Content-Length', str(len(body)))])\n"
        "    return [body]\n"
    )
    with ExitStack() as stack:

        def start(protocol):
            url = f"{protocol}+unix://{tmp_path}/{protocol}.sock"
            command = stack.enter_context(Command("serve", tmp_path / "app.py", "--bind", url))
            eventually((tmp_path / f"{protocol}.sock").exists, "the socket")
            assert command.running()
            return f"{url}:"

        yield start


#: What passes for a POST of five octets.
PASSING = {
    "fastcgi": [
        "> FCGI_BEGIN_REQUEST", "> FCGI_PARAMS", "> FCGI_PARAMS", "> FCGI_STDIN", "> FCGI_STDIN",
        "< FCGI_STDOUT", "< FCGI_STDOUT", "< FCGI_END_REQUEST",
    ],
    "scgi": ["> netstring", "> body", "< head", "< body"],
    "ajp": [
        "> Forward Request", "> body", "< Send Headers", "< Send Body Chunk", "< End Response"
    ],
    "uwsgi": ["> packet", "> body", "< head", "< body"],
}  # fmt: skip

RECORD = re.compile(r" *(\d+\.\d) ms  ([<>]) +(\d+)  (.+?)  .*")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_are_shown_as_they_pass(portico, serve, protocol):
    url = serve(protocol)
    status, out, err = portico(f"{url}/a", "--records", "-d", "hello", "-H", "Cookie: hushhush")
    assert (status, out) == (0, b"hello")
    found = [RECORD.fullmatch(f"{line}  ").groups() for line in err.splitlines()]
    assert [f"{mark} {name}" for _, mark, _, name in found] == PASSING[protocol]
    times = [float(time) for time, *_ in found]
    assert times == sorted(times)
    assert times[0] > 0
    assert all(int(size) > 0 for _, _, size, _ in found)
    assert "hush" not in err
    assert portico(f"{url}/a", "-d", "hello") == (0, b"hello", "")


def test_records_of_ajp_show_what_was_asked_for(portico, serve, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 20_000)
    _, out, err = portico(f"{serve('ajp')}/", "--records", "-d", f"@{body}")
    assert out == body.read_bytes()
    marks = [RECORD.fullmatch(f"{line}  ").groups()[1::2] for line in err.splitlines()]
    asked = [at for at, record in enumerate(marks) if record == ("<", "Get Body Chunk")]
    assert len(asked) == 2
    assert all(marks[at + 1] == (">", "body") for at in asked)


def test_records_show_what_was_wrong(portico):
    def script(conn):
        conn.recv(65_536)
        conn.sendall(b"Content-Length: 9\r\n\r\nbody")

    with Scripted(script) as backend:
        status, out, err = portico(backend.url("scgi"), "--records")
    assert (status, out) == (1, b"body")
    lines = err.splitlines()
    assert any("< " in line and line.endswith("4 octets") for line in lines)
    assert "!!" in err
    assert "Content-Length says 9, the body has 4 octets [RFC 9110 §8.6]" in err
    assert "cut its response" in lines[-1]


def test_records_show_how_far_a_silent_backend_let_it_come(portico):
    done = threading.Event()
    with Scripted(lambda _conn: done.wait(WAIT)) as backend:
        status, _, err = portico(backend.url("uwsgi"), "--records", "--timeout", "0.2")
        done.set()
    assert status == 1
    assert " ms  > " in err.splitlines()[0]
    assert "sent nothing for 0.2 seconds" in err.splitlines()[-1]


# -- FastCGI's roles -----------------------------------------------------------------------


@pytest.fixture
def say_end():
    """A FastCGI backend that gives what it was sent as its body, and ends with appStatus 3."""

    def script(conn):
        received = b""
        last = (b"\1\5\0\1\0\0\0\0", b"\1\x08\0\1\0\0\0\0")  # the ends of STDIN and DATA
        ends = last[:1] if script.role != 3 else last
        while not received.endswith(ends[-1]):
            received += conn.recv(65_536)
        script.received.append(received)
        out = b"Status: 200 OK\r\n\r\ndone"
        conn.sendall(b"\1\6\0\1" + len(out).to_bytes(2) + b"\0\0" + out)
        conn.sendall(b"\1\3\0\1\0\x08\0\0" + b"\0\0\0\3\0\0\0\0")

    script.received = []
    script.role = 1
    with Scripted(script) as backend:
        script.url = backend.url("fastcgi")
        yield script


def test_an_app_status_other_than_0_is_shown(portico, say_end):
    assert portico(say_end.url) == (0, b"done", "appStatus: 3\n")


def test_an_authorizer_is_asked(portico, say_end):
    status, out, _ = portico(say_end.url + "/a", "--role", "authorizer", "-H", "X-A: b")
    assert (status, out) == (0, b"done")
    [received] = say_end.received
    assert received[8:11] == b"\0\2\0"  # role 2, the connection is not kept
    assert b"HTTP_X_Ab" in received
    assert b"PATH_INFO" not in received
    assert b"SCRIPT_NAME" not in received


def test_a_filter_gets_its_file(portico, say_end, tmp_path):
    file = tmp_path / "data"
    file.write_bytes(b"x" * 200_000)
    os.utime(file, (5, 1234567890))
    say_end.role = 3
    status, out, _ = portico(say_end.url, "--role", "filter", "--data-file", file, "-d", "in")
    assert (status, out) == (0, b"done")
    [received] = say_end.received
    assert received[8:11] == b"\0\3\0"
    assert b"FCGI_DATA_LENGTH200000" in received
    assert b"FCGI_DATA_LAST_MOD1234567890" in received
    assert received.count(b"x") >= 200_000
    assert received.index(b"\1\5\0\1\0\2\0\0in") < received.index(b"\1\x08\0\1\xff\xf8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--role", "filter"], "go together"),
        (["--data-file", "/dev/null"], "go together"),
        (["--role", "authorizer", "-d", "x"], "an authorizer gets no body"),
        (["--role", "filter", "--data-file", "/nonexistent"], "cannot read /nonexistent"),
        (["--role", "filter", "--data-file", "/dev/null"], "no plain file"),
    ],
)
def test_what_a_role_does_not_take_is_said(portico, arguments, message):
    status, _, err = portico("fastcgi://127.0.0.1:1/", *arguments)
    assert status == 2
    assert message in err


@pytest.mark.parametrize("protocol", ["scgi", "ajp", "uwsgi"])
def test_protocols_without_roles_say_so(portico, protocol):
    status, _, err = portico(f"{protocol}://127.0.0.1:1/", "--role", "authorizer")
    assert status == 2
    assert f"{protocol} has no roles" in err
