"""``portico.serve(application, bind, workers=2)``: a parent and its workers, from Python."""

import signal
import sys
import threading

import pytest

import portico
from cli_harness import Command, eventually
from engine_harness import hello
from portico.errors import ConfigError

SCRIPT = """\
import os, portico, sys

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getppid()]

if __name__ == "__main__":
    print("begins", os.getpid(), flush=True)
    portico.serve(application, sys.argv[1], workers=2, status_socket=sys.argv[2])
    print("ends", os.getpid(), flush=True)
"""


class Script(Command):
    program = ()


def test_workers_are_forked_and_never_run_what_comes_behind(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    bind = f"scgi+unix://{tmp_path}/app.sock"
    with Script(script, bind, tmp_path / "status.sock") as command:
        eventually(lambda: len(command.children()) == 2, "the workers")
        eventually((tmp_path / "app.sock").exists, "the socket")
        with Command("request", f"{bind}:/") as request:
            assert request.finish() == 0
            assert request.out.strip() == str(command.pid)
        before = set(command.children())
        command.kill(signal.SIGHUP)
        eventually(
            lambda: len(command.children()) == 2 and not before & set(command.children()),
            "the next generation",
        )
        command.kill(signal.SIGTERM)
        assert command.finish() == 0
        assert command.out.split() == ["begins", str(command.pid), "ends", str(command.pid)]
        command.assert_left_nothing()
        assert not (tmp_path / "app.sock").exists()


def test_off_the_main_thread_it_is_refused(tmp_path):
    refused = []

    def serve():
        try:
            portico.serve(hello, f"scgi+unix://{tmp_path}/s", workers=2)
        except ConfigError as error:
            refused.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(20)
    assert "the main thread" in refused[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_changed_code_is_loaded_by_the_command_alone(workers, tmp_path):
    with pytest.raises(ConfigError, match="only portico serve loads changed code"):
        portico.serve(hello, f"scgi+unix://{tmp_path}/s", workers=workers, reload=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_one_worker_is_this_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.replace("workers=2", "workers=1").replace(", status_socket=", ", health=")
    )
    with Script(script, f"scgi+unix://{tmp_path}/app.sock", "/health") as command:
        eventually((tmp_path / "app.sock").exists, "the socket")
        assert command.children() == []
        with Command("request", f"scgi+unix://{tmp_path}/app.sock:/") as request:
            assert request.finish() == 0
        command.kill(signal.SIGTERM)
        assert command.finish() == 0
