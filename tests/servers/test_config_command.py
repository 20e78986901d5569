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
