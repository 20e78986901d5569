"""AJP/1.3 packets as text, one notation for everything.

``0A`` is an octet; ``"abc"`` a string of the protocol: its length in two octets, its text, one
NUL; ``'abc'`` the text alone; ``{ ... }`` a packet to the container: 12 34, the length of its
content in two octets, the content; ``[ ... ]`` one from the container, which begins with ``AB``.
"""

from __future__ import annotations

import re

import pytest

_TOKEN = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)'|([\[{])|([\]}])|([0-9A-F]{2}))")


def octets(text: str) -> bytes:
    """Turn a vector's text into what travels."""
    text = text.rstrip()
    stack = [b""]
    openings = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match, text[at:]
        string, plain, opening, closing, octet = match.groups()
        at = match.end()
        if string is not None:
            raw = string.encode("latin-1")
            stack[-1] += len(raw).to_bytes(2, "big") + raw + b"\0"
        elif plain is not None:
            stack[-1] += plain.encode("latin-1")
        elif opening:
            openings.append(b"AB" if opening == "[" else b"\x12\x34")
            stack.append(b"")
        elif closing:
            payload = stack.pop()
            stack[-1] += openings.pop() + len(payload).to_bytes(2, "big") + payload
        else:
            stack[-1] += bytes.fromhex(octet)
    return stack[0]


def packet(payload: bytes) -> bytes:
    """A packet to the container."""
    return b"\x12\x34" + len(payload).to_bytes(2, "big") + payload


def body_packet(data: bytes) -> bytes:
    return packet(len(data).to_bytes(2, "big") + data)


def wanted(size: int) -> bytes:
    """A Get Body Chunk."""
    return b"AB\0\x03\x06" + size.to_bytes(2, "big")


def post(length: int) -> bytes:
    """The head of a POST with a content-length."""
    return octets(f'{{ 02 04 {FIELDS} 00 01 A0 08 "{length}" FF }}')


#: What stands between the method's code and the headers in most vectors.
FIELDS = '"HTTP/1.1" "/a" "192.0.2.1" FF FF "example.test" 00 50 00'

#: The parameters that GET with `FIELDS` makes.
ENVIRON = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_URI": "/a",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/a",
    "QUERY_STRING": "",
    "REMOTE_ADDR": "192.0.2.1",
    "SERVER_NAME": "example.test",
    "SERVER_PORT": "80",
}

#: Heads that most connections begin with; as octets below.
PLAIN = f"{{ 02 02 {FIELDS} 00 00 FF }}"
FIVE = f'{{ 02 04 {FIELDS} 00 01 A0 08 "5" FF }}'
CHUNKED = f'{{ 02 04 {FIELDS} 00 01 "Transfer-Encoding" "chunked" FF }}'
_POST = ENVIRON | {"REQUEST_METHOD": "POST"}
_POST_5 = _POST | {"CONTENT_LENGTH": "5"}
_CHUNKED = _POST | {"HTTP_TRANSFER_ENCODING": "chunked"}

