"""Show how a service is doing: its workers, what they run, what they have served.

  portico status /run/portico-status.sock
  portico status --config /etc/mysite/portico.yaml --watch

The service must have been started with --status-socket PATH (or status_socket in its file).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from portico.errors import ConfigError, TransportError

if TYPE_CHECKING:
    import argparse

_VARIABLE = "PORTICO_STATUS_SOCKET"

#: Seconds between two looks of --watch, where none are given.
_INTERVAL_SECONDS = 1.0

#: Longest wait for an answer, seconds; a screen waits less, as it hears no key meanwhile.
_WAIT_SECONDS = 5.0
_WATCH_WAIT_SECONDS = 2.0

#: Octets of the longest answer that is taken: many times what a thousand workers have to say.
_MOST_BYTES = 64 << 20

#: Columns of the table where no terminal says otherwise.
_COLUMNS = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "socket", metavar="PATH", nargs="?", help="the service's status socket; or --socket PATH"
    )
    parser.add_argument("--socket", metavar="PATH", dest="socket_option", help="the same")
    parser.add_argument(
        "--config", metavar="FILE", help="the service's file, whose status_socket is asked"
    )
    parser.add_argument("--json", action="store_true", help="print all that is known, as JSON")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=_INTERVAL_SECONDS,
        help="show it again and again, every second by default; on a terminal's whole screen,"
        " until q or Ctrl-C",
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask once, or until told to end.

    Raises:
        ConfigError: the command line is wrong, or names no socket.
        TransportError: nobody answers there, or not as a service does.
    """
    if arguments.watch is not None and not 0.1 <= arguments.watch <= 3600:
        raise ConfigError(
            f"--watch {arguments.watch:g}: write seconds from 0.1 to 3600", key="--watch"
        )
    path = find_socket(arguments)
    if arguments.watch is None:
        _print(ask(path), None, arguments)
    elif sys.stdout.isatty() and not arguments.json:
        # lazy: termios and select, which Windows lacks and nothing else needs
        from portico.cli._status_watch import watch  # noqa: PLC0415

        watch(lambda: ask(path, _WATCH_WAIT_SECONDS), arguments.watch)
    else:
        before = None
        while True:
            found = ask(path)
            _print(found, before, arguments)
            before = found
            time.sleep(arguments.watch)
    return 0


def find_socket(arguments: argparse.Namespace) -> str:
    """Give the path of the socket to ask; what the command line names comes first.

    Raises:
        ConfigError: none is named, or it is named twice, or the file is wrong.
    """
    if arguments.socket and arguments.socket_option:
        raise ConfigError("the socket is named twice: PATH and --socket", key="--socket")
    path = arguments.socket or arguments.socket_option
    if not path and arguments.config:
        path = _of_file(arguments.config)
    path = path or os.environ.get(_VARIABLE, "")
    if not path:
        raise ConfigError(
            "no status socket is named: start the service with --status-socket PATH (or"
            " status_socket in its file), then: portico status PATH",
            key="status_socket",
        )
    return str(path)


def _of_file(file: str) -> str:
    """Give the status socket that *file* names, empty for none; what else it says may be wrong.

    Raises:
        ConfigError: it cannot be read, or the value is no path.
    """
    from portico.config.load import load  # noqa: PLC0415 - yaml: 15 ms, only for a file
    from portico.config.settings import OPTIONS  # noqa: PLC0415 - the same

    entry = load(file).get("status_socket")
    if entry is None:
        return ""
    return OPTIONS["status_socket"].read(entry.value, f"{file} line {entry.line}") or ""


def ask(path: str, seconds: float = _WAIT_SECONDS) -> dict[str, Any]:
    """Give what the service at *path* says of itself, as `portico.engine.snapshot` shapes it.

    Args:
        path: Its status socket.
        seconds: How long it may take to have said all.

    Raises:
        TransportError: nobody answers, or not as a service does.
    """
    from portico.engine.snapshot import parse  # noqa: PLC0415 - a wrong command line needs it not

    try:
        return parse(_receive(path, time.monotonic() + seconds))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise TransportError(
            f"no service answers on {path}: is it running, and with --status-socket {path}?"
        ) from error
    except PermissionError as error:
        raise TransportError(
            f"no permission to ask on {path}: it is for the user alone who started the service"
        ) from error
    except TimeoutError as error:
        raise TransportError(
            f"what listens on {path} has not answered within {seconds:g} seconds:"
            " is it the status socket?"
        ) from error
    except OSError as error:
        raise TransportError(f"cannot ask on {path}: {error.strerror or error}") from error
    except ValueError:
        raise TransportError(f"what answers on {path} is no service's status socket") from None


def _receive(path: str, deadline: float) -> bytes:
    """Read all that is said on *path* until *deadline*, a time of the monotonic clock.

    Raises:
        OSError: the system refuses; TimeoutError at the deadline.
        ValueError: the path can be none, or the answer has no end.
    """
    import socket  # noqa: PLC0415 - 6 ms that a wrong command line need not spend

    data = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.connect(path)
        while piece := sock.recv(1 << 16):
            data += piece
            if len(data) > _MOST_BYTES:
                raise ValueError("too long")
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            sock.settimeout(left)
    return bytes(data)


def _print(
    found: dict[str, Any], before: dict[str, Any] | None, arguments: argparse.Namespace
) -> None:
    """Print a snapshot in the form that was asked for; when watching, one after the other."""
    again = arguments.watch is not None
    if arguments.json:
        print(json.dumps(found, indent=None if again else 2), flush=True)
        return
    # lazy: what JSON need not load
    from portico.cli._status_view import draw, style  # noqa: PLC0415
    from portico.cli._trace_view import has_colour  # noqa: PLC0415

    columns = _COLUMNS
    if terminal := sys.stdout.isatty():
        columns = os.get_terminal_size(sys.stdout.fileno()).columns or _COLUMNS
    colour = terminal and has_colour(sys.stdout)
    lines = [style(line, columns, colour=colour) for line in draw(found, before, columns=columns)]
    print("\n".join(lines + [""] * again), flush=True)
