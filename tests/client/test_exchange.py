import hashlib
import io
import os
import socket
import struct
import threading
import time
import tracemalloc

import pytest

from backends import PROTOCOLS, WAIT, Backend, Scripted
from portico.client.exchange import BackendError, Exchange, Timeouts
from portico.client.pool import Pool
from portico.codecs import client_codec
from portico.errors import LocalProtocolError, RequestAborted
from portico.limits import Limits
from portico.transports.stream import Stream

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/x",
    "QUERY_STRING": "",
    "REQUEST_URI": "/x",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
}
POST = {**ENVIRON, "REQUEST_METHOD": "POST"}

STREAM_BYTES = 50_000_000
BLOCK = os.urandom(1_000_000)


def echo(environ, start_response):
    start_response("200 OK", [("X-Method", environ["REQUEST_METHOD"])])
    while block := environ["wsgi.input"].read(50_000):
        yield block


def record(kind, content, request_id=1):
    return struct.pack(">BBHHBB", 1, kind, request_id, len(content), 0, 0) + content


END_REQUEST = record(3, bytes(8))


@pytest.fixture
def pair():
    """An exchange's stream, and the socket of the backend at its other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(WAIT)
    stream = Stream(ours.detach())
    yield stream, theirs
    stream.close()
    theirs.close()


def quick(seconds=0.2):
    return Timeouts(connect=seconds, read=seconds, write=seconds)


def exchange(stream, protocol, environ=ENVIRON, body=b"", **options):
    codec = client_codec(protocol, Limits())
    return Exchange(stream, codec, environ, body, **options)


# -- every protocol ------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [0, 1, 8186, 8187, 65_535, 65_536, 300_000])
def test_a_body_of_bytes_comes_back(protocol, size):
    body = (BLOCK * (size // len(BLOCK) + 1))[:size]
    with (
        Backend(protocol, echo) as backend,
        Pool(backend.url) as pool,
        pool.open(POST, body) as answer,
    ):
        assert answer.status == "200 OK"
        assert ("X-Method", "POST") in answer.headers
        assert b"".join(answer) == body
        assert answer.ended


@pytest.mark.parametrize("protocol", ["fastcgi", "ajp"])
@pytest.mark.parametrize("size", [0, 1, 8186, 20_000, 200_000])
def test_a_body_of_unknown_length_is_streamed(protocol, size):
    blocks = [BLOCK[at : at + 7001] for at in range(0, size, 7001)]
    with (
        Backend(protocol, echo) as backend,
        Pool(backend.url) as pool,
        pool.open(POST, iter(blocks)) as answer,
    ):
        assert b"".join(answer) == b"".join(blocks)


@pytest.mark.parametrize("protocol", ["scgi", "uwsgi"])
def test_a_body_of_unknown_length_is_refused_where_the_protocol_needs_it(protocol):
    with (
        Backend(protocol, echo) as backend,
        Pool(backend.url) as pool,
        pytest.raises(LocalProtocolError, match="length"),
    ):
        pool.open(POST, iter([b"body"]))


class Source:
    """A large body that is never in memory, hashed as it is read."""

    def __init__(self, size):
        self.left = size
        self.hash = hashlib.sha256()

    def read(self, size):
        block = BLOCK[: min(size, self.left, len(BLOCK))]
        self.left -= len(block)
        self.hash.update(block)
        return block


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_50_mb_go_both_ways_at_once_in_constant_memory(protocol):
    """The backend writes while it reads: neither side may wait for the other to finish."""
    source = Source(STREAM_BYTES)
    environ = {**POST, "CONTENT_LENGTH": str(STREAM_BYTES)}
    received = hashlib.sha256()
    count = 0
    with Backend(protocol, echo) as backend, Pool(backend.url) as pool:
        tracemalloc.start()
        try:
            with pool.open(environ, source) as answer:
                for block in answer:
                    received.update(block)
                    count += len(block)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert count == STREAM_BYTES
    assert received.digest() == source.hash.digest()
    assert peak < 4_000_000  # both sides and the source together


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_response_that_comes_before_the_body_was_taken_is_given_whole(protocol):
    """An application that refuses an upload without reading it."""

    def refuse(_environ, start_response):
        start_response("413 Content Too Large", [("Content-Length", "7")])
        return [b"too big"]

    source = Source(STREAM_BYTES)
    environ = {**POST, "CONTENT_LENGTH": str(STREAM_BYTES)}
    with (
        Backend(protocol, refuse) as backend,
        Pool(backend.url) as pool,
        pool.open(environ, source) as answer,
    ):
        assert answer.status == "413 Content Too Large"
        assert b"".join(answer) == b"too big"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_blocks_arrive_one_by_one(protocol):
    """Nothing waits for more: the application goes on only when its block was received."""
    go_on = threading.Semaphore(0)

    def app(_environ, start_response):
        start_response("200 OK", [])
        for number in range(5):
            yield b"%d" % number
            assert go_on.acquire(timeout=WAIT)

    with (
        Backend(protocol, app) as backend,
        Pool(backend.url) as pool,
        pool.open(ENVIRON) as answer,
    ):
        got = []
        for block in answer:
            got.append(block)
            go_on.release()
    assert got == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_head_has_a_length_and_no_body(protocol):
    def app(_environ, start_response):
        start_response("200 OK", [("Content-Length", "1000")])
        return [b"x" * 1000]

    with (
        Backend(protocol, app) as backend,
        Pool(backend.url) as pool,
        pool.open({**ENVIRON, "REQUEST_METHOD": "HEAD"}) as answer,
    ):
        assert ("content-length", "1000") in [(n.lower(), v) for n, v in answer.headers]
        assert list(answer) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cut_response_raises_and_what_came_before_is_given(protocol):
    def app(_environ, start_response):
        start_response("200 OK", [("Content-Length", "100000")])
        yield b"x" * 500
        raise ValueError

    with (
        Backend(protocol, app) as backend,
        Pool(backend.url) as pool,
        pool.open(ENVIRON) as answer,
    ):
        got = []
        with pytest.raises(BackendError, match="cut its response") as caught:
            got.extend(answer)
        assert b"".join(got) == b"x" * 500
        assert caught.value.status_hint == 502
        assert not answer.ended


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_closing_early_is_seen_by_the_backend(protocol):
    def app(_environ, start_response):
        start_response("200 OK", [])
        while True:
            yield BLOCK

    with Backend(protocol, app) as backend, Pool(backend.url) as pool:
        with pool.open(ENVIRON) as answer:
            assert next(answer)
        assert backend.aborted.wait(WAIT)
        with pytest.raises(LocalProtocolError, match="closed"):
            next(answer)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_upload_cut_short_is_cut_for_the_backend_as_well(protocol):
    seen = []

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as exc:
            seen.append(exc)
            raise
        start_response("200 OK", [])
        return []

    environ = {**POST, "CONTENT_LENGTH": "100000"}
    with Backend(protocol, app) as backend, Pool(backend.url) as pool:
        with pytest.raises(RequestAborted, match="before its length"):
            pool.open(environ, io.BytesIO(b"x" * 5000))
        assert backend.aborted.wait(WAIT)
    assert len(seen) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_backend_that_says_nothing_is_a_504_in_time(protocol):
    done = threading.Event()
    with Scripted(lambda _conn: done.wait(WAIT)) as backend:
        with Pool(backend.url(protocol), timeouts=quick()) as pool:
            started = time.monotonic()
            with pytest.raises(BackendError, match=r"sent nothing for 0\.2 seconds") as caught:
                pool.open(ENVIRON)
            assert caught.value.status_hint == 504
            assert time.monotonic() - started < 5
        done.set()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_backend_that_takes_nothing_is_a_504_in_time(protocol):
    done = threading.Event()
    environ = {**POST, "CONTENT_LENGTH": str(STREAM_BYTES)}
    with Scripted(lambda _conn: done.wait(WAIT)) as backend:
        with Pool(backend.url(protocol), timeouts=quick()) as pool:
            with pytest.raises(BackendError, match=r"for 0\.2 seconds") as caught:
                pool.open(environ, Source(STREAM_BYTES))
            assert caught.value.status_hint == 504
        done.set()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stall_within_the_body_raises(protocol):
    done = threading.Event()

    def app(_environ, start_response):
        start_response("200 OK", [])
        yield b"first"
        assert done.wait(WAIT)

    with Backend(protocol, app) as backend, Pool(backend.url, timeouts=quick()) as pool:
        with pool.open(ENVIRON) as answer:
            assert next(answer) == b"first"
            with pytest.raises(BackendError, match="sent nothing") as caught:
                next(answer)
            assert caught.value.status_hint == 504
        done.set()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"", "closed the connection without a response"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", None),
        (bytes(range(256)), None),
    ],
)
def test_no_answer_and_answers_in_a_foreign_tongue_are_502(protocol, octets, message):
    def script(conn):
        conn.recv(65_536)
        conn.sendall(octets)

    with Scripted(script) as backend, Pool(backend.url(protocol)) as pool:
        with pytest.raises(BackendError, match=message) as caught:
            pool.open(ENVIRON)
        assert caught.value.status_hint == 502


def test_nothing_listening_is_said_in_one_sentence():
    with Scripted(lambda _conn: None) as backend:
        url = backend.url("scgi")
    with Pool(url) as pool, pytest.raises(BackendError, match="nothing listens on") as caught:
        pool.open(ENVIRON)
    assert caught.value.status_hint == 502


@pytest.mark.parametrize(
    ("protocol", "size"), [("uwsgi", 70_000), ("ajp", 9_000)], ids=["uwsgi", "ajp"]
)
def test_a_request_that_outgrows_its_protocol_is_our_error(protocol, size):
    with (
        Backend(protocol, echo) as backend,
        Pool(backend.url) as pool,
        pytest.raises(LocalProtocolError),
    ):
        pool.open({**ENVIRON, "HTTP_COOKIE": "x" * size})


# -- hand-written octets -------------------------------------------------------------------


def test_a_body_ends_with_its_length_though_the_backend_never_closes(pair):
    stream, backend = pair
    answer = exchange(stream, "scgi", timeouts=quick())
    backend.sendall(b"Status: 200 OK\r\nContent-Length: 4\r\n\r\nbody and more")
    answer.begin()
    assert b"".join(answer) == b"body"
    assert answer.ended
    assert backend.recv(65_536)
    assert backend.recv(65_536) == b""  # the exchange has closed


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "200 OK"])
def test_statuses_and_methods_without_body_wait_for_no_close(pair, status, method):
    stream, backend = pair
    answer = exchange(stream, "uwsgi", {**ENVIRON, "REQUEST_METHOD": method}, timeouts=quick())
    backend.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
    answer.begin()
    assert list(answer) == []
    assert answer.ended


def test_a_reset_after_the_whole_body_is_no_cut(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    backend.sendall(record(6, b"Content-Length: 4\r\n\r\nbody") + END_REQUEST)
    backend.close()
    answer.begin()
    assert b"".join(answer) == b"body"


def test_fastcgi_ending_short_of_its_length_is_a_cut(pair):
    """END_REQUEST after a short body: what an application that failed leaves in flup."""
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    backend.sendall(record(6, b"Content-Length: 9\r\n\r\nbody"))
    answer.begin()
    assert next(answer) == b"body"
    backend.sendall(END_REQUEST)
    with pytest.raises(BackendError, match="5 octets before its Content-Length"):
        next(answer)


def test_body_beyond_the_length_is_left_out(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    backend.sendall(record(6, b"Content-Length: 4\r\n\r\nbody and more") + END_REQUEST)
    answer.begin()
    assert b"".join(answer) == b"body"


@pytest.mark.parametrize(
    "head",
    [
        b"Status: 100 Continue\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
        b"Content-Length: -4\r\n\r\n",
        b"Content-Length: 4, 4\r\n\r\n",
        b"no header\r\n\r\n",
    ],
)
@pytest.mark.parametrize("protocol", ["fastcgi", "scgi"])
def test_heads_that_nobody_may_trust_are_502(pair, protocol, head):
    stream, backend = pair
    answer = exchange(stream, protocol)
    backend.sendall(record(6, head) + END_REQUEST if protocol == "fastcgi" else head)
    with pytest.raises(BackendError) as caught:
        answer.begin()
    assert caught.value.status_hint == 502


def test_an_overloaded_backend_is_a_503(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    backend.sendall(record(3, b"\0\0\0\0\2\0\0\0"))
    with pytest.raises(BackendError, match="protocolStatus 2, FCGI_OVERLOADED") as caught:
        answer.begin()
    assert caught.value.status_hint == 503


def test_the_error_stream_is_text_of_its_own(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    half, rest = "é".encode()[:1], "é".encode()[1:]
    backend.sendall(record(7, b"warning " + half) + record(6, b"A: b\r\n\r\na"))
    answer.begin()
    assert answer.take_stderr() == "warning "
    backend.sendall(record(7, rest + b" \xff!") + END_REQUEST)
    assert b"".join(answer) == b"a"
    assert answer.take_stderr() == "é \\xff!"
    assert answer.take_stderr() == ""


def test_the_error_stream_is_bounded(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")

    def talk():
        for _ in range(100):
            backend.sendall(record(7, b"x" * 10_000))
        backend.sendall(record(6, b"A: b\r\n\r\n") + END_REQUEST)

    thread = threading.Thread(target=talk)
    thread.start()
    answer.begin()
    assert list(answer) == []
    thread.join(WAIT)
    text = answer.take_stderr()
    assert text.startswith("x" * 65_536 + "\n[portico: more")
    assert len(text) < 66_000


def test_a_failure_carries_the_error_stream(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    backend.sendall(record(7, b"ValueError: why"))
    backend.shutdown(socket.SHUT_WR)
    with pytest.raises(BackendError) as caught:
        answer.begin()
    assert caught.value.stderr == "ValueError: why"


def test_fastcgi_is_told_of_an_abort(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    backend.sendall(record(6, b"A: b\r\n\r\nfirst"))
    answer.begin()
    answer.close()
    answer.close()
    received = b""
    while data := backend.recv(65_536):
        received += data
    assert received.endswith(record(2, b""))


def test_ajp_body_is_sent_only_as_asked_for(pair):
    """The first packet goes unasked, each other answers one Get Body Chunk (AJP13, Get Body)."""
    stream, backend = pair
    body = bytes(range(256)) * 100
    answer = exchange(stream, "ajp", POST, body)
    sizes = []

    def packet():
        head = b""
        while len(head) < 4:
            head += backend.recv(4 - len(head))
        assert head[:2] == b"\x12\x34"
        size = int.from_bytes(head[2:], "big")
        data = b""
        while len(data) < size:
            data += backend.recv(size - len(data))
        return data

    def serve():
        packet()  # the forward request
        taken = b""
        wish = 8186
        while True:
            data = packet()
            sizes.append((wish, len(data) - 2))
            taken += data[2:]
            if len(taken) == len(body):
                break
            wish = 3000
            backend.sendall(b"AB\0\3\6" + wish.to_bytes(2, "big"))
        assert taken == body
        backend.sendall(b"AB\0\x0a\4\0\xc8\0\2OK\0\0\0")
        backend.sendall(b"AB\0\2\5\1")

    thread = threading.Thread(target=serve)
    thread.start()
    answer.begin()
    assert list(answer) == []
    thread.join(WAIT)
    assert answer.status == "200 OK"
    assert sizes[0] == (8186, 8186)
    assert all(size == wish for wish, size in sizes[:-1])


def test_a_backend_that_closes_its_reading_side_still_gives_its_answer(pair):
    """A write fails, but the answer is already on its way: nginx, too, reads on."""
    stream, backend = pair
    environ = {**POST, "CONTENT_LENGTH": str(STREAM_BYTES)}
    answer = exchange(stream, "scgi", environ, Source(STREAM_BYTES))
    backend.sendall(b"Status: 403 Forbidden\r\n\r\nno")
    backend.shutdown(socket.SHUT_RDWR)
    answer.begin()
    assert answer.status == "403 Forbidden"
    assert b"".join(answer) == b"no"


def test_errors_of_the_body_pass_through_and_close(pair):
    stream, backend = pair

    class Broken:
        def read(self, _size):
            raise ZeroDivisionError

    answer = exchange(stream, "scgi", {**POST, "CONTENT_LENGTH": "5"}, Broken())
    with pytest.raises(ZeroDivisionError):
        answer.begin()
    assert backend.recv(1) == b""


# -- giving up -----------------------------------------------------------------------------


ABORT = record(2, b"")


@pytest.fixture
def returned():
    """What an exchange gives back: its connection, and whether it may be used again."""
    return []


def returning(returned):
    return lambda stream, _codec, reusable: returned.append((stream, reusable))


def test_a_backend_that_ends_an_aborted_request_keeps_its_connection(pair, returned):
    stream, backend = pair
    body = iter([b"x" * 10])
    answer = exchange(stream, "fastcgi", POST, body, release=returning(returned))
    backend.sendall(record(6, b"Content-Length: 100\r\n\r\nfirst"))
    answer.begin()
    got = []

    def end():
        while not b"".join(got).endswith(ABORT):
            got.append(backend.recv(65_536))
        backend.sendall(record(6, b" and more") + record(3, bytes(8)))

    thread = threading.Thread(target=end)
    thread.start()
    answer.abort(WAIT)
    thread.join(WAIT)
    assert returned == [(stream, True)]
    assert stream.fd != -1
    with pytest.raises(StopIteration):
        next(answer)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_backend_that_goes_on_after_an_abort_loses_its_connection(pair, returned, protocol):
    stream, backend = pair
    answer = exchange(stream, protocol, release=returning(returned))
    heads = {
        "fastcgi": record(6, b"A: b\r\n\r\nfirst"),
        "ajp": b"AB\0\x0a\4\0\xc8\0\2OK\0\0\0",
    }
    backend.sendall(heads.get(protocol, b"Status: 200 OK\r\n\r\nfirst"))
    answer.begin()
    started = time.monotonic()
    answer.abort(0.1)
    assert time.monotonic() - started < 5
    assert returned == [(stream, False)]


def test_an_abort_within_an_unsent_request_cannot_be_told(pair, returned):
    """The record would stand within another: the connection goes."""
    stream, backend = pair
    backend.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    environ = {**POST, "CONTENT_LENGTH": str(STREAM_BYTES)}
    answer = exchange(stream, "fastcgi", environ, Source(STREAM_BYTES), release=returning(returned))
    backend.sendall(record(6, b"A: b\r\n\r\n"))
    answer.begin()
    while not answer._out:
        answer._move()
    answer.abort(WAIT)
    assert returned == [(stream, False)]


# -- a Filter's data -----------------------------------------------------------------------


def filtering(stream, environ, body, data, **options):
    codec = client_codec("fastcgi", Limits(), role="filter")
    environ = {**environ, "FCGI_DATA_LAST_MOD": "1"}
    return Exchange(stream, codec, environ, body, data=data, **options)


@pytest.mark.parametrize("body", [b"", b"x" * 200_000])
@pytest.mark.parametrize("size", [0, 1, 65_536, 300_000])
def test_a_filters_data_goes_behind_the_body(pair, returned, body, size):
    stream, backend = pair
    data = BLOCK[:size]
    environ = {**POST, "FCGI_DATA_LENGTH": str(size)}
    answer = filtering(stream, environ, body, io.BytesIO(data), release=returning(returned))
    streams = {}
    order = []

    def serve():
        pending = b""
        while (8, b"") not in order:
            pending += backend.recv(65_536)
            while len(pending) >= 8 and len(pending) >= 8 + int.from_bytes(pending[4:6]):
                end = 8 + int.from_bytes(pending[4:6])
                kind, content, pending = pending[1], pending[8:end], pending[end:]
                streams[kind] = streams.get(kind, b"") + content
                order.append((kind, content[:1]))
        backend.sendall(record(6, b"A: b\r\n\r\nok") + END_REQUEST)

    thread = threading.Thread(target=serve)
    thread.start()
    answer.begin()
    assert b"".join(answer) == b"ok"
    thread.join(WAIT)
    assert streams[5] == body
    assert streams[8] == data
    kinds = [kind for kind, _ in order]
    assert kinds == sorted(kinds)
    assert returned == [(stream, True)]


def test_a_filter_that_answers_without_reading_its_data(pair, returned):
    """From a cache (FastCGI 1.0 §6.4): the answer is whole, the connection is not used again."""
    stream, backend = pair
    environ = {**ENVIRON, "FCGI_DATA_LENGTH": str(STREAM_BYTES)}
    source = Source(STREAM_BYTES)
    answer = filtering(stream, environ, b"", source, release=returning(returned))
    backend.sendall(record(6, b"A: b\r\n\r\nok") + END_REQUEST)
    answer.begin()
    assert b"".join(answer) == b"ok"
    assert source.left > 0
    assert returned == [(stream, False)]


def test_data_without_a_length_is_refused(pair):
    with pytest.raises(LocalProtocolError, match="FCGI_DATA_LENGTH"):
        filtering(pair[0], ENVIRON, b"", io.BytesIO(b"x"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_data_for_what_takes_none_is_refused(pair, protocol):
    with pytest.raises(LocalProtocolError, match="goes to a FastCGI Filter"):
        exchange(pair[0], protocol, data=b"x")


def test_a_filter_without_data_is_refused(pair):
    codec = client_codec("fastcgi", Limits(), role="filter")
    with pytest.raises(LocalProtocolError, match="each of its requests has some"):
        Exchange(pair[0], codec, ENVIRON)


def test_the_app_status_is_told(pair):
    stream, backend = pair
    answer = exchange(stream, "fastcgi")
    backend.sendall(record(6, b"A: b\r\n\r\n") + record(3, b"\0\0\1\2\0\0\0\0"))
    answer.begin()
    assert list(answer) == []
    assert answer.app_status == 258
