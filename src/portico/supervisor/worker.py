"""One process that serves: from its start, or the fork, through its signals to its end."""

from __future__ import annotations

import _thread
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from portico.engine.leader import Engine
from portico.engine.shortage import fit_threads
from portico.errors import ApplicationError, ConfigError, PorticoError
from portico.supervisor.child import (
    CHANGED,
    FAILED,
    LEAVING,
    READY,
    RETIRE,
    STOP_AT_ONCE,
    WORN,
    Mouthpiece,
)
from portico.supervisor.fork import forget_signals
from portico.supervisor.health import check_health
from portico.supervisor.reporter import Reporter

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType

    from portico.config.settings import Settings
    from portico.engine.handover import Handover
    from portico.engine.scoreboard import Scoreboard
    from portico.supervisor.child import Orders
    from portico.supervisor.codewatch import CodeWatch
    from portico.supervisor.generation import Service
    from portico.supervisor.logfiles import LogFiles
    from portico.supervisor.privileges import Account
    from portico.transports.listen import Listener

log = logging.getLogger("portico")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Seconds of processor time that a process has for its end, if RLIMIT_CPU leaves none itself.
_CPU_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is to do.

    Attributes:
        slot: Its place in the scoreboard.
        generation: Number of its generation.
        service: What it serves.
        listeners: Where; its copies are its own.
        fd: Pipe in which it tells its parent what happens; owned.
        alive: Pipe that ends with the parent; owned.
        orders: How it is to take SIGTERM.
        handover: Where kept connections go when it retires.
        board: Where it tells its figures.
        account: Whom it becomes before it loads anything; None to stay who it is.
        application: The WSGI callable, if it is loaded already.
        loaded: When that began to be loaded, nanoseconds since the epoch.
    """

    slot: int
    generation: int
    service: Service
    listeners: list[Listener]
    fd: int
    alive: int
    orders: Orders
    handover: Handover
    board: Scoreboard
    account: Account | None = None
    application: Callable[..., Any] | None = None
    loaded: int = 0

    def work(self) -> int:
        """Serve until a signal says stop; gives the process's exit status."""
        return _serve(self)


def run(
    application: Callable[..., Any],
    listeners: list[Listener],
    settings: Settings,
    *,
    errors: object = None,
    files: LogFiles | None = None,
    base: Mapping[str, object] | None = None,
    gentle: Iterable[int] = (),
    started: Callable[[Engine], object] | None = None,
) -> int:
    """Serve in this process until a signal says stop.

    SIGTERM ends it gracefully: what runs is finished, for ``graceful_timeout`` seconds at most;
    likewise the end of its processor time (RLIMIT_CPU). SIGINT, and a second SIGTERM, end it at
    once. Started on a listening socket by a process manager, it takes further SIGTERMs for the
    first one: some send it to a process and to the group of that; and without log files of its
    own SIGUSR1 ends it as well, as it does FastCGI programs in C (libfcgi). Off the main thread no
    signals are taken.

    Args:
        application: The WSGI callable.
        listeners: Open listeners; closed at the end.
        settings: All settings.
        errors: ``wsgi.errors``, standard error by default.
        files: Where access lines go; opened anew at SIGUSR1.
        base: More keys for the environ of every request.
        gentle: Further signals that end it gracefully, SIGINT perhaps among them.
        started: Is given the engine before that serves; another thread may stop it.

    Returns:
        The number of the first signal that said stop; 0 where none did.

    Raises:
        ConfigError: a listener's protocol or a repair's name is unknown.
    """
    _allow_descriptors(settings.max_connections)
    # what is loaded by now stays: the collector need not look at it again and again
    gc.collect()
    gc.freeze()
    is_spawned = any(listener.bind.transport == "fd" for listener in listeners)
    try:
        settings = replace(settings, threads=fit_threads(settings.threads))
        access_fd = files.access_fd if files is not None else -1
        engine = Engine(application, listeners, settings, errors, base=base, access_fd=access_fd)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if started is not None:
        started(engine)
    if threading.current_thread() is not threading.main_thread():
        engine.serve()
        return 0
    stopper = _Stopper(
        engine, settings.graceful_timeout, gentle=frozenset(gentle), is_patient=is_spawned
    )
    numbers: set[int] = {*_SIGNALS, *gentle, *_cpu_signals()}
    before: dict[int, Any] = {}
    if files is not None and hasattr(signal, "SIGUSR1"):
        if is_spawned and not files.has_own:
            numbers.add(signal.SIGUSR1)
        else:
            reopen = files.reopen
            before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda *_: reopen())
    before |= {number: signal.signal(number, stopper.take) for number in numbers}
    try:
        engine.serve(frozenset(numbers))
    finally:
        stopper.done()
        for number, handler in before.items():
            # what a process manager repeats now would kill a process that ends well
            is_repeated = is_spawned and number in {signal.SIGTERM, signal.SIGUSR1}
            signal.signal(number, signal.SIG_IGN if is_repeated else handler)
    return stopper.number


