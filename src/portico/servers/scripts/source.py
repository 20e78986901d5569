"""What a script seems to be, told by its text, which is not run."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field

#: Module -> what a script is that imports it and calls neither `portico.run` nor flup.
_SERVERS = {
    "wsgiref": "a script for wsgiref's CGIHandler",
    "flipflop": "a FastCGI script for flipflop",
    "gevent_fastcgi": "a FastCGI script for gevent-fastcgi",
    "wfastcgi": "a script for wfastcgi",
    "fcgi": "a FastCGI script for an old fcgi.py",
    "cgi": "a plain CGI script for the module cgi, which Python 3.13 no longer has",
    "cgitb": "a plain CGI script for the module cgitb, which Python 3.13 no longer has",
}

#: Names of a WSGI application.
APPLICATIONS = ("application", "app")


@dataclass(frozen=True, slots=True)
class Source:
    """What the text says.

    Attributes:
        parsed: Whether the present Python reads it.
        serves: ``"portico"`` or ``"flup"`` where it is a script for that, else empty.
        defines: The name of the WSGI application that it defines; may be empty.
        kind: What else it seems to be.
    """

    parsed: bool = False
    serves: str = ""
    defines: str = ""
    kind: str = ""


@dataclass(slots=True)
class _Seen:
    modules: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)


def read_source(text: bytes) -> Source:
    """Look at a script; anything but Python gives an empty answer."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the script's own escapes
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Source()
    seen = _Seen()
    for node in ast.walk(tree):
        _note(node, seen)
    for node in tree.body:
        seen.assigned.update(_assigned(node))
    serves = ""
    if "portico" in seen.modules:
        serves = "portico" if seen.calls & {"run", "serve", "main"} else ""
    if "flup" in seen.modules:
        serves = "flup"
    defines = next((name for name in APPLICATIONS if name in seen.assigned), "")
    return Source(True, serves, defines, "" if serves else _kind(seen, defines))


def _kind(seen: _Seen, defines: str) -> str:
    for module, kind in _SERVERS.items():
        if module in seen.modules:
            return kind
    if "execl" in seen.calls and defines:
        return "a passenger_wsgi.py"
    if "run" in seen.calls and seen.modules & {"flask", "bottle"}:
        return "a program that opens a web server of its own by app.run()"
    if "execute_from_command_line" in seen.calls:
        return "Django's manage.py"
    if "print" in seen.calls or "write" in seen.calls:
        return "a plain CGI script that prints its own head"
    return "a module with a WSGI application" if defines else "no script for a web server"


def _note(node: ast.AST, seen: _Seen) -> None:
    if isinstance(node, ast.Import):
        seen.modules.update(alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        seen.modules.add(node.module.partition(".")[0])
    elif isinstance(node, ast.Call):
        target = node.func
        if isinstance(target, ast.Attribute):
            seen.calls.add(target.attr)
        elif isinstance(target, ast.Name):
            seen.calls.add(target.id)


def _assigned(node: ast.stmt) -> list[str]:
    """Name what a statement at the top of a module defines."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.ImportFrom | ast.Import):
        return [alias.asname or alias.name for alias in node.names]
    return []
