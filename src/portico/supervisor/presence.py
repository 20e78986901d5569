"""How a service shows itself to the system: its pid file, and what systemd is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.supervisor.pidfile import PidFile

if TYPE_CHECKING:
    from portico.config.settings import Settings
    from portico.supervisor.loop import Loop
    from portico.supervisor.notify import Notifier


class Presence:
    """The pid file and the notifications of one parent.

    Args:
        settings: Which of them there are.
        loop: The parent's; it wakes for systemd's watchdog, if that asked for it, and else not.
        notifier: Tells systemd.

    Raises:
        TransportError: the pid file cannot be made.
    """

    __slots__ = ("_loop", "_notifier", "_pid_file")

    def __init__(self, settings: Settings, loop: Loop, notifier: Notifier) -> None:
        self._pid_file = PidFile(settings.pid_file) if settings.pid_file else None
        self._loop = loop
        self._notifier = notifier
        if notifier.watchdog_seconds is not None:
            self._pet()

    def _pet(self) -> None:
        self._notifier.watchdog()
        self._loop.after(self._notifier.watchdog_seconds or 1.0, self._pet)

    def ready(self, status: str) -> None:
        """Say that requests are served; after a reload too, whether it worked or not."""
        self._notifier.ready(status)

    def reloading(self) -> None:
        """Say that a reload has begun."""
        self._notifier.reloading("reloading")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._notifier.stopping("stopping")

    def status(self, text: str) -> None:
        """Say how it is going."""
        self._notifier.status(text)

    def leave(self) -> None:
        """In a forked process: let go of what is the parent's."""
        if self._pid_file is not None:
            self._pid_file.close_in_child()

    def close(self) -> None:
        """Remove the pid file."""
        if self._pid_file is not None:
            self._pid_file.remove()
