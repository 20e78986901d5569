"""The resident servers of warm CGI: who they are, and their end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from cgi_harness import Answer, command, environment, run_script

#: Seconds after which one is taken for hanging.
DEADLINE = 30


def residents(directory: Path) -> set[int]:
    """The process ids of the servers that listen in *directory*."""
    found = set()
    for path in directory.glob("*.sock"):
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


class Site:
    """One script of warm CGI, its application, and the private directory of its server.

    Args:
        folder: Where all of it is put.
        application: Source of the module ``site_application``.
        options: Of `portico.run`, as source.
        before: Source that the script runs first.
        warm: Whether it is warm at all.
    """

    def __init__(
        self, folder: Path, application: str, options: str = "", before: str = "", *, warm=True
    ):
        self.folder = folder
        # the path of a socket has little room
        self.directory = Path(tempfile.mkdtemp(prefix="portico-")) / "warm"
        self.module = folder / "site_application.py"
        self.script = folder / "app.cgi"
        self.journal = folder / "journal"
        self.journal.touch()
        self.write(application)
        warmth = f", warm={str(self.directory)!r}" if warm else ""
        more = f", {options}" if options else ""
        self.script.write_text(
            f"{before}\nimport portico\nportico.run('site_application'{warmth}{more})\n"
        )

    def write(self, application: str) -> None:
        self.module.write_text(application.replace("JOURNAL", repr(str(self.journal))))

    def noted(self) -> list[str]:
        """The lines of the journal, which an application writes."""
        return self.journal.read_text().splitlines()

    def ask(self, stdin: bytes = b"", **params) -> Answer:
        """Run the script for one request."""
        return run_script(self.script, stdin, **params)

    def start(self, **params) -> subprocess.Popen:
        """Start the script for one request; its streams are pipes."""
        return subprocess.Popen(
            command(self.script),
            env=environment(**params),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def log(self) -> str:
        """What its servers have logged."""
        return "".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def end(self) -> None:
        """End its servers and remove their directory."""
        if self.directory.is_dir():
            end_residents(self.directory)
        shutil.rmtree(self.directory.parent)

    def residents(self) -> set[int]:
        return residents(self.directory)

    def resident(self) -> int:
        (pid,) = self.residents()
        return pid


def until(condition, what: str):
    """Wait until *condition* gives something true; gives that."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.01)
    return found
