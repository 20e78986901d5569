"""What cannot stand in a configuration is refused; what can is quoted."""

import pytest

from portico.errors import ConfigError
from portico.servers import catalog
from portico.servers.site import Site, in_quotes, parse_listen
from portico.transports.bind import parse

HOSTILE = [
    pytest.param({"mount": "/app; } evil {"}, "mount point", id="braces-in-mount"),
    pytest.param({"mount": "/a$host"}, "mount point", id="variable-in-mount"),
    pytest.param({"mount": '/a"b'}, "mount point", id="quote-in-mount"),
    pytest.param({"mount": "/a'b"}, "mount point", id="apostrophe-in-mount"),
    pytest.param({"mount": "/a\n"}, "mount point", id="newline-after-mount"),
    pytest.param({"mount": "/a%20b"}, "mount point", id="escape-in-mount"),
    pytest.param({"mount": "app"}, "mount point", id="mount-without-slash"),
    pytest.param({"mount": "/app/"}, "mount point", id="mount-with-slash-at-its-end"),
    pytest.param({"mount": "/a/../b"}, "mount point", id="dots-in-mount"),
    pytest.param({"mount": "/caf\u00e9"}, "mount point", id="mount-beyond-ascii"),
    pytest.param({"server_name": "a.org; }"}, "server name", id="braces-in-name"),
    pytest.param({"server_name": "a.org\nb"}, "server name", id="newline-in-name"),
    pytest.param({"server_name": "*.org"}, "server name", id="wildcard-name"),
    pytest.param({"server_name": "\u00e9.org"}, "xn--", id="name-beyond-ascii"),
    pytest.param({"listen_host": "localhost;"}, "no IP address", id="listen-host"),
    pytest.param({"listen_host": "[::1]"}, "no IP address", id="listen-host-in-brackets"),
    pytest.param({"listen_port": 65536}, "no port", id="listen-port"),
    pytest.param({"timeout_seconds": 0}, "timeout", id="no-time"),
    pytest.param({"body_limit_bytes": -1}, "body limit", id="negative-limit"),
    pytest.param({"script": "app.cgi"}, "absolute", id="relative-script"),
    pytest.param({"script": "/srv/a\nb"}, "control", id="newline-in-script"),
    pytest.param({"application": "a:b\n}"}, "control", id="newline-in-comment"),
    pytest.param({"bind": parse("fastcgi+unix:///run/a%0Ab")}, "control", id="newline-in-socket"),
    pytest.param({"bind": parse(f"scgi+unix:///{'a' * 103}")}, "longer", id="long-socket"),
    pytest.param({"bind": parse("fastcgi+fd://0")}, "cannot connect", id="inherited-descriptor"),
    pytest.param({"bind": parse("fastcgi://127.0.0.1:0")}, "needs a port", id="no-port"),
    pytest.param({"bind": parse("fastcgi://h\u00f6st:1")}, "no host", id="host-beyond-ascii"),
]


@pytest.mark.parametrize(("values", "words"), HOSTILE)
def test_value_that_breaks_out_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        Site(**values)


def test_quoting_escapes_what_ends_a_string():
    assert in_quotes('/a "b" \\c', "path") == '"/a \\"b\\" \\\\c"'


APACHE_MISREADS = [
    pytest.param("fastcgi+unix:///run/a|b", id="bar"),
    pytest.param("scgi+unix:///run/$%7BPATH%7D", id="variable"),
    pytest.param("uwsgi+unix:///run/a%23b", id="fragment"),
]


@pytest.mark.parametrize("url", APACHE_MISREADS)
def test_apache_is_not_given_a_socket_path_that_it_misreads(url):
    bind = parse(url)
    with pytest.raises(ConfigError, match="misreads"):
        catalog.render(catalog.PRODUCTS["apache"], Site(via=bind.protocol, bind=bind))


def test_apache_is_not_given_a_secret_with_a_variable():
    site = Site(via="ajp", bind=parse("ajp://127.0.0.1:8009?secret=$%7BPATH%7D"))
    with pytest.raises(ConfigError, match="secret"):
        catalog.render(catalog.PRODUCTS["apache"], site)


def test_secret_comes_from_its_file_and_stays_out_of_the_comment(tmp_path):
    path = tmp_path / "secret"
    path.write_text("hush\n")
    for query in ("secret=hush", f"secret_file={path}"):
        site = Site(via="ajp", bind=parse(f"ajp://127.0.0.1:8009?{query}"))
        text = catalog.render(catalog.PRODUCTS["apache"], site)
        assert text.count("hush") == 1
        assert '"secret=hush"' in text


WILDCARDS = [
    pytest.param("fastcgi://0.0.0.0:9000?allow=10.0.0.1", "127.0.0.1:9000", id="ipv4"),
    pytest.param("fastcgi://[::]:9000?allow=10.0.0.1", "[::1]:9000", id="ipv6"),
    pytest.param("fastcgi://app.internal:9000", "app.internal:9000", id="name"),
]


@pytest.mark.parametrize(("url", "address"), WILDCARDS)
def test_backend_is_an_address_to_connect_to(url, address):
    assert Site(bind=parse(url)).backend == address


LISTEN = [
    ("80", ("", 80)),
    (":80", ("", 80)),
    ("*:80", ("", 80)),
    ("127.0.0.1:8080", ("127.0.0.1", 8080)),
    ("[::1]:8080", ("::1", 8080)),
]


@pytest.mark.parametrize(("text", "address"), LISTEN)
def test_listen_address_is_read(text, address):
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["", "127.0.0.1", "::1:80", "[::1", "a:b", "1:\u0661"])
def test_listen_address_is_refused(text):
    with pytest.raises(ConfigError, match="to listen on"):
        parse_listen(text)


def test_url_leads_to_the_mount_point():
    assert Site(mount="/app", listen_port=8080).url == "http://127.0.0.1:8080/app/"
    assert Site(listen_host="::1", listen_port=81).url == "http://[::1]:81/"
