"""The results as plots for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import chart
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


def write(results: Results, directory: Path) -> None:
    """Draw all plots that there are figures for."""
    for name, key, unit, cases in PLOTS:
        groups: dict[str, dict[str, tuple[float, float, float]]] = {}
        for case in cases:
            for one in results["contestants"]:
                found = figures.figure(results, case, one, key)
                if found is not None:
                    group, product = _place(results, one, case, cases)
                    groups.setdefault(group, {})[product] = (found.median, found.low, found.high)
        if groups:
            titles = "; ".join(
                results["cases"][case]["title"] for case in cases if case in results["cases"]
            )
            path = directory / f"{name}.svg"
            chart.bars(path, title=titles, unit=unit, groups=groups, note=_note(results))


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
