"""flup's servers that fork: Portico's parent and its workers, with flup's signals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from portico.supervisor.fork import do
from portico.supervisor.generation import Service
from portico.supervisor.notify import Notifier
from portico.supervisor.parent import Parent

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.config.settings import Settings
    from portico.supervisor.logfiles import LogFiles
    from portico.transports.bind import Bind


def serve(
    application: Callable[..., Any],
    bind: Bind,
    settings: Settings,
    least: int,
    files: LogFiles,
) -> bool:
    """Serve by children until a signal says stop; for the main thread alone.

    Args:
        application: The WSGI callable.
        bind: Where to listen.
        settings: All settings; ``workers`` is the most children.
        least: The fewest.
        files: The log files.

    Returns:
        Whether SIGHUP was the first signal to say so.

    Raises:
        PorticoError: the socket cannot be opened.
        SystemExit: in a child, at its end.
    """
    service = Service(
        settings=settings,
        binds=(bind,),
        load=lambda: application,
        name="the application",
        files=files,
        least=least,
    )
    parent = _Parent(service, lambda: service, Notifier(os.environ))
    do(parent)
    return parent.hung_up


class _Parent(Parent):
    """A parent that ends at SIGHUP, and leaves its children time at SIGINT.

    SIGUSR1 replaces all children, each when it has finished what it does.

    Attributes:
        hung_up: Whether SIGHUP was the first signal to say stop.
    """

    hung_up = False

    def reload(self) -> None:
        """Stop; the caller of `run` loads its program anew."""
        self.hung_up = self.hung_up or not self._stopping
        self._stop()

    def _stop_at_once(self) -> None:
        if self._stopping:
            super()._stop_at_once()
        else:
            self._stop()

    def _reopen(self) -> None:
        super().reload()