#: (text of the packet's payload, what the environ has beside `ENVIRON`)
HEADS = [
    pytest.param(f"02 02 {FIELDS} 00 00 FF", {}, id="get"),
    pytest.param(
        "02 02 00 08 'HTTP/1.1' 00 00 02 '/a' 00 00 09 '192.0.2.1' 00 FF FF"
        " 00 0C 'example.test' 00 00 50 00 00 00 FF",
        {},
        id="get-octet-by-octet",
    ),
    pytest.param(
        '02 02 "HTTP/2.0" "/a" "2001:db8::1" "client.test" "example.test" 20 FB 01 00 00 FF',
        {
            "SERVER_PROTOCOL": "HTTP/2.0", "REMOTE_ADDR": "2001:db8::1", "HTTPS": "on",
            "REMOTE_HOST": "client.test", "SERVER_PORT": "8443",
        },
        id="tls-h2-resolved-host",
    ),
    pytest.param(
        '02 02 "HTTP/1.1" "/a" "192.0.2.1" "" "example.test" 00 50 7F 00 00 FF',
        {"HTTPS": "on"},
        id="empty-host-any-true-boolean",
    ),
    pytest.param(
        '02 02 "HTTP/1.1" "/a" FF FF FF FF FF FF 00 00 00 00 00 FF',
        {"REMOTE_ADDR": "", "SERVER_NAME": None, "SERVER_PORT": None},
        id="null-address-and-server",
    ),
    pytest.param(
        '02 02 "HTTP/1.1" "/caf%C3%A9/a%20b%2fc%2525;p=%zz%4" "192.0.2.1" FF FF "example.test"'
        " 00 50 00 00 00 FF",
        {
            "REQUEST_URI": "/caf%C3%A9/a%20b%2fc%2525;p=%zz%4",
            "PATH_INFO": "/caf\xc3\xa9/a b/c%25;p=%zz%4",
        },
        id="path-decoded-exactly-once",
    ),
    pytest.param(
        '02 02 "HTTP/1.1" "/caf\xc3\xa9 x" "192.0.2.1" FF FF "example.test" 00 50 00 00 00 FF',
        {"REQUEST_URI": "/caf\xc3\xa9 x", "PATH_INFO": "/caf\xc3\xa9 x"},
        id="path-already-decoded-as-lighttpd-does",
    ),
    pytest.param(
        '02 02 "HTTP/1.1" "/%00%0A" "192.0.2.1" FF FF "example.test" 00 50 00 00 00 FF',
        {"REQUEST_URI": "/%00%0A", "PATH_INFO": "/\0\n"},
        id="path-with-encoded-controls",
    ),
    pytest.param(
        '02 01 "HTTP/1.1" "*" "192.0.2.1" FF FF "example.test" 00 50 00 00 00 FF',
        {"REQUEST_METHOD": "OPTIONS", "REQUEST_URI": "*", "PATH_INFO": ""},
        id="options-asterisk",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 0E A0 01 "1" A0 02 "2" A0 03 "3" A0 04 "4" A0 05 "5" A0 06 "6"'
        ' A0 07 "7" A0 08 "0" A0 09 "9" A0 0A "A" A0 0B "B" A0 0C "C" A0 0D "D" A0 0E "E" FF',
        {
            "HTTP_ACCEPT": "1", "HTTP_ACCEPT_CHARSET": "2", "HTTP_ACCEPT_ENCODING": "3",
            "HTTP_ACCEPT_LANGUAGE": "4", "HTTP_AUTHORIZATION": "5", "HTTP_CONNECTION": "6",
            "CONTENT_TYPE": "7", "CONTENT_LENGTH": "0", "HTTP_COOKIE": "9", "HTTP_COOKIE2": "A",
            "HTTP_HOST": "B", "HTTP_PRAGMA": "C", "HTTP_REFERER": "D", "HTTP_USER_AGENT": "E",
        },
        id="coded-headers",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 06 "Accept-Encoding" "a" "x-Mixed-CASE" "b" "CONTENT-type" "c"'
        ' "content-length" "0" "X-Latin" "caf\xe9" "X.y!" "d" FF',
        {
            "HTTP_ACCEPT_ENCODING": "a", "HTTP_X_MIXED_CASE": "b", "CONTENT_TYPE": "c",
            "CONTENT_LENGTH": "0", "HTTP_X_LATIN": "caf\xe9", "HTTP_X.Y!": "d",
        },
        id="plain-headers-in-any-case",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 04 "X-Empty" "" "Expect" FF FF A0 08 FF FF A0 07 "" FF',
        {"HTTP_X_EMPTY": "", "CONTENT_TYPE": ""},
        id="empty-and-null-values",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 03 "X_Y" "forged" "X-Y" "real" "Content_Length" "5" FF',
        {"HTTP_X_Y": "real"},
        id="underscore-names-dropped",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 06 "X" "a" A0 09 "b=1" "x" "c" "Cookie" "d=2" A0 0B "h" "Host" "h" FF',
        {"HTTP_X": "a, c", "HTTP_COOKIE": "b=1; d=2", "HTTP_HOST": "h"},
        id="repeated-headers-joined",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 01 "X" "a\tb" 05 "a\x7f\xad" FF',
        {"HTTP_X": "a\tb", "REQUEST_URI": "/a?a\x7f\xad", "QUERY_STRING": "a\x7f\xad"},
        id="harmless-controls-kept",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 05 "q=%20" FF',
        {"REQUEST_URI": "/a?q=%20", "QUERY_STRING": "q=%20"},
        id="query",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 05 "" FF', {"REQUEST_URI": "/a?"}, id="query-sent-empty"
    ),
    pytest.param(f"02 02 {FIELDS} 00 00 05 FF FF FF", {}, id="query-sent-null"),
    pytest.param(
        f'02 02 {FIELDS} 00 00 01 "ctx" 02 "servlet" 03 "alice" 04 "Basic" 06 "route1" FF',
        {"REMOTE_USER": "alice", "AUTH_TYPE": "Basic"},
        id="user-and-ignored-attributes",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 03 "" 04 FF FF 07 FF FF FF', {}, id="empty-attributes-not-set"
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 07 "-----BEGIN-----\nMII=\n" 08 "TLS_AES_256" 09 "0123" 0B 01 00'
        ' 0A "AJP_SSL_PROTOCOL" "TLSv1.3" FF',
        {
            "SSL_CLIENT_CERT": "-----BEGIN-----\nMII=\n", "SSL_CIPHER": "TLS_AES_256",
            "SSL_SESSION_ID": "0123", "SSL_CIPHER_USEKEYSIZE": "256", "SSL_PROTOCOL": "TLSv1.3",
        },
        id="tls-attributes",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 0A "AJP_REMOTE_PORT" "4711" 0A "AJP_LOCAL_ADDR" "192.0.2.9"'
        ' 0A "JK_LB_ACTIVATION" "ACT" FF',
        {"REMOTE_PORT": "4711", "SERVER_ADDR": "192.0.2.9"},
        id="well-known-named-attributes",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 0A "AJP_REMOTE_PORT" FF FF 0A FF FF "x" 0A "" "x" FF',
        {},
        id="null-in-named-attributes",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 0A "AJP_REMOTE_PORT" "1" 0A "AJP_REMOTE_PORT" "2" FF',
        {"REMOTE_PORT": "2"},
        id="repeated-named-attribute-overrides",
    ),
    pytest.param(
        f'02 02 {FIELDS} 00 00 0A "REMOTE_USER" "root" 0A "HTTP_X" "1" 0A "wsgi.input" "1"'
        ' 0A "javax.servlet.include.request_uri" "/" 0A "HTTPS" "on" 0A "MY_VAR" "1" FF',
        {},
        id="unknown-named-attributes-dropped",
    ),
    pytest.param(f'02 FF {FIELDS} 00 00 0D "PATCH" FF', {"REQUEST_METHOD": "PATCH"}, id="patch"),
    pytest.param(
        f'02 FF {FIELDS} 00 00 0D "get" FF', {"REQUEST_METHOD": "get"}, id="method-in-lower-case"
    ),
    pytest.param(f'02 02 {FIELDS} 00 00 0D "PUT" FF', {}, id="stored-method-beside-a-code"),
    pytest.param(f'02 02 {FIELDS} 00 00 0C "unasked secret" FF', {}, id="secret-nobody-asked-for"),
]  # fmt: skip

