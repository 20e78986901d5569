import io
import os
import select
import socket
import struct
import threading
import time

import pytest

from backends import PROTOCOLS, WAIT, Backend, Scripted
from portico.client import pool as pool_module
from portico.client.exchange import BackendError, Timeouts
from portico.client.pool import Pool
from portico.errors import ConfigError, LocalProtocolError

GET = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/x",
    "QUERY_STRING": "",
    "REQUEST_URI": "/x",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
}
POST = {**GET, "REQUEST_METHOD": "POST"}
KEPT = ("fastcgi", "ajp")

#: One whole answer of a FastCGI backend.
ANSWER = (
    struct.pack(">BBHHBB", 1, 6, 1, 23, 0, 0)
    + b"Content-Length: 2\r\n\r\nok"
    + struct.pack(">BBHHBB", 1, 3, 1, 8, 0, 0)
    + bytes(8)
)


def hello(environ, start_response):
    environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [b"hello"]


def echo(environ, start_response):
    start_response("200 OK", [])
    return [environ["wsgi.input"].read()]


def ask(pool, environ=GET, body=b""):
    with pool.open(environ, body) as answer:
        return b"".join(answer)


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        select.select([], [], [], 0.005)


def read_request(conn):
    """Read one FastCGI request through its empty STDIN."""
    data = b""
    while not data.endswith(struct.pack(">BBHHBB", 1, 5, 1, 0, 0, 0)):
        more = conn.recv(65_536)
        assert more, "the client closed"
        data += more


def answer_then(after):
    """Answer one request properly, then do *after* with the kept connection."""

    def script(conn):
        read_request(conn)
        conn.sendall(ANSWER)
        after(conn)

    return script


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def test_the_answer_used_here_is_well_formed():
    with Scripted(answer_then(reset)) as backend, Pool(backend.url("fastcgi")) as pool:
        assert ask(pool) == b"ok"


@pytest.mark.parametrize("protocol", KEPT)
def test_a_connection_is_used_again(protocol):
    with Backend(protocol, hello) as backend, Pool(backend.url) as pool:
        for _ in range(5):
            assert ask(pool, POST, b"body") == b"hello"
        assert backend.accepted == 1


@pytest.mark.parametrize("protocol", ["scgi", "uwsgi"])
def test_protocols_of_one_request_connect_each_time(protocol):
    with Backend(protocol, hello) as backend, Pool(backend.url) as pool:
        assert [ask(pool), ask(pool)] == [b"hello", b"hello"]
        assert backend.accepted == 2


@pytest.mark.parametrize("protocol", KEPT)
def test_a_pool_that_keeps_nothing_tells_the_backend_so(protocol):
    with Backend(protocol, hello) as backend, Pool(backend.url, max_kept=0) as pool:
        assert [ask(pool), ask(pool)] == [b"hello", b"hello"]
        assert backend.accepted == 2


@pytest.mark.parametrize("protocol", KEPT)
def test_a_response_not_read_to_its_end_takes_its_connection_along(protocol):
    def long(_environ, start_response):
        start_response("200 OK", [])
        for _ in range(1000):
            yield b"x" * 10_000

    with Backend(protocol, long) as backend, Pool(backend.url) as pool:
        for _ in range(2):
            with pool.open(GET) as answer:
                assert next(answer)
        assert backend.accepted == 2


@pytest.mark.parametrize("protocol", KEPT)
def test_exchanges_at_the_same_time_have_connections_of_their_own(protocol):
    with Backend(protocol, hello) as backend, Pool(backend.url, max_kept=2) as pool:
        answers = [pool.open(GET) for _ in range(4)]
        assert [b"".join(answer) for answer in answers] == [b"hello"] * 4
        assert len(pool._kept) <= 2
        for _ in range(4):
            ask(pool)
        assert backend.accepted <= 4


def test_the_connection_used_last_is_used_next():
    with Backend("fastcgi", hello) as backend, Pool(backend.url) as pool:
        answers = [pool.open(GET) for _ in range(3)]
        for answer in answers:
            b"".join(answer)
        last = pool._kept[-1][0]
        ask(pool)
        assert pool._kept[-1][0] is last


def test_a_connection_idle_for_too_long_is_not_used():
    with Backend("fastcgi", hello) as backend, Pool(backend.url, idle_seconds=0.0) as pool:
        ask(pool)
        ask(pool)
        assert backend.accepted == 2
        assert len(pool._kept) <= 1


