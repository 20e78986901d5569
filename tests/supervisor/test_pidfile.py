"""The pid file: whose it is, when it is stale, what is left alone."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from engine_harness import WAIT
from portico.errors import TransportError
from portico.supervisor.pidfile import PidFile

#: Takes a pid file and says so; then does what its standard input says, a line at a time.
HOLDER = """
import os, sys
from portico.supervisor.pidfile import PidFile
from portico.errors import TransportError
try:
    file = PidFile(sys.argv[1])
except TransportError as error:
    print(error, flush=True)
    sys.exit(3)
print("held", os.getpid(), flush=True)
for line in sys.stdin:
    if line == "fork\\n":
        child = os.fork()
        if not child:
            file.remove()           # not the child's to do
            file.close_in_child()
            print("child", os.getpid(), os.path.exists(sys.argv[1]), flush=True)
            os.close(1)
            os.read(0, 1)           # outlives its parent, until the test closes the pipe
            os._exit(0)
    elif line == "remove\\n":
        file.remove()
        file.remove()
        print("removed", flush=True)
"""


@contextmanager
def holder(path):
    """A process that has the file, or has said why not."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.stdin.close()
        process.kill()
        process.wait(WAIT)
        process.stdout.close()


def taken(path):
    with pytest.raises(TransportError) as caught:
        PidFile(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pid"


def only(path):
    """Nothing lies beside the file."""
    return [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_holds_the_id_and_goes_away(path):
    before = os.umask(0o077)
    try:
        file = PidFile(str(path))
    finally:
        os.umask(before)
    assert path.read_bytes() == b"%d\n" % os.getpid()
    assert path.stat().st_mode & 0o7777 == 0o644
    assert only(path)
    file.remove()
    assert not path.exists()
    file.remove()


def test_relative_path_is_meant_from_where_it_was_made(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    file = PidFile("x.pid")
    monkeypatch.chdir("/")
    file.remove()
    assert not path.exists()


def test_live_holder_is_named(path):
    with holder(path) as process:
        assert process.stdout.readline() == f"held {process.pid}\n"
        assert taken(path) == (
            f"{path} belongs to the running process {process.pid}: stop it, or choose another file"
        )
        assert only(path)
        process.stdin.write("remove\n")
        assert process.stdout.readline() == "removed\n"
        PidFile(str(path)).remove()


def test_second_one_of_this_process_is_refused(path):
    file = PidFile(str(path))
    assert f"process {os.getpid()}" in taken(path)
    file.remove()


def test_file_of_a_killed_process_is_taken_over(path):
    with holder(path) as process:
        process.stdout.readline()
        process.kill()
        process.wait(WAIT)
    assert path.exists()
    file = PidFile(str(path))
    assert path.read_bytes() == b"%d\n" % os.getpid()
    assert only(path)
    file.remove()


def test_number_of_a_running_process_alone_holds_nothing(path):
    """The number was given to another process since: the lock decides."""
    path.write_text(f"{os.getppid()}\n")
    PidFile(str(path)).remove()
    assert not path.exists()


def test_worker_that_outlives_its_parent_holds_nothing(path):
    with holder(path) as process:
        process.stdout.readline()
        process.stdin.write("fork\n")
        word, child, exists = process.stdout.readline().split()
        assert (word, exists) == ("child", "True")
        taken(path)  # closing the child's copy has not unlocked it
        process.kill()
        process.wait(WAIT)
        os.kill(int(child), 0)
        PidFile(str(path)).remove()
        os.kill(int(child), 0)
        os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize(
    "content",
    [b"important\n", b"12 13\n", b"\n12\n", b"-1\n", b"1" * 5000, "\u0661".encode()],
)
def test_other_content_is_left_alone(path, content):
    path.write_bytes(content)
    assert "is no pid file" in taken(path)
    assert path.read_bytes() == content
    assert only(path)


@pytest.mark.parametrize("content", [b"", b"999999999\n", b"999999999"])
def test_stale_content_is_replaced(path, content):
    path.write_bytes(content)
    file = PidFile(str(path))
    assert path.read_bytes() == b"%d\n" % os.getpid()
    file.remove()


def test_links_are_not_followed(path, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"999999999\n")
    path.symlink_to(target)
    assert "is no regular file" in taken(path)
    assert target.read_bytes() == b"999999999\n"
    target.unlink()
    assert "is no regular file" in taken(path)  # a link that leads nowhere
    assert not target.exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_other_kinds_of_file_are_left_alone(path, make):
    make(path)
    assert "is no regular file" in taken(path)
    assert only(path)


def test_another_file_in_its_place_is_not_removed(path):
    file = PidFile(str(path))
    path.unlink()
    path.write_text("1\n")
    file.remove()
    assert path.read_text() == "1\n"


def test_missing_directory_is_explained(tmp_path):
    assert "/no of the pid file does not exist" in taken(tmp_path / "no" / "x.pid")


def test_directory_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "file").touch()
    assert "Not a directory" in taken(tmp_path / "file" / "x.pid")


#: As a user who may not write there, whoever runs the tests.
FORBIDDEN = """
import os, sys
from portico.supervisor.pidfile import PidFile
from portico.errors import TransportError
if os.geteuid() == 0:
    os.setuid(65534)
try:
    PidFile("/x.pid")
except TransportError as error:
    print(error)
"""


def test_missing_permission_is_explained():
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDEN], capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert "no permission to make a pid file in /: choose a directory that user" in done.stdout


def test_of_many_that_start_at_once_one_gets_a_stale_file(path):
    path.write_text("999999999\n")
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    try:
        lines = [process.stdout.readline() for process in starters]
        winners = [
            process.pid
            for process, line in zip(starters, lines, strict=True)
            if line.startswith("held")
        ]
        assert len(winners) == 1
        assert path.read_text() == f"{winners[0]}\n"
        assert sum(f"running process {winners[0]}:" in line for line in lines) == 4
        assert only(path)
    finally:
        for process in starters:
            process.communicate(timeout=WAIT)
