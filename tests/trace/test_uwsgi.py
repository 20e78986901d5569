import hashlib

import pytest
from hypothesis import given

import trace_harness as harness
from portico.trace.items import END, FRONTEND, LOST, SERVER
from vectors import uwsgi as vectors
from vectors.uwsgi import octets

CAPTURES = harness.captures("uwsgi")


def frontend(text):
    return harness.dissect("uwsgi", FRONTEND, octets(text))


def server(data):
    return harness.dissect("uwsgi", SERVER, data)


def messages(items):
    return [fault.text for fault in harness.faults(items)]


def kinds(items):
    return [item.name for item in items]


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_what_the_index_says(capture):
    items = harness.dissect("uwsgi", FRONTEND, harness.load(capture["file"]))
    expect = capture["requests"][0]["expect"]
    framing = expect["framing"]
    pairs = items[0].fields
    flat = "".join(f"{pair.name}\0{pair.value}\0" for pair in pairs).encode("latin-1")
    assert len(pairs) == expect["variable_count"]
    assert hashlib.sha256(flat).hexdigest() == expect["variables_sha256"]
    assert items[0].size == framing["datasize"] + 4
    assert items[0].detail.startswith(f"modifier1 {framing['modifier1']} (WSGI")
    assert f"modifier2 {framing['modifier2']}, " in items[0].detail
    assert sum(item.size for item in items if item.name == "body") == expect["body_length"]
    if expect["complete"]:
        assert messages(items) == []
    else:
        assert messages(items) == ["the body is cut: 948576 octets missing of CONTENT_LENGTH"]


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_the_same_however_cut(capture):
    data = harness.load(capture["file"])
    harness.assert_same_however_cut("uwsgi", FRONTEND, data, every=False)


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_cut_short_say_so(capture):
    data = harness.load(capture["file"])
    for size in {1, 3, 9, len(data) // 2, len(data) - 1}:
        harness.assert_broken("uwsgi", FRONTEND, data[:size])


#: Requests that Portico serves though octets follow them.
EXCESS = {"modifier2-and-excess", "body-and-excess"}


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.REQUESTS])
def test_good_requests(param):
    text, environ, body = param.values
    items = frontend(text)
    excess = ["more than CONTENT_LENGTH follows the packet"] if param.id in EXCESS else []
    assert messages(items) == excess
    assert {field.name for field in items[0].fields} >= set(environ)
    assert b"".join(item.preview for item in items if item.name == "body") == body
    harness.assert_same_however_cut("uwsgi", FRONTEND, octets(text))


@pytest.mark.parametrize("text", harness.texts(*vectors.BROKEN))
def test_broken_requests_name_the_rule(text):
    harness.assert_broken("uwsgi", FRONTEND, octets(text))
    harness.assert_same_however_cut("uwsgi", FRONTEND, octets(text))


def test_a_request_is_described():
    head, body = frontend(
        "1E 2800 07 0E00 'REQUEST_METHOD' 0300 'GET' 0E00 'CONTENT_LENGTH' 0100 '5' 'hello'"
    )
    assert head.detail == (
        "modifier1 30 (WSGI, SCRIPT_NAME to be stripped), modifier2 7, 40 octets, 2 variables, GET"
    )
    assert (body.name, body.detail, body.preview) == ("body", "5 of 5 octets", b"hello")


def test_other_languages_have_the_same_variables():
    items = frontend("0E 0600 00 0100 'A' 0100 'b'")
    assert items[0].fields == [("A", "b", "")]
    assert messages(items) == ["modifier1 14 is no request for WSGI"]


def test_a_name_that_is_empty_is_read_over():
    items = frontend("00 0B00 00 0000 0100 'x' 0100 'A' 0100 'b'")
    assert items[0].fields == [("", "x", ""), ("A", "b", "")]
    assert messages(items) == ["the variable at 4 has an empty name"]


def test_a_packet_of_another_kind_is_not_read():
    items = frontend("16 0300 00 'abc' 'rest'")
    assert kinds(items) == ["packet", LOST]
    assert items[0].preview == b"abc"
    assert messages(items) == ["modifier1 22 is no request for WSGI"]


def test_a_response_is_described():
    head, body = server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
    assert (head.detail, body.detail) == ("status 200 OK, 1 header", "5 octets")
    assert messages([head, body]) == []


def test_the_head_of_cgi_is_a_fault():
    assert "no HTTP status line" in messages(server(b"Status: 200 OK\r\n\r\n"))[0]


def test_a_body_that_is_announced_and_missing():
    items = frontend("00 1300 00 0E00 'CONTENT_LENGTH' 0100 '5'")
    assert kinds(items) == ["packet", END]
    assert messages(items) == ["the body is cut: 5 octets missing of CONTENT_LENGTH"]


SAMPLES = [octets(param.values[0]) for param in (*vectors.REQUESTS, *vectors.BROKEN)]
SAMPLES += [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"Status: 200 OK\r\n\r\n"]


@given(harness.DIRECTIONS, harness.hostile(SAMPLES), harness.CUTS)
def test_any_octets_are_explained_however_cut(direction, data, cuts):
    harness.assert_survives("uwsgi", direction, data, cuts)
