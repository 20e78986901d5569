"""The uwsgi protocol: a packet of variables and a body; an HTTP response.

Spec: "The uwsgi Protocol", uWSGI documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.trace._params import Params
from portico.trace._response import LineResponse
from portico.trace.items import END, FRONTEND, PREVIEW_BYTES, counted, octets

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.trace.items import Item

_PACKET = "uwsgi, packet header"
_VARS = "uwsgi, block vars"

_HEADER_BYTES = 4

#: What modifier1 asks for.
MODIFIERS = {
    0: "WSGI",
    5: "Perl",
    6: "Lua",
    7: "Ruby",
    8: "JVM",
    9: "CGI",
    11: "Go",
    14: "PHP",
    15: "Mono",
    17: "spooler",
    18: "call of a C symbol",
    19: "SSI",
    22: "evaluation of code",
    23: "XSLT",
    24: "V8",
    25: "GridFS",
    30: "WSGI, SCRIPT_NAME to be stripped",
    31: "message passing",
    32: "message passing",
    33: "message passing",
    35: "WebDAV",
    100: "ping",
    101: "echo",
    110: "signal",
    111: "cache",
    173: "remote procedure call",
    224: "subscription",
    250: "private use",
    255: "response",
}

#: Those whose data are variables, and whose request may have a body.
_WITH_VARIABLES = frozenset({0, 5, 6, 7, 8, 9, 11, 14, 15, 19, 23, 24, 25, 30, 35})


class Dissector(LineResponse):
    """One direction of a uwsgi connection."""

    protocol = "uwsgi"
    _http = True

    def _parse(self) -> Generator[int, bytes, None]:
        if self.direction == FRONTEND:
            yield from self._parse_request()
        else:
            yield from self._parse_response()

    def _parse_request(self) -> Generator[int, bytes, None]:
        head = yield _HEADER_BYTES
        if not head:
            return
        modifier1 = head[0]
        if modifier1 not in MODIFIERS:
            yield from self._lose(0, head, f"modifier1 {modifier1} is none of uwsgi", _PACKET)
            return
        self.messages += 1
        if len(head) < _HEADER_BYTES:
            item = self._add(0, len(head), "packet")
            item.preview = head
            item.complain(f"the packet's header is cut: {len(head)} of 4 octets", _PACKET)
            return
        size = head[1] | head[2] << 8
        data = (yield size) if size else b""
        item = self._add(0, _HEADER_BYTES + len(data), "packet")
        item.say(f"modifier1 {modifier1} ({MODIFIERS[modifier1]})")
        item.say(f"modifier2 {head[3]}")
        item.say(octets(size))
        if modifier1 not in (0, 30):
            item.complain(f"modifier1 {modifier1} is no request for WSGI", _PACKET)
        if len(data) < size:
            item.complain(f"the packet is cut: {octets(size - len(data))} missing", _PACKET)
        params = Params()
        if modifier1 not in _WITH_VARIABLES:
            item.preview = data[:PREVIEW_BYTES]
            return
        if not size:
            item.complain("a packet without variables", _PACKET)
        _decode(item, data, params, whole=len(data) == size)
        if len(data) == size:
            yield from self._parse_body(params.length or 0)

    def _parse_body(self, length: int) -> Generator[int, bytes, None]:
        start = self.offset
        body = yield from self._skim(length)
        if body.size:
            item = self._add(start, body.size, "body", f"{body.size} of {octets(length)}")
            item.preview = body.preview
        elif length:
            item = self._add(start, 0, END, "no body")
        if body.size < length:
            item.complain(
                f"the body is cut: {octets(length - body.size)} missing of CONTENT_LENGTH", _PACKET
            )
        start = self.offset
        more = yield from self._skim(None)
        if more.size:
            item = self._add(start, more.size, "(octets)", "behind the request")
            item.preview = more.preview
            item.complain("more than CONTENT_LENGTH follows the packet", _PACKET)


def _decode(item: Item, data: bytes, params: Params, *, whole: bool) -> None:
    """Decode variables into *item*, as far as their sizes let it."""
    text = data.decode("latin-1")
    at = 0
    size = len(data)
    while at < size:
        middle = at + 2 + int.from_bytes(data[at : at + 2], "little")
        end = middle + 2 + int.from_bytes(data[middle : middle + 2], "little")
        if end > size:
            if whole:
                item.complain(
                    f"the variable at {_HEADER_BYTES + at} runs past the end of the packet", _VARS
                )
            break
        if middle == at + 2:
            item.complain(f"the variable at {_HEADER_BYTES + at} has an empty name", _VARS)
        params.take(item, text[at + 2 : middle], text[middle + 2 : end])
        at = end
    item.say(counted(params.count, "variable"))
    if params.request():
        item.say(params.request())
