"""What uWSGI, gunicorn, Plack and Go do wrong: defects 68 to 71 of `listing`."""

from __future__ import annotations

import os
from contextlib import closing, suppress

import pytest

from codecs_harness import COMPLETE, collect
from defects import wire
from defects.wire import BOTH, begin, params, record, records, refuses
from engine_harness import PROTOCOLS, Running, environ_for, hello, reading
from portico.codecs import fastcgi, uwsgi
from portico.core.environ import EnvironRules
from portico.errors import RemoteProtocolError
from portico.events import AbortReceived
from portico.limits import Limits
from portico.params import SINGLE
from portico.transports.bind import parse
from portico.transports.listen import open_listener

each = pytest.mark.parametrize("protocol", PROTOCOLS)


# -- uWSGI's FastCGI -------------------------------------------------------------------------


@pytest.mark.parametrize("make", BOTH)
def test_defect_68_a_request_is_that_of_its_id(make):
    block = fastcgi.encode_pairs([("REQUEST_METHOD", "GET")])
    octets = (
        begin(5)
        + record(wire.PARAMS, 6, b"\1\1Xx")  # of a request that was never begun
        + record(wire.PARAMS, 5, block[:9])
        + record(wire.GET_VALUES, 0)
        + record(wire.PARAMS, 5, block[9:])
        + record(wire.PARAMS, 6)
        + record(wire.PARAMS, 5)
        + record(wire.STDIN, 6)
    )
    codec = make()
    (event,) = codec.receive_data(octets)
    assert (event.request_id, event.environ) == (5, {"REQUEST_METHOD": "GET"})
    assert codec.data_to_send() == record(wire.GET_VALUES_RESULT, 0)
    assert [type(event) for event in codec.receive_data(record(wire.ABORT, 5))] == [AbortReceived]
    assert {number for _, number, _ in records(codec.send_response(5, "200 OK", []))} == {5}


def test_defect_68_a_connection_is_kept_where_the_web_server_wants_it():
    with Running(hello, "fastcgi") as server, server.connect("fastcgi") as frontend:
        for _ in range(3):
            answer = frontend.ask()
            assert (answer.body, answer.reusable) == (b"hello", True)
        frontend.send(begin(role=9))
        assert frontend.sock.recv(100) == record(wire.END, 1, b"\0\0\0\0\3\0\0\0")


# -- gunicorn's uwsgi ------------------------------------------------------------------------


@each
def test_defect_69_the_scheme_is_not_taken_from_the_wire(protocol):
    seen = []

    def app(environ, start_response):
        seen.append(environ["wsgi.url_scheme"])
        return hello(environ, start_response)

    with Running(app, protocol) as server:
        server.ask(protocol, **{"wsgi.url_scheme": "https", "wsgi_url_scheme": "https"})
    assert seen == ["http"]


def octets_of(*pairs, body=b""):
    parts = []
    for text in [text for pair in pairs for text in pair]:
        parts += (len(text).to_bytes(2, "little"), text.encode("latin-1"))
    block = b"".join(parts)
    return b"\0" + len(block).to_bytes(2, "little") + b"\0" + block + body


@pytest.mark.parametrize("length", ["x", "-1", "+5", "1_0", " 5", "5 ", "5, 5", "\xb2", "9" * 30])
def test_defect_69_a_length_that_is_none_is_refused(length):
    pairs = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", length)]
    with pytest.raises(RemoteProtocolError) as caught:
        uwsgi.ServerCodec(Limits()).receive_data(octets_of(*pairs, body=b"\0\0\0\0"))
    assert caught.value.status_hint == 400


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_defect_69_two_values_of_what_there_is_one_of_are_refused(name):
    twice = octets_of((name, "1"), ("REQUEST_METHOD", "1"), (name, "2"))
    with pytest.raises(RemoteProtocolError, match="two different values"):
        uwsgi.ServerCodec(Limits()).receive_data(twice)


def test_defect_69_networks_are_allowed_and_unix_peers_looked_at(tmp_path):
    with closing(open_listener(parse("uwsgi://127.0.0.1:0?allow=10.0.0.0/8,2001:db8::/32"))) as one:
        for host, may in (("10.1.2.3", 1), ("11.0.0.1", 0), ("2001:db8::7", 1), ("::1", 0)):
            assert one.permits(-1, (host, 1)) == bool(may)
    path = tmp_path / "s"
    for user, may in ((os.getuid(), True), (os.getuid() + 1, False)):
        bind = f"uwsgi+unix://{path}?allow_uid={user}"
        with Running(hello, binds=[bind]) as server, server.connect("uwsgi") as frontend:
            if may:
                assert frontend.ask().body == b"hello"
            else:
                with suppress(BrokenPipeError, ConnectionResetError):
                    frontend.begin()
                assert frontend.ends() in {"eof", "reset"}
                assert server.log.having("is not allowed")


