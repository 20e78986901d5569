"""What a CGI request costs beyond a bare interpreter that prints the same bytes.

Runs each script in turn, many times, and gives the median of wall and CPU milliseconds and the
difference to the bare interpreter, pair by pair.

  python bench/cgi_start.py [--runs 60]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_BARE = """\
import os
head = b"Content-Type: text/plain\\r\\nContent-Length: 6\\r\\nStatus: 200 OK\\r\\n\\r\\n"
os.write(1, head + b"hello\\n")
"""

_APPLICATION = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]
"""

SCRIPTS = {
    "bare": _BARE,
    "portico": _APPLICATION + "import portico\nportico.run(application)\n",
    "wsgiref": _APPLICATION
    + "from wsgiref.handlers import CGIHandler\nCGIHandler().run(application)\n",
}

ENVIRON = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "Apache/2.4.71 (Debian)",
    "SERVER_NAME": "www.example.test",
    "SERVER_ADDR": "127.0.0.1",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "49152",
    "REQUEST_SCHEME": "http",
    "REQUEST_METHOD": "GET",
    "REQUEST_URI": "/app/hello",
    "SCRIPT_NAME": "/app",
    "PATH_INFO": "/hello",
    "QUERY_STRING": "",
    "HTTP_HOST": "www.example.test",
    "HTTP_USER_AGENT": "bench",
    "HTTP_ACCEPT": "*/*",
    "PATH": os.defpath,
}


def run_once(script: Path) -> tuple[float, float, bytes]:
    """Wall milliseconds, CPU milliseconds, output."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        output = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000, output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    runs = parser.parse_args().runs
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in SCRIPTS}
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as directory:
        scripts = {}
        for name, text in SCRIPTS.items():
            scripts[name] = Path(directory, f"with_{name}.py")
            scripts[name].write_text(text)
            if not run_once(scripts[name])[2].endswith(b"\r\n\r\nhello\n"):
                print(f"{name} answered wrongly; no figures", file=sys.stderr)
                return 1
        for _ in range(runs):
            for name, script in scripts.items():
                wall, cpu, _ = run_once(script)
                rows[name].append((wall, cpu))
    print(f"{sys.implementation.name} {sys.version.split()[0]}, {runs} runs each, medians in ms")
    print(f"{'script':10}{'wall':>8}{'CPU':>8}{'wall over bare':>16}{'CPU over bare':>15}")
    for name, figures in rows.items():
        wall = statistics.median(row[0] for row in figures)
        cpu = statistics.median(row[1] for row in figures)
        over = [
            statistics.median(
                row[at] - bare[at] for row, bare in zip(figures, rows["bare"], strict=True)
            )
            for at in (0, 1)
        ]
        print(f"{name:10}{wall:8.2f}{cpu:8.2f}{over[0]:+16.2f}{over[1]:+15.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
