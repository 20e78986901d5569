"""Several requests on one FastCGI connection, through a whole engine and real sockets."""

import hashlib
import random
import select
import socket
import threading
from contextlib import suppress

import pytest

from engine_harness import (
    PLAIN,
    WAIT,
    Held,
    Running,
    environ_for,
    open_descriptors,
    reading,
    until,
)
from portico.codecs import fastcgi
from portico.codecs._fastcgi_records import record, unpack_header

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, RESULT = range(1, 11)
COMPLETE, CANT_MPX, OVERLOADED, UNKNOWN_ROLE = range(4)


class Lines:
    """What came for one request.

    Attributes:
        out: STDOUT.
        errors: STDERR.
        status: protocolStatus of its END_REQUEST; None before.
        closed: Streams that got their end.
    """

    def __init__(self):
        self.out, self.errors, self.status, self.closed = b"", b"", None, []

    @property
    def body(self):
        return self.out.partition(b"\r\n\r\n")[2]


class Web:
    """A web server's side of one connection with several requests in flight."""

    def __init__(self, server, *, receive_bytes=0):
        self.sock = socket.socket()
        self.sock.settimeout(WAIT)
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.connect(("127.0.0.1", server.ports["fastcgi"]))
        self.lines = {}
        self.values = []
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, *records):
        self.sock.sendall(b"".join(records))

    def read(self):
        """Take what is there; False at the end."""
        data = self.sock.recv(262_144)
        self.rest += data
        while len(self.rest) >= 8:
            version, kind, number, length, padding = unpack_header(self.rest)
            assert version == 1
            if len(self.rest) < 8 + length + padding:
                break
            content = self.rest[8 : 8 + length]
            self.rest = self.rest[8 + length + padding :]
            if number == 0:
                self.values.append((kind, content))
                continue
            lines = self.lines.setdefault(number, Lines())
            assert lines.status is None, "a record behind END_REQUEST"
            if kind == END:
                lines.status = content[4]
            elif content:
                assert kind in {STDOUT, STDERR}
                assert kind not in lines.closed, "content behind its end"
                if kind == STDOUT:
                    lines.out += content
                else:
                    lines.errors += content
            else:
                lines.closed.append(kind)
        return bool(data)

    def until_ended(self, *numbers):
        """Read until these requests have ended; gives their lines."""
        while not all(self.has_ended(number) for number in numbers):
            assert self.read(), "the connection ended"
        return [self.lines[number] for number in numbers]

    def has_ended(self, number):
        return number in self.lines and self.lines[number].status is not None

    def until_closed(self):
        while self.read():
            pass


def begin(number, path="/", *, role=1, keep=True, **more):
    """BEGIN_REQUEST and all parameters."""
    environ = environ_for(path, "POST" if "CONTENT_LENGTH" in more else "GET", **more)
    start = record(BEGIN, number, bytes((0, role, keep, 0, 0, 0, 0, 0)))
    block = fastcgi.encode_pairs(environ.items())
    return start + record(PARAMS, number, block) + record(PARAMS, number)


def whole(number, path="/", **more):
    return begin(number, path, **more) + record(STDIN, number)


def digest(environ, start_response):
    """The body's digest; below /echo the body itself, below /big much output before it."""
    path = environ["PATH_INFO"]
    start_response("200 OK", PLAIN)
    if path.startswith("/big"):
        yield b"x" * 300_000
    found = hashlib.sha256()
    while data := environ["wsgi.input"].read(10_000):
        if path.startswith("/echo"):
            yield data
        found.update(data)
    if not path.startswith("/echo"):
        yield found.hexdigest().encode()


ORDERS = {
    "in-one-write": lambda web, stuck, others: web.send(stuck, *others),
    "one-by-one": lambda web, stuck, others: [web.send(one) for one in (stuck, *others)],
}


@pytest.mark.parametrize("order", ORDERS)
def test_one_request_stuck_in_its_body_holds_up_no_other(order):
    with Running(reading, "fastcgi") as server, Web(server) as web:
        stuck = begin(1, CONTENT_LENGTH="10") + record(STDIN, 1, b"12345")
        others = [whole(number) for number in range(2, 33)]
        ORDERS[order](web, stuck, others)
        answers = web.until_ended(*range(2, 33))
        assert not web.has_ended(1)
        assert {(one.status, one.body) for one in answers} == {(COMPLETE, b"0")}
        web.send(record(STDIN, 1, b"67890"), record(STDIN, 1))
        (last,) = web.until_ended(1)
        assert last.body == b"10"
        web.lines.clear()
        web.send(whole(1))
        web.until_ended(1)


