"""Answers when a request takes too long: the slow log, 504, and 503 for those that wait.

One thread does it, asleep until the next moment at which there may be something to do, and
without a timer when there is none. It is told of requests that have lost the token, of all where
one thread has it for good, and of parked ones: a short request among many threads costs it
nothing. A moment once set stays, though the request ends: so at most one wake-up a limit's length
comes for nothing, and none for each request.
"""

from __future__ import annotations

import _thread
import logging
import sys
import threading
import time
from math import inf
from traceback import StackSummary
from typing import TYPE_CHECKING, Any, cast

from portico.core.identity import label
from portico.core.response import run_response
from portico.engine.call import Blocks, Call
from portico.engine.errorstream import FrontendErrors
from portico.engine.worker import Worker
from portico.errors import RequestTimeout
from portico.refusals import status_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from portico.core.response import Response
    from portico.engine.call import TimedSink
    from portico.engine.leader import Engine

log = logging.getLogger("portico")
slow_log = logging.getLogger("portico.slow")

#: Seconds after the exception until a thread that has not come back counts as lost.
GRACE = 1.0

#: Seconds until the watching thread is tried again that could not be had.
_RETRY_SECONDS = 10.0

#: Frames and characters of a stack in the slow log, the innermost.
_MOST_FRAMES = 40
_MOST_STACK = 8192

#: Characters of method and target that are repeated in the log.
_MOST_SHOWN = 300

#: Where a request's stack begins: what called these is the engine.
_BEGINNINGS: frozenset[CodeType] = frozenset(
    {run_response.__code__, Call.__call__.__code__, Blocks.__next__.__code__, Blocks.close.__code__}
)


