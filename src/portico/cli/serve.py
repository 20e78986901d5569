"""Serve an application on one or more gateway sockets.

  portico serve site:app --bind fastcgi+unix:///run/site.sock?mode=660&group=www-data
  portico serve site.py --bind scgi://127.0.0.1:4000 --bind ajp://127.0.0.1:8009
  portico serve site.py --bind auto://127.0.0.1:9000      whichever protocol is spoken there

Every option can stand in a YAML file (--config) or in the environment (PORTICO_...) as well.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from portico.codecs import AUTO, PROTOCOLS
from portico.config import resolve
from portico.config.application import load_application
from portico.errors import ConfigError
from portico.supervisor import worker
from portico.transports.bind import parse
from portico.transports.listen import open_listeners

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from types import FrameType

    from portico.transports.bind import Bind

log = logging.getLogger("portico")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("app", metavar="APP", help="module:callable, module:factory() or a file")
    parser.add_argument("--config", metavar="FILE", help="YAML file with options")
    resolve.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says stop."""
    settings, _ = resolve.resolve(arguments, os.environ, arguments.config)
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s portico[%(process)d] %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    if not settings.bind:
        raise ConfigError(
            "nothing to listen on; add --bind, e.g. --bind scgi://127.0.0.1:4000", key="bind"
        )
    binds = [_parse(url) for url in settings.bind]
    application = load_application(arguments.app)
    early: list[int] = []
    _on_signal(lambda number, _: early.append(number))  # no socket must be left half made
    listeners = open_listeners(binds)
    try:
        _on_signal(_leave)  # the worker's own take over once it runs
        if early:
            return 0
        for listener in listeners:
            log.info(
                "serving %s on %s (up to %d threads)",
                arguments.app,
                listener.bind,
                settings.threads,
            )
        worker.run(application, listeners, settings)
    finally:
        for listener in listeners:
            listener.close()  # removes the socket's file
        log.info("stopped")
    return 0


def _parse(url: str) -> Bind:
    """Parse a bind that the codecs can serve."""
    bind = parse(url)
    if bind.protocol not in (*PROTOCOLS, AUTO):
        way = "; for a look at it in a browser: portico up" if "http" in bind.protocol else ""
        raise ConfigError(
            f"bind {bind}: no protocol {bind.protocol!a} can be served, only"
            f" {', '.join((*PROTOCOLS, AUTO))}{way}",
            key="bind",
        )
    return bind


def _on_signal(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's interface
    """End where nothing is served yet."""
    raise SystemExit(0)
