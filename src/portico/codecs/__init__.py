"""The protocols, sans-IO: bytes in, events out; calls in, bytes out.

Each protocol is one module with a `ServerCodec` and a `ClientCodec` of the same shape. A codec
that raised is finished: send what `refuse()` gives, then drop the connection.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from portico.events import Event
    from portico.limits import Limits

#: Names a bind URL may use, and the module that speaks them.
PROTOCOLS = {
    "fastcgi": "fastcgi",
    "fcgi": "fastcgi",
    "scgi": "scgi",
    "ajp": "ajp",
    "uwsgi": "uwsgi",
}

#: Stands for all of them on one listener, told apart by a connection's first octet.
AUTO = "auto"


class ServerCodec(Protocol):
    """The application server's side of one connection.

    Attributes:
        protocol: ``"fastcgi"``, ``"scgi"``, ``"ajp"`` or ``"uwsgi"``; ``"auto"`` while it is not
            known.
        keep_open: Whether the connection survives the present request once it is answered whole.
        pending: Whether octets wait that `receive_data(b"")` could decode once the present
            request has been answered.
        raw_body: Whether body octets travel unframed after the head, so that a file may be
            sent by the kernel.
        excess: Whether octets came behind a connection's only request (SCGI and uwsgi alone); more
            of them may be on their way.
        crowded: Whether the peer wants several requests in flight (FastCGI alone); what `several`
            of that codec gives serves them.
    """

    protocol: str
    keep_open: bool
    raw_body: bool
    excess: bool
    crowded: bool

    @property
    def pending(self) -> bool:
        """As above."""
        ...

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come since the last answer."""
        ...

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the peer; raises `RemoteProtocolError`."""
        ...

    def receive_eof(self) -> list[Event]:
        """Take the peer's end of file; an `AbortReceived` if it cut a request short."""
        ...

    def data_to_send(self) -> bytes:
        """Give, once, what the codec itself owes the peer (replies, body requests)."""
        ...

    def send_response(
        self,
        request_id: int,
        status: str,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        *,
        end: bool = True,
    ) -> bytes:
        """Encode a checked head, the body's first octets and, with *end*, the response's end."""
        ...

    def send_body(self, request_id: int, data: bytes, *, end: bool = False) -> bytes:
        """Encode more body; *data* may be empty with *end* alone."""
        ...

    def send_body_parts(
        self, request_id: int, data: bytes, *, end: bool = False
    ) -> list[bytes | memoryview]:
        """Encode a large piece of body as buffers for a gathered write, copying none of it."""
        ...

    def want_body(self, request_id: int, size: int) -> None:
        """Say that at most *size* further body octets are wanted; a no-op except in AJP."""
        ...

    def refuse(self, status: int) -> bytes:
        """Encode the error answer to a request that could not be decoded; may be empty."""
        ...

    def abort(self, request_id: int) -> None:
        """Give up a response that cannot be completed; the connection must close."""
        ...


class ClientCodec(Protocol):
    """The web server's side of one connection, one request at a time.

    Attributes:
        keep_open: Whether another request may follow once `ResponseEnded` said so.
        body_on_demand: Whether body after the first piece is sent only for a `BodyWanted`.
    """

    protocol: str
    keep_open: bool
    body_on_demand: bool

    def send_request(
        self, environ: Mapping[str, str], body: bytes = b"", *, end: bool = True
    ) -> bytes:
        """Encode a request's head, the body's first octets and, with *end*, its end."""
        ...

    def send_body(self, data: bytes, *, end: bool = False) -> bytes:
        """Encode more body."""
        ...

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the backend; raises `RemoteProtocolError`."""
        ...

    def receive_eof(self) -> list[Event]:
        """Take the backend's end of file; raises `RemoteProtocolError` if it cut the response."""
        ...

    def abort(self) -> bytes:
        """Encode the message that gives the request up; empty where closing says it."""
        ...


def server_codec_maker(
    protocol: str, limits: Limits, **options: object
) -> Callable[[], ServerCodec]:
    """Give what makes the server side of *protocol* for each new connection.

    The protocol's module is imported on first use. That of ``"auto"`` reports a
    `ProtocolDetected` and takes no options.

    Raises:
        ConfigError: no such protocol.
    """
    module = _module(protocol) if protocol != AUTO else import_module("portico.codecs.detect")
    codec = module.ServerCodec
    return partial(codec, limits, **options) if options else partial(codec, limits)


def server_codec(protocol: str, limits: Limits, **options: object) -> ServerCodec:
    """Make the server side of *protocol* for one connection; as `server_codec_maker`."""
    return server_codec_maker(protocol, limits, **options)()


def client_codec(protocol: str, limits: Limits, **options: object) -> ClientCodec:
    """Make the client side of *protocol*; its module is imported on first use.

    Raises:
        ConfigError: no such protocol.
    """
    return _module(protocol).ClientCodec(limits, **options)  # type: ignore[no-any-return]


def _module(protocol: str) -> ModuleType:
    name = PROTOCOLS.get(protocol)
    if protocol == AUTO:
        raise ConfigError(f"only a listener tells protocols apart: instead of {AUTO} name one of"
                          f" {', '.join(PROTOCOLS)}")  # fmt: skip
    if name is None:
        raise ConfigError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    return import_module(f"portico.codecs.{name}")
