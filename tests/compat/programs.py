"""A program written for flup, run as a script: its package, server and application are named.

    python programs.py PACKAGE SERVER APPLICATION ARGUMENTS

It ends with status 42 where `run()` returned true, as flup's documentation has it.
"""

import json
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

PLAIN = [("Content-Type", "text/plain")]

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")


def report(environ, start_response):
    """Tell the environ, and the body."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b""
    seen = {
        name: value
        for name, value in environ.items()
        if isinstance(value, (str, bool, int, float, tuple, list)) or value is None
    }
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("X-Process", str(os.getpid()))]
    )
    return [json.dumps({"environ": seen, "body": body.decode("latin-1")}).encode()]


def texts(environ, start_response):
    """Texts where PEP 3333 wants bytes, and the other way round; flup takes both."""
    write = start_response(b"201 Made", [(b"Content-Type", b"text/plain"), ("X-Cafe", b"\xe9")])
    write("caf\xe9 ")
    return ["one ", b"two ", "three"]


def one_text(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return ["a page"]


def text_itself(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return "a page"


def generator(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield "one "
    yield b"two"


def empty(environ, start_response):
    start_response("204 No Content", [])
    return []


def several(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-A", "b")])
    return [b"one ", b"", b"two ", b"three"]


def written(environ, start_response):
    write = start_response("200 OK", [*PLAIN, ("Content-Length", "9")])
    write(b"one ")
    write(b"two")
    return [b" 3"]


def redirect(environ, start_response):
    start_response("302 Found", [("Location", "http://www.example.test/there")])
    return [b""]


def failing(environ, start_response):
    raise ValueError("a secret of the program")


def second_thoughts(environ, start_response):
    """Begins an answer, and gives another one instead."""
    start_response("200 OK", [("X-First", "yes")])
    try:
        raise ValueError("on purpose")
    except ValueError:
        start_response("500 Oh No", list(PLAIN), sys.exc_info())
    return [b"instead"]


def large(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return (b"x" * 10_000 for _ in range(100))


def echo(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    start_response("200 OK", list(PLAIN))
    return [body]


def lines(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [b"[%s]" % line for line in environ["wsgi.input"]]


def complaining(environ, start_response):
    environ["wsgi.errors"].write("a complaint\n")
    start_response("200 OK", list(PLAIN))
    return [b"said"]


class Closing:
    """Writes down that its iterable was closed."""

    def __init__(self, environ, start_response):
        start_response("200 OK", list(PLAIN))

    def __iter__(self):
        return iter([b"one"])

    def close(self):
        print("closed", file=sys.stderr, flush=True)


def waiting(environ, start_response):
    """Waits until it is let go, where the path says so."""
    if environ["PATH_INFO"].startswith("/wait"):
        Path(f"entered.{environ['PATH_INFO'].strip('/')}").write_text(str(os.getpid()))
        while not Path("go").exists():
            time.sleep(0.01)
    start_response("200 OK", [*PLAIN, ("X-Process", str(os.getpid()))])
    return [b"done"]


def sleeping(environ, start_response):
    time.sleep(3600)
    return waiting(environ, start_response)


def failing_late(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b""
    raise KeyError("late")


def failing_too_late(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "100")])
    yield b"begun"
    raise KeyError("too late")


class OwnError:
    """Answers for a failed application, as flup's documentation says that one may."""

    def error(self, req):
        text = sys.exc_info()[0].__name__.encode()
        if ".ajp" in type(self).__mro__[2].__module__:
            req.startResponse(503, b"Sorry", [(b"Content-Type", b"text/plain")])
            req.write(text)
        else:
            req.stdout.write(b"Status: 503 Sorry\r\nContent-Type: text/plain\r\n\r\n" + text)


class NotingError:
    """Notes the error, and leaves the answer to the server."""

    def error(self, req):
        print("noted", sys.exc_info()[0].__name__, file=sys.stderr)
        super().error(req)


class OwnHandler:
    def handler(self, req):
        return 0, 0


def every(environ, start_response):
    """Any of the others, by the path."""
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    name = path.removeprefix("/app.fcgi").split("/")[1]
    return globals()[name](environ, start_response)


def handlers():
    """The names of what the signals that end a server do."""
    found = [signal.getsignal(getattr(signal, name)) for name in STOPPING]
    return [getattr(one, "__name__", str(one)) for one in found]


def main(package, module, application, arguments):
    server = import_module(f"{package}.server.{module}").WSGIServer
    given = json.loads(arguments)
    if isinstance(given.get("bindAddress"), list):
        given["bindAddress"] = tuple(given["bindAddress"])
    mixin = globals().get(given.pop("mixin", ""))
    if mixin is not None:
        server = type("Own", (mixin, server), {})
    off_main = given.pop("off_main", False)
    before = handlers()
    made = server(globals()[application], **given)
    results = []
    if off_main:
        thread = threading.Thread(target=lambda: results.append(made.run()))
        thread.start()
        while not Path("go").exists():
            time.sleep(0.01)
        made._exit(reload=True)
        thread.join()
    else:
        results.append(made.run())
    same = handlers() == before
    print("returned", results[0], "same handlers" if same else handlers(), file=sys.stderr)
    return 42 if results[0] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
