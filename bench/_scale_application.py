"""The application whose cost `bench/scale.py` measures: small answers, long ones, and uploads."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BODY = b"Hello, world! This is a small page.\n"
BLOCK_BYTES = 65_536
#: What downloads consist of; each block is one.
BLOCK = bytes(range(256)) * (BLOCK_BYTES // 256)
#: Where the files of ``/file/N`` are, each with its length as its name.
FILES = "PORTICO_SCALE_FILES"
_DIRECTORY = Path(os.environ.get(FILES, "."))


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """Answer ``/``, ``/blocks/N``, ``/file/N``, ``/upload`` and ``/digest``."""
    kind, _, number = environ["PATH_INFO"].strip("/").partition("/")
    body: Iterable[bytes]
    if kind == "blocks":
        length, body = int(number), _blocks(int(number))
    elif kind == "file":
        length = int(number)
        body = environ["wsgi.file_wrapper"](_file(number), BLOCK_BYTES)
    else:
        uploads = kind in {"upload", "digest"}
        answer = _upload(environ["wsgi.input"], kind) if uploads else BODY
        length, body = len(answer), [answer]
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(length))]
    start_response("200 OK", headers)
    return body


def _blocks(length: int) -> Iterator[bytes]:
    for _ in range(length // BLOCK_BYTES):
        yield BLOCK
    if length % BLOCK_BYTES:
        yield BLOCK[: length % BLOCK_BYTES]


def _file(name: str) -> IO[bytes]:
    return (_DIRECTORY / name).open("rb", buffering=0)


def _upload(body: Any, kind: str) -> bytes:
    """Count what comes, or give its digest, which costs more than all the rest."""
    count = 0
    digest = hashlib.sha256()
    while block := body.read(BLOCK_BYTES):
        count += len(block)
        if kind == "digest":
            digest.update(block)
    return digest.hexdigest().encode() if kind == "digest" else b"%d" % count
