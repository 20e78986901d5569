"""What flup's two clients have in common, over Portico's client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico.errors import ConfigError
from portico.transports.bind import Bind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Of these the client's own answer is made, whatever the application server gets to see.
_NEEDED = ("REQUEST_METHOD", "CONTENT_LENGTH")


class ClientApplication:
    """A WSGI application that forwards each request over a connection of its own.

    Subclasses may change the three lists.
    """

    _protocol = ""

    #: What `filterEnviron` lets pass: by the beginnings of names, whole names, other names.
    _environPrefixes = ("SERVER_", "HTTP_", "REQUEST_", "REMOTE_", "PATH_", "CONTENT_")
    _environCopies = ("SCRIPT_NAME", "QUERY_STRING", "AUTH_TYPE")
    _environRenames: dict[str, str] = {}  # noqa: RUF012 - flup's, for subclasses to replace

    def _connect_to(self, connect: Any, host: Any, port: Any, *, filters: bool) -> None:
        """Keep where the server is; raises `ConfigError` where that is not said."""
        if host is not None:
            connect = (host, port)
        self._filterEnviron = filters
        # lazy: where flup is installed by name, this is imported for servers as well
        from portico.client.forward import Forward  # noqa: PLC0415

        # a connection for each request, as flup has it: a kept one would hold a thread there
        self._forward = Forward(read_target(self._protocol, connect), max_kept=0)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Forward one request (PEP 3333)."""
        if self._filterEnviron:
            chosen = self._defaultFilterEnviron(environ)
        else:
            chosen = self._lightFilterEnviron(environ)
        for name, value in environ.items():
            if name in _NEEDED or name.startswith("wsgi."):
                chosen.setdefault(name, value)
        return self._forward(chosen, start_response)

    def _defaultFilterEnviron(self, environ: dict[str, Any]) -> dict[str, Any]:
        chosen = {}
        for name, value in environ.items():
            if name.startswith(tuple(self._environPrefixes)) or name in self._environCopies:
                chosen[name] = value
            if name in self._environRenames:
                chosen[self._environRenames[name]] = value
        return chosen

    def _lightFilterEnviron(self, environ: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in environ.items() if name.upper() == name}


def read_target(protocol: str, connect: Any) -> Bind:
    """Make a bind of flup's connect: a path, or host and port.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(connect, (str, os.PathLike)) and os.fspath(connect):
        path = str(Path(os.fspath(connect)).absolute())
        return Bind(protocol=protocol, transport="unix", path=path)
    if isinstance(connect, tuple) and len(connect) == 2:
        host, port = connect
        if isinstance(host, str) and host and type(port) is int and 0 < port <= 65_535:
            return Bind(protocol=protocol, host=host, port=port)
    raise ConfigError(
        f"connect is {connect!r}: name (host, port), such as ('127.0.0.1', 4000), or the path of a"
        " Unix socket; or give host and port",
        key="connect",
    )
