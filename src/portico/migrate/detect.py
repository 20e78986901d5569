"""Tells whose configuration a file is, and reads it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from portico.migrate import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.migrate.model import Plan

#: What --from takes -> whose configuration that is.
KINDS = {
    "uwsgi": "uWSGI's options: INI, XML, YAML or JSON",
    "gunicorn": "gunicorn.conf.py",
    "wfastcgi": "Web.config or applicationHost.config of IIS",
    "script": "a Python script that starts a server",
}

_KNOWN = "known are uwsgi.ini (or XML, YAML, JSON), gunicorn.conf.py, Web.config and scripts"


def read(path: str, kind: str = "") -> Plan:
    """Read a configuration.

    Args:
        path: The file; for uWSGI also ``file:section``.
        kind: One of `KINDS`; found out by default.

    Raises:
        ConfigError: it cannot be read or parsed, or is of no kind that is known.
    """
    kind = kind or find_kind(path)
    reader = cast("Callable[[str], Plan]", import_module(f"portico.migrate.{kind}").read)
    return reader(path)


def find_kind(path: str) -> str:
    """Find out whose configuration a file is.

    Raises:
        ConfigError: it cannot be read, or is of no kind that is known.
    """
    name = Path(path).name.lower()
    file = path
    if not files.is_file(path) and ":" in name:
        file = path.rpartition(":")[0]
    text = files.read(file)
    suffix = Path(file).suffix.lower()
    if suffix in {".yaml", ".yml", ".json", ".js"}:
        return _mapping_kind(file, text)
    if suffix in {".xml", ".config"} or text.lstrip().startswith("<"):
        return "uwsgi" if re.search(r"<uwsgi[\s>]", text) else "wfastcgi"
    if re.search(r"^\s*\[uwsgi\]", text, re.MULTILINE) or (file != path and suffix == ".ini"):
        return "uwsgi"
    first = text.partition("\n")[0]
    is_python = suffix in {".py", ".fcgi", ".cgi", ".wsgi", ".scgi"}
    if is_python or (first.startswith("#!") and "python" in first):
        return _python_kind(file, text)
    if suffix == ".ini":
        raise files.refusal(file, 0, _ini_fault(text))
    raise files.refusal(file, 0, f"is of no kind that is known; {_KNOWN}, or say --from KIND")


def _mapping_kind(path: str, text: str) -> str:
    if re.search(r"^\s*\{?\s*[\"']?uwsgi[\"']?\s*:", text, re.MULTILINE):
        return "uwsgi"
    raise files.refusal(path, 0, f"has no uwsgi: at its beginning; {_KNOWN}")


def _ini_fault(text: str) -> str:
    if re.search(r"^\s*\[(app|server|composite|pipeline):", text, re.MULTILINE):
        return (
            "is a PasteDeploy file: write a script with application = paste.deploy.loadapp"
            "('config:/path/of/it'), and serve that"
        )
    return "has no section [uwsgi]; to read another one, write FILE:SECTION"


def _python_kind(path: str, text: str) -> str:
    from portico.migrate import gunicorn, script  # noqa: PLC0415 - ast: 10 ms, for Python alone

    if script.starts_server(text, path):
        return "script"
    if gunicorn.has_settings(text, path):
        return "gunicorn"
    raise files.refusal(
        path,
        0,
        "starts no server that is known and has no setting of gunicorn's; say --from KIND",
    )
