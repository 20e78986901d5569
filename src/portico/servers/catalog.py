"""Which web server speaks which protocol, and by which of its modules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.servers.site import Site


@dataclass(frozen=True, slots=True)
class Route:
    """One way from a web server to an application.

    Attributes:
        protocol: What is spoken: ``"fastcgi"``, ``"scgi"``, ``"ajp"``, ``"uwsgi"``, ``"cgi"``.
        module: The web server's module that speaks it.
        starts_script: Whether the web server starts a script itself instead of connecting.
    """

    protocol: str
    module: str
    starts_script: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """A web server.

    Attributes:
        name: As the command line has it.
        title: As prose has it.
        routes: By name; the first is the default.
        missing: Protocol -> why there is no route for it, where that needs saying.
    """

    name: str
    title: str
    routes: Mapping[str, Route]
    missing: Mapping[str, str]


class Renderer(Protocol):
    """What the module of each product offers."""

    def render(self, site: Site) -> str:
        """Give the snippet that an administrator pastes."""
        ...

    def render_standalone(self, site: Site, directory: str, *, user: str = "") -> dict[str, str]:
        """Give a complete configuration, file name -> text, around the same snippet.

        Args:
            site: What is served.
            directory: Where the files will stand and the web server may write; absolute.
            user: Account that a web server started by root switches to; ``""`` for none.
        """
        ...


#: By name. Products tried: nginx 1.22.1, Apache httpd 2.4.71 with mod_fcgid 2.3.9,
#: lighttpd 1.4.69.
PRODUCTS = {
    "nginx": Product(
        "nginx",
        "nginx",
        {
            "fastcgi": Route("fastcgi", "ngx_http_fastcgi_module"),
            "scgi": Route("scgi", "ngx_http_scgi_module"),
            "uwsgi": Route("uwsgi", "ngx_http_uwsgi_module"),
        },
        {"cgi": "it starts no scripts"},
    ),
    "apache": Product(
        "apache",
        "Apache httpd",
        {
            "fastcgi": Route("fastcgi", "mod_proxy_fcgi"),
            "scgi": Route("scgi", "mod_proxy_scgi"),
            "ajp": Route("ajp", "mod_proxy_ajp"),
            "uwsgi": Route("uwsgi", "mod_proxy_uwsgi"),
            "fcgid": Route("fastcgi", "mod_fcgid", starts_script=True),
            "cgi": Route("cgi", "mod_cgid", starts_script=True),
        },
        {},
    ),
    "lighttpd": Product(
        "lighttpd",
        "lighttpd",
        {
            "fastcgi": Route("fastcgi", "mod_fastcgi"),
            "scgi": Route("scgi", "mod_scgi"),
            "uwsgi": Route("uwsgi", "mod_scgi"),
            "cgi": Route("cgi", "mod_cgi", starts_script=True),
            "spawn": Route("fastcgi", "mod_fastcgi", starts_script=True),
        },
        {
            # observed from lighttpd 1.4.69; the bodies alone would need a dialect of their own
            "ajp": "its mod_ajp13 sends request bodies without the length that AJP/1.3 demands",
        },
    ),
}

_ALIASES = {"httpd": "apache", "apache2": "apache"}
_PROTOCOL_ALIASES = {"fcgi": "fastcgi"}


def find_product(name: str, *, others: tuple[str, ...] = ()) -> Product:
    """Find a web server by its name.

    Args:
        name: What the command line has.
        others: What is known there beside the web servers, for the refusal.

    Raises:
        ConfigError: it is not known; the message lists those that are.
    """
    product = PRODUCTS.get(_ALIASES.get(name, name))
    if product is None:
        raise ConfigError(
            f"no web server {name!a} is known; known are {', '.join((*PRODUCTS, *others))}",
            key="target",
        )
    return product


def find_route(product: Product, via: str = "", protocol: str = "") -> tuple[str, Route]:
    """Choose how *product* reaches the application.

    Args:
        product: The web server.
        via: The route asked for; ``""`` for the one that fits.
        protocol: Protocol of the application's address; ``""`` or ``"auto"`` for any.

    Returns:
        The route's name, and the route.

    Raises:
        ConfigError: the web server has no such route, or the two do not fit together.
    """
    via, protocol = _PROTOCOL_ALIASES.get(via, via), _PROTOCOL_ALIASES.get(protocol, protocol)
    wanted = "" if protocol == "auto" else protocol
    name = via or wanted or next(iter(product.routes))
    route = product.routes.get(name)
    if route is None:
        reason = f": {product.missing[name]}" if name in product.missing else ""
        raise ConfigError(
            f"{product.title} does not serve applications via {name!a}{reason};"
            f" it can do so via {', '.join(product.routes)}",
            key="via",
        )
    if protocol and (route.starts_script or wanted not in {"", route.protocol}):
        speaks = "starts a script" if route.starts_script else f"speaks {route.protocol}"
        raise ConfigError(
            f"the application listens for {protocol}, but {product.title} via {name} {speaks}",
            key="bind",
        )
    return name, route


def renderer(product: Product) -> Renderer:
    """Import the generator of *product*'s configuration."""
    return cast("Renderer", import_module(f"portico.servers.{product.name}"))


def render(product: Product, site: Site) -> str:
    """Give the snippet of *product* for *site*.

    Raises:
        ConfigError: the web server has no such route, or the site lacks what the route needs.
    """
    return renderer(product).render(check_site(product, site))


def check_site(product: Product, site: Site) -> Site:
    """Check that *site* has what its route needs.

    Returns:
        The site, its route by the name that the renderers know.

    Raises:
        ConfigError: it has not.
    """
    name, route = find_route(product, site.via, site.bind.protocol if site.bind else "")
    if route.starts_script and not site.script:
        raise ConfigError(
            f"{product.title} via {name} starts a script: say which with --script /path",
            key="script",
        )
    if not route.starts_script and site.bind is None:
        raise ConfigError(f"{product.title} via {name} needs the application's address", key="bind")
    return replace(site, via=name)
