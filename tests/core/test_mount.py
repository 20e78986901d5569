"""SCRIPT_NAME and PATH_INFO: every repair with its captured examples, and the mount point."""

import pytest

from portico.core.mount import EXAMPLES, Mounting, NotMounted
from portico.errors import RemoteProtocolError
from portico.target import decode_path, path_of

ROWS = [
    pytest.param(name, further, wire, right, id=f"{name}-{number}")
    for name, rows in EXAMPLES.items()
    for number, (further, wire, right) in enumerate(rows)
]


def environ_of(further, wire):
    script, info = wire
    environ = dict(further)
    if script is not None:
        environ["SCRIPT_NAME"] = script
    if info is not None:
        environ["PATH_INFO"] = info
    return environ


def applied(environ, prefix=None, **options):
    mounting = Mounting(prefix, **options)
    environ = dict(environ)
    mounting.apply(environ)
    return (environ["SCRIPT_NAME"], environ["PATH_INFO"]), mounting


@pytest.mark.parametrize(("name", "further", "wire", "right"), ROWS)
def test_example(name, further, wire, right):
    paths, mounting = applied(environ_of(further, wire))
    assert paths == right
    assert {key for key, count in mounting.counts.items() if count} <= {name}
    assert mounting.counts[name] == (1 if wire != right else 0)


@pytest.mark.parametrize(
    ("name", "further", "wire"),
    [pytest.param(*row.values[:3], id=row.id) for row in ROWS],
)
def test_repairs_can_be_turned_off(name, further, wire):
    environ = environ_of(further, wire)
    script, info = wire
    if info == "hello":
        with pytest.raises(RemoteProtocolError):
            applied(environ, disabled=frozenset({name}))
        return
    paths, mounting = applied(environ, disabled=frozenset(EXAMPLES))
    assert paths == (script or "", info or ("" if script else "/"))
    assert not any(mounting.counts.values())
    assert applied(environ, disabled=frozenset({name}))[1].counts[name] == 0


@pytest.mark.parametrize(("name", "further", "wire", "right"), ROWS)
def test_a_mount_point_decides_whatever_the_server_sent(name, further, wire, right):
    """Where the whole path is known, a configured mount point gives the split."""
    whole = "".join(right)
    paths, _ = applied(environ_of(further, wire), whole)
    assert paths == (whole, "") if not whole.endswith("/") else (whole[:-1], "/")
    paths, _ = applied(environ_of(further, wire), "")
    assert paths == ("", whole), name


# The mount point.


@pytest.mark.parametrize(
    ("prefix", "path", "right"),
    [
        ("", "/", ("", "/")),
        ("", "/a", ("", "/a")),
        ("/", "/a", ("", "/a")),
        ("/app", "/app", ("/app", "")),
        ("/app", "/app/", ("/app", "/")),
        ("/app/", "/app", ("/app", "")),
        ("/app/", "/app/x", ("/app", "/x")),
        ("/app", "/app//x", ("/app", "//x")),
        ("/app", "/app/app/x", ("/app", "/app/x")),
        ("/a/b", "/a/b/c", ("/a/b", "/c")),
    ],
)
@pytest.mark.parametrize("cut", ["nowhere", "everywhere", "at the prefix"])
def test_mount_point(prefix, path, right, cut):
    places = {"nowhere": [0], "everywhere": [len(path)], "at the prefix": [len(right[0])]}[cut]
    for at in places:
        script, info = path[:at], path[at:]
        if not script.endswith("/"):
            environ = {"SCRIPT_NAME": script, "PATH_INFO": info}
            assert applied(environ, prefix)[0] == right


@pytest.mark.parametrize(
    "path", ["/application", "/appx/y", "/ap", "/", "/APP/x", "/x/app", "/app.py"]
)
def test_outside_the_mount_point_is_404(path):
    with pytest.raises(NotMounted) as caught:
        applied({"SCRIPT_NAME": "", "PATH_INFO": path}, "/app")
    assert caught.value.status_hint == 404
    assert "/app" in str(caught.value)


