"""FastCGI 1.0, record by record.

Sections are those of the FastCGI 1.0 specification (1996).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.codecs._fastcgi_records import (
    BEGIN_BODY,
    BEGIN_BYTES,
    END_BODY,
    END_BYTES,
    FCGI_ABORT_REQUEST,
    FCGI_AUTHORIZER,
    FCGI_BEGIN_REQUEST,
    FCGI_DATA,
    FCGI_END_REQUEST,
    FCGI_FILTER,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_KEEP_CONN,
    FCGI_PARAMS,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_UNKNOWN_TYPE,
    HEADER_BYTES,
    unpack_header,
)
from portico.limits import Limits
from portico.trace import items
from portico.trace._params import Params, parse_length
from portico.trace._response import ResponseHead
from portico.trace.items import END, FRONTEND, PREVIEW_BYTES, Field, counted, octets

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.trace.items import Item

#: Record types, §8.
NAMES = (
    "", "FCGI_BEGIN_REQUEST", "FCGI_ABORT_REQUEST", "FCGI_END_REQUEST", "FCGI_PARAMS",
    "FCGI_STDIN", "FCGI_STDOUT", "FCGI_STDERR", "FCGI_DATA", "FCGI_GET_VALUES",
    "FCGI_GET_VALUES_RESULT", "FCGI_UNKNOWN_TYPE",
)  # fmt: skip

ROLES = ("", "responder", "authorizer", "filter")
STATUSES = ("FCGI_REQUEST_COMPLETE", "FCGI_CANT_MPX_CONN", "FCGI_OVERLOADED", "FCGI_UNKNOWN_ROLE")

_TO_APPLICATION = frozenset(
    {
        FCGI_BEGIN_REQUEST, FCGI_ABORT_REQUEST, FCGI_PARAMS, FCGI_STDIN, FCGI_DATA, FCGI_GET_VALUES
    }
)  # fmt: skip

#: Types that tell a response.
FROM_APPLICATION = frozenset(range(1, len(NAMES))) - _TO_APPLICATION

_MANAGEMENT = frozenset({FCGI_GET_VALUES, FCGI_GET_VALUES_RESULT, FCGI_UNKNOWN_TYPE})

#: Most octets that are held at once of pairs and heads which records have cut.
_MAX_HELD_BYTES = Limits().max_params_bytes

#: Most requests that are followed at the same time.
_MAX_FOLLOWED = 1024


def _rule(number: str) -> str:
    return f"FastCGI 1.0 §{number}"


class _Stream:
    """One stream of a request: octets so far, and whether its empty record has come."""

    __slots__ = ("ended", "size")

    def __init__(self) -> None:
        self.ended = False
        self.size = 0


class _Request:
    """What is remembered of a request under way, in one direction."""

    __slots__ = ("aborted", "data_length", "head", "held", "params", "role", "streams")

    def __init__(self, role: int = 0) -> None:
        self.role = role
        self.aborted = False
        self.params = Params()
        self.held: bytearray | None = bytearray()  # a pair in part; None: no longer followed
        self.data_length: int | None = None
        self.head = ResponseHead()
        self.streams: dict[int, _Stream] = {}

    def stream(self, kind: int) -> _Stream:
        return self.streams.setdefault(kind, _Stream())

    def has_ended(self, kind: int) -> bool:
        return kind in self.streams and self.streams[kind].ended

    def is_sent(self) -> bool:
        """Whether the web server has sent all of it."""
        if self.aborted:
            return True
        last = {FCGI_AUTHORIZER: FCGI_PARAMS, FCGI_FILTER: FCGI_DATA}.get(self.role, FCGI_STDIN)
        return self.has_ended(FCGI_PARAMS) and self.has_ended(last)


class Dissector(items.Dissector):
    """One direction of a FastCGI connection."""

    protocol = "fastcgi"

    def __init__(self, direction: str) -> None:
        self._requests: dict[int, _Request] = {}
        self._held_bytes = 0
        super().__init__(direction)

    def _parse(self) -> Generator[int, bytes, None]:
        while True:
            start = self.offset
            head = yield HEADER_BYTES
            if len(head) < HEADER_BYTES:
                break
            version, kind, request_id, size, padding = unpack_header(head)
            known = 0 < kind < len(NAMES)
            if version != 1 and not known:
                yield from self._lose(
                    start, head, f"version {version}: not a record of FastCGI 1", _rule("3.3")
                )
                return
            content = (yield size) if size else b""
            filler = (yield padding) if padding else b""
            whole = HEADER_BYTES + len(content) + len(filler)
            name = NAMES[kind] if known else f"(type {kind})"
            item = self._add(start, whole, name, f"id {request_id}")
            if version != 1:
                item.complain(f"version {version}, must be 1", _rule("3.3"))
            self._describe(item, kind, request_id, content)
            if padding:
                item.say(f"padding {padding}")
            if missing := HEADER_BYTES + size + padding - whole:
                item.complain(f"the record is cut: {octets(missing)} missing", _rule("3.3"))
        if head:
            item = self._add(start, len(head), END)
            item.preview = head
            item.complain(
                f"a record's header is cut: {len(head)} of {HEADER_BYTES} octets", _rule("3.3")
            )
        self._finish()

    def _describe(self, item: Item, kind: int, request_id: int, content: bytes) -> None:
        """Fill *item* in, by the record's type."""
        if kind >= len(NAMES) or not kind:
            item.say(octets(len(content)))
            item.preview = content[:PREVIEW_BYTES]
            rule = "8" if request_id else "4.2"
            item.complain(f"{kind} is no record type of FastCGI 1.0", _rule(rule))
            return
        if (kind in _MANAGEMENT) == (request_id != 0):
            wrong = "an application record with id 0" if not request_id else "a management record"
            item.complain(f"{wrong}" + (" with an id" if request_id else ""), _rule("3.3"))
        if (kind in _TO_APPLICATION) != (self.direction == FRONTEND):
            item.say(octets(len(content)))
            sender = "the web server" if self.direction == FRONTEND else "the application"
            item.complain(f"{sender} sends no {NAMES[kind]}", _rule("8"))
        elif kind in _MANAGEMENT:
            self._describe_management(item, kind, content)
        elif kind == FCGI_BEGIN_REQUEST:
            self._begin(item, request_id, content)
        elif self.direction == FRONTEND:
            self._describe_request(item, kind, request_id, content)
        else:
            self._describe_response(item, kind, request_id, content)

    def _describe_management(self, item: Item, kind: int, content: bytes) -> None:
        item.detail = ""
        if kind == FCGI_UNKNOWN_TYPE:
            item.say(f"type {content[0]}" if content else "no type")
            if len(content) != 8:
                item.complain(f"{octets(len(content))} of content, must be 8", _rule("4.2"))
            return
        held = bytearray(content)
        pairs = _take_pairs(held)
        item.say(counted(len(pairs), "name" if kind == FCGI_GET_VALUES else "value"))
        for name, value in pairs:
            item.fields.append(Field(name, value))
            if kind == FCGI_GET_VALUES and value:
                item.complain(f"{name[:40]!a} is asked for with a value", _rule("4.1"))
        if held:
            item.complain("a name-value pair runs past the end of the record", _rule("3.4"))

    # -- from the web server ---------------------------------------------------------------

    def _begin(self, item: Item, request_id: int, content: bytes) -> None:
        self.messages += 1
        if len(content) != BEGIN_BYTES:
            item.complain(f"{octets(len(content))} of content, must be {BEGIN_BYTES}", _rule("5.1"))
        known = self._requests.get(request_id)
        if known is not None and not known.is_sent():
            item.complain(f"request {request_id} has not ended yet", _rule("3.3"))
        role, flags = BEGIN_BODY.unpack(content[:BEGIN_BYTES].ljust(BEGIN_BYTES, b"\0"))
        item.say(ROLES[role] if 0 < role < len(ROLES) else f"role {role}")
        if not 0 < role < len(ROLES):
            item.complain(f"role {role}: FastCGI 1.0 has 1, 2 and 3", _rule("5.1"))
        item.say("keep connection" if flags & FCGI_KEEP_CONN else "close after")
        if flags & ~FCGI_KEEP_CONN:
            item.say(f"flags {flags:02X}")
        if request_id and (known is not None or len(self._requests) < _MAX_FOLLOWED):
            self._forget(request_id)
            self._requests[request_id] = _Request(role)

    def _describe_request(self, item: Item, kind: int, request_id: int, content: bytes) -> None:
        request = self._requests.get(request_id)
        if kind == FCGI_ABORT_REQUEST:
            if content:
                item.complain(f"{octets(len(content))} of content, must be 0", _rule("5.4"))
            if request is None:
                item.say("of no request known: it may have crossed FCGI_END_REQUEST")
            else:
                request.aborted = True
            return
        if request is None:
            item.say(octets(len(content)))
            if request_id and len(self._requests) < _MAX_FOLLOWED:
                item.complain(f"request {request_id} was not begun", _rule("3.3"))
        elif kind == FCGI_PARAMS:
            self._take_params(item, request, content)
        else:
            self._take_body(item, request, kind, content)

    def _take_params(self, item: Item, request: _Request, content: bytes) -> None:
        stream = request.stream(FCGI_PARAMS)
        if stream.ended:
            item.complain("FCGI_PARAMS goes on after its end", _rule("3.3"))
        if not content:
            stream.ended = True
            item.say(f"end of stream, {counted(request.params.count, 'parameter')} in all")
            if request.params.request():
                item.say(request.params.request())
            if request.held:
                item.complain("a name-value pair runs past the end of the stream", _rule("3.4"))
            self._drop_pairs(request)
            return
        item.say(octets(len(content)))
        stream.size += len(content)
        held = request.held
        if held is None or self._held_bytes + len(content) > _MAX_HELD_BYTES:
            self._drop_pairs(request)
            item.say("not decoded: a pair is larger than what is held")
            return
        before = len(held)
        held += content
        for name, value in _take_pairs(held):
            request.params.take(item, name, value)
            if name == "FCGI_DATA_LENGTH":
                request.data_length = parse_length(value)
        self._held_bytes += len(held) - before

    def _drop_pairs(self, request: _Request) -> None:
        self._held_bytes -= len(request.held or b"")
        request.held = None

    def _take_body(self, item: Item, request: _Request, kind: int, content: bytes) -> None:
        stream = request.stream(kind)
        if stream.ended:
            item.complain(f"{NAMES[kind]} goes on after its end", _rule("3.3"))
        if not request.has_ended(FCGI_PARAMS):
            item.complain(f"{NAMES[kind]} before the end of FCGI_PARAMS", _rule("6.2"))
        if kind == FCGI_DATA and request.role != FCGI_FILTER:
            item.complain("FCGI_DATA is for filters alone", _rule("6.4"))
        elif kind == FCGI_DATA and not request.has_ended(FCGI_STDIN):
            item.complain("FCGI_DATA before the end of FCGI_STDIN", _rule("6.4"))
        stream.size += len(content)
        if content:
            item.say(octets(len(content)))
            item.preview = content[:PREVIEW_BYTES]
            return
        stream.ended = True
        item.say(f"end of stream, {octets(stream.size)} in all")
        name, length, rule = "CONTENT_LENGTH", request.params.length, "6.2"
        if kind == FCGI_DATA:
            name, length, rule = "FCGI_DATA_LENGTH", request.data_length, "6.4"
        if length is not None and length != stream.size and not request.aborted:
            item.complain(f"{name} says {length}, the stream has {stream.size}", _rule(rule))

    # -- from the application --------------------------------------------------------------

    def _describe_response(self, item: Item, kind: int, request_id: int, content: bytes) -> None:
        request = self._requests.get(request_id)
        if request is None:
            self.messages += 1
            request = _Request()
            if request_id and len(self._requests) < _MAX_FOLLOWED:
                self._requests[request_id] = request
        if kind == FCGI_END_REQUEST:
            self._end(item, request, content)
            self._forget(request_id)
            return
        stream = request.stream(kind)
        stream.size += len(content)
        if stream.ended:
            item.complain(f"{NAMES[kind]} goes on after its end", _rule("3.3"))
        if not content:
            stream.ended = True
            item.say(f"end of stream, {octets(stream.size)} in all")
            return
        item.say(octets(len(content)))
        if kind == FCGI_STDERR:
            item.preview = content[:PREVIEW_BYTES]
            return
        head = request.head
        before = head.held
        if not head.ended and self._held_bytes + len(content) > _MAX_HELD_BYTES:
            item.say("not decoded: the heads are larger than what is held")
            return
        body = head.feed(content, item)
        self._held_bytes += head.held - before
        if body is not None:
            item.preview = body[:PREVIEW_BYTES]

    def _end(self, item: Item, request: _Request, content: bytes) -> None:
        if len(content) != END_BYTES:
            item.complain(f"{octets(len(content))} of content, must be {END_BYTES}", _rule("5.5"))
        code, status = END_BODY.unpack(content[:END_BYTES].ljust(END_BYTES, b"\0"))
        item.say(STATUSES[status] if status < len(STATUSES) else f"protocol status {status}")
        item.say(f"application status {code}")
        if status >= len(STATUSES):
            item.complain(f"{status} is no protocol status", _rule("5.5"))
        for kind, stream in request.streams.items():
            if not stream.ended:
                item.complain(f"{NAMES[kind]} has no empty record as its end", _rule("3.3"))
        if not status:
            request.head.check_end(item)
        elif request.streams:
            item.complain("a request is refused that has been answered", _rule("5.5"))

    # -- both ------------------------------------------------------------------------------

    def _forget(self, request_id: int) -> None:
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._held_bytes -= len(request.held or b"") + request.head.held

    def _finish(self) -> None:
        """Say what the end of all octets leaves open."""
        for request_id, request in self._requests.items():
            if self.direction == FRONTEND and request.is_sent():
                continue
            item = self._add(self.offset, 0, END, f"id {request_id}")
            if self.direction == FRONTEND:
                item.complain(_open_stream(request), _rule("3.3"))
            else:
                item.complain("no FCGI_END_REQUEST", _rule("5.5"))


