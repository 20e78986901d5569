"""flup's servers: one module for each protocol and way of working, each with a `WSGIServer`."""

from __future__ import annotations

__all__ = ["NoDefault"]


class NoDefault:
    """Stands for an argument that was not given, where None means something."""
