"""What hostile peers do: forty kinds, each a generator of steps on one connection.

A step is octets to send, seconds to pause, or one of `END`, `ANSWER` and `RESET`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from engine_harness import PROTOCOLS, environ_for, make_codec
from portico.codecs.fastcgi import encode_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "of the mix alone"  # noqa: S105 - of these tests alone

#: Read all until the server ends the connection; gives what came.
END = "end"

#: Read the answer to a whole request; gives what came.
ANSWER = "answer"

#: Give the connection up by a reset.
RESET = "reset"


class Kind(NamedTuple):
    """One way to be hostile.

    Attributes:
        name: For messages.
        act: Makes the steps, of a protocol and a source of chance.
        protocols: Towards whom.
        lines: Lines in the log that one such connection makes: the fewest and the most.
        share: How often it comes, in relation to others.
    """

    name: str
    act: Callable
    protocols: tuple[str, ...]
    lines: tuple[int, int]
    share: int


KINDS: list[Kind] = []


def kind(*protocols, lines=(1, 1), share=4):
    """Put the decorated generator on the list; towards all protocols unless some are named."""

    def add(act):
        name = act.__name__.replace("_", " ")
        KINDS.append(Kind(name, act, protocols or PROTOCOLS, lines, share))
        return act

    return add


def request(protocol, path="/", body=b"", *, end=True, secret=SECRET, keep=False, **more):
    """The octets of a request, whole, or with *end* false the beginning of one."""
    options = {"secret": secret} if protocol == "ajp" else {}
    environ = environ_for(path, "POST" if body else "GET", **more)
    if body:
        environ.setdefault("CONTENT_LENGTH", str(len(body)))
    return make_codec(protocol, keep=keep, **options).send_request(environ, body, end=end)


def record(kind, content=b"", request_id=1, version=1):
    return struct.pack(">BBHHBB", version, kind, request_id, len(content), 0, 0) + content


BEGIN = record(1, b"\0\1\1\0\0\0\0\0")
ONCE = record(1, b"\0\1\0\0\0\0\0\0")


def head_of(protocol, pairs, body=b""):
    """A request made of *pairs* as they are, repeats and all; AJP: of headers."""
    text = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    if protocol == "fastcgi":
        block = encode_pairs(pairs)
        stdin = record(5, body) if body else b""
        return ONCE + record(4, block) + record(4) + stdin + record(5)
    if protocol == "scgi":
        block = b"".join(b"%b\0%b\0" % pair for pair in text)
        return b"%d:%b," % (len(block), block) + body
    if protocol == "uwsgi":
        block = b"".join(
            struct.pack("<H", len(name)) + name + struct.pack("<H", len(value)) + value
            for name, value in text
        )
        return struct.pack("<BHB", 0, len(block), 0) + block + body
    return forward_request(text)


def string(data):
    return struct.pack(">H", len(data)) + data + b"\0"


def forward_request(headers=(), attributes=b"", method=2):
    fields = b"".join(map(string, (b"HTTP/1.1", b"/", b"192.0.2.1")))
    payload = bytes((2, method)) + fields + b"\xff\xff" + string(b"h") + b"\0\x50\0"
    payload += struct.pack(">H", len(headers))
    payload += b"".join(string(name) + string(value) for name, value in headers)
    payload += b"\x0c" + string(SECRET.encode()) + attributes + b"\xff"
    return packet(payload)


def packet(payload):
    return b"\x12\x34" + struct.pack(">H", len(payload)) + payload


def pairs_of(protocol, *more):
    """The pairs of a small request, and *more*."""
    if protocol == "ajp":
        return list(more)
    base = list(environ_for().items())
    first = [("CONTENT_LENGTH", "0"), ("SCGI", "1")] if protocol == "scgi" else []
    return first + base + list(more)


@kind()
def http_on_the_port(_protocol, _chance):
    yield b"GET / HTTP/1.1\r\nHost: www.example.test\r\nUser-Agent: curl\r\n\r\n"
    yield END


@kind()
def tls_on_the_port(_protocol, chance):
    yield bytes.fromhex("16030102000100 01fc0303") + chance.randbytes(500)
    yield END


@kind(lines=(0, 1))
def garbage(_protocol, chance):
    yield chance.randbytes(chance.randrange(1, 3000))
    yield END


@kind()
def garbage_behind_the_right_first_octet(protocol, chance):
    first = {"fastcgi": b"\1\xff", "scgi": b"1z", "ajp": b"\x12\x35", "uwsgi": b"\0\x02\0\0\xff"}
    yield first[protocol] + b"\xff" * 100 + chance.randbytes(500)
    if protocol == "fastcgi":
        yield b"\xff" * 66_000  # a record of a type that nobody knows, and then no record
    yield END


@kind(lines=(0, 0))
def nothing_at_all(_protocol, _chance):
    return
    yield


@kind(lines=(0, 0))
def nothing_and_reset(_protocol, _chance):
    yield RESET


@kind(share=2)
def silence(_protocol, _chance):
    yield END


@kind(lines=(0, 1))
def half_a_head_and_close(protocol, chance):
    octets = request(protocol)
    yield octets[: chance.randrange(1, len(octets) - 30)]


@kind(lines=(0, 1))
def half_a_head_and_reset(protocol, chance):
    octets = request(protocol)
    yield octets[: chance.randrange(1, len(octets) - 30)]
    yield RESET


@kind(share=2)
def half_a_head_and_silence(protocol, chance):
    octets = request(protocol)
    yield octets[: chance.randrange(1, len(octets) - 30)]
    yield END


@kind(share=2)
def slow_dribble(protocol, chance):
    octets = request(protocol, "/" + "x" * 300)
    for at in range(200):
        yield octets[at : at + 1]
        yield chance.uniform(0.02, 0.1)


@kind(lines=(0, 1))
def early_reset(protocol, _chance):
    yield request(protocol, "/", b"b" * 3000)
    yield RESET


@kind(lines=(0, 1))
def reset_within_the_response(protocol, _chance):
    yield request(protocol, "/large")
    yield 0.01
    yield RESET


@kind()
def lengths_that_overrun(protocol, _chance):
    yield {
        "fastcgi": ONCE + record(4, b"\x09\x09ab") + record(4) + record(5),
        "scgi": b"30:CONTENT_LENGTH\x000\0SCGI\x001\0abcdef,,",
        "uwsgi": b"\0\x06\0\0\x09\0abcd",
        "ajp": packet(b"\2\2\0\x50HTTP/1.1\0"),
    }[protocol]
    yield END


@kind()
def lengths_beyond_all_sense(protocol, _chance):
    yield {
        "fastcgi": ONCE + record(4, b"\xff\xff\xff\xff\xff\xff\xff\xff") + record(4) + record(5),
        "scgi": b"9999999999:",
        "uwsgi": b"\0\xff\xff\0",
        "ajp": b"\x12\x34\xff\xff\2",
    }[protocol]
    yield END


@kind()
def endless_params(protocol, _chance):
    if protocol == "fastcgi":
        yield BEGIN
        for _ in range(20):
            yield record(4, b"\x04\x04NAMEtext" * 300)
    elif protocol == "scgi":
        yield b"500000:" + b"NAME\0text\0" * 10_000
    elif protocol == "uwsgi":
        yield b"\0\xf0\xff\0" + b"\x04\0NAME\x04\0text" * 5000
    else:
        yield b"\x12\x34\xff\xf0\2\2" + b"\0\4NAME\0\0\4text\0" * 4000
    yield END


@kind()
def too_many_params(protocol, _chance):
    yield head_of(protocol, pairs_of(protocol, *((f"HTTP-X{at}", "1") for at in range(150))))
    yield END


@kind()
def two_lengths(protocol, _chance):
    name = "Content-Length" if protocol == "ajp" else "CONTENT_LENGTH"
    pairs = pairs_of(protocol, (name, "5"), (name, "7"))
    yield head_of(protocol, pairs, b"hello, ")
    yield END


@kind("scgi", "ajp", "uwsgi")
def length_that_is_none(protocol, chance):
    text = chance.choice(["-1", "+5", "1_0", "0x10", "9" * 30, " 5"])
    name = "Content-Length" if protocol == "ajp" else "CONTENT_LENGTH"
    pairs = pairs_of(protocol, (name, text))
    yield head_of(protocol, pairs[1:] if protocol == "scgi" else pairs)
    yield END


@kind()
def body_beyond_the_limit(protocol, _chance):
    yield request(protocol, "/", b"b" * 100, end=False, CONTENT_LENGTH="2000000")
    data = yield ANSWER  # AJP: the connection is kept, since nobody asks for the rest
    assert b"Content Too Large" in data


@kind(share=2)
def body_shorter_than_announced_and_close(protocol, _chance):
    yield request(protocol, "/", b"b" * 3000, end=False, CONTENT_LENGTH="90000")


@kind(lines=(0, 1))
def body_shorter_than_announced_and_reset(protocol, _chance):
    yield request(protocol, "/", b"b" * 3000, end=False, CONTENT_LENGTH="90000")
    yield RESET


@kind(share=1)
def body_that_stops(protocol, _chance):
    yield request(protocol, "/", b"b" * 3000, end=False, CONTENT_LENGTH="90000")
    yield END


@kind(lines=(0, 1))
def body_longer_than_announced(protocol, _chance):
    yield request(protocol, "/longer", b"b" * 10)
    yield b"c" * 5000 if protocol in {"scgi", "uwsgi"} else b"\1\5\0\1\0\0\0\0" * 20
    yield END


@kind(share=1)
def never_reads_its_response(protocol, _chance):
    yield request(protocol, "/large")
    yield 1.2


@kind(lines=(0, 0))
def spoofed_wsgi_names(protocol, _chance):
    """A request like any other but for its names; the application gets none of them."""
    names = ["wsgi.input", "wsgi.url_scheme", "wsgi.errors", "portico.protocol", "portico.x"]
    if protocol == "ajp":
        names = ["wsgi.input", "Proxy", "portico.x"]
        attributes = b"".join(
            b"\x0a" + string(name.encode()) + string(b"evil")
            for name in ("REMOTE_USER", "wsgi.url_scheme", "javax.servlet.include.path_info")
        )
        octets = forward_request([(name.encode(), b"evil") for name in names], attributes)
    else:
        names += ["HTTP_PROXY", "UWSGI_FILE"] if protocol == "uwsgi" else ["HTTP_PROXY"]
        octets = head_of(protocol, pairs_of(protocol, *((name, "evil") for name in names)))
    yield octets
    data = yield ANSWER
    assert b"200" in data or b"\0\xc8" in data, data
    assert b"WRONG" not in data, data


@kind("scgi")
def endless_netstring_digits(_protocol, _chance):
    yield b"1" * 5000
    yield END


@kind("scgi")
def netstrings_in_bad_form(_protocol, chance):
    yield chance.choice([b"007:", b"-3:abc,", b"3:abc;", b"3:a\0\0;", b":,", b"2x:"])
    yield END


@kind("ajp")
def wrong_secret(_protocol, chance):
    yield request("ajp", secret=chance.choice(["wrong", SECRET[:-1], SECRET + "!"]))
    yield END


@kind("ajp")
def no_secret(_protocol, _chance):
    yield request("ajp", secret="")
    yield END


@kind("ajp")
def shutdown_and_other_messages(_protocol, chance):
    yield packet(bytes((chance.choice([7, 8, 3, 4, 5, 6, 9, 11, 255]),)))
    yield END


@kind("ajp")
def empty_packets(_protocol, _chance):
    yield packet(b"") * 500
    yield END


@kind("ajp", lines=(0, 0))
def cping_flood(_protocol, _chance):
    yield packet(b"\x0a") * 3000
    yield 0.05


@kind("ajp", lines=(0, 1), share=1)
def cping_flood_never_read(_protocol, _chance):
    pings = packet(b"\x0a") * 20_000
    for _ in range(400):  # more than the kernel takes, there and back
        yield pings
    yield END


@kind("ajp")
def ping_within_a_body(_protocol, _chance):
    yield request("ajp", "/", b"b" * 100, end=False, CONTENT_LENGTH="5000")
    yield packet(b"\x0a") * 3
    yield END


@kind("fastcgi", lines=(0, 0))
def get_values_flood(_protocol, _chance):
    names = encode_pairs((name, "") for name in ("FCGI_MAX_CONNS", "FCGI_MPXS_CONNS", "X"))
    yield record(9, names, request_id=0) * 1000
    yield 0.05


@kind("fastcgi", lines=(0, 1))
def begin_flood(_protocol, _chance):
    yield b"".join(record(1, b"\0\1\1\0\0\0\0\0", at) for at in range(1, 2001))
    yield 0.05


@kind("fastcgi", lines=(0, 1))
def begin_and_abort_flood(_protocol, _chance):
    yield (BEGIN + record(2)) * 1000
    yield 0.05


@kind("fastcgi", lines=(0, 0))
def unknown_types_flood(_protocol, _chance):
    yield b"".join(record(kind, request_id=0) for kind in range(12, 256)) * 10
    yield 0.05


@kind("fastcgi", share=1)
def records_that_are_no_body(_protocol, _chance):
    yield ONCE + record(4, encode_pairs({**environ_for(method="POST")}.items())) + record(4)
    for _ in range(30):
        yield record(8, bytes(60_000))
    yield END


@kind("fastcgi")
def ids_and_versions_that_are_none(_protocol, chance):
    yield chance.choice(
        [
            record(1, bytes(8), version=2),
            record(1, b"\0\1"),
            record(4, b"x", request_id=0),
            BEGIN + record(5, b"x"),
            record(9, b"", request_id=7),
        ]
    )
    yield END


@kind("uwsgi")
def other_modifiers(_protocol, chance):
    yield bytes((chance.choice([1, 5, 10, 17, 31, 100, 200, 255]), 16, 0, 0)) + bytes(16)
    yield END


@kind("uwsgi")
def empty_names_and_packets(_protocol, chance):
    yield chance.choice([b"\0\0\0\0", b"\0\x04\0\0\0\0\0\0", b"\0\x02\0\0\0\0"])
    yield END
