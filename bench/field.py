"""The servers under test of one site, and the web servers before them, while they run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import apache
import peers
import tomcat
from machinery import (
    NotStarted,
    free_port,
    nginx_place,
    start,
    start_nginx,
    wait_for,
)

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from contestants import Contestant


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


class Field:
    """The servers of one site; they run until *stack* ends.

    Attributes:
        running: Those that came up.
        roots: Their names, and the root of the process tree that each is measured by.
        gateways: The ports that those with a port of their own listen on.
        not_run: Those that did not come up, with the reason.
        versions: Of those that are no package of this Python.
        directory: Where all of them have their files.
    """

    def __init__(
        self, stack: ExitStack, field: list[Contestant], site: Path, directory: Path
    ) -> None:
        self.running: list[Contestant] = []
        self.roots: dict[str, int] = {}
        self.gateways: dict[str, int] = {}
        self.not_run: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.directory = directory
        self._stack = stack
        self._site = site
        self._nginx: list[tuple[str, str]] = []
        self._apache: list[str] = []
        self._wsgi: Path | None = None
        for one in field:
            try:
                self._start(one)
            except (NotStarted, OSError) as exc:
                self.not_run[one.name] = str(exc)
                say(f"{one.name} does not run: {exc}")
            else:
                self.running.append(one)
        self._nginx_port = start_nginx(stack, directory, self._nginx) if self._nginx else 0
        self._apache_port = self._start_apache() if self._apache else 0

    def front(self, one: Contestant) -> int:
        """Give the port of the web server before *one*."""
        return self._apache_port if one.apache else self._nginx_port

    def _start(self, one: Contestant) -> None:
        pin = peers.pins().get(one.package)
        if pin and one.protocol != "wsgi" and not peers.is_installed(one.package, pin):
            why = peers.missing().get(one.package, "python bench/peers.py installs it")
            raise NotStarted(f"{one.package} {pin} is not installed: {why}")
        if one.protocol == "wsgi":
            module, packages, version = apache.mod_wsgi(self._site)
            self._wsgi = module
            self._apache.append(
                apache.wsgi_place(self.directory, self._site, packages, one.threads)
            )
            self.versions[one.package] = version
            return
        port = free_port()
        log = self.directory / f"{one.name}.log"
        argv = one.argv(self._site, port)
        if not argv:
            argv = tomcat.prepare(self.directory / one.name, port, one.threads)
            self.versions[one.package] = tomcat.version()
        process = start(self._stack, argv, log, {"BENCH_SERVER": one.name, **one.environ})
        wait_for(port, process, log)
        self.roots[one.name] = process.pid
        self.gateways[one.name] = port
        if one.apache:
            self._apache.append(apache.ajp_place(one.name, port, kept=one.kept))
        else:
            self._nginx.append(nginx_place(one.protocol, one.name, port, kept=one.kept))

    def _start_apache(self) -> int:
        """Start Apache; without mod_wsgi if it does not run with it, and without it if it must be.

        Returns:
            Its port; 0 where it does not run.
        """
        for wsgi in [self._wsgi, None] if self._wsgi else [None]:
            places = [place for place in self._apache if wsgi or "WSGI" not in place]
            try:
                port, daemon = apache.start_apache(self._stack, self.directory, places, wsgi)
            except NotStarted as exc:
                self._leave_out("wsgi" if wsgi else "ajp", f"Apache did not start: {exc}")
                continue
            for one in self.running:
                if one.protocol == "wsgi":
                    self.roots[one.name] = daemon
            return port
        return 0

    def _leave_out(self, protocol: str, reason: str) -> None:
        for one in [one for one in self.running if one.protocol == protocol and one.apache]:
            self.running.remove(one)
            self.roots.pop(one.name, None)
            self.not_run[one.name] = reason
            say(f"{one.name} does not run: {reason}")
