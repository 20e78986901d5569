"""AJP/1.3, packet by packet.

Sections are those of AJPv13 ("ajpv13a.html", Apache Tomcat Connectors).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.codecs._ajp_wire import (
    CPING,
    CPONG,
    END_RESPONSE,
    FORWARD_REQUEST,
    GET_BODY_CHUNK,
    PACKETS,
    REQUEST,
    RESPONSE,
    SEND_BODY_CHUNK,
    SEND_HEADERS,
)
from portico.trace import items
from portico.trace._ajp_messages import decode_forward, decode_send_headers
from portico.trace._response import check_body
from portico.trace.items import END, FRONTEND, PREVIEW_BYTES, octets

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.trace.items import Item

#: Most octets of a packet's payload: 64 KiB with its head is the most a packet may have.
_MAX_PAYLOAD_BYTES = 65_532

#: Messages that only old or foreign peers send to a container.
_STRANGE = {7: "Shutdown", 8: "Ping"}


class Dissector(items.Dissector):
    """One direction of an AJP connection."""

    protocol = "ajp"

    def __init__(self, direction: str) -> None:
        self._to_container = direction == FRONTEND
        # Of a request: octets of body missing (None: chunked), whether one is under way, whether
        # its end mark may come, whether body packets have no inner length.
        self._left: int | None = 0
        self._in_body = False
        self._end_mark = False
        self._bare = False
        self._fresh = True  # no body packet of this connection yet
        # Of a response.
        self._answering = False
        self._status = ""
        self._length: int | None = None
        self._body = 0
        super().__init__(direction)

    def _parse(self) -> Generator[int, bytes, None]:
        magic = b"\x12\x34" if self._to_container else b"AB"
        while True:
            start = self.offset
            head = yield 4
            if head[:2] != magic[: len(head)]:
                yield from self._lose(
                    start, head, f"a packet begins with {magic.hex(' ')}, not {head[:2].hex(' ')}",
                    PACKETS,
                )  # fmt: skip
                return
            if len(head) < 4:
                break
            size = head[2] << 8 | head[3]
            payload = (yield size) if size else b""
            item = self._add(start, 4 + len(payload), "")
            missing = size - len(payload)
            if self._to_container:
                self._describe_request(item, payload, size)
            else:
                self._describe_response(item, payload)
            if size > _MAX_PAYLOAD_BYTES:
                item.complain(f"a packet of {octets(size + 4)}: 65536 are the most", PACKETS)
            if missing:
                item.complain(f"the packet is cut: {octets(missing)} missing", PACKETS)
        if head:
            item = self._add(start, len(head), END)
            item.preview = head
            item.complain(f"a packet's head is cut: {len(head)} of 4 octets", PACKETS)
        self._finish()

    # -- from the web server ---------------------------------------------------------------

    def _describe_request(self, item: Item, payload: bytes, size: int) -> None:
        if self._in_body and self._is_body(payload, size):
            self._take_body(item, payload, size)
            return
        if self._in_body:
            self._in_body = False
            if self._left is None or payload[:1] == bytes((CPING,)):
                item.complain("the body before it has not ended", REQUEST)
            else:
                item.say("the rest of the body before it was not asked for")
        kind = payload[0] if payload else -1
        if kind == FORWARD_REQUEST:
            self._begin(item, payload)
        elif kind == CPING:
            item.name = "CPing"
            if size != 1:
                item.complain(f"{octets(size)} of payload, must be 1", PACKETS)
        elif not size or (size == 2 and payload == b"\0\0"):
            self._take_end_mark(item)
        else:
            self._take_stranger(item, payload, size)

    def _begin(self, item: Item, payload: bytes) -> None:
        self.messages += 1
        item.name = "Forward Request"
        length, chunked = decode_forward(item, payload)
        self._left = None if chunked else length
        self._in_body = chunked or length > 0
        self._end_mark = True
        self._bare = self._bare and not chunked

    def _is_body(self, payload: bytes, size: int) -> bool:
        """Whether a packet is a body packet: its type is known from what came before alone.

        A container that answers without having read the body leaves the rest unasked for, so
        what clearly is a Forward Request or CPing is taken for that.
        """
        if self._bare or int.from_bytes(payload[:2], "big") + 2 == size or size == 0:
            return True
        if payload == bytes((CPING,)):
            return False
        return not (payload[:2] > b"\x02\0" and payload[:1] == b"\x02" and b"HTTP/" in payload[4:9])

    def _take_body(self, item: Item, payload: bytes, size: int) -> None:
        item.name = "body"
        inner = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 0
        fits = size >= 2 and inner + 2 == size
        if not fits and size and self._fresh and self._left is not None:
            self._bare = True
            item.complain("no inner length, as of lighttpd's mod_ajp13", REQUEST)
        elif not fits and size and not self._bare:
            item.complain(f"inner length {inner} in a payload of {octets(size)}", REQUEST)
        self._fresh = False
        data = payload if self._bare else payload[2:]
        if not self._bare and not fits:
            data = data[:inner]
        item.preview = data[:PREVIEW_BYTES]
        if not data and size in (0, 2):
            item.say("end mark")
            self._in_body = False
            self._end_mark = False
            if self._left:
                item.complain(f"the body ends {octets(self._left)} early", REQUEST)
            return
        item.say(octets(len(data)))
        if self._left is None:
            return
        self._left -= len(data)
        if self._left < 0:
            item.complain(f"{octets(-self._left)} more of body than content-length says", REQUEST)
        else:
            item.say(f"{self._left} to come")
        self._in_body = self._left > 0

    def _take_end_mark(self, item: Item) -> None:
        """Take an empty packet or chunk outside a body: it may answer a Get Body Chunk."""
        item.name = "body"
        item.say("end mark")
        if not self._end_mark:
            item.complain("an empty packet where a Forward Request is due", PACKETS)
        self._end_mark = False

    def _take_stranger(self, item: Item, payload: bytes, size: int) -> None:
        kind = payload[0] if payload else 0
        item.preview = payload[:PREVIEW_BYTES]
        if len(payload) > 2 and int.from_bytes(payload[:2], "big") + 2 == size:
            item.name = "body"
            item.say(octets(size - 2))
            item.complain("body that belongs to no request", REQUEST)
            return
        item.name = _STRANGE.get(kind, f"(type {kind})")
        item.say(octets(size))
        rule = "no container obeys it" if kind in _STRANGE else "not a message to the container"
        item.complain(f"message type {kind}: {rule}", PACKETS)

    # -- from the container ----------------------------------------------------------------

    def _describe_response(self, item: Item, payload: bytes) -> None:
        kind = payload[0] if payload else -1
        if kind == SEND_BODY_CHUNK:
            self._take_chunk(item, payload)
        elif kind == GET_BODY_CHUNK:
            item.name = "Get Body Chunk"
            size = int.from_bytes(payload[1:3], "big")
            item.say(f"at most {octets(size)}")
            if len(payload) != 3:
                item.complain(f"{octets(len(payload))} of payload, must be 3", RESPONSE)
            elif not size:
                item.complain("no octet is asked for", RESPONSE)
        elif kind == SEND_HEADERS:
            self._take_head(item, payload)
        elif kind == END_RESPONSE:
            self._end(item, payload)
        elif kind == CPONG:
            item.name = "CPong"
            if len(payload) != 1:
                item.complain(f"{octets(len(payload))} of payload, must be 1", RESPONSE)
        else:
            item.name = f"(type {kind})" if payload else "(empty)"
            item.preview = payload[:PREVIEW_BYTES]
            item.say(octets(len(payload)))
            item.complain("not a message of a container", RESPONSE)

    def _take_head(self, item: Item, payload: bytes) -> None:
        item.name = "Send Headers"
        if self._answering:
            item.complain("a second head of one response", RESPONSE)
        code, reason, length = decode_send_headers(item, payload)
        if 100 <= code < 200:
            return  # an interim response says nothing about the one that follows
        self.messages += 1
        self._answering = True
        self._status, self._length, self._body = f"{code} {reason}", length, 0

    def _take_chunk(self, item: Item, payload: bytes) -> None:
        item.name = "Send Body Chunk"
        size = int.from_bytes(payload[1:3], "big")
        item.say(octets(size) if size else "flush")
        item.preview = payload[3 : 3 + min(size, PREVIEW_BYTES)]
        self._body += size
        if not self._answering:
            item.complain("body before Send Headers", RESPONSE)
        if len(payload) - 3 - size not in (0, 1):  # with the NUL that some leave out
            item.complain(f"chunk of {octets(size)} in a payload of {len(payload)}", RESPONSE)

    def _end(self, item: Item, payload: bytes) -> None:
        item.name = "End Response"
        if len(payload) != 2:
            item.complain(f"{octets(len(payload))} of payload, must be 2", RESPONSE)
        else:
            item.say("connection may be used again" if payload[1] else "close connection")
        if not self._answering:
            item.complain("the end of a response without its head", RESPONSE)
        else:
            check_body(item, self._status, self._length, self._body)
        self._answering = False

    # -- both ------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Say what the end of all octets leaves open."""
        if self._to_container and self._in_body:
            item = self._add(self.offset, 0, END)
            if self._left is None:
                item.complain("the chunked body has no end mark", REQUEST)
            else:
                item.complain(f"{octets(self._left)} of body missing of content-length", REQUEST)
        elif self._answering:
            self._add(self.offset, 0, END).complain("no End Response", RESPONSE)
