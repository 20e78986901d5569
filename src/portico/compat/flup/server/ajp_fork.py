"""`flup.server.ajp_fork`: AJP with child processes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from portico.compat.flup.server import NoDefault
from portico.compat.flup.server import _arguments as arguments
from portico.compat.flup.server._server import LoggingServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["WSGIServer"]


class WSGIServer(LoggingServer):
    """flup's AJP server, with child processes.

    Args:
        application: The WSGI callable.
        scriptName: Path of the application; the root by default.
        environ: What is added to the environ of each request.
        bindAddress: (host, port) or the path of a Unix socket.
        allowedServers: Addresses that may connect by TCP; None for this machine alone.
        loggingLevel: Least level that is logged.
        debug: Whether an error page shows the traceback to the visitor.
        timeout: Seconds that a request may take; None for no limit.
        **kw: minSpare, maxSpare, maxChildren, maxRequests, sockTimeout.

    Raises:
        TypeError: an argument that there is not.
        ValueError: a pool that cannot be.
        ConfigError: a value that cannot be honoured.
    """

    _protocol = "ajp"
    _forks = True

    def __init__(
        self,
        application: Callable[..., Any],
        scriptName: Any = "",
        environ: Mapping[str, Any] | None = None,
        bindAddress: Any = ("localhost", 8009),
        allowedServers: Any = None,
        loggingLevel: int = logging.INFO,
        debug: bool = False,
        timeout: float | None = None,
        **kw: Any,
    ) -> None:
        pool = arguments.take_keywords(kw, arguments.PROCESSES, arguments.TAKEN_OUT_BY_FORKS)
        self._set_up_logging(
            application,
            environ,
            script_name=scriptName or NoDefault,
            multithreaded=False,
            multiprocess=True,
            timeout=timeout,
            address=bindAddress,
            umask=None,
            allowed=allowedServers,
            level=loggingLevel,
            debug=debug,
            pool=pool,
        )
