"""Leader/followers: one thread polls and serves inline; a watchdog frees it when it is stuck.

Who holds the token is told by `Engine.leader` and, while that thread serves a connection, by one
element in its `Worker.claim`. Taking that element out, an atomic operation, decides every race:
the leader takes it when the request is done and leads on; the watchdog takes it when the request
is slow; the leader itself takes it before it waits or calls an application known to be slow.
Whoever finds the list empty has lost the token and owns nothing but its own connection.

Everything off the fast path happens under one lock. The fast path takes none: poll, serve, poll.
"""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from portico.core.input import Spool
from portico.engine.accepting import Accepting
from portico.engine.accesslog import AccessLog
from portico.engine.connection import AWAY, FRESH, HEAD, IDLE, PARKED, Connection
from portico.engine.deadlines import Deadlines
from portico.engine.errorstream import ErrorStream
from portico.engine.figures import Census, count_repairs
from portico.engine.gate import Gate
from portico.engine.pace import SHORT, UNTRIED, Pace, target_of
from portico.engine.parking import RESERVE_SECONDS, Parking
from portico.engine.poller import Waker
from portico.engine.shortage import name_limit
from portico.engine.waiting import Waiting
from portico.engine.watchdog import Watchdog
from portico.engine.worker import Worker
from portico.errors import RequestTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.config.settings import Settings
    from portico.engine.figures import Observer
    from portico.engine.handover import Handover
    from portico.engine.multiplex import Multiplexer
    from portico.events import RequestReceived
    from portico.transports.listen import Listener

    #: What waits in the poller and is served by a thread.
    Served = Connection | Multiplexer

log = logging.getLogger("portico")

#: Seconds until handing over is tried again where the queue was full.
_HANDOVER_PAUSE = 0.05

#: Connections for one request that are taken up between two polls while more of them wait: each
#: saves a poll. Where none waited, that many polls pass before it is tried again.
_IN_A_ROW = 8
_AFTER_NONE = 8

#: Seconds until another thread is tried after one was refused; twice as many each time, up to a
#: minute: of a user's processes others may end.
_SHORTAGE_PAUSE = 1.0
_SHORTAGE_PAUSE_MOST = 60.0

#: Seconds for which a thread leaves memory to others after it had none itself.
_MEMORY_PAUSE = 0.05

#: Seconds between two lines that say so.
_MEMORY_TOLD_SECONDS = 10.0