def _serve(post: Post) -> int:
    """Do what a forked worker does; the signals of its parent are blocked so far."""
    mouthpiece = Mouthpiece(post.fd)
    settings = post.service.settings
    forget_signals()
    watch = _watch_code(post, mouthpiece) if settings.reload else None
    try:
        engine = _prepare(post, mouthpiece)
    except PorticoError as error:
        mouthpiece.tell(FAILED, str(error))
        return 2
    stopper = _Stopper(engine, settings.graceful_timeout, post.orders, mouthpiece)
    signal.signal(signal.SIGTERM, stopper.take)
    signal.signal(signal.SIGQUIT, _show_stacks)
    signal.signal(signal.SIGUSR1, lambda *_: _reopen(post, mouthpiece))
    for number in _cpu_signals():
        signal.signal(number, lambda *_: mouthpiece.tell(WORN, "RLIMIT_CPU leaves it no more time"))
    mouthpiece.tell(READY)
    if watch is not None:
        watch.start()
    try:
        engine.serve(frozenset({signal.SIGTERM}), alive=post.alive, on_stop=stopper.hear)
    finally:
        if watch is not None:
            watch.stop()
        stopper.done()
    return 0


def _watch_code(post: Post, mouthpiece: Mouthpiece) -> CodeWatch:
    """Make what looks for changes; before the code is loaded."""
    from portico.supervisor.codewatch import CodeWatch  # noqa: PLC0415 - development alone

    return CodeWatch(
        post.service.read, partial(mouthpiece.tell, CHANGED), post.loaded or time.time_ns()
    )


def _reopen(post: Post, mouthpiece: Mouthpiece) -> None:
    """Open the log files anew; a worker that may not is replaced by one that inherits them."""
    # with preload it would inherit those of a template that may not either
    if not post.service.files.reopen() and not post.service.settings.preload:
        mouthpiece.tell(WORN, "it may not open its log files anew")


def _prepare(post: Post, mouthpiece: Mouthpiece) -> Engine:
    """Make the application ready to serve.

    Raises:
        PorticoError: it cannot be loaded, or its health request fails.
    """
    settings = post.service.settings
    _allow_descriptors(settings.max_connections)
    application = post.application or load(post)
    gc.collect()
    gc.freeze()
    settings = replace(settings, threads=fit_threads(settings.threads))
    reporter = Reporter(post.board, post.slot, settings, mouthpiece)
    engine = Engine(
        application,
        post.listeners,
        settings,
        handover=post.handover,
        base=_base(post),
        observer=reporter,
        access_fd=post.service.files.access_fd,
    )
    reporter.engine = engine
    reporter.observe(engine.figures())
    return engine


def _base(post: Post) -> dict[str, object]:
    """Give what the environ of each request has on top in a process with siblings."""
    return {"wsgi.multiprocess": True, "portico.scoreboard": post.board}


def load(post: Post) -> Callable[..., Any]:
    """Become whom the application runs as, load it, and ask it whether it is well.

    Raises:
        PorticoError: it cannot be loaded, or its health request fails.
    """
    service = post.service
    if post.account is not None:
        post.account.become()
    if service.settings.reload:
        # what is compiled is taken for the source's if that has the same length and was changed
        # in the same second: somebody who develops does that
        sys.dont_write_bytecode = True
    application = service.load()
    if service.settings.health is not None:
        try:
            check_health(
                application,
                service.settings.health,
                post.listeners[0].bind,
                service.settings,
                _base(post),
            )
        except ApplicationError as error:
            raise ConfigError(f"application {service.name}: {error}", key="health") from None
    return application


