"""Hostile input, a table a protocol: what comes in, and the answer that a robust server gives.

A row's octets go to a codec however they are cut. Its answer is a status; 0 where the connection
closes without one; or the request that is made of them. What shows only beyond the codec (waits,
the environ, the log) stands in a table of checks behind each.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import pytest

from cgi_harness import command, environment, run_script, write_script
from codecs_harness import ABORTED, COMPLETE, collect, deliveries
from core_harness import Closing, assert_failed, run
from core_harness import answering as application
from docs_harness import ROOT
from engine_harness import (
    PLAIN,
    WAIT,
    Held,
    Running,
    environ_for,
    hello,
    in_background,
    reading,
    request_octets,
    until,
)
from portico.codecs import ajp, fastcgi, scgi, uwsgi
from portico.core.environ import EnvironRules
from portico.errors import ConfigError, RemoteProtocolError
from portico.head import parse
from portico.limits import Limits
from portico.transports.bind import check_exposed
from portico.transports.bind import parse as parse_bind
from vectors import ajp as ajp_vectors

CLOSED = 0


def row(octets, answer, id):  # noqa: A002 - as pytest names it
    return pytest.param(octets, answer, id=id)


def check(make, octets, answer):
    """Deliver *octets* in every way to codecs of *make*: each time *answer* must come of it."""
    for chunks in deliveries(octets, spread=20):
        codec = make()
        if isinstance(answer, dict):
            (got,) = collect(codec, chunks, respond=False)
            assert got.outcome == answer.get("outcome", COMPLETE)
            assert got.body == answer.get("body", b"")
            environ = answer.get("environ", {})
            assert {name: got.environ.get(name) for name in environ} == environ
            continue
        with pytest.raises(RemoteProtocolError) as caught:
            collect(codec, [*chunks, b""], respond=False)
        refusal = codec.refuse(caught.value.status_hint) if caught.value.status_hint else b""
        if answer == CLOSED:
            assert refusal == b""
        else:
            assert caught.value.status_hint == answer
            assert str(answer).encode() in refusal or codec.protocol == "ajp"


def gone(environ, **more):
    return dict.fromkeys(environ.split(), None) | more


# -- FastCGI ---------------------------------------------------------------------------------


def record(kind, content=b"", request_id=1, padding=0, version=1):
    header = bytes((version, kind)) + request_id.to_bytes(2) + len(content).to_bytes(2)
    return header + bytes((padding, 0)) + content + bytes(padding)


def pairs(*items):
    return record(4, fastcgi.encode_pairs(items))


BEGIN = record(1, b"\0\1\1\0\0\0\0\0")
AB = record(4, b"\1\1Ab") + record(4)
END = record(5)
TAKEN = {"environ": {"A": "b"}}
LENGTHS = ["-1", "+5", " 5", "5 ", "1" + "0" * 30, "five", "\xb2", "1_0", ""]

FASTCGI = [
    row(record(1, bytes(8), version=2), CLOSED, "version-other-than-1"),
    row(record(1, b"\0\1"), CLOSED, "begin-shorter-than-8"),
    row(record(1, b"\0\1\1\0\0\0\0\0more") + AB + END, TAKEN, "begin-longer-than-8"),
    row(record(1, b"\0\1\1\0\0\0\0\0", 0), CLOSED, "begin-with-id-0"),
    row(BEGIN + BEGIN, CLOSED, "begin-for-an-active-id-in-params"),
    row(BEGIN + AB + BEGIN, CLOSED, "begin-for-an-active-id-in-stdin"),
    row(record(5, b"x", 9) + record(4, b"\1\1Zz", 7) + BEGIN + record(2, b"", 9) + AB + END, TAKEN,
        "records-of-an-id-never-begun"),
    row(BEGIN + AB + record(4, b"\1\1Cd"), CLOSED, "params-after-their-end"),
    row(BEGIN + record(5, b"x"), 400, "stdin-before-the-end-of-params"),
    row(BEGIN + record(4, b"\5\5Ab") + record(4), 400, "pair-beyond-its-stream"),
    row(BEGIN + record(4, b"\xff\xff\xff\xff\1A") + record(4), 400, "declared-length-of-2-gib"),
    row(BEGIN + record(4, b"\1\1Ab" * 300) * 4, 431, "more-params-than-max-params-bytes"),
    row(BEGIN + record(4, b"\1\0A" * 61) + record(4), 431, "more-pairs-than-max-params"),
    row(BEGIN + b"".join(record(4, b"x", padding=255) for _ in range(4097)), 431,
        "endless-one-octet-params-with-padding"),
    row(BEGIN + AB + b"".join(record(5, b"x", padding=255) for _ in range(300)) + END,
        {"body": b"x" * 300}, "one-octet-stdin-with-padding"),
    row(BEGIN + pairs(("CONTENT_LENGTH", "5"), ("CONTENT_LENGTH", "6")) + record(4), 400,
        "two-content-lengths"),
    row(BEGIN + pairs(("REQUEST_METHOD", "GET"), ("REQUEST_METHOD", "PUT")) + record(4), 400,
        "two-methods"),
    row(BEGIN + pairs(("REQUEST_METHOD", "GET")) * 2 + record(4) + END,
        {"environ": {"REQUEST_METHOD": "GET"}}, "the-same-method-twice"),
    *[row(BEGIN + pairs(("CONTENT_LENGTH", text)) + record(4) + record(5, b"body") + END,
          {"body": b"body"}, f"content-length-{ascii(text)[1:-1][:8]}") for text in LENGTHS],
    row(BEGIN + pairs(("CONTENT_LENGTH", "5")) + record(4) + record(5, b"four") + END,
        {"body": b"four", "outcome": ABORTED}, "stdin-ends-before-content-length"),
    row(BEGIN + pairs(("CONTENT_LENGTH", "3")) + record(4) + record(5, b"four") + END,
        {"body": b"fou"}, "stdin-beyond-content-length"),
]  # fmt: skip


def fastcgi_codec():
    return fastcgi.ServerCodec(Limits(max_params_bytes=4096, max_params=60))


@pytest.mark.parametrize(("octets", "answer"), FASTCGI)
def test_fastcgi(octets, answer):
    check(fastcgi_codec, octets, answer)


def fastcgi_header_cut_by_eof():
    codec = fastcgi_codec()
    codec.receive_data(BEGIN + AB + b"\1\5\0")
    assert [type(event).__name__ for event in codec.receive_eof()] == ["AbortReceived"]
    assert not codec.keep_open


def fastcgi_thousands_of_begins():
    codec = fastcgi_codec()
    codec.receive_data(BEGIN)
    for number in range(2, 3000):
        assert codec.receive_data(record(1, b"\0\1\1\0\0\0\0\0", number)) == []
    assert codec.data_to_send().count(b"\0\0\0\0\1\0\0\0") == 2998  # FCGI_CANT_MPX_CONN
    (event,) = codec.receive_data(AB)
    assert event.environ == {"A": "b"}


def fastcgi_unknown_ids_cost_no_memory():
    codec = fastcgi_codec()
    for number in range(1, 3000):
        codec.receive_data(record(4, bytes(1000), number) + record(5, bytes(1000), number))
    assert not codec._rest
    assert not codec._params
    assert codec.data_to_send() == b""


def fastcgi_slow_params():
    with Running(hello, "fastcgi", head_timeout=0.3) as server:
        with server.connect("fastcgi") as frontend:
            frontend.dribble(BEGIN + record(4, bytes(1000)), 0.05)
        assert server.log.having("head_timeout")


def controls_in_names_and_values():
    names = ["A\0B", "A\nB", "A\rB", "http_x=1", "HTTP_X\0"]
    environ = EnvironRules({}).finish(environ_for(HTTP_X="a\r\nb") | dict.fromkeys(names, "1"))
    assert environ["HTTP_X"] == "a\r\nb"  # data
    assert not {*names} & {*environ}
    with Running(hello, "fastcgi") as server, server.connect("fastcgi") as frontend:
        frontend.send(BEGIN + pairs(("REQUEST_METHOD", "G\nET: forged")) + record(4) + END)
        until(lambda: server.log.having("refused"), "the refusal")
        assert not any("\n" in line for line in server.log.lines())


def odd_names_are_not_exported():
    odd = {"HTTP_a=b": "1", "LD_PRELOAD": "/evil.so", "PATH": "/evil", "PYTHONPATH": "/evil"}
    before = dict(os.environ)
    seen = []

    def app(environ, start_response):
        seen.append(dict(os.environ))
        seen.append(environ)
        return hello(environ, start_response)

    with Running(app, "fastcgi") as server:
        more = {"wsgi.input": "evil", "wsgi.errors": "evil"}
        assert server.ask("fastcgi", **odd, **more).body == b"hello"
    assert seen[0] == before
    assert "evil" not in [seen[1]["wsgi.input"], seen[1]["wsgi.errors"]]
    assert "HTTP_a=b" not in seen[1]


def lengths_reach_the_application_as_numbers_or_not_at_all():
    for text in LENGTHS:
        assert "CONTENT_LENGTH" not in EnvironRules({}).finish(environ_for(CONTENT_LENGTH=text))
    assert EnvironRules({}).finish(environ_for(CONTENT_LENGTH="5"))["CONTENT_LENGTH"] == "5"


def misleading_headers_are_removed():
    wire = ("HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_PROXY")
    environ = EnvironRules({}).finish(environ_for(**dict.fromkeys(wire, "5")))
    assert not {*wire} & {*environ}


def management_records_are_answered_one_for_one():
    codec = fastcgi_codec()
    for _ in range(100):
        codec.receive_data(record(9, b"\x0e\0FCGI_MAX_CONNS", 0) * 100)
        assert len(codec.data_to_send()) == 100 * len(record(10, b"\x0e\3FCGI_MAX_CONNS128", 0))


def names_are_answered_once():
    codec = fastcgi_codec()
    codec.receive_data(record(9, b"\x0e\0FCGI_MAX_CONNS" * 4095, 0))
    assert len(codec.data_to_send()) < 100


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])
def test_peer_that_does_not_read(protocol):
    blocks = Closing([bytes(1_000_000)] * 100)
    with Running(application(blocks), protocol, write_timeout=0.3) as server:
        with server.connect(protocol, receive_bytes=4096) as frontend:
            frontend.begin()
            until(lambda: blocks.closed, "the application's close")
        assert server.log.having("499")


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])
def test_port_that_strangers_could_reach(protocol):
    for host in ("0.0.0.0", "192.0.2.1"):
        with pytest.raises(ConfigError):
            check_exposed(parse_bind(f"{protocol}://{host}:4000"))


def late_stdin_is_discarded():
    codec = fastcgi_codec()
    codec.receive_data(BEGIN + AB + record(5, b"early"))
    codec.send_response(1, "200 OK", [], b"", end=True)
    assert codec.receive_data(record(5, b"late") + END) == []
    (event,) = codec.receive_data(BEGIN + AB + END)
    assert (event.body, event.complete) == (b"", True)


BEYOND_FASTCGI = [
    pytest.param(fastcgi_header_cut_by_eof, id="header-cut-by-eof"),
    pytest.param(fastcgi_unknown_ids_cost_no_memory, id="unknown-ids-cost-nothing"),
    pytest.param(fastcgi_thousands_of_begins, id="thousands-of-begins"),
    pytest.param(fastcgi_slow_params, id="slow-header-slow-params"),
    pytest.param(controls_in_names_and_values, id="nul-cr-lf-in-names-or-values"),
    pytest.param(odd_names_are_not_exported, id="odd-names-are-not-exported"),
    pytest.param(lengths_reach_the_application_as_numbers_or_not_at_all, id="content-length"),
    pytest.param(misleading_headers_are_removed, id="http-content-length-and-http-proxy"),
    pytest.param(management_records_are_answered_one_for_one, id="management-record-flood"),
    pytest.param(names_are_answered_once, id="get-values-of-65535-octets"),
    pytest.param(late_stdin_is_discarded, id="late-stdin-after-end-request"),
]


@pytest.mark.parametrize("holds", BEYOND_FASTCGI)
def test_fastcgi_beyond_the_octets(holds):
    holds()


# -- SCGI ------------------------------------------------------------------------------------


def netstring(*strings, body=b""):
    block = b"".join(text.encode("latin-1") + b"\0" for text in strings)
    return b"%d:%b,%b" % (len(block), block, body)


HEAD = ("CONTENT_LENGTH", "0", "SCGI", "1")

SCGI = [
    row(b"-", CLOSED, "no-digits"),
    row(b"12345678901:", CLOSED, "more-than-ten-digits"),
    *[row(text + b":", CLOSED, f"length-{ascii(text)[2:-1]}")
      for text in (b"", b"-1", b"+1", b" 1", b"0x10", b"01", b"1_0")],
    row(b"5000:", 431, "length-above-the-limit"),
    row(netstring(*HEAD).replace(b",", b";"), CLOSED, "no-comma"),
    row(b"23:CONTENT_LENGTH\x000\0SCGI\x001,", 400, "no-nul-at-the-end"),
    row(netstring(*HEAD, "A"), 400, "odd-number-of-strings"),
    row(netstring(*HEAD, "", "x"), 400, "empty-name"),
    row(netstring("SCGI", "1", "CONTENT_LENGTH", "1", body=b"x"), {"body": b"x"},
        "content-length-elsewhere-once"),
    row(netstring("SCGI", "1", "CONTENT_LENGTH", "1", "CONTENT_LENGTH", "1"), 400,
        "content-length-elsewhere-twice"),
    row(netstring("SCGI", "1"), 400, "content-length-missing"),
    *[row(netstring("CONTENT_LENGTH", text, "SCGI", "1"), 400,
          f"content-length-{ascii(text)[1:-1][:8]}")
      for text in ("", "-1", "1 2", "1,1", "1" + "0" * 30, "\xb2", "+1", "1_0")],
    row(netstring("CONTENT_LENGTH", "0", "A", "b"), 400, "scgi-missing"),
    row(netstring("CONTENT_LENGTH", "0", "SCGI", "2"), 400, "scgi-not-1"),
    row(netstring(*HEAD, "CONTENT_LENGTH", "1"), 400, "two-content-lengths"),
    row(netstring(*HEAD, "CONTENT_LENGTH", "0"), {}, "the-same-content-length-twice"),
    row(netstring(*HEAD, "HTTP_X", "a", "HTTP_X", "b"), {"environ": {"HTTP_X": "a, b"}},
        "repeated-header"),
    *[row(netstring(*HEAD, name, "a", name, "b"), 400, f"repeated-{name.lower()}")
      for name in ("REMOTE_ADDR", "REQUEST_METHOD", "REMOTE_USER", "HTTPS")],
    # an administrator's override: decision 0004
    row(netstring(*HEAD, "SCRIPT_NAME", "/a", "SCRIPT_NAME", ""), {"environ": {"SCRIPT_NAME": ""}},
        "repeated-script_name"),
    row(b"GET / HTTP/1.1\r\n\r\n", CLOSED, "http-request"),
    row(netstring("CONTENT_LENGTH", "2", "SCGI", "1", body=b"body, and more"), {"body": b"bo"},
        "body-longer-than-content-length"),
]  # fmt: skip


def scgi_codec():
    return scgi.ServerCodec(Limits(max_params_bytes=4096, max_params=60))


@pytest.mark.parametrize(("octets", "answer"), SCGI)
def test_scgi(octets, answer):
    check(scgi_codec, octets, answer)


def scgi_slow_head():
    with Running(hello, "scgi", head_timeout=0.3) as server, server.connect("scgi") as frontend:
        frontend.dribble(b"1000:" + bytes(1000), 0.05)
    assert server.log.having("head_timeout")


def scgi_excess_does_not_cost_the_response():
    with Running(hello, "scgi") as server, server.connect("scgi") as frontend:
        frontend.send(request_octets("scgi") + bytes(100_000))
        assert frontend.finish().body == b"hello"


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "ajp", "uwsgi"])
def test_body_shorter_than_announced_gets_no_200(protocol):
    raised = []

    def app(environ, start_response):
        try:
            return reading(environ, start_response)
        except OSError as error:
            raised.append(error)
            raise

    with Running(app, protocol) as server, server.connect(protocol) as frontend:
        frontend.begin("/", b"short", length=100, end=False)
        frontend.sock.shutdown(1)
        with suppress(RemoteProtocolError, ConnectionResetError):
            frontend.finish()
        assert frontend.answer.status[:3] != "200"
        until(lambda: raised, "the read's error")


BEYOND_SCGI = [
    pytest.param(scgi_slow_head, id="slow-digits-slow-headers"),
    pytest.param(odd_names_are_not_exported, id="names-that-are-no-variables"),
    pytest.param(scgi_excess_does_not_cost_the_response, id="excess-is-drained"),
    pytest.param(misleading_headers_are_removed, id="http-proxy"),
]


@pytest.mark.parametrize("holds", BEYOND_SCGI)
def test_scgi_beyond_the_octets(holds):
    holds()


# -- uwsgi -----------------------------------------------------------------------------------


def packet(*items, modifier=0, body=b""):
    block = b"".join(
        len(text).to_bytes(2, "little") + text.encode("latin-1") for item in items for text in item
    )
    return bytes((modifier, len(block) & 255, len(block) >> 8, 0)) + block + body


GET = ("REQUEST_METHOD", "GET")

UWSGI = [
    *[row(packet(GET, modifier=number), CLOSED, f"modifier1-{number}")
      for number in (1, 5, 17, 31, 255)],
    row(packet(GET, modifier=30), {"environ": {"REQUEST_METHOD": "GET"}}, "modifier1-30"),
    row(b"\0\0\0\0", CLOSED, "no-variables"),
    row(b"\0\6\0\0\0\0\2\0Ab", 400, "empty-name"),
    row(b"\0\6\0\0\x09\0\1\0Ab", 400, "name-beyond-the-packet"),
    row(b"\0\6\0\0\1\0A\x09\0b", 400, "value-beyond-the-packet"),
    *[row(packet()[:1] + bytes((6 + more, 0, 0)) + b"\1\0A\1\0b" + bytes(more), 400,
          f"{more}-octets-left-over") for more in (1, 2, 3)],
    row(packet(("A" * 360, "bcdefgh")), {"environ": {"A" * 360: "bcdefgh"}},
        "size-of-two-different-octets"),  # 371: 73 01
    row(b"GET / HTTP/1.1\r\n\r\n", CLOSED, "http-request"),
    *[row(text, CLOSED, f"scgi-{text[:1].decode()}") for text in (b"70:", b"800:", b"9:")],
    row(packet(GET, ("UWSGI_FILE", "/evil.py"), ("UWSGI_CHDIR", "/")),
        {"environ": gone("UWSGI_FILE UWSGI_CHDIR", REQUEST_METHOD="GET")}, "uwsgi-variables"),
    *[row(packet(GET, ("CONTENT_LENGTH", text)), 400, f"content-length-{ascii(text)[1:-1][:8]}")
      for text in ("-1", "+1", "1_0", " 1", "1" + "0" * 30, "\xb2")],
    row(packet(GET, ("CONTENT_LENGTH", "1"), ("CONTENT_LENGTH", "2")), 400, "two-content-lengths"),
    row(packet(GET, body=b"body"), {"body": b""}, "body-without-content-length"),
    *[row(packet(GET, (name, "a"), (name, "b")), 400, f"repeated-{name.lower()}")
      for name in ("REQUEST_METHOD", "REMOTE_ADDR", "HTTPS")],
    # an administrator's override: decision 0004
    row(packet(("SCRIPT_NAME", "/a"), ("SCRIPT_NAME", "")), {"environ": {"SCRIPT_NAME": ""}},
        "repeated-script_name"),
    row(packet(*[(f"A{n}", "") for n in range(61)]), 431, "more-variables-than-max-params"),
    row(packet(("A", "x" * 5000)), 431, "more-octets-than-max-params-bytes"),
]  # fmt: skip


def uwsgi_codec():
    return uwsgi.ServerCodec(Limits(max_params_bytes=4096, max_params=60))


@pytest.mark.parametrize(("octets", "answer"), UWSGI)
def test_uwsgi(octets, answer):
    check(uwsgi_codec, octets, answer)


def uwsgi_silence_in_the_head():
    with Running(hello, "uwsgi", head_timeout=0.3) as server, server.connect("uwsgi") as frontend:
        frontend.send(packet(GET)[:-3])
        assert frontend.ends() == "eof"
    assert server.log.having("head_timeout")


def uwsgi_body_without_length_is_drained():
    with Running(reading, "uwsgi") as server, server.connect("uwsgi") as frontend:
        frontend.send(request_octets("uwsgi") + bytes(100_000))
        assert frontend.finish().body == b"0"


def uwsgi_connection_without_octets():
    with Running(hello, "uwsgi") as server:
        server.connect("uwsgi").close()
        assert server.ask("uwsgi").body == b"hello"
        assert not server.log.lines()


BEYOND_UWSGI = [
    pytest.param(uwsgi_silence_in_the_head, id="fewer-octets-than-announced"),
    pytest.param(uwsgi_body_without_length_is_drained, id="body-without-length-is-drained"),
    pytest.param(uwsgi_connection_without_octets, id="zero-octets"),
    pytest.param(misleading_headers_are_removed, id="http-proxy-and-transfer-encoding"),
]


@pytest.mark.parametrize("holds", BEYOND_UWSGI)
def test_uwsgi_beyond_the_octets(holds):
    holds()


# -- AJP -------------------------------------------------------------------------------------

FIELDS = ajp_vectors.FIELDS
POST = ajp_vectors.FIVE
CHUNKED = ajp_vectors.CHUNKED


def forward(rest="00 00 FF", fields=FIELDS):
    return ajp_vectors.octets(f"{{ 02 02 {fields} {rest} }}")


def posting(text, *packets):
    return ajp_vectors.octets(text) + b"".join(packets)


def bare(data):
    return ajp_vectors.packet(data)


EVIL = ["REMOTE_USER", "HTTP_X", "wsgi.input"]
body_packet = ajp_vectors.body_packet

AJP = [
    row(b"\x12\x35\0\0", CLOSED, "other-magic"),
    row(b"GET / HTTP/1.1\r\n", CLOSED, "http-request"),
    row(b"\x12\x34\x1f\xfd\x07", CLOSED, "length-over-the-packet-size"),
    row(b"\x12\x34\x1f\xfd\x02", 431, "request-over-the-packet-size"),
    row(b"\x12\x34\0\0" * 3 + forward(), {}, "some-empty-packets"),
    row(b"\x12\x34\0\0" * 9, CLOSED, "many-empty-packets"),
    row(forward("00 01 00 05 'Hos' FF"), 400, "string-beyond-the-payload"),
    row(forward("00 01 00 01 'X' 01 00 01 'x' 00 FF"), 400, "no-nul"),
    *[row(forward(f'00 01 "X" 00 03 61 {octet} 62 00 FF'), 400, f"value-with-{octet}")
      for octet in ("00", "0A", "0D")],
    row(forward("FF FF FF"), 431, "65535-headers"),
    row(forward("00 3C FF"), 400, "more-headers-than-there-are"),
    row(forward(fields='"HTTP/1.1" FF FF "192.0.2.1" FF FF "h" 00 50 00'), 400, "null-uri"),
    row(forward(fields='FF FF "/" "192.0.2.1" FF FF "h" 00 50 00'), 400, "null-protocol"),
    row(forward('00 01 FF FF "x" FF'), 400, "null-header-name"),
    *[row(forward(fields=f'"HTTP/1.1" "{uri}" "192.0.2.1" FF FF "h" 00 50 00'), 400, f"uri-{uri}")
      for uri in ("", "a", "http://h/", "*")],
    row(forward('00 01 A0 00 "x" FF'), 400, "header-code-a000"),
    row(forward('00 01 A0 0F "x" FF'), 400, "header-code-a00f"),
    row(forward('00 00 0E "x" FF'), CLOSED, "unknown-attribute"),
    row(forward("00 00 FF 00"), 400, "octets-behind-the-end"),
    row(forward("00 00"), 400, "no-end"),
    row(forward('00 02 A0 08 "5" A0 08 "5" FF'), 400, "two-content-lengths"),
    *[row(forward(f'00 01 A0 08 "{text}" FF'), 400, f"content-length-{text[:8]}")
      for text in ("-1", "+5", "x", "1_0", "9223372036854775808")],
    row(posting(POST, body_packet(b"sixsix")), 400, "more-body-than-announced"),
    row(posting(CHUNKED, bare(b"\0\x09abc")), 400, "inner-length-greater"),
    row(posting(CHUNKED, bare(b"\0\1abc")), 400, "inner-length-smaller"),
    row(posting(POST, body_packet(b"ab"), bare(b"\0\1abc")), 400,
        "inner-length-smaller-later"),
    row(posting(POST, body_packet(b"a"), body_packet(b"bcde")), {"body": b"abcde"},
        "body-in-any-pieces"),
    row(posting(POST, body_packet(b"\2\2\0\0\0")), {"body": b"\2\2\0\0\0"},
        "request-where-body-is-due"),
    *[row(bare(bytes((kind,)) + bytes(4)), CLOSED, f"message-{kind}")
      for kind in (3, 4, 5, 6, 7, 8, 9, 11, 255)],
    row(forward(f'00 00 {" ".join(f"""0A "{name}" "evil" """ for name in EVIL)} FF'),
        {"environ": gone(" ".join(EVIL))}, "request-attributes-as-variables"),
]  # fmt: skip


def ajp_codec():
    return ajp.ServerCodec(Limits(max_params=60))


@pytest.mark.parametrize(("octets", "answer"), AJP)
def test_ajp(octets, answer):
    check(ajp_codec, octets, answer)


def ajp_slow_payload():
    with Running(hello, "ajp", head_timeout=0.3) as server, server.connect("ajp") as frontend:
        frontend.dribble(forward(), 0.05)
    assert server.log.having("head_timeout")


def ajp_refusal_closes():
    codec = ajp_codec()
    with pytest.raises(RemoteProtocolError):
        codec.receive_data(forward("00 00"))
    assert codec.refuse(400).endswith(b"AB\0\2\5\0")  # End Response, reuse 0
    assert not codec.keep_open


def ajp_excess_is_no_request():
    """The client chooses what is in a body: it must not become the next Forward Request."""
    seen = []

    def app(environ, start_response):
        seen.append(environ["REQUEST_URI"])
        return reading(environ, start_response)

    smuggled = forward(fields='"HTTP/1.1" "/smuggled" "192.0.2.1" FF FF "h" 00 50 00')
    with Running(app, "ajp") as server, server.connect("ajp") as frontend:
        frontend.send(posting(POST, body_packet(b"12345" + smuggled)) + smuggled)
        with suppress(RemoteProtocolError, ConnectionResetError):
            frontend.finish()
        assert "/smuggled" not in seen


def ajp_pings_are_answered_one_for_one():
    codec = ajp_codec()
    codec.receive_data(b"\x12\x34\0\1\x0a" * 1000)
    assert codec.data_to_send() == b"AB\0\1\x09" * 1000


def ajp_wrong_secret():
    for secret in ("", '0C "wrong"', '0C "Right"', '0C "right "'):
        codec = ajp.ServerCodec(Limits(), secret="right")  # noqa: S106
        with pytest.raises(RemoteProtocolError) as caught:
            codec.receive_data(forward(f"00 00 {secret} FF"))
        assert caught.value.status_hint == 403
        assert codec.refuse(403).endswith(b"AB\0\2\5\0")


def ajp_idle_connection_stays():
    with Running(hello, "ajp", head_timeout=0.1) as server, server.connect("ajp") as frontend:
        assert frontend.ask().body == b"hello"
        with server.connect("ajp") as other:
            assert other.ends() == "eof"  # head_timeout is over, for this one
        assert frontend.ask().body == b"hello"


def connections_without_a_request_are_limited():
    with Running(hello, "ajp", max_connections=4, head_timeout=0.5) as server:
        silent = [server.connect("ajp") for _ in range(8)]
        for one in silent:
            one.send(b"\x12")  # before that, Linux does not even tell of it
        assert server.ask("ajp").body == b"hello"  # its turn comes when the first have been closed
        silent[0].sock.setblocking(False)
        assert silent[0].ends() == "eof"


BEYOND_AJP = [
    pytest.param(ajp_slow_payload, id="payload-cut-or-slow"),
    pytest.param(ajp_refusal_closes, id="refusals-close"),
    pytest.param(ajp_excess_is_no_request, id="excess-is-no-request"),
    pytest.param(ajp_pings_are_answered_one_for_one, id="cping-flood"),
    pytest.param(ajp_wrong_secret, id="wrong-secret"),
    pytest.param(ajp_idle_connection_stays, id="idle-connection"),
    pytest.param(connections_without_a_request_are_limited, id="connections-without-a-request"),
]


@pytest.mark.parametrize("holds", BEYOND_AJP)
def test_ajp_beyond_the_octets(holds):
    holds()


# -- CGI -------------------------------------------------------------------------------------

SHOWING = """\
import os, sys

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    body = environ["wsgi.input"].read()
    shown = {name: environ.get(name) for name in environ["QUERY_STRING"].split(",")}
    return [repr((shown, body, "HTTP_PROXY" in os.environ)).encode()]
