"""AJP/1.3, the server: requests, what is refused, limits, secrets, defects seen elsewhere."""

from __future__ import annotations

import pytest

from codecs_harness import COMPLETE, Collected, collect, deliveries
from portico.codecs import _ajp_tables, ajp, client_codec, server_codec
from portico.errors import (
    ApplicationError,
    ConfigError,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from portico.events import BodyEnded, BodyReceived, RequestReceived
from portico.limits import Limits
from vectors.ajp import (
    BROKEN,
    CLOSE,
    CONNECTIONS,
    ENVIRON,
    FIELDS,
    GET,
    HEADS,
    HELLO,
    METHOD_CODES,
    PING,
    PONG,
    POST_5,
    POST_CHUNKED,
    REQUEST,
    REUSE,
    body_packet,
    octets,
    packet,
    post,
    wanted,
)

LIMITS = Limits()
WORD = "s3cret"
GERMAN = "gr\xfc\xdfe"
REFUSED_400 = octets(
    '[ 04 01 90 "Bad Request" 00 02 A0 01 "text/plain" A0 03 "16" ]'
    " [ 03 00 10 '400 Bad Request\n' 00 ] [ 05 00 ]"
)


def server(**options) -> ajp.ServerCodec:
    return ajp.ServerCodec(LIMITS, **options)


def client(**options) -> ajp.ClientCodec:
    return ajp.ClientCodec(LIMITS, **options)


def full(extra: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in (ENVIRON | extra).items() if value is not None}


# Requests.


@pytest.mark.parametrize(("text", "extra"), HEADS)
def test_request_decodes_however_it_is_cut(text, extra):
    for chunks in deliveries(packet(octets(text))):
        assert collect(server(), chunks, eof=True) == [Collected(full(extra), b"", COMPLETE)]


@pytest.mark.parametrize(("text", "extra"), HEADS)
def test_head_alone_decodes_to_exact_strings(text, extra):
    environ, _ = ajp.decode_forward_request(octets(text))
    assert environ == full(extra)
    assert type(environ) is dict
    assert {type(each) for pair in environ.items() for each in pair} == {str}


@pytest.mark.parametrize(("text", "requests"), CONNECTIONS)
def test_connection_decodes_however_it_is_cut(text, requests):
    expected = [Collected(environ, body, COMPLETE) for environ, body in requests]
    for chunks in deliveries(octets(text)):
        assert collect(server(), chunks) == expected


@pytest.mark.parametrize(("code", "method"), list(enumerate(METHOD_CODES.split(), 1)))
def test_every_method_code(code, method):
    environ, _ = ajp.decode_forward_request(octets(f"02 {code:02X} {FIELDS} 00 00 FF"))
    assert environ["REQUEST_METHOD"] == method
    assert client().send_request({"REQUEST_METHOD": method})[5] == code


def test_bodiless_request_is_one_event():
    (event,) = server().receive_data(GET)
    assert type(event) is RequestReceived
    assert (event.request_id, event.role, event.complete, event.body) == (0, 1, True, b"")


def test_request_with_its_whole_body_is_one_event():
    (event,) = server().receive_data(POST_5 + HELLO)
    assert (event.complete, event.body) == (True, b"hello")


def test_request_with_part_of_its_body():
    codec = server()
    (event,) = codec.receive_data(post(9) + HELLO)
    assert (event.complete, event.body) == (False, b"hello")
    codec.want_body(0, 100)
    assert codec.data_to_send() == wanted(4)
    more, end = codec.receive_data(body_packet(b", ok"))
    assert (type(more), more.data, type(end)) == (BodyReceived, b", ok", BodyEnded)


def test_events_own_their_data():
    codec = server()
    (first,) = codec.receive_data(GET)
    codec.send_response(0, "200 OK", [])
    first.environ.clear()
    (second,) = codec.receive_data(GET)
    assert second.environ == ENVIRON


def test_contract():
    codec = server_codec("ajp", LIMITS, secret=WORD, packet_size=65_536)
    assert (codec.protocol, codec.raw_body, codec.keep_open, codec.pending) == (
        "ajp",
        False,
        True,
        False,
    )
    other = client_codec("ajp", LIMITS)
    assert (other.protocol, other.body_on_demand, other.keep_open) == ("ajp", True, True)
    assert not client(keep_open=False).keep_open


# What is refused.


@pytest.mark.parametrize(("text", "status", "message"), BROKEN)
def test_broken_request_is_refused_however_it_is_cut(text, status, message):
    for chunks in deliveries(octets(text)):
        with pytest.raises(RemoteProtocolError, match=message) as caught:
            collect(server(), chunks)
        assert caught.value.status_hint == status
        assert caught.value.section


@pytest.mark.parametrize(("text", "status", "message"), BROKEN)
def test_broken_connection_does_not_go_on(text, status, message):
    codec = server()
    with pytest.raises(RemoteProtocolError, match=message):
        collect(codec, [octets(text)])
    assert not codec.keep_open
    assert not codec.pending
    assert codec.receive_data(GET) == []
    answer = codec.refuse(400)
    assert answer == REFUSED_400 if status else answer in (b"", REFUSED_400)
    assert codec.refuse(400) == b""


def test_stranger_is_not_answered():
    codec = server()
    with pytest.raises(RemoteProtocolError):
        codec.receive_data(b"GET / HTTP/1.1\r\n\r\n")
    assert codec.refuse(400) == b""


def test_idle_connection_is_not_answered():
    """A server would take what it finds on an idle connection for its next request's answer."""
    codec = server()
    assert codec.refuse(408) == b""
    codec = server()
    codec.receive_data(GET)
    codec.send_response(0, "200 OK", [])
    assert codec.refuse(408) == b""
    assert not codec.keep_open


def test_refusals():
    codec = server()
    codec.receive_data(GET[:20])
    assert b"\0\x0fRequest Timeout\0" in codec.refuse(408)
    codec = server()
    codec.receive_data(GET)
    answer = codec.refuse(418)
    assert b"\0\x07Refused\0" in answer
    assert answer.endswith(CLOSE)
    codec = server()
    codec.receive_data(GET)
    codec.send_response(0, "200 OK", [], end=False)
    assert codec.refuse(500) == b""


@pytest.mark.parametrize("kind", [kind for kind in range(256) if kind not in (2, 10)])
def test_only_two_message_types_are_obeyed(kind):
    codec = server()
    with pytest.raises(RemoteProtocolError, match="message type") as caught:
        codec.receive_data(packet(bytes([kind])))
    assert caught.value.status_hint == 0
    assert codec.data_to_send() == b""


@pytest.mark.parametrize("packet_size", [-1, 0, 8191, 65_537])
def test_impossible_packet_size(packet_size):
    for make in (server, client):
        with pytest.raises(ConfigError, match="8192 to 65536") as caught:
            make(packet_size=packet_size)
        assert caught.value.key == "packet_size"


# Limits.


def test_limit_on_the_packet_is_reached_before_it_comes():
    for size in (8192, 20_000, 65_536):
        codec = server(packet_size=size)
        assert codec.receive_data(b"\x12\x34" + (size - 4).to_bytes(2, "big")) == []
        if size == 65_536:
            continue  # no length says more than 65535, but these three do
        for kind, status in ((b"\x02", 431), (b"\x0a", 0)):
            codec = server(packet_size=size)
            assert codec.receive_data(b"\x12\x34" + (size - 3).to_bytes(2, "big")) == []
            with pytest.raises(LimitExceeded) as caught:
                codec.receive_data(kind)
            assert (caught.value.option, caught.value.status_hint) == ("packet_size", status)
    with pytest.raises(LimitExceeded, match="65537 octets, 65536 allowed"):
        server(packet_size=65_536).receive_data(b"\x12\x34\xff\xfd\x02")


def test_request_beyond_the_packet_size_is_answered():
    """An administrator raised the size on the web server's side alone: the visitor sees 431."""
    codec = server()
    with pytest.raises(LimitExceeded):
        codec.receive_data(b"\x12\x34\xff\xf0\x02\x02")
    answer = codec.refuse(431)
    assert b"\0\x1fRequest Header Fields Too Large\0" in answer
    assert answer.endswith(CLOSE)


def test_full_packets_are_taken():
    head = octets(f'02 02 {FIELDS} 00 01 "X" FF')[:-1]
    for size in (8192, 65_536):
        value = "v" * (size - 4 - len(head) - 4)
        data = packet(head + octets(f'"{value}" FF'))
        assert len(data) == size
        assert collect(server(packet_size=size), [data]) == [
            Collected(ENVIRON | {"HTTP_X": value}, b"", COMPLETE)
        ]
        body = b"b" * (size - 6)
        data = post(len(body)) + body_packet(body)
        assert collect(server(packet_size=size), [data])[0].body == body


def test_limit_on_octets_of_a_request():
    payload = len(GET) - 4
    assert ajp.ServerCodec(Limits(max_params_bytes=payload)).receive_data(GET)
    codec = ajp.ServerCodec(Limits(max_params_bytes=payload - 1))
    with pytest.raises(LimitExceeded) as caught:
        codec.receive_data(GET)
    assert (caught.value.option, caught.value.status_hint) == ("max_params_bytes", 431)
    assert b"\0\x1fRequest Header Fields Too Large\0" in codec.refuse(431)


@pytest.mark.parametrize(
    ("at_most", "beyond"),
    [
        pytest.param('00 02 "A" "1" "B" "2" FF', '00 03 "A" "1" "B" "2" "C" "3" FF', id="headers"),
        pytest.param(
            '00 00 0A "a" "1" 0A "a" "1" FF',
            '00 00 0A "a" "1" 0A "a" "1" 0A "a" "1" FF',
            id="named",
        ),
    ],
)
def test_limits_on_counts(at_most, beyond):
    limits = Limits(max_params=2)
    assert ajp.ServerCodec(limits).receive_data(octets(f"{{ 02 02 {FIELDS} {at_most} }}"))
    with pytest.raises(LimitExceeded) as caught:
        ajp.ServerCodec(limits).receive_data(octets(f"{{ 02 02 {FIELDS} {beyond} }}"))
    assert (caught.value.option, caught.value.status_hint) == ("max_params", 431)


def test_flood_of_pings_is_answered_in_linear_time():
    """Each gets its CPong; what is owed grows in place."""
    codec = server()
    codec.receive_data(PING * 50_000)
    assert codec.data_to_send() == PONG * 50_000
    assert codec.data_to_send() == b""
    assert isinstance(codec._out, bytearray)


def test_name_of_40_kib_is_not_taken_for_a_code():
    """From A000 on the length of a header's name would look like a coded name."""
    head = octets(f"02 02 {FIELDS} 00 01")
    for size in (0x9FFF, 0xA000):
        codec = client(packet_size=65_536)
        environ = REQUEST | {"HTTP_" + "A" * size: "v"}
        other = server(packet_size=65_536)
        other.receive_data(GET)
        if size == 0xA000:
            with pytest.raises(LocalProtocolError, match="too long"):
                codec.send_request(environ)
            with pytest.raises(ApplicationError, match="too long"):
                other.send_response(0, "200 OK", [("A" * size, "v")])
            data = packet(head + size.to_bytes(2, "big") + b"A" * size + octets('00 "v" FF'))
            with pytest.raises(RemoteProtocolError, match="A000"):
                server(packet_size=65_536).receive_data(data)
        else:
            (request,) = collect(server(packet_size=65_536), [codec.send_request(environ)])
            assert request.environ["HTTP_" + "A" * size] == "v"
            answer = other.send_response(0, "200 OK", [("A" * size, "v")])
            response, _ = codec.receive_data(answer)
            assert response.headers == [("A" * size, "v")]


def test_long_name_is_cut_in_the_refusal():
    data = octets(f'{{ 02 02 {FIELDS} 00 01 "{"a" * 4000}" "a\nb" FF }}')
    with pytest.raises(RemoteProtocolError, match="line break") as caught:
        server().receive_data(data)
    assert len(str(caught.value)) < 200


def test_octets_nobody_asked_for_are_held_up_to_a_bound():
    codec = server()
    codec.receive_data(GET)
    for _ in range(16):
        assert codec.receive_data(b"x" * 8192) == []
    with pytest.raises(RemoteProtocolError, match="unasked"):
        codec.receive_data(b"x")


# Attributes and the secret.


def test_allowed_attributes_come_under_their_own_name():
    data = octets(
        f'{{ 02 02 {FIELDS} 00 00 0A "SSL_CLIENT_S_DN" "CN=x" 0A "other" "2"'
        ' 0A "AJP_REMOTE_PORT" "4711" FF }'
    )
    (request,) = collect(server(allowed_attributes=frozenset({"SSL_CLIENT_S_DN"})), [data])
    assert request.environ == ENVIRON | {"SSL_CLIENT_S_DN": "CN=x", "REMOTE_PORT": "4711"}
    assert collect(server(), [data])[0].environ == ENVIRON | {"REMOTE_PORT": "4711"}


@pytest.mark.parametrize(
    "name",
    [
        *sorted(ENVIRON),
        "REMOTE_USER",
        "AUTH_TYPE",
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "HTTPS",
        "SSL_CLIENT_CERT",
        "REMOTE_PORT",
        "HTTP_HOST",
        "HTTP_",
        "REDIRECT_HTTP_AUTHORIZATION",
        "wsgi.input",
        "wsgi.url_scheme",
        "portico.x",
        "Authorization",
        "APPL_MD_PATH",
        "DOCUMENT_URI",
        "AJP_REMOTE_PORT",
        "a.b",
        "a b",
        "",
        "caf\xe9",
        "*",
    ],
)
def test_attribute_that_would_pass_for_a_parameter_cannot_be_allowed(name):
    with pytest.raises(ConfigError, match="AJP attribute") as caught:
        server(allowed_attributes=frozenset({"SSL_CLIENT_S_DN", name}))
    assert caught.value.key == "ajp_attributes"
    data = octets(f'{{ 02 02 {FIELDS} 00 00 0A "{name}" "forged" FF }}')
    if name != "AJP_REMOTE_PORT":
        assert collect(server(), [data])[0].environ == ENVIRON


PEM = "-----BEGIN CERTIFICATE-----\nMIIB+/8=\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(PEM, PEM, id="pem"),
        pytest.param("MIIB+/8=", PEM, id="base64"),
        pytest.param("MIIB\r\n+/8=\r\n", PEM, id="base64-in-lines"),
        pytest.param("", None, id="empty"),
    ],
)
def test_certificate_comes_as_mod_ssl_has_it(text, expected):
    data = octets(f"02 02 {FIELDS} 00 00 07") + len(text).to_bytes(2, "big") + text.encode()
    environ, _ = ajp.decode_forward_request(data + b"\0\xff")
    assert environ.get("SSL_CLIENT_CERT") == expected


