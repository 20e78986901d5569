"""Configuration of lighttpd 1.4: FastCGI, SCGI, uwsgi, CGI, and scripts that it spawns.

There is no AJP: lighttpd 1.4.69's mod_ajp13 sends request bodies without their inner length,
an empty one after every request without a body, and loses the path behind a mount point.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from portico.servers.site import in_quotes

if TYPE_CHECKING:
    from portico.servers.site import Site

_MODULES = {
    "fastcgi": ("mod_fastcgi",),
    "scgi": ("mod_scgi",),
    "uwsgi": ("mod_scgi",),
    "cgi": ("mod_alias", "mod_cgi"),
    "spawn": ("mod_fastcgi",),
}

#: lighttpd takes what stands behind one for arguments, and knows no quoting there.
_BIN_PATH_FORBIDDEN = " \t"

#: Processes of a script. lighttpd starts them all at once, and by default four.
_SPAWNED = 2


def render(site: Site) -> str:
    """Give the modules and the conditional block of the site."""
    body = [*(_script(site) if site.via == "cgi" else _gateway(site)), *_bodies(site)]
    if site.mount:
        body = [
            f"# a prefix alone would take {site.mount}x as well; two conditions, since no regular",
            "# expression matches a path that is not UTF-8, and a plain prefix is none",
            f'$HTTP["url"] =~ "^{site.mount_pattern}" {{',
            f'    $HTTP["url"] !~ "^{site.mount_pattern}[^/]" {{',
            *_indent(_indent(body)),
            "    }",
            "}",
        ]
    if site.server_name:
        body = [f'$HTTP["host"] == "{site.server_name}" {{', *_indent(body), "}"]
    command = site.serve_command
    lines = [
        *([f"# The application: {command}"] if command else []),
        *(f'server.modules += ( "{name}" )' for name in _MODULES[site.via]),
        "",
        *body,
    ]
    return "\n".join(lines) + "\n"


def render_standalone(site: Site, directory: str, *, user: str = "") -> dict[str, str]:
    """Give a complete ``lighttpd.conf`` for a server that runs in *directory* alone."""

    def inside(name: str) -> str:
        return in_quotes(f"{directory}/{name}", "directory")

    host = site.listen_host
    name, _, group = user.partition(" ")
    lines = [
        f"server.document-root = {inside('empty')}",
        f"server.upload-dirs = ( {inside('spool')} )",
        f"server.errorlog = {inside('error.log')}",
        f"server.pid-file = {inside('lighttpd.pid')}",
        *([f'server.bind = "{f"[{host}]" if ":" in host else host}"'] if host else []),
        f"server.port = {site.listen_port}",
        "server.max-connections = 256",
        "server.graceful-shutdown-timeout = 3",
        *([f'server.username = "{name}"', f'server.groupname = "{group or name}"'] if user else []),
        "",
    ]
    return {"lighttpd.conf": "\n".join(lines) + "\n" + render(site)}


def _gateway(site: Site) -> list[str]:
    host = [
        *(_spawned(site) if site.via == "spawn" else _address(site)),
        '"check-local" => "disable",  # the path names no file',
        '"connect-timeout" => 5,',
        f'"read-timeout" => {site.timeout_seconds},',
        f'"write-timeout" => {site.timeout_seconds},',
        '"disable-time" => 0,  # an application that was restarted is asked again at once',
    ]
    if not site.mount:
        host.append('"fix-root-scriptname" => "enable",  # SCRIPT_NAME is empty, not "/"')
    module = "fastcgi" if site.via in {"fastcgi", "spawn"} else "scgi"
    return [
        *(['scgi.protocol = "uwsgi"'] if site.via == "uwsgi" else []),
        f'{module}.server = ( "{site.mount or "/"}" => ( (',
        *_indent(host),
        ") ) )",
    ]


def _address(site: Site) -> list[str]:
    if site.socket_path:
        return [f'"socket" => {in_quotes(site.socket_path, "socket")},']
    port = site.bind.port if site.bind else 0
    return [f'"host" => "{site.backend_host}",', f'"port" => {port},']


def _spawned(site: Site) -> list[str]:
    # the name tells sites apart: a socket must not be two scripts'
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"{site.script}{site.mount}").strip("-")
    socket = f"{site.socket_directory}/{name}.socket"
    return [
        f'"bin-path" => {in_quotes(site.script, "script", forbidden=_BIN_PATH_FORBIDDEN)},',
        "# each process has a socket of its own, with a number behind this name",
        f'"socket" => {in_quotes(socket, "socket")},',
        f'"max-procs" => {_SPAWNED},  # all are started at once; each has threads of its own',
    ]


def _script(site: Site) -> list[str]:
    path = site.script + ("" if site.mount else "/")
    seconds = site.timeout_seconds
    return [
        f'alias.url = ( "{site.mount or "/"}" => {in_quotes(path, "script")} )',
        'cgi.assign = ( "" => "" )  # whatever is asked for here, the script is what runs',
        f'cgi.limits = ( "read-timeout" => {seconds}, "write-timeout" => {seconds} )',
    ]


def _bodies(site: Site) -> list[str]:
    kilobytes = -(-site.body_limit_bytes // 1024)
    return [
        "# in KiB" if kilobytes else "# no limit here: the application sets its own",
        f"server.max-request-size = {kilobytes}",
        "# the response is passed on as it comes, "
        + ("the application waits for a slow client" if site.streaming else "its surplus spooled"),
        f"server.stream-response-body = {2 if site.streaming else 1}",
        "# uploads are buffered: unbuffered, those of unknown length (chunked) are answered 411",
        "server.stream-request-body = 0",
    ]


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line if line else "" for line in lines]
