"""How the inspector looks: one page without scripts or outside assets, and plain text.

The portico is drawn of its parts: the roof is the core, each column one stop of the request's way.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from portico.apps._look import ICON, PALETTE, escaped, readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias, TypedDict

    Value: TypeAlias = "str | bool | int | float | list[Value]"
    Values: TypeAlias = dict[str, Value]

    class Stop(TypedDict):
        """One stop of the request's way."""

        part: str
        name: str
        details: list[str]

    class Body(TypedDict):
        """What was in the body; sizes in octets, `announced` by CONTENT_LENGTH."""

        announced: int | None
        read: int
        sha256: str
        preview: str
        preview_kind: str
        preview_bytes: int

    class Process(TypedDict):
        """Who answered."""

        pid: int
        thread: str
        python: str

    class Timings(TypedDict):
        """How long it took, in milliseconds."""

        body_ms: float
        total_ms: float

    class Report(TypedDict):
        """All that is known about one request."""

        portico: str
        method: str
        url: str
        route: list[Stop]
        notes: list[str]
        environ: dict[str, Values]
        masked: list[str]
        body: Body
        process: Process
        timings: Timings


NUMERALS = ("I", "II", "III", "IV", "V")

#: Group of the environ -> (heading, what it holds).
HEADINGS = {
    "request": ("Request line", "What was asked for."),
    "mounting": ("Mounting", "Where the application begins, and what of the path is left for it."),
    "headers": ("Client headers", "As the client sent them: claims, not facts."),
    "server": ("Server and peer", "What the web server says of itself and of the other end."),
    "tls": ("TLS", "What the web server says about encryption."),
    "wsgi": ("WSGI", "What the gateway promises the application (PEP 3333)."),
    "portico": ("Portico", "What this gateway adds."),
    "other": ("Other", "What the web server, its configuration or the environment added."),
}

_PARTS = {
    "client": "Client",
    "front": "Web server",
    "protocol": "Protocol",
    "process": "Process",
    "application": "Application",
}

