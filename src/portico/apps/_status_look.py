"""The style sheet and the script of the status page, and the policy that lets in nothing else.

The script asks for the page itself every two seconds and puts the new parts in the place of the old
ones, so what a person sees is written in one place; the charts are of the figures that come along.
"""

from __future__ import annotations

import base64
import hashlib

from portico.apps._look import PALETTE

_RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); overflow-wrap: break-word; }
main, footer, .sky > div { max-width: 72rem; margin: 0 auto; padding: 0 1.5rem; }
.sky { background: linear-gradient(var(--sky-top), var(--sky-low)); }
.sky > div { padding-top: 2.25rem; padding-bottom: 1.6rem; }
h1, h2 { font-family: var(--serif); font-weight: 500; line-height: 1.2; margin: 0; }
h1 { font-size: clamp(1.7rem, 4.4vw, 2.3rem); letter-spacing: -.01em; overflow-wrap: anywhere; }
h1.long { font-size: clamp(1.3rem, 3.2vw, 1.7rem); }
h2 { font-size: 1.25rem; }
.lead { margin: .6rem 0 0; font-size: 1.06rem; }
.quiet, .forms { margin: .4rem 0 0; color: var(--quiet); font-size: .9rem; }
code, .code { font-family: var(--mono); font-size: .84rem; overflow-wrap: anywhere; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: .18em; }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
[hidden] { display: none !important; }
.note { margin: 1.1rem 0 0; padding: .2rem 0 .2rem 1.1rem; border-left: 3px solid var(--warn);
  overflow-wrap: anywhere; }
.note summary { cursor: pointer; }
pre { margin: .6rem 0 0; padding: .7rem 1rem; background: var(--field); border-radius: 6px;
  font: .8rem/1.5 var(--mono); max-height: 18rem; overflow: auto; white-space: pre-wrap; }
.charts { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 1.6rem 2rem; }
figure { margin: 0; }
figcaption { color: var(--quiet); font-size: .88rem; }
figcaption b { display: block; color: var(--ink); font: 500 1.6rem/1.25 var(--serif);
  font-variant-numeric: lining-nums tabular-nums; }
.plot { position: relative; margin-top: 1.15rem; }
.plot svg { display: block; width: 100%; height: 4.5rem; }
.plot path { vector-effect: non-scaling-stroke; }
.grid { stroke: var(--line); stroke-width: 1; fill: none; }
.area { fill: var(--link); opacity: .13; }
.curve { stroke: var(--link); stroke-width: 1.6; stroke-linejoin: round; fill: none; }
.bad .area { fill: var(--warn); } .bad .curve { stroke: var(--warn); }
.scale { position: absolute; right: 0; bottom: calc(100% - .05rem);
  font-size: .72rem; line-height: 1; color: var(--quiet); }
.span { display: flex; justify-content: space-between; margin: .25rem 0 0; color: var(--quiet);
  font-size: .72rem; }
section { padding: 1.7rem 0; border-top: 1px solid var(--line); }
section > header { display: flex; flex-wrap: wrap; gap: .1rem 1rem; align-items: baseline;
  margin-bottom: .7rem; }
section > header p { margin: 0; color: var(--quiet); font-size: .88rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: 1rem 1.5rem; margin: 0; }
.facts div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.facts dt { color: var(--quiet); font-size: .85rem; }
.facts dd { margin: 0; font: 500 1.2rem/1.35 var(--serif);
  font-variant-numeric: lining-nums tabular-nums; }
.facts .warn dd { color: var(--warn); }
.tallies { margin: 1.1rem 0 0; color: var(--quiet); font-size: .88rem; }
table { width: 100%; border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; vertical-align: baseline; font-weight: 400;
  padding: .34rem 0 .34rem 1rem; white-space: nowrap; }
thead th { color: var(--quiet); font-size: .82rem; vertical-align: bottom; line-height: 1.3; }
th:first-child, td:first-child { padding-left: 0; }
tbody tr > * { border-top: 1px solid var(--line); }
.text { text-align: left; }
td.target { width: 99%; white-space: normal; font-family: var(--mono); font-size: .84rem;
  overflow-wrap: anywhere; }
.state::before { content: ""; display: inline-block; width: .55em; height: .55em;
  margin-right: .5em; border: 1.5px solid var(--carved); border-radius: 50%; }
.busy::before, .serving::before { border-color: var(--link); background: var(--link); }
.starting::before, .retiring::before, .reloading::before, .stopping::before {
  border-color: var(--warn); background: var(--warn); }
.gauge { display: inline-block; width: 3.2rem; height: .65rem; margin-left: .5rem;
  background: var(--shade); border-radius: 2px; }
