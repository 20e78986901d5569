"""A service that runs out of descriptors, or has as many connections as it may."""

from contextlib import ExitStack

from cli_harness import eventually
from supervisor_harness import Service, processor_seconds

#: Becomes the service with a hard limit of open files, which no process of it can raise.
_WRAPPER = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
os.execv(sys.executable, [sys.executable, "-m", "portico", *sys.argv[1:]])
"""


class Poor(Service):
    program = ("-c", _WRAPPER)


def test_shortage_of_descriptors_pauses_and_does_not_spin(tmp_path):
    with Poor(tmp_path, "--workers", 1) as service:
        (pid,) = service.serving()
        with ExitStack() as held:
            for _ in range(64):
                held.enter_context(service.connect(keep=False))
            eventually(lambda: service.count("cannot accept: Too many open files; pausing") > 1, "")
            told = service.count("cannot accept")
            before = processor_seconds(pid)
            # each line stands for a pause of half a second, all of which a spinning one would use
            eventually(lambda: service.count("cannot accept") >= told + 3, "three pauses")
            assert processor_seconds(pid) - before < 0.7
            assert service.serving() == [pid]
        assert service.ask().status == "200 OK"
        assert service.serving() == [pid]


def test_further_connections_wait_until_others_end(tmp_path):
    with Service(tmp_path, "--workers", 1, "--max-connections", 4) as service:
        with ExitStack() as held:
            for _ in range(4):
                held.enter_context(service.connect(keep=False))
            eventually(lambda: service.status()["total"]["connections"] == 4, "the connections")
            late = [service.begin("/") for _ in range(8)]
            service.await_text("4 connections are open: further ones wait", "err")
            assert service.status()["total"]["requests"] == 0
        for frontend in late:
            with frontend:
                assert frontend.finish().status == "200 OK"
        assert service.count("4 connections are open") == 1
