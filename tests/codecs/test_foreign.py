"""A peer of another protocol is recognised by few octets, and answered in its own language."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecs_harness import deliveries
from portico.codecs import PROTOCOLS, client_codec, foreign, server_codec
from portico.errors import RemoteProtocolError
from portico.events import ResponseBodyReceived, ResponseEnded, ResponseReceived
from portico.head import parse
from portico.limits import Limits
from vectors.foreign import GARBAGE, GATEWAYS, HALF_RIGHT, INTRUDERS, MARK

SPOKEN = (*GATEWAYS, "auto")

#: Every pair of a listener and a peer that it does not serve.
PAIRS = [
    pytest.param(spoken, name, id=f"{name}-to-{spoken}")
    for spoken in SPOKEN
    for name, (heard, _, _) in INTRUDERS.items()
    if heard != spoken and not (spoken == "auto" and heard in GATEWAYS)
]

#: What nginx, Apache's ProxyPass and lighttpd write for each protocol; "" for what they lack.
DIRECTIVES = {
    "fastcgi": ("fastcgi_pass", "fcgi://", "fastcgi.server"),
    "scgi": ("scgi_pass", "scgi://", "scgi.server"),
    "uwsgi": ("uwsgi_pass", "uwsgi://", 'scgi.server with scgi.protocol = "uwsgi"'),
    "ajp": ("", "ajp://", ""),
    "http": ("proxy_pass", "http://", "proxy.server"),
}


def fault_of(spoken, octets):
    """What the listener's codec says of the first octet; there must be something."""
    codec = server_codec(spoken, Limits())
    with pytest.raises(RemoteProtocolError) as caught:
        codec.receive_data(octets[:1])
    assert codec.protocol == spoken
    return caught.value


def meet(spoken, chunks):
    """Deliver *chunks*; gives what was sent meanwhile, the fault, the answer, octets taken."""
    fault = fault_of(spoken, b"".join(chunks))
    codec = foreign.ServerCodec(spoken, fault)
    owed = b""
    taken = 0
    for chunk in chunks:
        taken += len(chunk)
        try:
            assert codec.receive_data(chunk) == []
        except RemoteProtocolError as error:
            return owed, error, codec.refuse(error.status_hint), taken
        owed += codec.data_to_send()
    return owed, None, b"", taken


