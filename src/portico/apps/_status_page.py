"""How the status application looks: a page that its script keeps up to date, and charts."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --paper: #f7f4ee; --card: #fffdf9;
  --line: #ddd5c7; --soft: #6a6f78; --mark: #9a5b1e; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e4da; --paper: #14171c; --card: #1c2027;
  --line: #353a44; --soft: #9aa0ab; --mark: #e0a458; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem clamp(1rem, 4vw, 3rem) 3rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
header p { margin: .2rem 0; color: var(--soft); overflow-wrap: anywhere; }
.bad { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .8rem;
  margin-top: 1.2rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .7rem .9rem; }
.card b { display: block; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85rem; }
svg { display: block; width: 100%; height: 3.2rem; margin-top: .3rem; }
svg path { fill: none; stroke: var(--mark); stroke-width: 1.6; vector-effect: non-scaling-stroke; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem; text-align: right; white-space: nowrap;
  border-top: 1px solid var(--line); }
thead th { border: 0; color: var(--soft); font-weight: 500; font-size: .85rem; }
.text { text-align: left; } .target { white-space: normal; overflow-wrap: anywhere;
  font-family: ui-monospace, monospace; font-size: .9rem; min-width: 16rem; }
.none { color: var(--soft); margin: 0; padding: .6rem .9rem; }
footer { margin-top: 2rem; color: var(--soft); font-size: .85rem; } a { color: inherit; }
"""

#: Draws the two charts and keeps the page up to date; asks for the same page's JSON.
_SCRIPT = """
const requests = [], busy = [];
let last = null;
function draw(id, values, text) {
  const chart = document.getElementById(id);
  const top = Math.max(1, ...values), step = 100 / 89;
  const start = 100 - step * (values.length - 1);
  const points = values.map((value, at) =>
    `${(start + at * step).toFixed(2)} ${(30 - 28 * value / top).toFixed(2)}`);
  chart.querySelector("path").setAttribute("d", points.length > 1 ? "M" + points.join("L") : "");
  chart.parentNode.querySelector("b").textContent = text;
}
async function look() {
  try {
    const answer = await fetch("?format=json", {cache: "no-store"});
    const now = await answer.json();
    if (last) {
      const rate = (now.total.requests - last.total.requests) / (now.time - last.time);
      requests.push(Math.max(0, rate)); busy.push(now.total.busy);
      for (const values of [requests, busy]) if (values.length > 90) values.shift();
      draw("rate", requests, rate.toFixed(1)); draw("busy", busy, now.total.busy);
      const page = await (await fetch("?format=html", {cache: "no-store"})).text();
      const fresh = new DOMParser().parseFromString(page, "text/html");
      for (const id of ["head", "counts", "workers", "running"])
        document.getElementById(id).replaceWith(fresh.getElementById(id));
    }
    last = now;
  } catch (error) { /* the service may be restarting: the next look shows */ }
}
look(); setInterval(look, 2000);
"""


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_digest(_STYLE)}'; script-src"
    f" 'sha256-{_digest(_SCRIPT)}'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


def render(found: dict[str, Any]) -> str:
    """Write the page for a snapshot of the scoreboard."""
    name = escape(found["parent"]["application"])
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: status</title><style>{_STYLE}</style></head><body>
{_head(found)}
<section class="cards">
{_chart("rate", "requests a second")}{_chart("busy", "busy threads")}
</section>
{_counts(found)}
<h2>Workers</h2>
{_workers(found)}
<h2>Running requests</h2>
{_running(found)}
<footer>Portico {escape(found["portico"])} &middot; <a href="?format=json">JSON</a> &middot;
<a href="?format=openmetrics">OpenMetrics</a></footer>
<script>{_SCRIPT}</script></body></html>
"""


def _head(found: dict[str, Any]) -> str:
    parent = found["parent"]
    failure = ""
    if parent["last_failure"]:
        first = parent["last_failure"].splitlines()[0]
        failure = f'<p class="bad">The last reload failed: {escape(first)}</p>'
    return (
        f'<header id="head"><h1>{escape(parent["application"])}</h1>'
        f"<p>{escape(parent['state'])}, generation {parent['generation']}, up"
        f" {_age(found['time'] - parent['started'])}, process {parent['pid']}</p>"
        f"<p>{escape(', '.join(parent['binds']))}</p>{failure}</header>"
    )


def _chart(name: str, label: str) -> str:
    return (
        f'<div class="card"><b>&ndash;</b><span>{label}</span><svg id="{name}"'
        ' viewBox="0 0 100 32" preserveAspectRatio="none" aria-hidden="true"><path d=""/></svg>'
        "</div>"
    )


def _counts(found: dict[str, Any]) -> str:
    total, parent = found["total"], found["parent"]
    cards = (
        (total["requests"], "requests"),
        (total["errors"], "errors (5xx)"),
        (total["aborted"], "given up by clients"),
        (total["waiting"], "waiting for a thread"),
        (total["connections"], "connections"),
        (f"{parent['reloads']} / {parent['failed_reloads']}", "reloads / failed"),
        (parent["crashes"], "crashes"),
    )
    return (
        '<section class="cards" id="counts">'
        + "".join(
            f'<div class="card"><b>{_number(value)}</b><span>{label}</span></div>'
            for value, label in cards
        )
        + "</section>"
    )


def _workers(found: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><td class="text">{worker["slot"]}</td><td>{worker["pid"]}</td>'
        f'<td>{worker["generation"]}</td><td class="text">{escape(worker["state"])}</td>'
        f"<td>{_age(found['time'] - worker['started'])}</td>"
        f"<td>{worker['busy']} / {worker['threads']}</td><td>{worker['connections']}</td>"
        f"<td>{_number(worker['requests'])}</td><td>{_number(worker['errors'])}</td>"
        f"<td>{worker['rss'] / 1_048_576:.1f} MB</td></tr>"
        for worker in found["workers"]
    )
    return (
        '<div class="wide" id="workers"><table><thead><tr><th class="text">worker</th>'
        '<th>process</th><th>generation</th><th class="text">state</th><th>age</th>'
        "<th>threads busy</th><th>connections</th><th>requests</th><th>errors</th><th>memory</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _running(found: dict[str, Any]) -> str:
    running = [(worker["slot"], one) for worker in found["workers"] for one in worker["running"]]
    if not running:
        return '<div class="wide" id="running"><p class="none">None just now.</p></div>'
    running.sort(key=lambda entry: entry[1]["since"])
    rows = "".join(
        f'<tr><td class="text">{slot}</td><td>{_age(found["time"] - one["since"])}</td>'
        f'<td class="text">{escape(one["protocol"])}</td>'
        f'<td class="text">{escape(one["peer"])}</td>'
        f'<td class="text target">{escape(one["method"])} {escape(one["target"])}</td></tr>'
        for slot, one in running
    )
    return (
        '<div class="wide" id="running"><table><thead><tr><th class="text">worker</th><th>for</th>'
        '<th class="text">protocol</th><th class="text">peer</th><th class="text">request</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
