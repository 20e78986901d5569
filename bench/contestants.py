"""Portico and its peers: how each is started, and how nginx reaches it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

_FLUP = """\
import sys
sys.path.insert(0, {here!r})
from application import application
from flup.server.{module} import WSGIServer
WSGIServer(application, bindAddress=("127.0.0.1", {port}), {options}).run()
"""


@dataclass
class Contestant:
    """One server under test.

    Attributes:
        name: Its column, and the path below which nginx passes to it.
        protocol: nginx's word for what it speaks: fastcgi, scgi, uwsgi or http.
        peer_of: The kind of comparison it belongs to.
        command: How it is started, with ``{port}`` for its port.
        kept: Whether nginx keeps its connections.
    """

    name: str
    protocol: str
    peer_of: str
    command: list[str]
    kept: bool = False
    port: int = 0

    def argv(self) -> list[str]:
        """Give the command with the port filled in."""
        return [word.replace("{port}", str(self.port)) for word in self.command]

    def locations(self) -> tuple[str, str]:
        """Give nginx's upstream and its location, each as configuration."""
        keep = "keepalive 64;" if self.kept else ""
        passing = {
            "fastcgi": "fastcgi_pass up_{n}; include {i}/fastcgi_params;"
            " fastcgi_param PATH_INFO $document_uri; fastcgi_param SCRIPT_NAME '';"
            + (" fastcgi_keep_conn on;" if self.kept else ""),
            "scgi": "scgi_pass up_{n}; include {i}/scgi_params;"
            " scgi_param PATH_INFO $document_uri; scgi_param SCRIPT_NAME '';",
            "uwsgi": "uwsgi_pass up_{n}; include {i}/uwsgi_params;",
            "http": "proxy_pass http://up_{n}; proxy_http_version 1.1;"
            " proxy_set_header Connection '';",
        }[self.protocol].format(n=self.name, i="/etc/nginx")
        server = f"upstream up_{self.name} {{ server 127.0.0.1:{self.port}; {keep} }}"
        return f"{server}\n", f"location /{self.name}/ {{ {passing} }}\n"


def _portico(
    name: str, protocol: str, *, kept: bool = False, source: str = "", workers: int = 1
) -> Contestant:
    bind = f"{protocol}://127.0.0.1:{{port}}"
    command = ["env", f"PYTHONPATH={source}"] if source else []
    command += [sys.executable, "-m", "portico", "serve", str(HERE / "application.py")]
    command += ["--bind", bind, "--threads", "16", "--log-level", "warning"]
    command += [] if source else ["--workers", str(workers)]  # an earlier one may not know it
    return Contestant(name, protocol, protocol, command, kept=kept)


def _uwsgi(name: str, protocol: str, option: str) -> Contestant:
    program = str(Path(sys.executable).with_name("uwsgi"))
    command = [program, option, "127.0.0.1:{port}", "--wsgi-file", str(HERE / "application.py")]
    command += ["--processes", "1", "--disable-logging", "--need-app", "--listen", "1000"]
    return Contestant(name, protocol, protocol, command)


def _flup(name: str, protocol: str, module: str, options: str = "") -> Contestant:
    script = _FLUP.format(here=str(HERE), module=module, port="{port}", options=options)
    return Contestant(name, protocol, protocol, [sys.executable, "-c", script], kept=False)


def _gunicorn(name: str, protocol: str, options: list[str], *, kept: bool) -> Contestant:
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(HERE), "--workers", "1"]
    command += ["--bind", "127.0.0.1:{port}", *options, "application:application"]
    return Contestant(name, protocol, protocol, command, kept=kept)


def contestants() -> list[Contestant]:
    """Give them all, Portico first in each protocol."""
    return [
        _portico("portico_fastcgi", "fastcgi", kept=True),
        _uwsgi("uwsgi_fastcgi", "fastcgi", "--fastcgi-socket"),
        _flup("flup_fastcgi", "fastcgi", "fcgi", "maxThreads=64"),
        _portico("portico_scgi", "scgi"),
        _uwsgi("uwsgi_scgi", "scgi", "--scgi-socket"),
        _flup("flup_scgi", "scgi", "scgi", "scriptName='', maxThreads=64"),
        _portico("portico_uwsgi", "uwsgi"),
        _uwsgi("uwsgi_uwsgi", "uwsgi", "--uwsgi-socket"),
        _gunicorn("gunicorn_uwsgi", "uwsgi", ["--protocol", "uwsgi"], kept=False),
        _gunicorn(
            "gunicorn_http",
            "http",
            ["--worker-class", "gthread", "--threads", "16", "--keep-alive", "75"],
            kept=True,
        ),
    ]


def earlier(directory: str) -> list[Contestant]:
    """Give the Portico of another checkout, to be compared with this one."""
    source = str(Path(directory).resolve() / "src")
    return [
        _portico("before_fastcgi", "fastcgi", kept=True, source=source),
        _portico("before_scgi", "scgi", source=source),
        _portico("before_uwsgi", "uwsgi", source=source),
    ]


def alone() -> list[Contestant]:
    """Give Portico without a parent, and so without a scoreboard."""
    return [
        _portico("alone_fastcgi", "fastcgi", kept=True, workers=0),
        _portico("alone_scgi", "scgi", workers=0),
        _portico("alone_uwsgi", "uwsgi", workers=0),
    ]
