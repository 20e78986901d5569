"""The files that a site on shared hosting needs: the script, `.htaccess`, `passenger_wsgi.py`.

Texts only; `kit` writes them.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Kind of hosting -> the name that its script has by default.
NAMES = {"cgi": "app.cgi", "fcgi": "app.fcgi", "passenger": "passenger_wsgi.py"}

#: What Portico owns of an `.htaccess` stands between these; all else is left as it is.
BEGIN = "# portico: begin"
END = "# portico: end"

#: Names that need no quoting in an `.htaccess`, and no escaping in a regular expression but for
#: the dot.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)

#: Ends of the names of files that are never for visitors: code, settings, data, keys, logs.
_HIDDEN_ENDS = (
    "py[cdo]?|wsgi|env|ini|cfg|conf|toml|ya?ml|sqlite3?|db|sql|log|pid|sock|pem|key|sh|bak|swp|orig"
)

#: Bytes of an interpreter's path that a first line has room for on every Linux.
_MOST_INTERPRETER_BYTES = 125

#: Begins the second line of a script that a shell starts and Python reads.
SHELL_START = "'''exec'"

_SCRIPT = """\
{start}
import sys

sys.path[:0] = {path!r}

import portico

portico.run({app!r}{options})
"""

_PASSENGER = '''\
"""What Passenger loads: `application`."""

import os
import sys

INTERPRETER = {interpreter!r}
PREFIX = {prefix!r}

# Passenger may start another Python than the one that has the application's packages: go over to
# that, once
if os.path.realpath(sys.prefix) != PREFIX and os.environ.get("PORTICO_PREFIX") != PREFIX:
    os.environ["PORTICO_PREFIX"] = PREFIX
    os.execl(INTERPRETER, INTERPRETER, *sys.argv)

sys.path[:0] = {path!r}

from portico.loader import load_application

application = load_application({app!r}, directory={directory!r})
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """One site on one host.

    Attributes:
        kind: A key of `NAMES`.
        app: The application as the command line names it; files by their full path.
        directory: Where its modules are looked for, absolute.
        interpreter: Absolute path of the Python that has its packages.
        prefix: That Python's virtual environment.
        name: The script's file name.
        path: What is put in front of `sys.path`.
        mount: Where the site is mounted, ``""`` or ``"/app"``; None leaves it to the web server.
        options: What else `portico.run` is given by name.
        static: Directories' names below the script's own that the web server serves itself.
        closed: Names of directories beside the script that are never for visitors, such as a
            virtual environment.
    """

    kind: str
    app: str
    directory: str
    interpreter: str
    prefix: str = ""
    name: str
    path: tuple[str, ...] = ()
    mount: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    static: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _PLAIN_NAME.fullmatch(self.name):
            raise ConfigError(
                f"the script's name is {self.name!r}: have it consist of letters, digits, dots,"
                " hyphens and underscores",
                key="name",
            )


def script(interpreter: str, path: Sequence[str], app: str, options: Mapping[str, object]) -> str:
    """Give the text of a script that a web server starts as CGI or FastCGI."""
    words = "".join(f", {name}={value!r}" for name, value in options.items())
    return _SCRIPT.format(start=start(interpreter), path=list(path), app=app, options=words)


def start(interpreter: str) -> str:
    """Give the first lines of a script for *interpreter*.

    The system splits a first line at blanks and reads 127 bytes of it, on old Linux. A path that
    does not fit in there is for a shell to start: it takes the second line for a command, and
    Python takes it for the beginning of a text.
    """
    if len(interpreter.encode()) <= _MOST_INTERPRETER_BYTES and not re.search(r"\s", interpreter):
        return f"#!{interpreter}"
    if re.search(r"[\n\r\\']", interpreter):
        raise ConfigError(
            f"the interpreter's path {interpreter!r} cannot stand in a script: reach it by a"
            " symbolic link",
            key="python",
        )
    return f"#!/bin/sh\n{SHELL_START} {shlex.quote(interpreter)} \"$0\" \"$@\"\n' '''"


def render(hosting: Hosting) -> str:
    """Give the text of the script, or of `passenger_wsgi.py`."""
    if hosting.kind == "passenger":
        return _PASSENGER.format(
            interpreter=hosting.interpreter,
            prefix=hosting.prefix,
            path=list(hosting.path),
            app=hosting.app,
            directory=hosting.directory,
        )
    options = dict(hosting.options)
    if hosting.mount is not None:
        options = {"mount": hosting.mount, **options}
    return script(hosting.interpreter, hosting.path, hosting.app, options)


def htaccess(hosting: Hosting) -> str:
    """Give what Portico owns of the `.htaccess` in the script's directory, markers included."""
    lines = [
        BEGIN,
        "# Written by portico init, which replaces what stands between these two lines.",
        "# A 500 where this file is new: the host forbids one of its lines, which its error log",
        "# names; Options is the first to try without.",
        "Options +ExecCGI +SymLinksIfOwnerMatch -Indexes",
        *_handler(hosting),
        "",
        "# let the application see Authorization",
        "<IfModule setenvif_module>",
        '    SetEnvIf Authorization "^(.+)$" HTTP_AUTHORIZATION=$1',
        "</IfModule>",
        "",
        "<IfModule rewrite_module>",
        *_indent(_rewriting(hosting)),
        "</IfModule>",
        "<IfModule !rewrite_module>",
        *_indent(_without_rewriting(hosting)),
        "</IfModule>",
        END,
    ]
    return "\n".join(lines) + "\n"


