"""What becomes of each setting of gunicorn's; the reference is made of this table."""

from __future__ import annotations

from typing import Any

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

_TLS = "TLS ends at the web server: set it there"
_HTTP = "the web server reads HTTP, and has such limits of its own"
_PROXY = "the web server says who asks: each request has its scheme and address"
_STATSD = "portico status --json, or portico.apps.status for Prometheus"
_LOGS = "the log has one form: docs/reference/logs.md"
_DEVELOPMENT = "for development; Portico looks twice a second"
_MODULE = "do it where the application is made: each worker loads it"
_SERVICE = "do it in the unit that starts the service (ExecStartPre=, ExecStopPost=)"


def number(value: Any) -> float:
    """Take a number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004 - the reason is for people
    try:
        read = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None
    return int(read) if read == int(read) else read


def path(value: Any) -> str | None:
    """Take the path of a file.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no file")
    return value


def level(value: Any) -> str:
    """Take a severity of the log."""
    return str(value).lower()


def _log(key: str, missing: str) -> Rule:
    """Make the rule of a log file, where ``-`` is standard output or error."""

    def apply(state: State, entry: Entry) -> None:
        if entry.data == "-" and key == "log_file":
            state.plan.note(entry, NEEDLESS, "standard error is where the log goes")
        elif entry.data is None:
            state.plan.note(entry, NEEDLESS, missing)
        else:
            setting(key, path)(state, entry)

    return Rule(CARRIED, f"`{key}`", apply)


def _switch(key: str, text: str = "") -> Rule:
    def apply(state: State, entry: Entry) -> None:
        if entry.data:
            state.plan.carry(entry, key, True, text)
        else:
            state.plan.note(entry, NEEDLESS, "it is off")

    return Rule(CARRIED, f"`{key}`" + (f"; {text}" if text else ""), apply)


def _off(rule: Rule) -> Rule:
    """Make *rule* one that says of what is off that nothing is needed."""

    def apply(state: State, entry: Entry) -> None:
        if entry.data in (None, False, "", 0):
            state.plan.note(entry, NEEDLESS, "it is off")
        else:
            rule(state, entry)

    return Rule(rule.outcome, rule.text, apply)


def _variables(state: State, entry: Entry) -> None:
    given = entry.data if isinstance(entry.data, list) else [entry.data]
    if not given:
        state.plan.note(entry, NEEDLESS, "it is empty")
    for one in given:
        try:
            name, value = split_variable(str(one))
        except ValueError as error:
            state.plan.leave(entry, str(error))
            continue
        state.plan.carry_variable(entry, name, value)


def _jitter(state: State, entry: Entry) -> None:
    state.kept.setdefault("jitter", []).append(entry)


