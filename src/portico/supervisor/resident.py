"""The resident server of warm CGI: serves what the CGI processes of one script relay.

It comes into being in the first of them (`portico.warm.start`), belongs to nobody, and ends by
itself: when it has been idle for long, when code or options have changed, when it is old, or large,
or has been told to. Before it ends nobody finds it any more, and whoever has found it is told to
look for another one.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, cast

from portico.config.resolve import from_keywords
from portico.core.unloadable import Unloadable
from portico.errors import ConfigError, RequestAborted
from portico.loader import stand_in
from portico.supervisor import worker
from portico.supervisor.codewatch import DOUBTFUL, marks_of
from portico.supervisor.logfiles import LogFiles, start_logging
from portico.supervisor.reporter import resident_bytes
from portico.transports.bind import parse
from portico.transports.listen import open_listener
from portico.warm import GO, IDENTITY, LEAVE

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.config.settings import Settings
    from portico.engine.leader import Engine
    from portico.supervisor.codewatch import Mark
    from portico.warm.seat import Seat

log = logging.getLogger("portico")

#: What a resident server has other than `portico serve`, unless the script says so.
DEFAULTS = {
    "worker_idle_timeout": 300.0,
    "max_lifetime": 86_400.0,
    "max_memory": 536_870_912,
}

#: Seconds that pass at least between two looks at the files of the code, and at the memory.
_LOOK_SECONDS = 1.0

#: Seconds that the lock of another server's start is waited for.
_LOCK_SECONDS = 1.0

#: Octets of the log above which it begins anew with the next server; one old one is kept.
_MOST_LOG_BYTES = 1_048_576

#: Variables that speak of the request which happened to start the server.
_OF_REQUEST = frozenset(
    {
        "AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "CONTEXT_DOCUMENT_ROOT", "CONTEXT_PREFIX",
        "GATEWAY_INTERFACE", "HTTPS", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING",
        "UNIQUE_ID",
    }
)  # fmt: skip
_OF_REQUESTS = ("HTTP_", "REDIRECT_", "REMOTE_", "REQUEST_", "SCRIPT_", "SERVER_", "SSL_")


def serve(seat: Seat, fd: int, directory: str, options: dict[str, Any]) -> None:
    """Serve until it is time to go.

    Args:
        seat: Where this server sits; its lock is held until it serves.
        fd: The listening socket; owned.
        directory: Where the application is looked for first.
        options: Settings by name, as `portico.run` takes them; with wrong ones each request is
            answered 500.
    """
    began = time.time_ns()
    _forget_request()
    _shorten_log(seat.log_path)
    # the errors of each request go where its CGI process has its standard error
    settings, files, fault = _settle({**DEFAULTS, **options, "errors_to": "frontend"})
    start_logging(settings)
    if fault:
        application: Callable[..., Any] = Unloadable(fault)
    else:
        application = stand_in(seat.spec, directory, debug=settings.debug)
    resident = Resident(application, seat, settings, began)
    if "max_memory" not in options:  # an application that is that large would be loaded for ever
        resident.most_memory = max(settings.max_memory, 2 * resident_bytes())
    listener = open_listener(parse(f"fastcgi+fd://{fd}?allow_uid={os.geteuid()}"))
    seat.release()
    log.info("serving %s for %s", seat.spec, seat.script)
    try:
        worker.run(
            resident,
            [listener],
            settings,
            files=files,
            base={"wsgi.multiprocess": True, "portico.protocol": "cgi"},
            started=resident.watch,
        )
    finally:
        resident.leave("it was told to")
        files.close()


def _settle(options: dict[str, Any]) -> tuple[Settings, LogFiles, str]:
    """Give settings and log files; the usual ones, and what is wrong, where they cannot be."""
    try:
        settings = from_keywords(options)
        return settings, LogFiles(settings), ""
    except ConfigError as error:
        settings = from_keywords({**DEFAULTS, "errors_to": "frontend"})
        return settings, LogFiles(settings), f"portico.run: {error}"


def _forget_request() -> None:
    """Take out of the process's environment what another request says otherwise."""
    for name in tuple(os.environ):
        if name in _OF_REQUEST or name.startswith(_OF_REQUESTS):
            del os.environ[name]


def _shorten_log(path: str) -> None:
    """Begin the log, on descriptors 1 and 2, anew where it has become long."""
    if os.fstat(2).st_size < _MOST_LOG_BYTES:
        return
    os.replace(path, f"{path}.1")  # noqa: PTH105 - a text
    new = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(new, 1)
    os.dup2(new, 2)
    os.close(new)


