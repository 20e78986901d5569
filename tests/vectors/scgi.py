"""SCGI requests as text: ``<0>`` is one NUL octet, everything else stands for itself."""

from __future__ import annotations

import pytest


def octets(text: str) -> bytes:
    """Turn a vector's text into what travels."""
    return text.replace("<0>", "\0").encode("latin-1")


#: (text, environ, body)
REQUESTS = [
    pytest.param(
        "58:CONTENT_LENGTH<0>5<0>SCGI<0>1<0>REQUEST_METHOD<0>PUT<0>REQUEST_URI<0>/a<0>,hello",
        {"CONTENT_LENGTH": "5", "SCGI": "1", "REQUEST_METHOD": "PUT", "REQUEST_URI": "/a"},
        b"hello",
        id="specification-example",
    ),
    pytest.param(
        "24:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>,",
        {"CONTENT_LENGTH": "0", "SCGI": "1"},
        b"",
        id="no-body",
    ),
    pytest.param(
        "35:CONTENT_LENGTH<0>0<0>A<0>x<0>SCGI<0>1<0>B<0>y<0>C<0><0>,",
        {"CONTENT_LENGTH": "0", "A": "x", "SCGI": "1", "B": "y", "C": ""},
        b"",
        id="scgi-in-the-middle-empty-value",
    ),
    pytest.param(
        "24:SCGI<0>1<0>CONTENT_LENGTH<0>2<0>,hi",
        {"SCGI": "1", "CONTENT_LENGTH": "2"},
        b"hi",
        id="content-length-not-first",
    ),
    pytest.param(
        "41:CONTENT_LENGTH<0>2<0>SCGI<0>1<0>CONTENT_LENGTH<0>2<0>,hi",
        {"CONTENT_LENGTH": "2", "SCGI": "1"},
        b"hi",
        id="content-length-repeated-equal",
    ),
    pytest.param(
        "24:CONTENT_LENGTH<0>2<0>SCGI<0>1<0>,hi, and more that means nothing",
        {"CONTENT_LENGTH": "2", "SCGI": "1"},
        b"hi",
        id="excess-ignored",
    ),
    pytest.param(
        "28:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>\xff<0>\xe9<0>,excess",
        {"CONTENT_LENGTH": "0", "SCGI": "1", "\xff": "\xe9"},
        b"",
        id="latin-1",
    ),
    pytest.param(
        "74:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>HTTP_X<0>a<0>HTTP_COOKIE<0>b=1<0>HTTP_X<0>a<0>"
        "HTTP_COOKIE<0>c=2<0>,",
        {"CONTENT_LENGTH": "0", "SCGI": "1", "HTTP_X": "a, a", "HTTP_COOKIE": "b=1; c=2"},
        b"",
        id="repeated-headers-joined",
    ),
    pytest.param(
        "75:CONTENT_LENGTH<0>1<0>SCGI<0>1<0>SERVER_SOFTWARE<0>nginx/1.22.1<0>"
        "HTTP_CONTENT_LENGTH<0>5<0>,hello",
        {
            "CONTENT_LENGTH": "5",
            "SCGI": "1",
            "SERVER_SOFTWARE": "nginx/1.22.1",
            "HTTP_CONTENT_LENGTH": "5",
        },
        b"hello",
        id="nginx-unbuffered-length-too-small",
    ),
    pytest.param(
        "61:CONTENT_LENGTH<0>1<0>SCGI<0>1<0>DOCUMENT_URI<0>/<0>HTTP_CONTENT_LENGTH<0>5<0>,hello",
        {
            "CONTENT_LENGTH": "5",
            "SCGI": "1",
            "DOCUMENT_URI": "/",
            "HTTP_CONTENT_LENGTH": "5",
        },
        b"hello",
        id="nginx-stock-unbuffered-length-too-small",
    ),
    pytest.param(
        "61:CONTENT_LENGTH<0>9<0>SCGI<0>1<0>DOCUMENT_URI<0>/<0>HTTP_CONTENT_LENGTH<0>5<0>,123456789",
        {
            "CONTENT_LENGTH": "9",
            "SCGI": "1",
            "DOCUMENT_URI": "/",
            "HTTP_CONTENT_LENGTH": "5",
        },
        b"123456789",
        id="nginx-length-is-never-lowered",
    ),
    pytest.param(
        "106:CONTENT_LENGTH<0>1<0>SCGI<0>1<0>SERVER_SOFTWARE<0>nginx/1.22.1<0>"
        "HTTP_CONTENT_LENGTH<0>5<0>HTTP_TRANSFER_ENCODING<0>chunked<0>,hello",
        {
            "CONTENT_LENGTH": "1",
            "SCGI": "1",
            "SERVER_SOFTWARE": "nginx/1.22.1",
            "HTTP_CONTENT_LENGTH": "5",
            "HTTP_TRANSFER_ENCODING": "chunked",
        },
        b"h",
        id="nginx-chunked-length-is-right",
    ),
    pytest.param(
        "69:CONTENT_LENGTH<0>1<0>SCGI<0>1<0>SERVER_SOFTWARE<0>Apache<0>"
        "HTTP_CONTENT_LENGTH<0>5<0>,hello",
        {
            "CONTENT_LENGTH": "1",
            "SCGI": "1",
            "SERVER_SOFTWARE": "Apache",
            "HTTP_CONTENT_LENGTH": "5",
        },
        b"h",
        id="other-servers-are-taken-at-their-word",
    ),
]

