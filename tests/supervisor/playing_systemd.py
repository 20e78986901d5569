"""Plays systemd for one service: opens its sockets, starts it, hears what it says.

    with Service("serve", app, "--bind", "scgi+systemd://web", listen={"web": tcp()}) as service:
        service.await_notification("READY=1")
        service.kill(signal.SIGHUP)
        service.await_notification("RELOADING=1")
        ...
        assert service.finish() == 0
        assert service.strangers() == []

Spec: sd_listen_fds(3), sd_notify(3), systemd.service(5).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import NamedTuple

from cli_harness import Command, eventually

#: Moves the sockets to where systemd has them, and becomes the service: LISTEN_PID is its own.
_START = """
import fcntl, os, sys
count = int(sys.argv[1])
fds = [int(text) for text in sys.argv[2:2 + count]]
aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for fd in fds:
    os.close(fd)
for number, fd in enumerate(aside, 3):
    os.dup2(fd, number)
    os.close(fd)
own = str(os.getpid())
if count:
    os.environ["LISTEN_PID"] = own
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = own
os.execv(sys.executable, [sys.executable, *sys.argv[2 + count:]])
"""

_CREDENTIALS = struct.Struct("iII")


class Notification(NamedTuple):
    """One datagram: the process that sent it, and its assignments."""

    pid: int
    fields: dict


def tcp():
    """A listening socket on a free port of loopback."""
    return socket.create_server(("127.0.0.1", 0))


def unix(path):
    """A listening Unix socket at *path*."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(64)
    return sock


class Service(Command):
    """A service as systemd starts it; ends like any `Command`.

    Args:
        *arguments: What follows ``portico``.
        listen: File descriptor name -> listening socket, in systemd's order; closed at the end,
            as systemd does with its own, and not before: connections wait in a restart.
        script: Python source to run in portico's place.
        notify: Whether it is asked to notify.
        watchdog_seconds: After how long systemd would take it for stuck; 0 for never.
    """

    program = ("-c", _START)

    def __init__(
        self, *arguments, listen=None, script="", notify=True, watchdog_seconds=0, env=(), **more
    ):
        self.sockets = dict(listen or {})
        self.notifications = []
        self._hears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._hears.bind("")  # the kernel chooses an abstract name
        self._hears.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        environ = dict(env)
        if notify:
            environ["NOTIFY_SOCKET"] = "@" + self._hears.getsockname()[1:].decode()
        if watchdog_seconds:
            environ["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1_000_000))
        if listen:
            environ["LISTEN_FDS"] = str(len(listen))
            environ["LISTEN_FDNAMES"] = ":".join(listen)
        fds = [sock.fileno() for sock in self.sockets.values()]
        program = ["-c", script] if script else ["-m", "portico"]
        super().__init__(
            len(fds), *fds, *program, *arguments, env=environ, pass_fds=tuple(fds), **more
        )

    def __exit__(self, *end):
        super().__exit__(*end)
        self._hears.close()
        for sock in self.sockets.values():
            sock.close()

    def address(self, name):
        """Where the socket called *name* listens, as a bind URL without its protocol."""
        where = self.sockets[name].getsockname()
        return f"+unix://{where}:" if isinstance(where, str) else f"://{where[0]}:{where[1]}"

    def hear(self):
        """Take what has been said since; gives all notifications so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                octets, ancillary, _, _ = self._hears.recvmsg(
                    4096, socket.CMSG_SPACE(_CREDENTIALS.size)
                )
                pid, _, _ = _CREDENTIALS.unpack(ancillary[0][2])
                fields = dict(line.split("=", 1) for line in octets.decode().split("\n"))
                self.notifications.append(Notification(pid, fields))
        return self.notifications

    def await_notification(self, assignment, count=1):
        """Wait until *assignment*, such as ``READY=1``, has been said *count* times; gives that."""
        name, _, value = assignment.partition("=")

        def heard():
            found = [each for each in self.hear() if each.fields.get(name) == value]
            assert len(found) >= count or self.running(), f"ended without {assignment}: {self.err}"
            return found[count - 1] if len(found) >= count else None

        return eventually(heard, assignment)

    def said(self, name):
        """All values of one name so far, in order, such as those of ``STATUS``."""
        return [each.fields[name] for each in self.hear() if name in each.fields]

    def strangers(self):
        """What others than the main process have said, which systemd ignores (NotifyAccess=)."""
        return [each for each in self.hear() if each.pid != self.pid]
