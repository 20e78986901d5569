"""Run one WSGI application against a recording sink, as a connection would."""

import io
import os

from portico.core.environ import EnvironRules
from portico.core.input import RequestBody
from portico.core.response import FileWrapper, run_request
from portico.errors import RequestAborted

PLAIN = [("Content-Type", "text/plain")]


class Sink:
    """Records what a frontend would see, in order; breaks after *survives* calls."""

    def __init__(self, survives=1_000_000):
        self.calls = []
        self.status = None
        self.headers = None
        self.body = b""
        self.ended = False
        self.aborted = False
        self.survives = survives

    def _call(self, *call):
        assert not self.ended, "something came after the end"
        assert not self.aborted, "something came after the cut"
        if len(self.calls) >= self.survives:
            raise RequestAborted("the frontend went away")
        self.calls.append(call)

    def send_response(self, status, headers, body, *, end):
        assert self.status is None, "the head was sent twice"
        self._call("head", body, end)
        self.status, self.headers = status, list(headers)
        self.body += body
        self.ended = end

    def send_body(self, data, *, end):
        assert self.status is not None
        assert data or end, "an empty block in the middle"
        self._call("body", data, end)
        self.body += data
        self.ended = end

    def send_file(self, fd, offset, count):
        assert self.status is not None
        self._call("file", offset, count)
        data = os.pread(fd, count, offset)
        self.body += data
        return len(data)

    def flush(self):
        assert self.ended or self.aborted, "application code goes on in the middle of a response"

    def abort(self):
        self._call("abort")
        self.aborted = True

    def header(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Closing:
    """An iterable that counts its closings, and whose iterator has a close of its own."""

    def __init__(self, blocks, error=None):
        self.blocks = blocks
        self.closed = 0
        self.error = error

    def __iter__(self):
        yield from self.blocks

    def close(self):
        self.closed += 1
        if self.error:
            raise self.error


def environ_for(method="GET", body=b"", **more):
    errors = io.StringIO()
    base = {
        "wsgi.version": (1, 0),
        "wsgi.errors": errors,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    params = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "www.example.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    environ = EnvironRules(base).finish({**params, **more})
    environ["wsgi.input"] = RequestBody(body)
    return environ


def run(app, method="GET", *, sink=None, debug=False):
    """Serve one request; gives the sink, what went to wsgi.errors, and the response."""
    sink = sink or Sink()
    environ = environ_for(method)
    errors = environ["wsgi.errors"]
    response = run_request(app, environ, sink, debug=debug)
    return sink, errors.getvalue(), response


def answering(result, status="200 OK", headers=None):
    """An application that starts its response at once and returns *result*."""

    def app(_environ, start_response):
        start_response(status, list(PLAIN if headers is None else headers))
        return result

    return app


def assert_failed(sink, errors, text):
    """The application's mistake was answered 500 and logged with its traceback."""
    assert sink.status == "500 Internal Server Error"
    assert sink.ended
    assert not sink.aborted
    assert b"Traceback" not in sink.body
    assert "Traceback (most recent call last)" in errors
    assert text in errors
