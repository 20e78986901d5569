"""What a parent believes of what its workers, and what they are forked from, tell it."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from cli_harness import WAIT
from portico.config.settings import Settings
from portico.engine.scoreboard import Scoreboard
from portico.supervisor.child import BUSY, READY, Child, Mouthpiece, hear, send_signal
from portico.supervisor.crew import Crew
from portico.supervisor.generation import Generation, Service
from portico.supervisor.logfiles import LogFiles
from portico.supervisor.loop import Loop

JUNK = [
    b"5",
    b"null",
    b'"ready"',
    b"[]",
    b'["ready"]',
    b'["ready", "", ""]',
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a": 1, "b": 2, "c": 3}',
]


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk[:12]))
def test_what_is_no_message_is_passed_over(pipe, junk):
    reading, writing = pipe
    line = junk[:30_000] + b"\n" + json.dumps([READY, "well"]).encode() + b"\n"
    os.write(writing, line)
    messages, rest = hear(reading, b"")
    assert messages[-1] == (READY, "well")
    assert len(messages) <= 2
    assert rest == b""


def test_line_without_an_end_is_kept_within_a_bound(pipe):
    reading, writing = pipe
    rest = b""
    for _ in range(10):
        os.write(writing, b"x" * 60_000)
        messages, rest = hear(reading, rest)
        assert messages == []
        assert len(rest) <= 65_536


def test_long_text_with_escapes_fits_into_an_empty_pipe(pipe):
    reading, writing = pipe
    Mouthpiece(writing).tell(READY, "\u2028" * 20_000)
    messages, _ = hear(reading, b"")
    assert messages == [(READY, "\u2028" * 8000)]


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait(WAIT)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="tells whose a process is")  # noqa: PTH110 - one call
def test_signal_goes_to_a_process_of_the_named_user_alone(sleeper):
    send_signal(sleeper.pid, signal.SIGKILL, os.getuid() + 1)
    send_signal(0, signal.SIGKILL, None)
    send_signal(-1, signal.SIGKILL, None)
    send_signal(1, signal.SIGKILL, None)
    assert sleeper.poll() is None
    send_signal(sleeper.pid, signal.SIGKILL, os.getuid())
    assert sleeper.wait(WAIT) == -signal.SIGKILL
    send_signal(sleeper.pid, signal.SIGKILL, os.getuid())  # gone by now


@pytest.fixture
def crew():
    """A crew that has one child, which is this process as far as it knows."""
    assert threading.current_thread() is threading.main_thread()
    settings = Settings(timeout=1.0)
    service = Service(settings, (), lambda: None, "app", LogFiles(settings))
    loop = Loop({})
    board = Scoreboard(2)
    crew = Crew(loop, frozenset(), None, lambda _: None, board)
    reading, writing = os.pipe()
    child = Child(1, Generation(1, service, []), reading)
    crew._children.append(child)
    yield crew, child, board
    child.close()
    os.close(writing)
    crew.close()
    loop.close()


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"published": "now", "busy": "many", "lost": None},
        {"published": [1], "busy": {"a": 1}},
        {"published": float("inf"), "busy": -1, "lost": True},
        {"published": -5, "busy": 2.5},
    ],
)
def test_nonsense_on_the_board_does_not_end_the_parent(crew, entry):
    crew, child, board = crew
    board.write(1, entry)
    crew._take(child, BUSY, "")
    crew._kill_if_stuck(child)
    assert child.pid == 0


def test_template_that_talks_nonsense_does_not_end_the_parent(crew, pipe):
    crew, child, _ = crew

    class Template:
        generation = child.generation
        failure = ""
        fd = pipe[0]

        def hear(self):
            texts = ["", "1", "one two", "1 2 3", "\x00", "9" * 5000 + " 1"]
            return [(kind, text) for kind in ("forked", "ended", "other") for text in texts]

    crew._hear_template(Template())
    assert child.pid == 0
    assert list(crew) == [child]
