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
from functools import partial
from typing import TYPE_CHECKING

from portico.codecs import AUTO, PROTOCOLS
from portico.config import resolve
from portico.config.application import load_application
from portico.errors import ConfigError
from portico.supervisor import worker
from portico.supervisor.generation import Service
from portico.supervisor.logfiles import LogFiles, start_logging
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
    service = _read(arguments)
    files = LogFiles(service.settings)
    start_logging(service.settings)
    if service.settings.workers and hasattr(os, "fork"):
        from portico.supervisor.service import supervise  # noqa: PLC0415 - POSIX only

        status = supervise(service, lambda: _read(arguments))
        log.info("stopped")
        return status
    _serve_alone(service, files)
    return 0


def _read(arguments: argparse.Namespace) -> Service:
    """Read the configuration.

    Raises:
        ConfigError: it has a mistake.
    """
    settings, _ = resolve.resolve(arguments, os.environ, arguments.config)
    if not settings.bind:
        raise ConfigError(
            "nothing to listen on; add --bind, e.g. --bind scgi://127.0.0.1:4000", key="bind"
        )
    return Service(
        settings=settings,
        binds=tuple(_parse(url) for url in settings.bind),
        load=partial(load_application, arguments.app),
        name=arguments.app,
    )


def _serve_alone(service: Service, files: LogFiles) -> None:
    """Serve in this very process."""
    application = service.load()
    early: list[int] = []
    _on_signal(lambda number, _: early.append(number))  # no socket must be left half made
    listeners = open_listeners(service.binds)
    try:
        _on_signal(_leave)  # the worker's own take over once it runs
        if early:
            return
        for listener in listeners:
            log.info(
                "serving %s on %s (up to %d threads)",
                service.name,
                listener.bind,
                service.settings.threads,
            )
        worker.run(application, listeners, service.settings, files=files)
    finally:
        for listener in listeners:
            listener.close()  # removes the socket's file
        log.info("stopped")


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
