"""Every ceiling, reached over real sockets: at it all goes well, one beyond it is refused."""

import contextlib
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from engine_harness import (
    KEEPING,
    ONE_SHOT,
    PLAIN,
    PROTOCOLS,
    WAIT,
    Running,
    environ_for,
    hello,
    in_background,
    make_codec,
    reading,
    request_octets,
    until,
)
from nginx_harness import add_to_nginx
from portico.codecs import server_codec
from portico.codecs._fastcgi_records import (
    FCGI_DATA,
    FCGI_GET_VALUES,
    FCGI_STDIN,
    record,
)
from portico.codecs.fastcgi import encode_pairs
from portico.config.settings import OPTIONS, Settings
from portico.core.environ import EnvironRules
from portico.engine import leader, pace
from portico.errors import LocalProtocolError, RemoteProtocolError
from portico.limits import Limits
from portico.servers.launch import launch
from portico.servers.site import Site
from portico.transports import listen
from portico.transports.bind import parse

each = pytest.mark.parametrize("protocol", PROTOCOLS)

#: The largest head that a protocol carries, as its own length says it: the default ceiling,
#: or what its length can say.
MOST = {"fastcgi": 1_048_576, "scgi": 1_048_576, "ajp": 65_532, "uwsgi": 65_535}


def head_bytes(protocol, environ):
    """Octets of the parameters as *protocol* counts them."""
    if protocol == "fastcgi":
        return len(encode_pairs(environ.items()))
    options = {"packet_size": 65_536} if protocol == "ajp" else {}
    octets = make_codec(protocol, **options).send_request(environ)
    if protocol == "scgi":
        return int(octets[: octets.index(b":")])
    return int.from_bytes(octets[2:4], "big") if protocol == "ajp" else octets[1] | octets[2] << 8


