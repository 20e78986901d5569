"""One and the same script under everything that starts scripts."""

import pytest

from fcgi_harness import (
    Cgid,
    Fcgid,
    LighttpdCgi,
    Multiwatch,
    ProcessManager,
    Script,
    SpawnFcgi,
    Spawning,
    prefork,
)


@pytest.fixture(scope="module")
def script():
    made = Script()
    yield made
    made.close()


def spawner(name, make, *programs):
    return pytest.param(make, id=name, marks=[pytest.mark.frontend(one) for one in programs])


SPAWNERS = [
    spawner("mod_fcgid", Fcgid, "apache"),
    spawner("mod_cgid", Cgid, "apache"),
    spawner("mod_cgi", lambda script: Cgid(script, change=prefork), "apache"),
    spawner("lighttpd-spawn", Spawning, "lighttpd"),
    spawner("lighttpd-cgi", LighttpdCgi, "lighttpd"),
    spawner("spawn-fcgi-unix", SpawnFcgi, "spawn-fcgi"),
    spawner("spawn-fcgi-tcp", lambda script: SpawnFcgi(script, tcp=True), "spawn-fcgi"),
    spawner(
        "spawn-fcgi-forked",
        lambda script: SpawnFcgi(script, foreground=False, children=3),
        "spawn-fcgi",
    ),
    spawner(
        "spawn-fcgi-forked-tcp",
        lambda script: SpawnFcgi(script, tcp=True, foreground=False),
        "spawn-fcgi",
    ),
    spawner("multiwatch", Multiwatch, "spawn-fcgi", "multiwatch"),
    spawner("process-manager", ProcessManager),
    spawner("process-manager-3", lambda script: ProcessManager(script, children=3)),
]


@pytest.mark.parametrize("make", SPAWNERS)
def test_get(make, script):
    with make(script) as spawner:
        facts = spawner.ask("/there?a=b").facts()
        assert (facts["path"], facts["query"]) == ("/there", "a=b")
