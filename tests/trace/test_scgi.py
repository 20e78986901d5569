import hashlib

import pytest
from hypothesis import given

import trace_harness as harness
from portico.trace.items import END, FRONTEND, LOST, SERVER
from vectors import scgi as vectors
from vectors.scgi import octets

CAPTURES = harness.captures("scgi")


def frontend(text):
    return harness.dissect("scgi", FRONTEND, octets(text))


def server(data):
    return harness.dissect("scgi", SERVER, data)


def messages(items):
    return [fault.text for fault in harness.faults(items)]


def kinds(items):
    return [item.name for item in items]


# -- what real web servers sent --------------------------------------------------------------

#: Rules of SCGI that nginx breaks, by the case.
REPEATS = [
    f"{name} comes more than once" for name in ("HTTP_X_DUP", "HTTP_COOKIE", "HTTP_ACCEPT_LANGUAGE")
]


def expected_faults(capture):
    case = capture["id"].rpartition("/")[2]
    unbuffered = "nginx-unbuffered" in capture["id"]
    if case == "get-query-utf8-dup" and "nginx" in capture["id"]:
        return REPEATS
    faults = []
    if unbuffered and case in ("abort-upload", "post-expect-100"):
        faults.append("as nginx does with scgi_request_buffering off")
    if not capture["requests"][0]["expect"]["complete"]:
        faults.append("missing of CONTENT_LENGTH")
    return faults


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_what_the_index_says(capture):
    items = harness.dissect("scgi", FRONTEND, harness.load(capture["file"]))
    expect = capture["requests"][0]["expect"]
    pairs = items[0].fields
    flat = "".join(f"{pair.name}\0{pair.value}\0" for pair in pairs).encode("latin-1")
    assert (len(pairs), pairs[0].name) == (
        expect["variable_count"], expect["framing"]["first_variable"]
    )  # fmt: skip
    assert hashlib.sha256(flat).hexdigest() == expect["variables_sha256"]
    body = expect.get("body_bytes_after_header", expect["body_length"])
    assert sum(item.size for item in items if item.name == "body") == body
    assert kinds(items) in (["netstring", "body"], ["netstring"], ["netstring", END])


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_break_the_rules_that_are_known(capture):
    found = messages(harness.dissect("scgi", FRONTEND, harness.load(capture["file"])))
    for text, expected in zip(found, expected_faults(capture), strict=True):
        assert text.endswith(expected)


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_the_same_however_cut(capture):
    data = harness.load(capture["file"])
    harness.assert_same_however_cut("scgi", FRONTEND, data, every=False)


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_cut_short_say_so(capture):
    data = harness.load(capture["file"])
    for size in {1, 3, 9, len(data) // 2, len(data) - 1}:
        harness.assert_broken("scgi", FRONTEND, data[:size])


# -- vectors ---------------------------------------------------------------------------------

TOO_SMALL = (
    "CONTENT_LENGTH is 1 where the client announced 5: as nginx does with"
    " scgi_request_buffering off"
)

#: Requests that Portico serves though they break a rule -> the faults.
TOLERATED = {
    "content-length-not-first": ["CONTENT_LENGTH is not the first header"],
    "content-length-repeated-equal": ["CONTENT_LENGTH comes more than once"],
    "repeated-headers-joined": [
        "HTTP_X comes more than once", "HTTP_COOKIE comes more than once"
    ],
    "nginx-unbuffered-length-too-small": [TOO_SMALL],
    "nginx-stock-unbuffered-length-too-small": [TOO_SMALL],
    "other-servers-are-taken-at-their-word": [TOO_SMALL],
}  # fmt: skip


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.REQUESTS])
def test_good_requests(param):
    text, environ, body = param.values
    items = frontend(text)
    assert messages(items) == TOLERATED.get(param.id, [])
    assert {field.name for field in items[0].fields} == set(environ)
    shown = b"".join(item.preview for item in items if item.name == "body")
    assert shown == (b"hello" if "at-their-word" in param.id else body)
    harness.assert_same_however_cut("scgi", FRONTEND, octets(text))


@pytest.mark.parametrize("text", harness.texts(*vectors.BROKEN))
def test_broken_requests_name_the_rule(text):
    harness.assert_broken("scgi", FRONTEND, octets(text))
    harness.assert_same_however_cut("scgi", FRONTEND, octets(text))


