"""How the status looks: a page that tells all without its script, and goes on telling with it."""

from __future__ import annotations

from html import escape
from typing import Any

from portico.apps._look import ICON, readable
from portico.apps._status_look import SCRIPT, STYLE
from portico.engine.quantities import amount

#: Running requests on the page; JSON has all.
MOST_RUNNING = 100

#: Name of a figure, what it is; each has a chart.
_CHARTS = (
    ("requests", "requests a second"),
    ("errors", "errors a second"),
    ("octets", "sent a second"),
    ("busy", "busy threads"),
)

#: Key in the totals or the parent's figures, what it is, whether any is worth a look.
_FACTS = (
    ("requests", "requests", False),
    ("errors", "errors (5xx)", True),
    ("aborted", "given up by clients", False),
    ("octets", "sent", False),
    ("connections", "open connections", False),
    ("waiting", "waiting for a thread", True),
    ("crashes", "crashes of workers", True),
    ("reloads", "reloads", False),
    ("failed_reloads", "failed reloads", False),
)

_WORKER_HEADS = (
    ("Worker", "text"), ("Process", ""), ("Generation", ""), ("State", "text"), ("Age", ""),
    ("Busy threads", ""), ("Connections", ""), ("Waiting", ""), ("Requests", ""), ("Errors", ""),
    ("Memory", ""),
)  # fmt: skip

_RUNNING_HEADS = (
    ("Worker", "text"), ("For", ""), ("Client", "text"), ("By", "text"), ("Request", "text"),
)  # fmt: skip


def render(found: dict[str, Any]) -> str:
    """Draw a snapshot of the scoreboard as a page."""
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{_text(found['parent']['application'])}: status</title>\n",
            '<noscript><meta http-equiv="refresh" content="5"></noscript>\n',
            f'<link rel="icon" href="{ICON}">\n<style>{STYLE}</style>\n</head>\n<body>\n',
            _top(found),
            '<main>\n<section id="charts" hidden aria-label="The last five minutes">\n',
            '<div class="charts">\n',
            *(_chart(name, label) for name, label in _CHARTS),
            "</div>\n</section>\n",
            _totals(found),
            _workers(found),
            _running(found),
            "</main>\n",
            f"<footer><p>Portico {_text(found['portico'])}</p></footer>\n",
            f"<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def _top(found: dict[str, Any]) -> str:
    parent, total = found["parent"], found["total"]
    state = parent["state"]
    since = _age(found["time"] - parent["started"])
    # a path of a file, or several applications
    size = ' class="long"' if len(parent["application"]) > 30 else ""
    binds = ", ".join(f"<code>{_text(bind)}</code>" for bind in parent["binds"])
    return (
        '<div class="sky"><div>\n'
        f"<h1{size}>{_text(parent['application'])}</h1>\n"
        f'<div id="lead" data-live>\n<p class="lead"><span class="state {_text(state)}">'
        f"{_text(state.capitalize())}</span>, started {since} ago:"
        f" {_count(len(found['workers']), 'worker')} of {parent['configured']},"
        f" generation {parent['generation']}, {total['busy']} of"
        f" {_count(total['threads'], 'thread')} busy.</p>\n"
        f'<p class="quiet">Process {parent["pid"]} on {binds}</p>\n</div>\n'
        f'<div id="failure" data-live>{_failure(parent)}</div>\n'
        '<p class="note" id="silence" hidden role="status">The service has not answered since '
        "<b></b>. What is shown is from before.</p>\n"
        '<p class="forms">The same <a href="?format=json">as JSON</a> and '
        '<a href="?format=openmetrics">as metrics</a>.</p>\n'
        "</div></div>\n"
        f"{_figures(found)}"
    )


def _figures(found: dict[str, Any]) -> str:
    """Give what the charts are drawn of."""
    total = found["total"]
    shown = {name: total[name] for name, _ in _CHARTS}
    shown |= {"time": found["time"], "started": found["parent"]["started"]}
    pairs = " ".join(f'data-{name}="{value}"' for name, value in shown.items())
    return f'<div id="figures" hidden {pairs}></div>\n'


def _failure(parent: dict[str, Any]) -> str:
    reason = parent["last_failure"].strip()
    if not reason:
        return ""
    first, _, more = reason.partition("\n")
    sentence = f"The last reload failed, and the workers from before it go on: {_text(first)}"
    if not more:
        return f'<p class="note">{sentence}</p>\n'
    lines = "\n".join(_text(line) for line in reason.splitlines())
    return f'<details class="note"><summary>{sentence}</summary><pre>{lines}</pre></details>\n'


def _chart(name: str, label: str) -> str:
    kind = ' class="bad"' if name == "errors" else ""
    return (
        f'<figure id="chart-{name}"{kind}><figcaption><b>&ndash;</b>{label}</figcaption>'
        '<div class="plot"><svg viewBox="0 0 300 61" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="grid" d="M0 2H300M0 31H300M0 60H300"/><path class="area"/>'
        '<path class="curve"/></svg><span class="scale"></span></div>'
        '<p class="span"><span>5 min ago</span><span>now</span></p></figure>\n'
    )


