"""What the codecs report: one event for an ordinary request, plain slotted classes.

A `request_id` is the protocol's own where it has one (FastCGI) and 0 elsewhere.
Events own their data: the codec keeps no reference to what it has reported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portico.errors import RemoteProtocolError


class RequestReceived:
    """The head of a request is complete.

    Attributes:
        request_id: The request's id on its connection.
        environ: Parameters as received, latin-1 strings, repeats joined; owned by the receiver.
        body: The part of the body that came along; may be empty.
        complete: Whether `body` is the whole body.
        role: FastCGI role number; 1 (responder) for all other protocols.
    """

    __slots__ = ("body", "complete", "environ", "request_id", "role")

    def __init__(
        self,
        request_id: int,
        environ: dict[str, str],
        body: bytes,
        complete: bool,  # noqa: FBT001 - made once a request, positional for speed
        role: int = 1,
    ) -> None:
        self.request_id = request_id
        self.environ = environ
        self.body = body
        self.complete = complete
        self.role = role


class ProtocolDetected:
    """The first octets of a connection show its protocol (a listener for all of them, alone).

    Attributes:
        protocol: Name of the protocol whose codec must go on with `data`.
        data: All octets so far.
    """

    __slots__ = ("data", "protocol")

    def __init__(self, protocol: str, data: bytes) -> None:
        self.protocol = protocol
        self.data = data


class BodyReceived:
    """More of a request's body; `data` is never empty."""

    __slots__ = ("data", "request_id")

    def __init__(self, request_id: int, data: bytes) -> None:
        self.request_id = request_id
        self.data = data


class BodyEnded:
    """The request's body is complete."""

    __slots__ = ("request_id",)

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id


class DataReceived:
    """More of the file that a Filter is to work on (FCGI_DATA); `data` is never empty."""

    __slots__ = ("data", "request_id")

    def __init__(self, request_id: int, data: bytes) -> None:
        self.request_id = request_id
        self.data = data


class DataEnded:
    """The Filter's file is complete."""

    __slots__ = ("request_id",)

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id


class RequestRefused:
    """One request of several on a connection could not be decoded; the others go on.

    Attributes:
        error: What was wrong with it; its `status_hint` says how to answer.
    """

    __slots__ = ("error", "request_id")

    def __init__(self, request_id: int, error: RemoteProtocolError) -> None:
        self.request_id = request_id
        self.error = error


class AbortReceived:
    """The frontend gave the request up: by message, or by an end of file before the body's end."""

    __slots__ = ("request_id",)

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id


class ResponseReceived:
    """Client side: the head of a response is complete.

    Attributes:
        status: Status with reason, e.g. ``"200 OK"``.
        headers: Names and values as received, in order, repeats kept.
    """

    __slots__ = ("headers", "status")

    def __init__(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = status
        self.headers = headers


class ResponseBodyReceived:
    """Client side: more of the response's body; `data` is never empty."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class ResponseEnded:
    """Client side: the response is complete.

    Attributes:
        reusable: Whether the connection may carry another request.
        app_status: What the application gave as its exit status (FastCGI alone); else 0.
    """

    __slots__ = ("app_status", "reusable")

    def __init__(self, reusable: bool, app_status: int = 0) -> None:  # noqa: FBT001 - a field, not a switch
        self.reusable = reusable
        self.app_status = app_status


class StderrReceived:
    """Client side: text of the application's error stream (FastCGI alone)."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class BodyWanted:
    """Client side: the backend asks for at most `size` further body bytes (AJP alone)."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class PongReceived:
    """Client side: the backend answered a ping (AJP alone)."""

    __slots__ = ()


class ValuesReceived:
    """Client side: the backend answered FCGI_GET_VALUES (FastCGI alone).

    Attributes:
        values: What it knows of what it was asked for; empty where it does not know the question.
    """

    __slots__ = ("values",)

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values


Event = (
    RequestReceived
    | ProtocolDetected
    | BodyReceived
    | BodyEnded
    | DataReceived
    | DataEnded
    | RequestRefused
    | AbortReceived
    | ResponseReceived
    | ResponseBodyReceived
    | ResponseEnded
    | StderrReceived
    | BodyWanted
    | PongReceived
    | ValuesReceived
)
