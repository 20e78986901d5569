"""Response heads: what applications may say, how it is encoded, what backends send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico import head
from portico.errors import ApplicationError, LimitExceeded, RemoteProtocolError
from portico.head import (
    COMMON_NAMES,
    HOP_BY_HOP,
    check_headers,
    check_status,
    encode_cgi,
    encode_http,
    find_end,
    is_token,
    parse,
)

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # noqa: S105
NAMES = st.text(st.sampled_from(TOKEN), min_size=1, max_size=12).filter(
    lambda name: name.lower() not in HOP_BY_HOP | {"status"}
)
VALUES = st.text(
    st.characters(max_codepoint=255).filter(lambda c: c == "\t" or (c >= " " and c != "\x7f")),
    max_size=20,
)
STATUSES = st.builds("{} {}".format, st.integers(200, 999), st.sampled_from(["OK", "", "A b c!"]))


# Checks.


@pytest.mark.parametrize("char", [chr(code) for code in range(256)])
def test_tokens_are_rfc_9110s(char):
    assert is_token(char) == (char in TOKEN)
    assert is_token(f"X{char}X") == (char in TOKEN)


def test_nothing_is_no_token():
    assert not is_token("")


def test_common_names_would_pass_the_full_check():
    for name in COMMON_NAMES:
        assert is_token(name)
        assert name.lower() not in HOP_BY_HOP | {"status"}


@pytest.mark.parametrize("code", range(256))
def test_values_hold_no_control_but_tab(code):
    headers = [("Content-Type", f"a{chr(code)}b"), ("X-Other", f"a{chr(code)}b")]
    if code == 9 or (code >= 32 and code != 127):
        check_headers(headers)
        assert encode_cgi("200 OK", headers).count(bytes([code])) >= 2
    else:
        for header in headers:
            with pytest.raises(ApplicationError, match=header[0]):
                check_headers([header])


@pytest.mark.parametrize("code", range(256))
def test_reasons_hold_no_control(code):
    status = f"200 a{chr(code)}b"
    if code >= 32 and code != 127:
        check_status(status)
        assert parse(encode_cgi(status, [])[:-2])[0] == status
    else:
        with pytest.raises(ApplicationError, match="status"):
            check_status(status)


def test_messages_name_the_header_and_escape_its_value():
    with pytest.raises(ApplicationError, match=r"header X-A .*a\\nb"):
        check_headers([("X-A", "a\nb")])


# Encoding.


def test_cgi_head():
    headers = [("Content-Type", "text/plain"), ("X", "caf\xe9")]
    assert encode_cgi("200 OK", headers) == (
        b"Content-Type: text/plain\r\nX: caf\xe9\r\nStatus: 200 OK\r\n\r\n"
    )
    assert encode_cgi("204 No Content", []) == b"Status: 204 No Content\r\n\r\n"


def test_http_head():
    assert encode_http("200 OK", [("A", "1"), ("A", "2")]) == (
        b"HTTP/1.1 200 OK\r\nA: 1\r\nA: 2\r\n\r\n"
    )


@given(STATUSES, st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_what_is_encoded_is_parsed_again(status, headers):
    check_status(status)
    check_headers(headers)
    stripped = [(name, value.strip(" \t")) for name, value in headers]
    for encode in (encode_cgi, encode_http):
        octets = encode(status, headers)
        end, body = find_end(octets)
        assert body == len(octets)
        parsed, found = parse(octets[:end])
        assert (parsed.strip(), found) == (status.strip(), stripped)


# Finding the end.


@pytest.mark.parametrize(
    ("octets", "end", "body"),
    [
        (b"A: 1\n\nbody", 5, 6),
        (b"A: 1\r\n\r\nbody", 6, 8),
        (b"A: 1\n\r\nbody", 5, 7),
        (b"A: 1\r\n\nbody", 6, 7),
        (b"A: 1\nB: 2\n\n", 10, 11),
        (b"A: 1\n\n\n", 5, 6),
    ],
)
def test_find_end(octets, end, body):
    assert find_end(octets) == (end, body)
    assert find_end(bytearray(octets)) == (end, body)
    for at in range(len(octets)):
        found = find_end(octets[:at])
        assert found == ((end, body) if at >= body else None)
        if found is None:
            assert find_end(octets, max(0, at - 3)) == (end, body)


@pytest.mark.parametrize("octets", [b"", b"A", b"\r\r", b"A: 1\r\r\n", b"A: 1\nB: 2\n", b"\n\r"])
def test_find_no_end(octets):
    assert find_end(octets) is None


# Parsing.


@pytest.mark.parametrize(
    ("block", "status", "headers"),
    [
        (b"", "200 OK", []),
        (b"Content-Type: text/plain\r\n", "200 OK", [("Content-Type", "text/plain")]),
        (b"Content-Type:text/plain\n", "200 OK", [("Content-Type", "text/plain")]),
        (b"A: \t 1 \t\n", "200 OK", [("A", "1")]),
        (b"A:\n", "200 OK", [("A", "")]),
        (b"A: b:c\n", "200 OK", [("A", "b:c")]),
        (b"Status: 404 Not Found\nA: 1\n", "404 Not Found", [("A", "1")]),
        (b"A: 1\nSTATUS:404\n", "404", [("A", "1")]),
        (b"Status: 200\n", "200", []),
        (b"Location: /x\n", "302 Found", [("Location", "/x")]),
        (b"location: /x\nStatus: 201 Created\n", "201 Created", [("location", "/x")]),
        (b"A: 1\nA: 2\n", "200 OK", [("A", "1"), ("A", "2")]),
        (b"A: caf\xe9\n", "200 OK", [("A", "caf\xe9")]),
        (b"HTTP/1.1 404 Not Found\r\nA: 1\r\n", "404 Not Found", [("A", "1")]),
        (b"HTTP/1.0 200\r\n", "200", []),
        (b"HTTP/1.1 200 \r\n", "200", []),
        (b"HTTP/1.1 200 \xa0\r\n", "200 \xa0", []),
        (b"HTTP/1.1 200 O\x85\xa0 \t\r\n", "200 O\x85\xa0", []),
        (b"Status: 200 O\x85\xa0 \t\r\n", "200 O\x85\xa0", []),
        (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n", "301 Moved", [("Location", "/x")]),
    ],
)
def test_parse(block, status, headers):
    assert parse(block) == (status, headers)


@pytest.mark.parametrize(
    "block",
    [
        b"no colon\n", b": 1\n", b" A: 1\n", b"A : 1\n", b"A: 1\n folded\n", b"A B: 1\n",
        b"A: 1\0\n", b"A: a\rb\n", b"A\r: 1\n", b"A: \x7f\n", b"caf\xe9: 1\n",
        b"Status: OK\n", b"Status: 20\n", b"Status: 2000\n", b"Status: \xb200\n",
        b"Status: 200OK\n", b"HTTP/1.1 200 a\rX: 1\n", b"HTTP/1.1 200 a\0b\n",
        b"HTTP/1.1\n", b"HTTP/1.1 \n", b"HTTP/1.1 OK\n", b"HTTP/1.1 20\n", b"HTTP/1.1 200\x00\n",
        b"Traceback (most recent call last):\n",
    ],
)  # fmt: skip
def test_parse_refuses(block):
    with pytest.raises(RemoteProtocolError) as caught:
        parse(block)
    assert caught.value.status_hint == 502


def test_parse_has_a_ceiling():
    block = b"A: " + b"x" * 96 + b"\n"
    assert parse(block, max_bytes=100)[1] == [("A", "x" * 96)]
    with pytest.raises(LimitExceeded) as caught:
        parse(block + b"\n", max_bytes=100)
    assert caught.value.option == "max_response_head_bytes"


@given(st.binary(max_size=60))
def test_parse_raises_nothing_else(block):
    try:
        status, headers = parse(block)
    except RemoteProtocolError:
        return
    assert status[:3].isdigit()
    assert all(is_token(name) for name, _ in headers)


def test_names_that_were_checked_are_remembered_and_bounded(monkeypatch):
    known = set(COMMON_NAMES)
    monkeypatch.setattr(head, "_known_names", known)
    monkeypatch.setattr(head, "_MOST_NAMES", len(known) + 1)
    for name in ("X-First", "X-First", "X-Second", "X-" + "a" * 70):
        assert check_headers([(name, "v")]) is None
    assert known == COMMON_NAMES | {"X-First"}
    with pytest.raises(ApplicationError):
        check_headers([("Connection", "close")])
    assert "Connection" not in known
