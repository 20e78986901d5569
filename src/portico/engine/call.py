"""One request under limits of time: where it may be interrupted, and what it may still send.

`portico.RequestTimeout` is raised in the request's thread from outside, and CPython raises such an
exception wherever the thread happens to be. It must be the application's code, of this very
request. So the thread holds up a flag while it is there: the one element of a list that belongs
to this request alone. Taking that element out, an atomic operation, decides every race:

- The thread takes it on its way out of the application: nothing can be raised any more.
- The watching thread takes it: it answers the client and raises the exception. The thread finds
  the list empty and goes no step on before the exception has come, or is taken back.

While the list is empty for the first reason, in the engine's code, the watching thread leaves a
note, which the thread reads on its way back into the application.
"""

from __future__ import annotations

import time
from _thread import get_ident
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from portico.core import pages
from portico.core.response import FileWrapper
from portico.errors import ApplicationError, RequestTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from portico.core.response import Sink
    from portico.engine.worker import Worker

    class TimedSink(Sink, Protocol):
        """A sink whose response can be ended from outside while the application runs."""

        worker: Worker

        def peer_name(self) -> str:
            """Name the peer for a log line."""
            ...

        def hang_up(self) -> None:
            """Say at once that the connection takes no further request."""
            ...

        def answer_and_hang_up(
            self, status: str, headers: list[tuple[str, str]], body: bytes
        ) -> None:
            """Send a whole response, and that the connection takes no further request."""
            ...

        def cut(self) -> None:
            """Break the response off at once; nothing more of it is sent."""
            ...


P = ParamSpec("P")
T = TypeVar("T")

#: Seconds between two looks whether an exception that is certain to come has come.
_MOMENT = 0.0005


