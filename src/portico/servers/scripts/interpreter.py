"""The Python that a script is started with: its age, what it has, and where what it lacks is."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from portico.errors import ConfigError
from portico.servers.scripts.process import SEARCH, run_bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.servers.account import Account

OLDEST = (3, 11)

#: In words that Python 2 knows as well. What it prints begins with a NUL, so that nothing that a
#: startup file prints is taken for it.
_LOOK = """\
import json, sys
found = {"version": list(sys.version_info[:3]), "prefix": sys.prefix, "portico": False}
try:
    import portico
    found["portico"] = True
except Exception:
    pass
sys.stdout.write("\\0" + json.dumps(found))
"""

#: Compiles a file without running it; argument: the file.
_COMPILE = """\
import sys
with open(sys.argv[1], "rb") as file:
    text = file.read()
try:
    compile(text, sys.argv[1], "exec", dont_inherit=True)
except SyntaxError:
    error = sys.exc_info()[1]
    sys.stdout.write("\\0%d %s" % (error.lineno or 0, error.msg))
except ValueError:
    sys.stdout.write("\\0%d %s" % (1, sys.exc_info()[1]))
"""

_SECONDS = 20.0

#: Places where virtual environments are looked for: counts.
_MOST_PLACES = 12
_MOST_ENTRIES = 200


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What a Python says of itself.

    Attributes:
        program: Its path.
        version: Such as ``(3, 11, 2)``; empty for what is no Python.
        prefix: Its virtual environment, or where it is installed.
        has_portico: Whether it can import Portico.
        reason: Why it could not be asked; may be empty.
    """

    program: str
    version: tuple[int, ...] = ()
    prefix: str = ""
    has_portico: bool = False
    reason: str = ""


def ask(program: str, account: Account | None = None) -> Interpreter:
    """Start *program* as a Python that says what it is.

    Nothing else is started: a shell would take the words for commands.
    """
    names = {Path(program).name, Path(program).resolve().name}
    if not any(name.startswith(("python", "pypy")) for name in names):
        return Interpreter(program)
    try:
        ended = run_bounded(
            [program, "-c", _LOOK],
            directory=Path("/"),
            environ=bare_environ(),
            seconds=_SECONDS,
            account=account,
        )
    except ConfigError as error:
        return Interpreter(program, reason=str(error))
    text = ended.out.rpartition(b"\0")[2]
    try:
        answer = json.loads(text)
        return Interpreter(
            program,
            tuple(answer["version"]),
            str(answer["prefix"]),
            bool(answer["portico"]),
        )
    except (ValueError, KeyError, TypeError):
        lines = ended.words.strip().splitlines()
        reason = lines[-1] if lines else f"it ended with status {ended.status}"
        return Interpreter(program, reason=reason)


def first_syntax_error(
    program: str, path: Path, account: Account | None = None
) -> tuple[int, str] | None:
    """Have *program* compile the script; gives line and reason where it cannot."""
    try:
        ended = run_bounded(
            [program, "-c", _COMPILE, str(path)],
            directory=Path("/"),
            environ=bare_environ(),
            seconds=_SECONDS,
            account=account,
        )
    except ConfigError:
        return None
    _, mark, text = ended.out.partition(b"\0")
    if not mark:
        return None
    line, _, reason = text.decode("utf-8", "replace").partition(" ")
    return int(line), reason


def bare_environ() -> dict[str, str]:
    """Give the environment of a web server that was started at boot."""
    return {"PATH": SEARCH, "PYTHONFAULTHANDLER": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def environments(path: Path) -> Iterator[Path]:
    """Give virtual environments near *path* and where hosts put them, each once."""
    home = Path.home()
    places = [Path(os.environ["VIRTUAL_ENV"])] if "VIRTUAL_ENV" in os.environ else []
    places.append(Path(sys.prefix))
    parents = [parent for parent in path.absolute().parents if len(parent.parts) > 1]
    for parent in (*parents[:_MOST_PLACES], home):
        places += _children(parent)
    for parent in (home / "virtualenv", home / ".virtualenvs"):  # cPanel's, virtualenvwrapper's
        for child in _children(parent):
            places += [child, *_children(child)]
            for inner in _children(child):
                places += _children(inner)
    known = set()
    for place in places:
        if place not in known and os.access(place / "pyvenv.cfg", os.R_OK):
            known.add(place)
            yield place


def environment_with(module: str, path: Path) -> Path | None:
    """Find a virtual environment that has *module*."""
    name = module.partition(".")[0]
    for place in environments(path):
        for packages in islice(place.glob("lib/python*/site-packages"), _MOST_PLACES):
            if any(os.access(packages / part, os.R_OK) for part in (name, f"{name}.py")):
                return place
            if any(packages.glob(f"__editable__*{name}*")):
                return place
    return None


def _children(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(e.path) for e in islice(entries, _MOST_ENTRIES) if e.is_dir()]
    except OSError:
        return []
