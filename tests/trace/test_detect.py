import pytest

import trace_harness as harness
from portico.trace.detect import ENOUGH_BYTES, detect
from portico.trace.items import FRONTEND, SERVER


@pytest.mark.parametrize(
    "capture",
    [param for name in ("fastcgi", "scgi", "ajp", "uwsgi") for param in harness.captures(name)],
)
def test_captures_are_told(capture):
    head = harness.load(capture["file"])[:ENOUGH_BYTES]
    assert detect(head) == (capture["protocol"], FRONTEND, "")


@pytest.mark.parametrize(
    ("head", "protocol", "direction"),
    [
        (b"\x01", "fastcgi", FRONTEND),
        (b"\x01\x09\0\0\0\0\0\0", "fastcgi", FRONTEND),
        (b"\x01\x06\0\1\0\0\0\0", "fastcgi", SERVER),
        (b"\x01\x07\0\1\0\0\0\0", "fastcgi", SERVER),
        (b"\x01\x03\0\1\0\x08\0\0", "fastcgi", SERVER),
        (b"\x01\x0a\0\0\0\0\0\0", "fastcgi", SERVER),
        (b"70:CONTENT", "scgi", FRONTEND),
        (b"7", "scgi", FRONTEND),
        (b"\x12\x34\0\x01\x0a", "ajp", FRONTEND),
        (b"AB\0\x01\x09", "ajp", SERVER),
        (b"AB: yes\r\n", "scgi", SERVER),
        (b"\x00\x15\x00\x00", "uwsgi", FRONTEND),
        (b"\x1e\x15\x00\x00\x03\x00ABC", "uwsgi", FRONTEND),
        (b"\x0e\x15\x00\x00\x03\x00ABC", "uwsgi", FRONTEND),
        (b"HTTP/1.1 200 OK\r\n", "uwsgi", SERVER),
        (b"Status: 200 OK\r\n", "scgi", SERVER),
        (b"Content-Type: text/plain\r\n", "scgi", SERVER),
    ],
)
def test_first_octets_tell_protocol_and_sender(head, protocol, direction):
    assert detect(head) == (protocol, direction, "")
    assert detect(head, direction) == (protocol, direction, "")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n", "an HTTP request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"\x15\x03\x03\x00\x02", "TLS"),
        (b"PROXY TCP4 127.0.0.1", "PROXY protocol"),
        (b"\r\n\r\n\0\r\nQUIT\n", "PROXY protocol"),
        (b"SSH-2.0-x", "SSH"),
        (b"\x1f\x8b\x08", "gunzip -c"),
        (b"\xd4\xc3\xb2\xa1\x02", "pcap"),
        (b"\n\r\r\n", "pcap"),
        (b"> 2026/11/25 11:30:11.0  length=5\n", "socat"),
        (b"<!DOCTYPE html>", "HTML"),
    ],
)
def test_strangers_are_named(head, words):
    protocol, direction, stranger = detect(head)
    assert (protocol, direction) == ("", "")
    assert words in stranger


def test_a_response_is_no_request():
    assert detect(b"HTTP/1.1 200 OK", FRONTEND) == ("", "", "an HTTP response")


@pytest.mark.parametrize("head", [b"\xff\xfe", b"\x7fELF", b"hello world", b"", b"\x12\x35"])
def test_what_is_nothing_known_is_not_guessed(head):
    assert detect(head) == ("", "", "")
