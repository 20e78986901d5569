"""What a fuzz input means: eight octets that choose how, and the octets that a peer sends.

The choices come first and are plain octets, so that a coverage-guided fuzzer can change one of
them and keep the stream, and so that `plan` writes a corpus file from any captured stream.
"""

from __future__ import annotations

from portico.limits import Limits

#: Octets in front of the stream: options, how to cut, three of the script, spare, flood.
CONTROLS_BYTES = 8

#: Bits of the first octet.
SMALL_LIMITS, END_OF_FILE, VARIANT, LARGE_PACKETS, HEAD_METHOD, CLOSE, BODY_LATER = (
    1 << bit for bit in range(7)
)

#: The last control octet of an input that also floods the codec; one value, since it costs time.
FLOOD = 0xFF

#: Octets of one piece of a flood, and its pieces: 1.5 MiB, above each fixed ceiling of a codec.
FLOOD_PIECE_BYTES = 65_536
FLOOD_PIECES = 24


def plan(stream: bytes, *, options: int = 0, cut: bytes = b"\0\0\0", script: bytes = b"\0\0\0"):
    """Make an input of *stream*."""
    return bytes([options, *cut, *script, 0]) + stream


class Plan:
    """An input, read.

    Attributes:
        options: Bits as named above.
        stream: What the peer sends.
        steps: What to do with the first six requests or responses; each 0 to 15.
        flooding: Whether the stream is to be repeated beyond every ceiling.
    """

    def __init__(self, data: bytes) -> None:
        controls = data[:CONTROLS_BYTES].ljust(CONTROLS_BYTES, b"\0")
        self.options = controls[0]
        self._cut = controls[1:4]
        self.steps = [half for octet in controls[4:7] for half in (octet >> 4, octet & 15)]
        self.flooding = controls[7] == FLOOD
        self.stream = data[CONTROLS_BYTES:]

    def has(self, option: int) -> bool:
        return bool(self.options & option)

    def step(self, number: int) -> int:
        return self.steps[number % len(self.steps)]

    def limits(self) -> Limits:
        """Ceilings that a small input reaches, or the defaults."""
        if self.has(SMALL_LIMITS):
            return Limits(max_params_bytes=300, max_params=6, max_response_head_bytes=300)
        return Limits()

    def chunks(self) -> list[bytes]:
        """The stream, cut as the input says: in two, into equal pieces, or into odd ones."""
        stream = self.stream
        how, first, second = self._cut
        if how % 3 == 0:
            at = (first << 8 | second) % (len(stream) + 1)
            return [piece for piece in (stream[:at], stream[at:]) if piece]
        if how % 3 == 1:
            size = first + 1
            return [stream[at : at + size] for at in range(0, len(stream), size)]
        pieces = []
        at = 0
        state = first << 8 | second
        while at < len(stream):
            state = (state * 25_173 + 13_849) & 0xFFFF
            size = 1 + (state >> 8) % 61
            pieces.append(stream[at : at + size])
            at += size
        return pieces

    def flood(self) -> list[bytes]:
        """The stream's last octets, over and over: what a peer sends that never ends."""
        tail = self.stream[-64:] or b"\0"
        piece = (tail * (FLOOD_PIECE_BYTES // len(tail) + 1))[:FLOOD_PIECE_BYTES]
        return [piece] * FLOOD_PIECES
