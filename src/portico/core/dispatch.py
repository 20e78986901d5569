"""Several applications behind one: chosen by the request's host, and by the path's beginning.

A WSGI application that calls others; it knows nothing of settings.
"""

from __future__ import annotations

from portico.core.pages import error_page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    #: Host, prefix, application, and what is added to the environ of its requests.
    Route = tuple[str, str, Callable[..., Any], Mapping[str, str]]

    #: Prefix and application as they are looked up; both texts and keys are latin-1 by now.
    Entry = tuple[str, int, Callable[..., Any], dict[str, str]]

#: Characters of the longest host name (RFC 1035 §2.3.4); what is longer is none of ours.
_MOST_HOST = 255


class Dispatcher:
    """Calls the application that a request is for.

    The host decides first: an exact one goes before ``*.example.org``, of those the longest goes
    first, and routes without a host come last. Among the routes of one host the longest prefix
    wins, on whole segments: ``/app`` is not asked for ``/application``. Where no route of a host
    has the path, the next kind of host is tried. The prefix moves from PATH_INFO to SCRIPT_NAME.

    Args:
        routes: Host (``""`` for any; lower case, IPv6 in brackets), prefix (``""`` for the root),
            application, and texts that are set in the environ of each of its requests. Prefixes
            and texts are Unicode, and reach the application as PEP 3333 has it.
        fallback: Called for what no route has; the answer is 404 without one.
    """

    __slots__ = ("_anywhere", "_by_host", "_fallback", "_wild")

    def __init__(self, routes: Iterable[Route], fallback: Callable[..., Any] | None = None) -> None:
        self._fallback = fallback
        entries: dict[str, list[Entry]] = {}
        for host, prefix, application, texts in routes:
            path = _native(prefix)
            extra = {name: _native(text) for name, text in texts.items()}
            entries.setdefault(host, []).append((path, len(path), application, extra))
        for listed in entries.values():
            listed.sort(key=lambda entry: -entry[1])
        self._anywhere = tuple(entries.pop("", ()))
        wild = sorted((host for host in entries if host.startswith("*.")), key=len)
        # each host's own entries, and behind them those of the wider ones that have it too
        self._wild: dict[str, tuple[Entry, ...]] = {}
        for host in wild:
            self._wild[host[1:]] = (*entries.pop(host), *self._wider(host[2:]))
        self._by_host = {host: (*own, *self._wider(host)) for host, own in entries.items()}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Serve one request; the application's iterable is given on as it is."""
        entries = self._anywhere
        if self._by_host or self._wild:
            host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
            # most come as they are written here: in lower case, without a port
            entries = self._by_host.get(host) or self._find(host)
        path = environ.get("PATH_INFO", "")
        for prefix, length, application, extra in entries:
            if not length or (
                path.startswith(prefix) and (len(path) == length or path[length] == "/")
            ):
                if length:
                    environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
                    environ["PATH_INFO"] = path[length:]
                if extra:
                    environ.update(extra)
                return application(environ, start_response)  # type: ignore[no-any-return]
        if self._fallback is not None:
            return self._fallback(environ, start_response)  # type: ignore[no-any-return]
        page = error_page("404 Not Found")
        start_response(
            "404 Not Found",
            [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))],
        )
        return [page]

    def _find(self, host: str) -> tuple[Entry, ...]:
        """Give what may serve a host, written as the client wrote it."""
        host = plain_host(host)
        return self._by_host.get(host) or self._wider(host)

    def _wider(self, host: str) -> tuple[Entry, ...]:
        """Give the entries of the longest ``*.`` that *host* is below, or those of any host."""
        wild = self._wild
        if wild and len(host) <= _MOST_HOST:
            dot = host.find(".", 1)  # the star stands for something
            while dot > 0:
                found = wild.get(host[dot:])
                if found is not None:
                    return found
                dot = host.find(".", dot + 1)
        return self._anywhere


def plain_host(host: str) -> str:
    """Give a Host header's name: lower case, no port, no dot at the end, IPv6 in brackets."""
    host = host.lower()
    if host[:1] != "[" and host.count(":") > 1:  # SERVER_NAME of some web servers
        return f"[{host}]"
    if host[-1:] != "]":
        name, colon, port = host.rpartition(":")
        if colon and (not port or port.isdecimal()):
            host = name
    return host.removesuffix(".")


def _native(text: str) -> str:
    """Give *text* as WSGI has it: its octets in UTF-8, one a character."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