#: What follows code 255 in `METHODS`' place, or a code.
METHOD_CODES = (
    "OPTIONS GET HEAD POST PUT DELETE TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL"
    " REPORT VERSION-CONTROL CHECKIN CHECKOUT UNCHECKOUT SEARCH MKWORKSPACE UPDATE LABEL MERGE"
    " BASELINE-CONTROL MKACTIVITY"
)

#: (text, [(environ, body)...]): what one connection carries
CONNECTIONS = [
    pytest.param(PLAIN, [(ENVIRON, b"")], id="get"),
    pytest.param(f"{PLAIN} {PLAIN}", [(ENVIRON, b"")] * 2, id="two-requests"),
    pytest.param(f"{{ 0A }} {PLAIN} {{ 0A }} {PLAIN}", [(ENVIRON, b"")] * 2, id="pings-between"),
    pytest.param(f"{{ }} {{ }} {PLAIN} {{ }}", [(ENVIRON, b"")], id="empty-packets-as-of-lighttpd"),
    pytest.param(f"{FIVE} {{ 00 05 'hello' }}", [(_POST_5, b"hello")], id="one-body-packet"),
    pytest.param(
        f"{FIVE} {{ 00 02 'he' }} {{ 00 01 'l' }} {{ 00 02 'lo' }} {PLAIN}",
        [(_POST_5, b"hello"), (ENVIRON, b"")],
        id="three-body-packets-and-a-request",
    ),
    pytest.param(
        f"{CHUNKED} {{ 00 05 'hello' }} {{ 00 00 }} {PLAIN}",
        [(_CHUNKED, b"hello"), (ENVIRON, b"")],
        id="chunked-ended-as-of-mod_proxy_ajp",
    ),
    pytest.param(
        f"{CHUNKED} {{ 00 05 'hello' }} {{ 00 01 '!' }} {{ }}",
        [(_CHUNKED, b"hello!")],
        id="chunked-ended-as-of-mod_jk",
    ),
    pytest.param(f"{CHUNKED} {{ 00 00 }}", [(_CHUNKED, b"")], id="chunked-and-empty"),
    pytest.param(
        f'{{ 02 04 {FIELDS} 00 01 "Transfer-Encoding" "\tCHUNKED " FF }} {{ 00 01 \'-\' }} {{ }}',
        [(_POST | {"HTTP_TRANSFER_ENCODING": "\tCHUNKED "}, b"-")],
        id="chunked-in-any-case",
    ),
    pytest.param(
        f'{{ 02 04 {FIELDS} 00 02 "Content-Length" "99" "Transfer-Encoding" "chunked" FF }}'
        " { 00 05 'hello' } { }",
        [(_CHUNKED, b"hello")],
        id="chunked-overrides-content-length",
    ),
    pytest.param(f"{FIVE} {{ 'hello' }}", [(_POST_5, b"hello")], id="no-inner-length-lighttpd"),
    pytest.param(
        f"{FIVE} {{ 'h' }} {{ 00 01 'l' }} {{ '!' }}",
        [(_POST_5, b"h\x00\x01l!")],
        id="no-inner-length-for-the-whole-body",
    ),
    pytest.param(
        f"{FIVE} {{ 'hello' }} {FIVE} {{ 00 03 'lo!' }}",
        [(_POST_5, b"hello"), (_POST_5, b"\x00\x03lo!")],
        id="no-inner-length-for-the-whole-connection",
    ),
    pytest.param(
        f"{FIVE} {{ FF 00 'loX' }}",
        [(_POST_5, b"\xff\x00loX")],
        id="no-inner-length-that-could-be-one-too-great",
    ),
]

