"""Targets for the server codecs: any octets from a web server, and answers in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.plan import END_OF_FILE, Plan
from fuzz.sides import GOOD
from fuzz.watch import Watched
from portico.errors import RemoteProtocolError
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    RequestReceived,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
)
from portico.limits import Limits

if TYPE_CHECKING:
    from fuzz.sides import Side

OPEN, COMPLETE, ABORTED = "open", "complete", "aborted"

#: Octets of body asked for, by step.
_WISHES = (8186, 1, 100_000, 17)

#: What the answers are made of, by step; the last body takes more than one record or packet.
_STATUSES = ("200 OK", "404 Not Found", "503 Service Unavailable")
_HEADERS = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("X-Caf", "caf\xe9 b")]
_BODIES = (b"", b"hello", b"x" * 70_000)


class Request:
    """A request as the codec's events tell it."""

    def __init__(self, event: RequestReceived, step: int) -> None:
        self.id = event.request_id
        self.role = event.role
        self.environ = dict(event.environ)
        self.parts = [event.body]
        self.outcome = COMPLETE if event.complete else OPEN
        self.step = step
        self.sent: list[bytes] = []  # what of the answer has been encoded

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def take(self, event) -> None:
        assert self.outcome == OPEN or type(event) is AbortReceived, "an event behind the end"
        if type(event) is BodyReceived:
            assert event.data, "body without an octet"
            self.parts.append(event.data)
        elif type(event) is BodyEnded:
            self.outcome = COMPLETE
        else:
            assert type(event) is AbortReceived, f"not a server's event: {event!r}"
            assert self.outcome != ABORTED, "aborted twice"
            self.outcome = ABORTED


class Connection:
    """One connection, driven as the engine drives it."""

    def __init__(self, side: Side, plan: Plan) -> None:
        self.side = side
        self.plan = plan
        limits = plan.limits()
        self.watched = Watched(side.server(plan, limits), side.server_holds_bytes(limits))
        self.codec = self.watched.codec
        self.requests: list[Request] = []
        self.over = False
        self._open: dict[int, Request] = {}
        self._events = 0

    @property
    def refusal(self):
        return self.watched.refusal

    def feed(self, data: bytes) -> None:
        """Deliver *data*, and decode on while the codec says that it can."""
        before = None
        while not self.over:
            self._take(self.watched.receive(data))
            if self.refusal:
                self.over = True
                return
            self.react()
            self.side.check_replies(self.codec.data_to_send())
            # What is pending behind a request that is not answered waits for the answer.
            if not self.codec.pending or before == self._progress():
                return
            before = self._progress()
            data = b""

    def _progress(self) -> tuple[int, int]:
        return self._events, len(self._open)

    def feed_eof(self) -> None:
        if not self.over:
            self._take(self.watched.receive_eof())
            self.over = True

    def open(self) -> list[Request]:
        """The requests that are not answered."""
        return list(self._open.values())

    def answered(self, request: Request) -> None:
        """Note that *request* needs nothing more."""
        del self._open[request.id]
        self.over = self.over or not self.codec.keep_open

    def react(self) -> None:
        """Do what an engine does between two deliveries."""
        raise NotImplementedError

    def _take(self, events) -> None:
        self._events += len(events)
        for event in events:
            if type(event) is RequestReceived:
                assert event.request_id not in self._open, "an id taken twice"
                request = Request(event, self.plan.step(len(self.requests)))
                self.requests.append(request)
                self._open[request.id] = request
            else:
                self._open[event.request_id].take(event)

    def check_after_refusal(self) -> None:
        """What a codec that raised is asked for, in the engine's order and then out of it."""
        codec = self.codec
        self.side.check_replies(codec.data_to_send())
        refused = codec.refuse(self.refusal.status_hint or 400)
        if refused:
            status, _, body = read_response(self.side, self.plan, self.side.own(refused))
            assert status[:3] == str(self.refusal.status_hint or 400)
            assert body
        self.side.check_replies(codec.data_to_send())
        for _ in range(2):
            self.watched.receive(self.plan.stream[:100] or b"\1")
            self.watched.receive_eof()
            codec.data_to_send()


