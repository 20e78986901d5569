"""AJP/1.3, the client: requests encoded, bodies on demand, responses decoded."""

from __future__ import annotations

import pytest

from codecs_harness import deliveries
from portico.codecs import _ajp_tables, ajp
from portico.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.events import (
    BodyWanted,
    PongReceived,
    ResponseBodyReceived,
    ResponseEnded,
    ResponseReceived,
)
from portico.limits import Limits
from vectors.ajp import (
    BROKEN_RESPONSES,
    CLOSE,
    FIELDS,
    HEAD_OK,
    HEADS,
    PING,
    PONG,
    POST_CHUNKED,
    REQUEST,
    RESPONSES,
    REUSE,
    body_packet,
    octets,
    packet,
    wanted,
)

LIMITS = Limits()
GERMAN = "gr\xfc\xdfe"


def client(**options) -> ajp.ClientCodec:
    return ajp.ClientCodec(LIMITS, **options)


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        pytest.param({}, f"02 02 {FIELDS} 00 00 FF", id="get"),
        pytest.param(
            {"REQUEST_METHOD": "PATCH"}, f'02 FF {FIELDS} 00 00 0D "PATCH" FF', id="stored-method"
        ),
        pytest.param(
            {"HTTP_HOST": "h", "HTTP_X_Y": "z", "CONTENT_TYPE": "t", "CONTENT_LENGTH": "0"},
            f'02 02 {FIELDS} 00 04 A0 0B "h" "X-Y" "z" A0 07 "t" A0 08 "0" FF',
            id="headers",
        ),
        pytest.param(
            {"HTTP_CONTENT_TYPE": "x", "HTTP_CONTENT_LENGTH": "9", "HTTP_": "x", "HTTP_A B": "x",
             "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_TYPE": "", "CONTENT_LENGTH": ""},
            f"02 02 {FIELDS} 00 00 FF",
            id="headers-that-do-not-travel",
        ),
        pytest.param(
            {"CONTEXT_PATH": "/c", "SERVLET_PATH": "/s", "JVM_ROUTE": "r"},
            f'02 02 {FIELDS} 00 00 01 "/c" 02 "/s" 06 "r" FF',
            id="context-servlet-route",
        ),
        pytest.param(
            {"AJP_x.y": "z", "AJP_REMOTE_PORT": "1", "AJP_": "n", "REMOTE_PORT": "2"},
            f'02 02 {FIELDS} 00 00 0A "AJP_REMOTE_PORT" "2" 0A "x.y" "z" FF',
            id="request-attributes",
        ),
        pytest.param(
            {"QUERY_STRING": "q=1"}, f'02 02 {FIELDS} 00 00 05 "q=1" FF', id="query"
        ),
        pytest.param(
            {"REQUEST_URI": "/a?q=1"}, f'02 02 {FIELDS} 00 00 05 "q=1" FF', id="query-of-the-uri"
        ),
        pytest.param(
            {"REQUEST_URI": "/a?", "QUERY_STRING": ""}, f'02 02 {FIELDS} 00 00 05 "" FF',
            id="query-empty",
        ),
        pytest.param(
            {"REQUEST_URI": "http://example.test/a?q"}, f'02 02 {FIELDS} 00 00 05 "q" FF',
            id="absolute-uri",
        ),
        pytest.param(
            {"REQUEST_URI": "", "SCRIPT_NAME": "/s p", "PATH_INFO": "/\xc3\xa9%;a"},
            f"02 02 {FIELDS} 00 00 FF".replace("/a", "/s%20p/%C3%A9%25;a"),
            id="path-quoted",
        ),
        pytest.param({"REQUEST_URI": ""}, f"02 02 {FIELDS} 00 00 FF".replace("/a", "/"), id="root"),
        pytest.param(
            {"REQUEST_METHOD": "OPTIONS", "REQUEST_URI": "*"},
            f"02 01 {FIELDS} 00 00 FF".replace("/a", "*"),
            id="asterisk",
        ),
        pytest.param(
            {"HTTPS": "on", "REMOTE_HOST": "c", "SERVER_PORT": "443"},
            '02 02 "HTTP/1.1" "/a" "192.0.2.1" "c" "example.test" 01 BB 01 00 00 FF',
            id="tls-and-host",
        ),
        pytest.param(
            {"HTTPS": "off", "SERVER_PORT": "70000"},
            '02 02 "HTTP/1.1" "/a" "192.0.2.1" FF FF "example.test" 00 00 00 00 00 FF',
            id="no-tls-no-port",
        ),
        pytest.param(
            {"REMOTE_USER": "u", "AUTH_TYPE": "Basic", "SSL_CLIENT_CERT": "-\n-\n",
             "SSL_CIPHER": "c", "SSL_SESSION_ID": "s", "SSL_CIPHER_USEKEYSIZE": "256",
             "SSL_PROTOCOL": "TLSv1.3", "REMOTE_PORT": "4711", "SERVER_ADDR": "192.0.2.9"},
            f'02 02 {FIELDS} 00 00 03 "u" 04 "Basic" 08 "c" 09 "s" 07 "-\n-\n" 0B 01 00'
            ' 0A "AJP_REMOTE_PORT" "4711" 0A "AJP_LOCAL_ADDR" "192.0.2.9"'
            ' 0A "AJP_SSL_PROTOCOL" "TLSv1.3" FF',
            id="attributes",
        ),
        pytest.param({"SSL_CIPHER_USEKEYSIZE": "many"}, f"02 02 {FIELDS} 00 00 FF", id="key-size"),
    ],
)  # fmt: skip
def test_client_encodes_a_request(environ, text):
    assert client().send_request(REQUEST | environ) == packet(octets(text))


