"""Warm CGI: requests and responses pass as they would in plain CGI, and nothing is loaded twice."""

import json
import os
import signal
import socket
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from cgi_harness import DEADLINE, Answer, command, environment
from warm_harness import until

HELLO = """
import os
with open(JOURNAL, "a") as journal:
    journal.write(f"loaded by {os.getpid()}\\n")

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""

ECHO = """
import hashlib, json

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    told = {
        "environ": {k: v for k, v in environ.items() if type(v) is str},
        "wsgi": {k: v for k, v in environ.items() if type(v) is bool},
        "dict": type(environ) is dict,
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
"""


def echoed(site, stdin=b"", **params):
    answer = site.ask(stdin, **params)
    assert (answer.status, answer.errors, answer.exit_status) == ("200 OK", "", 0)
    return json.loads(answer.body)


# -- the server ----------------------------------------------------------------------------


def test_the_first_request_starts_a_server_that_answers_all(make_site):
    site = make_site(HELLO)
    answers = [site.ask() for _ in range(4)]
    pid = site.resident()
    assert [answer.body for answer in answers] == [str(pid).encode()] * 4
    assert {(answer.errors, answer.exit_status) for answer in answers} == {("", 0)}
    assert site.noted() == [f"loaded by {pid}"]


def test_its_directory_and_socket_are_the_users_alone(make_site):
    site = make_site(HELLO)
    site.ask()
    assert site.directory.stat().st_mode & 0o777 == 0o700
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in site.directory.iterdir()}
    assert modes == {".sock": 0o600, ".lock": 0o600, ".log": 0o600}


def test_without_a_name_the_directory_is_one_of_the_user(make_site):
    site = make_site(HELLO)
    site.script.write_text("import portico\nportico.run('site_application', warm=True)\n")
    answer = site.ask(TMPDIR=str(site.directory.parent))
    site.directory = site.directory.parent / f"portico-warm-{os.geteuid()}"
    assert answer.body == str(site.resident()).encode()


def test_it_belongs_to_no_session_of_the_web_server(make_site):
    site = make_site(HELLO)
    pid = int(site.ask().body)
    stat = Path(f"/proc/{pid}/stat").read_text()
    _, parent, group, session = stat.rpartition(")")[2].split()[:4]
    assert int(parent) != os.getpid()
    assert os.getsid(pid) == int(session) != os.getsid(0)
    assert int(group) == int(session)


def test_it_knows_nothing_of_the_request_that_started_it(make_site):
    site = make_site("""
import json, os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(dict(os.environ)).encode()]
""")
    answer = site.ask(HTTP_COOKIE="secret=1", PATH_INFO="/x", REMOTE_USER="joe", SETTING="kept")
    known = json.loads(answer.body)
    assert known["SETTING"] == "kept"
    assert not {name for name in known if name.startswith(("HTTP_", "REMOTE_", "SCRIPT_"))}
    assert "PATH_INFO" not in known
    assert "REQUEST_METHOD" not in known


def test_an_application_that_is_imported_already_is_refused(make_site):
    site = make_site(HELLO)
    site.script.write_text(
        "import portico, site_application\nportico.run(site_application.application, warm=True)\n"
    )
    answer = site.ask()
    assert (answer.output, answer.exit_status) == (b"", 1)
    assert 'portico.run("module:callable", warm=True)' in answer.errors


# -- octets --------------------------------------------------------------------------------


def test_the_environ_is_plain_cgis_octet_by_octet(make_site):
    """But for what says that requests run beside each other, in a process that stays."""
    every = bytes(range(1, 256))
    params = {"HTTP_X_EVERY": every, "PATH_INFO": b"/caf\xc3\xa9/\xff", "QUERY_STRING": "a=%2F+;"}
    params |= {"HTTP_X_LONG": "x" * 70_000, "REMOTE_USER": "", "HTTP_PROXY": "http://192.0.2.1"}
    warm, plain = (echoed(make_site(ECHO, warm=warm), **params) for warm in (True, False))
    for told in (warm, plain):
        told["environ"].pop("portico.bind", None)
        told["environ"].pop("SERVER_SOFTWARE")
    assert warm["environ"]["HTTP_X_EVERY"].encode("latin-1") == every
    assert "HTTP_PROXY" not in warm["environ"]
    assert "PORTICO_RESIDENT" not in warm["environ"]
    differing = {
        name: warm["environ"].get(name)
        for name in warm["environ"].keys() | plain["environ"].keys()
        if warm["environ"].get(name) != plain["environ"].get(name)
    }
    assert differing.keys() <= {"portico.role", "portico.version"}
    assert warm["wsgi"] | {"wsgi.multithread": False, "wsgi.run_once": True} == plain["wsgi"]
    assert warm["dict"] is True


RESPONSES = {
    "plain": 'start_response("200 OK", [("Content-Type", "text/plain")]); return [b"hello"]',
    "latin": 'start_response("201 Created", [("X-L", "caf\\xe9"), ("X", "1"), ("X", "2")]);'
    " return [bytes(range(256))]",
    "redirect": 'start_response("302 Found", [("Location", "/there")]); return []',
    "blocks": 'start_response("200 OK", [("Content-Type", "text/plain")]);'
    ' return (b"x" * n for n in range(300))',
    "large": 'start_response("200 OK", [("Content-Length", "5000000")]);'
    " return [bytes([n]) * 1_000_000 for n in range(5)]",
    "none": 'start_response("204 No Content", []); return []',
    "raises": 'raise ValueError("no")',
    "file": 'start_response("200 OK", [("Content-Type", "x/y")]);'
    ' return environ["wsgi.file_wrapper"](open(__file__, "rb"))',
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_plain_cgis_octet_by_octet(make_site, name, method):
    source = f"def application(environ, start_response):\n    {RESPONSES[name]}\n"
    site = make_site(source)
    warm = site.ask(REQUEST_METHOD=method)
    site.script.write_text("import portico\nportico.run('site_application')\n")
    plain = site.ask(REQUEST_METHOD=method)
    assert warm.output == plain.output
    assert warm.exit_status == plain.exit_status
    assert ("Traceback" in warm.errors) == ("Traceback" in plain.errors) == (name == "raises")


@pytest.mark.parametrize("size", [0, 1, 1000, 65_528, 65_529, 3_000_000])
def test_bodies_arrive_whole(make_site, size):
    body = bytes(range(256)) * (size // 256 + 1)
    told = echoed(
        make_site(ECHO), body[:size] + b"more", REQUEST_METHOD="POST", CONTENT_LENGTH=str(size)
    )
    assert (told["length"], told["sha256"]) == (size, sha256(body[:size]).hexdigest())


def test_a_chunked_upload_is_read_to_its_end_of_file(make_site):
    body = b"hello chunked world" * 10_000
    told = echoed(make_site(ECHO), body, REQUEST_METHOD="POST", HTTP_TRANSFER_ENCODING="Chunked")
    assert (told["length"], told["sha256"]) == (len(body), sha256(body).hexdigest())


def test_an_open_standard_input_is_not_waited_for(make_site):
    process = make_site(ECHO).start(REQUEST_METHOD="POST", CONTENT_LENGTH="5")
    with process:
        process.stdin.write(b"hello")
        process.stdin.flush()
        assert process.wait(DEADLINE) == 0  # while our end is open
        assert json.loads(Answer(process.stdout.read(), "", 0).body)["length"] == 5


READ = """
def application(environ, start_response):
    try:
        body = environ["wsgi.input"].read()
    except OSError as error:
        if environ["QUERY_STRING"] != "handled":
            raise
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"cut"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
"""


def test_a_body_shorter_than_its_length_is_no_body(make_site):
    answer = make_site(READ).ask(b"hel", REQUEST_METHOD="POST", CONTENT_LENGTH="5")
    assert (answer.output, answer.exit_status) == (b"", 1)
    assert answer.errors == "portico: 499: the body ended 2 bytes before its CONTENT_LENGTH\n"


def test_an_application_can_handle_a_cut_body(make_site):
    answer = make_site(READ).ask(
        b"hel", REQUEST_METHOD="POST", CONTENT_LENGTH="5", QUERY_STRING="handled"
    )
    assert (answer.status, answer.body, answer.exit_status) == ("400 Bad Request", b"cut", 0)


@pytest.mark.parametrize("length", ["-1", "5 ", "five", "9" * 30])
def test_a_length_that_is_no_number_is_refused(make_site, length):
    answer = make_site(READ).ask(b"hello", REQUEST_METHOD="POST", CONTENT_LENGTH=length)
    assert (answer.status, answer.exit_status) == ("400 Bad Request", 1)
    assert answer.errors.startswith("portico: refused: CONTENT_LENGTH is no number")
    assert answer.errors.count("\n") == 1


def test_what_the_server_refuses_itself_is_passed_on(make_site):
    site = make_site(READ, "max_body_bytes=4")
    answer = site.ask(b"hello", REQUEST_METHOD="POST", CONTENT_LENGTH="5")
    assert answer.status.startswith("413 ")
    assert site.resident()


STREAM = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    environ["wsgi.input"].read(1)
    yield b"second"
"""


