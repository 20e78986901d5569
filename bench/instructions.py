"""Instructions a small request costs the server, counted by valgrind: the same on every machine.

Two runs of each server that differ in the number of requests alone, so that start and end cancel
out. One thread, since a watchdog's looks depend on the clock. With another checkout of Portico, its
figure and the ratio to it are printed as well.

With --parent, a worker under its parent is compared with a process of its own instead: what the
worker does for each request on top (counting, and looking where connections of other workers may
come from), and what one telling of its figures costs, which happens about ten times a second.

  python bench/instructions.py [--protocols fastcgi,scgi,uwsgi,ajp] [--against CHECKOUT]
  python bench/instructions.py --parent [--protocols ...]

Needs valgrind.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import callgrind
from portico.codecs import client_codec
from portico.events import ResponseEnded
from portico.limits import Limits

HERE = Path(__file__).parent

FEW, MANY = 300, 1300

#: Starts ``portico`` so that a worker tells its figures at start and end only: valgrind slows the
#: requests down, not the clock, and would count far more tellings for each than there are.
WITHOUT_TELLING = """\
import sys
from portico.engine import watchdog
watchdog.TELLING_INTERVAL = 1e6
from portico.cli import main
sys.exit(main())
"""

#: Tells the figures of an engine that has served nothing for a while, {number} times.
TELLING = """\
import os
from portico.config.settings import Settings
from portico.engine.leader import Engine
from portico.engine.scoreboard import Scoreboard
from portico.supervisor.child import Mouthpiece
from portico.supervisor.reporter import Reporter
reporter = Reporter(Scoreboard(1), 1, Settings(), Mouthpiece(os.pipe()[1]))
engine = Engine(None, [], Settings(), observer=reporter)
for _ in range({number}):
    reporter.observe(engine.figures())
"""

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


def count(source: Path, protocol: str, number: int, workers: int = 0) -> int:
    """Serve *number* requests by the Portico in *source* under valgrind; gives instructions."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = ["-c", WITHOUT_TELLING] if workers else ["-m", "portico"]
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as directory:
        process = subprocess.Popen(
            [*callgrind.command(directory), *start, "serve", str(HERE / "application.py"),
             "--bind", f"{protocol}://127.0.0.1:{port}", "--threads", "1",
             "--log-level", "warning", "--workers", str(workers)],
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
    return callgrind.collected(said)


def cost(source: Path, protocol: str, workers: int = 0) -> float:
    """Give the instructions of one request."""
    more = count(source, protocol, MANY, workers) - count(source, protocol, FEW, workers)
    return more / (MANY - FEW)


def cost_of_telling(source: Path) -> float:
    """Give the instructions of telling the figures once."""
    found = []
    for number in (10, 110):
        with tempfile.TemporaryDirectory(prefix="portico-bench-") as directory:
            done = subprocess.run(
                [*callgrind.command(directory), "-c", TELLING.format(number=number)],
                env={**os.environ, "PYTHONPATH": str(source), "PYTHONHASHSEED": "0"},
                stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        found.append(callgrind.collected(done.stderr))
    return (found[1] - found[0]) / 100


def compare_with_parent(source: Path, protocols: list[str]) -> None:
    """Print what a request costs a worker under its parent, and a process of its own."""
    telling = cost_of_telling(source)
    print(f"telling the figures once {telling:10,.0f} instructions", flush=True)
    for protocol in protocols:
        alone, worker = cost(source, protocol), cost(source, protocol, workers=1)
        # at 1,000 requests a second each request pays for a hundredth of a telling
        both = worker + telling / 100
        print(
            f"{protocol:10}{alone:10,.0f} instructions a request alone,{worker:10,.0f} under a"
            f" parent, ratio {worker / alone:.3f}; with the tellings at 1,000/s {both / alone:.3f}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocols", default="fastcgi,scgi,uwsgi,ajp", metavar="NAME,NAME")
    parser.add_argument("--against", metavar="CHECKOUT", help="an earlier Portico to compare with")
    parser.add_argument("--parent", action="store_true", help="compare with a worker")
    options = parser.parse_args()
    if callgrind.missing():
        parser.error("valgrind must be installed (Debian: apt-get install valgrind)")
    here = HERE.parent / "src"
    there = Path(options.against).resolve() / "src" if options.against else None
    protocols = options.protocols.split(",")
    if options.parent:
        compare_with_parent(here, protocols)
        return 0
    for protocol in protocols:
        ours = cost(here, protocol)
        line = f"{protocol:10}{ours:10,.0f} instructions a request"
        if there is not None:
            theirs = cost(there, protocol)
            line += f"{theirs:12,.0f} there, ratio {ours / theirs:.3f}"
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
