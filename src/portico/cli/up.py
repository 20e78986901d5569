"""Run an application behind a web server, here and now: for a first look, and for trying out.

  portico up                                          the inspector behind the built-in front
  portico up site.py --server nginx --via scgi        site.py behind nginx, over SCGI

Everything runs unprivileged on a loopback port, from a temporary directory, with the very
configuration that `portico config` prints. Ctrl-C ends all of it.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from portico.config.resolve import from_keywords
from portico.engine.leader import Engine
from portico.errors import ConfigError, TransportError
from portico.loader import load_application
from portico.servers import catalog
from portico.servers.site import Site
from portico.transports.bind import Bind
from portico.transports.listen import open_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from portico.config.settings import Settings
    from portico.servers.front import Front
    from portico.transports.listen import Listener

INSPECTOR = "portico.apps.inspector:application"

#: The front that needs nothing but Python.
BUILTIN = "builtin"

#: What it speaks; the first is the default.
_BUILTIN_ROUTES = ("fastcgi", "scgi", "ajp", "uwsgi")

#: Seconds between two looks whether the web server still runs.
_LOOK_SECONDS = 0.25

#: Seconds that running requests get at the end, before the web server is ended and after.
_GRACE_SECONDS = 1.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Way(NamedTuple):
    """From which web server to the application, and how."""

    server: str
    via: str
    starts_script: bool


class _Front(Protocol):
    """A web server that runs."""

    url: str

    def poll(self) -> int | None: ...

    def log(self) -> str: ...

    def news(self) -> str: ...

    def stop(self, grace_seconds: float) -> None: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "app",
        metavar="APP",
        nargs="?",
        default=INSPECTOR,
        help="module:callable, module:factory() or a file; by default the bundled inspector",
    )
    parser.add_argument(
        "--server",
        default=BUILTIN,
        metavar="SERVER",
        help=f"the web server in front: {', '.join(_servers())}; default: {BUILTIN}",
    )
    parser.add_argument(
        "--via",
        metavar="PROTOCOL",
        help="the protocol between them: fastcgi, scgi, ajp, uwsgi; for Apache also fcgid and"
        " cgi, for lighttpd cgi; default: the first that the server speaks",
    )
    parser.add_argument(
        "--port", type=_port, default=8080, metavar="PORT", help="0 takes a free one; default: 8080"
    )
    parser.add_argument("--mount", default="", metavar="PREFIX", help="path prefix, such as /app")
    parser.add_argument("--threads", default="16", metavar="N", help="default: 16")
    parser.add_argument(
        "--debug", action="store_true", help="show tracebacks on error pages and more in the log"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C, or until the web server ends."""
    logging.basicConfig(
        level=logging.INFO if arguments.debug else logging.WARNING,
        format="portico: %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    way = _find_way(arguments.server, arguments.via)
    mount = arguments.mount.rstrip("/")
    settings = from_keywords(
        {
            "threads": arguments.threads,
            "debug": arguments.debug,
            "mount": mount or None,
            "graceful_timeout": _GRACE_SECONDS,
        }
    )
    site = Site(
        via=way.via,
        mount=mount,
        listen_host="127.0.0.1",
        listen_port=arguments.port,
        application=arguments.app,
    )
    atexit.register(_ignore_signals)  # before the application's own, to be called after them
    application = load_application(arguments.app)
    ending = _Ending()
    with ending, ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="portico-", ignore_cleanup_errors=True)
        )
        if way.starts_script:
            site = _write_script(way, site, settings, Path(directory))
            middle = f"{way.via}, a script that the server starts"
        else:
            listener = open_listener(_private_bind(way.via, Path(directory)))
            stack.enter_context(_serving(application, listener, settings, ending))
            site = replace(site, bind=listener.bind)
            middle = f"{way.via} over {listener.bind.transport} {listener.bind.address}"
        front = _start_front(way.server, site)
        stack.callback(front.stop, _GRACE_SECONDS)
        _announce(front.url, way.server, middle, arguments.app)
        ending.wait(way.server, front)
    return 0


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 65_536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")


def _servers() -> list[str]:
    return [BUILTIN, *catalog.PRODUCTS]


def _find_way(server: str, via: str | None) -> _Way:
    """Check that *server* speaks *via*; gives its first route where none is named."""
    if server == BUILTIN:
        name = "fastcgi" if via in {None, "fcgi"} else str(via)
        if name not in _BUILTIN_ROUTES:
            raise ConfigError(
                f"the built-in front does not speak {name!a}; it speaks"
                f" {', '.join(_BUILTIN_ROUTES)}",
                key="via",
            )
        return _Way(BUILTIN, name, starts_script=False)
    try:
        product = catalog.find_product(server)
    except ConfigError:
        raise ConfigError(
            f"no web server {server!a} is known; known are {', '.join(_servers())}", key="server"
        ) from None
    name, route = catalog.find_route(product, via or "")
    return _Way(product.name, name, route.starts_script)


