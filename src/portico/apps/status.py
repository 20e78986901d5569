"""How the service is doing, for a browser, a program or a collector of metrics.

Mount it where only those reach it whom it concerns: it shows what is being asked for.

    mounts:
      /status: portico.apps.status
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from portico.apps import _openmetrics as openmetrics
from portico.apps import _status_page as page
from portico.engine.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

#: What can be had, and by which ending of the path as well.
_FORMS = {"html": "/", "json": "/json", "openmetrics": "/metrics"}

_NOT_HERE = (
    "The status can be shown where `portico serve` runs workers (--workers 1 or more); this process"
    " serves alone.\n"
)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Serve the status: HTML, or by ``?format=`` or path ``json`` and ``openmetrics``."""
    form = _form_of(environ)
    board = environ.get("portico.scoreboard")
    headers = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        status, kind, text = "405 Method Not Allowed", "text/plain", "Only GET and HEAD.\n"
        headers.append(("Allow", "GET, HEAD"))
    elif not form:
        status, kind, text = "404 Not Found", "text/plain", "There is no such page.\n"
    elif board is None:
        status, kind, text = "503 Service Unavailable", "text/plain", _NOT_HERE
    else:
        status = "200 OK"
        kind, text = _render(form, snapshot(board))
        if form == "html":
            headers.append(("Content-Security-Policy", page.CONTENT_SECURITY_POLICY))
            headers.append(("Referrer-Policy", "no-referrer"))
    body = text.encode("utf-8", "backslashreplace")
    if "charset" not in kind:
        kind += "; charset=utf-8"
    headers += [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _form_of(environ: dict[str, Any]) -> str:
    """Tell what is asked for; empty for what there is not."""
    path = environ.get("PATH_INFO", "") or "/"
    asked = parse_qs(environ.get("QUERY_STRING", "")).get("format", [""])[0]
    if asked:
        return asked if asked in _FORMS and path == "/" else ""
    for form, ending in _FORMS.items():
        if path == ending:
            accepts = environ.get("HTTP_ACCEPT", "")
            return "openmetrics" if path == "/" and "openmetrics" in accepts else form
    return ""


def _render(form: str, found: dict[str, Any]) -> tuple[str, str]:
    if form == "json":
        return "application/json", json.dumps(found)
    if form == "openmetrics":
        return openmetrics.CONTENT_TYPE, openmetrics.render(found)
    return "text/html", page.render(found)
