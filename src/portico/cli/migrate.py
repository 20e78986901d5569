"""Turn the configuration of another server into Portico's, and list what is not carried over.

  portico migrate uwsgi.ini                        INI, XML, YAML or JSON of uWSGI
  portico migrate gunicorn.conf.py
  portico migrate Web.config                       wfastcgi under IIS
  portico migrate trac.fcgi                        a script that starts flup, waitress and others

FILE is read and never executed. The configuration goes to standard output with a report as its
comments; -o writes it to a file, and the report to standard output. The exit status is 0 where
nothing is left to decide, 3 where something is, 2 where FILE cannot be taken.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from portico.errors import ConfigError, PorticoError
from portico.migrate import detect
from portico.migrate.document import as_json, document, is_complete, report, summary
from portico.servers import catalog
from portico.servers.site import Site
from portico.transports import bind as binds

if TYPE_CHECKING:
    import argparse

    from portico.migrate.model import Plan

#: Exit status where something is left to decide.
LEFT_OVER = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="what is to be migrated")
    parser.add_argument(
        "--from",
        dest="kind",
        choices=list(detect.KINDS),
        help="whose FILE is; told by its name and contents by default",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the configuration there; must not exist yet"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Read, and say what it is in Portico's terms.

    Raises:
        ConfigError: the file cannot be taken, or there is one already where the output goes.
    """
    plan = detect.read(arguments.file, arguments.kind or "")
    file = str(PurePath(plan.directory) / "portico.yaml")
    if arguments.output:
        file = os.path.abspath(arguments.output)  # noqa: PTH100 - the command may run elsewhere
    front = _front(plan)
    if arguments.output:
        _write(arguments.output, document(plan, file, front), arguments.file)
    if arguments.json:
        print(json.dumps(as_json(plan, file, front), indent=2))
    elif arguments.output:
        print(report(plan, file, front), end="")
    else:
        sys.stdout.write(document(plan, file, front))
    print(f"portico: {summary(plan)}", file=sys.stderr)
    return 0 if is_complete(plan) else LEFT_OVER


def _front(plan: Plan) -> str:
    """Give the web server's lines where they change."""
    if plan.front is None or not plan.front.bind:
        return ""
    try:
        site = Site(
            via="",
            bind=binds.parse(plan.front.bind),
            body_limit_bytes=plan.front.body_limit,
            timeout_seconds=plan.front.timeout,
            mount=str(plan.settings.get("mount", "")).rstrip("/"),
            application=str(plan.settings.get("app", "")),
        )
        return catalog.render(catalog.find_product("nginx"), site)
    except ConfigError as error:  # a path that cannot stand in nginx's configuration
        return f"# portico config nginx prints the lines, with another address: {error}\n"


def _write(path: str, text: str, source: str) -> None:
    """Write a new file; whoever may read the source may read it.

    Raises:
        ConfigError: there is one already.
        PorticoError: it cannot be written.
    """
    data = text.encode("utf-8", "surrogateescape")
    try:
        mode = Path(source).stat().st_mode & 0o666
    except OSError:  # FILE:SECTION
        mode = 0o640
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise ConfigError(f"{path} is there already, and is left as it is", key="output") from None
    except OSError as error:
        raise PorticoError(f"{path} cannot be written: {error.strerror}") from error