# -- Plack's FCGI ----------------------------------------------------------------------------


def test_defect_70_a_socket_is_never_open_to_all(tmp_path, monkeypatch):
    """Whatever the umask, and not for an instant."""
    path = tmp_path / "s"
    seen = []
    for name in ("link", "rename", "replace"):
        real = getattr(os, name)

        def watching(*arguments, real=real, **options):
            seen.append(os.stat(arguments[0], follow_symlinks=False).st_mode & 0o777)  # noqa: PTH116
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, watching)
    before = os.umask(0)
    try:
        with closing(open_listener(parse(f"fastcgi+unix://{path}"))):
            assert path.lstat().st_mode & 0o777 == 0o660
    finally:
        os.umask(before)
    assert 0o660 in seen  # before it had its name


@pytest.mark.parametrize("software", ["nginx/1.22.1", "lighttpd/1.4.69", "Apache/2.4.71", ""])
def test_defect_70_a_path_that_was_sent_is_not_made_anew(software):
    """Rebuilding undoes what the web server rewrote."""
    environ = environ_for("/rewritten", SERVER_SOFTWARE=software, REQUEST_URI="/as/asked?q")
    assert EnvironRules({}).finish(environ)["PATH_INFO"] == "/rewritten"


# -- Go's net/http/fcgi ----------------------------------------------------------------------


@pytest.mark.parametrize("make", BOTH)
def test_defect_71_truncated_parameters_are_refused(make):
    block = fastcgi.encode_pairs([("REQUEST_METHOD", "GET"), ("HTTP_HOST", "example.test")])
    for cut in {*range(1, len(block))} - {2 + 17}:
        octets = begin() + record(wire.PARAMS, 1, block[:cut]) + record(wire.PARAMS)
        assert refuses(make(), [octets])


def test_defect_71_ids_in_flight_and_their_parameters_are_bounded():
    codec = wire.multiplexed(max_params_bytes=4096)
    for number in range(1, 1000):
        codec.receive_data(begin(number))
    assert len(records(codec.data_to_send())) == 995
    sent = 0
    while not refuses(codec, [record(wire.PARAMS, 1 + sent % 4, b"x" * 1000)]):
        sent += 1
        assert sent < 40, "nobody counts the parameters"


def test_defect_71_a_blocked_body_does_not_stall_the_others():
    codec = wire.multiplexed()
    stuck = begin(1) + params(1, CONTENT_LENGTH="100") + record(wire.STDIN, 1, b"part")
    codec.receive_data(stuck)
    for number in (2, 3, 4):
        (got,) = collect(
            codec, [begin(number) + params(number, A="b") + record(wire.STDIN, number)],
            respond=False,
        )  # fmt: skip
        assert got.outcome == COMPLETE
        sent = records(codec.send_response(number, "200 OK", [], b"whole", end=True))
        assert sent[-1][:2] == (wire.END, number)


def test_defect_71_a_request_stuck_in_its_body_does_not_stall_the_connection():
    with Running(reading, "fastcgi") as server, server.connect("fastcgi") as frontend:
        environ = environ_for(method="POST", CONTENT_LENGTH="100")
        frontend.send(begin(1) + params(1, **environ) + record(wire.STDIN, 1, b"part"))
        for number in range(2, 10):
            frontend.send(begin(number) + params(number, **environ_for()))
            frontend.send(record(wire.STDIN, number))
        octets, ended = b"", []
        while len(ended) < 8:
            data = frontend.sock.recv(65_536)
            assert data, "the connection closed"
            octets += data
            with suppress(AssertionError):  # a record is not whole yet
                ended = [n for kind, n, _ in records(octets) if kind == wire.END]
        assert sorted(ended) == [*range(2, 10)]
        frontend.send(record(wire.STDIN, 1, bytes(96)) + record(wire.STDIN, 1))
        while not octets.endswith(record(wire.END, 1, bytes(8))):
            data = frontend.sock.recv(65_536)
            assert data, "the connection closed"
            octets += data
        assert b"\r\n\r\n100" in octets
