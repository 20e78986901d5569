"""Serve one CGI request with an application, in a process that a web server started for it.

  exec portico cgi /home/me/site/wsgi.py --warm      in a shell script that the web server runs
  portico cgi mysite.wsgi:application --mount=/app

APP is a file or module:callable, as for `portico serve`. What a Python script says with
portico.run("...", warm=True) this says for a script in another language. Any option of `portico
serve` may follow as --name=value; --warm, or --warm=DIRECTORY, has a resident server answer, which
the first request starts.
"""

from __future__ import annotations

import argparse

from portico.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("app", metavar="APP", help="file, or module:callable")
    # written down alone: what serves a request reads its command line itself (`portico.__main__`)
    parser.add_argument(
        "options",
        metavar="--OPTION[=VALUE]",
        nargs=argparse.REMAINDER,
        help="--warm[=DIRECTORY], or one of portico serve",
    )


def run(arguments: argparse.Namespace) -> int:
    """Refuse: requests never come here.

    Raises:
        ConfigError: this process was started by hand.
    """
    raise ConfigError(
        f"portico cgi {arguments.app} is for a web server to start, which says in the environment"
        " what is asked for (REQUEST_METHOD); to see the application in a browser: portico up"
        f" {arguments.app}"
    )
