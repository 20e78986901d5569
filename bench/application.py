"""The application that every server under test runs: small answers, large ones, slow ones.

The last word of the path chooses. The head of every answer names the server that was asked for, by
a header that is the same work for each: a constant of the process.
"""

# mypy: ignore-errors - as an application's author would write it

import os
import random
import time
from hashlib import sha256

SERVED_BY = os.environ.get("BENCH_SERVER", "nobody")
MIB = 1_048_576
CHUNK_BYTES = 16_384
READ_BYTES = 65_536

_octets = random.Random(1)  # noqa: S311 - the same content in every process

HELLO = b"Hello, world! This is a small page.\n"
PAGE = b"".join(
    b"<p>%-56s</p>\n" % (b"Line %d of 128 lines, 64 octets each" % line) for line in range(128)
)
BODY = _octets.randbytes(MIB)
CHUNKS = [BODY[at : at + CHUNK_BYTES] for at in range(0, MIB, CHUNK_BYTES)]


def _headers(kind, body, *more):
    length = ("Content-Length", str(len(body)))
    return [("Content-Type", kind), length, ("X-Served-By", SERVED_BY), *more]


HELLO_HEADERS = _headers("text/plain", HELLO)
PAGE_HEADERS = _headers(
    "text/html; charset=utf-8",
    PAGE,
    ("Cache-Control", "private, max-age=60"),
    ("Content-Language", "en"),
    ("Vary", "Cookie"),
)
BODY_HEADERS = _headers("application/octet-stream", BODY)


def hello(_environ, start_response):
    """A small answer."""
    start_response("200 OK", HELLO_HEADERS)
    return [HELLO]


def page(_environ, start_response):
    """8 KiB with six headers."""
    start_response("200 OK", PAGE_HEADERS)
    return [PAGE]


def body(_environ, start_response):
    """1 MiB in one piece."""
    start_response("200 OK", BODY_HEADERS)
    return [BODY]


def chunks(_environ, start_response):
    """1 MiB in 64 pieces, of known length in all."""
    start_response("200 OK", BODY_HEADERS)
    yield from CHUNKS


def upload(environ, start_response):
    """Read what was sent, no further than the protocol says, and tell its length."""
    read = environ["wsgi.input"].read
    left = int(environ["CONTENT_LENGTH"])
    length = 0
    while left and (block := read(min(left, READ_BYTES))):
        length += len(block)
        left -= len(block)
    answer = b"%d\n" % length
    start_response("200 OK", _headers("text/plain", answer))
    return [answer]


def digest(environ, start_response):
    """Read what was sent and tell its SHA-256: what `upload` would cost too much."""
    read = environ["wsgi.input"].read
    left = int(environ["CONTENT_LENGTH"])
    whole = sha256()
    while left and (block := read(min(left, READ_BYTES))):
        whole.update(block)
        left -= len(block)
    answer = whole.hexdigest().encode()
    start_response("200 OK", _headers("text/plain", answer))
    return [answer]


def sleep(_environ, start_response):
    """A small answer after 50 ms."""
    time.sleep(0.05)
    start_response("200 OK", HELLO_HEADERS)
    return [HELLO]


ANSWERS = {
    "hello": hello,
    "page": page,
    "body": body,
    "chunks": chunks,
    "upload": upload,
    "digest": digest,
    "sleep": sleep,
}


def application(environ, start_response):
    """Answer as the last word of the path says."""
    return ANSWERS[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)
