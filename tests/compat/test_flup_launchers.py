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
import sysconfig
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import portico
from engine_harness import WAIT, until
from flup_harness import FLUP, LAUNCHERS, OURS, Launcher, free_port, launching
from portico.servers import script
from portico.servers.account import unprivileged
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
    text = re.sub(r"((?i:form_token|session)\W+(?:value=\W)?)[0-9a-f]{24}", r"\1TOKEN", text)
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
def test_tracs_trac_fcgi(product, trac, place):
    def run(package):
        return Launcher(
            place, package, trac / "deployed" / "cgi-bin" / "trac.fcgi",
            address=("127.0.0.1", free_port()), inherited=True,
            env={"TRAC_USE_FLUP": "1", "TRAC_ENV": str(trac / "env"),
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
    pytest.param(product, via, {"protocol": protocol, "method": method},
                 marks=pytest.mark.frontend(product))
    for product, via, protocol in (
        ("nginx", "fastcgi", "fcgi"), ("nginx", "scgi", "scgi"),
        ("apache", "fastcgi", "fcgi"), ("apache", "scgi", "scgi"), ("apache", "ajp", "ajp"),
    )
    for method in ("threaded", "prefork")
]  # fmt: skip

POOL = {"maxspare": 2, "minspare": 1, "maxchildren": 4, "maxrequests": 100}


def runfcgi(place, package, address, **options):
    """Run ``runfcgi`` of Django 1.8 with *options*."""
    words = [f"{name}={value}" for name, value in options.items()]
    script = LAUNCHERS / "django_site.py"
    return Launcher(place, package, script, *words, address=address)


DJANGO_SITE = [
    ("/",),
    ("/hello/you/?q=caf%C3%A9",),
    ("/hello/caf%C3%A9%20au%20lait/",),
    ("/form", "a=1&b=caf%C3%A9"),
    ("/away",),
    ("/stream",),
    ("/nothing",),
    ("/fails",),
]


@pytest.mark.parametrize(("product", "via", "options"), DJANGO)
def test_djangos_runfcgi(product, via, options, place):
    def run(package):
        host, port = address = ("127.0.0.1", free_port())
        return runfcgi(
            place, package, address, host=host, port=port, daemonize="false", **POOL, **options
        )

    encoded = DJANGO_SITE[2]
    # flup leaves the path encoded over AJP (defect 6)
    requests = [one for one in DJANGO_SITE if via != "ajp" or one != encoded]
    found = compare(product, via, run, requests)
    assert [found[0][0], *(status for status, _, _ in found[-5:])] == [200, 200, 302, 200, 404, 500]
    with run(OURS) as launcher, behind(product, via, launcher.address) as port:
        assert fetch(port, *encoded)[2] == "Hello caf\xc3\xa9 au lait, "


@pytest.mark.frontend("nginx")
@pytest.mark.parametrize("method", ["threaded", "prefork"])
def test_djangos_runfcgi_as_a_daemon_on_a_unix_socket(method, directory):
    """daemonize is the default there; pidfile, workdir, umask and the logs are Django's own."""
    path = str(directory / "django.sock")
    pidfile = directory / "pid"
    launcher = runfcgi(
        directory, OURS, path, socket=path, method=method, pidfile=pidfile, workdir=directory,
        umask="000", outlog=directory / "out", errlog=directory / "err", **POOL,
    )  # fmt: skip
    with launcher:
        daemon = int(pidfile.read_text())
        try:
            assert launcher.ends() == 0  # the parent has ended, and the daemon serves
            with behind("nginx", "fastcgi", path) as port:
                assert fetch(port, "/")[2] == "<h1>Django</h1>"
            assert "the index was asked for" in (directory / "err").read_text()
        finally:
            os.kill(daemon, signal.SIGTERM)
            until(lambda: not Path(path).exists(), "the daemon's end")
            until(lambda: not Path(f"/proc/{daemon}").exists(), "the daemon's end")


@pytest.mark.frontend("nginx")
def test_djangos_runfcgi_on_descriptor_0(place):
    def run(package):
        return Launcher(
            place, package, LAUNCHERS / "django_site.py", "method=threaded",
            address=("127.0.0.1", free_port()), inherited=True,
        )  # fmt: skip

    assert compare("nginx", "fastcgi", run, DJANGO_SITE)[0][0] == 200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["protocol=nothing"], "Can't import flup.server.nothing_fork"),
        (["method=many"], "must be one of prefork or thread"),
        (["host=127.0.0.1", "port=1", "socket=x"], "Invalid combination of host, port, socket"),
        (["minspare=9", "daemonize=false", "socket=x"], "maxSpare must not be less than minSpare"),
    ],
)
def test_djangos_runfcgi_refuses_as_ever(options, sentence, place):
    done = subprocess.run(
        [sys.executable, "-c", launching(OURS), LAUNCHERS / "django_site.py", *options],
        capture_output=True, text=True, cwd=place, timeout=WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert sentence in done.stdout + done.stderr


# -- scripts that Apache starts ------------------------------------------------------------

#: The launcher line, and what else stands before a script that cannot be changed.
SCRIPT = """\
#!{python}
import os, sys
sys.path += {path!r}
os.environ.update({environ!r})
sys.argv = ["script", {launcher!r}]
{source}"""


def script_for(directory, package, launcher, **environ):
    """A script that runs *launcher*, for the account that Apache serves as where root starts it."""
    account = unprivileged()
    python = sys.executable if account is None else script.find_interpreter(account)
    # of the environment that this Python belongs to, which that one may not
    path = [str(Path(portico.__file__).parents[1]), sysconfig.get_path("purelib")]
    if account is not None:
        assert all(script._reaches(account, Path(place) / "x") for place in path), path
    file = directory / f"{package.rpartition('.')[0] or 'real'}.fcgi"
    file.write_text(
        SCRIPT.format(
            python=python, path=path, environ=environ, launcher=str(launcher),
            source=launching(package),
        )
    )  # fmt: skip
    file.chmod(0o755)
    return file


def started_by_apache(via, file, requests):
    with launch("apache", Site(via=via, script=str(file), listen_port=0)) as server:
        port = server.site.listen_port
        found = [fetch(port, *one) for one in requests]
        assert "End of script output before headers" not in server.log(), server.log()
        return found


@pytest.mark.frontend("apache")
def test_mod_fcgid_starts_hgweb_fcgi(repository, directory):
    found = [
        started_by_apache(
            "fcgid", script_for(directory, package, repository / "hgweb.fcgi", HGRCPATH=""), HG
        )
        for package in (OURS, FLUP)
    ]
    assert found[0] == found[1]
    assert found[0][2][2] == "the file one\n"


@pytest.mark.frontend("apache")
def test_apache_starts_hgweb_fcgi_as_cgi(repository, directory):
    """flup's CGI is dead on Python 3; the yardstick is the same site over FastCGI."""
    file = script_for(directory, OURS, repository / "hgweb.fcgi", HGRCPATH="")
    found = started_by_apache("cgi", file, HG)
    assert found == started_by_apache("fcgid", file, HG)
    assert found[2][2] == "the file one\n"


@pytest.mark.frontend("apache")
def test_mod_fcgid_starts_trac_fcgi(trac, directory):
    environment = trac / "env"
    for path in (environment, *environment.rglob("*")):  # Trac writes to its database
        path.chmod(0o777 if path.is_dir() else 0o666)
    found = [
        started_by_apache(
            "fcgid",
            script_for(
                directory, package, trac / "deployed" / "cgi-bin" / "trac.fcgi",
                TRAC_USE_FLUP="1", TRAC_ENV=str(environment), PYTHON_EGG_CACHE=str(directory),
            ),
            TRAC,
        )
        for package in (OURS, FLUP)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert [status for status, _, _ in found[0][:2]] == [200, 200]
