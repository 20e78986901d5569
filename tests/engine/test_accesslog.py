"""The access log: its two formats, what they escape, and what requests leave in it."""

import fcntl
import json
import os
import re
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from engine_harness import KEEPING, PLAIN, PROTOCOLS, Held, Running, environ_for, hello, until
from portico.core.identity import is_id, label, sent_id, trace_of
from portico.engine.accesslog import AccessLog

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"

#: As a log analyser reads it: Apache's fields, then ours.
COMBINED = re.compile(
    r'(?P<remote>[^ "]+) - (?P<user>[^ "]+) \[(?P<time>[^]]+)\]'
    r' "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<octets>\d+|-)'
    r' "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
    r" (?P<micros>\d+) (?P<protocol>[a-z]+) (?P<worker>\d+) (?P<id>[A-Za-z0-9._-]+)"
    r" (?P<trace>[0-9a-f]{32}|-) (?P<cut>[X-])"
)

FORMATS = pytest.mark.parametrize("form", ["combined", "json"])


@pytest.fixture
def file(tmp_path):
    """An access log's file: its descriptor and its lines."""

    class File:
        path = tmp_path / "access.log"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def octets(self):
            return self.path.read_bytes()

        def lines(self):
            text = self.octets().decode("ascii")
            assert not text or text.endswith("\n")
            return text.splitlines()

        def wait(self, number=1):
            until(lambda: len(self.lines()) >= number, f"{number} access lines")
            return self.lines()

        def combined(self, number=1):
            found = [COMBINED.fullmatch(line) for line in self.wait(number)]
            assert all(found), self.lines()
            return found

        def json(self, number=1):
            return [json.loads(line) for line in self.wait(number)]

        def status(self, form, number=1):
            """Status and completeness of each line."""
            if form == "json":
                return [(one["status"], one["complete"]) for one in self.json(number)]
            return [(int(one["status"]), one["cut"] == "-") for one in self.combined(number)]

    file = File()
    yield file
    os.close(file.fd)


def write(file, form, status=200, octets=5, *, complete=True, **more):
    access = AccessLog(file.fd, form)
    environ = {"portico.protocol": "fastcgi", "portico.bind": "fastcgi://x", **environ_for("/a?b")}
    access.end(access.begin(environ | more), status, octets, complete=complete)


# -- the formats ---------------------------------------------------------------------------


def test_combined_has_apaches_fields_and_ours(file):
    write(
        file, "combined", 404, 1234, REMOTE_USER="ann", HTTP_REFERER="http://r/",
        HTTP_USER_AGENT="a b/1", HTTP_X_REQUEST_ID="abc.1", HTTP_TRACEPARENT=TRACEPARENT,
    )  # fmt: skip
    [line] = file.combined()
    found = line.groupdict()
    moment = datetime.strptime(found.pop("time"), "%d/%b/%Y:%H:%M:%S %z")
    assert abs(moment.timestamp() - time.time()) < 60
    assert int(found.pop("micros")) < 60_000_000
    assert found == {
        "remote": "192.0.2.7", "user": "ann", "request": "GET /a?b HTTP/1.1", "status": "404",
        "octets": "1234", "referer": "http://r/", "agent": "a b/1", "protocol": "fastcgi",
        "worker": str(os.getpid()), "id": "abc.1", "trace": TRACE, "cut": "-",
    }  # fmt: skip


