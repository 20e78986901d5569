"""`run`: finds out where this process was started, and imports only what that needs."""

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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
        from portico import serving  # noqa: PLC0415 - lazy, here and below: CGI must not pay 30 ms

        serving.serve_inherited(
            application, options, directory=_script_directory(), debug=_wants_debug(options)
        )
    elif os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS"):
        from portico import serving  # noqa: PLC0415 - likewise

        serving.serve_systemd(
            application, options, directory=_script_directory(), debug=_wants_debug(options)
        )
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


def _script_directory() -> str:
    return os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - 3 ms


def _script_name() -> str:
    name = sys.argv[0] or "script"
    try:
        return os.path.relpath(name)
    except (OSError, ValueError):  # the working directory is gone, or on another drive
        return name


def _wants_debug(options: "dict[str, Any]") -> bool:
    """Whether tracebacks are to be shown: the texts that a setting may have elsewhere count."""
    return str(options.get("debug")).lower() in {"yes", "true", "on", "1"}


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
    from portico import cgi  # noqa: PLC0415 - as in run

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
        from portico.errors import ConfigError  # noqa: PLC0415 - as in run

        raise ConfigError(
            "warm CGI is there to spare each request the loading of the application: name it by a"
            ' text, portico.run("module:callable", warm=True), instead of importing it',
            key="warm",
        )
    from portico.warm.relay import relay  # noqa: PLC0415 - as in run

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
