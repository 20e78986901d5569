"""The status of a service as lines of text, for a terminal or a file.

Every line is plain ASCII: what a client has sent acts on no terminal, and is as wide as it is
long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from portico.engine.quantities import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: What a line is, which says how it looks on a terminal.
PLAIN, TITLE, HEADING, TROUBLE, NOTE = range(5)

#: Select Graphic Rendition of each: bold, reverse, bold and red, faint.
_LOOKS = {TITLE: "1", HEADING: "7", TROUBLE: "1;31", NOTE: "2"}

#: Millions and on.
_POWERS = "MGTP"

#: Columns of the widest peer's address that is shown whole: IPv4; IPv6 from so many columns on.
_PEER_COLUMNS = 15
_WIDE_PEER_COLUMNS = 39
_WIDE_COLUMNS = 100

#: In fewer rows than these the head is short, to leave some for workers and requests.
_SHORT_ROWS = 18

#: Running requests that are shown, if there are so many, even where that hides workers.
_LEAST_REQUESTS = 5

#: Characters of an application's name that are shown even where that hides its state.
_LEAST_NAME = 12

#: Blanks between the blocks of the totals.
_GAP = "   "


class Line(NamedTuple):
    """A line of the picture, and what it is."""

    text: str
    kind: int = PLAIN


class _Column(NamedTuple):
    """A column of the workers' table.

    Attributes:
        heading: Above it.
        width: Characters, with the blank before it.
        rank: The least important goes first where not all fit.
        cell: Gives the text of a worker; its other argument has the time and the rates.
    """

    heading: str
    width: int
    rank: int
    cell: Callable[[dict[str, Any], _Times], object]


class _Times(NamedTuple):
    """What a worker's cells need beside the worker.

    Attributes:
        now: When the service was looked at, seconds since the epoch.
        rates: Requests a second, by process; those that were not there before are not in it.
    """

    now: float
    rates: Mapping[int, float]


_RATE = _Column("REQ/S", 8, 6, lambda worker, times: _rate(times.rates.get(worker["pid"])))

#: In the order they are shown. With the rate 79 columns are taken without the last two.
_WORKERS = (
    _Column("#", 3, 0, lambda worker, _: worker["slot"]),
    _Column("PID", 8, 1, lambda worker, _: worker["pid"] or "-"),
    _Column("STATE", 10, 2, lambda worker, _: f"  {clean(worker['state'])[:8]:<8}"),
    _Column("GEN", 5, 11, lambda worker, _: worker["generation"]),
    _Column("AGE", 7, 8, lambda worker, times: age(times.now - worker["started"])),
    _Column("BUSY", 7, 3, lambda worker, _: f"{worker['busy']}/{worker['threads']}"),
    _Column("CONN", 5, 9, lambda worker, _: worker["connections"]),
    _Column("WAIT", 5, 7, lambda worker, _: worker["waiting"]),
    _Column("REQUESTS", 9, 4, lambda worker, _: count(worker["requests"])),
    _RATE,
    _Column("ERRORS", 8, 5, lambda worker, _: count(worker["errors"])),
    _Column("MEMORY", 9, 10, lambda worker, _: amount(worker["rss"]) if worker["rss"] else "-"),
    _Column("SENT", 9, 12, lambda worker, _: amount(worker["octets"])),
)


def draw(
    found: dict[str, Any],
    before: dict[str, Any] | None = None,
    *,
    columns: int,
    rows: int | None = None,
) -> list[Line]:
    """Draw a status.

    Args:
        found: A snapshot.
        before: An earlier one, for rates; None for none.
        columns: Characters of the longest line.
        rows: Most lines; as many as it takes by default.
    """
    head, totals = _head(found, columns), _totals(found, before, columns)
    if rows is None or rows >= _SHORT_ROWS:
        lines = [*head, Line(""), *totals, *_failure(found), Line("")]
    else:
        lines = [head[0], *totals[:2], *_failure(found)]
    heading, *workers = _workers(found, before, columns)
    requests = _requests(found, columns)
    if rows is not None:
        left = rows - len(lines) - 1 - (2 if requests else 0)
        least = min(len(requests), _LEAST_REQUESTS, max(0, left) // 2)
        workers = _shorten(workers, left - least, "workers")
        requests = [*requests[:1], *_shorten(requests[1:], left - len(workers), "requests")]
    lines += [Line(heading, HEADING), *map(Line, workers)]
    if requests:
        lines += [Line(""), Line(requests[0], HEADING), *map(Line, requests[1:])]
    return [Line(_cut(text, columns).rstrip(), kind) for text, kind in lines][:rows]


def style(line: Line, columns: int, *, colour: bool) -> str:
    """Give *line* as a terminal of *columns* takes it; the bare text without *colour*."""
    look = _LOOKS.get(line.kind) if colour else None
    if look is None or not line.text:
        return line.text
    text = line.text.ljust(columns) if line.kind == HEADING else line.text
    return f"\x1b[{look}m{text}\x1b[0m"


def clean(text: str) -> str:
    """Escape every character of *text* that is not ASCII or would not show."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if " " <= char <= "~" else char.encode("unicode_escape").decode() for char in text
    )