def test_each_block_is_on_the_wire_before_the_next(make_site):
    process = make_site(STREAM).start(REQUEST_METHOD="POST", CONTENT_LENGTH="2")
    with process:
        output = b""
        while not output.endswith(b"first"):
            output += os.read(process.stdout.fileno(), 1000)
        process.stdin.write(b"x")
        process.stdin.flush()
        assert os.read(process.stdout.fileno(), 1000) == b"second"
        assert process.wait(DEADLINE) == 0  # the rest of the body is not waited for


ANSWER_FIRST = """
import hashlib
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    digest = hashlib.sha256()
    for _ in range(3_000_000 // 100_000):
        yield b"x" * 100_000
    yield hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
"""


def test_a_server_that_sends_all_of_the_body_before_it_reads_is_served(make_site):
    """Apache's mod_cgid does, over one socket for both directions."""
    body = bytes(range(256)) * 12_000
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                command(make_site(ANSWER_FIRST).script),
                env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body))),
                stdin=theirs,
                stdout=theirs,
            )
        ours.settimeout(DEADLINE)
        ours.sendall(body)  # before anything is read
        output = b""
        while data := ours.recv(1 << 20):
            output += data
        assert process.wait(DEADLINE) == 0
    got = Answer(output, "", 0).body
    assert got == b"x" * 3_000_000 + sha256(body).hexdigest().encode()


