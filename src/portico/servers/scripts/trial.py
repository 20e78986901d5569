"""Runs a script as CGI and as FastCGI, once with a web server's bare environment."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from portico.client.exchange import BackendError, Timeouts
from portico.client.pool import Pool
from portico.errors import ConfigError
from portico.servers.scripts import interpreter
from portico.servers.scripts.answer import error_of, failure, judge, missing_module
from portico.servers.scripts.findings import Finding, found
from portico.servers.scripts.process import Ended, collect, end, private_directory, run_bounded, started

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portico.servers.account import Account
    from portico.servers.scripts.source import Source

#: What another environment or directory can put right.
_MAY_DEPEND = {"import-error", "raises", "server-error", "no-output", "output-before-head"}

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
        source: What it seems to be.
        account: Who runs it; None is the present user.
        method: Of the sample request.
        target: Path and query of the sample request.
        seconds: How long each run may take.
        extra: Variables for its environment.
    """

    path: Path
    command: Sequence[str]
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
    """Send one request; tells what is wrong, and by what it would be right.

    Raises:
        ConfigError: the system does not start it.
    """
    ended = _run(trial, trial.environ(), trial.path.parent)
    findings = judge(ended, trial.source, (trial.method, trial.target), trial.seconds)
    if not findings:
        return []
    if findings[0].code == "output-before-head":
        where = _where_written(trial)
        values = {"first": findings[0].sentence.rpartition(" is written before")[0]}
        findings[0] = found(
            "output-before-head", where=where, detail=findings[0].detail, **values
        )
        return findings
    if findings[0].code in _MAY_DEPEND:
        explained = _explain(trial, ended.words)
        if explained is not None:
            return [explained]
    return findings


def try_as_fastcgi(trial: Trial) -> list[Finding]:
    """Start it with a listening socket on descriptor 0, and send one request.

    Raises:
        ConfigError: the system does not start it.
    """
    with private_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        address = f"{directory}/fastcgi.sock"
        listener.bind(address)
        listener.listen(8)
        environ = {**interpreter.bare_environ(), **trial.extra}
        with started(
            trial.command,
            directory=trial.path.parent,
            environ=environ,
            account=trial.account,
            stdin=listener.fileno(),
        ) as process:
            listener.close()  # the script alone has it now: its end ends the waiting
            ends: list[Ended] = []
            deadline = trial.seconds + 1
            reader = threading.Thread(target=lambda: ends.append(collect(process, deadline)))
            reader.start()
            try:
                finding = _ask(trial, address)
            finally:
                end(process)
                reader.join()
    if finding is None:
        return []
    words = ends[0].words or ends[0].out.decode("utf-8", "backslashreplace")
    explained = _about_module(trial, words)
    if explained is None:
        explained = failure(words, finding)
    if not explained.detail and words:
        explained = Finding(
            explained.code, explained.sentence, explained.remedy, explained.wrong, words[-8192:]
        )
    return [explained]


def _ask(trial: Trial, address: str) -> Finding | None:
    environ = {
        name: value
        for name, value in trial.environ().items()
        if name not in interpreter.bare_environ() and name not in trial.extra
    }
    waits = Timeouts(connect=trial.seconds, read=trial.seconds, write=trial.seconds)
    limit = time.monotonic() + trial.seconds
    try:
        pool = Pool(f"fastcgi+unix://{address}", timeouts=waits, max_kept=0)
        with pool.open(environ) as exchange:
            exchange.begin() if not exchange.status else None
            for _ in exchange:
                if time.monotonic() > limit:
                    return found("hangs", seconds=trial.seconds)
            status = exchange.status
    except BackendError as error:
        if error.status_hint == 504:
            return found("hangs", seconds=trial.seconds)
        return found("fastcgi-fails", reason=error)
    if status[:1] == "5":
        return found("server-error", status=status, method=trial.method, target=trial.target)
    return None


def _run(trial: Trial, environ: Mapping[str, str], directory: Path) -> Ended:
    return run_bounded(
        trial.command,
        directory=directory,
        environ=environ,
        seconds=trial.seconds,
        account=trial.account,
    )


def _explain(trial: Trial, words: str) -> Finding | None:
    """Find what would have made it work."""
    here = Path.cwd()
    if here != trial.path.parent and _works(trial, {}, here):
        return found("works-elsewhere", place=here, detail=words)
    shell = {name: text for name, text in os.environ.items() if name not in trial.environ()}
    if _works(trial, shell, trial.path.parent):
        names = _needed(trial, shell)
        return found(
            "environment-needed",
            names=names or "variable that it needs",
            path=trial.path,
            detail=words,
        )
    return _about_module(trial, words)


def _about_module(trial: Trial, words: str) -> Finding | None:
    module = missing_module(words)
    if not module:
        return None
    program = trial.command[0]
    if len(trial.command) == 1:  # the script itself: its first line has the interpreter
        program = str(trial.extra.get("PORTICO_CHECK_INTERPRETER", program))
    other = interpreter.environment_with(module, trial.path)
    if other is not None:
        return found(
            "wrong-environment", program=program, module=module, other=other, detail=words
        )
    if module.partition(".")[0] == "portico":
        return found("no-portico", program=program, detail=words)
    return found("no-module", program=program, module=module, path=trial.path, detail=words)
