"""Configuration of Apache httpd 2.4: the mod_proxy family, mod_fcgid and CGI.

Observed from Apache 2.4.71: mod_proxy_fcgi and mod_proxy_scgi put the whole path into SCRIPT_NAME
and send no PATH_INFO. For FastCGI the configuration puts it right; for SCGI Apache cannot, and
Portico does, from what SCRIPT_FILENAME says. AJP has no SCRIPT_NAME at all: Portico's ``--mount``
splits the path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.servers.site import in_quotes

if TYPE_CHECKING:
    from portico.servers.site import Site

#: Route -> Apache's modules for it, by the names that LoadModule has.
_MODULES = {
    "fastcgi": ("proxy", "proxy_fcgi", "env"),
    "scgi": ("proxy", "proxy_scgi", "env"),
    "ajp": ("proxy", "proxy_ajp", "env", "headers"),
    "uwsgi": ("proxy", "proxy_uwsgi"),
    "fcgid": ("alias", "fcgid"),
    "cgi": ("alias", "cgid", "env"),
}
#: What every site needs, and every stock configuration loads.
COMMON_MODULES = ("authz_core", "unixd")
#: Observed from Apache 2.4.71 and mod_fcgid 2.3.9: a body above LimitRequestBody passes whole,
#: and with mod_fcgid the application gets an empty one.
_LIMIT_UNHEEDED = {"fastcgi", "ajp", "fcgid"}

#: Observed from Apache 2.4.71: these take Content-Length out of a response, and what breaks off
#: then looks whole; the others let it pass.
_LENGTH_TAKEN = {"fastcgi", "scgi", "ajp", "cgi"}

_SCHEMES = {"fastcgi": "fcgi", "scgi": "scgi", "ajp": "ajp", "uwsgi": "uwsgi"}
#: A ``|`` ends the socket's path, and the path is read as that of a URL.
_SOCKET_FORBIDDEN = "|?#%$"
#: ``${NAME}`` is replaced wherever it stands; there is no way to quote it.
_FORBIDDEN = "$"
#: mod_fcgid has no "unlimited".
_NO_LIMIT_BYTES = 1 << 40
#: Ports that the stock configuration listens on already.
_STOCK_PORTS = {80, 443}


def modules(site: Site) -> tuple[str, ...]:
    """Name the modules that the snippet needs, as LoadModule has them."""
    names = _MODULES[site.via]
    redirects = site.body_limit_bytes and site.via in _LIMIT_UNHEEDED
    return (*names, "alias") if redirects and "alias" not in names else names


def render(site: Site) -> str:
    """Give the ``<VirtualHost>`` of the site."""
    inner = [
        *([f"ServerName {site.server_name}"] if site.server_name else []),
        "# a %2F in a path is decoded like everything else, instead of answered with 404",
        "AllowEncodedSlashes On",
        "",
    ]
    inner += _script(site) if site.via in {"fcgid", "cgi"} else _proxy(site)
    command = site.serve_command
    lines = [
        *([f"# The application: {command}"] if command else []),
        f"# Modules needed: {' '.join(modules(site))}",
        *([] if site.listen_port in _STOCK_PORTS else [f"Listen {_listen(site)}"]),
        f"<VirtualHost {site.listen}>",
        *_indent(inner),
        "</VirtualHost>",
    ]
    return "\n".join(lines) + "\n"


def render_standalone(site: Site, directory: str, *, user: str = "") -> dict[str, str]:
    """Give a complete ``httpd.conf`` for a server that runs in *directory* alone.

    It loads its modules from ``modules`` in *directory*, as Apache's own layout has it: a link
    to where they are installed.
    """

    def inside(name: str) -> str:
        return in_quotes(f"{directory}/{name}", "directory", forbidden=_FORBIDDEN)

    lines = [
        f"ServerRoot {in_quotes(directory, 'directory', forbidden=_FORBIDDEN)}",
        f"DefaultRuntimeDir {in_quotes(directory, 'directory', forbidden=_FORBIDDEN)}",
        f"PidFile {inside('httpd.pid')}",
        f"ErrorLog {inside('error.log')}",
        f"ServerName {site.server_name or 'localhost'}",
        f"DocumentRoot {inside('empty')}",
        *([f"Listen {_listen(site)}"] if site.listen_port in _STOCK_PORTS else []),
        "",
        *_load_mpm(),
        *_load(*COMMON_MODULES, *modules(site)),
        "",
        *_process(site, user, inside("fcgid"), inside("fcgid_table"), inside("cgid")),
        "<Directory />",
        "    AllowOverride None",
        "    Require all denied",
        "</Directory>",
        f"<Directory {inside('empty')}>",
        "    Require all granted",
        "</Directory>",
        "",
    ]
    return {"httpd.conf": "\n".join(lines) + "\n" + render(site)}


def _listen(site: Site) -> str:
    return site.listen.removeprefix("*:")


def _load_mpm() -> list[str]:
    return [
        "<IfModule !mpm_prefork_module>",
        "    <IfModule !mpm_worker_module>",
        "        <IfModule !mpm_event_module>",
        "            LoadModule mpm_event_module modules/mod_mpm_event.so",
        "        </IfModule>",
        "    </IfModule>",
        "</IfModule>",
    ]


def _load(*names: str) -> list[str]:
    lines = []
    for name in names:
        if name == "cgid":  # a process that forks needs no daemon to fork for it
            lines += [
                "<IfModule mpm_prefork_module>",
                *_indent(_load("cgi")),
                "</IfModule>",
                "<IfModule !mpm_prefork_module>",
                *_indent(_load_one(name)),
                "</IfModule>",
            ]
        else:
            lines += _load_one(name)
    return lines


def _load_one(name: str) -> list[str]:
    return [
        f"<IfModule !{name}_module>",
        f"    LoadModule {name}_module modules/mod_{name}.so",
        "</IfModule>",
    ]


def _process(site: Site, user: str, *paths: str) -> list[str]:
    ipc, table, socket = paths
    lines = [
        # few processes and threads: this server is for one person's first look
        "StartServers 1",
        "TraceEnable off",
        "GracefulShutdownTimeout 3",
    ]
    if user:
        name, _, group = user.partition(" ")
        lines += [f"User {name}", f"Group {group or name}"]
    if site.via == "fcgid":
        lines += [f"FcgidIPCDir {ipc}", f"FcgidProcessTableFile {table}"]
    if site.via == "cgi":
        lines += ["<IfModule cgid_module>", f"    ScriptSock {socket}", "</IfModule>"]
    return lines


def _proxy(site: Site) -> list[str]:
    inner = [
        *_why(site),
        f"ProxyPass {_target(site)} {' '.join(_worker(site))}",
        *_limit(site),
        *_lengths(site),
    ]
    if site.via in {"fastcgi", "scgi"}:
        inner += ["# let the application see Authorization", "CGIPassAuth On"]
    if site.via == "fastcgi":
        inner += _fastcgi_paths(site)
    if site.via == "ajp":
        inner += [
            "# a client's Proxy header must not look like the variable of that name (httpoxy)",
            "RequestHeader unset Proxy",
        ]
    return [f'<Location "{site.mount or "/"}">', *_indent(inner), "</Location>"]


def _limit(site: Site) -> list[str]:
    limit = site.body_limit_bytes
    if not limit:
        return ["# no limit here: the application sets its own", "LimitRequestBody 0"]
    if site.via not in _LIMIT_UNHEEDED:
        return [f"LimitRequestBody {limit}"]
    lines = [
        "# LimitRequestBody does not hold over this module; uploads of unknown length pass this",
        f"<If \"req('Content-Length') -gt {limit}\">",
        f'    Redirect 413 "{site.mount or "/"}"',
        "</If>",
    ]
    if site.via == "fcgid":
        lines[0] = "# LimitRequestBody would empty the body instead of refusing it"
        lines.append("LimitRequestBody 0")
    return lines


def _lengths(site: Site) -> list[str]:
    if site.via not in _LENGTH_TAKEN:
        return []
    return [
        "# Content-Length passes to the client: Portico holds the application to what it announces",
        "SetEnv ap_trust_cgilike_cl 1",
    ]


def _target(site: Site) -> str:
    scheme = _SCHEMES[site.via]
    # AJP transmits one path only: the whole one is sent, and Portico splits it
    path = site.mount if site.via == "ajp" else ""
    if not site.mount:
        path = "/"  # both sides of ProxyPass end in a slash, or neither
    if site.socket_path:
        in_quotes(site.socket_path, "socket", forbidden=_SOCKET_FORBIDDEN)  # or refuse
        return in_quotes(f"unix:{site.socket_path}|{scheme}://localhost{path}", "socket")
    return in_quotes(f"{scheme}://{site.backend}{path}", "address", forbidden=_FORBIDDEN)


def _worker(site: Site) -> list[str]:
    words = [f"timeout={site.timeout_seconds}", "retry=0"]
    if site.via == "fastcgi":
        words.insert(0, "enablereuse=on")
    if site.via in {"fastcgi", "ajp"}:
        words.append("ttl=30")
    if site.streaming:
        words.append("flushpackets=on")
    if site.via == "ajp":
        if site.packet_size:
            words.append(f"iobuffersize={site.packet_size}")
        if site.secret:
            words.append(in_quotes(f"secret={site.secret}", "secret", forbidden=_FORBIDDEN))
    return words


def _why(site: Site) -> list[str]:
    lines = ["# retry=0: an application that was restarted is asked again at once, not after 60 s"]
    if site.via in {"fastcgi", "ajp"}:
        lines.append("# ttl=30: idle connections end here before they end at the application")
    if site.via in {"scgi", "uwsgi"}:
        lines.append("# uploads of unknown length (chunked) are answered 411 by this module")
    if site.via == "scgi":
        lines.append("# Apache puts the whole path into SCRIPT_NAME; Portico takes it apart")
    if site.via == "ajp":
        lines.append("# AJP knows no SCRIPT_NAME: the path is split by Portico's --mount")
        if site.secret:
            lines.append("# the secret is readable here: keep this file from other users")
    if site.streaming:
        lines.append("# flushpackets=on: blocks leave as the application yields them")
    return lines


def _fastcgi_paths(site: Site) -> list[str]:
    pattern = rf"(?s)\A{site.mount_pattern}(/.*|)\z"
    return [
        "# the path as the application must see it: its mount point, and the decoded rest",
        "ProxyFCGIBackendType GENERIC",
        f'ProxyFCGISetEnvIf "reqenv(\'SCRIPT_NAME\') =~ m#{pattern}#" PATH_INFO "$1"',
        f'ProxyFCGISetEnvIf "true" SCRIPT_NAME "{site.mount}"',
    ]


def _script(site: Site) -> list[str]:
    path = site.script + ("" if site.mount else "/")
    handler = "fcgid-script" if site.via == "fcgid" else "cgi-script"
    quoted = in_quotes(path, "script", forbidden=_FORBIDDEN)
    inner = [
        f"SetHandler {handler}",
        "Options +ExecCGI",
        "Require all granted",
        "# let the application see Authorization",
        "CGIPassAuth On",
        *_limit(site),
        *_lengths(site),
    ]
    lines = [
        f'Alias "{site.mount or "/"}" {quoted}',
        f'<Location "{site.mount or "/"}">',
        *_indent(inner),
        "</Location>",
    ]
    if site.via == "cgi":
        return [*lines, f"Timeout {site.timeout_seconds}"]
    lines += [
        "# the stock 128 KiB would refuse most uploads",
        f"FcgidMaxRequestLen {site.body_limit_bytes or _NO_LIMIT_BYTES}",
        f"FcgidIOTimeout {site.timeout_seconds}",
        f"FcgidBusyTimeout {max(300, site.timeout_seconds)}",
    ]
    if site.streaming:
        lines += ["# blocks leave as the application yields them", "FcgidOutputBufferSize 0"]
    return lines


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line if line else "" for line in lines]
