"""How often threads of Portico yield their processor for a request: `sched_yield`, by strace.

CPython's own locks do so before they sleep in a build without the global interpreter lock. Four
kept FastCGI connections ask one process of four threads; what start and end alone take is
subtracted. A server that does not answer all requests ends the run. strace slows the server down,
so that threads meet at locks more often than they do without it.

  python bench/yields.py PYTHON [PYTHON ...]

Needs strace, and PyYAML in each interpreter.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from free_threaded import APPLICATION, HERE, SERVER, WAYS
from portico.codecs import client_codec
from portico.events import ResponseBodyReceived, ResponseEnded
from portico.limits import Limits
from serve import free_port

CONNECTIONS, REQUESTS, RUNS = 4, 1000, 3

ENVIRON = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/0", "QUERY_STRING": "",
    "REQUEST_URI": "/0", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
}  # fmt: skip


def ask(port: int, requests: int, right: list[bool]) -> None:
    """Send *requests* one after another on one connection; notes each right answer."""
    codec = client_codec("fastcgi", Limits(), keep_open=True)
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        for _ in range(requests):
            sock.sendall(codec.send_request(ENVIRON, b"", end=True))
            body, ended = b"", False
            while not ended:
                for event in codec.receive_data(sock.recv(65_536)):
                    if isinstance(event, ResponseBodyReceived):
                        body += event.data
                    ended = ended or isinstance(event, ResponseEnded)
            if body == b"0":
                right.append(True)


def count(python: str, way: str, requests: int) -> int:
    """Count the calls of a server from its start to its end, with so many requests between."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as place:
        application, summary = Path(place, "application.py"), Path(place, "strace")
        application.write_text(APPLICATION)
        command = [
            "strace", "-f", "-c", "-e", "trace=sched_yield", "-o", str(summary),
            python, "-c", SERVER.format(change=WAYS[way]), "serve", str(application),
            "--bind", f"fastcgi://127.0.0.1:{port}", "--threads", "4", "--workers", "0",
            "--log-level", "warning",
        ]  # fmt: skip
        path = str(HERE.parent / "src")
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as sock:
                if not sock.connect_ex(("127.0.0.1", port)):
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise SystemExit(f"{python} did not start")
            time.sleep(0.05)
        right: list[bool] = []
        threads = [
            threading.Thread(target=ask, args=(port, requests // CONNECTIONS, right))
            for _ in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)  # strace itself would leave the server running
        process.wait(20)
        if len(right) != requests:
            raise SystemExit(f"{python}, {way}: {len(right)} right answers of {requests}")
        found = re.search(r"(\d+)\s+sched_yield", summary.read_text())
        return int(found[1]) if found else 0


def main() -> int:
    """Count and print."""
    print(f"$ python bench/yields.py; {os.cpu_count()} cores")
    for python in sys.argv[1:]:
        say = "import sys; print(sys.version.split('(')[0])"
        title = subprocess.run(
            [python, "-c", say], capture_output=True, text=True, check=True
        ).stdout.strip()
        for way in WAYS:
            alone = [count(python, way, 0) for _ in range(RUNS)]
            served = [count(python, way, REQUESTS) for _ in range(RUNS)]
            least = max(0, min(served) - max(alone)) / REQUESTS
            most = max(0, max(served) - min(alone)) / REQUESTS
            print(f"{title}, {way}: {least:.1f} to {most:.1f} a request")
            print(f"  start and end alone {alone}, with {REQUESTS} requests {served}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
