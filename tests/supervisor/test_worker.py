"""One process that serves: its signals, its limits, its end."""

import _thread
import os
import signal
import subprocess
import sys
import threading

import pytest

from engine_harness import WAIT, Process, Running, hello, until
from portico.config.settings import Settings
from portico.supervisor import worker
from portico.transports.bind import parse
from portico.transports.listen import open_listeners


def test_run_off_the_main_thread_takes_no_signals():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    listeners = open_listeners([parse("scgi://127.0.0.1:0")])
    engines = []
    made = worker.Engine

    def making(*arguments, **named):
        engines.append(made(*arguments, **named))
        return engines[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "Engine", making)
        thread = threading.Thread(target=worker.run, args=(hello, listeners, Settings()))
        thread.start()
        until(lambda: engines and engines[0]._threads, "the engine")
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
        engines[0].stop()
        thread.join(WAIT)
    assert not thread.is_alive()
    assert listeners[0].fd == -1


class Announcing(worker.Engine):
    """Says when its main thread is about to wait."""

    __slots__ = ("ready",)

    def _work(self, own):
        self.ready.set()
        super()._work(own)


def test_signal_that_comes_as_the_main_thread_begins_to_wait(monkeypatch):
    """Its handler would run at the next step, which an idle process never makes."""
    ready = threading.Event()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def announcing(*arguments, **named):
        engine = Announcing(*arguments, **named)
        engine.ready = ready
        return engine

    def interrupt():
        assert ready.wait(WAIT)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(worker, "Engine", announcing)
    for _ in range(50):
        ready.clear()
        thread = threading.Thread(target=interrupt)
        thread.start()
        worker.run(hello, open_listeners([parse("scgi://127.0.0.1:0")]), Settings())
        thread.join(WAIT)
        assert signal.set_wakeup_fd(-1) == -1
    # they are put back
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_signal_is_heard_though_the_main_thread_is_not_there():
    """The leader reads its number from the wake-up pipe."""
    with Running(hello, "scgi") as server:
        server.engine._stop_signals = frozenset({signal.SIGTERM})
        os.write(server.engine._waiting.waker.write_fd, bytes([signal.SIGCHLD]))
        assert server.ask("scgi").body == b"hello"
        os.write(server.engine._waiting.waker.write_fd, bytes([0, signal.SIGTERM]))
        server.thread.join(WAIT)
        assert not server.thread.is_alive()


def test_thread_that_hears_the_signal_first_leaves_it_to_the_worker_how_to_stop():
    """It must not close kept connections which the handler would have handed over."""
    heard = threading.Event()
    with Running(hello, "fastcgi") as server, server.connect("fastcgi") as frontend:
        assert frontend.ask().body == b"hello"
        server.engine._stop_signals = frozenset({signal.SIGTERM})
        server.engine._on_stop = lambda _: heard.set()
        os.write(server.engine._waiting.waker.write_fd, bytes([signal.SIGTERM]))
        assert heard.wait(WAIT)
        assert not server.engine.stopping
        assert frontend.ask().body == b"hello"


def test_signal_may_come_while_a_thread_is_being_started():
    """The handler runs between any two steps of the main thread, such as those of Thread.start."""
    with Running(hello, "scgi") as server:
        stopper = worker._Stopper(server.engine, WAIT)
        handled = threading.Event()

        def handle():
            stopper.take(signal.SIGTERM, None)
            handled.set()

        with threading._active_limbo_lock:
            _thread.start_new_thread(handle, ())
            assert handled.wait(WAIT), "the handler waits for a lock"
        stopper.done()


def test_stop_needs_no_thread(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    with Running(hello, "scgi") as server:
        stopper = worker._Stopper(server.engine, WAIT)
        monkeypatch.setattr(_thread, "start_new_thread", refuse)
        stopper.take(signal.SIGTERM, None)
        monkeypatch.undo()
        server.thread.join(WAIT)
        assert not server.thread.is_alive()
        stopper.done()


def test_end_for_good_is_told(tmp_path):
    script = tmp_path / "stuck.py"
    script.write_text(
        "import os, signal, threading, time\n"
        "from portico.supervisor import worker\n"
        "class Engine:\n"
        "    stopping = False\n"
        "    def stop(self, seconds, *, hand_over):\n"
        "        self.stopping = True\n"
        "stopper = worker._Stopper(Engine(), 0.0)\n"
        "stopper.take(signal.SIGTERM, None)\n"
        "time.sleep(60)\n"
    )
    with Process(tmp_path, script) as process:
        assert process.ends() == 1
        assert "without waiting" in process.stderr


LIMITS = """\
import resource, sys
from portico.supervisor import worker
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
worker._allow_descriptors(int(sys.argv[3]))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "result"),
    [
        pytest.param(128, 4096, 1000, "2256 4096", id="as-many-as-needed"),
        pytest.param(128, 1024, 1000, "1024 1024", id="as-many-as-allowed"),
        pytest.param(3000, 4096, 1000, "3000 4096", id="enough-already"),
    ],
)
def test_limit_of_open_files_is_raised(soft, hard, connections, result):
    command = [sys.executable, "-c", LIMITS, *map(str, (soft, hard, connections))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True)
    assert done.stdout.strip() == result


def test_limit_that_cannot_be_raised_is_left(monkeypatch):
    """macOS refuses more than its own maximum whatever the hard limit says."""

    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(worker.resource, "getrlimit", lambda _: (1, worker.resource.RLIM_INFINITY))
    monkeypatch.setattr(worker.resource, "setrlimit", refuse)
    worker._allow_descriptors(10_000)
    monkeypatch.undo()
    assert worker.resource.getrlimit(worker.resource.RLIMIT_NOFILE)[0] > 1