.gauge rect { fill: var(--link); }
.none { margin: 0; color: var(--quiet); }
footer { padding-bottom: 2.5rem; color: var(--quiet); font-size: .88rem; }
footer p { margin: 0; padding-top: 1.2rem; border-top: 1px solid var(--line); }
@media (max-width: 72rem) {
  .gauge { display: none; }
  th, td { padding-left: .7rem; }
  thead th { white-space: normal; }
}
@media (max-width: 60rem) { .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 58rem) {
  .sky > div, main, footer { padding-left: 1.1rem; padding-right: 1.1rem; }
  .sky > div { padding-top: 1.5rem; }
  .charts { gap: 1.3rem 1.2rem; }
  thead { position: absolute; clip-path: inset(50%); }
  table, tbody { display: block; }
  tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.6rem, 1fr));
    gap: .1rem 1rem; padding: .6rem 0; border-top: 1px solid var(--line); }
  tbody tr > * { border: 0; padding: 0; text-align: left; display: flex; gap: .5em;
    align-items: baseline; }
  tbody tr > [data-of]::before { content: attr(data-of); color: var(--quiet);
    font: .82rem var(--sans); }
  td.target { grid-column: 1 / -1; display: block; width: auto; }
  .facts { grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr)); gap: .7rem 1rem; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --quiet: #444; --sky-top: #fff; --sky-low: #fff; }
  body { font-size: 10pt; }
  .forms { display: none; }
  section { padding: .8rem 0; }
  tr { break-inside: avoid; }
}
"""

STYLE = PALETTE + _RULES

SCRIPT = """
"use strict";
const SPAN = 300, EVERY = 2000;
const looks = [];
const number = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0))
  .replace(/\\.0$/, "").replace(/\\B(?=(\\d{3})+$)/g, "\\u202f");
function octets(value) {
  let unit = 0;
  while (value >= 999.5 && unit < 5) { value /= 1024; unit += 1; }
  return number(value) + " " + ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit];
}
function ceiling(value, base) {
  let unit = 1;
  while (unit * base < value) unit *= base;
  const steps = [1, 2, 3, 4, 5, 6, 8, 10, 20, 50, 100, 200, 500, 1024];
  return unit * steps.find((step) => unit * step >= value);
}
const charts = {
  requests: {rate: true, write: number, base: 10},
  errors: {rate: true, write: number, base: 10},
  octets: {rate: true, write: octets, base: 1024},
  busy: {rate: false, write: number, base: 10},
};
function values(name, rate) {
  if (!rate) return looks.map((look) => [look.time, look[name]]);
  return looks.slice(1).map((look, at) => {
    const before = looks[at];
    return [look.time, Math.max(0, look[name] - before[name]) / (look.time - before.time)];
  });
}
function draw(name) {
  const {rate, write, base} = charts[name];
  const found = values(name, rate);
  if (!found.length) return;
  const figure = document.getElementById("chart-" + name);
  const end = found[found.length - 1];
  const top = ceiling(Math.max(...found.map(([, value]) => value)), base);
  const points = found.map(([time, value]) =>
    (SPAN - end[0] + time).toFixed(1) + " " + (60 - 58 * value / top).toFixed(1));
  const first = (SPAN - end[0] + found[0][0]).toFixed(1);
  figure.querySelector(".curve").setAttribute("d", "M" + points.join("L"));
  figure.querySelector(".area").setAttribute("d",
    "M" + first + " 60L" + points.join("L") + "L" + SPAN + " 60z");
  figure.querySelector("b").textContent = write(end[1]);
  figure.querySelector(".scale").textContent = write(top);
}
function note(page) {
  const look = {};
  for (const [name, text] of Object.entries(page.getElementById("figures").dataset))
    look[name] = Number(text);
  const last = looks[looks.length - 1];
  if (last && look.time <= last.time) return;
  if (last && look.started !== last.started) looks.length = 0;
  looks.push(look);
  while (looks[0].time < look.time - SPAN) looks.shift();
  Object.keys(charts).forEach(draw);
}
function show(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    const selection = getSelection();
    if (!other || !selection.isCollapsed && selection.containsNode(part, true)) continue;
    if (part.contains(document.activeElement)) continue;
    for (const open of part.querySelectorAll("details[open]"))
      other.querySelectorAll("details").forEach((one) => { one.open = open.open; });
    part.replaceWith(other);
  }
}
async function look() {
  const silence = document.getElementById("silence");
  try {
    const answer = await fetch("?format=html", {signal: AbortSignal.timeout(10000)});
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    note(fresh);
    show(fresh);
    silence.hidden = true;
  } catch (error) {
    if (silence.hidden) silence.querySelector("b").textContent = new Date().toLocaleTimeString();
    silence.hidden = false;
  }
  setTimeout(look, EVERY);
}
document.getElementById("charts").hidden = false;
note(document);
setTimeout(look, EVERY);
"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


#: Nothing runs but the script, and that asks this site alone, whatever a request's target contains.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; img-src data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
