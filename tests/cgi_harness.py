"""Run a WSGI application as a web server runs a CGI script: a process for each request."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from portico.head import find_end, parse

if TYPE_CHECKING:
    from pathlib import Path

#: Seconds after which a script is taken for hanging.
DEADLINE = 20

REQUEST = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/app.cgi",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "www.example.test",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_SOFTWARE": "lighttpd/1.4.69",
}

_SCRIPT = """\
import sys
from portico import cgi

{source}

if __name__ == "__main__":
    sys.exit(cgi.run(application{options}))
"""


class Answer(NamedTuple):
    """What a CGI process left behind; `head` and `body` are empty where it sent none."""

    output: bytes
    errors: str
    exit_status: int

    @property
    def status(self) -> str:
        return parse(self.output[: self._ends()[0]])[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        return parse(self.output[: self._ends()[0]])[1]

    @property
    def body(self) -> bytes:
        return self.output[self._ends()[1] :]

    def _ends(self) -> tuple[int, int]:
        ends = find_end(self.output)
        assert ends, f"no head in {self.output!r}; stderr: {self.errors}"
        return ends


def write_script(folder: Path, source: str, options: str = "") -> Path:
    """Make a script of an `application` given as source."""
    path = folder / "app.cgi"
    path.write_text(_SCRIPT.format(source=source, options=f", {options}" if options else ""))
    return path


def command(script: Path) -> list[str]:
    return [sys.executable, str(script)]


def environment(**params: str | bytes) -> dict[bytes, bytes]:
    """The process environment of a request: octets, and nothing of this process's own."""
    given = {**REQUEST, **params}
    return {
        name.encode("latin-1"): value if isinstance(value, bytes) else value.encode("latin-1")
        for name, value in given.items()
    }


def run_script(
    script: Path, stdin: bytes = b"", *, env: dict[bytes, bytes] | None = None, **params: str
) -> Answer:
    """Run *script* for one request and wait for its end."""
    done = subprocess.run(
        command(script),
        env=environment(**params) if env is None else env,
        input=stdin,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    return Answer(done.stdout, done.stderr.decode("utf-8", "replace"), done.returncode)
