"""A process that was started on a listening socket, descriptor 0, by a web server or a spawner.

Such a process has little of its own. Descriptors 1 and 2 may be closed (FastCGI 1.0 §2.2) or lead
nowhere, and its parent may start it again when it ends, at once or ever more slowly, or not at all
(spawn-fcgi). So where an application cannot be loaded, it does not end: it answers, and becomes
a new process with the same id, on the same socket, as soon as the code has changed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from portico.config.examine import binds
from portico.config.resolve import from_keywords
from portico.core.unloadable import Unloadable
from portico.supervisor import worker
from portico.supervisor.codewatch import CodeWatch
from portico.supervisor.logfiles import LogFiles
from portico.transports import stdio
from portico.transports.listen import open_listeners

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.engine.leader import Engine

log = logging.getLogger("portico")

#: Where such a process listens.
BIND = "fastcgi+fd://0"

#: Seconds after which a request is taken for a sign that the application may load by now: not all
#: that was amiss is in the code. More often would be a storm where each attempt is expensive.
RETRY_SECONDS = 10.0


class Spawned:
    """What was found at the start, and the way back to it.

    Made before the application is loaded, whose import may change everything.

    Args:
        options: Settings by name, of the script.

    Attributes:
        options: The same, and what follows from where the process was started.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._environment = dict(os.environ)
        self._directory = None
        with suppress(OSError):  # it is gone
            self._directory = os.getcwd()  # noqa: PTH109 - a text
        self._began = time.time_ns()
        self.options = dict(options)
        leads_nowhere = _is_null(2)
        stdio.open_missing()
        if leads_nowhere and not _names_log(options):
            # nobody would ever see it: the web server keeps a log
            self.options.setdefault("errors_to", "frontend")
        if _is_null(1):  # what is printed belongs in the log, if there is one
            os.dup2(2, 1)
            sys.stdout = _text_stream(None, 2)  # by its number: `log_file` may take its place
        else:
            sys.stdout = _text_stream(sys.stdout, 1, errors="strict")
        sys.stderr = _text_stream(sys.stderr, 2)

    def stand_by(self, application: Callable[..., Any]) -> bool:
        """Serve what stands in for an application that cannot be loaded, then begin anew.

        Returns:
            False at once where there is an application; True where this process has been told
            to end.

        Raises:
            ConfigError: an option is wrong, or a log file cannot be opened.
        """
        if not isinstance(application, Unloadable) or not hasattr(os, "fork"):
            return False
        socket = os.dup(0)  # the engine closes its own before the new process begins
        standby = _Standby(application, self._began)
        settings = from_keywords({"bind": (BIND,), **self.options})
        files = LogFiles(settings)
        try:
            listeners = open_listeners(binds(settings))
            number = worker.run(standby, listeners, settings, files=files, started=standby.watch)
        finally:
            files.close()
        if number:
            os.close(socket)
        else:
            self._begin_anew(socket)
        return True

    def _begin_anew(self, socket: int) -> None:
        """Become the process again that this one was at its start."""
        log.warning("the application could not be loaded: beginning anew")
        sys.stdout.flush()
        sys.stderr.flush()
        if self._directory is not None:
            with suppress(OSError):
                os.chdir(self._directory)
        os.dup2(socket, 0)
        for name in ("SIGTERM", "SIGUSR1", "SIGXCPU"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # ignored by now, and inherited
        os.execve(  # noqa: S606 - ourselves
            sys.executable, [sys.executable, *sys.orig_argv[1:]], self._environment
        )


class _Standby:
    """Answers with what `Unloadable` does, until another attempt is worth while."""

    def __init__(self, application: Unloadable, began: int) -> None:
        self._application = application
        self._began = began
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._end: Callable[[], object] = bool  # nothing, until there is an engine

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer 500."""
        if time.monotonic() >= self._retry_at:
            self._end()
        return self._application(environ, start_response)

    def watch(self, engine: Engine) -> None:
        """Have *engine* end when the code has changed."""
        self._end = engine.stop
        with suppress(RuntimeError):  # no thread is to be had: then time has to do
            CodeWatch((), lambda _: engine.stop(), self._began).start()


def _names_log(options: dict[str, Any]) -> bool:
    return options.get("log_file") is not None


def _is_null(fd: int) -> bool:
    """Whether *fd* is closed, or the null device."""
    try:
        about, null = os.fstat(fd), os.stat(os.devnull)  # noqa: PTH116 - a text
    except OSError:
        return True
    return about.st_rdev == null.st_rdev and about.st_rdev != 0


def _text_stream(stream: Any, fd: int, errors: str = "backslashreplace") -> Any:
    """Give a stream whose lines are written when they are whole; the interpreter may have none."""
    if stream is None:
        return open(fd, "w", buffering=1, errors=errors, closefd=False)
    with suppress(AttributeError, ValueError):  # the application has put something else there
        stream.reconfigure(line_buffering=True)
    return stream
