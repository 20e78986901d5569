"""`run` and `serve`: finds out where this process was started, and imports only what that needs."""

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from portico.config.settings import Settings
    from portico.supervisor.logfiles import LogFiles
    from portico.transports.bind import Bind
    from portico.warm.seat import Seat

_BY_HAND = """\
{script}: this is a script for a web server to start; started by hand it has nothing to do.

To see the application in a browser:       portico up {script}
To serve it to a web server on a socket:   portico serve {script} --bind scgi://127.0.0.1:4000
As CGI or FastCGI, the web server starts this script itself; `portico config apache {script}
--via cgi` (or fcgid) prints how.
"""


def run(
    application: "Callable[..., Any] | str", *, warm: "bool | str" = False, **options: "Any"
) -> None:
    """Serve *application* in whatever environment this script was started in.

    A listening socket on descriptor 0 means FastCGI (mod_fcgid, spawn-fcgi, lighttpd),
    ``LISTEN_FDS`` means sockets from systemd, ``GATEWAY_INTERFACE`` or ``REQUEST_METHOD`` in the
    environment means CGI. Started by hand it says how to start it.

    Args:
        application: The WSGI callable, or a text that names it as on the command line:
            ``"module:callable"``, ``"module:factory()"``, ``"directory/file.py:callable"``; looked
            for in the script's directory first. An application that is named so and cannot be
            loaded is answered with 500 and an id, under which the log has the reason.
        warm: Whether, as CGI, a resident server answers, which the first request starts; the
            application must be named by a text. A path instead of True names the private
            directory of its socket.
        **options: Settings by name, such as ``mount="/app"``, ``debug=True``, ``threads=8``;
            plain CGI knows ``mount``, ``disable_repairs`` and ``debug`` alone and passes over the
            others.

    Raises:
        ConfigError: an option that does not exist, or a value that is wrong.
        SystemExit: status 1 where a CGI response was broken off, 2 when started by hand; 0 where
            a resident server has answered.
    """
    if _is_listening(0):
        _serve_inherited(application, options)
    elif os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS"):
        _serve_systemd(_loaded(application, options), options)
    elif "GATEWAY_INTERFACE" in os.environ or "REQUEST_METHOD" in os.environ:
        if sys.argv[1:] and "=" not in os.environ.get("QUERY_STRING", ""):
            # words of the query (RFC 3875 §4.4), which no application expects there
            del sys.argv[1:]
        if warm:
            _serve_warm(application, "" if warm is True else warm, options)
        _serve_cgi(application, options)
    else:
        if sys.stderr is not None:  # it may be closed
            sys.stderr.write(_BY_HAND.format(script=_script_name()))
        sys.exit(2)


def run_command(arguments: "list[str]") -> None:
    """Serve the one request of a process that was started as ``portico cgi``.

    Args:
        arguments: The application, and options of the form ``--name`` or ``--name=value``.

    Raises:
        SystemExit: as `run`.
    """
    spec = ""
    options: dict[str, Any] = {}
    for word in _without_query(arguments):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            options[name[2:].replace("-", "_")] = value if equals else True
        elif not spec:
            spec = word
        else:
            spec = ""
            break
    if not spec:
        from portico.core.unloadable import Unloadable  # noqa: PLC0415 - as in serve

        _serve_cgi(Unloadable("portico cgi takes one application, and options as --name=value"), {})
        return
    is_file = os.path.isfile(spec)  # noqa: PTH113 - 3 ms
    if is_file:
        spec = os.path.abspath(spec)  # noqa: PTH100 - likewise
    # the script, in the place of Python's own: files beside it are found, and its changes seen
    sys.argv[:] = [spec if is_file else os.path.join(os.getcwd(), spec)]  # noqa: PTH109, PTH118
    run(spec, warm=options.pop("warm", False), **options)


def _without_query(arguments: "list[str]") -> "list[str]":
    """Leave out what whoever sent the request has put into the command line.

    A web server appends the words of a query without ``=`` (RFC 3875 §4.4), perhaps with
    backslashes before what a shell would take for its own.
    """
    query = os.environ.get("QUERY_STRING", "")
    if not query or "=" in query:
        return arguments
    from urllib.parse import unquote  # noqa: PLC0415 - lazy: 8 ms, and such queries are rare

    words = [unquote(word).replace("\\", "") for word in query.split("+")]
    tail = [word.replace("\\", "") for word in arguments[-len(words) :]]
    return arguments[: -len(words)] if tail == words else arguments


def _script_directory() -> str:
    return os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - 3 ms


def _loaded(
    application: "Callable[..., Any] | str", options: "dict[str, Any]"
) -> "Callable[..., Any]":
    """Load an application that is named by a text, or give what stands in for it."""
    if not isinstance(application, str):
        return application
    from portico.loader import stand_in  # noqa: PLC0415 - lazy: only texts need it

    return stand_in(application, _script_directory(), debug=_wants_debug(options))


def _wants_debug(options: "dict[str, Any]") -> bool:
    """Whether tracebacks are to be shown: the texts that a setting may have elsewhere count."""
    return str(options.get("debug")).lower() in {"yes", "true", "on", "1"}


def _script_name() -> str:
    name = sys.argv[0] or "script"
    try:
        return os.path.relpath(name)
    except (OSError, ValueError):  # the working directory is gone, or on another drive
        return name


