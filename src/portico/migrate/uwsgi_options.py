"""What becomes of each option of uWSGI; the reference is made of this table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

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
    split_variable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_FALSE = {"false", "off", "no", "0"}


def is_on(entry: Entry) -> bool:
    """Whether a switch is on: it is by being there."""
    return str(entry.data or "true").lower() not in _FALSE


def number(text: Any) -> int:
    """Read a whole number.

    Raises:
        ValueError: it is none.
    """
    text = str(text or "").strip()
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"{text!r} is no number" if text else "there is no number")
    return int(text)


def megabytes(text: Any) -> int:
    """Read a number of megabytes, in bytes."""
    return number(text) << 20


def path(text: Any) -> str:
    """Read the path of a file.

    Raises:
        ValueError: it is none, or the name of one of uWSGI's loggers.
    """
    name = str(text or "")
    kind, colon, rest = name.partition(":")
    if colon and kind == "file":
        return rest
    if not name or (colon and "/" not in kind):
        raise ValueError(f"{name!r} is no file")
    return name


def switch(key: str, why_not: str, text: str = "") -> Rule:
    """Make the rule of a switch that is a setting of Portico's."""

    def apply(state: State, entry: Entry) -> None:
        if is_on(entry):
            state.plan.carry(entry, key, True, text)
        else:
            state.plan.note(entry, NEEDLESS, why_not)

    return Rule(CARRIED, f"`{key}`" + (f"; {text}" if text else ""), apply)


def _variable(state: State, entry: Entry) -> None:
    try:
        name, value = split_variable(str(entry.data or ""))
    except ValueError as error:
        state.plan.leave(entry, f"{error}")
        return
    state.plan.carry_variable(entry, name, value)


def _autoreload(state: State, entry: Entry) -> None:
    if str(entry.data or "").strip() in _FALSE:
        state.plan.note(entry, NEEDLESS, "it is off")
    else:
        state.plan.carry(entry, "reload", True, "for development; Portico looks twice a second")


def _daemonize(state: State, entry: Entry) -> None:
    _LOG(state, entry)
    state.plan.leave(
        entry, "Portico stays in the foreground: let systemd run it (portico config systemd)"
    )


def _stats(state: State, entry: Entry) -> None:
    text = str(entry.data or "")
    if "/" in text:
        told = "portico status asks there; uwsgitop does not understand it"
        state.plan.carry(entry, "status_socket", text, told)
    else:
        state.plan.leave(entry, "status is on a Unix socket alone: set status_socket to a path")


def _idle(state: State, entry: Entry) -> None:
    try:
        seconds = number(entry.data)
    except ValueError as error:
        state.plan.leave(entry, f"{error}; decide worker_idle_timeout by hand")
        return
    if state.plan.carry(entry, "on_demand", True):
        state.plan.carry(entry, "worker_idle_timeout", seconds)


def _seconds(*keys: str) -> Callable[[State, Entry], None]:
    def apply(state: State, entry: Entry) -> None:
        for key in keys:
            setting(key, number)(state, entry)

    return apply


_LOG = setting("log_file", path, "everything that is logged; SIGUSR1 opens it anew")

_SERVICE = "run it as a service of its own, such as a unit of systemd"
_FILES = "let the web server serve files"
_HTTP = "Portico speaks no HTTP: the web server in front of it does that"
_API = "part of uWSGI's own API, which the application can no longer import"
_ALWAYS = "Portico is always so"
_FRONT = "the web server's business: set it there"
_UNIT = "systemd's business: portico config systemd prints a unit to add it to"
_THREADS = "Portico serves in threads: set threads to the number of requests that may run at once"
_HOOK = "do it in the unit that starts the service (ExecStartPre=, ExecStopPost=)"
_WORKERS = (
    "all workers are kept, or with on_demand: yes those alone that have work; nothing between"
)
_SMALLER = "Portico's own limit is higher (max_params_bytes, 1 MiB)"