def test_long_certificate_in_base64_is_cut_into_lines():
    data = octets(f'02 02 {FIELDS} 00 00 07 "{"A" * 130}" FF')
    environ, _ = ajp.decode_forward_request(data)
    assert [len(line) for line in environ["SSL_CLIENT_CERT"].splitlines()] == [27, 64, 64, 2, 25]


def test_tls_is_told_as_mod_ssl_tells_it():
    fields = FIELDS.removesuffix("00") + "01"
    data = octets(
        f'02 02 {fields} 00 00 08 "TLS_AES_256_GCM_SHA384" 09 "0a1b" 0B 01 00'
        ' 0A "AJP_SSL_PROTOCOL" "TLSv1.3" FF'
    )
    environ, _ = ajp.decode_forward_request(data)
    assert environ == ENVIRON | {
        "HTTPS": "on",
        "SSL_CIPHER": "TLS_AES_256_GCM_SHA384",
        "SSL_SESSION_ID": "0a1b",
        "SSL_CIPHER_USEKEYSIZE": "256",
        "SSL_PROTOCOL": "TLSv1.3",
    }


@pytest.mark.parametrize("name", sorted(_ajp_tables.REQ_ATTRIBUTE_NAMES.values()))
def test_reserved_names_cover_what_the_codec_sets(name):
    assert name in _ajp_tables.RESERVED_NAMES
    assert set(_ajp_tables.ATTRIBUTE_NAMES.values()) <= _ajp_tables.RESERVED_NAMES
    assert set(ENVIRON) <= _ajp_tables.RESERVED_NAMES


