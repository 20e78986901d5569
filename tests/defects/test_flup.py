"""What flup 1.0.3 (and flup-py3) does wrong: defects 1 to 37 of `listing`."""

from __future__ import annotations

import ast
import errno
import os
import resource
import select
import signal
import socket
import stat
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from backends import Backend
from cgi_harness import run_script, write_script
from cli_harness import Command, one_sentence
from codecs_harness import collect, deliveries
from core_harness import answering as application
from core_harness import assert_failed, run
from defects import wire
from defects.wire import BOTH, begin, params, record, records, refuses
from engine_harness import (
    KEEPING,
    PLAIN,
    PROTOCOLS,
    WAIT,
    Frontend,
    Held,
    Process,
    Running,
    environ_for,
    hello,
    make_codec,
    reading,
    request_octets,
    until,
)
from portico.client.pool import Pool
from portico.codecs import ajp, fastcgi, scgi
from portico.config.settings import OPTIONS, Settings
from portico.core.environ import EnvironRules
from portico.core.input import RequestBody
from portico.core.mount import Mounting, NotMounted
from portico.errors import (
    ApplicationError,
    ConfigError,
    LimitExceeded,
    RemoteProtocolError,
    RequestAborted,
    TransportError,
)
from portico.events import BodyReceived
from portico.limits import Limits
from portico.transports import unix
from portico.transports.bind import Bind, check_exposed, parse
from supervisor_harness import Service
from vectors import ajp as ajp_vectors

SOURCE = Path(__file__).parents[2] / "src" / "portico"
HELLO = Path(__file__).parents[2] / "examples" / "hello.py"

each = pytest.mark.parametrize("protocol", PROTOCOLS)


