"""Forks, and gets the new process out of the frames of the old one."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


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