def test_json_has_a_key_for_each_field(file):
    write(
        file, "json", 404, 1234, REMOTE_USER="ann", HTTP_REFERER="http://r/", HTTP_HOST="h:8",
        HTTP_USER_AGENT="a b/1", HTTP_X_REQUEST_ID="abc.1", HTTP_TRACEPARENT=TRACEPARENT,
    )  # fmt: skip
    [found] = file.json()
    text = found.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", text)
    assert abs(datetime.fromisoformat(text).timestamp() - time.time()) < 60
    assert 0 <= found.pop("duration_ms") < 60_000
    assert found == {
        "remote": "192.0.2.7", "user": "ann", "method": "GET", "target": "/a?b",
        "http": "HTTP/1.1", "status": 404, "octets": 1234, "referer": "http://r/",
        "agent": "a b/1", "host": "h:8", "protocol": "fastcgi", "bind": "fastcgi://x",
        "worker": os.getpid(), "id": "abc.1", "trace": TRACE, "parent": PARENT,
        "aborted": False, "complete": True,
    }  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_times_are_local_with_their_zone(file, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        write(file, "combined")
        write(file, "json")
    finally:
        monkeypatch.undo()
        time.tzset()
    first, second = file.lines()
    moment = datetime.strptime(COMBINED.fullmatch(first)["time"], "%d/%b/%Y:%H:%M:%S %z")
    other = datetime.fromisoformat(json.loads(second)["time"])
    assert abs(moment.timestamp() - time.time()) < 60
    assert abs(other.timestamp() - time.time()) < 60
    assert moment.utcoffset() == other.utcoffset()


def test_what_was_not_sent(file):
    write(file, "combined", octets=0, REMOTE_ADDR="")
    write(file, "json", octets=0)
    first, second = file.lines()
    line = COMBINED.fullmatch(first)
    assert [line[name] for name in ("remote", "user", "octets", "referer", "agent", "trace")] == [
        "-"
    ] * 6
    found = json.loads(second)
    names = ("user", "referer", "agent", "host", "trace", "parent")
    assert [found[name] for name in names] == [None] * 6
    assert found["octets"] == 0


def test_cut_and_aborted(file):
    write(file, "combined", 200, complete=False)
    write(file, "json", 200, complete=False)
    write(file, "json", 499, complete=False)
    cut, *others = file.lines()
    assert COMBINED.fullmatch(cut)["cut"] == "X"
    found = [json.loads(line) for line in others]
    assert [(one["complete"], one["aborted"]) for one in found] == [(False, False), (False, True)]


# -- what clients control ------------------------------------------------------------------

CLIENTS = ("REMOTE_USER", "REQUEST_URI", "HTTP_REFERER", "HTTP_USER_AGENT", "REMOTE_ADDR",
           "REQUEST_METHOD", "SERVER_PROTOCOL")  # fmt: skip

HOSTILE = [
    pytest.param('x" 200 5 "-" "-', r"x\" 200 5 \"-\" \"-", id="quotes"),
    pytest.param("x\n192.0.2.9 - - [", r"x\x0a192.0.2.9 - - [", id="line-feed"),
    pytest.param("x\r\ny", r"x\x0d\x0ay", id="carriage-return"),
    pytest.param("x\x1b]0;owned\x07", r"x\x1b]0;owned\x07", id="terminal-escape"),
    pytest.param("x\x9b31m", r"x\x9b31m", id="c1-control"),
    pytest.param("x\x7f\x00\x08", r"x\x7f\x00\x08", id="delete-nul-backspace"),
    pytest.param("x\\", r"x\\", id="backslash-before-the-quote"),
    pytest.param("x\\n\\x0a", r"x\\n\\x0a", id="backslashes-that-look-escaped"),
    pytest.param("caf\xc3\xa9", r"caf\xc3\xa9", id="non-ascii"),
    pytest.param("x\x85y\xa0z", r"x\x85y\xa0z", id="next-line-and-hard-space"),
]


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_combined_escapes(file, name, text, shown):
    write(file, "combined", **{name: text})
    [line] = file.combined()
    if name in {"REMOTE_USER", "REMOTE_ADDR"}:
        shown = shown.replace(" ", r"\x20").replace(r"\"", r"\x22")  # nothing tells where it ends
    assert shown in line[0]
    assert line["status"] == "200"
    assert line["protocol"] == "fastcgi"


@pytest.mark.parametrize("name", [*CLIENTS, "HTTP_HOST"])
@pytest.mark.parametrize(("text", "_shown"), HOSTILE)
def test_json_escapes(file, name, text, _shown):
    write(file, "json", **{name: text})
    octets = file.octets()
    assert octets.count(b"\n") == 1
    assert all(32 <= octet < 127 for octet in octets[:-1])
    [found] = file.json()
    keys = {"REMOTE_USER": "user", "REQUEST_URI": "target", "HTTP_REFERER": "referer",
            "HTTP_USER_AGENT": "agent", "REMOTE_ADDR": "remote", "REQUEST_METHOD": "method",
            "SERVER_PROTOCOL": "http", "HTTP_HOST": "host"}  # fmt: skip
    assert found[keys[name]] == text.encode("latin-1").decode("utf-8", "backslashreplace")
    assert found["status"] == 200


@FORMATS
def test_long_texts_are_cut(file, form):
    write(file, form, REQUEST_URI="/" + "t" * 70_000, HTTP_REFERER="r" * 70_000,
          HTTP_USER_AGENT='"' * 70_000, REMOTE_USER="u" * 70_000)  # fmt: skip
    [line] = file.lines()
    assert 4096 + 2 * 1024 < len(line) < 10_000
    assert file.status(form) == [(200, True)]


# -- ids and traces ------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "A.b_c-9", "x" * 128])
def test_ids_that_can_be_one(text):
    assert is_id(text)
    assert sent_id({"HTTP_X_REQUEST_ID": text}) == sent_id({"REQUEST_ID": text}) == text


@pytest.mark.parametrize("text", ["", "x" * 129, "a b", "a\n", "\xe9", 'a"', "a\x1b", None, 7])
def test_ids_that_cannot(text):
    assert not is_id(text)
    assert sent_id({"HTTP_X_REQUEST_ID": text}) == ""
    assert sent_id({"HTTP_X_REQUEST_ID": text, "REQUEST_ID": "good"}) == "good"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        pytest.param(TRACEPARENT, True, id="valid"),
        pytest.param(f"00-{TRACE}-{PARENT}-00", True, id="not-sampled"),
        pytest.param(f"01-{TRACE}-{PARENT}-01", False, id="another-version"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", False, id="forbidden-version"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-x", False, id="more-behind-it"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", False, id="capitals"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", False, id="no-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", False, id="no-parent"),
        pytest.param(f"00-{TRACE}-{PARENT}-0g", False, id="flags-no-hex"),
        pytest.param(f"00_{TRACE}-{PARENT}-01", False, id="first-dash"),
        pytest.param(f"00-{TRACE}_{PARENT}-01", False, id="second-dash"),
        pytest.param(f"00-{TRACE}-{PARENT}_01", False, id="third-dash"),
        pytest.param(f"00-{TRACE[:-1]}\n-{PARENT}-01", False, id="line-feed"),
        pytest.param(f"00-{TRACE[:-1]}-{PARENT}a-01", False, id="shifted"),
        pytest.param("", False, id="empty"),
        pytest.param(None, False, id="not-sent"),
        pytest.param(["x"], False, id="the-applications-own"),
    ],
)
def test_traceparent(text, valid):
    assert trace_of({"HTTP_TRACEPARENT": text}) == ((TRACE, PARENT) if valid else ("", ""))


