"""Portico and its peers: how each is started, what it speaks, and which comparisons are fair."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent

#: Threads of everything that has threads.
THREADS = 16

#: Servers without a command line of their own. ``{directory}`` and ``{module}`` are the site's.
_FLUP = """\
import sys
sys.path.insert(0, "{directory}")
from {module} import application
from flup.server.%s import WSGIServer
WSGIServer(application, bindAddress=("127.0.0.1", {port}), %s).run()
"""

_GEVENT = """\
from gevent.monkey import patch_all
patch_all()
import sys
sys.path.insert(0, "{directory}")
from {module} import application
from gevent_fastcgi.server import FastCGIServer
from gevent_fastcgi.wsgi import WSGIRequestHandler
FastCGIServer(
    ("127.0.0.1", {port}), WSGIRequestHandler(application), num_workers=1, max_conns=4096
).serve_forever()
"""

_WAITRESS = """\
import sys
sys.path.insert(0, "{directory}")
from {module} import application
from waitress import serve
serve(application, listen="127.0.0.1:{port}", threads=%d, connection_limit=4096,
      asyncore_use_poll=True, channel_timeout=600,
      max_request_body_size=2**31, ident="")
"""

_BJOERN = """\
import sys
sys.path.insert(0, "{directory}")
from {module} import application
import bjoern
bjoern.run(application, "127.0.0.1", {port})
"""


@dataclass(frozen=True)
class Contestant:
    """One server under test.

    Attributes:
        name: In tables, and the path below which the web server passes to it.
        protocol: fastcgi, scgi, uwsgi, http or ajp; wsgi where it sits in the web server.
        package: The distribution that it comes from, for its version.
        command: How it is started; ``{port}``, ``{file}``, ``{directory}`` and ``{module}`` are
            filled in. Empty where the web server or a class of its own starts it.
        kept: Whether the web server keeps its connections.
        threads: How many requests it runs at once, as far as the comparison counts it; 0 for one
            that is made otherwise.
        apache: Whether it is behind Apache; else behind nginx.
        only: The cases that it takes part in; all that suit it where empty.
        unable: Cases that it is known not to manage, with the reason; it is not asked.
        holds: Whether it keeps a thousand idle connections in its own protocol.
        warm_seconds: Of load before the first turn of a case that counts.
        environ: More environment.
    """

    name: str
    protocol: str
    package: str
    command: tuple[str, ...] = ()
    kept: bool = False
    threads: int = 0
    apache: bool = False
    only: frozenset[str] = frozenset()
    unable: dict[str, str] = field(default_factory=dict)
    holds: bool = False
    warm_seconds: int = 1
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is the Portico of this checkout, as it is run by default."""
        return self.name.startswith("portico_")

    def argv(self, site: Path, port: int) -> list[str]:
        """Give the command for the application in *site* on *port*."""
        words = {
            "{port}": str(port),
            "{file}": str(site),
            "{directory}": str(site.parent),
            "{module}": site.stem,
        }
        argv = list(self.command)
        for word, value in words.items():
            argv = [part.replace(word, value) for part in argv]
        return argv


def _portico(
    name: str, protocol: str, *, kept: bool = False, source: str = "", workers: int = 1
) -> Contestant:
    command = [sys.executable, "-m", "portico", "serve", "{file}"]
    command += ["--bind", f"{protocol}://127.0.0.1:{{port}}"]
    command += ["--threads", str(THREADS), "--log-level", "warning"]
    command += [] if source else ["--workers", str(workers)]  # an earlier one may not know it
    environ = {"PYTHONPATH": source} if source else {}
    return Contestant(
        name, protocol, "portico", tuple(command), kept=kept, threads=THREADS,
        apache=protocol == "ajp", holds=protocol in {"fastcgi", "ajp"}, environ=environ,
    )  # fmt: skip


def _uwsgi(name: str, protocol: str, *more: str, only: frozenset[str] = frozenset()) -> Contestant:
    option = {"fastcgi": "--fastcgi-socket", "scgi": "--scgi-socket", "uwsgi": "--uwsgi-socket"}
    program = str(Path(sys.executable).with_name("uwsgi"))
    command = (
        program, option[protocol], "127.0.0.1:{port}", "--wsgi-file", "{file}", "--processes", "1",
        "--disable-logging", "--need-app", "--listen", "1000", *more,
    )  # fmt: skip
    threads = THREADS if more else 1
    return Contestant(name, protocol, "uWSGI", command, threads=threads, only=only)


