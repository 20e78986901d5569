"""FastCGI beyond the Responder behind real web servers: multiplexing, and the Authorizer."""

import http.client
import os
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from engine_harness import PLAIN, WAIT, Running, until

SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

HAPROXY = """\
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option http-buffer-request
fcgi-app portico
    docroot /nowhere
    option keep-conn
    option mpxs-conns
    option max-reqs 40
    {values}
frontend web
    bind 127.0.0.1:{port}
    default_backend application
backend application
    use-fcgi-app portico
    http-reuse always
    server one 127.0.0.1:{application} proto fcgi pool-max-conn 1 maxconn 100
"""

LIGHTTPD = """\
server.modules = ("mod_fastcgi")
server.document-root = "{directory}/files"
server.bind = "127.0.0.1"
server.port = {port}
server.pid-file = "{directory}/pid"
index-file.names = ("index.html")
fastcgi.server = ("/" => ((
    "host" => "127.0.0.1", "port" => {application},
    "mode" => "authorizer", "docroot" => "{directory}/files", "check-local" => "disable")))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def web_server(program, arguments, port):
    """Run a web server in the foreground until the block's end."""
    binary = shutil.which(program, path=SEARCH)
    with subprocess.Popen(
        [binary, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:

            def answers():
                assert process.poll() is None, process.stderr.read().decode()
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return True
                return False

            until(answers, f"{program}'s port")
            yield process
        finally:
            process.terminate()
            process.wait(WAIT)


def fetch(port, path="/", method="GET", body=None):
    """One request; gives status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Crowd:
    """Lets a request of ``/wait`` go only when as many as asked for run at the same time.

    Attributes:
        peers: Ports of the connections that requests came over.
    """

    def __init__(self, size):
        self.barrier = threading.Barrier(size, timeout=WAIT)

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/wait":
            self.barrier.wait()
        size = len(environ["wsgi.input"].read())
        start_response("200 OK", PLAIN)
        return [b"%d" % size]


def connections_to(port):
    """Connections to *port* of loopback that this process has accepted."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    return sum(line.split()[1].endswith(wanted) and line.split()[3] == "01" for line in lines)


@pytest.mark.frontend("haproxy")
@pytest.mark.parametrize("values", ["option get-values", "no option get-values"])
def test_haproxy_has_many_requests_in_flight_on_one_connection(values, tmp_path):
    crowd = Crowd(12)
    with Running(crowd, "fastcgi") as server:
        port, application = free_port(), server.ports["fastcgi"]
        path = tmp_path / "haproxy.cfg"
        path.write_text(HAPROXY.format(port=port, application=application, values=values))
        with web_server("haproxy", ["-f", path], port), ThreadPoolExecutor(12) as clients:
            # one at a time first: HAProxy learns what the application can do
            assert fetch(port) == (200, b"0")
            most = [0]
            asked = [clients.submit(fetch, port, "/wait") for _ in range(12)]
            until(
                lambda: most.append(connections_to(application)) or crowd.barrier.n_waiting
                or all(one.done() for one in asked), "the first of them"
            )  # fmt: skip
            assert [one.result(WAIT) for one in asked] == [(200, b"0")] * 12
            assert max(most) < 12, "HAProxy opened a connection for each"
            body = bytes(300_000)
            asked = [clients.submit(fetch, port, "/", "POST", body) for _ in range(60)]
            assert {one.result(WAIT) for one in asked} == {(200, b"300000")}
        assert not server.log.having("refused")


def gatekeeper(environ, start_response):
    """Lets pass who asks nicely."""
    assert environ["portico.role"] == "authorizer"
    if environ["QUERY_STRING"] == "please":
        start_response("200 OK", [("REMOTE_USER", "polite"), *PLAIN])
        return []
    start_response("403 Forbidden", [("Content-Type", "text/plain")])
    return [b"say please"]


@pytest.mark.frontend("lighttpd")
def test_lighttpd_asks_an_authorizer(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "index.html").write_text("the protected page")
    with Running(gatekeeper, "fastcgi", roles=("authorizer",)) as server:
        port = free_port()
        path = tmp_path / "lighttpd.conf"
        path.write_text(
            LIGHTTPD.format(directory=tmp_path, port=port, application=server.ports["fastcgi"])
        )
        with web_server("lighttpd", ["-D", "-f", path], port):
            assert fetch(port, "/?please") == (200, b"the protected page")
            assert fetch(port, "/?now") == (403, b"say please")
            assert fetch(port, "/?please") == (200, b"the protected page")


APACHE = """\
ServerName localhost
ServerRoot {directory}
PidFile {directory}/pid
Listen 127.0.0.1:{port}
ErrorLog {directory}/error.log
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule authnz_fcgi_module {modules}/mod_authnz_fcgi.so
{user}
DocumentRoot {directory}/files
AuthnzFcgiDefineProvider authn gate fcgi://127.0.0.1:{application}/
<Directory {directory}/files>
    AuthType None
    AuthnzFcgiCheckAuthnProvider gate Authoritative On RequireBasicAuth Off UserExpr "%{{reqenv:REMOTE_USER}}"
    Require valid-user
</Directory>
"""  # noqa: E501 - one directive


@pytest.mark.frontend("apache")
def test_apache_asks_an_authorizer(directory):
    modules = Path("/usr/lib/apache2/modules")
    files = directory / "files"
    files.mkdir()
    directory.chmod(0o755)
    (files / "page.txt").write_text("the protected page")
    with Running(gatekeeper, "fastcgi", roles=("authorizer",)) as server:
        port = free_port()
        path = directory / "httpd.conf"
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        path.write_text(
            APACHE.format(
                directory=directory, port=port, application=server.ports["fastcgi"],
                modules=modules, user=user,
            )
        )  # fmt: skip
        program = "apache2" if shutil.which("apache2", path=SEARCH) else "httpd"
        with web_server(program, ["-D", "FOREGROUND", "-f", path], port):
            assert fetch(port, "/page.txt?please") == (200, b"the protected page")
            assert fetch(port, "/page.txt?now")[0] in {401, 403}
            assert fetch(port, "/page.txt?please") == (200, b"the protected page")
