"""Cases of the response: status, headers, bodies, mistakes, ends."""

from __future__ import annotations

import threading

from conformance.applications import pattern
from conformance.listing import case, followed, is_plain_500, journal, wait_until_noted
from conformance.route import DEADLINE, Request


@case("head-of-a-list", "listed", "/5", method="HEAD")
def check_head(reply, route):
    assert (reply.code, reply.body) == (200, b"")
    assert reply.header("Content-Length") in {"5", None}
    followed(reply, route, Request("/listed/5", "HEAD"))


@case("head-keeps-the-length", "sized", "/100000", method="HEAD", needs=["sized"])
def check_head_sized(reply, route):
    assert (reply.code, reply.header("Content-Length")) == (200, "100000")
    followed(reply, route, Request("/sized/100000", "HEAD"))


@case("head-of-a-stream", "streamed", "/100000", method="HEAD")
def check_head_streamed(reply, route):
    assert (reply.code, reply.header("Content-Length")) == (200, None)
    followed(reply, route, Request("/streamed/100000", "HEAD"))


@case("head-of-a-file", "file", "/1000", method="HEAD", needs=["sized"])
def check_head_file(reply, route):
    assert (reply.code, reply.header("Content-Length")) == (200, "1000")
    followed(reply, route, Request("/file/1000", "HEAD"))


@case("head-that-fails", "fail", method="HEAD")
def check_head_failed(reply, route):
    assert reply.code == 500
    followed(reply, route, Request("/fail", "HEAD"))


# Status.


def status_case(code, **more):
    @case(f"status-{code}", "status", f"/{code}", **more)
    def check(reply, _route):
        assert (reply.code, reply.header("X-Code")) == (code, str(code))
        assert (reply.body, reply.complete) == (f"body of {code}".encode(), True)


status_case(201)
status_case(404)
status_case(503)


def has_code_alone(reply, _route):
    assert (reply.code, reply.body) == (299, b"body of 299")
    assert reply.status != "299 Made Up"


@case("status-unknown-with-its-reason", "status", "/299", needs=["reason"],
      otherwise=has_code_alone)  # fmt: skip
def check_reason(reply, _route):
    assert (reply.status, reply.body) == ("299 Made Up", b"body of 299")


def bodiless_case(code, **more):
    @case(f"status-{code}-has-no-body", "bodiless", f"/{code}", **more)
    def check(reply, route):
        assert (reply.code, reply.body, reply.complete) == (code, b"", True)
        assert reply.header("ETag") == '"e"'
        followed(reply, route, Request(f"/bodiless/{code}"))


bodiless_case(204)
bodiless_case(304)
bodiless_case(205, needs=["bodiless-205"])


# Response headers.


@case("cookies-are-kept-apart", "cookies")
def check_cookies(reply, _route):
    assert reply.all("Set-Cookie") == [
        "a=1; Path=/",
        "b=2; Expires=Wed, 21 Oct 2065 07:28:00 GMT",
    ]
    assert reply.header("X-Between") == "yes"


@case("redirect-to-a-path", "redirect")
def check_redirect(reply, route):
    assert reply.code == 302
    location = reply.header("Location")
    # some fronts make it absolute
    assert location.removeprefix(f"http://{route.host}:{route.port}") == (
        f"{route.mount}/env/there?x=%20y"
    )
    assert reply.body == b"over there"


@case("response-header-latin-1", "latin_1", needs=["latin-1"])
def check_latin_1(reply, _route):
    assert (reply.header("X-Latin"), reply.header("X-Utf")) == ("caf\xe9", "caf\xc3\xa9")


@case("response-headers-3-kib", "many")
def check_many(reply, _route):
    assert [reply.header(f"X-Many-{at}") for at in range(30)] == ["v" * 90] * 30


# Response bodies.


def download_case(app, size, *, known=False):
    @case(f"download-{app}-{size}", app, f"/{size}")
    def check(reply, route):
        assert (reply.code, reply.complete) == (200, True)
        assert len(reply.body) == size
        assert reply.body == pattern(size)
        if known and "sized" not in route.lacks:
            assert reply.header("Content-Length") == str(size)


for _app in ("sized", "listed", "file"):
    for _size in (0, 1, 16_384, 65_535, 65_536, 1 << 20):
        download_case(_app, _size, known=True)
for _size in (0, 10_000, 1 << 20):
    download_case("streamed", _size)


@case("download-50-mb", "large", "/48", slow=True)
def check_large(reply, _route):
    assert (reply.code, reply.complete, len(reply.body)) == (200, True, 48 << 20)
    assert reply.body == pattern(1 << 20) * 48


@case("file-part", "part", "/1234/50000")
def check_part(reply, _route):
    assert (reply.code, reply.complete) == (206, True)
    assert reply.body == pattern(100_000)[1234:51_234]
    assert reply.header("Content-Range") == "bytes 1234-51233/100000"


@case("empty-blocks", "gaps")
def check_gaps(reply, _route):
    assert (reply.code, reply.body, reply.complete) == (200, b"one two", True)


@case("no-blocks", "nothing")
def check_nothing(reply, route):
    assert (reply.code, reply.body, reply.complete) == (200, b"", True)
    followed(reply, route, Request("/nothing"))


