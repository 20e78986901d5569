"""The status socket: whoever asks is told, and nobody who asks can hold the parent up."""

import gc
import os
import resource
import select
import socket
import stat
from pathlib import Path

import pytest

from portico.errors import TransportError
from portico.supervisor import statussocket
from portico.supervisor.statussocket import StatusSocket

WAIT = 20

#: More than any socket's buffer holds.
LONG = os.urandom(1 << 20) * 16


DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "status.sock")


@pytest.fixture
def status(path):
    made = StatusSocket(path)
    yield made
    made.close()


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(WAIT)
    sock.connect(path)
    return sock


def read_all(sock):
    return b"".join(iter(lambda: sock.recv(65_536), b""))


def is_ready(status):
    return bool(select.select([status.fd], [], [], 0)[0])


def descriptors():
    """Sockets, each with what it is: a library may close files of its own at a fork."""
    found = {fd.name: str(fd.readlink()) for fd in DESCRIPTORS.iterdir() if os.path.lexists(fd)}
    return {number: what for number, what in found.items() if what.startswith("socket:")}


def never():
    raise AssertionError("nobody asks")


def test_file_is_the_owners_alone_and_goes_with_it(path):
    status = StatusSocket(path)
    found = os.lstat(path)
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    status.close()
    assert not os.path.lexists(path)
    status.close()


def test_a_relative_path_is_the_working_directorys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = StatusSocket("s")
    monkeypatch.chdir("/")
    assert (tmp_path / "s").exists()
    status.close()
    assert not (tmp_path / "s").exists()


def test_a_path_in_use_is_left_alone(status, path):
    with pytest.raises(TransportError, match="in use"):
        StatusSocket(path)
    with connect(path) as peer:
        status.accept_and_answer(lambda: b"mine")
        assert read_all(peer) == b"mine"


def test_all_who_wait_are_answered(status, path):
    peers = [connect(path) for _ in range(3)]
    assert is_ready(status)
    assert status.accept_and_answer(lambda: b'{"a": 1}') is False
    for peer in peers:
        assert read_all(peer) == b'{"a": 1}'
        peer.close()
    assert not is_ready(status)


def test_nothing_is_made_where_nobody_asks(status):
    assert status.accept_and_answer(never) is False
    assert status.go_on() is False


def test_a_long_text_is_sent_as_it_is_taken(status, path):
    with connect(path) as peer:
        assert status.accept_and_answer(lambda: LONG) is True
        received = bytearray()
        owing = True
        while owing:
            received += peer.recv(1 << 20)
            owing = status.go_on()
        received += read_all(peer)
    assert received == LONG


def test_who_never_reads_is_dropped(status, path, monkeypatch):
    with connect(path) as silent:
        assert status.accept_and_answer(lambda: LONG) is True
        assert status.go_on() is True
        monkeypatch.setattr(statussocket.time, "monotonic", lambda: float("inf"))
        assert status.go_on() is False
        monkeypatch.undo()
        assert len(read_all(silent)) < len(LONG)
        with connect(path) as other:
            status.accept_and_answer(lambda: b"here")
            assert read_all(other) == b"here"


def test_those_who_never_read_are_few(status, path):
    crowd = []
    for _ in range(40):
        crowd.append(connect(path))
        assert status.accept_and_answer(lambda: LONG) is True
    assert len(status._late) == statussocket._MOST_AT_ONCE
    assert len(read_all(crowd[0])) < len(LONG)  # the first is dropped first
    for peer in crowd:
        peer.close()
    assert status.go_on() is False


def test_who_has_gone_is_forgotten(status, path):
    for text in (b"short", LONG):
        connect(path).close()
        assert status.accept_and_answer(lambda text=text: text) is False


def test_without_a_descriptor_a_peer_is_turned_away(status, path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connect(path) as peer:
        highest = os.dup(0)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        try:
            assert status.accept_and_answer(never) is False
            assert not is_ready(status)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert read_all(peer) == b""
    with connect(path) as peer:
        status.accept_and_answer(lambda: b"again")
        assert read_all(peer) == b"again"


def test_a_forked_process_leaves_the_file(status, path):
    pid = os.fork()
    if not pid:
        status.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    with connect(path) as peer:
        status.accept_and_answer(lambda: b"still")
        assert read_all(peer) == b"still"


def test_a_forked_process_keeps_no_descriptor(path):
    gc.collect()  # what other tests have left must not go meanwhile
    before = descriptors()
    status = StatusSocket(path)
    peer = connect(path)
    status.accept_and_answer(lambda: LONG)
    pid = os.fork()
    if not pid:
        status.close_in_child()
        peer.close()
        os._exit(descriptors() != before)
    assert os.waitpid(pid, 0)[1] == 0
    peer.close()
    status.close()
    assert descriptors() == before
