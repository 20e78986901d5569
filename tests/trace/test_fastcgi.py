import hashlib

import pytest
from hypothesis import example, given

import trace_harness as harness
from portico.trace.fastcgi import NAMES, ROLES
from portico.trace.items import END, FRONTEND, SERVER
from vectors import fastcgi as vectors

CAPTURES = harness.captures("fastcgi")


def octets(text):
    return bytes.fromhex("".join(text))


def frontend(text):
    return harness.dissect("fastcgi", FRONTEND, octets(text))


def server(text):
    return harness.dissect("fastcgi", SERVER, octets(text))


def lines(items):
    return [(item.name, item.detail) for item in items]


def messages(items):
    return [fault.text for fault in harness.faults(items)]


# -- what real web servers sent --------------------------------------------------------------


def is_whole(capture):
    return all(request["expect"]["complete"] for request in capture["requests"])


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_the_records_of_the_index(capture):
    items = harness.dissect("fastcgi", FRONTEND, harness.load(capture["file"]))
    records = [item for item in items if item.name != END]
    assert len(records) == capture["record_count"]
    if sequence := capture["record_type_sequence"]:  # not listed where there are hundreds
        assert [item.name for item in records] == [NAMES[kind] for kind in sequence]
    if is_whole(capture):
        assert harness.faults(items) == []
    else:
        assert [item.name for item in items if item.faults] == [END]


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_have_the_requests_of_the_index(capture):
    items = harness.dissect("fastcgi", FRONTEND, harness.load(capture["file"]))
    begins = [item for item in items if item.name == "FCGI_BEGIN_REQUEST"]
    params = [[]]
    for item in items:
        if item.name == "FCGI_PARAMS":
            params[-1] += item.fields
            if "end of stream" in item.detail:
                params.append([])
    for begin, pairs, request in zip(begins, params[:-1], capture["requests"], strict=True):
        expect = request["expect"]
        framing = expect["framing"]
        keep = "keep connection" if framing["flags"] & 1 else "close after"
        assert begin.detail == f"id {framing['request_id']}, {ROLES[framing['role']]}, {keep}"
        flat = "".join(f"{pair.name}\0{pair.value}\0" for pair in pairs).encode("latin-1")
        assert len(pairs) == expect["variable_count"]
        assert hashlib.sha256(flat).hexdigest() == expect["variables_sha256"]


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_the_same_however_cut(capture):
    data = harness.load(capture["file"])
    harness.assert_same_however_cut("fastcgi", FRONTEND, data, every=False)


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_cut_short_say_so(capture):
    data = harness.load(capture["file"])
    for size in {1, 7, 9, len(data) // 2, len(data) - 1}:
        harness.assert_broken("fastcgi", FRONTEND, data[:size])


# -- vectors ---------------------------------------------------------------------------------

#: Requests that Portico serves though they break a rule -> the fault.
TOLERATED = {
    "excess-in-a-record-of-its-own-is-dropped": "CONTENT_LENGTH says 5, the stream has 10",
    "excess-within-a-record-is-dropped": "CONTENT_LENGTH says 5, the stream has 7",
    "all-beyond-a-length-of-0-is-dropped": "CONTENT_LENGTH says 0, the stream has 5",
    "short-of-its-length": "CONTENT_LENGTH says 5, the stream has 2",
    "nothing-of-its-length": "CONTENT_LENGTH says 5, the stream has 0",
    "cut-by-end-of-file": "FCGI_STDIN has not ended: 5 octets came",
    "cut-within-a-record": "the record is cut: 3 octets missing",
    "begin-longer-than-8-octets": "10 octets of content, must be 8",
    "management-records-between": "99 is no record type of FastCGI 1.0",
    "types-of-no-use-are-skipped": "12 is no record type of FastCGI 1.0",
    "records-of-unknown-requests-are-discarded": "request 7 was not begun",
    "a-second-request-changes-nothing-of-the-first": "FCGI_STDIN before the end of FCGI_PARAMS",
}


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.REQUESTS])
def test_good_requests_have_no_fault_but_those_known(param):
    found = messages(frontend(param.values[0]))
    assert found[:1] == ([TOLERATED[param.id]] if param.id in TOLERATED else [])


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.REQUESTS])
def test_requests_are_the_same_however_cut(param):
    data = octets(param.values[0])
    harness.assert_same_however_cut("fastcgi", FRONTEND, data, every=len(data) < 400)