"""


@pytest.fixture
def shown(tmp_path):
    """Run the script for one request; gives the answer, and what the application saw."""
    script = write_script(tmp_path, SHOWING)

    def ask(name, stdin=b"", **params):
        answer = run_script(script, stdin, env=environment(QUERY_STRING=name, **params))
        answered = b"200 OK" in answer.output
        seen = eval(answer.body) if answered else None  # noqa: S307 - a repr
        return answer, seen

    ask.script = script
    return ask


def cgi_httpoxy(shown):
    _, seen = shown("HTTP_PROXY", HTTP_PROXY="http://evil.test")
    assert seen == ({"HTTP_PROXY": None}, b"", False)


def cgi_words_in_argv(shown):
    done = subprocess.run(
        [*command(shown.script), "--help", "debug=yes", "-x"],
        env=environment(QUERY_STRING="PATH_INFO"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=WAIT,
        check=True,
    )
    assert b"'PATH_INFO': '/'" in done.stdout


def cgi_collisions_of_header_names(_shown):
    page = " ".join((ROOT / "docs/security.md").read_text("utf-8").split())
    assert "Headers with underscores" in page


def cgi_content_length(shown):
    for text in ("-1", "+1", "x", "1_0", " 1", "1" + "0" * 30):
        answer, _ = shown("PATH_INFO", b"b", REQUEST_METHOD="POST", CONTENT_LENGTH=text)
        assert answer.status == "400 Bad Request"
    answer, _ = shown("PATH_INFO", b"b", REQUEST_METHOD="POST", CONTENT_LENGTH="9" * 18)
    assert b"200 OK" not in answer.output  # and no memory was taken for it


def cgi_short_body(shown):
    done = subprocess.run(
        command(shown.script),
        env=environment(REQUEST_METHOD="POST", CONTENT_LENGTH="100"),
        input=b"short",
        capture_output=True,
        timeout=WAIT,
        check=False,
    )
    assert b"200 OK" not in done.stdout
    assert done.returncode == 1


def cgi_closed_descriptors(shown):
    for closed in ("0<&-", "1>&-", "0<&- 2>&-", "0<&- 1>&- 2>&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command(shown.script)],
            env=environment(QUERY_STRING="PATH_INFO"),
            capture_output=True,
            timeout=WAIT,
            check=False,
        )
        assert (b"'PATH_INFO': '/'" in done.stdout) == ("1>&-" not in closed)
        assert b"Traceback" not in done.stderr


def cgi_started_by_hand(shown):
    shown.script.write_text(SHOWING + "import portico\nportico.run(application)\n")
    done = subprocess.run(
        command(shown.script), env={}, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=WAIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"started by hand" in done.stderr


def cgi_gateway_interface(shown):
    environ = environment(QUERY_STRING="PATH_INFO")
    for value in (None, b"CGI/1.0", b"", b"CGI/9"):
        environ.pop(b"GATEWAY_INTERFACE", None)
        if value is not None:
            environ[b"GATEWAY_INTERFACE"] = value
        assert run_script(shown.script, env=environ).status == "200 OK"


def cgi_shellshock(shown):
    target = shown.script.parent / "made"
    value = f"() {{ :; }}; touch {target}; $(touch {target}) `touch {target}`"
    _, seen = shown("HTTP_USER_AGENT", HTTP_USER_AGENT=value)
    assert seen[0] == {"HTTP_USER_AGENT": value}
    assert not target.exists()


def cgi_octets_that_are_no_utf_8(shown):
    value = bytes(range(128, 256))
    _, seen = shown("HTTP_X", HTTP_X=value)
    assert seen[0] == {"HTTP_X": value.decode("latin-1")}


def cgi_line_breaks_of_the_application(shown):
    shown.script.write_text(shown.script.read_text().replace("text/plain", "x\\r\\nEvil: 1"))
    answer, _ = shown("PATH_INFO")
    assert answer.status == "500 Internal Server Error"
    assert b"Evil" not in answer.output


def cgi_reader_that_goes_away(shown):
    shown.script.write_text(shown.script.read_text().replace(SHOWING, SHOWING + STREAMING))
    process = subprocess.Popen(
        command(shown.script), env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        process.stdout.read(1000)
        process.stdout.close()
        assert b"closed\n" in process.stderr.read()
        assert process.wait(WAIT) == 1


STREAMING = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        while True:
            yield bytes(10_000)
    finally:
        sys.stderr.write("closed\\n")
"""


