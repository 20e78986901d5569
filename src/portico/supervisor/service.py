"""Runs a service: the parent here, and in each process that it forks, the worker."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from portico.supervisor.fork import do
from portico.supervisor.notify import Notifier
from portico.supervisor.parent import Parent

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.supervisor.generation import Service


def supervise(service: Service, reread: Callable[[], Service]) -> int:
    """Serve with a parent and workers until a signal says stop; for the main thread alone.

    Returns:
        The exit status: 0, or 1 where requests had to be cut.

    Args:
        service: What is served.
        reread: Reads the configuration again, for a reload; raises `ConfigError`.

    Raises:
        PorticoError: a listener cannot be opened, or the first workers cannot serve.
        SystemExit: in a worker, at its end.
    """
    return do(Parent(service, reread, Notifier(os.environ)))
