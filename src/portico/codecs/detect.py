"""The protocol of a connection, told by its first octet: the codec of an `auto` listener.

No two of the gateway protocols begin alike: a FastCGI record with its version 1, an SCGI request
with the digits of a netstring's length (no leading zero), an AJP packet to a container with 12 34,
a uwsgi request with modifier1 0, or 30 for one whose PATH_INFO holds SCRIPT_NAME too.
"""

# ruff: noqa: ARG002 - the codecs' contract, of which little applies here

from __future__ import annotations

from portico.errors import LocalProtocolError, RemoteProtocolError
from portico.events import ProtocolDetected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portico.events import Event
    from portico.limits import Limits

#: First octet of a connection -> the only protocol that it can belong to.
FIRST_OCTETS = {
    0x01: "fastcgi",
    **dict.fromkeys(b"123456789", "scgi"),
    0x12: "ajp",
    **dict.fromkeys((0, 30), "uwsgi"),
}


class NoRequest:
    """What every codec has, for a connection of which no request can come yet, or ever."""

    __slots__ = ()

    protocol = "auto"
    keep_open = True
    pending = False
    idle = False
    raw_body = False
    excess = False
    crowded = False

    def receive_eof(self) -> list[Event]:
        """Take the peer's end of file; nothing follows from it."""
        return []

    def data_to_send(self) -> bytes:
        """Give nothing: nobody has asked for anything."""
        return b""

    def send_response(
        self,
        request_id: int,
        status: str,
        headers: list[tuple[str, str]],
        body: bytes = b"",
        *,
        end: bool = True,
    ) -> bytes:
        """Raise `LocalProtocolError`: there is no request."""
        raise LocalProtocolError("no request has come on this connection")

    def send_body(self, request_id: int, data: bytes, *, end: bool = False) -> bytes:
        """Raise `LocalProtocolError`: there is no request."""
        raise LocalProtocolError("no request has come on this connection")

    def send_body_parts(
        self, request_id: int, data: bytes, *, end: bool = False
    ) -> list[bytes | memoryview]:
        """Raise `LocalProtocolError`: there is no request."""
        raise LocalProtocolError("no request has come on this connection")

    def want_body(self, request_id: int, size: int) -> None:
        """Do nothing: no body is on its way."""

    def refuse(self, status: int) -> bytes:
        """Give nothing: what the peer would understand is not known."""
        return b""

    def abort(self, request_id: int) -> None:
        """Do nothing: closing the connection is all there is."""


class ServerCodec(NoRequest):
    """The application server's side of a connection whose protocol is not known yet.

    The first octets are answered by one `ProtocolDetected`, which holds them. The protocol's own
    codec takes this one's place, and those octets.
    """

    __slots__ = ()

    def __init__(self, limits: Limits) -> None:
        """Make the codec of one connection; *limits* are for those that follow."""

    def receive_data(self, data: bytes) -> list[Event]:
        """Take the first octets.

        Raises:
            RemoteProtocolError: they begin no gateway protocol.
        """
        if not data:
            return []
        protocol = FIRST_OCTETS.get(data[0])
        if protocol is None:
            raise RemoteProtocolError(
                f"the octet {data[0]:02x} begins neither FastCGI, SCGI, AJP nor uwsgi",
                section="first octet",
            )
        return [ProtocolDetected(protocol, data)]
