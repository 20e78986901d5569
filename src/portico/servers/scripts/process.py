"""Runs a program as a web server would: bounded in time and in output, and ended with its group."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from portico.servers.account import Account

#: PATH where Apache was started without one, and what suexec sets.
SEARCH = "/usr/local/bin:/usr/bin:/bin"

#: Octets of each stream that are kept; what writes more is ended.
MOST_OUTPUT = 1 << 20

#: What `portico.run` logs where no resident server answers: for a look none is started.
_NOT_WARM = re.compile(r"^portico: warm CGI: .*\n", re.MULTILINE)

#: Names the run in the environment of all that it starts.
_RUN = "PORTICO_CHECK"

#: How often what has left the group is looked for; each look ends all that it finds.
_MOST_SWEEPS = 10

#: How long a process may take to write its stack, and to end, seconds.
_END_SECONDS = 1.0

_POLL_SECONDS = 0.05


@dataclass(slots=True)
class Ended:
    """What a program did.

    Attributes:
        out: Its standard output.
        err: Its standard error; with the stacks of its threads where it is a Python that hung.
        status: Exit status, negative for a signal.
        hung: Whether it was ended because its time was up.
        flooded: Whether it was ended because of too much output.
    """

    out: bytes = b""
    err: bytes = b""
    status: int = 0
    hung: bool = False
    flooded: bool = False

    @property
    def words(self) -> str:
        """Its standard error as text, without that no resident server could be started here."""
        text = self.err.decode("utf-8", "backslashreplace")
        return _NOT_WARM.sub("", text)


def run_bounded(
    command: Sequence[str],
    *,
    directory: Path,
    environ: Mapping[str, str],
    seconds: float,
    account: Account | None = None,
) -> Ended:
    """Run *command* to its end, at most for *seconds*, without input.

    Raises:
        ConfigError: the system does not start it.
    """
    with started(command, directory=directory, environ=environ, account=account) as process:
        return collect(process, seconds)


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    directory: Path,
    environ: Mapping[str, str],
    account: Account | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a session of its own; the end of the context ends all of it.

    Args:
        command: Program and arguments.
        directory: Working directory.
        environ: Its whole environment.
        account: Who runs it; the present user by default.
        stdin: Descriptor 0.

    Raises:
        ConfigError: the system does not start it.
    """
    mark = f"{_RUN}={os.urandom(16).hex()}"
    try:
        process = subprocess.Popen(  # noqa: S603 - what the operator asked to be tried
            list(command),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**environ, _RUN: mark.partition("=")[2]},
            start_new_session=True,
            user=account.uid if account else None,
            group=account.group if account else None,
            extra_groups=sorted(account.gids) if account else None,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise ConfigError(f"cannot start {command[0]}: {reason}") from error
    _forbid_cores(process.pid)
    try:
        yield process
    finally:
        end(process)
        _end_escaped(mark)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def collect(process: subprocess.Popen[bytes], seconds: float) -> Ended:
    """Take what the process writes until it ends, its time is up or it writes too much."""
    ended = Ended()
    kept: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("out", process.stdout), ("err", process.stderr)):
            assert pipe is not None  # noqa: S101 - pipes were asked for
            selector.register(pipe, selectors.EVENT_READ, name)
        last = 0.0
        while selector.get_map():
            now = time.monotonic()
            if process.poll() is not None and not last:
                last = now + _END_SECONDS  # what it left running may hold the pipes for ever
            if last and now > last:
                break
            if now > deadline:
                if ended.hung:
                    break
                ended.hung = True
                deadline = now + _END_SECONDS
                _ask_for_stacks(process)
            for key, _ in selector.select(_POLL_SECONDS):
                data = os.read(key.fd, 65_536)
                if not data:
                    selector.unregister(key.fileobj)
                kept[key.data] += data
                if len(kept[key.data]) > MOST_OUTPUT:
                    ended.flooded = True
            if ended.flooded:
                break
    if not ended.hung and not ended.flooded:
        ended.hung = not _ends(process, deadline - time.monotonic())
    end(process)
    ended.out, ended.err = bytes(kept["out"]), bytes(kept["err"])
    ended.status = process.returncode
    return ended


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its session that is left in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def private_directory() -> tempfile.TemporaryDirectory[str]:
    """Make a directory that is gone with its context."""
    return tempfile.TemporaryDirectory(prefix="portico-", ignore_cleanup_errors=True)


def _end_escaped(mark: str) -> None:
    """End what has left the process's group, such as a daemon: its environment tells.

    Linux alone shows it.
    """
    sought = mark.encode()
    for _ in range(_MOST_SWEEPS):
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _has(path, sought)]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _has(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(max(seconds, _POLL_SECONDS))
    except subprocess.TimeoutExpired:
        return False
    return True


def _ask_for_stacks(process: subprocess.Popen[bytes]) -> None:
    """Have a Python with PYTHONFAULTHANDLER write where its threads stand."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        process.send_signal(signal.SIGABRT)


def _forbid_cores(pid: int) -> None:
    """A script that is aborted leaves no file behind."""
    import resource  # noqa: PLC0415 - POSIX alone

    if hasattr(resource, "prlimit"):
        with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
