"""Targets for the client codecs: any octets from a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.plan import BODY_LATER, END_OF_FILE, HEAD_METHOD, Plan
from fuzz.server_side import read_response
from fuzz.sides import GOOD
from fuzz.watch import Watched
from portico.events import (
    BodyWanted,
    PongReceived,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
    StderrReceived,
)
from portico.limits import Limits

if TYPE_CHECKING:
    from fuzz.sides import Side

_BODY = b"0123456789" * 3

#: Most requests that one connection is asked to carry.
_MOST_REQUESTS = 5


class Response:
    """A response as the codec's events tell it."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.stderr = b""
        self.wanted: list[int] = []
        self.ended = False

    def take(self, event) -> None:
        kind = type(event)
        assert not self.ended, "an event behind the end"
        if kind is ResponseReceived:
            assert not self.status, "two heads"
            self.status, self.headers = event.status, event.headers
            check_head(self.status, self.headers)
        elif kind is ResponseBodyReceived:
            assert self.status, "body before the head"
            assert event.data, "body without an octet"
            self.body += event.data
        elif kind is StderrReceived:
            self.stderr += event.data
        elif kind is BodyWanted:
            assert event.size > 0
            self.wanted.append(event.size)
        else:
            assert kind is ResponseEnded, f"not a client's event: {event!r}"
            self.ended = True

    def told(self) -> tuple[object, ...]:
        return (self.status, self.headers, self.body, self.stderr, self.wanted, self.ended)

    def begins(self, other: Response) -> bool:
        """Whether all that this one tells is what *other* tells first."""
        return (
            self.status in ("", other.status)
            and self.headers in ([], other.headers)
            and other.body.startswith(self.body)
            and other.stderr.startswith(self.stderr)
            and other.wanted[: len(self.wanted)] == self.wanted
            and self.ended <= other.ended
        )


def check_head(status: str, headers: list[tuple[str, str]]) -> None:
    """Hold a head to what may be passed on: no line breaks, no NUL, names that are none empty."""
    assert status[:3].isdecimal()
    assert status[3:4] in ("", " ")
    for text in (status, *(text for header in headers for text in header)):
        assert not {"\r", "\n", "\0"} & set(text), "a line break or NUL in a head"
    assert all(name for name, _ in headers)


class Exchange:
    """One connection to a backend.

    Args:
        side: The protocol.
        plan: The input.
        one: Whether one request is all, however the connection could go on, and its body stays
            unsent: then only the octets decide what is reported, and not their time.
    """

    def __init__(self, side: Side, plan: Plan, *, one: bool) -> None:
        limits = plan.limits()
        self.side = side
        self.plan = plan
        self.watched = Watched(
            side.client(plan, limits), side.client_holds_bytes(limits) + len(_BODY)
        )
        self.codec = self.watched.codec
        self.responses: list[Response] = []
        self.reusable = False
        self.over = False
        self._one = one
        self._request()

    @property
    def refusal(self):
        return self.watched.refusal

    def _request(self) -> None:
        environ = GOOD
        if self.plan.has(HEAD_METHOD):
            environ = environ | {"REQUEST_METHOD": "HEAD"}
        self._unsent = b""
        if self.plan.has(BODY_LATER):
            environ = environ | {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(_BODY))}
            self._unsent = _BODY
        self.codec.send_request(environ, end=not self._unsent)
        self.responses.append(Response())

    def feed(self, data: bytes) -> None:
        if self.over:
            return
        for event in self.watched.receive(data):
            self._take(event)
        if self.refusal or (self.responses[-1].ended and (self._one or not self.reusable)):
            self.over = True
        elif self.responses[-1].ended:
            self._next()

    def _take(self, event) -> None:
        if type(event) is PongReceived:
            assert not self._one, "an answer to a ping that was not sent"
            return
        self.responses[-1].take(event)
        if type(event) is ResponseEnded:
            self.reusable = event.reusable
            assert not self.reusable or self.codec.keep_open
        elif type(event) is BodyWanted and not self._one:
            piece, self._unsent = self._unsent[:9], self._unsent[9:]
            self.codec.send_body(piece, end=not self._unsent)

    def _next(self) -> None:
        """Go on with the connection; a ping first, where the script says so and there is one."""
        if len(self.responses) == _MOST_REQUESTS:
            self.over = True
        elif self.side.name == "ajp" and self.plan.step(len(self.responses)) & 1:
            self._ping()
        else:
            self._request()

    def _ping(self) -> None:
        self.codec.ping()
        assert [type(event) for event in self.watched.receive(b"AB\0\1\x09")] == [PongReceived]
        self._request()

    def feed_eof(self) -> None:
        if self.over:
            return
        for event in self.watched.receive_eof():
            self._take(event)
        self.over = True

    def check_after_refusal(self) -> None:
        """Hold a codec that raised to go on raising nothing else."""
        for _ in range(2):
            self.watched.receive(self.plan.stream[:100] or b"\1")
            self.watched.receive_eof()
            self.codec.abort()


