"""The applications of the conformance list: plain WSGI, one callable, chosen by path.

The first segment of PATH_INFO names one of them; the bare mount point is `env`. Nothing here
knows Portico, so that any server can run the file:

    python -m portico serve tests/conformance/applications.py --bind scgi://127.0.0.1:4000

What a client cannot see of a response, an application notes in the file that the header
``X-Journal`` names; what must wait for the client waits for a line there.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from wsgiref.util import request_uri
from wsgiref.validate import validator

JSON = [("Content-Type", "application/json")]
TEXT = [("Content-Type", "text/plain")]
OCTETS = [("Content-Type", "application/octet-stream")]

#: Longest wait for the client, seconds.
PATIENCE = 15

APPLICATIONS = {}


def unchecked(app):
    """Serve *app* under its name, as it is."""
    APPLICATIONS[app.__name__] = app
    return app


def checked(app):
    """Serve *app* under its name, watched by the standard library's validator."""
    APPLICATIONS[app.__name__] = validator(app)
    return app


def application(environ, start_response):
    """Hand the request to the application that its path names."""
    name = environ.get("PATH_INFO", "").lstrip("/").partition("/")[0] or "env"
    app = APPLICATIONS.get(name)
    if app is None:
        start_response("404 Not Found", list(TEXT))
        return [f"no application {name!a}".encode()]
    return app(environ, start_response)


