"""The two messages of AJP/1.3 that have fields: Forward Request and Send Headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.codecs._ajp_tables import (
    ARE_DONE,
    METHODS,
    REQ_ATTRIBUTE,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    SSL_KEY_SIZE,
    STORED_METHOD,
    STRING_ATTRIBUTES,
)
from portico.codecs._ajp_wire import NULL, REQUEST, RESPONSE, has_break
from portico.head import is_token
from portico.params import SINGLE
from portico.trace._params import LENGTH_RULE, VALUES_RULE, parse_length
from portico.trace._response import LENGTH
from portico.trace.items import Field, counted

if TYPE_CHECKING:
    from portico.trace.items import Item

HEADERS = "headers"
ATTRIBUTES = "attributes"
NAMED = "request attributes"

#: Attributes by their code, as the specification calls them.
ATTRIBUTE_NAMES = {
    0x01: "context",
    0x02: "servlet_path",
    0x03: "remote_user",
    0x04: "auth_type",
    0x05: "query_string",
    0x06: "jvm_route",
    0x07: "ssl_cert",
    0x08: "ssl_cipher",
    0x09: "ssl_session",
    0x0A: "req_attribute",
    0x0B: "ssl_key_size",
    0x0C: "secret",
    0x0D: "stored_method",
}

#: Names of the coded request headers, by the low octet of A001..A00E.
HEADER_NAMES = tuple(key.removeprefix("HTTP_").replace("_", "-").lower() for key in REQUEST_HEADERS)

#: Attributes whose value has line breaks: a certificate in PEM.
_WITH_BREAKS = frozenset({0x07})


class _CutError(Exception):
    """The message ends within a field, or cannot be read on."""


class _Cursor:
    """Reads the fields of a message, whose faults go to an item."""

    def __init__(self, item: Item, payload: bytes, at: int, section: str) -> None:
        self.item = item
        self.section = section
        self._payload = payload
        self._text = payload.decode("latin-1")
        self._at = at

    def complain(self, text: str) -> None:
        self.item.complain(text, self.section)

    def left(self) -> int:
        return len(self._payload) - self._at

    def take(self, count: int) -> int:
        """Take an integer of *count* octets."""
        if self.left() < count:
            raise _CutError
        value = int.from_bytes(self._payload[self._at : self._at + count], "big")
        self._at += count
        return value

    def string(self, what: str, *, breaks: bool = False) -> str | None:
        """Take a string; None for the null string."""
        size = self.take(2)
        if size == NULL:
            return None
        if self.left() < size + 1:
            self._at = len(self._payload)
            raise _CutError
        value = self._text[self._at : self._at + size]
        self._at += size
        if self.take(1):
            self.complain(f"{what} does not end in NUL")
        if has_break(value) and not breaks:
            self.complain(f"{what} holds a line break or NUL")
        return value

    def code(self) -> int | None:
        """Take a header's code; None where a string follows instead."""
        if self.left() and self._payload[self._at] == 0xA0:
            return self.take(2) & 0xFF
        return None

    def header(self, names: tuple[str, ...]) -> Field:
        """Take a header: a code or a name, and a value."""
        code = self.code()
        if code is None:
            name = self.string("a header's name")
            if name is None:
                self.complain("a header's name is null")
            elif not is_token(name):
                self.complain(f"a header's name is no token: {name[:80]!a}")
        elif 0 < code < len(names):
            name = names[code]
        else:
            name = f"A0{code:02X}"
            self.complain(f"there is no header code {name}")
        name = name or ""
        return Field(name, self.string(f"header {name[:40]}"), HEADERS)


def decode_forward(item: Item, payload: bytes) -> tuple[int, bool]:
    """Decode a Forward Request into *item*, as far as it goes.

    Returns:
        Octets of the body, and whether it is chunked.
    """
    cursor = _Cursor(item, payload, 1, REQUEST)
    try:
        _decode_fields(cursor)
        for _ in range(cursor.take(2)):
            item.fields.append(cursor.header(HEADER_NAMES))
        _decode_attributes(cursor)
    except _CutError:
        cursor.complain("a field runs past the end of the message")
    fields = [field for field in item.fields if not field.group]
    known = {field.name: field.value or "" for field in fields}
    found = {f.name: f.value or "" for f in item.fields if f.group == ATTRIBUTES}
    _check_request(item, known, found)
    query = f"?{found['query_string']}" if "query_string" in found else ""
    item.say(f"{known.get('method', '')} {known.get('req_uri', '')[:200]}{query[:200]}".strip())
    for group, noun in ((HEADERS, "header"), (ATTRIBUTES, "attribute")):
        count = sum([field.group.endswith(group) for field in item.fields])
        item.say(counted(count, noun))
    return _body_of(item)


