"""The same programs under flup 1.0.3 and under Portico's stand-in: what they answer, and see.

Where the two differ on purpose, `ANSWERS` and `environ_differences` say how and why; a difference
that is not listed, and a listed one that is none, fail.
"""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from engine_harness import environ_for, until
from flup_harness import FLUP, OURS, SERVERS, Flup, free_port
from portico.errors import PorticoError

pytestmark = pytest.mark.peer

PROGRAMS = (
    "texts", "one_text", "text_itself", "generator", "empty", "several", "written", "redirect",
    "failing", "second_thoughts", "large", "echo", "lines", "complaining", "Closing",
)  # fmt: skip

BODY = b"one\ntwo\n"


def with_length(answer):
    status, headers, body = answer
    return status, [*headers, ("Content-Length", str(len(body)))], body


#: Program -> what is made of flup's answer, and why ours is another.
ANSWERS = {
    "several": (with_length, "a list's length is known: the web server need not chunk it"),
    "lines": (with_length, "likewise"),
    "failing": (
        lambda _: ("500 Internal Server Error", None, None),
        "an error page of our own, in UTF-8; flup says 200 over AJP (defect 30)",
    ),
}

#: What flup does not answer at all.
SILENT = {
    ("scgi", "lines"): "wsgi.input is the socket: reading past the body waits (defect 11)",
}

#: Name -> a request as a web server sends it; None takes a parameter away.
REQUESTS = {
    "nginx with PATH_INFO": {"path": "/report/x?a=b"},
    "nginx as it is installed": {
        "SCRIPT_NAME": "/report/x", "PATH_INFO": None, "REQUEST_URI": "/report/x?z",
        "QUERY_STRING": "z",
    },
    "a script below a directory": {
        "SCRIPT_NAME": "/app.fcgi", "PATH_INFO": "/report", "REQUEST_URI": "/app.fcgi/report",
    },
    "a body": {"path": "/report", "body": BODY, "CONTENT_TYPE": "text/plain"},
    "https": {"path": "/report", "HTTPS": "on"},
    "no query": {"path": "/report", "QUERY_STRING": None},
    "an encoded path": {"path": "/report/a b", "REQUEST_URI": "/report/a%20b"},
    "latin-1": {"path": "/report", "HTTP_COOKIE": "caf\xc3\xa9", "REMOTE_USER": "\xe9"},
    "a user": {"path": "/report", "REMOTE_USER": "me", "AUTH_TYPE": "Basic", "REMOTE_HOST": "h"},
    "a proxy header": {"path": "/report", "HTTP_PROXY": "http://evil.example"},
}  # fmt: skip


def environ_differences(protocol, name):
    """What ours has where flup has something else: name -> (ours, flup's); "-" for nothing."""
    found = {
        # that the body ends by itself; flup makes no such promise
        "wsgi.input_terminated": (True, "-"),
    }
    if protocol == "ajp":
        found["GATEWAY_INTERFACE"] = ("CGI/1.1", "-")  # which CGI/1.1 wants
        if name != "a user":
            found["REMOTE_HOST"] = ("-", "")  # an empty one says nothing
    if name == "nginx as it is installed" and protocol != "ajp":
        # with flup every such page is the root
        found |= {"SCRIPT_NAME": ("", "/report/x"), "PATH_INFO": ("/report/x", "")}
    if protocol == "ajp" and name in {"nginx with PATH_INFO", "nginx as it is installed"}:
        query = REQUESTS[name].get("REQUEST_URI", "/report/x?a=b")
        found["REQUEST_URI"] = (query, "/report/x")  # with its query, as everywhere else
    if protocol == "ajp" and name == "an encoded path":
        # defect 6: flup leaves it encoded
        found["PATH_INFO"] = ("/report/a b", "/report/a%20b")
    if name == "a proxy header":
        found["HTTP_PROXY"] = ("-", "http://evil.example")  # httpoxy
    return found


class Pair:
    """The same program under both."""

    def __init__(self, server, **arguments):
        self.server = server
        self.arguments = arguments
        self.protocol = server.partition("_")[0]
        self.places = []
        self.ours, self.flup = self._start(OURS), self._start(FLUP)

    def _start(self, package):
        place = Path(tempfile.mkdtemp(prefix="flup-"))
        self.places.append(place)
        address = ["127.0.0.1", free_port()]
        return Flup(
            place, self.server, "every", package=package, bindAddress=address, **self.arguments
        )

    def close(self):
        for program in (self.ours, self.flup):
            program.__exit__()
        for place in self.places:
            shutil.rmtree(place)


