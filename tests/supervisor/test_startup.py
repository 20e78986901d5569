"""Applications that cannot serve: what the start says and leaves, and what a reload does."""

import signal

import pytest

from cli_harness import eventually
from supervisor_harness import APPLICATION, Service

pytestmark = pytest.mark.slow  # processes, one after another

STARTS = [pytest.param((), id="forked"), pytest.param(("--preload",), id="preload")]


class Refused(Service):
    """One whose start is expected to fail."""

    def __enter__(self):
        return self

    def assert_refused(self, status, words):
        """It ends with *status*, says *words* once, and leaves nothing."""
        assert self.finish() == status
        assert self.err.count(words) == 1
        assert self.err.startswith("portico: ")
        assert "Traceback" not in self.err
        self.assert_left_nothing()
        assert not self.socket.exists()
        assert not (self.directory / "status.sock").exists()


@pytest.mark.parametrize("options", STARTS)
def test_application_that_hangs_at_its_import(options, tmp_path):
    (tmp_path / "hangs").touch()
    with Refused(tmp_path, "--workers", 3, "--startup-timeout", 0.6, *options) as service:
        service.assert_refused(2, "did not come to serve within startup_timeout (0.6 seconds)")


@pytest.mark.parametrize("options", STARTS)
def test_application_that_ends_its_process_at_its_import(options, tmp_path):
    (tmp_path / "dies").touch()
    with Refused(tmp_path, "--workers", 3, *options) as service:
        service.assert_refused(1, "ended with status 3 before it could serve")


@pytest.mark.parametrize("options", STARTS)
@pytest.mark.parametrize(
    ("health", "words"),
    [("unwell", "health request /well: answered 500 Not Well"), ("raises", "answered 500")],
)
def test_application_that_is_not_well(options, health, words, tmp_path):
    (tmp_path / "health").write_text(health)
    with Refused(tmp_path, "--workers", 3, "--health", "/well", *options) as service:
        assert service.finish() == 2
        assert service.err.count(words) == 1
        assert service.err.startswith("portico: application ")
        # what it wrote is repeated, or nobody would know why
        assert service.err.count("RuntimeError: the database is away") == (health == "raises")
        service.assert_left_nothing()
        assert not service.socket.exists()


@pytest.mark.parametrize("options", STARTS)
def test_application_that_is_well(options, tmp_path):
    (tmp_path / "health").write_text("very")
    with Service(tmp_path, "--workers", 2, "--health", "/well", *options) as service:
        service.await_serving(2)
        assert service.ask("/well").body == b"very"
        eventually(lambda: service.status()["total"]["requests"] == 1, "the count")


@pytest.mark.parametrize("options", STARTS)
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("hangs", "within startup_timeout (1 seconds)"),
        ("dies", "ended with status 3 before it could serve"),
        ("health", "health request /well: answered 500"),
    ],
)
def test_reload_that_fails_changes_nothing(options, spoil, words, tmp_path):
    (tmp_path / "health").write_text("very")
    options = ("--workers", 2, "--health", "/well", "--startup-timeout", 1, *options)
    with Service(tmp_path, *options) as service:
        before = service.await_serving(2)
        (tmp_path / spoil).write_text("unwell")
        service.app.write_text(APPLICATION.replace('"first"', '"second version"'))
        service.kill(signal.SIGHUP)
        service.await_text("not reloaded", "err")
        assert service.err.count(words) == 1
        assert service.await_serving(2) == before
        assert service.ask().body == b"first"
        parent = service.status()["parent"]
        assert (parent["failed_reloads"], parent["crashes"], parent["generation"]) == (1, 0, 1)
        assert words in parent["last_failure"]
        assert parent["state"] == "serving"
        if spoil == "health":
            (tmp_path / spoil).write_text("very")
        else:
            (tmp_path / spoil).unlink()
        service.kill(signal.SIGHUP)
        service.await_text("generation 2 serves", "err")
        service.await_serving(2, but=before)  # the old ones may take what comes until they end
        assert service.ask().body == b"second version"
        assert service.status()["parent"]["last_failure"] == ""
