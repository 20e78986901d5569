"""The standard descriptors: none missing, none a socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from portico.transports import stdio

OPEN_MISSING = """
import json, os, sys
report = int(sys.argv[1])
for fd in map(int, sys.argv[2].split()):
    os.close(fd)
from portico.transports import stdio
stdio.open_missing()
null = os.stat(os.devnull)
same = [os.path.samestat(os.fstat(fd), null) for fd in range(3)]
inherited = [os.get_inheritable(fd) for fd in range(3)]
os.write(report, json.dumps([same, inherited]).encode())
"""


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        ("0 1 2", [True, True, True]),
        ("1 2", [False, True, True]),
        ("1", [False, True, False]),
        ("", [False, False, False]),
    ],
)
def test_missing_descriptors_become_the_null_device(closed, expected):
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", OPEN_MISSING, str(writing), closed],
        pass_fds=[writing],
        input=b"",
        capture_output=True,
        timeout=30,
        check=False,
    )
    os.close(writing)
    with os.fdopen(reading) as report:
        same, inherited = json.loads(report.read())
    assert same == expected
    assert inherited == [True, True, True]
    assert done.returncode in {0, 120}  # 120: the interpreter misses its closed stdout


def test_moved_descriptor_works_and_leaves_the_null_device():
    reading, writing = os.pipe()
    moved = stdio.move_away(reading)
    os.write(writing, b"abc")
    assert os.read(moved, 10) == b"abc"
    assert not os.get_inheritable(moved)
    assert os.path.samestat(os.fstat(reading), Path(os.devnull).stat())
    for fd in (reading, writing, moved):
        os.close(fd)