def with_secret(secret: str, *, first: bool = False) -> bytes:
    user = '03 "alice"'
    attributes = f'0C "{secret}" {user}' if first else f'{user} 0C "{secret}"'
    return octets(f'{{ 02 04 {FIELDS} 00 01 A0 08 "5" {attributes} FF }}')


@pytest.mark.parametrize("first", [True, False])
def test_right_secret_in_any_place(first):
    (request,) = collect(server(secret=WORD), [with_secret(WORD, first=first) + HELLO])
    assert (request.outcome, request.body) == (COMPLETE, b"hello")
    assert WORD not in str(request.environ)


@pytest.mark.parametrize("sent", ["", "s", "s3cre", "s3crets", "S3CRET", "s3cre\xe9", None])
def test_wrong_secret_is_403_and_the_end(sent):
    codec = server(secret=WORD)
    data = POST_5 if sent is None else with_secret(sent)
    with pytest.raises(RemoteProtocolError) as caught:
        codec.receive_data(data + HELLO)
    assert caught.value.status_hint == 403
    assert not codec.keep_open
    answer = codec.refuse(403)
    assert answer.startswith(octets('41 42 00 27 04 01 93 "Forbidden"'))
    assert answer.endswith(CLOSE)
    assert codec.receive_data(GET) == []
    for shown in (str(caught.value), repr(caught.value.args), repr(codec), str(answer)):
        assert WORD not in shown
        assert (
            not sent
            or len(sent) < 5
            or sent not in shown.replace("secret", "").replace("s", "")
            or sent == "s"
        )