class Resident:
    """The application as a resident server calls it: each request is taken first, or not.

    Args:
        application: The WSGI callable.
        seat: Where this server sits.
        settings: When it is to end.
        began: When the application began to be loaded, nanoseconds since the epoch.

    Attributes:
        most_memory: Resident memory above which it ends, in bytes; 0 for any.
    """

    def __init__(
        self,
        application: Callable[..., Any],
        seat: Seat,
        settings: Settings,
        began: int,
    ) -> None:
        self._application = application
        self._seat = seat
        self._settings = settings
        self._began = began
        self._lock = threading.Lock()
        self._leaving = False
        self._engine: Engine | None = None
        self._over = threading.Event()
        self.most_memory = settings.max_memory
        self._served = 0
        self._used = self._looked = time.monotonic()
        self._ends = self._used + settings.max_lifetime if settings.max_lifetime else inf
        self._mine = os.stat(seat.path).st_ino  # noqa: PTH116 - a text
        self._seen: dict[str, Mark] = {}
        self._has_changed()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Take the request, or send it to another server, which knows better.

        Raises:
            RequestAborted: the CGI process has gone, so that nobody waits for an answer.
        """
        identity = environ.pop(IDENTITY, "")
        errors = environ["wsgi.errors"]
        with self._lock:
            now = self._used = time.monotonic()
            self._served += 1
            is_due = now - self._looked >= _LOOK_SECONDS
            if is_due:
                self._looked = now
        most = self._settings.max_requests
        if identity != self._seat.identity:
            self.leave("the script or its options have changed")
        elif most and self._served > most:
            self.leave(f"{most} requests (max_requests)")
        elif is_due:
            self._look()
        if self._leaving:
            errors.send(LEAVE)
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        if not errors.send(GO):
            raise RequestAborted("the CGI process gave up before its turn")
        return self._application(environ, start_response)

    def watch(self, engine: Engine) -> None:
        """End *engine* when it is time, in a thread of its own."""
        self._engine = engine
        with suppress(RuntimeError):  # no thread to be had: requests look as well
            threading.Thread(target=self._watch, name="portico-resident", daemon=True).start()

    def _watch(self) -> None:
        """Wait until this server is old, or has been idle for long."""
        engine = cast("Engine", self._engine)
        idle_seconds = self._settings.worker_idle_timeout
        while not self._leaving:
            figures = engine.figures()
            with self._lock:
                now = time.monotonic()
                if figures["busy"] or figures["waiting"]:
                    self._used = now
                idle_until = self._used + idle_seconds
            if now >= self._ends:
                self.leave(f"it is {self._settings.max_lifetime:g} seconds old (max_lifetime)")
            elif now >= idle_until:
                self.leave(f"no request for {idle_seconds:g} seconds (worker_idle_timeout)")
            else:
                self._over.wait(min(idle_until, self._ends) - now)

    def _look(self) -> None:
        """See whether code has changed, or this process has grown."""
        most = self.most_memory
        if isinstance(self._application, Unloadable):
            self.leave("the application cannot be loaded")  # perhaps it can be by now
        elif changed := self._has_changed():
            self.leave(f"{changed} has changed")
        elif most and (size := resident_bytes()) > most:
            self.leave(f"{size} bytes of memory (max_memory)")
        elif self._engine is not None and self._engine.wants_recycling:
            self.leave("a request was interrupted")

    def _has_changed(self) -> str:
        """Give the path of a loaded module that is not as it was loaded."""
        now = time.time_ns()
        changed = ""
        files = [getattr(module, "__file__", None) for module in tuple(sys.modules.values())]
        for path, mark in marks_of(file for file in files if isinstance(file, str)):
            # what was changed since the loading began may have been loaded before
            first = DOUBTFUL if self._began <= mark[0] <= now else mark
            if self._seen.setdefault(path, first) != mark:
                changed = path
        return changed

    def leave(self, reason: str) -> None:
        """Let nobody find this server any more, and end it; takes what time its requests need."""
        with self._lock:
            if self._leaving:
                return
            self._leaving = True
        log.info("ending: %s", reason)
        self._vacate()
        self._over.set()
        if self._engine is not None:
            self._engine.stop()

    def _vacate(self) -> None:
        """Remove the socket, unless it is a successor's by now."""
        seat = self._seat
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            # it is held while another server starts: that has found this one's end
            while not seat.try_lock() and time.monotonic() < deadline:
                time.sleep(0.005)
            if os.stat(seat.path).st_ino == self._mine:  # noqa: PTH116 - a text
                os.unlink(seat.path)  # noqa: PTH108 - likewise
        except OSError as error:  # somebody has cleaned up
            log.debug("%s: %s", seat.path, error)
        finally:
            seat.release()