def test_the_stuck_one_is_found_out_while_it_waits_for_its_body():
    """The others come when the application already sits in read(), on a plain connection."""
    entered = threading.Event()

    def app(environ, start_response):
        entered.set()
        return reading(environ, start_response)

    with Running(app, "fastcgi") as server, Web(server) as web:
        web.send(begin(1, CONTENT_LENGTH="4") + record(STDIN, 1, b"ab"))
        assert entered.wait(WAIT)
        web.send(whole(2), begin(3, CONTENT_LENGTH="2"), record(STDIN, 1, b"cd"), record(STDIN, 1))
        first, second = web.until_ended(1, 2)
        assert (first.body, second.body) == (b"4", b"0")
        web.send(record(STDIN, 3, b"xy"), record(STDIN, 3))
        assert web.until_ended(3)[0].body == b"2"


def test_a_frontend_that_asked_is_never_held_up_by_an_application_that_computes():
    app = Held()
    with Running(app, "fastcgi") as server, Web(server) as web:
        web.send(record(GET_VALUES, 0, fastcgi.encode_pairs([("FCGI_MPXS_CONNS", "")])))
        until(lambda: web.read() and web.values, "the values")
        assert web.values == [(RESULT, fastcgi.encode_pairs([("FCGI_MPXS_CONNS", "1")]))]
        web.send(whole(1, "/held/1"))
        app.wait_entered()
        web.send(whole(2, "/quick"))
        assert web.until_ended(2)[0].body == b"/quick"
        assert not web.has_ended(1)
        app.gate.set()
        assert web.until_ended(1)[0].body == b"/held/1"


def test_requests_beyond_the_threads_wait_their_turn():
    app = Held()
    with Running(app, "fastcgi", threads=3) as server, Web(server) as web:
        web.send(*(whole(number, f"/held/{number}") for number in range(1, 21)))
        app.wait_entered(3)
        app.gate.set()
        answers = web.until_ended(*range(1, 21))
        assert {one.body.decode() for one in answers} == {f"/held/{n}" for n in range(1, 21)}
        assert app.most <= 3


def test_every_thread_in_a_body_still_reads():
    """No leader is left: whoever waits for its own body reads for all."""
    with Running(digest, "fastcgi", threads=3) as server, Web(server) as web:
        numbers = range(1, 13)
        web.send(*(begin(number, CONTENT_LENGTH="100000") for number in numbers))
        body = bytes(range(250)) * 400
        for at in range(0, 100_000, 10_000):
            web.send(*(record(STDIN, number, body[at : at + 10_000]) for number in numbers))
        web.send(*(record(STDIN, number) for number in numbers))
        expected = hashlib.sha256(body).hexdigest().encode()
        assert {one.body for one in web.until_ended(*numbers)} == {expected}


def test_a_body_that_nobody_reads_waits_in_its_spool_and_stalls_nobody():
    app_started, go_on = threading.Event(), threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            app_started.set()
            assert go_on.wait(WAIT)
        return digest(environ, start_response)

    body = random.Random(1).randbytes(3_000_000)  # noqa: S311 - a pattern
    with Running(app, "fastcgi", body_spool_bytes=1000) as server, Web(server) as web:
        web.send(whole(2), begin(1, "/slow", CONTENT_LENGTH=str(len(body))))
        assert app_started.wait(WAIT)
        for at in range(0, len(body), 50_000):
            web.send(record(STDIN, 1, body[at : at + 50_000]))
        web.send(record(STDIN, 1), whole(3))
        web.until_ended(2, 3)
        assert not web.has_ended(1)
        go_on.set()
        assert web.until_ended(1)[0].body.decode() == hashlib.sha256(body).hexdigest()


def test_responses_do_not_mix_where_the_frontend_reads_slowly():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        mark = environ["QUERY_STRING"].encode()
        return (mark * 7000 for _ in range(30))

    with Running(app, "fastcgi") as server, Web(server, receive_bytes=4096) as web:
        web.send(*(whole(number, f"/?{chr(64 + number)}") for number in range(1, 9)))
        for number, one in enumerate(web.until_ended(*range(1, 9)), 1):
            assert one.body == bytes([64 + number]) * 210_000