def test_secret_is_compared_in_octets():
    data = with_secret("gr\xc3\xbc\xc3\x9fe")  # UTF-8, as in the web server's configuration
    assert collect(server(secret=GERMAN), [data + HELLO])[0].outcome == COMPLETE


def test_ping_needs_no_secret():
    codec = server(secret=WORD)
    assert codec.receive_data(PING) == []
    assert codec.data_to_send() == PONG


# CPing.


def test_ping_is_answered_at_once_and_once():
    codec = server()
    for chunk in (PING[:2], PING[2:4]):
        assert codec.receive_data(chunk) == []
        assert codec.data_to_send() == b""
    assert codec.receive_data(PING[4:]) == []
    assert codec.data_to_send() == PONG
    assert codec.data_to_send() == b""
    assert codec.keep_open


def test_ping_before_and_after_a_request():
    codec = server()
    (event,) = codec.receive_data(PING + PING + GET + PING)
    assert event.environ == ENVIRON
    assert codec.data_to_send() == PONG * 2
    assert codec.pending
    assert codec.send_response(0, "200 OK", []).endswith(REUSE)
    assert codec.receive_data(b"") == []
    assert codec.data_to_send() == PONG
    assert not codec.pending


def test_pings_between_empty_packets_reset_their_count():
    assert collect(server(), [(packet(b"") * 8 + PING) * 3 + GET]) == [
        Collected(ENVIRON, b"", COMPLETE)
    ]


