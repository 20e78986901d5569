"""FastCGI octets: what they mean however they are cut, and what breaks them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecs_harness import collect, deliveries
from portico.codecs import fastcgi
from portico.errors import ConfigError, LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    RequestReceived,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
    StderrReceived,
)
from portico.limits import Limits
from vectors import fastcgi as vectors

HEADERS = [("Content-Type", "text/plain")]


def octets(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


def record(kind: int, request_id: int, content: bytes = b"", padding: int = 0) -> bytes:
    header = bytes((1, kind)) + request_id.to_bytes(2) + len(content).to_bytes(2)
    return header + bytes((padding, 0)) + content + b"\xaa" * padding


def begin(request_id: int = 1, role: int = 1, flags: int = 1) -> bytes:
    return record(1, request_id, role.to_bytes(2) + bytes((flags, 0, 0, 0, 0, 0)))


def request(environ: dict[str, str], body: bytes = b"", request_id: int = 1) -> bytes:
    parts = [begin(request_id)]
    if environ:
        parts.append(record(4, request_id, fastcgi.encode_pairs(environ.items())))
    parts.append(record(4, request_id))
    if body:
        parts.append(record(5, request_id, body))
    return b"".join((*parts, record(5, request_id)))


def server(**limits: int) -> fastcgi.ServerCodec:
    return fastcgi.ServerCodec(Limits(**limits), max_conns=7, max_reqs=16)


class Told(NamedTuple):
    """All that a server's codec said; body joined, so that deliveries compare."""

    events: list[tuple]
    out: bytes
    error: str


def told(codec: fastcgi.ServerCodec, chunks: list[bytes], *, eof: bool = False) -> Told:
    """Feed *chunks* without ever answering a request."""
    events: list[tuple] = []
    out = b""
    error = ""
    try:
        for chunk in chunks:
            for event in codec.receive_data(chunk):
                take(event, events)
            out += codec.data_to_send()
        if codec.pending:
            for event in codec.receive_data(b""):
                take(event, events)
        if eof:
            for event in codec.receive_eof():
                take(event, events)
    except RemoteProtocolError as exc:
        error = str(exc)
    return Told(events, out + codec.data_to_send(), error)


def take(event: object, events: list[tuple]) -> None:
    if type(event) is RequestReceived:
        events.append(("request", event.request_id, tuple(event.environ.items()), event.role))
        if event.body:
            events.append(("body", event.request_id, event.body))
        if event.complete:
            events.append(("end", event.request_id))
    elif type(event) is BodyReceived:
        assert event.data
        if events and events[-1][0] == "body":
            events[-1] = ("body", event.request_id, events[-1][2] + event.data)
        else:
            events.append(("body", event.request_id, event.data))
    elif type(event) is BodyEnded:
        events.append(("end", event.request_id))
    else:
        assert type(event) is AbortReceived
        events.append(("abort", event.request_id))


# Name-value pairs


@pytest.mark.parametrize(("block", "pairs"), vectors.PAIRS)
def test_pairs_decode(block, pairs):
    block = octets(block)
    environ = {}
    fastcgi.decode_params(block, environ)
    assert fastcgi.decode_pairs(block) == pairs
    assert environ == dict(pairs)


@pytest.mark.parametrize(("block", "pairs"), vectors.PAIRS)
def test_pairs_encode_in_their_shortest_form(block, pairs):
    encoded = fastcgi.encode_pairs(pairs)
    assert fastcgi.decode_pairs(encoded) == pairs
    assert len(encoded) <= len(octets(block))


@pytest.mark.parametrize(
    ("block", "pairs"), [param for param in vectors.PAIRS if param.id not in vectors.LONG_FORMS]
)
def test_pairs_encode_to_the_same_octets(block, pairs):
    assert fastcgi.encode_pairs(pairs) == octets(block)


@pytest.mark.parametrize("block", vectors.BROKEN_PAIRS)
def test_broken_pairs_are_refused_whole(block):
    for decode in (fastcgi.decode_pairs, lambda block: fastcgi.decode_params(block, {})):
        with pytest.raises(RemoteProtocolError, match="runs past the end") as caught:
            decode(octets(block))
        assert caught.value.section == "FastCGI 1.0 §3.4"
        assert caught.value.status_hint == 400


def test_params_keep_what_the_environ_held():
    environ = {"SERVER": "kept", "A": "replaced"}
    fastcgi.decode_params(octets("01 01 41 62"), environ)
    assert environ == {"SERVER": "kept", "A": "b"}


def test_params_up_to_the_most_allowed():
    block = fastcgi.encode_pairs((f"N{n}", "") for n in range(5))
    environ = {}
    fastcgi.decode_params(block, environ, max_params=5)
    assert len(environ) == 5
    with pytest.raises(LimitExceeded, match="more than 4 parameters") as caught:
        fastcgi.decode_params(block, {}, max_params=4)
    assert (caught.value.option, caught.value.status_hint) == ("max_params", 431)


