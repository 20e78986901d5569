"""The live screen of `portico status --watch`: drawn anew at intervals, gone without a trace.

Signals are only noted, and end the wait for the next drawing: so whatever ends the screen, the
terminal is put back in one place.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from portico.cli._status_view import NOTE, TROUBLE, Line, age, clean, draw, style
from portico.cli._trace_view import has_colour
from portico.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: To the alternate screen, no cursor, no wrapping; and all of it back (xterm's control sequences).
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"

_SIGNALS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH, signal.SIGTSTP,
)  # fmt: skip

#: Columns and lines of a terminal that does not know its own.
_USUAL_SIZE = (80, 24)

_FOOT = "every {:g} s   q ends"


def watch(ask: Callable[[], dict[str, Any]], interval: float) -> None:
    """Show the service until the user has seen enough.

    Args:
        ask: Gives a snapshot, or raises `TransportError`.
        interval: Seconds between two looks.

    Raises:
        TransportError: the service does not answer the first time.
        KeyboardInterrupt: Ctrl-C; any other signal ends the process itself.
    """
    found = ask()  # before the screen changes: what is wrong is to stay readable
    ending = _Watch(ask, interval, found).run()
    if ending == signal.SIGINT:
        raise KeyboardInterrupt
    if ending:
        signal.signal(ending, signal.SIG_DFL)
        os.kill(os.getpid(), ending)


class _Watch:
    """The screen, from its begin to its end.

    Args:
        ask: As for `watch`.
        interval: Likewise.
        found: The first snapshot.
    """

    def __init__(
        self, ask: Callable[[], dict[str, Any]], interval: float, found: dict[str, Any]
    ) -> None:
        self._ask = ask
        self._interval = interval
        self._found = found
        self._before: dict[str, Any] | None = None
        self._trouble = ""
        self._screen = _Screen()
        self._noted: list[int] = []
        self._woken, self._wake = os.pipe()
        for fd in (self._woken, self._wake):
            os.set_blocking(fd, False)

    def run(self) -> int:
        """Draw until a key or a signal ends it; gives the signal, 0 for a key."""
        handlers = {number: signal.signal(number, self._note) for number in _SIGNALS}
        wake = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            self._screen.enter()
            return self._go_on()
        finally:
            self._screen.leave()
            signal.set_wakeup_fd(wake)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(self._woken)
            os.close(self._wake)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's interface
        self._noted.append(number)

    def _go_on(self) -> int:
        due = time.monotonic() + self._interval
        while True:
            self._draw()
            pressed = self._wait(due)
            while self._noted:
                number = self._noted.pop(0)
                if number == signal.SIGTSTP:
                    self._suspend()
                elif number != signal.SIGWINCH:
                    return number
            # an arrow or the like is a sequence of its own
            if not pressed.startswith(b"\x1b") and {*pressed} & {*b"qQ"}:
                return 0
            if time.monotonic() >= due:
                self._look()
                due = time.monotonic() + self._interval

    def _look(self) -> None:
        try:
            found = self._ask()
        except TransportError as error:  # it may be starting anew
            self._trouble = str(error)
        else:
            self._before, self._found, self._trouble = self._found, found, ""

    def _draw(self) -> None:
        columns, rows = self._screen.size()
        lines = draw(self._found, self._before, columns=columns, rows=max(1, rows - 2))
        lines += [Line("")] * (rows - 1 - len(lines))
        self._screen.draw([*lines, self._foot(columns)][-rows:], columns)

    def _foot(self, columns: int) -> Line:
        if not self._trouble:
            return Line(_FOOT.format(self._interval)[:columns], NOTE)
        old = age(time.time() - self._found["time"])
        return Line(f"{old} old: {clean(self._trouble)}"[:columns], TROUBLE)

    def _wait(self, due: float) -> bytes:
        """Wait until *due*, a signal or a key; gives what was typed."""
        while True:
            fds = [self._woken, *self._screen.keyboard]
            ready, _, _ = select.select(fds, [], [], max(0.0, due - time.monotonic()))
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, 1024)
            if self._woken in ready or not ready:
                return b""
            if typed := self._screen.read_key():
                return typed

    def _suspend(self) -> None:
        """Give the terminal back, stop, and take it again when the shell goes on with us."""
        self._screen.leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self._screen.enter()


class _Screen:
    """The terminal on standard output, and its keyboard where standard input is one.

    Attributes:
        keyboard: The descriptor that keys come from; none once it has ended.
    """

    def __init__(self) -> None:
        self._out = sys.stdout.fileno()
        self.keyboard = [0] if os.isatty(0) else []
        self._mode = termios.tcgetattr(0) if self.keyboard else None
        self._colour = has_colour(sys.stdout)

    def enter(self) -> None:
        """Take the whole screen, and each key as it is pressed, without an echo."""
        if self._mode is not None:
            tty.setcbreak(0, termios.TCSADRAIN)
        self._write(_ENTER)

    def leave(self) -> None:
        """Put everything back."""
        with suppress(OSError):  # the terminal may have gone
            self._write(_LEAVE)
        if self._mode is not None:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSADRAIN, self._mode)

    def size(self) -> tuple[int, int]:
        """Give columns and lines, as they are now."""
        try:
            columns, rows = os.get_terminal_size(self._out)
        except OSError:
            columns, rows = 0, 0
        return columns or _USUAL_SIZE[0], rows or _USUAL_SIZE[1]

    def draw(self, lines: list[Line], columns: int) -> None:
        """Put *lines* where the last drawing was; written at once, so it does not flicker."""
        shown = "".join(
            # erased before, as a full line leaves the cursor on its last character
            f"\x1b[{row};1H\x1b[2K{style(line, columns, colour=self._colour)}"
            for row, line in enumerate(lines, start=1)
        )
        self._write(shown.encode("ascii", "replace"))

    def read_key(self) -> bytes:
        """Give what was typed; nothing at the end of it."""
        try:
            typed = os.read(0, 1024)
        except OSError:
            typed = b""
        if not typed:
            self.keyboard = []
        return typed

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._out, data) :]