# Defects that other implementations have or had.


def test_secret_and_stored_method_do_not_drop_the_connection():
    """flup 1.0.3: attributes 0C and 0D are not in its table."""
    data = octets(f'{{ 02 FF {FIELDS} 00 00 0C "{WORD}" 0D "PATCH" FF }}')
    (request,) = collect(server(secret=WORD), [data])
    assert request.environ == ENVIRON | {"REQUEST_METHOD": "PATCH"}


def test_attribute_overrides_no_parameter():
    """flup 1.0.3: any named attribute became an environ key (CVE-2020-1938's kind)."""
    data = octets(
        f'{{ 02 02 {FIELDS} 00 00 0A "REQUEST_METHOD" "PUT" 0A "REMOTE_ADDR" "::1"'
        ' 0A "REMOTE_USER" "root" FF }'
    )
    assert collect(server(), [data])[0].environ == ENVIRON


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
def test_header_with_line_break_is_refused_on_both_sides(value):
    """flup 1.0.3 and others: no check for CR, LF and NUL."""
    codec = client()
    codec.send_request(REQUEST)
    with pytest.raises(RemoteProtocolError):
        codec.receive_data(octets(f'[ 04 00 C8 "OK" 00 01 "X" "{value}" ]'))
    with pytest.raises(RemoteProtocolError):
        server().receive_data(octets(f'{{ 02 02 {FIELDS} 00 01 "X" "{value}" FF }}'))


