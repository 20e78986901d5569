"""Requests through the codec and the core of one protocol, in this process and without sockets.

Run under callgrind by `bench/core.py`, which makes the octets beforehand: what is imported and
done here beside the requests is little. Between two parts it calls `getppid`, at which callgrind
writes down what it has counted and begins anew.

  python core_requests.py PLAN

The plan is marshalled, since importing json costs more than all the requests: the protocol, how
many requests come before the counting and how many are counted, and for each case its deliveries
or a CGI environment with its body.
"""

from __future__ import annotations

import gc
import marshal
import os
import sys

from portico.core.environ import EnvironRules
from portico.core.input import RequestBody
from portico.core.response import FileWrapper, Response, run_response
from portico.events import BodyEnded, BodyReceived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from portico.codecs import ServerCodec

    Headers = list[tuple[str, str]]

#: Called where callgrind is to write down what it has counted: a function of libc with next to
#: nothing in it, which nobody else here calls.
mark = os.getppid

READ_BYTES = 65_536

HELLO = b"Hello, world! This is a small page.\n"
HELLO_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(HELLO)))]

PAGE = b"<p>This is one line of a page.</p>\n" * 234  # 8 KiB
PAGE_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", str(len(PAGE))),
    ("Cache-Control", "no-store"),
    ("Vary", "Cookie"),
    ("Set-Cookie", "session=6f1ed002ab5595859014ebf0951522d9; Path=/; HttpOnly"),
    ("X-Request-Id", "b3c1f2a87d5e4c90"),
]


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:  # noqa: ARG001 - WSGI
    """Answer a small page, as the smallest application does."""
    start_response("200 OK", HELLO_HEADERS)
    return [HELLO]


def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Read what was posted and answer a page with six headers."""
    form = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    if form[-5:] != b"&end=":
        raise ValueError(form)
    start_response("200 OK", PAGE_HEADERS)
    return [PAGE]


APPLICATIONS = {"hello": hello, "page": page}


class Connection:
    """What stands for the engine's: gives a codec what the peer sent, and is the core's sink.

    It does what `engine.connection` does between codec and core, and nothing else of it: no
    system call, no deadline, no tally. Protocols that keep connections have one codec for all
    requests, the others one for each.

    Attributes:
        answer: What the codec made of the last response.
    """

    __slots__ = (
        "_application", "_codec", "_deliveries", "_later", "_make", "_request_id", "_rules",
        "answer",
    )  # fmt: skip

    def __init__(
        self, make: Callable[[], ServerCodec], rules: EnvironRules, case: dict[str, Any]
    ) -> None:
        self._make = make
        self._codec = make()
        self._rules = rules
        self._deliveries: list[bytes] = case["deliveries"]
        self._application = APPLICATIONS[case["application"]]
        self._later: list[bytes] = []
        self._request_id = 0
        self.answer = b""

    def serve(self, number: int) -> None:
        """Serve the request *number* times."""
        kept = self._codec.keep_open
        for _ in range(number):
            if not kept:
                self._codec = self._make()
            self._serve()

    def _serve(self) -> None:
        codec = self._codec
        event: Any = codec.receive_data(self._deliveries[0])[0]
        codec.data_to_send()
        self._request_id = event.request_id
        environ: dict[str, Any] = self._rules.finish(event.environ)
        if event.complete:
            environ["wsgi.input"] = RequestBody(event.body) if event.body else NO_BODY
        else:
            self._later = self._deliveries[1:]
            environ["wsgi.input"] = RequestBody(event.body, self.feed)
        environ["portico.client_gone"] = self.peer_gone
        run_response(Response(environ, self), self._application, environ)

    def feed(self) -> bytes:
        """Give the next octets of the body."""
        codec = self._codec
        while self._later:
            codec.want_body(self._request_id, READ_BYTES)
            codec.data_to_send()
            pieces = []
            for event in codec.receive_data(self._later.pop(0)):
                if type(event) is BodyReceived:
                    pieces.append(event.data)
                elif type(event) is BodyEnded:
                    self._later = []
            if pieces:
                return b"".join(pieces)
        return b""

    def send_response(self, status: str, headers: Headers, body: bytes, *, end: bool) -> None:
        """Encode a response."""
        self.answer = self._codec.send_response(self._request_id, status, headers, body, end=end)

    def send_body(self, data: bytes, *, end: bool) -> None:
        """Refuse: the applications here give all at once."""
        raise NotImplementedError

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Refuse: as above."""
        raise NotImplementedError

    def abort(self) -> None:
        """Refuse: the applications here end their responses."""
        raise NotImplementedError

    def peer_gone(self) -> bool:
        """Say that the peer is there."""
        return False


