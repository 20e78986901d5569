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

from portico.config import resolve
from portico.config.application import load, name_of, require_application
from portico.config.examine import binds
from portico.errors import ConfigError
from portico.supervisor import worker
from portico.supervisor.generation import Service
from portico.supervisor.logfiles import LogFiles, start_logging
from portico.transports.listen import open_listeners

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from types import FrameType

    from portico.config.settings import Settings

log = logging.getLogger("portico")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with options")
    resolve.add_arguments(parser, positional=True)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says stop."""
    settings = _settle(arguments)
    read = (arguments.config,) if arguments.config else ()
    service = _make_service(settings, LogFiles(settings), read)
    start_logging(settings)
    if service.settings.workers and hasattr(os, "fork"):
        from portico.supervisor.service import supervise  # noqa: PLC0415 - POSIX only

        status = supervise(service, lambda: _make_service(_settle(arguments), service.files, read))
        log.info("stopped")
        return status
    _serve_alone(service)
    return 0


def _settle(arguments: argparse.Namespace) -> Settings:
    """Read the configuration.

    Raises:
        ConfigError: it has a mistake.
    """
    settings, _ = resolve.resolve(arguments, os.environ, arguments.config)
    require_application(settings)
    if settings.reload and not settings.workers:
        raise ConfigError("reload needs a parent process: have workers be 1 or more", key="reload")
    return settings


def _make_service(settings: Settings, files: LogFiles, read: tuple[str, ...]) -> Service:
    """Say what is to be served; raises `ConfigError` for a bind that cannot be."""
    return Service(
        settings=settings,
        binds=tuple(binds(settings)),
        load=partial(load, settings),
        name=name_of(settings),
        files=files,
        read=read,
    )


def _serve_alone(service: Service) -> None:
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
        worker.run(application, listeners, service.settings, files=service.files)
    finally:
        for listener in listeners:
            listener.close()  # removes the socket's file
        log.info("stopped")


def _on_signal(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's interface
    """End where nothing is served yet."""
    raise SystemExit(0)