class Engine:
    """The threads of one process, serving one application on some listeners.

    Args:
        application: The WSGI callable.
        listeners: Open listeners; owned and closed by the engine.
        settings: Threads, timeouts (seconds) and ceilings.
        errors: ``wsgi.errors``; the process's standard error by default.
        handover: Where kept connections come from, and go to, between the processes that share
            the listeners.
        base: More keys for the environ of every request.
        observer: Is told the figures about every 0.1 seconds while there is work, once more when
            there is none, and at the end.
        access_fd: Where access lines go; stays the caller's. -1 for none.

    Attributes:
        leader: The thread that holds the token; None while every thread is in a request.
        turns: Connections taken up so far; the watchdog compares it.
        now: Monotonic seconds at the last poll.
        idle_until: When a connection that has just become idle has waited for too long.
        pace: What is known of slow requests.
        stopping: Whether the engine has been told to end.
        keeps: Whether a connection that its web server keeps stays open behind a request.
        alone: Whether there is one thread, from which nobody takes the token.
        deadlines: The limits of time, and who watches them.
        wants_recycling: Whether a request was interrupted, which can leave the application's
            locks held: the process is better replaced once its requests are done.
    """

    __slots__ = (
        "_accepting",
        "_alive",
        "_can_hand_over",
        "_census",
        "_first",
        "_idle",
        "_lock",
        "_lost",
        "_memory_told_until",
        "_most_threads",
        "_observer",
        "_on_stop",
        "_over",
        "_parking",
        "_ready",
        "_short_pause",
        "_short_until",
        "_stop_deadline",
        "_stop_signals",
        "_threads",
        "_waiting",
        "_watchdog",
        "alone",
        "deadlines",
        "idle_until",
        "keeps",
        "leader",
        "now",
        "pace",
        "settings",
        "stopping",
        "turns",
        "wants_recycling",
    )  # fmt: skip

    def __init__(
        self,
        application: Callable[..., Any],
        listeners: list[Listener],
        settings: Settings,
        errors: object = None,
        *,
        handover: Handover | None = None,
        base: Mapping[str, object] | None = None,
        observer: Observer | None = None,
        access_fd: int = -1,
    ) -> None:
        self.settings = settings
        self.deadlines = Deadlines(self)
        self.wants_recycling = False
        more = {"wsgi.errors": ErrorStream() if errors is None else errors, **(base or {})}
        access = None if access_fd < 0 else AccessLog(access_fd, settings.access_format)
        gates = [
            Gate(listener, application, settings, self, more, access=access)
            for listener in listeners
        ]
        self._waiting = Waiting()
        self._lock = self._waiting.lock
        self._parking = Parking()
        self._accepting = Accepting(
            self, self._waiting, self._parking, gates, handover=handover, observer=observer
        )
        self._can_hand_over = handover is not None
        self.leader: Worker | None = None
        self.turns = 0
        self.now = time.monotonic()
        self.idle_until = self.now + settings.idle_timeout
        self.pace = Pace()
        self.stopping = False
        self.keeps = True
        self._over = False
        self._idle: list[Worker] = []
        self._census = Census()
        self._observer = observer
        self._threads = 0
        self._lost = 0
        self._first: Worker | None = None
        self._most_threads = settings.threads
        self._memory_told_until = 0.0
        self._short_pause = 0.0
        self._short_until = inf
        self.alone = settings.threads == 1
        self._ready: deque[Served | Gate | Waker] = deque()
        self._stop_deadline = inf
        self._stop_signals: frozenset[int] = frozenset()
        self._on_stop: Callable[[bool], object] | None = None
        self._alive = -1
        tell = None if observer is None else self._tell
        wake = None if observer is None else observer.wake
        self._watchdog = Watchdog(self, tell, wake, alone=self.alone)

    # -- from outside ----------------------------------------------------------------------

    def serve(
        self,
        stop_signals: frozenset[int] = frozenset(),
        *,
        alive: int = -1,
        on_stop: Callable[[bool], object] | None = None,
    ) -> None:
        """Serve until `stop`, in this thread and as many more as the requests need.

        Args:
            stop_signals: Numbers of signals that mean `stop`; with any, this must be the main
                thread. Their handlers may do more.
            alive: A pipe whose end means `stop` as well.
            on_stop: Called in any thread, with False for such a signal, which may be before its
                handler has run, and with True at the end of `alive`; must call `stop`.
        """
        self._stop_signals = stop_signals
        self._on_stop = on_stop
        self._alive = alive
        if alive >= 0:
            self._waiting.poller.register(alive)
        self._accepting.start()
        self._first = self.leader = worker = Worker()
        self._census.enter(worker)
        self._threads = 1
        before = -1
        if stop_signals:
            # A handler runs in the main thread alone, and not before its next step: a signal
            # that comes just as that thread begins to wait would not be heard.
            before = signal.set_wakeup_fd(self._waiting.waker.write_fd, warn_on_full_buffer=False)
        try:
            self._work_on(worker)
        finally:
            if stop_signals:
                signal.set_wakeup_fd(before)
            self._end()

    def stop(self, seconds: float | None = None, *, hand_over: bool = False) -> None:
        """Accept no more, finish what runs, return.

        Takes no lock, so a signal handler may call it; again as well, to shorten the time.

        Args:
            seconds: How long what runs may take; `graceful_timeout` by default.
            hand_over: Whether kept connections go on in other processes instead of being closed.
        """
        if seconds is None:
            seconds = self.settings.graceful_timeout
        self._stop_deadline = min(self._stop_deadline, time.monotonic() + seconds)
        self.keeps = hand_over and self._can_hand_over
        self.stopping = True
        self._waiting.waker.wake()

    def figures(self) -> dict[str, Any]:
        """Tell what has been served and what is going on, as plain JSON values.

        Takes a lock that is never held for long, so no signal handler may call it.
        """
        with self._lock:
            found = self._census.figures(self.now)
            found["connections"] = self._count_connections()
            found["waiting"] = self._parking.count
            found["lost"] = self._lost
        found["repairs"] = count_repairs(gate.rules.mounting() for gate in self._accepting.gates)
        return found

    def hear(self) -> None:
        """Take note, in any thread, that the figures are worth telling."""
        self._watchdog.hear()

    def is_quiet(self) -> bool:
        """Whether the figures stay as they are until somebody wakes the watchdog."""
        with self._lock:
            polls = self.leader is None or self._waiting.poll_until > 0.0
            return polls and self._census.is_settled()

    def count(self, protocol: str, status: int, octets: int, *, aborted: bool = False) -> None:
        """Count a request that Portico has answered itself, from any thread.

        Args:
            protocol: The name of the protocol.
            status: Of the answer.
            octets: Of its body.
            aborted: Whether the peer did not take it.
        """
        with self._lock:
            self._census.count(protocol, status, octets, aborted=aborted)

    def _tell(self) -> None:
        cast("Observer", self._observer).observe(self.figures())
        self._accepting.settle()

    def _count_connections(self) -> int:
        """Count the open connections; under the lock."""
        waiting = self._waiting.items
        fixed = [self._waiting.waker.fd, *(gate.listener.fd for gate in self._accepting.gates)]
        others = {one.carrier() for one in (*self._census.served(), *self._parking)}
        apart = [one for one in others if one.fd >= 0 and not one.waiting]
        return len(waiting) - len([fd for fd in fixed if fd in waiting]) + len(apart)

    # -- the leader ------------------------------------------------------------------------

    def _work_on(self, worker: Worker) -> None:
        """Work until the engine is over, whatever memory lacks meanwhile.

        An application's `MemoryError` is its request's. This one came between requests, while
        another thread held what there was; what was to be done then is found by the next poll.
        """
        while True:
            try:
                if self.leader is worker or self._follow(worker):
                    self._work(worker)
            except MemoryError:
                with suppress(MemoryError):
                    self._lack_memory(worker)
                time.sleep(_MEMORY_PAUSE)
            else:
                return

    def _lack_memory(self, worker: Worker) -> None:
        """Give up the connection that a thread was about to serve."""
        if worker.claim:
            self._drop(worker.claim.pop())
        if self.now >= self._memory_told_until:
            self._memory_told_until = self.now + _MEMORY_TOLD_SECONDS
            log.error("no memory is left to serve with; waiting for some")

    def _work(self, worker: Worker) -> None:  # noqa: C901, PLR0912, PLR0915 - calls cost
        """Lead, and follow when the token is lost, until the engine is over."""
        ready = self._ready
        claim = worker.claim
        watchdog = self._watchdog
        alone = self._most_threads == 1
        accept = self._accepting.accept
        parking = self._parking
        watched = not alone or self._observer is not None
        row = rest = 0
        while True:
            if not ready:
                row = 0
                if not self._poll():
                    return
                if ready or not parking.count:
                    continue
                if self._take_parked(worker) and not self._follow(worker):
                    return
                continue
            item = ready.popleft()
            if type(item) is Gate:
                accepted = accept(item, worker)
                if accepted is None:
                    if row:  # it was tried without a poll
                        rest = _AFTER_NONE
                    continue
                connection: Served = accepted
            elif type(item) is Waker:
                if (
                    not self._stop_signals.isdisjoint(self._waiting.waker.drain())
                    and not self.stopping
                ):
                    self._stop_for(orphaned=False)
                continue
            else:
                connection = item  # type: ignore[assignment] # by its type
                if connection.fd < 0:
                    continue
                connection.worker = worker
            self.turns += 1
            claim.append(connection)
            if not watchdog.awake and watched:
                watchdog.wake()
            try:
                goes_on = connection.serve()
            except Exception:  # a bug of ours must cost one connection, not a thread
                log.exception("%s: internal error", connection.peer_name())
                goes_on = False
            except BaseException:  # Ctrl-C in the main thread, where nobody handles SIGINT
                self._drop(connection)
                raise
            try:
                claim.pop()
            except IndexError:  # the token is gone
                self._settle(connection, goes_on=goes_on)
                if not self._follow(worker):
                    return
                continue
            if alone and (goes_on or ready):
                # nobody polled meanwhile: time to wait, and the next request, begin now
                self.now = time.monotonic()
                if goes_on and connection.phase == IDLE:
                    connection.deadline = self.now + self.settings.idle_timeout
            if not goes_on:
                self._drop(connection)
                if type(item) is Gate and not ready:
                    if rest:
                        rest -= 1
                    elif row < _IN_A_ROW and not alone:
                        row += 1
                        ready.append(item)
            elif (
                not connection.waiting
                or connection.deadline < connection.timer
                or connection.phase == PARKED
            ):
                self._await(connection)
                if type(item) is Gate:
                    self._accepting.rest()

    def _poll(self) -> bool:
        """Fetch ready events; False when the engine is over."""
        if self.stopping:
            if not self._accepting.closed:
                self._close_listeners()
            if self._ready:
                return True
            if self._stop_is_complete():
                return False
        timeout = None
        waiting = self._waiting
        if self._accepting.resting and self._poll_at_rest():
            return True
        waiting.poll_until = inf  # who adds a timer from here on wakes the poll
        next_at = waiting.timers.next_at
        if next_at < inf:
            waiting.poll_until = next_at
            timeout = max(0.0, next_at - self.now)
        if self._parking.count:
            reserved = self._parking.is_reserved(self.pace.fast_at, self.now)
            timeout = RESERVE_SECONDS if reserved else 0.0
        if self.stopping:
            left = max(0.0, self._stop_deadline - self.now)
            if self.keeps and waiting.idle():
                left = min(left, _HANDOVER_PAUSE)  # the others have not taken the last ones yet
            timeout = left if timeout is None else min(timeout, left)
        self._fetch(timeout)
        if next_at <= self.now:
            self._expire()
        return True

    def _fetch(self, timeout: float | None) -> None:
        """Poll for *timeout* seconds (None: for ever)."""
        found = self._waiting.poll(timeout)
        self.now = time.monotonic()
        self.idle_until = self.now + self.settings.idle_timeout
        items = self._waiting.items
        for fd, _ in found:
            item = items.get(fd)
            if item is not None:
                self._ready.append(item)
            elif fd == self._alive:
                self._be_orphaned()

    def _poll_at_rest(self) -> bool:
        """Let others accept while this process goes on with what it has; False if that is over."""
        left = self._accepting.rest_left()
        if left > 0.0:
            self._fetch(left)
        return left > 0.0

    def open_connections(self) -> int:
        """Count the connections: waiting, parked, and one for each thread in a request."""
        with self._lock:
            waiting = len(self._waiting.items) - len(self._accepting.gates) - 1
            busy = self._threads - len(self._idle) - 1
            return waiting + busy + self._parking.count

    # -- waiting connections ---------------------------------------------------------------

    def _await(self, connection: Served) -> None:
        """Let *connection* wait for octets, or for a thread if it is parked."""
        with self._lock:
            if not self._over:
                if connection.phase == PARKED:
                    self._park(connection)  # type: ignore[arg-type] # no multiplexer is parked
                    return
                if connection.phase == AWAY or connection.fd < 0:
                    return  # who reads it will have it watched again; or it has been dropped
                self._waiting.watch(connection)
                return
        self._drop(connection)

    def watch(self, connection: Served) -> None:
        """Have the poller watch a connection, from any thread; as `_await`."""
        self._await(connection)

    def unwatch(self, connection: Served) -> None:
        """Take a connection from the poller, from any thread."""
        with self._lock:
            self._waiting.unwatch(connection)

    def drop(self, connection: Served) -> None:
        """Let go of a connection, from any thread."""
        self._drop(connection)

    def dispatch(self, connection: Connection) -> None:
        """Let a thread serve a parked request: an idle one, a new one, or the next that is free."""
        with self._lock:
            if self._idle or self._over or not self._may_start():
                self._park(connection)
            else:
                self._start_worker(connection)
        if self._parking.count:
            self._waiting.waker.wake()  # the leader may be polling, and no other thread be free

    def _refresh(self, connection: Served) -> None:
        """Let an idle connection's time to wait begin now."""
        if connection.phase == IDLE:
            connection.deadline = time.monotonic() + self.settings.idle_timeout

    def _drop(self, connection: Served) -> None:
        with self._lock:  # closed under it, or another thread could have it watched just now
            if connection.waiting:
                self._waiting.unwatch(connection)
            try:
                if connection.fd >= 0:
                    connection.finish()
            except OSError as error:
                log.debug("%s: close: %s", connection.peer_name(), error)
        if self._accepting.paused and not self.stopping:
            self._accepting.resume()

    def _expire(self) -> None:
        """Close what has waited too long; look again at what has moved on since."""
        expired: list[Served | None] = []
        with self._lock:
            for connection in self._waiting.timers.take_due(self.now):
                if connection is None:
                    expired.append(None)
                elif not connection.waiting or connection in self._ready:
                    continue  # it is served first, and gets a timer when it waits again
                elif connection.deadline <= self.now:
                    expired.append(connection)
                else:
                    self._waiting.add_timer(connection.deadline, connection)
        for connection in expired:
            if connection is None:
                self._accepting.resume()
                continue
            if connection.phase in {FRESH, HEAD}:
                connection.report_slow_head()
            self._drop(connection)
        if expired:
            self._watchdog.hear()

    # -- the token -------------------------------------------------------------------------

    def take_over(self, worker: Worker, turns: int) -> None:
        """Take the token from *worker*, stuck in turn *turns*; called by the watchdog."""
        with self._lock:
            if self.leader is not worker or self.turns != turns:
                return
            try:
                connection = worker.claim.pop()
            except IndexError:
                return
            worker.step_aside(connection, self.now)
            self.pace.suspect(self.now)
            self._waiting.unwatch(connection)
            connection.push()
            self._pass_token()
            if worker.call is not None:
                self.deadlines.watch(worker.call)

    def release(self, connection: Served) -> None:
        """Give the token away before this thread waits; nothing if it does not hold it."""
        worker = connection.worker
        if worker.claim and self._most_threads > 1:
            with self._lock:
                if worker.claim:
                    worker.claim.pop()
                    worker.step_aside(connection, self.now)
                    self._waiting.unwatch(connection)
                    connection.push()
                    self._pass_token()
                    if worker.call is not None:
                        self.deadlines.watch(worker.call)

    def may_call(self, connection: Connection, event: RequestReceived) -> bool:
        """Decide over a decoded request before the application is called.

        The leader calls what is short itself. What is slow it calls after it has given the token
        away; as the last free thread it parks it, and looks first whether something short waits.

        Returns:
            Whether to call now; else the connection must be parked.
        """
        worker = connection.worker
        if not worker.claim or self._most_threads == 1:
            return True
        guess = self.pace.guess(target_of(event.environ))
        if guess == SHORT:
            return True
        connection.untried = guess == UNTRIED
        with self._lock:
            if not worker.claim:
                return True
            if not self._idle and not self._may_start():
                return False
            worker.claim.pop()
            worker.step_aside(connection, self.now)
            self._waiting.unwatch(connection)
            self._pass_token()
        return True

    def _pass_token(self) -> None:
        """Make another thread the leader; under the lock, with the claim popped."""
        if self._idle:
            worker = self._idle.pop()
            self.leader = worker
            worker.wake.release()
            return
        self.leader = None
        if not self._over and self._may_start():
            self._start_worker()

    def _may_start(self) -> bool:
        """Whether another thread may be tried; under the lock."""
        if self._threads < self._most_threads:
            return True
        if time.monotonic() < self._short_until:
            return False
        self._short_until = inf
        self._most_threads = self.settings.threads
        return self._threads < self._most_threads

    def _start_worker(self, job: Connection | None = None) -> None:
        """Start a thread; under the lock. It leads, or first serves a parked request."""
        worker = Worker()
        worker.job = job
        name = f"portico-{self._threads + 1}"
        if job is None:
            self.leader = worker
        else:
            job.deadline = time.monotonic() + self.settings.queue_timeout
        try:
            threading.Thread(target=self._join, args=(worker,), name=name, daemon=True).start()
        except (RuntimeError, MemoryError):
            self._most_threads = max(1, self._threads)
            self.lack_thread()
            if job is None:
                self.leader = None
            else:
                self._park(job)
        else:
            self._threads += 1
            self._census.enter(worker)

    def lack_thread(self) -> None:
        """Go on without a thread that was refused; the log says so once, and what is amiss."""
        is_first = not self._short_pause
        self._short_pause = min(_SHORTAGE_PAUSE_MOST, 2 * self._short_pause or _SHORTAGE_PAUSE)
        self._short_until = time.monotonic() + self._short_pause
        if is_first:
            losses = self._watchdog.loss() + self.deadlines.loss()
            log.warning(
                "no more threads to be had (%s): going on with %d of %d%s",
                name_limit(), max(1, self._threads), self.settings.threads, losses,
            )  # fmt: skip

    def _join(self, worker: Worker) -> None:
        """What a new thread does."""
        job, worker.job = worker.job, None
        try:
            if job is not None:
                job.worker = worker
                with suppress(MemoryError):
                    self._settle(job, goes_on=True)
            self._work_on(worker)
        finally:
            with self._lock:
                self._census.leave(worker)
            self._watchdog.hear()

    def _park(self, connection: Connection) -> None:
        """Let *connection* wait for a thread; under the lock."""
        self._waiting.unwatch(connection)
        connection.deadline = time.monotonic() + self.settings.queue_timeout
        if self._idle:
            worker = self._idle.pop()
            worker.job = connection
            worker.wake.release()
        else:
            self._parking.add(connection, self.now)
            self.deadlines.watch_parked(connection.deadline)

    def _take_parked(self, worker: Worker) -> bool:
        """As the last free thread, with nothing ready: serve a parked request, without token."""
        if self._parking.is_reserved(self.pace.fast_at, self.now):
            return False
        with self._lock:
            if not self._parking.count:
                return False
            connection = self._parking.take_last(self.now)
            self._pass_token()
        connection.worker = worker
        self._settle(connection, goes_on=True)
        return True

    def _settle(self, connection: Served, *, goes_on: bool) -> None:
        """Finish with a connection that was served without the token."""
        worker = connection.worker
        with self._lock:  # who took the token is done with the connection
            worker.apart = connection
        self._watchdog.hear()
        while goes_on and connection.phase == PARKED:
            worker.since = time.monotonic()
            try:
                goes_on = connection.resume()  # type: ignore[union-attr] # likewise
            except Exception:  # as in _work
                log.exception("%s: internal error", connection.peer_name())
                goes_on = False
            except BaseException:
                self._drop(connection)
                raise
        if goes_on:
            self._refresh(connection)
            self._await(connection)
        else:
            self._drop(connection)
        worker.apart = None
        self._watchdog.hear()

    def _follow(self, worker: Worker) -> bool:
        """Wait for the token, serving parked requests; False when the engine is over."""
        while True:
            job: Connection | None = None
            with self._lock:
                if self._over:
                    return False
                if self.leader is None:
                    self.leader = worker
                    self.now = time.monotonic()  # nobody polled for a while
                    return True
                if self._threads > self._most_threads and worker is not self._first:
                    self._threads -= 1  # it was lost, or took the place of one that was
                    return False
                if self._parking.count:
                    job = self._parking.take(self.now)
                else:
                    self._idle.append(worker)
                    if self.stopping:
                        self._waiting.waker.wake()  # the leader waits for the last busy thread
            if job is None:
                worker.wake.acquire()
                job, worker.job = worker.job, None
                if job is None:
                    return not self._over
            job.worker = worker
            self._settle(job, goes_on=True)

    # -- deadlines -------------------------------------------------------------------------

    def refuse_late(self, now: float, worker: Worker) -> float:
        """Answer the requests that have been parked for too long, in this thread, *worker*.

        Returns:
            When the next has been, monotonic seconds; `inf` if none is parked.
        """
        with self._lock:
            late = self._parking.take_late(now)
            next_at = self._parking.late_at()
        for connection in late:
            connection.worker = worker
            goes_on = False
            try:
                goes_on = connection.resume(refuse=True)
            except RequestTimeout:
                log.debug("%s: takes no answer", connection.peer_name())
            except Exception:  # as in _work
                log.exception("%s: internal error", connection.peer_name())
            if goes_on:
                self._await(connection)
            else:
                self._drop(connection)
        if late:
            self._watchdog.hear()
        return next_at

    def cut(self, connection: Connection) -> None:
        """Close *connection* with a reset, whichever thread serves it."""
        with self._lock:
            self._waiting.unwatch(connection)
        connection.reset()

    def replace(self, worker: Worker) -> bool:
        """Count the thread of *worker* as lost and let another start; False if too many were."""
        with self._lock:
            if self._lost >= self.settings.threads:
                return False
            self._lost += 1
            self._threads -= 1
            try:
                connection = worker.claim.pop()
            except IndexError:  # not the only thread, or it has come back just now
                pass
            else:  # the only thread, which keeps the token in a call
                worker.step_aside(connection, self.now)
                self._waiting.unwatch(connection)
                self.leader = None
            if self.leader is None:
                self._pass_token()
        return True

    def take_back(self) -> None:
        """Count a lost thread, which calls this, as there again."""
        with self._lock:
            self._lost -= 1
            self._threads += 1

    # -- spools and the end ----------------------------------------------------------------

    def make_spool(self) -> Spool:
        """Make a spool for body that arrives while a response is being written."""
        return Spool(self.settings.body_spool_bytes, _temporary_file)

    def _stop_is_complete(self) -> bool:
        """Go on stopping; whether nothing is left to wait for."""
        for item in self._waiting.idle():
            if not self.keeps:
                self._drop(item)
            elif item.is_free():
                self._accepting.pass_on(item)
        with self._lock:
            busy = self._threads - len(self._idle) - 1
            left = busy + self._parking.count + len(self._waiting.items) - 1
            if left and self.now < self._stop_deadline:
                return False
            if left:
                log.warning("stopping with %d requests or connections unfinished", left)
            self._over = True
            for worker in self._idle:
                worker.wake.release()
            self._idle.clear()
        return True

    def _be_orphaned(self) -> None:
        """End, as nobody starts others any more."""
        self._waiting.poller.unregister(self._alive)
        self._alive = -1
        log.warning("the parent process is gone; stopping")
        self._stop_for(orphaned=True)

    def _stop_for(self, *, orphaned: bool) -> None:
        """Stop, as it is to be done in this process."""
        if self._on_stop is not None:
            self._on_stop(orphaned)
        else:
            self.stop()

    def _close_listeners(self) -> None:
        """Accept no more, and have one last look at the idle connections."""
        if not self.keeps and self._stop_deadline > self.now:
            self._ready.extend(self._accepting.accept_the_last(cast("Worker", self.leader)))
        with self._lock:
            self._accepting.close()
            if not self.keeps:
                # a request may have come on them that nobody has read
                self._ready.extend(self._waiting.idle())

    def _end(self) -> None:
        """Let go of everything; after a failure too."""
        with self._lock:
            self._over = True
            left = self._waiting.connections()
            left += self._parking.clear()
            for worker in self._idle:
                worker.wake.release()
            self._idle.clear()
        self._watchdog.stop()
        self.deadlines.stop()
        for connection in left:
            if connection.fd < 0:
                connection.finish()  # one of several requests: its connection is dropped as well
            else:
                self._drop(connection)
        with self._lock:
            self._accepting.close()
        self._waiting.close()
        self._watchdog.tell()


def _temporary_file() -> BinaryIO:
    return cast("BinaryIO", tempfile.TemporaryFile(prefix="portico-"))
