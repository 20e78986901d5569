"""Objects: what a small request makes is gone when it is answered."""

import gc
import socket
import sys

import pytest

from engine_harness import KEEPING, ONE_SHOT, PROTOCOLS, WAIT, Running, hello, request_octets
from portico.codecs import server_codec
from portico.core.environ import EnvironRules
from portico.events import BodyEnded, RequestReceived
from portico.limits import Limits

REQUESTS = 2_000

#: Blocks of memory that may stay: far below one a request.
MOST_BLOCKS = 400


def asker(server, protocol, *, keep):
    """Give a function that makes one request with few objects of its own."""
    octets = request_octets(protocol, "/page?x=1", b"body", keep=keep)
    address = ("127.0.0.1", server.ports[protocol])
    sockets = []

    def ask():
        if sockets:
            sock = sockets[0]
        else:
            sock = socket.create_connection(address, WAIT)
            if keep:
                sockets.append(sock)
        sock.sendall(octets)
        data = sock.recv(65_536)
        assert b"hello" in data
        if not keep:
            if protocol != "ajp":
                while sock.recv(65_536):
                    pass
            sock.close()

    return ask, sockets


@pytest.mark.parametrize(
    ("protocol", "keep"),
    [*((name, True) for name in KEEPING), *((name, False) for name in PROTOCOLS)],
)
def test_requests_leave_no_objects(protocol, keep):
    with Running(hello, protocol) as server:
        ask, sockets = asker(server, protocol, keep=keep)
        for _ in range(500):
            ask()
        server.engine._waiting.timers._forget()  # some hundred of closed connections may wait there
        gc.collect()
        blocks, objects = sys.getallocatedblocks(), len(gc.get_objects())
        for _ in range(REQUESTS):
            ask()
        server.engine._waiting.timers._forget()
        gc.collect()
        assert sys.getallocatedblocks() - blocks < MOST_BLOCKS
        assert len(gc.get_objects()) - objects < MOST_BLOCKS
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize(
    ("protocol", "keep"),
    [*((name, True) for name in KEEPING), *((name, False) for name in ONE_SHOT)],
)
def test_requests_leave_nothing_to_the_collector(protocol, keep):
    """Reference cycles would make it run, and stop all threads meanwhile."""
    with Running(hello, protocol) as server:
        ask, sockets = asker(server, protocol, keep=keep)
        for _ in range(50):
            ask()
        gc.collect()
        gc.disable()
        try:
            for _ in range(200):
                ask()
            assert gc.collect() < 20
        finally:
            gc.enable()
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", [b"", b"body"])
def test_ordinary_request_is_one_event(protocol, body):
    codec = server_codec(protocol, Limits())
    events = codec.receive_data(request_octets(protocol, "/page?x=1", body))
    assert [type(event) for event in events] == [RequestReceived]
    assert events[0].complete
    assert events[0].body == body
    assert codec.data_to_send() == b""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_environ_is_the_dictionary_that_was_decoded(protocol):
    event = server_codec(protocol, Limits()).receive_data(request_octets(protocol))[0]
    assert EnvironRules({}).finish(event.environ) is event.environ


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_body_in_pieces_is_one_event_a_read(protocol):
    octets = request_octets(protocol, body=b"b" * 60_000)
    codec = server_codec(protocol, Limits())
    counts = []
    for at in range(0, len(octets), 16_384):
        events = codec.receive_data(octets[at : at + 16_384])
        counts.append(sum(type(event) is not BodyEnded for event in events))
    assert max(counts) == 1
