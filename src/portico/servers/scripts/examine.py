"""Looks at one script from all sides, as far as each side lets the next be seen."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portico.errors import ConfigError
from portico.servers.account import named
from portico.servers.scripts import interpreter
from portico.servers.scripts.fastcgi import try_as_fastcgi
from portico.servers.scripts.findings import Finding, by_importance, found
from portico.servers.scripts.first_line import read_first_line
from portico.servers.scripts.module import try_to_load
from portico.servers.scripts.reach import look_at_modes, look_for
from portico.servers.scripts.rewriting import look_beside
from portico.servers.scripts.source import APPLICATIONS, Source, read_source
from portico.servers.scripts.trial import Trial, try_as_cgi

if TYPE_CHECKING:
    from portico.servers.account import Account
    from portico.servers.scripts.interpreter import Interpreter

#: Octets of a script at most.
_MOST_BYTES = 1 << 20

#: Where no resident server's socket can lie.
_NOWHERE = "/nonexistent"

PASSENGER_NAME = "passenger_wsgi.py"

#: Found in the first line or the mode: the system would not start the script by itself.
_UNSTARTABLE = {
    "byte-order-mark",
    "crlf-first-line",
    "no-first-line",
    "relative-interpreter",
    "env-words",
    "first-line-too-long",
    "not-executable",
    "noexec",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """How a script is tried.

    Attributes:
        user: The web server's user, whose way to the script is walked; empty for none.
        target: Path and query of the sample request.
        seconds: How long a run may take.
    """

    user: str = ""
    target: str = "/"
    seconds: float = 20.0


def examine(path: Path, sample: Sample) -> list[Finding]:
    """Tell all that is found about a script, the most important first.

    The script is run: as CGI, a `.fcgi` as FastCGI; `passenger_wsgi.py` is loaded.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute leaves .. in it
    text, fault = _read(path)
    if fault is not None:
        return [fault]
    source = read_source(text.removeprefix(b"\xef\xbb\xbf"))
    loaded = _is_module(path, text, source)
    first = read_first_line(path, text, sys.executable)
    command = (sys.executable,) if loaded else first.command
    findings = [] if loaded else [*first.findings, *look_at_modes(path)]
    account, faults = _who_runs(path, command, sample.user, executed=not loaded)
    findings += faults
    if command and not (faults and _is_foreign(path)):
        starts_itself = not loaded and not any(each.code in _UNSTARTABLE for each in findings)
        trial = Trial(
            path=path,
            command=(str(path),) if starts_itself else (*command, str(path)),
            program=command[0],
            source=source,
            account=account,
            target=sample.target,
            seconds=sample.seconds,
            # plain CGI, whose errors come out here: a resident server would be left behind
            extra={"TMPDIR": _NOWHERE} if b"warm" in text else {},
        )
        findings += _try(trial, text, loaded=loaded)
    speaks_fastcgi = bool(source.serves) or "FastCGI" in source.kind
    findings += look_beside(path, fastcgi_too=speaks_fastcgi)
    return by_importance(findings)


def _is_foreign(path: Path) -> bool:
    """Whether root looks at what belongs to another user, and must not run it."""
    return os.geteuid() == 0 and path.stat().st_uid != 0


def _who_runs(
    path: Path, command: tuple[str, ...], user: str, *, executed: bool
) -> tuple[Account | None, list[Finding]]:
    """Choose the account that runs the script, None for the present user; and what it may not.

    Only root can choose: the web server's user, or, as suexec does, the script's owner.
    """
    foreign = _is_foreign(path)
    account = named(user) if user else named(path.stat().st_uid) if foreign else None
    if account is None:
        return None, [
            found("no-such-user", user=user or path.stat().st_uid)
        ] if user or foreign else []
    faults = [*look_for(account, path, executed=executed)]
    if command:
        faults += look_for(account, Path(command[0]), executed=True)
    may_choose = os.geteuid() == 0 and not faults
    return (account if may_choose else None), faults


def is_loaded(path: Path) -> bool:
    """Whether *path* is a file that is loaded by who serves it, and not started."""
    text, fault = _read(path)
    return fault is None and _is_module(path, text, read_source(text))


def _is_module(path: Path, text: bytes, source: Source) -> bool:
    """Whether a file is loaded by who serves it, as Passenger does, and not started."""
    if path.name == PASSENGER_NAME:
        return True
    imported = path.suffix in {".py", ".wsgi"} and not text.startswith(b"#!")
    return imported and not source.serves and bool(source.defines)


def _read(path: Path) -> tuple[bytes, Finding | None]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return b"", found("no-file", path=path)
        if status.st_size > _MOST_BYTES:
            return b"", found("too-large", path=path, size=status.st_size)
        return path.read_bytes(), None
    except FileNotFoundError:
        return b"", found("missing", path=path)
    except OSError as error:
        return b"", found("unreadable", path=path, reason=error.strerror)


def _try(trial: Trial, text: bytes, *, loaded: bool) -> list[Finding]:
    """Look at the interpreter, the syntax, and what happens."""
    asked = interpreter.ask(trial.program, trial.account)
    fault = _fault_of_python(asked, trial)
    if fault is not None:
        return [fault]
    findings: list[Finding] = []
    if asked.version:
        findings += _line_ends(trial.path, text)
    else:
        findings.append(found("not-python", program=trial.program))
    try:
        findings += _run(trial, loaded=loaded)
    except ConfigError as error:
        findings.append(
            found("interpreter-fails", program=trial.program, reason=error, wanted=sys.executable)
        )
    told = any(each.code == "defines-only" for each in findings)
    if trial.source.kind and asked.version and not loaded and not told:
        findings.append(found("other-program", kind=trial.source.kind))
    return findings


def _fault_of_python(asked: Interpreter, trial: Trial) -> Finding | None:
    """Tell what keeps the interpreter from reading the script."""
    program, wanted = trial.program, sys.executable
    if asked.reason:
        return found("interpreter-fails", program=program, reason=asked.reason, wanted=wanted)
    if not asked.version:
        return None
    if asked.version < interpreter.OLDEST and trial.source.serves == "portico":
        version = ".".join(map(str, asked.version))
        return found("interpreter-too-old", program=program, version=version, wanted=wanted)
    wrong = interpreter.first_syntax_error(program, trial.path, trial.account)
    if wrong is None:
        return None
    line, reason = wrong
    return found("syntax-error", line=line, path=trial.path, program=program, reason=reason)


def _run(trial: Trial, *, loaded: bool) -> list[Finding]:
    if loaded:
        names = APPLICATIONS[:1] if trial.path.name == PASSENGER_NAME else APPLICATIONS
        return try_to_load(trial, *names)
    if trial.path.suffix != ".fcgi":
        return try_as_cgi(trial)
    findings = try_as_fastcgi(trial)
    if findings and findings[0].code == "fastcgi-fails":
        findings += try_as_cgi(trial)  # tells more of what it does instead
    return findings


def _line_ends(path: Path, text: bytes) -> list[Finding]:
    lines = text.split(b"\n")
    if lines[0].endswith(b"\r"):
        return []  # told by the first line
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\r"):
            return [found("crlf", path=path, line=number)]
    return []
