"""AJP/1.3, the server: bodies on demand, responses, whether the connection goes on."""

from __future__ import annotations

import pytest

from codecs_harness import ABORTED, COMPLETE, OPEN, collect, deliveries
from portico.codecs import ajp
from portico.errors import ApplicationError, LocalProtocolError, RemoteProtocolError
from portico.events import AbortReceived, RequestReceived
from portico.limits import Limits
from vectors.ajp import (
    CLOSE,
    ENVIRON,
    FIELDS,
    GET,
    HEAD_OK,
    HELLO,
    PING,
    POST_5,
    POST_CHUNKED,
    RESPONSES,
    REUSE,
    body_packet,
    octets,
    packet,
    post,
    wanted,
)

LIMITS = Limits()
FLUSH = octets("[ 03 00 00 00 ]")


def server(**options) -> ajp.ServerCodec:
    return ajp.ServerCodec(LIMITS, **options)


# Bodies.


def happen(codec: ajp.ServerCodec, event: str) -> None:
    """Make *event* of the table happen."""
    if event == "response ended":
        codec.send_response(0, "200 OK", [])
    elif event == "body wanted":
        codec.want_body(0, 2)
    else:
        codec.receive_data(
            {
                "cping": PING,
                "empty packet": packet(b""),
                "request without body": GET,
                "request with content-length": POST_5,
                "chunked request": POST_CHUNKED,
                "part of the body": body_packet(b"he"),
                "end of the body": packet(b""),
            }[event]
        )


PATHS = {
    ajp.IDLE: [],
    ajp.PACKET_DUE: ["request with content-length"],
    ajp.BODY_HELD: ["chunked request"],
    ajp.BODY_DONE: ["request without body"],
}


@pytest.mark.parametrize("state", PATHS)
@pytest.mark.parametrize("event", sorted({event for _, event in ajp.TRANSITIONS}))
def test_machine_agrees_with_table(state, event):
    codec = server()
    for step in PATHS[state]:
        happen(codec, step)
    assert codec._state == state
    following = ajp.TRANSITIONS.get((state, event))
    if following is None:
        try:
            happen(codec, event)
        except (RemoteProtocolError, LocalProtocolError):
            assert codec._state in (state, ajp.CLOSED)
        else:  # no packet is decoded, or one that is a body packet's
            assert codec._state in (state, ajp.BODY_HELD, ajp.BODY_DONE)
            assert state in (ajp.PACKET_DUE, ajp.BODY_HELD, ajp.BODY_DONE, ajp.IDLE)
    else:
        happen(codec, event)
        assert codec._state == following


def test_body_is_asked_for_in_packets():
    codec = server()
    codec.receive_data(post(20_000) + body_packet(b"x" * 8186))
    for size, asked in ((1_000_000, 8186), (100, 100), (9000, 3528)):
        codec.want_body(0, size)
        assert codec.data_to_send() == wanted(asked)
        (event, *_) = codec.receive_data(body_packet(b"x" * asked))
        assert len(event.data) == asked
    codec.want_body(0, 100)  # the body is complete
    assert codec.data_to_send() == b""


def test_larger_packets_are_asked_for_where_agreed():
    codec = server(packet_size=65_536)
    codec.receive_data(POST_CHUNKED)
    codec.want_body(0, 1_000_000)
    assert codec.data_to_send() == wanted(65_530)


def test_one_request_for_body_at_a_time():
    codec = server()
    codec.want_body(0, 5)  # no request
    codec.receive_data(POST_5)
    codec.want_body(0, 5)  # the first packet comes unasked
    assert codec.data_to_send() == b""
    codec.receive_data(body_packet(b"he"))
    for size in (0, -1):
        codec.want_body(0, size)
    assert codec.data_to_send() == b""
    for _ in range(3):
        codec.want_body(0, 2)
    assert codec.data_to_send() == wanted(2)


def test_answer_may_be_shorter_or_longer_than_asked():
    codec = server()
    codec.receive_data(POST_CHUNKED)
    for piece in (b"h", b"ello"):
        codec.want_body(0, 2)
        (event,) = codec.receive_data(body_packet(piece))
        assert event.data == piece


