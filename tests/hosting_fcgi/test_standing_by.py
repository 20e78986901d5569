"""An application that cannot be loaded: answers, and another attempt once that may help."""

import contextlib
import os
import re
import signal

import pytest

from engine_harness import WAIT, until
from fcgi_harness import Fcgid, Multiwatch, ProcessManager, Script, SpawnFcgi, Spawning, spawner

BROKEN = "import os\nos.environ['LEFT_OVER'] = 'yes'\nos.chdir('/')\nraise RuntimeError('broken')\n"
WORKS = """\
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {os.environ.get('LEFT_OVER')}".encode()]
"""

EVERY = pytest.mark.parametrize(
    "make",
    [
        spawner("mod_fcgid", Fcgid, "apache"),
        spawner("lighttpd-spawn", Spawning, "lighttpd"),
        spawner("multiwatch", Multiwatch, "spawn-fcgi", "multiwatch"),
        spawner("process-manager", ProcessManager),
        spawner("spawn-fcgi", SpawnFcgi, "spawn-fcgi"),
    ],
)


@pytest.fixture
def script():
    made = Script(BROKEN)
    yield made
    made.close()


def error_of(answer):
    assert answer.status == 500
    assert answer.headers["content-type"].startswith("text/html")
    (reference,) = re.findall(rb"<code>(\w+)</code>", answer.body)
    assert b"RuntimeError" not in answer.body
    return reference.decode()


@EVERY
def test_each_request_is_answered_and_the_log_says_why(make, script):
    with make(script, serves=500) as spawner:
        asked = [spawner.ask("/") for _ in range(12)]
        references = {error_of(answer) for answer in asked}
        assert len(references) == 12
        if spawner.has_log:
            until(lambda: all(one in spawner.log() for one in references), "all ids")
            assert spawner.log().count("RuntimeError: broken") >= 12
        else:
            assert all(b"RuntimeError: broken" in answer.errors for answer in asked)
        assert "remature end" not in spawner.log()
        # those that are there are not replaced: nothing has changed
        pids = script.processes()
        spawner.ask("/")
        assert set(pids) <= set(script.processes())


@EVERY
def test_repaired_application_is_taken(make, script):
    with make(script, serves=500) as spawner:
        error_of(spawner.ask("/"))
        pids = script.processes()
        script.source.write_text(WORKS)

        def works():
            with contextlib.suppress(ConnectionRefusedError):
                return spawner.ask("/").status == 200
            return False

        until(works, "an answer of the repaired application")
        pid, left_over = spawner.ask("/").body.decode().split()
        assert left_over == "None"  # as at the first start
        if make not in {Fcgid, Multiwatch}:
            assert int(pid) in pids  # it is the same process, whom nobody had to start
        os.kill(int(pid), signal.SIGTERM)
        until(lambda: int(pid) not in script.processes(), "its end")


@pytest.mark.frontend("spawn-fcgi")
def test_time_alone_is_a_reason_for_another_attempt():
    """What is amiss may be a database; then a request is the occasion, now and then."""
    first = "import portico.supervisor.spawned as spawned; spawned.RETRY_SECONDS = 0.2"
    script = Script(first=first)
    count = script.gates / "attempts"
    script.source.write_text(
        f"with open({str(count)!r}, 'a') as file:\n    file.write('x')\n"
        "raise RuntimeError('away')\n"
    )
    with SpawnFcgi(script, serves=500) as spawner:
        until(lambda: error_of(spawner.ask("/")) and len(count.read_text()) >= 3, "attempts")
        spawner.process.terminate()
        assert spawner.process.wait(WAIT) == 0
    script.close()
