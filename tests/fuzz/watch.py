"""Codecs under watch: each call is held to what holds for any octets whatever."""

from __future__ import annotations

from portico.errors import LimitExceeded, RemoteProtocolError
from portico.limits import Limits

#: Events beside one an octet: those that an end of file brings.
_FEW = 4


class Refusal:
    """A `RemoteProtocolError`, in what must not depend on how octets were cut."""

    def __init__(self, error: RemoteProtocolError) -> None:
        self.status_hint = error.status_hint
        self.what = (type(error), error.section, getattr(error, "option", ""))
        assert str(error), "a refusal without a word"
        assert error.status_hint == 0 or 400 <= error.status_hint <= 599
        if type(error) is LimitExceeded:
            assert error.option, "a ceiling without the option that raises it"

    def __repr__(self) -> str:
        return f"{self.what} {self.status_hint}"


class Watched:
    """A codec of either side, with a count of what goes in and comes out.

    Args:
        codec: Fresh.
        holds_bytes: Most octets that it may keep beside the last delivery.
    """

    def __init__(self, codec, holds_bytes: int) -> None:
        self.codec = codec
        self.refusal: Refusal | None = None
        self._holds_bytes = holds_bytes
        self._fed = 0
        self._events = 0

    def receive(self, data: bytes) -> list[object]:
        """Deliver *data*; no events and a `refusal` where the codec raised."""
        self._fed += len(data)
        return self._checked(lambda: self.codec.receive_data(data), len(data))

    def receive_eof(self) -> list[object]:
        return self._checked(self.codec.receive_eof, 0)

    def _checked(self, call, size: int) -> list[object]:
        try:
            events = call()
        except RemoteProtocolError as exc:
            self.refusal = self.refusal or Refusal(exc)
            return []
        self._events += len(events)
        assert self._events <= self._fed + _FEW, "more events than octets"
        held = held_bytes(self.codec)
        # A codec may keep what was delivered until it is called again, and owe as much in replies.
        assert held <= self._holds_bytes + 3 * size, f"{held} octets are kept"
        return events


def held_bytes(codec) -> int:
    """Count the octets and characters that an object of Portico's keeps, in whatever it has."""
    total = 0
    seen = set()
    stack = [codec]
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, (bytes, bytearray, str, memoryview)):
            total += len(thing)
        elif isinstance(thing, dict):
            stack += thing.keys()
            stack += thing.values()
        elif isinstance(thing, (list, tuple, set, frozenset)):
            stack += thing
        elif type(thing).__module__.startswith("portico.") and not isinstance(thing, Limits):
            stack += _fields(thing)
    return total


def _fields(thing) -> list[object]:
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    found = [getattr(thing, name) for name in names if hasattr(thing, name)]
    return found + list(getattr(thing, "__dict__", {}).values())