#: Setting -> what becomes of it.
SETTINGS: dict[str, Rule] = {
    "wsgi_app": kept("app", "`app`"),
    "bind": kept("bind", "`bind` of the same address, fastcgi: proxy_pass must change"),
    "backlog": kept("backlog", "`bind`: `?backlog=`"),
    "workers": setting("workers", number),
    "threads": kept("threads", "`threads`"),
    "worker_class": kept("class", "`threads` in each worker, whatever the class"),
    "worker_connections": kept(
        "connections", "threads bound what runs at once in a worker, 16 unless set", LEFT),
    "timeout": kept("timeout", "`timeout` with sync workers; other workers have none of requests"),
    "graceful_timeout": setting("graceful_timeout", number),
    "keepalive": needless("the web server keeps connections to clients, Portico those to it"),
    "max_requests": setting("max_requests", number),
    "max_requests_jitter": Rule(CARRIED, "`recycle_jitter`, in percent", _jitter),
    "preload_app": _switch("preload", "no threads and no connections by then"),
    "reload": _switch("reload", _DEVELOPMENT),
    "reload_engine": needless("reload takes what the system has"),
    "reload_extra_files": _off(left("reload watches the modules that are loaded alone")),
    "chdir": kept("chdir", "the directory that the command is started in"),
    "pythonpath": kept("pythonpath", "PYTHONPATH of the command"),
    "raw_env": Rule(CARRIED, "`environment`, or the command's own", _variables),
    "user": _off(setting("user", str)),
    "group": _off(setting("group", str)),
    "umask": kept("umask", "the command's umask, and `?mode=` of Unix sockets"),
    "initgroups": needless("workers get all groups of user"),
    "pidfile": _off(setting("pid_file", path)),
    "daemon": _off(left(
        "Portico stays in the foreground: let systemd run it (portico config systemd)")),
    "accesslog": _log("access_log", "access_log is off unless it is set"),
    "access_log_format": left("set access_format to combined or json"),
    "disable_redirect_access_to_syslog": needless("nothing goes to syslog"),
    "errorlog": _log("log_file", "the log goes to standard error"),
    "loglevel": setting("log_level", level),
    "capture_output": needless("what is printed goes to the log"),
    "logger_class": _off(left(_LOGS)),
    **each(("logconfig", "logconfig_dict", "logconfig_json"),
           _off(left("configure logging in the application: Portico's own log has one form"))),
    **each(("syslog", "syslog_addr", "syslog_prefix", "syslog_facility"),
           _off(left("systemd's journal takes standard error"))),
    **each(("dogstatsd_tags", "statsd_host", "statsd_prefix", "enable_backlog_metric"),
           _off(left(_STATSD))),
    "enable_stdio_inheritance": needless("standard error is never redirected elsewhere"),
    **each(("limit_request_line", "limit_request_field_size"), needless(
        f"{_HTTP}; Portico's is max_params_bytes, 1 MiB in all")),
    "limit_request_fields": needless(f"{_HTTP}; Portico's is max_params, 1000"),
    **each(("forwarded_allow_ips", "secure_scheme_headers", "forwarder_headers",
            "proxy_allow_ips", "header_map"), needless(_PROXY)),
    "proxy_protocol": _off(left("the web server reads it: listen ... proxy_protocol")),
    "sendfile": needless("files of wsgi.file_wrapper go out by sendfile"),
    "reuse_port": _off(left("add ?reuse_port=yes to a TCP bind; the workers share one anyway")),
    **each(("keyfile", "certfile", "ssl_version", "cert_reqs", "ca_certs", "ciphers",
            "suppress_ragged_eofs", "do_handshake_on_connect", "http2_max_concurrent_streams",
            "http_protocols"), _off(left(_TLS))),
    "worker_tmp_dir": needless("workers report through shared memory"),
    "tmp_upload_dir": _off(left("set TMPDIR for the command")),
    "proc_name": needless("portico status names the workers"),
    "default_proc_name": needless("portico status names the workers"),
    "spew": _off(left("python -m trace does that")),
    "check_config": needless("portico check does that"),
    "print_config": needless("portico check does that"),
    "config": left("migrate that file as well"),
    "paste": _off(left(
        "write a file with application = paste.deploy.loadapp('config:/path'), and make that app")),
    "strip_header_spaces": _off(left(_HTTP)),
    **each(("casefold_http_method", "permit_unconventional_http_method",
            "permit_unconventional_http_version", "permit_obsolete_folding",
            "tolerate_dangerous_framing"), _off(left(_HTTP))),
    "control_socket": left("set status_socket: portico status asks there"),
    "control_socket_disable": needless("status_socket is off unless it is set"),
    "control_socket_mode": needless("status_socket is for its user alone"),
    **each(("asgi_loop", "asgi_lifespan", "asgi_disconnect_grace_period"),
           left("Portico serves WSGI alone")),
    "root_path": left("set mount: SCRIPT_NAME is exactly that"),
    # server hooks
    **each(("on_starting", "on_reload", "when_ready", "on_exit", "nworkers_changed"),
           left(f"a hook of the parent: {_SERVICE}")),
    **each(("pre_fork", "post_fork", "post_worker_init"),
           left(f"a hook of the workers: {_MODULE}")),
    **each(("worker_int", "worker_abort", "worker_exit", "child_exit"),
           left("a hook of the workers' end: register it with atexit where the application is"
                " made; the log says how a worker ended")),
    **each(("pre_exec", "pre_request", "post_request"),
           left("a hook of each request: middleware of the application does that")),
    "ssl_context": left(_TLS),
}  # fmt: skip
SETTINGS["pre_exec"] = SETTINGS["on_starting"]