def test_output_before_input_does_not_deadlock():
    """The frontend sends all before it reads anything; the applications write first."""
    body = bytes(700_000)
    with Running(digest, "fastcgi", threads=4) as server, Web(server) as web:
        numbers = range(1, 5)
        web.send(*(begin(number, "/big", CONTENT_LENGTH=str(len(body))) for number in numbers))
        for at in range(0, len(body), 50_000):
            web.send(*(record(STDIN, number, body[at : at + 50_000]) for number in numbers))
        web.send(*(record(STDIN, number) for number in numbers))
        expected = b"x" * 300_000 + hashlib.sha256(body).hexdigest().encode()
        assert [one.body == expected for one in web.until_ended(*numbers)] == [True] * 4


def test_the_cap_is_answered_overloaded():
    app = Held()
    with Running(app, "fastcgi", max_multiplexed=4) as server, Web(server) as web:
        web.send(*(whole(number, f"/held/{number}") for number in range(1, 9)))
        rejected = web.until_ended(5, 6, 7, 8)
        assert [(one.status, one.out) for one in rejected] == [(OVERLOADED, b"")] * 4
        app.gate.set()
        assert {one.status for one in web.until_ended(1, 2, 3, 4)} == {COMPLETE}


def test_one_thread_serves_one_request_at_a_time():
    app = Held()
    app.gate.set()
    with Running(app, "fastcgi", threads=1) as server, Web(server) as web:
        asked = fastcgi.encode_pairs([("FCGI_MPXS_CONNS", "")])
        web.send(record(GET_VALUES, 0, asked), begin(1), whole(2))
        assert web.until_ended(2)[0].status == CANT_MPX
        assert web.values == [(RESULT, fastcgi.encode_pairs([("FCGI_MPXS_CONNS", "0")]))]
        web.send(record(STDIN, 1))
        assert web.until_ended(1)[0].status == COMPLETE


def test_an_abort_ends_one_request_and_frees_its_thread():
    failures = []

    def app(environ, start_response):
        try:
            return reading(environ, start_response)
        except OSError as error:
            failures.append(str(error))
            raise

    with Running(app, "fastcgi") as server, Web(server) as web:
        web.send(begin(1, CONTENT_LENGTH="9"), begin(2, CONTENT_LENGTH="3"), record(ABORT, 1))
        (aborted,) = web.until_ended(1)
        assert aborted.status == COMPLETE
        assert failures == ["the frontend aborted the request"]
        web.send(record(STDIN, 2, b"abc"), record(STDIN, 2))
        assert web.until_ended(2)[0].body == b"3"
        assert server.log.having(": 499 ")


def test_a_response_that_breaks_off_gets_no_end_and_the_others_are_whole():
    go_on = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"part"
        if environ["PATH_INFO"] == "/broken":
            raise ValueError("it broke")
        assert go_on.wait(WAIT)
        yield b" and rest"

    with Running(app, "fastcgi") as server, Web(server) as web:
        web.send(whole(1, "/fine"), whole(2, "/broken"))
        until(lambda: web.read() and 2 in web.lines, "the broken one's beginning")
        until(lambda: "it broke" in server.errors.getvalue(), "the failure")
        web.send(whole(3))
        assert web.until_ended(3)[0].status == OVERLOADED
        go_on.set()
        assert web.until_ended(1)[0].body == b"part and rest"
        web.until_closed()
        assert (web.lines[2].body, web.lines[2].status, web.lines[2].closed) == (b"part", None, [])


def test_the_connection_closes_after_the_last_where_one_wanted_it():
    app = Held()
    with Running(app, "fastcgi") as server, Web(server) as web:
        web.send(whole(1, "/held"), whole(2, keep=False))
        web.until_ended(2)
        app.gate.set()
        web.until_ended(1)
        web.until_closed()


def test_one_malformed_request_is_answered_and_the_others_go_on():
    with Running(reading, "fastcgi") as server, Web(server) as web:
        bad = (
            record(BEGIN, 2, b"\0\1\1\0\0\0\0\0") + record(PARAMS, 2, b"\x09\x09A")
            + record(PARAMS, 2) + record(STDIN, 2)
        )  # fmt: skip
        web.send(begin(1), bad)
        (refused,) = web.until_ended(2)
        assert b"Status: 400 Bad Request\r\n" in refused.out
        web.send(record(STDIN, 1))
        assert web.until_ended(1)[0].body == b"0"
        assert len(server.log.having("refused")) == 1


