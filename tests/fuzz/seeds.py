"""Write the corpus that fuzzing starts from: captures of real web servers, and the vectors.

    python tests/fuzz/seeds.py

Everything is derived, so the files that a run added to the corpus stay, and what this writes is
the same each time. A file's name says where it comes from.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from fuzz.plan import (  # noqa: E402 - from the directory above
    BODY_LATER,
    END_OF_FILE,
    LARGE_PACKETS,
    SMALL_LIMITS,
    VARIANT,
    plan,
)
from portico.core.mount import EXAMPLES  # noqa: E402
from vectors import ajp, fastcgi, scgi, uwsgi  # noqa: E402

CORPUS = Path(__file__).with_name("corpus")
CAPTURES = TESTS / "captures"

#: Octets kept of a captured stream, and captures taken of a protocol.
MOST_BYTES = 2048
MOST_CAPTURES = 16

#: Choices that the seeds take in turn: how to cut, and what to do with the answers.
CUTS = (b"\0\0\5", b"\1\0\0", b"\1\6\0", b"\2\1\7")
SCRIPTS = (
    b"\0\0\0", b"\x69\xf4\x05", b"\x40\0\0", b"\x96\x7a\x11", b"\x57\0\0",
    b"\xbc\xd0\x05", b"\xf5\x80\x4d",
)  # fmt: skip


def varied(number: int, stream: bytes, options: int) -> bytes:
    return plan(
        stream, options=options, cut=CUTS[number % len(CUTS)], script=SCRIPTS[number % len(SCRIPTS)]
    )


def capture_seeds(protocol: str):
    """Yield captured requests, cut to size, one of each kind of case."""
    index = json.loads((CAPTURES / "index.yaml").read_text("ascii"))
    taken: dict[str, tuple[str, bytes, str]] = {}
    for capture in index["captures"]:
        if capture["protocol"] != protocol:
            continue
        data = (CAPTURES / capture["file"]).read_bytes()
        if capture["compression"] == "gzip":
            data = gzip.decompress(data)
        _, setup, case = capture["id"].split("/")
        kind = case.split(".")[0]
        # The setups come in turns, so that no web server stands for all.
        rank = hashlib.sha256(capture["id"].encode()).hexdigest()
        if kind not in taken or rank < taken[kind][0]:
            taken[kind] = (rank, data[:MOST_BYTES], f"{setup}-{case}")
    for number, kind in enumerate(sorted(taken)[:MOST_CAPTURES]):
        _, data, name = taken[kind]
        options = VARIANT if kind.startswith("authorize") or "secret" in name else 0
        yield f"capture-{name}", varied(number, data, options | END_OF_FILE * (number & 1))


def vectors(label: str, group, read, options: int = 0):
    """Yield the octets of each vector that is small enough; *read* finds them in its values."""
    number = 0
    for vector in group:
        data = read(vector.values)
        if len(data) <= MOST_BYTES:
            number += 1
            yield f"{label}-{vector.id}", varied(number, data, options)


def hexadecimal(values) -> bytes:
    """The first value, where that is hexadecimal, in one piece or several."""
    text = values[0]
    return bytes.fromhex(text if type(text) is str else "".join(text))


def fastcgi_server():
    for label, group in (
        ("request", fastcgi.REQUESTS),
        ("reply", fastcgi.REPLIES),
        ("broken", fastcgi.BROKEN),
        ("broken-later", fastcgi.BROKEN_LATER),
    ):
        yield from vectors(label, group, hexadecimal, VARIANT)
    kept = fastcgi.REQUESTS[2].values[0]
    again = "".join([fastcgi.BEGIN_KEEP, *kept[1:]])
    yield "three-kept", varied(5, bytes.fromhex(again * 3), 0)
    yield "three-kept-small-limits", varied(2, bytes.fromhex(again * 3), SMALL_LIMITS)


def fastcgi_several():
    """Two requests of the vectors at a time, the second as request 2, their records in turns."""
    whole = [vector for vector in fastcgi.REQUESTS if len(hexadecimal(vector.values)) < MOST_BYTES]
    for number, (one, other) in enumerate(itertools.pairwise(whole)):
        second = [renumbered(record, 2) for record in split(hexadecimal(other.values))]
        turns = itertools.zip_longest(split(hexadecimal(one.values)), second, fillvalue=b"")
        stream = b"".join(first + then for first, then in turns)
        yield f"both-{one.id}-{other.id}", varied(number, stream, END_OF_FILE * (number & 1))


def split(stream: bytes) -> list[bytes]:
    """The records of *stream*; what is no whole record at its end is one piece."""
    found = []
    while len(stream) >= 8:
        size = 8 + int.from_bytes(stream[4:6]) + stream[6]
        found.append(stream[:size])
        stream = stream[size:]
    return [*found, stream]


def renumbered(record: bytes, number: int) -> bytes:
    if len(record) < 8 or record[2:4] == b"\0\0":
        return record
    return record[:2] + number.to_bytes(2) + record[4:]


def fastcgi_client():
    for label, group in (
        ("response", fastcgi.RESPONSES),
        ("broken", fastcgi.BROKEN_RESPONSES),
        ("broken-later", fastcgi.BROKEN_LATER_RESPONSES),
    ):
        yield from vectors(label, group, hexadecimal, END_OF_FILE)
    two = (fastcgi.HEAD + fastcgi.BODY + fastcgi.END_REQUEST) * 2
    yield "two-kept", varied(1, bytes.fromhex(two), BODY_LATER)


def of_text(module, *groups: str):
    """Make a source of the vectors that *module* writes as text."""

    def seeds():
        for name in groups:
            label = name.lower().replace("_", "-")
            for options in (0, SMALL_LIMITS):
                more = "-small-limits" if options else ""
                group = getattr(module, name)[:: 5 if options else 1]
                yield from vectors(label + more, group, lambda v: module.octets(v[0]), options)

    return seeds


def ajp_server():
    yield from vectors("head", ajp.HEADS, lambda v: ajp.packet(ajp.octets(v[0])), LARGE_PACKETS)
    yield from of_text(ajp, "CONNECTIONS", "BROKEN")()


def ajp_client():
    yield from vectors("response", ajp.RESPONSES, lambda v: ajp.octets(v[3]), END_OF_FILE)
    yield from vectors("broken", ajp.BROKEN_RESPONSES, lambda v: ajp.octets(v[0]), BODY_LATER)
    yield "wanted-and-kept", varied(3, ajp.wanted(9) + (ajp.HEAD_OK + ajp.REUSE) * 3, BODY_LATER)
    yield "closed", varied(2, ajp.HEAD_OK + ajp.CLOSE, 0)


#: What backends of SCGI and uwsgi answer, and heads as `portico.head` meets them.
HEADS = {
    "plain": b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "to-the-close": b"Content-Type: text/plain\n\nhello",
    "location-alone": b"Location: /there\r\n\r\n",
    "http": b"HTTP/1.1 404 Not Found\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\ngone",
    "two-lengths": b"Status: 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "bodiless": b"Status: 204 No Content\r\nX-Empty:\r\n\r\n",
    "no-head": b"hello\n\n",
    "cut": b"Status: 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    "mixed-line-ends": b"A: b\r\nStatus: 500\n\r\n",
    "latin-1": b"X-Caf: caf\xe9\t \xa0\r\nStatus: 200 \xe9\r\n\r\n",
}


def heads():
    for number, (name, stream) in enumerate(HEADS.items()):
        yield name, varied(number, stream, END_OF_FILE)
        if number % 4 == 0:
            yield f"{name}-small-limits", varied(number + 1, stream * 9, SMALL_LIMITS)


def environs():
    """Yield the captured example of each repair, and parameters as web servers send them."""
    for number, (name, examples) in enumerate(EXAMPLES.items()):
        for which, (environ, (script, info), _) in enumerate(examples):
            received = {"REQUEST_METHOD": "GET", **environ}
            received |= {} if script is None else {"SCRIPT_NAME": script}
            received |= {} if info is None else {"PATH_INFO": info}
            yield f"repair-{name}-{which}", plan(block(received), options=number % 5)
    index = json.loads((CAPTURES / "index.yaml").read_text("ascii"))
    captured = [c for c in index["captures"] if c["protocol"] in ("scgi", "fastcgi")]
    for number, capture in enumerate(captured[:: len(captured) // 24]):
        variables = capture["requests"][0]["expect"]["variables"]
        received = {n: v if type(v) is str else ", ".join(v) for n, v in variables.items()}
        name = "-".join(capture["id"].split("/"))
        yield f"capture-{name}", plan(block(received)[:MOST_BYTES], options=number % 5)


def block(environ: dict[str, str]) -> bytes:
    return "".join(f"{name}\0{value}\0" for name, value in environ.items()).encode("latin-1")


#: Target -> where its seeds come from.
SOURCES = {
    "fastcgi-server": (fastcgi_server, lambda: capture_seeds("fastcgi")),
    "fastcgi-client": (fastcgi_client,),
    "scgi-server": (of_text(scgi, "REQUESTS", "BROKEN"), lambda: capture_seeds("scgi")),
    "scgi-client": (heads,),
    "ajp-server": (ajp_server, lambda: capture_seeds("ajp")),
    "ajp-client": (ajp_client,),
    "uwsgi-server": (of_text(uwsgi, "REQUESTS", "BROKEN"), lambda: capture_seeds("uwsgi")),
    "uwsgi-client": (heads,),
    "fastcgi-several": (fastcgi_several, lambda: capture_seeds("fastcgi")),
    "head": (heads,),
    "environ": (environs,),
}


def seeds(target: str) -> dict[str, bytes]:
    """Give the seeds of *target* by their file names."""
    return {name: data for source in SOURCES[target] for name, data in source()}


def main() -> None:
    """Write what `SOURCES` gives beside what is there."""
    for target in SOURCES:
        directory = CORPUS / target
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in seeds(target).items():
            (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