def test_label_says_what_there_is():
    assert label({}) == ""
    assert label({"REQUEST_ID": "a"}) == " [request a]"
    assert label({"REQUEST_ID": "a", "portico.request_id": "b"}) == " [request b]"
    whole = label({"REQUEST_ID": "a", "HTTP_TRACEPARENT": TRACEPARENT})
    assert whole == f" [request a, trace {TRACE}, parent {PARENT}]"


def test_made_ids_are_unique_across_processes(file):
    seen = set()
    for _ in range(50):
        access = AccessLog(file.fd, "json")  # each as in another process
        for _ in range(20):
            environ = environ_for()
            entry = access.begin(environ)
            assert is_id(entry.id)
            assert environ["portico.request_id"] == entry.id
            seen.add(entry.id)
    assert len(seen) == 1000


# -- the descriptor ------------------------------------------------------------------------


def test_lines_of_several_processes_stay_whole(file):
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            fd = os.open(file.path, os.O_WRONLY | os.O_APPEND)
            access = AccessLog(fd, "combined")
            for _ in range(500):
                environ = environ_for("/" + str(number) * 3000)
                access.end(access.begin(environ), 200, 1, complete=True)
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    lines = file.lines()
    assert len(lines) == 2000
    assert {len(set(re.search(r"GET /(\d+) ", line)[1])) for line in lines} == {1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_full_disk_fails_no_request():
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with Running(hello, "scgi", engine={"access_fd": fd}) as server:
            assert [server.ask("scgi").body for _ in range(5)] == [b"hello"] * 5
            [line] = server.log.having("cannot write the access log")  # not one for each
            assert "No space left" in line
    finally:
        os.close(fd)


def test_closed_pipe_fails_no_request():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with Running(hello, "scgi", engine={"access_fd": writing}) as server:
            assert [server.ask("scgi").body for _ in range(5)] == [b"hello"] * 5
            assert len(server.log.having("cannot write the access log")) == 1
    finally:
        os.close(writing)


def test_line_that_was_torn_takes_no_other_with_it():
    """What a full pipe, or disk, has taken of one stands alone; the next begins a line."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 8192)
        os.set_blocking(writing, False)
        access = AccessLog(writing, "combined")
        environ = environ_for(
            "/" + "t" * 4000, HTTP_USER_AGENT="\0" * 1000, HTTP_REFERER="\0" * 1000
        )
        access.end(access.begin(environ), 200, 1, complete=True)
        assert not os.read(reading, 65_536).endswith(b"\n")
        access.end(
            access.begin(environ_for("/next") | {"portico.protocol": "scgi"}), 200, 1, complete=True
        )
        line = os.read(reading, 65_536).decode().splitlines()[-1]
        assert COMBINED.fullmatch(line)
    finally:
        os.close(reading)
        os.close(writing)


# -- requests ------------------------------------------------------------------------------


@FORMATS
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_request_has_its_line(file, form, protocol):
    with Running(hello, protocol, engine={"access_fd": file.fd}, access_format=form) as server:
        server.ask(protocol, "/one", HTTP_USER_AGENT="agent")
        server.ask(protocol, "/two", method="HEAD")
        assert file.status(form, 2) == [(200, True)] * 2
    first, second = file.lines()
    if form == "json":
        first, second = json.loads(first), json.loads(second)
        assert first["bind"].startswith(f"{protocol}://")
        assert (first["octets"], second["octets"]) == (5, 0)
        assert [first["method"], first["target"]] == ["GET", "/one"]
        assert second["method"] == "HEAD"
    else:
        first, second = COMBINED.fullmatch(first), COMBINED.fullmatch(second)
        assert (first["octets"], second["octets"]) == ("5", "-")
        assert first["request"].startswith("GET /one ")
    assert first["protocol"] == protocol
    assert first["id"] != second["id"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_application_sees_the_id(file, protocol):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        return [environ.get("portico.request_id", "none").encode()]

    def ask(server, **more):
        return server.ask(protocol, **more).body.decode()

    with Running(app, protocol, engine={"access_fd": file.fd}, access_format="json") as server:
        made = ask(server)
        assert ask(server, HTTP_X_REQUEST_ID="sent") == "sent"
        assert ask(server, HTTP_X_REQUEST_ID="bad id") not in {"bad id", "none"}
        assert [one["id"] for one in file.json(3)][:2] == [made, "sent"]
    with Running(app, protocol) as server:
        assert ask(server) == "none"


def test_the_application_cannot_change_its_line(file):
    def app(environ, start_response):
        environ.clear()
        start_response("200 OK", PLAIN)
        return [b"x"]

    with Running(app, "scgi", engine={"access_fd": file.fd}, access_format="json") as server:
        server.ask("scgi", "/true")
        assert file.json()[0]["target"] == "/true"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_file_and_stream_are_counted_in_octets(file, protocol, tmp_path):
    path = tmp_path / "body"
    path.write_bytes(b"f" * 300_000)

    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        if environ["PATH_INFO"] == "/file":
            return environ["wsgi.file_wrapper"](path.open("rb"))
        return iter([b"a" * 70_000, b"b" * 30_000])

    with Running(app, protocol, engine={"access_fd": file.fd}, access_format="json") as server:
        assert len(server.ask(protocol, "/file").body) == 300_000
        assert len(server.ask(protocol, "/stream").body) == 100_000
        assert [one["octets"] for one in file.json(2)] == [300_000, 100_000]


@FORMATS
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_before_the_application(file, form, protocol):
    options = {"mount": "/app", "max_body_bytes": 10}
    with Running(
        hello, protocol, engine={"access_fd": file.fd}, access_format=form, **options
    ) as server:
        assert server.ask(protocol, "/elsewhere").status[:3] == "404"
        assert server.ask(protocol, "/app/x", b"b" * 20).status[:3] == "413"
        assert file.status(form, 2) == [(404, True), (413, True)]
        until(lambda: server.engine.figures()["requests"] == 2, "the count")
    assert all("/elsewhere" in line for line in file.lines()[:1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_application_that_fails(file, protocol):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/late":
            start_response("200 OK", PLAIN)
            return failing()
        if environ["PATH_INFO"] == "/exit":
            raise SystemExit(3)
        raise ValueError

    def failing():
        yield b"part"
        raise ValueError

    with Running(app, protocol, engine={"access_fd": file.fd}, access_format="json") as server:
        assert server.ask(protocol, "/early", HTTP_TRACEPARENT=TRACEPARENT).status[:3] == "500"
        with pytest.raises(Exception):  # noqa: B017, PT011 - cut, as each protocol shows it
            assert server.ask(protocol, "/late").whole is None
        server.ask(protocol, "/exit")
        assert file.status("json", 3) == [(500, True), (200, False), (500, True)]
        until(lambda: server.engine.figures()["errors"] == 2, "the count of errors")
        # wsgi.errors names the request
        assert f"trace {TRACE}, parent {PARENT}]\nTraceback" in server.errors.getvalue()
        assert server.log.having("[request ")  # of sys.exit


@FORMATS
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_client_that_leaves_in_the_upload(file, form, protocol):
    def app(environ, start_response):
        environ["wsgi.input"].read()
        start_response("200 OK", PLAIN)
        return [b"x"]

    with Running(app, protocol, engine={"access_fd": file.fd}, access_format=form) as server:
        frontend = server.connect(protocol)
        frontend.begin("/up", b"part", length=1000, end=False, HTTP_TRACEPARENT=TRACEPARENT)
        frontend.close()
        assert file.status(form) == [(499, False)]
        until(lambda: server.engine.figures()["aborted"] == 1, "the count")
        assert server.log.having(f"trace {TRACE}, parent {PARENT}]")[0].count(" 499 ") == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_application_that_goes_on_behind_an_aborted_upload(file, protocol):
    """Frameworks turn the error into a page; nobody gets that."""

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError:
            start_response("400 Bad Request", PLAIN)
            return [b"sorry"]
        start_response("200 OK", PLAIN)
        return [b"x"]

    with Running(app, protocol, engine={"access_fd": file.fd}, access_format="json") as server:
        frontend = server.connect(protocol)
        frontend.begin("/up", b"part", length=1000, end=False)
        frontend.close()
        assert file.status("json") == [(499, False)]
        until(lambda: server.engine.figures()["aborted"] == 1, "the count")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_client_that_leaves_in_the_download(file, protocol):
    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        for _ in range(10_000):
            yield b"x" * 65_536

    with Running(app, protocol, engine={"access_fd": file.fd}, access_format="json") as server:
        frontend = server.connect(protocol)
        frontend.begin("/down")
        frontend.step()
        frontend.reset()
        [found] = file.json()
        assert (found["status"], found["complete"], found["aborted"]) == (499, False, True)
        assert found["octets"] > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_timeouts(file, protocol):
    held = Held()
    options = {"timeout": 0.2, "engine": {"access_fd": file.fd}, "access_format": "json"}

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/sent":
            start_response("200 OK", PLAIN)(b"part")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            held.gate.wait(0.01)
        return []

    with Running(app, protocol, **options) as server:
        assert server.ask(protocol, "/none", HTTP_X_REQUEST_ID="r1").status[:3] == "504"
        frontend = server.connect(protocol)
        frontend.begin("/sent")
        found = file.json(2)
        assert [(one["status"], one["complete"]) for one in found] == [(504, True), (200, False)]
        assert found[0]["octets"] > 0
        assert server.log.having("ran longer than timeout")[0].count("[request r1]") == 1
        until(lambda: server.engine.figures()["errors"] == 1, "the count")


@FORMATS
def test_late_request_is_503(file, form):
    held = Held()
    options = {
        "threads": 1,
        "queue_timeout": 0.2,
        "engine": {"access_fd": file.fd},
        "access_format": form,
    }
    options["threads"] = 2
    with Running(held, "fastcgi", **options) as server:
        fronts = [server.connect("fastcgi") for _ in range(3)]
        for number, one in enumerate(fronts[:2]):
            one.begin(f"/held/{number}")
            held.wait_entered()
            until(lambda: server.engine.pace.active, "the watchdog's look")
        with server.connect("fastcgi") as last:
            # every thread is in a request, so this one is parked when one polls again
            last.begin("/held/late", HTTP_X_REQUEST_ID="late")
            held.gate.set()
            last.finish()
        until(lambda: server.engine.figures()["requests"] == 3, "the count")
    assert len(file.lines()) == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_slow_line_names_the_request(held_app, protocol):
    with Running(held_app, protocol, slow_timeout=0.1) as server:
        frontend = server.connect(protocol)
        frontend.begin("/held", HTTP_TRACEPARENT=TRACEPARENT, HTTP_X_REQUEST_ID="r1")
        until(lambda: server.log.having("has run for"), "the slow log")
        held_app.gate.set()
        frontend.finish()
        [line] = server.log.having("has run for")
        assert f"[request r1, trace {TRACE}, parent {PARENT}] has run for" in line


@pytest.fixture
def held_app():
    held = Held()
    yield held
    held.gate.set()


@pytest.mark.parametrize("protocol", KEEPING)
def test_request_that_cannot_be_decoded(file, protocol):
    options = {"access_format": "json", "max_params": 20}
    with Running(hello, protocol, engine={"access_fd": file.fd}, **options) as server:
        with server.connect(protocol) as frontend:
            frontend.begin("/", **{f"HTTP_X_{number}": "x" for number in range(100)})
            frontend.finish()
        until(lambda: server.engine.figures()["requests"] == 1, "the count")
        [found] = file.json()
        assert found["status"] >= 400
        assert found["method"] is None
        assert found["protocol"] == protocol


def test_many_threads_write_whole_lines(file):
    def ask(server, protocol):
        for number in range(50):
            server.ask(protocol, f"/{number}")

    with Running(
        hello, engine={"access_fd": file.fd}, access_format="combined", threads=8
    ) as server:
        threads = [
            threading.Thread(target=ask, args=(server, protocol))
            for protocol in PROTOCOLS
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        found = file.combined(400)
    assert len(found) == 400
    assert len({one["id"] for one in found}) == 400
