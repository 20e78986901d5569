"""flup's API over Portico: what was written for flup runs when one import is changed.

``from portico.compat.flup.server.fcgi import WSGIServer`` takes the place of
``from flup.server.fcgi import WSGIServer``: the same arguments, the same result of ``run()``.
Where the import cannot be changed, `install` lets ``import flup`` itself find this package.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["install"]

_NAME = "flup"


def install() -> None:
    """Let ``import flup`` find this package, whether or not flup is installed.

    Once is enough; again does nothing.

    Raises:
        ImportError: flup itself has been imported already, so that some of it is in use.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    there = sys.modules.get(_NAME)
    if there is not None and there is not sys.modules[__name__]:
        raise ImportError(
            f"flup was imported already, from {getattr(there, '__file__', None)}: call"
            " portico.compat.flup.install() before the first import of flup",
            name=_NAME,
        )
    sys.meta_path.insert(0, _Finder())  # before the finder of what is installed


class _Finder:
    """Finds ``flup`` and all below it here; finder and loader in one."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the import system's interface
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        if fullname != _NAME and not fullname.startswith(_NAME + "."):
            return None
        return ModuleSpec(fullname, self, is_package=True)  # type: ignore[arg-type] # duck-typed

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002 - likewise
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of this package in the place of the empty one just made."""
        spec = module.__spec__
        name = module.__name__ if spec is None else spec.name
        real = __name__ + name.removeprefix(_NAME)
        try:
            sys.modules[name] = import_module(real)
        except ModuleNotFoundError as error:
            if error.name != real:  # something that it imports
                raise
            raise ModuleNotFoundError(
                f"No module named {name!r}: portico.compat.flup stands in for flup 1.0.3 and has"
                f" no {real}",
                name=name,
            ) from None
