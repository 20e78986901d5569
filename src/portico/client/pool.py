"""Kept connections to one backend, and the rule for trying a request again."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from select import POLLIN
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from portico.client.exchange import BackendError, Exchange, Timeouts
from portico.client.probe import answers_ping
from portico.client.upload import Upload, content_length, data_upload
from portico.codecs import PROTOCOLS, client_codec
from portico.errors import ConfigError, TransportError
from portico.limits import Limits
from portico.transports.bind import parse
from portico.transports.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from portico.client.upload import Readable
    from portico.codecs import ClientCodec
    from portico.codecs._ajp_client import ClientCodec as AjpClient
    from portico.transports.bind import Bind
    from portico.transports.stream import Stream


#: How long a backend that never yet served two requests over one connection gets to show that it
#: closes behind an answer; seconds from the answer. uWSGI 2.0.21 does so over FastCGI, whatever
#: FCGI_KEEP_CONN says: its end of file comes well within a millisecond.
_PROBATION_SECONDS = 0.05

#: How many kept connections such a backend may close before no more are kept; a count.
_MAX_STRIKES = 3

#: What is closed within so many seconds of its answer is closed because of it, not for idleness.
_STRIKE_SECONDS = 1.0


class _Kept(NamedTuple):
    """A connection without an exchange."""

    stream: Stream
    codec: ClientCodec
    since: float  # when its last exchange ended, seconds of the monotonic clock
    carried: int  # requests so far


class Pool:
    """Connections to one backend, for many threads.

    The connection used last is used next, so that those a burst has opened fall idle and are
    closed.

    **Health.** Before a kept connection is used, a look at it tells whether anything has come:
    an end of file, a reset, stray octets; each closes it. With *ping_seconds* an AJP backend is
    asked by a CPing as well, which tells of one that hangs, too. Nothing of a request has been
    sent meanwhile, so none is lost: another connection takes it. A backend that closes behind
    each answer though it was asked to keep the connection is found out: until one connection has
    served two requests, that look waits a moment for the end of file, and after three of them
    nothing more is kept.

    **The rule for a second try.** Between that look and the first octet of the request the
    backend may still close. A request is then sent once more, over a fresh connection, if and
    only if all of these hold:

    1. it was sent over a kept connection: a fresh one that fails is the backend's failure;
    2. the system refused every octet of it (the first write failed), so that the backend cannot
       have received, let alone executed, any of it;
    3. no octet of an answer came;
    4. its body can be read from the start again.

    Whatever the method is: an octet that the system took may have reached the backend, and of
    what the backend did with it nothing is known. Over a Unix socket a write to a peer that has
    closed always fails, so the rule catches every connection closed before the request; over TCP
    the system may take octets for a peer whose end of file is still on its way, and such a
    request is a 502. Keep *idle_seconds* and *max_requests* below the backend's own bounds, and
    it does not close first.

    Args:
        bind: Where the backend listens: a `Bind` or a bind URL.
        timeouts: Bounds of waiting.
        limits: What a response's head may take.
        max_kept: Most connections kept without an exchange; 0 keeps none.
        max_open: Most connections at a time, kept ones included; a count, 0 for no bound. Who
            finds all of them busy waits for ``timeouts.queue`` seconds.
        max_requests: Most requests over one connection; a count, 0 for no bound. The backend is
            told with the last one where the protocol has a word for it.
        idle_seconds: Longest time a connection is kept for its next exchange. What is older is
            closed at the next use of the pool.
        ping_seconds: How long an AJP backend may take to answer the CPing that precedes each
            request over a kept connection; 0 sends none.
        role: What a FastCGI backend is asked to be: responder, authorizer or filter.
        tap: As each `Exchange` takes it.

    Raises:
        ConfigError: the bind URL is none, or its protocol has no roles or no ping. An unknown
            role is told by `open`.
    """

    def __init__(
        self,
        bind: Bind | str,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        max_kept: int = 8,
        max_open: int = 0,
        max_requests: int = 0,
        idle_seconds: float = 30.0,
        ping_seconds: float = 0.0,
        role: str = "responder",
        tap: Callable[[bytes, bool], None] | None = None,
    ) -> None:
        self.bind = parse(bind) if isinstance(bind, str) else bind
        self.timeouts = timeouts or Timeouts()
        self._limits = limits or Limits()
        self._max_kept = max_kept
        self._max_open = max_open
        self._max_requests = max_requests
        self._idle_seconds = idle_seconds
        if ping_seconds and self.bind.protocol != "ajp":
            raise ConfigError(
                f"{self.bind.protocol} has no ping: leave ping_seconds at 0", key="ping_seconds"
            )
        self._ping_seconds = ping_seconds
        self._tap = tap
        self._options = _codec_options(self.bind, keep_open=max_kept > 0, role=role)
        self._free = threading.Condition()
        self._kept: list[_Kept] = []  # oldest first
        self._open = 0  # connections that are kept or carry an exchange
        self._proven = False  # a connection has carried more than one request
        self._strikes = 0  # kept connections closed behind their answer before that
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(
        self,
        environ: dict[str, str],
        body: bytes | Readable | Iterable[bytes] | Upload = b"",
        *,
        data: bytes | Readable | Upload | None = None,
    ) -> Exchange:
        """Send a request and wait for the head of its response.

        A kept connection that turns out to be closed is replaced by a fresh one, once, if the
        request certainly was not executed: see the class.

        Args:
            environ: CGI-style parameters, latin-1.
            body: The request's body, see `Exchange`.
            data: A FastCGI Filter's data, see `Exchange`.

        Returns:
            An exchange with its head in hand; the caller closes it.

        Raises:
            BackendError: the backend could not be reached or gave no usable answer; 503 where
                no connection became free.
            LocalProtocolError: the protocol cannot carry this request.
            Exception: whatever reading the body raises.
        """
        if not isinstance(body, Upload):
            body = Upload(body, content_length(environ))
        data = data_upload(data, environ)
        kept = self._take()
        if kept is not None:
            exchange = self._exchange(kept, environ, body, data)
            try:
                exchange.begin()
            except BackendError:
                if not exchange.may_repeat():
                    raise
                self._reserve()
            else:
                return exchange
        exchange = self._exchange(self._connect(), environ, body, data)
        exchange.begin()
        return exchange

    def close(self) -> None:
        """Close what is kept; exchanges under way go on."""
        with self._free:
            kept, self._kept = self._kept, []
            self._count_closed(len(kept))
        for connection in kept:
            connection.stream.close()

    def _exchange(
        self, connection: _Kept, environ: dict[str, str], body: Upload, data: Upload | None
    ) -> Exchange:
        stream, codec, _, carried = connection
        if carried + 1 == self._max_requests:
            codec.keep_open = False  # tells the backend, or makes the codec close
        try:
            return Exchange(
                stream,
                codec,
                environ,
                body,
                data=data,
                timeouts=self.timeouts,
                release=partial(self._give_back, carried + 1),
                tap=self._tap,
            )
        except BaseException:
            self._drop(stream)
            raise

    def _connect(self) -> _Kept:
        """Make a connection in the place that was reserved for it."""
        try:
            codec = client_codec(self.bind.protocol, self._limits, **self._options)
            return _Kept(connect(self.bind, self.timeouts.connect), codec, 0.0, 0)
        except TransportError as exc:
            self._drop(None)
            slow = isinstance(exc.__cause__, (TimeoutError, BlockingIOError))
            raise BackendError(str(exc), status_hint=504 if slow else 502) from exc
        except BaseException:
            self._drop(None)
            raise

    def _take(self) -> _Kept | None:
        """Give the connection used last that is still good; None: a place for a new one."""
        while (kept := self._kept_or_place()) is not None:
            if self._is_good(kept):
                return kept
            self._drop(kept.stream)
        return None

    def _is_good(self, kept: _Kept) -> bool:
        """Whether a kept connection may carry another request."""
        age = time.monotonic() - kept.since
        if age > self._idle_seconds:
            return False
        if not _is_quiet(kept.stream, 0 if self._proven else max(0, _PROBATION_SECONDS - age)):
            if not self._proven and age < _STRIKE_SECONDS:
                self._strike()
            return False
        return not self._ping_seconds or answers_ping(
            kept.stream, cast("AjpClient", kept.codec), self._ping_seconds
        )

    def _strike(self) -> None:
        with self._free:
            self._strikes += 1
            if self._strikes == _MAX_STRIKES:
                self._max_kept = 0
                self._options["keep_open"] = False

    def _kept_or_place(self) -> _Kept | None:
        with self._free:
            self._forget_parents()
            self._wait_for(lambda: bool(self._kept) or self._has_room())
            if self._kept:
                return self._kept.pop()
            self._open += 1
            return None

    def _reserve(self) -> None:
        """Take the place of a new connection, that of the oldest kept one if need be."""
        with self._free:
            self._wait_for(lambda: bool(self._kept) or self._has_room())
            if self._has_room():
                self._open += 1
            else:
                self._kept.pop(0).stream.close()

    def _has_room(self) -> bool:
        return not self._max_open or self._open < self._max_open

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        if not self._free.wait_for(condition, self.timeouts.queue):
            raise BackendError(
                f"all {self._max_open} connections to {self.bind.address} were busy for"
                f" {self.timeouts.queue:g} seconds (queue timeout)",
                status_hint=503,
            )

    def _give_back(self, carried: int, stream: Stream, codec: ClientCodec, reusable: bool) -> None:  # noqa: FBT001 - as Exchange calls it
        """Take a connection back from its exchange."""
        if not reusable or not self._max_kept:
            self._drop(stream)
            return
        self._proven = self._proven or carried > 1
        now = time.monotonic()
        dropped = []
        with self._free:
            self._forget_parents()
            kept = self._kept
            kept.append(_Kept(stream, codec, now, carried))
            while len(kept) > self._max_kept or kept[0].since < now - self._idle_seconds:
                dropped.append(kept.pop(0).stream)
            self._count_closed(len(dropped))
        for old in dropped:
            old.close()

    def _drop(self, stream: Stream | None) -> None:
        if stream is not None:
            stream.close()
        with self._free:
            self._count_closed(1)

    def _count_closed(self, count: int) -> None:
        # never below 0: a forked child ends exchanges that its parent has counted
        self._open = max(0, self._open - count)
        self._free.notify(max(1, count))

    def _forget_parents(self) -> None:
        """After a fork, leave the connections of the parent process to it."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            for kept in self._kept:
                kept.stream.close()  # this process's descriptor alone: the connection stays
            self._kept = []
            self._open = 0


def _codec_options(bind: Bind, *, keep_open: bool, role: str) -> dict[str, object]:
    """Choose what the codec has to know.

    Raises:
        ConfigError: the protocol has no roles.
    """
    protocol = PROTOCOLS.get(bind.protocol)
    if protocol == "fastcgi":
        return {"keep_open": keep_open, "role": role}
    if role != "responder":
        raise ConfigError(f"{bind.protocol} has no roles: {role} is one of FastCGI's", key="role")
    if protocol == "ajp":
        return {"keep_open": keep_open, **bind.ajp_options()}
    return {}


def _is_quiet(stream: Stream, seconds: float) -> bool:
    """Whether nothing comes on an idle connection: no end, no error, no stray octets.

    Octets that answer no request would be taken for the next one's response.
    """
    try:
        stream.wait(POLLIN, seconds)
    except TimeoutError:
        return True
    return False
