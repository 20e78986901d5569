"""Requests a second and CPU time a request: Portico and its peers behind one nginx, in one run.

Every server runs all the time; the load goes to one after the other, round after round, so that a
machine whose speed drifts is as unfair to each. CPU time is the operating system's account of the
server's whole process tree. A server that answers anything wrong gets no figure, and the exit
status is 1.

  python bench/serve.py [--seconds 2] [--rounds 5] [--connections 16] [--only NAME,NAME]
                        [--against CHECKOUT] [--alone]

With another checkout of Portico, its servers (before_...) take part as well; with --alone
Portico in one process (alone_...), without a parent and a scoreboard.

Needs nginx and wrk.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from application import BODY
from contestants import Contestant, alone, contestants, earlier

TICKS = os.sysconf("SC_CLK_TCK")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

NGINX = """\
daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/error.log;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 10000000;
  client_body_temp_path {d}/b; fastcgi_temp_path {d}/f; scgi_temp_path {d}/s;
  uwsgi_temp_path {d}/u; proxy_temp_path {d}/p;
  {upstreams}
  server {{ listen 127.0.0.1:{port}; {locations} }}
}}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(stack: ExitStack, argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)

    stack.callback(stop)
    return process


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as sock:
            if not sock.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not start:\n{log.read_text(errors='replace')}")


def cpu_seconds(root: int) -> float:
    """User and system time of *root* and its living descendants."""
    total = 0
    queue = [root]
    while queue:
        pid = queue.pop()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that has just ended
                queue += map(int, (task / "children").read_text().split())
    return total / TICKS


def answer_is_right(port: int, target: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status == 200 and response.read() == BODY
    except OSError:
        return False
    finally:
        connection.close()


class Load:
    """One run of wrk."""

    def __init__(self, port: int, target: str, connections: int, seconds: int) -> None:
        self.process = subprocess.Popen(
            ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s",
             f"http://127.0.0.1:{port}{target}"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def finish(self) -> tuple[int, float, float, bool]:
        """Requests, requests a second, p99 in ms, whether all were right."""
        output = self.process.communicate(timeout=120)[0]
        number = re.search(r"(\d+) requests in", output)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
        p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
        if not (number and rate and p99):
            return 0, 0.0, 0.0, False
        scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
        right = "Non-2xx" not in output and "Socket errors" not in output
        return int(number[1]), float(rate[1]), float(p99[1]) * scale, right


def measure_hello(
    servers: dict[str, int], field: list[Contestant], port: int, options: argparse.Namespace
) -> tuple[dict[str, list[tuple[float, float]]], set[str]]:
    """Round after round: (CPU microseconds a request, requests a second) of each."""
    figures: dict[str, list[tuple[float, float]]] = {one.name: [] for one in field}
    wrong: set[str] = set()
    for turn in range(options.rounds + 1):
        for one in field:
            target = f"/{one.name}/"
            before = cpu_seconds(servers[one.name])
            number, rate, _, right = Load(
                port, target, options.connections, options.seconds if turn else 1
            ).finish()
            used = cpu_seconds(servers[one.name]) - before
            if not right or not answer_is_right(port, target):
                wrong.add(one.name)
            elif turn:  # the first round only warms up
                figures[one.name].append((used / number * 1e6, rate))
        print(f"  round {turn} of {options.rounds}", file=sys.stderr)
    return figures, wrong


def report_hello(
    field: list[Contestant],
    figures: dict[str, list[tuple[float, float]]],
    wrong: set[str],
) -> None:
    ours = {one.protocol: one.name for one in field if one.name.startswith("portico_")}
    print(f"\n{'server':18}{'CPU us/request':>22}{'requests/s':>18}   Portico against it")
    for one in field:
        rows = figures[one.name]
        if one.name in wrong or not rows:
            print(f"{one.name:18}   no figure: it answered wrongly")
            continue
        cpu = [row[0] for row in rows]
        rate = [row[1] for row in rows]
        text = f"{statistics.median(cpu):8.1f} ({min(cpu):.1f}-{max(cpu):.1f})"
        line = f"{one.name:18}{text:>22}{statistics.median(rate):>18.0f}"
        against = ours.get(one.protocol, ours.get("fastcgi", ""))
        mine = figures.get(against) or []
        if against != one.name and against not in wrong and mine:
            ratio_cpu = statistics.median(a[0] / b[0] for a, b in zip(mine, rows, strict=False))
            ratio_rate = statistics.median(a[1] / b[1] for a, b in zip(mine, rows, strict=False))
            line += f"   {ratio_cpu:.2f} of its CPU, {ratio_rate:.2f} times its rate"
        print(line)


def measure_sleep(port: int, name: str) -> bool:
    """64 connections of 50 ms sleeps, 16 threads; then with two fast connections beside them."""
    right = answer_is_right(port, f"/{name}/sleep")
    _, alone, _, fine = Load(port, f"/{name}/sleep", 64, 4).finish()
    slow = Load(port, f"/{name}/sleep", 64, 5)
    time.sleep(0.5)
    _, fast_rate, fast_p99, fast_fine = Load(port, f"/{name}/", 2, 4).finish()
    _, beside, _, slow_fine = slow.finish()
    print(f"\n50 ms sleep, 16 threads, 64 connections ({name}; the ideal is 320/s)")
    print(f"  alone {alone:.0f}/s; with fast requests beside it {beside:.0f}/s")
    print(f"  the fast ones: {fast_rate:.0f}/s, p99 {fast_p99:.2f} ms")
    return right and fine and fast_fine and slow_fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=2, help="of load a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="some of the servers")
    parser.add_argument("--against", metavar="CHECKOUT", help="an earlier Portico to compare with")
    parser.add_argument("--alone", action="store_true", help="compare with one process as well")
    options = parser.parse_args()
    everyone = contestants() + (earlier(options.against) if options.against else [])
    everyone += alone() if options.alone else []
    nginx = shutil.which("nginx", path=PATH)
    if not nginx or not shutil.which("wrk"):
        parser.error("nginx and wrk must be installed (Debian: apt-get install nginx-light wrk)")
    wanted = set(filter(None, options.only.split(",")))
    field = [one for one in everyone if not wanted or one.name in wanted]
    if not field:
        parser.error(f"none of {options.only}; there are {[one.name for one in everyone]}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-")))
        servers = {}
        for one in field:
            one.port = free_port()
            log = directory / f"{one.name}.log"
            process = start(stack, one.argv(), log)
            wait_for(one.port, process, log)
            servers[one.name] = process.pid
        port = free_port()
        places = [one.locations() for one in field]
        config = directory / "nginx.conf"
        config.write_text(
            NGINX.format(
                d=directory,
                port=port,
                upstreams="".join(place[0] for place in places),
                locations="".join(place[1] for place in places),
            )
        )
        log = directory / "nginx.log"
        wait_for(port, start(stack, [nginx, "-c", str(config)], log), log)
        print(f"{sys.implementation.name} {sys.version.split()[0]}, {os.uname().release}")
        figures, wrong = measure_hello(servers, field, port, options)
        report_hello(field, figures, wrong)
        fine = not wrong
        for one in field:
            if one.name == "portico_fastcgi":
                fine = measure_sleep(port, one.name) and fine
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
