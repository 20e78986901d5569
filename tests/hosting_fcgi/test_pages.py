"""What the how-to pages on scripts show is run as it stands there, but for paths."""

import contextlib
import os
import re
import shlex
import shutil
import signal
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

import docs_harness as docs
from conftest import SEARCH
from engine_harness import WAIT, until
from fcgi_harness import Cgid, Direct, Fcgid, Script, WebServer
from portico.servers import launch, lighttpd

HOWTO = docs.ROOT / "docs" / "howto"
PAGES = ("mod_fcgid", "mod_cgid", "lighttpd-spawning")

#: Stands above a block that a test of this module runs.
_EXECUTED = re.compile(r"<!-- executed: ([\w-]+) -->")


def executed_blocks(page):
    """The blocks of a page that are run, by name."""
    text = (HOWTO / f"{page}.md").read_text("utf-8")
    lines = text.splitlines()
    found = {}
    for block in docs.read_blocks(text):
        mark = _EXECUTED.fullmatch(lines[block.first - 2])
        if mark:
            found[mark[1]] = block.text
    return found


BLOCKS = {(page, name): text for page in PAGES for name, text in executed_blocks(page).items()}


@pytest.mark.parametrize("page", PAGES)
def test_every_configuration_is_generated_or_run(page):
    text = (HOWTO / f"{page}.md").read_text("utf-8")
    lines = text.splitlines()
    for block in docs.read_blocks(text):
        if block.language in {"apache", "lighttpd"}:
            mark = lines[block.first - 2]
            assert mark == docs.PRINTED or _EXECUTED.fullmatch(mark), f"line {block.first}"
    assert {name for at, name in BLOCKS if at == page} == {name for at, name in RUN if at == page}


#: Page and name of each block that a test below runs.
RUN = set()


def runs(page, name):
    """Give a test the text of a block, and say that it is run."""
    RUN.add((page, name))
    return pytest.mark.parametrize("text", [pytest.param(BLOCKS.get((page, name)), id=name)])


@pytest.fixture
def script():
    made = Script()
    yield made
    made.close()


def interpreter_of(script):
    return script.path.read_text().splitlines()[0].removeprefix("#!")


# -- Apache --------------------------------------------------------------------------------

MODULES = ("mime", "rewrite", "alias", "env", "setenvif")

#: A second virtual host, as a hoster has them: files in a directory, and `.htaccess`.
HOST = """\
{modules}
TypesConfig /dev/null
Listen 127.0.0.1:{port}
<Directory "{directory}">
    AllowOverride All
    Options FollowSymLinks
    Require all granted
</Directory>
<VirtualHost 127.0.0.1:{port}>
    DocumentRoot "{directory}"
</VirtualHost>
"""


@contextlib.contextmanager
def hosted(server, script, htaccess, name, more=""):
    """Apache with *htaccess* beside the script, which is there as *name*."""
    place = script.directory / "www"
    place.mkdir()
    place.chmod(0o755)
    (place / ".htaccess").write_text(htaccess)
    (place / ".htaccess").chmod(0o644)
    (place / "file.txt").write_text("a file")
    (place / "file.txt").chmod(0o644)
    (place / name).symlink_to(script.path)
    _, port = Direct._free_port()
    load = [
        f"<IfModule !{one}_module>\nLoadModule {one}_module modules/mod_{one}.so\n</IfModule>"
        for one in MODULES
    ]
    more += HOST.format(modules="\n".join(load), port=port, directory=place)
    with server(script, more=more) as running:
        running.port = port
        yield running


def check_htaccess(text, script, server, name):
    with hosted(server, script, text, name) as site:
        facts = site.ask("/there?a=b", authorization="Basic eDp5").facts()
        assert (facts["path"], facts["query"]) == ("/there", "a=b")
        assert facts["authorization"] == "Basic eDp5"
        assert facts["protocol"] == ("fastcgi" if server is Fcgid else "cgi")
        assert site.ask("/file.txt").body == b"a file"
        assert site.ask(f"/{name}/x").facts()["path"] == "/x"


@pytest.mark.frontend("apache")
@runs("mod_fcgid", "htaccess")
def test_htaccess_of_mod_fcgid(text, script):
    check_htaccess(text, script, Fcgid, "app.fcgi")


@pytest.mark.frontend("apache")
@runs("mod_cgid", "htaccess")
def test_htaccess_of_mod_cgid(text, script):
    check_htaccess(text, script, Cgid, "app.cgi")


@pytest.mark.frontend("apache")
@runs("mod_fcgid", "set-env")
def test_authorization_without_its_directive(text, script):
    htaccess = BLOCKS["mod_fcgid", "htaccess"]
    assert "CGIPassAuth On\n" in htaccess
    check_htaccess(htaccess.replace("CGIPassAuth On\n", text), script, Fcgid, "app.fcgi")


@pytest.mark.frontend("apache")
@runs("mod_fcgid", "pass-header")
def test_authorization_by_the_directive_of_mod_fcgid(text, script):
    htaccess = BLOCKS["mod_fcgid", "htaccess"].replace("CGIPassAuth On\n", "")
    with hosted(Fcgid, script, htaccess, "app.fcgi") as site:
        assert site.ask("/there", authorization="Basic eDp5").facts()["authorization"] is None
    shutil.rmtree(script.directory / "www")
    with hosted(Fcgid, script, htaccess, "app.fcgi", more=text) as site:
        facts = site.ask("/there", authorization="Basic eDp5").facts()
        assert facts["authorization"] == "Basic eDp5"


