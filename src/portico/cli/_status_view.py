"""The status of a service as lines of text."""

from __future__ import annotations

from typing import Any

_UNITS = ("", "K", "M", "G", "T", "P")

#: Heading, and how many characters its column has; the first is flush left.
_COLUMNS = (
    ("WORKER", 8), ("PROCESS", 9), ("GEN", 4), ("STATE", 9), ("AGE", 6), ("BUSY", 8),
    ("CONN", 6), ("WAIT", 5), ("REQUESTS", 10), ("ERRORS", 7), ("MEMORY", 7),
)  # fmt: skip


def table(found: dict[str, Any], before: dict[str, Any] | None = None, *, width: int) -> list[str]:
    """Write down a status.

    Args:
        found: As the service tells it.
        before: An earlier one, for rates; None for none.
        width: Characters of a line.
    """
    now = float(found["time"])
    lines = [*_head(found, now), *_sums(found, before), ""]
    lines.append("".join(_pad(name, size, at) for at, (name, size) in enumerate(_COLUMNS)))
    for worker in found["workers"]:
        cells = (
            worker["slot"], worker["pid"] or "-", worker["generation"], worker["state"],
            age(now - worker["started"]), f"{worker['busy']}/{worker['threads']}",
            worker["connections"], worker["waiting"], number(worker["requests"]),
            number(worker["errors"]), amount(worker["rss"]),
        )  # fmt: skip
        lines.append(
            "".join(
                _pad(str(cell), size, at)
                for at, (cell, (_, size)) in enumerate(zip(cells, _COLUMNS, strict=True))
            )
        )
    running = [(worker["slot"], one) for worker in found["workers"] for one in worker["running"]]
    if running:
        running.sort(key=lambda entry: entry[1]["since"])
        lines += ["", f"{'WORKER':<8}{'FOR':>6}  {'PROTOCOL':<9}{'PEER':<22}REQUEST"]
        for slot, one in running:
            lines.append(
                f"{slot:<8}{age(now - one['since']):>6}  {plain(one['protocol']):<9}"
                f"{plain(one['peer']):<21.21} {plain(one['method'])} {plain(one['target'])}"
            )
    return [line.rstrip()[:width] for line in lines]


def _head(found: dict[str, Any], now: float) -> list[str]:
    parent = found["parent"]
    workers = "worker" if parent["configured"] == 1 else "workers"
    lines = [
        (
            f"portico {plain(found['portico'])}, process {parent['pid']}: {parent['state']},"
            f" generation {parent['generation']}, up {age(now - parent['started'])}"
        ),
        (
            f"{plain(parent['application'])}, {parent['configured']} {workers}"
            f" on {', '.join(map(plain, parent['binds']))}"
        ),
    ]
    if parent["last_failure"]:
        first = plain(parent["last_failure"].splitlines()[0])
        lines.append(f"the last reload failed: {first}")
    return lines


def _sums(found: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
    total, parent = found["total"], found["parent"]
    counts = (
        f"{number(total['requests'])} requests, {number(total['errors'])} errors,"
        f" {number(total['aborted'])} given up by clients, {amount(total['octets'])}B;"
        f" {parent['reloads']} reloads, {parent['crashes']} crashes"
    )
    lines = [counts]
    if before is not None and found["time"] > before["time"]:
        seconds = found["time"] - before["time"]
        requests = (total["requests"] - before["total"]["requests"]) / seconds
        octets = (total["octets"] - before["total"]["octets"]) / seconds
        lines.append(f"now: {requests:.1f} requests/s, {amount(max(0.0, octets))}B/s")
    return lines


def _pad(text: str, size: int, at: int) -> str:
    """Fill a cell; the first and the state are flush left, numbers are flush right."""
    if at in {0, 3}:
        return f" {text:<{size - 1}}" if at else f"{text:<{size}}"
    return f"{text:>{size}}"


def age(seconds: float) -> str:
    """Write a time in at most five characters: 9.5s, 12m, 3h, 12d."""
    if seconds < 0:
        return "0s"
    for most, size, unit in ((10, 1, "s"), (90, 1, "s"), (5400, 60, "m"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds:.1f}s" if most == 10 else f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86_400:.0f}d"


def amount(octets: float) -> str:
    """Write octets in at most five characters: 999, 1.5K, 120M."""
    unit = 0
    while octets >= 999.5 and unit < len(_UNITS) - 1:
        octets /= 1024
        unit += 1
    return (
        f"{octets:.1f}{_UNITS[unit]}" if unit and octets < 9.95 else f"{octets:.0f}{_UNITS[unit]}"
    )


def number(count: int) -> str:
    """Write a count, grouped while it is short."""
    return f"{count:,}" if count < 10_000_000 else amount(count)


def plain(text: object) -> str:
    """Keep a terminal from being driven by what a client has sent."""
    return "".join(char if char.isprintable() else "?" for char in str(text))
