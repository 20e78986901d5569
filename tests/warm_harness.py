"""The resident servers of warm CGI: who they are, and their end."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

#: Seconds after which one is taken for hanging.
DEADLINE = 30


def residents(directory: Path) -> set[int]:
    """The process ids of the servers that listen in *directory*."""
    found = set()
    for path in directory.glob("*.socket"):
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            sock.connect(str(path))
            found.add(peer(sock))
    return found


def peer(sock: socket.socket) -> int:
    """The process that listens behind a connection."""
    return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b") ")[2][:1] not in b"ZX"


def wait_for_end(pids: set[int]) -> None:
    deadline = time.monotonic() + DEADLINE
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"{pids} do not end"
        time.sleep(0.01)


def end_residents(directory: Path, number: int = signal.SIGTERM) -> set[int]:
    """End all servers that listen in *directory* and wait until they are gone."""
    pids = residents(directory)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    wait_for_end(pids)
    return pids
