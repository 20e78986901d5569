"""flup's API over Portico: what was written for flup runs when one import is changed.

``from portico.compat.flup.server.fcgi import WSGIServer`` takes the place of
``from flup.server.fcgi import WSGIServer``: the same arguments, the same result of ``run()``.
Where the import cannot be changed, `install` lets ``import flup`` itself find this package.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["install"]

_NAME = "flup"

_MODULES = (
    "", ".client", ".client.fcgi_app", ".client.scgi_app", ".server", ".server.ajp",
    ".server.ajp_fork", ".server.cgi", ".server.fcgi", ".server.fcgi_base", ".server.fcgi_fork",
    ".server.fcgi_single", ".server.paste_factory", ".server.scgi", ".server.scgi_fork",
    ".server.threadedserver",
)  # fmt: skip


def install() -> None:
    """Let ``import flup`` give this package, whether or not flup is installed.

    Once is enough; again does nothing.

    Raises:
        ImportError: flup itself has been imported already, so that some of it is in use.
    """
    package = sys.modules[__name__]
    there = sys.modules.get(_NAME)
    if there is package:
        return
    if there is not None:
        raise ImportError(
            f"flup was imported already, from {getattr(there, '__file__', None)}: call"
            " portico.compat.flup.install() before the first import of flup",
            name=_NAME,
        )
    # All at once, 35 ms: a finder that gives a module of another name comes to grief with
    # lazy imports, as Mercurial's hgweb.fcgi has them.
    for name in _MODULES:
        sys.modules[_NAME + name] = import_module(__name__ + name)
    sys.meta_path.insert(0, _Refusals())


class _Refusals:
    """Says of every other ``flup.something`` that it is not there, and what to use instead.

    Without it such a module would be found in this package's directory, and be another copy.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the import system's interface
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        """Raise for what begins with ``flup.``; nothing else is looked for here."""
        package, _, name = fullname.partition(".")
        if package != _NAME:
            return None
        with suppress(ModuleNotFoundError):
            import_module(f"{__name__}.{name.partition('.')[0]}")  # raises where flup 0.5 had it
        raise ModuleNotFoundError(
            f"No module named {fullname!r}: portico.compat.flup stands in for the servers and"
            " clients of flup 1.0.3, not for its internals",
            name=fullname,
        )
