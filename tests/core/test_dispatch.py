"""The dispatcher: whose request it is, by host and path, and what the application then sees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_harness import run
from portico.core.dispatch import Dispatcher, plain_host
from portico.core.pages import error_page
from portico.core.roles import as_authorizer


def answering(name):
    """An application that says who it is, in an iterable that only it can have made."""

    def application(environ, start_response):
        application.environ = environ
        start_response("200 OK", [("X-Name", name)])
        return application.answer

    application.answer = iter([name.encode()])
    return application


def made(*places, fallback=False):
    """A dispatcher over the places, and its applications by place."""
    apps = {place: answering(place) for place in places}
    routes = []
    for place in places:
        host, slash, rest = place.partition("/")
        routes.append((host, (slash + rest).rstrip("/"), apps[place], {}))
    other = answering("fallback")
    apps["fallback"] = other
    return Dispatcher(routes, other if fallback else None), apps


def ask(dispatcher, path, host=None, **more):
    """Ask for a path; gives who answers, or the status, and SCRIPT_NAME and PATH_INFO then."""
    heads = []
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path, **more}
    if host is not None:
        environ["HTTP_HOST"] = host
    dispatcher(environ, lambda *head: heads.append(head))
    ((status, headers),) = heads
    name = dict(headers).get("X-Name", status[:3])
    return name, environ["SCRIPT_NAME"], environ["PATH_INFO"]


# -- paths -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/app", ("/app", "/app", "")),
        ("/app/", ("/app", "/app", "/")),
        ("/app/x/y", ("/app", "/app", "/x/y")),
        ("/app//x", ("/app", "/app", "//x")),
        ("/app/deep", ("/app/deep", "/app/deep", "")),
        ("/app/deep/x", ("/app/deep", "/app/deep", "/x")),
        ("/app/deeper", ("/app", "/app", "/deeper")),
        ("/application", ("404", "", "/application")),
        ("/App", ("404", "", "/App")),
        ("/", ("404", "", "/")),
        ("", ("404", "", "")),
        ("*", ("404", "", "*")),
        ("//app", ("404", "", "//app")),
    ],
)
def test_longest_prefix_wins_on_whole_segments(path, answer):
    dispatcher, _ = made("/app", "/app/deep")
    assert ask(dispatcher, path) == answer


@pytest.mark.parametrize("path", ["/", "", "*", "/x", "/application"])
def test_root_takes_what_is_left(path):
    dispatcher, _ = made("/app", "/")
    assert ask(dispatcher, path) == ("/", "", path)


@pytest.mark.parametrize("path", ["/", "*", "/x", "/application"])
def test_fallback_takes_what_is_left_unchanged(path):
    dispatcher, _ = made("/app", fallback=True)
    assert ask(dispatcher, path, "any.example") == ("fallback", "", path)


def test_prefix_goes_behind_the_mount_of_all():
    dispatcher, _ = made("/shop")
    assert ask(dispatcher, "/shop/x", SCRIPT_NAME="/site") == ("/shop", "/site/shop", "/x")


def test_prefix_is_unicode_and_the_environ_is_not():
    native = "/\u00e9t\u00e9".encode().decode("latin-1")
    dispatcher, _ = made("/\u00e9t\u00e9")
    assert ask(dispatcher, native + "/x") == ("/\u00e9t\u00e9", native, "/x")


def test_request_without_paths_is_for_the_root():
    dispatcher, apps = made("/")
    dispatcher({}, lambda *_: None)
    assert apps["/"].environ == {}


# -- hosts -----------------------------------------------------------------------------------

HOSTS = ("example.org/", "example.org/a", "*.example.org/", "*.www.example.org/a", "[::1]/", "/a")


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        ("example.org", "/", "example.org/"),
        ("example.org", "/a", "example.org/a"),
        ("Example.ORG", "/", "example.org/"),
        ("example.org:8080", "/", "example.org/"),
        ("example.org:", "/", "example.org/"),
        ("example.org.", "/", "example.org/"),
        ("EXAMPLE.org.:80", "/", "example.org/"),
        ("www.example.org", "/", "*.example.org/"),
        ("www.example.org", "/a", "*.example.org/"),
        ("a.b.example.org:1", "/", "*.example.org/"),
        ("x.www.example.org", "/a/b", "*.www.example.org/a"),
        ("x.www.example.org", "/b", "*.example.org/"),
        (".example.org", "/", "404"),
        ("anexample.org", "/", "404"),
        ("example.org.evil.example", "/", "404"),
        ("[::1]", "/", "[::1]/"),
        ("[::1]:80", "/", "[::1]/"),
        ("[::2]", "/a", "/a"),
        ("other.example", "/a", "/a"),
        ("other.example", "/", "404"),
        ("", "/a", "/a"),
        (None, "/a", "/a"),
        (":80", "/", "404"),
        ("x" * 300 + ".example.org", "/", "404"),
        ("." * 100_000, "/", "404"),
        ("a." * 100_000 + "example.org", "/a", "/a"),
    ],
)
def test_host_decides_first(host, path, name):
    dispatcher, _ = made(*HOSTS)
    assert ask(dispatcher, path, host)[0] == name


def test_no_route_of_the_host_tries_the_wider_ones():
    dispatcher, _ = made("www.example.org/a", "*.example.org/b", "/c", fallback=True)
    asked = [ask(dispatcher, path, "www.example.org")[0] for path in ("/a", "/b", "/c", "/d")]
    assert asked == ["www.example.org/a", "*.example.org/b", "/c", "fallback"]


@pytest.mark.parametrize("name", ["example.org", "EXAMPLE.ORG"])
def test_server_name_stands_in_for_a_host_that_is_not_sent(name):
    dispatcher, _ = made(*HOSTS)
    assert ask(dispatcher, "/", SERVER_NAME=name)[0] == "example.org/"
    assert ask(dispatcher, "/", "", SERVER_NAME=name)[0] == "example.org/"
    assert ask(dispatcher, "/", "other.example", SERVER_NAME=name)[0] == "404"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("::1", "[::1]"),
        ("[::1]:", "[::1]"),
        ("a:x", "a:x"),
        ("a:80:81", "[a:80:81]"),
        ("", ""),
        (":", ""),
    ],
)
def test_host_is_made_plain(host, name):
    assert plain_host(host) == name


# -- against a naive model ---------------------------------------------------------------------

_names = st.sampled_from(["", "a.b", "b", "c.a.b", "*.b", "*.a.b", "[::1]"])
_prefixes = st.lists(st.sampled_from(["x", "xy", "y"]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
_asked_hosts = st.builds(
    lambda name, upper, dot, port: (name.upper() if upper else name) + dot + port,
    st.sampled_from(["a.b", "b", "c.a.b", "d.c.a.b", "e.b", "[::1]", "z", ""]),
    st.booleans(),
    st.sampled_from(["", "."]),
    st.sampled_from(["", ":80", ":"]),
)
_asked_paths = st.one_of(
    st.just("*"),
    st.tuples(_prefixes, st.sampled_from(["", "/", "//", "/q", "z"])).map("".join),
)


def naive(places, host, path):
    """Who is asked: all that fit, the narrowest host and then the longest prefix first."""
    host = host.lower()
    host = host[: host.rindex(":")] if host.rfind(":") > host.rfind("]") else host
    host = host.removesuffix(".")
    fitting = []
    for name, prefix in places:
        if name.startswith("*"):
            rank = len(name) if host.endswith(name[1:]) and len(host) >= len(name) else 0
        else:
            rank = 1 if not name else 1000 if name == host else 0
        if rank and (not prefix or (path + "/").startswith(prefix + "/")):
            fitting.append((rank, len(prefix), name, prefix))
    return max(fitting)[2:] if fitting else None


@given(st.sets(st.tuples(_names, _prefixes), max_size=8), _asked_hosts, _asked_paths)
def test_dispatch_agrees_with_a_naive_model(places, host, path):
    def application(place):
        def answer(environ, start_response):
            start_response("200 OK", [])
            return [place, environ["SCRIPT_NAME"], environ["PATH_INFO"]]

        return answer

    routes = [(*place, application(place), {}) for place in sorted(places)]
    fallback = application(None)
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "HTTP_HOST": host}
    place, script, info = Dispatcher(routes, fallback)(environ, lambda *_: None)
    assert place == naive(places, host, path)
    assert script + info == path
    assert script == (place[1] if place else "")


# -- what passes through ---------------------------------------------------------------------


def test_iterable_of_the_application_is_given_on_as_it_is():
    dispatcher, apps = made("/app", fallback=True)
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/app"}
    assert dispatcher(environ, lambda *_: None) is apps["/app"].answer
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/"}
    assert dispatcher(environ, lambda *_: None) is apps["fallback"].answer


def test_start_response_and_environ_are_given_on_as_they_are():
    seen = []
    dispatcher = Dispatcher([("", "/a", lambda *given: seen.append(given) or [], {})])
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/a"}
    dispatcher(environ, print)
    ((same, start),) = seen
    assert same is environ
    assert start is print


def test_texts_of_a_route_are_in_the_environ_of_its_requests_alone():
    one, other = answering("one"), answering("other")
    texts = {"TITLE": "\u00e9", "MODE": "x"}
    dispatcher = Dispatcher([("", "/a", one, texts), ("", "", other, {})])
    ask(dispatcher, "/a")
    assert one.environ["TITLE"] == "\u00e9".encode().decode("latin-1")
    assert one.environ["MODE"] == "x"
    one.environ["MODE"] = "changed"
    ask(dispatcher, "/a")
    assert one.environ["MODE"] == "x"
    ask(dispatcher, "/b")
    assert "MODE" not in other.environ


def test_role_of_a_request_passes_through():
    """An authorizer's headers become variables outside of the dispatcher."""
    dispatcher, apps = made("/private", fallback=True)
    heads = []
    environ = {
        "SCRIPT_NAME": "",
        "PATH_INFO": "/private/x",
        "portico.role": "authorizer",
        "portico.data": object(),
    }
    as_authorizer(dispatcher)(environ, lambda *head: heads.append(head))
    assert heads[0][1] == [("Variable-X-Name", "/private")]
    assert apps["/private"].environ["portico.role"] == "authorizer"
    assert apps["/private"].environ["portico.data"] is environ["portico.data"]


# -- nobody's --------------------------------------------------------------------------------


def test_nobodys_request_gets_portico_s_own_page():
    dispatcher, _ = made("/app")
    sink, errors, _ = run(dispatcher)
    assert errors == ""
    assert sink.status == "404 Not Found"
    assert sink.body == error_page("404 Not Found")
    assert sink.header("Content-Type") == ["text/html; charset=utf-8"]
    assert sink.header("Content-Length") == [str(len(sink.body))]


def test_dispatcher_of_nothing_finds_nothing():
    assert ask(Dispatcher([]), "/")[0] == "404"
