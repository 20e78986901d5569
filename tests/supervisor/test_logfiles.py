"""Log files: where they lead, opened anew, given away; each test in a process of its own."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cli_harness import Command, eventually
from engine_harness import Frontend

BEGIN = """
import logging, os, subprocess, sys, threading, time
from portico.config.settings import Settings
from portico.errors import ConfigError
from portico.supervisor.logfiles import LogFiles, start_logging
log = logging.getLogger("portico")
"""

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def run(directory, code, **options):
    """Run *code* in *directory*; gives what it said on standard output and error."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], cwd=directory, timeout=60, check=False, text=True,
        **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr or (directory / "error.log").read_text()
    return done.stdout, done.stderr


# -- opening -------------------------------------------------------------------------------


def test_all_of_standard_error_goes_to_the_log_file(tmp_path):
    (tmp_path / "error.log").write_text("before\n")
    out, err = run(
        tmp_path,
        """
settings = Settings(log_file="error.log")
files = LogFiles(settings)
start_logging(settings)
log.warning("by logging")
print("by print", file=sys.stderr, flush=True)
os.write(2, b"by descriptor\\n")
subprocess.run(["sh", "-c", "echo by a program >&2"], check=True)
print("out")
assert files.access_fd == -1
""",
    )
    assert (out, err) == ("out\n", "")
    before, logged, *rest = (tmp_path / "error.log").read_text().splitlines()
    assert before == "before"
    assert logged.endswith("WARNING by logging")
    assert rest == ["by print", "by descriptor", "by a program"]


def test_without_files_nothing_changes(tmp_path):
    out, err = run(
        tmp_path,
        """
settings = Settings()
files = LogFiles(settings)
start_logging(settings)
log.warning("here")
files.reopen()
files.give_to(1, 1)
files.close()
print(files.access_fd)
""",
    )
    assert out == "-1\n"
    assert err.endswith("WARNING here\n")
    assert not list(tmp_path.iterdir())


def test_dash_is_standard_output(tmp_path):
    out, _ = run(
        tmp_path,
        """
files = LogFiles(Settings(access_log="-"))
os.write(files.access_fd, b"line\\n")
files.reopen()
files.close()
os.write(1, b"still there\\n")
""",
    )
    assert out == "line\nstill there\n"
    assert not list(tmp_path.iterdir())


