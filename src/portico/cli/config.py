"""Print the configuration of a web server for an application, or units of systemd that run it.

What is printed is the part to paste: for nginx into http { }, for Apache httpd and lighttpd into
a file of its own among their configuration. `portico up --server` runs the very same. For systemd
it is a service and, with --socket, the sockets that systemd opens for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from portico.cli import _config_systemd as systemd
from portico.errors import ConfigError
from portico.servers import catalog
from portico.servers.site import Site, parse_listen
from portico.transports import bind as binds

if TYPE_CHECKING:
    import argparse

#: Where an application listens if nobody says; the ports are those of each protocol's custom.
_DEFAULT_ADDRESSES = {
    "fastcgi": "fastcgi://127.0.0.1:9000",
    "scgi": "scgi://127.0.0.1:4000",
    "ajp": "ajp://127.0.0.1:8009",
    "uwsgi": "uwsgi://127.0.0.1:3031",
}

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``portico config``."""
    parser.add_argument(
        "target", metavar="TARGET", help=f"one of {', '.join((*catalog.PRODUCTS, systemd.TARGET))}"
    )
    parser.add_argument(
        "application",
        metavar="APP",
        nargs="?",
        default="",
        help="what a service of systemd runs; named in a comment otherwise",
    )
    parser.add_argument("--via", default="", metavar="PROTOCOL", help=_routes())
    parser.add_argument(
        "--bind",
        action="append",
        metavar="URL",
        help="where the application listens; for systemd, may be given several times",
    )
    parser.add_argument("--script", default="", metavar="PATH", help="script that is to be started")
    parser.add_argument("--mount", default="", metavar="/PREFIX", help="path of the application")
    parser.add_argument("--server-name", default="", metavar="NAME", help="host name of the site")
    parser.add_argument(
        "--listen", default="80", metavar="ADDRESS:PORT", help="where the web server listens"
    )
    parser.add_argument(
        "--body-limit",
        default="0",
        metavar="SIZE",
        help="largest request body that the web server takes, as 50M; 0: no limit here",
    )
    parser.add_argument(
        "--timeout",
        default=60,
        type=int,
        metavar="SECONDS",
        help="how long the application may keep silent (default: %(default)s)",
    )
    parser.add_argument(
        "--stream", action="store_true", help="pass bodies through at once, both ways"
    )
    systemd.add_arguments(parser.add_argument_group("systemd"))


def run(options: argparse.Namespace) -> int:
    """Print the snippet, or write units.

    Raises:
        ConfigError: an unknown target, a route it does not have, or a value that cannot stand
            in a configuration.
    """
    urls = options.bind or []
    if options.target == systemd.TARGET:
        return systemd.run(options, urls or [default_address(options.via)])
    product = catalog.find_product(options.target, others=(systemd.TARGET,))
    systemd.refuse_arguments(options, product.title)
    if len(urls) > 1:
        raise ConfigError(f"{product.title} connects to one address: give one --bind", key="bind")
    bind = binds.parse(urls[0]) if urls else None
    via, route = catalog.find_route(product, options.via, bind.protocol if bind else "")
    if bind is None and not route.starts_script:
        bind = binds.parse(_DEFAULT_ADDRESSES[route.protocol])
    if options.script and not route.starts_script:
        raise ConfigError(
            f"{product.title} via {via} starts no script; leave --script away", key="script"
        )
    host, port = parse_listen(options.listen)
    site = Site(
        via=via,
        bind=bind,
        script=options.script,
        mount=options.mount.rstrip("/"),
        server_name=options.server_name,
        listen_host=host,
        listen_port=port,
        body_limit_bytes=_parse_size(options.body_limit),
        timeout_seconds=options.timeout,
        streaming=options.stream,
        application=options.application,
    )
    sys.stdout.write(catalog.render(product, site))
    return 0


def default_address(protocol: str) -> str:
    """Give the bind URL where an application listens if nobody says.

    Raises:
        ConfigError: *protocol* has none.
    """
    url = _DEFAULT_ADDRESSES.get(protocol.replace("fcgi", "fastcgi") or "fastcgi")
    if url is None:
        raise ConfigError(
            f"an application does not listen for {protocol!a}: it can for"
            f" {', '.join(_DEFAULT_ADDRESSES)}",
            key="via",
        )
    return url


def _routes() -> str:
    parts = (
        f"{product.name}: {', '.join(product.routes)}" for product in catalog.PRODUCTS.values()
    )
    return "; ".join(parts) + " (the first is the default)"


def _parse_size(text: str) -> int:
    factor = _UNITS.get(text[-1:].lower(), 1)
    digits = text if factor == 1 else text[:-1]
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(
            f"{text!r} is no size; write bytes, or 50M, with K, M or G", key="body_limit"
        )
    return int(digits) * factor
