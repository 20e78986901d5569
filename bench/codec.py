"""Time the codecs alone: `python bench/codec.py [PROTOCOL ...] [--rounds N]`.

Every protocol of `portico.codecs` is measured by name, with octets that its own `ClientCodec`
makes of one request, so a new codec needs no line here. Figures are microseconds for one
operation, the least of many rounds, all operations taking turns; read the ratios.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from portico.codecs import PROTOCOLS, client_codec, server_codec
from portico.events import BodyReceived, BodyWanted, RequestReceived
from portico.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portico.codecs import ClientCodec, ServerCodec
    from portico.events import Event

#: A browser's request as nginx 1.22 passes it on: 26 parameters, about 900 octets.
ENVIRON = {
    "QUERY_STRING": "page=2&sort=name",
    "REQUEST_METHOD": "GET",
    "CONTENT_TYPE": "",
    "CONTENT_LENGTH": "",
    "SCRIPT_NAME": "/app",
    "REQUEST_URI": "/app/articles/list?page=2&sort=name",
    "DOCUMENT_URI": "/app/articles/list",
    "DOCUMENT_ROOT": "/srv/www",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_SCHEME": "http",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "nginx/1.22.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "53294",
    "SERVER_ADDR": "127.0.0.1",
    "SERVER_PORT": "20010",
    "SERVER_NAME": "www.example.test",
    "REDIRECT_STATUS": "200",
    "PATH_INFO": "/articles/list",
    "HTTP_HOST": "www.example.test",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "HTTP_ACCEPT_LANGUAGE": "en-GB,en;q=0.7,de;q=0.3",
    "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
    "HTTP_COOKIE": "session=6f1ed002ab5595859014ebf0951522d9; theme=dark",
    "HTTP_REFERER": "https://www.example.test/app/articles/list?page=1",
}

STATUS = "200 OK"
HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", "1024"),
    ("Cache-Control", "no-store"),
    ("Vary", "Cookie"),
]
PAGE = b"x" * 1024
UPLOAD = bytes(range(256)) * 4096
READ_BYTES = 65_536


class Operation(NamedTuple):
    """Something to time: *prepare* makes what *run* uses up; only *run* is timed."""

    name: str
    prepare: Callable[[], Any]
    run: Callable[[Any], object]
    calls: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = list(dict.fromkeys(PROTOCOLS.values()))
    parser.add_argument("protocols", nargs="*", metavar="PROTOCOL", help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}")
    print(
        f"{len(ENVIRON)} parameters, {sum(map(len, ENVIRON)) + sum(map(len, ENVIRON.values()))}"
        " octets; µs"
    )
    for protocol in args.protocols or known:
        try:
            operations = list(measured(protocol))
        except ModuleNotFoundError as exc:
            print(f"{protocol}: not measured, {exc}", file=sys.stderr)
            continue
        for name, seconds in least(operations, args.rounds).items():
            print(f"{protocol:8} {name:36} {seconds * 1e6:10.2f}")
    return 0


def least(operations: list[Operation], rounds: int) -> dict[str, float]:
    """Time the operations in turns and give the least seconds of each."""
    best = dict.fromkeys([operation.name for operation in operations], 1e9)
    gc.disable()  # its passes fall on whichever operation happens to run
    for _ in range(rounds):
        for name, prepare, run, calls in operations:
            run(prepare())  # the first after another operation pays for the caches
            prepared = [prepare() for _ in range(calls)]
            started = perf_counter()
            for item in prepared:
                run(item)
            spent = (perf_counter() - started) / calls
            best[name] = min(best[name], spent)
    gc.enable()
    return best


def measured(protocol: str) -> Iterator[Operation]:
    """Give the operations of one protocol."""
    limits = Limits()

    def server() -> ServerCodec:
        return server_codec(protocol, limits)

    def client() -> ClientCodec:
        return client_codec(protocol, limits)

    def asked(codec: ServerCodec) -> tuple[ServerCodec, int]:
        events = codec.receive_data(get)
        return codec, request_id(events)

    def answer(pair: tuple[ServerCodec, int]) -> bytes:
        codec, number = pair
        return codec.send_response(number, STATUS, HEADERS, PAGE)

    def waiting() -> ClientCodec:
        codec = client()
        codec.send_request(ENVIRON)
        return codec

    get = client().send_request(ENVIRON)
    post_environ = {**ENVIRON, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(PAGE))}
    post = client().send_request(post_environ, PAGE)
    halves = [get[: len(get) // 2], get[len(get) // 2 :]]
    octets = [get[at : at + 1] for at in range(len(get))]
    response = answer(asked(server()))
    upload = uploaded(server(), client())

    yield Operation("server: make", lambda: None, lambda _: server(), 100)
    yield Operation("server: decode GET", server, lambda c: c.receive_data(get), 100)
    yield Operation("server: decode POST of 1 KiB", server, lambda c: c.receive_data(post), 100)
    yield Operation("server: decode GET in two reads", server, lambda c: feed(c, halves), 100)
    yield Operation("server: decode GET bytewise", server, lambda c: feed(c, octets), 2)
    yield Operation("server: decode upload of 1 MiB", server, lambda c: feed(c, upload), 1)
    yield Operation("server: encode 1 KiB", lambda: asked(server()), answer, 100)
    yield Operation("server: GET to response", server, lambda c: answer(asked(c)), 100)
    yield Operation("client: encode GET", client, lambda c: c.send_request(ENVIRON), 100)
    yield Operation("client: decode 1 KiB", waiting, lambda c: c.receive_data(response), 100)


def request_id(events: list[Event]) -> int:
    for event in events:
        if type(event) is RequestReceived:
            return event.request_id
    raise SystemExit("the server codec did not understand its own client codec")


def feed(codec: ServerCodec, chunks: list[bytes]) -> None:
    for chunk in chunks:
        for event in codec.receive_data(chunk):
            if type(event) is RequestReceived or type(event) is BodyReceived:
                codec.want_body(event.request_id, READ_BYTES)


def uploaded(server: ServerCodec, client: ClientCodec) -> list[bytes]:
    """Record what the server reads of an upload, 64 KiB at a time unless the protocol asks."""
    environ = {**ENVIRON, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(UPLOAD))}
    if not client.body_on_demand:
        octets = client.send_request(environ, UPLOAD)
        return [octets[at : at + READ_BYTES] for at in range(0, len(octets), READ_BYTES)]
    at = 8186
    chunks = [client.send_request(environ, UPLOAD[:at], end=False)]
    events = server.receive_data(chunks[0])
    number = request_id(events)
    while at < len(UPLOAD):
        server.want_body(number, READ_BYTES)
        wanted = client.receive_data(server.data_to_send())
        size = sum(event.size for event in wanted if type(event) is BodyWanted)
        if not size:
            raise SystemExit("the server codec asked for no more of the body")
        chunks.append(client.send_body(UPLOAD[at : at + size], end=at + size >= len(UPLOAD)))
        at += size
        server.receive_data(chunks[-1])
    return chunks


if __name__ == "__main__":
    sys.exit(main())