def test_a_broken_record_ends_all_requests_of_the_connection_alone():
    with Running(reading, "fastcgi") as server, Web(server) as web, Web(server) as other:
        web.send(begin(1, CONTENT_LENGTH="1"), begin(2, CONTENT_LENGTH="1"), b"\2" * 8)
        with suppress(ConnectionResetError):
            web.until_closed()
        assert not any(one.status is not None for one in web.lines.values())
        other.send(whole(1))
        other.until_ended(1)
        assert len(server.log.having("refused")) == 1


@pytest.mark.parametrize("end", ["close", "half-close"])
def test_a_frontend_that_goes_away_frees_everything(end):
    before = len(open_descriptors())
    with Running(reading, "fastcgi", body_spool_bytes=10) as server:
        with Web(server) as web:
            web.send(*(begin(number, CONTENT_LENGTH="9") for number in range(1, 9)))
            web.send(*(record(STDIN, number, b"12345678") for number in range(1, 9)))
            if end == "half-close":
                web.sock.shutdown(socket.SHUT_WR)
                web.until_closed()
        until(lambda: len(server.log.having(": 499 ")) == 8, "the end of all eight")
        with Web(server) as web:
            web.send(whole(1))
            web.until_ended(1)
    until(lambda: len(open_descriptors()) == before, "the descriptors' end")


def test_a_complete_request_is_answered_behind_an_end_of_file():
    app = Held()
    with Running(app, "fastcgi") as server, Web(server) as web:
        web.send(whole(1, "/held"), whole(2, "/held"))
        app.wait_entered(2)
        web.sock.shutdown(socket.SHUT_WR)
        app.gate.set()
        web.until_ended(1, 2)
        web.until_closed()


def test_stopping_finishes_what_is_in_flight():
    app = Held()
    with Running(app, "fastcgi") as server, Web(server) as web:
        web.send(whole(1, "/held/1"), whole(2, "/held/2"))
        app.wait_entered(2)
        server.engine.stop()
        app.gate.set()
        assert {one.status for one in web.until_ended(1, 2)} == {COMPLETE}
        web.until_closed()
        server.thread.join(WAIT)
        assert not server.thread.is_alive()


def test_stopping_gives_up_what_never_ends():
    before = len(open_descriptors())
    with Running(reading, "fastcgi", graceful_timeout=0.3) as server, Web(server) as web:
        web.send(*(begin(number, CONTENT_LENGTH="5") for number in range(1, 6)))
        until(lambda: server.engine.figures()["busy"] == 5, "a thread for each")
        server.engine.stop()
        server.thread.join(WAIT)
        assert not server.thread.is_alive()
    until(lambda: len(open_descriptors()) == before, "the descriptors' end")


def test_half_a_head_has_its_time():
    with Running(reading, "fastcgi", head_timeout=0.3) as server, Web(server) as web:
        web.send(whole(1), begin(2))
        web.until_ended(1)
        web.send(record(BEGIN, 3, b"\0\1\1\0\0\0\0\0"), record(PARAMS, 3, b"\1"))
        web.until_closed()
        assert len(server.log.having("head_timeout")) == 1


def test_silence_in_a_body_is_one_requests_end():
    with Running(reading, "fastcgi", body_timeout=0.3) as server, Web(server) as web:
        web.send(begin(1, CONTENT_LENGTH="5"), whole(2))
        web.until_ended(1, 2)
        assert len(server.log.having("body_timeout")) == 1
        web.send(whole(3))
        web.until_ended(3)


def test_a_frontend_that_takes_nothing_is_given_up():
    def app(_environ, start_response):
        start_response("200 OK", PLAIN)
        return (bytes(100_000) for _ in range(1000))

    with (
        Running(app, "fastcgi", write_timeout=0.3) as server,
        Web(server, receive_bytes=4096) as web,
    ):
        web.send(*(whole(number) for number in range(1, 5)))
        until(lambda: len(server.log.having(": 499 ")) == 4, "the end of all four")


def test_an_idle_connection_is_kept_and_then_closed():
    with Running(reading, "fastcgi", idle_timeout=0.5) as server, Web(server) as web:
        web.send(whole(1), whole(2))
        web.until_ended(1, 2)
        web.lines.clear()
        web.send(whole(1))
        web.until_ended(1)
        web.until_closed()


# -- roles -----------------------------------------------------------------------------------