@pytest.mark.parametrize("after", [socket.socket.close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("environ", [GET, POST], ids=["GET", "POST"])
def test_a_connection_known_to_be_gone_is_not_used(environ, after):
    gone = threading.Event()

    def script(conn):
        after(conn)
        gone.set()

    with Scripted(answer_then(script)) as backend, Pool(backend.url("fastcgi")) as pool:
        assert ask(pool, environ, b"") == b"ok"
        assert gone.wait(WAIT)
        until(lambda: not pool._kept or pool._kept[-1][0].peer_gone())
        assert ask(pool, environ, b"") == b"ok"
        assert backend.accepted == 2


def test_stray_octets_are_not_taken_for_the_next_answer():
    """A backend that goes on after its end must not answer someone else's request with it."""
    received, sent = threading.Event(), threading.Event()

    def more(conn):
        assert received.wait(WAIT)
        conn.sendall(ANSWER.replace(b"ok", b"no"))
        sent.set()
        conn.recv(1)

    with (
        Scripted(answer_then(more), answer_then(reset)) as backend,
        Pool(backend.url("fastcgi")) as pool,
    ):
        assert ask(pool) == b"ok"
        received.set()
        assert sent.wait(WAIT)
        assert ask(pool) == b"ok"
        assert backend.accepted == 2


def close_on_request(conn):
    """Close only once the next request is here: no look beforehand could have told."""
    read_request(conn)
    conn.close()


def close_within_answer(conn):
    read_request(conn)
    conn.sendall(ANSWER[:4])
    conn.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST"])
def test_a_request_that_may_have_been_executed_is_not_sent_again(method):
    """Whatever the method: the backend had all of it, and nobody knows what it did with it."""
    scripts = (answer_then(close_on_request), answer_then(reset))
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi")) as pool:
        ask(pool)
        with pytest.raises(BackendError, match="without a response"):
            pool.open({**GET, "REQUEST_METHOD": method})
        assert backend.accepted == 1


def test_an_answer_that_began_is_not_asked_for_again():
    scripts = (answer_then(close_within_answer), answer_then(reset))
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi")) as pool:
        ask(pool)
        with pytest.raises(BackendError, match="within the head"):
            pool.open(GET)
        assert backend.accepted == 1


def test_a_request_that_timed_out_is_not_sent_again():
    done = threading.Event()
    scripts = (answer_then(lambda _conn: done.wait(WAIT)), answer_then(reset))
    timeouts = Timeouts(read=0.2)
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi"), timeouts=timeouts) as pool:
        ask(pool)
        with pytest.raises(BackendError, match="sent nothing"):
            pool.open(GET)
        done.set()
        assert backend.accepted == 1


def test_a_fresh_connection_that_closes_is_not_tried_again():
    with Scripted(close_on_request) as backend, Pool(backend.url("fastcgi")) as pool:
        with pytest.raises(BackendError, match="without a response"):
            pool.open(GET)
        assert backend.accepted == 1


def close_unseen(pool, backend, monkeypatch):
    """Close the backend's end of the kept connection behind the look that would tell."""
    kept = pool._kept[-1].stream
    monkeypatch.setattr("portico.client.pool._is_quiet", lambda *_: True)
    backend._open[-1].shutdown(socket.SHUT_RDWR)
    until(kept.peer_gone)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "body",
    [b"", b"body", pytest.param(b"x" * 200_000, id="large"), pytest.param(io.BytesIO, id="file")],
)
def test_a_request_of_which_nothing_could_be_sent_is_sent_again(
    tmp_path, monkeypatch, method, body
):
    """On a Unix socket the first write tells: the kernel takes nothing for a peer that is gone."""
    body = io.BytesIO(b"body") if body is io.BytesIO else body
    environ = {**GET, "REQUEST_METHOD": method}
    if not isinstance(body, bytes):
        environ["CONTENT_LENGTH"] = "4"
    with (
        Backend("fastcgi", echo, path=tmp_path / "s") as backend,
        Pool(backend.url, max_open=1) as pool,
    ):
        ask(pool)
        close_unseen(pool, backend, monkeypatch)
        assert ask(pool, environ, body) == (body if isinstance(body, bytes) else b"body")
        assert backend.accepted == 2


def test_the_second_try_is_the_last(tmp_path, monkeypatch):
    scripts = (answer_then(lambda conn: conn.recv(1)), close_on_request, answer_then(reset))
    path = tmp_path / "s"
    with Scripted(*scripts, path=path) as backend, Pool(f"fastcgi+unix://{path}") as pool:
        ask(pool)
        close_unseen(pool, backend, monkeypatch)
        with pytest.raises(BackendError):
            pool.open(GET)
        assert backend.accepted == 2


# -- backends that do not keep connections -------------------------------------------------


def test_a_backend_that_closes_behind_each_answer_loses_no_request():
    """As uWSGI does over FastCGI: asked to keep the connection, it closes, in its own time."""

    def late_close(conn):
        select.select([], [], [], 0.002)
        conn.close()

    with (
        Scripted(answer_then(late_close)) as backend,
        Pool(backend.url("fastcgi"), timeouts=Timeouts(read=WAIT)) as pool,
    ):
        for _ in range(20):
            assert ask(pool, POST, b"body") == b"ok"
        assert backend.accepted == 20
        assert pool._max_kept == 0  # after three of them nothing is kept any more


def test_a_backend_that_keeps_connections_is_waited_for_once(monkeypatch):
    waits = []
    look = pool_module._is_quiet
    monkeypatch.setattr(
        pool_module, "_is_quiet", lambda stream, wait: waits.append(wait) or look(stream, wait)
    )
    with Backend("fastcgi", hello) as backend, Pool(backend.url) as pool:
        for _ in range(4):
            ask(pool)
        assert backend.accepted == 1
    assert waits[0] > 0
    assert waits[1:] == [0, 0]


# -- bounds --------------------------------------------------------------------------------


def hold(entered, leave):
    """An application that stays until *leave*."""

    def app(_environ, start_response):
        entered.release()
        assert leave.wait(WAIT)
        start_response("200 OK", [])
        return [b"hello"]

    return app


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_more_connections_than_max_open(protocol):
    entered, leave = threading.Semaphore(0), threading.Event()
    timeouts = Timeouts(queue=0.05)
    with Backend(protocol, hold(entered, leave)) as backend:
        with Pool(backend.url, max_open=2, timeouts=timeouts) as pool:
            got = []
            threads = [threading.Thread(target=lambda: got.append(ask(pool))) for _ in range(2)]
            for thread in threads:
                thread.start()
                assert entered.acquire(timeout=WAIT)
            with pytest.raises(BackendError, match=r"all 2 connections .* busy") as caught:
                pool.open(GET)
            assert caught.value.status_hint == 503
            leave.set()
            for thread in threads:
                thread.join(WAIT)
            assert got == [b"hello"] * 2
            assert ask(pool) == b"hello"
        assert backend.accepted <= 3
    assert pool._open == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_waits_gets_the_connection_that_becomes_free(protocol):
    with Backend(protocol, hello) as backend, Pool(backend.url, max_open=2) as pool:
        wrong = []

        def work():
            wrong.extend(body for _ in range(20) if (body := ask(pool)) != b"hello")

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert wrong == []
        assert pool._open == len(pool._kept) <= 2


def test_a_place_is_free_again_after_every_failure():
    """No answer, a request that cannot be encoded, a body that fails, nothing that listens."""

    class Broken:
        def read(self, _size):
            raise ZeroDivisionError

    with Scripted(lambda conn: conn.recv(65_536)) as backend:
        url = backend.url("fastcgi")
        with Pool(url, max_open=1, timeouts=Timeouts(queue=0.05)) as pool:
            for _ in range(2):
                with pytest.raises(BackendError, match="without a response"):
                    pool.open(GET)
                with pytest.raises(LocalProtocolError):
                    pool.open({**GET, "HTTP_X": "\u0394"})
                with pytest.raises(LocalProtocolError):
                    pool.open(GET, data=b"none but a Filter takes")
                with pytest.raises(ZeroDivisionError):
                    pool.open({**POST, "CONTENT_LENGTH": "5"}, Broken())
            assert pool._open == 0
    with Pool(url, max_open=1, timeouts=Timeouts(queue=0.05)) as pool:
        for _ in range(2):
            with pytest.raises(BackendError, match="nothing listens"):
                pool.open(GET)


@pytest.mark.parametrize("protocol", KEPT)
def test_a_connection_carries_no_more_than_max_requests(protocol):
    with Backend(protocol, hello) as backend, Pool(backend.url, max_requests=3) as pool:
        for number in range(1, 8):
            assert ask(pool) == b"hello"
            assert backend.accepted == (number + 2) // 3
        assert len(pool._kept) == 1


def test_fastcgi_is_told_of_the_last_request_of_a_connection():
    flags = []

    def script(conn):
        for _ in range(2):
            data = conn.recv(65_536)
            flags.append(data[10])  # BEGIN_REQUEST: eight octets of head, role, flags
            conn.sendall(ANSWER)

    with Scripted(script) as backend, Pool(backend.url("fastcgi"), max_requests=2) as pool:
        assert [ask(pool), ask(pool)] == [b"ok", b"ok"]
    assert flags == [1, 0]


# -- AJP's ping ----------------------------------------------------------------------------


def test_a_ping_precedes_each_request_over_a_kept_connection():
    """CPing is 12 34 00 01 0A, CPong 41 42 00 01 09 (AJPv13, extension of mod_jk)."""
    seen = []
    head_and_end = b"AB\0\x0a\4\0\xc8\0\2OK\0\0\0" + b"AB\0\2\5\1"

    def script(conn):
        while data := conn.recv(65_536):
            seen.append(data[4])
            conn.sendall(b"AB\0\1\x09" if data == b"\x124\0\1\x0a" else head_and_end)

    with Scripted(script) as backend, Pool(backend.url("ajp"), ping_seconds=WAIT) as pool:
        for _ in range(3):
            ask(pool)
        assert backend.accepted == 1
    assert seen == [2, 10, 2, 10, 2]


def silent(conn):
    conn.recv(65_536)
    conn.recv(65_536)


def garbage(conn):
    conn.recv(65_536)
    conn.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    conn.recv(65_536)


def closing(conn):
    conn.recv(65_536)


@pytest.mark.parametrize("after", [silent, garbage, closing])
def test_a_kept_connection_without_an_answer_to_the_ping_is_not_used(after):
    """A hung backend, a wrong one, one that goes: the request, a POST, has not been sent yet."""

    def script(conn):
        conn.recv(65_536)
        conn.sendall(b"AB\0\x0a\4\0\xc8\0\2OK\0\0\0" + b"AB\0\2\5\1")
        after(conn)

    with Scripted(script) as backend, Pool(backend.url("ajp"), ping_seconds=0.1) as pool:
        for number in (1, 2):
            assert ask(pool, POST) == b""
            assert backend.accepted == number


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi", "uwsgi"])
def test_protocols_without_a_ping_say_so(protocol):
    with pytest.raises(ConfigError, match=f"{protocol} has no ping"):
        Pool(f"{protocol}://127.0.0.1:1", ping_seconds=1)


def test_many_threads_share_a_pool():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["HTTP_X_NUMBER"].encode(), environ["wsgi.input"].read()]

    wrong = []
    with Backend("fastcgi", app) as backend, Pool(backend.url, max_kept=4) as pool:

        def work(name):
            for number in range(50):
                mark = f"{name}.{number}"
                got = ask(pool, {**POST, "HTTP_X_NUMBER": mark}, mark.encode())
                if got != (mark * 2).encode():
                    wrong.append((mark, got))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert len(pool._kept) == 0


def test_a_forked_child_leaves_the_parents_connections_alone():
    with Backend("fastcgi", hello) as backend, Pool(backend.url) as pool:
        ask(pool)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if ask(pool) == b"hello" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert backend.accepted == 2
        assert ask(pool) == b"hello"  # over its own connection, still in step
        assert backend.accepted == 2


def test_closing_a_pool_closes_what_it_keeps():
    with Backend("ajp", hello) as backend:
        pool = Pool(backend.url)
        ask(pool)
        stream = pool._kept[0][0]
        pool.close()
        assert stream.fd == -1
        assert pool._kept == []


@pytest.mark.parametrize(
    ("given", "status"), [("s3cret", "200"), ("wrong", "403"), ("", "403")], ids=str
)
def test_ajp_sends_its_secret(tmp_path, given, status):
    file = tmp_path / "secret"
    file.write_text(f"{given}\n")
    option = f"?secret_file={file}" if given else ""
    with (
        Backend("ajp", hello, secret="s3cret") as backend,  # noqa: S106 - a test's
        Pool(backend.url + option) as pool,
        pool.open(GET) as answer,
    ):
        assert answer.status[:3] == status
