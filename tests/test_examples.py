"""Each example, called as a server would call it, under the standard library's validator."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SITES = ("flask_site", "django_site")


@pytest.fixture(scope="module")
def load():
    """Load an example from its file as `portico up` does; Django finds its URLs by module name."""
    loaded = []

    def load_once(name):
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
            sys.modules[name] = importlib.util.module_from_spec(spec)
            loaded.append(name)
            spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    yield load_once
    for name in loaded:
        del sys.modules[name]


def callable_of(module):
    return getattr(module, "application", None) or module.app


class Answer:
    def __init__(self, app, environ):
        self.head = None
        blocks = validator(app)(environ, self.start_response)
        try:
            self.blocks = [block for block in blocks if block]
        finally:
            blocks.close()
        self.status, headers = self.head
        self.headers = {name.lower(): value for name, value in headers}
        self.body = b"".join(self.blocks)

    def start_response(self, status, headers, exc_info=None):
        assert exc_info is None
        self.head = (status, headers)
        return io.BytesIO().write


class Unterminated(io.BytesIO):
    """An input that, like a socket, would wait forever where more is read than was announced."""

    def read(self, size=-1):
        assert 0 <= size <= len(self.getbuffer()) - self.tell()
        return super().read(size)


def call(module, method="GET", target="/", body=b"", **more):
    path, _, query = target.partition("?")
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    setup_testing_defaults(environ)
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
    return Answer(callable_of(module), environ | more)


def multipart(name, content):
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n--cut--\r\n"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_docstring_says_how_to_run_it(path):
    source = path.read_text(encoding="utf-8")
    assert f"    portico up examples/{path.name}\n" in source.split('"""')[1]


def test_hello(load):
    answer = call(load("hello"))
    assert answer.status == "200 OK"
    assert answer.body == b"Hello from behind the portico.\n"
    assert answer.headers["content-length"] == str(len(answer.body))


def test_hello_runs_as_cgi():
    environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/hello.cgi",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    command = [sys.executable, EXAMPLES / "hello.py"]
    done = subprocess.run(
        command, env=os.environ | environ, input=b"", capture_output=True, timeout=30, check=True
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert b"Status: 200 OK" in head.split(b"\r\n")
    assert body == b"Hello from behind the portico.\n"
    assert done.stderr == b""


def test_upload_of_announced_length(load):
    body = bytes(range(256)) * 1000
    answer = call(load("upload"), "PUT", body=body, **{"wsgi.input": Unterminated(body)})
    digest = hashlib.sha256(body).hexdigest()
    assert answer.body.decode() == f"256000 octets, SHA-256 {digest}\n"


def test_upload_of_unknown_length(load):
    more = {"wsgi.input": io.BytesIO(b"chunked"), "wsgi.input_terminated": True}
    answer = call(load("upload"), "POST", **more)
    assert answer.body.startswith(b"7 octets, SHA-256 ")


def test_upload_tells_what_to_do(load):
    assert b"curl -T" in call(load("upload")).body


def test_streaming_sends_line_by_line(load, monkeypatch):
    module = load("streaming")
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    answer = call(module, target="/?lines=3")
    assert answer.blocks == [b"line 1 of 3\n", b"line 2 of 3\n", b"line 3 of 3\n"]
    assert pauses == [0.1, 0.1]
    assert len(call(module).blocks) == 20


@pytest.mark.parametrize("lines", ["601", "-1", "x", "99999", "%D9%A3"])
def test_streaming_is_bounded(load, lines):
    assert call(load("streaming"), target=f"/?lines={lines}").status == "400 Bad Request"


class Browser:
    """Keeps the cookie and the token that Django wants to see again; Flask needs neither."""

    def __init__(self, module):
        self.module = module
        self.page = self.get("/")
        cookie = self.page.headers.get("set-cookie", "").partition(";")[0]
        self.cookies = {"HTTP_COOKIE": cookie} if cookie else {}
        found = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', self.page.body)
        self.token = found.group(1).decode() if found else ""

    def get(self, target, **more):
        return call(self.module, target=target, **more)

    def post(self, target, body, content_type, **more):
        token = {"HTTP_X_CSRFTOKEN": self.token} if self.token else {}
        more = more | self.cookies | token
        return call(self.module, "POST", target, body, CONTENT_TYPE=content_type, **more)


@pytest.fixture(params=SITES)
def browser(request, load):
    return Browser(load(request.param))


def test_site_shows_its_forms(browser):
    assert browser.page.status == "200 OK"
    assert browser.page.body.count(b"<form ") == 2


def test_site_finds_its_mount_point(browser):
    page = browser.get("/", SCRIPT_NAME="/app")
    assert b'action="/app/greet"' in page.body
    assert b'href="/app/stream"' in page.body


def test_site_redirects_after_a_form(browser):
    name = "Zo\u00eb <b>"
    form = f"name={quote(name)}".encode()
    answer = browser.post("/greet", form, "application/x-www-form-urlencoded")
    assert answer.status.startswith("303 ")
    location = answer.headers["location"]
    assert location.startswith("/hello/Zo%C3%AB")
    greeting = browser.get(f"/hello/{name}".encode().decode("latin-1"))
    assert "Hello, Zo\u00eb &lt;b&gt;!" in greeting.body.decode()


def test_site_digests_an_upload(browser):
    content = bytes(range(256)) * 20_000
    body = multipart("big.bin", content)
    answer = browser.post("/upload", body, "multipart/form-data; boundary=cut")
    digest = hashlib.sha256(content).hexdigest()
    assert answer.body.decode() == f"big.bin: 5120000 octets, SHA-256 {digest}\n"


def test_site_streams(browser, monkeypatch):
    pauses = []
    monkeypatch.setattr(browser.module.time, "sleep", pauses.append)
    answer = browser.get("/stream")
    assert answer.blocks == [f"line {number} of 10\n".encode() for number in range(1, 11)]
    assert len(pauses) == 10
    assert "content-length" not in answer.headers


def test_site_answers_500_for_its_own_errors(browser, caplog):
    answer = browser.get("/error", **{"wsgi.errors": io.StringIO()})
    assert answer.status.startswith("500 ")
    assert b"asked for" not in answer.body
    assert "asked for by /error" in caplog.text


def test_site_refuses_an_unknown_path(browser):
    assert browser.get("/nothing").status.startswith("404 ")


def test_django_refuses_a_form_without_its_token(load):
    form = "application/x-www-form-urlencoded"
    answer = call(load("django_site"), "POST", "/greet", b"name=x", CONTENT_TYPE=form)
    assert answer.status == "403 Forbidden"
