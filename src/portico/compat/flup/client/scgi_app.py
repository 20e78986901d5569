"""`flup.client.scgi_app`: a WSGI application that asks an SCGI server."""

from __future__ import annotations

from typing import Any

from portico.compat.flup.client._application import ClientApplication

__all__ = ["SCGIApp"]


class SCGIApp(ClientApplication):
    """Forwards each request to an SCGI server.

    Args:
        connect: (host, port), or the path of a Unix socket.
        host: The same, together with *port*.
        port: A number.
        filterEnviron: Whether the server gets to see CGI's usual variables alone.

    Raises:
        ConfigError: there is nothing to connect to.
    """

    _protocol = "scgi"

    def __init__(
        self,
        connect: Any = None,
        host: str | None = None,
        port: int | None = None,
        filterEnviron: bool = True,
    ) -> None:
        self._connect_to(connect, host, port, filters=filterEnviron)
