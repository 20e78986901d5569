"""Show how a service is doing: its workers, what they run, what they have served.

  portico status /run/portico-status.sock
  portico status --config /etc/mysite/portico.yaml --watch

The service must have been started with --status-socket PATH (or status_socket in its file).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from portico.cli import _status_view as view
from portico.config import resolve
from portico.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Longest wait for the service's answer, seconds; its parent does little else.
_WAIT_SECONDS = 5.0

#: Octets of the longest answer that is taken.
_MOST_BYTES = 64 << 20

#: The terminal's other screen, without a cursor; and back.
_OPEN, _CLOSE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"

#: To the corner; erase to the end of the line, and of the screen.
_HOME, _LINE_END, _SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("socket", metavar="PATH", nargs="?", help="the service's status socket")
    parser.add_argument("--config", metavar="FILE", help="the service's file, which names it")
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=1.0,
        help="show it again and again, every second by default; q ends it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask once, or until told to end."""
    path = _find_socket(arguments)
    if arguments.watch is not None:
        if not 0.1 <= arguments.watch <= 3600:
            raise ConfigError(f"--watch {arguments.watch:g}: write seconds from 0.1 to 3600")
        _watch(path, arguments.watch, as_json=arguments.json)
        return 0
    found = ask(path)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(view.table(found, width=_width())))
    return 0


def ask(path: str) -> dict[str, Any]:
    """Give what the service at *path* says of itself.

    Raises:
        TransportError: nobody answers, or not as a service does.
    """
    data = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_WAIT_SECONDS)
            sock.connect(path)
            while piece := sock.recv(1 << 16):
                data += piece
                if len(data) > _MOST_BYTES:
                    raise TransportError(f"what answers on {path} is no service's status socket")
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise TransportError(
            f"no service answers on {path}: is it running, and with --status-socket {path}?"
        ) from error
    except PermissionError as error:
        raise TransportError(
            f"no permission to ask on {path}: it is for the user alone who started the service"
        ) from error
    except OSError as error:
        raise TransportError(f"cannot ask on {path}: {error.strerror or error}") from error
    try:
        found = json.loads(data)
        return {**found, "parent": found["parent"], "total": found["total"]}
    except (ValueError, KeyError, TypeError):
        raise TransportError(f"what answers on {path} is no service's status socket") from None


def _find_socket(arguments: argparse.Namespace) -> str:
    if arguments.socket:
        return str(arguments.socket)
    settings, _ = resolve.resolve(argparse.Namespace(), os.environ, arguments.config)
    if settings.status_socket:
        return settings.status_socket
    raise ConfigError(
        "no status socket is named: start the service with --status-socket PATH (or status_socket"
        " in its file), then: portico status PATH",
        key="status_socket",
    )


def _width() -> int:
    return shutil.get_terminal_size().columns


def _watch(path: str, seconds: float, *, as_json: bool) -> None:
    """Show it until q, Ctrl-C or SIGTERM; without a terminal, one table after the other."""
    screen = sys.stdout.isatty() and not as_json
    before: dict[str, Any] | None = None
    signal.signal(signal.SIGTERM, _interrupt)
    with _full_screen() if screen else _nothing():
        while True:
            found = ask(path)
            if as_json:
                print(json.dumps(found), flush=True)
            elif screen:
                size = shutil.get_terminal_size()
                lines = view.table(found, before, width=size.columns)[: size.lines - 1]
                text = "".join(f"{line}{_LINE_END}\n" for line in lines)
                sys.stdout.write(f"{_HOME}{text}{_SCREEN_END}")
                sys.stdout.flush()
            else:
                print("\n".join(view.table(found, before, width=_width())), flush=True)
                print()
            before = found
            if _pause(seconds, keys=screen and sys.stdin.isatty()):
                return


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _pause(seconds: float, *, keys: bool) -> bool:
    """Wait; whether q was pressed meanwhile."""
    if not keys:
        time.sleep(seconds)
        return False
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and os.read(sys.stdin.fileno(), 64).lower().startswith(b"q")


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _full_screen() -> Iterator[None]:
    """Take the terminal's other screen, and give it back whatever happens."""
    import termios  # noqa: PLC0415 - POSIX only
    import tty  # noqa: PLC0415 - likewise

    fd = sys.stdin.fileno() if sys.stdin.isatty() else -1
    before = termios.tcgetattr(fd) if fd >= 0 else None
    try:
        if fd >= 0:
            tty.setcbreak(fd)
        sys.stdout.write(_OPEN)
        # a change of the window's size ends the pause, so that it is drawn anew
        signal.signal(signal.SIGWINCH, lambda *_: None)
        yield
    finally:
        sys.stdout.write(_CLOSE)
        sys.stdout.flush()
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