def cgi_head_is_small(shown):
    answer, _ = shown("PATH_INFO")
    head = answer.output.partition(b"\n\n")[0].partition(b"\r\n\r\n")[0]
    assert len(head) < 100
    assert {name for name, _ in parse(head)[1]} == {"Content-Type", "Content-Length"}


CGI = [
    pytest.param(cgi_httpoxy, id="proxy-header"),
    pytest.param(cgi_words_in_argv, id="query-words-in-argv"),
    pytest.param(cgi_collisions_of_header_names, id="header-names-that-collide"),
    pytest.param(cgi_content_length, id="content-length"),
    pytest.param(cgi_short_body, id="body-shorter-than-announced"),
    pytest.param(cgi_closed_descriptors, id="closed-descriptors"),
    pytest.param(cgi_started_by_hand, id="no-request-method"),
    pytest.param(cgi_gateway_interface, id="gateway-interface"),
    pytest.param(cgi_shellshock, id="shellshock"),
    pytest.param(cgi_octets_that_are_no_utf_8, id="octets-that-are-no-utf-8"),
    pytest.param(cgi_line_breaks_of_the_application, id="cr-lf-in-a-header"),
    pytest.param(cgi_reader_that_goes_away, id="epipe"),
    pytest.param(cgi_head_is_small, id="head-is-small"),
]