def test_repeats_count_as_parameters():
    with pytest.raises(LimitExceeded):
        fastcgi.decode_params(octets("01 01 41 62" * 5), {}, max_params=4)


def test_pairs_beyond_latin_1_are_the_callers_fault():
    with pytest.raises(LocalProtocolError, match="not latin-1"):
        fastcgi.encode_pairs([("A", "\u20ac")])


@given(st.binary(max_size=64))
def test_params_raise_nothing_else(block):
    environ = {}
    try:
        fastcgi.decode_params(block, environ)
    except RemoteProtocolError:
        return
    assert environ.keys() == {name for name, _ in fastcgi.decode_pairs(block)}


LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=300)


@given(st.lists(st.tuples(LATIN_1, LATIN_1), max_size=8))
def test_pairs_come_back(pairs):
    assert fastcgi.decode_pairs(fastcgi.encode_pairs(pairs)) == pairs


# Requests


@pytest.mark.parametrize(("records", "environ", "body", "outcome"), vectors.REQUESTS)
def test_request_decodes_however_it_is_cut(records, environ, body, outcome):
    for chunks in deliveries(octets(*records)):
        requests = collect(server(), chunks, eof=True)
        assert requests == [(environ, body.encode(), outcome)]


@pytest.mark.parametrize(("records", "environ", "body", "outcome"), vectors.REQUESTS)
def test_the_same_is_told_however_it_is_cut(records, environ, body, outcome):  # noqa: ARG001
    whole = told(server(), [octets(*records)], eof=True)
    assert not whole.error
    for chunks in deliveries(octets(*records)):
        assert told(server(), chunks, eof=True) == whole


@pytest.mark.parametrize(("broken", "why", "hint"), vectors.BROKEN)
def test_broken_octets_are_refused_however_they_are_cut(broken, why, hint):
    for chunks in deliveries(octets(broken)):
        with pytest.raises(RemoteProtocolError, match=why) as caught:
            collect(server(), chunks)
        assert caught.value.status_hint == hint
        assert caught.value.section


@pytest.mark.parametrize(("broken", "body", "outcome", "why"), vectors.BROKEN_LATER)
def test_what_came_before_the_fault_is_handed_over(broken, body, outcome, why):
    expected = [("request", 1), *([("body", 1)] if body else [])]
    if outcome == "complete":
        expected.append(("end", 1))
    for chunks in deliveries(octets(broken)):
        codec = server()
        events, _, error = told(codec, chunks)
        assert [event[:2] for event in events] == expected
        assert why in error
        assert codec.refuse(400) == b""


@pytest.mark.parametrize(("received", "sent"), vectors.REPLIES)
def test_replies_however_it_is_cut(received, sent):
    for chunks in deliveries(octets(received)):
        assert told(server(), chunks) == ([], octets(sent), "")


def test_a_reply_is_given_once():
    codec = server()
    codec.receive_data(record(99, 0))
    assert codec.data_to_send()
    assert codec.data_to_send() == b""


def test_an_ordinary_request_is_one_event():
    for body in (b"", b"hello"):
        events = server().receive_data(request({"A": "b"}, body))
        assert [(type(event), event.body, event.complete) for event in events] == [
            (RequestReceived, body, True)
        ]


def test_stdin_of_one_delivery_is_one_event():
    codec = server()
    codec.receive_data(begin() + record(4, 1))
    pieces = b"".join(record(5, 1, bytes((n,)), padding=n) for n in range(1, 200))
    (event,) = codec.receive_data(pieces)
    assert type(event) is BodyReceived
    assert event.data == bytes(range(1, 200))


def test_many_small_records_are_one_body():
    small = b"".join(record(5, 1, b"x", padding=255) for _ in range(1000))
    (event,) = server().receive_data(begin() + record(4, 1) + small + record(5, 1))
    assert (event.body, event.complete) == (b"x" * 1000, True)


def test_an_end_of_file_before_the_request_is_reported_is_no_event():
    for before in (b"", begin()[:5], begin(), begin() + record(4, 1, b"\x01\x01Ab")):
        codec = server()
        codec.receive_data(before)
        assert codec.receive_eof() == []
        assert not codec.keep_open


def test_an_end_of_file_after_the_body_is_no_event():
    codec = server()
    codec.receive_data(request({}))
    assert codec.receive_eof() == []


def test_an_end_of_file_is_told_once():
    codec = server()
    codec.receive_data(begin() + record(4, 1))
    assert [type(event) for event in codec.receive_eof()] == [AbortReceived]
    assert codec.receive_eof() == []