#: (text, status to answer with or 0, words of the message)
BROKEN = [
    # Magic, lengths, message types.
    pytest.param("'GET / HTTP/1.1'", 0, "begins with 12 34", id="http"),
    pytest.param("12 35 00 01", 0, "begins with 12 34", id="second-octet-of-magic"),
    pytest.param("'AB' 00 01 09", 0, "begins with 12 34", id="magic-of-the-container"),
    pytest.param(f"{PLAIN} 01 01", 0, "begins with 12 34", id="magic-of-a-second-request"),
    pytest.param("12 34 1F FD 02", 431, "8193 octets, 8192 allowed", id="packet-too-long"),
    pytest.param("12 34 1F FD 0A", 0, "8193 octets, 8192 allowed", id="cping-too-long"),
    pytest.param("12 34 FF FF 07", 0, "packet_size", id="packet-of-any-length"),
    pytest.param(f"{FIVE} 12 34 FF FF 02", 0, "packet_size", id="body-packet-too-long"),
    pytest.param("{ } " * 9, 0, "empty packets", id="empty-packets-without-end"),
    pytest.param("{ 07 }", 0, "message type 7", id="shutdown"),
    pytest.param("{ 08 }", 0, "message type 8", id="ping-of-ajp14"),
    pytest.param("{ 03 00 00 00 }", 0, "message type 3", id="send-body-chunk"),
    pytest.param("{ 05 01 }", 0, "message type 5", id="end-response"),
    pytest.param("{ 09 }", 0, "message type 9", id="cpong"),
    pytest.param("{ 0B }", 0, "message type 11", id="type-11"),
    pytest.param("{ 0A 00 }", 0, "message type 10", id="cping-with-content"),
    pytest.param("{ 00 05 'hello' }", 0, "message type 0", id="body-nobody-asked-for"),
    # The fields before the headers.
    pytest.param("{ 02 }", 400, "past the end", id="nothing-but-a-type"),
    pytest.param(f"{{ 02 00 {FIELDS} 00 00 FF }}", 501, "method code 0", id="method-0"),
    pytest.param(f"{{ 02 1C {FIELDS} 00 00 FF }}", 501, "method code 28", id="method-28"),
    pytest.param(f"{{ 02 FE {FIELDS} 00 00 FF }}", 501, "method code 254", id="method-254"),
    pytest.param(f"{{ 02 FF {FIELDS} 00 00 FF }}", 400, "not a method", id="no-stored-method"),
    pytest.param(
        f"{{ 02 FF {FIELDS} 00 00 0D FF FF FF }}", 400, "not a method", id="stored-method-null"
    ),
    pytest.param(
        f'{{ 02 FF {FIELDS} 00 00 0D "GET /" FF }}', 400, "not a method", id="stored-method-blank"
    ),
    pytest.param("{ 02 02 00 FF 'HTTP/1.1' 00 }", 400, "past the end", id="string-past-end"),
    pytest.param("{ 02 02 00 08 'HTTP/1.1' }", 400, "past the end", id="string-to-the-very-end"),
    pytest.param(
        f"{{ 02 02 00 07 'HTTP/1.1' 00 {FIELDS} }}", 400, "NUL", id="string-without-nul"
    ),
    pytest.param(
        '{ 02 02 FF FF "/a" "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "no protocol", id="protocol-null",
    ),
    pytest.param(
        '{ 02 02 "HTTP/1.1" FF FF "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "not the path", id="uri-null",
    ),
    pytest.param(
        '{ 02 02 "HTTP/1.1" "" "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "not the path", id="uri-empty",
    ),
    pytest.param(
        '{ 02 02 "HTTP/1.1" "a" "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "not the path", id="uri-without-slash",
    ),
    pytest.param(
        '{ 02 02 "HTTP/1.1" "http://h/" "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "not the path", id="uri-absolute",
    ),
    pytest.param(
        '{ 02 02 "HTTP/1.1" "/%?0%0A" "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "holds a query", id="uri-with-query",
    ),
    pytest.param(
        '{ 02 02 "HTTP/1.1" "*" "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "not the path", id="asterisk-without-options",
    ),
    pytest.param(
        '{ 02 02 "HTTP/1.1" "/a\r\nX: y" "192.0.2.1" FF FF "h" 00 50 00 00 00 FF }',
        400, "REQUEST_URI holds", id="uri-with-line-break",
    ),
    pytest.param(f"{{ 02 02 {FIELDS} }}", 400, "past the end", id="no-headers-count"),
    # Headers.
    pytest.param(f"{{ 02 02 {FIELDS} 03 E8 FF }}", 400, "NUL|null|past", id="headers-missing"),
    pytest.param(f"{{ 02 02 {FIELDS} FF FF FF }}", 431, "65535 headers", id="65535-headers"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 A0 00 "x" FF }}', 400, "A000", id="header-a000"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 A0 0F "x" FF }}', 400, "A00F", id="header-a00f"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 A0 FF "x" FF }}', 400, "A0FF", id="header-a0ff"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 A1 01 "x" FF }}', 400, "too long", id="header-a101"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 FF FF "x" FF }}', 400, "null", id="header-name-null"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 "" "x" FF }}', 400, "token", id="header-name-empty"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 "A B" "x" FF }}', 400, "token", id="header-name-blank"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 "A:" "x" FF }}', 400, "token", id="header-name-colon"),
    pytest.param(
        f'{{ 02 02 {FIELDS} 00 01 "A\xe9" "x" FF }}', 400, "token", id="header-name-not-ascii"
    ),
    pytest.param(
        f"{{ 02 02 {FIELDS} 00 01 00 01 'AB' 00 FF }}", 400, "name does not end",
        id="header-name-without-nul",
    ),
    pytest.param(
        f"{{ 02 02 {FIELDS} 00 01 \"A\" 00 01 'xy' 00 FF }}", 400, "value does not end",
        id="header-value-without-nul",
    ),
    pytest.param(
        f'{{ 02 02 {FIELDS} 00 01 "A" "x\r\nB: y" FF }}', 400, "HTTP_A holds", id="value-with-crlf"
    ),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 "A" "x\ry" FF }}', 400, "HTTP_A", id="value-with-cr"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 01 "A" "x\0y" FF }}', 400, "HTTP_A", id="value-with-nul"),
    pytest.param(
        f'{{ 02 04 {FIELDS} 00 02 A0 08 "5" "Content-Length" "5" FF }}', 400, "twice",
        id="content-length-twice",
    ),
    pytest.param(f'{{ 02 04 {FIELDS} 00 01 A0 08 "-1" FF }}', 400, "no length", id="length-minus"),
    pytest.param(f'{{ 02 04 {FIELDS} 00 01 A0 08 "+1" FF }}', 400, "no length", id="length-plus"),
    pytest.param(f'{{ 02 04 {FIELDS} 00 01 A0 08 "1_0" FF }}', 400, "no length", id="length-1_0"),
    pytest.param(f'{{ 02 04 {FIELDS} 00 01 A0 08 " 1" FF }}', 400, "no length", id="length-blank"),
    pytest.param(f'{{ 02 04 {FIELDS} 00 01 A0 08 "\xb2" FF }}', 400, "no length", id="length-sup"),
    pytest.param(f'{{ 02 04 {FIELDS} 00 01 A0 08 "5, 5" FF }}', 400, "no length", id="length-two"),
    pytest.param(
        f'{{ 02 04 {FIELDS} 00 01 A0 08 "9223372036854775808" FF }}', 400, "no length",
        id="length-of-2-to-the-63rd",
    ),
    pytest.param(
        f'{{ 02 04 {FIELDS} 00 02 A0 08 "x" "Transfer-Encoding" "chunked" FF }}', 400, "no length",
        id="length-no-number-beside-chunked",
    ),
    pytest.param(
        f'{{ 02 04 {FIELDS} 00 01 "Transfer-Encoding" "gzip, chunked" FF }}', 501, "coding",
        id="other-transfer-coding",
    ),
    pytest.param(
        f'{{ 02 02 {FIELDS} 00 02 A0 07 "a" "Content-Type" "b" FF }}',
        400,
        "CONTENT_TYPE",
        id="two-content-types",
    ),
    pytest.param(
        f'{{ 02 02 {FIELDS} 00 02 "Host" "a" "Host" "b" FF }}', 400, "HTTP_HOST", id="two-hosts"
    ),
    # Attributes.
    pytest.param(f"{{ 02 02 {FIELDS} 00 00 }}", 400, "past the end", id="no-ff"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 00 05 "q" }}', 400, "past the end", id="no-ff-after-one"),
    pytest.param(f"{{ 02 02 {FIELDS} 00 00 FF 00 }}", 400, "follow the end", id="more-after-ff"),
    pytest.param(
        f"{{ 02 02 {FIELDS} 00 00 FF {FIELDS} }}", 400, "follow the end", id="much-more-after-ff"
    ),
    pytest.param(f'{{ 02 02 {FIELDS} 00 00 00 "x" FF }}', 0, "attribute 00", id="attribute-00"),
    pytest.param(f'{{ 02 02 {FIELDS} 00 00 0E "x" FF }}', 0, "attribute 0E", id="attribute-0e"),
    pytest.param(f"{{ 02 02 {FIELDS} 00 00 FE FF }}", 0, "attribute FE", id="attribute-fe"),
    pytest.param(f"{{ 02 02 {FIELDS} 00 00 05 00 FF }}", 400, "past the end", id="attribute-cut"),
    pytest.param(f"{{ 02 02 {FIELDS} 00 00 0B 01 }}", 400, "past the end", id="key-size-cut"),
    pytest.param(
        f"{{ 02 02 {FIELDS} 00 00 05 00 01 'ab' 00 FF }}", 400, "past the end|NUL",
        id="attribute-without-nul",
    ),
    pytest.param(
        f'{{ 02 02 {FIELDS} 00 00 05 "a" 05 "a" FF }}', 400, "05 came twice", id="attribute-twice"
    ),
    pytest.param(
        f'{{ 02 02 {FIELDS} 00 00 03 "a\r\nb" FF }}', 400, "REMOTE_USER holds", id="user-line-break"
    ),
    # Bodies.
    pytest.param(f"{FIVE} {{ 00 06 'hello!' }}", 400, "more body", id="excess-in-one-packet"),
    pytest.param(
        f"{FIVE} {{ 00 03 'hel' }} {{ 00 03 'lo!' }}", 400, "more body", id="excess-in-the-second"
    ),
    pytest.param(f"{FIVE} {{ 'hello!' }}", 400, "more body", id="excess-without-inner-length"),
    pytest.param(
        f"{FIVE} {{ 00 03 'hel' }} {{ 00 03 'lo' }}", 400, "inner length", id="inner-too-great"
    ),
    pytest.param(
        f"{FIVE} {{ 00 03 'hel' }} {{ 00 01 'lo' }}", 400, "inner length", id="inner-too-small"
    ),
    pytest.param(f"{FIVE} {{ 00 03 'hel' }} {{ 00 }}", 400, "inner length", id="inner-cut"),
    pytest.param(
        f"{CHUNKED} {{ 'hello' }}", 400, "inner length", id="chunked-without-inner-length"
    ),
    pytest.param(f"{FIVE} 12 34 1F FD", 0, "packet_size", id="body-packet-too-long"),
    pytest.param(f"{FIVE} 12 33", 0, "begins with 12 34", id="body-packet-without-magic"),
]  # fmt: skip

