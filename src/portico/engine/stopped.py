"""Reads another thread's stack where threads run at the same time; loaded when one is wanted.

Without the global interpreter lock the frames of a running thread change, and vanish, while they
are read, which can crash the interpreter. `faulthandler` stops all threads while it writes them
down (CPython 3.13.2 and later), at most 100 threads and as many frames of each.
"""

from __future__ import annotations

import faulthandler
import re
import tempfile
from traceback import FrameSummary, StackSummary
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from types import CodeType

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+) .*\(most recent call first\):$")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


def stack_of(ident: int, beginnings: AbstractSet[CodeType], most: int) -> StackSummary:
    """Give the stack of thread *ident*, the innermost frame last; empty if it has ended.

    Args:
        ident: The thread's number.
        beginnings: Where to stop: neither these nor what called them is given.
        most: Frames, the innermost.
    """
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        lines = file.read().decode("ascii", "replace").splitlines()
    outside = {(code.co_filename, code.co_name) for code in beginnings}
    frames: list[FrameSummary] = []
    inside = False
    for line in lines:
        if head := _THREAD.match(line):
            if inside:
                break
            inside = int(head[1], 16) == ident
        elif inside and (found := _FRAME.match(line)):
            name, number, function = found.groups()
            if (name, function) in outside or len(frames) == most:
                break
            frames.append(FrameSummary(name, int(number), function))
    return StackSummary.from_list(frames[::-1])
