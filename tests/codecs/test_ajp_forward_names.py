"""Names of headers over AJP are remembered, and only so many of them."""

from __future__ import annotations

import pytest

from portico.codecs import _ajp_forward, client_codec, server_codec_maker
from portico.limits import Limits


@pytest.fixture
def known(monkeypatch):
    """What is remembered, as at the start."""
    names = dict(_ajp_forward.PLAIN_HEADERS)
    monkeypatch.setattr(_ajp_forward, "_known_keys", names)
    return names


def decode(**headers):
    limits = Limits()
    sent = {
        "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_URI": "/",
        "PATH_INFO": "/", "SCRIPT_NAME": "", "SERVER_NAME": "www.example.test",
        "SERVER_PORT": "80", "REMOTE_ADDR": "192.0.2.7", **headers,
    }  # fmt: skip
    octets = client_codec("ajp", limits).send_request(sent)
    (event,) = server_codec_maker("ajp", limits)().receive_data(octets)
    return event.environ


def test_a_name_is_the_same_the_second_time(known):
    before = len(known)
    for _ in range(2):
        assert decode(HTTP_X_REQUEST_ID="one")["HTTP_X_REQUEST_ID"] == "one"
    assert len(known) == before + 1


def test_there_is_a_bound(known, monkeypatch):
    monkeypatch.setattr(_ajp_forward, "_MOST_NAMES", len(known) + 2)
    for number in range(5):
        assert decode(**{f"HTTP_X_{number}": "v"})[f"HTTP_X_{number}"] == "v"
    assert len(known) == _ajp_forward._MOST_NAMES


def test_long_names_are_not_remembered(known):
    name = "HTTP_X_" + "A" * 80
    assert decode(**{name: "v"})[name] == "v"
    assert known == dict(_ajp_forward.PLAIN_HEADERS)