#: Option -> what becomes of it. Names that mean the same stand together.
OPTIONS: dict[str, Rule] = {
    # the application
    **each(("module", "wsgi", "w"), kept("app", "`app`, as `module:callable`")),
    **each(("wsgi-file", "file"), kept("app", "`app`, the file's full path")),
    "callable": kept("callable", "`app`, behind the colon"),
    "mount": kept("mount", "`mounts`"),
    "manage-script-name": needless("what `mounts` have in any case"),
    "chdir": kept("chdir", "the directory that the command is started in"),
    "chdir2": kept("chdir", "the directory that the command is started in"),
    **each(("pythonpath", "python-path", "pp"), kept("pythonpath", "PYTHONPATH of the command")),
    **each(
        ("virtualenv", "home", "venv", "pyhome", "H"),
        kept("home", "the command is that environment's own; install Portico there"),
    ),
    "env": Rule(CARRIED, "`environment`, or the command's own where Python reads it", _variable),
    "need-app": needless("a worker that cannot load the application never serves"),
    "single-interpreter": needless("there is one interpreter in a process"),
    **each(("import", "pyimport", "py-import", "python-import", "shared-import"),
           left("import it where the application is made")),
    **each(("paste", "ini-paste", "ini-paste-logged", "pecan"),
           left("write a file with application = paste.deploy.loadapp('config:/path'), and make"
                " that app")),
    **each(("eval", "pyrun", "pyshell", "pyargv"), left("write a file, and make that app")),
    **each(("pymodule-alias", "post-pymodule-alias"), left("set sys.modules in the application")),
    "catch-exceptions": switch("debug", "it is off", "tracebacks for every visitor"),
    **each(("wsgi-env-behaviour", "wsgi-env-behavior"),
           needless("each request has an environ of its own")),
    "wsgi-disable-file-wrapper": left("delete environ['wsgi.file_wrapper'] in the application"),
    "py-call-osafterfork": needless("Python does that itself"),
    "optimize": left("set PYTHONOPTIMIZE for the command"),
    "no-site": left("start Python with -S: python -S -m portico"),
    # sockets
    **each(("socket", "s"), kept("socket", "`bind`")),
    **each(("uwsgi-socket",), kept("uwsgi-socket", "`bind`, uwsgi")),
    **each(("fastcgi-socket",), kept("fastcgi-socket", "`bind`, fastcgi")),
    **each(("scgi-socket",), kept("scgi-socket", "`bind`, scgi")),
    **each(("http-socket", "http11-socket"),
           kept("http-socket", "`bind` of the same address, fastcgi: proxy_pass must change")),
    **each(("http", "http11"), left(
        "Portico speaks no HTTP: put a web server in front; portico config prints its lines")),
    **each(("https", "https2", "https-socket", "ssl-socket", "suwsgi-socket",
            "http-to", "http-to-https"),
           left(f"{_HTTP}, and TLS")),
    **each(("protocol", "socket-protocol"), kept("protocol", "the protocol of `socket`")),
    **each(("chmod-socket", "chmod", "C"), kept("chmod", "`bind`: `?mode=`; 666 without a value")),
    "chown-socket": kept("chown", "`bind`: `?user=` and `?group=`"),
    "listen": kept("listen", "`bind`: `?backlog=`"),
    "reuse-port": left("add ?reuse_port=yes to a TCP bind; the workers share one socket anyway"),
    "shared-socket": left("give its address to bind"),
    **each(("map-socket", "undeferred-shared-socket"), left("each worker serves every bind")),
    "vacuum": needless("sockets and pid file are removed at the end"),
    "abstract-socket": left("Portico refuses abstract sockets: give bind a path"),
    "freebind": left("wait for the address in the unit: After=network-online.target"),
    "so-keepalive": needless("a dead web server is noticed by the time limits"),
    **each(("tcp-nodelay", "socket-sndbuf", "socket-rcvbuf", "so-send-timeout", "tcp-fast-open",
            "tcp-fastopen"),
           needless("Portico and the kernel choose")),
    # processes and threads
    **each(("processes", "workers", "p"), setting("workers", number)),
    "threads": setting("threads", number),
    "enable-threads": needless("threads of the application always run"),
    **each(("master", "M"), needless(f"{_ALWAYS}: a parent watches the workers")),
    "lazy-apps": needless("each worker loads the application, unless preload: yes"),
    "lazy": needless("each worker loads the application, unless preload: yes"),
    "cheap": switch("on_demand", "it is off", "workers start with the first requests"),
    "idle": Rule(CARRIED, "`on_demand` and `worker_idle_timeout`", _idle),
    **each(("cheaper", "cheaper-initial", "cheaper-step", "cheaper-algo", "cheaper-overload",
            "cheaper-rss-limit-soft", "cheaper-rss-limit-hard"), left(_WORKERS)),
    "die-on-idle": left("with on_demand: yes workers leave when idle, and the parent stays"),
    **each(("thunder-lock", "lock-engine"),
           needless("the workers share the sockets without a lock")),
    **each(("offload-threads", "offload-thread"),
           needless("files go out by sendfile, and slow readers hold no lock")),
    **each(("threads-stacksize", "thread-stacksize", "thread-stack-size", "threads-stack-size"),
           left("call threading.stack_size() when the application is loaded")),
    **each(("gevent", "gevent-monkey-patch", "async", "ugreen", "greenlet", "asyncio", "tornado",
            "coroae", "gevent-early-monkey-patch", "loop"), left(_THREADS)),
    **each(("auto-procname", "procname", "procname-prefix", "procname-prefix-spaced",
            "procname-append", "procname-master"), needless("portico status names the workers")),
    "cpu-affinity": left(_UNIT),
    **each(("uid",), setting("user", str)),
    **each(("gid",), setting("group", str)),
    "add-gid": left("put the user into that group: workers get all groups of user"),
    "umask": kept("umask", "the command is started with it"),
    **each(("limit-as", "limit-nproc", "max-fd", "chroot", "cgroup",
            "unshare", "cap"), left(_UNIT)),
    # recycling and time limits
    "harakiri": setting(
        "timeout", number, "the client gets 504, the application portico.RequestTimeout"),
    "harakiri-verbose": needless("the log has the request, and with slow_timeout its stack"),
    "harakiri-no-arh": needless("there are no after-request hooks"),
    "max-requests": setting("max_requests", number),
    "max-requests-delta": needless("recycle_jitter spreads the ends, by 10 % unless set"),
    "min-worker-lifetime": needless("a worker is replaced once the new one serves"),
    "max-worker-lifetime": setting("max_lifetime", number),
    "max-worker-lifetime-delta": needless("recycle_jitter spreads the ends, by 10 % unless set"),
    "reload-on-rss": setting("max_memory", megabytes, "given in bytes"),
    "evil-reload-on-rss": setting(
        "max_memory", megabytes, "looked at after requests alone, given in bytes"),
    **each(("reload-on-as", "evil-reload-on-as"),
           left("set max_memory, which is of resident memory, not of address space")),
    "memory-report": needless("portico status has each worker's memory"),
    **each(("worker-reload-mercy", "reload-mercy"), setting("graceful_timeout", number)),
    "mule-reload-mercy": left(_SERVICE),
    "exit-on-reload": left("SIGHUP always reloads: let systemd restart the unit instead"),
    "die-on-term": needless("SIGTERM always ends it"),
    "touch-reload": left("send SIGHUP instead: systemctl reload, or kill -HUP with pid_file"),
    **each(("touch-workers-reload", "touch-chain-reload", "touch-mules-reload", "fs-reload",
            ),
           left("send SIGHUP instead: systemctl reload, or kill -HUP with pid_file")),
    **each(("touch-logreopen", "touch-logrotate"), left("send SIGUSR1 instead")),
    **each(("py-autoreload", "py-auto-reload", "python-autoreload", "python-auto-reload"),
           Rule(CARRIED, "`reload`", _autoreload)),
    "reload-on-exception": left("a worker goes on after an exception; its log has the traceback"),
    **each(("ignore-sigpipe", "ignore-write-errors", "disable-write-exception",
            "write-errors-exception-only",
            "write-errors-tolerance"),
           needless("a client that leaves is a line of the log, no exception in the application")),
    "socket-timeout": Rule(CARRIED, "`body_timeout` and `write_timeout`",
                           _seconds("body_timeout", "write_timeout")),
    **each(("http-timeout", "http-connect-timeout", "http-keepalive", "http-auto-chunked",
            "http-auto-gzip", "http-raw-body", "http-chunked-input", "http-manage-expect",
            "http-processes", "http-enable-proxy-protocol", "add-header", "del-header",
            "rem-header", "collect-header", "response-header-collect"),
           left(_FRONT)),
    # limits
    "buffer-size": needless(_SMALLER),
    "limit-post": setting("max_body_bytes", number),
    **each(("post-buffering", "post-buffering-bufsize", "body-read-warning"),
           needless("bodies are read as the application asks; the web server buffers them")),
    # logging
    **each(("logto", "logto2", "logger"), _LOG),
    **each(("req-logger", "logger-req"), setting("access_log", path)),
    "daemonize": Rule(CARRIED, "`log_file`, and a service manager in the place of the daemon",
                      _daemonize),
    "daemonize2": Rule(CARRIED, "`log_file`, and a service manager in the place of the daemon",
                       _daemonize),
    **each(("disable-logging", "L"), needless("access_log is off unless it is set")),
    **each(("log-format", "logformat", "logformat-strftime"),
           left("set access_log, and access_format to combined or json")),
    **each(("log-4xx", "log-5xx", "log-slow", "log-big", "log-zero", "log-sendfile", "log-ioerror"),
           left("the access log has all requests; slow_timeout logs slow ones with their stack")),
    **each(("log-x-forwarded-for", "log-micros", "log-date", "logdate", "log-prefix", "log-encoder",
            "log-req-encoder", "log-route", "log-req-route", "log-drain", "log-filter"),
           left("the log has one form: docs/reference/logs.md")),
    **each(("log-master", "threaded-logger", "log-master-bufsize", "log-reopen"),
           needless("every process writes whole lines to the same file; SIGUSR1 opens it anew")),
    **each(("log-maxsize", "log-backupname", "log-truncate"),
           left("rotate it by logrotate, which sends SIGUSR1")),
    **each(("logfile-chown", "logfile-chmod"),
           left("log files have mode 0640; set a default group on their directory")),
    **each(("pidfile", "pidfile2", "safe-pidfile", "safe-pidfile2"), setting("pid_file", path)),
    **each(("stats", "stats-server"), Rule(CARRIED, "`status_socket`", _stats)),
    **each(("stats-http", "stats-minified", "stats-push", "carbon", "statsd",
            "metric", "enable-metrics", "metrics-dir", "snmp"),
           left("portico status --json, or portico.apps.status for Prometheus")),
    "show-config": needless("portico check shows every option"),
    "strict": needless("unknown options are always refused"),
    # what the web server or another program does better
    **each(("static-map", "static-map2"),
           kept("static", "let the web server serve files: the report has its lines", LEFT)),
    **each(("check-static", "static-index", "static-expires", "static-expires-uri",
            "static-skip-ext", "static-safe", "static-gzip", "static-gzip-all",
            "static-cache-paths", "mimefile", "check-static-docroot"),
           left(_FILES)),
    **each(("error-page-403", "error-page-404", "error-page-500"), left(_FRONT)),
    **each(("spooler", "spooler-processes", "spooler-import", "spooler-frequency",
            "spooler-ordered", "spooler-harakiri", "spooler-external", "spooler-chdir"),
           left(f"{_API}: a queue of tasks, such as Celery or RQ, does that")),
    **each(("cron", "cron2", "legion-cron", "unique-cron"), left("a timer of systemd, or cron")),
    **each(("mule", "mules", "farm"), left(_SERVICE)),
    **each(("attach-daemon", "attach-daemon2", "smart-attach-daemon", "smart-attach-daemon2",
            "legion-attach-daemon"), left(_SERVICE)),
    **each(("emperor", "vassal-sos-backlog", "emperor-tyrant", "vassals-include",
            "vassal-set", "emperor-stats", "emperor-pidfile"),
           left("a unit of systemd for each vassal; migrate each vassal's file")),
    **each(("cache", "cache2", "cache-blocksize", "cache-store", "queue",
            "sharedarea", "locks", "signal-bufsize", "timer"), left(_API)),
    **each(("legion", "subscribe-to", "subscribe2", "fastrouter",
            "fastrouter-to", "rawrouter", "sslrouter"), left("the web server's upstream has that")),
    "http-websockets": left("WSGI has none; a server for ASGI does"),
    **each(("plugin", "plugins", "need-plugin", "need-plugins"),
           kept("plugins", "Portico is in Python; plugins for other ends are left", NEEDLESS)),
    **each(("plugins-dir", "plugin-dir", "autoload", "plugins-list"),
           needless("Portico has no plugins")),
    **each(("hook-post-app", "hook-pre-app", "hook-post-fork", "hook-accepting1"),
           left("do it where the application is made: each worker loads it")),
    "exec-asap": left(_HOOK),
    **each(("vhost", "vhost-host"), left("mounts by host take its place")),
    "honour-stdin": needless("standard input plays no part"),
    "close-on-exec": needless(_ALWAYS),
    "close-on-exec2": needless(_ALWAYS),
    "no-orphans": needless("workers notice when the parent is gone, and end"),
    "no-default-app": needless("without app, what no mount takes is answered 404"),
    "reload-os-env": needless("os.environ is set once, before the application is loaded"),
    "max-apps": needless("mounts have no limit of their own"),
    "ignore-script-name": needless("mount sets SCRIPT_NAME"),
    "profiler": left("profile the application by middleware of its own"),
    **each(("socket-write-timeout", "so-write-timeout", "socket-send-timeout"),
           setting("write_timeout", number)),
    "max-vars": setting("max_params", number),
    **each(("unenv", "envdir", "early-envdir"), left("set environment, or the unit's own")),
    "force-cwd": left("start the command in that directory"),
    "wsgi-strict": needless("what PEP 3333 demands is always checked"),
    **each(("wsgi-accept-buffer", "wsgi-accept-buffers", "wsgi-lite", "web3", "pump"),
           left("Portico takes what PEP 3333 allows alone: bytes")),
    "start-response-nodelay": needless("the head leaves with the first of the body"),
    **each(("python-version", "py-executable", "py-sys-executable", "py-programname",
            "py-program-name"), needless("the command belongs to one Python")),
    "py-tracebacker": left("SIGQUIT writes the stacks of all threads to the log"),
    "py-auto-reload-ignore": left("reload watches all modules that are loaded"),
    "honour-range": needless("the application and the web server answer ranges"),
    "enable-proxy-protocol": left("the web server reads it: listen ... proxy_protocol"),
    **each(("static-check", "mime-file"), left(_FILES)),
    **each(("log-syslog", "log-socket", "rsyslog"), left("systemd's journal takes the log")),
    "log-format-strftime": needless("the access log has one form of time"),
    **each(("no-initgroups", "master-as-root", "immediate-uid", "immediate-gid"),
           needless("the parent opens the sockets, workers then become user with its groups")),
    "notify-socket": needless("systemd is told as it asks, by NOTIFY_SOCKET"),
    **each(("skip-atexit", "skip-atexit-teardown", "no-threads-wait"),
           needless("graceful_timeout bounds how long the end may take")),
    **each(("alarm", "alarm-log", "alarm-segfault", "alarm-lq", "log-alarm"),
           left("watch portico status --json, or the log")),
    "worker-exec": left(_SERVICE),
    "master-fifo": left("signals take its place: docs/reference/signals.md"),
}  # fmt: skip

