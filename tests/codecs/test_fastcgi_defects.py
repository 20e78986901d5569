"""Defects of other FastCGI implementations, each as the test that this one passes.

Numbers are those of the list that was made when the others were read.
"""

from __future__ import annotations

import pytest

from codecs_harness import collect, deliveries
from portico.codecs import fastcgi
from portico.errors import LimitExceeded, RemoteProtocolError
from portico.events import AbortReceived, RequestReceived
from portico.limits import Limits


def record(kind: int, request_id: int = 1, content: bytes = b"", padding: int = 0) -> bytes:
    header = bytes((1, kind)) + request_id.to_bytes(2) + len(content).to_bytes(2)
    return header + bytes((padding, 0)) + content + bytes(padding)


def begin(request_id: int = 1, role: int = 1, flags: int = 1) -> bytes:
    return record(1, request_id, role.to_bytes(2) + bytes((flags, 0, 0, 0, 0, 0)))


def server() -> fastcgi.ServerCodec:
    return fastcgi.ServerCodec(Limits(), max_conns=7, max_reqs=16)


def serving() -> fastcgi.ServerCodec:
    """A codec with request 1, complete and not answered."""
    codec = server()
    codec.receive_data(begin() + record(4) + record(5))
    return codec


def records(octets: bytes) -> list[tuple[int, int, bytes]]:
    """Take records apart: type, id, content."""
    found = []
    at = 0
    while at < len(octets):
        size = int.from_bytes(octets[at + 4 : at + 6])
        content = octets[at + 8 : at + 8 + size]
        assert len(content) == size
        found.append((octets[at + 1], int.from_bytes(octets[at + 2 : at + 4]), content))
        at += 8 + size + octets[at + 6]
    assert at == len(octets)
    return found


def test_1_flup_a_pair_across_records_makes_no_new_variable():
    # the value of A holds what would be REMOTE_USER=root, were a record's start a pair's start
    inner = fastcgi.encode_pairs([("REMOTE_USER", "root")])
    block = fastcgi.encode_pairs([("A", "x" * 9 + inner.decode("latin-1"))])
    for cut in range(len(block) + 1):
        stream = (
            begin()
            + record(4, 1, block[:cut] or block)
            + (record(4, 1, block[cut:]) if 0 < cut < len(block) else b"")
        )
        for chunks in ([stream + record(4) + record(5)], [stream, record(4) + record(5)]):
            (got,) = collect(server(), chunks)
            assert list(got.environ) == ["A"]


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(record(1, 1, b"\0\1"), id="short-begin"),
        pytest.param(record(1, 1), id="empty-begin"),
        pytest.param(begin() + record(4, 1, b"\5\5A") + record(4), id="cut-pair"),
        pytest.param(begin() + record(4, 1, b"\x80") + record(4), id="cut-length"),
    ],
)
def test_19_flup_malformed_records_raise_nothing_unforeseen(octets):
    for chunks in deliveries(octets):
        with pytest.raises(RemoteProtocolError):
            collect(server(), chunks)


def test_26_flup_53_wfastcgi_61_gevent_get_values_is_answered_with_what_is_known():
    codec = server()
    names = ["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS", "FCGI_NO_SUCH", "FCGI_MAX_REQS"]
    codec.receive_data(record(9, 0, fastcgi.encode_pairs((name, "") for name in names)))
    ((kind, request_id, content),) = records(codec.data_to_send())
    assert (kind, request_id) == (10, 0)
    assert dict(fastcgi.decode_pairs(content)) == {
        "FCGI_MAX_CONNS": "7",
        "FCGI_MAX_REQS": "16",
        "FCGI_MPXS_CONNS": "0",
    }


def test_26_the_answer_to_65535_octets_of_names_is_small():
    codec = server()
    asked = fastcgi.encode_pairs([("FCGI_MAX_CONNS", "")] * 4095)
    codec.receive_data(record(9, 0, asked[:65520]))
    assert len(codec.data_to_send()) == 25