def pattern(size):
    """Octets that show a shift, a loss and a repeat: every value, in a period that is prime."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def number(environ, place=2):
    """The number in a segment of the path: ``/name/number/...``."""
    return int(environ["PATH_INFO"].split("/")[place])


def note(environ, text):
    """Add a line to the journal."""
    with Path(environ["HTTP_X_JOURNAL"]).open("a", encoding="ascii") as journal:
        journal.write(f"{text}\n")


def wait_for(environ, text):
    """Wait until the client has added a line to the journal."""
    deadline = time.monotonic() + PATIENCE
    journal = Path(environ["HTTP_X_JOURNAL"])
    while text not in journal.read_text("ascii").splitlines():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the client never said {text!r}")
        time.sleep(0.01)


# The environ.


def _describe(environ):
    return {
        "environ": {name: value for name, value in environ.items() if type(value) is str},
        "types": sorted(
            {type(value).__name__ for name, value in environ.items() if name.isupper()}
        ),
        "names": sorted(environ),
        "is_dict": type(environ) is dict,
        "version": list(environ["wsgi.version"]),
        "flags": {
            name: environ[f"wsgi.{name}"] for name in ("multithread", "multiprocess", "run_once")
        },
        "url": request_uri(environ),
    }


@checked
def env(environ, start_response):
    """The environ, as JSON."""
    body = json.dumps(_describe(environ)).encode("ascii")
    start_response("200 OK", list(JSON))
    return [body]


@unchecked
def method(environ, start_response):
    """The method and the body, of which the validator would have an opinion."""
    told = {"method": environ["REQUEST_METHOD"], "length": len(environ["wsgi.input"].read())}
    start_response("200 OK", [*JSON, ("X-Method", environ["REQUEST_METHOD"])])
    return [json.dumps(told).encode("ascii")]


# Input.


@checked
def echo(environ, start_response):
    """The body, block by block as it comes."""
    stream = environ["wsgi.input"]
    start_response("200 OK", list(OCTETS))
    return iter(lambda: stream.read(65_536), b"")


@checked
def digest(environ, start_response):
    """Length and digest of the body, and what reading past its end gives."""
    stream = environ["wsgi.input"]
    whole = hashlib.sha256()
    length = 0
    while block := stream.read(8192):
        whole.update(block)
        length += len(block)
    told = {
        "length": length,
        "sha256": whole.hexdigest(),
        "past": [stream.read(10), stream.read(1), stream.readline(), *stream.readlines()],
        "announced": environ.get("CONTENT_LENGTH"),
        "terminated": environ.get("wsgi.input_terminated", False),
    }
    told["past"] = [piece.decode("latin-1") for piece in told["past"]]
    start_response("200 OK", list(JSON))
    return [json.dumps(told).encode("ascii")]


@checked
def lines(environ, start_response):
    """Every way to read, one after another, until the body is used up."""
    stream = environ["wsgi.input"]
    told = {
        "read": stream.read(4),
        "readline": stream.readline(),
        "readline_3": stream.readline(3),
        "readline_rest": stream.readline(),
        "next": next(iter(stream)),
        "readlines_hint": stream.readlines(2),
        "readlines": stream.readlines(),
        "end": stream.read(1),
    }
    start_response("200 OK", list(JSON))
    return [json.dumps(told, default=lambda data: data.decode("latin-1")).encode("ascii")]


@unchecked
def read_all(environ, start_response):
    """read() without a size, twice."""
    stream = environ["wsgi.input"]
    told = {"first": len(stream.read()), "second": len(stream.read())}
    start_response("200 OK", list(JSON))
    return [json.dumps(told).encode("ascii")]


@unchecked
def ignore(_environ, start_response):
    """An answer without a look at the body."""
    start_response("200 OK", list(TEXT))
    return [b"ignored"]


@unchecked
def half(environ, start_response):
    """An answer after a part of the body."""
    data = environ["wsgi.input"].read(number(environ))
    start_response("200 OK", list(OCTETS))
    return [data]


@unchecked
def first_and_last(environ, start_response):
    """Much output before the input is read: neither side may wait for the other."""
    start_response("200 OK", list(OCTETS))
    yield pattern(number(environ))
    yield str(len(environ["wsgi.input"].read())).encode("ascii")


# Output.


@checked
def sized(environ, start_response):
    """``/sized/N``: N octets in one block, with their Content-Length."""
    size = number(environ)
    start_response("200 OK", [*OCTETS, ("Content-Length", str(size))])
    return [pattern(size)]


@unchecked
def listed(environ, start_response):
    """``/listed/N``: N octets in one block, whose length the server can tell."""
    start_response("200 OK", list(OCTETS))
    return [pattern(number(environ))]


@checked
def streamed(environ, start_response):
    """``/streamed/N``: N octets in blocks of 10000, no length told."""
    size = number(environ)
    data = pattern(size)
    start_response("200 OK", list(OCTETS))
    return (data[at : at + 10_000] for at in range(0, size, 10_000))


@unchecked
def large(environ, start_response):
    """``/large/N``: N MiB in blocks of 1 MiB, never held at once."""
    start_response("200 OK", list(OCTETS))
    block = pattern(1 << 20)
    return (block for _ in range(number(environ)))


@unchecked
def dribble(environ, start_response):
    """A second block that is made only once the client has the first."""
    start_response("200 OK", [*TEXT, ("X-Accel-Buffering", "no")])
    yield b"first\n"
    wait_for(environ, "go on")
    yield b"second\n"


@unchecked
def late_echo(environ, start_response):
    """The head, and the body back from when the client says so."""
    stream = environ["wsgi.input"]
    start_response("200 OK", [*OCTETS, ("X-Accel-Buffering", "no")])
    yield b"head first\n"
    wait_for(environ, "go on")
    yield from iter(lambda: stream.read(65_536), b"")


@unchecked
def gaps(_environ, start_response):
    """Empty blocks, before and between."""
    start_response("200 OK", list(TEXT))
    yield b""
    yield b"one "
    yield b""
    yield b"two"
    yield b""


@checked
def nothing(_environ, start_response):
    """No body at all."""
    start_response("200 OK", list(TEXT))
    return []


@checked
def written(_environ, start_response):
    """write() before the iterable."""
    write = start_response("200 OK", list(TEXT))
    write(b"written ")
    write(b"twice, ")
    return [b"then returned"]


@unchecked
def file(environ, start_response):
    """``/file/N``: a file of N octets through wsgi.file_wrapper."""
    size = number(environ)
    opened = tempfile.TemporaryFile()  # noqa: SIM115 - the wrapper closes it
    opened.write(pattern(size))
    opened.seek(0)
    start_response("200 OK", [*OCTETS, ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](opened)


@unchecked
def part(environ, start_response):
    """``/part/FROM/COUNT``: part of a file of 100000 octets, by position and length."""
    start, count = number(environ), number(environ, 3)
    opened = tempfile.TemporaryFile()  # noqa: SIM115 - the wrapper closes it
    opened.write(pattern(100_000))
    opened.seek(start)
    headers = [
        *OCTETS,
        ("Content-Length", str(count)),
        ("Content-Range", f"bytes {start}-{start + count - 1}/100000"),
    ]
    start_response("206 Partial Content", headers)
    return environ["wsgi.file_wrapper"](opened, 4096)


# Status and headers.


@unchecked
def status(environ, start_response):
    """``/status/CODE``: that code, with a short body where one may be."""
    code = number(environ)
    reason = {200: "OK", 201: "Created", 299: "Made Up", 404: "Not Found", 503: "Busy"}
    start_response(f"{code} {reason.get(code, 'Reason')}", [*TEXT, ("X-Code", str(code))])
    return [f"body of {code}".encode("ascii")]


@unchecked
def bodiless(environ, start_response):
    """``/bodiless/CODE``: 204, 205 or 304, with a body that must not be sent."""
    code = number(environ)
    start_response(f"{code} No Body", [("ETag", '"e"')])
    return [b"must not ", b"be sent"]


@checked
def cookies(_environ, start_response):
    """Two cookies, one of them with a comma."""
    headers = [
        *TEXT,
        ("Set-Cookie", "a=1; Path=/"),
        ("X-Between", "yes"),
        ("Set-Cookie", "b=2; Expires=Wed, 21 Oct 2065 07:28:00 GMT"),
    ]
    start_response("200 OK", headers)
    return [b"cookies"]


@checked
def redirect(environ, start_response):
    """A redirect to a path, with a page."""
    headers = [*TEXT, ("Location", f"{environ['SCRIPT_NAME']}/env/there?x=%20y")]
    start_response("302 Found", headers)
    return [b"over there"]


@unchecked
def latin_1(_environ, start_response):
    """A header value beyond ASCII."""
    start_response("200 OK", [*TEXT, ("X-Latin", "caf\xe9"), ("X-Utf", "caf\xc3\xa9")])
    return [b"latin"]


@checked
def many(_environ, start_response):
    """3 KiB of headers."""
    start_response("200 OK", [*TEXT, *[(f"X-Many-{at}", "v" * 90) for at in range(30)]])
    return [b"many"]


# Mistakes.


@unchecked
def fail(_environ, _start_response):
    """An exception at once."""
    raise ValueError("a secret of the application")


@unchecked
def fail_started(_environ, start_response):
    """An exception after start_response, before a body."""
    start_response("200 OK", [*TEXT, ("X-Started", "yes")])
    raise ValueError("a secret of the application")


@unchecked
def fail_late(_environ, start_response):
    """An exception in the middle of a body of unknown length."""
    start_response("200 OK", [*TEXT, ("X-Accel-Buffering", "no")])
    yield b"x" * 100_000
    raise ValueError("a secret of the application")


@unchecked
def fail_short(_environ, start_response):
    """An exception in the middle of a body of known length."""
    start_response("200 OK", [*TEXT, ("Content-Length", "200000")])
    yield b"x" * 100_000
    raise ValueError("a secret of the application")


@unchecked
def replaced(_environ, start_response):
    """A response replaced by an error page of the application's own."""
    start_response("200 OK", [*TEXT, ("X-Started", "yes")])
    try:
        raise ValueError("a secret of the application")  # noqa: TRY301 - as in PEP 3333
    except ValueError:
        start_response("503 Busy", list(TEXT), sys.exc_info())
    return [b"a page of its own"]


