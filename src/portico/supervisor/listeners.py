"""The listening sockets of a service, over all its reloads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from portico.transports.listen import open_listener

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.transports.bind import Bind
    from portico.transports.listen import Listener


log = logging.getLogger("portico")


class Listeners:
    """Open listeners by where they listen; owned.

    A reload keeps what listens already, with new options; only what the system fixed when the
    socket was made (mode, owner, backlog, reuse_port) stays as it was.
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, bool], Listener] = {}

    def open(self, binds: Iterable[Bind]) -> list[Listener]:
        """Give a listener for each of *binds*, opened or already open; all or none.

        Raises:
            ConfigError: as `open_listener`.
            TransportError: as `open_listener`.
        """
        found: list[Listener] = []
        opened: dict[tuple[str, str, bool], Listener] = {}
        try:
            for bind in binds:
                key = _place(bind)
                there = self._open.get(key)
                if there is None:
                    opened[key] = there = open_listener(bind)
                elif there.configured != bind or bind.secret_file:  # it may be new
                    _name_unchanged(there.configured, bind)
                    there = there.renewed(bind)
                found.append(there)
        except BaseException:
            for listener in opened.values():
                listener.close()
            raise
        self._open |= opened
        return found

    def keep(self, wanted: Iterable[Listener]) -> None:
        """Close all but *wanted*, which `open` gave."""
        places = {_place(listener.configured): listener for listener in wanted}
        for key, listener in self._open.items():
            if key not in places:
                listener.close()
        self._open = places

    def leave(self, wanted: Iterable[Listener]) -> None:
        """In a forked process: close all but *wanted*, or they would listen as long as it lives."""
        places = {_place(listener.configured) for listener in wanted}
        for key, listener in self._open.items():
            if key not in places:
                listener.close()

    def close(self) -> None:
        """Close all."""
        self.keep(())


def _name_unchanged(old: Bind, new: Bind) -> None:
    """Say which options of an open socket take a restart."""
    for name in ("mode", "user", "group", "backlog"):
        if getattr(old, name) != getattr(new, name):
            log.warning("bind %s: %s stays as it is: another one takes a restart", new, name)


def _place(bind: Bind) -> tuple[str, str, bool]:
    """What tells one listener from another: transport and address, and a port's own sharing."""
    return bind.transport, bind.address, bind.reuse_port