@pytest.mark.parametrize("mark", ["{ }", "{ 00 00 }"])
def test_end_mark_ends_a_chunked_body_alone(mark):
    assert collect(server(), [POST_CHUNKED + octets(mark)])[0] == (
        ENVIRON | {"REQUEST_METHOD": "POST", "HTTP_TRANSFER_ENCODING": "chunked"},
        b"",
        COMPLETE,
    )
    for before in (b"", body_packet(b"he")):
        codec = server()
        event = codec.receive_data(POST_5 + before)[0]
        codec.want_body(0, 3)
        (abort,) = codec.receive_data(octets(mark))
        assert (event.complete, type(abort)) == (False, AbortReceived)
        assert not codec.keep_open
        assert codec.receive_eof() == []
    codec = server()
    events = codec.receive_data(POST_5 + octets(mark))
    assert [type(event) for event in events] == [RequestReceived, AbortReceived]


def test_end_of_file_in_each_state():
    assert server().receive_eof() == []
    for partial in (1, 4, len(GET) - 1):
        codec = server()
        codec.receive_data(GET[:partial])
        with pytest.raises(RemoteProtocolError, match="end of file"):
            codec.receive_eof()
        assert codec.refuse(400) == b""
    for data in (POST_5, POST_5 + HELLO[:-1], POST_5 + body_packet(b"h"), POST_CHUNKED):
        codec = server()
        codec.receive_data(data)
        (event,) = codec.receive_eof()
        assert type(event) is AbortReceived
        assert not codec.keep_open
        assert codec.receive_eof() == []
    codec = server()
    codec.receive_data(GET)
    assert codec.receive_eof() == []
    assert codec.send_response(0, "200 OK", []) == HEAD_OK + CLOSE


def test_aborted_upload_is_reported_as_such():
    for chunks in deliveries(POST_5 + body_packet(b"he")):
        (request,) = collect(server(), chunks, eof=True)
        assert (request.body, request.outcome) == (b"he", ABORTED)
        (request,) = collect(server(), chunks)
        assert request.outcome == OPEN


# Responses.


@pytest.mark.parametrize(("status", "headers", "body", "text"), RESPONSES)
def test_response(status, headers, body, text):
    codec = server()
    codec.receive_data(GET)
    given = list(headers)
    assert codec.send_response(0, status, headers, body) == octets(text)
    assert headers == given
    assert codec.keep_open


@pytest.mark.parametrize(("status", "headers", "body", "text"), RESPONSES)
def test_response_in_steps_is_the_same(status, headers, body, text):
    codec = server()
    codec.receive_data(GET)
    sent = codec.send_response(0, status, headers, end=False)
    sent += codec.send_body(0, b"")
    sent += codec.send_body(0, body)
    sent += codec.send_body(0, b"", end=True)
    assert sent.replace(FLUSH, b"") == octets(text)


@pytest.mark.parametrize("packet_size", [8192, 20_000, 65_536])
@pytest.mark.parametrize("extra", [-1, 0, 1, 8184, 70_000])
def test_body_is_cut_to_packets(packet_size, extra):
    body = bytes(range(256)) * 400
    body = body[: packet_size - 8 + extra]
    codec = server(packet_size=packet_size)
    codec.receive_data(GET)
    whole = codec.send_response(0, "200 OK", [], body)
    codec.receive_data(GET)
    parts = [codec.send_response(0, "200 OK", [], end=False)]
    parts += codec.send_body_parts(0, body, end=True)
    assert b"".join(parts) == whole
    lengths, got, at = [], b"", 0
    while at < len(whole):
        size = int.from_bytes(whole[at + 2 : at + 4], "big")
        payload = whole[at + 4 : at + 4 + size]
        if payload[0] == 3:
            lengths.append(size + 4)
            assert payload[-1] == 0
            assert int.from_bytes(payload[1:3], "big") == size - 4 > 0
            got += payload[3:-1]
        at += 4 + size
    assert got == body
    assert max(lengths) <= packet_size
    assert lengths[:-1] == [packet_size] * (len(lengths) - 1)


