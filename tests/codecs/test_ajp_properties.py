"""AJP/1.3: what holds for any octets, and for the two sides together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from codecs_harness import ABORTED, COMPLETE, OPEN, Collected
from portico.codecs import ajp
from portico.errors import RemoteProtocolError
from portico.events import (
    BodyEnded,
    BodyReceived,
    BodyWanted,
    RequestReceived,
    ResponseBodyReceived,
)
from portico.limits import Limits
from vectors.ajp import (
    FIELDS,
    GET,
    HELLO,
    PING,
    POST_5,
    POST_CHUNKED,
    REQUEST,
    body_packet,
    octets,
    packet,
)

LIMITS = Limits()


def server(**options) -> ajp.ServerCodec:
    return ajp.ServerCodec(LIMITS, **options)


def client(**options) -> ajp.ClientCodec:
    return ajp.ClientCodec(LIMITS, **options)


# Both sides.


def exchange(near, far, environ, pieces, answer, *, reads) -> tuple[Collected, list[object]]:
    """Carry one request with a body in *pieces* to *far*, and its answer back."""
    feed = list(pieces)
    first = feed.pop(0) if feed else b""
    data = near.send_request(environ, first, end=not feed)
    body, seen, back = b"", None, []
    outcome = OPEN
    sizes = iter(reads)
    while True:
        for event in far.receive_data(data):
            if type(event) is RequestReceived:
                seen, body = event.environ, event.body
                outcome = COMPLETE if event.complete else OPEN
            elif type(event) is BodyReceived:
                body += event.data
            else:
                assert type(event) is BodyEnded
                outcome = COMPLETE
        if outcome == COMPLETE:
            break
        far.want_body(0, next(sizes, 8186))
        data = b""
        for event in near.receive_data(far.data_to_send()):
            assert type(event) is BodyWanted
        while not data:
            piece = feed.pop(0) if feed else b""
            data = near.send_body(piece, end=not feed)
    back += near.receive_data(far.send_response(0, "200 OK", [("X", "y")], answer))
    return Collected(seen, body, outcome), back


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=20_000), max_size=4),
    answer=st.binary(max_size=40_000),
    reads=st.lists(st.integers(1, 70_000), max_size=6),
    length=st.booleans(),
    packet_size=st.sampled_from([8192, 65_536]),
)
def test_bodies_travel_both_ways(pieces, answer, reads, length, packet_size):
    near, far = client(packet_size=packet_size), server(packet_size=packet_size)
    body = b"".join(pieces)
    environ = REQUEST | ({"CONTENT_LENGTH": str(len(body))} if length else {})
    for _ in range(2):  # the connection stays in step
        request, back = exchange(near, far, environ, pieces, answer, reads=reads)
        assert (request.body, request.outcome) == (body, COMPLETE)
        assert b"".join(e.data for e in back if type(e) is ResponseBodyReceived) == answer
        assert back[-1].reusable
        assert far.keep_open


VALUE = st.text(
    st.characters(max_codepoint=255, exclude_characters="\0\r\n"), min_size=1, max_size=30
)
HEADER = st.from_regex(r"HTTP_[A-Z][A-Z0-9]{0,8}(_[A-Z0-9]{1,8}){0,3}", fullmatch=True).filter(
    lambda name: name not in ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH")
)
PATH = st.text(st.characters(max_codepoint=255), max_size=30).map(lambda text: f"/{text}")


@given(
    headers=st.dictionaries(HEADER, VALUE, max_size=8),
    path=PATH,
    method=st.sampled_from(["GET", "POST", "PATCH", "x-y"]),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    secret=st.text(max_size=10),
)
def test_any_environ_travels(headers, path, method, query, secret):
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, **headers}
    data = client(secret=secret).send_request(environ)
    (event,) = server(secret=secret).receive_data(data)
    assert {name: event.environ[name] for name in environ} == environ


# Hostile peers.

PACKETS = st.lists(
    st.one_of(
        st.sampled_from([GET, POST_5, POST_CHUNKED, HELLO, PING, packet(b""), packet(b"\0\0")]),
        st.binary(max_size=80).map(packet),
        st.binary(max_size=80).map(lambda data: packet(b"\x02\x02" + data)),
        st.binary(max_size=20).map(body_packet),
        st.binary(max_size=20).map(
            lambda data: packet(octets(f"02 02 {FIELDS} 00 01") + data + b"\xff")
        ),
        st.binary(max_size=6),
    ),
    max_size=6,
)


def observed(data: bytes, sizes: list[int]) -> tuple[list[Collected], str]:
    """What is decoded of *data*, cut at *sizes*, and how it ends."""
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    chunks.append(data[at:])
    codec = server()
    requests: list[Collected] = []
    error = ""
    for chunk in chunks:
        part = chunk
        while True:
            try:
                events = codec.receive_data(part)
            except RemoteProtocolError as exc:
                return requests, str(exc).partition(", not")[0]
            for event in events:
                if type(event) is RequestReceived:
                    outcome = COMPLETE if event.complete else OPEN
                    requests.append(Collected(event.environ, event.body, outcome))
                else:
                    last = requests.pop()
                    if type(event) is BodyReceived:
                        last = last._replace(body=last.body + event.data)
                    elif type(event) is BodyEnded:
                        last = last._replace(outcome=COMPLETE)
                    else:
                        last = last._replace(outcome=ABORTED)
                    requests.append(last)
            if requests and requests[-1].outcome == OPEN:
                codec.want_body(0, 8186)
            elif events:
                codec.send_response(0, "200 OK", [])
            if not codec.pending:
                break
            part = b""
    return requests, error


@settings(max_examples=400, deadline=None)
@given(packets=PACKETS, sizes=st.lists(st.integers(1, 60), max_size=8))
def test_server_sees_the_same_however_it_is_cut(packets, sizes):
    data = b"".join(packets)
    whole, error = observed(data, [])
    cut, cut_error = observed(data, sizes)
    assert cut_error == error
    # A request whose body breaks in the same read is lost with the error.
    assert cut[: len(whole)] == whole
    assert len(cut) - len(whole) <= bool(error)


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_forward_requests_never_raise_anything_else(payload):
    for data in (payload, b"\x02\x02" + payload, octets(f"02 02 {FIELDS}") + payload):
        try:
            environ, _ = ajp.decode_forward_request(data)
        except RemoteProtocolError:
            continue
        assert environ["PATH_INFO"][:1] in ("", "/")


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_client_never_raises_anything_else(payloads, framed):
    codec = client()
    codec.send_request(REQUEST, end=False)
    data = [b"AB" + len(p).to_bytes(2, "big") + p if framed else p for p in payloads]
    try:
        for chunk in data:
            codec.receive_data(chunk)
        codec.receive_eof()
    except RemoteProtocolError:
        assert not codec.keep_open
