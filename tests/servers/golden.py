"""The configurations that are compared byte for byte, and the command that writes them anew.

    python tests/servers/golden.py

Read what `git diff` then shows before you commit it.
"""

from __future__ import annotations

from pathlib import Path

from portico.config.resolve import from_keywords
from portico.servers import catalog, hosting, systemd
from portico.servers.hosting import Hosting
from portico.servers.site import Site
from portico.servers.unit import Unit
from portico.transports.bind import parse

DIRECTORY = Path(__file__).with_name("golden")

#: Where the complete configurations say that they stand.
STANDALONE = "/srv/portico-golden"

#: Ready units, the very same as generated.
DEPLOY = Path(__file__).parents[2] / "deploy" / "systemd"

PORTS = {"fastcgi": 9000, "scgi": 4000, "ajp": 8009, "uwsgi": 3031}


def routes():
    """Yield every product with the name of each of its routes, and the route."""
    for product in catalog.PRODUCTS.values():
        for via, route in product.routes.items():
            yield product, via, route


def plain_site(via, route):
    """Everything by default."""
    if route.starts_script:
        return Site(via=via, script="/srv/site/app.cgi", application="site:app")
    url = f"{route.protocol}://127.0.0.1:{PORTS[route.protocol]}"
    return Site(via=via, bind=parse(url), application="site:app")


def full_site(via, route):
    """Everything said: mount point, host name, Unix socket, limits, streaming."""
    common = {
        "via": via,
        "mount": "/app.v1",
        "server_name": "www.example.org",
        "listen_host": "127.0.0.1",
        "listen_port": 8080,
        "body_limit_bytes": 52_428_800,
        "timeout_seconds": 300,
        "streaming": True,
        "application": "site:make_app()",
    }
    if route.starts_script:
        # lighttpd would take what stands behind the space for an argument
        directory = "/srv/my-site" if via == "spawn" else "/srv/my site"
        return Site(script=f"{directory}/app.cgi", **common)
    url = f"{route.protocol}+unix:///run/site/app.sock"
    if route.protocol == "ajp":
        url += "?secret=s%22e%20c&packet_size=65536"
    return Site(bind=parse(url), **common)


def unit(*urls, **more):
    """A service that listens on *urls*."""
    words = {
        "name": "mysite",
        "application": "mysite.wsgi",
        "command": ("/srv/mysite/venv/bin/portico",),
        "directory": "/srv/mysite",
        "options": (),
    } | more
    settings = from_keywords(dict(words["options"]))
    return Unit(binds=tuple(map(parse, urls)), settings=settings, **words)


def units():
    """Yield a name and the service of each golden set of units."""
    yield "plain", unit("fastcgi://127.0.0.1:9000")
    yield (
        "full",
        unit(
            "fastcgi+unix:///run/mysite/app.sock?group=www-data&mode=660",
            "ajp://10.0.0.2:8009?allow=10.0.0.0/8&secret_file=/etc/mysite/secret",
            application="/home/site/my $ite/100%.py:make_app()",
            directory="/home/site/my $ite",
            user="site",
            group="users",
            config="/etc/mysite/portico.yaml",
            writable=("/home/site/my $ite/uploads", "/var/lib/mysite/cache"),
            options=(
                ("workers", "4"),
                ("graceful_timeout", "60"),
                ("debug", "no"),
                ("log_file", "/var/log/mysite/error.log"),
                ("status_socket", "/run/mysite/status.sock"),
            ),
        ),
    )
    yield "single-process", unit("scgi://127.0.0.1:4000", options=(("workers", "0"),))
    yield (
        "sockets",
        unit(
            "fastcgi+unix:///run/mysite.sock?group=www-data",
            "scgi://[::1]:81",
            "scgi://10.0.0.2:4000?allow=10.0.0.0/8&backlog=64&reuse_port=yes",
            activated=True,
        ),
    )


def deployed():
    """Yield the file name and the text of every ready unit."""
    url = "fastcgi+unix:///run/mysite/app.sock?group=www-data"
    for directory, activated in (("service", False), ("service-and-socket", True)):
        made = unit(url, user="mysite", activated=activated)
        for name, text in systemd.render(made).items():
            yield f"{directory}/{name}", text


def hostings():
    """Yield a name and a site of each kind of shared hosting."""
    common = {
        "directory": "/home/me/mysite",
        "interpreter": "/home/me/venv/bin/python",
        "prefix": "/home/me/venv",
        "path": ("/home/me/mysite",),
    }
    for kind, name in hosting.NAMES.items():
        yield f"{kind}-plain", Hosting(kind=kind, name=name, app="mysite.wsgi", **common)
    full = {
        "app": "/home/me/my site/it's.py:make_app()",
        "mount": "/blog.v1",
        "static": ("static", "media/a.b"),
        "closed": (".venv", "my.env"),
    }
    yield (
        "cgi-full",
        Hosting(
            kind="cgi", name="blog.cgi", options={"warm": True, "threads": 4}, **common, **full
        ),
    )
    apart = common | {"interpreter": "/home/me/my venv/bin/python"}
    yield "fcgi-full", Hosting(kind="fcgi", name="blog.fcgi", **apart, **full)


def texts():
    """Yield the file name and the text of every golden file."""
    for name, made in hostings():
        # not .py: it is read as it is, not formatted
        yield f"hosting-{name}-{made.name}".removesuffix(".py"), hosting.render(made)
        if made.kind != "passenger":
            yield f"hosting-{name}-htaccess", hosting.htaccess(made)
    for name, made in units():
        for file, text in systemd.render(made).items():
            yield f"systemd-{name}-{file}", text
    for product, via, route in routes():
        plain, full = plain_site(via, route), full_site(via, route)
        yield f"{product.name}-{via}.conf", catalog.render(product, plain)
        yield f"{product.name}-{via}-full.conf", catalog.render(product, full)
        user = "www-data www-data" if product.name == "apache" else ""
        files = catalog.renderer(product).render_standalone(plain, STANDALONE, user=user)
        for name, text in files.items():
            yield f"{product.name}-{via}-standalone-{name}", text


def main():
    """Write every file, and remove the golden ones that nothing writes any more."""
    DIRECTORY.mkdir(exist_ok=True)
    for path in DIRECTORY.iterdir():
        path.unlink()
    for name, text in texts():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
    for name, text in deployed():
        (DEPLOY / name).parent.mkdir(parents=True, exist_ok=True)
        (DEPLOY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