def _open_stream(request: _Request) -> str:
    """Say which stream of a request has not ended, and how much of it came."""
    kind = FCGI_STDIN
    if not request.has_ended(FCGI_PARAMS):
        kind = FCGI_PARAMS
    elif request.role == FCGI_FILTER and request.has_ended(FCGI_STDIN):
        kind = FCGI_DATA
    size = request.streams[kind].size if kind in request.streams else 0
    length = request.params.length if kind == FCGI_STDIN else None
    announced = f" of the {length} that CONTENT_LENGTH says" if length is not None else ""
    return f"{NAMES[kind]} has not ended: {octets(size)}{announced} came"


def _take_pairs(held: bytearray) -> list[tuple[str, str]]:
    """Decode the complete pairs at the beginning of *held*, and take them from it (§3.4)."""
    pairs = []
    at = 0
    while True:
        pos = at
        lengths = []
        for _ in range(2):
            first = held[pos] if pos < len(held) else -1
            if first < 128:
                lengths.append(first)
                pos += 1
            else:
                whole = pos + 4 <= len(held)
                word = int.from_bytes(held[pos : pos + 4], "big") & 0x7FFF_FFFF
                lengths.append(word if whole else -1)
                pos += 4
        name, value = lengths
        if name < 0 or value < 0 or pos + name + value > len(held):
            break
        text = held[pos : pos + name + value].decode("latin-1")
        pairs.append((text[:name], text[name:]))
        at = pos + name + value
    del held[:at]
    return pairs