def test_gathered_body_is_not_copied():
    body = bytes(100_000)
    codec = server()
    codec.receive_data(GET)
    codec.send_response(0, "200 OK", [], end=False)
    parts = codec.send_body_parts(0, body)
    views = [part for part in parts if type(part) is memoryview]
    assert all(view.obj is body for view in views)
    assert sum(len(view) for view in views) == len(body)
    assert codec.send_body_parts(0, b"") == []
    assert codec.send_body_parts(0, b"", end=True) == [REUSE]


def test_blocks_of_a_response_without_a_length_are_handed_on_at_once():
    """mod_proxy_ajp gathers 8 KiB and takes an empty chunk for a flush; in the same octets."""
    codec = server()
    codec.receive_data(GET)
    sent = codec.send_response(0, "200 OK", [], b"one", end=False)
    assert sent == HEAD_OK + octets("[ 03 00 03 'one' 00 ]") + FLUSH
    assert codec.send_body(0, b"two") == octets("[ 03 00 03 'two' 00 ]") + FLUSH
    *_, last = codec.send_body_parts(0, b"x" * 20_000)
    assert last == b"\0" + FLUSH
    assert codec.send_body(0, b"end", end=True) == octets("[ 03 00 03 'end' 00 ]") + REUSE


@pytest.mark.parametrize("name", ["Content-Length", "content-length"])
def test_blocks_of_a_response_with_a_length_are_not(name):
    codec = server()
    codec.receive_data(GET)
    assert FLUSH not in codec.send_response(0, "200 OK", [(name, "9")], b"one", end=False)
    assert codec.send_body(0, b"two") == octets("[ 03 00 03 'two' 00 ]")
    assert FLUSH not in codec.send_body(0, b"end", end=True)


def test_no_block_means_no_flush():
    codec = server()
    codec.receive_data(GET)
    assert codec.send_response(0, "200 OK", [], end=False) == HEAD_OK
    assert codec.send_body(0, b"") == b""
    assert codec.send_body(0, b"", end=True) == REUSE
    codec.receive_data(GET)
    assert FLUSH not in codec.send_response(0, "200 OK", [], b"whole")


@pytest.mark.parametrize("packet_size", [8192, 65_536])
def test_head_fills_a_packet_and_no_more(packet_size):
    codec = server(packet_size=packet_size)
    codec.receive_data(GET)
    room = packet_size - len(octets('[ 04 00 C8 "OK" 00 01 "X" "" ]'))
    with pytest.raises(ApplicationError, match="packet_size"):
        codec.send_response(0, "200 OK", [("X", "v" * (room + 1))], b"body")
    with pytest.raises(ApplicationError, match="70005"):
        codec.send_response(0, "200 OK", [("X", "v" * 69_984)], b"body")
    # Nothing was encoded: the error can still be answered.
    head = codec.send_response(0, "500 OK", [("X", "v" * room)], end=False)
    assert len(head) == packet_size


def test_too_many_headers_for_a_packet():
    codec = server(packet_size=65_536)
    codec.receive_data(GET)
    with pytest.raises(ApplicationError, match="66000 headers"):
        codec.send_response(0, "200 OK", [("A", "")] * 66_000)


def test_order_of_calls_is_held_to():
    codec = server()
    for call in (
        lambda: codec.send_response(0, "200 OK", []),
        lambda: codec.send_body(0, b"x"),
        lambda: codec.send_body_parts(0, b"x"),
    ):
        with pytest.raises(LocalProtocolError):
            call()
    codec.receive_data(GET)
    with pytest.raises(LocalProtocolError):
        codec.send_body(0, b"x")
    codec.send_response(0, "200 OK", [], end=False)
    with pytest.raises(LocalProtocolError):
        codec.send_response(0, "200 OK", [])
    codec.send_body(0, b"", end=True)
    with pytest.raises(LocalProtocolError):
        codec.send_body(0, b"x")