NO_BODY = RequestBody()


class Script:
    """What stands for a web server that starts CGI scripts: `portico.cgi.run`, again and again.

    All of it runs but imports. The pipes are files here, and each run's output is closed behind it.
    """

    def __init__(self, plan: dict[str, Any], case: dict[str, Any]) -> None:
        from portico import cgi  # noqa: PLC0415 - the other protocols need none of it

        self._run = cgi.run
        self._application = APPLICATIONS[case["application"]]
        os.environb.clear()
        for name, value in case["environ"].items():
            os.environb[name.encode("latin-1")] = value.encode("latin-1")
        with open(plan["body"], "wb") as file:  # noqa: PTH123 - pathlib takes long to import
            file.write(case["body"])
        body = os.open(plan["body"], os.O_RDONLY)
        os.dup2(body, 0)
        os.close(body)
        self._answers = os.open(plan["answers"], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._wire = os.dup(0)  # the number that each run's output gets
        os.close(self._wire)

    @property
    def answer(self) -> bytes:
        """What the last run wrote."""
        return os.pread(self._answers, 65_536, 0)

    def serve(self, number: int) -> None:
        """Serve the request *number* times."""
        for _ in range(number):
            os.lseek(0, 0, 0)
            os.dup2(self._answers, 1)
            os.ftruncate(1, 0)
            os.lseek(1, 0, 0)
            self._run(self._application)
            os.close(self._wire)


class Reference:
    """What stands for the Python: how much code its compiler made of a slice, an entry, a call."""

    answer = b""

    def serve(self, number: int) -> None:
        """Run the reference *number* times."""
        for _ in range(number):
            self.answer = reference()


def rules(protocol: str) -> EnvironRules:
    """Give rules with the keys that `engine.gate` has."""
    return EnvironRules(
        {
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.errors": sys.stderr,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            "portico.role": "responder",
            "portico.protocol": protocol,
            "portico.bind": f"{protocol}://127.0.0.1:4000",
            "portico.version": "0.1",
        }
    )


def requests(plan: dict[str, Any], case: dict[str, Any]) -> Connection | Script | Reference:
    """Give what serves the requests of *case*."""
    protocol = plan["protocol"]
    if protocol == "reference":
        return Reference()
    if protocol == "cgi":
        return Script(plan, case)
    from portico.codecs import server_codec_maker  # noqa: PLC0415 - CGI has none
    from portico.limits import Limits  # noqa: PLC0415 - likewise

    return Connection(server_codec_maker(protocol, Limits()), rules(protocol), case)


class Item:
    """Something that the reference makes."""

    __slots__ = ("name", "place", "value")

    def __init__(self, name: str, value: str, place: int) -> None:
        self.name = name
        self.value = value
        self.place = place


def reference() -> bytes:
    """Do some of each kind of work that a request is made of; never to be changed."""
    text = REFERENCE.decode("latin-1")
    found: dict[str, object] = {}
    at = 0
    size = len(text)
    while at < size:
        middle = at + 1 + REFERENCE[at]
        end = middle + 1 + REFERENCE[middle]
        found[text[at + 1 : middle]] = text[middle + 1 : end]
        at = end
    get = found.get
    items = []
    for place in range(12):
        value = get(f"NAME_{place}")
        if type(value) is str and value.isascii() and value[:1] != "/":
            items.append(Item("name", value, place))
    found.update(REFERENCE_BASE)
    lines = "".join([f"{item.name}: {item.value}\r\n" for item in items])
    parts = text.split("value")
    again = dict(zip(parts, parts, strict=True))
    try:
        return f"{len(again)}\r\n{lines}\r\n".encode("latin-1")
    finally:
        found.clear()


REFERENCE = b"".join(
    bytes((len(name),)) + name + bytes((len(value),)) + value
    for name, value in ((b"NAME_%d" % at, b"value %d of this" % at) for at in range(24))
)
REFERENCE_BASE = {f"base.{at}": at for at in range(12)}


def main() -> dict[str, Any]:
    """Run what the plan says, and give it."""
    with open(sys.argv[1], "rb") as file:  # noqa: PTH123 - pathlib takes long to import
        plan: dict[str, Any] = marshal.load(file)  # noqa: S302 - our own
    for case in plan["cases"]:
        served = requests(plan, case)
        served.serve(plan["before"])
        gc.collect()
        gc.freeze()
        mark()
        served.serve(plan["counted"])
        mark()
        if case["answer"] not in served.answer:
            sys.exit(f"{case['name']}: the answer is {served.answer[:200]!r}")
    return plan


if __name__ == "__main__":
    main()
