"""A CGI script, from before the first import of Portico to the end of its answer.

Run under callgrind by `bench/core.py`, as `core_requests.py` is; nothing is warm here, as in
every CGI process.
"""

from __future__ import annotations

import os

os.getppid()  # the mark

from portico import run  # noqa: E402 - what is counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:  # noqa: ARG001 - WSGI
    """Answer a small page."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, world! This is a small page.\n"]


run(application)
os.getppid()
