"""From parameters to environ: required keys, scheme, dropped names, the server's keys last."""

from itertools import product

import pytest

from portico.core.environ import EnvironRules
from portico.core.mount import Mounting
from portico.errors import RemoteProtocolError

BASE = {"wsgi.version": (1, 0), "wsgi.errors": object(), "portico.protocol": "fastcgi"}
REQUEST = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "www.example.test",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_SOFTWARE": "nginx/1.22.1",
}


def finish(*without, **params):
    given = {name: value for name, value in REQUEST.items() if name not in without}
    return EnvironRules(BASE).finish({**given, **params})


def test_the_same_dict_is_completed_in_place():
    given = dict(REQUEST)
    environ = EnvironRules(BASE).finish(given)
    assert environ is given
    assert type(environ) is dict
    assert environ == {**REQUEST, **BASE, "wsgi.url_scheme": "http"}


def test_environs_share_nothing_that_can_be_changed():
    rules = EnvironRules(BASE)
    first = rules.finish(dict(REQUEST))
    first.clear()
    assert rules.finish(dict(REQUEST))["wsgi.version"] == (1, 0)


# What PEP 3333 requires.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUERY_STRING", ""),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/"),
    ],
)
def test_a_missing_key_is_filled_in(name, value):
    assert finish(name)[name] == value


def test_a_request_of_nothing_but_a_method_is_complete():
    environ = EnvironRules(BASE).finish({"REQUEST_METHOD": "GET"})
    assert environ == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        **BASE,
    }


@pytest.mark.parametrize("method", [None, ""])
def test_a_request_without_a_method_is_refused(method):
    params = {} if method is None else {"REQUEST_METHOD": method}
    with pytest.raises(RemoteProtocolError) as caught:
        finish("REQUEST_METHOD", **params)
    assert caught.value.status_hint == 400


@pytest.mark.parametrize("method", ["get", "M-SEARCH", "X" * 10_000, "a!#$%&'*+-.^_`|~9"])
def test_any_token_is_a_method(method):
    assert finish(REQUEST_METHOD=method)["REQUEST_METHOD"] == method


@pytest.mark.parametrize("method", ["GET /", "G\r\nX: 1", "G\0", "G\xc9T", "a b", "(a)"])
def test_what_is_no_token_is_no_method(method):
    with pytest.raises(RemoteProtocolError) as caught:
        finish(REQUEST_METHOD=method)
    assert caught.value.status_hint == 400


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("shop.example.test", "shop.example.test", "80"),
        ("shop.example.test:8080", "shop.example.test", "8080"),
        ("[::1]", "[::1]", "80"),
        ("[::1]:8080", "[::1]", "8080"),
        ("8080", "8080", "80"),
        ("", "localhost", "80"),
        ("shop.example.test:", "shop.example.test", "80"),
        ("shop.example.test:http", "shop.example.test:http", "80"),
    ],
)
@pytest.mark.parametrize("sent", ["nothing", "empty"])
def test_name_and_port_come_from_the_host_header(host, name, port, sent):
    """nginx sends an empty SERVER_NAME where no server_name is configured."""
    empty = {"SERVER_NAME": "", "SERVER_PORT": ""} if sent == "empty" else {}
    environ = finish("SERVER_NAME", "SERVER_PORT", HTTP_HOST=host, **empty)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


def test_name_falls_back_to_the_address():
    assert finish("SERVER_NAME", SERVER_ADDR="192.0.2.1")["SERVER_NAME"] == "192.0.2.1"


@pytest.mark.parametrize("how", [{"HTTPS": "on"}, {"REQUEST_SCHEME": "https"}])
def test_the_port_of_https_is_443(how):
    assert finish("SERVER_PORT", **how)["SERVER_PORT"] == "443"


def test_what_the_web_server_says_of_itself_stays():
    environ = finish(HTTP_HOST="other.example.test:99", SERVER_PROTOCOL="HTTP/1.0")
    assert environ["SERVER_NAME"] == "www.example.test"
    assert environ["SERVER_PORT"] == "80"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"


@pytest.mark.parametrize(
    ("target", "query"),
    [("/a?x=1&y=%20", "x=1&y=%20"), ("/a", ""), ("/a?", ""), ("/a?b?c", "b?c")],
)
def test_a_missing_query_is_taken_from_the_target(target, query):
    """HAProxy sends no QUERY_STRING where the target has no question mark."""
    assert finish("QUERY_STRING", REQUEST_URI=target)["QUERY_STRING"] == query


def test_a_query_stays_raw():
    query = "a=%C3%A9&b=%2F&c=+&d=caf\xe9&e;f"
    assert finish(QUERY_STRING=query)["QUERY_STRING"] == query


# Scheme.


