"""A real web server that speaks the wrong protocol: what its client gets to read."""

import http.client
from dataclasses import replace

import pytest

from engine_harness import Running, reading
from nginx_harness import change_nginx
from portico.codecs import foreign
from portico.servers import launch
from portico.servers.site import Site
from portico.transports.bind import parse
from servers.golden import routes

WAIT = 20

CASES = [
    pytest.param(
        product.name,
        via,
        "scgi" if via == "fastcgi" else "fastcgi",
        id=f"{product.name}-{via}",
        marks=pytest.mark.frontend(product.name),
    )
    for product, via, route in routes()
    if not route.starts_script
]


def fetch(front, method, body=None):
    address = (front.site.listen_host, front.site.listen_port)
    connection = http.client.HTTPConnection(*address, timeout=WAIT)
    try:
        connection.request(method, "/a?b=c", body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(("product", "via", "listener"), CASES)
def test_client_reads_which_directive_is_wrong(product, via, listener):
    with Running(reading, listener) as running:
        bind = replace(parse(f"{via}://127.0.0.1:1"), port=running.ports[listener])
        site = Site(via=via, bind=bind, listen_port=0)
        with launch.launch(product, site) as front:
            for method, body in (("GET", None), ("POST", b"x" * 100_000)):
                expected = (502, foreign.advice(listener, via) + "\n")
                assert fetch(front, method, body) == expected
    assert running.log.having(foreign.advice(listener, via))


@pytest.mark.frontend("nginx")
@pytest.mark.parametrize("listener", ["fastcgi", "scgi", "ajp", "uwsgi", "auto"])
def test_nginx_with_proxy_pass_shows_the_sentence(listener, monkeypatch):
    """The commonest mistake: an address of FastCGI's in proxy_pass."""
    change_nginx(monkeypatch, lambda text, _: text.replace("fastcgi_pass ", "proxy_pass http://"))
    with Running(reading, listener) as running:
        bind = parse(f"fastcgi://127.0.0.1:{running.ports[listener]}")
        with launch.launch("nginx", Site(via="fastcgi", bind=bind, listen_port=0)) as front:
            for method, body in (("GET", None), ("POST", b"x" * 100_000)):
                expected = (400, foreign.advice(listener, "http") + "\n")
                assert fetch(front, method, body) == expected
