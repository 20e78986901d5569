"""A process that has loaded the application, and from which the workers of a generation are forked.

With ``preload`` each generation has one. The parent itself loads no application, so that the next
generation can load another version; and what the application starts at its import is forked along
with it, but never into the parent.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from portico.errors import PorticoError
from portico.supervisor.child import ENDED, FAILED, FORKED, Mouthpiece, hear
from portico.supervisor.fork import Forked, forget_signals, fork
from portico.supervisor.loop import Loop
from portico.supervisor.worker import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.supervisor.generation import Generation
    from portico.supervisor.worker import Post

log = logging.getLogger("portico")


class Template:
    """Such a process, seen by the parent.

    Attributes:
        pid: The process.
        generation: Whose workers are forked from it.
        fd: The pipe in which it talks; owned, -1 once closed.
        failure: Why it could not load the application.
    """

    __slots__ = ("_orders", "_rest", "failure", "fd", "generation", "pid")

    def __init__(self, pid: int, generation: Generation, fd: int, orders: socket.socket) -> None:
        self.pid = pid
        self.generation = generation
        self.fd = fd
        self.failure = ""
        self._orders = orders
        self._rest = b""

    def order(self, slot: int, writing: int) -> None:
        """Have a worker forked; the order waits while the application is being loaded.

        Args:
            slot: Its place in the scoreboard.
            writing: The pipe in which it is to talk; the caller's copy stays the caller's.

        Raises:
            OSError: the process is gone.
        """
        socket.send_fds(self._orders, [b"%d\n" % slot], [writing])

    def hear(self) -> list[tuple[str, str]] | None:
        """Read what it has said: kinds and texts; None once it will say no more."""
        messages, self._rest = hear(self.fd, self._rest)
        return messages

    def dismiss(self) -> None:
        """Let it end once its workers have ended."""
        self._orders.close()

    def close(self) -> None:
        """Close both ends that the parent has."""
        self._orders.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(frozen=True, slots=True)
class TemplatePost:
    """What a template is to do.

    Attributes:
        post: What each worker is to do; without slot and pipe of its own yet.
        fd: Pipe in which it tells the parent what happens; owned.
        orders: Where it gets its orders; owned.
    """

    post: Post
    fd: int
    orders: socket.socket

    def work(self) -> int:
        """Load the application and fork workers until there is nobody to order any.

        Raises:
            Forked: in each of them.
        """
        forget_signals()
        return _Forker(self).run()


class _Forker:
    """The loop of a template."""

    def __init__(self, task: TemplatePost) -> None:
        self._task = task
        self._mouthpiece = Mouthpiece(task.fd)
        self._workers: set[int] = set()
        self._signals: dict[int, Callable[[], object]] = {signal.SIGCHLD: self._bury}
        self._loop = Loop(self._signals)
        self._over = False

    def run(self) -> int:
        """Serve orders; gives the exit status."""
        # workers that are forked later inherit what is open by then
        signal.signal(signal.SIGUSR1, lambda *_: self._task.post.service.files.reopen())
        post = self._task.post
        loaded = time.time_ns()
        try:
            application = load(post)
        except PorticoError as error:
            self._mouthpiece.tell(FAILED, str(error))
            return 2
        self._loop.watch(self._task.orders.fileno(), partial(self._obey, application, loaded))
        self._loop.watch(post.alive, self._end)
        while not self._over or self._workers:
            self._loop.step()
        self._loop.close()
        return 0

    def _obey(self, application: Callable[..., Any], loaded: int) -> None:
        orders, fds, _, _ = socket.recv_fds(self._task.orders, 64, 1)
        if not fds:
            self._end()
            return
        slot, writing = int(orders), fds[0]
        try:
            pid = fork(self._signals)
        except OSError as error:
            log.error("no worker can be started: %s", error.strerror)  # noqa: TRY400 - it says all
            os.close(writing)  # which the parent takes for its end
            return
        if pid == 0:
            self._loop.leave()
            self._task.orders.close()
            os.close(self._task.fd)
            raise Forked(
                replace(
                    self._task.post, slot=slot, fd=writing, application=application, loaded=loaded
                )
            )
        os.close(writing)
        self._workers.add(pid)
        self._mouthpiece.tell(FORKED, f"{slot} {pid}")

    def _bury(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._workers:  # else it was the application's, at its import
                self._workers.discard(pid)
                self._mouthpiece.tell(ENDED, f"{pid} {os.waitstatus_to_exitcode(status)}")

    def _end(self) -> None:
        """Fork no more."""
        if not self._over:
            self._over = True
            self._loop.unwatch(self._task.orders.fileno())
            self._loop.unwatch(self._task.post.alive)
            self._task.orders.close()
