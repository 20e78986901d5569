"""Instructions counted by valgrind, so that the count is the same each time."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

#: The function of libc at which a script tells callgrind that a part of it ends, `os.getppid`; and
#: its name where libc's own symbols are installed.
_MARKS = ("getppid", "__getppid")

#: What glibc is to do without when it chooses how to copy: not every processor has it, and an
#: octet moved by ERMS counts as an instruction.
_UNUSED = (
    "AVX", "AVX2", "AVX2_Usable", "AVX_Fast_Unaligned_Load", "AVX512VL", "BMI1", "BMI2", "ERMS",
    "FSRM", "LZCNT", "MOVBE",
)  # fmt: skip

#: Seconds that one run may take; it takes three, on a quiet machine.
_MOST_SECONDS = 300


class Part(NamedTuple):
    """What was counted from one mark to the next.

    Attributes:
        instructions: All of them, of the process alone and not of the system.
        by_function: Those of each function of the interpreter and the libraries, by itself.
    """

    instructions: int
    by_function: dict[str, int]


class CountingError(Exception):
    """The script under valgrind failed, or valgrind did."""


def missing() -> bool:
    """Whether there is no valgrind here."""
    return shutil.which("valgrind") is None


def command(directory: str, *options: str, python: str = sys.executable) -> list[str]:
    """Give the words that let valgrind count a Python, and whatever that forks."""
    return [
        shutil.which("valgrind") or "valgrind", "--tool=callgrind",
        f"--callgrind-out-file={directory}/out.%p", *options, python,
    ]  # fmt: skip


def collected(said: str) -> int:
    """Add up what valgrind says that it has counted, in all processes.

    Raises:
        CountingError: it has counted nothing.
    """
    found = re.findall(r"Collected : (\d+)", said)
    if not found:
        raise CountingError(f"valgrind counted nothing:\n{said}")
    return sum(map(int, found))


def environment(source: Path) -> dict[str, str]:
    """Give the whole environment of a script to count, with Portico from *source*.

    Nothing of the caller's is in it: the place of the stack depends on its length, and much else
    on what it says.
    """
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(source),
        "PYTHONHASHSEED": "0",  # the order of names decides how often a dictionary looks again
        "GLIBC_TUNABLES": f"glibc.cpu.hwcaps={','.join(f'-{name}' for name in _UNUSED)}",
    }


def parts(
    script: list[str], environment: dict[str, str], *, python: str = sys.executable
) -> list[Part]:
    """Run a script and give what is between its marks.

    Args:
        script: File and arguments.
        environment: As `environment` gives it, and what the script wants beside that.
        python: The interpreter, which runs without `site`.

    Raises:
        CountingError: the script failed, or set fewer than two marks.
    """
    options = [f"--dump-before={name}" for name in _MARKS]
    with tempfile.TemporaryDirectory(prefix="portico-count-") as directory:
        done = subprocess.run(
            [*command(directory, *options, python=python), "-S", *script],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_MOST_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CountingError(f"{' '.join(script)} ended with {done.returncode}\n{done.stderr}")
        files = sorted(Path(directory).iterdir(), key=_number)
        # the first ends at the first mark, and the last begins at the last one
        found = [_read(path) for path in files if _number(path)][1:]
    if not found:
        raise CountingError(f"no marks in {' '.join(script)}\n{done.stderr}")
    return found


def _number(path: Path) -> int:
    """Tell which part of a process a file is: ``out.PID.NUMBER``; that of its end has none."""
    return int(path.suffix[1:]) if path.name.count(".") > 1 else 0


def _read(path: Path) -> Part:
    """Read callgrind's file: ``fn=`` begins a function, ``calls=`` a line about its callees'."""
    names: dict[str, str] = {}
    by_function: dict[str, int] = {}
    total = 0
    function = ""
    skip = False
    for line in path.read_text().splitlines():
        if line.startswith("fn="):
            number, _, name = line[3:].partition(" ")
            if name:
                names[number] = name
            function = names[number]
        elif line.startswith("cfn="):
            number, _, name = line[4:].partition(" ")
            if name:
                names[number] = name
        elif line.startswith("calls="):
            skip = True
        elif line[:1].isdigit() or line.startswith(("+", "-", "*")):
            if not skip:
                count = int(line.split()[1])
                by_function[function] = by_function.get(function, 0) + count
            skip = False
        elif line.startswith("summary:"):
            total = int(line.split()[1])
    return Part(total, by_function)
