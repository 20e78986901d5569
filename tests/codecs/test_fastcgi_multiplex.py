"""Several FastCGI requests on one connection, and the Filter's two streams."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecs_harness import deliveries
from portico.codecs import _fastcgi_multiplex as multiplex
from portico.codecs import fastcgi
from portico.codecs._fastcgi_records import Values, record, tail
from portico.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.events import (
    AbortReceived,
    BodyEnded,
    BodyReceived,
    DataEnded,
    DataReceived,
    RequestReceived,
    RequestRefused,
)
from portico.limits import Limits

RESPONDER, AUTHORIZER, FILTER = 1, 2, 3
BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES = range(1, 10)
STATES = ["PARAMS", "STDIN", "DATA", "ANSWER", "ABORTED"]


def begin(request_id, role=RESPONDER, *, keep=True):
    return record(BEGIN, request_id, bytes((0, role, keep, 0, 0, 0, 0, 0)))


def params(**pairs):
    return fastcgi.encode_pairs(pairs.items())


def make(most=8, **limits):
    return multiplex.MultiplexCodec(
        Limits(**limits),
        roles=(RESPONDER, AUTHORIZER, FILTER),
        values=Values(10, 5, multiplexes=True),
        most=most,
    )


class Told:
    """What a codec reported of one request."""

    def __init__(self):
        self.environ, self.body, self.data, self.ends = None, b"", b"", []

    def take(self, event):
        kind = type(event)
        if kind is RequestReceived:
            assert self.environ is None
            self.environ = event.environ
            if event.complete:
                self.ends.append("body")
        elif kind is BodyReceived:
            self.body += event.data
        elif kind is DataReceived:
            self.data += event.data
        else:
            self.ends.append({BodyEnded: "body", DataEnded: "data", AbortReceived: "abort",
                              RequestRefused: "refused"}[kind])  # fmt: skip

    def __eq__(self, other):
        return vars(self) == vars(other)

    __hash__ = None

    def __repr__(self):
        return repr(vars(self))


def told(codec, chunks):
    """Everything that *codec* makes of *chunks*, by request."""
    requests = {}
    for chunk in chunks:
        for event in codec.receive_data(chunk):
            requests.setdefault(event.request_id, Told()).take(event)
    return requests


INTERLEAVED = (
    begin(1)
    + begin(7, FILTER)
    + record(PARAMS, 7, params(FCGI_DATA_LENGTH="4", CONTENT_LENGTH="2"))
    + record(PARAMS, 1, params(A="1")[:2])
    + begin(300, AUTHORIZER)
    + record(PARAMS, 7)
    + record(STDIN, 7, b"i")
    + record(PARAMS, 1, params(A="1")[2:])
    + record(PARAMS, 300, params(C="3"))
    + record(PARAMS, 1)
    + record(STDIN, 1, b"body")
    + record(STDIN, 7, b"n more than promised")
    + record(PARAMS, 300)
    + record(STDIN, 7)
    + record(DATA, 7, b"da")
    + record(STDIN, 1)
    + record(DATA, 7, b"ta")
    + record(STDIN, 300)
    + record(DATA, 7)
)


def test_requests_are_kept_apart_however_they_are_cut():
    for chunks in deliveries(INTERLEAVED):
        requests = told(make(), chunks)
        assert requests.keys() == {1, 7, 300}
        assert (requests[1].environ, requests[1].body) == ({"A": "1"}, b"body")
        assert (requests[7].body, requests[7].data) == (b"in", b"data")
        assert requests[7].ends == ["body", "data"]
        assert (requests[300].environ, requests[300].ends) == ({"C": "3"}, ["body"])


@pytest.mark.parametrize("sent_before", [0, 1, 2, 3, 4, 6, 8, 10, 12])
def test_a_server_codec_hands_over_in_any_state(sent_before):
    """The one-request codec holds what it cannot do, and its successor misses nothing."""
    records = [
        begin(1), record(PARAMS, 1, params(A="1")), record(PARAMS, 1), record(STDIN, 1, b"one "),
        begin(3), record(PARAMS, 3, params(B="2")), record(STDIN, 1, b"two"), record(PARAMS, 3),
        record(STDIN, 3), record(STDIN, 1), begin(5), record(PARAMS, 5), record(STDIN, 5),
    ]  # fmt: skip
    codec = fastcgi.ServerCodec(Limits(), most=4)
    requests = {}

    def take(events):
        for event in events:
            told_of = requests.setdefault(event.request_id, Told())
            told_of.take(event)
            told_of.body += getattr(event, "body", b"")

    take(codec.receive_data(b"".join(records[:sent_before])))
    assert codec.crowded == (sent_before > 4)
    codec = codec.several()
    take(codec.receive_data(b""))
    take(codec.receive_data(b"".join(records[sent_before:])))
    assert {number: one.body for number, one in requests.items()} == {1: b"one two", 3: b"", 5: b""}
    assert [one.environ for one in requests.values()] == [{"A": "1"}, {"B": "2"}, {}]
    assert all(one.ends == ["body"] for one in requests.values())


def test_without_room_for_several_the_second_is_rejected():
    codec = fastcgi.ServerCodec(Limits())
    codec.receive_data(begin(1) + record(PARAMS, 1) + begin(2))
    assert not codec.crowded
    assert codec.data_to_send() == record(END, 2, b"\0\0\0\0\1\0\0\0")


def test_who_asks_for_multiplexing_is_served_by_it():
    codec = fastcgi.ServerCodec(Limits(), most=2)
    codec.receive_data(record(GET_VALUES, 0, params(FCGI_MAX_CONNS="")))
    assert not codec.crowded
    codec.data_to_send()
    codec.receive_data(record(GET_VALUES, 0, params(FCGI_MPXS_CONNS="")))
    assert codec.crowded
    assert params(FCGI_MPXS_CONNS="1") in codec.data_to_send()


def test_a_filter_needs_the_other_codec_even_alone():
    codec = fastcgi.ServerCodec(Limits(), roles=(RESPONDER, FILTER))
    assert codec.receive_data(begin(1, FILTER) + record(PARAMS, 1)) == []
    assert codec.crowded
    (event,) = codec.several().receive_data(b"")
    assert (event.role, event.complete) == (FILTER, False)


@pytest.mark.parametrize(("most", "status"), [(1, 1), (3, 2)])
def test_requests_beyond_the_cap_are_rejected_and_discarded(most, status):
    codec = make(most=most)
    numbers = range(1, most + 1)
    octets = b"".join(begin(number) + record(PARAMS, number) for number in numbers)
    assert len(codec.receive_data(octets)) == most
    extra = most + 1
    assert codec.receive_data(begin(extra) + record(PARAMS, extra) + record(STDIN, extra)) == []
    assert codec.data_to_send() == record(END, extra, bytes((0, 0, 0, 0, status, 0, 0, 0)))
    codec.send_response(1, "200 OK", [])
    assert len(codec.receive_data(begin(extra) + record(PARAMS, extra))) == 1


def test_thousands_of_begins_hold_nothing():
    codec = make(most=4)
    codec.receive_data(b"".join(begin(number) for number in range(1, 10_000)))
    assert len(codec._requests) == 4
    assert len(codec.data_to_send()) == 9_995 * 16


def test_parameters_of_all_requests_together_have_a_ceiling():
    codec = make(max_params_bytes=1000)
    for number in range(1, 8):
        codec.receive_data(begin(number) + record(PARAMS, number, bytes(900)))
    assert codec.data_to_send() == b"".join(
        record(END, number, b"\0\0\0\0\2\0\0\0") for number in (5, 6, 7)
    )
    codec.receive_data(record(ABORT, 1) + begin(9) + record(PARAMS, 9, bytes(900)))
    assert codec.data_to_send() == record(END, 1, bytes(8)), "what was given up makes room"


def test_one_requests_bad_parameters_leave_the_others_alone():
    codec = make()
    events = codec.receive_data(
        begin(1) + begin(2)
        + record(PARAMS, 1, b"\x05\x05A") + record(PARAMS, 2, params(B="2"))
        + record(PARAMS, 1) + record(PARAMS, 2)
    )  # fmt: skip
    refused, event = events
    assert (type(refused), refused.request_id, refused.error.status_hint) == (
        RequestRefused,
        1,
        400,
    )
    assert event.environ == {"B": "2"}
    codec.refuse_request(1, 400)
    answer = codec.data_to_send()
    assert answer.startswith(record(STDOUT, 1)[:4])
    assert answer.endswith(tail(1))
    assert codec.receive_data(record(STDIN, 1, b"late") + record(STDIN, 2)) != []


def test_too_many_parameter_octets_are_one_requests_fault():
    codec = make(max_params_bytes=1000)
    (event,) = codec.receive_data(begin(1) + record(PARAMS, 1, bytes(1001)))
    assert type(event.error) is LimitExceeded
    assert (event.error.option, event.error.status_hint) == ("max_params_bytes", 431)


BROKEN = [
    pytest.param(b"\2" + bytes(7), "version", id="version-2"),
    pytest.param(begin(1), "active", id="begin-of-an-active-request"),
    pytest.param(record(BEGIN, 9, b"\0\1"), "octets", id="short-begin"),
    pytest.param(record(STDIN, 0), "id 0", id="stdin-with-id-0"),
    pytest.param(record(GET_VALUES, 1), "GET_VALUES", id="get-values-with-an-id"),
    pytest.param(record(PARAMS, 1), "state", id="params-after-their-end"),
    pytest.param(begin(9) + record(STDIN, 9), "state", id="stdin-before-params"),
    pytest.param(begin(9, FILTER) + record(PARAMS, 9) + record(DATA, 9), "before the end",
                 id="data-before-stdin-ended"),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "why"), BROKEN)
def test_broken_records_end_the_connection_after_what_was_good(octets, why):
    codec = make()
    codec.receive_data(begin(1) + record(PARAMS, 1))
    events = codec.receive_data(record(STDIN, 1, b"good") + octets)
    assert events[0].data == b"good"
    assert codec.pending
    with pytest.raises(RemoteProtocolError, match=why):
        codec.receive_data(b"")
    assert codec.refuse(400) == b""


@pytest.mark.parametrize("early", ["stdin", "data"])
def test_a_stream_that_ends_early_is_an_abort(early):
    codec = make()
    start = begin(1, FILTER) + record(
        PARAMS, 1, params(CONTENT_LENGTH="3", FCGI_DATA_LENGTH="5")
    ) + record(PARAMS, 1)  # fmt: skip
    stdin = record(STDIN, 1, b"abc") + record(STDIN, 1)
    more = record(STDIN, 1, b"a") + record(STDIN, 1) if early == "stdin" else (
        stdin + record(DATA, 1, b"data") + record(DATA, 1)
    )  # fmt: skip
    *_, last = codec.receive_data(start + more)
    assert type(last) is AbortReceived


def test_an_end_of_file_aborts_what_is_not_complete():
    codec = make()
    codec.receive_data(
        begin(1) + record(PARAMS, 1) + begin(2) + record(PARAMS, 2) + record(STDIN, 2) + begin(3)
    )
    assert [event.request_id for event in codec.receive_eof()] == [1]
    assert not codec.keep_open
    with pytest.raises(LocalProtocolError):
        codec.send_response(3, "200 OK", [])
    codec.send_response(2, "200 OK", [])


def test_an_abort_of_what_was_not_reported_is_answered_here():
    codec = make()
    assert codec.receive_data(begin(4) + record(ABORT, 4)) == []
    assert codec.data_to_send() == record(END, 4, bytes(8))
    assert codec.idle


def test_responses_bear_their_ids_and_end_their_errors():
    codec = make()
    codec.receive_data(begin(1) + record(PARAMS, 1) + begin(2) + record(PARAMS, 2))
    assert codec.send_errors(2, b"oops") == record(STDERR, 2, b"oops")
    first = codec.send_response(1, "200 OK", [], b"one", end=False)
    second = codec.send_response(2, "200 OK", [], b"two")
    assert first == record(STDOUT, 1, b"Status: 200 OK\r\n\r\none")
    assert second.endswith(record(STDOUT, 2) + record(STDERR, 2) + record(END, 2, bytes(8)))
    assert codec.send_body(1, b"", end=True) == tail(1)
    with pytest.raises(LocalProtocolError):
        codec.send_body(1, b"more")


def test_one_connection_closes_when_any_request_wanted_it():
    codec = make()
    codec.receive_data(begin(1) + begin(2, keep=False))
    assert not codec.keep_open


def state_of(codec, name):
    """Bring request 1 of *codec* into a state."""
    role = FILTER if name == "DATA" else RESPONDER
    codec.receive_data(begin(1, role))
    if name != "PARAMS":
        codec.receive_data(record(PARAMS, 1))
    if name in {"DATA", "ANSWER"}:
        codec.receive_data(record(STDIN, 1))
    if name == "ABORTED":
        codec.receive_data(record(ABORT, 1))
    assert codec._requests[1].state == getattr(multiplex, name)


@pytest.mark.parametrize(
    ("name", "kind", "empty"), [*product(STATES, [2, 3, 4, 5, 6, 7, 8, 11, 200], (False, True))]
)
def test_codec_agrees_with_its_table(name, kind, empty):
    codec = make()
    state_of(codec, name)
    number = getattr(multiplex, name)
    expected = multiplex.TRANSITIONS.get((number, kind, empty or kind == ABORT))
    octets = record(kind, 1, b"" if empty else b"\1\1Ab")
    if expected is not None:
        codec.receive_data(octets)
        assert codec._requests[1].state == expected
    elif kind in {PARAMS, STDIN}:
        with pytest.raises(RemoteProtocolError):
            codec.receive_data(octets)
    elif kind == ABORT:
        codec.receive_data(octets)
        assert 1 not in codec._requests
    else:
        codec.receive_data(octets)
        assert codec._requests[1].state == number


RECORDS = st.lists(
    st.builds(
        record,
        st.integers(0, 12),
        st.integers(0, 4),
        st.sampled_from([b"", b"\0\1\1\0\0\0\0\0", b"\0\3\0\0\0\0\0\0", b"\1\1Ab", b"x" * 40]),
    ),
    max_size=20,
).map(b"".join)


@given(RECORDS, st.lists(st.integers(0, 400), max_size=5))
def test_nothing_else_is_raised_however_it_is_cut(octets, places):
    """The same of every request, and the same refusal, whole or in pieces."""

    def run(chunks):
        codec = make(most=3)
        requests, fault = {}, ""
        try:
            for chunk in chunks:
                events = codec.receive_data(chunk)
                while True:
                    for event in events:
                        requests.setdefault(event.request_id, []).append(type(event).__name__)
                    if not codec.pending:
                        break
                    events = codec.receive_data(b"")
        except RemoteProtocolError as error:
            fault = str(error)
        owed = codec.data_to_send()
        codec.receive_eof()
        return requests, fault, owed

    cuts = sorted({min(place, len(octets)) for place in places} | {0, len(octets)})
    pieces = [octets[one:two] for one, two in pairwise(cuts)]
    assert run(pieces) == run([octets])
