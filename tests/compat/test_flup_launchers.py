"""Launchers that projects ship, unmodified, behind real web servers; with flup and without.

What a site answers through Portico's stand-in is what it answers through flup 1.0.3 behind the same
web server. Apache's mod_proxy_fcgi and mod_proxy_scgi put the whole path into SCRIPT_NAME, where
flup sees the root whatever is asked for; there the yardstick is flup behind nginx.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine_harness import WAIT, until
from flup_harness import FLUP, LAUNCHERS, OURS, Launcher, accepts, free_port, launching
from portico.servers.launch import launch
from portico.servers.site import Site
from portico.transports.bind import parse

#: What of a response is compared, beside status and body.
HEADERS = ("Content-Type", "Location", "Set-Cookie", "Content-Disposition", "Allow", "ETag")


@pytest.fixture
def directory():
    """A directory of the name that Portico gives, which it opens for the web server's account."""
    path = Path(tempfile.mkdtemp(prefix="portico-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def fetch(port, path, body=None, **headers):
    """One request; gives what is compared, with nothing in it that changes by itself."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    method = "GET" if body is None else "POST"
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    shown = [(name, value) for name in HEADERS for value in response.headers.get_all(name, [])]
    return response.status, [(name, steady(value, port)) for name, value in shown], steady(
        content.decode("latin-1"), port
    )  # fmt: skip


def steady(text, port):
    """Take out of a text what differs from one run to the next."""
    text = text.replace(f"127.0.0.1:{port}", "HOST").replace(str(port), "PORT")
    text = re.sub(r"(trac_(?:form_token|session)=|[Ff][Oo][Rr][Mm]_[Tt][Oo][Kk][Ee][Nn]\W+(?:value=\W)?)"
                  r"[0-9a-f]{24}", r"\1TOKEN", text)  # fmt: skip
    text = re.sub(r"[A-Z][a-z]{2}, \d\d[ -][A-Z][a-z]{2}[ -]\d{4} \d\d:\d\d:\d\d GMT", "DATE", text)
    return re.sub(r"\b\d+ (?:seconds?|minutes?) ago|\(age [^)]*\)", "RECENTLY", text)


@contextmanager
def behind(product, via, address):
    """A web server before what listens on *address*; gives its port."""
    where = f"+unix://{address}" if isinstance(address, str) else "://{}:{}".format(*address)
    site = Site(via=via, bind=parse(f"{via}{where}"), listen_port=0)
    with launch(product, site) as server:
        yield server.site.listen_port


def flup_sees_paths(product, via):
    """Whether flup gets to know what is asked for."""
    return (product, via) not in {("apache", "fastcgi"), ("apache", "scgi")}


def compare(product, via, run, requests):
    """Ask both for the same; *run* gives a context manager of a `Launcher` for a package."""
    found = {}
    for package in (OURS, FLUP):
        with ExitStack() as stack:
            launcher = stack.enter_context(run(package))
            usual = package == OURS or flup_sees_paths(product, via)
            server = stack.enter_context(
                behind(product if usual else "nginx", via, launcher.address)
            )
            found[package] = [fetch(server, *one) for one in requests]
    for one, ours, theirs in zip(requests, found[OURS], found[FLUP], strict=True):
        assert ours == theirs, one
    return found[OURS]


WEB = [
    pytest.param("nginx", marks=pytest.mark.frontend("nginx")),
    pytest.param("apache", marks=pytest.mark.frontend("apache")),
]
each = pytest.mark.parametrize("product", WEB)


# -- Mercurial -----------------------------------------------------------------------------


def hg(repository, *words):
    done = subprocess.run(
        [sys.executable, "-m", "mercurial", "-R", repository, "--noninteractive", *words],
        env={**os.environ, "HGRCPATH": "", "HGUSER": "tester"},
        capture_output=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def repository():
    """A repository with two changes, and hgweb.fcgi edited for it as its comment says."""
    home = Path(tempfile.mkdtemp(prefix="portico-"))
    home.chmod(0o755)
    path = home / "repo"
    subprocess.run([sys.executable, "-m", "mercurial", "init", path], check=True, timeout=WAIT)
    for name in ("one", "two words"):
        (path / f"{name}.txt").write_text(f"the file {name}\n")
        hg(path, "commit", "-A", "-m", f"add {name}", "-d", "1000000000 0", "--cwd", path)
    source = (LAUNCHERS / "hgweb.fcgi").read_text()
    place = 'b"/path/to/repo/or/config"'
    assert place in source
    script = home / "hgweb.fcgi"
    script.write_text(source.replace(place, repr(os.fsencode(path))))
    yield home
    shutil.rmtree(home)


HG = [
    ("/",),
    ("/file/tip",),
    ("/raw-file/tip/one.txt",),
    ("/raw-file/tip/two%20words.txt",),
    ("/rev/0",),
    ("/?cmd=capabilities",),
    ("/?cmd=heads",),
    ("/static/style-paper.css",),
    ("/archive/tip.tar.gz",),
    ("/nothing/here",),
]


@each
def test_mercurials_hgweb_fcgi(product, repository, place):
    def run(package):
        address = ("127.0.0.1", free_port())
        return Launcher(
            place, package, repository / "hgweb.fcgi", address=address, inherited=True,
            env={"HGRCPATH": ""},
        )  # fmt: skip

    found = compare(product, "fastcgi", run, HG)
    assert [status for status, _, _ in found[:8]] == [200] * 8
    assert found[2][2] == "the file one\n"
    assert found[3][2] == "the file two words\n"


@each
def test_mercurial_clones_through_hgweb_fcgi(product, repository, place):
    address = ("127.0.0.1", free_port())
    with (
        Launcher(place, OURS, repository / "hgweb.fcgi", address=address, inherited=True),
        behind(product, "fastcgi", address) as port,
    ):
        hg(repository / "repo", "clone", f"http://127.0.0.1:{port}/", place / "clone")
        assert (place / "clone" / "two words.txt").read_text() == "the file two words\n"


# -- Trac ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trac():
    """A Trac with the trac.fcgi that ``trac-admin deploy`` writes."""
    home = Path(tempfile.mkdtemp(prefix="portico-"))
    home.chmod(0o755)
    admin = [sys.executable, "-W", "ignore", "-m", "trac.admin.console", home / "env"]
    for words in (["initenv", "A project", "sqlite:db/trac.db"], ["deploy", home / "deployed"]):
        done = subprocess.run([*admin, *words], capture_output=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    yield home
    shutil.rmtree(home)


TRAC = [
    ("/wiki",),
    ("/wiki/WikiFormatting",),
    ("/wiki/caf%C3%A9",),
    ("/about",),
    ("/search?q=wiki&noquickjump=1",),
    ("/chrome/common/css/trac.css",),
    ("/newticket",),
    ("/query?status=new",),
    ("/login", "user=x"),
    ("/nothing",),
]


@each
@pytest.mark.parametrize("wants_flup", ["1"])
def test_tracs_trac_fcgi(product, wants_flup, trac, place):
    def run(package):
        return Launcher(
            place, package, trac / "deployed" / "cgi-bin" / "trac.fcgi",
            address=("127.0.0.1", free_port()), inherited=True,
            env={"TRAC_USE_FLUP": wants_flup, "TRAC_ENV": str(trac / "env"),
                 "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip

    found = compare(product, "fastcgi", run, TRAC)
    assert [status for status, _, _ in found[:2]] == [200, 200]
    assert "WikiFormatting" in found[1][2]


# -- bottle, web.py, Django ----------------------------------------------------------------

SITE = [
    ("/",),
    ("/hello/you?q=caf%C3%A9",),
    ("/hello/caf%C3%A9%20au%20lait",),
    ("/form", "a=1&b=caf%C3%A9"),
    ("/away",),
    ("/stream",),
    ("/nothing",),
]


@each
def test_bottles_flup_server(product, place):
    def run(package):
        port = free_port()
        script = LAUNCHERS / "bottle_site.py"
        return Launcher(place, package, script, port, address=("127.0.0.1", port))

    found = compare(product, "fastcgi", run, [*SITE, ("/fails",)])
    assert [status for status, _, _ in found] == [200, 200, 200, 200, 303, 200, 404, 500]
    assert "Hello you" in found[1][2]


@each
@pytest.mark.parametrize("via", ["fastcgi", "scgi"])
def test_web_pys_runfcgi_and_runscgi(product, via, place):
    def run(package):
        port = free_port()
        word = {"fastcgi": "fcgi"}.get(via, via)
        return Launcher(
            place, package, LAUNCHERS / "webpy_site.py", f"127.0.0.1:{port}", word,
            address=("127.0.0.1", port),
        )  # fmt: skip

    found = compare(product, via, run, SITE)
    assert [status for status, _, _ in found] == [200, 200, 200, 200, 303, 200, 404]


@each
def test_web_py_on_descriptor_0(product, place):
    """As lighttpd started it: PHP_FCGI_CHILDREN says so."""

    def run(package):
        return Launcher(
            place, package, LAUNCHERS / "webpy_site.py", address=("127.0.0.1", free_port()),
            inherited=True, env={"PHP_FCGI_CHILDREN": "1"},
        )  # fmt: skip

    found = compare(product, "fastcgi", run, SITE)
    assert [status for status, _, _ in found] == [200, 200, 200, 200, 303, 200, 404]


DJANGO = [
    ("fastcgi", {"protocol": "fcgi", "method": "threaded"}),
    ("fastcgi", {"protocol": "fcgi", "method": "prefork"}),
    ("scgi", {"protocol": "scgi", "method": "threaded"}),
    ("scgi", {"protocol": "scgi", "method": "prefork"}),
    ("ajp", {"protocol": "ajp", "method": "threaded"}),
    ("ajp", {"protocol": "ajp", "method": "prefork"}),
]

POOL = {"maxspare": 2, "minspare": 1, "maxchildren": 4, "maxrequests": 100}


def runfcgi(place, package, address, **options):
    """Run ``runfcgi`` of Django 1.8 with *options*."""
    words = [f"{name}={value}" for name, value in options.items()]
    script = LAUNCHERS / "django_site.py"
    return Launcher(place, package, script, *words, address=address)


DJANGO_SITE = [(path.replace("?", "/?") if path.startswith("/hello") and "?" in path
                else f"{path}/" if path.startswith("/hello") else path, *rest)
               for path, *rest in SITE]  # fmt: skip


@each
@pytest.mark.parametrize(("via", "options"), DJANGO)
def test_djangos_runfcgi(product, via, options, place):
    if (product, via) == ("nginx", "ajp"):
        product = "apache"  # nginx speaks no AJP
        if not shutil.which("apache2", path="/usr/sbin:/usr/bin"):
            pytest.skip("apache is not installed")

    def run(package):
        host, port = address = ("127.0.0.1", free_port())
        return runfcgi(
            place, package, address, host=host, port=port, daemonize="false", **POOL, **options
        )

    found = compare(product, via, run, [*DJANGO_SITE, ("/fails",)])
    assert [status for status, _, _ in found] == [200, 200, 200, 200, 302, 200, 404, 500]
