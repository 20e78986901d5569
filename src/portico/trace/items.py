"""What a dissector gives, and what all dissectors are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Generator

#: The two directions of a connection, by who sends.
FRONTEND = "frontend"
SERVER = "server"

#: Names of items that are no message: octets of no known framing, and what the end of all octets
#: shows to be missing.
LOST = "(octets)"
END = "(end)"

#: Octets of a body that an item holds.
PREVIEW_BYTES = 64

#: Most octets that are waited for at once where a piece of any size does.
_PIECE_BYTES = 65_536

#: Most faults of one item that are listed.
_MAX_FAULTS = 12


class Fault(NamedTuple):
    """A broken rule, in one sentence, and where the rule is written."""

    text: str
    section: str


class Field(NamedTuple):
    """A parameter, header or attribute.

    Attributes:
        name: As sent, latin-1.
        value: As sent, latin-1; None for AJP's null string.
        group: What it is one of, where an item has several kinds: ``"headers"``...
    """

    name: str
    value: str | None
    group: str = ""


class Item:
    """One record, packet or part of a message.

    Attributes:
        offset: Octets of the same direction before it.
        size: Octets of it that are there.
        direction: `FRONTEND` or `SERVER`: who sent it.
        name: As the specification names it.
        detail: What matters of it, in a few words.
        fields: What is decoded of it, in order.
        preview: The first octets of a body in it.
        faults: The rules that it breaks.
    """

    __slots__ = ("detail", "direction", "faults", "fields", "name", "offset", "preview", "size")

    def __init__(self, direction: str, offset: int, size: int, name: str, detail: str = "") -> None:
        self.direction = direction
        self.offset = offset
        self.size = size
        self.name = name
        self.detail = detail
        self.fields: list[Field] = []
        self.preview = b""
        self.faults: list[Fault] = []

    def say(self, words: str) -> None:
        """Add to the detail."""
        self.detail = f"{self.detail}, {words}" if self.detail else words

    def complain(self, text: str, section: str) -> None:
        """Add a fault, up to a bound: thousands of the same kind tell no more than a few."""
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(Fault(text, section))
        elif len(self.faults) == _MAX_FAULTS:
            self.faults.append(Fault("and more, which are not listed", section))


class Skimmed(NamedTuple):
    """Octets that were counted and not kept, but for the first of them."""

    size: int
    preview: bytes


class Dissector:
    """Takes octets of one direction apart; a protocol adds `_parse`.

    Args:
        direction: `FRONTEND` or `SERVER`.

    Attributes:
        protocol: ``"fastcgi"``, ``"scgi"``, ``"ajp"`` or ``"uwsgi"``.
        direction: As given.
        offset: Octets taken apart so far.
        messages: Requests begun (from the web server), or responses (from the application).
        faults: Broken rules reported so far; a count.
    """

    protocol = ""

    def __init__(self, direction: str) -> None:
        self.direction = direction
        self.offset = 0
        self.messages = 0
        self.faults = 0
        self._held = bytearray()
        self._items: list[Item] = []
        self._parser: Generator[int, bytes, None] | None = self._run()
        self._want = next(self._parser)

    def receive_data(self, data: bytes) -> list[Item]:
        """Take octets; gives what is complete."""
        self._held += data
        return self._advance(at_end=False)

    def receive_eof(self) -> list[Item]:
        """Take the end; gives what is left, and says what is missing. Nothing may follow."""
        return self._advance(at_end=True)

    def _parse(self) -> Generator[int, bytes, None]:
        """Take all octets of the connection apart, or return where their framing is lost.

        It yields how many octets it wants next, and gets them: exactly *n*, fewer at the end of
        the input alone; for *-n* one to *n*, as they come, and none at the end. Never zero.
        """
        raise NotImplementedError

    def _run(self) -> Generator[int, bytes, None]:
        yield from self._parse()
        start = self.offset
        rest = yield from self._skim(None)
        if rest.size:
            item = self._add(start, rest.size, LOST, "where the next message begins is lost")
            item.preview = rest.preview

    def _lose(
        self, start: int, seen: bytes, text: str, section: str
    ) -> Generator[int, bytes, None]:
        """Report all from *start* on, of which *seen* has been taken, as one item with a fault."""
        rest = yield from self._skim(None)
        item = self._add(
            start, len(seen) + rest.size, LOST, "where the next message begins is lost"
        )
        item.preview = (seen + rest.preview)[:PREVIEW_BYTES]
        item.complain(text, section)

    def _advance(self, *, at_end: bool) -> list[Item]:
        held = self._held
        at = 0
        while self._parser is not None:
            want = self._want
            there = len(held) - at
            if there < max(want, 1) and not at_end:
                break
            piece = bytes(held[at : at + abs(want)])
            at += len(piece)
            self.offset += len(piece)
            try:
                self._want = self._parser.send(piece)
            except StopIteration:
                self._parser = None
        del held[:at]
        items, self._items = self._items, []
        self.faults += sum([len(item.faults) for item in items])
        return items

    def _add(self, offset: int, size: int, name: str, detail: str = "") -> Item:
        """Give a new item; it is reported once the parser wants more, so fill it in before."""
        item = Item(self.direction, offset, size, name, detail)
        self._items.append(item)
        return item

    def _skim(self, size: int | None) -> Generator[int, bytes, Skimmed]:
        """Count *size* octets, or all that follow, and keep the first of them."""
        seen = 0
        preview = b""
        while size is None or seen < size:
            most = _PIECE_BYTES if size is None else min(size - seen, _PIECE_BYTES)
            piece = yield -most
            if not piece:
                break
            if len(preview) < PREVIEW_BYTES:
                preview += piece[: PREVIEW_BYTES - len(preview)]
            seen += len(piece)
        return Skimmed(seen, preview)


def octets(count: int) -> str:
    """Say a number of octets."""
    return "1 octet" if count == 1 else f"{count} octets"


def counted(count: int, noun: str) -> str:
    """Say a number of things, ``"1 header"``, ``"3 headers"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
