"""A terminal for a program under test: shows what a person would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

from cli_harness import WAIT


class Terminal:
    """A program on a terminal of its own.

    It understands the sequences that Portico writes, and no others: a stray one fails the test.

    Attributes:
        lines: What stands on the screen, by row from 1.
        looks: Graphic renditions that were set, of all that was written.
        alternate, cursor, wraps: Which screen is shown, and how.
        received: All octets.
    """

    def __init__(self, *command, columns=80, rows=24, env=()):
        self._master, slave = pty.openpty()
        self._slave = slave
        self.resize(columns, rows, tell=False)
        self.before = termios.tcgetattr(slave)
        environ = {name: text for name, text in os.environ.items() if "PORTICO" not in name}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SESSION, *map(str, command)],
            stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=environ | dict(env),
            start_new_session=True,
        )  # fmt: skip
        self._pending = b""
        self.lines = {}
        self.other = {}
        self.row = self.column = 1
        self.cursor = self.wraps = True
        self.alternate = False
        self.received = b""
        self.looks = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT)
        self.process.stderr.close()
        os.close(self._master)
        os.close(self._slave)

    def resize(self, columns, rows, *, tell=True):
        """Change the size; the kernel sends the signal."""
        self.columns, self.rows = columns, rows
        if tell:
            self.lines = {}
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def type(self, text):
        os.write(self._master, text)

    def mode(self):
        return termios.tcgetattr(self._slave)

    def text(self):
        """What stands on the screen."""
        return "\n".join(self.lines.get(row, "") for row in range(1, self.rows + 1))

    def await_screen(self, condition, what):
        """Take what the program writes until *condition* holds of the terminal."""
        deadline = time.monotonic() + WAIT
        while not condition(self):
            assert time.monotonic() < deadline, f"{what}; the screen:\n{self.text()}"
            self.take(0.05)

    def await_end(self):
        """Give the exit status; all that was written is taken."""
        deadline = time.monotonic() + WAIT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()
            self.take(0.05)
        while self.take(0):
            pass
        return self.process.returncode

    def take(self, seconds):
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        with contextlib.suppress(OSError):
            data = os.read(self._master, 65_536)
            self.received += data
            self._feed(data)
            return bool(data)
        return False

    def _feed(self, data):
        text = (self._pending + data).decode("ascii")
        self._pending = b""
        while text:
            if found := re.match(r"\x1b\[([?\d;]*)([A-Za-z])", text):
                self._obey(*found.groups())
            elif text[0] == "\x1b":
                assert len(text) < 12, f"unknown sequence {text[:20]!r}"
                self._pending = text.encode()
                return
            elif found := re.match(r"[ -~]+", text):
                self._write(found[0])
            else:
                found = re.match(r"[\r\n]", text)
                assert found, f"control character {text[0]!r} reached the terminal"
                self.column = 1
                self.row += text[0] == "\n"
            text = text[found.end() :]

    def _obey(self, parameters, final):
        if final == "H":
            row, column = (int(part or 1) for part in (*parameters.split(";"), "1")[:2])
            self.row, self.column = row, column
        elif final == "K":
            assert parameters == "2"
            self.lines[self.row] = ""
        elif final == "m":
            self.looks.add(parameters)
        elif parameters == "?1049":
            self.alternate = final == "h"
            self.lines, self.other = self.other, self.lines
        elif parameters == "?25":
            self.cursor = final == "h"
        elif parameters == "?7":
            self.wraps = final == "h"
        else:
            raise AssertionError(f"unknown sequence {parameters}{final}")

    def _write(self, text):
        line = self.lines.get(self.row, "").ljust(self.column - 1)
        self.lines[self.row] = line[: self.column - 1] + text + line[self.column - 1 + len(text) :]
        self.column += len(text)


#: Makes the terminal the session's own, so that its keys send signals, and becomes the command.
_SESSION = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

PORTICO = (sys.executable, "-m", "portico")
SHELL = ("bash", "--norc", "--noediting", "-i")
