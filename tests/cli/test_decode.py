import gzip
import io
import json
import os
import pty
import subprocess
import sys

import pytest

from cli_harness import WAIT, one_sentence
from docs_harness import ROOT, read_blocks
from portico.cli import main
from trace_harness import INDEX, load
from vectors import ajp as ajp_vectors
from vectors import fastcgi as fastcgi_vectors


@pytest.fixture
def decode(capfdbinary, monkeypatch, tmp_path):
    """Run ``portico decode`` on octets; gives exit status, standard output and error."""

    def run(data, *arguments, stdin=False):
        if stdin:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
            name = "-"
        else:
            name = tmp_path / "capture.bin"
            name.write_bytes(data)
        status = main(["decode", str(name), *arguments])
        captured = capfdbinary.readouterr()
        return status, captured.out.decode(), captured.err.decode()

    monkeypatch.setenv("COLUMNS", "110")
    return run


def hexed(*texts):
    return bytes.fromhex("".join(texts))


GET = hexed(
    fastcgi_vectors.BEGIN, fastcgi_vectors.PARAMS, fastcgi_vectors.END_PARAMS,
    fastcgi_vectors.HELLO, fastcgi_vectors.END_STDIN,
)  # fmt: skip

TABLE = """\
FastCGI 1.0, from the web server

   offset    octets
        0        16  FCGI_BEGIN_REQUEST  id 1, responder, close after
       16        12  FCGI_PARAMS         id 1, 4 octets
                       A  b
       28         8  FCGI_PARAMS         id 1, end of stream, 1 parameter in all
       36        13  FCGI_STDIN          id 1, 5 octets
                       "hello"
       49         8  FCGI_STDIN          id 1, end of stream, 5 octets in all

5 records, 57 octets, 1 request: no faults
"""


@pytest.mark.parametrize("stdin", [False, True])
def test_a_table(decode, stdin):
    assert decode(GET, stdin=stdin) == (0, TABLE, "")


def test_faults_are_marked_and_are_status_1(decode):
    status, out, err = decode(GET[:-10])
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("!!")] == [
        "!!                   the record is cut: 2 octets missing [FastCGI 1.0 §3.3]",
        "!!                   FCGI_STDIN has not ended: 3 octets came [FastCGI 1.0 §3.3]",
    ]
    assert lines[-1] == "4 records, 47 octets, 1 request: 2 faults"


@pytest.mark.parametrize(
    "capture", [c for c in INDEX["captures"] if "file" in c], ids=lambda capture: capture["id"]
)
def test_every_capture_prints_printable_text(decode, capture):
    status, out, err = decode(load(capture["file"]))
    assert status in (0, 1)
    assert err == ""
    assert (status == 1) == any(line.startswith("!!") for line in out.splitlines())
    assert all(line.isprintable() for line in out.splitlines())
    assert all(len(line) <= 110 for line in out.splitlines() if not line.startswith("!!"))


def test_the_other_direction(decode):
    response = hexed(
        fastcgi_vectors.HEAD, fastcgi_vectors.BODY, fastcgi_vectors.END_STDOUT,
        fastcgi_vectors.END_REQUEST,
    )  # fmt: skip
    status, out, _ = decode(response)
    assert status == 0
    assert out.startswith("FastCGI 1.0, from the application server\n")
    assert out.endswith("4 records, 63 octets, 1 response: no faults\n")


def test_attributes_have_headings(decode):
    text = (
        f'{{ 02 02 {ajp_vectors.FIELDS} 00 01 "X" "y" 05 "q" 0A "AJP_LOCAL_ADDR" "192.0.2.9" FF }}'
    )
    status, out, _ = decode(ajp_vectors.octets(text))
    assert status == 0
    assert "\n                       headers:\n                         X               y\n" in out
    assert "\n                       attributes:\n" in out
    assert "\n                         AJP_LOCAL_ADDR  192.0.2.9\n" in out
    assert "remote_host     (null)\n" in out


def test_the_example_of_the_documentation(decode):
    page = (ROOT / "docs" / "howto" / "decode.md").read_text("utf-8")
    (example,) = (block.text for block in read_blocks(page) if "SCGI, from" in block.text)
    data = scgi(("CONTENT_LENGTH", "11"), HEAD[1], *FORM) + b"hello"
    assert decode(data) == (1, example, "")


# -- secrets, controls, long values ----------------------------------------------------------


def scgi(*pairs):
    block = "".join(f"{name}\0{value}\0" for name, value in pairs).encode("latin-1")
    return b"%d:%b," % (len(block), block)


HEAD = (("CONTENT_LENGTH", "0"), ("SCGI", "1"))
FORM = (("REQUEST_METHOD", "POST"), ("REQUEST_URI", "/form"))


@pytest.mark.parametrize("format_", [[], ["--json"]])
@pytest.mark.parametrize(
    "data",
    [
        *(
            scgi(*HEAD, (name, "hushhush"))
            for name in (
                "HTTP_AUTHORIZATION", "REDIRECT_HTTP_AUTHORIZATION", "HTTP_COOKIE",
                "HTTP_PROXY_AUTHORIZATION", "REMOTE_PASSWD", "HTTP_X_API_KEY", "HTTP_X_TOKEN",
            )
        ),
        ajp_vectors.octets(f'{{ 02 02 {ajp_vectors.FIELDS} 00 00 0C "hushhush" FF }}'),
        ajp_vectors.octets(f'{{ 02 02 {ajp_vectors.FIELDS} 00 01 A0 09 "hushhush" FF }}'),
        b"Status: 200 OK\r\nSet-Cookie: hushhush\r\n\r\n",
    ],
)  # fmt: skip
def test_secrets_are_shown_on_demand_alone(decode, data, format_):
    status, out, _ = decode(data, *format_)
    assert status == 0
    assert "hush" not in out
    assert "(masked: 8 octets)" in out
    assert "hushhush" in decode(data, *format_, "--full")[1]