_RULES = """
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); overflow-wrap: break-word;
}
main, footer { max-width: 72rem; margin: 0 auto; padding: 0 1.5rem; }
.sky { background: linear-gradient(var(--sky-top), var(--sky-low)); }
.sky > div { max-width: 72rem; margin: 0 auto; padding: 2.75rem 1.5rem 0; }
h1, h2 { font-family: var(--serif); font-weight: 500; line-height: 1.2; margin: 0; }
h1 { font-size: clamp(1.9rem, 5vw, 2.7rem); letter-spacing: -.01em; }
h2 { font-size: 1.25rem; }
.lead { max-width: 46rem; margin: .7rem 0 0; font-size: 1.06rem; }
.forms { margin: .5rem 0 0; color: var(--quiet); font-size: .9rem; }
code, pre, td, th, textarea { font-family: var(--mono); font-size: .84rem; }
.lead code { font-size: .9em; }
code, td { overflow-wrap: anywhere; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: .18em; }
a:focus-visible, button:focus-visible, textarea:focus-visible, input:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px;
}
svg { display: block; width: 100%; height: auto; margin-top: 2.25rem; }
.stone { fill: var(--stone); stroke: var(--edge); }
.shade { fill: var(--shade); stroke: var(--edge); }
.deep { fill: var(--deep); stroke: var(--edge); }
.stone, .shade, .deep, .flute { stroke-width: 1; vector-effect: non-scaling-stroke; }
.flute { fill: none; stroke: var(--edge); opacity: .55; }
.carved { fill: var(--carved); font-family: var(--serif); text-anchor: middle; }
.cast { opacity: .1; }
.way { stroke: var(--link); stroke-width: 2; stroke-dasharray: 1 7; stroke-linecap: round; }
.tip { fill: none; stroke: var(--link); stroke-width: 2.5; stroke-linecap: round;
  stroke-linejoin: round; }
.lit { --stone: #cfe0ec; --shade: #b3cbdc; --edge: #7f9fb6; }
@media (prefers-color-scheme: dark) {
  .lit { --stone: #4f7896; --shade: #3b607b; --edge: #82a9c5; }
}
.route { list-style: none; margin: 0; padding: .9rem 0 0; display: grid;
  grid-template-columns: repeat(5, minmax(0, 1fr)); }
.route li { padding: 0 .6rem; text-align: center; }
.route span, .route b, .route i { display: block; }
.route span { color: var(--quiet); font-size: .78rem; }
.route b { font: 500 1.16rem/1.3 var(--serif); overflow-wrap: anywhere; }
.route i { font: .78rem/1.5 var(--mono); color: var(--quiet); overflow-wrap: anywhere; }
.route .lit b { color: var(--link); }
.notes { margin: 2rem 0 0; padding: .2rem 0 .2rem 1.1rem; border-left: 3px solid var(--warn);
  list-style: none; }
.notes li + li { margin-top: .5rem; }
section { display: grid; grid-template-columns: 13rem minmax(0, 1fr); gap: .25rem 2.5rem;
  padding: 1.9rem 0; border-top: 1px solid var(--line); }
.first { margin-top: 2.4rem; }
section header p { margin: .3rem 0 0; color: var(--quiet); font-size: .88rem; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; }
th, td { text-align: left; vertical-align: top; font-weight: 400; padding: .3rem 0; }
th { width: 17rem; padding-right: 1rem; color: var(--quiet); overflow-wrap: anywhere; }
tr + tr th, tr + tr td { border-top: 1px solid var(--line); }
td abbr { text-decoration: underline dotted; text-underline-offset: .2em; cursor: help; }
.none, .hidden { color: var(--quiet); }
td.words, th.words { font-family: var(--sans); font-size: .9rem; }
pre { margin: .8rem 0 0; padding: .8rem 1rem; background: var(--field); border-radius: 6px;
  max-height: 20rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
pre.hex { white-space: pre; font-size: .78rem; }
.try { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem; }
form { display: flex; flex-direction: column; align-items: flex-start; gap: .6rem; }
label { font-size: .9rem; }
textarea, input { width: 100%; color: inherit; }
textarea { min-height: 5.2rem; padding: .6rem .75rem; border: 1px solid var(--edge);
  border-radius: 6px; background: var(--field); resize: vertical; }
input { font: .88rem var(--sans); }
button, ::file-selector-button { font: .9rem var(--sans); padding: .42rem .95rem;
  color: var(--ink); background: var(--stone); border: 1px solid var(--edge); border-radius: 6px;
  cursor: pointer; }
::file-selector-button { margin-right: .8rem; }
button:hover, ::file-selector-button:hover { background: var(--shade); }
footer { padding-bottom: 3rem; color: var(--quiet); font-size: .88rem; }
footer ul { margin: 0; padding: 0; list-style: none; columns: 2; column-gap: 2.5rem; }
footer li { break-inside: avoid; padding-bottom: .6rem; }
footer li a { font-family: var(--mono); font-size: .84rem; overflow-wrap: anywhere; }
footer > p { margin: 0; padding-top: 1.4rem; border-top: 1px solid var(--line); }
@media (max-width: 46rem) {
  .sky > div { padding-top: 1.75rem; }
  .sky > div, main, footer { padding-left: 1.1rem; padding-right: 1.1rem; }
  svg { margin-top: 1.5rem; }
  .route { display: block; counter-reset: none; }
  .route li { display: grid; grid-template-columns: 7.6rem 1fr; gap: 0 .8rem; text-align: left;
    padding: .4rem 0; align-items: baseline; }
  .route li + li { border-top: 1px solid var(--line); }
  .route i { grid-column: 2; }
  section, .try { grid-template-columns: minmax(0, 1fr); gap: 1rem; }
  footer ul { columns: 1; }
  .bare tr { display: block; padding: .4rem 0; }
  .bare th, .bare td { display: block; width: auto; padding: 0; border: 0 !important; }
  .bare tr + tr { border-top: 1px solid var(--line); }
}
@media print {
  :root { --paper: #fff; --ink: #000; --quiet: #444; --sky-top: #fff; --sky-low: #fff; }
  body { font-size: 10pt; }
  .forms, .tryout, footer nav { display: none; }
  section { padding: .8rem 0; grid-template-columns: 9rem minmax(0, 1fr); }
  tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  pre { max-height: none; border: 1px solid #ccc; break-inside: avoid; }
}
"""

