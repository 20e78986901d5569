"""The bundled application: it shows what arrived, and by which way.

Every path answers with the inspection of the request: its route, its environ, its body and the
time it took, as a page, as JSON (``?format=json``) or as text (``?format=text``); without
``format`` the Accept header decides. The paths below ``/-/`` exercise the gateway: slow, large,
streamed and failing answers, each parameter bounded.

Cookies, Authorization and whatever is named like a secret are masked. Still, it tells much about
a server: mount it where those who may know that can reach it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from codecs import getincrementaldecoder
from urllib.parse import unquote
from wsgiref.util import request_uri

from portico.apps import _inspector_page as page
from portico.apps._accept import preference
from portico.apps._inspector_exercises import (
    BLOCK_BYTES,
    EXAMPLES,
    EXERCISES,
    BadParameter,
    answer,
    parse_query,
    prefix,
    respond,
    single,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from portico.apps._inspector_exercises import Query

#: Octets of the body that are kept to be shown.
PREVIEW_BYTES = 1024

#: What a masked value is replaced by; ASCII, so that what stands around it still decodes.
MASK = "******"

_SECRET_NAME = re.compile(
    r"AUTHORIZATION|COOKIE|SECRET|PASSW(?:OR)?D|PASSPHRASE|TOKEN|CREDENTIAL|API_?KEY|PRIVATE_KEY",
    re.IGNORECASE,
)
#: ``?secret=...`` inside a value, as in a query, a referrer or a bind URL.
_SECRET_FIELD = re.compile(
    r"([^?&;=\s]*(?:secret|passw(?:or)?d|passphrase|token|api_?key)[^?&;=\s]*=)[^&;#\s]+",
    re.IGNORECASE,
)
#: ``://user:password@host`` inside a value, as in the address of a database.
_USERINFO = re.compile(r"(://[^/:@\s]*:)[^/@\s]+@")

_REQUEST = ("REQUEST_METHOD", "QUERY_STRING", "SERVER_PROTOCOL", "CONTENT_TYPE", "CONTENT_LENGTH")
_MOUNTING = (
    "SCRIPT_NAME",
    "PATH_INFO",
    "REQUEST_URI",
    "DOCUMENT_URI",
    "UNENCODED_URL",
    "SCRIPT_FILENAME",
    "PATH_TRANSLATED",
    "DOCUMENT_ROOT",
    "CONTEXT_PREFIX",
    "CONTEXT_DOCUMENT_ROOT",
    "REDIRECT_URL",
    "SCRIPT_URL",
    "SCRIPT_URI",
)
_SERVER = ("GATEWAY_INTERFACE", "REQUEST_SCHEME", "REQUEST_ID", "AUTH_TYPE")

#: (prefix of the name, group), the first that fits.
_PREFIXES = (
    ("HTTP_", "headers"),
    ("wsgi.", "wsgi"),
    ("portico.", "portico"),
    ("SSL_", "tls"),
    ("HTTPS", "tls"),
    ("SERVER_", "server"),
    ("REMOTE_", "server"),
    ("INSTANCE_", "server"),
    ("APPL_", "mounting"),
)

#: The environ's groups in the order they are shown.
GROUPS = ("request", "mounting", "headers", "server", "tls", "wsgi", "portico", "other")

_CLIENTS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_PROTOCOLS = {
    "fastcgi": "FastCGI",
    "scgi": "SCGI",
    "ajp": "AJP/1.3",
    "uwsgi": "uwsgi",
    "cgi": "CGI",
}

_TYPES = {"html": "text/html", "json": "application/json", "text": "text/plain"}


class Inspector:
    """The WSGI application.

    Args:
        reveal: Show masked values too. Never a query parameter: a script on another page of the
            same site could then read cookies that the browser keeps from it.
    """

    __slots__ = ("_reveal",)

    def __init__(self, *, reveal: bool = False) -> None:
        self._reveal = reveal

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        try:
            query = parse_query(environ.get("QUERY_STRING", ""))
            if path.startswith("/-/"):
                exercise = EXERCISES.get(path[3:])
                if exercise is None:
                    known = ", ".join(f"/-/{name}" for name in EXERCISES)
                    sentence = f"There is nothing at this path; there is {known}."
                    return answer(environ, start_response, 404, sentence)
                return exercise(environ, start_response, query)
            return self._inspect(environ, start_response, query)
        except BadParameter as exc:
            return answer(environ, start_response, 400, str(exc))

    def _inspect(
        self, environ: WSGIEnvironment, start_response: StartResponse, query: Query
    ) -> Iterable[bytes]:
        form = _chosen_format(query, environ.get("HTTP_ACCEPT", ""))
        report = inspect(environ, reveal=self._reveal)
        headers = [("Vary", "Accept")]
        if form == "json":
            text = json.dumps(report, indent=2) + "\n"
        elif form == "text":
            text = page.render_text(report)
        else:
            text = page.render_html(report, prefix(environ), EXAMPLES)
            headers.append(("Content-Security-Policy", page.CONTENT_SECURITY_POLICY))
            headers.append(("Referrer-Policy", "same-origin"))
        kind = _TYPES[form]
        if form != "json":
            kind += "; charset=utf-8"
        return respond(
            environ, start_response, 200, text.encode(), media_type=kind, headers=headers
        )


def inspect(environ: WSGIEnvironment, *, reveal: bool = False) -> page.Report:
    """Read the request's body to its end and describe all that arrived.

    Args:
        environ: The request's; `wsgi.input` is consumed.
        reveal: Leave secrets unmasked.

    Returns:
        What the JSON form shows: strings, numbers, booleans, lists and dicts. Strings of the
        environ stand as PEP 3333 has them, octets as latin-1.
    """
    started = time.perf_counter()
    body = read_body(environ)
    body_seconds = time.perf_counter() - started
    masked: list[str] = []
    groups = _grouped(environ, None if reveal else masked)
    url = request_uri(environ)
    return {
        "portico": str(environ.get("portico.version", "")),
        "method": environ["REQUEST_METHOD"],
        "url": url if reveal else _masked_fields(url),
        "route": _route(environ),
        "notes": _notes(environ, body),
        "environ": groups,
        "masked": masked,
        "body": body,
        "process": {
            "pid": os.getpid(),
            "thread": threading.current_thread().name,
            "python": f"{sys.implementation.name} {sys.version.split()[0]}",
        },
        "timings": {
            "body_ms": round(body_seconds * 1000, 3),
            "total_ms": round((time.perf_counter() - started) * 1000, 3),
        },
    }


def read_body(environ: WSGIEnvironment) -> page.Body:
    """Read the body in blocks of 64 KiB, whatever its size, keeping its start alone.

    Without ``wsgi.input_terminated`` nothing is read beyond CONTENT_LENGTH: a server need not
    simulate an end of file there.
    """
    announced = _announced(environ)
    left = None if environ.get("wsgi.input_terminated") else announced or 0
    stream = environ["wsgi.input"]
    digest = hashlib.sha256()
    size = 0
    start = b""
    while left is None or left > 0:
        block = stream.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left))
        if not block:
            break
        digest.update(block)
        size += len(block)
        if left is not None:
            left -= len(block)
        if len(start) < PREVIEW_BYTES:
            start += block[: PREVIEW_BYTES - len(start)]
    kind, text = _preview(start, cut=size > len(start))
    return {
        "announced": announced,
        "read": size,
        "sha256": digest.hexdigest(),
        "preview": text,
        "preview_kind": kind,
        "preview_bytes": len(start),
    }


def _announced(environ: WSGIEnvironment) -> int | None:
    text = environ.get("CONTENT_LENGTH", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _preview(start: bytes, *, cut: bool) -> tuple[str, str]:
    try:
        # A cut may fall inside a character: only a whole body must end with a whole one.
        text = getincrementaldecoder("utf-8")().decode(start, final=not cut)
    except UnicodeDecodeError:
        return "hex", _hex_dump(start[:256])
    if all(char.isprintable() or char in "\r\n\t" for char in text):
        return "text", text
    return "hex", _hex_dump(start[:256])


def _hex_dump(octets: bytes) -> str:
    lines = []
    for offset in range(0, len(octets), 16):
        row = octets[offset : offset + 16]
        shown = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in row)
        lines.append(f"{offset:04x}  {row.hex(' '):<47}  {shown}")
    return "\n".join(lines)


def _grouped(environ: WSGIEnvironment, masked: list[str] | None) -> dict[str, page.Values]:
    """Sort *environ* into `GROUPS`; names whose values were masked are added to *masked*."""
    groups: dict[str, page.Values] = {group: {} for group in GROUPS}
    for name in _REQUEST:
        _put(groups["request"], name, environ.get(name), masked)
    for name in _MOUNTING:
        _put(groups["mounting"], name, environ.get(name), masked)
    for name in sorted(environ):
        if name in _REQUEST or name in _MOUNTING:
            continue
        _put(groups[_group_of(name)], name, environ[name], masked)
    return groups


def _group_of(name: str) -> str:
    if name in _SERVER:
        return "server"
    for start, group in _PREFIXES:
        if name.startswith(start):
            return group
    return "other"


def _put(values: page.Values, name: str, value: object, masked: list[str] | None) -> None:
    if value is None:
        return
    if isinstance(value, dict):
        for key in value:
            _put(values, f"{name}[{key}]", value[key], masked)
        return
    shown = _plain(value)
    if masked is not None and isinstance(shown, str) and shown:
        covered = MASK if _SECRET_NAME.search(name) else _masked_fields(shown)
        if covered != shown:
            masked.append(name)
            shown = covered
    values[name] = shown


def _plain(value: object) -> page.Value:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    # Not the repr: it shows addresses of memory, and may be anybody's code.
    kind = value if isinstance(value, type) else type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def _masked_fields(value: str) -> str:
    return _USERINFO.sub(rf"\g<1>{MASK}@", _SECRET_FIELD.sub(rf"\g<1>{MASK}", value))


def _route(environ: WSGIEnvironment) -> list[page.Stop]:
    front, _, version = environ.get("SERVER_SOFTWARE", "").partition("/")
    protocol = environ.get("portico.protocol")
    if protocol is None:
        name, via = "no gateway", "called without Portico"
    else:
        name = _PROTOCOLS.get(protocol, str(protocol))
        # The options of the bind URL stand in the environ below.
        via = str(environ.get("portico.bind", "")).partition("?")[0]
        via = via or "standard input and output"
    mounted = environ.get("SCRIPT_NAME", "") or "/"
    return [
        {"part": "client", "name": _client(environ), "details": _address(environ)},
        {"part": "front", "name": front or "web server", "details": [version] if version else []},
        {"part": "protocol", "name": name, "details": [via]},
        {
            "part": "process",
            "name": str(os.getpid()),
            "details": [f"thread {threading.current_thread().name}"],
        },
        {"part": "application", "name": "Inspector", "details": [f"mounted at {mounted}"]},
    ]


def _client(environ: WSGIEnvironment) -> str:
    agent: str = environ.get("HTTP_USER_AGENT", "")
    for token, name in _CLIENTS:
        if token in agent:
            return name
    return agent.partition("/")[0].partition(" ")[0][:40] or "client"


def _address(environ: WSGIEnvironment) -> list[str]:
    address = environ.get("REMOTE_ADDR", "")
    port = environ.get("REMOTE_PORT", "")
    if ":" in address and port:
        address = f"[{address}]"
    where = f"{address}:{port}" if address and port else address
    return [part for part in (where, environ.get("SERVER_PROTOCOL", "")) if part]


def _notes(environ: WSGIEnvironment, body: page.Body) -> list[str]:
    """Sentences about what looks wrong."""
    notes = []
    target = environ.get("REQUEST_URI", "")
    if target.startswith("/"):
        asked = unquote(target.partition("?")[0], "latin-1")
        if asked != environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""):
            notes.append(
                "SCRIPT_NAME and PATH_INFO together are not the path of REQUEST_URI: the web "
                "server rewrote the path, or the mount point is not the one it is configured with."
            )
    if body["announced"] is not None and body["announced"] != body["read"]:
        notes.append(
            f"CONTENT_LENGTH announced {body['announced']} octets, the body had {body['read']}."
        )
    if "portico.protocol" not in environ:
        notes.append("No portico.* keys: some other WSGI server called this application.")
    return notes


def _chosen_format(query: Query, accept: str) -> str:
    asked = single(query, "format")
    if asked is not None:
        if asked not in _TYPES:
            raise BadParameter("The parameter format is one of html, json and text.")
        return asked
    return max(_TYPES, key=lambda form: preference(accept, _TYPES[form]))


#: The callable that servers are given.
application = Inspector()