class Listening(Connection):
    """Takes requests and asks for their bodies; answers only where that changes no meaning."""

    def react(self) -> None:
        for request in self.open():
            if request.outcome == OPEN:
                self.codec.want_body(request.id, 8186)
            elif request.outcome == COMPLETE and self.side.answers_in_step:
                self.codec.send_response(request.id, "200 OK", [], b"")
                self.answered(request)


class Talking(Connection):
    """Answers each request in the way that the input's script says."""

    def react(self) -> None:
        for request in self.open():
            if request.outcome == OPEN:
                self.codec.want_body(request.id, _WISHES[request.step % 4])
            self._answer(request)
            if self.over:
                return

    def _answer(self, request: Request) -> None:
        step = request.step
        ended = request.outcome != OPEN
        if step in (0, 1, 2, 3) and not ended:
            return  # whole, once the request is
        if step == 4 or request.outcome == ABORTED:
            self._abort(request)
        elif step == 5 and not request.sent:
            self._begin(request)
            self._abort(request)
        elif step in (6, 7, 8):
            if not request.sent:
                self._begin(request)
            elif not ended:
                request.sent.append(self.codec.send_body(request.id, b"piece"))
            else:
                self._end(request, self.codec.send_body(request.id, b"", end=True))
        elif step in (9, 10):
            if not request.sent:
                self._begin(request)
            parts = self.codec.send_body_parts(request.id, _BODIES[2], end=True)
            self._end(request, b"".join(parts))
        elif step != 15:  # that one is answered when all has been fed
            self.answer_whole(request)

    def _begin(self, request: Request) -> None:
        body = _BODIES[request.step % 3]
        status = _STATUSES[request.step % 3]
        request.sent.append(self.codec.send_response(request.id, status, _HEADERS, body, end=False))

    def answer_whole(self, request: Request) -> None:
        body = _BODIES[request.step % 3]
        status = _STATUSES[request.step % 3]
        self._end(request, self.codec.send_response(request.id, status, _HEADERS, body))

    def finish(self, request: Request) -> None:
        """Answer, or end the answer, whatever of the request's body is still to come."""
        if request.sent:
            self._end(request, self.codec.send_body(request.id, b"", end=True))
        else:
            self.answer_whole(request)

    def _end(self, request: Request, octets: bytes) -> None:
        request.sent.append(octets)
        self.answered(request)
        self._check_answer(request)

    def _check_answer(self, request: Request) -> None:
        sent = self.side.own(b"".join(request.sent))
        status, headers, body = read_response(self.side, self.plan, sent)
        assert status == _STATUSES[request.step % 3]
        assert headers == _HEADERS
        pieces = body.removeprefix(_BODIES[request.step % 3])
        assert pieces.replace(b"piece", b"") == (_BODIES[2] if request.step in (9, 10) else b"")

    def _abort(self, request: Request) -> None:
        self.codec.abort(request.id)
        self.answered(request)
        self.over = True
        assert self.side.one_shot or not self.codec.keep_open
        if request.sent and not self.side.one_shot:
            sent = self.side.own(b"".join(request.sent))
            events, error = client_events(self.side, self.plan, sent)
            assert not any(type(event) is ResponseEnded for event in events)
            assert error, "a response that was cut looks complete"


def client_events(side: Side, plan: Plan, octets: bytes):
    """What the client's codec makes of an answer, and whether the end of file is an error."""
    client = side.client(plan, Limits(), keep_open=True)
    client.send_request(GOOD)
    events = client.receive_data(octets)
    try:
        return events + client.receive_eof(), False
    except RemoteProtocolError:
        return events, True


def read_response(side: Side, plan: Plan, octets: bytes):
    """Decode a whole answer with the client's codec: status, headers, body."""
    (first, *middle, last), _ = client_events(side, plan, octets)
    assert type(first) is ResponseReceived
    assert type(last) is ResponseEnded
    assert all(type(event) is ResponseBodyReceived for event in middle)
    return first.status, first.headers, b"".join(event.data for event in middle)


def listen(side: Side, plan: Plan, chunks: list[bytes]) -> Listening:
    connection = Listening(side, plan)
    for chunk in chunks:
        connection.feed(chunk)
    if plan.has(END_OF_FILE):
        connection.feed_eof()
    if connection.refusal:
        connection.check_after_refusal()
    return connection


def told(connection: Connection) -> list[object]:
    """What a connection's requests were, one thing after another."""
    found: list[object] = []
    for request in connection.requests:
        found += [request.id, request.role, *sorted(request.environ.items())]
        found.append(request.body)
        found.append(request.outcome)
    return found


