"""Questions to a backend that are no requests: FastCGI's FCGI_GET_VALUES, AJP's CPing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from portico.client.exchange import BackendError, Timeouts
from portico.codecs import PROTOCOLS, client_codec
from portico.errors import ConfigError, RemoteProtocolError, TransportError
from portico.events import PongReceived, ValuesReceived
from portico.limits import Limits
from portico.transports.bind import parse
from portico.transports.connect import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.codecs._ajp_client import ClientCodec as AjpClient
    from portico.codecs._fastcgi_client import ClientCodec as FastcgiClient
    from portico.events import Event
    from portico.transports.bind import Bind
    from portico.transports.stream import Stream

    Codec = AjpClient | FastcgiClient

#: What a FastCGI application may be asked for (FastCGI 1.0 §4.1).
VALUES = ("FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS")


def get_values(
    bind: Bind | str, names: Iterable[str] = VALUES, *, timeouts: Timeouts | None = None
) -> dict[str, str]:
    """Ask a FastCGI application what it can take, over a connection of its own.

    Args:
        bind: Where it listens: a `Bind` or a bind URL.
        names: What to ask for.
        timeouts: Bounds of waiting.

    Returns:
        What it answers; names that it does not know are missing.

    Raises:
        BackendError: it cannot be reached, or gives no answer.
        ConfigError: the bind URL is none of FastCGI.
    """
    bind = _bind_of(bind, "fastcgi")
    codec = cast("FastcgiClient", client_codec("fastcgi", Limits()))
    answer = _ask(bind, codec, codec.get_values(names), timeouts or Timeouts())
    return answer.values if type(answer) is ValuesReceived else {}


def ping(bind: Bind | str, *, timeouts: Timeouts | None = None) -> float:
    """Ask an AJP backend for a sign of life, over a connection of its own.

    Returns:
        Seconds from the CPing to the CPong.

    Raises:
        BackendError: it cannot be reached, or gives no answer.
        ConfigError: the bind URL is none of AJP.
    """
    bind = _bind_of(bind, "ajp")
    codec = cast("AjpClient", client_codec("ajp", Limits(), **bind.ajp_options()))
    started = time.monotonic()
    _ask(bind, codec, codec.ping(), timeouts or Timeouts())
    return time.monotonic() - started


def answers_ping(stream: Stream, codec: AjpClient, seconds: float) -> bool:
    """Whether the backend answers a CPing over a kept connection within *seconds*."""
    try:
        _exchange(stream, codec, codec.ping(), seconds)
    except (OSError, RemoteProtocolError):
        return False
    return True


def _bind_of(bind: Bind | str, protocol: str) -> Bind:
    bind = parse(bind) if isinstance(bind, str) else bind
    if PROTOCOLS.get(bind.protocol) != protocol:
        raise ConfigError(f"{bind} is not {protocol}: nothing else has this question", key="bind")
    return bind


def _ask(bind: Bind, codec: Codec, question: bytes, timeouts: Timeouts) -> Event:
    """Connect, ask, wait for the answer, close."""
    try:
        stream = connect(bind, timeouts.connect)
    except TransportError as exc:
        raise BackendError(str(exc)) from exc
    try:
        return _exchange(stream, codec, question, timeouts.read)
    except TimeoutError as exc:
        raise BackendError(
            f"the backend did not answer for {timeouts.read:g} seconds (read timeout)",
            status_hint=504,
        ) from exc
    except OSError as exc:
        raise BackendError(f"the backend closed without an answer: {exc.strerror or exc}") from exc
    except RemoteProtocolError as exc:
        raise BackendError(f"the backend gave no answer: {exc}") from exc
    finally:
        stream.close()


def _exchange(stream: Stream, codec: Codec, question: bytes, seconds: float) -> Event:
    """Send a question and read until its answer is here, within *seconds*."""
    deadline = time.monotonic() + seconds
    stream.write(question, seconds)
    while True:
        data = stream.read(max(0.0, deadline - time.monotonic()))
        events = codec.receive_data(data) if data else codec.receive_eof()
        for event in events:
            if type(event) is PongReceived or type(event) is ValuesReceived:
                return event
        if not data:
            raise ConnectionResetError("end of file")
