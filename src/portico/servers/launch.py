"""Starts a web server from a private temporary directory, and ends it without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from portico.errors import ConfigError, TransportError
from portico.servers import account as accounts
from portico.servers import apache, catalog

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from portico.servers.site import Site

#: Where the web servers live that a user's PATH leaves out.
SYSTEM_DIRECTORIES = (
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
)

#: Where distributions keep Apache's modules: Debian, Red Hat, Arch and SUSE, FreeBSD, macOS.
APACHE_MODULES = (
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/lib/httpd/modules",
    "/usr/lib64/apache2",
    "/usr/local/libexec/apache24",
    "/usr/libexec/apache2",
    "/opt/homebrew/lib/httpd/modules",
)

_START_SECONDS = 10.0
_CHECK_SECONDS = 20.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.01
_REAP_SECONDS = 0.5
_LOG_LINES = 20

#: Octets of a log that are shown at once.
_NEWS_BYTES = 65_536

#: No web server passes this on to an application; each answers it with 400 itself.
_KNOCK = b"?\r\n\r\n"


@dataclass(frozen=True, slots=True)
class _Program:
    """How a product is run.

    Attributes:
        binaries: Names it is installed under.
        file: Name of its configuration file.
        arguments: What every run needs; ``{}`` stands for the directory.
        check: Further arguments that check the syntax.
        start: Further arguments that start it in the foreground.
        graceful: The signal to finish what is running and end.
        privileged: Whether it serves requests as root when root starts it.
    """

    binaries: tuple[str, ...]
    file: str
    arguments: tuple[str, ...]
    check: tuple[str, ...]
    start: tuple[str, ...]
    graceful: signal.Signals
    privileged: bool = True


_PROGRAMS = {
    "nginx": _Program(
        ("nginx",),
        "nginx.conf",
        ("-p", "{}", "-e", "{}/error.log", "-c", "{}/nginx.conf"),
        ("-t", "-q"),
        (),
        signal.SIGQUIT,
    ),
    "apache": _Program(
        ("apache2", "httpd"),
        "httpd.conf",
        ("-d", "{}", "-f", "{}/httpd.conf"),
        ("-t",),
        ("-DFOREGROUND",),
        signal.SIGWINCH,
        privileged=False,
    ),
    "lighttpd": _Program(
        ("lighttpd",),
        "lighttpd.conf",
        ("-f", "{}/lighttpd.conf"),
        ("-tt",),
        ("-D",),
        signal.SIGINT,
    ),
}


class RunningServer:
    """A web server that runs.

    It is a context manager; leaving it stops the server.

    Attributes:
        product: Its name in the catalog.
        url: Where it serves the application.
        site: What it was started for, with the port that it listens on.
        directory: Its private directory; gone after `stop()`.
    """

    def __init__(
        self, product: str, site: Site, directory: Path, process: subprocess.Popen[bytes]
    ) -> None:
        self.product = product
        self.site = site
        self.url = site.url
        self.directory = directory
        self._process = process
        self._told = {path: path.stat().st_size for path in _logs(directory)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the server's parent process; also its group and its session."""
        return self._process.pid

    def poll(self) -> int | None:
        """Give the exit status if the server has ended by itself."""
        return self._process.poll()

    def log(self) -> str:
        """Give the last lines of what the server has said."""
        return _words_of(self.directory)

    def news(self) -> str:
        """Give what the server and its scripts have said since the last call, in whole lines.

        The first call tells what came after the server was ready.
        """
        pieces = []
        for path in _logs(self.directory):
            with path.open("rb") as file:
                file.seek(self._told.get(path, 0))
                data = file.read(_NEWS_BYTES)
            data = data[: data.rfind(b"\n") + 1] if len(data) < _NEWS_BYTES else data
            self._told[path] = self._told.get(path, 0) + len(data)
            pieces.append(data.decode("utf-8", "replace"))
        return "".join(pieces)

    def stop(self, grace_seconds: float = _STOP_SECONDS) -> None:
        """End the server, by force after *grace_seconds*, and remove its directory.

        Stopping twice is harmless.
        """
        _end(self._process, _PROGRAMS[self.product].graceful, grace_seconds)
        shutil.rmtree(self.directory, ignore_errors=True)


def launch(product: str, site: Site, directory: str | None = None) -> RunningServer:
    """Start a web server for *site* and wait until it answers.

    Args:
        product: Name in the catalog.
        site: What to serve; with listen port 0, a free one is chosen.
        directory: Where its private directory is made; the system's place by default.

    Raises:
        ConfigError: it is not installed, lacks a module, or refuses the configuration.
        TransportError: the port is taken, or it did not come up. In both, the first line is a
            sentence and the server's own words follow.
    """
    entry = catalog.find_product(product)
    if not site.listen_host:
        site = replace(site, listen_host="127.0.0.1")  # a first look is for this machine alone
    site = _claim_port(catalog.check_site(entry, site))
    private = Path(tempfile.mkdtemp(prefix="portico-", dir=directory))
    process = None
    try:
        command = prepare(entry.name, site, private)
        process = _start(command, private)
        _await_answer(entry, site, private, process)
    except BaseException:
        if process is not None:
            _end(process, signal.SIGTERM, 1.0)
        shutil.rmtree(private, ignore_errors=True)
        raise
    return RunningServer(entry.name, site, private, process)