# -- the log -------------------------------------------------------------------------------


def test_errors_go_to_the_requests_log_and_prints_to_the_servers(make_site):
    site = make_site("""
import os, sys
print("at import")
def application(environ, start_response):
    print("from print", flush=True)
    os.system("echo from a shell")
    environ["wsgi.errors"].write("from wsgi.errors: \\u20ac\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the response"]
""")
    answer = site.ask(PATH=os.environ["PATH"])
    assert (answer.body, answer.errors) == (b"the response", "from wsgi.errors: \u20ac\n")
    for text in ("at import", "from print", "from a shell"):
        assert f"{text}\n" in site.log()


def test_a_log_that_has_become_long_begins_anew(make_site):
    site = make_site(HELLO)
    site.ask()
    (log,) = site.directory.glob("*.log")
    os.kill(site.resident(), signal.SIGTERM)
    log.write_text("x" * 1_100_000)
    site.ask()
    until(lambda: not site.log().startswith("x"), "the new log")
    assert len((log.parent / f"{log.name}.1").read_text()) >= 1_100_000


# -- an application that cannot be loaded --------------------------------------------------


def test_an_application_that_cannot_be_loaded_is_a_500_until_it_is_mended(make_site):
    site = make_site("import no_such_thing\n")
    answer = site.ask()
    assert answer.status == "500 Internal Server Error"
    reference = answer.errors.partition("portico: error ")[2][:12]
    assert f"<code>{reference}</code>".encode() in answer.body
    assert "No module named 'no_such_thing'" in answer.errors
    assert b"no_such_thing" not in answer.body
    site.write(HELLO)
    until(lambda: site.ask().status == "200 OK", "the mended application")


