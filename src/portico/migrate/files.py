"""Reads what is to be migrated: bounded, and as text."""

from __future__ import annotations

import stat
from pathlib import Path

from portico.errors import ConfigError

#: Octets of the largest file that is read; no configuration or launcher has as many.
MOST_BYTES = 1_048_576


def read(path: str) -> str:
    """Read a file's text; octets that are no UTF-8 come through as surrogates.

    Raises:
        ConfigError: it cannot be read, is no file, has a NUL in it, or is too large.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # first: opening a FIFO would wait
            raise refusal(path, 0, "is no regular file")
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise refusal(path, 0, f"cannot be read: {error.strerror}") from error
    except ValueError:  # a NUL in the path
        raise refusal(repr(path), 0, "is no path of a file") from None
    if len(data) > MOST_BYTES:
        raise refusal(path, 0, f"has more than {MOST_BYTES} octets, which no configuration needs")
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise refusal(path, 0, "is UTF-16; save it as UTF-8")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise refusal(path, line, "has a NUL in it, so it is no text")
    return data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


def is_file(path: str) -> bool:
    """Whether there is such a file."""
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long
        return False


def refusal(path: str, line: int, fault: str) -> ConfigError:
    """Make the exception for a file, or one of its lines."""
    source = f"{path} line {line}" if line else path
    return ConfigError(f"{source} {fault}", source=source)