def merge(existing: str, block: str) -> str:
    """Put *block* into the text of an `.htaccess`: in the place of the last one, or at its end.

    Raises:
        ConfigError: the marker lines are not one pair.
    """
    lines = existing.splitlines(keepends=True)
    marks = [(at, line.strip()) for at, line in enumerate(lines) if line.strip() in {BEGIN, END}]
    if not marks:
        gap = "" if not existing or existing.endswith("\n\n") else "\n"
        end = "" if not existing or existing.endswith("\n") else "\n"
        return f"{existing}{end}{gap}{block}"
    if [text for _, text in marks] != [BEGIN, END]:
        raise ConfigError(
            f"the .htaccess has {len(marks)} of the lines {BEGIN!r} and {END!r}, and not one pair:"
            " take them out, and what Portico wrote between them",
            key="directory",
        )
    (first, _), (last, _) = marks
    return "".join([*lines[:first], block, *lines[last + 1 :]])


def _handler(hosting: Hosting) -> list[str]:
    """Have the web server start the script: as FastCGI where it can, never show its text."""
    suffix = "." + hosting.name.rpartition(".")[2]
    if hosting.kind == "cgi":
        return [f"AddHandler cgi-script {suffix}"]
    return [
        "<IfModule fcgid_module>",
        f"    AddHandler fcgid-script {suffix}",
        "</IfModule>",
        "<IfModule !fcgid_module>",
        "    # the same script as CGI: slower, and it works",
        f"    AddHandler cgi-script {suffix}",
        "</IfModule>",
    ]


def _rewriting(hosting: Hosting) -> list[str]:
    name = hosting.name
    closed = "".join(f"|^{_pattern(directory)}(?:/|$)" for directory in hosting.closed)
    static = [f"RewriteRule ^{_pattern(directory)}/ - [L]" for directory in hosting.static]
    return [
        "RewriteEngine On",
        *([f"RewriteBase {hosting.mount or '/'}"] if hosting.mount is not None else []),
        "<IfModule !setenvif_module>",
        "    RewriteCond %{HTTP:Authorization} .",
        "    RewriteRule ^ - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]",
        "</IfModule>",
        "# not for visitors: code, settings, data, and whatever begins with a dot",
        f"RewriteRule (?:^|/)\\.(?!well-known/){closed} - [NC,F]",
        "RewriteCond %{REQUEST_FILENAME} -f",
        f"RewriteCond %{{REQUEST_FILENAME}} \\.(?:{_HIDDEN_ENDS})$ [NC]",
        "RewriteRule ^ - [F]",
        *(["# the web server's own"] if static else []),
        *static,
        "# what is no file is the application's",
        "RewriteCond %{REQUEST_FILENAME} !-f",
        f"RewriteRule ^ {name} [L]",
    ]


def _without_rewriting(hosting: Hosting) -> list[str]:
    """Without mod_rewrite the site's first page is reached, and all others below the script."""
    return [
        "<IfModule dir_module>",
        f"    DirectoryIndex {hosting.name}",
        "</IfModule>",
        "<IfModule authz_core_module>",
        f'    <FilesMatch "(?i)^\\.|\\.(?:{_HIDDEN_ENDS})$">',
        "        Require all denied",
        "    </FilesMatch>",
        "</IfModule>",
    ]


def _pattern(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9/_-]", r"[\g<0>]", name)


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]