@pytest.mark.parametrize("prefix", [None, "", "/"])
def test_the_server_itself_is_below_the_root(prefix):
    """OPTIONS * (RFC 9110 §9.3.7)."""
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "*"}
    assert applied(environ, prefix)[0] == ("", "*")


def test_a_refused_request_leaves_the_environ_alone():
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/x"}
    with pytest.raises(NotMounted):
        Mounting("/app").apply(environ)
    assert environ == {"SCRIPT_NAME": "", "PATH_INFO": "/x"}


@pytest.mark.parametrize("paths", [("", "x"), ("/app", "x/y"), ("", "http:/x"), ("app", "/x")])
def test_a_path_without_its_slash_is_400(paths):
    with pytest.raises(RemoteProtocolError) as caught:
        applied(dict(zip(("SCRIPT_NAME", "PATH_INFO"), paths, strict=True)))
    assert caught.value.status_hint == 400


def test_options_asterisk_is_let_through():
    assert applied({"REQUEST_URI": "*"})[0] == ("", "*")


# Each server's rule acts on that server alone.


@pytest.mark.parametrize("software", ["", "nginx/1.22.1", "Apache/2.4.71", "lighttpd/1.4.69"])
def test_a_path_that_repeats_itself_is_iis_alone(software):
    environ = {"SERVER_SOFTWARE": software, "SCRIPT_NAME": "/tms", "PATH_INFO": "/tms/1.0"}
    assert applied(environ)[0] == ("/tms", "/tms/1.0")


@pytest.mark.parametrize(
    ("script", "info", "right"),
    [
        ("/app.py", "/app.py/app.py", ("/app.py", "/app.py")),
        ("/app.py", "/app.pyx", ("/app.py", "/app.pyx")),
        ("/app.py", "/hello", ("/app.py", "/hello")),
        ("/app.py", "/app.py", ("/app.py", "")),
    ],
)
def test_iis_repeats_whole_segments(script, info, right):
    environ = {
        "SERVER_SOFTWARE": "Microsoft-IIS/10.0",
        "APPL_MD_PATH": "/LM/W3SVC/1/ROOT",
        "SCRIPT_NAME": script,
        "PATH_INFO": info,
    }
    assert applied(environ)[0] == right


@pytest.mark.parametrize(
    ("application", "path", "right"),
    [
        ("/LM/W3SVC/1/ROOT", "/hello", ("", "/hello")),
        ("/LM/W3SVC/1/ROOT", "/", ("", "/")),
        ("/LM/W3SVC/1/ROOT/app", "/app/hello", ("/app", "/hello")),
        ("/LM/W3SVC/1/ROOT/app", "/App/hello", ("/App", "/hello")),
        ("/LM/W3SVC/1/ROOT/app", "/app", ("/app", "")),
        ("/LM/W3SVC/1/ROOT/app", "/app/", ("/app", "/")),
        ("/LM/W3SVC/1/ROOT/a/b", "/a/b/c", ("/a/b", "/c")),
        ("/LM/W3SVC/1/ROOT/app", "/application", ("", "/application")),
        ("/LM/W3SVC/1/ROOT/ROOT/x", "/ROOT/x/y", ("/ROOT/x", "/y")),
    ],
)
def test_iis_wildcard_mapping(application, path, right):
    environ = {
        "SERVER_SOFTWARE": "Microsoft-IIS/10.0",
        "APPL_MD_PATH": application,
        "SCRIPT_NAME": path,
        "PATH_INFO": path,
    }
    paths, mounting = applied(environ)
    assert paths == right
    assert mounting.counts["iis-wildcard"] == 1