def broken_later(_environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"begun"
    raise ValueError("too late")


@pytest.mark.parametrize("make", BOTH)
def test_defect_01_a_pair_across_records_makes_no_variable(make):
    # the value of A holds what would be REMOTE_USER=root, were a record's start a pair's start
    inner = fastcgi.encode_pairs([("REMOTE_USER", "root")]).decode("latin-1")
    block = fastcgi.encode_pairs([("A", "x" * 9 + inner)])
    for cut in range(1, len(block)):
        octets = begin() + record(wire.PARAMS, 1, block[:cut]) + record(wire.PARAMS, 1, block[cut:])
        (got,) = collect(make(), [octets + record(wire.PARAMS) + record(wire.STDIN)])
        assert list(got.environ) == ["A"]


@each
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_defect_02_strangers_must_be_allowed_by_name(protocol, host):
    bind = parse(f"{protocol}://{host}:4000")
    with pytest.raises(ConfigError, match="allow="):
        check_exposed(bind)


def test_defect_03_secrets_and_stored_methods_work_and_attributes_set_nothing():
    fields_ = ajp_vectors.FIELDS
    named = ["REQUEST_METHOD", "REMOTE_ADDR", "REMOTE_USER", "HTTP_X", "wsgi.input", "SCRIPT_NAME"]
    attributes = " ".join(f'0A "{name}" "evil"' for name in named)
    text = f'{{ 02 FF {fields_} 00 00 0C "open" 0D "PATCH" {attributes} FF }}'
    for name in named:  # however much the operator wants it
        with pytest.raises(ConfigError, match=name):
            ajp.ServerCodec(Limits(), allowed_attributes=frozenset([name]))
    codec = ajp.ServerCodec(Limits(), secret="open")  # noqa: S106
    (got,) = collect(codec, [ajp_vectors.octets(text)])
    assert got.environ == ajp_vectors.ENVIRON | {"REQUEST_METHOD": "PATCH"}
    codec = ajp.ServerCodec(Limits(), secret="shut")  # noqa: S106
    with pytest.raises(RemoteProtocolError) as caught:
        codec.receive_data(ajp_vectors.octets(text))
    assert caught.value.status_hint == 403


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\0"])
def test_defect_04_no_line_break_reaches_a_head(break_):
    injected = f"x{break_}Set-Cookie: evil=1"
    for status, headers in (
        (f"200 {injected}", PLAIN),
        ("200 OK", [*PLAIN, ("Location", injected)]),
        ("200 OK", [*PLAIN, (injected, "x")]),
    ):
        sink, errors, _ = run(application([b"body"], status, headers))
        assert_failed(sink, errors, "Set-Cookie")
        assert not sink.header("Location")


def test_defect_05_wire_names_pose_as_nothing(tmp_path):
    wires = ["wsgi.input", "wsgi.url_scheme", "portico.bind", "", "a b", "A=B", "HTTP_PROXY"]
    mine = {"wsgi.input": object(), "portico.bind": "mine"}
    environ = EnvironRules(mine).finish(environ_for() | dict.fromkeys(wires, "evil"))
    assert "evil" not in environ.values()
    assert environ.items() >= mine.items()
    script = write_script(
        tmp_path,
        "import os\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    found = {'HTTP_PROXY', 'wsgi.evil'} & {*environ} or {'HTTP_PROXY'} & {*os.environ}\n"
        "    return [repr(found).encode()]\n",
    )
    more = {"HTTP_PROXY": "http://evil.test", "wsgi.evil": "1"}
    assert run_script(script, **more).body == b"set()"


def test_defect_06_paths_are_decoded_once():
    environ = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/a%20b%2525?q=%20"}
    assert EnvironRules({}).finish(environ)["PATH_INFO"] == "/a b%25"
    octets = make_codec("ajp").send_request(environ_for(REQUEST_URI="/a%20b%2525"), b"", end=True)
    (got,) = collect(ajp.ServerCodec(Limits()), [octets])
    assert got.environ["PATH_INFO"] == "/a b%25"


@pytest.mark.parametrize("path", ["/application/x", "/application", "/ap", "/", ""])
def test_defect_07_prefixes_end_with_their_segment(path):
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path}
    with pytest.raises(NotMounted):
        Mounting("/app").apply(environ)
    assert environ == {"SCRIPT_NAME": "", "PATH_INFO": path}
    rules = EnvironRules({}, Mounting("/app"))
    assert rules.finish(environ_for("/app/ly/x"))["PATH_INFO"] == "/ly/x"


@pytest.mark.parametrize("what", ["file", "live socket", "directory"])
def test_defect_08_nothing_but_a_stale_socket_is_removed(tmp_path, what):
    path = tmp_path / "s"
    bind = Bind(protocol="scgi", transport="unix", path=str(path), mode=0o640)
    with ExitStack() as stack:
        if what == "file":
            path.write_text("precious")
        elif what == "directory":
            path.mkdir()
        else:
            live = stack.enter_context(socket.socket(socket.AF_UNIX))
            live.bind(str(path))
            live.listen()
        before = path.lstat()
        with pytest.raises((TransportError, ConfigError)):
            unix.listen(bind)
        assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_defect_08_the_mode_needs_no_umask_and_the_socket_is_removed(tmp_path, monkeypatch):
    path = tmp_path / "s"
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("umask belongs to all threads"))
    sock, file = unix.listen(Bind(protocol="scgi", transport="unix", path=str(path), mode=0o640))
    with sock:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o640
        file.remove()
        assert not path.exists()


def test_defect_09_no_file_of_a_known_name_is_written():
    arguments = ["--bind", "scgi://127.0.0.1:0", "--debug", "--log-level", "debug"]
    with Command("serve", HELLO, *arguments) as command:
        port = int(command.await_text(r"on scgi://127\.0\.0\.1:(\d+)", "err")[1])
        with Frontend("scgi", ("127.0.0.1", port)) as frontend:
            assert frontend.ask().status == "200 OK"
        assert list(command.temporary.iterdir()) == []