def _private_bind(via: str, directory: Path) -> Bind:
    """Choose where the application listens: where only this user and the web server come."""
    if via == "ajp":  # Apache's mod_proxy_ajp knows TCP alone
        return Bind(protocol=via, host="127.0.0.1", port=0, secret=secrets.token_urlsafe(16))
    return Bind(protocol=via, transport="unix", path=str(directory / "app.sock"), mode=0o600)


def _write_script(way: _Way, site: Site, settings: Settings, directory: Path) -> Site:
    """Write the script that the web server is to start; gives the site with it."""
    from portico.servers.script import write_script  # noqa: PLC0415 - as in _start_front

    script = write_script(
        directory,
        site.application,
        drops_privileges=way.server == "apache",  # the others serve as who started them
        options={"debug": settings.debug, "threads": settings.threads},
    )
    return replace(site, script=str(script))


@contextmanager
def _serving(
    application: Callable[..., Any], listener: Listener, settings: Settings, ending: _Ending
) -> Iterator[None]:
    """Serve *application* in threads of its own, so that this one can see to the end."""
    engine = Engine(application, [listener], settings)

    def serve() -> None:
        try:
            engine.serve()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            ending.fail(error)

    thread = threading.Thread(target=serve, name="portico-1", daemon=True)
    thread.start()
    try:
        yield
    finally:
        engine.stop()
        thread.join(1.5 * _GRACE_SECONDS)


def _start_front(server: str, site: Site) -> _Front:
    """Start the web server.

    Raises:
        TransportError: the port is taken, or the server did not come up.
    """
    try:
        if server == BUILTIN and site.bind is not None:
            # lazy, as launch below: each is for one kind of front alone
            from portico.servers.front import Front  # noqa: PLC0415

            front = Front(site.bind, port=site.listen_port, mount=site.mount)
            front.start()
            return _Builtin(front, site)
        from portico.servers.launch import launch  # noqa: PLC0415

        return launch(server, site)
    except TransportError as error:
        if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
            raise
        raise TransportError(
            f"port {site.listen_port} is taken, another program listens there;"
            " choose another with --port (0 takes a free one)"
        ) from error


def _announce(url: str, server: str, middle: str, app: str) -> None:
    """Tell where and how, in one write: a reader may leave with the first line."""
    front = "built-in front" if server == BUILTIN else server
    way = f"  browser -> {front} -> {middle} -> {app}\n  Ctrl-C ends it.\n"
    sys.stdout.write(f"\n  {url}\n\n{way}\n")
    sys.stdout.flush()


class _Builtin:
    """The built-in front in the form that the others have."""

    def __init__(self, front: Front, site: Site) -> None:
        self._front = front
        self.url = replace(site, listen_port=front.port).url

    def poll(self) -> int | None:
        """It lives as long as this process."""
        return None

    def log(self) -> str:
        """It keeps none: it writes to standard error."""
        return ""

    def news(self) -> str:
        """None either."""
        return ""

    def stop(self, grace_seconds: float) -> None:  # noqa: ARG002 - it cuts at once
        """Stop serving."""
        self._front.close()


class _Ending:
    """What ends the command: a signal, or a failure.

    Signals only leave a word here, so that none of them can come between starting something
    and seeing to its end; a second one does not cut the cleaning up short.
    """

    def __init__(self) -> None:
        self._words: SimpleQueue[BaseException | None] = SimpleQueue()
        self._over = False

    def __enter__(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._take)

    def __exit__(self, *_: object) -> None:
        self._over = True

    def fail(self, error: BaseException) -> None:
        """Take note that the application's side has ended by *error*."""
        self._words.put(error)

    def wait(self, server: str, front: _Front) -> None:
        """Wait for the end, and show meanwhile what the web server says.

        Raises:
            TransportError: the web server has ended by itself; its own words follow.
        """
        while True:
            try:
                error = self._words.get(timeout=_LOOK_SECONDS)
            except Empty:
                status = front.poll()
                if status is None:
                    sys.stderr.write(front.news())
                    continue
                words = front.log()
                raise TransportError(f"{server} {_how(status)}\n{words}".rstrip()) from None
            if error is not None:
                raise error
            return

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's interface
        if self._over:
            os._exit(0)  # all is cleaned up, and a thread of the application's does not end
        self._words.put(None)


def _ignore_signals() -> None:
    """Let no signal spoil the exit status while the interpreter winds up: some milliseconds."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _how(status: int) -> str:
    """Say how a process has ended."""
    if status >= 0:
        return f"ended by itself with status {status}"
    return f"was ended from outside by {signal.Signals(-status).name}"