def check_cuts(side: Side, plan: Plan) -> Listening:
    """Hold what is reported to be the same for two ways of delivering the same octets."""
    whole = listen(side, plan, [plan.stream])
    cut = listen(side, plan, plan.chunks())
    if whole.refusal or cut.refusal:
        assert bool(whole.refusal) == bool(cut.refusal), f"{whole.refusal} or {cut.refusal}"
        assert whole.refusal.what == cut.refusal.what, f"{whole.refusal} or {cut.refusal}"
        assert begins(whole, cut) or begins(cut, whole)
        if len(whole.requests) == len(cut.requests):
            assert whole.refusal.status_hint == cut.refusal.status_hint
    else:
        assert told(whole) == told(cut)
    return whole


def begins(less: Connection, more: Connection) -> bool:
    """Whether all that *less* tells is what *more* begins with.

    A codec that raises gives no events of the same call: a refusal may swallow what came in the
    very delivery that earned it.
    """
    if len(less.requests) > len(more.requests):
        return False
    for number, (one, other) in enumerate(zip(less.requests, more.requests, strict=False)):
        if (one.id, one.role, one.environ) != (other.id, other.role, other.environ):
            return False
        if number < len(less.requests) - 1:
            if (one.body, one.outcome) != (other.body, other.outcome):
                return False
        elif not other.body.startswith(one.body):
            return False
    return True


def check_again(side: Side, plan: Plan, heard: Connection) -> None:
    """Hold decoded requests to decode to the same once they are encoded again."""
    for request in heard.requests:
        if request.outcome != COMPLETE or request.role != 1 or not request.environ:
            continue
        client = side.client(plan, Limits(), keep_open=True)
        octets = client.send_request(request.environ, request.body)
        again = listen_once(side, plan, client, octets)
        assert again.body == request.body
        assert again.environ == side.carried(request.environ, request.body)


def listen_once(side: Side, plan: Plan, client, octets: bytes) -> Request:
    """Carry one request of the client's codec to a fresh server's, body on demand and all."""
    server = side.server(plan, Limits())
    (event,) = server.receive_data(octets)
    request = Request(event, 0)
    while request.outcome == OPEN:
        server.want_body(request.id, 8186)
        client.receive_data(server.data_to_send())
        more = server.receive_data(client.send_body(b"", end=True))
        assert more, "the body does not come"
        for event in more:
            request.take(event)
    assert request.outcome == COMPLETE
    return request


def check_talk(side: Side, plan: Plan) -> None:
    """Answer in the order the input says, and expect the connection to stay in step."""
    connection = Talking(side, plan)
    for chunk in plan.chunks():
        connection.feed(chunk)
    if plan.has(END_OF_FILE):
        connection.feed_eof()
    if connection.refusal:
        connection.check_after_refusal()
        return
    for request in connection.open():
        if not connection.over:
            connection.finish(request)
    if not connection.over and connection.codec.keep_open and connection.codec.idle:
        check_next(connection)


def check_next(connection: Connection) -> None:
    """Hold an idle connection to decode the next request as if it were the first."""
    side, plan = connection.side, connection.plan
    client = side.client(plan, Limits(), keep_open=True)
    try:
        (event,) = connection.codec.receive_data(client.send_request(GOOD))
    except RemoteProtocolError as exc:
        # The ceilings of this input may be lower than what a good request takes.
        assert getattr(exc, "option", "") in ("max_params", "max_params_bytes"), exc  # noqa: PT017 - any other is the finding
        return
    assert type(event) is RequestReceived
    assert event.complete
    assert {name: event.environ.get(name) for name in GOOD} == GOOD


def check_flood(side: Side, plan: Plan) -> None:
    """Feed more than every fixed ceiling, without an answer; `Watched` counts what is kept."""
    connection = Listening(side, plan)
    for chunk in (plan.stream, *plan.flood()):
        connection.feed(chunk)


def target(side: Side, data: bytes) -> None:
    """Hold the server's codec of *side* to every invariant with one input."""
    plan = Plan(data)
    heard = check_cuts(side, plan)
    check_again(side, plan, heard)
    check_talk(side, plan)
    if plan.flooding:
        check_flood(side, plan)
