import io
import os
import select
import socket
import struct
import threading
import time

import pytest

from backends import WAIT, Backend, Scripted
from portico.client.exchange import BackendError, Timeouts
from portico.client.pool import Pool

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


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_an_idempotent_request_is_sent_again_once(method):
    environ = {**GET, "REQUEST_METHOD": method}
    scripts = (answer_then(close_on_request), answer_then(reset))
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi")) as pool:
        ask(pool)
        assert ask(pool, environ) == (b"" if method == "HEAD" else b"ok")
        assert backend.accepted == 2


@pytest.mark.parametrize(
    "body",
    [b"body", pytest.param(b"x" * 200_000, id="large"), pytest.param(io.BytesIO, id="file")],
)
def test_a_body_that_can_be_read_again_is_sent_again(body):
    body = io.BytesIO(b"body") if body is io.BytesIO else body
    environ = {**GET, "REQUEST_METHOD": "PUT"}
    if not isinstance(body, bytes):
        environ["CONTENT_LENGTH"] = "4"
    scripts = (answer_then(close_on_request), answer_then(reset))
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi")) as pool:
        ask(pool)
        assert ask(pool, environ, body) == b"ok"
        assert backend.accepted == 2


@pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK", "get"])
def test_a_request_that_may_have_been_executed_is_not_sent_again(method):
    scripts = (answer_then(close_on_request), answer_then(reset))
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi")) as pool:
        ask(pool)
        with pytest.raises(BackendError, match="without a response"):
            pool.open({**GET, "REQUEST_METHOD": method})
        assert backend.accepted == 1


def test_a_body_that_was_consumed_is_not_sent_again():
    environ = {**GET, "REQUEST_METHOD": "PUT", "CONTENT_LENGTH": "200000"}
    scripts = (answer_then(close_on_request), answer_then(reset))
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi")) as pool:
        ask(pool)
        with pytest.raises(BackendError):
            pool.open(environ, io.BytesIO(b"x" * 200_000))
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


def test_the_second_try_is_the_last():
    scripts = (answer_then(close_on_request), close_on_request, answer_then(reset))
    with Scripted(*scripts) as backend, Pool(backend.url("fastcgi")) as pool:
        ask(pool)
        with pytest.raises(BackendError):
            pool.open(GET)
        assert backend.accepted == 2


def test_a_post_of_which_nothing_could_be_sent_is_sent_again(tmp_path, monkeypatch):
    """On a Unix socket the first write tells: the kernel takes nothing for a peer that is gone."""
    path = tmp_path / "s"
    with Backend("fastcgi", hello, path=path) as backend, Pool(backend.url) as pool:
        ask(pool)
        kept = pool._kept[-1][0]
        monkeypatch.setattr("portico.client.pool._is_quiet", lambda _stream: True)
        backend._open[-1].shutdown(socket.SHUT_RDWR)
        until(kept.peer_gone)
        assert ask(pool, POST, b"body") == b"hello"
        assert backend.accepted == 2


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