_CSS = PALETTE + _RULES
_CSS_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()

#: Nothing runs and nothing is fetched, whatever a value of the environ contains.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

# Light from the left: the shadow lies over whatever colour the stone has.
_SHADOW = (
    '<linearGradient id="round"><stop offset=".3" stop-opacity="0"/>'
    '<stop offset="1" stop-opacity=".16"/></linearGradient>'
)

_COLUMN = (
    '<g id="column">'
    '<path class="stone" d="M-24 190h48q1 90 7 174h-62q6-84 7-174z"/>'
    '<path class="flute" d="M-16 191q-1 90-5 172M-8 191q0 90-2.500 172M0 191v172'
    'M8 191q0 90 2.500 172M16 191q1 90 5 172"/>'
    '<path fill="url(#round)" d="M-24 190h48q1 90 7 174h-62q6-84 7-174z"/>'
    '<path class="shade" d="M-39 176h78q-3 12-13 14h-52q-10-2-13-14z"/>'
    '<path class="stone" d="M-43 166h86v10h-86z"/>'
    '<path class="shade" d="M-35 364h70v6h-70z"/><path class="stone" d="M-42 370h84v9h-84z"/>'
    "</g>"
)

_ROOF = (
    '<path class="stone" d="M500 8 988 110H12z"/>'
    '<path class="deep" d="M500 31 876 110H124z"/>'
    '<path class="stone" d="M12 110h976v12H12z"/>'
    '<path class="shade" d="M42 122h916v35H42z"/>'
    '<path class="cast" d="M42 122h916v5H42z"/>'
    '<path class="stone" d="M34 157h932v9H34z"/>'
    '<text class="carved" x="507" y="150" font-size="25" letter-spacing="15">PORTICO</text>'
)

_STEPS = (
    '<path class="shade" d="M30 379h940v10H30z"/><path class="cast" d="M30 379h940v3H30z"/>'
    '<path class="stone" d="M12 389h976v11H12z"/>'
)


def render_html(report: Report, prefix: str, exercises: Iterable[tuple[str, str]]) -> str:
    """Draw *report* as a page.

    Args:
        report: What `portico.apps.inspector.inspect` found.
        prefix: Path under which the application is mounted, percent-encoded; empty for the root.
        exercises: (path and query below the prefix, what it does).
    """
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            "<title>Portico: the request arrived</title>\n",
            f'<link rel="icon" href="{ICON}">\n<style>{_CSS}</style>\n</head>\n<body>\n',
            _top(report),
            "<main>\n",
            _body(report),
            *(_group(report, name) for name in report["environ"]),
            _forms(prefix),
            "</main>\n",
            _footer(report, prefix, exercises),
            "</body>\n</html>\n",
        ]
    )


def _text(value: str) -> str:
    return escape(readable(value)[0])


def _value(value: Value) -> str:
    """Render one value of the environ as HTML."""
    if not isinstance(value, str):
        return escape(_literal(value))
    if not value:
        return '<span class="none">empty</span>'
    shown, raw = readable(value)
    if raw:
        return f'<abbr title="in the environ: {escape(raw)}">{escape(shown)}</abbr>'
    return escape(shown)


def _literal(value: Value) -> str:
    if isinstance(value, list):
        return "(" + ", ".join(_literal(item) for item in value) + ")"
    return readable(value)[0] if isinstance(value, str) else repr(value)


def _top(report: Report) -> str:
    way = report["route"]
    notes = "".join(f"<li>{escape(note)}</li>" for note in report["notes"])
    return "".join(
        [
            '<div class="sky"><div>\n<h1>The request arrived</h1>\n',
            f'<p class="lead">{_sentence(report)}</p>\n',
            '<p class="forms">The same <a href="?format=json">as JSON</a> and ',
            '<a href="?format=text">as text</a>.</p>\n',
            _drawing(report["method"], [stop["part"] == "protocol" for stop in way]),
            '<ol class="route" aria-label="The way the request took">\n',
            *(_stop(stop) for stop in way),
            "</ol>\n",
            f'<ul class="notes" aria-label="Notes">{notes}</ul>\n' if notes else "",
            "</div></div>\n",
        ]
    )


