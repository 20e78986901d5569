"""What both sides of AJP/1.3 share: message types, strings, sizes."""

from __future__ import annotations

from portico.errors import ConfigError, LimitExceeded

#: Message types to the container (2, 10) and from it.
FORWARD_REQUEST = 2
SEND_BODY_CHUNK = 3
SEND_HEADERS = 4
END_RESPONSE = 5
GET_BODY_CHUNK = 6
CPONG = 9
CPING = 10

#: A string of this length is the null string, without content and NUL.
NULL = 0xFFFF

#: What a header's name begins with where it is a code: no name may be so long that its length
#: looks like one.
LEAST_CODE = 0xA000

#: Octets that are no body in a body packet and in a Send Body Chunk.
BODY_OVERHEAD = 6
CHUNK_OVERHEAD = 8

#: Most digits of a length: what fits a signed 64-bit integer whatever the digits are.
_MAX_LENGTH_DIGITS = 18

PACKETS = "AJPv13, Basic Packet Structure"
REQUEST = "AJPv13, Request Packet Structure"
RESPONSE = "AJPv13, Response Packet Structure"


def decode_string(payload: bytes, text: str, at: int) -> tuple[str | None, int]:
    """Decode one string.

    Args:
        payload: A message.
        text: The same, decoded from latin-1.
        at: Where the string's length stands.

    Returns:
        The string, None for the null string; where the next field begins.

    Raises:
        IndexError: the message ends within the string, or no NUL ends it.
    """
    size = payload[at] << 8 | payload[at + 1]
    at += 2
    if size == NULL:
        return None, at
    end = at + size
    if payload[end]:
        raise IndexError
    return text[at:end], end + 1


def has_break(value: str) -> bool:
    """Whether *value* holds what no header's value may hold: CR, LF, NUL (RFC 9110 §5.5)."""
    return "\n" in value or "\r" in value or "\0" in value


def content_length(value: str) -> int | None:
    """Decode a content-length, octets; None for what is none."""
    # In latin-1 only the ASCII digits are decimal; int alone would take "+5", "1_0", blanks.
    if value.isdecimal() and len(value) <= _MAX_LENGTH_DIGITS:
        return int(value)
    return None


def check_packet_size(packet_size: int) -> None:
    """Refuse a packet size, octets, that the protocol does not have."""
    if not 8192 <= packet_size <= 65_536:
        raise ConfigError(f"packet_size is {packet_size}, must be 8192 to 65536", key="packet_size")


def check_length(size: int, packet_size: int, status: int) -> None:
    """Refuse a packet whose payload of *size* octets is more than *packet_size* lets through."""
    if size > packet_size - 4:
        raise LimitExceeded(
            f"AJP packet of {size + 4} octets, {packet_size} allowed: packet_size must be the same"
            " on both sides (ProxyIOBufferSize of mod_proxy_ajp, max_packet_size of mod_jk)",
            option="packet_size",
            section=PACKETS,
            status_hint=status,
        )


def has_long_name(headers: list[tuple[str, str]]) -> bool:
    """Whether the length of a name among *headers* would be taken for a code."""
    return any(len(name) >= LEAST_CODE for name, _ in headers)


def encode_string(text: str) -> str:
    """Encode one string as text that is latin-1.

    One that is too long for its length makes the packet too long: its maker looks at that.
    """
    size = len(text)
    return f"{chr(size >> 8)}{chr(size & 255)}{text}\0"