@pytest.fixture(scope="module", params=SERVERS)
def pair(request):
    made = Pair(request.param)
    yield made
    made.close()


def answer_of(program, path, body):
    found = program.ask(path, body)
    assert found.whole
    headers = [(name, value) for name, value in found.headers if name != "X-Process"]
    return found.status, headers, bytes(found.body)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_answers_the_same(pair, name):
    body = BODY if name in {"echo", "lines"} else b""
    found = answer_of(pair.ours, f"/{name}", body)
    if (pair.protocol, name) in SILENT:
        assert found == ("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")],
                         b"[one\n][two\n]")  # fmt: skip
        return
    plain = answer_of(pair.flup, f"/{name}", body)
    change, _ = ANSWERS.get(name, (None, ""))
    wanted = change(plain) if change else plain
    assert change is None or wanted != plain
    for ours, theirs in zip(found, wanted, strict=True):
        assert theirs is None or ours == theirs


def test_an_iterable_is_closed(pair):
    for program in (pair.ours, pair.flup):
        before = program.stderr.count("closed")
        program.ask("/Closing")
        until(lambda: program.stderr.count("closed") > before, "the line")  # noqa: B023 - at once
        assert program.stderr.count("closed") == before + 1


@pytest.mark.parametrize("name", REQUESTS)
def test_a_program_sees_the_same(pair, name):
    given = dict(REQUESTS[name])
    if pair.protocol == "ajp" and "REMOTE_HOST" not in given:
        given["REMOTE_HOST"] = None
    path, body = given.pop("path", "/report"), given.pop("body", b"")
    params = environ_for(path, "POST" if body else "GET", **given)
    params = {name: value for name, value in params.items() if value is not None}
    if body or pair.protocol == "scgi":
        params["CONTENT_LENGTH"] = str(len(body))
    seen = []
    for program in (pair.ours, pair.flup):
        with program.connect() as frontend:
            frontend.send(frontend.codec.send_request(params, body, end=True))
            answer = frontend.finish()
        assert answer.status == "200 OK", program.stderr
        seen.append(json.loads(bytes(answer.body)))
    ours, theirs = (one["environ"] for one in seen)
    assert [one["body"] for one in seen] == [body.decode()] * 2
    differences = {
        key: (ours.get(key, "-"), theirs.get(key, "-"))
        for key in ours.keys() | theirs.keys()
        if ours.get(key, "-") != theirs.get(key, "-") and not key.startswith("portico.")
    }
    assert differences == environ_differences(pair.protocol, name)


@pytest.mark.parametrize("server", SERVERS)
def test_an_error_of_ones_own_answers_the_same(server):
    pair = Pair(server, mixin="OwnError")
    try:
        for name, error in (("failing", b"ValueError"), ("failing_late", b"KeyError")):
            found = answer_of(pair.ours, f"/{name}", b"")
            assert found == with_length(answer_of(pair.flup, f"/{name}", b""))
            assert (found[0], found[2]) == ("503 Sorry", error)
        pair.ours.wait_for("ValueError: a secret of the program")
        assert answer_of(pair.ours, "/one_text", b"")[0] == "200 OK"
        with (
            pytest.raises((PorticoError, OSError)),
            pair.ours.begin("/failing_too_late") as frontend,
        ):
            frontend.finish()
        assert frontend.answer.status == "200 OK"
    finally:
        pair.close()


@pytest.mark.parametrize("server", SERVERS)
def test_an_error_may_leave_the_answer_to_the_server(server, place):
    with Flup(place, server, "failing", mixin="NotingError") as program:
        answer = program.ask()
        program.wait_for("noted ValueError")
    assert answer.status == "500 Internal Server Error"
    assert b"a secret" not in answer.body
    assert b"could not answer this request" in answer.body


@pytest.mark.parametrize("server", SERVERS)
def test_a_handler_of_ones_own_is_refused(server, place):
    with Flup(place, server, mixin="OwnHandler", prepared=False) as program:
        assert program.ends() == 1
    assert "wrap the application, or override error()" in program.stderr
