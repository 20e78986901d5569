"""Rules that request parameters obey in every protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.params import SINGLE
from portico.trace.items import Field

if TYPE_CHECKING:
    from portico.trace.items import Item

#: Most digits of a length: what fits a signed 64-bit integer whatever the digits are.
_MAX_LENGTH_DIGITS = 18

#: Octets of a value that are compared with those of its repeat.
_COMPARED_BYTES = 4096

LENGTH_RULE = "RFC 3875 §4.1.2"
VALUES_RULE = "RFC 3875 §4.1"


def parse_length(value: str) -> int | None:
    """Decode a length, octets; None for what is none."""
    if value.isascii() and value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS:
        return int(value)
    return None


class Params:
    """What is remembered of one request's parameters.

    Attributes:
        count: How many there were.
        method: REQUEST_METHOD.
        target: REQUEST_URI, or what else says what was asked for.
        length: CONTENT_LENGTH, octets; None where there is none, or no number.
    """

    __slots__ = ("_seen", "count", "length", "method", "target")

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        self.count = 0
        self.method = ""
        self.target = ""
        self.length: int | None = None

    def take(self, item: Item, name: str, value: str) -> None:
        """Add a parameter to *item*, with the rules that it breaks."""
        item.fields.append(Field(name, value))
        self.count += 1
        if name == "REQUEST_METHOD":
            self.method = value[:40]
        elif name == "REQUEST_URI" or (name == "PATH_INFO" and not self.target):
            self.target = value[:200]
        if name not in SINGLE:
            return
        value = value[:_COMPARED_BYTES]
        if self._seen.setdefault(name, value) != value:
            item.complain(f"{name} comes with two different values", VALUES_RULE)
        if name == "CONTENT_LENGTH" and value:
            self.length = parse_length(value)
            if self.length is None:
                item.complain(f"CONTENT_LENGTH is not a length: {value[:40]!a}", LENGTH_RULE)

    def request(self) -> str:
        """Say what is asked for, as far as the parameters tell."""
        return f"{self.method} {self.target}".strip()
