import pytest
from hypothesis import given

import trace_harness as harness
from portico.trace.items import END, FRONTEND, LOST, SERVER
from vectors import ajp as vectors
from vectors.ajp import FIELDS, FIVE, PLAIN, octets

CAPTURES = harness.captures("ajp")

#: The index's words for packets.
KINDS = {"cping": "CPing", "forward": "Forward Request", "body": "body"}


def frontend(text):
    return harness.dissect("ajp", FRONTEND, octets(text))


def server(text):
    return harness.dissect("ajp", SERVER, octets(text))


def messages(items):
    return [fault.text for fault in harness.faults(items)]


def kinds(items):
    return [item.name for item in items]


def group(item, name):
    return [[field.name, field.value] for field in item.fields if field.group == name]


# -- what real web servers sent --------------------------------------------------------------


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_the_packets_of_the_index(capture):
    items = harness.dissect("ajp", FRONTEND, harness.load(capture["file"]))
    packets = [item for item in items if item.name != END]
    if capture["packets"] is None:  # too many for the index to list
        body = capture["requests"][0]["expect"]["framing"]["body_packets"]
        assert kinds(packets) == ["Forward Request"] + ["body"] * body
        return
    assert [(item.name, item.size - 4) for item in packets] == [
        (KINDS[packet[0]], packet[1]) for packet in capture["packets"]
    ]
    for item, (kind, *sizes) in zip(packets, capture["packets"], strict=True):
        if kind == "body":
            assert item.detail.split(", ")[0] == (f"{sizes[1]} octets" if sizes[1] else "end mark")


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_have_the_requests_of_the_index(capture):
    items = harness.dissect("ajp", FRONTEND, harness.load(capture["file"]))
    forwards = [item for item in items if item.name == "Forward Request"]
    for item, request in zip(forwards, capture["requests"], strict=True):
        expect = request["expect"]
        forward = dict(expect["forward_request"])
        code = forward.pop("method_code")
        fields = dict(group(item, ""))
        method = forward.pop("method")
        assert fields.pop("method") == (method if code != 255 else "(stored)")
        assert fields == {k: None if v is None else str(v) for k, v in forward.items()}
        method = dict(expect["attributes"]).get("stored_method", method)
        assert item.detail.startswith(f"{method} {forward['req_uri']}")
        assert len(group(item, "headers")) == expect["header_count"]
        if "headers" in expect:
            assert group(item, "headers") == expect["headers"]
        assert group(item, "attributes") == [[k, str(v)] for k, v in expect["attributes"]]
        assert group(item, "request attributes") == expect["req_attributes"]
    faulty = [item.name for item in items if item.faults]
    whole = all(request["expect"]["complete"] for request in capture["requests"])
    assert faulty == ([] if whole else [END])


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_are_the_same_however_cut(capture):
    data = harness.load(capture["file"])
    harness.assert_same_however_cut("ajp", FRONTEND, data, every=False)


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_cut_short_say_so(capture):
    data = harness.load(capture["file"])
    for size in {1, 3, 9, len(data) - 1}:
        harness.assert_broken("ajp", FRONTEND, data[:size])


# -- vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.HEADS])
def test_good_heads_have_no_fault(param):
    (item,) = frontend(f"{{ {param.values[0]} }}")
    assert item.name == "Forward Request"
    assert messages([item]) == []
    harness.assert_same_however_cut("ajp", FRONTEND, octets(f"{{ {param.values[0]} }}"))


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.CONNECTIONS])
def test_good_connections(param):
    text, requests = param.values
    items = frontend(text)
    assert kinds(items).count("Forward Request") == len(requests)
    found = messages(items)
    if "no-inner-length" in param.id:
        assert found == ["no inner length, as of lighttpd's mod_ajp13"]
    elif "empty-packets" in param.id:
        assert set(found) == {"an empty packet where a Forward Request is due"}
    else:
        assert found == []
    harness.assert_same_however_cut("ajp", FRONTEND, octets(text))


@pytest.mark.parametrize("text", harness.texts(*vectors.BROKEN))
def test_broken_requests_name_the_rule(text):
    harness.assert_broken("ajp", FRONTEND, octets(text))
    harness.assert_same_however_cut("ajp", FRONTEND, octets(text), every=False)


@pytest.mark.parametrize("param", [pytest.param(p, id=p.id) for p in vectors.RESPONSES])
def test_good_responses(param):
    status, headers, body, text = param.values
    items = server(text)
    assert (items[0].name, items[-1].name) == ("Send Headers", "End Response")
    assert items[0].detail.startswith(f"status {status.strip()}")
    assert len(items[0].fields) == len(headers)
    assert b"".join(item.preview for item in items[1:]) == body
    lying = any(name == "Content-Length" and int(value) != len(body) for name, value in headers)
    assert messages(items) == [] or (lying and body)
    harness.assert_same_however_cut("ajp", SERVER, octets(text))


