"""What wfastcgi 3.0.0 does wrong: defects 43 to 56 of `listing`."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

import portico
from cli_harness import Command, one_sentence
from codecs_harness import collect
from core_harness import assert_failed, run
from defects import wire
from defects.wire import BOTH, begin, params, record, records
from engine_harness import (
    PLAIN,
    PROTOCOLS,
    WAIT,
    Frontend,
    Running,
    environ_for,
    hello,
    request_octets,
    until,
)
from portico.core.environ import EnvironRules
from portico.core.mount import Mounting, NotMounted
from portico.events import AbortReceived, BodyReceived

each = pytest.mark.parametrize("protocol", PROTOCOLS)


@pytest.mark.parametrize("name", ["HTTP_X_ORIGINAL_URL", "HTTP_X_REWRITE_URL"])
@pytest.mark.parametrize("software", ["Microsoft-IIS/10.0", "nginx/1.22.1", ""])
def test_defect_43_no_header_chooses_the_path(name, software):
    wire_ = environ_for("/public", SERVER_SOFTWARE=software, **{name: "/admin"})
    environ = EnvironRules({}).finish(wire_)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/public")


def test_defect_44_errors_and_output_are_not_sent_to_the_web_server(capsys):
    def app(environ, _start_response):
        sys.stdout.write("printed")
        sys.stderr.write("printed too")
        environ["wsgi.errors"].write("written")
        raise ValueError("on purpose")

    with Running(app, "fastcgi") as server:
        got = wire.whole_answer(server, request_octets("fastcgi", keep=False))
    assert {kind for kind, _, _ in records(got)} == {wire.STDOUT, wire.END}
    assert not any(word in got for word in (b"printed", b"written", b"purpose", b"Traceback"))
    assert "printed" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["/App/x", "/APP", "/apple/x", "/app.py", "/appx"])
def test_defect_45_prefixes_are_compared_exactly_and_by_segment(path):
    with pytest.raises(NotMounted):
        Mounting("/app").apply({"SCRIPT_NAME": "", "PATH_INFO": path})


@pytest.mark.parametrize("path", ["/APP.PY/x", "/app.pyc/x", "/app.py.x"])
def test_defect_45_a_script_name_is_taken_off_whole_or_not_at_all(path):
    iis = environ_for(path, SERVER_SOFTWARE="Microsoft-IIS/10.0", SCRIPT_NAME="/app.py")
    assert EnvironRules({}).finish(iis)["PATH_INFO"] == path


HELLO = Path(__file__).parents[2] / "examples" / "hello.py"


def listening(pid):
    """The TCP ports that a process listens on."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
        inodes |= {found[1]} if found else set()
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in inodes:  # LISTEN
                ports.add(int(cells[1].rpartition(":")[2], 16))
    return ports


def test_defect_46_no_debugger_listens():
    told = {"WSGI_PTVSD_SECRET": "x", "WSGI_PTVSD_ADDRESS": "127.0.0.1:0", "PORTICO_DEBUG": "yes"}
    with Command("serve", HELLO, "--bind", "scgi://127.0.0.1:0", env=told) as command:
        port = int(command.await_text(r"on scgi://127\.0\.0\.1:(\d+)", "err")[1])
        with Frontend("scgi", ("127.0.0.1", port)) as frontend:
            assert frontend.ask().status == "200 OK"
        for pid in (command.pid, *command.children()):
            assert listening(pid) == {port}