def test_an_abort_while_the_answer_is_made():
    codec = server()
    codec.receive_data(request({}))
    assert [type(event) for event in codec.receive_data(record(2, 1))] == [AbortReceived]
    assert codec.receive_data(record(2, 1)) == []
    assert codec.send_body(1, b"", end=True) == octets(vectors.END_STDOUT, vectors.END_REQUEST)
    assert codec.receive_data(request({"A": "b"}))[0].environ == {"A": "b"}


def test_an_abort_that_crossed_the_end_is_ignored():
    codec = server()
    codec.receive_data(request({}))
    codec.send_response(1, "200 OK", HEADERS)
    assert codec.receive_data(record(2, 1)) == []
    assert codec.data_to_send() == b""


# Connections


def test_requests_follow_one_another_on_a_kept_connection():
    stream = request({"N": "1"}, b"one") + request({"N": "2"}, request_id=3) + request({"N": "3"})
    places = [len(request({"N": "1"}, b"one")), len(stream) - len(request({"N": "3"}))]
    whole = [stream[a:b] for a, b in pairwise([0, *places, len(stream)])]
    for chunks in (whole, [stream[at : at + 1] for at in range(len(stream))]):
        codec = server()
        requests = collect(codec, chunks)
        assert [got.environ["N"] for got in requests] == ["1", "2", "3"]
        assert codec.keep_open


@pytest.mark.parametrize("flags", [0, 1, 254, 255])
@pytest.mark.parametrize("request_id", [1, 2])
def test_keep_conn_is_the_lowest_flag(flags, request_id):
    for tail in (record(5, request_id), record(5, request_id, b"x") + record(5, request_id)):
        codec = server()
        assert codec.keep_open
        codec.receive_data(begin(request_id, flags=flags) + record(4, request_id) + tail)
        assert codec.keep_open is bool(flags & 1)


def test_a_rejected_request_may_end_the_connection():
    codec = server()
    codec.receive_data(begin(role=3, flags=0))
    assert not codec.keep_open


def test_the_same_id_behind_an_unanswered_request_waits():
    codec = server()
    (first,) = codec.receive_data(request({"N": "1"}) + request({"N": "2"}, b"two"))
    assert (first.environ, codec.pending) == ({"N": "1"}, True)
    assert codec.receive_data(b"") == []
    assert codec.receive_data(request({"N": "3"})[:20]) == []
    assert codec.pending
    codec.send_response(1, "200 OK", HEADERS)
    (second,) = codec.receive_data(b"")
    assert (second.environ, second.body, codec.pending) == ({"N": "2"}, b"two", True)
    codec.send_response(1, "200 OK", HEADERS)
    assert codec.receive_data(b"") == []
    assert not codec.pending
    (third,) = codec.receive_data(request({"N": "3"})[20:])
    assert third.environ == {"N": "3"}


def test_what_waits_has_a_ceiling():
    codec = server()
    codec.receive_data(request({}) + begin())
    for _ in range(15):
        assert codec.receive_data(bytes(65536)) == []
    codec.receive_data(bytes(65536 - 16))
    with pytest.raises(RemoteProtocolError, match="too much"):
        codec.receive_data(b"\0")


def test_stdin_after_the_answer_is_discarded():
    codec = server()
    codec.receive_data(begin() + record(4, 1) + record(5, 1, b"early"))
    codec.send_response(1, "200 OK", HEADERS)
    late = record(5, 1, b"late") + record(5, 1, b"later")
    for cut in (3, 8, 10, len(late)):
        assert codec.receive_data(late[:cut]) == []
        assert codec.receive_data(late[cut:]) == []
    (event,) = codec.receive_data(record(5, 1, b"last") + record(5, 1) + request({}, b"new"))
    assert (event.body, event.complete) == (b"new", True)
    assert not codec.pending


def test_the_id_may_be_used_again_before_stdin_ended():
    codec = server()
    codec.receive_data(begin() + record(4, 1) + record(5, 1, b"early"))
    codec.send_response(1, "200 OK", HEADERS)
    (event,) = codec.receive_data(record(5, 1, b"late") + request({}, b"new"))
    assert (event.body, event.complete) == (b"new", True)


def test_a_rejected_request_is_discarded_until_it_begins_again():
    codec = server()
    codec.receive_data(begin(1) + record(4, 1))
    assert codec.receive_data(begin(2) + record(4, 2)) == []
    assert codec.data_to_send() == record(3, 2, bytes((0, 0, 0, 0, 1, 0, 0, 0)))
    codec.receive_data(record(5, 1))
    codec.send_response(1, "200 OK", HEADERS)
    assert codec.receive_data(record(4, 2, b"\xff" * 9) + record(4, 2) + record(5, 2)) == []
    (event,) = codec.receive_data(request({"N": "2"}, request_id=2))
    assert (event.request_id, event.environ) == (2, {"N": "2"})


