"""Cases of the request: paths, query, headers, methods, bodies."""

from __future__ import annotations

import hashlib

from conformance.applications import pattern
from conformance.listing import case, followed, refused, told
from conformance.route import Request

# Paths.


def path_case(name, rest, path_info, **more):
    @case(f"path-{name}", "env", rest, **more)
    def check(reply, route):
        environ = told(reply)["environ"]
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (route.mount, path_info)
        target = f"{route.mount}/env{rest}"
        if "exact-target" not in route.lacks:
            assert environ["REQUEST_URI"] == target


path_case("plain", "/hello", "/env/hello")
path_case("utf-8", "/caf%C3%A9/%e2%82%ac", "/env/caf\xc3\xa9/\xe2\x82\xac")
path_case("latin-1", "/caf%E9", "/env/caf\xe9")
path_case("semicolon", "/a;x=1/b;y", "/env/a;x=1/b;y")
path_case("plus", "/a+b%20c", "/env/a+b c")
path_case("trailing-slash", "/x/", "/env/x/")
path_case("decoded-once", "/100%25/%2541", "/env/100%/%41")
path_case("reserved", "/%22%27%3C%3E%26%23%3F%5B%5D", "/env/\"'<>&#?[]")
path_case("encoded-slash", "/a%2Fb", "/env/a/b", needs=["encoded-slash"], otherwise=refused(404))


def merged_slashes(reply, route):
    environ = told(reply)["environ"]
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (route.mount, "/env/x/y/")


path_case(
    "double-slash", "//x///y/", "/env//x///y/", needs=["double-slash"], otherwise=merged_slashes
)


@case("path-bare-mount", "")
def check_bare_mount(reply, route):
    environ = told(reply)["environ"]
    if not route.mount or "empty-path" in route.lacks:
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (route.mount, "/")
    else:
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (route.mount, "")


@case("path-mount-slash", "", "/")
def check_mount_slash(reply, route):
    environ = told(reply)["environ"]
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (route.mount, "/")


# Query.


def query_case(name, rest, query):
    @case(f"query-{name}", "env", rest)
    def check(reply, _route):
        environ = told(reply)["environ"]
        assert environ["QUERY_STRING"] == query
        assert environ["PATH_INFO"] == "/env"


query_case("none", "", "")
query_case("empty", "?", "")
query_case("raw", "?a=%C3%A9&b=%2F&c=+&d=a%20b&e;f&g", "a=%C3%A9&b=%2F&c=+&d=a%20b&e;f&g")
query_case("question-marks", "?a?b=/c//d", "a?b=/c//d")


# The environ as a whole.


@case("environ-is-pep-3333s", "env", "/a%20b?c=d")
def check_environ(reply, route):
    report = told(reply)
    assert report["is_dict"]
    assert report["types"] == ["str"]
    assert report["version"] == [1, 0]
    assert all(type(flag) is bool for flag in report["flags"].values())
    assert report["url"] == f"http://{route.host}:{route.port}{route.mount}/env/a%20b?c=d"
    environ = report["environ"]
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"] == str(route.port)
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["HTTP_HOST"] == f"{route.host}:{route.port}"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ.get("CONTENT_LENGTH", "0") == "0"
    assert "CONTENT_TYPE" not in environ


@case("http-1.0-without-host", "env", version="1.0", needs=["http-1.0"])
def check_http_1_0(reply, _route):
    environ = told(reply)["environ"]
    assert environ["SERVER_NAME"]
    assert "chunked" not in reply.all("Transfer-Encoding")


# Request headers.


@case("header-repeated", "env", headers=(("X-Dup", "one"), ("X-Dup", "two")),
      needs=["repeated-headers"])  # fmt: skip
def check_repeated(reply, _route):
    assert told(reply)["environ"]["HTTP_X_DUP"].replace(" ", "") == "one,two"


@case("header-cookies", "env", headers=(("Cookie", "a=1"), ("Cookie", "b=2")),
      needs=["repeated-headers"])  # fmt: skip
def check_cookies_sent(reply, _route):
    # Apache joins them with a comma, as any header; the others as RFC 6265 has it
    assert told(reply)["environ"]["HTTP_COOKIE"] in {"a=1; b=2", "a=1, b=2"}


@case("header-latin-1", "env", needs=["latin-1"],
      headers=(("X-Latin", "caf\xe9"), ("X-Utf", "caf\xc3\xa9")))  # fmt: skip
def check_latin_1_sent(reply, _route):
    environ = told(reply)["environ"]
    assert (environ["HTTP_X_LATIN"], environ["HTTP_X_UTF"]) == ("caf\xe9", "caf\xc3\xa9")


@case("header-proxy", "env", headers=(("Proxy", "http://192.0.2.1:1"),))
def check_proxy(reply, _route):
    assert "HTTP_PROXY" not in told(reply)["environ"]


@case("header-authorization", "env", headers=(("Authorization", "Basic YTpi"),),
      needs=["authorization"])  # fmt: skip
def check_authorization(reply, _route):
    assert told(reply)["environ"]["HTTP_AUTHORIZATION"] == "Basic YTpi"


@case("header-content-type", "env", method="POST", body=b"{}",
      headers=(("Content-Type", "application/json; charset=utf-8"),))  # fmt: skip
def check_content_type(reply, _route):
    environ = told(reply)["environ"]
    assert environ["CONTENT_TYPE"] == "application/json; charset=utf-8"
    assert environ["CONTENT_LENGTH"] == "2"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()


