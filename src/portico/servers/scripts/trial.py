"""Runs a script as CGI with a web server's bare environment, and finds out why it fails."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from portico.servers.scripts import interpreter
from portico.servers.scripts.answer import judge, missing_module, shorten
from portico.servers.scripts.findings import Finding, found
from portico.servers.scripts.process import Ended, run_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portico.servers.account import Account
    from portico.servers.scripts.source import Source

#: What another environment or directory can put right.
_MAY_DEPEND = {"not-loaded", "import-error", "raises", "server-error", "no-output"}

#: How many times what a run may take is spent on finding out why it fails.
_EXPLAIN_RUNS = 3

#: Runs a script until it first writes to standard output, and says where that is. Arguments: the
#: script.
_WHERE = """\
import io, os, runpy, sys

def tell():
    frame = sys._getframe(2)
    library = os.path.dirname(os.__file__)
    while frame.f_back and frame.f_code.co_filename.startswith((library, "<frozen")):
        frame = frame.f_back
    text = "\\0%d %s" % (frame.f_lineno, frame.f_code.co_filename)
    os.write(1, text.encode("utf-8", "surrogateescape"))
    os._exit(0)

class Octets(io.BytesIO):
    def write(self, data):
        tell()

class Text(io.TextIOWrapper):
    def write(self, text):
        if text:
            tell()

sys.stdout = Text(Octets(), encoding="utf-8")
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """How a script is run.

    Attributes:
        path: The script, absolute.
        command: What starts it: itself, or its interpreter with it.
        program: Its interpreter.
        source: What it seems to be.
        account: Who runs it; None is the present user.
        method: Of the sample request.
        target: Path and query of the sample request.
        seconds: How long each run may take.
        extra: Variables for its environment.
    """

    path: Path
    command: Sequence[str]
    program: str
    source: Source
    account: Account | None = None
    method: str = "GET"
    target: str = "/"
    seconds: float = 20.0
    extra: Mapping[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        """Give the whole environment of a CGI process."""
        info, _, query = self.target.partition("?")
        name = f"/{self.path.name}"
        return {
            **interpreter.bare_environ(),
            **self.extra,
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": "Apache",
            "SERVER_NAME": "localhost",
            "SERVER_ADDR": "127.0.0.1",
            "SERVER_PORT": "80",
            "REQUEST_SCHEME": "http",
            "REQUEST_METHOD": self.method,
            "REQUEST_URI": name + self.target,
            "QUERY_STRING": query,
            "SCRIPT_NAME": name,
            "SCRIPT_FILENAME": str(self.path),
            "PATH_INFO": info,
            "DOCUMENT_ROOT": str(self.path.parent),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "49152",
            "HTTP_HOST": "localhost",
            "HTTP_USER_AGENT": "portico-check",
            "HTTP_ACCEPT": "*/*",
        }


def try_as_cgi(trial: Trial) -> list[Finding]:
    """Send one request; tells what is wrong, or by what it would be right.

    Raises:
        ConfigError: the system does not start it.
    """
    ended = _run(trial, trial.environ(), trial.path.parent)
    findings = judge(ended, trial.source, (trial.method, trial.target), trial.seconds)
    if not findings:
        return []
    first = findings[0]
    if first.code == "output-before-head":
        first = found(
            first.code,
            first=shorten(ended.out),
            where=_where_written(trial),
            detail=first.detail,
        )
    elif first.code in _MAY_DEPEND:
        first = _explain(trial, ended.words) or first
    return [first, *findings[1:]]


def about_module(trial: Trial, words: str) -> Finding | None:
    """Say where the module is that an import missed; None where none was missed."""
    module = missing_module(words)
    if not module:
        return None
    program = trial.program
    other = interpreter.environment_with(module, trial.path)
    if other is not None:
        return found("wrong-environment", program=program, module=module, other=other, detail=words)
    if module.partition(".")[0] == "portico":
        return found("no-portico", program=program, detail=words)
    return found("no-module", program=program, module=module, path=trial.path, detail=words)


def _run(trial: Trial, environ: Mapping[str, str], directory: Path) -> Ended:
    return run_bounded(
        trial.command,
        directory=directory,
        environ=environ,
        seconds=trial.seconds,
        account=trial.account,
    )


def _works(trial: Trial, more: Mapping[str, str], directory: Path) -> bool:
    ended = _run(trial, {**more, **trial.environ()}, directory)
    return not judge(ended, trial.source, (trial.method, trial.target), trial.seconds)


def _explain(trial: Trial, words: str) -> Finding | None:
    """Find what would have made it work: a directory, a variable, a virtual environment."""
    until = time.monotonic() + _EXPLAIN_RUNS * trial.seconds
    here = Path.cwd()
    if here != trial.path.parent and _works(trial, {}, here):
        return found("works-elsewhere", place=here, detail=words)
    shell = {name: text for name, text in os.environ.items() if name not in trial.environ()}
    if shell and _works(trial, shell, trial.path.parent):
        return found(
            "environment-needed", names=_needed(trial, shell, until), path=trial.path, detail=words
        )
    return about_module(trial, words)


def _needed(trial: Trial, shell: Mapping[str, str], until: float) -> str:
    """Name the variable of the shell's that makes it work, by halves; or say that it takes more."""
    names = sorted(shell)
    while len(names) > 1:
        if time.monotonic() > until:
            return "such variables"
        half = names[: len(names) // 2]
        there = _works(trial, {name: shell[name] for name in half}, trial.path.parent)
        names = half if there else names[len(half) :]
    alone = _works(trial, {name: shell[name] for name in names}, trial.path.parent)
    return names[0] if alone else "such variables, several of which it takes"


def _where_written(trial: Trial) -> str:
    """Name the line that first writes to standard output, where that is a print."""
    ended = run_bounded(
        [trial.program, "-c", _WHERE, str(trial.path)],
        directory=trial.path.parent,
        environ=trial.environ(),
        seconds=trial.seconds,
        account=trial.account,
    )
    _, mark, text = ended.out.partition(b"\0")
    line, _, file = text.decode("utf-8", "backslashreplace").partition(" ")
    return f"line {line} of {file}" if mark else "a subprocess or os.write"
