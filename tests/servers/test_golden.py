"""The generated configurations: byte for byte, and as each product itself reads them."""

from dataclasses import replace

import pytest

from portico.servers import catalog, launch
from portico.transports.bind import parse
from servers.golden import DEPLOY, DIRECTORY, deployed, full_site, plain_site, routes, texts

TEXTS = dict(texts())


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_what_was_reviewed(name):
    assert TEXTS[name] == (DIRECTORY / name).read_text(encoding="utf-8")


def test_no_golden_file_is_left_over():
    assert {path.name for path in DIRECTORY.iterdir()} == set(TEXTS)


def test_ready_files_are_what_is_generated():
    """Otherwise: python tests/servers/golden.py."""
    ready = {str(path.relative_to(DEPLOY)): path for path in DEPLOY.glob("*/*")}
    assert {name: path.read_text(encoding="utf-8") for name, path in ready.items()} == dict(
        deployed()
    )


@pytest.mark.parametrize(("product", "via", "route"), list(routes()))
def test_complete_configuration_contains_the_very_snippet(product, via, route):
    for site in (plain_site(via, route), full_site(via, route)):
        files = catalog.renderer(product).render_standalone(site, "/srv/x")
        assert any(catalog.render(product, site) in text for text in files.values())


def variants():
    for product, via, route in routes():
        binds = [None] if route.starts_script else ["://127.0.0.1:9000", "+unix:///tmp/a b.sock"]
        for bind in binds:
            for mount in ("", "/app"):
                for full in (False, True):
                    words = [product.name, via, "tcp" if bind == binds[0] else "unix"]
                    words += [mount.strip("/") or "root", "full" if full else "plain"]
                    site = (full_site if full else plain_site)(via, route)
                    url = bind and parse(f"{route.protocol}{bind}")
                    yield pytest.param(
                        product.name,
                        replace(site, mount=mount, bind=url),
                        id="-".join(words),
                        marks=pytest.mark.frontend(product.name),
                    )


@pytest.mark.parametrize(("product", "site"), list(variants()))
def test_the_product_accepts_it(product, site, directory):
    if site.script:
        site = replace(site, script=f"{directory}/app.cgi")
    command = launch.prepare(product, site, directory)
    assert command[0] == launch.find_binary(product)
