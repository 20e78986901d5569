"""Unix sockets: mode and owner, whose file may be replaced, whose removed."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from portico.errors import ConfigError, TransportError
from portico.transports import unix
from portico.transports.bind import Bind

#: Seconds; a test that reaches it fails.
LONG = 10.0


@pytest.fixture
def listened():
    """Opens sockets that are closed, and their files removed, at the end."""
    made = []

    def make(path, **options):
        made.append(unix.listen(Bind(protocol="scgi", transport="unix", path=str(path), **options)))
        return made[-1]

    yield make
    for sock, file in made:
        file.remove()
        sock.close()


def names(directory):
    return [entry.name for entry in directory.iterdir()]


def leave_stale(path):
    """Make a socket file on which nobody answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def can_connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0o200])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_mode_is_exact_whatever_the_umask(listened, tmp_path, mode, umask):
    before = os.umask(umask)
    try:
        listened(tmp_path / "s", mode=mode)
        assert os.umask(umask) == umask  # it belongs to all threads: nobody touched it
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.lstat(tmp_path / "s").st_mode) == mode
    assert can_connect(tmp_path / "s")


def test_default_mode_shuts_others_out(listened, tmp_path):
    listened(tmp_path / "s")
    assert stat.S_IMODE(os.lstat(tmp_path / "s").st_mode) == 0o660


def test_file_appears_ready(listened, tmp_path, monkeypatch):
    """Never wider than it will be, and never without a listener behind it."""
    seen = []
    real = os.link

    def look(made, path, **options):
        directory = Path(made).parent.stat()
        seen.append((stat.S_IMODE(directory.st_mode), stat.S_IMODE(os.lstat(made).st_mode)))
        seen.append((can_connect(made), os.path.lexists(path)))
        real(made, path, **options)

    monkeypatch.setattr(os, "link", look)
    listened(tmp_path / "s", mode=0o640)
    assert seen == [(0o700, 0o640), (True, False)]


def test_nothing_else_is_left_in_the_directory(listened, tmp_path):
    listened(tmp_path / "s")
    assert names(tmp_path) == ["s"]


@pytest.mark.parametrize("by", ["name", "number"])
def test_group_is_set(listened, tmp_path, by):
    mine = os.getgid()
    group = grp.getgrgid(mine).gr_name if by == "name" else str(mine)
    listened(tmp_path / "s", group=group, user=str(os.getuid()))
    assert os.lstat(tmp_path / "s").st_gid == mine


def test_other_group_and_user_are_given_to_the_kernel(listened, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(os, "chown", lambda _path, *ids: given.append(ids))
    listened(tmp_path / "s", group="54321", user="12345")
    assert given == [(12_345, 54_321)]


def test_refused_owner_says_what_to_do(listened, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(TransportError, match=r"give .*/s to group 54321: start as root"):
        listened(tmp_path / "s", group="54321")
    assert names(tmp_path) == []


@pytest.mark.parametrize("option", ["user", "group"])
def test_unknown_owner_is_refused(listened, tmp_path, option):
    with pytest.raises(ConfigError, match=f"no {option} 'nobody-here'"):
        listened(tmp_path / "s", **{option: "nobody-here"})
    assert names(tmp_path) == []


# -- what is there already -----------------------------------------------------------------


def test_stale_socket_is_replaced(listened, tmp_path):
    leave_stale(tmp_path / "s")
    listened(tmp_path / "s")
    assert can_connect(tmp_path / "s")
    assert names(tmp_path) == ["s"]


def test_live_socket_is_left_alone(listened, tmp_path):
    """flup unlinked whatever was at the path, a live server's socket included."""
    listened(tmp_path / "s")
    before = os.lstat(tmp_path / "s")
    with pytest.raises(TransportError, match="in use, a server answers on it"):
        listened(tmp_path / "s")
    assert os.path.samestat(before, os.lstat(tmp_path / "s"))
    assert can_connect(tmp_path / "s")


def test_live_socket_with_a_full_queue_is_left_alone(listened, tmp_path):
    listened(tmp_path / "s", backlog=1)
    clients = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        clients.append(client)
        if client.connect_ex(str(tmp_path / "s")):
            break
    with pytest.raises(TransportError, match="in use"):
        listened(tmp_path / "s")
    for client in clients:
        client.close()


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "symlink", "dangling"])
def test_anything_else_is_left_alone(listened, tmp_path, kind):
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        leave_stale(tmp_path / "target")
        path.symlink_to(tmp_path / ("target" if kind == "symlink" else "none"))
    before = os.lstat(path)
    with pytest.raises(TransportError, match="is no socket, so it is left alone"):
        listened(path)
    assert os.path.samestat(before, os.lstat(path))


