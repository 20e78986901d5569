"""Tells from a connection's first octets what it speaks, and who speaks."""

from __future__ import annotations

import re
from typing import NamedTuple

from portico.trace.fastcgi import FROM_APPLICATION, NAMES
from portico.trace.items import FRONTEND, SERVER
from portico.trace.uwsgi import MODIFIERS

#: Octets that are enough to tell.
ENOUGH_BYTES = 64

#: Types of messages from an AJP container.
_CONTAINER_TYPES = frozenset({3, 4, 5, 6, 9})

_HTTP_REQUEST = re.compile(rb"[A-Z][A-Z-]{0,19} \S")
_SCGI = re.compile(rb"[0-9]{1,10}(:|$)")
_STATUS_LINE = re.compile(rb"HTTP/[0-9]")
_HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t\x21-\xff\r\n]")

#: First octets of what is often taken for a gateway protocol -> what it is, and what to do.
_STRANGERS = (
    (rb"\x16\x03[\x00-\x04]", "TLS (a handshake): the peer speaks https to a port without TLS"),
    (rb"\x15\x03[\x00-\x04]", "TLS (an alert): the peer speaks https to a port without TLS"),
    (rb"PRI \* HTTP/2", "HTTP/2, not a gateway protocol: set the web server to fastcgi, scgi..."),
    (rb"PROXY (TCP|UNKNOWN)", "the PROXY protocol: turn send-proxy off in front of a gateway"),
    (rb"\r\n\r\n\x00\r\nQUIT", "the PROXY protocol: turn send-proxy off in front of a gateway"),
    (rb"SSH-", "SSH"),
    (rb"\x1f\x8b", "compressed by gzip: give the output of `gunzip -c` instead"),
    (
        rb"\xd4\xc3\xb2\xa1|\xa1\xb2\xc3\xd4|\x4d\x3c\xb2\xa1|\xa1\xb2\x3c\x4d|\x0a\x0d\x0d\x0a",
        "a packet capture (pcap): give the octets of one direction of one connection instead",
    ),
    (rb"[<>] \d{4}/\d\d/\d\d ", "a log of socat -v or -x: record raw octets with its -r and -R"),
    (rb"\{|<[!?a-zA-Z]", "text (JSON, HTML or XML), without a head"),
)


class Guess(NamedTuple):
    """What octets are.

    Attributes:
        protocol: One of the four; empty where it is none of them.
        direction: `FRONTEND` or `SERVER`; empty without a protocol.
        stranger: What it is instead, where that can be told.
    """

    protocol: str
    direction: str = ""
    stranger: str = ""


def detect(head: bytes, direction: str = "") -> Guess:
    """Guess what octets are.

    Args:
        head: The first octets of one direction, `ENOUGH_BYTES` where there are as many.
        direction: Who sent them, where that is known.
    """
    if direction != SERVER and (protocol := _request_protocol(head)):
        return Guess(protocol, FRONTEND)
    if direction != FRONTEND and (protocol := _response_protocol(head)):
        return Guess(protocol, SERVER)
    for pattern, what in _STRANGERS:
        if re.match(pattern, head):
            return Guess("", "", what)
    if _HTTP_REQUEST.match(head):
        return Guess(
            "", "", "an HTTP request: the web server was told to proxy HTTP (proxy_pass, http://)"
            " where fastcgi_pass, scgi_pass, uwsgi_pass or ProxyPass fcgi:// and the like are due"
        )  # fmt: skip
    if direction == FRONTEND and _STATUS_LINE.match(head):
        return Guess("", "", "an HTTP response")
    return Guess("")


def _request_protocol(head: bytes) -> str:
    """The protocol of a web server's first octets; empty for none."""
    first = head[:1]
    if first == b"\x01":
        return "" if head[1:2] and head[1] in FROM_APPLICATION else "fastcgi"
    if first == b"\x12" and b"\x12\x34".startswith(head[:2]):
        return "ajp"
    if _SCGI.match(head):
        return "scgi"
    if first == b"\x00" or (first and head[0] in MODIFIERS and _has_variables(head)):
        return "uwsgi"
    return ""


def _has_variables(head: bytes) -> bool:
    """Whether a uwsgi packet's header is followed by the name of a variable."""
    size = int.from_bytes(head[1:3], "little")
    name = int.from_bytes(head[4:6], "little")
    text = head[6 : 6 + name]
    return 0 < name < size and bool(text) and text.replace(b"_", b"A").isalnum()


def _response_protocol(head: bytes) -> str:
    """The protocol of an application server's first octets; empty for none.

    A CGI head is SCGI's, and a status line uwsgi's: what Portico and uWSGI send.
    """
    if head[:1] == b"\x01" and (len(head) < 2 or 0 < head[1] < len(NAMES)):
        return "fastcgi"
    if head[:2] == b"AB" and len(head) > 4 and head[2] < 0xFE and head[4] in _CONTAINER_TYPES:
        return "ajp"
    if _STATUS_LINE.match(head):
        return "uwsgi"
    return "scgi" if _HEADER_LINE.match(head) else ""