@pytest.mark.parametrize("text", harness.texts(*vectors.BROKEN, *vectors.BROKEN_LATER))
def test_broken_requests_name_the_rule(text):
    harness.assert_broken("fastcgi", FRONTEND, octets(text))
    harness.assert_same_however_cut("fastcgi", FRONTEND, octets(text))


@pytest.mark.parametrize("text", harness.texts(*vectors.BROKEN_PAIRS))
def test_broken_pairs_name_the_rule(text):
    size = len(octets(text))
    stream = f"01 04 0001 {size:04x} 00 00 {text}"
    (fault,) = harness.assert_broken(
        "fastcgi",
        FRONTEND,
        octets([vectors.BEGIN, stream, vectors.END_PARAMS, vectors.END_STDIN]),
    )
    assert fault == ("a name-value pair runs past the end of the stream", "FastCGI 1.0 §3.4")


@pytest.mark.parametrize(("text", "pairs"), vectors.PAIRS)
def test_pairs_however_records_cut_them(text, pairs):
    block = octets(text)
    for size in (1, 2, 3, 7, 65_535):
        stream = [
            f"01 04 0001 {len(part):04x} 00 00 {part.hex()}"
            for part in (block[at : at + size] for at in range(0, len(block), size))
        ]
        if len(stream) > 1000:
            continue
        items = frontend([vectors.BEGIN, *stream, vectors.END_PARAMS, vectors.END_STDIN])
        assert [(f.name, f.value) for item in items for f in item.fields] == pairs
        assert harness.faults(items) == []


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.RESPONSES])
def test_good_responses(param):
    data = octets(param.values[0])
    items = harness.dissect("fastcgi", SERVER, data)
    heads = [item for item in items if "status 200 OK" in item.detail]
    assert len(heads) == 1
    left_out = {
        "no-empty-stdout", "a-record-for-each-octet-of-the-head", "management-records-are-skipped",
        "unknown-type-is-skipped", "appstatus-is-ignored",
    }  # fmt: skip
    if param.id in left_out:
        assert "FCGI_STDOUT has no empty record as its end" in messages(items)
    else:
        assert messages(items) == []
    harness.assert_same_however_cut("fastcgi", SERVER, data, every=len(data) < 400)


#: What refuses a request as the specification says: no rule is broken.
REFUSALS = {"cant-mpx-conn", "overloaded", "unknown-role"}


@pytest.mark.parametrize(
    "text",
    harness.texts(
        *(param for param in vectors.BROKEN_RESPONSES if param.id not in REFUSALS),
        *vectors.BROKEN_LATER_RESPONSES,
    ),
)
def test_broken_responses_name_the_rule(text):
    harness.assert_broken("fastcgi", SERVER, octets(text))
    harness.assert_same_however_cut("fastcgi", SERVER, octets(text))


@pytest.mark.parametrize(
    "text", harness.texts(*(p for p in vectors.BROKEN_RESPONSES if p.id in REFUSALS))
)
def test_refusals_break_no_rule(text):
    (item,) = server(text)
    assert item.faults == []
    assert item.detail.split(", ")[1] in {
        "FCGI_CANT_MPX_CONN", "FCGI_OVERLOADED", "FCGI_UNKNOWN_ROLE"
    }  # fmt: skip


# -- what is said ----------------------------------------------------------------------------


