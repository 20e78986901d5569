"""What dissectors hold is bounded, whatever is announced and however long it goes on."""

import itertools
import tracemalloc

import pytest

from portico.trace import dissector
from portico.trace.items import FRONTEND, SERVER

pytestmark = pytest.mark.slow  # processes, one after another

#: More than any dissector may hold, less than what is fed; octets.
MOST = 6 * 1024 * 1024
FED = 12 * 1024 * 1024

BLOCK = bytes(65_528)


def record(kind, request_id, content):
    return bytes((1, kind, *request_id.to_bytes(2), *len(content).to_bytes(2), 0, 0)) + content


def begin(request_id):
    return record(1, request_id, b"\0\1\0\0\0\0\0\0")


def requests(kind, content):
    """Every id there is, each with something that goes on."""
    for request_id in range(1, 65_536):
        yield begin(request_id) + record(kind, request_id, content)


ENDLESS = {
    "scgi-body": ("scgi", FRONTEND, b"31:CONTENT_LENGTH\x0099999999\0SCGI\x001\0,", BLOCK),
    "scgi-headers": ("scgi", FRONTEND, b"9999999999:", BLOCK),
    "scgi-response-head": ("scgi", SERVER, b"", b"X" * 65_536),
    "uwsgi-response-body": ("uwsgi", SERVER, b"HTTP/1.1 200 OK\r\n\r\n", BLOCK),
    "nothing-known": ("ajp", FRONTEND, b"GET / HTTP/1.1", BLOCK),
    "fastcgi-stdin": ("fastcgi", FRONTEND, begin(1), record(5, 1, BLOCK)),
    "fastcgi-pair-of-2-gib": (
        "fastcgi",
        FRONTEND,
        begin(1) + record(4, 1, b"\x01\xff\xff\xff\xffA"),
        record(4, 1, BLOCK),
    ),
    "fastcgi-response-head": ("fastcgi", SERVER, b"", record(6, 1, b"X" * 65_000)),
    "ajp-chunked": (
        "ajp",
        SERVER,
        b"AB\0\x07\x04\0\xc8\0\0\0\0\0",
        b"AB\x1f\xfc\x03\x1f\xf8" + bytes(0x1FF9),
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_goes_on_for_ever_is_counted(name):
    protocol, direction, head, block = ENDLESS[name]
    feed(dissector(protocol, direction), itertools.chain([head], itertools.repeat(block)))


@pytest.mark.parametrize(
    ("direction", "blocks"),
    [
        (FRONTEND, lambda: requests(4, b"\x01\x80\x00\x10\x00A" + b"x" * 200)),
        (SERVER, lambda: (record(6, i, b"X: " + b"y" * 200) for i in range(1, 65_536))),
    ],
)
def test_requests_without_end_are_not_all_followed(direction, blocks):
    feed(dissector("fastcgi", direction), blocks())


def feed(what, blocks):
    """Give *what* octets, and look at what it has held of them."""
    fed = 0
    tracemalloc.start()
    try:
        for block in blocks:
            what.receive_data(block)
            fed += len(block)
            if fed > FED:
                break
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fed > FED
    assert peak < MOST
    assert what.offset > fed - 70_000
