"""Shows what dissectors give: as a table, as JSON, or as the lines of a live exchange."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from portico.trace import dissector
from portico.trace.items import FRONTEND, PREVIEW_BYTES, SERVER, counted, octets

if TYPE_CHECKING:
    from typing import TextIO

    from portico.trace.items import Dissector, Field, Item

#: Protocols as they call themselves, and the width of their usual names.
_TITLES = {"fastcgi": "FastCGI 1.0", "scgi": "SCGI", "ajp": "AJP/1.3", "uwsgi": "uwsgi"}
_NAME_WIDTHS = {"fastcgi": 18, "scgi": 9, "ajp": 15, "uwsgi": 8}

#: What is one of a protocol's items, for the summary.
_NOUNS = {"fastcgi": "record", "scgi": "part", "ajp": "packet", "uwsgi": "part"}

_SENDERS = {FRONTEND: "from the web server", SERVER: "from the application server"}

#: Names, without HTTP_ and in upper case, whose values are nobody's business...
_SECRET_NAMES = frozenset(
    {
        "AUTHORIZATION", "PROXY_AUTHORIZATION", "COOKIE", "COOKIE2", "SET_COOKIE", "SET_COOKIE2",
        "SSL_SESSION", "SSL_SESSION_ID", "AUTHENTICATION_INFO",
    }
)  # fmt: skip

#: ... and what such names hold.
_SECRET_WORDS = ("SECRET", "PASSWD", "PASSWORD", "TOKEN", "API_KEY", "APIKEY", "CREDENTIAL")

#: Characters of a value or preview that are shown without --full, at least.
_LEAST_WIDTH = 40

#: Widest name that values stand in one column behind.
_MOST_NAME_WIDTH = 28

_MARGIN = 21  # before a record's name: offset, size, blanks


def has_colour(stream: TextIO) -> bool:
    """Whether to colour what is written to *stream*: for a terminal alone (no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def printable(text: str, *, exact: bool = False) -> str:
    r"""Escape what would move a terminal's cursor or hide text.

    Args:
        text: Octets as latin-1; shown as UTF-8, what is none of it escaped. Or text of ours.
        exact: Whether a backslash is doubled, so that ``\\n`` always is a line feed.
    """
    if exact:
        text = text.replace("\\", "\\\\")
    if not text.isascii() and all(c <= "\xff" for c in text):
        text = text.encode("latin-1").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        [c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text]
    )


def is_secret(name: str) -> bool:
    """Whether a parameter, header or attribute of this name is shown on demand alone."""
    key = name.upper().replace("-", "_").removeprefix("REDIRECT_").removeprefix("HTTP_")
    return key in _SECRET_NAMES or any(word in key for word in _SECRET_WORDS)


def _shown(field: Field, *, full: bool) -> str | None:
    """A field's value, masked where it must be."""
    value = field.value
    if value and not full and is_secret(field.name):
        return f"(masked: {octets(len(value))})"
    return value