class Deadlines:
    """The limits of time of one engine, and the thread that watches them.

    Attributes:
        limited: Whether requests have limits, so that they must be served by `run`.
    """

    __slots__ = (
        "_alarm", "_alone", "_bell", "_engine", "_hand", "_hard", "_lock", "_losing", "_over",
        "_retry_at", "_running", "_slow", "_thread", "limited",
    )  # fmt: skip

    def __init__(self, engine: Engine) -> None:
        settings = engine.settings
        self._engine = engine
        self._hard = settings.timeout
        self._slow = settings.slow_timeout
        self.limited = bool(self._hard or self._slow)
        self._alone = settings.threads == 1
        self._lock = _thread.allocate_lock()
        self._losing = _thread.allocate_lock()  # taken before the engine's, and that before _lock
        self._running: set[Call] = set()
        self._alarm = inf
        self._bell = _thread.allocate_lock()
        self._bell.acquire()
        self._over = False
        self._retry_at = 0.0
        self._thread: threading.Thread | None = None
        self._hand = Worker()  # what refuses parked requests; it waits for no peer
        self._hand.until = 0.0
        if self._hard:
            # now, so that no exception comes in the midst of it
            from portico.engine import interrupt  # noqa: F401, PLC0415 - 5 ms for a hard limit alone

    # -- the request's thread --------------------------------------------------------------

    def run(
        self,
        response: Response,
        application: Callable[..., Any],
        environ: dict[str, Any],
        *,
        debug: bool = False,
    ) -> None:
        """Serve one request under the limits; as `run_response`.

        Raises:
            RequestAborted: as `run_response`.
        """
        sink = cast("TimedSink", response.sink)
        worker = sink.worker
        call = Call(application, environ, sink, self._answer)
        worker.call = call
        # Asked behind that: who takes the token later sees the call.
        if self._alone or not worker.claim:
            self.watch(call)
        try:
            if self._hard:
                for name in ("wsgi.input", "portico.data"):
                    if name in environ:
                        environ[name].guard(call.through)
                if type(environ["wsgi.errors"]) is FrontendErrors:
                    environ["wsgi.errors"].guard(call.through)
                response.sink = call
                run_response(response, call, environ, debug=debug)
            else:
                run_response(response, application, environ, debug=debug)
        except RequestTimeout:
            if not call.timed_out:
                raise
        finally:
            if call.refused:
                response.status, response.sent = status_line(504), call.octets
            worker.call = None
            call.environ = {}  # which may hold the call, by its input
            if self._alone or not worker.claim:
                self._forget(call)

    def watch(self, call: Call) -> None:
        """Let the limits of *call* begin now, a few milliseconds late for an inline request."""
        with self._lock:
            if call.over or call.watched:
                return
            call.watched = True
            call.started = now = time.monotonic()
            if self._hard:
                call.worker.until = call.deadline = now + self._hard
            if self._slow:
                call.slow_at = now + self._slow
            self._running.add(call)
            self._set_alarm(min(call.deadline, call.slow_at))

    def watch_parked(self, deadline: float) -> None:
        """Look at the parked requests at *deadline*, monotonic seconds; under the engine's lock."""
        with self._lock:
            self._set_alarm(deadline)

    def _forget(self, call: Call) -> None:
        with self._lock:
            call.over = True
            call.worker.until = inf
            self._running.discard(call)
        if call.lost:
            with self._losing:
                if call.lost:
                    self._engine.take_back()

    def _set_alarm(self, when: float) -> None:
        """Have the thread look at *when* at the latest; under the lock."""
        if when >= self._alarm or self._over:
            return
        if self._thread is None:
            now = time.monotonic()
            if now < self._retry_at:
                return
            try:
                thread = threading.Thread(target=self._run, name="portico-deadlines", daemon=True)
                thread.start()
            except (RuntimeError, MemoryError):
                self._retry_at = now + _RETRY_SECONDS
                self._engine.lack_thread()
                return
            self._thread = thread
        self._alarm = when
        self._ring()

    def loss(self) -> str:
        """Say what does not work as long as the thread cannot be had; empty if it runs."""
        if self._thread is not None or self._over:
            return ""
        limits = "timeout, slow_timeout and " if self.limited else ""
        return f"; {limits}queue_timeout do not hold" if limits else "; queue_timeout does not hold"

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # rung already

    # -- the watching thread ---------------------------------------------------------------

    def stop(self) -> None:
        """End the thread and wait for it, a second at most."""
        with self._lock:
            self._over = True
            thread = self._thread
        if thread is not None:
            self._ring()
            thread.join(1.0)

    def _run(self) -> None:
        bell = self._bell
        while True:
            alarm = self._alarm
            if alarm == inf:
                bell.acquire()
            else:
                bell.acquire(timeout=max(0.0, alarm - time.monotonic()))
            if self._over:
                return
            try:
                self._look()
            except Exception:  # one request's trouble must not end the watch over all
                log.exception("internal error in watching the limits of time")

    def _look(self) -> None:
        """Do what is due, and set the alarm to the next moment."""
        with self._lock:
            self._alarm = inf  # who adds an earlier moment from here on sets it
            calls = list(self._running)
        now = time.monotonic()
        for call in calls:
            if now >= call.slow_at:
                call.slow_at = inf
                self._report_slow(call, now)
            if now >= call.deadline:
                call.deadline = inf
                self._interrupt(call, now)
            if now >= call.lost_at:
                call.lost_at = inf
                self._lose(call)
        late_at = self._engine.refuse_late(now, self._hand)
        if calls:
            self._engine.hear()  # a thread may be lost, and this process better be replaced
        with self._lock:
            self._alarm = min(self._alarm, late_at, self._first(self._running))

    def _report_slow(self, call: Call, now: float) -> None:
        name = describe(call)
        stack = _stack(call)
        if stack:
            slow_log.warning(
                "%s has run for %.1f seconds; its thread:\n%s", name, now - call.started, stack
            )

    def _interrupt(self, call: Call, now: float) -> None:
        """Answer the client and raise the exception, or leave that to the request's thread."""
        call.lost_at = now + GRACE
        call.expired = True
        if not call.capture():
            return
        from portico.engine import interrupt  # noqa: PLC0415 - as in __init__

        self._engine.wants_recycling = True
        try:
            self._answer(call)
        finally:
            interrupt.raise_in(call.ident, RequestTimeout)
            call.raised = True

    def _answer(self, call: Call) -> None:
        """Give the client what is still possible, and say so in the log."""
        try:
            what = call.answer()
        except Exception as error:  # noqa: BLE001 - the peer is gone or takes nothing
            what = f"not answered: {error}"
        log.warning("%s ran longer than timeout (%g seconds): %s", describe(call), self._hard, what)

    def _lose(self, call: Call) -> None:
        """Let another thread take the place of one that does not come back."""
        name = describe(call)
        with self._losing:
            with self._lock:
                if call.over:
                    return
                call.lost = True
            call.lost = self._engine.replace(call.worker)
        if call.lost:
            log.warning(
                "%s: its thread cannot be interrupted, being in C code or catching the exception;"
                " it counts as lost, and another one takes its place", name,
            )  # fmt: skip
        else:
            log.error(
                "%s: its thread cannot be interrupted, and as many as there are have been replaced"
                " already: one fewer serves; restart the process", name,
            )  # fmt: skip

    def _first(self, calls: Any) -> float:
        """Give the next moment at which one of *calls* needs a look."""
        return min((min(one.slow_at, one.deadline, one.lost_at) for one in calls), default=inf)


def describe(call: Call) -> str:
    """Name a request for a log line: where it came from, and what it asked for."""
    environ = call.environ
    target = environ.get("REQUEST_URI") or environ.get("PATH_INFO", "")
    asked = f"{environ.get('REQUEST_METHOD', '')} {target}"[:_MOST_SHOWN]
    peer = call.sink.peer_name()
    return f"{environ.get('portico.bind', '')}: {peer}: {asked!a}{label(environ)}"


def _stack(call: Call) -> str:
    """Format the stack of the request's thread, the innermost part; empty if it is over."""
    if _lacks_gil():
        from portico.engine.stopped import stack_of  # noqa: PLC0415 - for such Pythons alone

        stack = stack_of(call.ident, _BEGINNINGS, _MOST_FRAMES)
    else:
        stack = StackSummary.extract(reversed(_frames(call.ident)))
    if call.over:  # the thread may be in another request by now
        return ""
    return "".join(stack.format())[-_MOST_STACK:]


def _lacks_gil() -> bool:
    """Whether threads run Python code at the same time; an extension can bring the lock back."""
    is_enabled = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is not None and not is_enabled()


def _frames(ident: int) -> list[tuple[FrameType, int]]:
    """Give the frames of a thread, each with its line, the innermost first."""
    frame: FrameType | None = sys._current_frames().get(ident)  # noqa: SLF001 - the only way
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and frame.f_code not in _BEGINNINGS and len(frames) < _MOST_FRAMES:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return frames