def test_modes_and_what_programs_inherit(tmp_path):
    run(
        tmp_path,
        """
os.umask(0o022)
files = LogFiles(Settings(log_file="error.log", access_log="access.log"))
for _ in range(2):
    assert files.access_fd > 2
    assert not os.get_inheritable(files.access_fd)
    assert os.get_inheritable(2)
    files.reopen()
files.close()
""",
    )
    for name in ("error.log", "access.log"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


def test_started_without_standard_descriptors(tmp_path):
    """As a daemon may be: the access log must not become what programs write their errors to."""
    code = """
for fd in (0, 1, 2):
    os.close(fd)
files = LogFiles(Settings(log_file="error.log", access_log="access.log"))
assert files.access_fd > 2
os.write(2, b"error\\n")
os.write(1, b"lost\\n")
os.write(files.access_fd, b"access\\n")
os._exit(0)
"""
    run(tmp_path, code, stdin=subprocess.DEVNULL)
    assert (tmp_path / "error.log").read_text() == "error\n"
    assert (tmp_path / "access.log").read_text() == "access\n"


@pytest.mark.parametrize("key", ["log_file", "access_log"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("missing/x.log", "there is no directory {0}/missing", id="directory-missing"),
        pytest.param(".", "Is a directory", id="directory"),
        pytest.param("file/x.log", "there is no directory {0}/file", id="in-a-file"),
    ],
)
def test_file_that_cannot_be_opened(tmp_path, key, path, reason):
    (tmp_path / "file").touch()
    out, err = run(
        tmp_path,
        f"""
before = os.listdir("/proc/self/fd")
names = dict(log_file="good.log", access_log="good.log") | {{{key!r}: {path!r}}}
try:
    LogFiles(Settings(**names))
except ConfigError as error:
    print(error.key, error, sep="|")
assert os.listdir("/proc/self/fd") == before
os.write(2, b"still here")
""",
    )
    assert out == f"{key}|cannot write to {path}: {reason.format(tmp_path)}\n"
    assert err == "still here"


@ROOT
def test_file_that_nobody_else_may_open(tmp_path):
    tmp_path.chmod(0o755)
    out, _ = run(
        tmp_path,
        """
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    LogFiles(Settings(log_file="error.log"))
except ConfigError as error:
    print(error)
""",
    )
    assert out == "cannot write to error.log: Permission denied\n"


# -- opening anew --------------------------------------------------------------------------


def test_reopen_goes_on_in_a_new_file(tmp_path):
    run(
        tmp_path,
        """
files = LogFiles(Settings(log_file="error.log", access_log="access.log"))
fd = files.access_fd
os.chdir("/")
for number in (1, 2):
    os.write(2, b"error %d\\n" % number)
    os.write(files.access_fd, b"access %d\\n" % number)
    if number == 1:
        for name in ("error", "access"):
            os.rename(f"{before}/{name}.log", f"{before}/{name}.log.1")
        files.reopen()
assert files.access_fd == fd
""".replace("os.chdir", "before = os.getcwd(); os.chdir"),
    )
    for name in ("error", "access"):
        assert (tmp_path / f"{name}.log.1").read_text() == f"{name} 1\n"
        assert (tmp_path / f"{name}.log").read_text() == f"{name} 2\n"


def test_no_line_is_lost_while_files_are_opened_anew(tmp_path):
    out, _ = run(
        tmp_path,
        """
files = LogFiles(Settings(log_file="error.log", access_log="access.log"))
done = threading.Event()
def write(fd, name):
    number = 0
    while not done.is_set():
        os.write(fd, b"%s %d\\n" % (name, number))
        number += 1
    counts[name] = number
counts = {}
threads = [
    threading.Thread(target=write, args=(fd, b"%s%d" % (name, number)))
    for fd, name in ((2, b"e"), (files.access_fd, b"a")) for number in range(2)
]
for one in threads:
    one.start()
for turn in range(100):
    for name in ("error", "access"):
        os.rename(f"{name}.log", f"{name}.{turn}")
    files.reopen()
    time.sleep(0.001)
done.set()
for one in threads:
    one.join()
print(sum(counts.values()))
""",
    )
    lines = []
    for path in tmp_path.glob("*.*"):
        lines += path.read_text().splitlines()
    assert len(lines) == len(set(lines)) == int(out)


def test_reopen_that_fails_keeps_the_old_file(tmp_path):
    (tmp_path / "logs").mkdir()
    run(
        tmp_path,
        """
settings = Settings(log_file="logs/error.log", access_log="logs/access.log")
files = LogFiles(settings)
start_logging(settings)
os.rename("logs", "moved")
files.reopen()
os.write(2, b"error\\n")
os.write(files.access_fd, b"access\\n")
""",
    )
    first, second, last = (tmp_path / "moved" / "error.log").read_text().splitlines()
    for line, name in ((first, "access.log"), (second, "error.log")):
        path = tmp_path / "logs" / name
        told = f"cannot open {path} anew: No such file or directory; going on with the old file"
        assert line.endswith(told)
    assert last == "error"
    assert (tmp_path / "moved" / "access.log").read_text() == "access\n"


# -- giving away ---------------------------------------------------------------------------


@pytest.fixture
def public():
    """A directory that any user may pass through, unlike the test's own."""
    with tempfile.TemporaryDirectory(prefix="test-logs-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@ROOT
def test_a_worker_can_open_what_root_has_made(public):
    run(
        public,
        """
files = LogFiles(Settings(log_file="error.log", access_log="access.log"))
files.give_to(65534, 65533)
os.rename("error.log", "error.log.1")
files.reopen()  # as root, which makes the new file
if not (pid := os.fork()):
    os.setgroups([])
    os.setgid(65533)
    os.setuid(65534)
    files.reopen()
    os.write(2, b"by the worker\\n")
    os.write(files.access_fd, b"by the worker\\n")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
""",
    )
    for name in ("error.log", "access.log", "error.log.1"):
        about = (public / name).stat()
        assert (about.st_uid, about.st_gid) == (65534, 65533)
    assert (public / "error.log").read_text() == "by the worker\n"
    assert (public / "access.log").read_text() == "by the worker\n"


@ROOT
def test_files_of_others_are_not_given_away(tmp_path):
    """Nor what has a second name somewhere, nor a device."""
    (tmp_path / "theirs.log").touch()
    os.chown(tmp_path / "theirs.log", 12345, 12345)
    (tmp_path / "linked.log").touch()
    os.link(tmp_path / "linked.log", tmp_path / "shadow")
    run(
        tmp_path,
        """
LogFiles(Settings(access_log="theirs.log")).give_to(65534, 65534)
LogFiles(Settings(access_log="linked.log")).give_to(65534, 65534)
LogFiles(Settings(access_log="/dev/null")).give_to(65534, 65534)
""",
    )
    assert (tmp_path / "theirs.log").stat().st_uid == 12345
    assert (tmp_path / "shadow").stat().st_uid == 0
    assert os.stat("/dev/null").st_uid == 0  # noqa: PTH116 - a device


# -- the command ---------------------------------------------------------------------------

APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""


def test_serve_opens_its_logs_anew_at_a_signal(tmp_path):
    (tmp_path / "site.py").write_text(APP)
    log, access = tmp_path / "error.log", tmp_path / "access.log"
    command = Command(
        "serve", "site.py", "--workers", "0", "--bind", f"scgi+unix://{tmp_path}/s",
        "--log-file", log, "--access-log", access, cwd=tmp_path,
    )  # fmt: skip
    with command:
        eventually(lambda: log.exists() and "serving site.py" in log.read_text(), "the start")
        ask(tmp_path, "/one")
        eventually(lambda: "/one" in access.read_text(), "the first line")
        for path in (log, access):
            path.rename(f"{path}.1")
        command.kill(signal.SIGUSR1)
        eventually(access.exists, "the new file")
        ask(tmp_path, "/two")
        eventually(lambda: "/two" in access.read_text(), "the second line")
        command.kill(signal.SIGTERM)
        assert command.finish() == 0
    assert "/two" not in (tmp_path / "access.log.1").read_text()
    assert "stopped" in log.read_text()
    assert (command.out, command.err) == ("", "")


def ask(directory, path):
    with Frontend("scgi", f"{directory}/s") as frontend:
        assert frontend.ask(path).body == b"hello"


def test_serve_with_a_log_that_cannot_be_opened(tmp_path):
    (tmp_path / "site.py").write_text(APP)
    with Command(
        "serve",
        "site.py",
        "--bind",
        "scgi://127.0.0.1:0",
        "--access-log",
        "missing/a",
        cwd=tmp_path,
    ) as command:
        assert command.finish() == 2
    assert "cannot write to missing/a: there is no directory" in command.err
    assert "Traceback" not in command.err
