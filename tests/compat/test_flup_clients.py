"""flup's clients: against servers of ours, and against flup's own."""

import inspect
import io
import json
import socket

import pytest
from flup.client import fcgi_app, scgi_app

from engine_harness import Held, Running, in_background, reading
from flup_harness import FLUP, OURS, Flup, free_port
from portico.compat.flup.client.fcgi_app import FCGIApp
from portico.compat.flup.client.scgi_app import SCGIApp
from portico.errors import ConfigError

CLIENTS = {"fcgi": FCGIApp, "scgi": SCGIApp}

each = pytest.mark.parametrize("protocol", CLIENTS)


def call(client, path="/x", body=b"", **more):
    """Call a client as a WSGI server does; gives status, headers, body and errors."""
    errors = io.StringIO()
    environ = {
        "REQUEST_METHOD": "POST" if body else "GET", "SCRIPT_NAME": "", "PATH_INFO": path,
        "QUERY_STRING": "q=1", "REQUEST_URI": f"{path}?q=1", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(body)), "HTTP_X_MINE": "yes", "AUTH_TYPE": "Basic",
        "DOCUMENT_ROOT": "/srv", "some.thing": "else", "wsgi.input": io.BytesIO(body),
        "wsgi.errors": errors, "wsgi.url_scheme": "http", **more,
    }  # fmt: skip
    started = []
    result = client(environ, lambda *given: started.append(given))
    try:
        content = b"".join(result)
    finally:
        getattr(result, "close", lambda: None)()
    ((status, headers),) = started
    return status, dict(headers), content, errors.getvalue()


@each
@pytest.mark.parametrize("package", [OURS, FLUP])
def test_a_request_to_a_server_of_either(protocol, package, place):
    with Flup(place, protocol, package=package) as program:
        if isinstance(program.address, str):
            client = CLIENTS[protocol](connect=program.address)
        else:
            host, port = program.address
            client = CLIENTS[protocol](host=host, port=port)
        status, headers, content, _ = call(client, body=b"the body")
    assert status == "200 OK"
    assert headers["Content-Type"] == "application/json"
    seen = json.loads(content)
    assert seen["body"] == "the body"
    environ = seen["environ"]
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/x", "q=1")
    assert environ["HTTP_X_MINE"] == "yes"
    assert environ["AUTH_TYPE"] == "Basic"


@each
def test_the_filter_lets_the_usual_variables_pass_alone(protocol, place):
    with Flup(place, protocol) as program:
        for filters in (True, False):
            client = CLIENTS[protocol](connect=program.address, filterEnviron=filters)
            seen = json.loads(call(client)[2])["environ"]
            assert ("DOCUMENT_ROOT" in seen) is not filters
            assert "some.thing" not in seen


@each
def test_subclasses_change_the_filter(protocol, place):
    class Other(CLIENTS[protocol]):
        _environCopies = ("QUERY_STRING", "DOCUMENT_ROOT")
        _environRenames = {"some.thing": "SOME_THING"}  # noqa: RUF012 - as flup's are written

    with Flup(place, protocol) as program:
        seen = json.loads(call(Other(connect=program.address))[2])["environ"]
    assert seen["DOCUMENT_ROOT"] == "/srv"
    assert seen["SOME_THING"] == "else"
    assert "AUTH_TYPE" not in seen


def test_the_error_stream_arrives(place):
    with Flup(place, "fcgi", "complaining", package=FLUP) as program:
        assert call(FCGIApp(connect=program.address))[2:] == (b"said", "a complaint\n")


def test_what_the_web_server_starts_complains_to_it(place):
    """It has no standard error worth the name; flup writes there as well."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "inherited"))
        listener.listen(8)
        with Flup(place, "fcgi", "complaining", inherited=listener) as program:
            assert call(FCGIApp(connect=program.address))[2:] == (b"said", "a complaint\n")
    assert "a complaint" not in program.stderr


@each
@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
def test_bodies_of_any_size(protocol, size):
    with Running(reading, {"fcgi": "fastcgi"}.get(protocol, protocol)) as server:
        (port,) = server.ports.values()
        client = CLIENTS[protocol](("127.0.0.1", port)) if protocol == "scgi" else (
            FCGIApp(None, ("127.0.0.1", port))
        )  # fmt: skip
        assert call(client, body=b"x" * size)[2] == b"%d" % size


@each
def test_the_connection_is_not_kept(protocol):
    held = Held()
    with Running(held, {"fcgi": "fastcgi"}.get(protocol, protocol), threads=1) as server:
        (port,) = server.ports.values()
        client = CLIENTS[protocol](connect=("127.0.0.1", port))
        for _ in range(3):
            assert call(client)[2] == b"/x"
        with in_background(call, client, "/held"):
            held.wait_entered(4)
            held.gate.set()
        assert server.engine.figures()["connections"] == 0


@each
def test_nobody_there_is_a_502(protocol):
    client = CLIENTS[protocol](connect=("127.0.0.1", free_port()))
    status, _, _, errors = call(client)
    assert status == "502 Bad Gateway"
    assert "portico: 502" in errors


@each
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": "127.0.0.1"},
        {"connect": ("127.0.0.1", "4000")},
        {"connect": ""},
        {"connect": 4000},
        {"port": 4000},
    ],
)
def test_nothing_to_connect_to_is_refused(protocol, arguments):
    with pytest.raises(ConfigError, match="or give host and port"):
        CLIENTS[protocol](**arguments)


def test_programs_are_not_started():
    with pytest.raises(NotImplementedError, match="with spawn-fcgi"):
        FCGIApp("/usr/bin/program")
    with pytest.raises(ConfigError, match="no command"):
        FCGIApp("/usr/bin/program", connect="/run/x")


def test_the_signatures_are_flups():
    for theirs, ours in ((fcgi_app.FCGIApp, FCGIApp), (scgi_app.SCGIApp, SCGIApp)):
        wanted, found = (
            [(one.name, one.default) for one in inspect.signature(kind).parameters.values()]
            for kind in (theirs, ours)
        )
        assert found == wanted
