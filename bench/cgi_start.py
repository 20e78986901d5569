"""What a CGI request costs beyond a bare interpreter that prints the same bytes.

Runs each script in turn, many times, and gives the median of wall and CPU milliseconds and the
difference to the bare interpreter, pair by pair: in a virtual environment of its own that has
Portico alone, since each further package makes the search for modules longer. Then the same for a
Django site under Apache's mod_cgid: plain CGI, warm CGI, and a bare interpreter that prints the
same page.

  python bench/cgi_start.py [--runs 60] [--scripts] [--publish]

`--publish` writes the tables to bench/results/cgi_start.txt as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import cgi_site
import portico
from portico.errors import PorticoError

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    "named": 'import portico\nportico.run("site_application")\n',
    "warm": 'import portico\nportico.run("site_application", warm="{warm}")\n',
    "wsgiref": _APPLICATION
    + "from wsgiref.handlers import CGIHandler\nCGIHandler().run(application)\n",
}

RESULTS = Path(__file__).parent / "results" / "cgi_start.txt"

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


def run_once(command: list[str]) -> tuple[float, float, bytes]:
    """Wall milliseconds, CPU milliseconds, output."""
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        output = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000, output


def write_scripts(directory: Path, names: Iterable[str] = SCRIPTS) -> dict[str, list[str]]:
    """Write all scripts; each has answered once, so that a resident server runs.

    Returns:
        The command of each.

    Raises:
        RuntimeError: one answers wrongly.
    """
    interpreter = _make_environment(directory / "venv")
    (directory / "site_application.py").write_text(_APPLICATION)
    commands = {}
    for name in names:
        script = directory / f"with_{name}.py"
        script.write_text(SCRIPTS[name].replace("{warm}", str(directory / "warm")))
        commands[name] = [interpreter, str(script)]
        if not run_once(commands[name])[2].endswith(b"\r\n\r\nhello\n"):
            raise RuntimeError(f"{name} answered wrongly; no figures")
    return commands


def _make_environment(directory: Path) -> str:
    """Make a virtual environment that has Portico as an installation leaves it."""
    venv.create(directory, symlinks=True)
    interpreter = directory / "bin" / "python"
    asked = [str(interpreter), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    package = Path(done.stdout.strip(), "portico")
    shutil.copytree(Path(portico.__file__).parent, package)
    # as an installer does
    compiling = [str(interpreter), "-m", "compileall", "-q", str(package)]
    subprocess.run(compiling, check=True)
    return str(interpreter)


def _compare(runs: int) -> list[str]:
    """Measure the scripts; gives the table."""
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in SCRIPTS}
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as name:
        commands = write_scripts(Path(name))
        try:
            for _ in range(runs):
                for one, command in commands.items():
                    wall, cpu, _ = run_once(command)
                    rows[one].append((wall, cpu))
        finally:
            cgi_site.end_residents(Path(name, "warm"))
    lines = [
        f"{sys.implementation.name} {sys.version.split()[0]}, {runs} runs each, medians in ms",
        f"{'script':10}{'wall':>8}{'CPU':>8}{'wall over bare':>16}{'CPU over bare':>15}",
    ]
    for one, figures in rows.items():
        wall = statistics.median(row[0] for row in figures)
        cpu = statistics.median(row[1] for row in figures)
        over = [
            statistics.median(
                row[at] - bare[at] for row, bare in zip(figures, rows["bare"], strict=True)
            )
            for at in (0, 1)
        ]
        lines.append(f"{one:10}{wall:8.2f}{cpu:8.2f}{over[0]:+16.2f}{over[1]:+15.2f}")
    return lines


def _compare_sites(runs: int) -> list[str]:
    """Measure the Django site; gives the table."""
    with cgi_site.asking() as askers:
        rows = [{name: ask() for name, ask in askers.items()} for _ in range(runs)]
    lines = [
        "",
        f"{cgi_site.versions()}, Apache's mod_cgid, {runs} requests each, medians in ms",
        f"{'CGI':10}{'wall':>8}{'wall over bare':>24}",
    ]
    for name in ("bare", "warm", "plain"):
        wall = statistics.median(row[name] for row in rows)
        over = statistics.median(row[name] - row["bare"] for row in rows)
        lines.append(f"{name:10}{wall:8.2f}{over:+24.2f}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--scripts", action="store_true", help="without the Django site")
    parser.add_argument("--publish", action="store_true", help="write the results file")
    arguments = parser.parse_args()
    try:
        lines = _compare(arguments.runs)
        if not arguments.scripts:
            lines += _compare_sites(arguments.runs)
        print("\n".join(lines))
        if arguments.publish:
            RESULTS.write_text("\n".join(lines) + "\n")
    except (RuntimeError, PorticoError) as error:
        print(f"cgi_start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