def _show_stacks(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's interface
    """Write down where each thread is, and leave."""
    import faulthandler  # noqa: PLC0415 - for this alone

    head = f"portico: process {os.getpid()} was told to quit; its threads:\n".encode()
    with suppress(OSError, ValueError):  # standard error may be closed
        # at once: in pieces, as it is made, it would be mixed with what other workers write
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            stacks = file.read()
        os.write(2, head + stacks)
    os._exit(128 + number)


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


def _cpu_signals() -> list[signal.Signals]:
    """Give the signal of a limit of processor time, if there is one; it leaves time for an end."""
    if resource is None or not hasattr(signal, "SIGXCPU"):
        return []
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if soft == resource.RLIM_INFINITY:
        return []
    if soft == hard:  # the system would kill without a signal before
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (max(1, hard - _CPU_SECONDS), hard))
    return [signal.SIGXCPU]


class _Stopper:
    """Ends an engine: gracefully first, then for good.

    Args:
        engine: What is ended.
        graceful_seconds: How long requests may take to finish.
        orders: How SIGTERM is to be taken; graceful, and nobody else serves, without them.
        mouthpiece: Where the parent is told that a worker leaves.
        gentle: Signals that are taken as SIGTERM, though SIGINT be among them.
        is_patient: Whether further ones of a process manager mean the same as the first.

    Attributes:
        number: The first signal taken; 0 for none.
    """

    def __init__(
        self,
        engine: Engine,
        graceful_seconds: float,
        orders: Orders | None = None,
        mouthpiece: Mouthpiece | None = None,
        *,
        gentle: frozenset[int] = frozenset(),
        is_patient: bool = False,
    ) -> None:
        self._is_patient = is_patient
        self._engine = engine
        self._seconds = graceful_seconds
        self._orders = orders
        self._mouthpiece = mouthpiece
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self.waits = False
        self._gentle = gentle
        self.number = 0

    def take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's interface
        """Take a signal.

        Runs between any two steps of the main thread, so it takes no lock: `threading.Thread`
        has some, and the main thread may be starting a thread just now. With orders, taking the
        same signal twice is as good as once.
        """
        self.number = self.number or number
        order = self._orders.get() if self._orders is not None else None
        if order == STOP_AT_ONCE or (number == signal.SIGINT and number not in self._gentle):
            self._seconds = 0.0
        elif self.waits and order is None:
            if self._means_it(number):
                _exit_now()
            return
        if self._mouthpiece is not None and not self.waits:
            self._mouthpiece.tell(LEAVING)
        self.waits = True
        self._stop(hand_over=order == RETIRE)

    def _means_it(self, number: int) -> bool:
        """Whether signal *number*, which is not the first, is impatience."""
        if number == getattr(signal, "SIGXCPU", 0):
            return False  # the system sends it each second
        return not self._is_patient or number == signal.SIGINT

    def hear(self, orphaned: bool) -> None:  # noqa: FBT001 - the engine's interface
        """Take, in any thread, the parent's end, or a SIGTERM that the main thread has not taken.

        Args:
            orphaned: Whether it is the parent's end: nobody is left to hand connections over to,
                or to kill this process when its time is over.
        """
        if orphaned:
            self.waits = True
            self._orders = None  # a further signal ends it at once, as one process alone
            self._stop(hand_over=False)
        else:
            self.take(signal.SIGTERM, None)

    def _stop(self, *, hand_over: bool) -> None:
        self._engine.stop(self._seconds, hand_over=hand_over)
        # The engine keeps the deadline itself while a thread of it polls. This is for the case
        # that every thread, the main one too, sits in a request that does not end.
        with suppress(RuntimeError, MemoryError):  # no thread to be had
            _thread.start_new_thread(self._wait, (self._seconds + 1.0,))

    def _wait(self, seconds: float) -> None:
        if not self._done.acquire(timeout=seconds):
            _exit_now()
        self._done.release()  # for the next one that waits

    def done(self) -> None:
        """Take note that the engine has ended."""
        self._done.release()


def _exit_now() -> None:
    """Leave without waiting for threads that cannot be freed."""
    # not by logging: the main thread may be in the middle of it
    with suppress(OSError):
        os.write(2, b"portico: ended without waiting for the running requests\n")
    os._exit(1)
