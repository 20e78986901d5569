"""`serve`, and what `run` does where there are sockets to listen on."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from portico.config.examine import binds as examined
from portico.config.examine import passed_binds
from portico.config.resolve import from_keywords
from portico.errors import ConfigError
from portico.loader import stand_in
from portico.supervisor import worker
from portico.supervisor.logfiles import LogFiles
from portico.transports.listen import open_listeners

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.config.settings import Settings
    from portico.transports.bind import Bind


def serve(application: Callable[..., Any], *binds: str, **options: Any) -> None:
    """Serve *application* on gateway sockets until a signal says stop.

    In this process; with ``workers=2`` and more, in as many that are forked from it, which this one
    watches and replaces. Those never come back here: they end where they are.

    Args:
        application: The WSGI callable.
        *binds: Bind URLs, such as ``"fastcgi+unix:///run/app.sock"``.
        **options: Settings by name, such as ``threads=16``.

    Raises:
        ConfigError: a bind URL or an option is wrong, or a log file cannot be opened.
        TransportError: a socket cannot be opened.
        SystemExit: in a worker, at its end.
    """
    settings = from_keywords({"bind": binds, **options})
    if not settings.bind:
        raise ConfigError(
            "nothing to listen on; name a bind, such as scgi://127.0.0.1:4000", key="bind"
        )
    if settings.reload:
        raise ConfigError(
            "only portico serve loads changed code: start the application with that", key="reload"
        )
    files = LogFiles(settings)
    try:
        found = examined(settings)
        if settings.workers > 1:
            _supervise(application, settings, found, files)
        else:
            worker.run(application, open_listeners(found), settings, files=files)
    finally:
        files.close()


def _supervise(
    application: Callable[..., Any], settings: Settings, binds: list[Bind], files: LogFiles
) -> None:
    """Serve with workers; a reload starts new ones with the same application."""
    is_main = threading.current_thread() is threading.main_thread()
    if not hasattr(os, "fork") or not is_main:
        raise ConfigError(
            f"workers is {settings.workers}: more than one needs fork() and the main thread; have"
            " it be 1",
            key="workers",
        )
    from portico.supervisor.generation import Service  # noqa: PLC0415 - POSIX only
    from portico.supervisor.service import supervise  # noqa: PLC0415 - likewise

    service = Service(
        settings=settings,
        binds=tuple(binds),
        load=lambda: application,
        name=getattr(application, "__name__", type(application).__name__),
        files=files,
    )
    supervise(service, lambda: service)


def serve_inherited(
    application: Callable[..., Any] | str,
    options: dict[str, Any],
    *,
    directory: str,
    debug: bool,
) -> None:
    """Serve on the listening socket that is descriptor 0.

    Args:
        application: The WSGI callable, or a text that names it.
        options: Settings by name.
        directory: Where an application that is named is looked for first.
        debug: Whether the reason is shown where it cannot be loaded.
    """
    from portico.supervisor.spawned import BIND, Spawned  # noqa: PLC0415 - for this alone

    spawned = Spawned(options)
    loaded = _loaded(application, directory, debug=debug)
    if not spawned.stand_by(loaded):
        serve(loaded, BIND, **spawned.options)


def serve_systemd(
    application: Callable[..., Any] | str,
    options: dict[str, Any],
    *,
    directory: str,
    debug: bool,
) -> None:
    """Serve on all of systemd's sockets, as `serve_inherited`.

    One whose name begins with a protocol's speaks that protocol.
    """
    serve(_loaded(application, directory, debug=debug), *passed_binds(os.environ), **options)


def _loaded(
    application: Callable[..., Any] | str, directory: str, *, debug: bool
) -> Callable[..., Any]:
    """Load an application that is named by a text, or give what stands in for it."""
    if not isinstance(application, str):
        return application
    return stand_in(application, directory, debug=debug)
