"""What benchmarks need of the machine: free ports, processes, their time and memory, nginx.

CPU time comes from each process's own clock (clock_getcpuclockid(3), read with clock_gettime). It
counts nanoseconds and keeps what ended threads have used. /proc/PID/stat counts the same in ticks
of 10 ms, too coarse for turns of two seconds; /proc/PID/schedstat is nanoseconds, of one thread
alone, and an ended thread takes its figures along. What children have used that ended within a turn
is in their parent's stat, in ticks.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

TICKS = os.sysconf("SC_CLK_TCK")

#: Where distributions keep servers that a user's PATH does not lead to.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])

START_SECONDS = 30.0
STOP_SECONDS = 5.0

#: Large answers and uploads stay in memory, whatever the protocol: 80 buffers of 16 KiB hold 1 MiB
#: and no temporary file is ever written.
_BUFFERS = "".join(
    f"{word}_buffer_size 16k; {word}_buffers 80 16k; {word}_busy_buffers_size 64k;"
    f" {word}_max_temp_file_size 0; {word}_request_buffering on; {word}_read_timeout 30s;\n  "
    for word in ("fastcgi", "scgi", "uwsgi", "proxy")
)

_NGINX = """\
daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/nginx-error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 10000000; keepalive_timeout 600s;
  client_max_body_size 0; client_body_buffer_size 2m;
  client_body_temp_path {d}/b; fastcgi_temp_path {d}/f; scgi_temp_path {d}/s;
  uwsgi_temp_path {d}/u; proxy_temp_path {d}/p;
  {buffers}{more}
  server {{ listen 127.0.0.1:{port} backlog=4096; {locations} }}
}}
"""


class NotStarted(Exception):  # noqa: N818 - says what happened
    """A server did not come up; the text has its own words."""


def find(program: str) -> str | None:
    """Give the path of a program, also where a user's PATH does not lead."""
    return shutil.which(program, path=PATH)


def free_port() -> int:
    """Give a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(
    stack: ExitStack,
    argv: Sequence[str],
    log: Path,
    environ: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; *stack* ends it, by force after five seconds."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # what is left of its session
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)

    stack.callback(stop)
    return process


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until somebody listens on *port*.

    Raises:
        NotStarted: the process ended, or nobody listens after half a minute.
    """
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as sock:
            if not sock.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)
    words = log.read_text(errors="replace").strip().splitlines()[-15:]
    raise NotStarted("\n".join(words) or f"{process.args!r} said nothing")


def tree(root: int) -> list[int]:
    """Give the process ids of *root* and its living descendants."""
    found = []
    queue = [root]
    while queue:
        pid = queue.pop()
        with suppress(OSError):  # one that has just ended
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            found.append(pid)
            for task in tasks:
                with suppress(OSError):
                    queue += map(int, (task / "children").read_text().split())
    return found


def cpu_seconds(root: int) -> float:
    """Give the user and system time of *root*, its living descendants and the ended ones."""
    total = 0.0
    for pid in tree(root):
        with suppress(OSError):
            # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel's posix-timers.h
            clock = time.clock_gettime(~pid << 3 | 2)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += clock + (int(fields[13]) + int(fields[14])) / TICKS  # cutime, cstime
    return total


def memory(root: int) -> tuple[float, float]:
    """Give the proportional and the private memory of *root* and its descendants, in MiB.

    Proportional: what it shares with others is divided among all who map it.
    """
    shared = private = 0
    for pid in tree(root):
        with suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE))
            shared += int(sizes["Pss"])
            private += int(sizes["Private_Clean"]) + int(sizes["Private_Dirty"])
    return shared / 1024, private / 1024


def pss(root: int) -> float:
    """Give the proportional memory of *root* and its living descendants, in MiB."""
    return memory(root)[0]


def nginx_place(protocol: str, name: str, port: int, *, kept: bool) -> tuple[str, str]:
    """Give nginx's upstream and location for one server below ``/name/``, as configuration.

    Args:
        protocol: fastcgi, scgi, uwsgi or http: nginx's words.
        name: The location; a plain word.
        port: Where the server listens, on 127.0.0.1.
        kept: Whether nginx keeps up to 64 connections to it.
    """
    word = "proxy" if protocol == "http" else protocol
    passing = f"{word}_pass {'http://' if word == 'proxy' else ''}up_{name};"
    if word == "proxy":
        # the Host that nginx would make up has the upstream's name; Django refuses its underscore
        passing += " proxy_http_version 1.1; proxy_set_header Connection '';"
        passing += " proxy_set_header Host $http_host;"
    else:
        passing += f" include /etc/nginx/{word}_params;"
    if word in {"fastcgi", "scgi"}:
        passing += f" {word}_param PATH_INFO $document_uri; {word}_param SCRIPT_NAME '';"
    if word == "fastcgi" and kept:
        passing += " fastcgi_keep_conn on;"
    keep = "keepalive 64; keepalive_requests 10000000;" if kept else ""
    upstream = f"upstream up_{name} {{ server 127.0.0.1:{port} max_fails=0; {keep} }}\n  "
    return upstream, f"location /{name}/ {{ {passing} }}\n    "


def nginx_config(directory: Path, port: int, places: Sequence[tuple[str, str]]) -> Path:
    """Write nginx's configuration for what `nginx_place` gave; one process, in the foreground."""
    path = directory / "nginx.conf"
    path.write_text(
        _NGINX.format(
            d=directory,
            port=port,
            buffers=_BUFFERS,
            more="".join(place[0] for place in places),
            locations="".join(place[1] for place in places),
        )
    )
    return path


def start_nginx(stack: ExitStack, directory: Path, places: Sequence[tuple[str, str]]) -> int:
    """Start nginx for *places* and give its port.

    Raises:
        NotStarted: it is not installed, or refuses.
    """
    program = find("nginx")
    if not program:
        raise NotStarted("nginx is not installed")
    port = free_port()
    config = nginx_config(directory, port, places)
    log = directory / "nginx.log"
    wait_for(port, start(stack, [program, "-e", str(log), "-c", str(config)], log), log)
    return port