@case("write-before-the-iterable", "written")
def check_written(reply, _route):
    assert (reply.code, reply.complete) == (200, True)
    assert reply.body == b"written twice, then returned"


def gathers_blocks(_reply, route):
    path, headers = journal(route, "dribble")
    request = Request("/dribble", headers=headers)
    with route.connect() as connection:
        connection.send_head(request)
        assert connection.is_silent_for(0.3), "a block came before the response's end"
        with path.open("a") as file:
            file.write("go on\n")
        reply = connection.read_body(request, connection.read_head(request))
    assert (reply.code, reply.body, reply.complete) == (200, b"first\nsecond\n", True)


@case("blocks-are-sent-as-they-are-made", "env", needs=["streams"], otherwise=gathers_blocks)
def check_streaming(_reply, route):
    path, headers = journal(route, "dribble")
    request = Request("/dribble", headers=headers)
    with route.connect() as connection:
        connection.send_head(request)
        reply = connection.read_head(request)
        first = b""
        while b"first\n" not in first:
            data = connection.read_some()
            assert data, f"the response ended with {first!r}"
            first += data
        assert b"second" not in first
        with path.open("a") as file:
            file.write("go on\n")
        rest = b""
        while b"second\n" not in rest:
            data = connection.read_some()
            assert data, f"the response ended with {rest!r}"
            rest += data
    assert reply.code == 200


# Connections.


@case("keep-alive", "listed", "/10", needs=["keep-alive"])
def check_keep_alive(_reply, route):
    with route.connect() as connection:
        for size in (10, 0, 70_000, 1):
            assert connection.ask(Request(f"/listed/{size}")).body == pattern(size)
        reply = connection.ask(Request("/echo", "POST", body=b"in between"))
        assert reply.body == b"in between"
        assert connection.ask(Request("/status/404")).body == b"body of 404"


@case("many-at-once", "listed", "/10")
def check_parallel(_reply, route):
    sizes = [at * 1000 for at in range(12)]
    replies = {}

    def ask(size):
        for _ in range(5):
            replies[size] = route.ask(Request(f"/listed/{size}"))
            if replies[size].body != pattern(size):
                return

    threads = [threading.Thread(target=ask, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert [(size, replies[size].body == pattern(size)) for size in sizes] == [
        (size, True) for size in sizes
    ]


# Mistakes of the application.

for _app in ("fail", "fail_started", "text", "split", "hop", "unstarted"):
    case(f"error-{_app.replace('_', '-')}", _app)(is_plain_500)


@case("error-leaves-nothing-of-the-first-head", "fail_started")
def check_started(reply, _route):
    assert reply.header("X-Started") is None
    assert (
        reply.header(
            "Content-Type",
        )
        != "text/plain"
    )


@case("error-splits-no-header", "split")
def check_split(reply, _route):
    assert reply.header("X-Injected") is None
    assert reply.header("X-Split") is None


@case("error-page-of-its-own", "replaced")
def check_replaced(reply, _route):
    assert (reply.code, reply.body) == (503, b"a page of its own")
    assert reply.header("X-Started") is None


#: Else some fronts keep a connection that they broke off until their keep-alive timeout.
CLOSE = (("Connection", "close"),)


def holds_no_more(reply, route):
    """What came is what the application made, and at most a page of the front's behind it."""
    made = reply.body.lstrip(b"x")
    assert len(reply.body) - len(made) <= 100_000
    assert not made or made.startswith((b"<!DOCTYPE", b"<html"))
    assert b"secret" not in reply.body
    assert route.ask(Request("/env")).code == 200


@case("error-after-the-head", "fail_late", needs=["shows-cut"], otherwise=holds_no_more,
      headers=CLOSE)  # fmt: skip
def check_fail_late(reply, route):
    # a front that had not begun may answer in the application's place
    assert reply.code in {502, 503} or not reply.complete, "it looks like a whole response"
    holds_no_more(reply, route)


@case("error-after-a-length", "fail_short", needs=["sized"], otherwise=holds_no_more,
      headers=CLOSE)  # fmt: skip
def check_fail_short(reply, route):
    assert reply.code in {502, 503} or not reply.complete, "it looks like a whole response"
    holds_no_more(reply, route)


@case("wsgi-errors", "errors")
def check_errors(reply, _route):
    assert (reply.code, reply.body) == (200, b"noted")


# close().


@case("close-is-called", "env")
def check_close(_reply, route):
    path, headers = journal(route, "closing")
    assert route.ask(Request("/closing", headers=headers)).body == b"one two"
    wait_until_noted(path, "closed")
    assert path.read_text("ascii") == "closed\n"


@case("close-is-called-after-an-error", "env")
def check_close_failed(_reply, route):
    path, headers = journal(route, "failed")
    assert route.ask(Request("/closing_failed", headers=headers)).code == 500
    wait_until_noted(path, "closed")
    assert path.read_text("ascii") == "closed\n"


@case("close-is-called-when-the-client-is-gone", "env", needs=["abort"])
def check_close_abort(_reply, route):
    path, headers = journal(route, "gone")
    request = Request("/closing_endless", headers=headers)
    with route.connect() as connection:
        connection.send_head(request)
        assert connection.read_head(request).code == 200
        assert connection.read_some()
    wait_until_noted(path, "closed")
    assert path.read_text("ascii") == "closed\n"
