"""Explain a capture of FastCGI, SCGI, AJP or uwsgi, and mark where it breaks the rules.

FILE holds the raw octets of one direction of one connection, - is standard input:

  portico decode request.bin
  gunzip -c response.bin.gz | portico decode - --from server

What it speaks is told from its first octets, and so is who sent it. A line stands for each record
or packet; a line that begins with !! names a rule that is broken, and where it is written. The exit
status is 0 where none is, 1 where one is, 2 where FILE is not what can be explained.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from portico.codecs import PROTOCOLS
from portico.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import BinaryIO

    from portico.trace.items import Dissector, Item

#: Octets that are read at once.
_BLOCK_BYTES = 65_536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="raw octets as sent; - is standard input")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        help="what the octets are to be read as; told from them by default",
    )
    parser.add_argument(
        "--from",
        dest="sender",
        choices=("frontend", "server"),
        help="who sent them: the web server or the application server; told from them by default",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.add_argument(
        "--full",
        action="store_true",
        help="print long values whole, and those that look secret as well",
    )


def run(arguments: argparse.Namespace) -> int:
    """Explain the octets.

    Returns:
        Exit status: 0 where they obey the rules, 1 where they do not.

    Raises:
        ConfigError: there is nothing that can be explained.
    """
    # lazy: the rooms of this command alone
    from portico.cli import _trace_view as view  # noqa: PLC0415
    from portico.trace.items import END, LOST  # noqa: PLC0415

    with ExitStack() as stack:
        blocks = _read(_open(arguments.file, stack), arguments.file)
        first = _first(blocks, arguments.file)
        dissector = _choose(arguments, first)
        show = view.Json(full=arguments.full) if arguments.json else view.Table(
            full=arguments.full, colour=view.has_colour(sys.stdout)
        )  # fmt: skip
        show.begin(dissector)
        records = 0
        for item in _items(dissector, first, blocks):
            records += item.name not in (END, LOST)
            show.item(item)
        show.end(dissector, records)
    return 1 if dissector.faults else 0


def _open(name: str, stack: ExitStack) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(name, "rb"))  # noqa: PTH123 - a plain path
    except OSError as exc:
        raise ConfigError(f"cannot read {name}: {exc.strerror}", key="FILE") from exc


def _read(source: BinaryIO, name: str) -> Iterator[bytes]:
    """Give blocks as they come, so that a pipe is explained while it runs."""
    read = getattr(source, "read1", source.read)
    try:
        while block := read(_BLOCK_BYTES):
            yield block
    except OSError as exc:
        raise ConfigError(f"cannot read {name}: {exc.strerror}", key="FILE") from exc


def _first(blocks: Iterator[bytes], name: str) -> bytes:
    """Give the first block, with those after it until there are octets enough."""
    from portico.trace.detect import ENOUGH_BYTES  # noqa: PLC0415 - as in `run`

    first = b""
    while len(first) < ENOUGH_BYTES and (block := next(blocks, b"")):
        first += block
    if not first:
        raise ConfigError(f"{'standard input' if name == '-' else name} is empty", key="FILE")
    return first


def _choose(arguments: argparse.Namespace, first: bytes) -> Dissector:
    """Give the dissector that the arguments name, or the octets tell.

    Raises:
        ConfigError: they are of no gateway protocol.
    """
    from portico.trace import dissector  # noqa: PLC0415 - as in `run`
    from portico.trace.detect import detect  # noqa: PLC0415

    guess = detect(first, arguments.sender or "")
    if not arguments.protocol and not guess.protocol:
        what = guess.stranger or f"of no gateway protocol: it begins with {first[:8].hex(' ')}"
        sender = f" from the {arguments.sender}" if arguments.sender else ""
        raise ConfigError(
            f"{'standard input' if arguments.file == '-' else arguments.file} is{sender} {what}"
            " (--protocol reads it all the same)",
            key="FILE",
        )
    protocol = arguments.protocol or guess.protocol
    return dissector(protocol, arguments.sender or guess.direction or "frontend")


def _items(dissector: Dissector, first: bytes, blocks: Iterator[bytes]) -> Iterator[Item]:
    yield from dissector.receive_data(first)
    for block in blocks:
        yield from dissector.receive_data(block)
    yield from dissector.receive_eof()