@pytest.mark.parametrize(
    "octets",
    [b"1_0:", b"+5:", b" 5:", b"5 :", b"-5:", b"0x5:", b"05:", b"9" * 11, "\u0665:".encode()],
)
def test_defect_10_a_netstring_begins_with_plain_digits(octets):
    with pytest.raises(RemoteProtocolError, match="netstring"):
        scgi.ServerCodec(Limits()).receive_data(octets)


@pytest.mark.parametrize(
    "block",
    [b"A\0b\0SCGI\x001\0", b"CONTENT_LENGTH\x000\0A\0b\0", b"CONTENT_LENGTH\x000\0SCGI\x002\0"],
)
def test_defect_10_the_declared_size_is_bounded_and_the_magic_is_checked(block):
    with pytest.raises(LimitExceeded):  # before one octet of it has come
        scgi.ServerCodec(Limits(max_params_bytes=1000)).receive_data(b"1001:")
    with pytest.raises(RemoteProtocolError) as caught:
        scgi.ServerCodec(Limits()).receive_data(b"%d:%b," % (len(block), block))
    assert caught.value.status_hint == 400


def test_defect_11_reading_beyond_the_body_does_not_wait():
    def app(environ, start_response):
        read = environ["wsgi.input"].read
        body = [read(), read(), read(1000), environ["wsgi.input"].readline()]
        start_response("200 OK", PLAIN)
        return [repr(body).encode()]

    with Running(app, "scgi") as server, server.connect("scgi") as frontend:
        frontend.send(request_octets("scgi", body=b"whole") + b"excess")  # and it stays open
        assert frontend.finish().body == b"[b'whole', b'', b'', b'']"


@each
@pytest.mark.parametrize("how", ["close", "reset"])
def test_defect_12_a_connection_lost_in_a_read_frees_its_thread(protocol, how):
    ended = []
    reads = threading.Semaphore(0)

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/lost":
            reads.release()
            try:
                environ["wsgi.input"].read()
            except RequestAborted as error:
                ended.append(error)
                raise
        return hello(environ, start_response)

    with Running(app, protocol, threads=1) as server:
        for number in range(3):
            with server.connect(protocol) as frontend:
                frontend.begin("/lost", b"part", length=1000, end=False)
                assert reads.acquire(timeout=WAIT)
                getattr(frontend, how)()
            until(lambda number=number: len(ended) == number + 1, "the end of the read")
        assert server.ask(protocol).body == b"hello"


def test_defect_13_requests_at_a_time_are_capped():
    held = Held()
    with Running(held, "scgi", threads=2) as server:
        frontends = [server.connect("scgi") for _ in range(12)]
        for frontend in frontends:
            frontend.begin("/held")
        held.wait_entered(2)
        assert server.workers() == 2
        held.gate.set()
        assert all(frontend.finish().whole for frontend in frontends)
        assert held.most == 2


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_defect_13_a_body_that_nobody_reads_stays_with_its_sender(protocol):
    held = Held()
    with Running(held, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin("/held", length=1 << 30, end=False)
        held.wait_entered()
        octets = frontend.codec.send_body(bytes(1_000_000))
        frontend.sock.setblocking(False)
        taken = 0
        while select.select([], [frontend.sock], [], 0.5)[1]:
            taken += frontend.sock.send(octets)
            assert taken < 64_000_000, "it is taken in without an end"
        held.gate.set()


def test_defect_14_an_abort_ends_a_read():
    raised = threading.Event()

    def app(environ, _start_response):
        with pytest.raises(RequestAborted):
            environ["wsgi.input"].read()
        raised.set()
        raise RequestAborted("the same again")

    with Running(app, "fastcgi") as server, server.connect("fastcgi") as frontend:
        frontend.send(begin() + params(**environ_for(method="POST")) + record(wire.STDIN, 1, b"a"))
        frontend.send(record(wire.ABORT))
        assert raised.wait(WAIT)  # while the socket stays open


@each
def test_defect_15_a_peer_that_keeps_its_end_open_holds_no_thread(protocol):
    with Running(hello, protocol, threads=1) as server, ExitStack() as stack:
        for _ in range(3):
            frontend = stack.enter_context(server.connect(protocol, keep=False))
            assert frontend.ask().body == b"hello"  # and it does not close
        assert server.workers() == 1
        if protocol != "ajp":  # there the web server closes
            assert frontend.ends() == "eof"


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED, errno.EPERM]
)
def test_defect_16_no_error_of_accept_ends_the_server(number):
    server = Running(hello, "scgi")
    (listener,) = server._listeners
    accept = listener.accept
    errors = [OSError(number, os.strerror(number))] * 2

    def failing():
        if errors:
            raise errors.pop()
        return accept()

    listener.accept = failing
    with server:
        assert server.ask("scgi").body == b"hello"
    assert not errors


