"""uwsgi packets as text: octets in hexadecimal, ``'...'`` for ASCII without blanks."""

from __future__ import annotations

import pytest


def octets(text: str) -> bytes:
    """Turn a vector's text into what travels."""
    return b"".join(
        word[1:-1].encode("ascii") if word.startswith("'") else bytes.fromhex(word)
        for word in text.split()
    )


_GET = "0E00 'REQUEST_METHOD' 0300 'GET'"  # 21 octets, 15 hexadecimal
_CL = "0E00 'CONTENT_LENGTH'"  # 16 octets, 10 hexadecimal, without the value

#: (text, environ, body)
REQUESTS = [
    pytest.param(f"00 1500 00 {_GET}", {"REQUEST_METHOD": "GET"}, b"", id="no-content-length"),
    pytest.param(
        f"00 1500 07 {_GET} 'excess'", {"REQUEST_METHOD": "GET"}, b"", id="modifier2-and-excess"
    ),
    pytest.param(
        f"00 2700 00 {_GET} {_CL} 0000",
        {"REQUEST_METHOD": "GET", "CONTENT_LENGTH": ""},
        b"",
        id="empty-content-length",
    ),
    pytest.param(
        f"00 2800 00 {_GET} {_CL} 0100 '5' 'hello,and-more'",
        {"REQUEST_METHOD": "GET", "CONTENT_LENGTH": "5"},
        b"hello",
        id="body-and-excess",
    ),
    pytest.param("00 0600 00 0100 FF 0100 E9", {"\xff": "\xe9"}, b"", id="latin-1"),
    pytest.param("00 0600 00 0100 'A' 0100 00", {"A": "\0"}, b"", id="any-octet-in-a-value"),
    pytest.param(
        "00 7301 00 0100 'A' 6E01" + 366 * " 'x'",
        {"A": 366 * "x"},
        b"",
        id="sizes-of-two-different-octets",
    ),
    pytest.param(
        "00 2D00 00"
        " 0600 'HTTP_X' 0100 'a' 0B00 'HTTP_COOKIE' 0300 'b=1' 0600 'HTTP_X' 0100 'b'"
        " 0100 'Y' 0000",
        {"HTTP_X": "a, b", "HTTP_COOKIE": "b=1", "Y": ""},
        b"",
        id="repeated-header-joined",
    ),
    pytest.param(
        "1E 3400 00 0B00 'SCRIPT_NAME' 0200 '/a' 0900 'PATH_INFO' 0500 '/b/xy'"
        " 0B00 'SCRIPT_NAME' 0200 '/b'",
        {"SCRIPT_NAME": "/b", "PATH_INFO": "/xy"},
        b"",
        id="later-script-name-overrides-before-modifier-30-strips",
    ),
    pytest.param(
        "00 2300 00 0C00 'UWSGI_MODULE' 0200 'os' 0100 'A' 0100 'b' 0600 'UWSGI_' 0100 'x'",
        {"A": "b"},
        b"",
        id="uwsgi-variables-dropped",
    ),
    pytest.param(
        "1E 2700 00 0B00 'SCRIPT_NAME' 0400 '/app' 0900 'PATH_INFO' 0700 '/app/xy'",
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/xy"},
        b"",
        id="modifier-30-strips",
    ),
    pytest.param(
        "1E 2400 00 0B00 'SCRIPT_NAME' 0400 '/app' 0900 'PATH_INFO' 0400 '/app'",
        {"SCRIPT_NAME": "/app", "PATH_INFO": ""},
        b"",
        id="modifier-30-at-the-mount-point",
    ),
    pytest.param(
        "1E 2800 00 0B00 'SCRIPT_NAME' 0400 '/app' 0900 'PATH_INFO' 0800 '/apple/x'",
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/apple/x"},
        b"",
        id="modifier-30-keeps-other-segments",
    ),
    pytest.param(
        "00 2700 00 0B00 'SCRIPT_NAME' 0400 '/app' 0900 'PATH_INFO' 0700 '/app/xy'",
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/app/xy"},
        b"",
        id="modifier-0-keeps",
    ),
]

#: (text, part of the message, status_hint); a hint of 0 goes with no answer at all.
BROKEN = [
    pytest.param("'GET' 20 '/' 20 'HTTP/1.1' 0D0A 0D0A", "modifier1 71", 0, id="http"),
    pytest.param("'70:CONTENT_LENGTH' 00 '0' 00", "modifier1 55", 0, id="scgi"),
    *(
        pytest.param(f"{modifier:02X} 1500 00 {_GET}", f"modifier1 {modifier} ", 0, id=name)
        for modifier, name in (
            (1, "fastcgi"),
            (5, "perl"),
            (9, "cgi"),
            (17, "spooler"),
            (18, "call-a-symbol"),
            (22, "evaluate"),
            (31, "message"),
            (100, "ping"),
            (111, "cache"),
            (173, "remote-procedure-call"),
            (224, "subscription"),
            (255, "response"),
        )
    ),
    pytest.param("00 0000 00", "without variables", 0, id="no-data"),
    pytest.param("00 0500 00 0000 0100 'x'", "empty name", 400, id="key-size-0"),
    pytest.param("00 0400 00 0300 'AB'", "beyond the packet", 400, id="key-past-the-end"),
    pytest.param(
        "00 0600 00 0300 'AB' 0100 'excess'", "beyond the packet", 400, id="key-over-the-end"
    ),
    pytest.param(
        "00 0600 00 0100 'A' 0200 'b' 'excess'", "beyond the packet", 400, id="value-past-the-end"
    ),
    pytest.param("00 0300 00 0100 'A'", "beyond the packet", 400, id="no-value-size"),
    pytest.param("00 0300 00 0100 'A' 0000", "beyond the packet", 400, id="value-size-outside"),
    pytest.param("00 0400 00 0100 'A' 00 00", "beyond the packet", 400, id="value-size-half"),
    pytest.param("00 0100 00 01", "beyond the packet", 400, id="one-octet"),
    pytest.param("00 0700 00 0100 'A' 0100 'b' 01", "beyond the packet", 400, id="1-left-over"),
    pytest.param(
        "00 0700 00 0100 'A' 0100 'b' 01 00 'C' 0000",
        "beyond the packet",
        400,
        id="1-left-over-with-octets-behind",
    ),
    pytest.param("00 0800 00 0100 'A' 0100 'b' 0100", "beyond the packet", 400, id="2-left-over"),
    pytest.param(
        "00 0900 00 0100 'A' 0100 'b' 0100 'C'", "beyond the packet", 400, id="3-left-over"
    ),
    *(
        pytest.param(
            f"00 {length:02X}00 00 {_CL} {size:02X}00 {text}", "CONTENT_LENGTH", 400, id=name
        )
        for length, size, text, name in (
            (20, 2, "'-1'", "negative-body"),
            (20, 2, "'+1'", "signed-body"),
            (21, 3, "'1_0'", "underscore-body"),
            (20, 2, "20 '1'", "blank-in-body"),
            (19, 1, "B2", "superscript-body"),
            (49, 31, f"'1{30 * '0'}'", "body-of-ten-to-the-thirty"),
        )
    ),
    pytest.param(
        f"00 2600 00 {_CL} 0100 '1' {_CL} 0100 '2'",
        "two different values",
        400,
        id="content-length-repeated",
    ),
    pytest.param(
        f"00 2B00 00 {_GET} 0E00 'REQUEST_METHOD' 0400 'POST'",
        "two different values",
        400,
        id="method-repeated",
    ),
]
