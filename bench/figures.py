"""Medians, spreads and ratios of what the rounds brought: a pure reading of the results' JSON."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

#: The results of a run, as JSON has them.
Results = dict[str, Any]


class Spread(NamedTuple):
    """The median of the rounds, with the least and the most."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Give median, least and most of *values*."""
    return Spread(statistics.median(values), min(values), max(values))


def rounds(results: Results, case: str, name: str) -> list[dict[str, float]]:
    """Give the rounds of one cell; none where it has no figure."""
    found = results["cases"].get(case)
    if found is None or name in found["refused"]:
        return []
    cell: list[dict[str, float]] = found["rounds"].get(name, [])
    return cell


def figure(results: Results, case: str, name: str, key: str) -> Spread | None:
    """Give one kind of figure of one cell, or none."""
    values = [row[key] for row in rounds(results, case, name) if key in row]
    return spread(values) if values else None


def ratio(results: Results, case: str, ours: str, peer: str, key: str) -> Spread | None:
    """Give ours divided by the peer's, round by round; none where either has no figure.

    What the machine does to a whole round it does to both, and the division takes it out.
    """
    pairs = zip(rounds(results, case, ours), rounds(results, case, peer), strict=False)
    values = [
        mine[key] / other[key] for mine, other in pairs if key in mine and other.get(key, 0) > 0
    ]
    return spread(values) if values else None


def memory(results: Results, name: str) -> float | None:
    """Give the proportional memory after all of the load, in MiB."""
    found: list[float] | None = results["memory"].get(name)
    return found[0] if found else None


def cgi_over_bare(results: Results, script: str) -> Spread | None:
    """Give what a CGI process of *script* takes over a bare interpreter, in ms, pair by pair."""
    found: dict[str, list[float]] = results.get("cgi", {})
    pairs = zip(found.get(script, []), found.get("bare", []), strict=False)
    over = [mine - bare for mine, bare in pairs]
    return spread(over) if over else None


def names(results: Results, case: str) -> list[str]:
    """Give who took part in a case, in the order of the field."""
    found = results["cases"][case]
    return [
        one for one in results["contestants"] if one in found["rounds"] or one in found["refused"]
    ]
