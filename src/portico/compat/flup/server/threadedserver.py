"""`flup.server.threadedserver`, for programs that patch it to run a server off the main thread.

flup needs that; here no signal is touched there, so that the patch has nothing to change.
"""

from __future__ import annotations

__all__ = ["ThreadedServer"]


class ThreadedServer:
    """Stands where flup's class is patched; no server here is made of it."""

    def _installSignalHandlers(self) -> None:
        """Do nothing."""

    def _restoreSignalHandlers(self) -> None:
        """Do nothing."""
