"""All that a scoreboard tells, as one mapping: what `portico status` shows.

Workers may write into the whole board, and those that run as another user are not to be trusted
by a parent that is root: whatever stands there, a snapshot has the keys and kinds it should have.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from portico import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.engine.scoreboard import Scoreboard

#: Key -> what it is where nothing is known; its kind is the kind of all its values.
PARENT: dict[str, Any] = {
    "pid": 0,
    "started": 0.0,
    "state": "starting",
    "generation": 0,
    "configured": 0,
    "reloads": 0,
    "failed_reloads": 0,
    "last_failure": "",
    "crashes": 0,
    "application": "",
}

_CHILD: dict[str, Any] = {
    "slot": 0,
    "pid": 0,
    "generation": 0,
    "state": "starting",
    "started": 0.0,
}

#: Counters, which ended workers have had their share in.
COUNTERS: dict[str, Any] = {"requests": 0, "errors": 0, "aborted": 0, "octets": 0}

_GAUGES: dict[str, Any] = {"threads": 0, "busy": 0, "connections": 0, "waiting": 0}

#: Counters by name.
TALLIES = ("repairs", "protocols")

_OF_PROCESS: dict[str, Any] = {"published": 0.0, "rss": 0}

_REQUEST: dict[str, Any] = {
    "method": "",
    "target": "",
    "protocol": "",
    "peer": "",
    "since": 0.0,
    "id": "",
}

#: Most names in one tally, and requests of one worker, that a snapshot repeats.
_MOST_NAMES = 64
_MOST_RUNNING = 64

#: Beyond this no counter of ours ever is; sums stay integers that any reader of JSON can take.
_MOST = 2**53

#: Times that the board is read again because the parent wrote meanwhile.
_TRIES = 20


def snapshot(board: Scoreboard) -> dict[str, Any]:
    """Merge what the parent and the workers say.

    Returns:
        ``portico`` (version), ``time`` (seconds since the epoch), ``parent``, ``workers`` (those
        the parent knows of, in the order of their slots) and ``total``, whose counters hold those
        of ended workers too.
    """
    for _ in range(_TRIES):
        number = board.number(0)
        parent = board.read(0) or {}
        children = _children(parent)
        entries = [board.read(child["slot"]) or {} for child in children]
        if board.number(0) == number:
            break  # or a worker could be counted twice, or not at all
    workers = [_worker(child, entry) for child, entry in zip(children, entries, strict=True)]
    gone = parent.get("gone")
    total: dict[str, Any] = {}
    add_counts(total, gone if isinstance(gone, dict) else {})
    for worker in workers:
        add_counts(total, worker)
    for name in _GAUGES:
        total[name] = sum(worker[name] for worker in workers)
    return {
        "portico": __version__,
        "time": time.time(),
        "parent": _parent(parent),
        "workers": workers,
        "total": total,
    }


def parse(text: bytes) -> dict[str, Any]:
    """Read a snapshot that was sent as JSON, perhaps by another version: all keys are there.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("workers"), list):
        raise ValueError("no snapshot")  # noqa: TRY004 - of octets, not of a Python value
    total = found.get("total")
    return {
        **shaped(found, {"portico": "", "time": 0.0}),
        "parent": _parent(found.get("parent")),
        "workers": [{**shaped(worker, _CHILD), **_figures(worker)} for worker in found["workers"]],
        "total": {**shaped(total, COUNTERS | _GAUGES), **_tallies(total)},
    }


def add_counts(total: dict[str, Any], entry: Mapping[str, Any]) -> None:
    """Add a worker's counters to *total*: ``requests`` and its like, ``repairs``, ``protocols``.

    A parent calls it with the last entry of a worker that has ended and its own ``gone``; it
    writes its own entry, without that worker, before it clears the slot, and no total falls.

    Args:
        total: Changed; starts as an empty dict.
        entry: A worker's entry, whatever stands in it.
    """
    counts = shaped(entry, COUNTERS)
    for name, count in counts.items():
        total[name] = min(total.get(name, 0) + count, _MOST)
    for name in TALLIES:
        tally = total.setdefault(name, {})
        for key, count in _tally(entry.get(name)).items():
            if key in tally or len(tally) < _MOST_NAMES:
                tally[key] = min(tally.get(key, 0) + count, _MOST)


def shaped(entry: object, shape: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of *entry* under the keys of *shape*, in place of wrong ones those there."""
    found = entry if isinstance(entry, dict) else {}
    return {name: _like(found.get(name), default) for name, default in shape.items()}


def _like(value: object, default: Any) -> Any:
    if isinstance(default, str):
        return value if isinstance(value, str) else default
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    if not 0 <= value <= _MOST:  # no NaN either
        return default
    return type(default)(value)


def _children(parent: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = parent.get("children")
    children = [shaped(child, _CHILD) for child in listed] if isinstance(listed, list) else []
    return sorted(children, key=lambda child: child["slot"])


def _parent(entry: object) -> dict[str, Any]:
    found = entry if isinstance(entry, dict) else {}
    return {**shaped(found, PARENT), "binds": _texts(found.get("binds"))}


def _worker(child: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Merge what the parent knows of a worker and what that says itself."""
    figures = _figures(entry if entry.get("pid") == child["pid"] else {})  # or its predecessor's
    if child["state"] == "serving":
        child["state"] = "busy" if figures["busy"] else "idle"
    return {**child, **figures}


def _figures(entry: object) -> dict[str, Any]:
    """Give what a worker says of itself, whatever stands in *entry*."""
    found = entry if isinstance(entry, dict) else {}
    listed = found.get("running")
    running = listed[:_MOST_RUNNING] if isinstance(listed, list) else []
    return {
        **shaped(found, _OF_PROCESS | COUNTERS | _GAUGES),
        **_tallies(found),
        "running": [shaped(request, _REQUEST) for request in running],
    }


def _tallies(entry: object) -> dict[str, dict[str, int]]:
    found = entry if isinstance(entry, dict) else {}
    return {name: _tally(found.get(name)) for name in TALLIES}


def _tally(value: object) -> dict[str, int]:
    """Give the whole numbers in *value* by their names, the first of them."""
    if not isinstance(value, dict):
        return {}
    names = [name for name in list(value)[:_MOST_NAMES] if isinstance(name, str)]
    return {name: _like(value[name], 0) for name in names}


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
