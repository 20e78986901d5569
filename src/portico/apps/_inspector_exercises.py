"""What answers below ``/-/`` of the inspector: slow, large, streamed and failing answers.

Each parameter has its bounds; what lies outside is refused with a sentence.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import parse_qs, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias
    from wsgiref.types import StartResponse, WSGIEnvironment

    Query: TypeAlias = dict[str, list[str]]
    Exercise: TypeAlias = Callable[[WSGIEnvironment, StartResponse, Query], Iterable[bytes]]

#: Octets in one block of a streamed answer.
BLOCK_BYTES = 65_536

MAX_SLEEP_MS = 30_000
MAX_DOWNLOAD_BYTES = 1 << 30
MAX_STREAM_BLOCKS = 1000
MAX_STREAM_MS = 60_000
MAX_CUT_BYTES = 1 << 24

_PLAIN = "text/plain; charset=utf-8"


class BadParameter(ValueError):  # noqa: N818 - the sentence for the client is the news
    """A query parameter is not what the path takes; answered 400 with the text."""


def parse_query(text: str) -> Query:
    """Return each field of the query with its values; refuse more than 1000."""
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise BadParameter("The query has more than 1000 fields.") from None


def single(query: Query, name: str) -> str | None:
    """Return the one value of a parameter, or None; refuse a repeated one."""
    values = query.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise BadParameter(f"The parameter {name} is there more than once.")
    return values[0]


def number(query: Query, name: str, default: int, low: int, high: int) -> int:
    """Return a parameter from *low* to *high*, or *default* where it is absent."""
    text = single(query, name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high:
        return int(text)
    raise BadParameter(f"The parameter {name} is a whole number from {low} to {high}.")


def prefix(environ: WSGIEnvironment) -> str:
    """Return the mount point for links; one slash at its start, for two name another host."""
    mounted = environ.get("SCRIPT_NAME", "").strip("/")
    return "/" + quote(mounted, encoding="latin-1", errors="replace") if mounted else ""


def respond(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    code: int,
    body: bytes,
    *,
    media_type: str = _PLAIN,
    headers: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    """Answer with a body that is there whole, or with its head alone for HEAD."""
    head = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response(status_line(code), [*head, *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def answer(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    code: int,
    sentence: str,
    headers: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    """Answer with a sentence as plain text."""
    body = f"{sentence}\n".encode()
    return respond(environ, start_response, code, body, headers=headers)


def status_line(code: int) -> str:
    """Return the status with its reason; one without a registered reason is called unnamed."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"{code} Unnamed"


def _sleep(
    environ: WSGIEnvironment, start_response: StartResponse, query: Query
) -> Iterable[bytes]:
    ms = number(query, "ms", 1000, 0, MAX_SLEEP_MS)
    time.sleep(ms / 1000)
    thread = threading.current_thread().name
    sentence = f"Slept {ms} ms in process {os.getpid()}, thread {thread}."
    return answer(environ, start_response, 200, sentence)


def download_blocks(size: int) -> Iterator[bytes]:
    """Yield the content of ``/-/download``: *size* octets in blocks of 64 KiB.

    The same for each size, hard to compress, and no two blocks alike, so that a block lost,
    repeated or out of its place changes the digest.
    """
    noise = _noise()
    for index, offset in enumerate(range(0, size, BLOCK_BYTES)):
        block = index.to_bytes(8, "big") + noise
        yield block if size - offset >= BLOCK_BYTES else block[: size - offset]


@lru_cache(maxsize=1)
def _noise() -> bytes:
    return hashlib.shake_256(b"portico").digest(BLOCK_BYTES - 8)


@lru_cache(maxsize=64)
def _download_digest(size: int) -> str:
    digest = hashlib.sha256()
    for block in download_blocks(size):
        digest.update(block)
    return digest.hexdigest()


def _download(
    environ: WSGIEnvironment, start_response: StartResponse, query: Query
) -> Iterable[bytes]:
    size = number(query, "bytes", 1_000_000, 0, MAX_DOWNLOAD_BYTES)
    sha256 = _download_digest(size)
    etag = f'"{sha256}"'
    tags = environ.get("HTTP_IF_NONE_MATCH", "").split(",")
    if any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in tags):
        start_response("304 Not Modified", [("ETag", etag)])
        return []
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(size)),
        ("Content-Disposition", f'attachment; filename="portico-{size}.bin"'),
        ("ETag", etag),
        ("X-Content-SHA256", sha256),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else download_blocks(size)


