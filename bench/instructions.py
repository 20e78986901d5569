"""Instructions a small request costs the server, counted by valgrind: the same on every machine.

Two runs of each server that differ in the number of requests alone, so that start and end cancel
out. One thread, since a watchdog's looks depend on the clock. With another checkout of Portico, its
figure and the ratio to it are printed as well.

  python bench/instructions.py [--protocols fastcgi,scgi,uwsgi,ajp] [--against CHECKOUT]

Needs valgrind.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from portico.codecs import client_codec
from portico.events import ResponseEnded
from portico.limits import Limits

HERE = Path(__file__).parent

FEW, MANY = 300, 1300

#: What nginx sends of a plain GET, as far as its length matters.
ENVIRON = {
    "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/x",
    "QUERY_STRING": "", "REQUEST_URI": "/x", "DOCUMENT_URI": "/x", "DOCUMENT_ROOT": "/srv/www",
    "SERVER_NAME": "www.example.test", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_SOFTWARE": "nginx/1.22.1", "SERVER_ADDR": "192.0.2.1", "REQUEST_SCHEME": "http",
    "REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": "40000", "REDIRECT_STATUS": "200",
    "CONTENT_TYPE": "", "HTTP_HOST": "www.example.test", "HTTP_USER_AGENT": "bench",
    "HTTP_ACCEPT": "*/*",
}  # fmt: skip


def ask(port: int, protocol: str, number: int) -> None:
    """Send *number* requests one after the other, over one connection where that is kept."""
    kept = protocol in {"fastcgi", "ajp"}
    environ = ENVIRON if kept else {**ENVIRON, "CONTENT_LENGTH": "0"}
    options = {"keep_open": True} if kept else {}
    sock = None
    for _ in range(number):
        codec = client_codec(protocol, Limits(), **options)
        if sock is None or not kept:
            sock = socket.create_connection(("127.0.0.1", port), 60)
        sock.sendall(codec.send_request(environ))
        ended = False
        while not ended:
            data = sock.recv(65_536)
            events = codec.receive_data(data) if data else codec.receive_eof()
            ended = any(type(event) is ResponseEnded for event in events)
        if not kept:
            sock.close()
    if sock is not None:
        sock.close()


def count(source: Path, protocol: str, number: int) -> int:
    """Serve *number* requests by the Portico in *source* under valgrind; gives instructions."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as directory:
        process = subprocess.Popen(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out",
             sys.executable, "-m", "portico", "serve", str(HERE / "application.py"),
             "--bind", f"{protocol}://127.0.0.1:{port}", "--threads", "1",
             "--log-level", "warning", "--workers", "0"],
            env={**os.environ, "PYTHONPATH": str(source), "PYTHONHASHSEED": "0"},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with socket.socket() as sock:
                    if not sock.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.1)
            ask(port, protocol, number)
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=120)[1]
    found = re.search(r"Collected : (\d+)", said)
    if found is None:
        sys.exit(f"valgrind counted nothing:\n{said}")
    return int(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocols", default="fastcgi,scgi,uwsgi,ajp", metavar="NAME,NAME")
    parser.add_argument("--against", metavar="CHECKOUT", help="an earlier Portico to compare with")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        parser.error("valgrind must be installed (Debian: apt-get install valgrind)")
    sources = {"here": HERE.parent / "src"}
    if options.against:
        sources["there"] = Path(options.against).resolve() / "src"
    for protocol in options.protocols.split(","):
        cost = {}
        for name, source in sources.items():
            more = count(source, protocol, MANY) - count(source, protocol, FEW)
            cost[name] = more / (MANY - FEW)
        line = f"{protocol:10}{cost['here']:10,.0f} instructions a request"
        if "there" in cost:
            line += f"{cost['there']:12,.0f} there, ratio {cost['here'] / cost['there']:.3f}"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
