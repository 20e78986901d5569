"""Loads applications in a process of their own, to see whether that works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from portico.config.application import load
from portico.config.option import plain
from portico.config.settings import Settings
from portico.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

#: How long the process may take to end once it has said how it went, seconds.
_END_SECONDS = 2.0

_LOOK_SECONDS = 0.02

#: With this process's path for imports, as the one that serves would have it.
_CODE = "import sys; sys.path[:] = {path!r}; from portico.cli import _loading; _loading.main()"


def try_loading(settings: Settings) -> str:
    """Load what *settings* name, in a process that ends again.

    What the application prints goes to standard error.

    Returns:
        Why it cannot be loaded, in one sentence, a traceback below it where there is one; empty
        where it can.
    """
    with tempfile.TemporaryDirectory(prefix="portico-") as directory:
        answer = Path(directory) / "answer"
        with _start(answer) as process:
            try:
                assert process.stdin is not None  # noqa: S101 - a pipe was asked for
                values = {f.name: plain(getattr(settings, f.name)) for f in fields(settings)}
                process.stdin.write(json.dumps(values).encode())
                process.stdin.close()
                in_time = _await_answer(process, answer, settings.startup_timeout)
            finally:
                _kill(process)
        if answer.exists():
            return answer.read_text("utf-8")
    if not in_time:
        return f"the application does not load within {settings.startup_timeout:g} seconds"
    return f"loading the application ended its process, {_ending(process.returncode)}"


def main() -> None:
    """Load, in the process that was started for it, and leave the answer."""
    answer = Path(sys.argv[1])
    settings = Settings(**json.load(sys.stdin))
    try:
        load(settings)
        text = ""
    except ConfigError as error:
        text = str(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
        text = f"loading the application raised {type(error).__name__}\n" + traceback.format_exc()
    whole = answer.with_suffix(".new")
    whole.write_text(text.rstrip(), "utf-8", "backslashreplace")
    whole.rename(answer)


def _start(answer: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-c", _CODE.format(path=sys.path), str(answer)],
        stdin=subprocess.PIPE,
        stdout=2,  # standard output is for the report
        start_new_session=True,  # so that what the application starts can be ended with it
    )


def _await_answer(process: subprocess.Popen[bytes], answer: Path, seconds: float) -> bool:
    """Wait until the process has ended, or has answered and had time to; whether it has."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and not answer.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:  # threads of the application's, which it is to end itself
        return True
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    if not hasattr(os, "killpg"):
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # ended, all of them
        return


def _ending(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"