def _stream(
    environ: WSGIEnvironment, start_response: StartResponse, query: Query
) -> Iterable[bytes]:
    blocks = number(query, "blocks", 5, 1, MAX_STREAM_BLOCKS)
    ms = number(query, "ms", 200, 0, MAX_STREAM_MS)
    if blocks * ms > MAX_STREAM_MS:
        raise BadParameter(f"Blocks times ms is at most {MAX_STREAM_MS}, a minute.")
    # A browser shows the same text where it did not ask for events.
    events = "text/event-stream" in environ.get("HTTP_ACCEPT", "")
    headers = [
        ("Content-Type", "text/event-stream; charset=utf-8" if events else _PLAIN),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Accel-Buffering", "no"),  # nginx would collect the blocks otherwise
    ]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else _events(blocks, ms)


def _events(blocks: int, ms: int) -> Iterator[bytes]:
    started = time.perf_counter()
    for number in range(1, blocks + 1):
        if number > 1:
            time.sleep(ms / 1000)
        at = (time.perf_counter() - started) * 1000
        yield f"id: {number}\ndata: block {number} of {blocks}, at {at:.0f} ms\n\n".encode()


def _status(
    environ: WSGIEnvironment, start_response: StartResponse, query: Query
) -> Iterable[bytes]:
    code = number(query, "code", 200, 200, 599)
    if code in {204, 304}:
        start_response(status_line(code), [("Cache-Control", "no-store")])
        return []
    if code == 205:  # RFC 9110 §15.3.6: no content
        return respond(environ, start_response, code, b"")
    headers = []
    if code in {301, 302, 303, 307, 308}:
        headers.append(("Location", prefix(environ) + "/"))
    elif code == 401:
        headers.append(("WWW-Authenticate", 'Basic realm="Portico inspector", charset="UTF-8"'))
    elif code == 405:
        headers.append(("Allow", "GET, HEAD"))
    sentence = f"Status {status_line(code)}, as asked for."
    return answer(environ, start_response, code, sentence, headers)


def _error(
    _environ: WSGIEnvironment, _start_response: StartResponse, _query: Query
) -> Iterable[bytes]:
    raise RuntimeError("/-/error fails before the head, as asked for")


def _cut(environ: WSGIEnvironment, start_response: StartResponse, query: Query) -> Iterable[bytes]:
    size = number(query, "bytes", 1000, 1, MAX_CUT_BYTES)
    headers = [("Content-Type", "application/octet-stream"), ("Cache-Control", "no-store")]
    if number(query, "announce", 0, 0, 1):
        headers.append(("Content-Length", str(2 * size)))
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else _broken_off(size)


def _broken_off(size: int) -> Iterator[bytes]:
    yield from download_blocks(size)
    raise RuntimeError(f"/-/cut fails after {size} octets of body, as asked for")


#: Name below ``/-/`` -> what answers there.
EXERCISES: dict[str, Exercise] = {
    "sleep": _sleep,
    "download": _download,
    "stream": _stream,
    "status": _status,
    "error": _error,
    "cut": _cut,
}

#: (path and query, what it does), as the page lists them.
EXAMPLES = (
    ("/-/sleep?ms=500", f"answers late; ms up to {MAX_SLEEP_MS}"),
    (
        "/-/download?bytes=1000000",
        f"known content with its SHA-256 in the head; bytes up to {MAX_DOWNLOAD_BYTES}",
    ),
    (
        "/-/stream?blocks=5&ms=200",
        f"block by block; up to {MAX_STREAM_BLOCKS} blocks and {MAX_STREAM_MS} ms in all",
    ),
    ("/-/status?code=404", "any status from 200 to 599"),
    ("/-/error", "an exception before the head"),
    (
        "/-/cut?bytes=1000&announce=1",
        f"an exception after bytes of body, up to {MAX_CUT_BYTES}; announce=1 promises more of it",
    ),
)
