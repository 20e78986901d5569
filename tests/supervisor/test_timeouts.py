"""Requests that run beyond --timeout: answered, interrupted, and their worker replaced."""

import signal

import pytest

from cli_harness import eventually
from supervisor_harness import Service, is_cut

pytestmark = pytest.mark.slow  # processes, one after another


def line_of(service, text):
    """The number of the application's line that holds *text*."""
    lines = service.app.read_text().splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if text in line]
    return found


@pytest.mark.parametrize(
    ("path", "line"),
    [("/sleeping", "time.sleep(3600)"), ("/stubborn", "time.sleep(0.01)  # for ever")],
)
def test_request_beyond_the_limit_is_answered_and_its_worker_replaced(path, line, tmp_path):
    options = ("--workers", 1, "--timeout", 1, "--slow-timeout", 0.3, "--graceful-timeout", 1)
    with Service(tmp_path, *options) as service:
        (pid,) = service.serving()
        with service.begin(path) as late:
            held, holder = service.hold()
            assert holder == pid
            with held:
                service.let_go()
                assert held.finish().status == "200 OK"
            answer = late.finish()
        assert answer.status.startswith("504")
        assert service.count(f'site.py", line {line_of(service, line)}, in {path[1:]}') == 1
        service.await_serving(1, but=[pid])
        assert service.count("is replaced: a request was interrupted") == 1
        assert service.ask().status == "200 OK"
        service.kill(signal.SIGTERM)
        assert service.finish() == 0, service.err
        service.assert_left_nothing()


def test_worker_that_is_stuck_in_c_code_is_killed(tmp_path):
    """A regular expression keeps the interpreter's lock: no thread of that process ever runs."""
    with Service(tmp_path, "--workers", 2, "--timeout", 1) as service:
        pids = service.serving()
        assert is_cut(service.begin("/greedy"))
        eventually(lambda: service.status()["parent"]["crashes"] == 1, "the crash")
        (left,) = set(pids) & set(service.await_serving(2))
        assert service.count("has been stuck in C code for longer than timeout and is killed") == 1
        assert service.count("been ended by SIGKILL; starting another") == 1
        (killed,) = set(pids) - {left}
        eventually(lambda: killed not in service.children(), "the end of the stuck worker")
        assert service.ask().status == "200 OK"
