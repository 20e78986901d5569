"""The README keeps its word: its commands, its configuration and its script do what it says."""

import grp
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cli_harness import WAIT, Command, eventually, fetch, free_port
from conftest import SEARCH
from portico import cli
from portico.cli import up
from portico.codecs import PROTOCOLS
from portico.servers import catalog
from warm_harness import end_residents, residents

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", README)
(NGINX,) = [text for language, text in BLOCKS if language == "nginx"]
(SCRIPT,) = [text for language, text in BLOCKS if language == "python"]

SOCKET = "/run/mysite/app.sock"

#: What README calls mysite.wsgi: a module of that name, which shows what arrives.
SITE = """\
import json

def application(environ, start_response):
    seen = {name: value for name, value in environ.items() if isinstance(value, str)}
    seen["body"] = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
"""


def command(beginning):
    """The one shell line of README that begins so, as words after the program's name."""
    lines = [
        line
        for language, text in BLOCKS
        if not language
        for line in text.splitlines()
        if line.removeprefix(".venv/bin/").startswith(beginning)
    ]
    (line,) = lines
    return shlex.split(line)[1:]


def row(beginning):
    """The cells of a line of README's table, the first left out."""
    (line,) = (line for line in README.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.fixture
def mysite(tmp_path):
    """A directory that holds the module mysite.wsgi."""
    package = tmp_path / "mysite"
    package.mkdir()
    (package / "wsgi.py").write_text(SITE)
    return tmp_path


@pytest.fixture
def site(mysite):
    """README's `portico serve`, its socket in another place; gives the socket's path."""
    path = mysite / "app.sock"
    words = [word.replace(SOCKET, str(path)) for word in command("portico serve")]
    if os.geteuid():  # only root may give a socket to a group that is not its own
        own = grp.getgrgid(os.getegid()).gr_name
        words = [word.replace("group=www-data", f"group={own}") for word in words]
    with Command(*words, cwd=mysite) as running:
        eventually(lambda: " on fastcgi+unix:" in running.err or not running.running(), "serving")
        assert running.running(), running.err
        yield path
        running.kill(signal.SIGTERM)
        assert running.finish() == 0


def test_serve_command_makes_the_socket_that_it_promises(site):
    assert site.stat().st_mode & 0o777 == 0o660
    if not os.geteuid():
        assert grp.getgrgid(site.stat().st_gid).gr_name == "www-data"


# -- nginx -----------------------------------------------------------------------------------


@pytest.fixture
def nginx(mysite):
    """nginx with README's block; gives the function that runs it with an option more."""
    binary = shutil.which("nginx", path=SEARCH)
    shutil.copy("/etc/nginx/fastcgi_params", mysite)
    port = free_port()
    block = NGINX.replace(SOCKET, str(mysite / "app.sock"))
    (mysite / "nginx.conf").write_text(
        ("" if os.geteuid() else "user root;\n")
        + f"daemon off;\npid {mysite}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        + f"http {{\naccess_log off;\nroot {mysite};\n"
        + "".join(
            f"{part}_temp_path {mysite}/{part};\n"
            for part in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        )
        + f"server {{\nlisten 127.0.0.1:{port};\n{block}}}\n}}\n"
    )

    def run(*options):
        return subprocess.Popen(
            [binary, "-p", mysite, "-e", "stderr", "-c", mysite / "nginx.conf", *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    run.url = f"http://127.0.0.1:{port}/"
    run.port = port
    return run


@pytest.mark.frontend("nginx")
def test_nginx_accepts_the_block(nginx):
    with nginx("-t") as process:
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err.decode()
    assert b"warn" not in err


@pytest.mark.frontend("nginx")
@pytest.mark.usefixtures("site")
def test_nginx_serves_by_the_block(nginx):
    with nginx() as process:
        try:
            eventually(lambda: connects(nginx.port), "nginx")
            status, text = fetch(nginx.url, "a%20b/c?x=%31", **{"X-Probe": "yes"})
        finally:
            process.send_signal(signal.SIGQUIT)
            _, err = process.communicate(timeout=WAIT)
    assert (status, err) == (200, b"")
    seen = json.loads(text)
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("", "/a b/c")
    assert (seen["QUERY_STRING"], seen["HTTP_X_PROBE"]) == ("x=%31", "yes")


def connects(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_config_command_prints_the_same_way_in_full(capsys):
    (bind,) = (word for word in command("portico serve") if "://" in word)
    assert "`portico config nginx mysite.wsgi --bind ...`" in README
    assert cli.main(["config", "nginx", "mysite.wsgi", "--bind", bind]) == 0
    printed = capsys.readouterr().out
    assert f'"unix:{SOCKET}"' in printed
    assert "portico serve mysite.wsgi --bind " in printed
    ours = [line.strip() for line in NGINX.splitlines()]
    theirs = [line.strip() for line in printed.splitlines()]
    for line in ours:
        if not line.startswith(("include", "fastcgi_pass")):
            assert line in theirs


# -- the other commands ------------------------------------------------------------------------


@pytest.mark.frontend("nginx")
def test_up_command_shows_the_example():
    with Command(*command("portico up"), "--port", "0", cwd=ROOT) as running:
        assert fetch(running.await_url()) == (200, "Hello from behind the portico.\n")
        assert "browser -> nginx -> scgi over unix" in running.out


def test_request_command_shows_what_comes_back(mysite):
    with Command("serve", "mysite.wsgi", "--bind", "scgi://127.0.0.1:0", cwd=mysite) as running:
        port = running.await_text(r"scgi://127\.0\.0\.1:(\d+)", "err")[1]
        words = [word.replace("4000", port) for word in command("portico request")]
        done = subprocess.run(
            [sys.executable, "-m", "portico", *words], capture_output=True, timeout=WAIT, check=True
        )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"200 OK\r\n")
    assert json.loads(body)["PATH_INFO"] == "/path"
    assert json.loads(body)["QUERY_STRING"] == "x=1"
    assert done.stderr == b""


def test_make_has_the_targets():
    targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text())
    named = re.findall(r"\bmake (\w+)", "\n".join(text for _, text in BLOCKS))
    named += re.findall(r"`make (\w+)`", README)
    assert set(named) >= {"demo", "test", "check"}
    assert set(named) <= set(targets)


# -- the script for shared hosting ---------------------------------------------------------------


@pytest.fixture
def script(mysite):
    path = mysite / "app.fcgi"
    path.write_text(SCRIPT)
    assert SCRIPT.startswith("#!/home/me/venv/bin/python\n")
    return path


@pytest.fixture
def temporary():
    """A directory for the socket of a resident server, which ends with the test."""
    path = Path(tempfile.mkdtemp(prefix="portico-"))
    yield path
    end_residents(path / f"portico-warm-{os.geteuid()}")
    shutil.rmtree(path)


def test_init_and_check_commands_make_a_site(mysite, temporary):
    (mysite / "public_html").mkdir(mode=0o755)
    for begin in ("portico init", "portico check"):
        words = [word.replace("~", str(mysite)) for word in command(begin)]
        done = subprocess.run(
            [sys.executable, "-m", "portico", *words],
            cwd=mysite,
            env=os.environ | {"TMPDIR": str(temporary)},
            capture_output=True,
            timeout=WAIT,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    written = (mysite / "public_html" / "app.cgi").read_text()
    assert 'portico.run("mysite.wsgi' in written.replace("'", '"')
    assert (mysite / "public_html" / ".htaccess").exists()


def test_script_serves_as_cgi(script, temporary):
    environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/app.cgi",
        "PATH_INFO": "/x",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    done = subprocess.run(
        [sys.executable, script],
        cwd=script.parent,
        env=os.environ | environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT,
        check=True,
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert b"Status: 200 OK" in head.split(b"\r\n")
    assert json.loads(body)["PATH_INFO"] == "/x"
    assert done.stderr == b""
    assert len(residents(temporary / f"portico-warm-{os.geteuid()}")) == 1


def test_script_serves_as_fastcgi(script):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen([sys.executable, script], cwd=script.parent, stdin=listener)
    with process:
        try:
            url = f"fastcgi://127.0.0.1:{port}/x"
            done = subprocess.run(
                [sys.executable, "-m", "portico", "request", url],
                capture_output=True,
                timeout=WAIT,
                check=True,
            )
        finally:
            process.terminate()
        assert process.wait(WAIT) == 0
    assert json.loads(done.stdout)["PATH_INFO"] == "/x"


# -- what there is -------------------------------------------------------------------------------


def test_servers_are_those_that_it_names():
    (listed,) = re.findall(r"`--server` knows (.*?);", README)
    assert re.findall(r"`(\w+)`", listed) == up._servers()


@pytest.mark.parametrize("name", catalog.PRODUCTS)
def test_table_names_every_route(name):
    product = catalog.PRODUCTS[name]
    protocols = ["cgi", "fastcgi", "scgi", "ajp", "uwsgi"]
    cells = dict(zip(protocols, row(product.title), strict=True))
    for protocol in protocols:
        routes = [route for route in product.routes.values() if route.protocol == protocol]
        modules = list(dict.fromkeys(route.module for route in routes))  # some do it in two ways
        if name == "nginx":  # its modules are part of it, so the table says yes
            modules = ["yes"] * len(modules)
        assert cells[protocol] == ", ".join(modules)


def test_table_names_every_protocol():
    heads = [cell.lower().partition("/")[0] for cell in row("|")]
    assert heads[0] == "cgi"
    assert set(heads[1:]) == set(PROTOCOLS.values())
    assert row("serve an application") == ["yes"] * 5
    assert row("client") == ["", *["yes"] * 4]