def of_size(protocol, size, names=1):
    """Parameters that take *size* octets: cookies and a token, as large as they need to be."""
    environ = environ_for()
    if protocol == "scgi":
        environ["CONTENT_LENGTH"] = "0"
    fields = {f"HTTP_X_TOKEN_{number}": "" for number in range(names)}
    # a first guess with the final width of each length, then what is missing
    room = size - head_bytes(protocol, environ)
    for name in fields:
        fields[name] = "t" * max(0, room // names - 60)
    missing = size - head_bytes(protocol, {**environ, **fields})
    fields["HTTP_X_TOKEN_0"] += "t" * missing
    environ.update(fields)
    assert head_bytes(protocol, environ) == size
    return environ


def told(environ, start_response):
    """How long the tokens are."""
    start_response("200 OK", PLAIN)
    return [str(sum(len(v) for k, v in environ.items() if k.startswith("HTTP_X_TOK"))).encode()]


def answer_to(frontend, environ, body=b""):
    """Send exactly *environ*; gives the answer."""
    frontend.send(frontend.codec.send_request(environ, body))
    return frontend.finish()


def tokens(environ):
    return str(sum(len(v) for k, v in environ.items() if k.startswith("HTTP_X_TOK"))).encode()


# -- the head ------------------------------------------------------------------------------


def running(app, protocol, **settings):
    query = "?packet_size=65536" if protocol == "ajp" else ""
    return Running(app, protocol, query=query, **settings)


def connect(server, protocol):
    return server.connect(protocol, **({"packet_size": 65_536} if protocol == "ajp" else {}))


@each
def test_largest_head_that_the_protocol_carries_passes(protocol):
    """With the default settings: a mebibyte where a length can say so."""
    environ = of_size(protocol, MOST[protocol])
    with running(told, protocol) as server, connect(server, protocol) as frontend:
        answer = answer_to(frontend, environ)
    assert (answer.status, bytes(answer.body)) == ("200 OK", tokens(environ))


@each
def test_tokens_in_many_headers_pass(protocol):
    environ = of_size(protocol, MOST[protocol], names=900)
    with running(told, protocol) as server, connect(server, protocol) as frontend:
        assert bytes(answer_to(frontend, environ).body) == tokens(environ)


@each
@pytest.mark.parametrize("most", [4096, 60_000])
def test_head_at_max_params_bytes_passes_and_one_octet_more_is_431(protocol, most):
    with running(told, protocol, max_params_bytes=most) as server:
        with connect(server, protocol) as frontend:
            environ = of_size(protocol, most)
            assert bytes(answer_to(frontend, environ).body) == tokens(environ)
        with connect(server, protocol) as frontend:
            answer = answer_to(frontend, of_size(protocol, most + 1))
            assert answer.status == "431 Request Header Fields Too Large"
            assert answer.whole
            assert frontend.ends() == "eof"
        with connect(server, protocol) as frontend:
            assert answer_to(frontend, of_size(protocol, most)).status == "200 OK"
    (line,) = server.log.lines()
    assert "raise max_params_bytes to allow it" in line


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi"])
@pytest.mark.parametrize("beyond", [1, 1_000_000])
def test_head_beyond_the_default_is_431(protocol, beyond):
    """However much of it is still on its way when the answer leaves."""
    environ = of_size(protocol, MOST[protocol] + beyond)
    with running(told, protocol) as server, connect(server, protocol) as frontend:
        answer = answer_to(frontend, environ)
        assert answer.status == "431 Request Header Fields Too Large"
    assert len(server.log.having("raise max_params_bytes to allow it")) == 1


@pytest.mark.parametrize("size", [8192, 65_532])
def test_ajp_head_at_packet_size_passes_and_one_octet_more_is_431(size):
    with Running(told, "ajp", query=f"?packet_size={size}") as server:
        with server.connect("ajp", packet_size=65_536) as frontend:
            environ = of_size("ajp", size - 4)
            assert bytes(answer_to(frontend, environ).body) == tokens(environ)
        with server.connect("ajp", packet_size=65_536) as frontend:
            answer = answer_to(frontend, of_size("ajp", size - 3))
            assert answer.status == "431 Request Header Fields Too Large"
            assert frontend.ends() == "eof"
    (line,) = server.log.lines()
    assert "raise packet_size to allow it" in line


def test_ajp_packet_that_no_packet_size_allows_is_431():
    """65536 octets are the protocol's own end; a length can say three more."""
    with running(told, "ajp") as server, connect(server, "ajp") as frontend:
        frontend.codec.send_request(environ_for())
        frontend.send(b"\x12\x34\xff\xfd\x02" + bytes(65_532))
        assert frontend.finish().status == "431 Request Header Fields Too Large"


def test_uwsgi_cannot_say_more():
    """What does not fit its 16 bits is refused where it would be sent."""
    with pytest.raises(LocalProtocolError, match="65535 octets"):
        of_size("uwsgi", 65_536)


@each
def test_count_at_max_params_passes_and_one_more_is_431(protocol):
    with Running(hello, protocol, max_params=50) as server:
        for count, status in ((50, "200 OK"), (51, "431 Request Header Fields Too Large")):
            environ = {} if protocol == "ajp" else environ_for()
            base = {"ajp": 0, "scgi": 2}.get(protocol, 0)  # CONTENT_LENGTH and SCGI
            fields = {f"HTTP_X_{at}": "1" for at in range(count - base - len(environ))}
            environ = {**environ_for(), **fields}
            with server.connect(protocol) as frontend:
                assert answer_to(frontend, environ).status == status
    (line,) = server.log.lines()
    assert "raise max_params to allow it" in line


def test_response_head_beyond_packet_size_is_500_and_the_log_names_it():
    def app(environ, start_response):
        start_response("200 OK", [("X", "v" * int(environ["QUERY_STRING"]))])
        return [b"body"]

    with Running(app, "ajp") as server, server.connect("ajp") as frontend:
        room = 8192 - len(b"AB\0\0\x04\0\xc8\0\2OK\0\0\2\0\1X\0\0\0\0\xa0\x03\0\x014\0")
        assert frontend.ask(f"/?{room}").status == "200 OK"
        answer = frontend.ask(f"/?{room + 1}")
        assert answer.status == "500 Internal Server Error"
        assert frontend.ask("/?1").status == "200 OK"
    assert "raise packet_size here and in the web server" in server.errors.getvalue()


# -- the body ------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("most", [5, 100_000])
def test_body_at_max_body_bytes_passes_and_one_octet_more_is_413(protocol, most):
    with Running(reading, protocol, max_body_bytes=most) as server:
        assert bytes(server.ask(protocol, body=b"b" * most).body) == b"%d" % most
        answer = server.ask(protocol, body=b"b" * (most + 1))
        assert answer.status == "413 Content Too Large"
        assert answer.whole
        assert bytes(server.ask(protocol).body) == b"0"
    (line,) = server.log.lines()
    assert "raise max_body_bytes to allow it" in line


@pytest.mark.parametrize("protocol", KEEPING)
def test_body_of_no_known_length_beyond_max_body_bytes_is_413(protocol):
    entered = threading.Event()

    def app(environ, start_response):
        entered.set()
        return reading(environ, start_response)

    with Running(app, protocol, max_body_bytes=20_000) as server:
        for size, status in ((20_000, "200 OK"), (20_001, "413 Content Too Large")):
            with server.connect(protocol) as frontend:
                entered.clear()
                frontend.begin(body=b"b" * 5000, end=False)
                assert entered.wait(WAIT)
                frontend.more(b"b" * (size - 5000), end=True)
                assert frontend.finish().status == status
    text = server.errors.getvalue()
    assert "raise max_body_bytes to allow it" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("protocol", KEEPING)
def test_body_beyond_max_body_bytes_after_the_head_cuts_the_response(protocol):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)
        yield b"begun"
        yield environ["wsgi.input"].read()

    with (
        Running(app, protocol, max_body_bytes=10_000) as server,
        server.connect(protocol) as frontend,
    ):
        frontend.begin(body=b"b" * 5000, end=False)
        until(lambda: frontend.step() and frontend.answer.body, "the first block")
        frontend.more(b"b" * 5001, end=True)
        with pytest.raises(Exception, match=r"closed before|reset"):
            frontend.finish()
        assert bytes(frontend.answer.body) == b"begun"
        assert not frontend.answer.whole
    assert "raise max_body_bytes to allow it" in server.errors.getvalue()