@pytest.mark.frontend("apache")
@runs("mod_fcgid", "wrapper")
def test_wrapper_of_mod_fcgid(text, script):
    text = text.replace("/srv/mysite/venv/bin/python", interpreter_of(script))
    text = text.replace("/srv/mysite/app.fcgi", str(script.path))
    mode = script.path.stat().st_mode
    script.path.chmod(0o644)
    with hosted(Fcgid, script, f"Options +ExecCGI\n{text}", "app.fcgi") as site:
        assert site.ask("/app.fcgi/there").facts()["path"] == "/there"
    script.path.chmod(mode)


@pytest.mark.frontend("apache")
@runs("mod_fcgid", "processes")
def test_numbers_of_processes_of_mod_fcgid(text, script):
    text = text.replace("FcgidMaxRequestsPerProcess 5000", "FcgidMaxRequestsPerProcess 5")
    assert "PerProcess 5\n" in text
    with Fcgid(script, more=text) as server:
        pids = [server.ask("/").facts()["pid"] for _ in range(16)]
        assert len(set(pids)) >= 3
        assert max(map(pids.count, set(pids))) == 5
        gate = script.gates / "gate"
        finishers = [server.begin(f"/held/{one}?{gate}") for one in range(8)]
        until(lambda: len(list(script.gates.glob("gate.*"))) == 8, "eight processes")
        gate.touch()
        assert [finish().body for finish in finishers] == [b"finished"] * 8


@pytest.mark.frontend("apache")
@runs("mod_cgid", "scriptsock")
def test_socket_of_mod_cgid(text, script):
    directory = script.directory / "run"
    directory.mkdir()
    directory.chmod(0o777)
    text = text.replace("/run/apache2", str(directory))
    here = partial(mock.patch.object, launch, "_has_cgi_daemon", return_value=True)
    with Cgid(script, more=text, change=here) as server:

        def is_there():
            return any(one.name.startswith("mysite-cgisock") for one in directory.iterdir())

        until(is_there, "the socket")
        until(lambda: server.ask("/").status == 200, "an answer")


@pytest.mark.frontend("apache")
@runs("mod_cgid", "limits")
def test_limits_of_cgi(text, script):
    with Cgid(script, more=text) as server:
        assert server.ask("/memory?100000000").body == b"there was room"
        answer = server.ask("/memory?400000000")
        assert answer.status == 500
        assert b"<h1>500" in answer.body
        until(lambda: "MemoryError" in server.log(), "the traceback in the log")


# -- lighttpd and spawners -----------------------------------------------------------------


class Lighttpd(WebServer):
    """lighttpd with a configuration of the page's in place of the generated snippet."""

    product, via = "lighttpd", "spawn"

    def __init__(self, script, text):
        super().__init__(script, change=lambda: replaced_snippet(script, text))


@contextlib.contextmanager
def replaced_snippet(script, text):
    def render(site):
        there = text.replace("/srv/mysite/app.fcgi", str(script.path))
        return there.replace("/run/lighttpd", site.socket_directory)

    with mock.patch.object(lighttpd, "render", render):
        yield


@pytest.mark.frontend("lighttpd")
@runs("lighttpd-spawning", "spawn")
def test_spawning_by_lighttpd(text, script):
    with Lighttpd(script, text) as server:
        facts = server.ask("/there").facts()
        assert (facts["script"], facts["path"]) == ("", "/there")
        assert len(script.processes()) == 3  # at once, not on demand
        assert {"DJANGO_SETTINGS_MODULE", "PATH"} <= set(facts["environment"])
        assert "PWD" not in facts["environment"]
        sockets = {one.name for one in server.server.directory.glob("mysite.socket-*")}
        assert sockets == {f"mysite.socket-{number}" for number in range(3)}


class Command(Direct):
    """A command of a page."""

    def __init__(self, script, text):
        super().__init__(script)
        self._text = text

    def start(self):
        words = shlex.split(self._text)
        words = [shutil.which(word, path=SEARCH) or word for word in words]
        places = {"/srv/mysite/app.fcgi": self.script.path, "/run/mysite/app.sock": self.address}
        self.run(*(str(places.get(word, word)) for word in words))
        self.await_answer()


@pytest.mark.frontend("spawn-fcgi")
@runs("lighttpd-spawning", "spawn-fcgi")
def test_command_of_spawn_fcgi(text, script):
    with Command(script, text) as spawner:
        assert spawner.ask("/").facts()["pid"] == spawner.process.pid
        assert Path(spawner.address).stat().st_mode & 0o777 == 0o660
        spawner.process.terminate()
        assert spawner.process.wait(WAIT) == 0


@pytest.mark.frontend("spawn-fcgi")
@pytest.mark.frontend("multiwatch")
@runs("lighttpd-spawning", "multiwatch")
def test_command_of_multiwatch(text, script):
    with Command(script, text) as spawner:
        until(lambda: len(script.processes()) == 4, "four of them")
        pid = spawner.ask("/").facts()["pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(script.processes()) - {pid}) == 4, "another one")