@pytest.mark.parametrize(
    ("environ", "right"),
    [
        # the root of a site
        ({"SCRIPT_NAME": "/hello", "SCRIPT_FILENAME": "proxy:fcgi://h:1/hello"}, ("", "/hello")),
        ({"SCRIPT_NAME": "/", "SCRIPT_FILENAME": "proxy:fcgi://h:1/"}, ("", "/")),
        # the mount point with a slash
        ({"SCRIPT_NAME": "/app/", "SCRIPT_FILENAME": "proxy:scgi://h:1/"}, ("/app", "/")),
        # one segment that repeats the mount point's
        ({"SCRIPT_NAME": "/a/a", "SCRIPT_FILENAME": "proxy:fcgi://h:1/a"}, ("/a", "/a")),
        # ProxyPass to another path: nothing tells the mount point
        ({"SCRIPT_NAME": "/app/x", "SCRIPT_FILENAME": "proxy:fcgi://h:1/y/x"}, ("", "/app/x")),
        # a Unix socket
        (
            {"SCRIPT_NAME": "/app/x", "SCRIPT_FILENAME": "proxy:fcgi://localhost/x"},
            ("/app", "/x"),
        ),
    ],
)
def test_apache_proxies(environ, right):
    assert applied(environ)[0] == right


def test_a_decoded_path_is_not_decoded_again():
    """DOCUMENT_URI is what nginx calls its decoded path."""
    environ = {"DOCUMENT_URI": "/100%25?/caf\xc3\xa9"}
    assert applied(environ)[0] == ("", "/100%25?/caf\xc3\xa9")
    environ["REQUEST_URI"] = "/100%2525%3F/caf%C3%A9?x"
    assert applied(environ)[0] == ("", "/100%25?/caf\xc3\xa9")


def test_an_absolute_target_has_a_path():
    assert applied({"REQUEST_URI": "http://www.example.test/a%20b?c"})[0] == ("", "/a b")


def test_targets_of_the_examples_decode_once():
    for rows in EXAMPLES.values():
        for further, _, right in rows:
            if "REQUEST_URI" in further:
                assert decode_path(path_of(further["REQUEST_URI"])) == "".join(right)


# What an .htaccess has rewritten to a script beside it.

REWRITTEN = {
    "SCRIPT_NAME": "/blog/app.cgi",
    "REQUEST_URI": "/blog/a%20b?x=1",
    "REDIRECT_STATUS": "200",
    "REDIRECT_URL": "/blog/a b",
}


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, ("/blog", "/a b")),
        ({"REDIRECT_URL": "http://localhost/blog/a%20b"}, ("/blog", "/a b")),  # QualifyRedirectURL
        ({"REDIRECT_URL": "/blog"}, ("/blog", "")),
        ({"REDIRECT_URL": "/blog/"}, ("/blog", "/")),
        ({"REDIRECT_STATUS": "404"}, ("/blog/app.cgi", "")),  # an ErrorDocument
        ({"REDIRECT_URL": "/blog/app.cgi"}, ("/blog/app.cgi", "")),
        ({"REDIRECT_URL": "/elsewhere/x"}, ("/blog/app.cgi", "")),
        ({"PATH_INFO": "/a b"}, ("/blog/app.cgi", "/a b")),  # both are right as they are
    ],
)
def test_rewriting_is_undone(changes, right):
    assert applied({**REWRITTEN, **changes})[0] == right


@pytest.mark.parametrize("info", ["/a b", None])
@pytest.mark.parametrize("prefix", ["/blog", ""])
def test_rewriting_is_undone_below_a_mount_point_that_was_told(prefix, info):
    environ = REWRITTEN if info is None else {**REWRITTEN, "PATH_INFO": info}
    whole = "/blog/a b"
    assert applied(dict(environ), prefix)[0] == (prefix, whole[len(prefix) :])


def test_rewriting_to_a_script_that_stands_elsewhere():
    environ = {**REWRITTEN, "SCRIPT_NAME": "/cgi-bin/app.cgi", "PATH_INFO": "/a b"}
    assert applied(environ, "/blog")[0] == ("/blog", "/a b")
