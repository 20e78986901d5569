"""How a service shows itself: its pid file, what systemd is told, the status socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from portico.engine.snapshot import snapshot
from portico.supervisor.pidfile import PidFile
from portico.supervisor.statussocket import RETRY_SECONDS, StatusSocket

if TYPE_CHECKING:
    from portico.config.settings import Settings
    from portico.engine.scoreboard import Scoreboard
    from portico.supervisor.loop import Loop
    from portico.supervisor.notify import Notifier


class Presence:
    """The pid file, the notifications and the status socket of one parent.

    Args:
        settings: Which of them there are.
        loop: The parent's; it wakes for systemd's watchdog, if that asked for it, and else not.
        notifier: Tells systemd.
        board: What the status socket tells.

    Raises:
        PorticoError: the pid file or the socket cannot be made; then neither is.
    """

    __slots__ = ("_board", "_loop", "_notifier", "_pid_file", "_socket")

    def __init__(
        self, settings: Settings, loop: Loop, notifier: Notifier, board: Scoreboard
    ) -> None:
        self._board = board
        self._socket: StatusSocket | None = None
        self._pid_file = PidFile(settings.pid_file) if settings.pid_file else None
        if settings.status_socket:
            try:
                self._socket = StatusSocket(settings.status_socket)
            except BaseException:
                self.close()
                raise
            loop.watch(self._socket.fd, self._answer)
        self._loop = loop
        self._notifier = notifier
        if notifier.watchdog_seconds is not None:
            self._pet()

    def _pet(self) -> None:
        self._notifier.watchdog()
        self._loop.after(self._notifier.watchdog_seconds or 1.0, self._pet)

    def _answer(self) -> None:
        if self._socket is not None and self._socket.accept_and_answer(self._tell):
            self._loop.after(RETRY_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._socket is not None and self._socket.go_on():
            self._loop.after(RETRY_SECONDS, self._go_on)

    def _tell(self) -> bytes:
        return json.dumps(snapshot(self._board)).encode()

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
        if self._socket is not None:
            self._socket.close_in_child()

    def close(self) -> None:
        """Remove the pid file and the socket."""
        if self._socket is not None:
            self._loop.unwatch(self._socket.fd)
            self._socket.close()
            self._socket = None
        if self._pid_file is not None:
            self._pid_file.remove()
