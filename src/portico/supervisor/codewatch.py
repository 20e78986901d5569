"""Looks for changed code, in development: a thread of each worker, which knows what is loaded."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

#: Seconds between two looks.
_INTERVAL = 0.5

#: The same, where the system tells of changes and there has been none for a while. It does not
#: tell of directories that are new, nor on some file systems, nor of what has changed just before
#: it was asked.
_LONG_INTERVAL = 4.0

#: Seconds for which nothing changes once somebody is done with writing.
_SETTLED = 0.1

#: Most directories of packages that are looked into.
_MOST_DIRECTORIES = 2000

_SOURCES = (".py", ".wsgi")

#: When a file was changed, nanoseconds since the epoch; its size. No inode: there are file systems
#: that make up another one at each look.
Mark = tuple[int, int]

#: No file's mark.
DOUBTFUL = (-1, -1)


class CodeWatch:
    """Calls *changed* with the path of a file that is not as it was loaded.

    Looked at are the sources of all loaded modules but installed ones, and all others in their
    directories and packages: what has failed to load may be new.

    Args:
        more: Further files to look at.
        changed: Called by the watching thread.
        loaded: When the code began to be loaded, nanoseconds since the epoch: a file that has
            changed since may have been loaded before.
    """

    def __init__(self, more: Iterable[str], changed: Callable[[str], None], loaded: int) -> None:
        self._more = tuple(os.path.realpath(path) for path in more)
        self._changed = changed
        self._loaded = loaded
        self._seen: dict[str, Mark] = {}
        self._system: ModuleType | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="portico-codewatch", daemon=True)

    def start(self) -> None:
        """Remember how everything is, and look again and again from now on."""
        found = self._look()
        now = time.time_ns()  # beyond it lies what another machine's clock says
        self._seen = {
            path: DOUBTFUL if self._loaded <= mark[0] <= now else mark
            for path, mark in found.items()
        }
        self._system = _find_watchfiles()
        self._thread.start()

    def stop(self) -> None:
        """Look no more; nothing happens if it was never started."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_INTERVAL)

    def _run(self) -> None:
        for now in self._looks():
            # a module that is loaded later is new here, and no change
            changed = [path for path, mark in now.items() if self._seen.get(path, mark) != mark]
            if changed:
                now = self._settle(now)  # noqa: PLW2901 - the same, later
            self._seen |= now
            if changed:
                self._changed(changed[0])

    def _settle(self, now: dict[str, Mark]) -> dict[str, Mark]:
        """Wait until nobody writes any more; gives how everything is then."""
        while not self._stopped.wait(_SETTLED):
            before, now = now, self._look()
            if before == now:
                break
        return now

    def _looks(self) -> Iterator[dict[str, Mark]]:
        """Give how everything is, time and again, until it is stopped."""
        now = self._look()
        seconds = _INTERVAL
        while not self._stopped.is_set():
            yield now
            if self._system is None:
                self._stopped.wait(_INTERVAL)
            else:
                directories = {os.path.dirname(path) for path in now}  # noqa: PTH120 - texts
                self._wait_for_change(self._system, directories, seconds)
            before, now = now, self._look()
            seconds = min(_LONG_INTERVAL, 2 * seconds) if before == now else _INTERVAL

    def _wait_for_change(
        self, watchfiles: ModuleType, directories: set[str], seconds: float
    ) -> None:
        """Wait until the system tells of a change, for *seconds* at most."""
        try:
            for _ in watchfiles.watch(
                *directories,
                watch_filter=self._concerns,
                recursive=False,
                debounce=100,
                stop_event=self._stopped,
                rust_timeout=int(seconds * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                return
        except (OSError, RuntimeError):  # a directory has gone, or it can watch no more of them
            self._stopped.wait(_INTERVAL)

    def _concerns(self, _: object, path: str) -> bool:
        """Whether a change of *path* is worth a look: applications write logs and databases."""
        return path.endswith(_SOURCES) or path in self._seen

    def _look(self) -> dict[str, Mark]:
        """Give the mark of each file."""
        own = _loaded_sources()
        for directory in _packages({os.path.dirname(path) for path in own}):  # noqa: PTH120 - likewise
            own.update(_sources_in(directory))
        return dict(marks_of(own.union(self._more)))


def _find_watchfiles() -> ModuleType | None:
    """Give the module by which the system tells of changes, if it is installed."""
    try:
        import watchfiles  # noqa: PLC0415 - 60 ms, and an extra
    except ImportError:
        return None
    return watchfiles


def _loaded_sources() -> set[str]:
    """Give the files of all loaded modules but installed ones."""
    files = set()
    for module in tuple(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and not path.endswith((".so", ".pyd", ".pyc")):
            files.add(os.path.realpath(path))
    return {path for path in files if not path.startswith(_INSTALLED)}


def _installed() -> tuple[str, ...]:
    """Give the directories of code that nobody changes while developing.

    No prefix is one of them: where that is /usr, applications may live in /usr/local or /usr/home.
    """
    paths = sysconfig.get_paths()
    places = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    places.update(site.getsitepackages(), [site.getusersitepackages(), _PORTICO])
    return tuple(f"{os.path.realpath(place)}{os.sep}" for place in places)


_PORTICO = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 - likewise
_INSTALLED = _installed()


def _packages(directories: Iterable[str]) -> set[str]:
    """Give *directories* and the packages in them, at any depth."""
    found: set[str] = set()
    left = list(directories)
    while left and len(found) < _MOST_DIRECTORIES:
        directory = left.pop()
        if directory in found:
            continue
        found.add(directory)
        try:
            with os.scandir(directory) as entries:
                inner = [entry.path for entry in entries if entry.is_dir()]
        except OSError:
            continue
        left += [path for path in inner if os.path.isfile(f"{path}{os.sep}__init__.py")]  # noqa: PTH113 - likewise
    return found


def _sources_in(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.name.endswith(_SOURCES)]
    except OSError:
        return []


def marks_of(paths: Iterable[str]) -> Iterator[tuple[str, Mark]]:
    """Give the mark of each file that is there."""
    for path in paths:
        try:
            about = os.stat(path)  # noqa: PTH116 - likewise
        except OSError:
            continue  # being replaced just now
        yield path, (about.st_mtime_ns, about.st_size)