def test_controls_are_escaped_and_utf_8_is_shown(decode):
    values = {
        "A": "\x1b[2J\r\n\x07", "B": "caf\xc3\xa9", "C": "caf\xe9", "D": "a\\n", "E": "\xe2\x80\xae"
    }  # fmt: skip
    _, out, _ = decode(scgi(*HEAD, *values.items(), ("\x1b[31mF", "x")))
    shown = dict(line.split() for line in out.splitlines() if line.startswith(" " * 23))
    assert shown["A"] == "\\x1b[2J\\r\\n\\x07"
    assert shown["B"] == "caf\u00e9"
    assert shown["C"] == "caf\\xe9"
    assert shown["D"] == "a\\\\n"
    assert shown["E"] == "\\u202e"
    assert shown["\\x1b[31mF"] == "x"


def test_controls_in_what_is_wrong_are_escaped(decode):
    status, out, _ = decode(scgi(*HEAD, ("\x1b]0;", "1"), ("\x1b]0;", "2")))
    assert status == 1
    assert "!!                   \\x1b]0; comes more than once [SCGI, Request Format]" in out


def test_long_values_are_cut_on_demand_whole(decode):
    data = scgi(*HEAD, ("A", "x" * 1000))
    assert "x" * 200 not in decode(data)[1]
    assert "x" * 1000 in decode(data, "--full")[1]


# -- JSON ------------------------------------------------------------------------------------


def test_json_has_an_object_a_line(decode):
    status, out, _ = decode(GET[:-8], "--json")
    assert status == 1
    *items, summary = map(json.loads, out.splitlines())
    assert items[1] == {
        "offset": 16, "octets": 12, "from": "frontend", "name": "FCGI_PARAMS",
        "detail": "id 1, 4 octets", "fields": [{"name": "A", "value": "b"}], "preview": "",
        "faults": [],
    }  # fmt: skip
    assert items[-1]["faults"] == [
        {"text": "FCGI_STDIN has not ended: 5 octets came", "section": "FastCGI 1.0 §3.3"}
    ]
    assert summary == {
        "protocol": "fastcgi", "from": "frontend", "records": 4, "octets": 49, "requests": 1,
        "faults": 1,
    }  # fmt: skip


# -- what cannot be explained ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "capture.bin is empty"),
        (b"GET / HTTP/1.1\r\n\r\n", "is an HTTP request: the web server"),
        (b"\x16\x03\x01\x00\xa5\x01", "is TLS"),
        (gzip.compress(GET, mtime=0), "gunzip -c"),
        (b"\xff\xfe\x00\x01", "of no gateway protocol: it begins with ff fe 00 01"),
    ],
)
def test_what_it_is_instead_is_status_2(decode, data, words):
    status, out, err = decode(data)
    assert (status, out) == (2, "")
    assert words in one_sentence(err)


def test_a_file_that_is_not_there(capfd, tmp_path):
    assert main(["decode", str(tmp_path / "none")]) == 2
    assert "No such file" in one_sentence(capfd.readouterr().err)
    assert main(["decode", str(tmp_path)]) == 2
    assert "directory" in one_sentence(capfd.readouterr().err)


def test_empty_standard_input(decode):
    status, _, err = decode(b"", stdin=True)
    assert status == 2
    assert "standard input is empty" in one_sentence(err)


def test_the_protocol_can_be_told(decode):
    status, out, _ = decode(b"GET / HTTP/1.1\r\n\r\n", "--protocol", "fcgi")
    assert status == 1
    assert "version 71: not a record of FastCGI 1" in out


def test_the_sender_can_be_told(decode):
    status, out, _ = decode(b"Status: 200 OK\r\n\r\n", "--from", "server", "--protocol", "uwsgi")
    assert status == 1
    assert "no HTTP status line" in out
    status, _, err = decode(b"Status: 200 OK\r\n\r\n", "--from", "frontend")
    assert status == 2
    assert "from the frontend" in one_sentence(err)


# -- terminals and pipes ---------------------------------------------------------------------


def on_terminal(path, **env):
    """What the command writes to a terminal."""
    master, slave = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "portico", "decode", str(path)],
            stdout=slave, stderr=subprocess.PIPE, timeout=WAIT, check=False,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **env},
        )  # fmt: skip
        os.close(slave)
        slave = -1
        out = b""
        try:
            while piece := os.read(master, 65_536):
                out += piece
        except OSError:  # how Linux tells that a terminal's other side is closed
            pass
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
    return out.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colour_unless_it_says_no(tmp_path):
    file = tmp_path / "get"
    file.write_bytes(GET[:-8])
    out = on_terminal(file)
    assert "\x1b[31m!!" in out
    assert "\x1b[1mFCGI_PARAMS" in out
    assert "\x1b" not in on_terminal(file, NO_COLOR="1")
    assert "\x1b" not in on_terminal(file, TERM="dumb")


def test_a_pipe_is_explained_while_it_runs():
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "portico", "decode", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    with process:
        params = hexed(fastcgi_vectors.BEGIN) + b"\1\4\0\1\0\x64\0\0" + b"\1\x61A" + b"x" * 97
        process.stdin.write(params)
        out = b""
        while b"100 octets" not in out:
            piece = process.stdout.read(4096)
            assert piece, out
            out += piece
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait(WAIT) == 1
    assert b"1 request: 1 fault\n" in rest
