"""What flup6 1.1.1 does wrong beyond flup: defects 38 to 42 of `listing`."""

from __future__ import annotations

import importlib
import socket

import pytest

from cgi_harness import run_script, write_script
from codecs_harness import collect
from core_harness import run
from defects import wire
from defects.wire import BOTH, begin, params, record, records
from engine_harness import PROTOCOLS, Running, environ_for, make_codec, request_octets
from portico.codecs import PROTOCOLS as NAMES
from portico.codecs import server_codec
from portico.config.settings import Settings
from portico.core.environ import EnvironRules
from portico.core.mount import Mounting
from portico.limits import Limits
from portico.transports.bind import parse
from portico.transports.listen import open_listener

each = pytest.mark.parametrize("protocol", PROTOCOLS)


def failing(_environ, _start_response):
    secret = "a local value"  # noqa: F841, S105 - what an error page must not show
    raise ValueError("on purpose")


def test_defect_38_no_visitor_sees_a_traceback_and_errors_are_500(tmp_path):
    assert Settings().debug is False
    sink, errors, _ = run(failing)
    assert sink.status == "500 Internal Server Error"
    assert "ValueError: on purpose" in errors
    source = "def application(environ, start_response):\n    raise ValueError('on purpose')\n"
    answer = run_script(write_script(tmp_path, source))
    assert answer.status == "500 Internal Server Error"
    for body in (sink.body, answer.body):
        assert not any(word in body for word in (b"Traceback", b"purpose", b"secret", b"line "))


@each
def test_defect_39_an_exception_or_a_missing_parameter_is_answered_whole(protocol):
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/fail":
            failing(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["SERVER_NAME"].encode()]

    with Running(app, protocol) as server:
        answer = server.ask(protocol, "/fail")
        assert (answer.status, answer.whole) == ("500 Internal Server Error", True)
        answer = server.ask(protocol, "/", SERVER_NAME="", HTTP_HOST="named.test:81")
        assert (answer.status, answer.body) == ("200 OK", b"named.test")
    if protocol == "fastcgi":
        with Running(app, protocol) as server:
            got = wire.whole_answer(server, request_octets(protocol, "/fail", keep=False))
            assert records(got)[-1] == (wire.END, 1, bytes(8))


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("kind", [0, 10, 11, 12, 255])
def test_defect_40_unknown_management_records_are_answered(make, kind):
    codec = make()
    assert codec.receive_data(record(kind, 0, b"anything")) == []
    assert codec.data_to_send() == record(wire.UNKNOWN_TYPE, 0, bytes((kind, *bytes(7))))
    assert codec.receive_data(record(wire.GET_VALUES, 0, b"\x0e\0FCGI_MAX_CONNS")) == []
    ((kind, _, content),) = records(codec.data_to_send())
    assert kind == wire.GET_VALUES_RESULT
    assert content.startswith(b"\x0e")
    (got,) = collect(codec, [begin() + params(A="b") + record(wire.STDIN)])
    assert got.environ == {"A": "b"}


def test_defect_41_an_allow_list_does_not_wear_out(monkeypatch):
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "192.0.2.1,192.0.2.2,192.0.2.3")
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        listener = open_listener(parse(f"fastcgi+fd://{inherited.detach()}"))
    try:
        for _ in range(2):
            for last in (3, 2, 1, 2, 3):
                assert listener.permits(-1, (f"192.0.2.{last}", 1))
            assert not listener.permits(-1, ("192.0.2.4", 1))
    finally:
        listener.close()


def test_defect_42_every_protocol_imports():
    for module in {*NAMES.values()}:
        assert importlib.import_module(f"portico.codecs.{module}").ServerCodec(Limits())


@each
def test_defect_42_path_info_is_the_rest_behind_script_name(protocol):
    environ = environ_for("/app/x", REQUEST_URI="/app/x")
    octets = make_codec(protocol).send_request({**environ, "CONTENT_LENGTH": "0"}, b"", end=True)
    (got,) = collect(server_codec(protocol, Limits()), [octets])
    environ = EnvironRules({}, Mounting("/app")).finish(got.environ)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")


@each
def test_defect_42_header_values_are_latin_1(protocol):
    codec, number = wire.answering(protocol)
    assert b"caf\xe9" in codec.send_response(number, "200 OK", [("X-Name", "caf\xe9")])
