"""Connecting: in time, or with the reason why not."""

from __future__ import annotations

import errno
import os
import socket
import time

import pytest

from portico.errors import ConfigError, TransportError
from portico.transports import connect as module
from portico.transports.bind import Bind, parse
from portico.transports.connect import connect

#: Seconds; a test that reaches it fails.
LONG = 10.0
SHORT = 0.1


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def test_tcp_connects():
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = connect(parse(f"scgi://127.0.0.1:{server.getsockname()[1]}"), LONG)
        peer, _ = server.accept()
        with peer:
            stream.write(b"hello", LONG)
            assert peer.recv(10) == b"hello"
            with socket.socket(fileno=os.dup(stream.fd)) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not os.get_blocking(stream.fd)
        stream.close()


@needs_ipv6
def test_name_with_several_addresses_tries_each(monkeypatch):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),  # tried first
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        stream = connect(parse(f"scgi://twofold:{port}"), LONG)
        server.accept()[0].close()
        assert stream.read(LONG) == b""
        stream.close()


def test_unix_connects(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
        server.listen()
        stream = connect(parse(f"scgi+unix://{tmp_path}/s"), LONG)
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"hello")
            assert stream.read(LONG) == b"hello"
        assert not os.get_blocking(stream.fd)
        stream.close()


def test_refused_tcp_says_that_nothing_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TransportError) as caught:
        connect(parse(f"scgi://127.0.0.1:{port}"), LONG)
    assert str(caught.value) == f"nothing listens on 127.0.0.1:{port} (connection refused)"
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_stale_unix_socket_says_that_nothing_listens(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
    with pytest.raises(TransportError, match=r"nothing listens on .*/s"):
        connect(parse(f"scgi+unix://{tmp_path}/s"), LONG)


def test_missing_unix_socket_says_so(tmp_path):
    with pytest.raises(TransportError, match=r"there is no socket .*/s: its server is not running"):
        connect(parse(f"scgi+unix://{tmp_path}/s"), LONG)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_full_queue_is_waited_for_and_bounded(tmp_path, transport):
    unix = transport == "unix"
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as server:
        server.bind(f"{tmp_path}/s" if unix else ("127.0.0.1", 0))
        server.listen(0)
        url = f"scgi+unix://{tmp_path}/s" if unix else f"scgi://127.0.0.1:{server.getsockname()[1]}"
        held = []
        start = time.monotonic()
        with pytest.raises(TransportError, match=r"did not accept within 0\.1 seconds"):
            held.extend(connect(parse(url), SHORT) for _ in range(10))
        assert SHORT * 0.9 <= time.monotonic() - start < LONG
        for stream in held:
            stream.close()


def test_unknown_name_says_so():
    with pytest.raises(TransportError, match=r"the name nowhere\.invalid is unknown"):
        connect(parse("scgi://nowhere.invalid:4000"), LONG)


def test_no_time_is_no_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        bind = parse(f"scgi://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(TransportError, match="did not accept within 0 seconds"):
            connect(bind, 0)


@pytest.mark.parametrize(
    "bind",
    [
        parse("fastcgi+fd://0"),
        parse("fastcgi+systemd://web"),
        parse("fastcgi+pipe://"),
        Bind(protocol="scgi", host="127.0.0.1", port=0),
    ],
    ids=str,
)
def test_bind_without_address_is_refused(bind):
    with pytest.raises(ConfigError, match="no address that others know"):
        connect(bind, LONG)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "has no permission to connect to /s: look at the mode"),
        (errno.EHOSTUNREACH, "no route leads to /s"),
        (errno.ENOTSOCK, "cannot connect to /s: Socket operation on non-socket"),
    ],
)
def test_other_failures_have_a_sentence(number, words):
    assert words in module._explain("/s", OSError(number, os.strerror(number)), LONG)
