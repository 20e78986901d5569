"""Looks for changed code, in development: a thread of each worker, which knows what is loaded."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Seconds between two looks.
_INTERVAL = 0.5

#: Where code lies that nobody changes while developing.
_INSTALLED = tuple(
    f"{os.path.realpath(path)}{os.sep}" for path in {sys.base_prefix, sys.prefix, sys.exec_prefix}
)


class CodeWatch:
    """Calls *changed*, once, with the path of a file that is not as it was loaded.

    Looked at are the sources of all loaded modules but installed ones, and other sources in their
    directories: what has failed to load may be new.

    Args:
        more: Further files to look at.
        changed: Called by the watching thread.
    """

    def __init__(self, more: Iterable[str], changed: Callable[[str], None]) -> None:
        self._more = tuple(more)
        self._changed = changed
        self._seen: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Remember how everything is, and look again and again from now on."""
        self._seen = self._look()
        threading.Thread(target=self._run, name="portico-codewatch", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_INTERVAL)
            now = self._look()
            # a module that is loaded later is new here, and no change
            changed = [path for path, mark in now.items() if self._seen.get(path, mark) != mark]
            self._seen |= now
            if changed:
                self._changed(changed[0])

    def _look(self) -> dict[str, tuple[int, int]]:
        """Give time and size of each file."""
        files = set(self._more)
        for module in tuple(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path.endswith((".py", ".wsgi")):
                files.add(os.path.realpath(path))
        own = {path for path in files if not path.startswith(_INSTALLED)}
        for directory in {os.path.dirname(path) for path in own}:  # noqa: PTH120 - texts throughout
            own.update(_sources_in(directory))
        marks = {}
        for path in own:
            try:
                about = os.stat(path)  # noqa: PTH116 - likewise
            except OSError:
                continue  # being replaced just now
            marks[path] = (about.st_mtime_ns, about.st_size)
        return marks


def _sources_in(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.name.endswith((".py", ".wsgi"))]
    except OSError:
        return []