OUTPUT = bytes(16_000_000)  # Linux lets a socket hold up to 4 MiB


def writing_first(environ, start_response):
    """Writes more than any buffer holds before it reads."""
    start_response("200 OK", PLAIN)
    yield OUTPUT
    yield b"%d" % len(environ["wsgi.input"].read())


@pytest.mark.parametrize("protocol", ["fastcgi", *ONE_SHOT])
def test_body_kept_beyond_max_spool_bytes_lets_the_web_server_wait(protocol):
    """It is not lost, and the web server that reads in the end gets all."""
    size = 40_000_000
    with (
        Running(writing_first, protocol, max_spool_bytes=300_000) as server,
        server.connect(protocol, receive_bytes=4096) as frontend,
    ):
        sent = []
        frontend.begin(length=size, end=False)

        def send():
            for _ in range(size // 1_000_000):
                frontend.more(bytes(1_000_000), end=len(sent) == size // 1_000_000 - 1)
                sent.append(1)

        with in_background(send):
            until(lambda: stalls(sent), "the stop of the upload")
            assert len(sent) < size // 1_000_000
            answer = frontend.finish()
        assert bytes(answer.body[-8:]) == b"%d" % size
        assert len(answer.body) == len(OUTPUT) + 8


def stalls(sent):
    """Whether nothing has been sent for a while."""
    before = len(sent)
    threading.Event().wait(0.3)
    return len(sent) == before


def test_web_server_that_sends_and_never_reads_is_given_up():
    with (
        Running(writing_first, "scgi", max_spool_bytes=300_000, write_timeout=0.4) as server,
        server.connect("scgi", receive_bytes=4096) as frontend,
    ):
        frontend.begin(length=40_000_000, end=False)
        with contextlib.suppress(OSError):
            for _ in range(40):
                frontend.more(bytes(1_000_000))
        until(lambda: server.log.having(": 499 "), "the log line")
        until(lambda: server.workers() >= 1, "the threads")
    (line,) = server.log.lines()
    assert "write_timeout" in line
    assert "max_spool_bytes" in line


@pytest.mark.parametrize(("spool", "files"), [(1_000_000, 0), (100_000, 1)])
def test_body_kept_beyond_body_spool_bytes_goes_to_a_file(spool, files, monkeypatch):
    made, kept = [], []
    make = leader._temporary_file
    monkeypatch.setattr(leader, "_temporary_file", lambda: made.append(1) or make())

    class Counted(leader.Spool):
        def append(self, data):
            super().append(data)
            kept.append(len(data))

    monkeypatch.setattr(leader, "Spool", Counted)
    with (
        Running(writing_first, "scgi", body_spool_bytes=spool) as server,
        server.connect("scgi", receive_bytes=4096) as frontend,
    ):
        # 64 KiB at most are with the request: the rest comes while nothing can be written
        frontend.begin(body=b"b" * 60_000, length=1_000_000, end=False)
        frontend.more(b"b" * 940_000, end=True)
        until(lambda: sum(kept) > 900_000, "the rest of the body in the spool")
        assert bytes(frontend.finish().body[len(OUTPUT) :]) == b"1000000"
    assert len(made) == files


@pytest.mark.parametrize(
    ("unread", "goes_on"),
    [pytest.param(40_000, True, id="at"), pytest.param(400_000, False, id="beyond")],
)
def test_unread_body_beyond_drain_bytes_closes_the_connection(unread, goes_on):
    """The web server sends it whole, and then asks again on the same connection."""
    with (
        Running(hello, "fastcgi", drain_bytes=200_000) as server,
        server.connect("fastcgi") as frontend,
    ):
        frontend.begin(length=70_000 + unread, end=False)
        assert frontend.finish().body == b"hello"
        with contextlib.suppress(OSError):
            for _ in range(unread // 10_000 + 7):
                frontend.send(record(FCGI_STDIN, 1, bytes(10_000)))
            frontend.send(record(FCGI_STDIN, 1))
        if goes_on:
            assert frontend.ask().body == b"hello"
        else:
            assert frontend.ends() in {"eof", "reset"}
        assert server.ask("fastcgi").body == b"hello"


NO_BODY = {
    "records that mean nothing": record(FCGI_DATA, 1, bytes(8000)),
    "records of nobody": record(FCGI_STDIN, 77, bytes(8000)),
    "questions": record(FCGI_GET_VALUES, 0, encode_pairs([("FCGI_MAX_CONNS", "")])) * 200,
}


def flood(frontend, octets, most):
    """Send *octets* over and over; gives how many were taken."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            frontend.send(octets)
            sent += len(octets)
    return sent


@pytest.mark.parametrize("kind", NO_BODY)
def test_flood_where_a_body_is_due_ends_the_request(kind):
    """While the application reads, and while it writes to a peer that does not read."""
    for app in (reading, writing_first):
        with Running(app, "fastcgi") as server, server.connect("fastcgi") as frontend:
            frontend.begin(length=100_000, end=False)
            drained = threading.Event()

            def drain(sock=frontend.sock, drained=drained):
                with contextlib.suppress(OSError):
                    while not drained.is_set() and sock.recv(65_536):
                        pass

            if app is reading:
                with in_background(drain):
                    flood(frontend, NO_BODY[kind], 40_000_000)
                    drained.set()
                    with contextlib.suppress(OSError):
                        frontend.sock.shutdown(socket.SHUT_RDWR)
            else:
                flood(frontend, NO_BODY[kind], 40_000_000)
            until(lambda: server.log.having(": 499 "), "the log line")
        assert len(server.log.lines()) == 1, server.log.lines()
        assert "octets that are no body" in server.log.lines()[0]


def test_octets_behind_an_unanswered_request_are_bounded():
    """FastCGI: the next request may come early, but not for ever."""
    codec = server_codec("fastcgi", Limits())
    request = request_octets("fastcgi")
    codec.receive_data(request)
    for _ in range(1_048_576 // len(request)):
        assert codec.receive_data(request) == []
    with pytest.raises(RemoteProtocolError, match="too much behind"):
        codec.receive_data(request)


@each
def test_length_of_more_than_18_digits_is_no_length(protocol):
    """A number that no arithmetic is done on; FastCGI goes by its records instead."""
    with Running(reading, protocol) as server:
        for length in ("9" * 18, "9" * 19, "9" * 4000):
            with server.connect(protocol) as frontend:
                codec = frontend.codec
                environ = environ_for(method="POST")
                octets = codec.send_request({**environ, "CONTENT_LENGTH": "1"}, b"b")
                octets = forged(protocol, octets, length)
                frontend.send(octets)
                status = frontend.finish().status
                if len(length) == 18:
                    assert status == "413 Content Too Large"
                elif protocol == "fastcgi":
                    assert (status, bytes(frontend.answer.body)) == ("200 OK", b"1")
                else:
                    assert status == "400 Bad Request"


def forged(protocol, octets, length):
    """*octets* of a request, with *length* for its CONTENT_LENGTH of 1."""
    size = len(length)
    if protocol == "scgi":
        digits, _, rest = octets.partition(b":")
        rest = rest.replace(b"CONTENT_LENGTH\x001\0", b"CONTENT_LENGTH\0%b\0" % length.encode())
        return b"%d:%b" % (int(digits) + size - 1, rest)
    if protocol == "ajp":
        payload = octets[4 : 4 + int.from_bytes(octets[2:4], "big")]
        old = b"\xa0\x08\0\x011\0"
        assert old in payload
        payload = payload.replace(
            old, b"\xa0\x08%b%b\0" % (size.to_bytes(2, "big"), length.encode())
        )
        return b"\x12\x34" + len(payload).to_bytes(2, "big") + payload
    name = b"CONTENT_LENGTH"
    if protocol == "uwsgi":
        old = b"\x0e\0" + name + b"\x01\x001"
        assert old in octets
        vars_size = (octets[1] | octets[2] << 8) + size - 1
        body = octets[4:].replace(
            old, b"\x0e\0%b%b%b" % (name, size.to_bytes(2, "little"), length.encode())
        )
        return b"\0" + vars_size.to_bytes(2, "little") + b"\0" + body
    pairs = {**environ_for(method="POST"), "CONTENT_LENGTH": length}
    begin = octets[:16]
    stdin = record(FCGI_STDIN, 1, b"b") + record(FCGI_STDIN, 1)
    if size == 18:  # it waits for the rest, which never comes: the answer is sooner
        stdin = record(FCGI_STDIN, 1, b"b")
    return b"".join((begin, record(4, 1, encode_pairs(pairs.items())), record(4, 1), stdin))


# -- counts --------------------------------------------------------------------------------


def test_max_connections_is_named_once():
    with Running(hello, "fastcgi", max_connections=3) as server:
        kept = [server.connect("fastcgi") for _ in range(3)]
        for frontend in kept:
            frontend.ask()
        for _ in range(3):  # each time it is full anew
            late = server.connect("fastcgi")
            late.begin()
            until(lambda: server.log.having("max_connections"), "the log line")
            kept.pop(0).close()
            assert late.finish().status == "200 OK"
            kept.append(late)
    (line,) = server.log.lines()
    assert line.startswith("3 connections are open")


def test_what_is_learnt_of_peers_is_bounded():
    """Names of parameters, addresses and paths that requests bring are not kept for ever."""
    rules = EnvironRules({})
    for number in range(5000):
        rules.finish({**environ_for(), f"HTTP_X_{number}": "1", f"HTTP_{number:0>100}": "1"})
    assert len(rules._plain) <= 2048
    listener = listen.open_listener(parse("scgi://127.0.0.1:0?allow=127.0.0.0/8"))
    for number in range(10_000):
        assert listener.permits(-1, (f"127.0.{number // 250}.{number % 250}", 1))
        assert len(listener._known) <= 4096
    listener.close()
    found = pace.Pace()
    for number in range(5000):
        found.note(pace.target_of(environ_for(f"/{number}" + "x" * 2000)), 1.0, float(number))
    assert len(found._known) <= 1024


# -- behind a real web server --------------------------------------------------------------


@pytest.fixture
def roomy_nginx(monkeypatch):
    """nginx that takes heads of two mebibytes from its client."""
    add_to_nginx(monkeypatch, "large_client_header_buffers 4 2m;")


def status_behind(port, length):
    """The status line that a visitor gets whose cookie has *length* octets."""
    with socket.create_connection(("127.0.0.1", port), WAIT) as sock:
        lines = ["GET / HTTP/1.1", "Host: h", "Connection: close", f"Cookie: {'c' * length}"]
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while piece := sock.recv(65_536):
            received += piece
    return received.split(b"\r\n")[0].decode()


@pytest.mark.frontend("nginx")
@pytest.mark.parametrize(
    ("protocol", "most"),
    [
        # nginx puts all parameters into one record and refuses what is longer than that
        pytest.param("fastcgi", 50_000, id="fastcgi"),
        pytest.param("scgi", 1_048_576, id="scgi"),
        pytest.param("uwsgi", 50_000, id="uwsgi"),
    ],
)
@pytest.mark.usefixtures("roomy_nginx")
def test_visitor_behind_nginx_sees_431(protocol, most):
    with Running(hello, protocol, max_params_bytes=most) as server:
        bind = replace(parse(f"{protocol}://127.0.0.1:1"), port=server.ports[protocol])
        with launch("nginx", Site(via=protocol, bind=bind, listen_port=0)) as front:
            passes, fails = most - 2000, most + 1
            while fails - passes > 1:
                middle = (passes + fails) // 2
                status = status_behind(front.site.listen_port, middle)
                if status == "HTTP/1.1 200 OK":
                    passes = middle
                else:
                    assert status == "HTTP/1.1 431 Request Header Fields Too Large"
                    fails = middle
            assert status_behind(front.site.listen_port, passes).endswith("200 OK")
            assert " 431 " in status_behind(front.site.listen_port, fails)
            assert " 431 " in status_behind(front.site.listen_port, most + 10_000)
    assert most - 2000 < passes < most
    assert all("raise max_params_bytes" in line for line in server.log.lines())


# -- the page ------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs/reference/limits.md"
TESTS = Path(__file__).parents[1]


def test_page_tells_of_each_ceiling_and_of_tests_that_exist():
    text = PAGE.read_text()
    for name, option in OPTIONS.items():
        if option.section in {"limits", "timeouts", "concurrency"} or name == "max_connections":
            assert f"| `{name}` |" in text, name
            default = re.search(rf"\| `{name}` \| ([\d_.]+) ", text)
            assert default, name
            assert float(default[1].replace("_", "")) == getattr(Settings(), name)
    named = re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (TESTS / file).read_text(), (file, test)
