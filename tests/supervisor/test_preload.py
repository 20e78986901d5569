"""--preload: the application is loaded once a generation, in a process of its own."""

import os
import re
import signal
from pathlib import Path

from cli_harness import Command, eventually, one_sentence
from supervisor_harness import APPLICATION, Service

#: What the application keeps in memory from its import on.
KEPT_BYTES = 64 << 20


def template_of(service):
    """The one child of the parent that is no worker."""
    workers = {one["pid"] for one in service.status()["workers"]}
    (pid,) = set(service.children()) - workers
    return pid


def own_bytes(pid):
    """Memory that a process shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(found) for found in re.findall(r"Private_\w+: +(\d+) kB", text))


def test_one_import_for_all_workers_who_share_its_memory(tmp_path):
    (tmp_path / "site.py").write_text(f"{APPLICATION}\nKEPT = bytearray(b'x') * {KEPT_BYTES}\n")
    with Service(tmp_path, "--workers", 3, "--preload") as service:
        pids = service.await_serving(3)
        (template,) = service.imports()
        assert template == template_of(service)
        assert template not in {service.pid, *pids}
        assert service.ask().status == "200 OK"
        assert max(own_bytes(pid) for pid in [service.pid, *pids]) < KEPT_BYTES // 2
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        service.assert_left_nothing()


def test_reload_loads_the_next_version_once(tmp_path):
    with Service(tmp_path, "--workers", 2, "--preload") as service:
        assert service.ask().body == b"first"
        before = service.await_serving(2)
        service.app.write_text(APPLICATION.replace('"first"', '"second version"'))
        service.kill(signal.SIGHUP)
        service.await_text("generation 2 serves", "err")
        service.await_serving(2, but=before)
        assert service.ask().body == b"second version"
        assert len(service.imports()) == 2
        eventually(lambda: len(service.children()) == 1, "the end of the first generation")
        assert template_of(service) == service.imports()[1]


def test_template_that_is_killed_is_not_the_end(tmp_path):
    with Service(tmp_path, "--workers", 2, "--preload") as service:
        before = service.await_serving(2)
        template = template_of(service)
        os.kill(template, signal.SIGKILL)
        eventually(lambda: template not in service.children(), "its end")
        assert service.await_serving(2) == before
        assert service.ask().status == "200 OK"
        os.kill(before[0], signal.SIGKILL)
        after = service.await_serving(2, but=before[:1])
        assert before[1] in after
        assert service.ask().status == "200 OK"
        assert len(service.imports()) == 2
        assert service.status()["parent"]["crashes"] == 1
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        service.assert_left_nothing()


def test_worker_that_dies_is_replaced_without_an_import(tmp_path):
    with Service(tmp_path, "--workers", 2, "--preload") as service:
        before = service.await_serving(2)
        os.kill(before[0], signal.SIGKILL)
        service.await_serving(2, but=before[:1])
        assert len(service.imports()) == 1
        assert service.count("been ended by SIGKILL; starting another") == 1


def test_workers_of_a_template_finish_and_end_without_their_parent(tmp_path):
    with Service(tmp_path, "--workers", 2, "--preload") as service:
        service.await_serving(2)
        frontend, holder = service.hold()
        service.see_children()
        service.kill(signal.SIGKILL)
        service.await_death()
        eventually(lambda: set(service.leftovers()) <= {holder, *service.imports()}, "the idle one")
        service.let_go()
        with frontend:
            assert frontend.finish().status == "200 OK"
        service.assert_left_nothing()


def test_import_error_at_the_start_is_one_sentence(tmp_path):
    app = tmp_path / "site.py"
    app.write_text("import nothing_of_this_name\n")
    bind = f"scgi+unix://{tmp_path}/app.sock"
    # the last ones are ordered when the first have failed already
    options = ("--preload", "--workers", 30)
    with Command("serve", app, "--bind", bind, *options) as service:
        assert service.finish() == 2
        assert one_sentence(service.err.splitlines()[0]).startswith("portico: application ")
        assert service.err.count("cannot be loaded") == 1
        assert service.err.count("nothing_of_this_name") >= 1
        service.assert_left_nothing()
    assert not (tmp_path / "app.sock").exists()
