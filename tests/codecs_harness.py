"""Drive a server codec without sockets: octets delivered in every way, requests collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from portico.events import AbortReceived, BodyEnded, BodyReceived, RequestReceived

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from portico.codecs import ServerCodec
    from portico.events import Event

#: Octets up to which every two-way cut is delivered.
EVERY_CUT_BYTES = 4096

#: Octets up to which a delivery byte by byte is made.
BYTEWISE_BYTES = 65_536

#: Chunk sizes for what is too long to deliver byte by byte: coprime to every framing.
PRIMES = (7, 1021, 4099)

#: Cuts spread over what is too long for every cut.
SPREAD_CUTS = 200

COMPLETE = "complete"
ABORTED = "aborted"
OPEN = "open"


class Collected(NamedTuple):
    """One request as a codec reported it; `outcome` is COMPLETE, ABORTED or OPEN."""

    environ: dict[str, str]
    body: bytes
    outcome: str


def cuts(length: int, places: Iterable[int] = (), spread: int = SPREAD_CUTS) -> list[int]:
    """Positions to cut *length* octets at: all of them, or a bounded deterministic choice.

    Long input is cut at its first 64 and last 16 positions, within two octets of each of
    *places* (ends of records, of the head...), and at *spread* evenly spaced positions.
    """
    if length <= EVERY_CUT_BYTES:
        return list(range(1, length))
    wanted = {*range(1, 65), *range(length - 16, length)}
    for place in places:
        wanted.update(range(place - 2, place + 3))
    step = max(1, length // spread)
    wanted.update(range(step, length, step))
    return sorted(at for at in wanted if 0 < at < length)


def deliveries(
    octets: bytes, places: Iterable[int] = (), spread: int = SPREAD_CUTS
) -> Iterator[list[bytes]]:
    """Yield *octets* whole, byte by byte (or in small primes), and cut in two at `cuts`."""
    yield [octets]
    sizes = (1,) if len(octets) <= BYTEWISE_BYTES else PRIMES
    for size in sizes:
        yield [octets[at : at + size] for at in range(0, len(octets), size)]
    for at in cuts(len(octets), places, spread):
        yield [octets[:at], octets[at:]]


def collect(
    codec: ServerCodec,
    chunks: Iterable[bytes],
    *,
    eof: bool = False,
    respond: bool = True,
    want_bytes: int = 8186,
) -> list[Collected]:
    """Feed *chunks* to *codec* as an engine would and return its requests in order of arrival.

    Args:
        codec: A fresh server codec.
        chunks: What the peer sends.
        eof: Whether the peer's end of file follows.
        respond: Whether each request is answered once its body has ended, so that a kept
            connection goes on to the next one. Feeding stops where the codec says that the
            connection ends; without *respond* everything is fed.
        want_bytes: Body octets asked for whenever a body has not ended.
    """
    requests: dict[int, _Request] = {}
    order: list[_Request] = []
    for chunk in chunks:
        data = chunk
        while True:
            _take(codec.receive_data(data), requests, order)
            for request_id, request in list(requests.items()):
                if request.outcome == OPEN:
                    codec.want_body(request_id, want_bytes)
                elif respond:
                    codec.send_response(request_id, "200 OK", [("Content-Type", "text/plain")])
                    del requests[request_id]
            codec.data_to_send()
            if not codec.pending:
                break
            data = b""
        if respond and order and not requests and not codec.keep_open:
            return [request.collected() for request in order]
    if eof:
        _take(codec.receive_eof(), requests, order)
    return [request.collected() for request in order]


class _Request:
    def __init__(self, event: RequestReceived) -> None:
        self.environ = event.environ
        self.parts = [event.body]
        self.outcome = COMPLETE if event.complete else OPEN

    def collected(self) -> Collected:
        return Collected(self.environ, b"".join(self.parts), self.outcome)


def _take(events: list[Event], requests: dict[int, _Request], order: list[_Request]) -> None:
    for event in events:
        if type(event) is RequestReceived:
            requests[event.request_id] = _Request(event)
            order.append(requests[event.request_id])
            continue
        request = requests[event.request_id]  # an event for no open request is a KeyError
        if type(event) is BodyReceived:
            assert event.data, "BodyReceived is never empty"
            assert request.outcome == OPEN, "body after the body's end"
            request.parts.append(event.data)
        elif type(event) is BodyEnded:
            assert request.outcome == OPEN, "the body ended twice"
            request.outcome = COMPLETE
        elif type(event) is AbortReceived:
            request.outcome = ABORTED
        else:
            raise AssertionError(f"not a server's event: {event!r}")
