"""Real web servers, started and stopped: what the application sees, and what is left behind."""

import http.client
import json
import os
import shutil
import socket
import stat
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

import portico
from backends import Backend
from portico.core.mount import Mounting
from portico.errors import ConfigError, TransportError
from portico.servers import account, catalog, launch
from portico.servers.site import Site
from portico.transports.bind import parse
from servers.golden import routes

WAIT = 20

#: Runs under the account of the web server, which may not reach the tests' own interpreter.
SCRIPT = """\
#!{python}
import io, json, os, socket, sys
sys.dont_write_bytecode = True
sys.path.insert(0, {place!r})
from backends import Backend

def app(environ, start_response):
    size = 0
    while block := environ["wsgi.input"].read(65536):
        size += len(block)
    seen = {{name: value for name, value in environ.items() if isinstance(value, str)}}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(dict(seen, size=size)).encode()]

if "REQUEST_METHOD" in os.environ:
    seen = {{name.decode(): value.decode("latin-1") for name, value in os.environb.items()}}
    size = len(sys.stdin.buffer.read())
    print("Content-Type: application/json\\n\\n" + json.dumps(dict(seen, size=size)))
else:
    backend = Backend.__new__(Backend)
    backend.protocol, backend.app, backend.options = "fastcgi", app, {{}}
    backend.errors = io.StringIO()
    with socket.socket(fileno=0) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                backend.serve(connection)
"""

CASES = [
    pytest.param(p.name, via, route, id=f"{p.name}-{via}", marks=pytest.mark.frontend(p.name))
    for p, via, route in routes()
]
PRODUCTS = [
    pytest.param(name, marks=pytest.mark.frontend(name)) for name in ("nginx", "apache", "lighttpd")
]


def app(environ, start_response):
    size = 0
    while block := environ["wsgi.input"].read(65_536):
        size += len(block)
    seen = {name: value for name, value in environ.items() if isinstance(value, str)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**seen, "size": size}).encode()]


def interpreter():
    """An interpreter that the web server's account may run."""
    who = account.unprivileged()
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        path = Path(python).resolve()
        if path.exists() and (who is None or reaches(who, path)):
            return str(path)
    pytest.fail("no Python interpreter that the web server's account may run")


def reaches(who, path):
    try:
        account.admit(who, "test", Site(via="cgi", script=str(path)))
    except ConfigError:
        return False
    return True


def write_script(directory):
    shutil.copytree(Path(portico.__file__).parent, directory / "portico")
    shutil.copy(Path(__file__).parents[1] / "backends.py", directory)
    directory.chmod(0o755)  # imports list it
    script = directory / "app.cgi"
    script.write_text(SCRIPT.format(python=interpreter(), place=str(directory)))
    script.chmod(0o755)
    return str(script)


@contextmanager
def served(product, via, route, directory, *, unix=False, options="", **values):
    """A web server before the echoing application; gives the web server."""
    if route.starts_script:
        site = Site(via=via, script=write_script(directory), listen_port=0, **values)
        with launch.launch(product, site) as front:
            yield front
        return
    path = directory / "a b.sock" if unix else None
    codec = {"secret": 's"e \\c', "packet_size": 65_536} if options else {}
    with Backend(route.protocol, app, path=path, **codec) as backend:
        url = parse(backend.url.replace(" ", "%20") + options)
        site = Site(via=via, bind=url, listen_port=0, **values)
        with launch.launch(product, site) as front:
            yield front


def request(front, path, method="GET", body=None, headers=()):
    """Send the path as it is; gives status and, of 200, what the application saw."""
    address = (front.site.listen_host, front.site.listen_port)
    connection = http.client.HTTPConnection(*address, timeout=WAIT)
    try:
        chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, path, body, dict(headers), encode_chunked=chunked)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(text) if answer.status == 200 else text


PATHS = [
    ("", ""),
    ("/", "/"),
    ("/hello", "/hello"),
    ("/caf%C3%A9/a%20b/x+y", "/caf\u00c3\u00a9/a b/x+y"),
    ("/a%2Fb", "/a/b"),
    ("/a/", "/a/"),
]


