"""One process that serves: from its signals to its end."""

from __future__ import annotations

import _thread
import gc
import logging
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from portico.engine.leader import Engine

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from portico.config.settings import Settings
    from portico.transports.listen import Listener

log = logging.getLogger("portico")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(
    application: Callable[..., Any],
    listeners: list[Listener],
    settings: Settings,
    *,
    errors: object = None,
) -> None:
    """Serve in this process until a signal says stop.

    SIGTERM and SIGINT end it gracefully: what runs is finished, for ``graceful_timeout`` seconds
    at most. A second signal ends it at once. Off the main thread no signals are taken.

    Args:
        application: The WSGI callable.
        listeners: Open listeners; closed at the end.
        settings: All settings.
        errors: ``wsgi.errors``, standard error by default.

    Raises:
        ConfigError: a listener's protocol or a repair's name is unknown.
    """
    _allow_descriptors(settings.max_connections)
    # what is loaded by now stays: the collector need not look at it again and again
    gc.collect()
    gc.freeze()
    try:
        engine = Engine(application, listeners, settings, errors)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if threading.current_thread() is not threading.main_thread():
        engine.serve()
        return
    stopper = _Stopper(engine, settings.graceful_timeout)
    before = {number: signal.signal(number, stopper.stop) for number in _SIGNALS}
    try:
        engine.serve(frozenset(_SIGNALS))
    finally:
        stopper.done()
        for number, handler in before.items():
            signal.signal(number, handler)


def _allow_descriptors(connections: int) -> None:
    """Raise the soft limit of open files, often 1024, as far as the hard one lets it."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # the application's own files and sockets come on top
    wanted = 2 * connections + 256
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a maximum that no limit tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Stopper:
    """Ends an engine: gracefully first, then for good."""

    def __init__(self, engine: Engine, graceful_seconds: float) -> None:
        self._engine = engine
        self._seconds = graceful_seconds + 1.0
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self.waits = False

    def stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's interface
        """Take a signal.

        Runs between any two steps of the main thread, so it takes no lock: `threading.Thread`
        has some, and the main thread may be starting a thread just now.
        """
        if self.waits:
            _exit_now()
        self.waits = True
        self._engine.stop()
        # The engine keeps the deadline itself while a thread of it polls. This is for the case
        # that every thread, the main one too, sits in a request that does not end.
        try:
            _thread.start_new_thread(self._wait, ())
        except RuntimeError:
            return  # no thread to be had; a second signal ends the process all the same

    def _wait(self) -> None:
        if not self._done.acquire(timeout=self._seconds):
            _exit_now()

    def done(self) -> None:
        """Take note that the engine has ended."""
        self._done.release()


def _exit_now() -> None:
    """Leave without waiting for threads that cannot be freed."""
    # not by logging: the main thread may be in the middle of it
    with suppress(OSError):
        os.write(2, b"portico: ended without waiting for the running requests\n")
    os._exit(1)
