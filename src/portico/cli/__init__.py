"""The command ``portico``: each command imports its rooms when it is run."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from portico import __version__
from portico.errors import ConfigError, PorticoError
from portico.transports import stdio
from portico.transports.bind import did_you_mean

if TYPE_CHECKING:
    from typing import NoReturn

#: Command -> the line that `portico --help` shows. Each has a module of its name here, with
#: ``add_arguments(parser)`` and ``run(arguments) -> exit status``.
COMMANDS = {
    "up": "run an application behind a web server, here and now",
    "serve": "serve an application on one or more gateway sockets",
    "cgi": "serve one CGI request, in a process that a web server has started",
    "request": "send one request to an application server, as a web server would",
    "decode": "explain captured octets of a gateway protocol, and what is wrong with them",
    "config": "print the configuration of a web server for an application",
    "init": "write the script and the .htaccess for a host that starts scripts, and try them",
    "check": "show what is wrong with a configuration, or with a script that a web server starts",
    "migrate": "turn the configuration of uWSGI, gunicorn and others into Portico's",
    "status": "show how a service is doing: its workers, requests, counters",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; the process's own by default.

    Returns:
        Exit status: 0 done, 1 the job failed, 2 the user's input was wrong; 3 of `portico
            migrate`: something is left to decide.
    """
    stdio.open_missing()  # or the first socket would take the number of standard output
    if sys.stdout is None:
        sys.stdout = open(1, "w")  # noqa: SIM115 - the null device, until the end
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except PorticoError as error:
        print(f"portico: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _silence()
        return 0
    return status


def _run(arguments: list[str]) -> int:
    """Run the command that the first argument names; only its own module is imported."""
    command = arguments[0] if arguments else ""
    if command and command not in COMMANDS and not command.startswith("-"):
        raise ConfigError(f"there is no command {command!a}{did_you_mean(command, COMMANDS)}")
    parser = _make_parser()
    module = None
    if command in COMMANDS:
        module = import_module(f"portico.cli.{command}")
        parser = _Parser(prog=f"portico {command}", description=module.__doc__)
        module.add_arguments(parser)
    elif not command:
        parser.print_help(sys.stderr)
        return 2
    try:
        options = parser.parse_args(arguments[1:] if module else arguments)
        if module is None:
            parser.error("the command comes first")
    except SystemExit as end:  # argparse has said what is wrong, or has shown its help
        return int(end.code or 0)
    return int(module.run(options))


class _Parser(argparse.ArgumentParser):
    """Refuses in one sentence; its options are written out, since an abbreviation may not last."""

    def __init__(self, *, prog: str, description: str | None) -> None:
        super().__init__(
            prog=prog,
            description=(description or "").strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """End with the user's mistake, and where to read more."""
        sentence = message.removeprefix("argument ")
        self.exit(2, f"{self.prog}: {sentence} (see: {self.prog} --help)\n")


def _make_parser() -> _Parser:
    """Make the parser of a command line without a command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, line in COMMANDS.items()]
    parser = _Parser(
        prog="portico",
        description="Run any WSGI application behind any web server, over CGI, FastCGI, SCGI,"
        " AJP or uwsgi.\n\n"
        + "\n".join(["commands:", *lines])
        + "\n\n`portico COMMAND --help` shows what a command takes.",
    )
    parser.usage = "portico COMMAND ..."
    parser.add_argument("--version", action="version", version=f"portico {__version__}")
    return parser


def _silence() -> None:
    """Let the last flush of standard output, whose reader is gone, fail for nobody."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