#: What only the other direction shows to be out of place.
OF_BOTH = {"cpong-without-cping", "wanted-twice"}


@pytest.mark.parametrize(
    "text", harness.texts(*(p for p in vectors.BROKEN_RESPONSES if p.id not in OF_BOTH))
)
def test_broken_responses_name_the_rule(text):
    harness.assert_broken("ajp", SERVER, octets(text))
    harness.assert_same_however_cut("ajp", SERVER, octets(text))


@pytest.mark.parametrize(
    "text", harness.texts(*(p for p in vectors.BROKEN_RESPONSES if p.id in OF_BOTH))
)
def test_what_needs_the_other_direction_is_no_fault(text):
    assert messages(server(text)) == []


# -- what is said ----------------------------------------------------------------------------


def test_a_request_is_described():
    head, body = frontend(f"{FIVE} {{ 00 05 'hello' }}")
    assert head.detail == "POST /a, 1 header, 0 attributes"
    assert group(head, "") == [
        ["method", "POST"], ["protocol", "HTTP/1.1"], ["req_uri", "/a"],
        ["remote_addr", "192.0.2.1"], ["remote_host", None], ["server_name", "example.test"],
        ["server_port", "80"], ["is_ssl", "0"],
    ]  # fmt: skip
    assert group(head, "headers") == [["content-length", "5"]]
    assert (body.name, body.detail, body.preview) == ("body", "5 octets, 0 to come", b"hello")


def test_a_response_is_described():
    items = server(
        '[ 06 1F FA ] [ 04 00 C8 "OK" 00 01 A0 01 "text/plain" ] [ 03 00 02 \'hi\' 00 ]'
        " [ 03 00 00 00 ] [ 05 00 ] [ 09 ]"
    )
    assert [(item.name, item.detail) for item in items] == [
        ("Get Body Chunk", "at most 8186 octets"),
        ("Send Headers", "status 200 OK, 1 header"),
        ("Send Body Chunk", "2 octets"),
        ("Send Body Chunk", "flush"),
        ("End Response", "close connection"),
        ("CPong", ""),
    ]
    assert items[1].fields == [("Content-Type", "text/plain", "")]


def test_a_body_nobody_read_is_followed_by_the_next_request():
    items = frontend(f"{FIVE} {{ 00 03 'hel' }} {PLAIN} {{ 0A }}")
    assert kinds(items) == ["Forward Request", "body", "Forward Request", "CPing"]
    assert "not asked for" in items[2].detail
    assert messages(items) == []


def test_an_end_mark_may_answer_a_request_for_more():
    assert messages(frontend(f"{PLAIN} {{ }} {PLAIN} {{ 00 00 }}")) == []
    assert messages(frontend(f"{PLAIN} {{ }} {{ }}")) == [
        "an empty packet where a Forward Request is due"
    ]


def test_it_goes_on_behind_a_broken_request():
    items = frontend(f'{{ 02 00 {FIELDS} 00 01 A0 0F "x" FF }} {PLAIN}')
    assert kinds(items) == ["Forward Request", "Forward Request"]
    assert messages(items) == ["there is no method code 0", "there is no header code A00F"]
    assert group(items[0], "headers") == [["A00F", "x"]]


def test_without_its_magic_all_is_lost():
    items = frontend(f"{PLAIN} 'GET / HTTP/1.1'")
    assert kinds(items) == ["Forward Request", LOST]
    assert items[1].preview == b"GET / HTTP/1.1"
    assert messages(items) == ["a packet begins with 12 34, not 47 45"]


def test_faults_of_one_packet_are_bounded():
    headers = ' "X" "a\nb"' * 500
    (item,) = frontend(f"{{ 02 02 {FIELDS} 01 F4 {headers} FF }}")
    assert len(item.faults) == 13
    assert item.faults[-1].text == "and more, which are not listed"


# -- any octets ------------------------------------------------------------------------------

SAMPLES = [octets(f"{{ {param.values[0]} }}") for param in vectors.HEADS]
SAMPLES += [octets(param.values[0]) for param in (*vectors.CONNECTIONS, *vectors.BROKEN)]
SAMPLES += [octets(param.values[0]) for param in vectors.BROKEN_RESPONSES]
SAMPLES += [octets(param.values[3]) for param in vectors.RESPONSES]


@given(harness.DIRECTIONS, harness.hostile(SAMPLES), harness.CUTS)
def test_any_octets_are_explained_however_cut(direction, data, cuts):
    harness.assert_survives("ajp", direction, data, cuts)
