import threading

import pytest

from backends import WAIT, Backend, Scripted
from portico.client.exchange import BackendError, Timeouts
from portico.client.probe import get_values, ping
from portico.errors import ConfigError


def app(_environ, start_response):
    start_response("200 OK", [])
    return []


def say(octets):
    def script(conn):
        conn.recv(65_536)
        conn.sendall(octets)

    return script


QUESTIONS = pytest.mark.parametrize(
    ("question", "protocol"), [(get_values, "fastcgi"), (ping, "ajp")], ids=["values", "ping"]
)


def test_values():
    with Backend("fastcgi", app) as backend:
        values = get_values(backend.url)
        assert set(values) == {"FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"}
        assert get_values(backend.url, ["FCGI_MPXS_CONNS", "OTHER"]) == {
            "FCGI_MPXS_CONNS": values["FCGI_MPXS_CONNS"]
        }


def test_ping():
    with Backend("ajp", app) as backend:
        assert 0 < ping(backend.url) < WAIT


def test_a_backend_that_does_not_know_the_question_knows_no_value():
    with Scripted(say(b"\1\x0b\0\0\0\x08\0\0\x09" + bytes(7))) as backend:
        assert get_values(backend.url("fastcgi")) == {}


@QUESTIONS
@pytest.mark.parametrize(
    ("octets", "message"),
    [(b"", "gave no answer"), (b"SSH-2.0-OpenSSH_9.2p1\r\n", "gave no answer")],
    ids=["closed", "garbage"],
)
def test_no_answer(question, protocol, octets, message):
    with Scripted(say(octets)) as backend, pytest.raises(BackendError, match=message):
        question(backend.url(protocol))


@QUESTIONS
def test_silence_ends_in_time(question, protocol):
    done = threading.Event()
    with Scripted(lambda _conn: done.wait(WAIT)) as backend:
        with pytest.raises(BackendError, match="read timeout") as caught:
            question(backend.url(protocol), timeouts=Timeouts(read=0.1))
        assert caught.value.status_hint == 504
        done.set()


@QUESTIONS
def test_nothing_listens(question, protocol):
    with Scripted(say(b"")) as backend:
        url = backend.url(protocol)
    with pytest.raises(BackendError, match="nothing listens"):
        question(url)


@QUESTIONS
def test_another_protocol_has_no_such_question(question, protocol):
    with pytest.raises(ConfigError, match=f"is not {protocol}"):
        question("scgi://127.0.0.1:1")
