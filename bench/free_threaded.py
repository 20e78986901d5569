"""Python without the global interpreter lock: threads or processes, and what a handover costs.

Each interpreter runs Portico (FastCGI, kept connections) behind one nginx in several ways, which
take turns, round after round: as it is, with a handover before each call (what decision 0017
rejects), and as two processes. The application runs Python code for as long as the case says, in
loops, not by a clock: what N loops take on one core is printed with each interpreter. An answer
that is wrong ends the run.

  python bench/free_threaded.py PYTHON [PYTHON ...] [--seconds 2] [--rounds 5] [--loops 0,...]
                                [--threads 1,2,4] [--connections 16]

Needs nginx, wrk and PyYAML in each interpreter.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from serve import PATH, Load, cpu_seconds, free_port, start, wait_for

HERE = Path(__file__).parent

#: Runs as many loops as the last part of the path says; its answer is their number.
APPLICATION = """\
HEADERS = [("Content-Type", "text/plain")]

def work(loops):
    total = 0
    for number in range(loops):
        total += number & 3
    return total

def application(environ, start_response):
    loops = int(environ["PATH_INFO"].rpartition("/")[2] or 0)
    work(loops)
    start_response("200 OK", HEADERS)
    return [b"%d" % loops]
"""

#: What is done to Portico before it starts, and the options of the start.
WAYS = {
    "plain": "",
    "early": """
class Early(pace.Pace):
    def __init__(self):
        super().__init__()
        self.active = True
    def guess(self, target):
        return pace.SLOW
    def note(self, target, seconds, now):
        pass
leader.Pace = Early
""",
}

SERVER = """\
import sys
from portico.engine import leader, pace
{change}
from portico.cli import main
sys.exit(main(sys.argv[1:]))
"""

CLOCK = """\
import sys, sysconfig, timeit
sys.path.insert(0, sys.argv[1])
from application import work
best = min(timeit.repeat(lambda: work(1000), number=200, repeat=7)) / 200
gil = getattr(sys, "_is_gil_enabled", lambda: True)()
print(f"{sys.version.split()[0]} {'with' if gil else 'without'} the lock", best * 1e6, sep=";")
"""

NGINX = """\
daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 10000000;
  client_body_temp_path {d}/b; fastcgi_temp_path {d}/f; scgi_temp_path {d}/s;
  uwsgi_temp_path {d}/u; proxy_temp_path {d}/p;
  {upstreams}
  server {{ listen 127.0.0.1:{port}; {locations} }}
}}
"""

LOCATION = """location /{n}/ {{ fastcgi_pass up_{n}; include /etc/nginx/fastcgi_params;
 fastcgi_param PATH_INFO $document_uri; fastcgi_param SCRIPT_NAME ''; fastcgi_keep_conn on; }}
"""


@dataclass
class Server:
    """One way to run Portico.

    Attributes:
        name: Its path below nginx.
        python: The interpreter.
        way: A key of `WAYS`.
        threads: Of each process.
        workers: Processes; 0 for one without a parent.
        rows: Loops -> what each round gave: requests a second, CPU µs a request, p99 in ms.
    """

    name: str
    python: str
    way: str
    threads: int
    workers: int = 0
    port: int = 0
    pid: int = 0
    rows: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)

    def title(self) -> str:
        """Say what it is, for its line of the table."""
        processes = f", {self.workers} processes" if self.workers else ""
        return f"{self.way}, {self.threads} threads{processes}"

    def argv(self, application: Path) -> list[str]:
        """Give the command that starts it with *application*."""
        code = SERVER.format(change=WAYS[self.way])
        return [
            "env", f"PYTHONPATH={HERE.parent / 'src'}", self.python, "-c", code,
            "serve", str(application), "--bind", f"fastcgi://127.0.0.1:{self.port}",
            "--threads", str(self.threads), "--workers", str(self.workers),
            "--log-level", "warning",
        ]  # fmt: skip


def measure(one: Server, port: int, loops: int, options: argparse.Namespace, *, keep: bool) -> None:
    """Load *one* for a turn; ends the run where an answer is wrong."""
    before = cpu_seconds(one.pid)
    seconds = options.seconds if keep else 1
    number, rate, p99, right = Load(
        port, f"/{one.name}/{loops}", options.connections, seconds
    ).finish()
    used = cpu_seconds(one.pid) - before
    if not right:
        raise SystemExit(f"{one.python}: {one.title()}: wrong answers")
    if keep:
        one.rows.setdefault(loops, []).append((rate, used / number * 1e6, p99))


def report(python: str, servers: list[Server], options: argparse.Namespace, place: Path) -> None:
    output = subprocess.run(
        [python, "-c", CLOCK, str(place)], capture_output=True, text=True, check=True
    ).stdout
    title, _, microseconds = output.strip().partition(";")
    for loops in options.loops:
        print(f"\n{title}, {loops} loops ({float(microseconds) * loops / 1000:.0f} us alone)")
        print(f"  {'':32}{'requests/s':>24}{'CPU us/request':>16}{'p99 ms':>9}")
        for one in servers:
            rates, costs, p99 = zip(*one.rows[loops], strict=True)
            spread = f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})"
            print(
                f"  {one.title():32}{spread:>24}"
                f"{statistics.median(costs):>16.1f}{statistics.median(p99):>9.2f}"
            )


def numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    parser.add_argument("--seconds", type=int, default=2, help="of load a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--loops", type=numbers, default=[0, 10_000, 40_000, 200_000])
    parser.add_argument("--threads", type=numbers, default=[1, 2, 4])
    options = parser.parse_args()
    nginx = shutil.which("nginx", path=PATH)
    if not nginx or not shutil.which("wrk"):
        parser.error("nginx and wrk must be installed (Debian: apt-get install nginx-light wrk)")
    field_ = {
        python: [
            *(Server("", python, "plain", number) for number in options.threads),
            Server("", python, "early", max(options.threads)),
            Server("", python, "plain", max(options.threads), workers=2),
        ]
        for python in options.pythons
    }
    everyone = [one for servers in field_.values() for one in servers]
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-")))
        (place / "application.py").write_text(APPLICATION)
        for at, one in enumerate(everyone):
            one.name, one.port = f"s{at}", free_port()
            process = start(stack, one.argv(place / "application.py"), place / f"{one.name}.log")
            wait_for(one.port, process, place / f"{one.name}.log")
            one.pid = process.pid
        port = free_port()
        (place / "nginx.conf").write_text(
            NGINX.format(
                d=place,
                port=port,
                upstreams="\n".join(
                    f"upstream up_{one.name} {{ server 127.0.0.1:{one.port}; keepalive 64; }}"
                    for one in everyone
                ),
                locations="".join(LOCATION.format(n=one.name) for one in everyone),
            )
        )
        log = place / "nginx.log"
        wait_for(port, start(stack, [nginx, "-c", str(place / "nginx.conf")], log), log)
        for turn in range(options.rounds + 1):  # the first round only warms up
            for loops in options.loops:
                for one in everyone:
                    measure(one, port, loops, options, keep=turn > 0)
            print(f"  round {turn} of {options.rounds}", file=sys.stderr)
        print(f"$ python bench/free_threaded.py {' '.join(sys.argv[1 + len(options.pythons) :])}")
        print(f"{os.cpu_count()} cores, nginx and wrk on them as well; {platform.release()}")
        for python, servers in field_.items():
            report(python, servers, options, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