def test_other_roles_only_where_they_are_accepted():
    codec = fastcgi.ServerCodec(Limits(), roles=(2,))
    assert codec.receive_data(request({})) == []
    assert codec.data_to_send() == record(3, 1, bytes((0, 0, 0, 0, 3, 0, 0, 0)))
    (event,) = codec.receive_data(begin(role=2) + record(4, 1))
    assert (event.role, event.complete) == (2, True)


def test_an_authorizer_waits_for_no_stdin_and_ignores_what_comes():
    codec = fastcgi.ServerCodec(Limits(), roles=(2,))
    (event,) = codec.receive_data(begin(role=2) + record(4, 1, b"") + record(5, 1, b"late"))
    assert (event.body, event.complete) == (b"", True)
    assert codec.receive_data(record(5, 1)) == []


# Limits


def test_parameters_have_a_ceiling_in_octets():
    for size in (100, 101):
        environ = {"A": "b" * (size - 3)}
        for chunks in deliveries(request(environ)):
            codec = server(max_params_bytes=100)
            if size == 100:
                assert collect(codec, chunks)[0].environ == environ
                continue
            with pytest.raises(LimitExceeded, match="100 octets") as caught:
                collect(codec, chunks)
            assert (caught.value.option, caught.value.status_hint) == ("max_params_bytes", 431)


def test_parameters_have_a_ceiling_in_number():
    environ = {f"N{n}": "" for n in range(5)}
    assert collect(server(max_params=5), [request(environ)])[0].environ == environ
    for chunks in deliveries(request(environ)):
        with pytest.raises(LimitExceeded, match="4 parameters"):
            collect(server(max_params=4), chunks)


def test_endless_small_parameter_records_reach_the_ceiling():
    codec = server(max_params_bytes=1000)
    codec.receive_data(begin())
    for _ in range(1000):
        codec.receive_data(record(4, 1, b"\x01", padding=255))
    with pytest.raises(LimitExceeded):
        codec.receive_data(record(4, 1, b"\x01", padding=255))


# Answers


def test_a_response_is_one_head_one_end():
    codec = server()
    codec.receive_data(request({}))
    assert codec.send_response(1, "200 OK", [], b"hello") == (
        record(6, 1, b"Status: 200 OK\r\n\r\nhello") + record(6, 1) + record(3, 1, bytes(8))
    )


def test_a_response_bears_its_requests_id():
    codec = server()
    codec.receive_data(request({}, request_id=0x1234))
    assert codec.send_response(0x1234, "200 OK", [], b"hello") == (
        record(6, 0x1234, b"Status: 200 OK\r\n\r\nhello")
        + record(6, 0x1234)
        + record(3, 0x1234, bytes(8))
    )


def test_a_response_in_pieces():
    codec = server()
    codec.receive_data(request({}))
    assert codec.send_response(1, "200 OK", [], end=False) == record(
        6, 1, b"Status: 200 OK\r\n\r\n"
    )
    assert codec.send_body(1, b"hello") == record(6, 1, b"hello")
    assert codec.send_body(1, b"") == b""
    assert codec.send_body_parts(1, b"") == []
    assert codec.send_body(1, b"", end=True) == record(6, 1) + record(3, 1, bytes(8))


MOST = fastcgi.MAX_CONTENT_BYTES


@pytest.mark.parametrize("size", [0, 1, MOST - 1, MOST, MOST + 1, 65535, 65536, 3 * MOST, 200_000])
def test_content_of_any_size(size):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    for send in (
        lambda codec: codec.send_response(1, "200 OK", HEADERS, body),
        lambda codec: (
            codec.send_response(1, "200 OK", HEADERS, end=False)
            + codec.send_body(1, body, end=True)
        ),
        lambda codec: (
            codec.send_response(1, "200 OK", HEADERS, end=False)
            + b"".join(codec.send_body_parts(1, body, end=True))
        ),
    ):
        codec = server()
        codec.receive_data(request({}))
        client = fastcgi.ClientCodec(Limits())
        client.send_request({})
        assert response(client, [send(codec)]) == ("200 OK", HEADERS, body, b"", True)


def test_parts_are_views_of_what_was_given():
    codec = server()
    codec.receive_data(request({}))
    body = bytes(200_000)
    parts = codec.send_body_parts(1, body, end=True)
    views = [part for part in parts if type(part) is memoryview]
    assert all(view.obj is body for view in views)
    assert sum(map(len, views)) == len(body)
    assert len(b"".join(parts)) == len(body) + 8 * len(views) + 24
    assert all(len(view) % 8 == 0 for view in views[:-1])


def test_answers_to_requests_that_are_not_open_are_a_bug():
    codec = server()
    for send in (
        lambda: codec.send_response(1, "200 OK", HEADERS),
        lambda: codec.send_body(1, b"x"),
        lambda: codec.send_body_parts(0, b"x"),
        lambda: codec.abort(1),
    ):
        with pytest.raises(LocalProtocolError, match="not open"):
            send()


