"""The paste factories: flup's names and texts, as an ini file of PasteDeploy has them."""

import inspect
import signal

import pytest
from flup.server import NoDefault as TheirNoDefault
from flup.server import paste_factory as theirs

from engine_harness import Frontend, Process, until
from flup_harness import accepts, free_port, protocol_of
from portico.compat.flup.server import NoDefault
from portico.compat.flup.server import paste_factory as ours
from portico.errors import ConfigError

RUNNERS = [name for name in vars(theirs) if name.startswith("run_")]

KINDS = [name.removeprefix("run_") for name in RUNNERS]

#: A program that serves what an ini file says, as `pserve` and `paster serve` do.
PROGRAM = """
import sys
from paste.deploy import loadserver

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['wsgi.multithread']} {environ['wsgi.multiprocess']}".encode()]

loadserver("config:" + sys.argv[1])(application)
print("ended", file=sys.stderr)
"""


def test_the_runners_are_flups():
    assert len(RUNNERS) == 6
    for name in (*RUNNERS, "asbool", "aslist"):
        wanted, found = (
            [(one.name, one.default) for one in inspect.signature(function).parameters.values()]
            for function in (getattr(theirs, name), getattr(ours, name))
        )
        stands_for = {TheirNoDefault: NoDefault}
        assert found == [(key, stands_for.get(value, value)) for key, value in wanted]


@pytest.mark.parametrize("kind", [*KINDS, "fcgi", "scgi", "ajp"])
def test_an_ini_file_starts_a_server(kind, place):
    port = free_port()
    forks = kind.endswith("_fork")
    pool = "maxChildren = 3\nmaxRequests = 100" if forks else "maxThreads = 4"
    file = place / "site.ini"
    file.write_text(
        f"[server:main]\nuse = egg:portico#{kind}\nhost = 127.0.0.1\nport = {port}\n"
        f"minSpare = 1\nmaxSpare = 2\ndebug = false\n{pool}\n"
    )
    with Process(place, "-c", PROGRAM, file) as program:
        until(lambda: accepts(("127.0.0.1", port)), "the server")
        with Frontend(protocol_of(kind), ("127.0.0.1", port), keep=False) as frontend:
            assert frontend.ask().body == (b"False True" if forks else b"True False")
        program.signal(signal.SIGTERM)
        assert program.ends() == 0
    assert "ended" in program.stderr


class Recorder:
    """Stands in a server's place and keeps what it was made with."""

    def __init__(self):
        self.given = {}

    def __call__(self, application, **given):
        self.given = {"application": application, **given}
        return self

    def run(self):
        self.given["ran"] = True


@pytest.fixture
def made(monkeypatch):
    recorder = Recorder()
    for kind in KINDS:
        module = getattr(ours, kind.removesuffix("_thread"))
        monkeypatch.setattr(module, "WSGIServer", recorder)
    return recorder


@pytest.mark.parametrize("kind", KINDS)
def test_texts_become_values(kind, made):
    run = getattr(ours, f"run_{kind}")
    assert run("the application", {"debug": "yes"}, minSpare="2", maxSpare="3") is None
    assert made.given["application"] == "the application"
    assert made.given["debug"] is True
    assert (made.given["minSpare"], made.given["maxSpare"]) == (2, 3)
    assert made.given["ran"]
    run("the application", {"debug": "yes"}, debug="off")
    assert made.given["debug"] is False
    run("the application", {})
    assert made.given["debug"] is False


@pytest.mark.parametrize("kind", ["fcgi_thread", "fcgi_fork"])
def test_fastcgi_takes_a_path_an_address_or_neither(kind, made):
    run = getattr(ours, f"run_{kind}")
    run(None, {}, socket="/run/app.sock", umask="002", multiplexed="true")
    assert made.given["bindAddress"] == "/run/app.sock"
    assert made.given["umask"] == 0o002
    assert made.given["multiplexed"] is True
    run(None, {}, socket="/run/app.sock", umask="022")
    assert made.given["umask"] == 0o022  # flup: twenty-two
    run(None, {}, host="127.0.0.1", port="9000")
    assert made.given["bindAddress"] == ("127.0.0.1", 9000)
    run(None, {})
    assert made.given["bindAddress"] is None
    with pytest.raises(ConfigError, match="leave host and port out"):
        run(None, {}, socket="/run/app.sock", host="127.0.0.1")
    with pytest.raises(ConfigError, match="no port"):
        run(None, {}, host="127.0.0.1")


@pytest.mark.parametrize("kind", ["scgi_thread", "scgi_fork", "ajp_thread", "ajp_fork"])
def test_the_others_name_who_may_connect(kind, made):
    run = getattr(ours, f"run_{kind}")
    run(None, {})
    assert made.given["allowedServers"] == ["127.0.0.1"]
    run(None, {}, allowedServers="10.0.0.1 10.0.0.2", scriptName="/app", port="99")
    assert made.given["allowedServers"] == ["10.0.0.1", "10.0.0.2"]
    assert made.given["scriptName"] == "/app"
    assert made.given["bindAddress"] == ("localhost", 99)


def test_what_is_no_number_or_truth_is_refused(made):
    with pytest.raises(ConfigError, match="maxThreads is 'many', must be a number"):
        ours.run_scgi_thread(None, {}, maxThreads="many")
    with pytest.raises(ValueError, match="'maybe' is neither true nor false"):
        ours.run_scgi_thread(None, {}, debug="maybe")
    assert not made.given


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("a b", ["a", "b"]), (["a"], ["a"]), (("a",), ("a",)), (None, []), (7, [7])],
)
def test_aslist(given, wanted):
    assert ours.aslist(given) == wanted


def test_aslist_with_a_separator():
    assert ours.aslist("a, b", ",") == ["a", "b"]
    assert ours.aslist("a, b", ",", False) == ["a", " b"]


@pytest.mark.parametrize(("given", "wanted"), [("Yes ", True), ("F", False), (1, True), ("", None)])
def test_asbool(given, wanted):
    if wanted is None:
        with pytest.raises(ValueError, match="neither true nor false"):
            ours.asbool(given)
    else:
        assert ours.asbool(given) is wanted
