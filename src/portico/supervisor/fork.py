"""Forks, and gets the new process out of the frames of the old one."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType


#: Signals that are the parent's business; by name, as not every system has them all.
_PARENT_S = ("SIGINT", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1")


class Work(Protocol):
    """What a new process is for."""

    def work(self) -> int:
        """Do it, and give the exit status; raises `Forked` in a process that it forks itself."""
        ...


class Forked(BaseException):
    """This is a new process; raised up to where its parent's frames end.

    Attributes:
        task: What it is to do.
    """

    def __init__(self, task: Work) -> None:
        super().__init__()
        self.task = task


def fork(signals: Iterable[int]) -> int:
    """Fork; gives the new process's id, 0 in that process.

    There *signals* stay blocked, until their handlers are no longer those of the old process.

    Raises:
        OSError: the system has no process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def forget_signals() -> None:
    """In a new process: take no signal as its parent did, and block none any more.

    What a terminal sends to all processes alike is left to the parent; the rest ends this process,
    which has nothing to lose yet.
    """
    for name in _PARENT_S:
        # no SIG_IGN: programs that the application starts would inherit that
        signal.signal(getattr(signal, name), _pass_over)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Take a signal that is for the parent."""


def do(task: Work) -> int:
    """Do *task* here, and in each new process what that is for.

    Returns:
        The exit status, in the process that called.

    Raises:
        SystemExit: in a new process, at its end.
    """
    is_new = False
    while True:
        try:
            status = task.work()
        except Forked as forked:
            task = forked.task
            is_new = True
            continue  # outside of the clause the old frames, and what they held, are gone
        if is_new:
            raise SystemExit(status)
        return status
