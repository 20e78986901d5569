"""Instructions that a request costs in codec and core, and the budget that CI holds them to.

Counted by valgrind, of requests that go through codec and core in one process, without sockets
and without a clock. What the engine adds is in `bench/instructions.py`.

  python bench/core.py [PROTOCOL ...]      count, and compare with the budget
  python bench/core.py --record            write the budget of this Python
  python bench/core.py --against CHECKOUT  compare with another checkout of Portico
  python bench/core.py --functions CASE    what CASE runs, by function
"""

from __future__ import annotations

import argparse
import json
import marshal
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import callgrind

from portico.codecs import PROTOCOLS, client_codec, server_codec
from portico.events import BodyWanted, RequestReceived
from portico.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
DRIVER = str(HERE / "core_requests.py")

REFERENCE = "reference"

READ_BYTES = 65_536

NAMES = (*dict.fromkeys(PROTOCOLS.values()), "cgi")

#: Requests before the counting, in which CPython adapts its code to them, and those counted.
BEFORE, COUNTED = 200, 200

#: A browser's request as nginx 1.22 passes it on: 26 parameters, about 900 octets.
GET = {
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
    "REMOTE_ADDR": "192.0.2.7",
    "REMOTE_PORT": "53294",
    "SERVER_ADDR": "192.0.2.1",
    "SERVER_PORT": "80",
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

#: 16 KiB of a form, and 30 parameters.
FORM = b"text=" + b"a+line+of+a+form;" * 963 + b"end="
POST = {
    **GET,
    "REQUEST_METHOD": "POST",
    "CONTENT_TYPE": "application/x-www-form-urlencoded",
    "CONTENT_LENGTH": str(len(FORM)),
    "HTTP_ORIGIN": "https://www.example.test",
    "HTTP_CACHE_CONTROL": "max-age=0",
    "HTTP_SEC_FETCH_SITE": "same-origin",
    "HTTP_UPGRADE_INSECURE_REQUESTS": "1",
}


def environ_for(protocol: str, environ: dict[str, str]) -> dict[str, str]:
    """Give *environ* as a web server sends it by *protocol*."""
    if protocol == "scgi":  # which demands a length
        return {**environ, "CONTENT_LENGTH": environ["CONTENT_LENGTH"] or "0"}
    return environ


def deliveries(protocol: str, environ: dict[str, str], body: bytes) -> list[bytes]:
    """Give what a web server sends, in the pieces that one read each brings."""
    options = {"keep_open": True} if protocol in {"fastcgi", "ajp"} else {}
    client = client_codec(protocol, Limits(), **options)
    server = server_codec(protocol, Limits())
    environ = environ_for(protocol, environ)
    if not client.body_on_demand or not body:
        return [client.send_request(environ, body)]
    # AJP: the first packet of body comes of its own accord, each further one when asked for
    sent = [client.send_request(environ, body)]
    event = server.receive_data(sent[0])[0]
    if type(event) is not RequestReceived:
        raise SystemExit("the server codec did not understand its own client codec")
    while True:
        server.want_body(event.request_id, READ_BYTES)
        wanted = client.receive_data(server.data_to_send())
        if not any(type(wish) is BodyWanted for wish in wanted):
            return sent
        sent.append(client.send_body(b""))
        server.receive_data(sent[-1])


def plan(protocol: str, directory: str) -> dict[str, Any]:
    """Give what the script under valgrind reads: the cases of *protocol*."""
    cases = []
    for kind, environ, body, application in (
        ("get", GET, b"", "hello"),
        ("post", POST, FORM, "page"),
    ):
        case: dict[str, Any] = {"name": f"{protocol} {kind}", "application": application}
        if protocol == "cgi":
            case["environ"], case["body"] = environ, body
        elif protocol != REFERENCE:
            case["deliveries"] = deliveries(protocol, environ, body)
        cases.append(case)
    return {
        "protocol": protocol,
        "before": BEFORE,
        "counted": COUNTED,
        "cases": [{"name": REFERENCE}] if protocol == REFERENCE else cases,
        "body": f"{directory}/body",
        "answers": f"{directory}/answers",
    }


def count(
    protocols: Sequence[str], source: Path = SOURCE, python: str = sys.executable
) -> dict[str, callgrind.Part]:
    """Count the cases of *protocols*, two processes at a time; gives what one request costs."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda name: _count(name, source, python), protocols)
        return {name: part for cases in found for name, part in cases.items()}


def _count(protocol: str, source: Path, python: str) -> dict[str, callgrind.Part]:
    with tempfile.TemporaryDirectory(prefix="portico-core-") as directory:
        todo = plan(protocol, directory)
        path = Path(directory, "plan")
        path.write_bytes(marshal.dumps(todo, 4))
        parts = callgrind.parts(source, [DRIVER, str(path)], python=python)
    names = [case["name"] for case in todo["cases"]]
    # what is between the marks of two cases is the preparation of the second
    return {
        name: callgrind.Part(
            round(part.instructions / COUNTED),
            {function: round(own / COUNTED) for function, own in part.by_function.items()},
        )
        for name, part in zip(names, parts[::2], strict=True)
    }


def main() -> int:
    found = count([REFERENCE, *NAMES])
    ref = found[REFERENCE].instructions
    for name, part in found.items():
        print(f"{name:20} {part.instructions:10,d} {part.instructions / ref:8.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