def _sentence(report: Report) -> str:
    _, front, protocol, process, _ = report["route"]
    return (
        f"<code>{_text(report['method'])} {_text(report['url'])}</code> came through "
        f"{_text(front['name'])} and {_text(protocol['name'])} to process "
        f"{_text(process['name'])}, which took {_milliseconds(report['timings']['total_ms'])} "
        "to look at it."
    )


def _drawing(method: str, lit: list[bool]) -> str:
    lit_class = ' class="lit"'
    columns = "".join(
        f'<use href="#column" x="{100 + 200 * index}"{lit_class if bright else ""}/>'
        for index, bright in enumerate(lit)
    )
    tips = "".join(f"M{x - 5} 268l8 7-8 7" for x in (200, 400, 600, 800))
    carved = _text(method) if len(method) <= 8 else ""
    return (
        '<svg viewBox="0 0 1000 401" aria-hidden="true">'
        f"<defs>{_SHADOW}{_COLUMN}</defs>{_ROOF}"
        f'<text class="carved" x="502" y="94" font-size="28" letter-spacing="4">{carved}</text>'
        f'<path class="way" d="M6 275H872"/><path class="tip" d="{tips}"/>'
        f"{columns}{_STEPS}</svg>\n"
    )


def _stop(stop: Stop) -> str:
    part = stop["part"]
    # An address breaks after a slash rather than inside a word.
    details = "".join(
        f"<i>{_text(detail).replace('/', '/<wbr>')}</i>" for detail in stop["details"]
    )
    kind = ' class="lit"' if part == "protocol" else ""
    return (
        f"<li{kind}><span>{_PARTS.get(part, part)}</span> <b>{_text(stop['name'])}</b> "
        f"{details}</li>\n"
    )


def _section(heading: str, lead: str, content: str, kind: str = "") -> str:
    opening = f'<section class="{kind}">' if kind else "<section>"
    return (
        f"{opening}\n<header><h2>{heading}</h2><p>{lead}</p></header>\n<div>{content}</div>\n"
        "</section>\n"
    )


def _group(report: Report, name: str) -> str:
    values = report["environ"][name]
    masked = set(report["masked"])
    if not values:
        return ""
    rows = "".join(_row(key, values[key], hidden=key in masked) for key in values)
    if name == "mounting":
        rows += (
            '<tr><th scope="row" class="words">the URL they make</th>'
            f"<td>{_value(report['url'])}</td></tr>\n"
        )
    heading, lead = HEADINGS[name]
    return _section(heading, lead, f'<table class="bare">\n{rows}</table>')


def _row(name: str, value: Value, *, hidden: bool) -> str:
    shown = _value(value)
    if hidden:
        shown = f'<span class="hidden" title="masked">{shown}</span>'
    return f'<tr><th scope="row">{_text(name)}</th><td>{shown}</td></tr>\n'


def _body(report: Report) -> str:
    body = report["body"]
    timings = report["timings"]
    announced = "nothing" if body["announced"] is None else _octets(body["announced"])
    facts = [
        ("Announced by Content-Length", announced),
        ("Read", _octets(body["read"])),
        ("Reading took", _milliseconds(timings["body_ms"])),
        ("In the application so far", _milliseconds(timings["total_ms"])),
    ]
    rows = "".join(
        f'<tr><th scope="row" class="words">{name}</th><td class="words">{value}</td></tr>\n'
        for name, value in facts
    )
    if body["read"]:
        rows += f'<tr><th scope="row" class="words">SHA-256</th><td>{body["sha256"]}</td></tr>\n'
    content = f'<table class="bare">\n{rows}</table>'
    if body["read"]:
        lines = escape(_lines(body["preview"]))
        content += f'<pre class="{body["preview_kind"]}" tabindex="0">\n{lines}</pre>'
    lead = "No body came." if not body["read"] else _body_lead(report)
    return _section("Body and time", lead, content, "first")


