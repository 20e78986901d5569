"""Asks the application a first request, before anybody else does."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from portico.codecs import PROTOCOLS
from portico.core.environ import EnvironRules
from portico.core.input import RequestBody
from portico.core.mount import Mounting
from portico.core.response import run_request
from portico.engine.gate import base_keys
from portico.errors import ApplicationError, RequestAborted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.config.settings import Settings
    from portico.transports.bind import Bind

#: Characters of what the application wrote to ``wsgi.errors`` that are repeated, the last.
_MOST_SHOWN = 4000


class _Nowhere:
    """Takes a response and keeps nothing but whether it was broken off."""

    broken = False

    def send_response(
        self, status: str, headers: list[tuple[str, str]], body: bytes, *, end: bool
    ) -> None:
        """Drop it."""

    def send_body(self, data: bytes, *, end: bool) -> None:
        """Drop it."""

    def send_file(self, fd: int, offset: int, count: int) -> int:  # noqa: ARG002 - the sink's interface
        """Drop it."""
        return count

    def flush(self) -> None:
        """Drop it."""

    def abort(self) -> None:
        """Take note."""
        self.broken = True


def check_health(
    application: Callable[..., Any],
    path: str,
    bind: Bind,
    settings: Settings,
    more: Mapping[str, object],
) -> None:
    """Send *application* a GET of *path*.

    Args:
        application: The WSGI callable.
        path: As a client of the web server would ask for it.
        bind: Where it seems to come in.
        settings: All settings.
        more: Further keys for the environ, as each request has them.

    Raises:
        ApplicationError: it answers with a status of 400 or more, not at all, or not whole; the
            text holds what it wrote to ``wsgi.errors``.
    """
    errors = io.StringIO()
    protocol = PROTOCOLS.get(bind.protocol, bind.protocol)
    base = base_keys(protocol, str(bind), settings, {"wsgi.errors": errors, **more})
    rules = EnvironRules(base, Mounting(settings.mount))
    environ = rules.finish(
        {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "REQUEST_URI": path,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "HTTP_USER_AGENT": "portico-health",
        }
    )
    environ["wsgi.input"] = RequestBody()
    environ["portico.client_gone"] = bool
    sink = _Nowhere()
    try:
        response = run_request(application, environ, sink)
    except (SystemExit, RequestAborted) as error:
        raise ApplicationError(f"health request {path}: {type(error).__name__}: {error}") from error
    if response.status >= "4" or sink.broken:
        what = "a response that is cut" if sink.broken else response.status
        said = errors.getvalue()[-_MOST_SHOWN:]
        raise ApplicationError(f"health request {path}: answered {what}\n{said}".rstrip())
