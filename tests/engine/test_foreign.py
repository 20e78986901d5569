"""Every listener before every kind of peer: over sockets, in the peer's own language."""

import socket
import ssl
import threading

import pytest

from engine_harness import PLAIN, PROTOCOLS, WAIT, Frontend, Running, in_background, until
from portico.codecs import client_codec, foreign
from portico.events import ResponseBodyReceived, ResponseEnded, ResponseReceived
from portico.limits import Limits
from vectors.foreign import ENVIRON, GARBAGE, INTRUDERS, MARK

LISTENERS = (*PROTOCOLS, "auto")

STRANGERS = {
    **{name: octets for name, (_, octets, _) in INTRUDERS.items()},
    **{f"garbage-{name}": octets for name, (octets, _) in GARBAGE.items()},
}


def serves(listener, name):
    """Whether the peer is none of a stranger to *listener*."""
    heard = INTRUDERS.get(name, ("",))[0]
    if listener == "scgi" and STRANGERS[name][:1].isdigit():
        return True
    return heard == listener or (listener == "auto" and heard in PROTOCOLS)


PAIRS = [
    pytest.param(listener, name, id=f"{name}-to-{listener}")
    for listener in LISTENERS
    for name in STRANGERS
    if not serves(listener, name)
]


def tells(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", PLAIN)
    return [environ["portico.protocol"].encode(), b" ", environ["portico.bind"].encode()]


@pytest.fixture(scope="module")
def running():
    with Running(tells, *LISTENERS, idle_timeout=60.0) as started:
        yield started


def frontend(running, protocol, listener, **options):
    return Frontend(protocol, ("127.0.0.1", running.ports[listener]), **options)


class Lines:
    """What is logged of one peer from here on; ports come again."""

    def __init__(self, running):
        self._records = running.log.records
        self._before = len(self._records)

    def of(self, name):
        texts = [record.getMessage() for record in self._records[self._before :]]
        return [text for text in texts if name in text]


def answer_to(running, listener, chunks):
    """Send *chunks*; gives all that comes until the connection ends, and its log lines."""
    lines = Lines(running)
    with socket.create_connection(("127.0.0.1", running.ports[listener]), WAIT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = f"127.0.0.1:{sock.getsockname()[1]}"
        received = b""
        try:
            for chunk in chunks:
                sock.sendall(chunk)
            while data := sock.recv(65_536):
                received += data
        except (ConnectionResetError, BrokenPipeError):
            pass
    until(lambda: lines.of(name), "a log line")
    return received, lines.of(name)


def read(protocol, octets):
    """Read a response as the web server does: status and body."""
    codec = client_codec(protocol, Limits())
    codec.send_request(ENVIRON, b"Hello World")
    events = codec.receive_data(octets)
    if type(events[-1]) is not ResponseEnded:
        events += codec.receive_eof()
    assert type(events[0]) is ResponseReceived
    body = b"".join(event.data for event in events if type(event) is ResponseBodyReceived)
    return events[0].status, body.decode("ascii")


@pytest.mark.parametrize("slowly", [False, True], ids=["at-once", "octet-by-octet"])
@pytest.mark.parametrize(("listener", "name"), PAIRS)
def test_stranger_is_told_and_the_listener_goes_on(running, listener, name, slowly):
    octets = STRANGERS[name]
    head = octets[:48]
    chunks = [bytes([octet]) for octet in head] if slowly else [octets]
    received, lines = answer_to(running, listener, chunks)

    heard = INTRUDERS.get(name, ("",))[0]
    text = foreign.advice(listener, heard) if heard else ""
    if heard in PROTOCOLS:
        assert read(heard, received) == ("502 Bad Gateway", f"{text}\n")
    elif heard == "ajp-answer":
        assert read("ajp", received) == ("502 Bad Gateway", f"{text}\n")
    elif heard == "http":
        assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert received.endswith(f"\r\n\r\n{text}\n".encode())
    elif heard == "http2":
        assert received.endswith(text.encode())
    elif heard == "tls":
        assert received == bytes((21, 3, 3, 0, 2, 2, 40))
    else:
        assert received == b""
    assert MARK.encode() not in received

    (line,) = lines
    assert f"{listener}://127.0.0.1" in line
    assert ": refused 127.0.0.1:" in line
    assert text in line
    assert MARK not in line

    good = "scgi" if listener == "auto" else listener
    with frontend(running, good, listener) as web_server:
        answer = web_server.ask("/good", b"body")
    assert answer.status == "200 OK"
    assert answer.body.startswith(good.encode())


@pytest.mark.parametrize("listener", LISTENERS)
def test_tls_client_fails_at_once_with_a_reason(running, listener):
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", running.ports[listener]), WAIT) as sock,
        pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"),
    ):
        context.wrap_socket(sock, server_hostname="www.example.test")


@pytest.mark.parametrize("listener", LISTENERS)
def test_upload_to_the_wrong_port_gets_its_answer(running, listener):
    """The answer is out before the body is in, and must survive that."""
    octets = b"POST / HTTP/1.1\r\nContent-Length: 500000\r\n\r\n" + bytes(500_000)
    received, _ = answer_to(running, listener, [octets])
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.endswith(b".\n")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_auto_tells_the_protocol_that_is_spoken(running, protocol):
    for chunk in (1, 3, 100_000):
        octets = client_codec(protocol, Limits()).send_request(ENVIRON, b"Hello World")
        with frontend(running, protocol, "auto") as web_server:
            web_server.codec.send_request(ENVIRON, b"Hello World")
            for at in range(0, len(octets), chunk):
                web_server.send(octets[at : at + chunk])
            body = web_server.finish().body.decode()
        assert body == f"{protocol} auto://127.0.0.1:{running.ports['auto']}"


@pytest.mark.parametrize("protocol", ["fastcgi", "ajp"])
def test_auto_keeps_connections(running, protocol):
    with frontend(running, protocol, "auto") as web_server:
        for _ in range(3):
            answer = web_server.ask("/kept", b"x" * 20_000)
            assert answer.body.startswith(protocol.encode())
            assert answer.reusable


def test_auto_serves_all_protocols_at_the_same_time(running):
    def ask(protocol):
        for _ in range(50):
            with frontend(running, protocol, "auto") as web_server:
                assert web_server.ask("/", b"b" * 300).body.startswith(protocol.encode())

    threads = [in_background(ask, protocol) for protocol in PROTOCOLS]
    for thread in threads:
        thread.__enter__()
    for thread in threads:
        thread.__exit__(None, None, None)


def test_unix_listener_for_all(tmp_path):
    path = tmp_path / "all.sock"
    with Running(tells, binds=[f"auto+unix://{path}"]):
        for protocol in PROTOCOLS:
            with Frontend(protocol, str(path)) as web_server:
                assert web_server.ask("/").body.startswith(protocol.encode())


def test_ajp_options_count_on_an_auto_listener():
    with Running(tells, "auto", query="?secret=tell&packet_size=16384") as running:
        with frontend(running, "ajp", "auto", secret="tell", packet_size=16_384) as web_server:  # noqa: S106 - a test's
            answer = web_server.ask("/", HTTP_COOKIE="c" * 12_000)
            assert answer.status == "200 OK"
            assert b"secret=***" in answer.body
        with frontend(running, "ajp", "auto") as web_server:
            assert web_server.ask("/").status == "403 Forbidden"
        with frontend(running, "scgi", "auto") as web_server:
            assert web_server.ask("/").status == "200 OK"


@pytest.mark.parametrize("listener", LISTENERS)
def test_stranger_that_falls_silent_is_held_no_longer_than_a_head(listener):
    with Running(tells, listener, head_timeout=0.3) as running:
        with socket.create_connection(("127.0.0.1", running.ports[listener]), WAIT) as sock:
            sock.sendall(b"GE")
            assert sock.recv(100) == b""
        assert running.log.having("no complete request within head_timeout")


@pytest.mark.parametrize("listener", LISTENERS)
def test_stranger_that_dribbles_is_held_no_longer_than_a_head(listener):
    with Running(tells, listener, head_timeout=0.3) as running:
        with socket.create_connection(("127.0.0.1", running.ports[listener]), WAIT) as sock:
            stopped = threading.Event()
            try:
                for octet in b"VERSION-CONTROL / ":
                    sock.sendall(bytes([octet]))
                    stopped.wait(0.1)
                pytest.fail("the peer took everything")
            except OSError:
                pass
        assert running.log.having("no complete request within head_timeout")


def test_half_a_first_word_and_the_end_is_one_line(running):
    lines = Lines(running)
    with socket.create_connection(("127.0.0.1", running.ports["auto"]), WAIT) as sock:
        name = f"127.0.0.1:{sock.getsockname()[1]}"
        sock.sendall(b"GE")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
    until(lambda: lines.of(name), "a log line")
    (line,) = lines.of(name)
    assert "47 begins neither" in line


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_ajp_peer_that_pings_gets_its_pong_and_then_the_sentence(running, protocol):
    codec = client_codec("ajp", Limits())
    with socket.create_connection(("127.0.0.1", running.ports[protocol]), WAIT) as sock:
        sock.sendall(b"\x12\x34\0\1\x0a")
        assert sock.recv(100) == b"AB\0\1\x09"
        sock.sendall(codec.send_request(ENVIRON, b"Hello World"))
        received = b""
        while data := sock.recv(65_536):
            received += data
    assert read("ajp", received) == ("502 Bad Gateway", f"{foreign.advice(protocol, 'ajp')}\n")