@pytest.mark.parametrize("mount", ["", "/app", "/app.v1/x"])
@pytest.mark.parametrize(("product", "via", "route"), CASES)
def test_application_sees_where_it_is_mounted(product, via, route, mount, directory):
    told = mount if via == "ajp" else None  # it has no SCRIPT_NAME
    mounting = Mounting(told)
    with served(product, via, route, directory, mount=mount) as front:
        for sent, info in PATHS:
            if not mount and not sent:
                continue
            status, seen = request(front, f"{mount}{sent}?q=%20")
            assert status == 200
            mounting.apply(seen)
            assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (mount, info), sent
            assert seen["QUERY_STRING"] == "q=%20"
            if via != "ajp" or "%2F" not in sent:  # mod_proxy_ajp sends the path written anew
                assert seen["REQUEST_URI"] == f"{mount}{sent}?q=%20"
        if mount:
            assert request(front, f"{mount}x/")[0] == 404


EXACT = [case for case in CASES if case.id not in {"apache-scgi", "apache-ajp", "apache-uwsgi"}]


@pytest.mark.parametrize("mount", ["", "/app"])
@pytest.mark.parametrize(("product", "via", "route"), EXACT)
def test_path_needs_no_repair(product, via, route, mount, directory):
    with served(product, via, route, directory, mount=mount) as front:
        _, seen = request(front, f"{mount}/a%20b/caf%C3%A9")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == (mount, "/a b/caf\u00c3\u00a9")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize(("product", "via", "route"), CASES)