def prepare(product: str, site: Site, directory: Path) -> list[str]:
    """Write the configuration into *directory* and have the server itself check it.

    Returns:
        The command that starts the server in the foreground.

    Raises:
        ConfigError: as `launch`.
    """
    entry, program = catalog.find_product(product), _PROGRAMS[product]
    binary = find_binary(product)
    site = replace(site, socket_directory=str(directory))
    account = None if program.privileged else accounts.unprivileged()
    user = "root" if program.privileged and accounts.is_root() and product == "nginx" else ""
    if account is not None:
        user = f"{account.user} {account.group}"
        directory.chmod(0o711)  # the account passes through, and finds what is named to it
        accounts.admit(account, entry.title, site)
    if product == "apache":
        _link_apache_modules(binary, site, directory)
    for name in ("empty", "spool"):
        (directory / name).mkdir(mode=0o755)
    files = catalog.renderer(entry).render_standalone(site, str(directory), user=user)
    for name, text in files.items():
        _write_private(directory / name, text)
    base = [binary, *(word.format(directory) for word in program.arguments)]
    _check(entry.title, [*base, *program.check], directory)
    return [*base, *program.start]


def find_binary(product: str) -> str:
    """Find a product's program, also where a user's PATH does not look.

    Raises:
        ConfigError: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_DIRECTORIES])
    names = _PROGRAMS[product].binaries
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    title = catalog.find_product(product).title
    raise ConfigError(
        f"{title} is not installed: there is no {' or '.join(names)} on the PATH or in"
        f" {', '.join(SYSTEM_DIRECTORIES[:3])}",
        key="server",
    )


def is_installed(product: str) -> bool:
    """Tell whether `launch` would find the product's program."""
    try:
        find_binary(product)
    except ConfigError:
        return False
    return True


def _claim_port(site: Site) -> Site:
    """Check that the port is free, or find one."""
    family = socket.AF_INET6 if ":" in site.listen_host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((site.listen_host, site.listen_port))
            probe.listen(1)
            port = int(probe.getsockname()[1])
        except OSError as error:
            raise TransportError(f"cannot listen on {site.listen}: {error.strerror}") from error
    return replace(site, listen_port=port)


def _link_apache_modules(binary: str, site: Site, directory: Path) -> None:
    needed = [*apache.COMMON_MODULES, *apache.modules(site)]
    compiled = _run([binary, "-l"])[1]
    missing = [name for name in needed if f"mod_{name}.c" not in compiled]
    found = [path for path in _apache_modules(binary) if (path / "mod_authz_core.so").is_file()]
    if not found:
        if missing:
            raise ConfigError(
                f"Apache's modules are not to be found in {', '.join(APACHE_MODULES)}",
                key="server",
            )
        return
    for name in missing:
        if not (found[0] / f"mod_{name}.so").is_file():
            raise ConfigError(
                f"Apache's mod_{name} is not installed: there is no {found[0]}/mod_{name}.so",
                key="via",
            )
    (directory / "modules").symlink_to(found[0])


def _apache_modules(binary: str) -> list[Path]:
    paths = [Path(path) for path in APACHE_MODULES]
    for line in _run([binary, "-V"])[1].splitlines():
        name, _, value = line.strip().removeprefix("-D ").partition("=")
        if name == "HTTPD_ROOT":
            paths.insert(0, Path(value.strip('"')) / "modules")
    return paths


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, from the first instant: it may hold a secret."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def _check(title: str, command: list[str], directory: Path) -> None:
    status, said = _run(command)
    if status:
        words = said.strip() or _words_of(directory)
        raise ConfigError(f"{title} refuses the configuration that Portico wrote:\n{words}")


def _run(command: list[str]) -> tuple[int, str]:
    """Run a program that ends by itself; gives its status and all that it said."""
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransportError(f"cannot run {command[0]}: {error}") from error
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _start(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own: a Ctrl-C at the terminal is ours to handle."""
    with (directory / "output.log").open("wb") as output:
        try:
            return subprocess.Popen(  # noqa: S603 - our own words, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise TransportError(f"cannot run {command[0]}: {error.strerror}") from error


def _await_answer(
    product: catalog.Product, site: Site, directory: Path, process: subprocess.Popen[bytes]
) -> None:
    starts_by_daemon = product.routes[site.via].module == "mod_cgid"
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            reason = f"ended with status {process.returncode} before it answered"
            break
        ready = not starts_by_daemon or _has_cgi_daemon(directory)
        if ready and _answers(site.listen_host, site.listen_port):
            return
        time.sleep(_POLL_SECONDS)
    else:
        reason = f"did not answer on {site.listen} within {_START_SECONDS:.0f} s"
    said = [f"{product.title} {reason}", _words_of(directory)]
    raise TransportError("\n".join(filter(None, said)))


def _has_cgi_daemon(directory: Path) -> bool:
    """Whether mod_cgid's daemon is there, which comes up beside Apache; before it, 503."""
    return any(path.is_socket() for path in directory.glob("cgid*"))


def _answers(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0) as connection:
        connection.sendall(_KNOCK)
        return bool(connection.recv(1))
    return False


def _words_of(directory: Path) -> str:
    """The last lines of the server's logs."""
    lines: list[str] = []
    for path in _logs(directory):
        with suppress(OSError):
            lines += path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LOG_LINES:])


def _logs(directory: Path) -> list[Path]:
    """The files that the server writes its words to, as far as they exist."""
    paths = [directory / name for name in ("output.log", "error.log")]
    return [path for path in paths if path.is_file()]


def _end(process: subprocess.Popen[bytes], graceful: signal.Signals, seconds: float) -> None:
    """End a server and all that it started: a signal, a plainer one, then force."""
    for number, patience in ((graceful, seconds), (signal.SIGTERM, 2.0)):
        if process.poll() is None:
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    # children that outlive their parent are still in its group
    deadline = time.monotonic() + _REAP_SECONDS
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:  # until none is left, or what is left awaits init
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
    process.wait()
