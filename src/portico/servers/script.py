"""The script that a web server starts for CGI and mod_fcgid, as `portico up` writes it."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import portico
from portico.errors import ConfigError
from portico.loader import anchored
from portico.servers.account import may, unprivileged

if TYPE_CHECKING:
    from portico.servers.account import Account

#: Where another account finds a Python when the present one lies in a closed home directory.
_SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")

_SCRIPT = """\
#!{interpreter}
import sys

sys.path[:0] = {path!r}

import portico

portico.run({app!r}, **{options!r})
"""


def write_script(
    directory: Path, app: str, *, drops_privileges: bool, options: dict[str, object]
) -> Path:
    """Write an executable script that serves *app* by `portico.run`.

    Args:
        directory: Where it is written: a private temporary directory.
        app: The application as the command line names it, relative to the working directory.
        drops_privileges: Whether the web server starts scripts as another account when root
            starts it; then everything that the script needs must be within that account's reach.
        options: What `portico.run` is given by name.

    Raises:
        ConfigError: the account cannot reach a Python or the application.
    """
    account = unprivileged() if drops_privileges else None
    here = Path.cwd()
    package = Path(portico.__file__).resolve().parent
    interpreter = sys.executable
    path = [str(package.parent), str(here)]
    if account is not None:
        interpreter = _find_interpreter(account)
        if not _reaches(account, package / "entry.py"):
            shutil.copytree(package, directory / "lib" / "portico")
            path[0] = str(directory / "lib")
        file = Path(app.rpartition(":")[0] or app)
        if file.is_file() and not _reaches(account, file.resolve()):
            raise ConfigError(
                f"started by root, the web server runs scripts as {account.user}, who cannot"
                f" reach {file}: move it to a place that others may read",
                key="app",
            )
        if not _reaches(account, here / "x"):
            here = directory
    script = directory / "app.cgi"
    text = _SCRIPT.format(
        interpreter=interpreter,
        path=path,
        app=anchored(app),  # the web server chooses the working directory
        options=options,
    )
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    return script


def _find_interpreter(account: Account) -> str:
    """Find a Python, new enough, that *account* may start."""
    for name in (sys.executable, *_SYSTEM_PYTHONS):
        if not (Path(name).exists() and _reaches(account, Path(name))):
            continue
        if name == sys.executable or _is_new_enough(name):
            return name
    raise ConfigError(
        f"started by root, the web server runs scripts as {account.user}, who cannot reach"
        f" {sys.executable}, and there is no other Python 3.11 in {', '.join(_SYSTEM_PYTHONS)}",
        key="via",
    )


def _is_new_enough(interpreter: str) -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    done = subprocess.run([interpreter, "-c", check], check=False, timeout=20)  # noqa: S603 - our words
    return done.returncode == 0


def _reaches(account: Account, path: Path) -> bool:
    """Whether *account* may pass through all directories above *path*, links followed too."""
    places = [*path.parents, *path.resolve().parents]
    return all(may(account, place, stat.S_IXOTH) for place in places if place.is_dir())