def age(seconds: float) -> str:
    """Write a time in at most six characters, by its two largest units: 9.5s, 42s, 3m12s, 5d04h."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 1:
        return f"{minutes}m{rest:02}s"
    days, hours = divmod(hours, 24)
    if days < 1:
        return f"{hours}h{minutes:02}m"
    return f"{days}d{hours:02}h" if days < 100 else f"{days}d"


def count(number: float) -> str:
    """Write a count in at most seven characters: 999,999, 1.23M, 456G."""
    if number < 999_999.5:
        return f"{number:,.0f}"
    unit = 0
    number /= 1_000_000
    while number >= 999.5 and unit < len(_POWERS) - 1:
        number /= 1000
        unit += 1
    return f"{number:.3g}{_POWERS[unit]}" if number < 999.5 else f"{number:.0f}{_POWERS[unit]}"


def rates_between(before: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, float] | None:
    """Give what the totals count a second, by their names; None where the two have no tie."""
    seconds = _seconds_between(before, found)
    if before is None or not seconds:
        return None
    return {
        name: max(0.0, (found["total"][name] - before["total"][name]) / seconds)
        for name in ("requests", "errors", "aborted", "octets")
    }


def _seconds_between(before: dict[str, Any] | None, found: dict[str, Any]) -> float:
    """Give the time between two looks at one service; 0 where there is no tie."""
    if before is None or before["parent"]["pid"] != found["parent"]["pid"]:
        return 0.0
    return max(0.0, float(found["time"] - before["time"]))


def _rate(rate: float | None) -> str:
    """Write how many a second; nothing for what is not known."""
    if rate is None:
        return ""
    return f"{rate:.1f}" if 0 < rate < 999.95 else count(rate)


def _head(found: dict[str, Any], columns: int) -> list[Line]:
    parent = found["parent"]
    up = age(found["time"] - parent["started"]) if parent["started"] else "?"
    facts = f": {clean(parent['state'])}, up {up}   pid {parent['pid']}"
    version = f"   Portico {clean(found['portico'])}"
    name = clean(parent["application"]) or "Portico"
    most = max(_LEAST_NAME, columns - len(facts))
    if len(name) > most:
        name = f"...{name[3 - most :]}"  # the end of a path tells more than its begin
    title = f"{name}{facts}"
    title += version if len(title) + len(version) <= columns else ""
    return [Line(title, TITLE), Line("  ".join(map(clean, parent["binds"])))]


def _totals(found: dict[str, Any], before: dict[str, Any] | None, columns: int) -> list[Line]:
    """Put what is true of the whole service into blocks side by side, as many as fit."""
    parent, total = found["parent"], found["total"]
    rates = rates_between(before, found)
    pace = {name: f"{_rate(rate)}/s" for name, rate in rates.items()} if rates else {}
    if rates:
        pace["octets"] = f"{amount(rates['octets'])}/s"
    serving = sum(worker["state"] in {"idle", "busy"} for worker in found["workers"])
    blocks = [
        [
            f"{label:<9}{figure:>9}{pace.get(name, ''):>12}"
            for label, name, figure in (
                ("requests", "requests", count(total["requests"])),
                ("errors", "errors", count(total["errors"])),
                ("aborted", "aborted", count(total["aborted"])),
                ("sent", "octets", amount(total["octets"])),
            )
        ],
        _block(
            ("workers", f"{serving} of {parent['configured']}"),
            ("busy threads", f"{total['busy']} of {total['threads']}"),
            ("connections", count(total["connections"])),
            ("waiting", count(total["waiting"])),
            widths=(12, 11),
        ),
        _block(
            ("generation", count(parent["generation"])),
            ("reloads", count(parent["reloads"])),
            ("failed reloads", count(parent["failed_reloads"])),
            ("crashes", count(parent["crashes"])),
            widths=(14, 5),
        ),
    ]
    while len(blocks) > 1 and len(_GAP.join(block[0] for block in blocks)) > columns:
        blocks.pop()
    return [*(Line(_GAP.join(parts)) for parts in zip(*blocks, strict=True)), *_tallies(total)]


def _block(*facts: tuple[str, str], widths: tuple[int, int]) -> list[str]:
    return [f"{label:<{widths[0]}}{figure:>{widths[1]}}" for label, figure in facts]


def _tallies(total: dict[str, Any]) -> list[Line]:
    """Tell of protocols where there are several, and of repairs where there are any."""
    lines = []
    for name, least in (("protocols", 2), ("repairs", 1)):
        tally = sorted(total[name].items(), key=lambda pair: -pair[1])
        shown = [f"{clean(key)} {count(number)}" for key, number in tally if number]
        if len(shown) >= least:
            lines.append(Line(f"{name:<12}{', '.join(shown)}"))
    return lines


def _failure(found: dict[str, Any]) -> list[Line]:
    text = " ".join(found["parent"]["last_failure"].split())
    return [Line(f"last failure: {clean(text)}", TROUBLE)] if text else []


def _workers(found: dict[str, Any], before: dict[str, Any] | None, columns: int) -> list[str]:
    """Give the table of the workers: its heading, and a line for each."""
    seconds = _seconds_between(before, found)
    earlier = {one["pid"]: one["requests"] for one in before["workers"]} if before else {}
    rates = {
        one["pid"]: max(0.0, (one["requests"] - earlier[one["pid"]]) / seconds)
        for one in found["workers"]
        if seconds and one["pid"] in earlier
    }
    shown = _choose(columns, rates=bool(seconds))
    times = _Times(found["time"], rates)
    # headings of texts stand to the left, as these do
    lines = ["".join(_pad(f"  {one.heading:<8}" if one.heading == "STATE" else one.heading, one)
                     for one in shown)]  # fmt: skip
    lines += ["".join(_pad(one.cell(worker, times), one) for one in shown)
              for worker in found["workers"]]  # fmt: skip
    return lines


def _choose(columns: int, *, rates: bool) -> list[_Column]:
    """Choose the columns that fit, the most important first."""
    chosen: set[str] = set()
    left = columns
    for column in sorted(_WORKERS, key=lambda column: column.rank):
        if column is _RATE and not rates:
            continue
        if column.width > left:
            break
        chosen.add(column.heading)
        left -= column.width
    return [column for column in _WORKERS if column.heading in chosen] or list(_WORKERS[:1])


def _pad(cell: object, column: _Column) -> str:
    return f"{cell!s:>{column.width}}"


def _requests(found: dict[str, Any], columns: int) -> list[str]:
    """Give the table of the running requests, longest first; nothing where none runs."""
    running = [(worker["slot"], one) for worker in found["workers"] for one in worker["running"]]
    if not running:
        return []
    running.sort(key=lambda pair: pair[1]["since"])
    wide = columns >= _WIDE_COLUMNS
    most = _WIDE_PEER_COLUMNS if wide else _PEER_COLUMNS
    width = min(most, max(len(clean(one["peer"])) for _, one in running))
    rows = [
        (
            slot,
            age(found["time"] - one["since"]),
            _cut(clean(one["peer"]) or "-", max(4, width)),
            clean(one["protocol"]),
            f"{clean(one['method'])} {clean(one['target'])}",
        )
        for slot, one in running
    ]
    return [
        f"{slot:>3}{time:>9}  {peer:<{max(4, width)}}  "
        f"{f'{protocol:<10}' if wide else ''}{request}"
        for slot, time, peer, protocol, request in [
            ("#", "RUNS FOR", "PEER", "PROTOCOL", "REQUEST"), *rows
        ]
    ]  # fmt: skip


def _shorten(lines: list[str], most: int, what: str) -> list[str]:
    """Leave out the last of *lines*, and say so in the last that is left."""
    if len(lines) <= most:
        return lines
    kept = max(0, most - 1)
    return [*lines[:kept], f"    ... and {len(lines) - kept} more {what}"][: max(0, most)]


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else f"{line[: max(0, columns - 3)]}..."[:columns]
