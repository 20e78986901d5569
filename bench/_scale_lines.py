"""The lines that costs should follow, and whether those of `bench/scale.py` do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

#: The results of a run, as JSON has them.
Results = dict[str, Any]
#: x, median, least, most.
Point = tuple[float, float, float, float]

KIB, MIB = 1024, 1_048_576
_UNITS = ((1 << 30, "GiB"), (MIB, "MiB"), (KIB, "KiB"))


def size(octets: float) -> str:
    """Write a number of octets in its largest unit."""
    for unit, name in _UNITS:
        if octets >= unit:
            return f"{octets / unit:g} {name}"
    return f"{octets:g} octets"


@dataclass(frozen=True)
class Line:
    """A line that a cost should follow, and how it is told and drawn.

    Attributes:
        part: The part whose cells are its points.
        key: The figure.
        title: What it says.
        y_label: The figure's name and unit.
        shape: ``flat``: as at the first point; ``straight``: on through the first two.
        since: The first x that belongs to the line.
        tolerance: How far above it a point may lie, as a part of it: less is noise.
        file: The chart, without its ending; empty where there is none.
        log_x: Whether x is drawn by its logarithm.
        of_first: Whether the figure is that of the first round, before anything larger ran.
    """

    part: str
    key: str
    title: str
    y_label: str
    shape: str = "flat"
    since: float = 0
    tolerance: float = 0.2
    file: str = ""
    log_x: bool = True
    of_first: bool = False


LINES = (
    Line(
        "workers",
        "cpu_us",
        "CPU time a request, by workers",
        "µs of CPU a request",
        file="scale-workers",
        log_x=False,
    ),
    Line(
        "connections",
        "cpu_us",
        "CPU time a request, by open connections",
        "µs of CPU a request",
        file="scale-connections",
    ),
    Line(
        "connections",
        "pss_mib",
        "Memory, by open connections",
        "MiB, proportional",
        shape="straight",
        since=100,
        file="scale-connections-memory",
        log_x=False,
    ),
    Line(
        "connections",
        "octets_a_connection",
        "Memory of a connection",
        "octets a connection",
        since=1_000,
    ),
    Line(
        "heads",
        "cpu_us",
        "CPU time a request, by octets of its head",
        "µs of CPU a request",
        shape="straight",
        file="scale-heads",
        log_x=False,
    ),
    Line(
        "bodies",
        "cpu_us_a_mib",
        "CPU time a MiB of body, by octets of the body",
        "µs of CPU a MiB",
        since=MIB,
        tolerance=0.3,
        file="scale-bodies",
    ),
    Line(
        "bodies",
        "peak_mib",
        "Peak of memory, by octets of the body",
        "MiB resident, all processes",
        tolerance=0.1,
        file="scale-bodies-memory",
        of_first=True,
    ),
)

X_LABELS = {
    "workers": "workers",
    "connections": "open connections",
    "heads": "octets of the request's head",
    "bodies": "octets of the body",
}


class Verdict(NamedTuple):
    """How a series keeps to its line: the farthest that it lies above it, and where."""

    series: str
    ratio: float
    x: float
    holds: bool


def series_of(results: Results, part: str) -> list[str]:
    """Give the names of a part's series, in the order of its cells."""
    return list(dict.fromkeys(cell["series"] for cell in results["cells"] if cell["part"] == part))


def points(
    results: Results, part: str, series: str, key: str, *, of_first: bool = False
) -> list[Point]:
    """Give the points of one series that have the figure *key*, by x."""
    found: list[Point] = []
    for cell in results["cells"]:
        if (cell["part"], cell["series"]) != (part, series) or cell["wrong"]:
            continue
        if of_first and key in cell["first"]:
            found.append((cell["x"], *[cell["first"][key]] * 3))
        elif not of_first and key in cell["figures"]:
            median, low, high = cell["figures"][key]
            found.append((cell["x"], median, low, high))
    return sorted(found)


def ideal(line: Line, judged: list[Point]) -> Callable[[float], float] | None:
    """Give what the figure should be at an x, or none where too few points say so."""
    if line.shape == "flat":
        level = judged[0][1] if judged else 0.0
        return (lambda _: level) if judged else None
    if len(judged) < 2:
        return None
    (x, y, *_), (x2, y2, *_) = judged[:2]
    slope = max(0.0, (y2 - y) / (x2 - x))  # what falls is noise, and no line to follow
    return lambda at: y + slope * (at - x)


def verdict(line: Line, series: str, found: list[Point]) -> Verdict | None:
    """Say how far above *line* a series lies at the most; none where it has too few points."""
    judged = [point for point in found if point[0] >= line.since]
    should = ideal(line, judged)
    rest = judged[1 if line.shape == "flat" else 2 :]  # those before make the line
    if should is None or not rest:
        return None
    ratio, x = max((point[1] / should(point[0]), point[0]) for point in rest)
    return Verdict(series, ratio, x, ratio <= 1 + line.tolerance)


def verdicts(results: Results, line: Line) -> list[Verdict]:
    """Give the verdicts on all series of a line."""
    found = []
    for series in series_of(results, line.part):
        one = verdict(line, series, points_of(results, line, series))
        if one:
            found.append(one)
    return found


def points_of(results: Results, line: Line, series: str) -> list[Point]:
    """Give the points of one series that *line* speaks of."""
    return points(results, line.part, series, line.key, of_first=line.of_first)


def x_text(part: str, x: float) -> str:
    """Write an x as its part counts it."""
    return size(x) if part in {"heads", "bodies"} else f"{x:,.0f}"


def bound(results: Results, series: str, count: float) -> float:
    """Give the most requests a second that this machine allows *count* workers.

    Each worker has one core at the most, the generator another, and all of them together no more
    than there are; what a request costs each is known from one worker. 0 where it is not.
    """
    cpu = points(results, "workers", series, "cpu_us")
    own = points(results, "workers", series, "generator_us")
    if not cpu or not own:
        return 0.0
    server, generator = cpu[0][1], own[0][1]
    cores: int = results["machine"]["cores"]
    return 1e6 * min(count / server, 1 / generator, cores / (server + generator))