def test_a_request_is_described():
    items = frontend([
        vectors.BEGIN_KEEP, "01 04 0001 0004 05 00 01014162 0000000000", vectors.END_PARAMS,
        vectors.HELLO, vectors.END_STDIN,
    ])  # fmt: skip
    assert lines(items) == [
        ("FCGI_BEGIN_REQUEST", "id 1, responder, keep connection"),
        ("FCGI_PARAMS", "id 1, 4 octets, padding 5"),
        ("FCGI_PARAMS", "id 1, end of stream, 1 parameter in all"),
        ("FCGI_STDIN", "id 1, 5 octets"),
        ("FCGI_STDIN", "id 1, end of stream, 5 octets in all"),
    ]
    assert items[1].fields == [("A", "b", "")]
    assert items[3].preview == b"hello"


def test_multiplexed_requests_are_followed_each():
    def of(number, text):
        return octets(text)[:2] + number.to_bytes(2) + octets(text)[4:]

    parts = [vectors.BEGIN, vectors.LENGTH_5, vectors.END_PARAMS, vectors.HELLO, vectors.END_STDIN]
    data = b"".join(of(number, part) for part in parts for number in (1, 2, 700))
    items = harness.dissect("fastcgi", FRONTEND, data)
    assert len(items) == 15
    assert harness.faults(items) == []


def test_other_versions_are_read_on():
    items = frontend([
        "02" + vectors.BEGIN[2:], vectors.PARAMS, vectors.END_PARAMS, vectors.END_STDIN
    ])  # fmt: skip
    assert len(items) == 4
    assert messages(items) == ["version 2, must be 1"]


def test_a_filter():
    begin = vectors.BEGIN.replace("0001 00 0000000000", "0003 00 0000000000")
    end_data = "01 08 0001 0000 00 00"
    good = [begin, vectors.PARAMS, vectors.END_PARAMS, vectors.END_STDIN]
    assert messages(frontend([*good, "01 08 0001 0001 00 00 78", end_data])) == []
    assert messages(frontend(good)) == ["FCGI_DATA has not ended: 0 octets came"]
    assert messages(frontend([*good[:3], end_data, vectors.END_STDIN])) == [
        "FCGI_DATA before the end of FCGI_STDIN"
    ]


def test_an_authorizer_needs_no_stdin():
    begin = vectors.BEGIN.replace("0001 00 0000000000", "0002 00 0000000000")
    assert messages(frontend([begin, vectors.PARAMS, vectors.END_PARAMS])) == []


def test_management_records():
    ask = "01 09 0000 0010 00 00  0E 00 46 43 47 49 5F 4D 41 58 5F 43 4F 4E 4E 53"
    (item,) = frontend(ask)
    assert (item.name, item.detail) == ("FCGI_GET_VALUES", "1 name")
    assert item.fields == [("FCGI_MAX_CONNS", "", "")]
    told = "01 0A 0000 0011 00 00  0E 01 46 43 47 49 5F 4D 41 58 5F 43 4F 4E 4E 53 37"
    (item, unknown) = server([told, "01 0B 0000 0008 00 00 6300000000000000"])
    assert item.fields == [("FCGI_MAX_CONNS", "7", "")]
    assert (unknown.name, unknown.detail) == ("FCGI_UNKNOWN_TYPE", "type 99")


def test_a_body_that_its_length_contradicts():
    head = "01 06 0001 0016 00 00" + b"Content-Length: 3\r\n\r\nx".hex()
    assert messages(server([head, vectors.END_STDOUT, vectors.END_REQUEST])) == [
        "Content-Length says 3, the body has 1 octet"
    ]


# -- any octets ------------------------------------------------------------------------------

SAMPLES = [
    octets(param.values[0])
    for param in (
        *vectors.REQUESTS, *vectors.BROKEN, *vectors.BROKEN_LATER, *vectors.RESPONSES,
        *vectors.BROKEN_RESPONSES, *vectors.BROKEN_LATER_RESPONSES,
    )
]  # fmt: skip


@given(harness.DIRECTIONS, harness.hostile([s for s in SAMPLES if len(s) < 400]), harness.CUTS)
@example(FRONTEND, b"", [])
def test_any_octets_are_explained_however_cut(direction, data, cuts):
    harness.assert_survives("fastcgi", direction, data, cuts)