def sifting(environ, start_response):
    """A Filter: what the body and the file are."""
    assert environ["portico.role"] == "filter"
    told = b"%b|%b" % (environ["wsgi.input"].read(), environ["portico.data"].read())
    start_response("200 OK", PLAIN)
    return [told]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_filter_gets_its_file_behind_the_body(threads):
    with (
        Running(sifting, "fastcgi", roles=("filter",), threads=threads) as server,
        Web(server) as web,
    ):
        more = {"FCGI_DATA_LENGTH": "4", "FCGI_DATA_LAST_MOD": "1", "CONTENT_LENGTH": "2"}
        for _ in range(2):
            web.send(begin(1, role=3, **more), record(STDIN, 1, b"in"), record(STDIN, 1))
            web.send(record(DATA, 1, b"da"), record(DATA, 1, b"ta"), record(DATA, 1))
            (answer,) = web.until_ended(1)
            assert answer.body == b"in|data"
            web.lines.clear()


def test_a_file_that_was_cut_raises_in_the_read():
    with Running(sifting, "fastcgi", roles=("filter",)) as server, Web(server) as web:
        web.send(begin(1, role=3, FCGI_DATA_LENGTH="4"), record(STDIN, 1), record(DATA, 1, b"da"))
        web.send(record(DATA, 1))
        (answer,) = web.until_ended(1)
        assert answer.out == b""
        assert server.log.having(": 499 ")


def deciding(environ, start_response):
    """An Authorizer: by the query."""
    assert environ["portico.role"] == "authorizer"
    if environ["QUERY_STRING"] == "yes":
        start_response("200 OK", [("AUTH_METHOD", "query"), ("Variable-USER", "u"), *PLAIN])
        return []
    start_response("403 Forbidden", [("X-Why", "no"), *PLAIN])
    return [b"go away"]


@pytest.mark.parametrize("ended", [False, True], ids=["no-stdin", "empty-stdin"])
def test_an_authorizer_lets_pass_with_variables(ended):
    with Running(deciding, "fastcgi", roles=("authorizer",)) as server, Web(server) as web:
        web.send(begin(1, "/?yes", role=2), record(STDIN, 1) if ended else b"")
        (answer,) = web.until_ended(1)
        head = answer.out.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert b"Variable-AUTH_METHOD: query" in head
        assert b"Variable-USER: u" in head
        assert b"Content-Type: text/plain" in head


def test_an_authorizer_denies_with_a_page_of_its_own():
    with Running(deciding, "fastcgi", roles=("authorizer",)) as server, Web(server) as web:
        web.send(begin(1, "/?no", role=2))
        (answer,) = web.until_ended(1)
        head = answer.out.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert {b"Status: 403 Forbidden", b"X-Why: no"} < set(head)
        assert answer.body == b"go away"


@pytest.mark.parametrize("role", [1, 2, 3, 7])
@pytest.mark.parametrize("served", ["responder", "authorizer", "filter"])
def test_other_roles_are_unknown(role, served):
    if role == ["responder", "authorizer", "filter"].index(served) + 1:
        return
    with Running(reading, "fastcgi", roles=(served,)) as server, Web(server) as web:
        web.send(begin(1, role=role))
        assert web.until_ended(1)[0].status == UNKNOWN_ROLE


# -- wsgi.errors -----------------------------------------------------------------------------


def complaining(environ, start_response):
    environ["wsgi.errors"].write("before caf\xe9\n")
    start_response("200 OK", PLAIN)
    yield b"page"
    environ["wsgi.errors"].writelines(["in ", "between\n"])


def test_errors_go_to_the_frontend_where_asked():
    with Running(complaining, "fastcgi", errors_to="frontend") as server, Web(server) as web:
        web.send(whole(1))
        (answer,) = web.until_ended(1)
        assert answer.errors == "before caf\xe9\nin between\n".encode()
        assert (answer.body, answer.closed) == (b"page", [STDOUT, STDERR])
        assert server.errors.getvalue() == ""
        web.send(whole(2), whole(3))
        assert [one.errors != b"" for one in web.until_ended(2, 3)] == [True, True]


def test_a_traceback_goes_there_too_and_not_to_the_visitor():
    def app(_environ, _start_response):
        raise ValueError("a secret")

    with Running(app, "fastcgi", errors_to="frontend") as server, Web(server) as web:
        web.send(whole(1))
        (answer,) = web.until_ended(1)
        assert b"a secret" in answer.errors
        assert b"a secret" not in answer.out


def test_errors_stay_in_the_log_by_default():
    with Running(complaining, "fastcgi") as server, Web(server) as web:
        web.send(whole(1))
        assert web.until_ended(1)[0].errors == b""
        assert server.errors.getvalue() == "before caf\xe9\nin between\n"


