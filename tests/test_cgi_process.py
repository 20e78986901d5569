"""portico.cgi.run in real processes: descriptors, octets, lies and ends."""

import json
import os
import signal
import socket
import subprocess
import threading
from hashlib import sha256

import pytest

from cgi_harness import DEADLINE, Answer, command, environment, run_script, write_script

ECHO = """
import hashlib, json, os

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    told = {
        "environ": {k: v for k, v in environ.items() if type(v) is str},
        "types": sorted({type(k).__name__ for k in environ}),
        "wsgi": {k: v for k, v in environ.items() if k.startswith("wsgi.") and type(v) is bool},
        "version": environ["wsgi.version"],
        "dict": type(environ) is dict,
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "proxies": [name for name in os.environ if name.upper() == "HTTP_PROXY"],
        "again": environ["wsgi.input"].read(1).decode(),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
"""


def echoed(tmp_path, stdin=b"", **params):
    answer = run_script(write_script(tmp_path, ECHO), stdin, **params)
    assert (answer.status, answer.errors, answer.exit_status) == ("200 OK", "", 0)
    return json.loads(answer.body)


def answered(tmp_path, body, stdin=b"", *, options="", **params):
    """The answer of an application whose body of code is *body*."""
    lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
    source = f"import os, subprocess\ndef application(environ, start_response):\n{lines}\n"
    return run_script(write_script(tmp_path, source, options), stdin, **params)


# The environ.


def test_environ_is_the_process_environment_octet_by_octet(tmp_path):
    every = bytes(range(1, 256))
    told = echoed(
        tmp_path, HTTP_X_EVERY=every, PATH_INFO=b"/caf\xc3\xa9/\xff", HTTP_X_LATIN=b"\xe9"
    )
    environ = told["environ"]
    assert environ["HTTP_X_EVERY"].encode("latin-1") == every
    assert environ["PATH_INFO"] == "/caf\xc3\xa9/\xff"
    assert environ["HTTP_X_LATIN"] == "\xe9"
    assert (told["types"], told["dict"]) == (["str"], True)


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"PYTHONUTF8": "1"}])
def test_the_locale_changes_no_octet(tmp_path, locale):
    environ = echoed(tmp_path, HTTP_X=b"\xff\xe9\xc3\xa9", **locale)["environ"]
    assert environ["HTTP_X"] == "\xff\xe9\xc3\xa9"


def test_wsgi_keys_are_cgis(tmp_path):
    told = echoed(tmp_path)
    assert told["wsgi"] == {
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
        "wsgi.input_terminated": True,
    }
    assert told["version"] == [1, 0]
    assert told["environ"]["wsgi.url_scheme"] == "http"
    assert told["environ"]["portico.protocol"] == "cgi"


def test_http_proxy_is_gone_from_the_process_as_well(tmp_path):
    told = echoed(tmp_path, HTTP_PROXY="http://192.0.2.1:3128")
    assert "HTTP_PROXY" not in told["environ"]
    assert told["proxies"] == []


def test_names_that_can_be_no_variable_are_dropped(tmp_path):
    odd = {"wsgi.input": "x", "portico.protocol": "x", "BASH_FUNC_x%%": "() { :; }"}
    told = echoed(tmp_path, **odd)
    assert odd.keys() & told["environ"].keys() == {"portico.protocol"}
    assert told["environ"]["portico.protocol"] == "cgi"


# Standard input.


def test_a_body_is_read_to_its_length_and_no_further(tmp_path):
    told = echoed(tmp_path, b"hello and more", REQUEST_METHOD="POST", CONTENT_LENGTH="5")
    assert (told["length"], told["sha256"]) == (5, sha256(b"hello").hexdigest())
    assert told["again"] == ""


def test_a_body_of_every_octet_arrives(tmp_path):
    body = bytes(range(256)) * 8192
    told = echoed(tmp_path, body, REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)))
    assert (told["length"], told["sha256"]) == (len(body), sha256(body).hexdigest())