@pytest.mark.parametrize("holds", CGI)
def test_cgi(holds, shown):
    holds(shown)


# -- WSGI ------------------------------------------------------------------------------------


def wsgi_names_from_the_wire():
    mine = {"wsgi.input": object(), "wsgi.errors": object(), "wsgi.multithread": True}
    environ = EnvironRules(mine).finish(environ_for() | dict.fromkeys(mine, "evil"))
    assert environ.items() >= mine.items()
    assert environ["wsgi.url_scheme"] == "http"


def wsgi_path_without_slash():
    for path in ("a", "a/b", "?", "..", "http://h/"):
        with pytest.raises(RemoteProtocolError) as caught:
            EnvironRules({}).finish(environ_for() | {"PATH_INFO": path})
        assert caught.value.status_hint == 400


def wsgi_paths_are_handed_on():
    for path in ("/../x", "/a/..", "/a/./b", "//a", "/%2e%2e/", "/a\0b"):
        assert EnvironRules({}).finish(environ_for() | {"PATH_INFO": path})["PATH_INFO"] == path
    codec = ajp_codec()
    fields = '"HTTP/1.1" "/a%00b" "192.0.2.1" FF FF "h" 00 50 00'
    (event,) = codec.receive_data(forward(fields=fields))
    assert event.environ["PATH_INFO"] == "/a\0b"