#: (status, headers, body, text): answers that end
RESPONSES = [
    pytest.param(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", "2")],
        b"hi",
        """[ 04 00 C8 "OK" 00 02 A0 01 "text/plain" A0 03 "2" ]
           [ 03 00 02 'hi' 00 ] [ 05 01 ]""",
        id="ordinary",
    ),
    pytest.param(
        "200 OK",
        [("X", "y")],
        b"hi",
        """41 42 00 12 04 00 C8 00 02 4F 4B 00 00 01 00 01 58 00 00 01 79 00
           41 42 00 06 03 00 02 68 69 00 41 42 00 02 05 01""",
        id="octet-by-octet",
    ),
    pytest.param("204 No Content", [], b"", '[ 04 00 CC "No Content" 00 00 ] [ 05 01 ]', id="204"),
    pytest.param("404", [], b"", '[ 04 01 94 "" 00 00 ] [ 05 01 ]', id="no-reason"),
    pytest.param("999 ", [], b"", '[ 04 03 E7 "" 00 00 ] [ 05 01 ]', id="no-reason-but-a-blank"),
    pytest.param(
        "200 OK",
        [
            ("Content-Type", "1"), ("Content-Language", "2"), ("Content-Length", "3"),
            ("Date", "4"), ("Last-Modified", "5"), ("Location", "6"), ("Set-Cookie", "7"),
            ("Set-Cookie2", "8"), ("Servlet-Engine", "9"), ("WWW-Authenticate", "B"),
            ("content-type", "1"), ("CONTENT-TYPE", "1"), ("X-Other", "caf\xe9"), ("X-Empty", ""),
        ],
        b"",
        """[ 04 00 C8 "OK" 00 0E A0 01 "1" A0 02 "2" A0 03 "3" A0 04 "4" A0 05 "5" A0 06 "6"
             A0 07 "7" A0 08 "8" A0 09 "9" A0 0B "B" A0 01 "1" "CONTENT-TYPE" "1"
             "X-Other" "caf\xe9" "X-Empty" "" ] [ 05 01 ]""",
        id="coded-and-plain-headers",
    ),
    pytest.param(
        "200 OK",
        [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
        b"",
        '[ 04 00 C8 "OK" 00 02 A0 07 "a=1" A0 07 "b=2" ] [ 05 01 ]',
        id="repeated-header",
    ),
    pytest.param(
        "200 OK",
        [("X", "v" * 300)],
        b"",
        f'[ 04 00 C8 "OK" 00 01 "X" "{"v" * 300}" ] [ 05 01 ]',
        id="value-over-255",
    ),
]  # fmt: skip

#: (text, words of the message): what a container must not send; a request is under way
BROKEN_RESPONSES = [
    pytest.param("'HTTP/1.1 200 OK'", "begins with 41 42", id="http"),
    pytest.param("{ 05 01 }", "begins with 41 42", id="magic-of-the-server"),
    pytest.param("41 42 1F FD", "packet_size", id="packet-too-long"),
    pytest.param("[ ]", "within a field", id="empty-message"),
    pytest.param("[ 05 01 ]", "type 5 out of place", id="end-before-head"),
    pytest.param("[ 03 00 01 'x' 00 ]", "type 3 out of place", id="chunk-before-head"),
    pytest.param("[ 09 ]", "type 9 out of place", id="cpong-without-cping"),
    pytest.param("[ 02 ]", "type 2 out of place", id="type-2"),
    pytest.param('[ 04 00 C8 "OK" 00 00 ] [ 04 00 C8 "OK" 00 00 ]', "out of place", id="two-heads"),
    pytest.param('[ 04 00 C8 "OK" 00 00 ] [ 05 ]', "within a field", id="end-without-flag"),
    pytest.param('[ 04 00 C8 "OK" 00 00 ] [ 05 01 ] [ 05 01 ]', "out of place", id="two-ends"),
    pytest.param("[ 04 00 C8 \"OK\" 00 00 ] [ 03 00 05 'hi' 00 ]", "chunk", id="chunk-past-end"),
    pytest.param("[ 04 00 C8 \"OK\" 00 00 ] [ 03 00 01 'hi' 00 ]", "chunk", id="chunk-too-short"),
    pytest.param('[ 04 00 C8 "OK" 00 00 ] [ 03 00 ]', "within a field", id="chunk-cut"),
    pytest.param('[ 04 00 C8 "OK" 00 01 ]', "within a field", id="header-missing"),
    pytest.param('[ 04 00 C8 "OK" 00 00 00 ]', "follow the end", id="head-with-more"),
    pytest.param('[ 04 00 63 "OK" 00 00 ]', "status 99", id="status-99"),
    pytest.param('[ 04 03 E8 "OK" 00 00 ]', "status 1000", id="status-1000"),
    pytest.param('[ 04 00 C8 "O\nK" 00 00 ]', "status 200", id="reason-with-line-break"),
    pytest.param('[ 04 00 C8 "OK" 00 01 A0 00 "x" ]', "unknown code", id="header-a000"),
    pytest.param('[ 04 00 C8 "OK" 00 01 A0 0C "x" ]', "unknown code", id="header-a00c"),
    pytest.param('[ 04 00 C8 "OK" 00 01 FF FF "x" ]', "null", id="header-name-null"),
    pytest.param('[ 04 00 C8 "OK" 00 01 "a b" "x" ]', "no token", id="header-name-blank"),
    pytest.param('[ 04 00 C8 "OK" 00 01 "a" FF FF ]', "a is null", id="header-value-null"),
    pytest.param('[ 04 00 C8 "OK" 00 01 "a" "x\ny" ]', "line break", id="value-with-line-break"),
    pytest.param("[ 06 00 00 ]", "no octet", id="nothing-wanted"),
    pytest.param("[ 06 00 01 ] [ 06 00 01 ]", "before the last", id="wanted-twice"),
    pytest.param("[ 06 00 ]", "within a field", id="wanted-cut"),
]

#: Packets that tests are made of.
GET, POST_5, POST_CHUNKED = map(octets, (PLAIN, FIVE, CHUNKED))
HELLO = body_packet(b"hello")
PING, PONG = octets("{ 0A }"), octets("[ 09 ]")
HEAD_OK = octets('[ 04 00 C8 "OK" 00 00 ]')
REUSE, CLOSE = octets("[ 05 01 ]"), octets("[ 05 00 ]")

#: The parameters of a client's request that makes `GET`.
REQUEST = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_URI": "/a",
    "REMOTE_ADDR": "192.0.2.1",
    "SERVER_NAME": "example.test",
    "SERVER_PORT": "80",
}
