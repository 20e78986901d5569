"""What is imported: by a mere import, by one CGI request, by a server of one protocol."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import portico
from warm_harness import end_residents

SOURCE = str(Path(portico.__file__).parent.parent)

#: Milliseconds over a bare interpreter (CPython 3.11): typing 7.5, dataclasses 12.4, logging 10.5,
#: enum 2.9, re 4.3, socket 5.8, threading 2.6, contextlib 2.4, functools 2.0, tempfile 8.4,
#: argparse 6.4, yaml 15, importlib.metadata 30, asyncio 36; __future__ 0.11.
DEAR = frozenset(
    {
        "argparse",
        "asyncio",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "html",
        "http",
        "importlib.metadata",
        "inspect",
        "ipaddress",
        "json",
        "logging",
        "pathlib",
        "re",
        "select",
        "selectors",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "traceback",
        "typing",
        "urllib",
        "yaml",
        "__future__",
        "_socket",
    }
)

CGI = """\
import sys
sys.path.insert(0, {source!r})
before = set(sys.modules)
import portico

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body or b"hello"]

portico.run(application{options})
loaded = sorted(set(sys.modules) - before)
sys.stderr.write("|".join(loaded))
"""

REQUEST = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/app.cgi",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "www.example.test",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_SOFTWARE": "lighttpd/1.4.69",
}

#: The whole CGI path.
CGI_MODULES = {
    "portico",
    "portico.cgi",
    "portico.core",
    "portico.core.environ",
    "portico.core.input",
    "portico.core.response",
    "portico.entry",
    "portico.errors",
    "portico.head",
}


def isolated(code, *, env=None, stdin=b"", cwd=None):
    """Run *code* in an interpreter that loads nothing of its own accord; gives its errors."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-s", "-c", code],
        input=stdin,
        capture_output=True,
        env={"PATH": os.environ["PATH"], **(env or {})},
        timeout=20,
        check=True,
        cwd=cwd,
    )
    return done.stderr.decode()


def cgi(options="", stdin=b"", **more):
    code = CGI.format(source=SOURCE, options=options)
    loaded = isolated(code, env={**REQUEST, **more}, stdin=stdin).split("|")
    return {name for name in loaded if name.startswith("portico")}, set(loaded)


def test_import_of_portico_loads_portico_alone():
    code = f"import sys; sys.path.insert(0, {SOURCE!r}); before = set(sys.modules)\n"
    code += "import portico\nsys.stderr.write('|'.join(set(sys.modules) - before))"
    assert set(isolated(code).split("|")) == {"portico"}


def test_cgi_request_loads_its_path_and_nothing_dear():
    own, loaded = cgi()
    assert own == CGI_MODULES
    assert not loaded & DEAR


def test_cgi_request_with_a_body_loads_no_more():
    own, loaded = cgi(stdin=b"x" * 100_000, REQUEST_METHOD="POST", CONTENT_LENGTH="100000")
    assert own == CGI_MODULES
    assert not loaded & DEAR


@pytest.mark.parametrize(
    ("options", "params"),
    [
        pytest.param("", {"SERVER_SOFTWARE": "Apache/2.4.57"}, id="apache"),
        pytest.param("", {"SCRIPT_NAME": "/"}, id="repair"),
        pytest.param(", mount='/app.cgi'", {}, id="mount"),
    ],
)
def test_cgi_request_that_needs_mounting_loads_that_alone(options, params):
    own, loaded = cgi(options, **params)
    assert own <= CGI_MODULES | {"portico.core.mount", "portico.target"}
    assert not loaded & DEAR


#: What a warm request loads: it needs a resident server, which the test starts with the first.
WARM_MODULES = {
    "portico",
    "portico.entry",
    "portico.warm",
    "portico.warm.exchange",
    "portico.warm.relay",
    "portico.warm.seat",
}

#: Of C, and small: 0.3 ms, and 0.1 each where a body is passed on.
WARM_SYSTEM = {"_socket", "select"}

WARM = """\
import os, sys
sys.path.insert(0, {source!r})
before = set(sys.modules)
import portico
try:
    portico.run("site_application", warm=os.environ["WARM"])
finally:
    sys.stderr.write("|".join(sorted(set(sys.modules) - before)))
"""


def test_warm_request_loads_the_relay_alone(tmp_path):
    directory = Path(tempfile.mkdtemp(prefix="portico-")) / "warm"
    (tmp_path / "site_application.py").write_text(
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [environ['wsgi.input'].read()]\n"
    )
    code = WARM.format(source=SOURCE)
    env = {**REQUEST, "WARM": str(directory), "REQUEST_METHOD": "POST", "CONTENT_LENGTH": "5"}
    try:
        isolated(code, env=env, stdin=b"hello", cwd=tmp_path)
        loaded = set(isolated(code, env=env, stdin=b"hello", cwd=tmp_path).split("|"))
    finally:
        end_residents(directory)
        shutil.rmtree(directory.parent)
    assert {name for name in loaded if name.startswith("portico")} == WARM_MODULES
    assert loaded & DEAR <= WARM_SYSTEM


def test_cgi_path_is_short():
    """A module file costs about 0.08 ms to find and load, 200 lines of classes another 0.13."""
    root = Path(SOURCE)
    lines = 0
    for name in ("cgi", "core.environ", "core.response", "head", "errors"):
        path = root / "portico" / (name.replace(".", "/") + ".py")
        lines += len(path.read_text().splitlines())
    assert lines < 1300


SERVE = """\
import json, os, signal, sys, threading
import portico

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(sorted(sys.modules)).encode()]

portico.serve(application, sys.argv[1])
"""


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])
def test_server_loads_its_own_protocol_alone(protocol, tmp_path):
    from engine_harness import Frontend, Process, until  # noqa: PLC0415 - not for the tests above

    script = tmp_path / "server.py"
    script.write_text(SERVE)
    path = tmp_path / "s"
    with Process(tmp_path, script, f"{protocol}+unix://{path}") as process:
        until(lambda: path.exists() or process.process.poll() is not None, "the socket")
        with Frontend(protocol, str(path)) as frontend:
            loaded = set(json.loads(frontend.ask().body))
    codecs = {name for name in loaded if name.startswith("portico.codecs.")}
    others = {"fastcgi", "scgi", "ajp", "uwsgi", "detect", "foreign"} - {protocol}
    assert f"portico.codecs.{protocol}" in codecs
    assert not codecs & {f"portico.codecs.{other}" for other in others}
    assert not loaded & {"yaml", "asyncio", "importlib.metadata", "http", "subprocess"}
    assert not {name for name in loaded if name.startswith(("portico.client", "portico.servers"))}


def test_auto_server_loads_all_protocols_and_no_answer_to_strangers(tmp_path):
    from engine_harness import Frontend, Process, until  # noqa: PLC0415 - not for the tests above

    script = tmp_path / "server.py"
    script.write_text(SERVE)
    path = tmp_path / "s"
    with Process(tmp_path, script, f"auto+unix://{path}") as process:
        until(lambda: path.exists() or process.process.poll() is not None, "the socket")
        with Frontend("ajp", str(path)) as frontend:
            loaded = set(json.loads(frontend.ask().body))
    assert {f"portico.codecs.{name}" for name in ("detect", "fastcgi", "scgi", "uwsgi")} < loaded
    assert "portico.codecs.foreign" not in loaded
