"""The conformance list over the built-in front and the engine: every protocol and transport."""

import io
import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.cases import cases_for
from conformance.route import DEADLINE, Route
from portico.config.settings import Settings
from portico.engine.leader import Engine
from portico.loader import load_application
from portico.servers.front import Front
from portico.transports.bind import parse
from portico.transports.listen import open_listener

APPLICATIONS = Path(__file__).with_name("applications.py")

#: Route -> what is spoken, the transport, the mount point, and the listener's protocol: one
#: transport serves at the root, the other below a path, and so does a listener for all protocols.
ROUTES = {
    f"{listener and 'auto-'}{protocol}-{transport}": (
        protocol,
        transport,
        mount,
        listener or protocol,
    )
    for protocol in ("fastcgi", "scgi", "ajp", "uwsgi")
    for listener, transport, mount in (
        ("", "tcp", ""),
        ("", "unix", "/app"),
        ("auto", "tcp", ""),
    )
}


def lacks(protocol, transport):
    """What the route cannot do, each with its reason."""
    if protocol in {"fastcgi", "ajp"}:
        return {}
    found = {
        "chunked": f"{protocol} knows a body's end by CONTENT_LENGTH alone; the front says 411"
    }
    if transport == "unix":
        found["shows-cut"] = (
            f"a {protocol} response without a length ends with the connection, and a Unix socket"
            " cannot be reset"
        )
    return found


class Serving:
    """An engine in a thread, and the built-in front before it."""

    def __init__(self, name, folder):
        self.protocol, transport, mount, served = ROUTES[name]
        socket_path = folder / f"{name}.sock"
        address = "://127.0.0.1:0" if transport == "tcp" else f"+unix://{socket_path}"
        listener = open_listener(parse(f"{served}{address}"))
        self.errors = io.StringIO()
        self.front_errors = io.StringIO()
        application = load_application(str(APPLICATIONS))
        settings = Settings(threads=16, mount=mount or None)
        self.engine = Engine(application, [listener], settings, self.errors)
        self.thread = threading.Thread(target=self.engine.serve)
        self.thread.start()
        bind = replace(listener.bind, protocol=self.protocol)
        self.front = Front(bind, mount=mount, errors=self.front_errors)
        self.front.start()
        self.route = Route(
            "127.0.0.1", self.front.port, folder, mount, lacks(self.protocol, transport)
        )

    def stop(self):
        self.front.close()
        self.engine.stop()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "the engine does not end"


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """Routes by name, each started when its first case comes and kept for the others."""
    started = {}

    def start(name):
        if name not in started:
            started[name] = Serving(name, tmp_path_factory.mktemp("loopback"))
        return started[name]

    yield start
    for running in started.values():
        running.stop()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(
            name, case, id=f"{name}-{case.name}", marks=[pytest.mark.slow] if case.slow else []
        )
        for name in ROUTES
        for case in cases_for(lacks(*ROUTES[name][:2]))
    ],
)
def test_case(serving, name, case, caplog):
    running = serving(name)
    caplog.set_level(logging.INFO, "portico")
    running.front_errors.seek(0)
    running.front_errors.truncate()
    case.run(running.route)
    assert "internal error" not in caplog.text
    # of a response that breaks off, the front has nothing better to say
    if not case.name.startswith("error-after-"):
        assert "Traceback" not in running.front_errors.getvalue()
