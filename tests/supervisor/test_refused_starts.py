"""Starts that cannot be: one sentence, an exit status, and nothing half started."""

import grp
import os
import pwd
import signal
import stat
from pathlib import Path

import pytest

from cli_harness import Command, eventually, is_free, one_sentence
from supervisor.playing_systemd import tcp, unix
from supervisor.test_reload import APPLICATION, ask, open_path  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow  # processes, one after another

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")

#: Ports below are root's alone.
PRIVILEGED = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())


class Serve(Command):
    """``portico serve`` with all that leaves traces, in a directory of the test's.

    Args:
        directory: Where it is started, and everything lies.
        **changed: Options that are another, or more.
    """

    def __init__(self, directory, app="site.py", **changed):
        (directory / "site.py").write_text(APPLICATION)
        self.directory = directory
        self._before = self._look()
        options = {
            "--workers": 2,
            "--pid-file": "portico.pid",
            "--status-socket": f"{directory}/status.sock",
            **{f"--{name.replace('_', '-')}": value for name, value in changed.items()},
        }
        first = f"scgi+unix://{directory}/first.sock"
        words = [word for pair in options.items() for word in pair]
        super().__init__("serve", app, "--bind", first, *words, cwd=directory)

    def assert_refused(self, status, words):
        assert self.finish() == status, self.err
        assert words in one_sentence(self.err)
        self.assert_left_nothing()
        assert self._look() == self._before

    def _look(self):
        return sorted(str(path) for path in self.directory.rglob("*"))


class AsNobody(Serve):
    """Started by a user who may do nothing, nor read what would be imported later."""

    program = (
        "-c",
        """
import contextlib, encodings.idna, importlib, os, pkgutil, sys
import portico
for module in pkgutil.walk_packages(portico.__path__, "portico."):
    if "__main__" not in module.name:
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(portico.cli.main(sys.argv[1:]))
""",
    )


REFUSED = [
    pytest.param({"user": "no-such-user"}, 2, "there is no user 'no-such-user'", id="user"),
    pytest.param({"group": "no-such-group"}, 2, "there is no group 'no-such-group'", id="group"),
    pytest.param({"pid_file": "nowhere/x"}, 1, "nowhere of the pid file does not", id="pid-file"),
    pytest.param({"status_socket": "/nowhere/x"}, 1, "/nowhere does not exist", id="status-socket"),
    pytest.param({"log_file": "nowhere/x"}, 2, "there is no directory", id="log-file"),
    pytest.param({"access_log": "nowhere/x"}, 2, "there is no directory", id="access-log"),
    pytest.param({"bind": "scgi+unix:///nowhere/x"}, 1, "/nowhere does not exist", id="bind"),
    pytest.param({"bind": "scgi+unix://{0}/site.py"}, 1, "exists and is no socket", id="a-file"),
    pytest.param({"bind": "scgi+unix://{0}/x?user=no-such-user"}, 2, "there is no user", id="own"),
    pytest.param({"bind": "scgi+systemd://web"}, 2, "systemd passed no socket", id="systemd"),
    pytest.param({"app": "nowhere.py"}, 2, "no such file: nowhere.py", id="application"),
    pytest.param({"app": "nowhere:app"}, 2, "there is no module 'nowhere' here", id="module"),
]


@pytest.mark.parametrize(("changed", "status", "words"), REFUSED)
def test_start_is_refused(changed, status, words, tmp_path):
    changed = {name: value.replace("{0}", str(tmp_path)) for name, value in changed.items()}
    with Serve(tmp_path, **changed) as serve:
        serve.assert_refused(status, words)


@pytest.mark.parametrize("name", ["bind", "status_socket"])
def test_socket_of_a_live_server_is_left_to_it(name, tmp_path):
    prefix = "scgi+unix://" if name == "bind" else ""
    with unix(tmp_path / "taken.sock"):
        inode = (tmp_path / "taken.sock").stat().st_ino
        with Serve(tmp_path, **{name: f"{prefix}{tmp_path}/taken.sock"}) as serve:
            serve.assert_refused(1, "taken.sock is in use, a server answers on it")
        assert (tmp_path / "taken.sock").stat().st_ino == inode


def test_port_of_another_process_is_left_to_it(tmp_path):
    with tcp() as taken:
        url = f"scgi://127.0.0.1:{taken.getsockname()[1]}"
        with Serve(tmp_path, bind=url) as serve:
            serve.assert_refused(1, "is taken, another process listens there")


def test_start_after_the_parent_was_killed(tmp_path):
    """What it has left is in nobody's way, and its workers end."""
    with Serve(tmp_path) as killed:
        killed.await_text("serving", "err")
        workers = killed.children()
        killed.kill(signal.SIGKILL)
        eventually(lambda: not set(workers) & set(killed.leftovers()), "the end of the workers")
        assert (tmp_path / "first.sock").exists()
        assert (tmp_path / "portico.pid").exists()
        with Serve(tmp_path) as serve:
            serve.await_text("serving", "err")
            assert (tmp_path / "portico.pid").read_text() == f"{serve.pid}\n"
            assert ask(f"scgi+unix://{tmp_path}/first.sock:/")[0] == "first"
            serve.kill(signal.SIGTERM)
            assert serve.finish() == 0
        assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"site.py"}