def test_want_body_changes_nothing():
    codec = server()
    codec.receive_data(begin() + record(4, 1))
    codec.want_body(1, 10)
    assert codec.data_to_send() == b""


def test_refuse_answers_the_request_being_decoded():
    codec = server()
    assert codec.refuse(400) == b""
    broken = begin() + record(4, 1, b"\x01") + record(4, 1)
    with pytest.raises(RemoteProtocolError):
        codec.receive_data(broken)
    client = fastcgi.ClientCodec(Limits())
    client.send_request({})
    status, headers, body, _, reusable = response(client, [codec.refuse(400)])
    assert (status, body, reusable) == ("400 Bad Request", b"400 Bad Request\n", True)
    assert headers == [("Content-Type", "text/plain"), ("Content-Length", "16")]
    assert codec.refuse(400) == b""


def test_refuse_has_words_for_any_status():
    codec = server()
    codec.receive_data(begin())
    assert b"Status: 499 Refused\r\n" in codec.refuse(499)


def test_refuse_is_silent_once_the_request_was_reported():
    codec = server()
    codec.receive_data(begin() + record(4, 1))
    assert codec.refuse(503) == b""


def test_abort_ends_the_connection():
    codec = server()
    codec.receive_data(request({}))
    codec.send_response(1, "200 OK", HEADERS, b"begun", end=False)
    codec.abort(1)
    assert not codec.keep_open
    assert codec.data_to_send() == b""


# The client's side


def response(client: fastcgi.ClientCodec, chunks: list[bytes], *, eof: bool = False) -> tuple:
    status, headers, reusable = "", [], None
    body = stderr = b""
    for chunk in chunks:
        for event in client.receive_data(chunk):
            if type(event) is ResponseReceived:
                assert not body
                status, headers = event.status, event.headers
            elif type(event) is ResponseBodyReceived:
                assert event.data
                assert status
                body += event.data
            elif type(event) is StderrReceived:
                assert event.data
                stderr += event.data
            else:
                assert type(event) is ResponseEnded
                assert reusable is None
                reusable = event.reusable
    if eof:
        assert client.receive_eof() == []
    return status, headers, body, stderr, reusable


def asked(**limits: int) -> fastcgi.ClientCodec:
    client = fastcgi.ClientCodec(Limits(**limits))
    client.send_request({})
    return client


def test_a_request_is_encoded_as_section_6_2_says():
    client = fastcgi.ClientCodec(Limits())
    assert client.send_request({"A": "b"}) == octets(
        vectors.BEGIN_KEEP, vectors.PARAMS, vectors.END_PARAMS, vectors.END_STDIN
    )


def test_a_request_with_its_body_on_a_connection_of_its_own():
    client = fastcgi.ClientCodec(Limits(), keep_open=False)
    assert client.send_request({"CONTENT_LENGTH": "5"}, b"he", end=False) == octets(
        vectors.BEGIN, vectors.LENGTH_5, vectors.END_PARAMS, "01 05 0001 0002 00 00 68 65"
    )
    assert client.send_body(b"") == b""
    assert client.send_body(b"llo") == octets("01 05 0001 0003 00 00 6C 6C 6F")
    assert client.send_body(b"", end=True) == octets(vectors.END_STDIN)


@pytest.mark.parametrize(("records", "headers", "body", "stderr"), vectors.RESPONSES)
def test_response_decodes_however_it_is_cut(records, headers, body, stderr):
    for chunks in deliveries(octets(records)):
        expected = ("200 OK", headers, body.encode(), stderr.encode(), True)
        assert response(asked(), chunks, eof=True) == expected


@pytest.mark.parametrize(("records", "why", "hint"), vectors.BROKEN_RESPONSES)
def test_broken_responses_are_refused_however_they_are_cut(records, why, hint):
    for chunks in deliveries(octets(records)):
        with pytest.raises(RemoteProtocolError, match=why) as caught:
            response(asked(), chunks)
        assert caught.value.status_hint == hint
        assert caught.value.section


@pytest.mark.parametrize(("records", "why"), vectors.BROKEN_LATER_RESPONSES)
def test_responses_that_break_later_are_refused(records, why):
    for chunks in deliveries(octets(records)):
        with pytest.raises(RemoteProtocolError, match=why):
            response(asked(), chunks)


def test_a_fault_hints_at_an_answer_only_where_none_was_begun():
    broken = octets(vectors.HEAD, "02 06 0001 0000 00 00")
    for chunks, hint in (([broken], 502), ([broken[:26], broken[26:]], 0)):
        with pytest.raises(RemoteProtocolError) as caught:
            response(asked(), chunks)
        assert caught.value.status_hint == hint