# -- what is said ----------------------------------------------------------------------------


def test_a_request_is_described():
    head, body = frontend(
        "58:CONTENT_LENGTH<0>5<0>SCGI<0>1<0>REQUEST_METHOD<0>PUT<0>REQUEST_URI<0>/a<0>,hello"
    )
    assert (head.name, head.detail) == ("netstring", "58 octets, 4 headers, PUT /a")
    assert (body.name, body.detail, body.preview) == ("body", "5 of 5 octets", b"hello")


def test_it_goes_on_behind_a_wrong_comma_and_a_leading_zero():
    items = frontend("024:CONTENT_LENGTH<0>2<0>SCGI<0>1<0>;hi")
    assert kinds(items) == ["netstring", "body"]
    assert messages(items) == [
        "the length begins with 0", "the netstring ends in b';' instead of a comma"
    ]  # fmt: skip


def test_without_a_length_all_is_lost():
    items = frontend("GET / HTTP/1.1")
    assert kinds(items) == [LOST]
    assert items[0].preview == b"GET / HTTP/1.1"


def test_octets_behind_the_request_have_no_meaning():
    items = frontend("24:CONTENT_LENGTH<0>2<0>SCGI<0>1<0>,hi, and more")
    assert kinds(items) == ["netstring", "body", LOST]
    assert messages(items) == []


def test_headers_beyond_what_is_held_are_counted():
    data = b"2000000:" + bytes(2_000_000) + b","
    (item,) = harness.dissect("scgi", FRONTEND, data)
    assert "not decoded" in item.detail
    assert item.fields == []


def test_a_response_is_described():
    head, body = server(b"Status: 404 Not Found\r\nX: y\r\n\r\nhello")
    assert (head.detail, head.size) == ("status 404 Not Found, 2 headers", 31)
    assert head.fields == [("Status", "404 Not Found", ""), ("X", "y", "")]
    assert (body.offset, body.detail, body.preview) == (31, "5 octets", b"hello")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"X: y", "before the end of its head", id="head-cut"),
        pytest.param(b"x y\n\n", "not a header line: 'x y'", id="no-header"),
        pytest.param(b"Status: abc\n\n", "not a status: 'abc'", id="status"),
        pytest.param(b"Status: 100 Continue\n\n", "no final status", id="interim"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", "HTTP status line", id="http"),
        pytest.param(b"Transfer-Encoding: chunked\n\n", "web server alone", id="hop-by-hop"),
        pytest.param(b"X: a\x01b\n\n", "control character", id="control"),
        pytest.param(b"Content-Length: -1\n\n", "not one length: '-1'", id="length"),
        pytest.param(b"Content-Length: 1\nContent-Length: 2\n\n", "not one", id="two-lengths"),
        pytest.param(b"Content-Length: 1\n\nab", "says 1, the body has 2 octets", id="too-long"),
        pytest.param(b"Content-Length: 3\n\nab", "says 3, the body has 2 octets", id="too-short"),
        pytest.param(b"Status: 304 Not Modified\n\nab", "status 304 has none", id="no-body"),
        pytest.param(b"X" * 300_000, "no blank line", id="endless-head"),
    ],
)
def test_broken_responses_name_the_rule(data, words):
    (fault,) = harness.assert_broken("scgi", SERVER, data)
    assert words in fault.text
    harness.assert_same_however_cut("scgi", SERVER, data, every=False)


@pytest.mark.parametrize("data", [b"\n", b"\r\nbody", b"Content-Length: 5\n\n", b""])
def test_heads_without_a_line_and_bodies_left_out_are_right(data):
    assert messages(server(data)) == []


# -- any octets ------------------------------------------------------------------------------

SAMPLES = [octets(param.values[0]) for param in (*vectors.REQUESTS, *vectors.BROKEN)]
SAMPLES += [b"Status: 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 OK\r\n\r\n"]


@given(harness.DIRECTIONS, harness.hostile(SAMPLES), harness.CUTS)
def test_any_octets_are_explained_however_cut(direction, data, cuts):
    harness.assert_survives("scgi", direction, data, cuts)
