"""Responses that begin with a head of lines: CGI's, and uwsgi's with its status line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.head import HOP_BY_HOP, find_end, is_token
from portico.limits import Limits
from portico.trace._params import parse_length
from portico.trace.items import END, Dissector, Field, counted, octets

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.trace.items import Item

#: Most octets of a head: what Portico's own client takes.
MAX_HEAD_BYTES = Limits().max_response_head_bytes

_CGI = "RFC 3875 §6.2"
_FIELDS = "RFC 3875 §6.3"
_HTTP = "RFC 9112 §4"
LENGTH = "RFC 9110 §8.6"
NO_BODY = "RFC 9110 §6.4.1"


class ResponseHead:
    """The head of one response, in pieces; then the count of its body.

    Args:
        http: Whether it begins with an HTTP status line.

    Attributes:
        ended: Whether the head is complete, or given up.
        status: E.g. ``"200 OK"``; empty before its end.
        length: Content-Length, octets; None for none.
        body: Octets of body so far.
    """

    __slots__ = ("_held", "_http", "body", "ended", "length", "status")

    def __init__(self, *, http: bool = False) -> None:
        self._http = http
        self._held = bytearray()
        self.ended = False
        self.status = ""
        self.length: int | None = None
        self.body = 0

    @property
    def held(self) -> int:
        """Octets of a head that is not complete."""
        return len(self._held)

    def feed(self, data: bytes, item: Item) -> bytes | None:
        """Take octets of the response.

        Args:
            data: Octets.
            item: Receives the head where it is complete.

        Returns:
            The body's octets in *data*; None while the head goes on.
        """
        if self.ended:
            self.body += len(data)
            return data
        held = self._held
        start = len(held) - 3
        held += data
        found = _find_end(held, start)
        if found is None:
            if len(held) > MAX_HEAD_BYTES:
                item.complain(f"no blank line ends the head within {MAX_HEAD_BYTES} octets", _CGI)
                self._give_up()
            return None
        block, rest = bytes(held[: found[0]]), bytes(held[found[1] :])
        self._give_up()
        self._describe(block.decode("latin-1"), item)
        self.body = len(rest)
        return rest

    def _give_up(self) -> None:
        self.ended = True
        self._held = bytearray()

    def _describe(self, text: str, item: Item) -> None:
        """Decode the head into *item*, line by line."""
        lines = text.split("\n")
        status = ""
        if lines[0].startswith("HTTP/"):
            status = lines.pop(0).rstrip("\r").partition(" ")[2]
            if not self._http:
                item.complain("an HTTP status line where CGI has a Status header", _CGI)
        elif self._http:
            item.complain(
                "no HTTP status line: mod_proxy_uwsgi answers 502, and nginx lets Status through",
                _HTTP,
            )
        location = False
        for raw in lines:
            line = raw.removesuffix("\r")
            if not line:
                continue
            name, colon, value = line.partition(":")
            value = value.strip(" \t")
            if not colon or not is_token(name):
                item.complain(f"not a header line: {line[:80]!a}", _FIELDS)
                continue
            item.fields.append(Field(name, value))
            location = location or name.lower() == "location"
            if name.lower() == "status":
                status = value
            self._check(item, name, value)
        self.status = status or ("302 Found" if location else "200 OK")
        code = self.status[:3]
        if not (len(code) == 3 and parse_length(code) and self.status[3:4] in {"", " "}):
            item.complain(f"not a status: {self.status[:80]!a}", f"{_FIELDS}.3")
        elif code < "200":
            item.complain(f"{code} is no final status", f"{_FIELDS}.3")
        item.say(f"status {self.status[:80]}" + ("" if status else " as none is given"))
        item.say(counted(len(item.fields), "header"))

    def _check(self, item: Item, name: str, value: str) -> None:
        lower = name.lower()
        if any(c < " " and c != "\t" for c in value):
            item.complain(f"{name} holds a control character", "RFC 9110 §5.5")
        if lower in HOP_BY_HOP and not (self._http and lower == "connection"):
            item.complain(f"{name} is between client and web server alone", f"{_FIELDS}.4")
        if lower == "content-length":
            length = parse_length(value)
            if length is None or self.length not in (None, length):
                item.complain(f"Content-Length is not one length: {value[:40]!a}", LENGTH)
            self.length = length

    def check_end(self, item: Item) -> None:
        """Add to *item* what the response's end shows."""
        if not self.ended:
            what = f"its head, of which {octets(self.held)} came" if self.held else "a head"
            item.complain(f"the response ends before the end of {what}", _CGI)
        else:
            check_body(item, self.status, self.length, self.body)


def _find_end(held: bytearray, start: int) -> tuple[int, int] | None:
    """As `portico.head.find_end`, for a head of no line as well."""
    if held[:1] == b"\n":
        return 0, 1
    return (0, 2) if held[:2] == b"\r\n" else find_end(held, max(start, 0))


def check_body(item: Item, status: str, length: int | None, body: int) -> None:
    """Compare a response's body with its head; none at all may answer HEAD."""
    if body and status[:3] in ("204", "304"):
        item.complain(f"{octets(body)} of body where status {status[:3]} has none", NO_BODY)
    elif body and length is not None and body != length:
        item.complain(f"Content-Length says {length}, the body has {octets(body)}", LENGTH)


class LineResponse(Dissector):
    """The response's side of SCGI and uwsgi: a head, and a body that ends with the connection."""

    _http = False

    def _parse_response(self) -> Generator[int, bytes, None]:
        head = ResponseHead(http=self._http)
        held = bytearray()
        while len(held) <= MAX_HEAD_BYTES and _find_end(held, len(held) - 3) is None:
            piece = yield 1
            if not piece:
                break
            held += piece
        if not held:
            return
        self.messages += 1
        item = self._add(0, len(held), "head")
        head.feed(bytes(held), item)
        if not head.ended:
            head.check_end(item)
            return
        start = self.offset
        body = yield from self._skim(None)
        head.body = body.size
        if body.size:
            item = self._add(start, body.size, "body", octets(body.size))
            item.preview = body.preview
        elif head.length:
            item = self._add(start, 0, END, f"no body of the {octets(head.length)}: as for HEAD")
        head.check_end(item)