def test_defect_17_descriptors_beyond_1024_serve_as_any_other():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    numbers = []

    def app(environ, start_response):
        numbers.append(environ["portico.client_gone"].__self__.fd)
        return reading(environ, start_response)

    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        for _ in range(1100):
            stack.callback(os.close, os.dup(null))
        with Running(app, "fastcgi") as server, server.connect("fastcgi") as frontend:
            for _ in range(2):
                frontend.begin(length=9, end=False)
                until(lambda: numbers, "the request")  # which now waits for its body
                frontend.more(b"nine more", end=True)
                assert frontend.finish().body == b"9"
                assert numbers.pop() > 1024


def test_defect_18_every_wait_has_a_bound_and_idle_peers_cost_no_thread():
    names = ("head", "body", "write", "drain", "idle", "queue", "graceful")
    waits = [f"{what}_timeout" for what in names]
    assert all(0 < getattr(Settings(), name) < 86_400 for name in waits)
    assert {OPTIONS[name].least > 0 for name in waits} == {True}  # they cannot be turned off
    assert Settings().threads <= 64
    with Running(hello, "fastcgi", threads=1, head_timeout=0.3) as server:
        idle = [server.connect("fastcgi") for _ in range(20)]
        half = server.connect("fastcgi")
        half.send(begin())
        assert server.ask("fastcgi").body == b"hello"
        assert server.workers() == 1
        assert half.ends() == "eof"
        assert idle[0].ends() == "eof"


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(record(wire.BEGIN, 1, b"\0\1"), id="short-begin"),
        pytest.param(record(wire.BEGIN, 1), id="empty-begin"),
        pytest.param(begin() + record(4, 1, b"\5\5A") + record(4), id="cut-pair"),
        pytest.param(begin() + record(4, 1, b"\x80") + record(4), id="cut-length"),
        pytest.param(begin() + record(4, 1, b"\5") + record(4), id="one-length"),
    ],
)
def test_defect_19_malformed_records_are_refused_and_closed(make, octets):
    for chunks in deliveries(octets):
        assert refuses(make(), chunks)
    with Running(hello, "fastcgi") as server:
        got = wire.whole_answer(server, octets)
        assert got == b"" or b"Status: 400" in got
        assert len(server.log.having("refused")) == 1


SERVING = """\
import sys
import portico

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"here"]

"""


def test_defect_20_the_pool_of_processes_grows(tmp_path):
    options = ("--workers", 3, "--threads", 1, "--on-demand")
    with Service(tmp_path, *options) as service:
        held = [service.hold(name) for name in ("one", "two", "three")]
        assert len({pid for _, pid in held}) == 3
        service.let_go()
        for frontend, _ in held:
            with frontend:
                assert frontend.finish().status == "200 OK"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_defect_21_signals_end_an_idle_process(tmp_path, number):
    path = tmp_path / "s"
    source = SERVING + "portico.serve(application, 'scgi+unix://' + sys.argv[1])"
    with Process(tmp_path, "-c", source, path) as process:
        until(path.exists, "the socket")
        with Frontend("scgi", str(path)) as frontend:
            assert frontend.ask().body == b"here"
        process.signal(number)
        assert process.ends() == 0
    assert not path.exists()


