"""Runs a script as FastCGI: with a listening socket on descriptor 0, as mod_fcgid starts it."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from portico.client.exchange import BackendError, Timeouts
from portico.client.pool import Pool
from portico.servers.scripts import interpreter
from portico.servers.scripts.answer import failure
from portico.servers.scripts.findings import Finding, found
from portico.servers.scripts.process import Ended, collect, end, private_directory, started
from portico.servers.scripts.trial import about_module

if TYPE_CHECKING:
    from portico.servers.scripts.trial import Trial


def try_as_fastcgi(trial: Trial) -> list[Finding]:
    """Send one request; tells what is wrong.

    Raises:
        ConfigError: the system does not start it.
    """
    ends: list[Ended] = []
    with private_directory() as directory, socket.socket(socket.AF_UNIX) as listener:
        address = f"{directory}/fastcgi.sock"
        listener.bind(address)
        listener.listen(8)
        with started(
            trial.command,
            directory=trial.path.parent,
            environ={**interpreter.bare_environ(), **trial.extra},
            account=trial.account,
            stdin=listener.fileno(),
        ) as process:
            listener.close()  # the script alone has it now: its end ends the waiting
            reader = threading.Thread(
                target=lambda: ends.append(collect(process, trial.seconds + 1))
            )
            reader.start()
            try:
                finding = _ask(trial, address)
                if finding is not None and finding.code == "hangs":
                    reader.join()  # which has the script write its stacks, when its time is up
            finally:
                end(process)
                reader.join()
    if finding is None:
        return []
    words = ends[0].words or ends[0].out.decode("utf-8", "backslashreplace")
    finding = about_module(trial, words) or failure(words, finding)
    return [finding if finding.detail else replace(finding, detail=words.rstrip())]


def _ask(trial: Trial, address: str) -> Finding | None:
    """Send the request; None for a good answer."""
    process_only = {*interpreter.bare_environ(), *trial.extra}
    environ = {name: text for name, text in trial.environ().items() if name not in process_only}
    waits = Timeouts(connect=trial.seconds, read=trial.seconds, write=trial.seconds)
    limit = time.monotonic() + trial.seconds
    try:
        with (
            Pool(f"fastcgi+unix://{address}", timeouts=waits, max_kept=0) as pool,
            pool.open(environ) as exchange,
        ):
            for _ in exchange:
                if time.monotonic() > limit:
                    return found("hangs", seconds=trial.seconds)
            status = exchange.status
    except BackendError as error:
        if error.status_hint == 504:
            return found("hangs", seconds=trial.seconds)
        return found("fastcgi-fails", reason=error)
    if status[:1] == "5":
        return found("server-error", status=status, method=trial.method, target=trial.target)
    return None