@pytest.mark.parametrize(
    ("params", "scheme"),
    [
        ({}, "http"),
        ({"HTTPS": "on"}, "https"),
        ({"HTTPS": "ON"}, "https"),
        ({"HTTPS": "1"}, "https"),
        ({"HTTPS": "off"}, "http"),
        ({"HTTPS": "OFF"}, "http"),
        ({"HTTPS": "0"}, "http"),
        ({"HTTPS": ""}, "http"),
        ({"REQUEST_SCHEME": "https"}, "https"),
        ({"REQUEST_SCHEME": "http"}, "http"),
        ({"HTTPS": "", "REQUEST_SCHEME": "https"}, "https"),
        ({"HTTPS": "off", "REQUEST_SCHEME": "https"}, "http"),
        ({"SERVER_PORT_SECURE": "1"}, "https"),
        ({"SERVER_PORT_SECURE": "0"}, "http"),
        ({"SERVER_PORT_SECURE": "1", "HTTPS": "off"}, "http"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "http"),
        ({"HTTP_HTTPS": "on"}, "http"),
        ({"wsgi.url_scheme": "https"}, "http"),
    ],
)
def test_scheme(params, scheme):
    assert finish(**params)["wsgi.url_scheme"] == scheme


# Names.


@pytest.mark.parametrize(
    "name",
    [
        "wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.url_scheme", "portico.protocol",
        "portico.x", "werkzeug.request", "x.y", "", " ", "A B", "A=B", "A\0", "A-B", "A/B",
        "caf\xe9", "\xc9", "A\n", "BASH_FUNC_x%%", "ProgramFiles(x86)",
    ],
)  # fmt: skip
def test_names_that_can_be_no_variable_are_dropped(name):
    assert finish(**{name: "wire"}) == finish()


@pytest.mark.parametrize(
    "name", ["HTTP_X_A", "X_A", "lower_case", "Mixed_Case", "_", "1", "HTTP_X__", "SSL_CLIENT_S_DN"]
)
def test_names_that_can_be_variables_stay(name):
    assert finish(**{name: "wire"}) == {**finish(), name: "wire"}


@pytest.mark.parametrize(
    "name", ["HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"]
)
def test_headers_that_mislead_are_dropped(name):
    rules = EnvironRules(BASE)
    for _ in range(2):
        assert name not in rules.finish({**REQUEST, name: "x", "HTTP_X_OTHER": "y"})


def test_a_name_is_looked_at_in_every_request():
    """Learning that one name is harmless excuses no other."""
    rules = EnvironRules(BASE)
    for number in range(5000):
        environ = rules.finish({**REQUEST, f"HTTP_X_{number}": "1", "wsgi.input": "wire"})
        assert environ[f"HTTP_X_{number}"] == "1"
        assert "wsgi.input" not in environ


def test_the_servers_keys_win():
    environ = finish(**{"wsgi.version": "wire", "wsgi.errors": "wire", "portico.protocol": "wire"})
    assert {name: environ[name] for name in BASE} == BASE


# Authorization.


@pytest.mark.parametrize(
    "params",
    [
        {"HTTP_AUTHORIZATION": "Basic eA=="},
        {"REDIRECT_HTTP_AUTHORIZATION": "Basic eA=="},
        {"REDIRECT_REDIRECT_HTTP_AUTHORIZATION": "Basic eA=="},
        {"Authorization": "Basic eA=="},
        {"HTTP_AUTHORIZATION": "Basic eA==", "REDIRECT_HTTP_AUTHORIZATION": "Basic eQ=="},
        {"REDIRECT_HTTP_AUTHORIZATION": "Basic eA==", "Authorization": "Basic eQ=="},
        {"HTTP_AUTHORIZATION": "", "REDIRECT_HTTP_AUTHORIZATION": "Basic eA=="},
    ],
)
def test_authorization_arrives_under_its_name_alone(params):
    assert finish(**params) == {**finish(), "HTTP_AUTHORIZATION": "Basic eA=="}


def test_a_clients_header_of_that_name_is_no_authorization():
    environ = finish(HTTP_REDIRECT_HTTP_AUTHORIZATION="Basic eA==")
    assert "HTTP_AUTHORIZATION" not in environ


# Values that mean nothing.


@pytest.mark.parametrize("name", ["CONTENT_TYPE", "REMOTE_USER", "AUTH_TYPE", "REMOTE_HOST"])
def test_an_empty_value_that_means_none_is_removed(name):
    assert name not in finish(**{name: ""})
    assert finish(**{name: "x"})[name] == "x"


@pytest.mark.parametrize("name", ["HTTP_X_EMPTY", "REMOTE_ADDR", "HTTP_COOKIE"])
def test_other_empty_values_stay(name):
    assert finish(**{name: ""})[name] == ""


