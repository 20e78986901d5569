"""`flup.server.paste_factory`: flup's servers as Paste starts them, from texts of an ini file.

Each is a ``paste.server_runner``; in an ini file of PasteDeploy: ``use = egg:portico#fcgi_thread``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.compat.flup.server import NoDefault, ajp, ajp_fork, fcgi, fcgi_fork, scgi, scgi_fork
from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUTH = {
    **dict.fromkeys(("true", "yes", "on", "y", "t", "1"), True),
    **dict.fromkeys(("false", "no", "off", "n", "f", "0"), False),
}


def asbool(obj: Any) -> bool:
    """Read a text as yes or no; raises `ValueError` for one that is neither."""
    if not isinstance(obj, str):
        return bool(obj)
    try:
        return _TRUTH[obj.strip().lower()]
    except KeyError:
        raise ValueError(f"{obj!r} is neither true nor false") from None


def aslist(obj: Any, sep: str | None = None, strip: bool = True) -> Any:
    """Read a text as the list of its words; lists stay, and anything else is the only entry."""
    if isinstance(obj, str):
        words = obj.split(sep)
        return [word.strip() for word in words] if strip else words
    if isinstance(obj, (list, tuple)):
        return obj
    return [] if obj is None else [obj]


def run_ajp_thread(
    wsgi_app: Any,
    global_conf: Mapping[str, Any],
    scriptName: Any = "",
    host: str = "localhost",
    port: Any = "8009",
    allowedServers: Any = "127.0.0.1",
    debug: Any = NoDefault,
    minSpare: Any = None,
    maxSpare: Any = None,
    maxThreads: Any = None,
) -> None:
    """Serve AJP with threads."""
    server = ajp.WSGIServer(
        wsgi_app,
        scriptName=scriptName,
        bindAddress=_address(host, port, None),
        allowedServers=aslist(allowedServers),
        debug=_debug(debug, global_conf),
        **_numbers(minSpare=minSpare, maxSpare=maxSpare, maxThreads=maxThreads),
    )
    server.run()


def run_ajp_fork(
    wsgi_app: Any,
    global_conf: Mapping[str, Any],
    scriptName: Any = "",
    host: str = "localhost",
    port: Any = "8009",
    allowedServers: Any = "127.0.0.1",
    debug: Any = NoDefault,
    minSpare: Any = None,
    maxSpare: Any = None,
    maxChildren: Any = None,
    maxRequests: Any = None,
) -> None:
    """Serve AJP with child processes."""
    server = ajp_fork.WSGIServer(
        wsgi_app,
        scriptName=scriptName,
        bindAddress=_address(host, port, None),
        allowedServers=aslist(allowedServers),
        debug=_debug(debug, global_conf),
        **_numbers(
            minSpare=minSpare, maxSpare=maxSpare, maxChildren=maxChildren, maxRequests=maxRequests
        ),
    )
    server.run()


def run_fcgi_thread(
    wsgi_app: Any,
    global_conf: Mapping[str, Any],
    host: str | None = None,
    port: Any = None,
    socket: str | None = None,
    umask: Any = None,
    multiplexed: Any = False,
    debug: Any = NoDefault,
    minSpare: Any = None,
    maxSpare: Any = None,
    maxThreads: Any = None,
) -> None:
    """Serve FastCGI with threads."""
    server = fcgi.WSGIServer(
        wsgi_app,
        bindAddress=_address(host, port, socket),
        umask=_umask(umask),
        multiplexed=asbool(multiplexed),
        debug=_debug(debug, global_conf),
        **_numbers(minSpare=minSpare, maxSpare=maxSpare, maxThreads=maxThreads),
    )
    server.run()


def run_fcgi_fork(
    wsgi_app: Any,
    global_conf: Mapping[str, Any],
    host: str | None = None,
    port: Any = None,
    socket: str | None = None,
    umask: Any = None,
    multiplexed: Any = False,
    debug: Any = NoDefault,
    minSpare: Any = None,
    maxSpare: Any = None,
    maxChildren: Any = None,
    maxRequests: Any = None,
) -> None:
    """Serve FastCGI with child processes."""
    server = fcgi_fork.WSGIServer(
        wsgi_app,
        bindAddress=_address(host, port, socket),
        umask=_umask(umask),
        multiplexed=asbool(multiplexed),
        debug=_debug(debug, global_conf),
        **_numbers(
            minSpare=minSpare, maxSpare=maxSpare, maxChildren=maxChildren, maxRequests=maxRequests
        ),
    )
    server.run()


def run_scgi_thread(
    wsgi_app: Any,
    global_conf: Mapping[str, Any],
    scriptName: Any = NoDefault,
    host: str = "localhost",
    port: Any = "4000",
    allowedServers: Any = "127.0.0.1",
    debug: Any = NoDefault,
    minSpare: Any = None,
    maxSpare: Any = None,
    maxThreads: Any = None,
) -> None:
    """Serve SCGI with threads."""
    server = scgi.WSGIServer(
        wsgi_app,
        scriptName=scriptName,
        bindAddress=_address(host, port, None),
        allowedServers=aslist(allowedServers),
        debug=_debug(debug, global_conf),
        **_numbers(minSpare=minSpare, maxSpare=maxSpare, maxThreads=maxThreads),
    )
    server.run()


def run_scgi_fork(
    wsgi_app: Any,
    global_conf: Mapping[str, Any],
    scriptName: Any = NoDefault,
    host: str = "localhost",
    port: Any = "4000",
    allowedServers: Any = "127.0.0.1",
    debug: Any = NoDefault,
    minSpare: Any = None,
    maxSpare: Any = None,
    maxChildren: Any = None,
    maxRequests: Any = None,
) -> None:
    """Serve SCGI with child processes."""
    server = scgi_fork.WSGIServer(
        wsgi_app,
        scriptName=scriptName,
        bindAddress=_address(host, port, None),
        allowedServers=aslist(allowedServers),
        debug=_debug(debug, global_conf),
        **_numbers(
            minSpare=minSpare, maxSpare=maxSpare, maxChildren=maxChildren, maxRequests=maxRequests
        ),
    )
    server.run()


def _debug(debug: Any, global_conf: Mapping[str, Any]) -> bool:
    return asbool(global_conf.get("debug", False) if debug is NoDefault else debug)


def _numbers(**texts: Any) -> dict[str, Any]:
    return {name: _number(name, text) for name, text in texts.items() if text is not None}


def _number(name: str, text: Any, radix: int = 10) -> int:
    try:
        return int(text, radix) if isinstance(text, str) else int(text)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is {text!r}, must be a number", key=name) from None


def _umask(text: Any) -> int | None:
    """Read a umask: octal, as everybody writes it; flup takes ``022`` for twenty-two."""
    return None if text is None else _number("umask", text, 8)


def _address(host: str | None, port: Any, path: str | None) -> Any:
    """Give a bindAddress; raises `ConfigError` where it is said twice or by half."""
    if path:
        if host is not None or port is not None:
            raise ConfigError("socket is given: leave host and port out", key="socket")
        return path
    if not host:
        return None
    if port is None:
        raise ConfigError("host is given, and no port", key="port")
    return host, _number("port", port)
