"""Connections that stay are shared out among the workers, whoever happens to be awake."""

from collections import Counter
from contextlib import ExitStack

import pytest

from supervisor_harness import Service

#: What no worker may exceed of 16 connections: one that is awake comes first for a while.
MOST = 12


def open_connections(service, stack, number):
    """Open *number* connections that stay, a request on each; gives how many each worker has."""
    found = Counter()
    for _ in range(number):
        frontend = stack.enter_context(service.connect(keep=True))
        (process,) = frontend.ask("/version").header("X-Process")
        found[process] += 1
    return found


@pytest.mark.parametrize("protocol", ["fastcgi", "ajp"])
def test_no_worker_takes_them_all(tmp_path, protocol):
    with Service(tmp_path, "--workers", "2", protocol=protocol) as service, ExitStack() as stack:
        service.await_serving(2)
        found = open_connections(service, stack, 16)
    assert len(found) == 2
    assert max(found.values()) <= MOST


def test_a_worker_that_accepts_nothing_holds_nobody_up(tmp_path):
    """All its threads are in requests, so the other one gets all of them."""
    with (
        Service(tmp_path, "--workers", "2", "--threads", "1", protocol="fastcgi") as service,
        ExitStack() as stack,
    ):
        pids = service.await_serving(2)
        held, holder = service.hold()
        with held:
            found = open_connections(service, stack, 16)
            service.let_go()
            held.finish()
    assert found == {str(*({*pids} - {holder})): 16}