class Call:
    """One request that runs; where a hard limit is set, its application and its sink as well.

    Not slotted: most attributes are those of the class for the life of a short request, and cost
    it nothing.

    Attributes:
        sink: Where the response goes.
        environ: The request's environ, which the application may change; empty afterwards.
        worker: The thread that runs it.
        ident: That thread's number.
        watched: Whether the watching thread looks at it, since `started`, monotonic seconds.
        slow_at: When the soft limit is reached; `inf` without one, and once it was.
        deadline: The same for the hard limit.
        lost_at: When its thread counts as lost, if the request is not over.
        expired: Whether the hard limit is passed; the note of the module's text.
        timed_out: Whether that has been answered, so that the application's output goes nowhere.
        refused: Whether the answer was 504, nothing of the application's having left.
        octets: Of that answer's body, once it has been sent.
        raised: Whether the exception has been raised from outside.
        lost: Whether the thread counts as lost.
        over: Whether the request is done; written under the lock of `Deadlines`.
    """

    watched = False
    started = 0.0
    slow_at = deadline = lost_at = inf
    expired = timed_out = refused = raised = lost = over = False
    octets = 0
    _head_sent = _ended = _inside = False

    def __init__(
        self,
        application: Callable[..., Any],
        environ: dict[str, Any],
        sink: TimedSink,
        expire: Callable[[Call], None],
    ) -> None:
        self._application = application
        self.environ = environ
        self.sink = sink
        self.worker = sink.worker
        self.ident = get_ident()
        self._expire = expire
        self._claim: list[bool] = []

    # -- the flag --------------------------------------------------------------------------

    def enter(self) -> None:
        """Hold up the flag: application code follows.

        Raises:
            RequestTimeout: the limit was passed meanwhile; the client is answered.
        """
        self._inside = True
        self._claim.append(True)
        if self.expired:
            self.leave()
            self._give_up()

    def leave(self) -> None:
        """Take the flag down: application code has returned.

        Raises:
            RequestTimeout: the watching thread was first; the client is answered.
        """
        if not self._take_down():
            raise RequestTimeout

    def abandon(self) -> None:
        """Take the flag down where application code has raised; no exception comes after it."""
        self._take_down()

    def _take_down(self) -> bool:
        """Whether the request goes on; else the exception has come, or has been taken back.

        May be called again where the exception comes in the midst of it.
        """
        if not self._inside:  # a read or write has found the limit passed
            return not self.timed_out
        try:
            self._claim.pop()
        except IndexError:
            while not self.raised:
                time.sleep(_MOMENT)
            self.take_back()
        self._inside = False
        return not self.timed_out

    def take_back(self) -> None:
        """Make sure that no exception is on its way to this thread, which calls this itself."""
        from portico.engine import interrupt  # noqa: PLC0415 - ctypes, and only ever needed here

        interrupt.clear(self.ident)

    def capture(self) -> bool:
        """Take the flag away, in the watching thread; whether the request is in its hands."""
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True

    # -- the limit is passed ---------------------------------------------------------------

    def answer(self) -> str:
        """Give the client what is still possible; says what, for the log.

        Called by whoever took the flag, once.
        """
        self.timed_out = True
        sink = self.sink
        if self._ended:
            sink.hang_up()
            return "answered before"
        if self._head_sent:
            sink.cut()
            return "cut"
        self._head_sent = self._ended = self.refused = True
        status, headers, body = pages.refusal(504)
        if self.environ.get("REQUEST_METHOD") == "HEAD":
            body = b""
        try:
            sink.answer_and_hang_up(status, headers, body)
        except BaseException:
            sink.cut()
            raise
        self.octets = len(body)
        return "504"

    def _give_up(self) -> None:
        """Answer the client in the request's own thread."""
        self._expire(self)
        raise RequestTimeout

    # -- the application -------------------------------------------------------------------

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Call the application; what it returns is wrapped where iterating runs its code."""
        box: list[Any] = []
        try:
            self.enter()
            # In C from the application's return to the list: an exception between the two would
            # lose the iterable, and with it the call of its close().
            box.extend(map(self._application, (environ,), (start_response,)))
            self.leave()
        except BaseException:
            try:
                self.abandon()
            finally:
                close = getattr(box[0], "close", None) if box else None
                if close is not None:
                    close()
            raise
        if not box:  # which ends the map as it ends every iteration
            raise ApplicationError("the application raised StopIteration")
        result = box[0]
        kind = type(result)
        if kind is list or kind is tuple or (kind is FileWrapper and result.extent()):
            return result
        return result if kind is bytes or kind is str else Blocks(self, result)

    # -- the sink: what the core calls -----------------------------------------------------

    def send_response(
        self, status: str, headers: list[tuple[str, str]], body: bytes, *, end: bool
    ) -> None:
        """Send the head with the body's first octets."""
        inside = self._step_out()
        self._head_sent = True
        try:
            self.sink.send_response(status, headers, body, end=end)
            self._ended = end
        except RequestTimeout:
            self._give_up()
        finally:
            self._step_in(inside)

    def send_body(self, data: bytes, *, end: bool) -> None:
        """Send more body."""
        inside = self._step_out()
        try:
            self.sink.send_body(data, end=end)
            self._ended = end
        except RequestTimeout:
            self._give_up()
        finally:
            self._step_in(inside)

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send part of a file."""
        inside = self._step_out()
        try:
            return self.sink.send_file(fd, offset, count)
        except RequestTimeout:
            self._give_up()
            raise
        finally:
            self._step_in(inside)

    def flush(self) -> None:
        """Let nothing sent wait."""
        self.sink.flush()

    def abort(self) -> None:
        """Break the response off, if that has not been done for it."""
        if not self.timed_out:
            self._ended = True
            self.sink.abort()

    # -- the body, and wsgi.errors ---------------------------------------------------------

    def through(self, function: Callable[P, T]) -> Callable[P, T]:
        """Stand before a *function* of the engine that the application's calls lead to."""
        return partial(self._call_out, function)

    def _call_out(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        inside = self._step_out()
        try:
            return function(*args, **named)
        except RequestTimeout:
            self._give_up()
            raise
        finally:
            self._step_in(inside)

    def _step_out(self) -> bool:
        """Go from the application, or the core, to the engine; gives what `_step_in` wants.

        Raises:
            RequestTimeout: there is nothing to read or write any more.
        """
        inside = self._inside
        if inside:
            self.leave()
        elif self.timed_out:
            raise RequestTimeout
        return inside

    def _step_in(self, inside: bool) -> None:  # noqa: FBT001 - the other half of `_step_out`
        if inside and not self.timed_out:
            self.enter()


class Blocks:
    """What an application returned: its code runs under the flag of its call.

    Args:
        call: The request.
        result: The iterable.
    """

    __slots__ = ("_call", "_iterator", "_result")

    def __init__(self, call: Call, result: Any) -> None:
        self._call = call
        self._result = result
        self._iterator: Iterator[Any] | None = None

    def __iter__(self) -> Blocks:
        return self

    def __next__(self) -> Any:
        call = self._call
        try:
            call.enter()
            if self._iterator is None:
                self._iterator = iter(self._result)
            block = next(self._iterator)
            call.leave()
        except BaseException:
            call.abandon()
            raise
        return block

    def close(self) -> None:
        """Close the iterable if it can be closed; after the limit as well, but uninterrupted."""
        close = getattr(self._result, "close", None)
        if close is None:
            return
        call = self._call
        begun = call.timed_out
        if begun:
            close()
            return
        try:
            call.enter()
            begun = True
            close()
            call.leave()
        except BaseException:
            call.abandon()
            if not begun:
                close()
            raise