#: (text, part of the message, status_hint); a hint of 0 goes with no answer at all.
BROKEN = [
    pytest.param("GET / HTTP/1.1\r\n\r\n", "length of a netstring", 0, id="http"),
    pytest.param(":,", "length of a netstring", 0, id="no-digits"),
    pytest.param("-1:", "length of a netstring", 0, id="negative-length"),
    pytest.param("+1:", "length of a netstring", 0, id="signed-length"),
    pytest.param(" 1:", "length of a netstring", 0, id="blank-before-length"),
    pytest.param("2 4:", "length of a netstring", 0, id="blank-in-length"),
    pytest.param("2_4:", "length of a netstring", 0, id="underscore-in-length"),
    pytest.param("0x18:", "length of a netstring", 0, id="hexadecimal-length"),
    pytest.param("\xb22:", "length of a netstring", 0, id="superscript-digit-in-length"),
    pytest.param("0:,", "length of a netstring", 0, id="empty-block"),
    pytest.param(
        "024:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>,", "length of a netstring", 0, id="leading-zero"
    ),
    pytest.param("11111111111:", "length of a netstring", 0, id="eleven-digits"),
    pytest.param("24:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>;", "comma", 0, id="no-comma"),
    pytest.param("23:CONTENT_LENGTH<0>0<0>SCGI<0>1,", "NUL", 400, id="no-last-nul"),
    pytest.param(
        "26:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>A<0>,", "without a value", 400, id="odd-strings"
    ),
    pytest.param("27:CONTENT_LENGTH<0>0<0>SCGI<0>1<0><0>x<0>,", "empty name", 400, id="empty-name"),
    pytest.param("7:SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="no-content-length"),
    pytest.param(
        "23:CONTENT_LENGTH<0><0>SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="empty-content-length"
    ),
    pytest.param(
        "25:CONTENT_LENGTH<0>-1<0>SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="negative-body"
    ),
    pytest.param("25:CONTENT_LENGTH<0>+1<0>SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="signed-body"),
    pytest.param(
        "26:CONTENT_LENGTH<0>1 2<0>SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="blank-in-body"
    ),
    pytest.param("26:CONTENT_LENGTH<0>1,1<0>SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="list-body"),
    pytest.param(
        "26:CONTENT_LENGTH<0>1_0<0>SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="underscore-body"
    ),
    pytest.param(
        "24:CONTENT_LENGTH<0>\xb2<0>SCGI<0>1<0>,", "CONTENT_LENGTH", 400, id="superscript-body"
    ),
    pytest.param(
        "54:CONTENT_LENGTH<0>1000000000000000000000000000000<0>SCGI<0>1<0>,",
        "CONTENT_LENGTH",
        400,
        id="body-of-ten-to-the-thirty",
    ),
    pytest.param("17:CONTENT_LENGTH<0>0<0>,", "SCGI header", 400, id="no-scgi"),
    pytest.param("24:CONTENT_LENGTH<0>0<0>SCGI<0>2<0>,", "SCGI header", 400, id="scgi-2"),
    pytest.param(
        "41:CONTENT_LENGTH<0>2<0>SCGI<0>1<0>CONTENT_LENGTH<0>0<0>,hi",
        "two different values",
        400,
        id="content-length-repeated-different",
    ),
    pytest.param(
        "41:SCGI<0>1<0>CONTENT_LENGTH<0>2<0>CONTENT_LENGTH<0>2<0>,hi",
        "not first",
        400,
        id="content-length-repeated-not-first",
    ),
    pytest.param(
        "55:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>REMOTE_USER<0>me<0>REMOTE_USER<0>him<0>,",
        "two different values",
        400,
        id="remote-user-repeated",
    ),
    pytest.param(
        "48:CONTENT_LENGTH<0>0<0>SCGI<0>1<0>HTTP_HOST<0>a<0>HTTP_HOST<0>b<0>,",
        "two different values",
        400,
        id="host-repeated",
    ),
]
