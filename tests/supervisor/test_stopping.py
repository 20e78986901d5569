"""How a service ends: gracefully, in a bounded time, at once, or with its stacks told."""

import signal

import pytest

from cli_harness import eventually
from supervisor_harness import Service, is_cut

pytestmark = pytest.mark.slow  # processes, one after another


def test_sigterm_lets_what_runs_and_what_waits_finish(tmp_path):
    with Service(tmp_path, "--workers", 2, "--threads", 1) as service:
        held = [service.hold(name) for name in ("one", "two")]
        # nobody is free to accept these: they are in the kernel's queue
        waiting = [service.begin("/") for _ in range(8)]
        service.kill(signal.SIGTERM)
        service.await_text("stopping", "err")
        eventually(lambda: service.status()["parent"]["state"] == "stopping", "the state")
        service.let_go()
        for frontend in [*(frontend for frontend, _ in held), *waiting]:
            with frontend:
                assert frontend.finish().status == "200 OK"
        assert service.finish() == 0
        service.assert_left_nothing()
        assert not service.socket.exists()


def test_second_sigterm_ends_it_at_once(tmp_path):
    with Service(tmp_path, "--graceful-timeout", 600) as service:
        frontend, _ = service.hold()
        service.kill(signal.SIGTERM)
        service.await_text("stopping\n", "err")
        assert service.running()
        service.kill(signal.SIGTERM)
        assert is_cut(frontend)
        assert service.finish() == 1
        service.assert_left_nothing()
        assert not service.socket.exists()


def test_sigint_ends_it_at_once(tmp_path):
    with Service(tmp_path, "--workers", 2, "--graceful-timeout", 600) as service:
        frontend, _ = service.hold()
        service.kill(signal.SIGINT)
        assert is_cut(frontend)
        assert service.finish() == 1
        assert "stopping at once" in service.err
        service.assert_left_nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_that_cuts_nobody_is_a_good_one(number, tmp_path):
    with Service(tmp_path, "--workers", 2) as service:
        service.kill(number)
        assert service.finish() == 0
        service.assert_left_nothing()


def test_sigquit_tells_where_all_threads_are(tmp_path):
    with Service(tmp_path, "--workers", 2, "--graceful-timeout", 600) as service:
        held = [service.hold(name) for name in ("one", "two", "three")]
        service.kill(signal.SIGQUIT)
        assert all(is_cut(frontend) for frontend, _ in held)
        assert service.finish() == 1
        assert service.count(r'site\.py", line \d+ in held') == 3
        for pid in {holder for _, holder in held}:
            assert f"process {pid} was told to quit; its threads" in service.err
        service.assert_left_nothing()


def test_graceful_timeout_bounds_the_end(tmp_path):
    with Service(tmp_path, "--graceful-timeout", 0.3) as service:
        frontend, _ = service.hold()
        service.kill(signal.SIGTERM)
        assert is_cut(frontend)
        assert service.finish() == 1
        service.assert_left_nothing()
        assert not service.socket.exists()


def test_worker_that_cannot_end_is_killed(tmp_path):
    """A regular expression keeps the interpreter's lock, so no signal is handled."""
    with Service(tmp_path, "--graceful-timeout", 0.1) as service:
        stuck = service.begin("/greedy")
        eventually((tmp_path / "greedy").exists, "the request")
        service.kill(signal.SIGTERM)
        assert is_cut(stuck)
        assert service.finish() == 1
        assert service.count("has not ended in time and is killed") == 1
        service.assert_left_nothing()


def test_stop_during_a_reload_ends_both_generations(tmp_path):
    with Service(tmp_path, "--workers", 2) as service:
        (tmp_path / "hangs").touch()
        before = len(service.imports())
        service.kill(signal.SIGHUP)
        eventually(lambda: len(service.imports()) > before, "the next generation")
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        service.assert_left_nothing()