def wsgi_line_breaks_in_headers():
    for value in ("a\r\nEvil: 1", "a\nb", "a\rb", "a\0b"):
        sink, errors, _ = run(application([b""], "200 OK", [("X-A", value)]))
        assert_failed(sink, errors, "X-A")


def wsgi_results_that_are_none():
    for result, name in (("text", "str"), (None, "NoneType"), ([1, 2], "int"), (["a"], "str")):
        sink, errors, _ = run(application(result))
        assert_failed(sink, errors, name)


def wsgi_client_that_goes_away():
    closed = []

    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed.append(True)

    with Running(app, "fastcgi") as server:
        with server.connect("fastcgi") as frontend:
            frontend.begin()
            frontend.step()
        until(lambda: closed, "the application's close")


def wsgi_application_that_blocks():
    held = Held()
    with (
        Running(held, "fastcgi", threads=2) as server,
        server.connect("fastcgi") as frontend,
        in_background(frontend.ask, "/held"),
    ):
        held.wait_entered()
        assert server.ask("fastcgi", "/other").body == b"/other"
        held.gate.set()


def wsgi_length_beyond_all_memory():
    errors = []

    def app(environ, start_response):
        try:
            return reading(environ, start_response)
        except OSError as error:
            errors.append(error)
            raise

    for protocol in ("fastcgi", "scgi", "uwsgi"):
        with Running(app, protocol) as server:
            with server.connect(protocol) as frontend:
                frontend.begin("/", b"tiny", length=6 * 10**10, end=False)
            until(lambda: errors, "the read's error")
            with server.connect(protocol) as frontend:
                frontend.begin("/", b"tiny", length=10**17, end=False)
                assert frontend.finish().status[:3] == "413"
        assert errors.pop()


