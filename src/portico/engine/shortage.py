"""Threads where the system has few: how many are worth trying, and what stands in their way.

A shared host limits the processes and threads of a user (RLIMIT_NPROC, or its cgroup) and the
address space of a process (RLIMIT_AS), in which each thread takes a stack of 8 MiB and, with glibc,
64 MiB for what it allocates, whether it uses them or not: under 256 MiB four threads started, and
the application had 6 MiB left.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

log = logging.getLogger("portico")

#: Octets of a thread's stack where address space is limited. Recursion in C up to the default
#: recursion limit (repr, json, pickle, compile, a sort key that sorts) takes 4 MiB at most on
#: Python 3.11 and 3.12; on 3.13 it takes 2 MiB, and 8 MiB where sort keys sort.
STACK_BYTES = 4 << 20

#: Part of the address space that is left when the application is loaded, for threads' stacks.
_STACKS_SHARE = 4

#: Octets for which a thread that is refused may have been: a stack of any size that is usual.
_LARGEST_STACK = 16 << 20

#: mallopt's name for the number of arenas, in glibc's malloc.h.
_M_ARENA_MAX = -8


def fit_threads(threads: int) -> int:
    """Prepare this process for a limit of its address space, if there is one.

    Threads get smaller stacks from here on, unless the application has chosen their size, and
    allocate from one place. For one after another, as it is with the interpreter's lock, that
    costs next to nothing.

    Args:
        threads: How many are wanted.

    Returns:
        How many of them leave room for the application, one at the least.
    """
    limit = _limit("RLIMIT_AS")
    if limit is None:
        return threads
    stack = threading.stack_size(STACK_BYTES)  # without an argument it would set the default
    if stack:
        threading.stack_size(stack)
    _share_one_arena()
    room = limit - _address_space()
    stack = stack or STACK_BYTES
    fitting = max(1, min(threads, room // _STACKS_SHARE // stack))
    if fitting < threads:
        log.info(
            "RLIMIT_AS is %d MiB, of which the application takes %d: %d of %d threads will do",
            limit >> 20, (limit - room) >> 20, fitting, threads,
        )  # fmt: skip
    return fitting


def name_limit() -> str:
    """Say which limit a thread was refused for, as far as that can be told."""
    space = _limit("RLIMIT_AS")
    if space is not None and space - _address_space() < _LARGEST_STACK:
        return f"RLIMIT_AS is {space >> 20} MiB"
    processes = _limit("RLIMIT_NPROC")
    if processes is not None:
        return f"RLIMIT_NPROC is {processes}, for all processes and threads of the user"
    tasks = _most_tasks()
    if tasks:
        return f"its cgroup may have {tasks} tasks"
    return "the system has no more"


def _limit(name: str) -> int | None:
    """Give the soft limit *name*; None where there is none."""
    if resource is None or not hasattr(resource, name):
        return None
    soft: int = resource.getrlimit(getattr(resource, name))[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _address_space() -> int:
    """Give the octets of address space that this process has; 0 where there is no /proc."""
    with suppress(OSError, ValueError, MemoryError), open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - memory is short
        return int(file.read().split()[0]) * resource.getpagesize()
    return 0


def _share_one_arena() -> None:
    """Let all threads allocate from the same place; nothing where it is not glibc's."""
    with suppress(ImportError, OSError, AttributeError, TypeError):
        import ctypes  # noqa: PLC0415 - 6 ms, where address space is limited alone

        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _most_tasks() -> str:
    """Give the most tasks that the cgroup of this process may have; empty if that is not set."""
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text("utf-8").rpartition("0::")[2].split()[0]
        text = Path(f"/sys/fs/cgroup{group}/pids.max").read_text("ascii").strip()
        return "" if text == "max" else text
    return ""
