"""A site of uWSGI behind nginx, and the same nginx in front of what it becomes."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_harness import Command
from migrate.site import APP, INI, STOCK
from nginx_harness import change_nginx
from peers_harness import Program, find
from portico.servers import launch
from portico.servers.site import Site
from portico.transports.bind import parse

pytestmark = [pytest.mark.frontend("nginx"), pytest.mark.peer("uwsgi")]

WAIT = 20

#: What is asked: method, target, body, headers.
REQUESTS = [
    ("GET", "/", None, {}),
    ("GET", "/a%20b/%C3%A9?x=1&y=%2F", None, {"X-Two": "2", "Cookie": "a=b"}),
    ("HEAD", "/head", None, {}),
    ("POST", "/form?q", b"name=value&" * 5000, {"Content-Type": "text/plain"}),
    ("PUT", "/large", b"x" * 300_000, {}),
    ("DELETE", "/a//b/../c", None, {}),
    ("GET", "/missing", None, {"Host": "other.example"}),
    ("GET", "/redirect", None, {}),
]

#: How the body is delimited is the servers' own: Portico counts a body that is whole.
FRAMING = {"Date", "Content-Length", "Transfer-Encoding"}

#: Keys that name the server, and headers a second time, which Portico drops.
OWN = {
    "HTTP_CONTENT_LENGTH",
    "HTTP_CONTENT_TYPE",
    "SERVER_SOFTWARE",
    "REMOTE_PORT",
    "uwsgi.version",
    "uwsgi.node",
}


class Script(Command):
    """A command line as the shell takes it, with this Python's `portico` in the path."""

    program = ("-c", "import os, sys; os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])")

    def __init__(self, line):
        places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        before, sign, last = line.rpartition("&& ")
        super().__init__(f"{before}{sign}exec env {last}", env={"PATH": places})


@contextmanager
def stock_nginx(monkeypatch, address, backup=None):
    """nginx with the lines that are in every guide, `include uwsgi_params` and `uwsgi_pass`."""

    def change(text, _):
        if backup:
            line = f'server "unix:{address}";'
            assert line in text
            text = text.replace(line, f'{line} server "unix:{backup}" backup;')
        return re.sub(r" *uwsgi_param [^;]*;\n", "", text).replace(
            "uwsgi_pass", f"{STOCK}\n        uwsgi_pass", 1
        )

    change_nginx(monkeypatch, change)
    bind = parse(f"uwsgi+unix://{address}")
    with launch.launch(
        "nginx", Site(via="uwsgi", bind=bind, listen_port=0, server_name="columns.example")
    ) as front:
        yield front.site


def ask(site):
    """All answers: status, headers, and what the application saw; an empty key is like none."""
    answers = []
    for method, target, body, headers in REQUESTS:
        connection = http.client.HTTPConnection(site.listen_host, site.listen_port, timeout=WAIT)
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        content = response.read()
        head = sorted((name, value) for name, value in response.getheaders() if name not in FRAMING)
        seen = json.loads(content) if content else None
        if seen is not None:
            seen["environ"] = {
                name: value for name, value in seen["environ"].items() if value and name not in OWN
            }
        answers.append((target, response.status, head, seen))
        connection.close()
    return answers


@pytest.fixture
def program():
    """The site, in the directory of a program that is not started yet."""
    with Program() as program:
        home = program.home
        (home / "code").mkdir()
        (home / "lib").mkdir()
        (home / "code" / "columns.py").write_text(APP)
        (home / "lib" / "beside.py").write_text("NAME = 'beside'\n")
        (home / "columns.ini").write_text(INI.format(home=home))
        program.give_away()
        yield program


def start(program):
    """Start uWSGI, and translate its options; gives the command line for Portico."""
    program.start([find("uwsgi"), "--ini", "columns.ini"], [program.home / "columns.sock"])
    return migrate(program.home / "columns.ini", program.home / "portico.yaml")


@contextmanager
def served(line):
    """Portico, started by that line; ended again as systemd does it."""
    with Script(line) as command:
        command.await_text("serving", "err")
        yield command
        command.kill(signal.SIGTERM)
        assert command.finish() == 0


def test_the_same_nginx_gets_the_same_answers(monkeypatch, program):
    with stock_nginx(monkeypatch, program.home / "columns.sock") as site:
        line = start(program)
        before = ask(site)
        assert [status for _, status, *_ in before] == [200] * 6 + [404, 302]
        program._end()
        with served(line):
            after = ask(site)
    assert after == before


def test_no_request_is_lost_in_the_switch(monkeypatch, program):
    """With the trial of the how-to as nginx's second choice."""
    home = program.home
    trial = f" --bind 'uwsgi+unix://{home}/try.sock?mode=666' --pid-file {home}/try.pid"
    with stock_nginx(monkeypatch, home / "columns.sock", home / "try.sock") as site:
        line = start(program)
        with served(line + trial):
            assert asked(f"uwsgi+unix://{home}/try.sock:/") == ["columns.py"]
            statuses = [status for _, status, *_ in ask(site)]
            program._end()
            statuses += [status for _, status, *_ in ask(site)]
            with served(line):
                statuses += [status for _, status, *_ in ask(site)]
    assert statuses == ([200] * 6 + [404, 302]) * 3


def asked(url):
    """What `portico request` gets there: the file of the application."""
    done = subprocess.run(
        [sys.executable, "-m", "portico", "request", url], capture_output=True, check=True
    )
    return [json.loads(done.stdout)["file"]]


def migrate(ini, output):
    """Write the configuration, check it, and give the command line that starts it."""
    portico = [sys.executable, "-m", "portico"]
    done = subprocess.run(
        [*portico, "migrate", ini, "-o", output], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "uwsgi_pass and include uwsgi_params stay" in " ".join(done.stdout.split())
    assert subprocess.run([*portico, "check", output, "--load"], capture_output=True, check=False,
                          cwd=output.parent / "code",
                          env={**os.environ, "PYTHONPATH": str(output.parent / "lib")},
                          ).returncode == 0  # fmt: skip
    return re.search(r"it is started by:\n\n  (.*)", done.stdout)[1]
