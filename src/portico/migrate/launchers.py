"""The calls that start servers from Python, and what becomes of their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portico.migrate.gunicorn_settings import number
from portico.migrate.model import (
    CARRIED,
    LEFT,
    NEEDLESS,
    Entry,
    Rule,
    State,
    each,
    kept,
    left,
    needless,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROXY = "the web server says who asks: each request has its scheme and address"
_HTTP = "the web server reads HTTP, and has such limits of its own"
_POOL = "threads start when first needed, up to threads"


@dataclass(frozen=True, slots=True)
class Launcher:
    """A call that starts a server.

    Attributes:
        title: Whose it is.
        positional: Names of its arguments in their order; ``app`` is the application.
        arguments: Name -> what becomes of it; ``app`` has no rule.
        protocol: What is spoken: ``"http"`` where that is it.
        starts: Address where it listens unless told; empty where the web server starts it.
        threads: Requests at the same time unless told; 0 for as many as come.
        is_object: Whether the call only makes the server, and a method starts it.
    """

    title: str
    positional: tuple[str, ...]
    arguments: Mapping[str, Rule]
    protocol: str = "fastcgi"
    starts: str = ""
    threads: int = 0
    is_object: bool = True


def _many(state: State, entry: Entry) -> None:
    """``multithreaded``: whether more than one request may run at once."""
    if entry.data:
        state.plan.note(entry, NEEDLESS, "threads bounds what runs at once, 16 unless set")
    else:
        state.plan.carry(entry, "threads", 1)


def _mount(state: State, entry: Entry) -> None:
    if entry.data in (None, ""):
        state.plan.note(entry, NEEDLESS, "it is empty: the web server says where the root is")
    else:
        state.plan.carry(entry, "mount", entry.data)


def _whole(value: Any) -> object:
    return number(value)


_FLUP: dict[str, Rule] = {
    "environ": left("set environment, which is in os.environ and not in each environ"),
    "multithreaded": Rule(CARRIED, "`threads`: 1 where it is false", _many),
    "multiprocess": needless("the environ says so where workers is more than 1"),
    "bindAddress": kept("address", "`bind`"),
    "umask": kept("umask", "`bind`: `?mode=`"),
    "multiplexed": needless("requests share connections where the web server does so"),
    "debug": setting(
        "debug", bool, "flup shows tracebacks unless told otherwise, Portico does not"
    ),
    "roles": kept("roles", "`roles`"),
    "forceCGI": needless("portico.run sees how it was started"),
    "scriptName": Rule(CARRIED, "`mount`", _mount),
    "allowedServers": kept("allowed", "write `?allow=` behind a bind that others can reach", LEFT),
    "loggingLevel": left("set log_level"),
    "minSpare": needless(_POOL),
    "maxSpare": needless(_POOL),
    "maxThreads": setting("threads", _whole),
    "maxChildren": setting("workers", _whole),
    "maxRequests": setting("max_requests", _whole),
    "timeout": setting("timeout", _whole, "of each request: 504 for the client"),
    "sockTimeout": setting("body_timeout", _whole),
}

_FASTCGI = ("app", "environ", "multithreaded", "multiprocess", "bindAddress", "umask",
            "multiplexed", "debug", "roles", "forceCGI")  # fmt: skip
_FORK = ("app", "environ", "bindAddress", "umask", "multiplexed", "debug", "roles", "forceCGI",
         "timeout")  # fmt: skip
_SCGI = ("app", "scriptName", "environ", "multithreaded", "multiprocess", "bindAddress", "umask",
         "allowedServers", "loggingLevel", "debug")  # fmt: skip
_AJP = tuple(name for name in _SCGI if name != "umask")

_ADDRESS: dict[str, Rule] = {
    "host": kept("host", "`bind`"),
    "port": kept("port", "`bind`"),
}

_WAITRESS: dict[str, Rule] = _ADDRESS | {
    "listen": kept("listen", "`bind`"),
    "unix_socket": kept("address", "`bind`"),
    "unix_socket_perms": kept("perms", "`bind`: `?mode=`"),
    "threads": setting("threads", _whole),
    "url_prefix": Rule(CARRIED, "`mount`", _mount),
    "backlog": kept("backlog", "`bind`: `?backlog=`"),
    "connection_limit": setting("max_connections", _whole),
    "channel_timeout": left("set head_timeout, body_timeout and write_timeout"),
    "max_request_body_size": setting("max_body_bytes", _whole),
    "expose_tracebacks": setting("debug", bool),
    "max_request_header_size": needless(f"{_HTTP}; Portico's is max_params_bytes, 1 MiB"),
    "inbuf_overflow": setting("body_spool_bytes", _whole),
    "outbuf_overflow": needless("a response leaves as the web server takes it"),
    "outbuf_high_watermark": needless("a response leaves as the web server takes it"),
    **each(("trusted_proxy", "trusted_proxy_count", "trusted_proxy_headers", "url_scheme",
            "clear_untrusted_proxy_headers", "log_untrusted_proxy_headers"), needless(_PROXY)),
    **each(("ident", "recv_bytes", "send_bytes", "cleanup_interval", "asyncore_use_poll",
            "log_socket_errors", "channel_request_lookahead"),
           needless("Portico chooses, or the web server says it")),
    **each(("server_name", "ipv4", "ipv6", "sockets", "_quiet"),
           left("the web server has the name and the addresses of the site")),
}  # fmt: skip

_CHEROOT: dict[str, Rule] = {
    "bind_addr": kept("address", "`bind`"),
    "numthreads": setting("threads", _whole),
    "max": left("set threads, which start when needed"),
    "server_name": needless("the web server says it"),
    "request_queue_size": kept("backlog", "`bind`: `?backlog=`"),
    "timeout": left("set head_timeout, body_timeout and write_timeout"),
    "shutdown_timeout": setting("graceful_timeout", _whole),
    "accepted_queue_size": needless("queue_timeout bounds the wait"),
    "accepted_queue_timeout": setting("queue_timeout", _whole),
    "peercreds_enabled": left("write ?allow_uid= behind bind"),
    "peercreds_resolve_enabled": left("write ?allow_uid= behind bind"),
    "reuse_port": left("write ?reuse_port=yes behind bind"),
}

_GEVENT = left("Portico serves in threads: set threads, and take monkey patches out")

_GEVENT_FASTCGI: dict[str, Rule] = {
    "listener": kept("address", "`bind`"),
    "num_workers": setting("workers", _whole),
    "max_conns": setting("max_connections", _whole),
    "max_reqs": setting("max_multiplexed", _whole),
    "buffer_size": needless("Portico chooses"),
    "socket_mode": kept("perms", "`bind`: `?mode=`"),
    "role": kept("roles", "`roles`"),
    "backlog": kept("backlog", "`bind`: `?backlog=`"),
    "spawn": _GEVENT,
    "pool": _GEVENT,
}

_CGI = Launcher("wsgiref's CGI handler", ("app",), {})
_CHEROOT_SERVER = Launcher(
    "CherryPy's server", ("bind_addr", "app"), _CHEROOT, "http", "127.0.0.1:8080", 10
)

_PYWSGI: dict[str, Rule] = {
    "listener": kept("address", "`bind`"),
    "backlog": kept("backlog", "`bind`: `?backlog=`"),
    **each(("spawn", "handler_class", "environ"), _GEVENT),
    **each(("log", "error_log"), left("set access_log and log_file")),
    **each(("keyfile", "certfile", "ssl_context"), left("TLS ends at the web server")),
}

_SIMPLE: dict[str, Rule] = _ADDRESS | {
    **each(("hostname",), kept("host", "`bind`")),
    **each(("server_class", "handler_class", "request_handler", "static_files",
            "passthrough_errors", "use_evalex", "extra_files", "exclude_patterns",
            "reloader_type", "reloader_interval"), needless("of a server for development")),
    "use_reloader": setting("reload", bool, "for development; portico serve alone does that"),
    "reloader": setting("reload", bool, "for development; portico serve alone does that"),
    **each(("use_debugger", "debug"), setting("debug", bool, "tracebacks for visitors")),
    "threaded": Rule(CARRIED, "`threads`: 1 where it is false", _many),
    "processes": setting("workers", _whole),
    "ssl_context": left("TLS ends at the web server"),
    "quiet": needless("access_log is off unless it is set"),
    "interval": needless("Portico chooses"),
    "server": kept("server", "what speaks to the web server: Portico takes its place"),
    "reuse_port": left("write ?reuse_port=yes behind bind"),
    "listen_backlog": kept("backlog", "`bind`: `?backlog=`"),
    **each(("daemon_threads", "use_threadpool", "socket_timeout", "request_queue_size",
            "protocol_version", "server_version"), needless("Portico chooses")),
    **each(("threadpool_workers",), setting("threads", _whole)),
}  # fmt: skip

#: Full name of what is called -> the launcher that it is.
LAUNCHERS: dict[str, Launcher] = {
    **{
        f"flup.server.{name}.WSGIServer": Launcher(f"flup's {name}", _FASTCGI, _FLUP)
        for name in ("fcgi", "fcgi_single")
    },
    "flup.server.fcgi_fork.WSGIServer": Launcher("flup's fcgi_fork", _FORK, _FLUP, threads=1),
    **{
        f"flup.server.{name}.WSGIServer": Launcher(
            f"flup's {name}", _SCGI, _FLUP, "scgi", "localhost:4000", threads
        )
        for name, threads in (("scgi", 0), ("scgi_fork", 1))
    },
    **{
        f"flup.server.{name}.WSGIServer": Launcher(
            f"flup's {name}", _AJP, _FLUP, "ajp", "localhost:8009", threads
        )
        for name, threads in (("ajp", 0), ("ajp_fork", 1))
    },
    "flup.server.cgi.WSGIServer": Launcher("flup's cgi", ("app",), {}),
    "flipflop.WSGIServer": Launcher("flipflop", ("app", "environ", "umask"), _FLUP),
    **{f"wsgiref.handlers.{name}": _CGI for name in ("CGIHandler", "IISCGIHandler")},
    "wsgiref.simple_server.make_server": Launcher(
        "wsgiref's server", ("host", "port", "app", "server_class", "handler_class"), _SIMPLE,
        "http", "127.0.0.1:8000", 1,
    ),
    "werkzeug.serving.run_simple": Launcher(
        "Werkzeug's server", ("hostname", "port", "app"), _SIMPLE, "http", "127.0.0.1:5000",
        is_object=False,
    ),
    "werkzeug.run_simple": Launcher(
        "Werkzeug's server", ("hostname", "port", "app"), _SIMPLE, "http", "127.0.0.1:5000",
        is_object=False,
    ),
    "waitress.serve": Launcher(
        "waitress", ("app",), _WAITRESS, "http", "127.0.0.1:8080", 4, is_object=False
    ),
    "bjoern.run": Launcher(
        "bjoern", ("app", "host", "port", "reuse_port", "listen_backlog"), _SIMPLE, "http",
        "127.0.0.1:8080", 1, is_object=False,
    ),
    "bjoern.listen": Launcher(
        "bjoern", ("app", "host", "port", "reuse_port", "listen_backlog"), _SIMPLE, "http",
        "127.0.0.1:8080", 1, is_object=False,
    ),
    "gevent_fastcgi.server.FastCGIServer": Launcher(
        "gevent-fastcgi", ("listener", "app", "role", "num_workers"), _GEVENT_FASTCGI
    ),
    "gevent.pywsgi.WSGIServer": Launcher(
        "gevent's server", ("listener", "app", "backlog", "spawn"), _PYWSGI, "http",
        "127.0.0.1:8088",
    ),
    "gevent.wsgi.WSGIServer": Launcher(
        "gevent's server", ("listener", "app", "backlog", "spawn"), _PYWSGI, "http",
        "127.0.0.1:8088",
    ),
    **dict.fromkeys(
        ("cherrypy.wsgiserver.CherryPyWSGIServer", "cheroot.wsgi.Server", "cheroot.wsgi.WSGIServer",
         "cherrypy.wsgiserver.WSGIServer"),
        _CHEROOT_SERVER,
    ),
    "paste.httpserver.serve": Launcher(
        "Paste's server", ("app", "server", "handler", "host", "port"), _SIMPLE, "http",
        "127.0.0.1:8080", 10, is_object=False,
    ),
    "bottle.run": Launcher(
        "bottle.run", ("app", "server", "host", "port", "interval", "reloader", "quiet"), _SIMPLE,
        "http", "127.0.0.1:8080", 1, is_object=False,
    ),
    "django.core.servers.fastcgi.runfastcgi": Launcher(
        "Django's runfastcgi", (), {
            **_ADDRESS,
            "protocol": kept("protocol", "the protocol of `bind`"),
            "socket": kept("address", "`bind`"),
            "method": needless("workers and threads are both there"),
            "daemonize": left("Portico stays in the foreground: let systemd run it"),
            "pidfile": setting("pid_file", str),
            "workdir": needless("portico serve stays where it was started"),
            "maxspare": needless(_POOL),
            "minspare": needless(_POOL),
            "maxchildren": setting("workers", _whole),
            "maxrequests": setting("max_requests", _whole),
            "debug": setting("debug", bool),
            "outlog": left("set log_file"),
            "errlog": setting("log_file", str),
            "umask": kept("umask", "`bind`: `?mode=`"),
        }, is_object=False,
    ),
    **dict.fromkeys(
        ("trac.web.fcgi_frontend.run", "trac.web.cgi_frontend.run"),
        Launcher("Trac's frontend", (), {}, is_object=False),
    ),
}  # fmt: skip

#: Launchers whose application is not among their arguments.
APPLICATIONS = {
    "django.core.servers.fastcgi.runfastcgi": "django.core.wsgi:get_wsgi_application()",
    "trac.web.fcgi_frontend.run": "trac.web.main:dispatch_request",
    "trac.web.cgi_frontend.run": "trac.web.main:dispatch_request",
}

#: Wrappers of an application that only its server needs.
WRAPPERS = {"gevent_fastcgi.wsgi.WSGIRequestHandler"}

#: What a class of gunicorn's is called where a script makes one of its own.
GUNICORN = {
    "gunicorn.app.base.BaseApplication",
    "gunicorn.app.base.Application",
    "gunicorn.app.wsgiapp.WSGIApplication",
}

#: What starts a server of which there is nothing to carry over.
OTHERS = {
    "wfastcgi.main": "the application is WSGI_HANDLER, of Web.config: migrate that file",
    "gunicorn.app.wsgiapp.run": "the application is on its command line: portico serve APP",
    "portico.run": "this is Portico's already",
    "portico.serve": "this is Portico's already",
}
