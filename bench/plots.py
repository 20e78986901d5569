"""The results as plots for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import figures

if TYPE_CHECKING:
    from pathlib import Path

    from figures import Results

#: Protocol -> its name on plots, in order.
_GROUPS = {
    "fastcgi": "FastCGI",
    "scgi": "SCGI",
    "uwsgi": "uwsgi",
    "http": "HTTP",
    "ajp": "AJP and Apache",
    "wsgi": "AJP and Apache",
}

#: What a plot shows: its file, the kind of figure, its unit and the cases.
PLOTS = [
    ("serve-cpu", "cpu", "CPU µs a request; less is better", ("hello", "page")),
    ("serve-rate", "rate", "requests a second; more is better", ("hello",)),
    ("serve-large", "cpu", "CPU µs for 1 MiB; less is better", ("body", "chunks", "upload")),
    ("serve-sites", "cpu", "CPU µs a page; less is better", ("flask", "django")),
]


Bars = dict[str, dict[str, tuple[float, float, float]]]


def groups(results: Results, key: str, cases: tuple[str, ...]) -> Bars:
    """Give the bars of a plot: group, series, and median, least and most."""
    found: Bars = {}
    for case in cases:
        for one in results["contestants"]:
            figure = figures.figure(results, case, one, key)
            if figure is not None:
                group, product = _place(results, one, case, cases)
                found.setdefault(group, {})[product] = (figure.median, figure.low, figure.high)
    return found


def write(results: Results, directory: Path) -> None:
    """Draw all plots that there are figures for.

    Raises:
        ImportError: matplotlib is not here.
    """
    import chart  # noqa: PLC0415 - matplotlib takes a second, and may not be here

    for name, key, unit, cases in PLOTS:
        bars = groups(results, key, cases)
        if bars:
            there = [case for case in cases if case in results["cases"]]
            title = "; ".join(f"{case}: {results['cases'][case]['title']}" for case in there)
            chart.bars(
                directory / f"{name}.svg", title=title, unit=unit, groups=bars, note=_note(results)
            )


def _place(results: Results, one: str, case: str, cases: tuple[str, ...]) -> tuple[str, str]:
    """Give the group and the series of a bar."""
    protocol = results["contestants"][one]["protocol"]
    product = results["contestants"][one]["package"]
    group = _GROUPS[protocol] + (f", {case}" if len(cases) > 1 else "")
    if one.startswith(("before_", "alone_")) or one.endswith("_threads"):
        product = one
    return group, "Portico" if product == "portico" else product


def _note(results: Results) -> str:
    told = results["machine"]
    where = f"{told['processor']}, {told['cores']} cores, {told['python']}"
    return f"{where}; medians with the least and the most"
