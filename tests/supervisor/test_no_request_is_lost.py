"""Reloads, graceful stops of workers and a version that cannot be loaded, under load: no loss.

nginx has no second try here: what Portico loses, a visitor sees. `make soak` runs this for
SOAK_SECONDS instead of twenty rounds.
"""

import os
import re
import signal
import time

import pytest

from cli_harness import Command, eventually
from load_harness import APPLICATION, Visitors
from nginx_harness import forbid_second_tries
from portico.servers.launch import launch
from portico.servers.site import Site
from portico.transports.bind import parse

SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))

#: Reloads, and graceful stops of a worker, at least.
ROUNDS = 20

WORKERS = 2


@pytest.fixture
def stubborn_nginx(monkeypatch):
    """nginx as it is configured for users, but for a second try, which it never makes."""
    forbid_second_tries(monkeypatch)


class Service(Command):
    """``portico serve`` with two workers, told and watched as an operator does it."""

    def count(self, pattern):
        return len(re.findall(pattern, self.err))

    def then(self, action, pattern, what):
        """Do something, and wait until the log has one line more that says *pattern*."""
        before = self.count(pattern)
        action()
        eventually(lambda: self.count(pattern) > before, what, 60)

    def reload(self):
        self.then(lambda: self.kill(signal.SIGHUP), "generation \\d+ serves", "the reload")

    def fail_to_reload(self):
        self.then(lambda: self.kill(signal.SIGHUP), "not reloaded", "the refusal")

    def retire_worker(self, number):
        """End one of the workers gracefully, and wait until another has taken its place."""
        eventually(lambda: len(self.children()) == WORKERS, "the end of the old workers", 60)
        pid = sorted(self.children())[number % WORKERS]
        os.kill(pid, signal.SIGTERM)
        eventually(
            lambda: pid not in self.children() and len(self.children()) == WORKERS,
            "the replacement",
            60,
        )


@pytest.mark.slow
@pytest.mark.frontend("nginx")
@pytest.mark.usefixtures("stubborn_nginx")
@pytest.mark.timeout(int(SECONDS) + 300)
@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_no_request_is_lost(protocol, tmp_path):
    app = tmp_path / "site.py"
    app.write_text(APPLICATION)
    bind = f"{protocol}+unix://{tmp_path}/app.sock"
    ends_at = time.monotonic() + SECONDS / 3
    rounds = 0
    with Service("serve", app, "--bind", bind, "--workers", WORKERS, "--threads", "8") as service:
        service.await_text("serving", "err")
        with (
            launch("nginx", Site(via=protocol, bind=parse(bind), listen_port=0)) as front,
            Visitors(front.site.listen_port) as visitors,
        ):
            while rounds < ROUNDS or time.monotonic() < ends_at:
                asked = visitors.asked
                if rounds == ROUNDS // 2:
                    app.write_text("raise RuntimeError('a version that cannot be loaded')\n")
                    service.fail_to_reload()
                    app.write_text(APPLICATION.replace("first", "second version"))
                service.reload()
                service.retire_worker(rounds)
                rounds += 1
                eventually(lambda asked=asked: visitors.asked > asked + 64, "the load", 60)
            said = front.log()
        assert visitors.wrong == [], said
        assert visitors.versions == {"first", "second version"}
        assert visitors.asked > 64 * ROUNDS
        service.kill(signal.SIGTERM)
        assert service.finish() == 0
        service.assert_left_nothing()
