"""Where the time of a request goes: system calls and functions, of Portico and of uWSGI.

Each server alone behind nginx, under the same load. System calls are counted by the kernel's
tracepoints; functions are sampled, those of the kernel as well.

  python bench/hotspots.py [--cases hello,chunks] [--protocols fastcgi,scgi,uwsgi] [--publish]

Needs root, nginx, wrk and perf (Debian: linux-perf). --publish writes bench/results/hotspots.txt.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from contestants import Contestant, contestants
from machinery import find, free_port, nginx_place, start, start_nginx, tree, wait_for

RESULTS = Path(__file__).parent / "results" / "hotspots.txt"
APPLICATION = Path(__file__).parent / "application.py"

#: Seconds under load before anything is looked at, of counting, and of sampling.
WARM, COUNTING, SAMPLING = 1, 2, 3

#: Nanoseconds of CPU between two samples.
PERIOD = 200_000

CALLS = (
    "accept4", "read", "write", "writev", "sendfile64", "close", "ioctl", "epoll_wait", "epoll_ctl",
    "poll", "futex", "setsockopt", "clock_nanosleep",
)  # fmt: skip

MOST_FUNCTIONS = 14


def count_calls(pid: int) -> Counter[str]:
    """Count the system calls of one process, all threads, in `COUNTING` seconds."""
    events = ",".join(f"syscalls:sys_enter_{name}" for name in CALLS)
    said = subprocess.run(
        ["perf", "stat", "-e", events, "-p", str(pid), "--", "sleep", str(COUNTING)],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    found = re.findall(r"([\d,]+)\s+syscalls:sys_enter_(\w+)", said)
    return Counter({name: int(number.replace(",", "")) for number, name in found})


def sample(pid: int, directory: Path) -> Counter[tuple[str, str]]:
    """Sample one process: (where, function) -> samples."""
    data = str(directory / "perf.data")
    subprocess.run(
        ["perf", "record", "-e", "cpu-clock", "-c", str(PERIOD), "-a", "-o", data, "--",
         "sleep", str(SAMPLING)],
        capture_output=True, check=True,
    )  # fmt: skip
    lines = subprocess.run(
        ["perf", "script", "-i", data, "-F", "pid,ip,sym,dso"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        match = re.match(r"\s*(\d+)\s+[0-9a-f]+\s+(\S+)(?:\+\S+)?\s+\((.*)\)", line)
        if match and int(match[1]) == pid:
            where = "kernel" if "kernel" in match[3] else Path(match[3]).name
            found[where, match[2]] += 1
    return found


def look(one: Contestant, case: str) -> list[str]:
    """Start one server, load it, look at it; gives lines for the report."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-")))
        port = free_port()
        log = directory / "server.log"
        process = start(stack, one.argv(APPLICATION, port), log, one.environ)
        wait_for(port, process, log)
        front = start_nginx(
            stack, directory, [nginx_place(one.protocol, "it", port, kept=one.kept)]
        )
        worker = tree(process.pid)[-1]
        seconds = WARM + COUNTING + SAMPLING + 3
        with subprocess.Popen(
            ["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://127.0.0.1:{front}/it/{case}"],
            stdout=subprocess.PIPE, text=True,
        ) as load:  # fmt: skip
            time.sleep(WARM)
            calls = count_calls(worker)
            functions = sample(worker, directory)
            output = load.communicate(timeout=seconds + 30)[0]
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not rate or "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{one.name}, {case}: no right answers:\n{output}")
    each = {name: number / COUNTING / float(rate[1]) for name, number in calls.items()}
    total = sum(functions.values())
    parts: Counter[str] = Counter()
    for (where, _), number in functions.items():
        parts[where] += number
    lines = [f"{one.name}, {case}"]
    lines.append(
        "  system calls a request: "
        + ", ".join(f"{name} {number:.2f}" for name, number in each.items() if number >= 0.005)
    )
    lines.append(
        "  CPU in "
        + ", ".join(f"{where} {number / total:.0%}" for where, number in parts.most_common(4))
    )
    for (where, name), number in functions.most_common(MOST_FUNCTIONS):
        lines.append(f"    {number / total:6.1%}  {name} ({where})")
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="hello,chunks", metavar="NAME,NAME")
    parser.add_argument("--protocols", default="fastcgi,scgi,uwsgi", metavar="NAME,NAME")
    parser.add_argument("--publish", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    missing = [name for name in ("nginx", "wrk", "perf") if not find(name)]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    field = {one.name: one for one in contestants()}
    report: list[str] = []
    for case in options.cases.split(","):
        for protocol in options.protocols.split(","):
            for name in (f"portico_{protocol}", f"uwsgi_{protocol}"):
                lines = look(field[name], case)
                print("\n".join(lines), flush=True)
                report += lines
    if options.publish:
        RESULTS.write_text("\n".join(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
