"""SCGI: a netstring of headers and a body; a response that ends with the connection.

Spec: SCGI, "A Simple Common Gateway Interface alternative", 2008.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from portico.limits import Limits
from portico.trace._params import Params, parse_length
from portico.trace._response import LineResponse
from portico.trace.items import END, FRONTEND, PREVIEW_BYTES, counted, octets

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.trace.items import Item

_NETSTRING = "SCGI, Protocol: netstring"
_HEADERS = "SCGI, Request Format"

#: Most digits of a netstring's length.
_MAX_DIGITS = 10

#: Most octets of headers that are held.
_MAX_HELD_BYTES = Limits().max_params_bytes


class Dissector(LineResponse):
    """One direction of an SCGI connection."""

    protocol = "scgi"

    def _parse(self) -> Generator[int, bytes, None]:
        if self.direction == FRONTEND:
            yield from self._parse_request()
        else:
            yield from self._parse_response()

    def _parse_request(self) -> Generator[int, bytes, None]:
        digits = b""
        while (octet := (yield 1)).isdigit() and len(digits) < _MAX_DIGITS:
            digits += octet
        if not digits + octet:
            return
        if octet and (octet != b":" or not digits):
            yield from self._lose(
                0, digits + octet, "does not begin with the length of a netstring", _NETSTRING
            )
            return
        self.messages += 1
        if not octet:
            item = self._add(0, len(digits), "netstring")
            item.preview = digits
            item.complain("the length of the netstring is cut", _NETSTRING)
            return
        params = yield from self._parse_netstring(digits)
        if params is not None:
            yield from self._parse_body(params)

    def _parse_netstring(self, digits: bytes) -> Generator[int, bytes, Params | None]:
        """Take the headers; gives None where no body can follow."""
        length = int(digits)
        params = Params()
        if length > _MAX_HELD_BYTES:
            block = b""
            came = (yield from self._skim(length)).size
        else:
            block = (yield length) if length else b""
            came = len(block)
        comma = b"" if came < length else (yield 1)
        item = self._add(0, self.offset, "netstring", octets(length))
        if digits[:1] == b"0":
            item.complain("the length begins with 0", _NETSTRING)
        if length > _MAX_HELD_BYTES:
            item.say("not decoded: more than is held")
        if came < length or not comma:
            missing = length + 1 - came
            item.complain(f"the netstring is cut: {octets(missing)} missing", _NETSTRING)
        elif comma != b",":
            item.complain(f"the netstring ends in {comma!a} instead of a comma", _NETSTRING)
        if length <= _MAX_HELD_BYTES:
            _decode(item, block, params, whole=came == length)
        return params if came == length and comma else None

    def _parse_body(self, params: Params) -> Generator[int, bytes, None]:
        start = self.offset
        length = params.length or 0
        body = yield from self._skim(length)
        if body.size:
            item = self._add(start, body.size, "body", f"{body.size} of {octets(length)}")
            item.preview = body.preview
        elif length:
            item = self._add(start, 0, END, "no body")
        if body.size < length:
            item.complain(
                f"the body is cut: {octets(length - body.size)} missing of CONTENT_LENGTH", _HEADERS
            )
        start = self.offset
        more = yield from self._skim(None)
        if more.size:
            item = self._add(start, more.size, "(octets)", "behind the request, without a meaning")
            item.preview = more.preview


def _decode(item: Item, block: bytes, params: Params, *, whole: bool) -> None:
    """Decode headers into *item*, and name the rules that they break."""
    strings = block.decode("latin-1").split("\0")
    if strings[-1] and whole:
        item.complain("the headers do not end in NUL", _HEADERS)
    elif not strings[-1]:
        strings.pop()
    if len(strings) % 2:
        if whole:
            item.complain("the last name has no value", _HEADERS)
        item.preview = strings[-1].encode("latin-1")[:PREVIEW_BYTES]
    names = strings[: len(strings) // 2 * 2 : 2]
    values = dict(zip(names, strings[1::2], strict=True))  # for a look at single ones
    for name, value in zip(names, strings[1::2], strict=True):
        params.take(item, name, value)
    item.say(counted(params.count, "header"))
    if params.request():
        item.say(params.request())
    if "" in values:
        item.complain("a header's name is empty", _HEADERS)
    if len(values) < len(names):
        _complain_of_repeats(item, names)
    if whole:
        _check(item, names, values, params)


def _complain_of_repeats(item: Item, names: list[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            item.complain(f"{name[:40]} comes more than once", _HEADERS)


def _check(item: Item, names: list[str], values: dict[str, str], params: Params) -> None:
    """Hold complete headers to what SCGI demands of them; may correct the body's length."""
    if "CONTENT_LENGTH" not in values:
        item.complain("no CONTENT_LENGTH", _HEADERS)
    else:
        if names[0] != "CONTENT_LENGTH":
            item.complain("CONTENT_LENGTH is not the first header", _HEADERS)
        if not values["CONTENT_LENGTH"]:
            item.complain("CONTENT_LENGTH is empty: without a body it is 0", _HEADERS)
    if values.get("SCGI") != "1":
        item.complain("no header SCGI with value 1", _HEADERS)
    sent = parse_length(values.get("HTTP_CONTENT_LENGTH", ""))
    chunked = "HTTP_TRANSFER_ENCODING" in values
    if sent is not None and params.length is not None and sent > params.length and not chunked:
        item.complain(
            f"CONTENT_LENGTH is {params.length} where the client announced {sent}: as nginx does"
            " with scgi_request_buffering off",
            _HEADERS,
        )
        params.length = sent
