"""Tables, charts and the page of `bench/scale.py`, all from the results' JSON alone."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from _scale_lines import (
    LINES,
    MIB,
    X_LABELS,
    Line,
    Point,
    Results,
    bound,
    ideal,
    points,
    points_of,
    series_of,
    size,
    verdicts,
    x_text,
)
from chart import lines, number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Rows = list[list[str]]


def _spread(cell: dict[str, Any], key: str) -> str:
    if key not in cell["figures"]:
        return "none"
    return "{} ({}-{})".format(*map(number, cell["figures"][key]))


def _of_cell(cell: dict[str, Any], *keys: str) -> list[str]:
    return [_spread(cell, key) for key in keys]


def tables(results: Results, part: str) -> list[Rows]:
    """Give a part's tables, each with its head as the first row: the figures, then the lines."""
    cells = [cell for cell in results["cells"] if cell["part"] == part]
    figures = {
        "workers": _workers,
        "connections": _connections,
        "heads": _across,
        "bodies": _across,
    }[part](results, cells)
    found: Rows = [["what", "the line it should be", "series", "farthest above it", ""]]
    for line in (line for line in LINES if line.part == part):
        since = f", from {x_text(part, line.since)}" if line.since else ""
        for one in verdicts(results, line):
            where = f"{one.ratio:.2f} times, at {x_text(part, one.x)}"
            word = "holds" if one.holds else "does not hold"
            found.append([line.y_label, line.shape + since, one.series, where, word])
    return [*figures, found]


def _workers(results: Results, cells: list[dict[str, Any]]) -> list[Rows]:
    heads = ["µs of CPU a request", "requests/s", "the machine allows", "busiest worker's part"]
    rows: Rows = [["", "workers", *heads, "memory, MiB"]]
    for cell in cells:
        most = bound(results, cell["series"], cell["x"])
        allowed = number(most) if most else "none"
        left, right = _of_cell(cell, "cpu_us", "rate"), _of_cell(cell, "busiest", "pss_mib")
        rows.append([cell["series"], str(cell["x"]), *left, allowed, *right])
    return [rows]


def _connections(_: Results, cells: list[dict[str, Any]]) -> list[Rows]:
    keys = ("cpu_us", "rate", "pss_mib", "octets_a_connection")
    heads = ["µs of CPU a request", "requests/s", "memory, MiB", "octets a connection"]
    rows: Rows = [["", "open connections", *heads]]
    since = {line.key: line.since for line in LINES if line.part == "connections"}
    for cell in cells:
        row = _of_cell(cell, *keys)
        if cell["x"] < since[keys[-1]]:
            row[-1] = "too few to tell"  # the pages of other things that came or went
        rows.append([cell["series"], f"{cell['x']:,}", *row])
    return [rows]


def _across(results: Results, cells: list[dict[str, Any]]) -> list[Rows]:
    """Give a row for each series and a column for each size."""
    sizes = sorted({cell["x"] for cell in cells})
    by_place = {(cell["series"], cell["x"]): cell for cell in cells}
    kinds = {"heads": (("cpu_us", "µs of CPU a request"),), "bodies": _BODY_TABLES}
    found = []
    for key, what in kinds[cells[0]["part"]] if cells else ():
        shown = [x for x in sizes if key != "cpu_us_a_mib" or x >= MIB]
        shown = [x for x in shown if (key, cells[0]["part"]) != ("cpu_us", "bodies") or x < MIB]
        rows: Rows = [[what, *map(size, shown)]]
        for series in series_of(results, cells[0]["part"]):
            row = [series]
            for x in shown:
                cell = by_place[series, x]
                if key == "peak_mib":  # of the first round
                    row.append("none" if cell["wrong"] else number(cell["first"][key]))
                else:
                    row.append(_spread(cell, key))
            rows.append(row)
        found.append(rows)
    return found


_BODY_TABLES = (
    ("cpu_us", "µs of CPU a request"),
    ("cpu_us_a_mib", "µs of CPU a MiB"),
    ("mib_a_second", "MiB/s"),
    ("peak_mib", "peak of memory, MiB"),
)


