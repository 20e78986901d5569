"""The bundled application that tells how the service does: a page, JSON, and OpenMetrics.

The page is at the mount point, JSON at ``/json`` and metrics at ``/metrics`` below it; at the mount
point ``?format=`` html, json or openmetrics decides, and without that the Accept header.

It shows what is being asked for, query strings included, and by whom: mount it where those alone
reach it who may know that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from portico.apps import _openmetrics as openmetrics
from portico.apps import _status_page as page
from portico.apps._accept import preference
from portico.apps._status_look import CONTENT_SECURITY_POLICY
from portico.engine.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

#: Form -> its media type, the one that is preferred among equals first.
_TYPES = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "openmetrics": openmetrics.CONTENT_TYPE,
}

#: PATH_INFO -> the form that stands there, whatever is accepted; empty where that decides.
_PATHS = {"": "", "/": "", "/json": "json", "/metrics": "openmetrics"}

_ALONE = (
    "There is nothing to show: this process serves alone. Start it as `portico serve` with workers"
    " (--workers 1 or more, or --on-demand)."
)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request."""
    method = environ["REQUEST_METHOD"]
    form = _chosen_form(environ)
    board = environ.get("portico.scoreboard")
    headers = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
    if method not in {"GET", "HEAD"}:
        headers.append(("Allow", "GET, HEAD"))
        status, kind, text = "405 Method Not Allowed", "text", "This can be read only: GET or HEAD."
    elif form not in _TYPES:
        status, kind, text = "404 Not Found", "text", form
    elif board is None:
        status, kind, text = "503 Service Unavailable", "text", _ALONE
    else:
        status, kind, text = "200 OK", form, _render(form, snapshot(board))
    if kind == "html":
        headers.append(("Content-Security-Policy", CONTENT_SECURITY_POLICY))
        headers.append(("Referrer-Policy", "no-referrer"))
    if kind == "text":
        text += "\n"
    # a lone surrogate, which no client sends but an application may write, fails no page
    body = text.encode("utf-8", "backslashreplace")
    headers += [
        ("Vary", "Accept"),
        ("Content-Type", _TYPES.get(kind, "text/plain; charset=utf-8")),
        ("Content-Length", str(len(body))),
    ]
    start_response(status, headers)
    return [] if method == "HEAD" else [body]


def _chosen_form(environ: WSGIEnvironment) -> str:
    """Give a key of `_TYPES`, or the sentence that says why there is none."""
    form = _PATHS.get(environ.get("PATH_INFO", ""))
    if form is None:
        return "There is nothing at this path; there is /, /json and /metrics."
    if form:
        return form
    asked = parse_qs(environ.get("QUERY_STRING", "")).get("format")
    if asked:
        known = asked[-1] in _TYPES
        return asked[-1] if known else "The parameter format is one of html, json and openmetrics."
    accept = environ.get("HTTP_ACCEPT", "")
    return max(_TYPES, key=lambda one: preference(accept, _TYPES[one].partition(";")[0]))


def _render(form: str, found: dict[str, Any]) -> str:
    if form == "json":
        return json.dumps(found, indent=2) + "\n"
    return openmetrics.render(found) if form == "openmetrics" else page.render(found)
