"""The raw stream: whole transfers, bounded waits, what the peer sees at the end."""

from __future__ import annotations

import os
import resource
import select
import socket
import threading
import time

import pytest

from portico.transports.stream import Stream

#: Seconds; generous, a test that reaches it fails.
LONG = 10.0
SHORT = 0.05


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    theirs.settimeout(LONG)
    stream = Stream(ours.detach())
    yield stream, theirs
    stream.close()
    theirs.close()


@pytest.fixture
def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    theirs.settimeout(LONG)
    stream = Stream(ours.detach())
    yield stream, theirs
    stream.close()
    theirs.close()


def receive_all(sock, out):
    while data := sock.recv(65_536):
        out.append(data)


class Receiver:
    """Takes all that comes, in a thread, until the end of file."""

    def __init__(self, sock):
        self._blocks = []
        self._thread = threading.Thread(target=receive_all, args=(sock, self._blocks))
        self._thread.start()

    def result(self):
        self._thread.join(LONG)
        assert not self._thread.is_alive()
        return b"".join(self._blocks)


def fill(stream):
    """Write until the kernel takes no more; gives the count."""
    total = 0
    while True:
        try:
            total += os.write(stream.fd, b"x" * 65_536)
        except BlockingIOError:
            return total


def test_descriptor_becomes_non_blocking(pair):
    stream, _ = pair
    assert not os.get_blocking(stream.fd)


def test_read_gives_what_is_there(pair):
    stream, theirs = pair
    theirs.sendall(b"abc")
    assert stream.read(LONG) == b"abc"


def test_read_takes_no_more_than_asked(pair):
    stream, theirs = pair
    theirs.sendall(b"abcdef")
    assert stream.read(LONG, 4) == b"abcd"
    assert stream.read(LONG, 4) == b"ef"


def test_read_waits_for_the_peer(pair):
    stream, theirs = pair
    timer = threading.Timer(SHORT, theirs.sendall, (b"late",))
    timer.start()
    assert stream.read(LONG) == b"late"
    timer.join()


def test_read_gives_nothing_at_end_of_file(pair):
    stream, theirs = pair
    theirs.close()
    assert stream.read(LONG) == b""


def test_read_is_bounded(pair):
    stream, _ = pair
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.read(SHORT)
    assert SHORT * 0.9 <= time.monotonic() - start < LONG


def test_write_is_bounded(pair):
    stream, _ = pair
    fill(stream)
    with pytest.raises(TimeoutError):
        stream.write(b"more", SHORT)


def test_write_delivers_more_than_the_kernel_takes_at_once(pair):
    stream, theirs = pair
    receiver = Receiver(theirs)
    data = bytes(range(256)) * 8192
    stream.write(data, LONG)
    stream.close()
    assert receiver.result() == data


def test_write_takes_a_view(pair):
    stream, theirs = pair
    stream.write(memoryview(b"-view-")[1:5], LONG)
    assert theirs.recv(10) == b"view"


def test_write_to_a_gone_peer_is_a_connection_error(pair):
    stream, theirs = pair
    theirs.close()
    with pytest.raises(ConnectionError):
        stream.write(b"x", LONG)


def test_writev_delivers_everything_in_order(pair):
    stream, theirs = pair
    receiver = Receiver(theirs)
    blocks = [bytes([n % 256]) * (n * 97 % 40_000) for n in range(200)]  # with empty ones
    stream.writev([memoryview(block) if n % 2 else block for n, block in enumerate(blocks)], LONG)
    stream.close()
    assert receiver.result() == b"".join(blocks)


def test_writev_of_nothing_writes_nothing(pair):
    stream, theirs = pair
    stream.writev([], LONG)
    stream.writev([b"", b""], LONG)
    stream.close()
    assert theirs.recv(1) == b""


def test_writev_is_bounded(pair):
    stream, _ = pair
    fill(stream)
    with pytest.raises(TimeoutError):
        stream.writev([b"a", b"b"], SHORT)


def test_sendfile_sends_the_part_asked_for(pair, tmp_path):
    stream, theirs = pair
    receiver = Receiver(theirs)
    data = os.urandom(3_000_000)
    (tmp_path / "f").write_bytes(data)
    with (tmp_path / "f").open("rb") as file:
        assert stream.sendfile(file.fileno(), 1000, 2_500_000, LONG) == 2_500_000
    stream.close()
    assert receiver.result() == data[1000:2_501_000]


def test_sendfile_ends_where_the_file_does(pair, tmp_path):
    stream, theirs = pair
    (tmp_path / "f").write_bytes(b"abcdef")
    with (tmp_path / "f").open("rb") as file:
        assert stream.sendfile(file.fileno(), 4, 100, LONG) == 2
    assert theirs.recv(10) == b"ef"


def test_sendfile_is_bounded(pair, tmp_path):
    stream, _ = pair
    fill(stream)
    (tmp_path / "f").write_bytes(b"abc")
    with (tmp_path / "f").open("rb") as file, pytest.raises(TimeoutError):
        stream.sendfile(file.fileno(), 0, 3, SHORT)


def test_wait_tells_what_is_there(pair):
    stream, theirs = pair
    assert stream.wait(select.POLLIN | select.POLLOUT, LONG) == select.POLLOUT
    theirs.sendall(b"x")
    assert stream.wait(select.POLLIN, LONG) & select.POLLIN


def test_peer_gone_sees_a_close_but_no_silence(pair):
    stream, theirs = pair
    assert not stream.peer_gone()
    theirs.sendall(b"x")
    assert not stream.peer_gone()
    theirs.close()
    assert stream.peer_gone()


def test_peer_gone_sees_a_reset(tcp_pair):
    stream, theirs = tcp_pair
    Stream(theirs.detach()).reset()
    stream.wait(select.POLLIN, LONG)
    assert stream.peer_gone()


def test_shutdown_write_ends_one_direction(pair):
    stream, theirs = pair
    stream.shutdown_write()
    assert theirs.recv(1) == b""
    theirs.sendall(b"still")
    assert stream.read(LONG) == b"still"


def test_shutdown_write_of_a_gone_peer_is_silent(tcp_pair):
    stream, theirs = tcp_pair
    Stream(theirs.detach()).reset()
    stream.wait(select.POLLIN, LONG)
    stream.shutdown_write()
    assert stream.peer_gone()


def test_reset_is_an_error_for_the_peer(tcp_pair):
    stream, theirs = tcp_pair
    stream.write(b"half", LONG)
    stream.reset()
    assert stream.fd == -1
    with pytest.raises(ConnectionResetError):
        receive_all(theirs, [])


def test_reset_of_a_unix_socket_closes_it(pair):
    stream, theirs = pair
    stream.reset()
    assert theirs.recv(1) == b""


def test_reset_after_close_does_nothing(pair):
    stream, _ = pair
    stream.close()
    stream.reset()
    assert stream.fd == -1


def test_close_is_done_once(pair):
    stream, theirs = pair
    fd = stream.fd
    stream.close()
    stream.close()
    assert stream.fd == -1
    assert theirs.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_descriptors_beyond_fd_setsize_work():
    """select() knows none above 1023; flup took its ValueError for an end of file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = 2000
    assert hard == resource.RLIM_INFINITY or hard > high
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, high + 1), hard))
    ours, theirs = socket.socketpair()
    try:
        os.dup2(ours.fileno(), high)
        stream = Stream(high)
        with pytest.raises(TimeoutError):
            stream.read(SHORT)
        theirs.sendall(b"here")
        assert stream.read(LONG) == b"here"
        assert not stream.peer_gone()
        stream.close()
    finally:
        ours.close()
        theirs.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
