"""Writes the files of a site on shared hosting: whole or not at all, and over nothing unasked."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from portico.errors import ConfigError
from portico.servers import hosting
from portico.servers.scripts import interpreter as interpreters
from portico.servers.scripts.process import run_bounded

if TYPE_CHECKING:
    from portico.servers.hosting import Hosting

#: Bits that suexec and mod_fcgid's wrappers refuse.
_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH

#: Octets of an `.htaccess` that is taken over.
_MOST_BYTES = 1 << 20

#: How long the application may take to load, seconds.
LOAD_SECONDS = 30.0

_LOAD = """\
import os, sys
sys.path[:0] = {path!r}
os.dup2(2, 1)
from portico.errors import ConfigError
from portico.loader import load_application
try:
    load_application({app!r}, directory={directory!r})
except ConfigError as error:
    sys.stderr.flush()
    os.write(2, b"\\0" + str(error).encode("utf-8", "backslashreplace"))
    os._exit(3)
os._exit(0)
"""


@dataclass(frozen=True, slots=True)
class File:
    """One file to be written.

    Attributes:
        path: Where.
        text: What it will hold.
        mode: Its permissions.
        before: What it holds now; None where it is new.
    """

    path: Path
    text: str
    mode: int
    before: str | None

    @property
    def changes(self) -> bool:
        """Whether writing it changes anything."""
        return self.before != self.text


def find_interpreter(program: str) -> interpreters.Interpreter:
    """Find the Python of a site, which has Portico.

    Args:
        program: Its path, made absolute; a symbolic link stays one, since a virtual environment
            is told by it.

    Raises:
        ConfigError: it is not there, too old, or has no Portico.
    """
    path = os.path.abspath(program)  # noqa: PTH100 - Path.absolute leaves .. in it
    if not os.access(path, os.X_OK) or Path(path).is_dir():
        raise ConfigError(f"there is no interpreter {path}", key="python")
    asked = interpreters.ask(path)
    if not asked.version:
        reason = asked.reason or "it is no Python"
        raise ConfigError(f"{path} does not start: {reason}", key="python")
    version = ".".join(map(str, asked.version))
    if asked.version < interpreters.OLDEST:
        raise ConfigError(f"{path} is Python {version}; Portico needs 3.11 or later", key="python")
    if not asked.has_portico:
        raise ConfigError(
            f"{path} has no Portico: {path} -m pip install portico",
            key="python",
        )
    return asked


def why_not_loaded(site: Hosting) -> str:
    """Load the application with the site's interpreter, as a web server would.

    Returns:
        Why that fails, with the traceback below; empty where it works.
    """
    code = _LOAD.format(path=list(site.path), app=site.app, directory=site.directory)
    ended = run_bounded(
        [site.interpreter, "-c", code],
        directory=Path(site.directory),
        environ=interpreters.bare_environ(),
        seconds=LOAD_SECONDS,
    )
    if ended.hung:
        return f"the application does not load within {LOAD_SECONDS:g} seconds"
    if ended.status == 0:
        return ""
    _, mark, reason = ended.words.partition("\0")
    return reason if mark else f"loading the application ends its process\n{ended.words.rstrip()}"


def refusal(directory: Path) -> str:
    """Say what of a script's directory a web server with suexec would refuse; empty if nothing."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    if not mode & _FOR_OTHERS:
        return ""
    return (
        f"{directory} may be written by others than its owner (mode {mode:o}), and suexec starts"
        f" nothing there: chmod {mode & ~_FOR_OTHERS:o} {directory}"
    )


def check_directory(directory: Path) -> None:
    """Check that files can be written into *directory*.

    Raises:
        ConfigError: they cannot.
    """
    if not os.access(directory, os.F_OK):
        raise ConfigError(f"{directory} is not there: mkdir -p it", key="directory")
    if not directory.is_dir():
        raise ConfigError(f"{directory} is no directory", key="directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"{directory} is not yours to write in", key="directory")


def plan(site: Hosting, directory: Path) -> list[File]:
    """Tell what is to be written into *directory*.

    Raises:
        ConfigError: an `.htaccess` that cannot be read or taken over.
    """
    path = directory / site.name
    files = [File(path, hosting.render(site), 0o755, _text_of(path))]
    if site.kind != "passenger":
        path = directory / ".htaccess"
        before = _text_of(path)
        text = hosting.merge(before or "", hosting.htaccess(site))
        mode = stat.S_IMODE(path.stat().st_mode) if before is not None else 0o644
        files.append(File(path, text, mode & ~_FOR_OTHERS, before))
    return files


def write(file: File) -> None:
    """Write a file so that it is there whole or not at all, with its permissions.

    Raises:
        ConfigError: it cannot be written.
    """
    target = file.path.resolve()  # a link to it stays one
    descriptor, name = -1, ""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(file.text)
            opened.flush()
            os.fchmod(opened.fileno(), file.mode)
            os.fsync(opened.fileno())
        Path(name).replace(target)
    except OSError as error:
        if name:
            with contextlib.suppress(OSError):
                Path(name).unlink()
        raise ConfigError(
            f"{file.path} cannot be written: {error.strerror}", key="directory"
        ) from error


def closed_names(directory: Path) -> tuple[str, ...]:
    """Name the directories in *directory* that visitors must not see: virtual environments."""
    return tuple(sorted(path.parent.name for path in directory.glob("*/pyvenv.cfg")))


def _text_of(path: Path) -> str | None:
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a directory", key="directory")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", key="directory") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path} has more than {_MOST_BYTES} bytes", key="directory")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8, and is left as it is", key="directory") from None
