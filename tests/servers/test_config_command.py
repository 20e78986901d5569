"""``portico config``: the snippet on standard output, or one sentence and exit status 2."""

import pytest

from portico import cli
from portico.servers import catalog
from portico.servers.site import Site
from portico.transports.bind import parse


def run(capsys, *words):
    status = cli.main(["config", *words])
    out, err = capsys.readouterr()
    return status, out, err


def test_snippet_alone_is_printed(capsys):
    words = ["nginx", "site:app", "--bind", "scgi+unix:///run/s.sock", "--mount", "/app/"]
    words += ["--server-name", "a.org", "--listen", "[::1]:81", "--body-limit", "50M", "--stream"]
    status, out, err = run(capsys, *words, "--timeout", "9")
    site = Site(
        via="scgi",
        bind=parse("scgi+unix:///run/s.sock"),
        mount="/app",
        server_name="a.org",
        listen_host="::1",
        listen_port=81,
        body_limit_bytes=50 << 20,
        streaming=True,
        timeout_seconds=9,
        application="site:app",
    )
    assert (status, err) == (0, "")
    assert out == catalog.render(catalog.PRODUCTS["nginx"], site)


@pytest.mark.parametrize("target", ["nginx", "apache", "lighttpd"])
def test_target_alone_is_enough(capsys, target):
    status, out, err = run(capsys, target)
    assert (status, err) == (0, "")
    assert "fastcgi://127.0.0.1:9000" in out


REFUSED = [
    pytest.param(["caddie"], ["known are nginx, apache, lighttpd"], id="unknown-target"),
    pytest.param(
        ["nginx", "--via", "ajp"], ["nginx", "'ajp'", "fastcgi, scgi, uwsgi"], id="nginx-ajp"
    ),
    pytest.param(["lighttpd", "--via", "ajp"], ["mod_ajp13", "fastcgi, scgi"], id="lighttpd-ajp"),
    pytest.param(["nginx", "--bind", "ajp://127.0.0.1:8009"], ["'ajp'"], id="bind-decides"),
    pytest.param(
        ["nginx", "--via", "scgi", "--bind", "fastcgi://127.0.0.1:9000"],
        ["listens for fastcgi", "speaks scgi"],
        id="bind-and-via-differ",
    ),
    pytest.param(
        ["apache", "--via", "cgi", "--bind", "fastcgi://127.0.0.1:9000", "--script", "/s.cgi"],
        ["starts a script"],
        id="script-with-an-address",
    ),
    pytest.param(
        ["apache", "--via", "cgi", "--bind", "auto://127.0.0.1:9000", "--script", "/s.cgi"],
        ["listens for auto", "starts a script"],
        id="script-with-an-address-for-all",
    ),
    pytest.param(["apache", "--via", "cgi"], ["--script"], id="no-script"),
    pytest.param(["nginx", "--script", "/s.cgi"], ["starts no script"], id="script-unused"),
    pytest.param(["nginx", "--mount", "/a b"], ["mount point"], id="mount"),
    pytest.param(["nginx", "--listen", "x"], ["listen"], id="listen"),
    pytest.param(["nginx", "--body-limit", "5X"], ["no size"], id="size"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_impossible_request_is_refused_in_a_sentence(capsys, words, said):
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    for word in said:
        assert word in err


def test_aliases_lead_to_the_same_snippet(capsys):
    assert run(capsys, "httpd", "--via", "fcgi") == run(capsys, "apache", "--via", "fastcgi")


@pytest.mark.parametrize(
    ("product", "via"),
    [("nginx", ""), ("nginx", "uwsgi"), ("apache", "ajp"), ("lighttpd", "scgi")],
)
def test_listener_for_all_protocols_fits_every_route(capsys, product, via):
    words = ["--via", via] if via else []
    status, out, err = run(capsys, product, "site:app", *words, "--bind", "auto://127.0.0.1:9000")
    assert (status, err) == (0, "")
    only = f"{via or 'fastcgi'}://127.0.0.1:9000"
    assert "auto://127.0.0.1:9000" in out  # the application's command in the comment
    _, expected, _ = run(capsys, product, "site:app", *words, "--bind", only)
    assert out == expected.replace(f"--bind {only}", "--bind auto://127.0.0.1:9000")


def test_secret_of_a_listener_for_all_protocols_reaches_apache(capsys):
    bind = "auto://127.0.0.1:9000?secret=tell&packet_size=16384"
    _, out, _ = run(capsys, "apache", "--via", "ajp", "--bind", bind)
    assert 'secret="tell"' in out or "secret=tell" in out
    assert "16384" in out