def parts_of(results: Results) -> list[str]:
    """Give the parts that were run."""
    return list(dict.fromkeys(cell["part"] for cell in results["cells"]))


def machine_text(results: Results) -> str:
    """Say in a sentence or two where and how the figures were taken."""
    machine = results["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']},"
        f" {machine['python']}, Portico {results['portico']}; {results['date']}."
        f" {results['rounds']} rounds of {results['seconds']:g} s; medians (least-most)."
    )


def text(results: Results) -> str:
    """Give all tables as text."""
    told = [machine_text(results)]
    for part in parts_of(results):
        for rows in tables(results, part):
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            told.append("")
            told += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    wrong = [cell for cell in results["cells"] if cell["wrong"]]
    told += [""] if wrong else []
    for cell in wrong:
        x = x_text(cell["part"], cell["x"])
        told.append(f"no figure: {cell['part']}, {cell['series']}, {x}: {cell['wrong']}")
    return "\n".join(told) + "\n"


def markdown(rows: Rows) -> str:
    """Give a table as Markdown."""
    rule = ["---"] * len(rows[0])
    return "".join(f"| {' | '.join(row)} |\n" for row in [rows[0], rule, *rows[1:]])


def block(results: Results, part: str) -> str:
    """Give what stands on the page about a part, or about the machine."""
    if part == "machine":
        return machine_text(results) + "\n"
    pieces = [markdown(rows) for rows in tables(results, part)]
    pieces += [
        f"![{title}](../../bench/results/{name}.svg)\n" for name, title in charts(part).items()
    ]
    return "\n".join(pieces)


def page(old: str, results: Results) -> str:
    """Give the page with what stands between its markers as the results have it."""

    def replace(found: re.Match[str]) -> str:
        return f"{found[1]}\n{block(results, found[2])}{found[3]}"

    return re.sub(
        r"(<!-- scale: (\w+) -->\n).*?(<!-- end of scale -->\n)", replace, old, flags=re.DOTALL
    )


def charts(part: str) -> dict[str, str]:
    """Give the names of a part's charts, and their titles."""
    found = {line.file: line.title for line in LINES if line.part == part and line.file}
    if part == "workers":
        found["scale-workers-rate"] = "Requests a second, by workers"
    return found


def draw(results: Results, directory: Path) -> None:
    """Write the charts."""
    for line in LINES:
        if line.file and line.part in parts_of(results):
            _draw_line(results, line, directory / f"{line.file}.svg")
    if "workers" in parts_of(results):
        _draw_rate(results, directory / "scale-workers-rate.svg")


def _draw_line(results: Results, line: Line, path: Path) -> None:
    drawn: dict[str, list[Point]] = {}
    should: dict[str, Callable[[float], float]] = {}
    for series in series_of(results, line.part):
        drawn[series] = points_of(results, line, series)
        follow = ideal(line, [point for point in drawn[series] if point[0] >= line.since])
        if follow:
            should[series] = follow
    if line.since >= MIB:  # what is smaller has another cost, which would hide the rest
        drawn = {name: [one for one in found if one[0] >= MIB] for name, found in drawn.items()}
    lines(
        path,
        title=line.title,
        x_label=X_LABELS[line.part],
        y_label=line.y_label,
        series=drawn,
        ideal=should,
        log_x=line.log_x,
        note=machine_text(results),
        ticks=partial(x_text, line.part),
    )


def _draw_rate(results: Results, path: Path) -> None:
    drawn: dict[str, list[Point]] = {}
    should: dict[str, Callable[[float], float]] = {}
    for series in series_of(results, "workers"):
        drawn[series] = points(results, "workers", series, "rate")
        if drawn[series]:
            should[series] = partial(bound, results, series)
    lines(
        path,
        title=charts("workers")["scale-workers-rate"],
        x_label=X_LABELS["workers"],
        y_label="requests/s",
        series=drawn,
        ideal=should,
        ideal_name="what the machine allows",
        note=machine_text(results),
    )