@unchecked
def text(_environ, start_response):
    """Text where octets are due."""
    start_response("200 OK", list(TEXT))
    return ["text"]


@unchecked
def split(_environ, start_response):
    """A header that would become two."""
    start_response("200 OK", [*TEXT, ("X-Split", "a\r\nX-Injected: yes")])
    return [b"split"]


@unchecked
def hop(_environ, start_response):
    """A header that belongs to the web server."""
    start_response("200 OK", [*TEXT, ("Transfer-Encoding", "chunked")])
    return [b"4\r\nhops\r\n0\r\n\r\n"]


@unchecked
def unstarted(_environ, _start_response):
    """A body without start_response."""
    return [b"never"]


@unchecked
def errors(environ, start_response):
    """Everything that wsgi.errors must take."""
    stream = environ["wsgi.errors"]
    stream.write("conformance: caf\xe9 \u20ac \U0001f3db \ud800\n")
    stream.writelines(["conformance: one\n", "conformance: two\n"])
    stream.flush()
    start_response("200 OK", list(TEXT))
    return [b"noted"]


# close().


class _Closing:
    """Blocks that note their closing."""

    def __init__(self, environ, blocks):
        self.environ = environ
        self.blocks = blocks

    def __iter__(self):
        return iter(self.blocks)

    def close(self):
        note(self.environ, "closed")


@unchecked
def closing(environ, start_response):
    """A response that notes its closing."""
    start_response("200 OK", list(TEXT))
    return _Closing(environ, [b"one ", b"two"])


@unchecked
def closing_failed(environ, start_response):
    """A response that fails, and notes its closing."""

    def blocks():
        raise ValueError("a secret of the application")
        yield b""

    start_response("200 OK", list(TEXT))
    return _Closing(environ, blocks())


@unchecked
def closing_endless(environ, start_response):
    """A response that only ends when its client is gone."""

    def blocks():
        while True:
            yield b"x" * 65_536

    start_response("200 OK", list(OCTETS))
    return _Closing(environ, blocks())