def test_options_that_do_not_exist_are_named(make_site):
    answer = make_site(HELLO, "thraeds=2").ask()
    assert answer.status == "500 Internal Server Error"
    assert "thraeds" in answer.errors


def test_a_log_file_that_cannot_be_written_is_named(make_site):
    answer = make_site(HELLO, "log_file='/nowhere/at/all.log'").ask()
    assert answer.status == "500 Internal Server Error"
    assert "cannot write to /nowhere/at/all.log" in answer.errors


# -- NPH -----------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [True, False])
def test_a_script_whose_response_is_not_parsed_speaks_http(make_site, warm):
    site = make_site(HELLO, warm=warm)
    answer = site.ask(
        SCRIPT_NAME="/cgi-bin/nph-app.cgi", SERVER_PROTOCOL="HTTP/1.0", SERVER_SOFTWARE="it/1"
    )
    head, _, body = answer.output.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "HTTP/1.0 200 OK"
    assert headers.pop("Date").endswith(" GMT")
    assert headers == {
        "Content-Type": "text/plain",
        "Content-Length": str(len(body)),
        "Server": "it/1",
        "Connection": "close",
    }
    assert body.isdigit()


def test_what_the_script_prints_is_no_part_of_the_response(make_site):
    site = make_site(HELLO, before="print('printed by the script')")
    first, second = site.ask(), site.ask()
    assert first.output == second.output
    assert first.output.startswith(b"Content-Type: ")
    assert (first.errors, second.errors) == ("printed by the script\n",) * 2
    assert "printed by the script" not in site.log()


def test_children_whose_ends_the_system_takes_do_not_matter(make_site):
    """An ignored SIGCHLD is inherited."""
    ignoring = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    site = make_site(HELLO, before=ignoring)
    assert site.ask().errors == ""
    assert site.resident()


# -- who goes away -------------------------------------------------------------------------

ENDLESS = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    class Stream:
        def __iter__(self):
            while True:
                yield b"x" * 10_000
        def close(self):
            with open(JOURNAL, "a") as journal:
                journal.write("closed\\n")
    return Stream()
"""


def test_a_script_that_the_web_server_ends_stops_the_stream(make_site):
    site = make_site(ENDLESS)
    with site.start() as process:
        assert len(process.stdout.read(100_000)) == 100_000
        process.send_signal(signal.SIGTERM)
    until(lambda: site.noted() == ["closed"], "the end of the stream")
    assert process.returncode == -signal.SIGTERM


def test_a_web_server_that_goes_away_stops_the_stream(make_site):
    site = make_site(ENDLESS)
    with site.start() as process:
        assert len(process.stdout.read(100_000)) == 100_000
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(DEADLINE) == 1
    assert errors.startswith("portico: 499: the web server went away: ")
    assert errors.count("\n") == 1
    until(lambda: site.noted() == ["closed"], "the end of the stream")


def test_requests_run_beside_each_other(make_site):
    site = make_site("""
import threading
meeting = threading.Barrier(4, timeout=20)
def application(environ, start_response):
    meeting.wait()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"met"]
""")
    processes = [site.start() for _ in range(4)]
    outputs = [process.communicate(timeout=DEADLINE)[0] for process in processes]
    assert [output[-3:] for output in outputs] == [b"met"] * 4
