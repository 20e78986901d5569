"""Answers by deadline: the slow log, 504 and the exception, 503 while nobody is free."""

import threading
import time

import pytest

import portico
from engine_harness import (
    KEEPING,
    ONE_SHOT,
    PLAIN,
    PROTOCOLS,
    WAIT,
    Held,
    Running,
    hello,
    until,
)
from portico.engine import deadlines as deadlines_module

each = pytest.mark.parametrize("protocol", PROTOCOLS)
threads = pytest.mark.parametrize("threads", [1, 4])

#: Seconds within which a stuck thread's client must have its answer; the limits are far below.
SOON = 5.0


class Spinning:
    """Runs pure Python until it is interrupted; answers every other path than /spin."""

    def __init__(self, first=()):
        self.first = first
        self.raised = []
        self.closed = 0
        self.calls = 0

    def __call__(self, environ, start_response):
        self.calls += 1
        if environ["PATH_INFO"] != "/spin":
            return hello(environ, start_response)
        try:
            self.spin()
        except BaseException as error:
            self.raised.append(type(error))
            raise
        return []

    def spin(self):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            pass  # the loop


@each
@threads
def test_loop_in_python_is_answered_504_and_interrupted(protocol, threads):
    app = Spinning()
    with Running(app, protocol, timeout=0.3, threads=threads) as server:
        began = time.monotonic()
        answer = server.ask(protocol, "/spin")
        assert 0.25 < time.monotonic() - began < SOON
        assert answer.status == "504 Gateway Timeout"
        assert b"did not answer in time" in answer.body
        until(lambda: app.raised, "the exception")
        assert app.raised == [portico.RequestTimeout]
        assert server.ask(protocol, "/").body == b"hello"
        assert server.engine.wants_recycling
        assert len(server.log.having("ran longer than timeout (0.3 seconds): 504")) == 1
        assert "in spin" in server.errors.getvalue()
        assert not server.log.having("counts as lost")