def exchange(side: Side, plan: Plan, chunks: list[bytes]) -> Exchange:
    """Ask once, and deliver *chunks* as the answer."""
    connection = Exchange(side, plan, one=True)
    for chunk in chunks:
        connection.feed(chunk)
    if plan.has(END_OF_FILE):
        connection.feed_eof()
    if connection.refusal:
        connection.check_after_refusal()
    return connection


def check_cuts(side: Side, plan: Plan) -> Exchange:
    """Hold what is reported to be the same for two ways of delivering the same octets."""
    whole = exchange(side, plan, [plan.stream])
    cut = exchange(side, plan, plan.chunks())
    (one,), (other,) = whole.responses, cut.responses
    if other.ended and not one.ended:
        # What follows the end of an answer is refused if it comes in the same delivery, and
        # comes to nobody else once the caller has seen the end.
        assert whole.refusal
        assert one.begins(other)
    elif whole.refusal or cut.refusal:
        assert bool(whole.refusal) == bool(cut.refusal), f"{whole.refusal} or {cut.refusal}"
        assert whole.refusal.what == cut.refusal.what, f"{whole.refusal} or {cut.refusal}"
        assert one.begins(other) or other.begins(one)
        if one.told() == other.told():
            assert whole.refusal.status_hint == cut.refusal.status_hint
    else:
        assert one.told() == other.told()
    return whole


def check_again(side: Side, plan: Plan, response: Response) -> None:
    """Hold a decoded answer to decode to the same once the server's codec has encoded it."""
    if not response.ended or plan.has(HEAD_METHOD):
        return
    server = side.server(plan, Limits())
    (request,) = server.receive_data(side.client(plan, Limits()).send_request(GOOD))
    octets = server.send_response(
        request.request_id, response.status, response.headers, response.body
    )
    status, headers, body = read_response(side, plan, octets)
    assert (status.strip(), body) == (response.status.strip(), response.body)
    assert [(n.lower(), v) for n, v in headers] == [(n.lower(), v) for n, v in response.headers]


def check_next(connection: Exchange) -> None:
    """Hold a connection that is said to be reusable to read the next answer as the first."""
    if not (connection.responses[-1].ended and connection.reusable):
        return
    side, plan = connection.side, connection.plan
    server = side.server(plan, Limits())
    (request,) = server.receive_data(connection.codec.send_request(GOOD))
    octets = server.send_response(request.request_id, "200 OK", [("X", "y")], b"hello")
    first, second, last = connection.codec.receive_data(octets)
    assert (first.status, first.headers, second.data) == ("200 OK", [("X", "y")], b"hello")
    assert type(last) is ResponseEnded


def check_many(side: Side, plan: Plan) -> None:
    """Ask again wherever the connection is said to go on; give up where the script says so."""
    connection = Exchange(side, plan, one=False)
    for number, chunk in enumerate(plan.chunks()):
        connection.feed(chunk)
        if number == 3 and plan.step(0) == 15:
            connection.codec.abort()
    if plan.flooding:
        for chunk in plan.flood():
            connection.feed(chunk)
    if plan.has(END_OF_FILE):
        connection.feed_eof()
    if connection.refusal:
        connection.check_after_refusal()


def target(side: Side, data: bytes) -> None:
    """Hold the client's codec of *side* to every invariant with one input."""
    plan = Plan(data)
    whole = check_cuts(side, plan)
    check_next(whole)
    check_again(side, plan, whole.responses[0])
    check_many(side, plan)