def test_29_flup_a_response_that_broke_off_has_no_end():
    codec = serving()
    begun = codec.send_response(1, "200 OK", [], b"begun", end=False)
    codec.abort(1)
    assert [kind for kind, _, _ in records(begun + codec.data_to_send())] == [6]
    assert not codec.keep_open


def test_34_flup_parameters_beyond_64_kib_are_split():
    environ = {f"HTTP_X_{n}": "v" * 1000 for n in range(200)}
    octets = fastcgi.ClientCodec(Limits()).send_request(environ)
    sizes = [len(content) for kind, _, content in records(octets) if kind == 4]
    assert len(sizes) == 5
    assert sizes[-1] == 0
    assert all(0 < size <= 65535 for size in sizes[:-1])
    (got,) = collect(server(), [octets])
    assert got.environ == environ


def test_34_flup_a_client_does_not_wait_for_ever_on_an_unknown_id():
    client = fastcgi.ClientCodec(Limits())
    client.send_request({})
    with pytest.raises(RemoteProtocolError):
        client.receive_data(record(6, 7, b"X: y\n\n"))


def test_36_flup_48_wfastcgi_the_rest_of_a_delivery_is_not_cut_again_for_each_record():
    codec = server()
    codec.receive_data(begin() + record(4))
    sent = record(5, 1, b"x" * 8184) * 128
    body = 0
    for at in range(0, len(sent), 65536):
        events = codec.receive_data(sent[at : at + 65536])
        assert len(events) == 1
        body += len(events[0].data)
        assert len(codec._rest) < 8192
    assert body == 128 * 8184


def test_40_flup_unknown_management_types_are_answered():
    for kind in (0, 10, 11, 12, 255):
        codec = server()
        assert codec.receive_data(record(kind, 0, b"anything")) == []
        assert codec.data_to_send() == record(11, 0, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))


def test_47_wfastcgi_unknown_ids_are_discarded():
    codec = server()
    for kind in (2, 4, 5, 8):
        assert codec.receive_data(record(kind, 99, b"x" * 100)) == []
    assert codec.data_to_send() == b""
    assert type(codec.receive_data(begin() + record(4))[0]) is RequestReceived


def test_47_wfastcgi_what_is_no_fastcgi_is_refused_at_its_first_octet():
    for octet in {*range(256)} - {1}:
        with pytest.raises(RemoteProtocolError, match=f"version {octet}"):
            server().receive_data(bytes((octet,)))


def test_51_wfastcgi_stdout_ends_once():
    codec = serving()
    octets = codec.send_response(1, "200 OK", [], end=False)
    octets += codec.send_body(1, b"") + codec.send_body(1, b"one") + codec.send_body(1, b"two")
    octets += codec.send_body(1, b"", end=True)
    assert [(kind, bool(content)) for kind, _, content in records(octets)] == [
        (6, True),
        (6, True),
        (6, True),
        (6, False),
        (3, True),
    ]


def test_53_wfastcgi_keep_conn_roles_and_aborts_are_heeded():
    codec = server()
    codec.receive_data(begin(flags=0) + record(4))
    assert not codec.keep_open
    assert [type(event) for event in codec.receive_data(record(2))] == [AbortReceived]
    codec = server()
    codec.receive_data(begin(role=3))
    assert records(codec.data_to_send()) == [(3, 1, b"\0\0\0\0\3\0\0\0")]