def test_client_sends_the_secret_first():
    sent = client(secret=GERMAN).send_request(REQUEST | {"REMOTE_USER": "u"})
    assert sent == octets(f'{{ 02 02 {FIELDS} 00 00 0C "gr\xc3\xbc\xc3\x9fe" 03 "u" FF }}')


def test_minimal_request():
    environ, _ = ajp.decode_forward_request(client().send_request({})[4:])
    assert (environ["REQUEST_METHOD"], environ["REQUEST_URI"]) == ("GET", "/")


@pytest.mark.parametrize(("text", "extra"), HEADS)
def test_client_and_server_agree(text, extra):
    """What a server decoded, a client encodes again so that it decodes to the same."""
    decoded, _ = ajp.decode_forward_request(octets(text))
    again, _ = ajp.decode_forward_request(client().send_request(decoded)[4:])
    for name in ("CONTENT_TYPE", "HTTP_X.Y!"):  # empty: not sent
        if not extra.get(name):
            decoded.pop(name, None)
    assert again == decoded


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_X": "a\r\nb"},
        {"HTTP_X": "a\0b"},
        {"REMOTE_USER": "a\nb"},
        {"REQUEST_URI": "/a\nb"},
        {"HTTP_X": "\u20ac"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "x"},
        {"CONTENT_LENGTH": "5"},
    ],
)
def test_client_refuses_what_cannot_travel(environ):
    with pytest.raises(LocalProtocolError):
        client().send_request(REQUEST | environ)


def test_client_head_fills_a_packet_and_no_more():
    empty = len(client().send_request(REQUEST | {"HTTP_X": ""}))
    for size in (8192, 65_536):
        value = "v" * (size - empty)
        assert len(client(packet_size=size).send_request(REQUEST | {"HTTP_X": value})) == size
        with pytest.raises(LimitExceeded, match=f"{size + 1} octets.*packet_size") as caught:
            client(packet_size=size).send_request(REQUEST | {"HTTP_X": value + "v"})
        assert (caught.value.option, caught.value.status_hint) == ("packet_size", 431)


