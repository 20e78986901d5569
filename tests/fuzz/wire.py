"""FastCGI records and AJP packets, read without the codecs' help."""

from __future__ import annotations


def records(octets: bytes) -> list[tuple[int, int, bytes]]:
    """Cut what a FastCGI server sent into (type, request id, content); all of it, or it fails."""
    found = []
    at = 0
    while at < len(octets):
        assert octets[at] == 1, "a record of another version"
        kind = octets[at + 1]
        request_id, length = (
            int.from_bytes(octets[at + start : at + start + 2], "big") for start in (2, 4)
        )
        content = octets[at + 8 : at + 8 + length]
        at += 8 + length + octets[at + 6]
        assert at <= len(octets), "half a record"
        found.append((kind, request_id, content))
    return found


def as_request_1(octets: bytes) -> bytes:
    """The same records with request id 1, as a client that asked under that id gets them."""
    parts = []
    for kind, _, content in records(octets):
        parts.append(bytes((1, kind, 0, 1)) + len(content).to_bytes(2, "big") + b"\0\0" + content)
    return b"".join(parts)


def packets(octets: bytes) -> list[bytes]:
    """Cut what an AJP container sent into payloads; all of it, or it fails."""
    found = []
    at = 0
    while at < len(octets):
        assert octets[at : at + 2] == b"AB", "a packet without its magic"
        stop = at + 4 + int.from_bytes(octets[at + 2 : at + 4], "big")
        assert stop <= len(octets), "half a packet"
        found.append(octets[at + 4 : stop])
        at = stop
    return found