@pytest.mark.parametrize(
    "records",
    [
        pytest.param("", id="nothing"),
        pytest.param(vectors.HEAD, id="head"),
        pytest.param(vectors.HEAD + vectors.BODY, id="body"),
        pytest.param(vectors.HEAD + vectors.END_STDOUT, id="empty-stdout"),
        pytest.param(vectors.HEAD + "01 03 0001 0008 00 00 0000", id="half-of-the-end"),
    ],
)
@pytest.mark.parametrize("keep_open", [False, True])
def test_a_response_without_its_end_is_cut(records, keep_open):
    client = fastcgi.ClientCodec(Limits(), keep_open=keep_open)
    client.send_request({})
    client.receive_data(octets(records))
    with pytest.raises(RemoteProtocolError, match="before FCGI_END_REQUEST") as caught:
        client.receive_eof()
    assert caught.value.status_hint == (0 if records else 502)


def test_a_connection_is_reusable_only_when_asked_for_and_clean():
    whole = octets(vectors.HEAD, vectors.END_STDOUT, vectors.END_REQUEST)
    alone = fastcgi.ClientCodec(Limits(), keep_open=False)
    alone.send_request({})
    unsent = fastcgi.ClientCodec(Limits())
    unsent.send_request({}, b"begun", end=False)
    for client, chunk in ((alone, whole), (unsent, whole), (asked(), whole + b"\x01")):
        assert response(client, [chunk])[-1] is False
    assert response(asked(), [whole])[-1] is True


def test_a_kept_connection_carries_the_next_request():
    client = fastcgi.ClientCodec(Limits())
    whole = octets(vectors.HEAD, vectors.BODY, vectors.END_STDOUT, vectors.END_REQUEST)
    for _ in range(3):
        client.send_request({})
        assert response(client, [whole]) == ("200 OK", [], b"hello", b"", True)


def test_an_answer_to_nothing_is_refused():
    for kind in (3, 6, 7, 99):
        with pytest.raises(RemoteProtocolError):
            fastcgi.ClientCodec(Limits()).receive_data(record(kind, 1, bytes(8)))


def test_an_end_of_file_between_requests_is_no_event():
    client = fastcgi.ClientCodec(Limits())
    assert client.receive_eof() == []
    assert not client.keep_open


def test_a_response_head_has_a_ceiling():
    # the head's own length, its blank line not counted
    for size in (100, 101):
        content = b"X: " + b"y" * (size - 5) + b"\r\n\r\nbody"
        for chunks in deliveries(record(6, 1, content) + record(3, 1, bytes(8))):
            client = asked(max_response_head_bytes=100)
            if size == 100:
                assert response(client, chunks)[2] == b"body"
                continue
            with pytest.raises(LimitExceeded) as caught:
                response(client, chunks)
            assert caught.value.option == "max_response_head_bytes"
            assert caught.value.status_hint == 502


def test_a_head_of_the_very_limit_may_come_in_any_records():
    head = b"X: " + b"y" * 95 + b"\r\n\r\n"
    for pieces in deliveries(head):
        client = asked(max_response_head_bytes=100)
        octets = b"".join(record(6, 1, piece) for piece in pieces)
        assert response(client, [octets + record(3, 1, bytes(8))])[0] == "200 OK"


def test_a_head_that_never_ends_reaches_the_ceiling():
    client = asked(max_response_head_bytes=100)
    for _ in range(100):
        client.receive_data(record(6, 1, b"x"))
    with pytest.raises(LimitExceeded):
        client.receive_data(record(6, 1, b"x"))


def test_abort_is_a_record_and_the_rest_is_dropped():
    client = fastcgi.ClientCodec(Limits())
    assert client.abort() == b""
    client.send_request({}, b"begun", end=False)
    assert client.abort() == octets(vectors.ABORT)
    rest = octets(vectors.HEAD, vectors.BODY, vectors.END_STDOUT, vectors.END_REQUEST)
    assert response(client, [rest]) == ("", [], b"", b"", True)


def test_an_aborted_request_needs_no_head():
    client = asked()
    client.abort()
    assert response(client, [octets(vectors.END_STDOUT, vectors.END_REQUEST)])[-1] is True


def test_calls_out_of_order_are_a_bug():
    client = fastcgi.ClientCodec(Limits())
    with pytest.raises(LocalProtocolError):
        client.send_body(b"x")
    client.send_request({})
    with pytest.raises(LocalProtocolError):
        client.send_body(b"x")
    with pytest.raises(LocalProtocolError):
        client.send_request({})


# Both sides, and anything at all

