"""uwsgi, both sides: vectors, broken vectors, limits, properties, defects seen elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecs_harness import ABORTED, COMPLETE, Collected, collect, deliveries
from portico.codecs import _one_shot, client_codec, server_codec, uwsgi
from portico.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
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
from vectors.uwsgi import BROKEN, REQUESTS, octets

LIMITS = Limits()
HEAD = octets("00 1300 00 0E00 'CONTENT_LENGTH' 0100 '5'")


def packet(*pairs: tuple[str, str], modifier1: int = 0) -> bytes:
    block = b"".join(
        len(text).to_bytes(2, "little") + text.encode("latin-1") for pair in pairs for text in pair
    )
    return bytes([modifier1]) + len(block).to_bytes(2, "little") + b"\0" + block


@pytest.mark.parametrize("respond", [True, False])
@pytest.mark.parametrize(("text", "environ", "body"), REQUESTS)
def test_request_decodes_however_it_is_cut(text, environ, body, respond):
    for chunks in deliveries(octets(text)):
        codec = uwsgi.ServerCodec(LIMITS)
        assert collect(codec, chunks, eof=True, respond=respond) == [
            Collected(environ, body, COMPLETE)
        ]


@pytest.mark.parametrize(("text", "environ", "body"), REQUESTS)
def test_whole_request_is_one_event(text, environ, body):
    (event,) = uwsgi.ServerCodec(LIMITS).receive_data(octets(text))
    assert type(event) is RequestReceived
    assert (event.request_id, event.role, event.complete) == (0, 1, True)
    assert (event.environ, event.body) == (environ, body)


@pytest.mark.parametrize(("text", "message", "hint"), BROKEN)
def test_broken_request_is_refused_however_it_is_cut(text, message, hint):
    for chunks in deliveries(octets(text)):
        codec = uwsgi.ServerCodec(LIMITS)
        with pytest.raises(RemoteProtocolError, match=message) as caught:
            collect(codec, chunks)
        assert caught.value.status_hint == hint
        assert caught.value.section
        if hint:
            assert codec.refuse(hint) == (
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                b"Content-Length: 16\r\n\r\n400 Bad Request\n"
            )
        else:
            assert codec.refuse(400) == b""


@pytest.mark.parametrize("modifier", [m for m in range(256) if m not in (0, 30)])
def test_other_modifiers_are_refused_at_the_first_octet(modifier):
    codec = uwsgi.ServerCodec(LIMITS)
    with pytest.raises(RemoteProtocolError, match=f"modifier1 {modifier} "):
        codec.receive_data(bytes([modifier]))
    assert codec.refuse(400) == b""


def test_limit_on_octets_is_reached_before_they_come():
    assert uwsgi.ServerCodec(Limits(max_params_bytes=19)).receive_data(HEAD) != []
    codec = uwsgi.ServerCodec(Limits(max_params_bytes=18))
    with pytest.raises(LimitExceeded) as caught:
        codec.receive_data(HEAD[:4])
    assert (caught.value.option, caught.value.status_hint) == ("max_params_bytes", 431)
    assert codec.refuse(431).startswith(b"HTTP/1.1 431 ")


def test_limit_on_number_of_variables():
    pairs = [("A", "a"), ("B", "b"), ("C", "")]
    limits = Limits(max_params=3)
    (request,) = collect(uwsgi.ServerCodec(limits), [packet(*pairs)])
    assert request.environ == dict(pairs)
    for excess in (packet(*pairs, ("D", "")), packet(*pairs, ("A", "a"))):
        with pytest.raises(LimitExceeded) as caught:
            uwsgi.ServerCodec(limits).receive_data(excess)
        assert (caught.value.option, caught.value.status_hint) == ("max_params", 431)


def test_largest_packet():
    environ = {"A": 65530 * "x"}
    data = packet(*environ.items())
    assert data[1:3] == b"\xff\xff"
    for chunks in deliveries(data, spread=20):
        assert collect(uwsgi.ServerCodec(LIMITS), chunks) == [Collected(environ, b"", COMPLETE)]


def test_body_follows_in_pieces():
    codec = uwsgi.ServerCodec(LIMITS)
    (head,) = codec.receive_data(HEAD)
    assert (head.body, head.complete) == (b"", False)
    (more,) = codec.receive_data(b"hell")
    assert (type(more), more.data) == (BodyReceived, b"hell")
    last, end = codec.receive_data(b"o, excess")
    assert (last.data, type(end)) == (b"o", BodyEnded)
    assert codec.receive_data(b"excess") == []
    assert codec.receive_eof() == []


def test_end_of_file_in_each_state():
    whole = HEAD + b"hello"
    assert uwsgi.ServerCodec(LIMITS).receive_eof() == []
    for at in range(1, len(whole)):
        codec = uwsgi.ServerCodec(LIMITS)
        codec.receive_data(whole[:at])
        if at < len(HEAD):
            with pytest.raises(RemoteProtocolError, match="end of file"):
                codec.receive_eof()
        else:
            assert [type(event) for event in codec.receive_eof()] == [AbortReceived]
            assert codec.receive_eof() == []
    assert collect(uwsgi.ServerCodec(LIMITS), [whole[:-1]], eof=True) == [
        Collected({"CONTENT_LENGTH": "5"}, b"hell", ABORTED)
    ]


def test_connection_carries_one_request():
    codec = server_codec("uwsgi", LIMITS)
    codec.receive_data(HEAD + b"hello" + HEAD)
    assert codec.protocol == "uwsgi"
    assert (codec.keep_open, codec.pending, codec.raw_body) == (False, False, True)
    assert codec.data_to_send() == b""


def test_response_is_http_and_its_body_unframed():
    codec = uwsgi.ServerCodec(LIMITS)
    codec.receive_data(HEAD + b"hello")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    headers = [("Content-Type", "text/plain")]
    assert codec.send_response(0, "200 OK", headers) == head
    assert codec.send_response(0, "200 OK", headers, b"abc", end=False) == head + b"abc"
    data = b"x" * 100_000
    assert codec.send_body(0, data) is data
    assert codec.send_body_parts(0, data, end=True)[0] is data


ARRIVALS = {
    "part of the head": HEAD[:5],
    "head": HEAD,
    "request": HEAD + b"hello",
    "rest of the body": HEAD + b"hello",
}


@pytest.mark.parametrize(("state", "arrival"), list(_one_shot.TRANSITIONS))
def test_machine_agrees_with_table(state, arrival):
    codec = uwsgi.ServerCodec(LIMITS)
    before = {_one_shot.STRANGER: 2, _one_shot.HEAD: 4, _one_shot.BODY: len(HEAD)}[state]
    codec.receive_data(HEAD[:before])
    assert codec._state == state
    if arrival == "end of file":
        codec.receive_eof()
    else:
        codec.receive_data(ARRIVALS[arrival][before:])
    assert codec._state == _one_shot.TRANSITIONS[state, arrival]


def test_decode_pairs_keeps_order_and_repeats():
    pairs = [("A", "b"), ("UWSGI_FILE", ""), ("A", "\xe9"), ("L", 300 * "x")]
    assert uwsgi.decode_pairs(packet(*pairs)[4:]) == pairs
    assert uwsgi.decode_pairs(b"") == []


# The client's side; what it has in common with SCGI's is tested there.


def test_client_sends_packet_and_body():
    client = client_codec("uwsgi", LIMITS)
    assert (client.protocol, client.keep_open, client.body_on_demand) == ("uwsgi", False, False)
    assert client.send_request({"CONTENT_LENGTH": "5"}, b"he", end=False) == HEAD + b"he"
    assert client.send_body(b"llo", end=True) == b"llo"
    assert client.abort() == b""


def test_client_announces_a_body_and_only_a_body():
    get = packet(("REQUEST_METHOD", "GET"))
    assert uwsgi.ClientCodec(LIMITS).send_request({"REQUEST_METHOD": "GET"}) == get
    post = packet(("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "2"))
    assert uwsgi.ClientCodec(LIMITS).send_request({"REQUEST_METHOD": "POST"}, b"hi") == post + b"hi"


def test_client_sends_modifier_30():
    environ = {"SCRIPT_NAME": "/a", "PATH_INFO": "/a/b"}
    data = client_codec("uwsgi", LIMITS, modifier1=30).send_request(environ)
    assert data == packet(*environ.items(), modifier1=30)
    (request,) = collect(uwsgi.ServerCodec(LIMITS), [data])
    assert request.environ == {"SCRIPT_NAME": "/a", "PATH_INFO": "/b"}


def test_client_fills_a_packet_and_no_more():
    full = {"A": 40_000 * "x", "B": 25_525 * "y"}
    data = uwsgi.ClientCodec(LIMITS).send_request(full)
    assert len(data) == 4 + 65_535
    for environ in (full | {"C": ""}, {"A": 65_536 * "x"}, {65_536 * "x": ""}):
        with pytest.raises(LocalProtocolError, match="65535"):
            uwsgi.ClientCodec(LIMITS).send_request(environ)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({}, "needs variables", id="nothing"),
        pytest.param({"": "x"}, "not empty", id="empty-name"),
        pytest.param({"A": "\u20ac"}, "latin-1", id="beyond-latin-1"),
    ],
)
def test_client_refuses_what_uwsgi_cannot_carry(environ, message):
    with pytest.raises(LocalProtocolError, match=message):
        uwsgi.ClientCodec(LIMITS).send_request(environ)


def test_client_receives_what_a_server_sends():
    sent = uwsgi.ServerCodec(LIMITS).send_response(0, "200 OK", [("Content-Length", "3")], b"abc")
    for chunks in deliveries(sent):
        client = uwsgi.ClientCodec(LIMITS)
        client.send_request({"REQUEST_METHOD": "GET"})
        head, *body, end = [e for chunk in chunks for e in client.receive_data(chunk)] + (
            client.receive_eof()
        )
        assert type(head) is ResponseReceived
        assert (head.status, head.headers) == ("200 OK", [("Content-Length", "3")])
        assert all(type(event) is ResponseBodyReceived for event in body)
        assert b"".join(event.data for event in body) == b"abc"
        assert type(end) is ResponseEnded


# Properties.


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(max_codepoint=255), min_size=1, max_size=8).filter(
            lambda name: name != "CONTENT_LENGTH" and not name.startswith("UWSGI_")
        ),
        st.text(st.characters(max_codepoint=255), max_size=300),
        min_size=1,
        max_size=6,
    ),
    st.binary(max_size=20),
    st.data(),
)
def test_what_a_client_sends_a_server_receives(environ, body, data):
    sent = uwsgi.ClientCodec(LIMITS).send_request(environ, body)
    at = data.draw(st.integers(0, len(sent)))
    (request,) = collect(uwsgi.ServerCodec(LIMITS), [sent[:at], sent[at:]], eof=True)
    length = {"CONTENT_LENGTH": str(len(body))} if body else {}
    assert request == ({**environ, **length}, body, COMPLETE)


PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([HEAD, HEAD[4:], HEAD[:4], b"\1\0A", b"\0\0", b"\1\0005", packet(("A", "b"))]),
)


def outcome(chunks):
    try:
        return collect(uwsgi.ServerCodec(LIMITS), chunks, eof=True, respond=False)
    except RemoteProtocolError as exc:
        return type(exc), exc.section, exc.status_hint


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.sampled_from([None, 0, 30]))
def test_nothing_else_is_raised_and_cuts_do_not_matter(data, modifier1):
    if modifier1 is not None:
        data = bytes([modifier1]) + len(data).to_bytes(2, "little") + b"\0" + data
    whole = outcome([data])
    assert outcome([data[at : at + 1] for at in range(len(data))]) == whole
    for at in range(1, len(data), 3):
        assert outcome([data[:at], data[at:]]) == whole


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_decode_pairs_and_the_codec_agree(block):
    try:
        pairs = uwsgi.decode_pairs(block)
    except RemoteProtocolError:
        pairs = None
    assert not pairs or packet(*pairs)[4:] == block
    if block:
        head = b"\0" + len(block).to_bytes(2, "little") + b"\0"
        result = outcome([head + block])
        refused = result == (RemoteProtocolError, "uwsgi, block vars", 400)
        assert refused or pairs is not None


# Defects found in other implementations.


@pytest.mark.parametrize("length", ["junk", "-1", "1_0", " 5", "5 "])
def test_defect_69_gunicorn_content_length_junk_is_not_zero(length):
    codec = uwsgi.ServerCodec(LIMITS)
    with pytest.raises(RemoteProtocolError) as caught:
        codec.receive_data(packet(("CONTENT_LENGTH", length)) + HEAD + b"hello")
    assert caught.value.status_hint == 400


def test_defect_69_gunicorn_octets_after_a_request_are_no_packet():
    data = packet(("CONTENT_LENGTH", "0"), ("A", "1")) + packet(("A", "2"))
    requests = collect(uwsgi.ServerCodec(LIMITS), [data, HEAD + b"hello"], respond=False)
    assert [request.environ["A"] for request in requests] == ["1"]


@pytest.mark.parametrize("name", ["REQUEST_METHOD", "REMOTE_ADDR", "REMOTE_USER", "HTTPS"])
def test_defect_69_gunicorn_last_repeat_does_not_win(name):
    with pytest.raises(RemoteProtocolError, match="two different values"):
        uwsgi.ServerCodec(LIMITS).receive_data(packet((name, "a"), (name, "b")))