def _body_lead(report: Report) -> str:
    body = report["body"]
    shown = min(body["preview_bytes"], 256) if body["preview_kind"] == "hex" else 0
    shown = shown or body["preview_bytes"]
    lead = "Shown whole." if shown == body["read"] else f"Its first {shown} octets are shown."
    if str(report["environ"]["request"].get("CONTENT_TYPE", "")).startswith("multipart/"):
        # The person who compares digests sees why they differ.
        lead += " The digest covers the form around the file too; <code>curl -T</code> sends "
        lead += "the file bare."
    return lead


def _lines(text: str) -> str:
    """Escape what would not show, keeping line ends and tabs."""
    text = text.replace("\r\n", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else escaped(char) for char in text)


def _octets(count: int) -> str:
    return "1 octet" if count == 1 else f"{count:,} octets".replace(",", "\u202f")


def _milliseconds(count: float) -> str:
    return f"{count:.3g} ms" if count < 1000 else f"{count:.0f} ms"


def _forms(prefix: str) -> str:
    action = escape(prefix) + "/"
    content = (
        '<div class="try">\n'
        f'<form method="post" action="{action}" enctype="text/plain">'
        '<label for="text">Some text</label>'
        '<textarea id="text" name="text">The quick brown fox jumps over the lazy dog.</textarea>'
        "<button>Send the text</button></form>\n"
        f'<form method="post" action="{action}" enctype="multipart/form-data">'
        '<label for="file">A file, of any size</label>'
        '<input id="file" type="file" name="file">'
        "<button>Send the file</button></form>\n</div>"
    )
    lead = "It is read in blocks of 64 KiB and nothing is kept."
    return _section("Send a body", lead, content, "tryout")


def _footer(report: Report, prefix: str, exercises: Iterable[tuple[str, str]]) -> str:
    items = "".join(
        f'<li><a href="{escape(prefix + path)}">{escape(path)}</a><br>{escape(text)}</li>\n'
        for path, text in exercises
    )
    version = f"Portico {_text(report['portico'])}".strip()
    masked = ", ".join(_text(name) for name in report["masked"])
    if masked:
        masked = f" Masked, for they may be secret: {masked}."
    return (
        '<footer>\n<nav aria-label="Paths that exercise the gateway">'
        f"{_section('Exercise it', 'Paths with answers of every kind.', f'<ul>{items}</ul>')}"
        f"</nav>\n<p>{version} on {_text(report['process']['python'])}.{masked}</p>\n</footer>\n"
    )


def render_text(report: Report) -> str:
    """Write *report* for a terminal: no character in it acts on one."""
    lines = [
        "The request arrived",
        "",
        f"{readable(report['method'])[0]} {readable(report['url'])[0]}",
        "",
    ]
    for numeral, stop in zip(NUMERALS, report["route"], strict=True):
        details = ", ".join(readable(detail)[0] for detail in stop["details"])
        name = readable(stop["name"])[0]
        what = f"{name} ({details})" if details else name
        lines.append(f"  {numeral:<4} {_PARTS[stop['part']]:<12} {what}")
    lines += ["", *(f"Note: {note}" for note in report["notes"])]
    lines += _body_lines(report)
    for group, values in report["environ"].items():
        if values:
            width = max(24, *(len(name) for name in values))
            lines += ["", HEADINGS[group][0]]
            lines += [
                f"  {readable(name)[0]:<{width}} {_literal(values[name])}".rstrip()
                for name in values
            ]
    return "\n".join(lines) + "\n"


def _body_lines(report: Report) -> list[str]:
    body = report["body"]
    timings = report["timings"]
    announced = "nothing" if body["announced"] is None else f"{body['announced']} octets"
    lines = [
        "Body and time",
        f"  {'announced':<24} {announced}",
        f"  {'read':<24} {body['read']} octets",
        f"  {'SHA-256':<24} {body['sha256']}",
        f"  {'reading took':<24} {_milliseconds(timings['body_ms'])}",
        f"  {'in the application':<24} {_milliseconds(timings['total_ms'])}",
    ]
    if body["read"]:
        lines.append("")
        lines += [f"  | {line}".rstrip() for line in _lines(body["preview"]).split("\n")]
    return lines