MISFITS = [
    pytest.param(record(wire.STDIN, 99, b"x"), id="unknown-id"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no-fastcgi"),
    pytest.param(record(wire.BEGIN, 1, b"\0\1"), id="short-record"),
    pytest.param(begin() + record(wire.PARAMS, 1, b"\5\5A") + record(wire.PARAMS), id="cut-pair"),
    pytest.param(record(wire.PARAMS, 1, b"\1\1Ab") + record(wire.PARAMS), id="params-for-nothing"),
    pytest.param(begin() + b"\1", id="cut-record"),
]


@pytest.mark.parametrize("octets", MISFITS)
def test_defect_47_no_octets_end_the_process_or_become_variables(octets):
    seen = []

    def app(environ, start_response):
        seen.append({name for name in environ if "." not in name})
        return hello(environ, start_response)

    whole = begin(2, flags=0) + params(2, **environ_for()) + record(wire.STDIN, 2)
    with Running(app, "fastcgi", head_timeout=0.3) as server:
        with server.connect("fastcgi") as frontend:
            frontend.send(octets)
            if octets == MISFITS[0].values[0]:  # it is passed over, and the next is served
                frontend.send(whole)
                assert b"hello" in frontend.sock.recv(65_536)
        wire.whole_answer(server, whole)
        assert server.ask("fastcgi").body == b"hello"
    assert len(seen) >= 2
    assert all(names == seen[0] for names in seen)
    assert "A" not in seen[0]


@pytest.mark.parametrize("make", BOTH)
def test_defect_47_a_pair_may_be_cut_anywhere(make):
    block = params(A="b", C="d")[8:16]
    for cut in range(1, len(block)):
        parts = record(wire.PARAMS, 1, block[:cut]) + record(wire.PARAMS, 1, block[cut:])
        (got,) = collect(make(), [begin() + parts + record(wire.PARAMS) + record(wire.STDIN)])
        assert got.environ == {"A": "b", "C": "d"}


@each
def test_defect_48_the_application_starts_before_the_body_is_there(protocol):
    read = threading.Event()

    def app(environ, start_response):
        first = environ["wsgi.input"].read(4)
        read.set()
        rest = environ["wsgi.input"].read()
        start_response("200 OK", PLAIN)
        return [first, b"|", rest]

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin("/", b"12345", length=9, end=False)
        if protocol == "ajp":
            assert frontend.codec.body_on_demand
        assert read.wait(WAIT)
        frontend.more(b"last", end=True)
        assert frontend.finish().body == b"1234|5last"


@pytest.mark.parametrize("make", BOTH)
def test_defect_48_body_is_handed_on_as_it_comes(make):
    codec = make()
    codec.receive_data(begin() + params(A="b"))
    octets = record(wire.STDIN, 1, bytes(10_000)) * 200
    handed = 0
    for at in range(0, len(octets), 65_536):
        for event in codec.receive_data(octets[at : at + 65_536]):
            assert type(event) is BodyReceived
            handed += len(event.data)
        assert at + 65_536 - handed < 100_000  # a record and the headers, at most
    assert handed == 2_000_000


@each
@pytest.mark.parametrize("block", [3_000_000, 12_000])
def test_defect_49_a_partial_write_loses_nothing(protocol, block):
    body = bytes(range(250)) * 12_000

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        return (body[at : at + block] for at in range(0, len(body), block))

    with (
        Running(app, protocol) as server,
        server.connect(protocol, receive_bytes=4096) as frontend,
    ):
        assert frontend.ask().body == body


@pytest.mark.parametrize("make", BOTH)
def test_defect_51_stdout_ends_once_and_at_the_end(make):
    codec = make()
    codec.receive_data(begin() + params(A="b") + record(wire.STDIN))
    octets = codec.send_response(1, "200 OK", [], end=False)
    for piece in (b"", b"one", b"", b"two"):
        octets += codec.send_body(1, piece)
    octets += codec.send_body(1, b"", end=True)
    kinds = [(kind, bool(content)) for kind, _, content in records(octets)]
    full, empty = (wire.STDOUT, True), (wire.STDOUT, False)
    assert kinds == [full, full, full, empty, (wire.END, True)]
    codec.receive_data(record(wire.GET_VALUES, 0, b"\x0e\0FCGI_MAX_CONNS"))
    assert len(records(codec.data_to_send())) == 1


def never_starts(_environ, _start_response):
    return [b"body"]


def nothing_at_all(_environ, _start_response):
    return []


def raises_first(_environ, _start_response):
    raise ValueError("on purpose")


@each
@pytest.mark.parametrize("app", [never_starts, nothing_at_all, raises_first])
def test_defect_52_a_response_that_was_never_started_is_a_whole_500(protocol, app):
    with Running(app, protocol) as server:
        answer = server.ask(protocol)
    assert (answer.status, answer.whole) == ("500 Internal Server Error", True)
    assert answer.header("Content-Length") == [str(len(answer.body))]
    sink, errors, _ = run(app)
    assert_failed(sink, errors, "start_response" if app is not raises_first else "on purpose")


@pytest.mark.parametrize("make", BOTH)
def test_defect_53_keep_conn_and_aborts_are_heeded(make):
    codec = make()
    codec.receive_data(begin(flags=0) + params(A="b"))
    assert not codec.keep_open
    assert [type(event) for event in codec.receive_data(record(wire.ABORT))] == [AbortReceived]
    codec = make()
    codec.receive_data(begin(role=9))
    assert records(codec.data_to_send()) == [(wire.END, 1, b"\0\0\0\0\3\0\0\0")]
    codec.receive_data(record(wire.GET_VALUES, 0, b"\x0e\0FCGI_MAX_CONNS"))
    assert b"FCGI_MAX_CONNS" in codec.data_to_send()


def test_defect_53_neither_path_info_nor_stdin_need_come():
    environ = environ_for()
    del environ["PATH_INFO"], environ["REQUEST_URI"], environ["SCRIPT_NAME"]
    with Running(hello, "fastcgi") as server, server.connect("fastcgi") as frontend:
        frontend.send(begin() + params(**environ))  # and no STDIN, not even its end
        frontend.codec.send_request({}, b"", end=True)
        assert frontend.finish().body == b"hello"


def test_defect_54_standard_streams_stay_what_they_are(capsys):
    """What the first request binds, such as a logging handler, must work in all later ones."""
    handlers = []
    streams = []

    def app(environ, start_response):
        if not handlers:
            handlers.append(logging.StreamHandler(sys.stderr))
        streams.append((sys.stdout, sys.stderr))
        name = environ["PATH_INFO"]
        handlers[0].emit(logging.LogRecord("app", 20, "", 0, f"logged {name}", (), None))
        environ["wsgi.errors"].write(f"written {name}\n")
        return hello(environ, start_response)

    mine = (sys.stdout, sys.stderr)
    with Running(app, "fastcgi", threads=1) as server:
        for number in range(3):
            assert server.ask("fastcgi", f"/{number}").status == "200 OK"
        assert server.errors.getvalue().splitlines() == [f"written /{n}" for n in range(3)]
    assert streams == [mine] * 3
    assert capsys.readouterr().err.splitlines() == [f"logged /{number}" for number in range(3)]


HELD = """\
import os, time

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begins"
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.01)
    yield b", ends"
"""


def test_defect_50_changed_code_ends_no_request(tmp_path):
    app, go = tmp_path / "held.py", tmp_path / "go"
    app.write_text(HELD)
    bind = f"scgi+unix://{tmp_path}/app.sock"
    with Command("serve", app, "--bind", bind, "--reload") as service:
        service.await_text("serving", "err")
        with Frontend("scgi", f"{tmp_path}/app.sock") as frontend:
            frontend.begin(f"/?{go}")
            until(lambda: frontend.sock.recv(4096, socket.MSG_PEEK), "the first block")
            app.write_text(HELD.replace("begins", "begins anew"))
            service.await_text("generation 2 serves", "err")
            go.touch()
            assert frontend.finish().body == b"begins, ends"
        service.kill(signal.SIGTERM)
        assert service.finish() == 0


@pytest.mark.parametrize("option", ["--log-file", "--access-log"])
def test_defect_55_a_log_that_cannot_be_opened_is_told_or_left_as_it_is(option, tmp_path):
    file = tmp_path / "logs" / "log"
    bind = f"scgi+unix://{tmp_path}/refused.sock"
    with Command("serve", HELLO, "--bind", bind, option, file) as refused:
        assert refused.finish() == 2
        assert str(file) in one_sentence(refused.err)
    file.parent.mkdir()
    errors = tmp_path / "errors.log"
    log = () if option == "--log-file" else ("--log-file", errors)
    with Command("serve", HELLO, "--bind", bind, option, file, *log) as service:
        said = file if option == "--log-file" else errors
        until(lambda: said.exists() and "serving" in said.read_text(), "the start")
        moved = file.parent.rename(tmp_path / "moved")
        service.kill(signal.SIGUSR1)
        said = moved / "log" if option == "--log-file" else errors
        until(lambda: str(file) in said.read_text(), "the complaint")
        with Frontend("scgi", f"{tmp_path}/refused.sock") as frontend:
            assert frontend.ask().status == "200 OK"
        service.kill(signal.SIGTERM)
        assert service.finish() == 0


#: Modules of flup 0.5 that no later release has.
ENDED = {"middleware", "publisher", "resolver"}


@pytest.mark.parametrize("app", ["broken.py", "broken:app", "package.broken:app"])
def test_defect_56_an_error_in_an_import_is_told_as_it_is(tmp_path, app):
    (tmp_path / "package").mkdir()
    for folder in (tmp_path, tmp_path / "package"):
        (folder / "broken.py").write_text("import no_such_module_of_all\napp = None\n")
    arguments = [app, "--bind", "scgi://127.0.0.1:0"]
    with Command("serve", *arguments, cwd=tmp_path) as command:
        assert command.finish() == 2
        first, *rest = command.err.splitlines()
        assert "no_such_module_of_all" in first
        assert any("broken.py" in line and "line 1" in line for line in rest)


def test_defect_56_every_module_imports_here():
    for found in pkgutil.walk_packages(portico.__path__, "portico."):
        package, _, name = found.name.rpartition(".")
        if package == "portico.compat.flup" and name in ENDED:  # they are there to say so
            with pytest.raises(ImportError, match=rf"flup\.{name} is not there"):
                importlib.import_module(found.name)
        elif name != "__main__":
            importlib.import_module(found.name)
