"""Stands in for an application that cannot be loaded, so that each request has an answer."""

import os

from portico.core import pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STATUS = "500 Internal Server Error"


class Unloadable:
    """A WSGI application that answers 500, with an id under which the log has the reason.

    Args:
        reason: Why there is no other: a sentence, a traceback below it where there is one.
        debug: Whether the visitor may see it.
    """

    def __init__(self, reason: str, *, debug: bool = False) -> None:
        self.reason = reason
        self._debug = debug

    def __call__(self, environ: "dict[str, Any]", start_response: "Any") -> "list[bytes]":
        """Write the reason to ``wsgi.errors`` and answer."""
        reference = os.urandom(6).hex()
        environ["wsgi.errors"].write(f"portico: error {reference}: {self.reason}\n")
        body = pages.error_page(
            _STATUS, reference=reference, text=self.reason if self._debug else ""
        )
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response(_STATUS, headers)
        return [body]
