"""Target for FastCGI with several requests in flight: any records, and answers in any order."""

from __future__ import annotations

from fuzz.plan import END_OF_FILE, Plan
from fuzz.sides import RECORD_BYTES
from fuzz.watch import Watched
from portico.codecs import _fastcgi_multiplex, fastcgi
from portico.codecs._fastcgi_records import HEADER_BYTES, Values, unpack_header
from portico.errors import RemoteProtocolError
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    DataEnded,
    DataReceived,
    RequestReceived,
    RequestRefused,
)

ROLES = (1, 2, 3)
MOST = 4

#: Octets that a request in flight takes beside its parameters.
_REQUEST_BYTES = 64


class Request:
    """A request as the codec's events tell it."""

    def __init__(self, event: RequestReceived) -> None:
        self.environ = event.environ
        self.role = event.role
        self.streams = [event.body, b""]
        self.ended = ["body"] if event.complete else []

    def take(self, event) -> None:
        kind = type(event)
        assert "aborted" not in self.ended, "an event behind the abort"
        if kind is BodyReceived or kind is DataReceived:
            assert event.data, "a stream's octets without an octet"
            assert ("body" in self.ended) == (kind is DataReceived), "the streams are mixed"
            self.streams[kind is DataReceived] += event.data
            return
        name = {BodyEnded: "body", DataEnded: "data", AbortReceived: "aborted"}[kind]
        assert name not in self.ended, "ended twice"
        self.ended.append(name)

    def told(self):
        return [sorted(self.environ.items()), self.role, self.streams, self.ended]


class Connection:
    """One connection; a request is answered when its step says so."""

    def __init__(self, plan: Plan, *, answers: bool) -> None:
        self.plan = plan
        self.answers = answers
        limits = plan.limits()
        self.codec = _fastcgi_multiplex.MultiplexCodec(
            limits, roles=ROLES, values=Values(10, 5, multiplexes=True), most=MOST
        )
        most = 4 * limits.max_params_bytes + 2 * RECORD_BYTES + MOST * _REQUEST_BYTES
        self.watched = Watched(self.codec, most)
        self.open: dict[int, Request] = {}
        self.all: list[Request] = []
        self.refused = 0
        self.sent = b""

    def feed(self, data: bytes) -> None:
        while True:
            for event in self.watched.receive(data):
                self.take(event)
            if self.watched.refusal or not self.codec.pending:
                break
            data = b""
        self.sent += self.codec.data_to_send()

    def take(self, event) -> None:
        if type(event) is RequestReceived:
            assert event.request_id not in self.open, "an id taken twice"
            self.open[event.request_id] = request = Request(event)
            self.all.append(request)
            assert len(self.open) <= MOST, "more than may be in flight"
            if self.answers:
                self.answer(event.request_id)
        elif type(event) is RequestRefused:
            assert event.error.status_hint, "a refusal without an answer"
            self.refused += 1
            if self.answers:
                self.codec.refuse_request(event.request_id, event.error.status_hint)
        elif event.request_id in self.open:
            self.open[event.request_id].take(event)
        else:
            assert self.answers, "an event of no request"

    def answer(self, number: int) -> None:
        """Answer at once, in part, or not yet."""
        step = self.plan.step(number)
        if step in (0, 1, 2):
            return
        if step in (3, 4):
            self.codec.abort(number)
        elif step in (5, 6, 7):
            self.sent += self.codec.send_errors(number, b"errors")
            self.sent += self.codec.send_response(number, "200 OK", [], b"x" * 70_000)
        elif step in (8, 9):
            self.sent += self.codec.send_response(number, "200 OK", [], b"part", end=False)
            self.sent += self.codec.send_body(number, b"", end=True)
        else:
            self.sent += self.codec.send_response(number, "200 OK", [], b"")
        del self.open[number]

    def told(self):
        return [request.told() for request in self.all]


def run(plan: Plan, chunks: list[bytes], *, answers: bool = False) -> Connection:
    connection = Connection(plan, answers=answers)
    for chunk in chunks:
        if connection.watched.refusal is None:
            connection.feed(chunk)
    if plan.has(END_OF_FILE) and connection.watched.refusal is None:
        for event in connection.watched.receive_eof():
            connection.take(event)
    return connection


def check_records(octets: bytes) -> None:
    """Hold what was sent to be whole records, nothing behind the end of a request."""
    at = 0
    while at < len(octets):
        version, _, _, length, padding = unpack_header(octets, at)
        assert version == 1
        at += HEADER_BYTES + length + padding
    assert at == len(octets), "half a record"


def check_handover(plan: Plan) -> None:
    """Let the one-request codec begin, and hand over wherever the input says."""
    codec = fastcgi.ServerCodec(plan.limits(), roles=ROLES, most=MOST)
    first, *rest = plan.chunks() or [b""]
    try:
        codec.receive_data(first)
        several = codec.several()
        for chunk in (b"", *rest):
            several.receive_data(chunk)
            while several.pending:
                several.receive_data(b"")
        check_records(several.data_to_send())
        several.receive_eof()
    except RemoteProtocolError:
        return


def target(data: bytes) -> None:
    """Hold the codec of several requests to every invariant with one input."""
    plan = Plan(data)
    whole, cut = run(plan, [plan.stream]), run(plan, plan.chunks())
    assert whole.told() == cut.told()
    assert whole.refused == cut.refused
    assert repr(whole.watched.refusal) == repr(cut.watched.refusal)
    check_records(whole.sent)
    check_records(run(plan, plan.chunks(), answers=True).sent)
    check_handover(plan)
    if plan.flooding:
        run(plan, [plan.stream, *plan.flood()])
