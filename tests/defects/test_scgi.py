"""What the scgi package 2.2 does wrong: defects 65 to 67 of `listing`."""

from __future__ import annotations

import signal

import pytest

from engine_harness import Frontend, Held, Process, Running, hello, until
from portico.codecs import scgi
from portico.config.settings import Settings
from portico.errors import ConfigError, LimitExceeded
from portico.limits import Limits
from portico.transports.bind import parse
from portico.transports.listen import open_listener


def test_defect_65_nothing_listens_on_all_interfaces_by_itself():
    assert Settings().bind == ()
    for url in ("scgi://:4000", "scgi://*:4000", "scgi://0.0.0.0:0", "scgi://[::]:0"):
        with pytest.raises(ConfigError):
            open_listener(parse(url))


def block(length):
    pairs = b"CONTENT_LENGTH\0" + length + b"\0SCGI\x001\0REQUEST_METHOD\0POST\0"
    return b"%d:%b," % (len(pairs), pairs)


@pytest.mark.parametrize("length", [b"", b"-1", b"-5", b"1_0", b"x", b" 5", b"\xb2", b"9" * 30])
def test_defect_66_a_bad_length_is_a_400_and_no_more(length):
    with Running(hello, "scgi") as server:
        with server.connect("scgi") as frontend:
            frontend.send(block(length))
            assert frontend.finish().status == "400 Bad Request"
        with server.connect("scgi") as frontend:
            frontend.send(b"12:not a netstring")
            assert frontend.ends() in {"eof", "reset"}
        assert server.ask("scgi").body == b"hello"
        assert server.workers() == 1


def test_defect_66_a_head_is_gathered_without_copying_it_again_and_again(monkeypatch):
    pairs = b"CONTENT_LENGTH\x000\0SCGI\x001\0HTTP_LONG\0" + b"x" * 60_000 + b"\0"
    octets = b"%d:%b," % (len(pairs), pairs)
    looks = []
    receive = scgi.ServerCodec._receive_head
    monkeypatch.setattr(
        scgi.ServerCodec,
        "_receive_head",
        lambda self, data: looks.append(len(data)) or receive(self, data),
    )
    codec = scgi.ServerCodec(Limits())
    events = [event for octet in octets for event in codec.receive_data(bytes((octet,)))]
    assert len(events) == 1
    assert len(looks) < 20
    with pytest.raises(LimitExceeded):
        scgi.ServerCodec(Limits(max_params_bytes=50_000)).receive_data(octets[:6])


def test_defect_67_a_request_that_finds_all_busy_waits_and_is_served():
    held = Held()
    with Running(held, "scgi", threads=1) as server:
        first = server.connect("scgi")
        first.begin("/held")
        held.wait_entered()
        others = [server.connect("scgi") for _ in range(20)]
        for number, frontend in enumerate(others):
            frontend.begin(f"/{number}")
        held.gate.set()
        assert first.finish().whole
        assert [bytes(frontend.finish().body) for frontend in others] == [
            b"/%d" % number for number in range(20)
        ]


SERVER = """\
import sys
import portico

def application(environ, start_response):
    sys.stderr.write("entered")
    sys.stderr.flush()
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]

portico.serve(application, "scgi+unix://" + sys.argv[1])
"""


def test_defect_67_sigterm_lets_a_running_request_finish(tmp_path):
    path = tmp_path / "s"
    with Process(tmp_path, "-c", SERVER, path) as process:
        until(path.exists, "the socket")
        with Frontend("scgi", str(path)) as frontend:
            frontend.begin(length=8, end=False)
            process.wait_for("entered")
            process.signal(signal.SIGTERM)
            frontend.more(b"finished", end=True)
            assert frontend.finish().body == b"finished"
        assert process.ends() == 0