def wsgi_body_of_a_get():
    for protocol in ("fastcgi", "scgi", "ajp", "uwsgi"):
        with Running(reading, protocol) as server:
            assert server.ask(protocol, "/", b"body", method="GET").body == b"4"


def wsgi_two_hosts():
    twice = packet(GET, ("HTTP_HOST", "a"), ("HTTP_HOST", "b"))
    with pytest.raises(RemoteProtocolError) as caught:
        uwsgi_codec().receive_data(twice)
    assert caught.value.status_hint == 400


def wsgi_forwarded_is_data():
    claims = {
        "HTTP_X_FORWARDED_FOR": "203.0.113.1",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_HOST": "evil.test",
        "HTTP_X_FORWARDED_PREFIX": "/evil",
        "HTTP_FORWARDED": "for=203.0.113.1;proto=https;host=evil.test",
    }
    environ = EnvironRules({}).finish(environ_for(**claims))
    assert environ == EnvironRules({}).finish(environ_for()) | claims


def wsgi_methods():
    for method in ("get", "x", "M" * 10_240, "!#$%&'*+-.^_`|~"):
        environ = environ_for() | {"REQUEST_METHOD": method}
        assert EnvironRules({}).finish(environ)["REQUEST_METHOD"] == method
    for method in ("", "GET ", "G\nET", "G/T", "G\xe9T"):
        with pytest.raises(RemoteProtocolError) as caught:
            EnvironRules({}).finish(environ_for() | {"REQUEST_METHOD": method})
        assert caught.value.status_hint == 400


WSGI = [
    pytest.param(wsgi_names_from_the_wire, id="wsgi-names-from-the-wire"),
    pytest.param(wsgi_path_without_slash, id="path-info-without-slash"),
    pytest.param(wsgi_paths_are_handed_on, id="dots-and-nul-in-the-path"),
    pytest.param(wsgi_line_breaks_in_headers, id="cr-lf-in-a-header"),
    pytest.param(wsgi_results_that_are_none, id="results-that-are-no-blocks-of-bytes"),
    pytest.param(wsgi_client_that_goes_away, id="endless-iterable-client-gone"),
    pytest.param(wsgi_application_that_blocks, id="application-that-blocks"),
    pytest.param(wsgi_length_beyond_all_memory, id="content-length-beyond-all-memory"),
    pytest.param(wsgi_body_of_a_get, id="body-of-a-get"),
    pytest.param(wsgi_two_hosts, id="two-hosts"),
    pytest.param(wsgi_forwarded_is_data, id="forwarded-headers"),
    pytest.param(wsgi_methods, id="methods"),
]


@pytest.mark.parametrize("holds", WSGI)
def test_wsgi(holds):
    holds()