def test_application_sees_the_request(product, via, route, unix, directory):
    headers = {"Authorization": "Basic YTpi", "Proxy": "http://evil/", "X-One": "1"}
    with served(product, via, route, directory, unix=unix) as front:
        status, seen = request(front, "/", "PUT", b"hello", headers)
        port = str(front.site.listen_port)
    assert status == 200
    assert seen["REQUEST_METHOD"] == "PUT"
    assert seen["size"] == 5
    assert seen["HTTP_AUTHORIZATION"] == "Basic YTpi"
    assert seen["HTTP_X_ONE"] == "1"
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", port)
    assert seen["REMOTE_ADDR"] == "127.0.0.1"
    assert seen["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert not seen.get("HTTP_PROXY")
    assert not seen.get("REMOTE_USER")
    assert "HTTPS" not in seen


@pytest.mark.parametrize("streaming", [False, True], ids=["buffered", "streaming"])
@pytest.mark.parametrize(("product", "via", "route"), CASES)
def test_large_uploads_pass(product, via, route, streaming, directory):
    size = 60 << 20
    with served(product, via, route, directory, streaming=streaming) as front:
        status, seen = request(front, "/", "POST", bytes(size))
        assert (status, seen["size"]) == (200, size)


#: mod_proxy_scgi and mod_proxy_uwsgi answer 411: their protocols need the length beforehand.
CHUNKED = [case for case in CASES if case.id not in {"apache-scgi", "apache-uwsgi"}]


@pytest.mark.parametrize("streaming", [False, True], ids=["buffered", "streaming"])
@pytest.mark.parametrize(("product", "via", "route"), CHUNKED)
def test_uploads_of_unknown_length_pass(product, via, route, streaming, directory):
    blocks = iter([bytes(70_000)] * 10)
    with served(product, via, route, directory, streaming=streaming) as front:
        status, seen = request(front, "/", "POST", blocks, {"Transfer-Encoding": "chunked"})
    assert (status, seen["size"]) == (200, 700_000)


@pytest.mark.parametrize(("product", "via", "route"), CASES)
def test_body_above_the_limit_is_refused(product, via, route, directory):
    with served(product, via, route, directory, mount="/app", body_limit_bytes=65_536) as front:
        assert request(front, "/app/", "POST", bytes(65_536))[0] == 200
        assert request(front, "/app/", "POST", bytes(70_000))[0] == 413


CONNECTED = [case for case in CASES if not case.values[2].starts_script]


@pytest.mark.parametrize(("product", "via", "route"), CONNECTED)
def test_streamed_blocks_arrive_one_by_one(product, via, route):
    arrived = threading.Event()

    def two_blocks(_, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"one"
        assert arrived.wait(WAIT)
        yield b"two"

    with Backend(route.protocol, two_blocks) as backend:
        site = Site(via=via, bind=parse(backend.url), listen_port=0, streaming=True)
        with launch.launch(product, site) as front:
            connection = http.client.HTTPConnection(
                front.site.listen_host, front.site.listen_port, timeout=WAIT / 2
            )
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.read(3) == b"one"
            arrived.set()
            assert answer.read() == b"two"
            connection.close()


@pytest.mark.frontend("apache")
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_ajp_secret_and_packet_size_arrive(unix, directory):
    route = catalog.PRODUCTS["apache"].routes["ajp"]
    options = "?secret=s%22e%20%5Cc&packet_size=65536"
    headers = {"X-Long": "x" * 7000, "X-Longer": "y" * 7000}
    with served("apache", "ajp", route, directory, unix=unix, options=options) as front:
        status, seen = request(front, "/", headers=headers)
    assert status == 200
    assert len(seen["HTTP_X_LONGER"]) == 7000


@pytest.mark.parametrize("product", PRODUCTS[:2])
def test_connection_to_the_application_is_kept(product, directory):
    with Backend("fastcgi", app, path=directory / "s") as backend:
        site = Site(bind=parse(backend.url), listen_port=0)
        with launch.launch(product, site) as front:
            for _ in range(20):
                assert request(front, "/")[0] == 200
        assert backend.accepted < 10  # each of Apache's processes keeps its own


@pytest.mark.parametrize(("product", "via", "route"), CASES)
def test_nothing_is_left_behind(product, via, route, directory, session_members):
    with served(product, via, route, directory) as front:
        assert request(front, "/")[0] == 200
        assert front.poll() is None
        private = front.directory
        assert stat.S_IMODE(private.stat().st_mode) in {0o700, 0o711}
        assert front.pid in session_members(front.pid)
    front.stop()
    assert session_members(front.pid) == []
    assert not private.exists()
    with socket.socket() as probe:
        assert probe.connect_ex((front.site.listen_host, front.site.listen_port)) != 0


@pytest.mark.parametrize("product", PRODUCTS)
def test_stop_is_bounded_while_a_request_runs(product, directory, session_members):
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.socket() as client:
        listener.settimeout(WAIT)
        bind = parse(f"fastcgi://127.0.0.1:{listener.getsockname()[1]}")
        front = launch.launch(product, Site(bind=bind, listen_port=0), str(directory))
        assert front.directory.parent == directory
        client.connect((front.site.listen_host, front.site.listen_port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        held, _ = listener.accept()  # and never answered
        with held:
            front.stop(grace_seconds=0.3)
    assert session_members(front.pid) == []
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_without_an_application_the_front_says_so(product):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with launch.launch(
        product, Site(bind=parse(f"fastcgi://127.0.0.1:{port}"), listen_port=0)
    ) as f:
        assert request(f, "/")[0] in {502, 503}
        assert f.log()


@pytest.mark.parametrize("product", PRODUCTS)
def test_its_own_files_are_not_served(product):
    bind = parse("fastcgi://127.0.0.1:1")
    with launch.launch(product, Site(bind=bind, mount="/app", listen_port=0)) as front:
        for name in ("nginx.conf", "httpd.conf", "lighttpd.conf", "output.log"):
            assert request(front, f"/{name}")[0] in {403, 404}
            assert request(front, f"/../{name}")[0] in {400, 403, 404}


@pytest.mark.parametrize("product", PRODUCTS)
def test_taken_port_is_said_in_a_sentence(product, directory):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site = Site(bind=parse("fastcgi://127.0.0.1:1"), listen_port=port)
        with pytest.raises(TransportError, match=f"127.0.0.1:{port}: Address already in use") as no:
            launch.launch(product, site, str(directory))
    assert isinstance(no.value.__cause__, OSError)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_missing_program_is_said_in_a_sentence(product, directory, monkeypatch):
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(launch, "SYSTEM_DIRECTORIES", (str(directory / "none"),))
    site = Site(bind=parse("fastcgi://127.0.0.1:1"), listen_port=0)
    with pytest.raises(ConfigError, match="is not installed") as no:
        launch.launch(product, site, str(directory))
    assert "\n" not in str(no.value)
    assert not launch.is_installed(product)
    assert list(directory.iterdir()) == []


@pytest.mark.frontend("apache")
def test_missing_apache_module_is_named(directory, monkeypatch):
    (directory / "mod_authz_core.so").touch()
    monkeypatch.setattr(launch, "APACHE_MODULES", (str(directory),))
    site = Site(via="scgi", bind=parse("scgi://127.0.0.1:1"), listen_port=0)
    with pytest.raises(ConfigError, match="mod_proxy is not installed"):
        launch.launch("apache", site)


@pytest.mark.parametrize("product", PRODUCTS)
def test_syntax_error_comes_in_the_servers_own_words(product, directory, monkeypatch):
    module = catalog.renderer(catalog.PRODUCTS[product])
    monkeypatch.setattr(module, "render", lambda _: "nonsense is here {\n")
    site = Site(bind=parse("fastcgi://127.0.0.1:1"), listen_port=0)
    with pytest.raises(ConfigError) as no:
        launch.launch(product, site, str(directory))
    first, _, rest = str(no.value).partition("\n")
    assert first.endswith("refuses the configuration that Portico wrote:")
    assert "nonsense" in rest or "line" in rest
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_server_that_ends_at_once_is_said_with_its_log(product, directory, monkeypatch):
    prepare = launch.prepare

    def break_later(*arguments):
        command = prepare(*arguments)
        for path in arguments[2].glob("*.conf"):
            path.write_text("nonsense on;\n")
        return command

    monkeypatch.setattr(launch, "prepare", break_later)
    site = Site(bind=parse("fastcgi://127.0.0.1:1"), listen_port=0)
    with pytest.raises(TransportError, match=r"ended with status \d+ before it answered") as no:
        launch.launch(product, site, str(directory))
    assert str(no.value).partition("\n")[2]
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_server_that_never_answers_is_ended(product, directory, monkeypatch, session_members):
    monkeypatch.setattr(launch, "_START_SECONDS", 0.5)
    monkeypatch.setattr(launch, "_answers", lambda *_: False)
    started = []
    start = launch._start
    monkeypatch.setattr(launch, "_start", lambda *a: started.append(start(*a)) or started[0])
    site = Site(bind=parse("fastcgi://127.0.0.1:1"), listen_port=0)
    with pytest.raises(TransportError, match="did not answer on "):
        launch.launch(product, site, str(directory))
    assert session_members(started[0].pid) == []
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("product", PRODUCTS)
def test_ipv6_is_listened_on(product):
    with Backend("scgi", app) as backend:
        site = Site(via="scgi", bind=parse(backend.url), listen_host="::1", listen_port=0)
        with launch.launch(product, site) as front:
            assert front.url.startswith("http://[::1]:")
            assert request(front, "/")[1]["REMOTE_ADDR"] == "::1"


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")


@ROOT
@pytest.mark.parametrize("product", PRODUCTS)
def test_works_without_privileges_too(product, directory):
    """The same from an ordinary account; where the tests run from one, all of them show it."""
    directory.chmod(0o755)
    with Backend("fastcgi", app) as backend:
        site = Site(bind=parse(backend.url), listen_port=0)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(65_534)
                os.setuid(65_534)
                os.environ["HOME"] = "/"
                with launch.launch(product, site) as front:
                    status = 0 if request(front, "/")[0] == 200 else 3
                status = status or (4 if front.directory.exists() else 0)
            finally:
                os._exit(status)
        _, waited = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(waited) == 0


@ROOT
@pytest.mark.frontend("apache")
def test_root_is_told_what_apache_cannot_reach(tmp_path):
    tmp_path.chmod(0o700)
    site = Site(bind=parse(f"fastcgi+unix://{tmp_path}/s"), listen_port=0)
    with pytest.raises(ConfigError, match="cannot reach"):
        launch.launch("apache", site)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.frontend("apache")
def test_scripts_can_be_started_as_soon_as_apache_is_ready(directory):
    site = Site(via="cgi", script=write_script(directory), listen_port=0)
    with launch.launch("apache", site) as front:
        # what mod_cgid connects to; its name ends with the server's process id
        assert any(path.is_socket() for path in front.directory.glob("cgid*"))
