"""Telling systemd how this process fares: ready, reloading, stopping, alive.

Spec: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) (``Type=notify-reload``).
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log = logging.getLogger("portico")

#: Characters of a status that are sent; systemd takes 4096 octets of a whole message.
_MOST_STATUS = 256

#: What systemd sets for this process alone.
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Sends a datagram for each change; does nothing where nobody asked for it.

    No call blocks or raises. Each one gives whether the message was handed over; it was not where
    nobody asked, or where the service manager is behind with reading, and can be sent again then.

    Args:
        environ: The process environment, `os.environ`. What systemd has set for this process is
            taken out of it, so that workers and their subprocesses do not speak in its name.

    Attributes:
        watchdog_seconds: How often `watchdog` is to be called: half of the time after which
            systemd takes the process for stuck. None if it does not watch this process.
    """

    __slots__ = ("_address", "watchdog_seconds")

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        found = {name: environ.pop(name, "") for name in _VARIABLES}
        self._address = _address(found["NOTIFY_SOCKET"])
        self.watchdog_seconds = _watchdog_seconds(found["WATCHDOG_USEC"], found["WATCHDOG_PID"])

    def ready(self, status: str = "") -> bool:
        """Say that requests are served; after `reloading` too, whether that worked or not."""
        return self._send("READY=1", *_status(status))

    def reloading(self, status: str = "") -> bool:
        """Say that a reload has begun; `ready` must follow."""
        # systemd tells by the time whether this answers its own signal or an earlier one
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={now}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """Say that the end has begun."""
        return self._send("STOPPING=1", *_status(status))

    def status(self, text: str) -> bool:
        """Say what ``systemctl status`` is to show; controls become blanks, a long text is cut."""
        return self._send(*(_status(text) or ["STATUS="]))

    def watchdog(self) -> bool:
        """Say that the process is alive."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        if not self._address:
            return False
        message = "\n".join(lines).encode("utf-8", "backslashreplace")
        try:
            # a socket a message: they are rare, and no worker inherits a descriptor
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(message, self._address)
        except OSError as error:
            log.debug("systemd was not told %s: %s", lines[0], error.strerror or error)
            return False
        return True


def _address(text: str) -> bytes:
    """Give the address of the service manager's socket; empty for none that can be reached."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    if text.startswith("/"):
        return os.fsencode(text)
    if text:
        log.debug("NOTIFY_SOCKET is %r, neither a path nor abstract: nobody is notified", text)
    return b""


def _watchdog_seconds(microseconds: str, pid: str) -> float | None:
    if pid and pid != str(os.getpid()):
        return None
    if not (microseconds.isascii() and microseconds.isdecimal() and len(microseconds) < 20):
        return None
    return int(microseconds) / 2_000_000 or None


def _status(text: str) -> list[str]:
    if not text:
        return []
    plain = "".join(char if char.isprintable() else " " for char in text[:_MOST_STATUS])
    return [f"STATUS={plain}"]
