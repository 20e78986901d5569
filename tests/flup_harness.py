"""Programs written for flup, run with Portico's stand-in or with flup itself."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from engine_harness import WAIT, Frontend, Process, until

OURS = "portico.compat.flup"
FLUP = "flup"

PROGRAM = Path(__file__).parent / "compat" / "programs.py"

THREADED = ("fcgi", "fcgi_single", "scgi", "ajp")
FORKING = ("fcgi_fork", "scgi_fork", "ajp_fork")
SERVERS = (*THREADED, *FORKING)


def protocol_of(server):
    return {"fcgi": "fastcgi"}.get(server.partition("_")[0], server.partition("_")[0])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(address):
    """Whether something listens on *address*, a path or host and port."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as probe:
        probe.settimeout(WAIT)
        return probe.connect_ex(address) == 0


class Flup(Process):
    """A server of `programs.py`; its directory is the working directory.

    Args:
        place: A directory, of a short name.
        server: flup's name of it, such as ``"fcgi_fork"``.
        application: One of `programs.py`.
        package: `OURS` or `FLUP`.
        inherited: A listening socket, for descriptor 0; then there is no bindAddress.
        prepared: Whether to wait until it accepts.
        **arguments: Those of flup's WSGIServer; a Unix socket where there is no bindAddress.
    """

    def __init__(
        self, place, server, application="report", *, package=OURS, inherited=None,
        prepared=True, env=None, **arguments,
    ):  # fmt: skip
        self.place = place
        self.protocol = protocol_of(server)
        options = {"cwd": place}
        if inherited is not None:
            options["stdin"] = inherited
            self.address = inherited.getsockname()
        else:
            # flup has no Unix sockets for AJP
            default = [*("127.0.0.1", free_port())] if package == FLUP else str(place / "sock")
            address = arguments.setdefault("bindAddress", default)
            self.address = tuple(address) if isinstance(address, (list, tuple)) else address
        super().__init__(
            place, PROGRAM, package, server, application, json.dumps(arguments), env=env, **options
        )
        if prepared:
            try:
                until(self._is_up, f"the {server} server")
            except BaseException:
                self.__exit__()
                raise

    def _is_up(self):
        assert self.process.poll() is None, self.stderr
        return accepts(self.address)

    def connect(self, **options):
        return Frontend(self.protocol, self.address, **{"keep": False, **options})

    def begin(self, path="/", body=b"", **more):
        """Send a request on a connection of its own; gives its `Frontend`."""
        frontend = self.connect()
        frontend.begin(path, body, **more)
        return frontend

    def ask(self, path="/", body=b"", **more):
        with self.begin(path, body, **more) as frontend:
            return frontend.finish()

    def environ(self, path="/", **more):
        """What the application `report` saw."""
        answer = self.ask(path, **more)
        assert answer.status == "200 OK", (answer.status, bytes(answer.body), self.stderr)
        return json.loads(bytes(answer.body))["environ"]

    def await_entered(self, name):
        """Wait until a request of the application `waiting` runs; gives its process."""
        path = self.place / f"entered.{name}"
        until(lambda: path.exists() and path.read_text(), f"the request {name}")
        return int(path.read_text())

    def let_go(self):
        (self.place / "go").touch()


#: What comes before a launcher whose import of flup is not changed.
_INSTALL = {OURS: "import portico.compat.flup as stand_in; stand_in.install()\n", FLUP: ""}

_RUN = (
    "import runpy, sys\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
)

LAUNCHERS = Path(__file__).parent / "compat" / "launchers"


def launching(package):
    """The program that runs a launcher, named by the first argument, with *package* for flup."""
    return f"{_INSTALL[package]}{_RUN}"


class Launcher(Process):
    """A launcher that imports flup, run with Portico's stand-in or with flup.

    Args:
        place: A directory, of a short name; the working directory.
        package: `OURS` or `FLUP`.
        *command: The launcher and its arguments.
        address: Where it listens: a path, or host and port.
        inherited: Whether that is a socket on its descriptor 0, as a process manager makes it.
        env: More environment variables.
    """

    def __init__(self, place, package, *command, address, inherited=False, env=None):
        self.address = address
        options = {}
        listener = None
        if inherited:
            listener = options["stdin"] = socket.create_server(address)
        try:
            super().__init__(
                place, "-c", launching(package), *command, env=env, cwd=place, **options
            )
        finally:
            if listener is not None:
                listener.close()
        try:
            until(self._is_up, f"the launcher {command[0]}")
        except BaseException:
            self.__exit__()
            raise

    def _is_up(self):
        assert self.process.poll() in {None, 0}, self.stderr  # a daemon's parent ends
        return accepts(self.address)
