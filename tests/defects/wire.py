"""FastCGI as octets, and what flows through one codec: shared by the defects' tests."""

from __future__ import annotations

from engine_harness import request_octets
from portico.codecs import fastcgi, server_codec
from portico.codecs._fastcgi_multiplex import MultiplexCodec
from portico.codecs._fastcgi_records import Values
from portico.errors import RemoteProtocolError
from portico.events import RequestRefused
from portico.limits import Limits

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES = range(1, 10)
GET_VALUES_RESULT, UNKNOWN_TYPE = 10, 11


def record(kind: int, request_id: int = 1, content: bytes = b"") -> bytes:
    header = bytes((1, kind)) + request_id.to_bytes(2) + len(content).to_bytes(2) + b"\0\0"
    return header + content


def begin(request_id: int = 1, role: int = 1, flags: int = 1) -> bytes:
    return record(BEGIN, request_id, role.to_bytes(2) + bytes((flags, 0, 0, 0, 0, 0)))


def params(request_id: int = 1, **pairs: str) -> bytes:
    """A whole stream of parameters."""
    block = fastcgi.encode_pairs(pairs.items())
    return record(PARAMS, request_id, block) + record(PARAMS, request_id)


def records(octets: bytes) -> list[tuple[int, int, bytes]]:
    """Take whole records apart: type, id, content."""
    found = []
    at = 0
    while at < len(octets):
        size = int.from_bytes(octets[at + 4 : at + 6])
        content = octets[at + 8 : at + 8 + size]
        assert len(content) == size
        found.append((octets[at + 1], int.from_bytes(octets[at + 2 : at + 4]), content))
        at += 8 + size + octets[at + 6]
    assert at == len(octets)
    return found


def serial(**limits: int) -> fastcgi.ServerCodec:
    """The codec that every connection begins with: one request at a time."""
    return fastcgi.ServerCodec(Limits(**limits))


def multiplexed(**limits: int) -> MultiplexCodec:
    """The codec of a connection with several requests in flight."""
    values = Values(7, 16, multiplexes=True)
    return MultiplexCodec(Limits(**limits), roles=(1, 2, 3), values=values, most=4)


#: Both of FastCGI's server codecs.
BOTH = [serial, multiplexed]


def answering(protocol: str, **options):
    """A server codec whose request waits for its answer."""
    codec = server_codec(protocol, Limits(), **options)
    (event,) = codec.receive_data(request_octets(protocol))
    return codec, event.request_id


def refuses(codec, chunks):
    """Whether a codec refuses what it is given, as one of many requests or the connection."""
    try:
        events = [event for chunk in chunks for event in codec.receive_data(chunk)]
    except RemoteProtocolError:
        return True
    return [type(event) for event in events] == [RequestRefused]


def whole_answer(server, octets: bytes) -> bytes:
    """Send *octets* to a `Running` engine's FastCGI port; gives all that comes until it closes."""
    with server.connect("fastcgi") as frontend:
        frontend.send(octets)
        parts = []
        while data := frontend.sock.recv(65_536):
            parts.append(data)
        return b"".join(parts)
