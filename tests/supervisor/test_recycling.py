"""Workers that are replaced as they grow old, fat or used, and more or fewer of them."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from cli_harness import eventually
from portico.config.settings import Settings
from portico.supervisor.reporter import Reporter
from supervisor_harness import Service

#: Each worker at its own limit, so that tests can count.
EXACTLY = ("--recycle-jitter", 0)


class Watched:
    """Looks at a service all the time; how few workers have served, and how many have been."""

    def __init__(self, service):
        self.fewest = 1 << 30
        self.most = 0
        self.looks = 0
        self.pids = set()
        self._service = service
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _look(self):
        while not self._over.is_set():
            workers = self._service.status()["workers"]
            serving = [one["pid"] for one in workers if one["state"] in {"idle", "busy"}]
            self.fewest = min(self.fewest, len(serving))
            self.most = max(self.most, len(workers))
            self.pids |= set(serving)
            self.looks += 1


def test_requests_count_and_no_two_workers_are_away_at_once(tmp_path):
    options = ("--workers", 2, "--max-requests", 20, *EXACTLY)
    with Service(tmp_path, *options, protocol="fastcgi") as service:
        with Watched(service) as watched, service.connect() as one, service.connect() as two:
            asked = 0
            while len(watched.pids) < 6:
                for frontend in (one, two):
                    answer = frontend.ask()
                    assert (answer.status, answer.body) == ("200 OK", b"first")
                    assert answer.reusable
                    asked += 1
        assert watched.looks > 0
        assert watched.fewest == 2
        assert watched.most <= 3  # one replacement at a time
        assert service.count(r"is replaced: \d+ requests \(max_requests\)") >= 4
        service.await_serving(2)
        eventually(lambda: service.status()["total"]["requests"] == asked, "the count of all")
        total = service.status()["total"]
        assert (total["requests"], total["errors"], total["aborted"]) == (asked, 0, 0)
        assert service.status()["parent"]["crashes"] == 0


def test_worker_that_grows_is_replaced(tmp_path):
    with Service(tmp_path, "--workers", 1, "--max-memory", 150 << 20, *EXACTLY) as service:
        (pid,) = service.serving()
        while service.serving() == [pid]:
            assert service.ask("/growing").status == "200 OK"
        service.await_serving(1, but=[pid])
        assert service.count(r"is replaced: \d+ bytes of memory \(max_memory\)") == 1


def test_worker_that_is_old_is_replaced_though_it_rests(tmp_path):
    with Service(tmp_path, "--workers", 2, "--max-lifetime", 0.5, *EXACTLY) as service:
        with Watched(service) as watched:
            eventually(lambda: len(watched.pids) >= 5, "the replacements")
        assert watched.fewest == 2
        assert watched.most <= 3
        eventually(lambda: service.count("is replaced: max_lifetime") >= 3, "the lines")


class Said:
    """Takes the place of a scoreboard and of a mouthpiece."""

    def __init__(self):
        self.told = []

    def write(self, slot, entry):
        self.told.append((slot, entry))

    def tell(self, kind, text=""):
        self.told.append((kind, text))


@pytest.mark.parametrize(("jitter", "least", "most"), [(0, 100, 100), (50, 101, 150)])
def test_each_worker_has_a_limit_of_its_own(jitter, least, most):
    """All at once they would load the application in the same moment, again and again."""
    settings = Settings(max_requests=100, recycle_jitter=jitter)
    limits = set()
    for _ in range(50):
        mouthpiece = Said()
        reporter = Reporter(Said(), 1, settings, mouthpiece)
        reporter.engine = SimpleNamespace(wants_recycling=False)
        for requests in range(90, 160):
            reporter.observe({"requests": requests})
        ((kind, text),) = mouthpiece.told  # once
        assert kind == "worn"
        limits.add(int(text.split()[0]))
    assert least <= min(limits) <= max(limits) <= most
    assert len(limits) == 1 if not jitter else len(limits) > 5


def test_more_and_fewer_workers(tmp_path):
    with Service(tmp_path, "--workers", 1) as service:
        for number, count in [
            (signal.SIGTTIN, 2),
            (signal.SIGTTIN, 3),
            (signal.SIGTTOU, 2),
            (signal.SIGTTOU, 1),
            (signal.SIGTTOU, 1),  # never none
        ]:
            service.kill(number)
            told = f"{count} workers are wanted"
            eventually(lambda told=told: told in service.err.splitlines()[-1], told)
            service.await_serving(count)
            assert service.status()["parent"]["configured"] == count
        eventually(lambda: service.count("1 workers are wanted") == 2, "the last signal")
        assert service.ask().status == "200 OK"


def test_worker_that_is_told_to_leave_is_replaced_and_finishes(tmp_path):
    with Service(tmp_path, "--workers", 1) as service:
        frontend, holder = service.hold()
        os.kill(holder, signal.SIGTERM)
        eventually(lambda: service.serving() not in ([], [holder]), "the replacement")
        assert service.ask().status == "200 OK"
        service.let_go()
        with frontend:
            assert frontend.finish().status == "200 OK"
        service.await_serving(1, but=[holder])
        assert service.status()["parent"]["crashes"] == 0


def test_kept_connection_goes_on_though_the_main_thread_hears_no_signal(tmp_path):
    """It is in C code; so it is another thread that sees the signal, and it must not close."""
    options = ("--workers", 1, "--graceful-timeout", 0.2)
    with Service(tmp_path, *options, protocol="fastcgi") as service, service.connect() as kept:
        (pid,) = service.serving()
        with service.begin("/hashing"):
            eventually((tmp_path / "hashing").exists, "the request in the main thread")
            assert kept.ask().header("X-Process") == [str(pid)]
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: pid not in service.serving(), "the leaving")
            (other,) = service.await_serving(1, but=[pid])
            assert kept.ask().header("X-Process") == [str(other)]
        # it has not been killed by its parent, but has seen to its own end
        assert "is killed" not in service.err
