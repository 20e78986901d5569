"""Raises an exception in another thread: CPython's own way, which Python reaches by ctypes.

Imported only where a hard limit is set: ctypes costs 5 ms, and not every interpreter has this.
"""

from __future__ import annotations

import ctypes

# By item, not by attribute: that would be one object for everybody, with these argument types.
_set_exception = ctypes.pythonapi["PyThreadState_SetAsyncExc"]
_set_exception.argtypes = (ctypes.c_ulong, ctypes.c_void_p)
_set_exception.restype = ctypes.c_int


def raise_in(ident: int, kind: type[BaseException]) -> None:
    """Have *kind* raised in thread *ident* as soon as that runs Python code."""
    _set_exception(ident, id(kind))


def clear(ident: int) -> None:
    """Take back what was to be raised in thread *ident* and has not been yet."""
    _set_exception(ident, None)
