"""What all of flup's servers do when they run, over Portico's engine and supervisor."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from portico.compat.flup.server import NoDefault
from portico.compat.flup.server import _arguments as arguments
from portico.compat.flup.server._bridge import Bridge
from portico.config.settings import Settings
from portico.core.pages import error_page
from portico.errors import ConfigError, TransportError
from portico.transports import inherited, stdio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portico.compat.flup.server._failure import FailedRequest
    from portico.engine.leader import Engine
    from portico.transports.bind import Bind

log = logging.getLogger("portico")

#: Signals beside SIGTERM that end a server when its requests are done; by name, for Windows.
_GENTLE = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]

#: What subclasses of flup's servers may override there, and not here.
_INSIDES = ("handler", "requestClass", "request_class", "cgirequest_class")

#: How long children may take to finish what they do; flup kills them then.
_CHILDREN_SECONDS = 10.0

#: What there is of a request when a script is started by hand.
_BY_HAND = {
    "REQUEST_METHOD": "GET", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.0",
}  # fmt: skip


class Server:
    """What the `WSGIServer` of each module is made of.

    Attributes:
        application: The WSGI callable.
        environ: What is added to the environ of each request.
        multithreaded: Whether requests run beside each other in one process.
        multiprocess: What ``wsgi.multiprocess`` is.
        debug: Whether error pages show tracebacks.
    """

    _protocol = "fastcgi"
    _forks = False
    #: What to do so that other machines may connect.
    _instead = "name the web server in allowedServers=['ADDRESS']"

    def _set_up(
        self,
        application: Callable[..., Any],
        environ: Mapping[str, Any] | None,
        *,
        address: Any,
        umask: int | None,
        debug: Any,
        pool: dict[str, Any],
        multithreaded: Any = True,
        multiprocess: Any = False,
        timeout: Any = None,
        **settings: Any,
    ) -> None:
        """Check and keep what the constructors have in common.

        Raises:
            ConfigError: an argument that cannot be honoured.
        """
        for name in _INSIDES:
            if hasattr(self, name):
                raise TypeError(
                    f"{type(self).__name__} overrides {name}, which is of flup's inside and not"
                    " here: wrap the application, or override error()"
                )
        self.application = application
        self.environ: Mapping[str, Any] = {} if environ is None else environ
        self.multithreaded = bool(multithreaded)
        self.multiprocess = bool(multiprocess)
        self.debug = bool(debug)
        self._bindAddress = address
        self._bind = arguments.read_address(self._protocol, address, umask)
        self._least = 0
        self._engine: Engine | None = None
        self._stopped: bool | None = None
        settings["debug"] = self.debug
        if self._forks:
            self._least, settings["workers"] = arguments.count_processes(pool)
            settings["on_demand"] = True
            settings["graceful_timeout"] = _CHILDREN_SECONDS
            settings["threads"] = 1
            settings["max_requests"] = pool["maxRequests"]
            settings["timeout"] = arguments.read_timeout("timeout", timeout)
            patience = arguments.read_timeout("sockTimeout", pool["sockTimeout"])
            if patience:
                settings["body_timeout"] = settings["write_timeout"] = patience
        else:
            settings["threads"] = arguments.count_threads(pool, multithreaded=self.multithreaded)
        self._settings = Settings(**settings)

    # -- what differs ----------------------------------------------------------------------

    def _allowed(self) -> tuple[str, ...] | None:
        """Give the networks that may connect; None where none were named."""
        raise NotImplementedError

    def _bridge(self) -> Bridge:
        return self._make_bridge()

    def _make_bridge(
        self, script_name: Any = NoDefault, *, named_by_server: bool = False
    ) -> Bridge:
        own = type(self).error is not Server.error
        return Bridge(
            self.application,
            self.environ,
            script_name,
            named_by_server=named_by_server,
            on_error=self.error if own else None,
        )

    def error(self, req: FailedRequest) -> None:
        """Answer a request whose application has raised; for subclasses to override.

        Args:
            req: Takes the answer: ``req.stdout.write(octets)``, or over AJP
                ``req.startResponse(code, reason, headers)`` and ``req.write(octets)``.
        """
        page = error_page("500 Internal Server Error", sys.exc_info()[1] if self.debug else None)
        req.startResponse(
            500, "Internal Server Error", [("Content-Type", "text/html; charset=utf-8")]
        )
        req.write(page)

    # -- running ---------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Serve until a signal says stop; gives whether that was SIGHUP.

        Raises:
            ConfigError: it would be open to strangers.
            TransportError: the system refuses.
            SystemExit: in a child, at its end.
        """
        bind = arguments.restrict(self._bind, self._allowed(), self._instead)
        serve = self._serve_by_children if self._forks else self._serve_by_threads
        with _descriptor_kept(bind):
            try:
                return serve(bind)
            except ConfigError as error:
                if error.key != "bind":
                    raise
                # a name that leads to other machines' side, or an inherited socket there
                raise ConfigError(f"{error}. Here: {self._instead}", key="bindAddress") from None

    def _serve_by_threads(self, bind: Bind) -> bool:
        # lazy, here and below: as CGI a script needs no engine (30 ms)
        from portico.supervisor import worker  # noqa: PLC0415
        from portico.transports.listen import open_listeners  # noqa: PLC0415

        base = {
            "wsgi.multithread": self.multithreaded,
            "wsgi.multiprocess": self.multiprocess,
        }
        try:
            number = worker.run(
                self._bridge(),
                open_listeners([bind]),
                self._settings,
                base=base,
                gentle=_GENTLE,
                started=self._take_engine,
            )
        finally:
            self._engine = None
        reload, self._stopped = self._stopped, None
        return bool(reload) or number == getattr(signal, "SIGHUP", -1)

    def _take_engine(self, engine: Engine) -> None:
        self._engine = engine
        if self._stopped is not None:
            engine.stop()

    def _serve_by_children(self, bind: Bind) -> bool:
        if not hasattr(os, "fork") or threading.current_thread() is not threading.main_thread():
            plain = {"fastcgi": "fcgi"}.get(self._protocol, self._protocol)
            raise ConfigError(
                f"flup.server.{plain}_fork forks, which needs POSIX and the main thread: run it"
                f" there, or use flup.server.{plain}"
            )
        from portico.compat.flup.server import _family  # noqa: PLC0415 - nor on Windows
        from portico.supervisor.logfiles import LogFiles  # noqa: PLC0415 - as above

        files = LogFiles(self._settings)
        try:
            return _family.serve(self._bridge(), bind, self._settings, self._least, files)
        finally:
            files.close()

    def _exit(self, reload: bool = False) -> None:
        """End a server that runs in another thread; `run` gives *reload* back."""
        self._stopped = reload
        if self._engine is not None:
            self._engine.stop()


