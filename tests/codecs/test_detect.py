"""The codec of an `auto` listener: the first octet tells the protocol."""

from __future__ import annotations

import pytest

from codecs_harness import deliveries
from portico.codecs import PROTOCOLS, client_codec, server_codec, server_codec_maker
from portico.codecs.detect import FIRST_OCTETS
from portico.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from portico.events import ProtocolDetected, RequestReceived
from portico.limits import Limits

NAMES = sorted(set(PROTOCOLS.values()))

ENVIRON = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/a", "SERVER_NAME": "h", "SERVER_PORT": "80"}


def request(protocol):
    return client_codec(protocol, Limits()).send_request(ENVIRON)


@pytest.mark.parametrize("octet", range(256))
def test_each_first_octet_is_decided_at_once(octet):
    """As the protocols' pages say: 01, a digit but 0, 12, 00 and 30; nothing else begins one."""
    digits = b"123456789"
    expected = "scgi" if octet in digits else {1: "fastcgi", 0x12: "ajp", 0: "uwsgi", 30: "uwsgi"}
    if isinstance(expected, dict):
        expected = expected.get(octet)
    codec = server_codec("auto", Limits())
    if expected is None:
        with pytest.raises(RemoteProtocolError, match=f"octet {octet:02x} begins neither"):
            codec.receive_data(bytes([octet]))
        assert codec.refuse(400) == b""
    else:
        (event,) = codec.receive_data(bytes([octet]))
        assert type(event) is ProtocolDetected
        assert (event.protocol, event.data) == (expected, bytes([octet]))


@pytest.mark.parametrize("protocol", NAMES)
def test_the_protocol_s_codec_goes_on_however_the_octets_come(protocol):
    for chunks in deliveries(request(protocol)):
        codec = server_codec("auto", Limits())
        requests = []
        for chunk in chunks:
            events = codec.receive_data(chunk)
            if events and type(events[0]) is ProtocolDetected:
                assert codec.protocol == "auto"
                (found,) = events
                codec = server_codec(found.protocol, Limits())
                events = codec.receive_data(found.data)
            requests += [event for event in events if type(event) is RequestReceived]
        assert codec.protocol == protocol
        assert [one.environ["REQUEST_METHOD"] for one in requests] == ["GET"]


def test_a_connection_without_octets_is_nothing():
    codec = server_codec("auto", Limits())
    assert codec.receive_data(b"") == []
    assert codec.receive_eof() == []
    assert codec.data_to_send() == b""
    assert codec.keep_open
    assert not codec.pending


def test_nothing_can_be_answered_before_the_protocol_is_known():
    codec = server_codec("auto", Limits())
    for call in (
        lambda: codec.send_response(0, "200 OK", []),
        lambda: codec.send_body(0, b"x"),
        lambda: codec.send_body_parts(0, b"x"),
    ):
        with pytest.raises(LocalProtocolError):
            call()


def test_no_client_speaks_auto():
    with pytest.raises(ConfigError, match="only a listener tells protocols apart"):
        client_codec("auto", Limits())


def test_every_protocol_has_a_first_octet():
    assert sorted(set(FIRST_OCTETS.values())) == NAMES
    assert server_codec_maker("auto", Limits())().protocol == "auto"
