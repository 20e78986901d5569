"""The first line of a script: what the system makes of it, and which program it comes to."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from portico.servers.hosting import SHELL_START
from portico.servers.scripts.findings import Finding, found
from portico.servers.scripts.process import SEARCH

#: Bytes of a first line that Linux reads, ``#!`` included; a longer one is refused
#: (BINPRM_BUF_SIZE is 256 since 5.1, and was 128).
MOST_BYTES = 255
MOST_BYTES_BEFORE_5_1 = 127

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class FirstLine:
    """What the first line says.

    Attributes:
        command: Interpreter and its arguments, as far as they are known; else empty.
        findings: What keeps the system from starting the script.
    """

    command: tuple[str, ...]
    findings: tuple[Finding, ...]


def read_first_line(path: Path, text: bytes, wanted: str) -> FirstLine:
    """Look at the first line of *text*.

    Args:
        path: The script.
        text: What it holds.
        wanted: The interpreter to recommend.
    """
    findings = []
    if text.startswith(_BOM):
        findings.append(found("byte-order-mark", path=path))
        text = text.removeprefix(_BOM)
    line = text.partition(b"\n")[0]
    if not line.startswith(b"#!") or not line[2:].strip():
        return FirstLine((), (*findings, found("no-first-line", path=path, wanted=wanted)))
    ends_in_cr = line.endswith(b"\r")
    if len(line) > MOST_BYTES:
        findings.append(found("first-line-too-long", size=len(line), most=MOST_BYTES))
    elif len(line) > MOST_BYTES_BEFORE_5_1:
        findings.append(found("first-line-long", size=len(line)))
    program, *rest = os.fsdecode(line[2:].removesuffix(b"\r").strip()).split(maxsplit=1)
    if ends_in_cr:
        findings.append(found("crlf-first-line", path=path, program=program))
    command: tuple[str, ...]
    if Path(program).name == "sh" and (behind := _behind_shell(text)):
        command, fault = (behind,), _fault_of(behind, wanted)
    elif Path(program).name == "env":
        command, fault = _through_env(program, rest, wanted)
    else:
        command, fault = (program, *rest), _fault_of(program, wanted)
    if fault is not None:
        findings.append(fault)
    usable = fault is None or fault.code in {"relative-interpreter", "env-words"}
    return FirstLine(command if usable else (), tuple(findings))


def _fault_of(program: str, wanted: str) -> Finding | None:
    if not program.startswith("/"):
        return found("relative-interpreter", program=program, wanted=wanted)
    if not os.access(program, os.F_OK):
        return found("no-interpreter", program=program, wanted=wanted)
    if not os.access(program, os.X_OK) or Path(program).is_dir():
        return found("interpreter-not-executable", program=program)
    return None


def _through_env(
    program: str, rest: list[str], wanted: str
) -> tuple[tuple[str, ...], Finding | None]:
    """Find the program that ``env`` would find with a web server's PATH."""
    if not os.access(program, os.F_OK):
        return (), found("no-interpreter", program=program, wanted=wanted)
    words = rest[0].split() if rest else []
    splits = words[:1] == ["-S"]
    fault = None
    if splits:
        words = words[1:]
    elif len(words) > 1:
        fault = found("env-words", words=rest[0], wanted=wanted)
    while words and "=" in words[0]:
        words = words[1:]
    if not words:
        return (), found("no-first-line", path=program, wanted=wanted)
    there = shutil.which(words[0], path=SEARCH)
    if there is None:
        missing = found("no-program-in-path", program=words[0], search=SEARCH, wanted=wanted)
        return (), missing
    return (there, *words[1:]), fault


def _behind_shell(text: bytes) -> str:
    """Name the interpreter that the second line has a shell start, as `portico init` and pip do."""
    line = os.fsdecode(text.split(b"\n", 2)[1]) if text.count(b"\n") > 1 else ""
    if not line.startswith(SHELL_START):
        return ""
    try:
        words = shlex.split(line.removeprefix(SHELL_START))
    except ValueError:
        return ""
    return words[0] if words else ""
