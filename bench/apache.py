"""Apache as the web server: AJP by mod_proxy_ajp, and mod_wsgi in a daemon process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from machinery import NotStarted, find, free_port, start, tree, wait_for

if TYPE_CHECKING:
    from contextlib import ExitStack

MODULES = Path("/usr/lib/apache2/modules")

#: Threads of a process of Apache, which has one.
_THREADS = 128

_CONFIG = """\
ServerRoot "{d}"
ServerName localhost
Listen 127.0.0.1:{port}
ListenBacklog 4096
PidFile "{d}/apache.pid"
ErrorLog "{d}/apache-error.log"
DefaultRuntimeDir "{d}"
{loads}
{account}
StartServers 1
ServerLimit 1
ThreadLimit {threads}
ThreadsPerChild {threads}
MaxRequestWorkers {threads}
MinSpareThreads 1
MaxSpareThreads {threads}
AsyncRequestWorkerFactor 20
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
ProxyTimeout 30
# else Apache takes away the length that the backend gives, and sends every answer in chunks
SetEnv ap_trust_cgilike_cl yes
{places}
"""

#: The daemon's name in a process list; no longer than Apache's own, which it overwrites.
_DAEMON = "bench-wsgi"

_WSGI = """\
WSGISocketPrefix "{d}/wsgi"
WSGIDaemonProcess bench processes=1 threads={threads} display-name={name} python-path={path}
WSGIProcessGroup bench
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias /mod_wsgi "{site}"
"""


def ajp_place(name: str, port: int, *, kept: bool) -> str:
    """Give the configuration that passes ``/name/`` on over AJP, on connections kept or not."""
    url = f"ajp://127.0.0.1:{port}/{name}/"
    more = "" if kept else " disablereuse=On"
    return f"ProxyPass /{name}/ {url} retry=0 timeout=30 connectiontimeout=20{more}\n"


def _others_may_read(path: Path) -> bool:
    """Tell whether an account that Apache changes to reaches *path*."""
    if os.geteuid() != 0:
        return True  # then it changes to none
    rights = [one.stat().st_mode & stat.S_IXOTH for one in path.resolve().parents]
    return all(rights) and bool(path.stat().st_mode & stat.S_IROTH)


def mod_wsgi(site: Path) -> tuple[Path, Path, str]:
    """Find the module, where its Python packages are, and its version.

    The one of the benchmark's environment, with the same Python as everybody; where Apache's
    account may not read that, the system's, with the system's Python.

    Raises:
        NotStarted: there is none that can run here.
    """
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    if not _others_may_read(site):
        raise NotStarted(f"Apache's account may not read {site.name}")
    built = sorted(packages.glob("mod_wsgi/server/mod_wsgi-*.so"))
    if built and _others_may_read(built[0]) and _others_may_read(Path(sys.base_prefix) / "bin"):
        from importlib import metadata  # noqa: PLC0415 - where there is one

        return built[0], packages, metadata.version("mod_wsgi")
    module = MODULES / "mod_wsgi.so"
    if not module.exists():
        raise NotStarted(
            "it is built, but Apache's account may not read this Python" if built
            else "it is not installed"
        )  # fmt: skip
    query = ["dpkg-query", "-W", "-f", "${Version}", "libapache2-mod-wsgi-py3"]
    version = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20).stdout
    python = subprocess.run(
        ["/usr/bin/python3", "-V"], capture_output=True, text=True, check=False, timeout=20
    ).stdout.strip()
    return module, packages, f"{version}, with {python}"


def wsgi_place(directory: Path, site: Path, packages: Path, threads: int) -> str:
    """Give the configuration that runs *site* in mod_wsgi's daemon below ``/mod_wsgi``."""
    return _WSGI.format(
        d=directory, threads=threads, name=_DAEMON, path=packages, site=site
    )  # fmt: skip


def start_apache(
    stack: ExitStack, directory: Path, places: list[str], wsgi: Path | None
) -> tuple[int, int]:
    """Start Apache with the event MPM for *places*.

    Returns:
        Its port and the process id of mod_wsgi's daemon; 0 without *wsgi*, its module.

    Raises:
        NotStarted: it is not installed, or refuses.
    """
    program = find("apache2") or find("httpd")
    if not program:
        raise NotStarted("Apache is not installed")
    port = free_port()
    names = ["mpm_event", "env", "proxy", "proxy_ajp", "authz_core"]
    loads = [f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in names]
    loads += [f"LoadModule wsgi_module {wsgi}"] if wsgi else []
    config = directory / "apache.conf"
    config.write_text(
        _CONFIG.format(
            d=directory,
            port=port,
            loads="\n".join(loads),
            account="User www-data\nGroup www-data" if os.geteuid() == 0 else "",
            threads=_THREADS,
            places="\n".join(places),
        )
    )
    directory.chmod(0o755)
    log = directory / "apache.log"
    argv = [program, "-d", str(directory), "-f", str(config), "-DFOREGROUND"]
    process = start(stack, argv, log, {"BENCH_SERVER": "mod_wsgi"})
    try:
        wait_for(port, process, log)
    except NotStarted as exc:
        errors = directory / "apache-error.log"
        raise NotStarted(f"{exc}\n{errors.read_text() if errors.exists() else ''}") from None
    return port, _daemon(process.pid) if wsgi else 0


def _daemon(apache: int) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid in tree(apache):
            if _DAEMON.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        time.sleep(0.05)
    raise NotStarted("mod_wsgi's daemon process did not start")