def test_lower_case_and_empty_names_reach_no_environ():
    """flup 1.0.3: unfiltered names from the wire."""
    data = octets(f'{{ 02 02 {FIELDS} 00 01 "wsgi.input" "x" 0A "" "x" 0A "path" "x" FF }}')
    assert collect(server(), [data])[0].environ == ENVIRON | {"HTTP_WSGI.INPUT": "x"}


def test_path_is_decoded():
    """flup 1.0.3: AJP's path was never percent-decoded."""
    environ, _ = ajp.decode_forward_request(
        octets("02 02") + octets(FIELDS.replace('"/a"', '"/%61dmin%2e"')) + octets("00 00 FF")
    )
    assert environ["PATH_INFO"] == "/admin."


def test_error_is_no_status_200():
    """flup 1.0.3: an unhandled error was answered with status 200."""
    codec = server()
    codec.receive_data(GET)
    assert codec.refuse(500)[5:7] == (500).to_bytes(2, "big")


def test_chunked_body_is_not_lost():
    """flup 1.0.3: a body without content-length was never read."""
    data = POST_CHUNKED + HELLO + packet(b"\0\0")
    assert collect(server(), [data])[0].body == b"hello"


def test_large_head_is_an_error_before_a_packet_is_made():
    """flup 1.0.3: one packet of any size; above 65535 octets a crash."""
    codec = server()
    codec.receive_data(GET)
    for size in (8192, 70_000):
        with pytest.raises(ApplicationError):
            codec.send_response(0, "200 OK", [("X", "v" * size)])


def test_end_of_response_does_not_always_promise_reuse():
    """flup 1.0.3: End Response always said reuse."""
    codec = server()
    codec.receive_data(POST_5)
    assert codec.send_response(0, "200 OK", []).endswith(CLOSE)


def test_declared_length_is_not_allocated():
    """flup 1.0.3 (SCGI), wfastcgi: memory for what a length announces."""
    codec = server()
    (event,) = codec.receive_data(post(10**17))
    assert event.body == b""
    codec.receive_data(body_packet(b"x"))
    codec.want_body(0, 10**17)
    assert codec.data_to_send() == wanted(8186)


def test_body_that_is_junk_is_not_read_as_the_next_request():
    """gunicorn's uwsgi: a CONTENT_LENGTH that is no number left the body in the connection."""
    data = octets(f'{{ 02 04 {FIELDS} 00 01 A0 08 "junk" FF }}') + body_packet(GET)
    with pytest.raises(RemoteProtocolError) as caught:
        server().receive_data(data)
    assert caught.value.status_hint == 400