def test_client_body_with_a_length():
    codec = client()
    body = bytes(range(256)) * 80
    sent = codec.send_request(REQUEST | {"REQUEST_METHOD": "POST"}, body)
    head = octets(f'{{ 02 04 {FIELDS} 00 01 A0 08 "20480" FF }}')
    assert sent == head + body_packet(body[:8186])
    assert codec.send_body(b"", end=True) == b""  # the backend has not asked
    for size, piece in ((60_000, body[8186:16_372]), (10, body[16_372:16_382])):
        (event,) = codec.receive_data(wanted(size))
        assert (type(event), event.size) == (BodyWanted, min(size, 8186))
        assert codec.send_body(b"", end=True) == body_packet(piece)
    codec.receive_data(wanted(8186))
    assert codec.send_body(b"") == body_packet(body[16_382:])
    codec.receive_data(wanted(8186))
    assert codec.send_body(b"") == packet(b"")


def test_client_body_in_pieces_with_a_length():
    codec = client()
    head = codec.send_request(REQUEST | {"CONTENT_LENGTH": "5"}, end=False)
    assert head == octets(f'{{ 02 02 {FIELDS} 00 01 A0 08 "5" FF }}')
    assert codec.send_body(b"") == b""
    assert codec.send_body(b"he") == body_packet(b"he")  # the first packet is not asked for
    assert codec.send_body(b"l") == b""
    codec.receive_data(wanted(100))
    assert codec.send_body(b"lo", end=True) == body_packet(b"llo")


def test_client_body_chunked():
    codec = client()
    environ = REQUEST | {"REQUEST_METHOD": "POST"}
    assert codec.send_request(environ, b"held", end=False) == POST_CHUNKED
    codec.receive_data(wanted(3))
    assert codec.send_body(b"") == body_packet(b"hel")
    assert codec.send_body(b"!", end=False) == b""
    codec.receive_data(wanted(8186))
    assert codec.send_body(b"") == body_packet(b"d!")
    codec.receive_data(wanted(8186))
    assert codec.send_body(b"") == b""  # nothing yet
    assert codec.send_body(b"", end=True) == packet(b"")


def test_client_body_that_disagrees_with_its_length():
    for data, end in ((b"hello!", False), (b"hell", True)):
        codec = client()
        codec.send_request(REQUEST | {"CONTENT_LENGTH": "5"}, end=False)
        with pytest.raises(LocalProtocolError, match="CONTENT_LENGTH"):
            codec.send_body(data, end=end)
    codec = client()
    codec.send_request(REQUEST, b"x")
    with pytest.raises(LocalProtocolError, match="body's end"):
        codec.send_body(b"y")


@pytest.mark.parametrize(("status", "headers", "body", "text"), RESPONSES)
def test_client_decodes_a_response_however_it_is_cut(status, headers, body, text):
    names = {name.lower(): name for name in _ajp_tables.RESPONSE_HEADERS}
    expected = [
        (names.get(name, name) if name in ("content-type", *names.values()) else name, value)
        for name, value in headers
    ]
    for chunks in deliveries(octets(text)):
        codec = client()
        codec.send_request(REQUEST)
        first, *middle, last = [event for chunk in chunks for event in codec.receive_data(chunk)]
        assert type(first) is ResponseReceived
        assert first.status == (status if " " in status else f"{status} ")
        assert first.headers == expected
        assert b"".join(event.data for event in middle) == body
        assert (type(last), last.reusable) == (ResponseEnded, True)
        assert codec.receive_eof() == []
        assert not codec.keep_open


@pytest.mark.parametrize(("text", "message"), BROKEN_RESPONSES)
def test_client_refuses_a_broken_response_however_it_is_cut(text, message):
    for chunks in deliveries(octets(text)):
        codec = client()
        codec.send_request(REQUEST)
        with pytest.raises(RemoteProtocolError, match=message) as caught:
            list(map(codec.receive_data, chunks))
        assert caught.value.status_hint == 502
        assert not codec.keep_open
        assert codec.receive_data(HEAD_OK) == []


