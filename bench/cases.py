"""What is asked of the servers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import application

if TYPE_CHECKING:
    from contestants import Contestant

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One kind of request.

    Attributes:
        name: In options, tables and files.
        title: For people.
        path: The last word of the request's path.
        body: What must come; empty where the site itself is asked.
        post: Whether an upload is sent.
        connections: How many wrk opens; 0 for what the options say.
        site: The application's file, below bench/.
        large: Whether octets a second tell more than requests.
    """

    name: str
    title: str
    path: str
    body: bytes = b""
    post: bool = False
    connections: int = 0
    site: str = "application.py"
    large: bool = False

    def suits(self, one: Contestant) -> bool:
        """Tell whether *one* takes part."""
        return self.name in one.only if one.only else True


UPLOAD = application.BODY

CASES = [
    Case("hello", "36 octets", "hello", application.HELLO),
    Case("page", "8 KiB, six headers", "page", application.PAGE),
    Case("body", "1 MiB in one piece", "body", application.BODY, large=True),
    Case("chunks", "1 MiB in 64 pieces", "chunks", application.BODY, large=True),
    Case("upload", "1 MiB upload", "upload", b"%d\n" % len(UPLOAD), post=True, large=True),
]