# -- anything at any time --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threads", [2, 5])
def test_any_interleaving_gives_each_request_its_own(seed, threads):
    """Uploads, echoes and plain requests, their records shuffled and cut anywhere."""
    chance = random.Random(seed)  # noqa: S311 - a test's
    numbers = list(range(1, 25))
    queues, expected = {}, {}
    for number in numbers:
        path = chance.choice(["/sum", "/echo", "/big"])
        body = chance.randbytes(chance.choice([0, 10, 5000, 200_000]))
        queue = [begin(number, path, CONTENT_LENGTH=str(len(body)))]
        at = 0
        while at < len(body):
            size = chance.randint(1, 60_000)
            queue.append(record(STDIN, number, body[at : at + size]))
            at += size
        queues[number] = [*queue, record(STDIN, number)]
        tail = body if path == "/echo" else hashlib.sha256(body).hexdigest().encode()
        expected[number] = b"x" * 300_000 * (path == "/big") + tail
    with Running(digest, "fastcgi", threads=threads) as server, Web(server) as web:

        def send_all():
            while queues:
                number = chance.choice(list(queues))
                octets = queues[number].pop(0)
                cut = chance.randint(0, len(octets))
                web.send(octets[:cut])
                web.send(octets[cut:])
                if not queues[number]:
                    del queues[number]

        sender = threading.Thread(target=send_all)
        sender.start()
        try:
            answers = web.until_ended(*numbers)
        finally:
            sender.join(WAIT)
        for number, answer in zip(numbers, answers, strict=True):
            assert answer.status == COMPLETE
            assert answer.body == expected[number], number


# -- limits of time --------------------------------------------------------------------------


def test_one_requests_hard_limit_is_its_own():
    """One is stuck in Python, one in its body; both get their 504, the others never notice."""
    app = Held()

    def stuck(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/loop":
            while True:
                pass
        if path == "/body":
            return reading(environ, start_response)
        return app(environ, start_response)

    with Running(stuck, "fastcgi", timeout=0.5) as server, Web(server) as web:
        web.send(whole(1, "/loop"), begin(2, "/body", CONTENT_LENGTH="9"), whole(3), whole(4))
        web.until_ended(3, 4)
        for answer in web.until_ended(1, 2):
            assert b"Status: 504 " in answer.out
        web.lines.clear()
        web.send(whole(1), whole(2))
        assert {answer.status for answer in web.until_ended(1, 2)} == {COMPLETE}


def test_a_response_that_takes_too_long_is_cut_and_the_others_are_whole():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"part"
        while environ["PATH_INFO"] == "/loop":
            pass

    with Running(app, "fastcgi", timeout=0.5) as server, Web(server) as web:
        web.send(whole(1, "/loop"), whole(2))
        assert web.until_ended(2)[0].body == b"part"
        web.until_closed()
        assert (web.lines[1].body, web.lines[1].status) == (b"part", None)


def test_who_waits_too_long_for_a_thread_is_told():
    app = Held()
    with Running(app, "fastcgi", threads=2, queue_timeout=0.4) as server, Web(server) as web:
        web.send(*(whole(number, f"/held/{number}") for number in range(1, 6)))
        app.wait_entered(2)
        late = set(range(1, 6)) - {int(one[-1]) for one in app.order}
        for answer in web.until_ended(*late):
            assert b"Status: 503 " in answer.out
            assert b"Retry-After: " in answer.out
        app.gate.set()
        web.until_ended(*range(1, 6))


def test_spools_are_bounded_and_reading_goes_on_when_there_is_room():
    """The frontend waits while an application does not read; what it sent later arrives."""
    go_on = threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/late":
            assert go_on.wait(WAIT)
        return digest(environ, start_response)

    body = random.Random(2).randbytes(20_000_000)  # noqa: S311 - a pattern
    with Running(app, "fastcgi", max_spool_bytes=100_000) as server, Web(server) as web:
        web.send(whole(2), begin(1, "/late", CONTENT_LENGTH=str(len(body))))
        web.until_ended(2)

        def send():
            for at in range(0, len(body), 60_000):
                web.send(record(STDIN, 1, body[at : at + 60_000]))
            web.send(record(STDIN, 1))

        sender = threading.Thread(target=send)
        sender.start()
        try:
            waiting = select.select([], [web.sock], [], 0)[1]
            until(lambda: not select.select([], [web.sock], [], 0.3)[1], f"a full socket {waiting}")
            assert sender.is_alive()
            go_on.set()
            assert web.until_ended(1)[0].body.decode() == hashlib.sha256(body).hexdigest()
        finally:
            sender.join(WAIT)
