"""`flup.server.cgi`: one request from the process environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.compat.flup.server._bridge import Bridge
from portico.compat.flup.server._server import serve_cgi

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WSGIServer"]


class WSGIServer:
    """flup's CGI server.

    Args:
        application: The WSGI callable.
    """

    def __init__(self, application: Callable[..., Any]) -> None:
        self.application = application

    def run(self) -> None:
        """Serve the one request that this process was started for."""
        serve_cgi(Bridge(self.application, {}), debug=False)