def _decode_fields(cursor: _Cursor) -> None:
    """Take what precedes the headers."""
    fields = cursor.item.fields
    code = cursor.take(1)
    if code == 255:
        method = "(stored)"
    elif 0 < code < len(METHODS):
        method = METHODS[code]
    else:
        method = f"(code {code})"
        cursor.complain(f"there is no method code {code}")
    fields.append(Field("method", method))
    for name in ("protocol", "req_uri", "remote_addr", "remote_host", "server_name"):
        fields.append(Field(name, cursor.string(name)))
    fields.append(Field("server_port", str(cursor.take(2))))
    fields.append(Field("is_ssl", str(cursor.take(1))))


def _decode_attributes(cursor: _Cursor) -> None:
    fields = cursor.item.fields
    seen: set[int] = set()
    while (code := cursor.take(1)) != ARE_DONE:
        if code == REQ_ATTRIBUTE:
            name = cursor.string("a request attribute's name")
            value = cursor.string(f"request attribute {(name or '')[:40]}")
            fields.append(Field(name or "", value, NAMED))
            continue
        if code == SSL_KEY_SIZE:
            fields.append(Field("ssl_key_size", str(cursor.take(2)), ATTRIBUTES))
        elif code in STRING_ATTRIBUTES:
            name = ATTRIBUTE_NAMES[code]
            value = cursor.string(f"attribute {name}", breaks=code in _WITH_BREAKS)
            fields.append(Field(name, value, ATTRIBUTES))
        else:
            cursor.complain(f"there is no attribute {code:02X}; what follows cannot be read")
            return
        if code in seen:
            cursor.complain(f"attribute {ATTRIBUTE_NAMES[code]} comes twice")
        seen.add(code)
    if cursor.left():
        cursor.complain(f"{cursor.left()} octets follow the end of the message")


def _check_request(item: Item, known: dict[str, str], found: dict[str, str]) -> None:
    """Hold the fields to what they must be."""
    if known.get("method") == "(stored)":
        stored = found.get(ATTRIBUTE_NAMES[STORED_METHOD], "")
        known["method"] = stored[:40]
        if not is_token(stored):
            item.complain(f"method code 255 without a stored method: {stored[:40]!a}", REQUEST)
    if known.get("protocol") == "":
        item.complain("no protocol", REQUEST)
    path = known.get("req_uri")
    asterisk = path == "*" and known.get("method") == "OPTIONS"
    if path is not None and not path.startswith("/") and not asterisk:
        item.complain(f"req_uri is no path: {path[:80]!a}", REQUEST)
    elif path is not None and "?" in path:
        item.complain(
            f"req_uri holds a query, which has a field of its own: {path[:80]!a}", REQUEST
        )


def _body_of(item: Item) -> tuple[int, bool]:
    """Give the body's length that the headers announce, and whether it is chunked."""
    length: int | None = None
    chunked = False
    seen: dict[str, str] = {}
    for name, value, group in item.fields:
        lower = name.lower()
        if group != HEADERS or value is None:
            continue
        key = f"HTTP_{lower.upper().replace('-', '_')}"
        if key in SINGLE and seen.setdefault(key, value) != value:
            item.complain(f"{lower} comes with two different values", VALUES_RULE)
        elif lower == "content-length" and length is not None:
            item.complain("content-length comes twice", REQUEST)
        if lower == "content-length":
            length = parse_length(value)
            if length is None:
                item.complain(f"content-length is no length: {value[:40]!a}", LENGTH_RULE)
        elif lower == "transfer-encoding":
            chunked = value.strip(" \t").lower() == "chunked"
            if not chunked:
                item.complain(f"transfer-encoding {value[:40]!a} is not chunked", REQUEST)
    return (0, True) if chunked else (length or 0, False)


def decode_send_headers(item: Item, payload: bytes) -> tuple[int, str, int | None]:
    """Decode a Send Headers into *item*, as far as it goes.

    Returns:
        Status, reason and Content-Length, octets; None for none.
    """
    cursor = _Cursor(item, payload, 1, RESPONSE)
    code, reason, length = 0, "", None
    try:
        code = cursor.take(2)
        reason = cursor.string("the reason") or ""
        for _ in range(cursor.take(2)):
            field = cursor.header(RESPONSE_HEADERS)
            item.fields.append(Field(field.name, field.value))
            if field.value is None:
                cursor.complain(f"header {field.name[:40]} is null")
            elif field.name.lower() == "content-length":
                length = parse_length(field.value)
                if length is None:
                    item.complain(f"Content-Length is no length: {field.value[:40]!a}", LENGTH)
        if cursor.left():
            cursor.complain(f"{cursor.left()} octets follow the end of the message")
    except _CutError:
        cursor.complain("a field runs past the end of the message")
    if not 100 <= code <= 999:
        cursor.complain(f"{code} is no status")
    item.say(f"status {code} {reason[:80]}".rstrip())
    item.say(counted(len(item.fields), "header"))
    return code, reason, length