def test_defect_22_sigusr1_opens_the_logs_anew_and_ends_nobody(tmp_path):
    access = tmp_path / "access.log"
    with Service(tmp_path, "--workers", 2, "--access-log", access) as service:
        before = service.await_serving(2)
        frontend, _ = service.hold()
        assert service.ask("/?old").status == "200 OK"
        until(lambda: "/?old" in access.read_text(), "the line")
        moved = access.rename(tmp_path / "moved.log")
        service.kill(signal.SIGUSR1)
        until(access.exists, "the new file")
        # it is made by the parent; the workers follow
        until(lambda: service.ask("/?new").whole and "/?new" in access.read_text(), "a line")
        service.let_go()
        with frontend:
            assert frontend.finish().status == "200 OK"
        until(lambda: "/held?one" in access.read_text() + moved.read_text(), "its line")
        assert "/?old" in moved.read_text()
        assert service.await_serving(2) == before


def test_defect_23_a_port_that_is_taken_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Command("serve", HELLO, "--bind", f"scgi://127.0.0.1:{port}") as command:
            assert command.finish() != 0
            assert f"127.0.0.1:{port} is taken" in one_sentence(command.err)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ValueError])
def test_defect_24_what_an_application_raises_is_told(kind):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise kind("on purpose")
        return hello(environ, start_response)

    with Running(app, "scgi", threads=2) as server:
        assert server.ask("scgi", "/raise").status.startswith("500")
        assert f"{kind.__name__}: on purpose" in server.errors.getvalue()
        assert server.ask("scgi").body == b"hello"
        assert bool(server.log.having("only the request ended")) == (kind is not ValueError)


def test_defect_25_serving_off_the_main_thread_works(tmp_path):
    path = tmp_path / "s"
    source = (
        f"{SERVING}import threading\n"
        "serve = lambda: portico.serve(application, 'scgi+unix://' + sys.argv[1])\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "sys.stdin.read()\n"
    )
    with Process(tmp_path, "-c", source, path, stdin=subprocess.PIPE) as process:
        until(lambda: path.exists() or process.stderr, "the socket")
        with Frontend("scgi", str(path)) as frontend:
            assert frontend.ask().body == b"here"
        process.process.stdin.close()
        assert process.ends() == 0
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize("make", BOTH)
def test_defect_26_get_values_is_answered(make):
    codec = make()
    names = ["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS", "FCGI_MAX_REQS"]
    codec.receive_data(record(wire.GET_VALUES, 0, fastcgi.encode_pairs((n, "") for n in names)))
    ((kind, request_id, content),) = records(codec.data_to_send())
    assert (kind, request_id) == (wire.GET_VALUES_RESULT, 0)
    values = dict(fastcgi.decode_pairs(content))
    assert [*values] == [*dict.fromkeys(values)]
    assert {*values} == {*names}
    assert all(value.isdigit() for value in values.values())


@pytest.mark.parametrize("cut", range(12))
def test_defect_27_readline_keeps_to_its_size(cut):
    whole = b"abcdefgh\nij\n"
    pieces = iter([whole[cut:], b""])
    body = RequestBody(whole[:cut], lambda: next(pieces))
    assert [body.readline(3), body.readline(5), body.readline(9), body.readline(9)] == [
        b"abc", b"defgh", b"\n", b"ij\n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 None"), ("GET", "304 Same")]
)
@pytest.mark.parametrize("result", [[], [b"body"], (b"bo", b"dy")])
def test_defect_28_responses_without_body_get_no_false_length(method, status, result):
    sink, _, _ = run(application(result, status), method)
    assert sink.body == b""
    assert sink.header("Content-Length") in ([], ["4"])
    if method == "GET":
        assert not sink.header("Content-Length")


