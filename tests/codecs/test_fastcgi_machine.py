"""The FastCGI codecs' states against their tables, every record type in every state."""

from __future__ import annotations

from itertools import product

import pytest

from portico.codecs import _fastcgi_client as client_side
from portico.codecs import fastcgi
from portico.errors import RemoteProtocolError
from portico.limits import Limits

KINDS = [*range(13), 255]
STATES = ["IDLE", "PARAMS", "STDIN", "ANSWER", "ABORTED"]
CLIENT_STATES = ["CLIENT_HEAD", "CLIENT_BODY", "CLIENT_ENDED", "CLIENT_ABORTED", "CLIENT_IDLE"]
HEAD = b"Status: 200 OK\n\n"


def record(kind: int, content: bytes = b"", request_id: int = 1) -> bytes:
    size = len(content).to_bytes(2)
    return bytes((1, kind)) + request_id.to_bytes(2) + size + b"\0\0" + content


BEGIN = record(1, b"\0\1\1\0\0\0\0\0")

#: What brings a server's codec from IDLE to a state.
WAYS = {
    "IDLE": b"",
    "PARAMS": BEGIN,
    "STDIN": BEGIN + record(4),
    "ANSWER": BEGIN + record(4) + record(5),
    "ABORTED": BEGIN + record(4) + record(2),
}

#: What brings a client's codec there from CLIENT_HEAD.
CLIENT_WAYS = {
    "CLIENT_IDLE": record(6, HEAD) + record(3, bytes(8)),
    "CLIENT_HEAD": b"",
    "CLIENT_BODY": record(6, HEAD),
    "CLIENT_ENDED": record(6, HEAD) + record(6),
    "CLIENT_ABORTED": b"",
}


def server_in(state: str) -> fastcgi.ServerCodec:
    codec = fastcgi.ServerCodec(Limits())
    codec.receive_data(WAYS[state])
    assert codec._state == getattr(fastcgi, state)
    return codec


def client_in(state: str) -> fastcgi.ClientCodec:
    codec = fastcgi.ClientCodec(Limits())
    codec.send_request({})
    if state == "CLIENT_ABORTED":
        codec.abort()
    codec.receive_data(CLIENT_WAYS[state])
    assert codec._state == getattr(client_side, state)
    return codec


def content_for(kind: int) -> bytes:
    """Content that is well formed in a record of that type."""
    return {1: b"\0\1\1\0\0\0\0\0", 3: bytes(8), 4: b"\1\1Ab"}.get(kind, b"abc")


@pytest.mark.parametrize(("state", "kind", "empty"), [*product(STATES, KINDS, (False, True))])
def test_server_agrees_with_its_table(state, kind, empty):
    codec = server_in(state)
    number = getattr(fastcgi, state)
    expected = fastcgi.TRANSITIONS.get((number, kind, empty))
    discarded = kind in fastcgi.SKIPPED or (state == "IDLE" and kind not in (1, 9))
    octets = record(kind, b"" if empty else content_for(kind))
    if expected is None and discarded:
        assert codec.receive_data(octets) == []
        assert codec._state == number
    elif expected is None:
        with pytest.raises(RemoteProtocolError):
            codec.receive_data(octets)
        assert codec._state == number
    else:
        codec.receive_data(octets)
        assert codec._state == expected


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [1, 2, 4, 5, 8, 12])
def test_records_of_other_requests_change_no_state(state, kind):
    codec = server_in(state)
    before = codec._state
    assert codec.receive_data(record(kind, content_for(kind), request_id=2)) == []
    begins = state == "IDLE" and kind == 1
    assert codec._state == (fastcgi.PARAMS if begins else before)


@pytest.mark.parametrize("state", STATES[1:])
@pytest.mark.parametrize("way", ["response", "body", "abort"])
def test_the_answers_end_leads_to_idle(state, way):
    codec = server_in(state)
    if way == "response":
        codec.send_response(1, "200 OK", [])
    elif way == "body":
        codec.send_body(1, b"", end=True)
    else:
        codec.abort(1)
    assert codec._state == fastcgi.IDLE
    codec.receive_data(BEGIN + record(4, b"\1\1Ab"))
    (event,) = codec.receive_data(record(4))
    assert event.environ == {"A": "b"}


@pytest.mark.parametrize("state", STATES[1:])
def test_an_answer_that_goes_on_leads_nowhere(state):
    codec = server_in(state)
    codec.send_response(1, "200 OK", [], end=False)
    codec.send_body(1, b"more")
    assert codec._state == getattr(fastcgi, state)


@pytest.mark.parametrize("state", ["ANSWER", "ABORTED"])
def test_the_next_request_waits_in_these_states(state):
    codec = server_in(state)
    assert codec.receive_data(BEGIN + record(4)) == []
    assert codec.pending
    codec.send_response(1, "200 OK", [])
    (event,) = codec.receive_data(b"")
    assert (event.environ, codec.pending) == ({}, False)


@pytest.mark.parametrize(
    ("state", "kind", "empty"), [*product(CLIENT_STATES, KINDS, (False, True))]
)
def test_client_agrees_with_its_table(state, kind, empty):
    codec = client_in(state)
    number = getattr(client_side, state)
    expected = client_side.CLIENT_TRANSITIONS.get((number, kind, empty))
    octets = record(kind, b"" if empty else HEAD if kind == 6 else bytes(8))
    if expected is None and kind > 11 and state != "CLIENT_IDLE":
        assert codec.receive_data(octets) == []
        assert codec._state == number
    elif expected is None:
        with pytest.raises(RemoteProtocolError):
            codec.receive_data(octets)
    else:
        codec.receive_data(octets)
        assert codec._state == expected


def test_the_tables_name_every_state():
    for table, module, names in (
        (fastcgi.TRANSITIONS, fastcgi, STATES),
        (client_side.CLIENT_TRANSITIONS, client_side, CLIENT_STATES),
    ):
        known = {getattr(module, name) for name in names}
        assert len(known) == len(names)
        assert {state for state, _, _ in table} | set(table.values()) == known