def test_abort_ends_without_end_response():
    codec = server()
    codec.receive_data(GET)
    codec.send_response(0, "200 OK", [], b"half", end=False)
    codec.abort(0)
    assert not codec.keep_open
    assert codec.data_to_send() == b""
    assert codec.receive_data(GET) == []
    assert codec.refuse(500) == b""


# Whether the connection goes on.


@pytest.mark.parametrize(
    ("data", "want", "goes_on"),
    [
        pytest.param(GET, 0, True, id="no-body"),
        pytest.param(POST_5 + HELLO, 0, True, id="whole-body"),
        pytest.param(POST_5, 0, False, id="first-packet-on-its-way"),
        pytest.param(POST_5 + HELLO[:-1], 0, False, id="first-packet-half-there"),
        pytest.param(POST_5 + body_packet(b"he"), 0, True, id="rest-not-asked-for"),
        pytest.param(POST_5 + body_packet(b"he"), 3, False, id="rest-asked-for"),
        pytest.param(POST_CHUNKED, 0, True, id="chunked-not-asked-for"),
        pytest.param(POST_CHUNKED, 3, False, id="chunked-asked-for"),
        pytest.param(POST_CHUNKED + HELLO, 0, False, id="chunked-sent-unasked"),
        pytest.param(POST_5 + packet(b""), 0, False, id="aborted"),
    ],
)
def test_connection_goes_on_only_if_in_step(data, want, goes_on):
    for ends in ("send_response", "send_body", "send_body_parts"):
        codec = server()
        codec.receive_data(data)
        codec.want_body(0, want)
        if ends == "send_response":
            sent = codec.send_response(0, "200 OK", [])
        else:
            sent = codec.send_response(0, "200 OK", [], end=False)
            sent += (
                b"".join([getattr(codec, ends)(0, b"", end=True)])
                if ends == "send_body"
                else (b"".join(codec.send_body_parts(0, b"", end=True)))
            )
        assert sent == HEAD_OK + (REUSE if goes_on else CLOSE)
        assert codec.keep_open is goes_on
        # What was on its way is never taken for a request.
        events = codec.receive_data(GET)
        assert [type(event) for event in events] == ([RequestReceived] if goes_on else [])


def test_length_beside_chunked_ends_the_connection():
    codec = server()
    head = f'{{ 02 04 {FIELDS} 00 02 "Transfer-Encoding" "chunked" A0 08 "5" FF }}'
    (event,) = codec.receive_data(octets(head))
    assert "CONTENT_LENGTH" not in event.environ
    assert not event.complete
    assert codec.send_response(0, "200 OK", []).endswith(CLOSE)
    assert not codec.keep_open


def test_body_cannot_smuggle_a_request():
    """Unread body that is a request's octets is not taken for one."""
    smuggled = post(len(GET)) + body_packet(GET)
    codec = server()
    codec.receive_data(post(len(GET)))
    assert codec.send_response(0, "200 OK", []).endswith(CLOSE)
    assert codec.receive_data(body_packet(GET)) == []
    assert [request.body for request in collect(server(), [smuggled + GET])] == [GET, b""]


def test_following_packet_waits_for_the_answer():
    codec = server()
    (first,) = codec.receive_data(GET + POST_5[:10])
    assert first.environ == ENVIRON
    assert codec.pending
    assert codec.receive_data(POST_5[10:]) == []
    assert codec.pending
    codec.send_response(0, "200 OK", [], end=False)
    assert codec.receive_data(b"") == []
    codec.send_body(0, b"", end=True)
    (second,) = codec.receive_data(b"")
    assert second.environ["REQUEST_METHOD"] == "POST"
    assert not codec.pending


def test_pending_says_no_of_an_incomplete_packet_once_tried():
    codec = server()
    codec.receive_data(GET + GET[:10])
    assert codec.pending
    codec.send_response(0, "200 OK", [])
    assert codec.receive_data(b"") == []
    assert not codec.pending
    assert len(codec.receive_data(GET[10:])) == 1