RECORDS = st.builds(
    record,
    st.sampled_from([0, 1, 2, 3, 4, 4, 5, 5, 8, 9, 11, 12, 255]),
    st.sampled_from([0, 1, 1, 1, 1, 2]),
    st.one_of(
        st.just(b""),
        st.just(b"\0\1\1\0\0\0\0\0"),
        st.just(b"\1\1Ab\1\1Cd"),
        st.just(b"\x0e\1CONTENT_LENGTH3"),
        st.binary(max_size=12),
    ),
    st.integers(0, 9),
)
STREAMS = st.one_of(
    st.lists(RECORDS, max_size=8).map(b"".join),
    st.lists(RECORDS, max_size=8).map(lambda rest: begin() + b"".join(rest)),
    st.lists(RECORDS, max_size=8).map(lambda rest: request({"A": "b"}, b"xy") + b"".join(rest)),
    st.tuples(st.lists(RECORDS, max_size=4).map(b"".join), st.binary(max_size=20)).map(b"".join),
    st.binary(max_size=64),
)


@given(STREAMS, st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_the_same_is_told_of_anything_however_it_is_cut(stream, places, eof):
    cuts = sorted({0, len(stream), *(at for at in places if at < len(stream))})
    chunks = [stream[a:b] for a, b in pairwise(cuts)]
    assert told(server(), chunks, eof=eof) == told(server(), [stream], eof=eof)


@given(STREAMS, STREAMS, st.sampled_from(["send", "abort", "refuse"]))
def test_a_server_survives_anything_between_its_answers(before, after, answer):
    codec = server(max_params_bytes=16, max_params=2)
    told(codec, [before])
    try:
        if answer == "send":
            codec.send_response(1, "200 OK", HEADERS)
        elif answer == "abort":
            codec.abort(1)
        else:
            codec.refuse(500)
    except LocalProtocolError:
        assert answer != "refuse"
    kinds = {event[0] for event in told(codec, [after], eof=True).events}
    assert kinds <= {"request", "body", "end", "abort"}


CLIENT_STREAMS = st.lists(
    st.one_of(
        st.builds(
            record,
            st.sampled_from([3, 3, 6, 6, 6, 7, 10, 99]),
            st.sampled_from([0, 1, 1, 1, 2]),
            st.one_of(st.just(bytes(8)), st.just(b"X: y\n\n"), st.binary(max_size=9)),
            st.integers(0, 9),
        ),
        st.binary(max_size=12),
    ),
    max_size=8,
).map(b"".join)


@given(CLIENT_STREAMS)
def test_a_client_raises_nothing_else(stream):
    for chunks in ([stream], [stream[at : at + 1] for at in range(len(stream))]):
        client = asked()
        try:
            ended = response(client, chunks, eof=True)[-1]
        except RemoteProtocolError as exc:
            assert exc.section  # noqa: PT017 - either outcome is right
        else:
            assert ended is not None


NAMES = st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=200).filter(
    lambda name: name != "CONTENT_LENGTH"
)


@given(
    st.dictionaries(NAMES, LATIN_1, max_size=6),
    st.binary(max_size=300),
    st.binary(max_size=300),
    st.integers(1, 400),
)
def test_a_request_and_its_response_come_through(environ, body, page, size):
    client, codec = fastcgi.ClientCodec(Limits()), server()
    sent = client.send_request(environ, body)
    (got,) = collect(codec, [sent[at : at + size] for at in range(0, len(sent), size)])
    assert got == (environ, body, "complete")
    codec.receive_data(sent)
    back = codec.send_response(1, "201 Created", HEADERS, page)
    chunks = [back[at : at + size] for at in range(0, len(back), size)]
    assert response(client, chunks) == ("201 Created", HEADERS, page, b"", True)


# The client's roles and questions


DATA = {"FCGI_DATA_LENGTH": "5", "FCGI_DATA_LAST_MOD": "1"}