class Table:
    """Writes a table for people to standard output.

    Args:
        full: Whether to show long values whole, and secret ones at all.
        colour: Whether to colour.
    """

    def __init__(self, *, full: bool, colour: bool) -> None:
        self._full = full
        self._colour = colour
        self._width = 10**9 if full else max(shutil.get_terminal_size((110, 24)).columns, 80)
        self._name_width = 0

    def begin(self, what: Dissector) -> None:
        """Write the heading."""
        self._name_width = _NAME_WIDTHS[what.protocol]
        self._write(f"{_TITLES[what.protocol]}, {_SENDERS[what.direction]}", "1")
        self._write("")
        self._write(f"{'offset':>9}  {'octets':>8}", "2")

    def item(self, item: Item) -> None:
        """Write one item."""
        place = f"{item.offset:>9}  {item.size or '':>8}  "
        name = f"{item.name:{self._name_width}}"
        detail = printable(item.detail)
        room = self._width - _MARGIN - len(name) - 2
        line = f"{self._paint(place, '2')}{self._paint(name, '1')}  {self._cut(detail, room)}"
        self._write(line.rstrip())
        self._fields(item)
        if item.preview:
            self._preview(item)
        for fault in item.faults:
            self._write(f"!!{'':{_MARGIN - 2}}{printable(fault.text)} [{fault.section}]", "31")

    def end(self, what: Dissector, records: int) -> None:
        """Write the summary."""
        noun = "request" if what.direction == FRONTEND else "response"
        faults = counted(what.faults, "fault") if what.faults else "no faults"
        parts = [
            counted(records, _NOUNS[what.protocol]),
            octets(what.offset),
            counted(what.messages, noun),
        ]
        self._write("")
        self._write(f"{', '.join(parts)}: {self._paint(faults, '31' if what.faults else '32')}")

    def _fields(self, item: Item) -> None:
        fields = item.fields
        indent = _MARGIN + (4 if any(field.group for field in fields) else 2)
        width = min(max((len(field.name) for field in fields), default=0), _MOST_NAME_WIDTH)
        group = ""
        for field in fields:
            if field.group != group:
                group = field.group
                self._write(f"{'':{_MARGIN + 2}}{group}:", "2")
            value = _shown(field, full=self._full)
            shown = "(null)" if value is None else printable(value, exact=True)
            name = f"{printable(field.name):{width}}"
            room = self._width - indent - len(name) - 2
            line = f"{'':{indent}}{self._paint(name, '36')}  {self._cut(shown, room)}"
            self._write(line.rstrip())

    def _preview(self, item: Item) -> None:
        text = printable(item.preview.decode("latin-1"), exact=True)
        room = max(self._width - _MARGIN - 7, _LEAST_WIDTH)
        more = len(item.preview) == PREVIEW_BYTES or len(text) > room
        self._write(f'{"":{_MARGIN + 2}}"{text[:room]}"{"..." if more else ""}', "2")

    def _cut(self, text: str, room: int) -> str:
        room = max(room, _LEAST_WIDTH)
        return text if len(text) <= room else f"{text[: room - 3]}..."

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text

    def _write(self, line: str, code: str = "") -> None:
        print(self._paint(line, code) if code else line)


class Json:
    """Writes a JSON object a line to standard output: one an item, and the summary."""

    def __init__(self, *, full: bool) -> None:
        self._full = full

    def begin(self, what: Dissector) -> None:
        """Write nothing: the summary says it."""

    def item(self, item: Item) -> None:
        """Write one item; texts are latin-1, an octet a character."""
        fields = []
        for field in item.fields:
            entry = {"name": field.name, "value": _shown(field, full=self._full)}
            fields.append(entry | ({"group": field.group} if field.group else {}))
        faults = [{"text": fault.text, "section": fault.section} for fault in item.faults]
        print(
            json.dumps(
                {
                    "offset": item.offset,
                    "octets": item.size,
                    "from": item.direction,
                    "name": item.name,
                    "detail": item.detail,
                    "fields": fields,
                    "preview": item.preview.decode("latin-1"),
                    "faults": faults,
                }
            )
        )

    def end(self, what: Dissector, records: int) -> None:
        """Write the summary."""
        noun = "requests" if what.direction == FRONTEND else "responses"
        print(
            json.dumps(
                {
                    "protocol": what.protocol,
                    "from": what.direction,
                    "records": records,
                    "octets": what.offset,
                    noun: what.messages,
                    "faults": what.faults,
                }
            )
        )


class Live:
    """Writes each record of an exchange, both directions, to standard error as it passes.

    Args:
        protocol: What both sides speak.
    """

    def __init__(self, protocol: str) -> None:
        self._sides = {True: dissector(protocol, FRONTEND), False: dissector(protocol, SERVER)}
        self._name_width = _NAME_WIDTHS[protocol]
        self._colour = has_colour(sys.stderr)
        self._start = time.monotonic()

    def take(self, data: bytes, sent: bool) -> None:  # noqa: FBT001 - as the exchange calls it
        """Take octets that have passed."""
        self._show(self._sides[sent].receive_data(data))

    def end(self) -> None:
        """Take the end of both directions."""
        for side in self._sides.values():
            self._show(side.receive_eof())

    def _show(self, items: list[Item]) -> None:
        if not items:
            return
        elapsed = (time.monotonic() - self._start) * 1000
        sys.stdout.flush()
        for item in items:
            mark = ">" if item.direction == FRONTEND else "<"
            line = f"{elapsed:9.1f} ms  {mark} {item.size or '':>7}  {item.name:{self._name_width}}"
            self._write(f"{line}  {printable(item.detail)}".rstrip(), "")
            for fault in item.faults:
                self._write(f"!!{'':21}{printable(fault.text)} [{fault.section}]", "31")

    def _write(self, line: str, code: str) -> None:
        coloured = self._colour and code
        print(f"\x1b[{code}m{line}\x1b[0m" if coloured else line, file=sys.stderr)
