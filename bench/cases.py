"""What is asked of the servers."""

from __future__ import annotations

import importlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import application

if TYPE_CHECKING:
    from contestants import Contestant

HERE = Path(__file__).parent

#: What is uploaded.
UPLOAD = application.BODY

#: How many connections sleep in the cases with slow requests, and how many requests a second
#: 16 threads can answer there.
SLEEPING = 64
IDEAL = 320

#: How many connections are idle.
IDLE = 1000

#: Who runs the sites of Flask and Django: their own work drowns the differences of the rest.
SITES = frozenset({
    "portico_fastcgi", "uwsgi_fastcgi", "gevent_fastcgi", "gunicorn_http", "waitress_http",
    "bjoern_http", "portico_ajp", "mod_wsgi",
})  # fmt: skip

#: Who carries a MiB: of the Python peers one protocol each.
LARGE = frozenset({
    "portico_fastcgi", "uwsgi_fastcgi", "flup_fastcgi", "gevent_fastcgi", "portico_scgi",
    "uwsgi_scgi", "portico_uwsgi", "uwsgi_uwsgi", "gunicorn_http", "waitress_http", "bjoern_http",
    "portico_ajp", "tomcat_ajp", "mod_wsgi",
})  # fmt: skip

#: Who answers slow requests with 16 threads.
THREADED = frozenset({
    "portico_fastcgi", "uwsgi_fastcgi_threads", "gunicorn_http", "waitress_http", "portico_ajp",
    "tomcat_ajp", "mod_wsgi",
})  # fmt: skip

#: Who is asked with idle connections about; uWSGI's FastCGI keeps none: nginx alone holds them.
KEEPERS = frozenset({
    "portico_fastcgi", "uwsgi_fastcgi", "gevent_fastcgi", "gunicorn_http", "waitress_http",
    "bjoern_http", "portico_ajp", "tomcat_ajp",
})  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Attributes:
        name: In options, tables and files.
        title: For people.
        path: The last word of the request's path.
        kind: plain; mix, with sleeping requests beside; idle, with idle connections about.
        field: Who takes part, and with Portico its variants; everybody where empty.
        post: Whether an upload is sent.
        connections: How many wrk opens; 0 for what the options say.
        seconds: The least that a turn takes.
        site: The application's file, below bench/.
        large: Whether octets a second tell more than requests.
    """

    name: str
    title: str
    path: str
    kind: str = "plain"
    field: frozenset[str] = frozenset()
    post: bool = False
    connections: int = 0
    seconds: int = 0
    site: str = "application.py"
    large: bool = False

    def suits(self, one: Contestant) -> bool:
        """Tell whether *one* takes part."""
        if one.only:
            return self.name in one.only
        name = re.sub("^(before|alone)_", "portico_", one.name)
        return not self.field or name in self.field

    def body(self) -> bytes:
        """Give what must come: what the application answers when it is called right here."""
        return _answer(self.site, self.path, UPLOAD if self.post else b"")


CASES = [
    Case("hello", "36 octets", "hello"),
    Case("page", "8 KiB, six headers", "page"),
    Case("body", "1 MiB in one piece", "body", field=LARGE, large=True),
    Case("chunks", "1 MiB in 64 pieces", "chunks", field=LARGE, large=True),
    Case("upload", "1 MiB upload", "upload", field=LARGE, post=True, large=True),
    Case(
        "sleep", f"50 ms sleep, 16 threads, ideal {IDEAL}/s", "sleep",
        field=THREADED, connections=SLEEPING, seconds=4,
    ),
    Case(
        "mix", f"36 octets beside {SLEEPING} connections of 50 ms sleeps, 16 threads", "hello",
        kind="mix", field=THREADED, connections=2,
    ),
    Case("idle", f"36 octets, {IDLE:,} idle kept connections", "hello", kind="idle", field=KEEPERS),
    Case("flask", "a page of Flask", "flask", field=SITES, site="sites/flask_pages.py"),
    Case("django", "a page of Django", "django", field=SITES, site="sites/django_pages.py"),
]  # fmt: skip

#: What a first look does without.
LONG = {"mix", "django"}


def _answer(site: str, path: str, content: bytes) -> bytes:
    file = HERE / site
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    app: Any = importlib.import_module(file.stem).application
    environ: dict[str, Any] = {"PATH_INFO": f"/server/{path}", "CONTENT_LENGTH": str(len(content))}
    environ["wsgi.input"] = io.BytesIO(content)
    setup_testing_defaults(environ)
    return b"".join(app(environ, lambda *_: None))
