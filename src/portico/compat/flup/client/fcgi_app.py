"""`flup.client.fcgi_app`: a WSGI application that asks a FastCGI server."""

from __future__ import annotations

from typing import Any

from portico.compat.flup.client._application import ClientApplication
from portico.errors import ConfigError

__all__ = ["FCGIApp"]


class FCGIApp(ClientApplication):
    """Forwards each request to a FastCGI server.

    Args:
        command: flup never came to start programs; None.
        connect: (host, port), or the path of a Unix socket.
        host: The same, together with *port*.
        port: A number.
        filterEnviron: Whether the server gets to see CGI's usual variables alone.

    Raises:
        NotImplementedError: there is a command.
        ConfigError: there is nothing to connect to.
    """

    _protocol = "fastcgi"

    def __init__(
        self,
        command: Any = None,
        connect: Any = None,
        host: str | None = None,
        port: int | None = None,
        filterEnviron: bool = True,
    ) -> None:
        if command is not None:
            if connect is not None or host is not None:
                raise ConfigError("name what to connect to, and no command", key="command")
            raise NotImplementedError(
                "FCGIApp starts no programs, as flup's never did: start the FastCGI program with"
                " spawn-fcgi, and name its socket by connect"
            )
        self._connect_to(connect, host, port, filters=filterEnviron)