def test_defect_28_content_length_is_held_to():
    five = [*PLAIN, ("Content-Length", "5")]
    sink, errors, _ = run(application(iter([b"four", b"more"]), "200 OK", five))
    assert (sink.body, sink.ended) == (b"fourm", True)
    assert "Content-Length" in errors
    sink, errors, _ = run(application(iter([b"four"]), "200 OK", five))
    assert (sink.body, sink.ended, sink.aborted) == (b"four", False, True)
    assert "Content-Length" in errors


@each
def test_defect_29_a_response_that_broke_off_does_not_look_whole(protocol):
    with Running(broken_later, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin()
        with pytest.raises((RemoteProtocolError, ConnectionResetError)):
            frontend.finish()
    if protocol == "fastcgi":
        with Running(broken_later, protocol) as server:
            try:
                got = wire.whole_answer(server, request_octets(protocol))
            except ConnectionResetError:
                return
            assert {kind for kind, _, _ in records(got)} == {wire.STDOUT}


def test_defect_30_an_error_over_ajp_is_a_500():
    def app(_environ, _start_response):
        raise ValueError("on purpose")

    with Running(app, "ajp") as server:
        answer = server.ask("ajp")
    assert answer.status == "500 Internal Server Error"
    assert b"ValueError" not in answer.body


@pytest.mark.parametrize("method", ["PATCH", "CONNECT", "M-SEARCH", "x"])
def test_defect_31_stored_methods_and_chunked_bodies_arrive_over_ajp(method):
    with Running(reading, "ajp") as server, server.connect("ajp") as frontend:
        for _ in range(2):
            frontend.begin(method=method, end=False, HTTP_TRANSFER_ENCODING="chunked")
            while not frontend.answer.whole:
                for event in frontend.codec.receive_data(frontend.sock.recv(65_536)):
                    take(frontend, event)
            assert frontend.answer.body == b"10"


def take(frontend, event):
    """Answer each wish for body: with ten octets once, then with its end."""
    name = type(event).__name__
    if name == "BodyWanted":
        sent = getattr(frontend.answer, "sent", False)
        frontend.answer.sent = True
        frontend.more(b"" if sent else b"ten octets", end=sent)
    elif name == "ResponseBodyReceived":
        frontend.answer.body += event.data
    elif name == "ResponseEnded":
        frontend.answer.whole = True


@pytest.mark.parametrize("size", [8192, 65_536, 70_000])
def test_defect_31_a_head_beyond_the_packet_size_is_not_sent(size):
    codec, number = wire.answering("ajp")
    with pytest.raises(ApplicationError, match="packet_size"):
        codec.send_response(number, "200 OK", [("X-Large", "x" * size)])
    assert codec.send_response(number, "500 Internal Server Error", [])


def test_defect_31_end_response_tells_whether_the_connection_goes_on():
    codec, number = wire.answering("ajp")
    assert codec.send_response(number, "200 OK", []).endswith(b"AB\0\2\5\1")
    codec = ajp.ServerCodec(Limits())
    codec.receive_data(ajp_vectors.post(5))  # whose body packet is on its way
    assert codec.send_response(0, "200 OK", []).endswith(b"AB\0\2\5\0")


@each
def test_defect_32_an_empty_body_is_octets(protocol):
    def app(environ, start_response):
        body = environ["wsgi.input"]
        start_response("200 OK", PLAIN)
        return [repr([body.read(), body.read(1), body.readline(), body.readlines()]).encode()]

    with Running(app, protocol) as server:
        assert server.ask(protocol).body == b"[b'', b'', b'', []]"


def test_defect_33_cgi_is_octets_in_and_out(tmp_path):
    script = write_script(
        tmp_path,
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'application/octet-stream')])\n"
        "    return [environ['wsgi.input'].read()]\n",
    )
    body = bytes(range(256)) + b"\r\n\n\r\x1a"
    answer = run_script(script, body, REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)))
    assert (answer.status, answer.body) == ("200 OK", body)


