"""Shared memory in which each process of a service says how it is doing.

The parent makes the board before it forks; it has no file and no name. Each slot has one writer
and any readers. A slot holds its entry twice: a new one is written over the older, and counts
only once its number is there. So a reader is never in a writer's way, and a writer that dies in
the midst of an entry leaves the one before.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Octets of one entry of a worker. The system gives memory only to pages that were written.
ENTRY_BYTES = 16_384

#: Octets that the parent's entry has on top for each worker.
CHILD_BYTES = 192

#: Characters to which each text of an entry that is too long is cut.
_SHORT_TEXT = 200

#: Times that a reader tries again because the writer was faster: a writer pauses between two.
_TRIES = 100

#: Number of entries written so far; one aligned word, which the processor writes at once.
_NUMBER = struct.Struct("@Q")

#: Length and checksum of an entry. The checksum finds what the number alone would miss: on some
#: processors a reader sees writes of another in an order of its own.
_HEAD = struct.Struct("@II")


class Scoreboard:
    """One slot for the parent, 0, and one for each worker; shared with whoever is forked.

    Args:
        slots: How many workers there is room for.

    Attributes:
        slots: The same.
    """

    __slots__ = ("_memory", "_size", "_size_of_first", "_staying", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._size = ENTRY_BYTES
        self._size_of_first = ENTRY_BYTES + CHILD_BYTES * slots
        end = self._start_of(slots + 1)
        words = 8 * (slots + 1)
        self._memory = mmap.mmap(-1, end + words)
        # Connections that stay, of each worker, one more than there are; 0 for one that accepts
        # none. Aligned words, which the processor writes at once.
        self._staying = memoryview(self._memory)[end : end + words].cast("Q")

    def write(self, slot: int, entry: Mapping[str, Any]) -> None:
        """Publish an entry; there must be no other writer of *slot*.

        Args:
            slot: 0 for the parent, 1 and more for workers. Nothing is written for one that the
                board has no room for: no worker fails for it.
            entry: What JSON can hold; cut to fit, the last of its ``running`` first.

        Raises:
            ValueError: even cut, it does not fit.
        """
        if 0 <= slot <= self.slots:
            self._publish(slot, _fit(entry, self._size_at(slot) - _HEAD.size))

    def read(self, slot: int) -> dict[str, Any] | None:
        """Give the last entry; None if there is none, or what is there is none of ours."""
        if not 0 <= slot <= self.slots:
            return None
        data = self._copy(slot)
        if not data:
            return None
        try:
            entry = json.loads(data)
        except (ValueError, RecursionError):  # the application has written into the memory
            return None
        return entry if isinstance(entry, dict) else None

    def clear(self, slot: int) -> None:
        """Take the entry away; its writer must have ended."""
        if 0 <= slot <= self.slots:
            self.count_staying(slot, None)
            self._publish(slot, b"")

    def count_staying(self, slot: int, number: int | None) -> None:
        """Publish how many connections that stay a worker has; None if it takes no more.

        At once, not with the next entry.
        """
        if 0 < slot <= self.slots:
            self._staying[slot] = 0 if number is None else number + 1

    def least_staying(self) -> int:
        """Give the number of the worker that has the fewest; 0 if nobody accepts."""
        return max(0, min(filter(None, self._staying.tolist()), default=1) - 1)

    def number(self, slot: int) -> int:
        """Give how many entries *slot* has had; another number means another entry."""
        (number,) = _NUMBER.unpack_from(self._memory, self._start_of(slot))
        return int(number)

    def _size_at(self, slot: int) -> int:
        return self._size if slot else self._size_of_first

    def _start_of(self, slot: int) -> int:
        """Where a slot begins: its number, then room for two entries; a multiple of 64."""
        if not slot:
            return 0
        return 64 + 2 * self._size_of_first + (slot - 1) * (64 + 2 * self._size)

    def _publish(self, slot: int, data: bytes) -> None:
        memory, start = self._memory, self._start_of(slot)
        number = (self.number(slot) + 1) % 2**64
        at = start + 64 + (number & 1) * self._size_at(slot)
        memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        _HEAD.pack_into(memory, at, len(data), zlib.crc32(data))
        _NUMBER.pack_into(memory, start, number)

    def _copy(self, slot: int) -> bytes:
        """Give the octets of the last entry, whole; none if there is none."""
        size = self._size_at(slot) - _HEAD.size
        for _ in range(_TRIES):
            number = self.number(slot)
            at = self._start_of(slot) + 64 + (number & 1) * (size + _HEAD.size)
            length, checksum = _HEAD.unpack_from(self._memory, at)
            at += _HEAD.size
            data = self._memory[at : at + min(length, size)]
            if self.number(slot) == number and zlib.crc32(data) == checksum:
                return data
        return b""


def _fit(entry: Mapping[str, Any], most: int) -> bytes:
    """Write *entry* as JSON of at most *most* octets.

    Raises:
        ValueError: nothing more can be left out.
    """
    data = _encode(entry)
    if len(data) <= most:
        return data
    for reduced in ({**entry, "running": []}, _shorten({**entry, "running": []})):
        data = _encode(reduced)
        if len(data) <= most:
            return _with_running(reduced, entry.get("running") or [], most)
    raise ValueError(f"an entry of {len(data)} octets, where there is room for {most}")


def _with_running(entry: dict[str, Any], running: list[Any], most: int) -> bytes:
    """Write *entry* with as many of *running*, from the first, as there is room for."""
    left = most - len(_encode(entry))
    kept = []
    for request in running:
        left -= len(_encode(request)) + 1  # and a comma
        if left < 0:
            break
        kept.append(request)
    return _encode({**entry, "running": kept})


def _shorten(value: Any) -> Any:
    """Cut each text in *value*."""
    if isinstance(value, str):
        return value[:_SHORT_TEXT]
    if isinstance(value, dict):
        return {name: _shorten(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shorten(item) for item in value]
    return value


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
