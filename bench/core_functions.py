"""What the requests of `core_requests.py` run, by Python function: calls, bytecodes, calls of C.

Counted by the interpreter's tracing, without valgrind. Started by `bench/core.py --functions`;
prints JSON.

  python core_functions.py PLAN
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import core_requests

if TYPE_CHECKING:
    from types import CodeType, FrameType

#: What is the stand-in's own, and neither codec nor core.
OWN = core_requests.__file__

CALLS, BYTECODES, C_CALLS = range(3)


class Counter:
    """Counts from the first mark to the second, from the third to the fourth.

    Attributes:
        found: What was counted between each pair of marks.
    """

    def __init__(self) -> None:
        self.found: list[dict[CodeType, list[int]]] = []
        self._counts: dict[CodeType, list[int]] = {}
        self._on = False

    def mark(self) -> int:
        """Begin to count, or cease."""
        self._on = not self._on
        if self._on:
            self._counts = defaultdict(lambda: [0, 0, 0])
            self.found.append(self._counts)
            sys.setprofile(self._profile)
            sys.settrace(self._trace)
        else:
            sys.settrace(None)
            sys.setprofile(None)
        return 0

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            self._counts[frame.f_code][CALLS] += 1
        elif event == "opcode":
            self._counts[frame.f_code][BYTECODES] += 1
        return self._trace

    def _profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "c_call":
            self._counts[frame.f_code][C_CALLS] += 1


def name(code: CodeType) -> str:
    """Name a function by the end of its file's path and itself; what is in it counts to it."""
    module = code.co_filename.rpartition("/portico/")[2].removesuffix(".py").replace("/", ".")
    return f"{module}.{code.co_qualname.partition('.<locals>')[0]}"


def main() -> None:
    """Run what the plan says, and print what each case took for one request."""
    output = os.fdopen(os.dup(1), "w")  # CGI takes standard output
    counter = Counter()
    core_requests.mark = counter.mark
    plan = core_requests.main()
    cases = {}
    for case, counts in zip(plan["cases"], counter.found, strict=True):
        functions: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for code, numbers in counts.items():
            if code.co_filename not in {OWN, __file__}:
                total = functions[name(code)]
                for at, number in enumerate(numbers):
                    total[at] += number / plan["counted"]
        cases[case["name"]] = functions
    output.write(json.dumps(cases))
    output.close()


if __name__ == "__main__":
    main()
