"""The standard descriptors of a process that a web server started."""

from __future__ import annotations

import os


def open_missing() -> None:
    """Put the null device on each of 0, 1 and 2 that is closed.

    A FastCGI process is started with 1 and 2 closed (FastCGI 1.0 §2.2): the next socket or file
    would take their numbers, and a stray ``print`` would write into it.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            _put_null_on(fd)


def move_away(fd: int) -> int:
    """Move *fd* above the standard descriptors and leave the null device in its place.

    Without that each program that the application starts would inherit the socket as its
    standard input, and could take connections from it.

    Returns:
        The new descriptor, not inheritable; owned by the caller.

    Raises:
        OSError: no descriptor is left.
    """
    import fcntl  # noqa: PLC0415 - POSIX only

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    _put_null_on(fd)
    return moved


def _put_null_on(fd: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == fd:
        os.set_inheritable(fd, True)  # as standard descriptors are
        return
    os.dup2(null, fd)
    os.close(null)
