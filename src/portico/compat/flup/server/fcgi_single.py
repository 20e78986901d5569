"""`flup.server.fcgi_single`: FastCGI, one request at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.compat.flup.server import _arguments as arguments
from portico.compat.flup.server._server import FastCGIServer
from portico.compat.flup.server.fcgi_base import FCGI_RESPONDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FCGI_RESPONDER", "WSGIServer"]


class WSGIServer(FastCGIServer):
    """flup's FastCGI server for one request at a time.

    Args:
        application: The WSGI callable.
        environ: What is added to the environ of each request.
        bindAddress: (host, port) or the path of a Unix socket; None for descriptor 0.
        umask: Bits that the mode of a Unix socket lacks; those of the process by default.
        multiplexed: Whether one connection may have several requests at a time.
        debug: Whether an error page shows the traceback to the visitor.
        roles: Which of FastCGI's roles the application serves.
        forceCGI: Whether to serve one request as CGI whatever descriptor 0 is.
        **kw: Those of the other servers are passed over.

    Raises:
        TypeError: an argument that there is not.
        ValueError: a pool that cannot be.
        ConfigError: a value that cannot be honoured.
    """

    def __init__(
        self,
        application: Callable[..., Any],
        environ: Mapping[str, Any] | None = None,
        bindAddress: Any = None,
        umask: int | None = None,
        multiplexed: bool = False,
        debug: bool = False,
        roles: tuple[int, ...] = (FCGI_RESPONDER,),
        forceCGI: bool = False,
        **kw: Any,
    ) -> None:
        arguments.take_keywords(kw, {}, arguments.TAKEN_OUT_BY_SINGLE)
        pool = dict(arguments.THREADS)
        self._set_up_fastcgi(
            application,
            environ,
            multithreaded=False,
            multiprocess=False,
            address=bindAddress,
            umask=umask,
            multiplexed=multiplexed,
            debug=debug,
            roles=roles,
            force_cgi=forceCGI,
            pool=pool,
        )