def _totals(found: dict[str, Any]) -> str:
    figures = {**found["parent"], **found["total"]}
    facts = "".join(
        f"<div{_warning(worth=alarming and figures[key])}><dt>{label}</dt>"
        f"<dd>{amount(figures[key]) if key == 'octets' else _number(figures[key])}</dd></div>\n"
        for key, label, alarming in _FACTS
    )
    tallies = "".join(
        f'<p class="tallies">{label}: '
        + ", ".join(f"{_text(name)} {_number(count)}" for name, count in sorted(tally.items()))
        + ".</p>\n"
        for label, tally in (
            ("By protocol", found["total"]["protocols"]),
            ("Paths repaired", {k: n for k, n in found["total"]["repairs"].items() if n}),
        )
        if tally
    )
    content = f'<dl class="facts">\n{facts}</dl>\n{tallies}'
    return _section("totals", "Since the start", "Ended workers included.", content)


def _warning(*, worth: bool | int) -> str:
    return ' class="warn"' if worth else ""


def _workers(found: dict[str, Any]) -> str:
    rows = "".join(_worker(worker, found["time"]) for worker in found["workers"])
    content = _table(_WORKER_HEADS, rows) if rows else '<p class="none">There is none.</p>'
    return _section("workers", "Workers", "", content)


def _worker(worker: dict[str, Any], now: float) -> str:
    busy, threads = worker["busy"], worker["threads"]
    share = 100 * min(busy, threads) // max(threads, 1)
    gauge = (
        '<svg class="gauge" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{share}" height="1"/></svg>'
    )
    state = _text(worker["state"])
    cells = (
        str(worker["slot"]),
        str(worker["pid"] or ""),
        str(worker["generation"]),
        f'<span class="state {state}">{state}</span>',
        _age(now - worker["started"]),
        f"{busy} of {threads}{gauge}",
        _number(worker["connections"]),
        _number(worker["waiting"]),
        _number(worker["requests"]),
        _number(worker["errors"]),
        amount(worker["rss"]),
    )
    return _row(_WORKER_HEADS, cells)


def _running(found: dict[str, Any]) -> str:
    running = [(one, worker["slot"]) for worker in found["workers"] for one in worker["running"]]
    running.sort(key=lambda pair: pair[0]["since"])
    rows = "".join(_request(one, slot, found["time"]) for one, slot in running[:MOST_RUNNING])
    content = _table(_RUNNING_HEADS, rows) if rows else '<p class="none">None just now.</p>'
    # a worker tells of its longest only
    left = found["total"]["busy"] - min(len(running), MOST_RUNNING)
    lead = "The longest first." if rows else ""
    if left > 0 and rows:
        lead += f" {_number(left)} more {'is' if left == 1 else 'are'} not shown."
    return _section("running", "Running requests", lead, content)


def _request(one: dict[str, Any], slot: int, now: float) -> str:
    name = f' title="id {_text(one["id"])}"' if one["id"] else ""
    cells = (
        str(slot),
        _age(now - one["since"]),
        _text(one["peer"]),
        _text(one["protocol"]),
        f"<span{name}>{_text(one['method'])} {_text(one['target'])}</span>",
    )
    return _row(_RUNNING_HEADS, cells)


def _table(heads: tuple[tuple[str, str], ...], rows: str) -> str:
    cells = "".join(f'<th scope="col" class="{kind}">{head}</th>' for head, kind in heads)
    return f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _row(heads: tuple[tuple[str, str], ...], cells: tuple[str, ...]) -> str:
    """Write a row whose cells tell what they are where there is no room for headings."""
    shown = []
    for (head, kind), cell in zip(heads, cells, strict=True):
        label = "" if head in {"State", "Request"} else f' data-of="{head.lower()}"'
        target = " target" if head == "Request" else ""
        shown.append(f'<td class="{kind}{target}"{label}>{cell}</td>')
    return f"<tr>{''.join(shown)}</tr>\n"


def _section(name: str, heading: str, lead: str, content: str) -> str:
    return (
        f'<section id="{name}" data-live>\n<header><h2>{heading}</h2><p>{lead}</p></header>\n'
        f"{content}</section>\n"
    )


def _text(value: str) -> str:
    return escape(readable(value)[0])


def _number(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


def _count(count: int, noun: str) -> str:
    return f"{_number(count)} {noun}" + ("" if count == 1 else "s")


def _age(seconds: float) -> str:
    """Write a time in its largest unit, and the next one where that says little."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for most, size, small, units in (
        (120, 1, 0, ("s", "")),
        (7200, 60, 0, ("min", "")),
        (172_800, 3600, 60, ("h", "min")),
    ):
        if seconds < most:
            whole, rest = divmod(int(seconds), size)
            return f"{whole} {units[0]}" + (f" {rest // small} {units[1]}" if small else "")
    return f"{seconds / 86_400:.0f} days"
