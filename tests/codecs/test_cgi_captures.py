"""What real web servers started CGI scripts with, served by portico.cgi in a process each."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from cgi_harness import run_script, write_script
from portico.core.environ import EnvironRules
from portico.params import merge

HERE = Path(__file__).parents[1] / "captures"
INDEX = json.loads((HERE / "index.yaml").read_text("ascii"))
CAPTURES = [
    pytest.param(capture, id=capture["id"])
    for capture in INDEX["captures"]
    if capture["protocol"] == "cgi"
]

#: Writes down what the application gets, and the whole body's length and digest.
SOURCE = """
import hashlib, json

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    told = [
        {name: value for name, value in environ.items() if type(value) is str},
        len(body),
        hashlib.sha256(body).hexdigest(),
    ]
    start_response("200 OK", [("X-Told", json.dumps(told))])  # a header: HEAD has no body
    return [b"ok"]
"""

#: Removed or added on the way from a process's environment to an environ.
DROPPED = {"HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"}
EMPTY_IS_NONE = {"CONTENT_LENGTH", "CONTENT_TYPE", "REMOTE_USER"}
ADDED = {"wsgi.url_scheme", "portico.protocol", "LC_CTYPE"}


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    return write_script(tmp_path_factory.mktemp("captures"), SOURCE)


def recorded(capture):
    """The process environment and standard input of *capture*."""
    environ = json.loads((HERE / capture["environ_file"]).read_bytes())["environ"]
    stdin = (HERE / capture["stdin_file"]).read_bytes()
    if capture["stdin_file"].endswith(".gz"):
        stdin = gzip.decompress(stdin)
    env = {name.encode("latin-1"): value.encode("latin-1") for name, value in environ.items()}
    return environ, env, stdin


@pytest.mark.parametrize("capture", CAPTURES)
def test_application_gets_what_was_sent(capture, script):
    environ, env, stdin = recorded(capture)
    answer = run_script(script, stdin, env=env)
    assert (answer.status, answer.errors, answer.exit_status) == ("200 OK", "", 0)
    seen, length, digest = json.loads(dict(answer.headers)["X-Told"])
    (request,) = capture["requests"]
    expect = request["expect"]
    assert answer.body == (b"" if request["http"]["method"] == "HEAD" else b"ok")
    assert (length, digest) == (expect["body_length"], expect["body_sha256"])

    kept = {
        name: value
        for name, value in environ.items()
        if name not in DROPPED and (value or name not in EMPTY_IS_NONE)
    }
    kept.setdefault("PATH_INFO", "")
    assert {name: value for name, value in seen.items() if name not in ADDED} == kept
    assert seen["wsgi.url_scheme"] == ("https" if capture["tls_on_front"] else "http")


@pytest.mark.parametrize("capture", CAPTURES)
def test_path_is_the_targets(capture):
    """Every one of these servers was given the application at /app."""
    environ, _, _ = recorded(capture)
    finished = EnvironRules({}).finish(dict(environ))
    assert finished["SCRIPT_NAME"] == "/app"
    assert finished["REQUEST_METHOD"] == capture["requests"][0]["http"]["method"]
    variables = capture["requests"][0]["expect"]["variables"]
    assert finished["PATH_INFO"] == variables.get("PATH_INFO", "")


@pytest.mark.parametrize("capture", CAPTURES)
def test_index_tells_the_recorded_environment(capture):
    environ, _, stdin = recorded(capture)
    expect = capture["requests"][0]["expect"]
    assert (len(stdin), hashlib.sha256(stdin).hexdigest()) == (
        expect["body_length"],
        expect["body_sha256"],
    )
    pairs = [
        (name, value)
        for name, values in expect["variables"].items()
        for value in (values if type(values) is list else [values])
    ]
    assert merge(pairs).items() <= environ.items()
    assert expect["variable_count"] == len(environ)
