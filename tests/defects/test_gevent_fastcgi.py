"""What gevent-fastcgi 1.1.0.0 does wrong: defects 57 to 64 of `listing`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from codecs_harness import collect
from core_harness import Closing, answering, run
from defects import wire
from defects.wire import BOTH, begin, params, record, records
from engine_harness import (
    PROTOCOLS,
    Running,
    environ_for,
    hello,
    make_codec,
)
from portico.codecs import fastcgi, server_codec
from portico.config.settings import Settings
from portico.errors import LimitExceeded, RemoteProtocolError
from portico.events import RequestReceived
from portico.limits import Limits
from portico.transports.bind import parse
from portico.transports.listen import open_listener

each = pytest.mark.parametrize("protocol", PROTOCOLS)


@each
def test_defect_57_no_traceback_is_in_a_body_or_behind_one(protocol):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/late":
            yield b"begun"
        raise ValueError("on purpose")

    with Running(app, protocol) as server:
        answer = server.ask(protocol)
        assert answer.status == "500 Internal Server Error"
        assert b"purpose" not in answer.body
        assert b"Traceback" not in answer.body
        with server.connect(protocol) as frontend:
            frontend.begin("/late")
            with pytest.raises((RemoteProtocolError, ConnectionResetError)):
                frontend.finish()
            assert bytes(frontend.answer.body) in {b"begun", b""}


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("size", [65_535, 65_536, 131_072, 1_000_003])
def test_defect_58_chunks_of_any_size_are_split(make, size):
    codec = make()
    codec.receive_data(begin() + params(A="b") + record(wire.STDIN))
    codec.send_response(1, "200 OK", [], end=False)
    chunk = (bytes(range(251)) * (size // 251 + 1))[:size]
    sent = records(codec.send_body(1, b"small") + codec.send_body(1, chunk))
    assert b"".join(content for _, _, content in sent) == b"small" + chunk
    assert all(content for _, _, content in sent)


@each
def test_defect_58_large_blocks_and_writes_pass(protocol):
    blocks = [b"small", bytes(70_000), b"x" * 200_000]

    def app(_environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        for block in blocks:
            write(block)
        return blocks

    with Running(app, protocol) as server:
        assert server.ask(protocol).body == b"".join(blocks * 2)


@pytest.mark.parametrize("make", BOTH)
def test_defect_59_data_is_passed_over_and_late_stdin_ends_no_server(make):
    (got,) = collect(
        make(),
        [begin() + params(A="b") + record(wire.DATA, 1, b"data") + record(wire.STDIN, 1, b"x")
         + record(wire.DATA) + record(wire.STDIN)],
    )  # fmt: skip
    assert got.body == b"x"
    late = begin() + params(**environ_for()) + record(wire.STDIN) + record(wire.STDIN, 1, b"late")
    with Running(hello, "fastcgi") as server:
        with server.connect("fastcgi") as frontend:
            frontend.send(late)
            assert frontend.sock.recv(65_536) is not None  # answered or closed, not stuck
        assert server.ask("fastcgi").body == b"hello"


@each
def test_defect_60_parameters_have_ceilings(protocol):
    many = environ_for(**{f"HTTP_N{n}": "" for n in range(100)}, CONTENT_LENGTH="0")
    large = environ_for(HTTP_LARGE="x" * 5000, CONTENT_LENGTH="0")
    for environ, limits, option in (
        (many, Limits(max_params=60), "max_params"),
        (large, Limits(max_params_bytes=4096), "max_params_bytes"),
    ):
        octets = make_codec(protocol).send_request(environ, b"", end=True)
        with pytest.raises(LimitExceeded) as caught:
            server_codec(protocol, limits).receive_data(octets)
        assert caught.value.option == option
        assert caught.value.status_hint == 431


def test_defect_60_requests_of_one_connection_have_a_ceiling():
    codec = wire.multiplexed()  # of four
    events = codec.receive_data(b"".join(begin(n) + params(n, A="b") for n in range(1, 100)))
    assert [type(event) for event in events].count(RequestReceived) == 4
    assert len(records(codec.data_to_send())) == 95
    codec = wire.serial()
    codec.receive_data(begin(1) + b"".join(begin(n) for n in range(2, 100)))
    assert len(records(codec.data_to_send())) == 98


@each
def test_defect_61_environs_are_text_and_one_process_is_one(protocol):
    kinds = set()

    def app(environ, start_response):
        kinds.update(type(name) for name in environ)
        kinds.update(type(environ[name]) for name in environ if "." not in name)
        assert environ["wsgi.multiprocess"] is False
        assert environ["wsgi.multithread"] is True
        return hello(environ, start_response)

    with Running(app, protocol, threads=2) as server:
        assert server.ask(protocol, HTTP_X="caf\xe9").body == b"hello"
    assert kinds == {str}


def test_defect_61_unknown_values_are_left_out_and_close_is_called():
    for make in BOTH:
        codec = make()
        asked = fastcgi.encode_pairs([("FCGI_NO_SUCH", ""), ("FCGI_MAX_CONNS", "")])
        codec.receive_data(record(wire.GET_VALUES, 0, asked))
        ((_, _, content),) = records(codec.data_to_send())
        assert [name for name, _ in fastcgi.decode_pairs(content)] == ["FCGI_MAX_CONNS"]
    for blocks in ([b"begun", 7], [7], [b"fine"]):
        iterable = Closing(blocks)
        run(answering(iterable))
        assert iterable.closed == 1


def test_defect_62_a_stale_socket_does_not_block_a_start(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with (
        closing(open_listener(parse(f"fastcgi+unix://{path}"))),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(str(path))


def test_defect_62_an_import_changes_no_other_module():
    source = (
        "import os, select, signal, socket, threading, time\n"
        "modules = (os, select, signal, socket, threading, time)\n"
        "before = [dict(vars(module)) for module in modules]\n"
        "import portico.supervisor.worker, portico.cli.serve, portico.client.forward, portico.cgi\n"
        "assert before == [dict(vars(module)) for module in modules]\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=20)


def test_defect_63_buffers_are_left_to_the_system():
    sizes = []

    def app(environ, start_response):
        with socket.socket(fileno=os.dup(environ["portico.client_gone"].__self__.fd)) as mine:
            sizes.extend(
                mine.getsockopt(socket.SOL_SOCKET, name)
                for name in (socket.SO_SNDBUF, socket.SO_RCVBUF)
            )
        return hello(environ, start_response)

    with Running(app, "fastcgi") as server:
        server.ask("fastcgi")
    assert min(sizes) > 10_000
    assert Settings().body_spool_bytes >= 65_536


@pytest.mark.parametrize("make", BOTH)
def test_defect_63_a_small_response_is_one_piece(make):
    codec = make()
    codec.receive_data(begin() + params(A="b") + record(wire.STDIN))
    octets = codec.send_response(1, "200 OK", [("A", "b")], b"body", end=True)
    kinds = [kind for kind, _, _ in records(octets)]
    assert kinds == [wire.STDOUT, wire.STDOUT, wire.END]  # head and body in one, the end, the end
