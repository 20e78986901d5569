"""Real web servers before the applications of the conformance list, one route each.

A route that connects has one `portico serve` process behind it; on a route that starts a script,
the web server does that itself.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.route import DEADLINE, Route
from portico.servers import catalog
from portico.servers.account import unprivileged
from portico.servers.launch import launch
from portico.servers.script import write_script
from portico.servers.site import Site
from portico.transports.bind import parse
from warm_harness import end_residents

if TYPE_CHECKING:
    from portico.servers.launch import RunningServer

APPLICATIONS = Path(__file__).with_name("applications.py")

THREADS = 16


class Application:
    """A `portico serve` process.

    Attributes:
        url: Where it listens, its AJP secret included.
    """

    def __init__(self, protocol: str, directory: Path, mount: str, *, unix: bool) -> None:
        self.errors = directory / "serve.log"
        bind = f"{protocol}://127.0.0.1:0"
        if unix:
            bind = f"{protocol}+unix://{directory / 'app.sock'}?mode=600"
        elif protocol == "ajp":
            bind += "?secret=conformance"
        command = [sys.executable, "-m", "portico", "serve", str(APPLICATIONS), "--bind", bind]
        command += ["--threads", str(THREADS), "--log-level", "info"]
        command += ["--mount", mount] if mount else []
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
        try:
            self.url = self._await_address(bind)
        except BaseException:
            self.stop()
            raise

    def _await_address(self, bind: str) -> str:
        """Wait for the line that says where it listens."""
        deadline = time.monotonic() + DEADLINE
        while True:
            text = self.errors.read_text("utf-8")
            _, found, rest = text.partition(" on ")
            if found and "\n" in rest:
                break
            assert self.process.poll() is None, text
            assert time.monotonic() < deadline, "it never said that it serves"
            time.sleep(0.01)
        where, _, options = bind.partition("?")
        if where.endswith(":0"):
            where = rest.split()[0].partition("?")[0]  # with the port that it found
        return f"{where}?{options}" if options else where

    def most_memory(self) -> int:
        """Octets of the largest resident set that the process, or a child, ever had."""
        found = []
        pids = [self.process.pid]
        for pid in pids:
            for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
                name, _, value = line.partition(":")
                if name == "VmHWM":
                    found.append(int(value.split()[0]) * 1024)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
            pids += map(int, children.split())
        return max(found)

    def stop(self) -> None:
        """End it, by force after the deadline."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Running:
    """A web server before the applications.

    Attributes:
        route: For the cases.
        application: The process behind it; None where the web server starts a script.
    """

    def __init__(
        self,
        product: str,
        via: str,
        mount: str,
        lacks: dict[str, str],
        *,
        streaming: bool = False,
        warm: bool = False,
    ) -> None:
        # a name that Portico gives, so that it may let the web server's account pass
        self.directory = Path(tempfile.mkdtemp(prefix="portico-"))
        self.directory.chmod(0o755)
        self.application: Application | None = None
        self.front: RunningServer | None = None
        self.warm = self.directory / "warm" if warm else None
        try:
            self.front = self._start(product, via, mount, streaming=streaming)
        except BaseException:
            self.stop()
            raise
        port = self.front.site.listen_port
        self.route = Route("127.0.0.1", port, self.directory, mount, lacks)

    def _start(self, product: str, via: str, mount: str, *, streaming: bool) -> RunningServer:
        given = catalog.PRODUCTS[product].routes[via]
        if given.starts_script:
            copy = self.directory / APPLICATIONS.name
            shutil.copy(APPLICATIONS, copy)
            copy.chmod(0o644)
            script = write_script(
                self.directory,
                str(copy),
                drops_privileges=product == "apache",
                options={"threads": THREADS, **self._warmth(product)},
            )
            site = Site(
                via=via, script=str(script), mount=mount, streaming=streaming, listen_port=0
            )
        else:
            # AJP knows no SCRIPT_NAME; every other route tells, or Portico finds out
            told = mount if via == "ajp" else ""
            unix = not streaming and via != "ajp"
            self.application = Application(given.protocol, self.directory, told, unix=unix)
            bind = parse(self.application.url)
            site = Site(via=via, bind=bind, mount=mount, streaming=streaming, listen_port=0)
        return launch(product, site)

    def _warmth(self, product: str) -> dict[str, str]:
        """Make the private directory of a resident server; gives the script's option for it."""
        if self.warm is None:
            return {}
        self.warm.mkdir(0o700)
        account = unprivileged() if product == "apache" else None
        if account is not None:
            shutil.chown(self.warm, account.user)
        return {"warm": str(self.warm)}

    def said(self) -> str:
        """What the application's process and the web server have logged."""
        own = self.application.errors.read_text("utf-8") if self.application else ""
        return own + (self.front.log() if self.front else "")

    def stop(self) -> None:
        """End both, and leave nothing behind."""
        with ExitStack() as last:
            last.callback(shutil.rmtree, self.directory)
            if self.application:
                last.callback(self.application.stop)
            if self.warm:
                last.callback(end_residents, self.warm)
            if self.front:
                last.callback(self.front.stop)
