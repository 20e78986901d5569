"""Configuration of nginx: FastCGI, SCGI and uwsgi."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from portico.servers.site import in_quotes

if TYPE_CHECKING:
    from portico.servers.site import Site

#: Parameters of every request. What is empty is left out, so that "absent" stays absent.
_PARAMS = [
    ("REQUEST_METHOD", "$request_method"),
    ("REQUEST_URI", "$request_uri"),
    ("QUERY_STRING", "$query_string"),
    ("CONTENT_TYPE", "$content_type if_not_empty"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("SERVER_NAME", "$host"),
    ("SERVER_ADDR", "$server_addr"),
    ("SERVER_PORT", "$server_port"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("REQUEST_SCHEME", "$scheme"),
    ("HTTPS", "$https if_not_empty"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    ("SERVER_SOFTWARE", "nginx/$nginx_version"),
]


def render(site: Site) -> str:
    """Give the ``upstream`` and ``server`` blocks, to stand inside ``http { }``."""
    name = _upstream_name(site)
    lines = [
        f"# The application: {site.serve_command}",
        f"upstream {name} {{",
        *_indent(_upstream(site)),
        "}",
        "",
        "server {",
        f"    listen {_listen(site)};",
        *([f"    server_name {site.server_name};"] if site.server_name else []),
        "",
        *_indent(_location(site, name)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def render_standalone(site: Site, directory: str, *, user: str = "") -> dict[str, str]:
    """Give a complete ``nginx.conf`` for a server that runs in *directory* alone."""

    def inside(name: str) -> str:
        return in_quotes(f"{directory}/{name}", "directory", forbidden="$")

    lines = [
        *([f"user {user};"] if user else []),
        "daemon off;",
        "worker_processes 1;",
        f"pid {inside('nginx.pid')};",
        f"error_log {inside('error.log')};",
        "events {",
        "    worker_connections 512;",
        "}",
        "http {",
        "    access_log off;",
        f"    root {inside('empty')};",
        *(
            f"    {part}_temp_path {inside('spool_' + part)};"
            for part in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        ),
        "",
        render(site).rstrip("\n"),
        "}",
    ]
    return {"nginx.conf": "\n".join(lines) + "\n"}


def _upstream_name(site: Site) -> str:
    words = re.findall(r"[a-z0-9]+", f"{site.server_name}{site.mount}".lower())
    return "_".join(["portico", *words])


def _listen(site: Site) -> str:
    return site.listen.removeprefix("*:")


def _upstream(site: Site) -> list[str]:
    address = f"unix:{site.socket_path}" if site.socket_path else site.backend
    lines = [f"server {in_quotes(address, 'socket')};"]
    if site.via == "fastcgi":
        lines += [
            "# idle connections are kept, for less time than the application keeps them",
            "keepalive 16;",
            "keepalive_timeout 30s;",
        ]
    return lines


def _location(site: Site, upstream: str) -> list[str]:
    if not site.mount:
        head, path_info = "location / {", "$document_uri"
    else:
        # A regular expression, since `location /app` would take /application as well; a named
        # capture, since it arrives decoded, unlike a variable of the rewrite module.
        pattern = rf"(?s)^{site.mount_pattern}(?<portico_path_info>/.*|)\z"
        head, path_info = f'location ~ "{pattern}" {{', "$portico_path_info"
    inner = [
        *_passing(site, upstream),
        "",
        "# where the application is mounted, and the decoded rest of the path",
        f'{site.via}_param SCRIPT_NAME "{site.mount}";',
        f"{site.via}_param PATH_INFO {path_info};",
        "",
        *_params(site),
        "",
        *_bodies(site),
        "",
        *_waiting(site),
    ]
    return [head, *_indent(inner), "}"]


def _passing(site: Site, upstream: str) -> list[str]:
    lines = [f"{site.via}_pass {upstream};"]
    if site.via == "fastcgi":
        lines.append("fastcgi_keep_conn on;")
    return lines


def _params(site: Site) -> list[str]:
    lines = []
    if site.via == "scgi":
        lines.append("scgi_param SCGI 1;")  # nginx writes CONTENT_LENGTH itself, first
    else:
        lines.append(f"{site.via}_param CONTENT_LENGTH $content_length if_not_empty;")
    lines += [f"{site.via}_param {name} {value};" for name, value in _PARAMS]
    lines += [
        "# a client's Proxy header must not look like the variable of that name (httpoxy)",
        f'{site.via}_param HTTP_PROXY "";',
        "# no REMOTE_USER: nginx takes it from any Authorization header; where auth_basic checks",
        f"# the password, add: {site.via}_param REMOTE_USER $remote_user if_not_empty;",
    ]
    return lines


def _bodies(site: Site) -> list[str]:
    limit = site.body_limit_bytes
    lines = [
        *([] if limit else ["# no limit here: the application sets its own"]),
        f"client_max_body_size {limit};",
        "# the response's head must fit in one buffer; the stock 4k is little for cookies",
        f"{site.via}_buffer_size 16k;",
        f"{site.via}_buffers 8 16k;",
    ]
    if not site.streaming:
        return [
            *lines,
            "# bodies are buffered: slow clients wait here and hold no thread of the application;",
            "# a response that must stream says so itself, with X-Accel-Buffering: no",
        ]
    lines += [
        "# blocks of the response leave as the application yields them",
        f"{site.via}_buffering off;",
    ]
    if site.via == "scgi":
        # observed from nginx 1.22.1: CONTENT_LENGTH is what had arrived by then
        return [
            *lines,
            "# uploads stay buffered: without that, nginx announces too short a body over SCGI",
        ]
    return [
        *lines,
        "# uploads arrive as the client sends them",
        f"{site.via}_request_buffering off;",
    ]


def _waiting(site: Site) -> list[str]:
    return [
        f"{site.via}_connect_timeout 5s;",
        f"{site.via}_read_timeout {site.timeout_seconds}s;",
        f"{site.via}_send_timeout {site.timeout_seconds}s;",
    ]


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line if line else "" for line in lines]