def test_datagram_socket_is_left_alone(listened, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(f"{tmp_path}/s")
        with pytest.raises(TransportError, match="left alone"):
            listened(tmp_path / "s")
    assert (tmp_path / "s").exists()


def test_server_that_starts_at_the_same_moment_loses_nothing(listened, tmp_path, monkeypatch):
    """Between the look at a stale socket and its removal, another server replaces it."""
    path = tmp_path / "s"
    leave_stale(path)
    real = os.rename
    rival = []

    def replace_first(source, target):
        monkeypatch.setattr(os, "rename", real)
        path.unlink()
        rival.append(listened(path))
        real(source, target)

    monkeypatch.setattr(os, "rename", replace_first)
    with pytest.raises(TransportError, match="in use"):
        listened(path)
    assert can_connect(path)
    sock, _ = rival[0]
    sock.accept()[0].close()  # it is the rival that answers
    assert names(tmp_path) == ["s"]


@pytest.mark.parametrize("kind", ["file", "unreachable"])
def test_what_takes_the_place_at_the_same_moment_is_put_back(listened, tmp_path, monkeypatch, kind):
    path = tmp_path / "s"
    leave_stale(path)
    real, asked = os.rename, unix.is_answered

    def swap_first(source, target):
        path.unlink()
        path.write_text("precious")
        real(source, target)
        if kind == "unreachable":  # a socket, but the system does not let us ask
            monkeypatch.setattr(stat, "S_ISSOCK", lambda _: True)
            monkeypatch.setattr(unix, "is_answered", refuse)

    def refuse(target):
        raise TransportError(f"cannot ask {target}")

    monkeypatch.setattr(os, "rename", swap_first)
    with pytest.raises(TransportError, match="in use"):
        listened(path)
    monkeypatch.setattr(unix, "is_answered", asked)
    assert path.read_text() == "precious"
    assert names(tmp_path) == ["s"]


def test_file_system_without_links_says_so(listened, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(TransportError, match=r"cannot make the socket .*/s: Operation not perm"):
        listened(tmp_path / "s")
    assert names(tmp_path) == []


def test_of_many_that_start_at_once_one_wins(tmp_path):
    leave_stale(tmp_path / "s")
    bind = Bind(protocol="scgi", transport="unix", path=f"{tmp_path}/s")
    start = threading.Barrier(8)
    won, lost = [], []

    def contend():
        start.wait(LONG)
        try:
            won.append(unix.listen(bind))
        except TransportError as error:
            lost.append(error)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(lost) == 7
    [(sock, file)] = won
    assert can_connect(tmp_path / "s")
    assert names(tmp_path) == ["s"]
    file.remove()
    sock.close()


@pytest.mark.parametrize("kind", ["held", "unknown", "unreadable"])
def test_a_lock_that_cannot_be_had_stops_nobody(listened, tmp_path, monkeypatch, kind):
    leave_stale(tmp_path / "s")
    monkeypatch.setattr(unix, "_LOCK_SECONDS", 0.05)
    other = os.open(tmp_path, os.O_RDONLY)
    if kind == "held":
        fcntl.flock(other, fcntl.LOCK_EX)
    elif kind == "unknown":
        monkeypatch.setattr(fcntl, "flock", refuse_lock)
    else:
        monkeypatch.setattr(unix, "_lock", lambda _: -1)
    listened(tmp_path / "s")
    assert can_connect(tmp_path / "s")
    os.close(other)


def refuse_lock(*_):
    raise OSError(errno.ENOLCK, "No locks available")


def test_stale_socket_of_another_user_says_so(listened, tmp_path, monkeypatch):
    leave_stale(tmp_path / "s")

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(TransportError, match="remove it as its owner"):
        listened(tmp_path / "s")
    assert names(tmp_path) == ["s"]


# -- where it cannot be --------------------------------------------------------------------


def test_missing_directory_says_so(listened, tmp_path):
    with pytest.raises(TransportError, match="missing does not exist: create it"):
        listened(tmp_path / "missing" / "s")


def test_directory_that_is_a_file_says_so(listened, tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(TransportError, match="no socket can be made in"):
        listened(tmp_path / "f" / "s")


def test_forbidden_directory_says_so(listened, tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(unix.tempfile, "mkdtemp", refuse)
    with pytest.raises(TransportError, match="no permission to make a socket in"):
        listened(tmp_path / "s")


def test_long_name_is_refused_with_the_limit(listened, tmp_path):
    with pytest.raises(ConfigError, match=f"the system takes {unix.MAX_PATH_BYTES}"):
        listened(tmp_path / ("s" * 200))


def test_long_directory_is_refused_with_the_limit(listened):
    with pytest.raises(ConfigError, match="may have 85 bytes"):
        listened("/" + "d" * 90 + "/s")


def test_longest_name_works(listened, tmp_path):
    path = f"{tmp_path}/"
    path += "s" * (unix.MAX_PATH_BYTES - len(path))
    listened(path)
    assert can_connect(path)


# -- removal -------------------------------------------------------------------------------


def test_file_is_removed_at_the_end(listened, tmp_path):
    sock, file = listened(tmp_path / "s")
    file.remove()
    sock.close()
    assert names(tmp_path) == []
    file.remove()  # and once more, silently


def test_file_of_another_is_not_removed(listened, tmp_path):
    _, file = listened(tmp_path / "s")
    (tmp_path / "s").unlink()
    (tmp_path / "s").write_text("another's")
    file.remove()
    assert (tmp_path / "s").read_text() == "another's"


def test_forked_worker_leaves_the_file_to_its_parent(listened, tmp_path):
    sock, file = listened(tmp_path / "s")
    child = os.fork()
    if not child:
        file.remove()
        sock.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert can_connect(tmp_path / "s")


# -- peers ---------------------------------------------------------------------------------


def test_credentials_are_the_kernels():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        expected = (os.getpid(), os.getuid(), os.getgid())
        assert unix.peer_credentials(ours.fileno()) == expected
        os.fstat(ours.fileno())  # still open


def test_rule_needs_a_system_that_tells(monkeypatch):
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with pytest.raises(ConfigError, match="SO_PEERCRED"):
        unix.PeerRule(("0",), ())
