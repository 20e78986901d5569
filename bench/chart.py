"""Charts of benchmark results, as SVG: bars with spread, and lines with the line it should be.

The same figures give the same file, octet for octet: no date, no random names. Text stays text,
so that a chart can be searched and read aloud; the background is white, so that it reads on dark
pages as well. Colours are those of Okabe and Ito, which colour-blind readers tell apart.

Needs matplotlib (the extra ``bench``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from matplotlib.axes import Axes

_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8C6D31",
    "#999999",
    "#5B4EA2",
    "#222222",
)
_MARKERS = "osD^vP*Xhd"
_GREY = "#555555"
_PALE = "#DDDDDD"
_INCHES_WIDE = 8.0
_INCHES_A_BAR = 0.27
_STEPS = (1.0, 2.0, 5.0)
_DASHES = (0, (5, 3))
_LINE = "the line it should be"

_STYLE: dict[Any, object] = {
    "axes.edgecolor": _GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.size": 9.5,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "portico",
    "xtick.color": _GREY,
    "xtick.labelcolor": "black",
    "ytick.color": _GREY,
    "ytick.labelcolor": "black",
}


def number(value: float) -> str:
    """Write *value* with three digits that count, and thousands apart."""
    if not value:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def bars(
    path: str | PathLike[str],
    *,
    title: str,
    unit: str,
    groups: dict[str, dict[str, tuple[float, float, float]]],
    note: str = "",
) -> None:
    """Write horizontal bars, group below group, each with its spread and its figure.

    Args:
        path: The SVG file to write.
        title: Stands above.
        unit: What a bar's length is, the axis' label.
        groups: Group, then series, then median, lowest and highest; a series that has no figure in
            a group is left out there. A series has one colour in all groups.
        note: A sentence or two below, for machine and versions.
    """
    names = list(dict.fromkeys(name for series in groups.values() for name in series))
    rows = sum(map(len, groups.values())) + 1.25 * len(groups)
    highest = max((high for series in groups.values() for *_, high in series.values()), default=0)
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(rows * _INCHES_A_BAR + 1.1, title, note)
        position = 0.0
        ticks = []
        for group, series in groups.items():
            axes.text(0.0, position, f" {group}", weight="bold", va="center", ha="left")
            position += 1
            for name, (median, low, high) in series.items():
                colour = _COLOURS[names.index(name) % len(_COLOURS)]
                axes.barh(position, median, 0.78, color=colour)
                axes.plot([low, high], [position] * 2, color="black", linewidth=1.1, marker="|")
                place = max(high, median) + highest * 0.015
                axes.text(place, position, number(median), va="center", ha="left")
                ticks.append((position, name))
                position += 1
            position += 0.25
        axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(position - 0.5, -0.6)
        axes.set_xlim(0, highest * 1.13 or 1)
        axes.set_xlabel(unit)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.xaxis.grid(visible=True, color=_PALE)
        axes.set_axisbelow(True)
        _write(figure, path)


def lines(
    path: str | PathLike[str],
    *,
    title: str,
    x_label: str,
    y_label: str,
    series: dict[str, list[tuple[float, float, float, float]]],
    ideal: Callable[[float], float] | Mapping[str, Callable[[float], float]] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    note: str = "",
    ticks: Callable[[float], str] = number,
    ideal_name: str = _LINE,
) -> None:
    """Write a line for each series, with a band from lowest to highest, and the line it should be.

    Args:
        path: The SVG file to write.
        title: Stands above.
        x_label: What grows.
        y_label: What it costs.
        series: Series, then its points: x, median, lowest and highest; any order.
        ideal: What y should be at x; drawn dashed. Where series differ in it, one for each by name.
        log_x: Whether x is drawn by its logarithm.
        log_y: The same of y, which starts at 0 otherwise.
        note: A sentence or two below, for machine and versions.
        ticks: How an x is written; the points' own are the ticks, where they are not too close.
        ideal_name: What the legend calls the line of *ideal*.
    """
    places = sorted({point[0] for points in series.values() for point in points})
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(4.4, title, note)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(axis="x", which="minor", length=0)
        axes.set_xticks(_apart(places, logarithmic=log_x))
        if log_y:
            axes.set_yscale("log", subs=())
            axes.yaxis.set_major_locator(LogLocator(subs=_STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ticks(value)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        for order, (name, points) in enumerate(series.items()):
            x, median, low, high = zip(*sorted(points), strict=True) if points else ((),) * 4
            colour = _COLOURS[order % len(_COLOURS)]
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            marker = _MARKERS[order % len(_MARKERS)]
            axes.plot(x, median, color=colour, marker=marker, markersize=5, label=name)
        if ideal and places:
            along = _between(places[0], places[-1], logarithmic=log_x)
            names = list(series)
            each = {"": ideal} if callable(ideal) else ideal
            for name, line in each.items():
                colour = _COLOURS[names.index(name) % len(_COLOURS)] if name else "black"
                values = [line(place) for place in along]
                axes.plot(along, values, color=colour, linestyle=_DASHES, zorder=1)
            axes.plot([], [], color="black", linestyle=_DASHES, label=ideal_name)
        if log_y:
            axes.set_ylim(*_steps_around(*axes.get_ylim()))
        else:
            axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(visible=True, color=_PALE)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper", fontsize=9)
        _write(figure, path)


def _apart(places: list[float], *, logarithmic: bool) -> list[float]:
    """Give those of *places* that have room for their ticks, the largest first."""
    drawn = [math.log(place) if logarithmic else place for place in places]
    kept: list[int] = []
    for at in reversed(range(len(places))):
        if not kept or drawn[kept[-1]] - drawn[at] > (drawn[-1] - drawn[0]) / 14:
            kept.append(at)
    return [places[at] for at in reversed(kept)]


def _between(first: float, last: float, *, logarithmic: bool) -> list[float]:
    """Give 65 places from *first* to *last*, even steps as they are drawn."""
    if logarithmic:
        return [first * (last / first) ** (step / 64) for step in range(65)]
    return [first + (last - first) * step / 64 for step in range(65)]


def _steps_around(low: float, high: float) -> tuple[float, float]:
    """Give the steps 1, 2, 5, 10, ... below *low* and above *high*, so that each end has a tick."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [step * 10.0**exponent for exponent in exponents for step in _STEPS]
    return max(step for step in steps if step <= low), min(step for step in steps if step >= high)


def _figure(inches_high: float, title: str, note: str) -> tuple[Figure, Axes]:
    figure = Figure((_INCHES_WIDE, inches_high))
    figure.set_layout_engine("constrained", h_pad=0.1, w_pad=0.1)
    axes = figure.add_subplot()
    # Above the whole picture, not the axes alone: names at the left may be long.
    figure.suptitle(title, x=0.0125, ha="left", size=12, weight="bold")
    if note:
        figure.supxlabel(note, x=0.0125, ha="left", size=8, color=_GREY, wrap=True)
    return figure, axes


def _write(figure: Figure, path: str | PathLike[str]) -> None:
    """Write *figure* without what would differ from run to run."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