#: Beginning of a name -> what becomes of all such options that are not in `OPTIONS`.
PREFIXES: dict[str, Rule] = {
    "route": left("the web server's rewrite rules, or middleware of the application"),
    "error-route": left("the web server's rewrite rules, or middleware of the application"),
    "response-route": left("the web server's rewrite rules, or middleware of the application"),
    "final-route": left("the web server's rewrite rules, or middleware of the application"),
    "http-": left(_FRONT),
    "https-": left(_FRONT),
    "static-": left(_FILES),
    "cheaper-": left(_WORKERS),
    "spooler-": left(f"{_API}: a queue of tasks, such as Celery or RQ, does that"),
    "cache-": left(_API),
    "emperor-": left("a unit of systemd for each vassal; migrate each vassal's file"),
    "vassal": left("a unit of systemd for each vassal; migrate each vassal's file"),
    "hook-": left(_HOOK),
    "exec-": left(_HOOK),
    "subscri": left("the web server's upstream has that"),
    "fastrouter": left("the web server's upstream has that"),
    "legion": left("the web server's upstream has that"),
    "stats-": left("portico status --json, or portico.apps.status for Prometheus"),
    "wait-for-": left("the unit waits: After= and Requires="),
    "mount-": left(_UNIT),
    "umount-": left(_UNIT),
    "alarm-": left("watch portico status --json, or the log"),
    "metric": left("portico status --json, or portico.apps.status for Prometheus"),
    "call-": left(_HOOK),
    "touch-": left("send SIGHUP instead: systemctl reload, or kill -HUP with pid_file"),
    "websocket": left("WSGI has none; a server for ASGI does"),
    "reload-on-exception": left("a worker goes on after an exception; its log has the traceback"),
    "php-": left("this is no Python: php-fpm does that"),
    "perl": left("this is no Python"),
    "psgi": left("this is no Python"),
    "rack": left("this is no Python"),
}


def rule_of(name: str) -> Rule | None:
    """Find what becomes of an option; None for one that no table has."""
    rule = OPTIONS.get(name)
    if rule is None:
        rule = next((rule for start, rule in PREFIXES.items() if name.startswith(start)), None)
    return rule