def read(protocol, octets):
    """Read a gateway protocol's response as a web server: status, headers, body."""
    codec = client_codec(protocol, Limits())
    codec.send_request({"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "CONTENT_LENGTH": "0"})
    events = codec.receive_data(octets)
    if type(events[-1]) is not ResponseEnded:
        events += codec.receive_eof()
    head = events[0]
    assert type(head) is ResponseReceived
    body = b"".join(event.data for event in events if type(event) is ResponseBodyReceived)
    assert type(events[-1]) is ResponseEnded
    assert not events[-1].reusable or protocol == "fastcgi"  # which ends by closing
    return head.status, dict(head.headers), body


def readable(heard, answer):
    """The sentence that the peer can read in *answer*."""
    if heard in {*GATEWAYS, "ajp-answer"}:
        status, headers, body = read(heard.partition("-")[0], answer)
        assert status == "502 Bad Gateway"
    elif heard == "http":
        head, _, body = answer.partition(b"\r\n\r\n")
        status, pairs = parse(head)
        headers = dict(pairs)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert headers["Connection"] == "close"
    else:
        assert heard == "http2"
        return goaway(answer)
    assert headers["Content-Type"] == "text/plain"
    assert headers["Content-Length"] == str(len(body))
    return body.decode("ascii").rstrip("\n")


def goaway(answer):
    """Read SETTINGS and GOAWAY as RFC 9113 §6.5 and §6.8 have them; gives the debug data."""
    assert answer[:9] == bytes.fromhex("000000 04 00 00000000")
    size = int.from_bytes(answer[9:12], "big")
    kind, flags, stream, last, error = struct.unpack(">BBIII", answer[12:26])
    assert (kind, flags, stream, last, error) == (7, 0, 0, 0, 13)
    assert len(answer) == 18 + size
    return answer[26:].decode("ascii")


@pytest.mark.parametrize(("spoken", "name"), PAIRS)
def test_intruder_is_answered_however_its_octets_come(spoken, name):
    heard, octets, least = INTRUDERS[name]
    expected = foreign.advice(spoken, heard)
    for chunks in deliveries(octets[:64]):
        owed, error, answer, taken = meet(spoken, chunks)
        assert owed == b""
        assert str(error) == expected
        assert error.status_hint
        assert error.section
        if len(chunks[0]) == 1 and len(chunks) > 2:
            assert taken == least
        if heard == "tls":
            # a fatal (2) handshake_failure (40) in an alert record (21), RFC 8446 §6
            assert answer == bytes((21, 3, 3, 0, 2, 2, 40))
        elif heard == "proxy":
            assert answer == b""
        else:
            assert readable(heard, answer) == expected
        assert MARK.encode() not in answer
    assert MARK not in expected


@pytest.mark.parametrize(("spoken", "name"), PAIRS)
def test_sentence_names_what_to_change(spoken, name):
    heard, _, _ = INTRUDERS[name]
    text = foreign.advice(spoken, heard)
    assert text.isascii()
    assert text.isprintable()
    if heard == "proxy":
        assert "send-proxy" in text
        return
    if heard == "ajp-answer" and spoken in {"ajp", "auto"}:
        assert "12 34" in text
        return
    right = DIRECTIVES["fastcgi" if spoken == "auto" else spoken]
    wrong = DIRECTIVES.get(heard.removesuffix("-answer"), DIRECTIVES["http"])
    for to, of in zip(right, wrong, strict=True):
        assert (f"use {to} instead of {of}" in text) == bool(to and of)
    if heard in GATEWAYS:
        assert f"listen on {heard}:// or auto://" in text


@pytest.mark.parametrize("spoken", SPOKEN)
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_not_answered(spoken, name):
    octets, least = GARBAGE[name]
    if spoken == "scgi" and octets[:1].isdigit():
        return  # its own business
    for chunks in deliveries(octets):
        _, error, answer, taken = meet(spoken, chunks)
        assert answer == b""
        assert error.status_hint == 0
        assert str(error) == str(fault_of(spoken, octets))
        if len(chunks[0]) == 1 and len(chunks) > 2:
            assert taken == least


@pytest.mark.parametrize("spoken", GATEWAYS)
@pytest.mark.parametrize("name", HALF_RIGHT)
def test_what_only_begins_like_a_protocol_is_garbage(spoken, name):
    heard, octets, least = HALF_RIGHT[name]
    assert foreign.recognise(octets) == ""
    assert foreign.recognise(octets[: least - 1]) is None
    if heard != spoken:
        _, error, answer, taken = meet(spoken, [octets[at : at + 1] for at in range(len(octets))])
        assert (answer, taken) == (b"", least)
        assert str(error) == str(fault_of(spoken, octets))


@pytest.mark.parametrize("request_id", [1, 2, 258, 65_535])
def test_a_fastcgi_request_is_answered_by_its_number(request_id):
    begin = struct.pack(">BBHHBB8s", 1, 1, request_id, 8, 0, 0, b"\0\1\0\0\0\0\0\0")
    _, _, answer, _ = meet("scgi", [begin])
    at = 0
    kinds = []
    while at < len(answer):
        version, kind, number, length, padding, _ = struct.unpack_from(">BBHHBB", answer, at)
        assert (version, number) == (1, request_id)
        kinds.append((kind, bool(length)))
        at += 8 + length + padding
    assert kinds == [(6, True), (6, False), (3, True)]  # STDOUT, its end, END_REQUEST


def test_a_question_about_values_has_no_request_to_answer():
    octets = struct.pack(">BBHHBB", 1, 9, 0, 0, 0, 0)
    _, error, answer, _ = meet("uwsgi", [octets])
    assert "not FastCGI" in str(error)
    assert answer == b""


def test_head_is_answered_without_a_body():
    _, _, answer, _ = meet("fastcgi", [b"HEAD / HTTP/1.1\r\n\r\n"])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert body == b""


@pytest.mark.parametrize("spoken", ["fastcgi", "scgi", "uwsgi"])
def test_an_ajp_peer_that_pings_first_is_answered_too(spoken):
    """mod_proxy_ajp with ping= sends its request only after the pong."""
    octets = b"\x12\x34\0\x01\x0a" * 2 + INTRUDERS["ajp"][1]
    for cut in range(15):
        codec = foreign.ServerCodec(spoken, fault_of(spoken, octets))
        owed = b""
        for at in range(cut):
            assert codec.receive_data(octets[at : at + 1]) == []
            owed += codec.data_to_send()
        with pytest.raises(RemoteProtocolError, match="not AJP"):
            codec.receive_data(octets[cut:])
        owed += codec.data_to_send()
        assert owed == b"AB\0\x01\x09" * 2
        assert readable("ajp", codec.refuse(502)) == foreign.advice(spoken, "ajp")


def test_a_ping_before_something_else_is_garbage():
    _, error, answer, _ = meet("scgi", [b"\x12\x34\0\x01\x0a", INTRUDERS["http-get"][1]])
    assert answer == b""
    assert error.status_hint == 0


def test_end_of_file_before_the_peer_is_known():
    fault = fault_of("fastcgi", b"G")
    codec = foreign.ServerCodec("fastcgi", fault)
    assert codec.receive_data(b"GE") == []
    with pytest.raises(RemoteProtocolError) as caught:
        codec.receive_eof()
    assert caught.value is fault
    assert codec.refuse(400) == b""


@settings(max_examples=400)
@given(
    st.sampled_from(SPOKEN),
    st.one_of(
        st.binary(min_size=1, max_size=60),
        st.builds(
            lambda name, size, tail: INTRUDERS[name][1][:size] + tail,
            st.sampled_from(sorted(INTRUDERS)),
            st.integers(1, 30),
            st.binary(max_size=20),
        ),
    ),
    st.lists(st.integers(1, 59), max_size=5),
)
def test_any_octets_get_the_same_answer_however_they_come(spoken, octets, places):
    if foreign.FIRST_OCTETS.get(octets[0]) in {spoken, *(PROTOCOLS if spoken == "auto" else ())}:
        return
    places = sorted({0, *(at for at in places if at < len(octets)), len(octets)})
    pieces = [octets[a:b] for a, b in pairwise(places)]
    whole, cut = meet(spoken, [octets]), meet(spoken, pieces)
    assert str(whole[1]) == str(cut[1])
    assert whole[2] == cut[2]