def test_client_takes_what_other_containers_send():
    codec = client()
    codec.send_request(REQUEST)
    data = (
        '[ 04 00 64 "Continue" 00 00 ] [ 04 00 C8 FF FF 00 01 A0 01 "a" ] [ 03 00 00 00 ]'
        " [ 03 00 02 'hi' ] [ 05 01 ]"
    )
    head, chunk, end = codec.receive_data(octets(data))
    assert (head.status, head.headers) == ("200 ", [("Content-Type", "a")])
    assert (type(chunk), chunk.data) == (ResponseBodyReceived, b"hi")
    assert end.reusable


def test_client_limit_on_the_head():
    limits = Limits(max_response_head_bytes=len(HEAD_OK) - 4)
    codec = ajp.ClientCodec(limits)
    codec.send_request(REQUEST)
    assert len(codec.receive_data(HEAD_OK)) == 1
    codec = ajp.ClientCodec(limits)
    codec.send_request(REQUEST)
    with pytest.raises(LimitExceeded) as caught:
        codec.receive_data(octets('[ 04 00 C8 "OK!" 00 00 ]'))
    assert caught.value.option == "max_response_head_bytes"


def test_client_reuses_a_connection_that_is_in_step():
    codec = client()
    for _ in range(3):
        codec.send_request(REQUEST, b"body")
        assert codec.receive_data(HEAD_OK + REUSE)[-1].reusable
    codec.send_request(REQUEST)
    assert not codec.receive_data(HEAD_OK + CLOSE)[-1].reusable
    assert not codec.keep_open
    with pytest.raises(LocalProtocolError):
        codec.send_request(REQUEST)


def test_client_does_not_reuse_one_that_owes_body():
    codec = client()
    codec.send_request(REQUEST, end=False)
    *_, end = codec.receive_data(wanted(10) + HEAD_OK + REUSE)
    assert not end.reusable
    assert codec.send_body(b"late", end=True) == b""
    codec = client()
    codec.send_request(REQUEST | {"CONTENT_LENGTH": "5"}, end=False)  # the first packet
    assert not codec.receive_data(HEAD_OK + REUSE)[-1].reusable
    assert not client(keep_open=False).keep_open


@pytest.mark.parametrize("excess", [b"A", b"AB", b"AB\0\1"])
def test_client_does_not_reuse_one_with_octets_behind_the_end(excess):
    """The next answer would begin with them."""
    codec = client()
    codec.send_request(REQUEST)
    assert not codec.receive_data(HEAD_OK + REUSE + excess)[-1].reusable
    assert not codec.keep_open
    with pytest.raises(LocalProtocolError):
        codec.send_request(REQUEST)


def test_client_asked_not_to_keep_the_connection():
    codec = client(keep_open=False)
    codec.send_request(REQUEST)
    assert not codec.receive_data(HEAD_OK + REUSE)[-1].reusable


def test_client_one_request_at_a_time():
    codec = client()
    codec.send_request(REQUEST)
    for call in (lambda: codec.send_request(REQUEST), codec.ping):
        with pytest.raises(LocalProtocolError):
            call()


def test_client_ping():
    codec = client()
    assert codec.ping() == PING
    with pytest.raises(LocalProtocolError):
        codec.send_request(REQUEST)
    (event,) = codec.receive_data(PONG)
    assert type(event) is PongReceived
    with pytest.raises(RemoteProtocolError):
        codec.receive_data(PONG)


def test_client_end_of_file():
    codec = client()
    codec.ping()
    with pytest.raises(RemoteProtocolError):
        codec.receive_eof()
    for data in (b"", HEAD_OK, HEAD_OK + REUSE[:3]):
        codec = client()
        codec.send_request(REQUEST)
        codec.receive_data(data)
        with pytest.raises(RemoteProtocolError) as caught:
            codec.receive_eof()
        assert caught.value.status_hint == 502
    assert client().receive_eof() == []


def test_client_abort_is_closing():
    codec = client()
    codec.send_request(REQUEST)
    assert codec.abort() == b""
    assert not codec.keep_open
    assert codec.receive_data(HEAD_OK) == []