@each
def test_defect_34_the_clients_work_and_stream(protocol):
    first_seen = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"%d;" % len(environ["HTTP_COOKIE"])
        assert first_seen.wait(WAIT), "the first block did not come on its own"
        yield environ["wsgi.input"].read()

    length = 100_000 if protocol in {"fastcgi", "scgi"} else 5000  # uwsgi and AJP hold no more
    environ = environ_for(method="POST", HTTP_COOKIE="c" * length)
    with Backend(protocol, app) as backend, Pool(backend.url) as pool:
        for _ in range(2):
            first_seen.clear()
            with pool.open(environ, b"body") as answer:
                assert answer.status == "200 OK"
                assert next(answer) == b"%d;" % length
                first_seen.set()
                assert b"".join(answer) == b"body"


def test_defect_34_an_unknown_id_does_not_keep_a_client_waiting():
    client = fastcgi.ClientCodec(Limits())
    client.send_request({})
    with pytest.raises(RemoteProtocolError):
        client.receive_data(record(wire.STDOUT, 7, b"X: y\n\n"))


#: Modules that the standard library has lost by Python 3.13.
GONE = {
    "aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils",
    "imghdr", "imp", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd",
    "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib",
}  # fmt: skip


def test_defect_35_no_module_is_used_that_python_has_dropped():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert GONE.isdisjoint(name.partition(".")[0] for name in names), path

    def app(_environ, _start_response):
        raise ValueError("<shown>")

    sink, _, _ = run(app, debug=True)
    assert b"ValueError: &lt;shown&gt;" in sink.body


@pytest.mark.parametrize("make", BOTH)
def test_defect_36_a_large_body_is_neither_copied_nor_cut_small(make):
    codec = make()
    codec.receive_data(begin() + params(A="b") + record(wire.STDIN))
    codec.send_response(1, "200 OK", [], end=False)
    data = bytes(24_000_000)
    parts = codec.send_body_parts(1, data)
    pieces = [part for part in parts if isinstance(part, memoryview)]
    assert all(piece.obj is data for piece in pieces)
    assert len(parts) <= 2 * (len(data) // 60_000)
    codec = make()
    codec.receive_data(begin() + params(A="b"))
    octets = record(wire.STDIN, 1, bytes(65_528)) * 16
    events = codec.receive_data(octets)
    assert {type(event) for event in events} == {BodyReceived}
    assert sum(len(event.data) for event in events) == 16 * 65_528


@pytest.mark.parametrize("protocol", KEEPING)
def test_defect_36_a_response_is_one_write(protocol, monkeypatch):
    writes = []
    for name in ("write", "writev"):
        real = getattr(os, name)

        def counting(fd, data, real=real):
            if threading.current_thread().name == "engine-under-test":
                writes.append(fd)
            return real(fd, data)

        monkeypatch.setattr(os, name, counting)

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        return [bytes(60_000)]

    with Running(app, protocol, threads=1) as server, server.connect(protocol) as frontend:
        frontend.ask()
        writes.clear()
        assert len(frontend.ask().body) == 60_000
        assert len(writes) == 1


def test_defect_37_max_requests_counts_requests(tmp_path):
    options = ("--workers", 1, "--max-requests", 5, "--recycle-jitter", 0)
    with Service(tmp_path, *options, protocol="fastcgi") as service, ExitStack() as kept:
        (pid,) = service.serving()
        for _ in range(20):  # connections without a request wear nothing
            kept.enter_context(service.connect())
        until(lambda: service.status()["total"]["connections"] == 20, "the connections")
        assert service.serving() == [pid]
        frontend = kept.enter_context(service.connect())
        asked = 0
        while frontend.ask().header("X-Process") == [str(pid)]:
            asked += 1
        assert asked >= 5
        assert service.count(r"is replaced: \d+ requests \(max_requests\)") >= 1
