"""Kept connections to one backend, and the rule for trying a request again."""

from __future__ import annotations

import os
import threading
import time
from select import POLLIN
from typing import TYPE_CHECKING, Self

from portico.client.exchange import UNFRAMED, BackendError, Exchange, Timeouts
from portico.client.upload import Upload, content_length
from portico.codecs import client_codec
from portico.errors import TransportError
from portico.limits import Limits
from portico.transports.bind import parse
from portico.transports.connect import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from portico.client.upload import Readable
    from portico.codecs import ClientCodec
    from portico.transports.bind import Bind
    from portico.transports.stream import Stream


class Pool:
    """Connections to one backend, for many threads.

    The connection used last is used next, so that those a burst has opened fall idle and are
    closed. It bounds what is kept, not what is open: each exchange under way has its own.

    Args:
        bind: Where the backend listens: a `Bind` or a bind URL.
        timeouts: Bounds of waiting.
        limits: What a response's head may take.
        max_kept: Most connections kept without an exchange; 0 keeps none.
        idle_seconds: Longest time a connection is kept for its next exchange. What is older is
            closed at the next use of the pool.
        tap: As each `Exchange` takes it.
    """

    def __init__(
        self,
        bind: Bind | str,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        max_kept: int = 8,
        idle_seconds: float = 30.0,
        tap: Callable[[bytes, bool], None] | None = None,
    ) -> None:
        self.bind = parse(bind) if isinstance(bind, str) else bind
        self.timeouts = timeouts or Timeouts()
        self._limits = limits or Limits()
        self._max_kept = max_kept
        self._idle_seconds = idle_seconds
        self._tap = tap
        self._options = _codec_options(self.bind, keep_open=max_kept > 0)
        self._lock = threading.Lock()
        self._kept: list[tuple[Stream, ClientCodec, float]] = []  # oldest first
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(
        self, environ: dict[str, str], body: bytes | Readable | Iterable[bytes] | Upload = b""
    ) -> Exchange:
        """Send a request and wait for the head of its response.

        A kept connection that turns out to be closed is replaced by a fresh one, once, if the
        request cannot have been executed or may be executed twice (`Exchange.may_repeat`).

        Args:
            environ: CGI-style parameters, latin-1.
            body: The request's body, see `Exchange`.

        Returns:
            An exchange with its head in hand; the caller closes it.

        Raises:
            BackendError: the backend could not be reached or gave no usable answer.
            LocalProtocolError: the protocol cannot carry this request.
            Exception: whatever reading the body raises.
        """
        if not isinstance(body, Upload):
            body = Upload(body, content_length(environ))
        kept = self._take()
        if kept is not None:
            exchange = self._exchange(kept[0], kept[1], environ, body)
            try:
                exchange.begin()
            except BackendError:
                if not exchange.may_repeat():
                    raise
            else:
                return exchange
        codec = client_codec(self.bind.protocol, self._limits, **self._options)
        exchange = self._exchange(self._connect(), codec, environ, body)
        exchange.begin()
        return exchange

    def close(self) -> None:
        """Close what is kept; exchanges under way go on."""
        with self._lock:
            kept, self._kept = self._kept, []
        for stream, _, _ in kept:
            stream.close()

    def _exchange(
        self, stream: Stream, codec: ClientCodec, environ: dict[str, str], body: Upload
    ) -> Exchange:
        release = self._keep if self._max_kept else None
        return Exchange(
            stream, codec, environ, body, timeouts=self.timeouts, release=release, tap=self._tap
        )

    def _connect(self) -> Stream:
        try:
            return connect(self.bind, self.timeouts.connect)
        except TransportError as exc:
            slow = isinstance(exc.__cause__, (TimeoutError, BlockingIOError))
            raise BackendError(str(exc), status_hint=504 if slow else 502) from exc

    def _take(self) -> tuple[Stream, ClientCodec] | None:
        """Give the connection used last that is still good."""
        oldest = time.monotonic() - self._idle_seconds
        while True:
            with self._lock:
                self._forget_parents()
                if not self._kept:
                    return None
                stream, codec, since = self._kept.pop()
            if since >= oldest and _is_quiet(stream):
                return stream, codec
            stream.close()

    def _keep(self, stream: Stream, codec: ClientCodec) -> None:
        now = time.monotonic()
        dropped = []
        with self._lock:
            self._forget_parents()
            kept = self._kept
            kept.append((stream, codec, now))
            while len(kept) > self._max_kept or kept[0][2] < now - self._idle_seconds:
                dropped.append(kept.pop(0)[0])
        for old in dropped:
            old.close()

    def _forget_parents(self) -> None:
        """After a fork, leave the connections of the parent process to it."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            for stream, _, _ in self._kept:
                stream.close()  # this process's descriptor alone: the connection stays
            self._kept = []


def _codec_options(bind: Bind, *, keep_open: bool) -> dict[str, object]:
    """Choose what the codec has to know."""
    if bind.protocol in UNFRAMED:
        return {}
    own = bind.ajp_options() if bind.protocol == "ajp" else {}
    return {"keep_open": keep_open, **own}


def _is_quiet(stream: Stream) -> bool:
    """Whether nothing has come on an idle connection: no end, no error, no stray octets.

    Octets that answer no request would be taken for the next one's response.
    """
    try:
        stream.wait(POLLIN, 0)
    except TimeoutError:
        return True
    return False
