"""Every setting, declared once: type, default, unit, bounds and prose.

Flags, environment names, YAML keys, refusals, the reference page and the sample file come from
here. Not on the CGI path, hence a dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from portico.config.option import Option, option
from portico.limits import Limits
from portico.transports import bind as bind_url

if TYPE_CHECKING:
    from portico.config.mounts import Mount

_LIMITS = Limits()


def _check_ajp_attribute(text: str) -> None:
    from portico.codecs.ajp import check_attribute  # noqa: PLC0415 - 3 ms that only AJP is worth

    check_attribute(text)


def _check_mount(text: str) -> None:
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not begin with a slash, such as /app; / is the root")
    if "//" in text or "?" in text or "#" in text:
        raise ValueError(f"{text!r} is no plain path, such as /app")


def _check_application(text: str) -> None:
    if not text.strip():
        raise ValueError("it is empty; name module:callable, module:factory() or a file")


_SECONDS: dict[str, Any] = {"section": "timeouts", "unit": "seconds", "least": 0.1, "most": 86_400}
_OCTETS: dict[str, Any] = {"section": "limits", "unit": "bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a serving process; checked when made.

    Raises:
        ConfigError: a value out of its bounds.
    """

    bind: tuple[str, ...] = option(
        (),
        section="listening",
        metavar="URL",
        check=bind_url.parse,
        example="[fastcgi://127.0.0.1:9000]",
        doc="Where to listen: `PROTOCOL[+TRANSPORT]://ADDRESS[?option=value&...]`, such as"
        " `scgi://127.0.0.1:4000` or `fastcgi+unix:///run/app.sock?mode=660&group=www-data`."
        " `auto` stands for all protocols, told apart by what comes. May be given several times.",
    )
    max_connections: int = option(
        10_000,
        section="listening",
        unit="connections",
        least=1,
        most=1_000_000,
        doc="Connections held open at the same time; further ones wait in the kernel's queue.",
    )
    app: str | None = option(
        None,
        section="application",
        metavar="APP",
        positional=True,
        check=_check_application,
        example="mysite:application",
        doc="The application: `module:callable`, `module:factory()`, or the path of a file, also"
        " with `:callable`. Beside `mounts` it serves what none of them takes.",
    )
    mount: str | None = option(
        None,
        section="application",
        metavar="PREFIX",
        check=_check_mount,
        example="/app",
        doc="Path below which the application lives: SCRIPT_NAME is exactly that, PATH_INFO the"
        " rest. Without it, Portico goes by what the web server says and repairs known mistakes.",
    )
    mounts: tuple[Mount, ...] = option(
        (),
        section="application",
        flag="--app-at",
        metavar="PLACE=APP",
        example="/shop: shop:application\nstatus.example.org: portico.apps.inspector\n"
        '"*.example.org/blog":\n  app: /srv/blog/blog.wsgi\n  environment:\n'
        "    BLOG_TITLE: Columns",
        doc="Several applications, by the place where each lives: `/prefix`, `host`, `host/prefix`,"
        " or `/`; `*.example.org` stands for all hosts below. A place has an application, or in a"
        " file a mapping with `app` and `environment`, which is set while that application is"
        " loaded and in the environ of each of its requests. May be given several times.",
    )
    environment: tuple[tuple[str, str], ...] = option(
        (),
        section="application",
        metavar="NAME=VALUE",
        example="DJANGO_SETTINGS_MODULE: mysite.settings\nTZ: UTC",
        doc="Environment variables that are set before the application is loaded. What Python and"
        " the system read at the start of a process, such as PYTHONPATH, comes too late here. May"
        " be given several times.",
    )
    disable_repairs: tuple[str, ...] = option(
        (),
        section="application",
        flag="--disable-repair",
        metavar="NAME",
        example="[nginx-stock-fastcgi]",
        doc="Names of SCRIPT_NAME and PATH_INFO repairs that are not to be made. May be given"
        " several times.",
    )
    roles: tuple[str, ...] = option(
        ("responder",),
        section="application",
        flag="--role",
        metavar="ROLE",
        choices=("responder", "authorizer", "filter"),
        doc="FastCGI roles that the application serves: `responder` answers requests, `authorizer`"
        " says whether one may pass, `filter` works on a file that the web server sends along. The"
        " role of a request is `portico.role` in its environ. May be given several times.",
    )
    ajp_attributes: tuple[str, ...] = option(
        (),
        section="application",
        flag="--ajp-attribute",
        metavar="NAME",
        check=_check_ajp_attribute,
        example="[SSL_CLIENT_S_DN, GEOIP_COUNTRY_CODE]",
        doc="Names of AJP request attributes that reach the application, as variables of that"
        " name: what the administrator has the web server send (`JkEnvVar`, or mod_proxy_ajp's"
        " variables that begin with `AJP_`). All others are left out, since whoever reaches the"
        ' socket may send any (CVE-2020-1938, "Ghostcat", was that). A name that means'
        " something of its own, such as REMOTE_USER or HTTP_HOST, is refused at the start. May be"
        " given several times.",
    )
    debug: bool = option(
        False,
        section="application",
        doc="Whether an error page shows the traceback to the visitor.",
    )
    threads: int = option(
        16,
        section="concurrency",
        unit="threads",
        least=1,
        most=10_000,
        doc="Requests that run at the same time in one process. Threads start when first needed.",
    )
    queue_timeout: float = option(
        30.0,
        **_SECONDS | {"section": "concurrency"},
        doc="Longest wait of a request for a free thread; after it, the answer is 503.",
    )
    workers: int = option(
        1,
        section="processes",
        unit="processes",
        least=0,
        most=1000,
        doc="Worker processes, which a parent starts, watches and replaces. With 0 the process that"
        " was started serves by itself: nothing replaces it, and it cannot reload.",
    )
    on_demand: bool = option(
        False,
        section="processes",
        doc="Whether workers start when requests come, up to `workers`, and leave when idle.",
    )
    worker_idle_timeout: float = option(
        60.0,
        **_SECONDS | {"section": "processes"},
        doc="With `on_demand`: how long a worker may have neither request nor connection before it"
        " leaves.",
    )
    preload: bool = option(
        False,
        section="processes",
        doc="Whether the application is loaded once, in a process that all workers of a generation"
        " are forked from: they start at once and share its memory. It must not have threads or"
        " open connections by then.",
    )
    startup_timeout: float = option(
        60.0,
        **_SECONDS | {"section": "processes"},
        doc="How long a worker may take to load the application and answer its health request.",
    )
    health: str | None = option(
        None,
        section="processes",
        metavar="PATH",
        check=_check_mount,
        example="/health",
        doc="Path that each new worker asks its application for before it serves anybody; a status"
        " of 400 or more, or an exception, means that it cannot serve.",
    )
    max_requests: int = option(
        0,
        section="processes",
        unit="requests",
        least=0,
        most=1_000_000_000,
        doc="Requests after which a worker is replaced; 0 means never.",
    )
    max_lifetime: float = option(
        0.0,
        section="processes",
        unit="seconds",
        least=0,
        most=31_536_000,
        doc="Age at which a worker is replaced; 0 means never.",
    )
    recycle_jitter: int = option(
        10,
        section="processes",
        unit="percent",
        least=0,
        most=100,
        doc="By how much, at random and at most, each worker's `max_requests` and `max_lifetime`"
        " are raised, so that not all are due at once.",
    )
    max_memory: int = option(
        0,
        section="processes",
        unit="bytes",
        least=0,
        most=1_099_511_627_776,
        doc="Resident memory above which a worker is replaced, looked at after requests; 0 means"
        " never.",
    )
    reload: bool = option(
        False,
        section="processes",
        doc="Whether changed code and a changed file of options are loaded by themselves, for"
        " development. Looks twice a second; with the extra `reload` the system tells.",
    )
    user: str | None = option(
        None,
        section="processes",
        metavar="NAME",
        example="www-data",
        doc="User that the workers become, by name or number, once the sockets are open; with its"
        " supplementary groups. Only root can do that.",
    )
    group: str | None = option(
        None,
        section="processes",
        metavar="NAME",
        example="www-data",
        doc="Group that the workers get, by name or number; that of `user` by default.",
    )
    pid_file: str | None = option(
        None,
        section="processes",
        metavar="PATH",
        example="/run/portico.pid",
        doc="File for the parent's process id, locked as long as that runs.",
    )
    status_socket: str | None = option(
        None,
        section="processes",
        metavar="PATH",
        example="/run/portico-status.sock",
        doc="Unix socket on which `portico status` asks; for the user alone who started Portico.",
    )
    max_params_bytes: int = option(
        _LIMITS.max_params_bytes,
        **_OCTETS,
        least=1024,
        most=268_435_456,
        doc="Most octets of all parameters (request headers among them) of one request.",
    )
    max_params: int = option(
        _LIMITS.max_params,
        section="limits",
        unit="parameters",
        least=16,
        most=100_000,
        doc="Most parameters (request headers among them) of one request.",
    )
    max_multiplexed: int = option(
        64,
        section="limits",
        unit="requests",
        least=1,
        most=10_000,
        doc="Most requests in flight on one FastCGI connection; further ones are answered"
        " FCGI_OVERLOADED. With 1, or with one thread, there is no multiplexing.",
    )
    max_body_bytes: int = option(
        68_719_476_736,
        **_OCTETS,
        least=0,
        most=999_999_999_999_999_999,
        doc="Most octets of one request's body: a longer one is answered 413. Nothing is set aside"
        " for a body, and the web server has a limit of its own, usually a lower one.",
    )
    body_spool_bytes: int = option(
        262_144,
        **_OCTETS,
        least=0,
        most=1_073_741_824,
        doc="Body that arrives while the application writes is kept in memory up to this size,"
        " and in a temporary file above it.",
    )
    max_spool_bytes: int = option(
        1_073_741_824,
        **_OCTETS,
        least=0,
        most=1_099_511_627_776,
        doc="Most octets of body kept, in memory and in the temporary file, that arrive while the"
        " application writes; on a FastCGI connection with several requests, for all of them and"
        " whatever the applications do. Beyond it the web server has to wait until it has taken"
        " more of the response itself, or an application more of its body; where it does not,"
        " `write_timeout` ends the request.",
    )
    drain_bytes: int = option(
        1_048_576,
        **_OCTETS,
        least=0,
        most=1_099_511_627_776,
        doc="Most octets of a body which the application left unread that are read away to keep"
        " the connection; where more is left, the connection closes.",
    )
    timeout: float = option(
        0.0,
        **_SECONDS | {"least": 0},
        doc="Hard limit of one request, from its call of the application to its end; 0 means none."
        " Beyond it the client gets 504, or a cut response where the head has left, and"
        " `portico.RequestTimeout` is raised in the application.",
    )
    slow_timeout: float = option(
        0.0,
        **_SECONDS | {"least": 0},
        doc="Soft limit of one request; 0 means none. Beyond it the log gets one entry of"
        " `portico.slow` with the request and the stack of its thread.",
    )
    head_timeout: float = option(
        10.0,
        **_SECONDS,
        doc="From a request's first octet (on a new connection, from its acceptance) to the end"
        " of its head.",
    )
    body_timeout: float = option(60.0, **_SECONDS, doc="Each wait for more of a request's body.")
    write_timeout: float = option(
        60.0, **_SECONDS, doc="Each wait until the web server takes more of a response."
    )
    drain_timeout: float = option(
        5.0, **_SECONDS, doc="Reading away of a body that the application left unread, in all."
    )
    idle_timeout: float = option(
        3600.0,
        **_SECONDS,
        doc="How long a kept connection may stay without a request. Web servers that keep"
        " connections close them when they like; if this side closes first, a request that is"
        " just on its way is lost.",
    )
    graceful_timeout: float = option(
        30.0, **_SECONDS, doc="How long running requests may take to finish at shutdown."
    )
    log_file: str | None = option(
        None,
        section="logging",
        metavar="PATH",
        example="/var/log/portico/error.log",
        doc="File for the log and all that is written to standard error; SIGUSR1 opens it anew.",
    )
    access_log: str | None = option(
        None,
        section="logging",
        metavar="PATH",
        example="/var/log/portico/access.log",
        doc="File for one line a request, `-` for standard output; SIGUSR1 opens it anew. Off by"
        " default: the web server keeps one.",
    )
    access_format: str = option(
        "combined",
        section="logging",
        metavar="FORMAT",
        choices=("combined", "json"),
        doc="Form of the access log: Apache's combined format and fields behind it, or JSON lines.",
    )
    errors_to: str = option(
        "log",
        section="logging",
        metavar="WHERE",
        choices=("log", "frontend"),
        doc="Where `wsgi.errors` goes: to standard error with the log, or over FastCGI to the web"
        " server (`frontend`), which keeps it in its own error log.",
    )
    log_level: str = option(
        "info",
        section="logging",
        metavar="LEVEL",
        choices=("debug", "info", "warning", "error"),
        doc="Least severity that is logged.",
    )

    def __post_init__(self) -> None:
        for name, declared in OPTIONS.items():
            object.__setattr__(self, name, declared.read(getattr(self, name)))


#: All settings by name, in the order of their declaration.
OPTIONS: dict[str, Option] = {
    found.name: replace(found.metadata["option"], name=found.name, kind=str(found.type))
    for found in fields(Settings)
}