class FastCGIServer(Server):
    """What the `WSGIServer` of each FastCGI module is made of.

    Attributes:
        roles: Numbers of FastCGI's roles that the application serves.
        forceCGI: Whether to serve as CGI whatever descriptor 0 is.
    """

    _instead = "name the web server in the environment variable FCGI_WEB_SERVER_ADDRS"

    def _set_up_fastcgi(
        self,
        application: Callable[..., Any],
        environ: Mapping[str, Any] | None,
        *,
        multiplexed: Any,
        roles: Any,
        force_cgi: Any,
        address: Any,
        **more: Any,
    ) -> None:
        self.roles = roles
        self.forceCGI = bool(force_cgi)
        names = arguments.read_roles(roles)
        if not multiplexed:
            more["max_multiplexed"] = 1
        if address is None:
            # a process that the web server has started has no standard error worth the name
            more["errors_to"] = "frontend"
        self._set_up(application, environ, address=address, roles=names, **more)

    def _allowed(self) -> tuple[str, ...] | None:
        return inherited.web_server_addresses(os.environ) or None

    def run(self) -> bool:
        """Serve until SIGHUP, SIGINT or SIGTERM; requests that run are finished.

        Without a bindAddress, and where descriptor 0 is no listening socket, this process serves
        one request as CGI and ends.

        Returns:
            Whether it was SIGHUP: the caller may start the program anew.

        Raises:
            ConfigError: it would be open to other machines.
            OSError: there can be no socket at bindAddress.
            SystemExit: after a request as CGI; and in a child, at its end.
        """
        if self._bindAddress is None and self._is_cgi():
            self._serve_cgi()
        try:
            return self._serve()
        except TransportError as error:
            raise _system_error(error) from error

    def _is_cgi(self) -> bool:
        forced = os.environ.get("FCGI_FORCE_CGI", "N")[:1].upper() == "Y"
        return self.forceCGI or forced or not inherited.is_listening(0)

    def _serve_cgi(self) -> None:
        """Serve the one request of this process's environment; raises `SystemExit`."""
        sys.exit(serve_cgi(self._bridge(), debug=self.debug))