@pytest.mark.parametrize("length", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}])
def test_without_a_length_there_is_no_body(tmp_path, length):
    assert echoed(tmp_path, b"stray", **length)["length"] == 0


@pytest.mark.parametrize("length", ["0", "", None, "5"])
def test_an_open_standard_input_is_not_waited_for(tmp_path, length):
    """RFC 3875 §4.2 promises no end of file behind the body."""
    params = {} if length is None else {"CONTENT_LENGTH": length}
    process = subprocess.Popen(
        command(write_script(tmp_path, ECHO)),
        env=environment(REQUEST_METHOD="POST", **params),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        process.stdin.write(b"hello")
        process.stdin.flush()
        assert process.wait(DEADLINE) == 0  # while our end is open
        told = json.loads(Answer(process.stdout.read(), "", 0).body)
    assert told["length"] == (5 if length == "5" else 0)


def test_a_chunked_upload_is_read_to_its_end_of_file(tmp_path):
    """Apache's mod_cgid passes it decoded and without a length."""
    body = b"hello chunked world" * 10_000
    told = echoed(tmp_path, body, REQUEST_METHOD="POST", HTTP_TRANSFER_ENCODING="Chunked")
    assert (told["length"], told["sha256"]) == (len(body), sha256(body).hexdigest())
    assert "HTTP_TRANSFER_ENCODING" not in told["environ"]


def test_a_length_beside_chunked_counts(tmp_path):
    """nginx with fcgiwrap passes both; the length is right."""
    told = echoed(tmp_path, b"hello+", HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="5")
    assert told["length"] == 5


READ = """
start_response("200 OK", [("Content-Type", "text/plain")])
return [environ["wsgi.input"].read()]
"""


def test_a_body_shorter_than_its_length_is_no_body(tmp_path):
    answer = answered(tmp_path, READ, b"hel", REQUEST_METHOD="POST", CONTENT_LENGTH="5")
    assert (answer.output, answer.exit_status) == (b"", 1)
    assert answer.errors == "portico: 499: the body ended 2 bytes before its CONTENT_LENGTH\n"


def test_an_application_can_handle_a_cut_body(tmp_path):
    code = """
try:
    environ["wsgi.input"].read()
except OSError as error:
    start_response("400 Bad Request", [("Content-Type", "text/plain")])
    return [str(error).encode()]
"""
    answer = answered(tmp_path, code, b"hel", REQUEST_METHOD="POST", CONTENT_LENGTH="5")
    assert (answer.status, answer.exit_status) == ("400 Bad Request", 0)
    assert answer.body == b"the body ended 2 bytes before its CONTENT_LENGTH"


@pytest.mark.parametrize("length", ["-1", "+5", "5 ", "0x5", "5.0", "5,5", "five", "9" * 30])
def test_a_length_that_is_no_number_is_refused(tmp_path, length):
    answer = answered(tmp_path, READ, b"hello", REQUEST_METHOD="POST", CONTENT_LENGTH=length)
    assert answer.status == "400 Bad Request"
    assert answer.exit_status == 1
    assert "portico: refused: CONTENT_LENGTH is no number" in answer.errors
    assert dict(answer.headers)["Content-Length"] == str(len(answer.body))


def test_a_huge_length_costs_nothing(tmp_path):
    code = """
start_response("200 OK", [("Content-Type", "text/plain")])
return [environ["wsgi.input"].read(5), environ["wsgi.input"].readline(3)]
"""
    answer = answered(tmp_path, code, b"hello world", CONTENT_LENGTH="9" * 18)
    assert (answer.body, answer.exit_status) == (b"hello wo", 0)


def test_standard_input_may_be_a_socket(tmp_path):
    """Apache's mod_cgid can put a connected socket there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"hello")
        done = subprocess.run(
            command(write_script(tmp_path, ECHO)),
            env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH="5"),
            stdin=theirs,
            stdout=subprocess.PIPE,
            timeout=DEADLINE,
            check=True,
        )
    assert json.loads(Answer(done.stdout, "", 0).body)["length"] == 5


def test_standard_input_may_be_non_blocking(tmp_path):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = subprocess.Popen(
        command(write_script(tmp_path, ECHO)),
        env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH="5"),
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(reading)
    later = threading.Timer(0.3, os.write, (writing, b"hello"))
    later.start()
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    finally:
        later.join()
        os.close(writing)
    assert errors == b""
    assert json.loads(Answer(output, "", 0).body)["length"] == 5


# Standard output.


def test_a_response_is_octet_by_octet_what_was_given(tmp_path):
    answer = answered(
        tmp_path,
        """
start_response("200 OK", [("X-Latin", "caf\\xe9"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
return [bytes(range(256))]
""",
    )
    assert answer.output == (
        b"X-Latin: caf\xe9\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 256\r\n"
        b"Status: 200 OK\r\n\r\n" + bytes(range(256))
    )
    assert (answer.errors, answer.exit_status) == ("", 0)


def test_a_large_response_leaves_whole(tmp_path):
    code = """
start_response("200 OK", [("Content-Type", "text/plain")])
return (bytes([number]) * 1_000_000 for number in range(5))
"""
    answer = answered(tmp_path, code)
    assert answer.body == b"".join(bytes([number]) * 1_000_000 for number in range(5))


def test_standard_output_may_be_non_blocking(tmp_path):
    code = """
start_response("200 OK", [("Content-Type", "text/plain")])
return [b"x" * 5_000_000]
"""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = "\n".join(f"    {line}" for line in code.strip().split("\n"))
    script = write_script(tmp_path, f"def application(environ, start_response):\n{lines}\n")
    with subprocess.Popen(command(script), env=environment(), stdout=writing) as process:
        os.close(writing)
        with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor has no path
            output = pipe.read()
        assert process.wait(DEADLINE) == 0
    assert Answer(output, "", 0).body == b"x" * 5_000_000


def test_each_block_is_on_the_wire_before_the_next(tmp_path):
    source = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first"
    environ["wsgi.input"].read()
    yield b"second"
"""
    process = subprocess.Popen(
        command(write_script(tmp_path, source)),
        env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH="1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    with process:
        output = b""
        while not output.endswith(b"first"):
            output += process.stdout.read(1000)
        process.stdin.write(b"x")
        assert process.stdout.read(1000) == b"second"
        assert process.wait(DEADLINE) == 0


def test_what_is_printed_goes_to_standard_error(tmp_path):
    source = """
import os, subprocess, sys
print("at import")

def application(environ, start_response):
    print("from print")
    sys.stdout.write("from sys.stdout\\n")
    sys.stdout.flush()
    os.write(1, b"from descriptor 1\\n")
    os.system("echo from a shell")
    subprocess.run(["echo", "from a subprocess"], check=True)
    environ["wsgi.errors"].write("from wsgi.errors: \\u20ac \\ud800\\n")
    environ["wsgi.errors"].writelines(["a", "b\\n"])
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the response"]
"""
    answer = run_script(write_script(tmp_path, source), PATH=os.environ["PATH"])
    assert answer.output == (
        b"Content-Type: text/plain\r\nContent-Length: 12\r\nStatus: 200 OK\r\n\r\nthe response"
    )
    for name in ("import", "print", "sys.stdout", "descriptor 1", "a shell", "a subprocess"):
        assert (f"from {name}\n" in answer.errors) or (f"at {name}\n" in answer.errors)
    assert "from wsgi.errors: " in answer.errors
    assert "ab\n" in answer.errors


def test_a_process_left_behind_does_not_hold_the_response_open(tmp_path):
    source = """
import subprocess
def application(environ, start_response):
    child = subprocess.Popen(["cat"], stdout=subprocess.DEVNULL)
    start_response("200 OK", [("Content-Type", "text/plain")])
    child.returncode = 0  # no complaint that it still runs
    return [str(child.pid).encode()]
"""
    with (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(
            command(write_script(tmp_path, source)),
            env=environment(PATH=os.environ["PATH"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        with process:
            output = process.stdout.read()  # ends although cat waits for our standard input
            child = int(Answer(output, "", 0).body)
            os.kill(child, 0)
            assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files_are_sent(tmp_path, method):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 1000)
    code = f"""
start_response("200 OK", [("Content-Type", "application/octet-stream")])
file = open({str(tmp_path / "file")!r}, "rb")
file.seek(256)
return environ["wsgi.file_wrapper"](file)
"""
    answer = answered(tmp_path, code, REQUEST_METHOD=method)
    assert answer.status == "200 OK"
    assert answer.body == (bytes(range(256)) * 999 if method == "GET" else b"")
    assert answer.errors == ""


STREAM = """
class Stream:
    def __iter__(self):
        while True:
            yield b"x" * 100_000
    def close(self):
        environ["wsgi.errors"].write("closed\\n")
start_response("200 OK", [("Content-Type", "text/plain")])
return Stream()
"""


def test_a_server_that_goes_away_stops_the_stream(tmp_path):
    lines = "\n".join(f"    {line}" for line in STREAM.strip().split("\n"))
    script = write_script(tmp_path, f"def application(environ, start_response):\n{lines}\n")
    process = subprocess.Popen(
        command(script), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert len(process.stdout.read(200_000)) == 200_000
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(DEADLINE) == 1
    first, second = errors.splitlines()
    assert first == "closed"
    assert second.startswith("portico: 499: the web server went away: ")


def test_a_server_that_was_gone_from_the_start(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    script = write_script(tmp_path, ECHO)
    done = subprocess.run(
        command(script), env=environment(), stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr.startswith(b"portico: 499: ")
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1


# Errors and ends.


def test_an_exception_is_a_plain_500(tmp_path):
    answer = answered(tmp_path, "raise ValueError('a secret')")
    assert (answer.status, answer.exit_status) == ("500 Internal Server Error", 0)
    assert b"secret" not in answer.output
    assert b"Traceback" not in answer.output
    assert "ValueError: a secret" in answer.errors


def test_debug_shows_the_traceback(tmp_path):
    answer = answered(tmp_path, "raise ValueError('a secret')", options="debug=True")
    assert b"ValueError: a secret" in answer.body


def test_an_exception_after_the_head_ends_in_failure(tmp_path):
    code = """
start_response("200 OK", [("Content-Length", "10")])(b"begun")
raise ValueError("too late")
"""
    answer = answered(tmp_path, code)
    assert (answer.body, answer.exit_status) == (b"begun", 1)
    assert "ValueError: too late" in answer.errors


def test_a_response_shorter_than_its_length_ends_in_failure(tmp_path):
    code = """
start_response("200 OK", [("Content-Length", "10")])
return [b"begun"]
"""
    answer = answered(tmp_path, code)
    assert (answer.body, answer.exit_status) == (b"begun", 1)
    assert "sent 5 of the 10 bytes" in answer.errors


def test_sys_exit_is_answered_and_exits(tmp_path):
    answer = answered(tmp_path, "import sys; sys.exit(3)")
    assert (answer.status, answer.exit_status) == ("500 Internal Server Error", 3)


SLOW = """
class Slow:
    def __iter__(self):
        yield b"begun"
        environ["wsgi.input"].read()  # nothing comes: the test sends a signal
    def close(self):
        environ["wsgi.errors"].write("closed\\n")
start_response("200 OK", [("Content-Type", "text/plain")])
return Slow()
"""


def test_sigterm_closes_the_response(tmp_path):
    """Apache ends the scripts of clients that are gone, and of those that are too slow."""
    lines = "\n".join(f"    {line}" for line in SLOW.strip().split("\n"))
    script = write_script(tmp_path, f"def application(environ, start_response):\n{lines}\n")
    process = subprocess.Popen(
        command(script),
        env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH="10"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    with process:
        output = b""
        while not output.endswith(b"begun"):
            output += process.stdout.read(1000)
        process.terminate()
        errors = process.stderr.read().decode()
        assert process.wait(DEADLINE) == 1
    assert errors == "closed\nportico: 499: the web server ended the script\n"


def test_a_second_sigterm_ends_the_process(tmp_path):
    source = """
import os, time
def application(environ, start_response):
    while True:
        try:
            os.write(2, b"x")
            environ["wsgi.input"].read()
        except OSError:
            pass
"""
    process = subprocess.Popen(
        command(write_script(tmp_path, source)),
        env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH="10"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    with process:
        assert process.stderr.read(1) == b"x"
        process.terminate()
        assert process.stderr.read(1) == b"x"
        process.terminate()
        assert process.wait(DEADLINE) == -signal.SIGTERM


def test_an_applications_own_signal_handler_stays(tmp_path):
    source = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
def application(environ, start_response):
    os.kill(os.getpid(), signal.SIGTERM)
"""
    assert run_script(write_script(tmp_path, source)).exit_status == 7


def test_a_request_without_a_method_is_refused(tmp_path):
    env = environment()
    del env[b"REQUEST_METHOD"]
    answer = run_script(write_script(tmp_path, ECHO), env=env)
    assert (answer.status, answer.exit_status) == ("400 Bad Request", 1)


def test_a_request_outside_the_mount_point_is_not_found(tmp_path):
    options = "mounting=__import__('portico.core.mount', fromlist=['Mounting']).Mounting('/shop')"
    code = """
start_response("200 OK", [("Content-Type", "text/plain")])
return [repr((environ["SCRIPT_NAME"], environ["PATH_INFO"])).encode()]
"""
    answer = answered(tmp_path, code, options=options)
    assert (answer.status, answer.exit_status) == ("404 Not Found", 1)
    assert b"<h1>404 Not Found</h1>" in answer.body
    answer = answered(tmp_path, code, options=options, SCRIPT_NAME="/shop/x", PATH_INFO="/y")
    assert answer.body == b"('/shop', '/x/y')"


# Descriptors that are missing.


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 2>&-"])
def test_a_missing_descriptor_is_no_failure(tmp_path, closed):
    code = """
import subprocess
environ["wsgi.errors"].write("to nowhere\\n")
environ["wsgi.errors"].flush()
print("nor this")
child = subprocess.run(
    ["sh", "-c", "cat && echo oops && echo oops >&2"], stdout=subprocess.PIPE, check=True
)
with open("/dev/null") as file:
    assert file.fileno() > 2
start_response("200 OK", [("Content-Type", "text/plain")])
return [child.stdout]
"""
    lines = "\n".join(f"    {line}" for line in code.strip().split("\n"))
    script = write_script(tmp_path, f"def application(environ, start_response):\n{lines}\n")
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command(script)],
        env=environment(PATH=os.environ["PATH"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=DEADLINE,
        check=False,
    )
    answer = Answer(done.stdout, "", done.returncode)
    assert (answer.status, answer.body, answer.exit_status) == ("200 OK", b"oops\n", 0)


@pytest.mark.parametrize("warm", [False, True])
def test_a_closed_standard_output_is_one_line_in_the_log(tmp_path, warm):
    (tmp_path / "site_application.py").write_text("raise SystemExit('loaded')\n")
    script = tmp_path / "app.cgi"
    script.write_text(f"import portico\nportico.run('site_application', warm={warm})\n")
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 1>&-', "sh", *command(script)],
        env=environment(),
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.stdout, done.returncode) == (b"", 1)
    assert done.stderr == b"portico: standard output is closed: no answer would be read\n"


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-"])
def test_a_refusal_needs_no_standard_error(tmp_path, closed):
    script = write_script(tmp_path, ECHO)
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command(script)],
        env=environment(CONTENT_LENGTH="x"),
        stdout=subprocess.PIPE,
        timeout=DEADLINE,
        check=False,
    )
    assert Answer(done.stdout, "", done.returncode).status == "400 Bad Request"


# A server that sends the whole body before it reads (Apache's mod_cgid; fcgiwrap).


def exchanged(tmp_path, source, body, pair):
    """Send all of *body*, then read; *pair* tells what the script's 0 and 1 are."""
    script = write_script(tmp_path, source)
    env = environment(REQUEST_METHOD="POST", CONTENT_LENGTH=str(len(body)))
    if pair == "one socket":
        ours, theirs = socket.socketpair()
        reading, writing = ours.makefile("rb"), ours
        stdin = stdout = theirs
        end = theirs.close
    else:
        stdin, upload = os.pipe()
        download, stdout = os.pipe()
        reading, writing = os.fdopen(download, "rb"), None
        end = lambda: [os.close(fd) for fd in (stdin, stdout)]  # noqa: E731 - one of two ends
    with subprocess.Popen(command(script), env=env, stdin=stdin, stdout=stdout) as process:
        end()
        timer = threading.Timer(DEADLINE, process.kill)
        timer.start()
        try:
            if writing is None:
                with os.fdopen(upload, "wb") as file:
                    file.write(body)
            else:
                writing.settimeout(DEADLINE)
                writing.sendall(body)
                writing.shutdown(socket.SHUT_WR)
            assert process.poll() in {None, 0}
            output = reading.read()
            reading.close()
            if writing is not None:
                writing.close()
            return Answer(output, "", process.wait(DEADLINE))
        finally:
            timer.cancel()


IGNORE = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ignored"]
"""

ECHO_BLOCKS = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter(lambda: environ["wsgi.input"].read(10_000), b"")
"""

LATE = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"x" * 1_000_000
    yield environ["wsgi.input"].read(300_000)
    yield environ["wsgi.input"].read()
    yield environ["wsgi.input"].read()
"""


@pytest.mark.parametrize(
    ("pair", "size"), [("one socket", 10), ("one socket", 2_000_000), ("two pipes", 10)]
)
def test_an_unread_body_does_not_cost_the_response(tmp_path, pair, size):
    """Closing a Unix socket over unread octets resets it: what was written is lost."""
    answer = exchanged(tmp_path, IGNORE, b"x" * size, pair)
    assert (answer.body, answer.exit_status) == (b"ignored", 0)


@pytest.mark.parametrize("pair", ["one socket", "two pipes"])
@pytest.mark.parametrize("source", [ECHO_BLOCKS, LATE])
def test_output_before_the_body_was_read_blocks_nobody(tmp_path, pair, source):
    body = bytes(range(256)) * 8000
    answer = exchanged(tmp_path, source, body, pair)
    assert answer.body == (body if source is ECHO_BLOCKS else b"x" * 1_000_000 + body)
    assert answer.exit_status == 0


ANSWERS_FIRST = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return (b"x" * 100_000 for _ in range(30))
"""


def test_a_body_that_no_disk_can_keep_is_one_line_in_the_log(tmp_path):
    """The web server sends all of it before it reads, and the file system is full."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                command(write_script(tmp_path, ANSWERS_FIRST)),
                env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH="3000000"),
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE,
            )
        ours.settimeout(DEADLINE)
        with process:
            try:
                ours.sendall(bytes(3_000_000))
            except (BrokenPipeError, ConnectionResetError):
                assert process.wait(DEADLINE) == 1
            errors = process.stderr.read().decode()
            assert process.wait(DEADLINE) == 1
    assert errors == "portico: 499: the body cannot be kept: [Errno 27] File too large\n"
