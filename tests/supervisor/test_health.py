"""The first request, which a worker sends to its own application."""

from wsgiref.validate import validator

import pytest

from portico.config.settings import Settings
from portico.engine.gate import base_keys
from portico.errors import ApplicationError
from portico.supervisor.health import check_health
from portico.transports.bind import parse

BIND = parse("fcgi://127.0.0.1:9000")


def asked(path="/health", **settings):
    """What an application gets to see."""
    seen = {}

    def application(environ, start_response):
        seen.update(environ)
        start_response("204 No Content", [])
        return []

    check_health(application, path, BIND, Settings(**settings), {"wsgi.multiprocess": True})
    return seen


def test_environ_has_what_that_of_every_request_has():
    ordinary = base_keys("fastcgi", str(BIND), Settings(), {"wsgi.errors": None})
    seen = asked()
    assert ordinary.keys() <= seen.keys()
    assert seen["portico.protocol"] == "fastcgi"
    assert seen["portico.bind"] == "fcgi://127.0.0.1:9000"
    assert seen["wsgi.multithread"] is True
    assert asked(threads=1)["wsgi.multithread"] is False


def test_mount_stands_before_the_path():
    seen = asked("/app/health", mount="/app")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/app", "/health")


def test_request_is_one_that_pep_3333_allows():
    def application(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"well"]

    check_health(validator(application), "/health", BIND, Settings(), {})


@pytest.mark.parametrize("status", ["400 Bad", "404 Not Found", "500 Ill"])
def test_status_from_400_on_is_ill(status):
    def application(environ, start_response):
        start_response(status, [("Content-Type", "text/plain")])
        environ["wsgi.errors"].write("the database is away\n")
        return [b"ill"]

    with pytest.raises(ApplicationError, match=f"answered {status}\nthe database is away"):
        check_health(application, "/health", BIND, Settings(), {})


def test_response_that_is_cut_is_ill():
    def application(_environ, start_response):
        start_response("200 OK", [("Content-Length", "10")])
        return [b"short"]

    with pytest.raises(ApplicationError, match="a response that is cut"):
        check_health(application, "/health", BIND, Settings(), {})
