"""A whole ``portico serve`` with an application that does all that applications should not do."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

from cli_harness import WAIT, Command, eventually
from engine_harness import Frontend

#: What the paths do is told by the names of the functions. The files beside the application
#: say what it does at its import, and when a held request may go on.
APPLICATION = """\
import hashlib
import os
import re
import time
from pathlib import Path

HERE = Path(__file__).parent
VERSION = "first"

with (HERE / "imports").open("a") as imports:
    print(os.getpid(), file=imports)
if (HERE / "dies").exists():
    os._exit(3)
while (HERE / "hangs").exists():
    time.sleep(0.01)


def version(environ):
    return VERSION


def held(environ):
    (HERE / f"held.{os.getpid()}.{environ['QUERY_STRING']}").touch()
    while not (HERE / "go").exists():
        time.sleep(0.01)


def dying(environ):
    os._exit(3)


def sleeping(environ):
    time.sleep(3600)


def stubborn(environ):
    while True:
        try:
            time.sleep(0.01)  # for ever
        except BaseException:
            pass


def greedy(environ):
    (HERE / "greedy").touch()
    re.match("(a+)+$", "a" * 60 + "b")


def hashing(environ):
    (HERE / "hashing").touch()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # other threads run meanwhile


def growing(environ, kept=[]):
    kept.append(b"x" * (64 << 20))


def well(environ):
    what = (HERE / "health").read_text()
    if what == "raises":
        raise RuntimeError("the database is away")
    return what


def application(environ, start_response):
    function = globals()[environ["PATH_INFO"].strip("/") or "version"]
    text = function(environ) or ""
    status = "500 Not Well" if text == "unwell" else "200 OK"
    start_response(status, [("Content-Type", "text/plain"), ("X-Process", str(os.getpid()))])
    return [text.encode()]
"""


class Service(Command):
    """``portico serve`` of `APPLICATION` in a directory of the test's.

    Args:
        directory: Where the application and the sockets are.
        *options: What follows on the command line.
        protocol: What is spoken on ``app.sock`` there.
    """

    def __init__(self, directory, *options, protocol="scgi", **more):
        self.directory = directory
        self.app = directory / "site.py"
        if not self.app.exists():
            self.app.write_text(APPLICATION)
        self.socket = directory / "app.sock"
        self._status_socket = directory / "status.sock"
        self._protocol = protocol
        super().__init__(
            *("serve", self.app, "--bind", f"{protocol}+unix://{self.socket}"),
            *("--status-socket", self._status_socket, *options),
            **more,
        )

    def __enter__(self):
        try:
            self.await_text("serving", "err")
        except BaseException:
            self.__exit__()
            raise
        return super().__enter__()

    # -- requests --------------------------------------------------------------------------

    def connect(self, **options):
        return Frontend(self._protocol, str(self.socket), **options)

    def begin(self, path):
        """Send a request on a connection of its own; gives its `Frontend`."""
        frontend = self.connect(keep=False)
        frontend.begin(path)
        return frontend

    def ask(self, path="/"):
        with self.begin(path) as frontend:
            return frontend.finish()

    def hold(self, name="one"):
        """Begin a request that goes on until `let_go`; gives its `Frontend` and its process."""
        frontend = self.begin(f"/held?{name}")
        return frontend, self.holder(name)

    def holder(self, name):
        """Wait until the request called *name* runs; gives its process."""
        (found,) = eventually(
            lambda: list(self.directory.glob(f"held.*.{name}")), f"the request {name}"
        )
        return int(found.name.split(".")[1])

    def let_go(self):
        (self.directory / "go").touch()

    def await_death(self):
        """Wait for the parent's end alone: workers may have its standard error for longer."""
        self._process.wait(WAIT)

    # -- what can be seen ------------------------------------------------------------------

    def status(self):
        """What the status socket tells."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT)
            client.connect(str(self._status_socket))
            return json.loads(b"".join(iter(lambda: client.recv(65_536), b"")))

    def serving(self):
        """The processes of the workers that serve."""
        workers = self.status()["workers"]
        return sorted(one["pid"] for one in workers if one["state"] in {"idle", "busy"})

    def await_serving(self, count, but=()):
        """Wait until *count* workers serve and no others are left, nor any of *but*."""

        def found():
            pids = self.serving()
            well = len(pids) == count == len(self.status()["workers"])
            return pids if well and not set(pids) & set(but) else None

        return eventually(found, f"{count} serving workers")

    def count(self, pattern):
        """How often the log says *pattern*."""
        return len(re.findall(pattern, self.err))

    def imports(self):
        """The processes that have imported the application, in their order."""
        return [*map(int, (self.directory / "imports").read_text().split())]


def is_cut(frontend):
    """Wait for the end of the connection; whether nothing of a response has come before."""
    with frontend:
        try:
            return not frontend.sock.recv(65_536)
        except ConnectionResetError:
            return True


def processor_seconds(pid):
    """How long a process has kept processors busy."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