@case("header-posing-as-a-key", "env",
      headers=(("wsgi.input", "x"), ("portico.x", "x"), ("X-Seen", "yes")))  # fmt: skip
def check_posing(reply, _route):
    report = told(reply)
    assert report["environ"]["HTTP_X_SEEN"] == "yes"
    dotted = [name for name in report["names"] if "." in name]
    assert all(name.startswith(("wsgi.", "portico.")) for name in dotted)
    assert "portico.x" not in dotted


@case("header-8-kib", "env", headers=(("X-Big-1", "a" * 4000), ("X-Big-2", "b" * 4000)))
def check_big_headers(reply, _route):
    environ = told(reply)["environ"]
    assert (environ["HTTP_X_BIG_1"], environ["HTTP_X_BIG_2"]) == ("a" * 4000, "b" * 4000)


@case("header-many", "env", headers=tuple((f"X-Many-{at}", str(at)) for at in range(60)))
def check_many_headers(reply, _route):
    environ = told(reply)["environ"]
    assert [environ[f"HTTP_X_MANY_{at}"] for at in range(60)] == [str(at) for at in range(60)]


# Methods.


def method_case(name, *, body=None, **more):
    @case(f"method-{name.lower()}", "method", method=name, body=body, **more)
    def check(reply, _route):
        assert told(reply) == {"method": name, "length": len(body or b"")}


method_case("POST", body=b"posted")
method_case("PUT", body=b"put")
method_case("PATCH", body=b"patch")
method_case("DELETE")
method_case("OPTIONS")
method_case("PROPFIND", body=b"<propfind/>")
method_case("PORTICO", needs=["odd-methods"], otherwise=refused(501))


# Request bodies.


def upload_case(name, body, **more):
    @case(f"upload-{name}", "digest", method="POST", body=body, **more)
    def check(reply, _route):
        report = told(reply)
        assert report["length"] == len(body)
        assert report["sha256"] == hashlib.sha256(body).hexdigest()
        assert report["past"] == ["", "", ""], "something came behind the body's end"
        if "chunk" in more:
            assert report["terminated"] or report["announced"] == str(len(body))
        else:
            assert report["announced"] == str(len(body)) or not body


def refused_unless_empty(reply, route):
    """The built-in front has seen the end by then, and so knows the length."""
    if reply.code != 200:
        refused(411)(reply, route)
    else:
        assert told(reply)["length"] == 0


EVERY_OCTET = bytes(range(256)) + b"\r\n\r\n\x1a\n\0"

upload_case("empty", b"")
upload_case("every-octet", EVERY_OCTET)
upload_case("16-kib", pattern(16_384))
upload_case("64-kib", pattern(65_536))
upload_case("1-mib", pattern(1 << 20))
upload_case("chunked", EVERY_OCTET, chunk=7, needs=["chunked"], otherwise=refused(411))
upload_case("chunked-empty", b"", chunk=7, needs=["chunked"], otherwise=refused_unless_empty)
upload_case(
    "chunked-1-mib", pattern(1 << 20), chunk=10_007, needs=["chunked"], otherwise=refused(411)
)
upload_case("expect-continue", pattern(5000), expect=True, needs=["expect"])
upload_case("50-mb", pattern(50_000_000), slow=True)


@case("upload-with-get", "method", method="GET", body=b"body of a GET", needs=["get-body"],
      otherwise=refused(400))  # fmt: skip
def check_get_body(reply, _route):
    assert told(reply) == {"method": "GET", "length": 13}


@case("upload-read-at-once", "read_all", method="POST", body=pattern(200_000))
def check_read_all(reply, _route):
    assert told(reply) == {"first": 200_000, "second": 0}


@case("upload-by-every-way-to-read", "lines", method="POST",
      body=b"readline\nthree\r\nnext\nhint\nmore\nrest")  # fmt: skip
def check_lines(reply, _route):
    assert told(reply) == {
        "read": "read",
        "readline": "line\n",
        "readline_3": "thr",
        "readline_rest": "ee\r\n",
        "next": "next\n",
        "readlines_hint": ["hint\n"],
        "readlines": ["more\n", "rest"],
        "end": "",
    }


def unread_case(name, app, rest, size, expected):
    @case(f"upload-{name}", app, rest, method="POST", body=pattern(size))
    def check(reply, route):
        assert (reply.code, reply.body, reply.complete) == (200, expected, True)
        request = Request(f"/{app}{rest}", "POST", body=pattern(size))
        if "unread" not in route.lacks:
            followed(reply, route, request)
        # whatever became of that connection, others go on
        for _ in range(3):
            assert route.ask(Request("/listed/5")).body == pattern(5)


unread_case("unread", "ignore", "", 1000, b"ignored")
unread_case("unread-200-kib", "ignore", "", 204_800, b"ignored")
unread_case("half-read", "half", "/1000", 50_000, pattern(1000))


def echo_case(name, body, **more):
    @case(f"echo-{name}", "echo", method="POST", body=body, **more)
    def check(reply, _route):
        assert (reply.code, reply.complete) == (200, True)
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()


echo_case("every-octet", EVERY_OCTET)
echo_case("1-mib", pattern(1 << 20), needs=["early-output"])
echo_case("50-mb", pattern(50_000_000), slow=True, needs=["early-output"])


@case("output-before-input", "first_and_last", "/2000000", method="POST",
      body=pattern(2_000_000), needs=["early-output"])  # fmt: skip
def check_output_first(reply, _route):
    assert (reply.code, reply.complete) == (200, True)
    assert reply.body == pattern(2_000_000) + b"2000000"
