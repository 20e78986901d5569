"""SCGI, both sides: vectors, broken vectors, limits, properties, defects seen elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecs_harness import ABORTED, COMPLETE, OPEN, Collected, collect, deliveries
from portico.codecs import _one_shot, client_codec, scgi, server_codec
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
from vectors.scgi import BROKEN, REQUESTS, octets

LIMITS = Limits()
HEAD = octets("24:CONTENT_LENGTH<0>5<0>SCGI<0>1<0>,")


def netstring(*strings: str) -> bytes:
    block = "".join(f"{string}\0" for string in strings).encode("latin-1")
    return b"%d:%b," % (len(block), block)


@pytest.mark.parametrize("respond", [True, False])
@pytest.mark.parametrize(("text", "environ", "body"), REQUESTS)
def test_request_decodes_however_it_is_cut(text, environ, body, respond):
    for chunks in deliveries(octets(text)):
        codec = scgi.ServerCodec(LIMITS)
        assert collect(codec, chunks, eof=True, respond=respond) == [
            Collected(environ, body, COMPLETE)
        ]


@pytest.mark.parametrize(("text", "environ", "body"), REQUESTS)
def test_whole_request_is_one_event(text, environ, body):
    (event,) = scgi.ServerCodec(LIMITS).receive_data(octets(text))
    assert type(event) is RequestReceived
    assert (event.request_id, event.role, event.complete) == (0, 1, True)
    assert (event.environ, event.body) == (environ, body)


@pytest.mark.parametrize(("text", "message", "hint"), BROKEN)
def test_broken_request_is_refused_however_it_is_cut(text, message, hint):
    for chunks in deliveries(octets(text)):
        codec = scgi.ServerCodec(LIMITS)
        with pytest.raises(RemoteProtocolError, match=message) as caught:
            collect(codec, chunks)
        assert caught.value.status_hint == hint
        assert caught.value.section


@pytest.mark.parametrize(("text", "message", "hint"), BROKEN)
def test_only_a_peer_that_speaks_scgi_is_answered(text, message, hint):
    codec = scgi.ServerCodec(LIMITS)
    with pytest.raises(RemoteProtocolError, match=message):
        codec.receive_data(octets(text))
    if hint:
        assert codec.refuse(hint) == (
            b"Content-Type: text/plain\r\nContent-Length: 16\r\n"
            b"Status: 400 Bad Request\r\n\r\n400 Bad Request\n"
        )
    elif text[0] not in "123456789":
        assert codec.refuse(hint) == b""


def test_refusals_that_a_server_makes():
    codec = scgi.ServerCodec(LIMITS)
    assert codec.refuse(408) == b""  # not an octet has come
    codec.receive_data(HEAD[:10])
    assert b"Status: 408 Request Timeout\r\n" in codec.refuse(408)
    assert codec.refuse(418).endswith(b"\r\n\r\n418 Refused\n")


def test_limit_on_octets_is_reached_before_they_come():
    limits = Limits(max_params_bytes=24)
    assert scgi.ServerCodec(limits).receive_data(HEAD) != []
    codec = scgi.ServerCodec(limits)
    with pytest.raises(LimitExceeded) as caught:
        codec.receive_data(b"25:")
    assert (caught.value.option, caught.value.status_hint) == ("max_params_bytes", 431)
    assert b"Status: 431 " in codec.refuse(431)


def test_limit_on_number_of_headers():
    limits = Limits(max_params=3)
    data = netstring("CONTENT_LENGTH", "0", "SCGI", "1", "A", "")
    assert collect(scgi.ServerCodec(limits), [data])[0].outcome == COMPLETE
    for names in (("B",), ("B", "C", "D")):
        extra = [string for name in names for string in (name, "x")]
        data = netstring("CONTENT_LENGTH", "0", "SCGI", "1", "A", "", *extra)
        with pytest.raises(LimitExceeded) as caught:
            scgi.ServerCodec(limits).receive_data(data)
        assert (caught.value.option, caught.value.status_hint) == ("max_params", 431)


def test_body_follows_in_pieces():
    codec = scgi.ServerCodec(LIMITS)
    (head,) = codec.receive_data(HEAD + b"he")
    assert (head.body, head.complete) == (b"he", False)
    assert codec.receive_data(b"") == []
    (more,) = codec.receive_data(b"ll")
    assert (type(more), more.data) == (BodyReceived, b"ll")
    last, end = codec.receive_data(b"o, excess")
    assert (last.data, type(end)) == (b"o", BodyEnded)
    assert codec.receive_data(b"excess") == []
    assert codec.receive_eof() == []


def test_end_of_file_in_each_state():
    whole = HEAD + b"hello"
    assert scgi.ServerCodec(LIMITS).receive_eof() == []
    for at in range(1, len(whole)):
        codec = scgi.ServerCodec(LIMITS)
        codec.receive_data(whole[:at])
        if at < len(HEAD):
            with pytest.raises(RemoteProtocolError, match="end of file"):
                codec.receive_eof()
        else:
            assert [type(event) for event in codec.receive_eof()] == [AbortReceived]
            assert codec.receive_eof() == []
    assert collect(scgi.ServerCodec(LIMITS), [whole], eof=True)[0].outcome == COMPLETE
    assert collect(scgi.ServerCodec(LIMITS), [whole[:-1]], eof=True) == [
        Collected({"CONTENT_LENGTH": "5", "SCGI": "1"}, b"hell", ABORTED)
    ]


def test_connection_carries_one_request():
    codec = server_codec("scgi", LIMITS)
    codec.receive_data(HEAD + b"hello" + HEAD)
    assert codec.protocol == "scgi"
    assert (codec.keep_open, codec.pending, codec.raw_body) == (False, False, True)
    codec.want_body(0, 4096)
    codec.abort(0)
    assert codec.data_to_send() == b""


def test_response_is_cgi_and_its_body_unframed():
    codec = scgi.ServerCodec(LIMITS)
    codec.receive_data(HEAD + b"hello")
    headers = [("Content-Type", "text/plain")]
    head = b"Content-Type: text/plain\r\nStatus: 200 OK\r\n\r\n"
    assert codec.send_response(0, "200 OK", headers) == head
    assert codec.send_response(0, "200 OK", headers, b"abc", end=False) == head + b"abc"
    data = b"x" * 100_000
    assert codec.send_body(0, data) is data
    assert codec.send_body(0, b"", end=True) == b""
    assert codec.send_body_parts(0, data, end=True)[0] is data


ARRIVALS = {
    "part of the head": [HEAD[:5]],
    "head": [HEAD],
    "request": [HEAD + b"hello"],
    "rest of the body": [b"hello"],
}


@pytest.mark.parametrize(("state", "arrival"), list(_one_shot.TRANSITIONS))
def test_machine_agrees_with_table(state, arrival):
    codec = scgi.ServerCodec(LIMITS)
    prelude = {_one_shot.STRANGER: 0, _one_shot.HEAD: 5, _one_shot.BODY: len(HEAD)}[state]
    codec.receive_data(HEAD[:prelude])
    assert codec._state == state
    if arrival == "end of file":
        codec.receive_eof()
    else:
        codec.receive_data((ARRIVALS[arrival][0])[prelude if state == _one_shot.HEAD else 0 :])
    assert codec._state == _one_shot.TRANSITIONS[state, arrival]


def test_decode_pairs_keeps_order_and_repeats():
    assert scgi.decode_pairs(b"A\0b\0C\0\0A\0\xe9\0") == [("A", "b"), ("C", ""), ("A", "\xe9")]


@pytest.mark.parametrize("block", [b"", b"A\0b", b"A\0", b"A\0b\0C\0", b"\0x\0"])
def test_decode_pairs_refuses(block):
    with pytest.raises(RemoteProtocolError):
        scgi.decode_pairs(block)


# The client's side.


def test_client_puts_content_length_first_then_scgi():
    client = client_codec("scgi", LIMITS)
    assert (client.protocol, client.keep_open, client.body_on_demand) == ("scgi", False, False)
    environ = {"REQUEST_METHOD": "PUT", "SCGI": "1", "REQUEST_URI": "/a", "CONTENT_LENGTH": "5"}
    assert client.send_request(environ, b"hello") == octets(REQUESTS[0].values[0])
    assert client.abort() == b""


def test_client_computes_the_length_of_a_whole_body():
    assert scgi.ClientCodec(LIMITS).send_request({}, b"hello") == HEAD + b"hello"
    assert scgi.ClientCodec(LIMITS).send_request({"CONTENT_LENGTH": ""}) == HEAD.replace(b"5", b"0")


def test_client_sends_body_in_pieces():
    client = scgi.ClientCodec(LIMITS)
    assert client.send_request({"CONTENT_LENGTH": "5"}, b"he", end=False) == HEAD + b"he"
    assert client.send_body(b"ll") == b"ll"
    assert client.send_body(b"o", end=True) == b"o"


@pytest.mark.parametrize(
    ("environ", "body", "end", "message"),
    [
        pytest.param({}, b"", False, "needs a CONTENT_LENGTH", id="length-unknown"),
        pytest.param({"CONTENT_LENGTH": "+5"}, b"hello", True, "not a length", id="no-length"),
        pytest.param({"CONTENT_LENGTH": "6"}, b"hello", True, "shorter", id="body-short"),
        pytest.param({"CONTENT_LENGTH": "4"}, b"hello", False, "longer", id="body-long"),
        pytest.param({"A": "x\0y"}, b"", True, "NUL", id="nul-in-value"),
        pytest.param({"A\0": "x"}, b"", True, "NUL", id="nul-in-name"),
        pytest.param({"": "x"}, b"", True, "empty", id="empty-name"),
        pytest.param({"A": "\u20ac"}, b"", True, "latin-1", id="beyond-latin-1"),
    ],
)
def test_client_refuses_what_scgi_cannot_carry(environ, body, end, message):
    with pytest.raises(LocalProtocolError, match=message):
        scgi.ClientCodec(LIMITS).send_request(environ, body, end=end)


def test_client_keeps_to_one_request_and_its_length():
    client = scgi.ClientCodec(LIMITS)
    with pytest.raises(LocalProtocolError, match="without a request"):
        client.send_body(b"x")
    client.send_request({"CONTENT_LENGTH": "2"}, end=False)
    with pytest.raises(LocalProtocolError, match="one request"):
        client.send_request({})
    with pytest.raises(LocalProtocolError, match="shorter"):
        client.send_body(b"x", end=True)
    with pytest.raises(LocalProtocolError, match="longer"):
        client.send_body(b"xyz")


def receive(chunks, method="GET"):
    client = scgi.ClientCodec(LIMITS)
    client.send_request({"REQUEST_METHOD": method})
    events = [event for chunk in chunks for event in client.receive_data(chunk)]
    events += client.receive_eof()
    assert client.receive_data(b"late") == client.receive_eof() == []
    assert type(events[0]) is ResponseReceived
    assert type(events[-1]) is ResponseEnded
    assert not events[-1].reusable
    assert all(type(event) is ResponseBodyReceived and event.data for event in events[1:-1])
    return events[0].status, events[0].headers, b"".join(event.data for event in events[1:-1])


RESPONSES = [
    pytest.param(
        b"Content-Type: text/plain\r\nStatus: 404 Gone Fishing\r\n\r\nno\r\n\r\nno",
        "GET",
        ("404 Gone Fishing", [("Content-Type", "text/plain")], b"no\r\n\r\nno"),
        id="body-to-the-close",
    ),
    pytest.param(
        b"Content-Length: 3\n\nabc", "GET", ("200 OK", [("Content-Length", "3")], b"abc"), id="lf"
    ),
    pytest.param(
        b"Content-Length: 3\r\n\r\nabcdef",
        "GET",
        ("200 OK", [("Content-Length", "3")], b"abc"),
        id="excess-dropped",
    ),
    pytest.param(
        b"HTTP/1.1 202 Accepted\r\nA: b\r\n\r\nx", "GET", ("202 Accepted", [("A", "b")], b"x"),
        id="http-status-line",
    ),
    pytest.param(
        b"Content-Length: 3\r\n\r\nabc",
        "HEAD",
        ("200 OK", [("Content-Length", "3")], b""),
        id="head",
    ),
    pytest.param(
        b"Status: 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
        "GET",
        ("304 Not Modified", [("Content-Length", "3")], b""),
        id="304",
    ),
    pytest.param(b"Status: 204\r\n\r\nx", "GET", ("204", [], b""), id="204"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "method", "expected"), RESPONSES)
def test_client_decodes_response_however_it_is_cut(data, method, expected):
    for chunks in deliveries(data):
        assert receive(chunks, method) == expected
    assert receive([b"", data, b""], method) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "without a response", id="empty"),
        pytest.param(b"Status: 200 OK\r\n", "within the response's head", id="head-cut"),
        pytest.param(b"Content-Length: 3\r\n\r\nab", "1 octets before", id="body-cut"),
        pytest.param(b"no header\r\n\r\n", "not a header line", id="no-colon"),
        pytest.param(b"Content-Length: +3\r\n\r\nabc", "not a length", id="signed-length"),
        pytest.param(b"Content-Length: 3, 3\r\n\r\nabc", "not a length", id="list-of-lengths"),
        pytest.param(
            b"Content-Length: 3\nContent-Length: 4\n\nabc", "not a length", id="two-lengths"
        ),
        pytest.param(b"Status: 100 Continue\r\n\r\n", "not a final", id="interim"),
    ],
)
def test_client_refuses_broken_response_however_it_is_cut(data, message):
    for chunks in deliveries(data) if data else [[]]:
        with pytest.raises(RemoteProtocolError, match=message):
            receive(chunks)


def test_client_bounds_the_head():
    limits = Limits(max_response_head_bytes=100)
    for data in (b"X: " + 98 * b"x", b"X: " + 100 * b"x" + b"\r\n\r\n"):
        client = scgi.ClientCodec(limits)
        client.send_request({})
        with pytest.raises(LimitExceeded) as caught:
            client.receive_data(data)
        assert (caught.value.option, caught.value.status_hint) == ("max_response_head_bytes", 502)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_client_takes_a_head_of_the_very_limit_however_it_is_cut(line_end):
    block = b"X: ".ljust(100 - len(line_end), b"y") + line_end
    for chunks in deliveries(block + line_end + b"hello"):
        client = scgi.ClientCodec(Limits(max_response_head_bytes=100))
        client.send_request({})
        events = [event for chunk in chunks for event in client.receive_data(chunk)]
        assert events[0].status == "200 OK"
        assert b"".join(event.data for event in events[1:]) == b"hello"


# Properties.


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=1, max_codepoint=255), min_size=1, max_size=8).filter(
            lambda name: name not in {"CONTENT_LENGTH", "SCGI"}
        ),
        st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=8),
        max_size=6,
    ),
    st.binary(max_size=20),
    st.data(),
)
def test_what_a_client_sends_a_server_receives(environ, body, data):
    sent = scgi.ClientCodec(LIMITS).send_request(environ, body)
    at = data.draw(st.integers(0, len(sent)))
    (request,) = collect(scgi.ServerCodec(LIMITS), [sent[:at], sent[at:]], eof=True)
    assert request == (
        {"CONTENT_LENGTH": str(len(body)), "SCGI": "1", **environ},
        body,
        COMPLETE,
    )


PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"CONTENT_LENGTH\0", b"SCGI\0001\0", b"5\0", b"\0", b",", b"HTTP_COOKIE\0a\0", HEAD]
    ),
)


def outcome(chunks):
    try:
        return collect(scgi.ServerCodec(LIMITS), chunks, eof=True, respond=False)
    except RemoteProtocolError as exc:
        return type(exc), exc.section, exc.status_hint


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.booleans())
def test_nothing_else_is_raised_and_cuts_do_not_matter(data, framed):
    if framed:
        data = b"%d:%b," % (len(data), data)
    whole = outcome([data])
    assert outcome([data[at : at + 1] for at in range(len(data))]) == whole
    for at in range(1, len(data), 3):
        assert outcome([data[:at], data[at:]]) == whole


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_decode_pairs_never_raises_anything_else(block):
    try:
        pairs = scgi.decode_pairs(block)
    except RemoteProtocolError:
        return
    assert "".join(f"{name}\0{value}\0" for name, value in pairs).encode("latin-1") == block


# Defects found in other implementations.


def test_defect_10_flup_declared_length_allocates_nothing():
    codec = scgi.ServerCodec(Limits(max_params_bytes=10**10))
    codec.receive_data(b"9999999999:CONTENT")
    assert len(codec._held) == 18


@pytest.mark.parametrize("digits", [b"2_4", b"+24", b" 24", b"24 ", b"1" * 1000])
def test_defect_10_flup_digits_that_int_takes_are_refused(digits):
    with pytest.raises(RemoteProtocolError, match="netstring"):
        scgi.ServerCodec(LIMITS).receive_data(digits + HEAD[2:])


def test_defect_11_flup_body_ends_at_content_length_while_the_peer_stays():
    assert collect(scgi.ServerCodec(LIMITS), [HEAD, b"hello, and on"])[0].body == b"hello"
    assert collect(scgi.ServerCodec(LIMITS), [HEAD, b"hell"])[0].outcome == OPEN


def test_defect_32_flup_empty_body_is_bytes():
    (request,) = collect(scgi.ServerCodec(LIMITS), [octets(REQUESTS[1].values[0])])
    assert type(request.body) is bytes


@pytest.mark.parametrize("length", ["", "-5", "five", "5 "])
def test_defect_66_scgi_bad_content_length_is_answered_not_a_crash(length):
    codec = scgi.ServerCodec(LIMITS)
    with pytest.raises(RemoteProtocolError) as caught:
        codec.receive_data(netstring("CONTENT_LENGTH", length, "SCGI", "1"))
    assert caught.value.status_hint == 400


def test_defect_68_uwsgi_head_in_pieces_is_not_scanned_again():
    """A head of 400 KiB octet by octet: held once, decoded once."""
    data = netstring("CONTENT_LENGTH", "0", "SCGI", "1", "X", 400_000 * "x")
    decoded = []

    class Counting(scgi.ServerCodec):
        def _receive_head(self, data):
            decoded.append(len(data))
            return super()._receive_head(data)

    (request,) = collect(Counting(LIMITS), [data[at : at + 1] for at in range(len(data))])
    assert request.environ["X"] == 400_000 * "x"
    assert sum(decoded) < len(data) + 100
