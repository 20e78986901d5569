"""What `portico init` writes, under a real Apache: paths, logins, files, and what it keeps shut."""

import json

import pytest

from hosting_harness import MODULES, fetch, host, portico_command
from warm_harness import end_residents, residents

pytestmark = pytest.mark.frontend("apache")

WITHOUT_REWRITING = tuple(name for name in MODULES if name != "rewrite")
#: kind -> what of Apache starts the script
KINDS = [
    pytest.param("cgi", MODULES, id="mod_cgid"),
    pytest.param("cgi", tuple(m.replace("cgid", "cgi") for m in MODULES), id="mod_cgi"),
    pytest.param("fcgi", (*MODULES, "fcgid"), id="mod_fcgid"),
    pytest.param("fcgi", MODULES, id="fcgi-script-without-mod_fcgid"),
    pytest.param("cgi", tuple(m for m in MODULES if m != "setenvif"), id="without-mod_setenvif"),
]


def init(venv, home, *words, directory="public_html"):
    done = portico_command(
        venv,
        "init",
        "mysite",
        "--no-warm",
        "--directory",
        home / directory,
        *words,
        cwd=home / "site",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def seen(port, path, *request, **headers):
    status, _, body = fetch(port, path, *request, **headers)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize(("kind", "modules"), KINDS)
def test_site_at_the_root(kind, modules, venv, home):
    root = home / "public_html"
    assets = home / "site" / "assets"
    assets.mkdir()
    (assets / "style.css").write_text("body {}")
    init(venv, home, "--kind", kind, "--static", f"/static={assets}")
    (root / "logo.svg").write_text("<svg/>")
    (root / "secret.py").write_text("password = 1")
    (root / ".env").write_text("password=1")
    (root / "sub").mkdir()
    # not even symbolic links, which mod_rewrite needs: the .htaccess allows what it uses
    with host(root, *modules, options="None") as port:
        got = seen(port, "/")
        assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == ("", "/")
        got = seen(port, "/deep/path?x=1&y=%20")
        assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == ("", "/deep/path")
        assert got["QUERY_STRING"] == "x=1&y=%20"
        got = seen(port, "/a%20b/caf%C3%A9/100%25")
        assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == ("", "/a b/caf\u00c3\u00a9/100%")
        got = seen(port, "/why%3F/x", "POST", b"hello", Authorization="Basic YTpi")
        assert got["PATH_INFO"] == "/why?/x"
        assert (got["REQUEST_METHOD"], got["body"]) == ("POST", "hello")
        assert got["HTTP_AUTHORIZATION"] == "Basic YTpi"
        assert seen(port, "/sub/")["PATH_INFO"] == "/sub/"
        # the web server's own
        assert fetch(port, "/logo.svg")[::2] == (200, b"<svg/>")
        status, headers, body = fetch(port, "/static/style.css")
        assert (status, body) == (200, b"body {}")
        assert "ETag" in headers
        assert fetch(port, "/static/missing.css")[0] == 404
        for path in ("/secret.py", "/SECRET.py/..%2fx", "/.env", "/.htaccess", "/secret.py/x"):
            status, _, body = fetch(port, path)
            assert status in {403, 404}, path
            assert b"password" not in body
            assert b"Rewrite" not in body


@pytest.mark.parametrize(("kind", "modules"), KINDS[:3])
@pytest.mark.parametrize("words", [(), ("--mount", "/blog")], ids=["told-by-apache", "told"])
def test_site_in_a_subdirectory(words, kind, modules, venv, home):
    blog = home / "public_html" / "blog"
    blog.mkdir(mode=0o755)
    (home / "public_html" / "index.html").write_text("front page")
    init(venv, home, "--kind", kind, *words, directory="public_html/blog")
    with host(home / "public_html", *modules) as port:
        for path, info in (("/blog/", "/"), ("/blog/deep/path?x=1", "/deep/path")):
            got = seen(port, path)
            assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == ("/blog", info)
        assert fetch(port, "/index.html")[::2] == (200, b"front page")


def test_without_rewriting_the_script_has_the_paths(venv, home):
    init(venv, home)
    (home / "public_html" / "secret.py").write_text("password = 1")
    with host(home / "public_html", *WITHOUT_REWRITING) as port:
        assert seen(port, "/")["QUERY_STRING"] == ""
        got = seen(port, "/app.cgi/deep/path?x=1", Authorization="Basic YTpi")
        assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == ("/app.cgi", "/deep/path")
        assert got["HTTP_AUTHORIZATION"] == "Basic YTpi"
        assert fetch(port, "/secret.py")[0] == 403


def test_with_hardly_a_module_nothing_is_a_500(venv, home):
    init(venv, home)
    modules = ("authz_core", "unixd", "mime", "cgid")
    with host(home / "public_html", *modules) as port:
        assert seen(port, "/app.cgi/x")["PATH_INFO"] == "/x"


#: A text for .htaccess, and whether Apache rewrites with it until it gives up.
LOOPS = [
    ("RewriteRule ^(.*)$ app.cgi/$1 [L]", True),
    ("RewriteRule ^ app.cgi [L]", False),
    ("RewriteRule ^(.*)$ app.cgi/$1 [END]", False),
    ("RewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule ^(.*)$ app.cgi/$1 [L]", False),
    ("RewriteCond %{ENV:REDIRECT_STATUS} ^$\nRewriteRule ^(.*)$ app.cgi/$1 [L]", False),
    ("RewriteRule ^(blog/.*)$ app.cgi/$1 [L]", False),
    ("RewriteRule !^app app.cgi/x [L]", False),
]


@pytest.mark.parametrize(("rules", "loops"), LOOPS)
def test_a_loop_is_told_where_apache_makes_one(rules, loops, venv, home):
    init(venv, home)
    root = home / "public_html"
    (root / ".htaccess").write_text(
        f"Options +ExecCGI\nAddHandler cgi-script .cgi\nRewriteEngine On\n{rules}\n"
    )
    done = portico_command(venv, "check", root / "app.cgi", "--json", cwd=home)
    codes = [finding["code"] for finding in json.loads(done.stdout)["findings"]]
    assert ("rewrite-loop" in codes) is loops
    with host(root, *MODULES) as port:
        assert (fetch(port, "/blog/x")[0] == 500) is loops


def test_by_default_a_resident_server_answers(venv, home):
    place = home / "tmp"
    place.mkdir()
    place.chmod(0o1777)
    done = portico_command(
        venv, "init", "mysite", "--directory", home / "public_html", cwd=home / "site"
    )
    assert done.returncode == 0, done.stderr
    with (home / "public_html" / ".htaccess").open("a") as rules:
        rules.write(f"SetEnv TMPDIR {place}\n")
    with host(home / "public_html", *MODULES) as port:
        try:
            got = seen(port, "/deep/path?x=1", "POST", b"hello", Authorization="Basic YTpi")
            assert (got["SCRIPT_NAME"], got["PATH_INFO"]) == ("", "/deep/path")
            assert (got["body"], got["HTTP_AUTHORIZATION"]) == ("hello", "Basic YTpi")
            (directory,) = place.glob("portico*")
            assert len(residents(directory)) == 1
        finally:
            for directory in place.glob("portico*"):
                end_residents(directory)