def serve(application: "Callable[..., Any]", *binds: str, **options: "Any") -> None:
    """Serve *application* on gateway sockets until a signal says stop.

    In this process; with ``workers=2`` and more, in as many that are forked from it, which this one
    watches and replaces. Those never come back here: they end where they are.

    Args:
        application: The WSGI callable.
        *binds: Bind URLs, such as ``"fastcgi+unix:///run/app.sock"``.
        **options: Settings by name, such as ``threads=16``.

    Raises:
        ConfigError: a bind URL or an option is wrong, or a log file cannot be opened.
        TransportError: a socket cannot be opened.
        SystemExit: in a worker, at its end.
    """
    # Lazy, here and below: the CGI path must not pay for the engine (30 ms).
    from portico.config.examine import binds as examined  # noqa: PLC0415
    from portico.config.resolve import from_keywords  # noqa: PLC0415
    from portico.errors import ConfigError  # noqa: PLC0415
    from portico.supervisor import worker  # noqa: PLC0415
    from portico.supervisor.logfiles import LogFiles  # noqa: PLC0415
    from portico.transports.listen import open_listeners  # noqa: PLC0415

    settings = from_keywords({"bind": binds, **options})
    if not settings.bind:
        raise ConfigError(
            "nothing to listen on; name a bind, such as scgi://127.0.0.1:4000", key="bind"
        )
    if settings.reload:
        raise ConfigError(
            "only portico serve loads changed code: start the application with that", key="reload"
        )
    files = LogFiles(settings)
    try:
        found = examined(settings)
        if settings.workers > 1:
            _supervise(application, settings, found, files)
        else:
            worker.run(application, open_listeners(found), settings, files=files)
    finally:
        files.close()


def _supervise(
    application: "Callable[..., Any]", settings: "Settings", binds: "list[Bind]", files: "LogFiles"
) -> None:
    """Serve with workers; a reload starts new ones with the same application."""
    import threading  # noqa: PLC0415 - as in serve

    from portico.errors import ConfigError  # noqa: PLC0415 - as in serve
    from portico.supervisor.generation import Service  # noqa: PLC0415 - as in serve

    is_main = threading.current_thread() is threading.main_thread()
    if not hasattr(os, "fork") or not is_main:
        raise ConfigError(
            f"workers is {settings.workers}: more than one needs fork() and the main thread; have"
            " it be 1",
            key="workers",
        )
    from portico.supervisor.service import supervise  # noqa: PLC0415 - POSIX only

    service = Service(
        settings=settings,
        binds=tuple(binds),
        load=lambda: application,
        name=getattr(application, "__name__", type(application).__name__),
        files=files,
    )
    supervise(service, lambda: service)


def _is_listening(fd: int) -> bool:
    """Whether *fd* is a listening socket (FastCGI 1.0 §2.2: FCGI_LISTENSOCK_FILENO is 0).

    A CGI script under Apache's mod_cgid can find a connected socket there.
    """
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
    except OSError:
        return False
    from portico.transports import inherited  # noqa: PLC0415 - 1 ms, only where fd 0 is a socket

    return inherited.is_listening(fd)


def _serve_cgi(application: "Callable[..., Any] | str", options: "dict[str, Any]") -> None:
    from portico import cgi  # noqa: PLC0415 - as in serve

    mounting = None
    repairs = options.get("disable_repairs") or ()
    if options.get("mount") is not None or repairs:
        from portico.core.mount import Mounting  # noqa: PLC0415 - 0.2 ms, seldom needed

        disabled = frozenset(repairs.split() if isinstance(repairs, str) else repairs)
        mounting = Mounting(options.get("mount"), disabled=disabled)
    status = cgi.run(
        application,
        debug=_wants_debug(options),
        mounting=mounting,
        directory=_script_directory() if isinstance(application, str) else None,
    )
    if status:
        sys.exit(status)


def _serve_warm(
    application: "Callable[..., Any] | str", warm: str, options: "dict[str, Any]"
) -> None:
    """Have a resident server answer; returns only where that has not touched the request.

    Raises:
        ConfigError: the application is not named by a text.
        SystemExit: it is answered.
    """
    if not isinstance(application, str):
        from portico.errors import ConfigError  # noqa: PLC0415 - as in serve

        raise ConfigError(
            "warm CGI is there to spare each request the loading of the application: name it by a"
            ' text, portico.run("module:callable", warm=True), instead of importing it',
            key="warm",
        )
    from portico.warm.relay import relay  # noqa: PLC0415 - as in serve

    def reside(seat: "Seat", fd: int) -> None:
        from portico.supervisor import resident  # noqa: PLC0415 - in another process

        resident.serve(seat, fd, _script_directory(), options)

    status = relay(
        application,
        os.path.abspath(sys.argv[0]),  # noqa: PTH100 - 3 ms
        directory=warm,
        options=repr(sorted(options.items())),
        reside=reside,
    )
    if status is not None:
        sys.exit(status)


def _serve_inherited(application: "Callable[..., Any] | str", options: "dict[str, Any]") -> None:
    from portico.supervisor.spawned import BIND, Spawned  # noqa: PLC0415 - as in serve

    spawned = Spawned(options)
    loaded = _loaded(application, options)
    if not spawned.stand_by(loaded):
        serve(loaded, BIND, **spawned.options)


def _serve_systemd(application: "Callable[..., Any]", options: "dict[str, Any]") -> None:
    """Serve on every socket; one whose name begins with a protocol's speaks that protocol."""
    from portico.config.examine import passed_binds  # noqa: PLC0415 - as in serve

    serve(application, *passed_binds(os.environ), **options)
