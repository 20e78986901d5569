"""Several applications behind one ``portico serve``, over every protocol."""

import re
import subprocess
import sys

import pytest

from cli_harness import WAIT, Command

#: Says who it is, where it lives, and what it found in the environment when it was loaded.
TELLING = """\
import os
title = os.environ.get("TITLE", "none")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    told = [__name__, environ["SCRIPT_NAME"], environ["PATH_INFO"], title, environ.get("TITLE")]
    return [" ".join(map(str, told)).encode()]
"""

FILE = """\
bind: ["{protocol}://127.0.0.1:0"]
workers: 1
app: main
environment: {{TITLE: all}}
mounts:
  /shop: shop.py
  /shop/help: help.py
  "*.example.org/blog": {{app: blog, environment: {{TITLE: Columns}}}}
"""


def ask(bind, path, *more):
    done = subprocess.run(
        [sys.executable, "-m", "portico", "request", bind + path, *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    return done.stdout


@pytest.fixture
def place(tmp_path):
    for name in ("main", "shop", "help", "blog"):
        (tmp_path / f"{name}.py").write_text(TELLING)
    return tmp_path


def await_bind(command):
    return command.await_text(r" on (\S+) \(", "err")[1]


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])
def test_each_application_gets_its_requests(protocol, place):
    (place / "portico.yaml").write_text(FILE.format(protocol=protocol))
    with Command("serve", "--config", "portico.yaml", cwd=place) as command:
        bind = await_bind(command)
        assert ask(bind, "/shop/x%20y") == "shop /shop /x y all None"
        assert ask(bind, "/shop/help") == "help /shop/help  all None"
        assert ask(bind, "/shopping") == "main  /shopping all None"
        assert ask(bind, "/blog") == "main  /blog all None"
        assert ask(bind, "/blog/a", "-H", "Host: My.Example.org:8080") == (
            "blog /blog /a Columns Columns"
        )
        assert re.search(r"serving main, shop\.py at /shop, .* and 1 more on ", command.err)


def test_mount_of_all_comes_first(place):
    words = ["--mount", "/site", "--app-at", "/shop=shop.py", "--bind", "scgi://127.0.0.1:0"]
    with Command("serve", *words, cwd=place) as command:
        bind = await_bind(command)
        assert ask(bind, "/site/shop/a") == "shop /site/shop /a none None"
        for path in ("/site/other", "/shop"):
            status, *_, page = ask(bind, path, "-i").splitlines()
            assert status == "404 Not Found"
            assert page == "</html>"


def test_mount_that_does_not_load_is_named(place):
    (place / "broken.py").write_text("1 / 0\n")
    words = ["main", "--app-at", "/b=broken.py", "--bind", "scgi://127.0.0.1:0"]
    with Command("serve", *words, cwd=place) as command:
        assert command.finish() == 2
        assert "mount /b: application 'broken.py' cannot be loaded" in command.err
        assert "ZeroDivisionError" in command.err