class LoggingServer(Server):
    """What the `WSGIServer` of each SCGI and AJP module is made of: it logs, and names servers.

    Attributes:
        scriptName: Where the application is.
        logger: Takes what the server has to say.
    """

    def _set_up_logging(
        self,
        application: Callable[..., Any],
        environ: Mapping[str, Any] | None,
        *,
        script_name: Any,
        allowed: Any,
        level: Any,
        **more: Any,
    ) -> None:
        self.scriptName = arguments.read_script_name(script_name, absent=NoDefault)
        self._allowedServers = arguments.read_allowed(allowed)
        self.logger = log
        self._set_up(application, environ, **more)
        self._logging_level = arguments.read_level(level)

    def _allowed(self) -> tuple[str, ...] | None:
        return self._allowedServers

    def _bridge(self) -> Bridge:
        return self._make_bridge(self.scriptName, named_by_server=True)

    def run(self) -> bool:
        """Serve until SIGHUP, SIGINT or SIGTERM; requests that run are finished.

        Returns:
            Whether it was SIGHUP: the caller may start the program anew. False as well where
            there can be no socket at bindAddress, as flup has it; the log says why.

        Raises:
            ConfigError: it would be open to other machines.
            SystemExit: in a child, at its end.
        """
        name = type(self).__name__
        with _logging(self._logging_level):
            log.info("%s starting up", name)
            try:
                reload = self._serve()
            except TransportError as error:
                log.error("%s; exiting", error)  # noqa: TRY400 - it says all
                return False
            log.info("%s shutting down%s", name, " (reload requested)" if reload else "")
            return reload


def serve_cgi(application: Callable[..., Any], *, debug: bool) -> int:
    """Serve one request as CGI; gives the exit status. Started by hand, a GET of the root."""
    from portico import cgi  # noqa: PLC0415 - only where it is needed

    if "REQUEST_METHOD" not in os.environ:
        sys.stderr.write(
            "portico: no listening socket on descriptor 0 and no REQUEST_METHOD: answering GET / as"
            " CGI; name a bindAddress to listen\n"
        )
        for name, value in _BY_HAND.items():
            os.environ.setdefault(name, value)
    return cgi.run(application, debug=debug)


def _system_error(error: TransportError) -> OSError:
    """Give the error that callers of flup expect of a socket, in our words."""
    cause = error.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    return OSError(number or errno.EADDRINUSE, str(error))


@contextmanager
def _logging(level: int) -> Iterator[None]:
    """Let the log be as loud as loggingLevel says, on standard error if nobody else takes it."""
    before = log.level
    log.setLevel(level)
    handler = None
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s : %(message)s", "%Y-%m-%d %H:%M:%S"))
        log.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(before)
        if handler is not None:
            log.removeHandler(handler)


@contextmanager
def _descriptor_kept(bind: Bind) -> Iterator[None]:
    """Have an inherited socket on its descriptor again behind the block, for the next `run`."""
    stdio.open_missing()
    if bind.transport != "fd":
        yield
        return
    kept = os.dup(bind.fd)
    try:
        yield
    finally:
        os.dup2(kept, bind.fd)
        os.close(kept)