@pytest.mark.parametrize("length", ["", "-1", "+1", "1.5", " 1", "1 ", "0x10", "\xb2", "1" * 30])
def test_a_length_that_is_no_number_is_removed(length):
    """Caddy sends -1 for a body of unknown length, nginx an empty string for none."""
    assert "CONTENT_LENGTH" not in finish(CONTENT_LENGTH=length)


@pytest.mark.parametrize("length", ["0", "1", "007", "9" * 18])
def test_a_length_that_is_a_number_stays(length):
    assert finish(CONTENT_LENGTH=length)["CONTENT_LENGTH"] == length


def test_values_are_octets_as_latin_1():
    every = "".join(map(chr, range(1, 256)))
    environ = finish(HTTP_X_EVERY=every, PATH_INFO="/" + every)
    assert environ["HTTP_X_EVERY"] == every
    assert environ["PATH_INFO"] == "/" + every


# Paths: which servers are believed without a look.


@pytest.mark.parametrize("software", ["nginx/1.22.1", "Apache/2.4", "Microsoft-IIS/10.0", ""])
@pytest.mark.parametrize(
    ("script", "info"), [("", "/a"), ("/app", "/a"), ("/app", ""), ("/a/b", "//c/../d/")]
)
def test_right_paths_stay_whoever_sends_them(software, script, info):
    environ = finish(SERVER_SOFTWARE=software, SCRIPT_NAME=script, PATH_INFO=info)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, info)


@pytest.mark.parametrize("software", ["nginx/1.22.1", "Apache/2.4"])
@pytest.mark.parametrize(("script", "info"), [("", ""), ("", None), (None, ""), (None, None)])
def test_never_are_both_empty(software, script, info):
    given = {"SCRIPT_NAME": script, "PATH_INFO": info}
    environ = finish(
        "SCRIPT_NAME",
        "PATH_INFO",
        SERVER_SOFTWARE=software,
        **{name: value for name, value in given.items() if value is not None},
    )
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/")


@pytest.mark.parametrize("software", ["nginx/1.22.1", "lighttpd/1.4.69", "Apache/2.4", ""])
@pytest.mark.parametrize("script", ["/", "/app/"])
def test_no_script_name_ends_with_a_slash(software, script):
    environ = finish(SERVER_SOFTWARE=software, SCRIPT_NAME=script, PATH_INFO="/x")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script[:-1], "/x")


@pytest.mark.parametrize("software", ["nginx/1.22.1", "Apache/2.4"])
@pytest.mark.parametrize("given", [{"PATH_INFO": "a"}, {"SCRIPT_NAME": "app"}])
def test_a_path_that_does_not_begin_with_a_slash_is_refused(software, given):
    with pytest.raises(RemoteProtocolError) as caught:
        finish(SERVER_SOFTWARE=software, **given)
    assert caught.value.status_hint == 400


def test_a_mount_point_is_applied_to_servers_that_are_right_as_well():
    rules = EnvironRules(BASE, Mounting("/app"))
    environ = rules.finish({**REQUEST, "PATH_INFO": "/app/x"})
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")
    assert rules.mounting().prefix == "/app"


def test_repairs_are_counted_where_no_mounting_was_given():
    rules = EnvironRules(BASE)
    rules.finish({"REQUEST_METHOD": "GET", "REQUEST_URI": "/a"})
    assert rules.mounting().counts["no-path-info"] == 1


def test_what_is_believed_without_a_look_is_what_a_look_would_give():
    """Every combination of what the repairs ask for."""
    looked = believed = 0
    for software, filename, script, info, redirected in product(
        ["nginx/1.22.1", "Apache/2.4", "Microsoft-IIS/10.0", "lighttpd/1.4.69", "", None],
        ["proxy:fcgi://127.0.0.1:9000/x", "proxy:uwsgi://h:1/", "/srv/proxy:x", "", None],
        ["", "/", "/app", "/app/", "/x/app.py", "/a//b", None],
        ["", "/", "/x", "/app", "/app/x", "/x/app.py/y", None],
        ["/x/y", "/app/x", None],
    ):
        sent = {
            "SERVER_SOFTWARE": software, "SCRIPT_FILENAME": filename, "SCRIPT_NAME": script,
            "PATH_INFO": info, "REQUEST_URI": "/app/x", "APPL_MD_PATH": "/LM/W3SVC/1/ROOT/app",
            "REDIRECT_URL": redirected, "REDIRECT_STATUS": "200",
        }  # fmt: skip
        given = {
            **{name: REQUEST[name] for name in REQUEST if name not in sent},
            **{name: value for name, value in sent.items() if value is not None},
        }
        right = dict(given)
        Mounting().apply(right)
        rules = EnvironRules(BASE)
        environ = rules.finish(given)
        for name in ("SCRIPT_NAME", "PATH_INFO"):
            assert environ[name] == right[name], sent
        looked += rules._mounting is not None
        believed += rules._mounting is None
    assert looked
    assert believed