# -- whoever starts it ---------------------------------------------------------------------

FORBIDDEN = [
    pytest.param({"user": "daemon"}, 2, "only root can become user daemon", id="user"),
    pytest.param({"group": "daemon"}, 2, "only root can become group daemon", id="group"),
    pytest.param({"pid_file": "closed/x"}, 1, "closed", id="pid-file"),
    pytest.param({"status_socket": "{0}/closed/x"}, 1, "closed", id="status-socket"),
    pytest.param({"log_file": "closed/x"}, 2, "Permission denied", id="log-file"),
    pytest.param({"access_log": "closed/x"}, 2, "Permission denied", id="access-log"),
    pytest.param({"bind": "scgi+unix://{0}/closed/x"}, 1, "closed", id="directory"),
    pytest.param({"bind": "scgi+unix://{0}/x?user=daemon"}, 1, "daemon", id="owner"),
]


@pytest.fixture
def yard(open_path):  # noqa: F811 - the fixture
    """Where anybody may make files, but in one directory below."""
    open_path.chmod(0o777)
    (open_path / "closed").mkdir(mode=0o700)
    return open_path


@ROOT
@pytest.mark.parametrize(("changed", "status", "words"), FORBIDDEN)
def test_what_only_root_may_do_is_refused(changed, status, words, yard):
    changed = {name: value.replace("{0}", str(yard)) for name, value in changed.items()}
    with AsNobody(yard, **changed) as serve:
        serve.assert_refused(status, words)


@ROOT
@pytest.mark.skipif(PRIVILEGED < 2, reason="anybody may have any port here")
def test_port_that_only_root_may_have_is_refused(yard):
    port = next(port for port in range(PRIVILEGED - 1, 0, -1) if is_free(port))
    with AsNobody(yard, bind=f"scgi://127.0.0.1:{port}") as serve:
        serve.assert_refused(1, f"127.0.0.1:{port}")


def identity(pid):
    """Users, groups and further groups of a process, as the kernel has them."""
    text = Path(f"/proc/{pid}/status").read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines())
    uids, gids, more = (set(map(int, lines[name].split())) for name in ("Uid", "Gid", "Groups"))
    return uids, gids, more


@ROOT
def test_workers_leave_root_and_the_parent_keeps_it(yard):
    """It has opened what only root may open."""
    port = next(port for port in range(1023, 0, -1) if is_free(port))
    url = f"scgi+unix://{yard}/closed/x?mode=660&user=daemon&group=www-data"
    nobody = pwd.getpwnam("nobody")
    groups = set(os.getgrouplist("nobody", nobody.pw_gid))
    with Serve(yard, bind=url, user="nobody") as serve:
        serve.await_text("serving", "err")
        before = serve.children()
        serve.kill(signal.SIGHUP)
        serve.await_text("generation 2 serves", "err")
        eventually(lambda: len(serve.children()) == 2, "the end of the old workers")
        assert not set(before) & set(serve.children())
        assert ask(f"scgi+unix://{yard}/first.sock:/")[2] == "nobody"
        for pid in serve.children():
            assert identity(pid) == ({nobody.pw_uid}, {nobody.pw_gid}, groups)
        assert identity(serve.pid)[0] == {0}
        about = (yard / "closed" / "x").stat()
        assert stat.S_IMODE(about.st_mode) == 0o660
        assert about.st_uid == pwd.getpwnam("daemon").pw_uid
        assert about.st_gid == grp.getgrnam("www-data").gr_gid
        serve.kill(signal.SIGTERM)
        assert serve.finish() == 0
    with Serve(yard, bind=f"scgi://127.0.0.1:{port}", user="nobody") as serve:
        serve.await_text("serving", "err")
        assert ask(f"scgi://127.0.0.1:{port}/")[2] == "nobody"


@ROOT
def test_logs_in_a_directory_of_root_s_are_opened_anew(yard):
    """Workers may not even look for them there: those that follow inherit them."""
    access, errors = (yard / "closed" / name for name in ("access.log", "error.log"))
    with Serve(yard, user="nobody", access_log=access, log_file=errors) as serve:
        eventually((yard / "first.sock").exists, "the socket")
        ask(f"scgi+unix://{yard}/first.sock:/")
        eventually(lambda: "GET / " in access.read_text(), "the first line")
        before = set(serve.children())
        for path in (access, errors):
            path.rename(f"{path}.1")
        serve.kill(signal.SIGUSR1)
        eventually(
            lambda: len(serve.children()) == 2 and not before & set(serve.children()),
            "other workers",
        )
        ask(f"scgi+unix://{yard}/first.sock:/")
        eventually(lambda: "GET / " in access.read_text(), "a line in the new file")
        assert errors.read_text().count("it may not open its log files anew") == 2
        serve.kill(signal.SIGTERM)
        assert serve.finish() == 0
        assert "stopped" in errors.read_text()
