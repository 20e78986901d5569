"""`flup.server.ajp`: AJP with threads."""

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
    """flup's AJP server, with threads.

    Args:
        application: The WSGI callable.
        scriptName: Path of the application; the root by default.
        environ: What is added to the environ of each request.
        multithreaded: Whether requests run beside each other.
        multiprocess: What ``wsgi.multiprocess`` is.
        bindAddress: (host, port) or the path of a Unix socket.
        allowedServers: Addresses that may connect by TCP; None for this machine alone.
        loggingLevel: Least level that is logged.
        debug: Whether an error page shows the traceback to the visitor.
        **kw: minSpare, maxSpare, maxThreads.

    Raises:
        TypeError: an argument that there is not.
        ValueError: a pool that cannot be.
        ConfigError: a value that cannot be honoured.
    """

    _protocol = "ajp"

    def __init__(
        self,
        application: Callable[..., Any],
        scriptName: Any = "",
        environ: Mapping[str, Any] | None = None,
        multithreaded: bool = True,
        multiprocess: bool = False,
        bindAddress: Any = ("localhost", 8009),
        allowedServers: Any = None,
        loggingLevel: int = logging.INFO,
        debug: bool = False,
        **kw: Any,
    ) -> None:
        pool = arguments.take_keywords(kw, arguments.THREADS, arguments.TAKEN_OUT)
        self._set_up_logging(
            application,
            environ,
            script_name=scriptName or NoDefault,
            multithreaded=multithreaded,
            multiprocess=multiprocess,
            address=bindAddress,
            umask=None,
            allowed=allowedServers,
            level=loggingLevel,
            debug=debug,
            pool=pool,
        )