def test_an_authorizer_is_not_told_of_the_content_and_gets_no_body():
    """Section 6.3: no CONTENT_LENGTH, PATH_INFO, PATH_TRANSLATED, SCRIPT_NAME."""
    client = fastcgi.ClientCodec(Limits(), role="authorizer")
    hidden = ("CONTENT_LENGTH", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_NAME")
    assert client.send_request({"A": "b", **dict.fromkeys(hidden, "x")}) == octets(
        "01 01 0001 0008 00 00 0002 01 0000000000",
        vectors.PARAMS,
        vectors.END_PARAMS,
        vectors.END_STDIN,
    )
    for body, end in ((b"x", True), (b"", False)):
        with pytest.raises(LocalProtocolError, match="no body"):
            fastcgi.ClientCodec(Limits(), role="authorizer").send_request({}, body, end=end)


def test_a_filters_data_follows_the_body():
    client = fastcgi.ClientCodec(Limits(), role="filter")
    begun = client.send_request({**DATA, "A": "b"}, b"in", end=False)
    assert begun.startswith(octets("01 01 0001 0008 00 00 0003 01 0000000000"))
    with pytest.raises(LocalProtocolError, match="no data is open"):
        client.send_data(b"hello", end=True)
    assert client.send_body(b"", end=True) == octets(vectors.END_STDIN)
    assert client.send_data(b"he") == octets("01 08 0001 0002 00 00 68 65")
    assert client.send_data(b"llo", end=True) == octets(
        "01 08 0001 0003 00 00 6C 6C 6F 01 08 0001 0000 00 00"
    )
    with pytest.raises(LocalProtocolError, match="no data is open"):
        client.send_data(b"", end=True)


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        pytest.param([b"hello!"], "longer", id="longer"),
        pytest.param([b"hell", b""], "shorter", id="shorter"),
    ],
)
def test_a_filters_data_is_held_to_its_length(pieces, why):
    client = fastcgi.ClientCodec(Limits(), role="filter")
    client.send_request(DATA)
    for piece in pieces[:-1]:
        client.send_data(piece)
    with pytest.raises(LocalProtocolError, match=f"{why} than FCGI_DATA_LENGTH"):
        client.send_data(pieces[-1], end=why == "shorter")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("value", ["", "-1", "x", "1" * 19, "\u0663"])
def test_a_filter_must_be_told_of_its_data(name, value):
    client = fastcgi.ClientCodec(Limits(), role="filter")
    with pytest.raises(LocalProtocolError, match=f"needs {name}"):
        client.send_request({**DATA, name: value})


def test_a_connection_whose_data_was_not_sent_whole_is_not_reusable():
    whole = octets(vectors.HEAD, vectors.END_STDOUT, vectors.END_REQUEST)
    for sent in (False, True):
        client = fastcgi.ClientCodec(Limits(), role="filter")
        client.send_request(DATA)
        if sent:
            client.send_data(b"hello", end=True)
        assert response(client, [whole])[-1] is sent


def test_there_are_three_roles():
    with pytest.raises(ConfigError, match="responder, authorizer, filter"):
        fastcgi.ClientCodec(Limits(), role="janitor")


@pytest.mark.parametrize(
    ("number", "name", "hint"),
    [
        (1, "FCGI_CANT_MPX_CONN", 502),
        (2, "FCGI_OVERLOADED", 503),
        (3, "FCGI_UNKNOWN_ROLE: it does not serve as responder", 502),
        (9, "without a name", 502),
    ],
)
def test_a_rejection_is_called_by_its_name(number, name, hint):
    with pytest.raises(RemoteProtocolError, match=f"protocolStatus {number}, .*{name}") as caught:
        asked().receive_data(record(3, 1, bytes((0, 0, 0, 0, number, 0, 0, 0))))
    assert caught.value.status_hint == hint


def test_the_app_status_is_told():
    end = bytes((0, 0, 1, 2, 0, 0, 0, 0))
    events = asked().receive_data(octets(vectors.HEAD) + record(3, 1, end))
    assert events[-1].app_status == 258
    with pytest.raises(RemoteProtocolError, match="appStatus 258"):
        asked().receive_data(record(3, 1, end))


def test_values_are_asked_for_as_section_4_1_says():
    client = fastcgi.ClientCodec(Limits())
    assert client.get_values(["FCGI_MPXS_CONNS"]) == octets(
        "01 09 0000 0011 00 00 0F 00", b"FCGI_MPXS_CONNS".hex()
    )
    with pytest.raises(LocalProtocolError, match="one FCGI_GET_VALUES at a time"):
        client.get_values([])
    answer = record(10, 0, b"\x0f\x01FCGI_MPXS_CONNS0")
    for chunks in deliveries(answer):
        client = fastcgi.ClientCodec(Limits())
        client.get_values(["FCGI_MPXS_CONNS"])
        events = [event for chunk in chunks for event in client.receive_data(chunk)]
        assert [event.values for event in events] == [{"FCGI_MPXS_CONNS": "0"}]
        assert client.receive_data(answer) == []  # nobody asked for this one


def test_values_that_a_backend_does_not_know_of():
    client = fastcgi.ClientCodec(Limits())
    client.get_values(["A"])
    assert client.receive_data(record(11, 0, b"\x63" + bytes(7))) == []  # another question's
    [event] = client.receive_data(record(11, 0, b"\x09" + bytes(7)))
    assert event.values == {}


def test_values_that_never_come():
    client = fastcgi.ClientCodec(Limits())
    client.get_values(["A"])
    with pytest.raises(RemoteProtocolError, match="before FCGI_GET_VALUES_RESULT"):
        client.receive_eof()


def test_values_that_are_malformed():
    client = fastcgi.ClientCodec(Limits())
    client.get_values(["A"])
    with pytest.raises(RemoteProtocolError, match="past the end"):
        client.receive_data(record(10, 0, b"\x0f\x01FCGI"))