def _script(
    name: str,
    protocol: str,
    package: str,
    script: str,
    *,
    kept: bool = False,
    threads: int = 0,
    unable: dict[str, str] | None = None,
) -> Contestant:
    return Contestant(
        name, protocol, package, (sys.executable, "-c", script), kept=kept, threads=threads,
        apache=protocol == "ajp", unable=unable or {}, holds=kept,
    )  # fmt: skip


def _gunicorn(name: str, protocol: str, *options: str, kept: bool, threads: int) -> Contestant:
    command = (
        sys.executable, "-m", "gunicorn", "--chdir", "{directory}", "--workers", "1",
        "--bind", "127.0.0.1:{port}", "--log-level", "warning", *options, "{module}:application",
    )  # fmt: skip
    return Contestant(name, protocol, "gunicorn", command, kept=kept, threads=threads, holds=kept)


def contestants() -> list[Contestant]:
    """Give them all, Portico first in each protocol."""
    many = str(THREADS)
    slow = frozenset({"sleep", "mix"})
    # flup drops a connection for which it has no thread, so it gets more than are ever open; it
    # writes a line a request unless told not to
    flup = "maxThreads=128"
    quiet = f"{flup}, loggingLevel=40"
    return [
        _portico("portico_fastcgi", "fastcgi", kept=True),
        _uwsgi("uwsgi_fastcgi", "fastcgi"),
        _uwsgi(
            "uwsgi_fastcgi_threads", "fastcgi", "--threads", many, "--enable-threads", only=slow
        ),
        _script("flup_fastcgi", "fastcgi", "flup", _FLUP % ("fcgi", flup)),
        _script(
            "gevent_fastcgi", "fastcgi", "gevent-fastcgi", _GEVENT, kept=True,
            unable={"upload": "it gives no answer to uploads over some 64 KiB"},
        ),
        _portico("portico_scgi", "scgi"),
        _uwsgi("uwsgi_scgi", "scgi"),
        _script("flup_scgi", "scgi", "flup", _FLUP % ("scgi", f"scriptName='', {quiet}")),
        _portico("portico_uwsgi", "uwsgi"),
        _uwsgi("uwsgi_uwsgi", "uwsgi"),
        _gunicorn("gunicorn_uwsgi", "uwsgi", "--protocol", "uwsgi", kept=False, threads=1),
        _gunicorn(
            "gunicorn_http", "http",
            "--worker-class", "gthread", "--threads", many, "--keep-alive", "600",
            "--worker-connections", "4096",
            kept=True, threads=THREADS,
        ),
        _script(
            "waitress_http", "http", "waitress", _WAITRESS % THREADS, kept=True, threads=THREADS
        ),
        _script("bjoern_http", "http", "bjoern", _BJOERN, kept=True),
        _portico("portico_ajp", "ajp", kept=True),
        # on kept connections it waits for a delayed acknowledgement every time, and stalls at last
        _script(
            "flup_ajp",
            "ajp",
            "flup",
            _FLUP % ("ajp", quiet),
            unable={"upload": "it gives no answer to an upload of 1 MiB"},
        ),
        Contestant(
            "tomcat_ajp", "ajp", "Tomcat", kept=True, threads=THREADS, apache=True, holds=True,
            warm_seconds=5,
        ),
        Contestant("mod_wsgi", "wsgi", "mod_wsgi", threads=THREADS, apache=True),
    ]  # fmt: skip


def earlier(directory: str) -> list[Contestant]:
    """Give the Portico of another checkout, to be compared with this one."""
    source = str(Path(directory).resolve() / "src")
    return [
        _portico(f"before_{protocol}", protocol, kept=protocol in {"fastcgi", "ajp"}, source=source)
        for protocol in ("fastcgi", "scgi", "uwsgi", "ajp")
    ]


def alone() -> list[Contestant]:
    """Give Portico without a parent, and so without a scoreboard."""
    return [
        _portico(f"alone_{protocol}", protocol, kept=protocol in {"fastcgi", "ajp"}, workers=0)
        for protocol in ("fastcgi", "scgi", "uwsgi", "ajp")
    ]


def counterpart(one: Contestant) -> str:
    """Give the name of the Portico that *one* is compared with.

    The same protocol; FastCGI for what nginx reaches over HTTP, AJP for what sits in Apache.
    """
    if one.apache:
        return "portico_ajp"
    return f"portico_{'fastcgi' if one.protocol == 'http' else one.protocol}"
