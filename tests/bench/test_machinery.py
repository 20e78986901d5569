"""Processes, their time and memory, and nginx's configuration."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

import machinery

#: Works in a thread that ends, in a child that ends, and in a child that stays; says how much.
WORKER = """\
import resource, subprocess, sys, threading, time

def work():
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass

thread = threading.Thread(target=work)
thread.start()
thread.join()
code = "import time\\nwhile time.process_time() < 0.3: pass\\nprint(flush=True)\\ninput()"
def child():
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
ended = child()
ended.communicate("\\n")
staying = child()
staying.stdout.readline()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
own = time.process_time()
print(own, used.ru_utime + used.ru_stime, staying.pid, flush=True)
input()
staying.communicate("\\n")
"""


@pytest.fixture
def worker():
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        own, ended, child = process.stdout.readline().split()
        yield process.pid, int(child), float(own), float(ended)
        process.communicate("\n")


def test_cpu_time_of_ended_threads_and_children_and_of_living_ones(worker):
    root, child, own, ended = worker
    tick = 1 / machinery.TICKS
    assert own > 0.2
    assert ended > 0.3
    alone = machinery.cpu_seconds(child)
    assert alone > 0.3
    whole = machinery.cpu_seconds(root)
    assert whole >= own + ended - 2 * tick + alone
    assert whole < own + ended + machinery.cpu_seconds(child) + 1  # nothing twice


def test_a_tree_is_the_root_and_its_descendants(worker):
    root, child, *_ = worker
    assert machinery.tree(root) == [root, child]
    assert os.getpid() not in machinery.tree(root)


def test_memory_of_a_tree_is_more_than_that_of_its_root_s_child(worker):
    root, child, *_ = worker
    shared, private = machinery.memory(root)
    assert shared > machinery.memory(child)[0] > 1
    assert 0 < private <= shared
    assert machinery.pss(root) == pytest.approx(shared, rel=0.5)


def test_a_server_that_ends_at_once_says_why(tmp_path):
    log = tmp_path / "log"
    with ExitStack() as stack:
        process = machinery.start(
            stack, [sys.executable, "-c", "raise SystemExit('no such thing')"], log
        )
        with pytest.raises(machinery.NotStarted, match="no such thing"):
            machinery.wait_for(machinery.free_port(), process, log)


def test_what_is_started_is_waited_for_and_ended(tmp_path):
    port, log = machinery.free_port(), tmp_path / "log"
    script = "import os, socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
    script += "print(os.environ['WORD'], flush=True); s.accept(); s.accept(); s.accept()"
    with ExitStack() as stack:
        argv = [sys.executable, "-c", script, str(port)]
        process = machinery.start(stack, argv, log, {"WORD": "said"})
        machinery.wait_for(port, process, log)
        assert process.poll() is None
        assert Path(f"/proc/{process.pid}").exists()
    assert process.returncode is not None
    assert log.read_text().startswith("said")


@pytest.mark.parametrize(
    ("protocol", "kept", "words", "absent"),
    [
        ("fastcgi", True, "fastcgi_keep_conn on;", "proxy_"),
        ("fastcgi", False, "fastcgi_pass up_x;", "keep"),
        ("scgi", False, "scgi_param PATH_INFO $document_uri;", "keep"),
        ("uwsgi", False, "uwsgi_pass up_x;", "PATH_INFO"),
        ("http", True, "proxy_set_header Host $http_host;", "_params"),
    ],
)
def test_places_in_nginx(protocol, kept, words, absent):
    upstream, location = machinery.nginx_place(protocol, "x", 81, kept=kept)
    assert "server 127.0.0.1:81" in upstream
    assert ("keepalive 64" in upstream) == kept
    assert location.startswith("location /x/ {")
    assert words in location
    assert absent not in location


@pytest.mark.frontend("nginx")
def test_nginx_takes_the_configuration(tmp_path):
    places = [
        machinery.nginx_place(
            protocol, f"{protocol}_server", 81, kept=protocol in {"fastcgi", "http"}
        )
        for protocol in ("fastcgi", "scgi", "uwsgi", "http")
    ]
    config = machinery.nginx_config(tmp_path, machinery.free_port(), places)
    log = str(tmp_path / "log")
    run = subprocess.run(
        [machinery.find("nginx"), "-t", "-q", "-e", log, "-c", str(config)],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