@pytest.mark.parametrize("size", [65535, 65536, 131_072, 1_000_003])
def test_58_gevent_a_chunk_of_any_size_is_split(size):
    codec = serving()
    codec.send_response(1, "200 OK", [], end=False)
    chunk = bytes(range(251)) * (size // 251 + 1)
    chunk = chunk[:size]
    sent = records(codec.send_body(1, chunk))
    assert b"".join(content for _, _, content in sent) == chunk
    assert all(content for _, _, content in sent)


def test_59_gevent_data_to_a_responder_is_skipped():
    codec = server()
    octets = begin() + record(4) + record(8, 1, b"data") + record(5, 1, b"x") + record(5)
    assert codec.receive_data(octets + record(8))[0].body == b"x"


def test_59_gevent_stdin_after_its_end_is_the_peers_fault():
    codec = serving()
    with pytest.raises(RemoteProtocolError):
        codec.receive_data(record(5, 1, b"x"))


def test_60_gevent_parameters_have_ceilings():
    codec = fastcgi.ServerCodec(Limits(max_params=3))
    block = fastcgi.encode_pairs((f"N{n}", "") for n in range(4))
    with pytest.raises(LimitExceeded):
        codec.receive_data(begin() + record(4, 1, block) + record(4))
    assert codec.refuse(431).startswith(record(6)[:4])


def test_61_gevent_names_and_values_are_text():
    ((environ, _, _),) = collect(
        server(), [begin() + record(4, 1, b"\1\1Ab") + record(4) + record(5)]
    )
    assert {type(item) for pair in environ.items() for item in pair} == {str}


def test_68_uwsgi_the_request_id_is_that_of_its_begin():
    codec = server()
    octets = begin(5) + record(4, 6, b"\1\1Xx") + record(4, 5, b"\1\1Ab") + record(4, 6)
    (event,) = codec.receive_data(octets + record(4, 5) + record(5, 6) + record(9, 0))
    assert (event.request_id, event.environ) == (5, {"A": "b"})


def test_69_gunicorn_two_content_lengths_are_refused():
    block = fastcgi.encode_pairs([("CONTENT_LENGTH", "1"), ("CONTENT_LENGTH", "2")])
    with pytest.raises(RemoteProtocolError) as caught:
        server().receive_data(begin() + record(4, 1, block) + record(4))
    assert caught.value.status_hint == 400


@pytest.mark.parametrize(
    "value",
    ["", "-1", "+5", " 5", "5 ", "0x5", "1_0", "5.0", "\u00b2", "five", "9" * 30, "9" * 5000],
)
def test_69_gunicorn_junk_in_content_length_is_no_length(value):
    # Caddy 2.6 sends -1 for a chunked upload, nginx 1.22 nothing: STDIN's end is the truth.
    block = fastcgi.encode_pairs([("CONTENT_LENGTH", value)])
    for body in (b"", b"whatever its length"):
        content = record(5, 1, body) if body else b""
        octets = begin() + record(4, 1, block) + record(4) + content + record(5)
        for chunks in ([octets], [octets[:16], octets[16:]]):
            assert collect(server(), chunks) == [({"CONTENT_LENGTH": value}, body, "complete")]


def test_71_go_truncated_parameters_are_refused():
    block = fastcgi.encode_pairs([("REQUEST_METHOD", "GET"), ("HTTP_HOST", "example.test")])
    for cut in {*range(1, len(block))} - {2 + 17}:
        with pytest.raises(RemoteProtocolError):
            server().receive_data(begin() + record(4, 1, block[:cut]) + record(4))


def test_71_go_requests_in_flight_are_one():
    codec = server()
    codec.receive_data(begin(1))
    for request_id in range(2, 500):
        assert codec.receive_data(begin(request_id) + record(4, request_id, b"\1\1Ab")) == []
    rejected = records(codec.data_to_send())
    assert rejected == [(3, n, b"\0\0\0\0\1\0\0\0") for n in range(2, 500)]
    (event,) = codec.receive_data(record(4))
    assert (event.request_id, event.environ) == (1, {})


def test_ids_of_haproxy_follow_one_another():
    codec = server()
    for number in (1, 3, 5):
        (event,) = codec.receive_data(begin(number) + record(4, number) + record(5, number))
        assert (event.request_id, event.complete) == (number, True)
        sent = codec.send_response(number, "200 OK", [])
        assert {request_id for _, request_id, _ in records(sent)} == {number}
