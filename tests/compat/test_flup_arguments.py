"""Every argument of every server of flup 1.0.3: honoured, or refused with a sentence."""

import inspect
import json
import signal
import socket
import sys
from importlib import import_module
from itertools import product

import flup.server
import pytest
from flup.server import preforkserver, threadpool

from cgi_harness import environment
from engine_harness import Frontend, until
from flup_harness import FORKING, SERVERS, Flup, free_port
from portico.compat.flup.server import NoDefault, _arguments
from portico.compat.flup.server.fcgi_base import FCGI_AUTHORIZER, FCGI_FILTER, FCGI_RESPONDER
from portico.errors import ConfigError, PorticoError

pytestmark = pytest.mark.slow  # processes, one after another

ALL = (*SERVERS, "cgi")


def theirs(server):
    return import_module(f"flup.server.{server}").WSGIServer


def ours(server):
    return import_module(f"portico.compat.flup.server.{server}").WSGIServer


def named(function):
    """The arguments of a callable, without those that stand for any."""
    found = inspect.signature(function).parameters.values()
    return {one.name: one for one in found if one.kind is one.POSITIONAL_OR_KEYWORD}


def pool_of(server):
    """The keywords that flup's server hands to its pool, with their defaults."""
    if server in FORKING:
        found = named(preforkserver.PreforkServer)
        return {name: found[name].default for name in found if not name.startswith("job")}
    if server in {"cgi", "fcgi_single"}:
        return {}
    return {name: one.default for name, one in named(threadpool.ThreadPool).items()}


#: Each argument of each server, as flup itself has them.
ARGUMENTS = [
    (server, name) for server in ALL for name in (*named(theirs(server)), *pool_of(server))
]


@pytest.mark.parametrize("server", ALL)
def test_names_order_and_defaults_are_flups(server):
    stands_for = {flup.server.NoDefault: NoDefault}
    wanted = [
        (name, stands_for.get(one.default, one.default))
        for name, one in named(theirs(server)).items()
    ]
    assert [(name, one.default) for name, one in named(ours(server)).items()] == wanted


def test_the_pools_keywords_and_defaults_are_flups():
    assert dict(_arguments.THREADS) == pool_of("fcgi")
    assert dict(_arguments.PROCESSES) == pool_of("fcgi_fork")


# -- what honouring means ------------------------------------------------------------------


def application(_environ, _start_response):
    return []


def settings_of(server, **arguments):
    if not server.startswith("fcgi"):
        arguments.setdefault("bindAddress", ("localhost", 4000))
    return ours(server)(application, **arguments)._settings


def check_application(server, place):
    del place
    assert ours(server)(application).application is application


def check_environ(server, place):
    extra = {"SETTING": "here", "wsgi.run_once": "no", "REMOTE_USER": "me", "number": 7}
    with Flup(place, server, environ=extra) as program:
        seen = program.environ(REMOTE_USER="somebody")
    assert (seen["SETTING"], seen["REMOTE_USER"], seen["number"]) == ("here", "me", 7)
    assert seen["wsgi.run_once"] is False


def check_multithreaded(server, place):
    with Flup(place, server, multithreaded=False) as program:
        assert program.environ()["wsgi.multithread"] is False
    assert settings_of(server, multithreaded=False, maxThreads=9).threads == 1
    assert settings_of(server, maxThreads=9).threads == 9


def check_multiprocess(server, place):
    with Flup(place, server, multiprocess=True) as program:
        assert program.environ()["wsgi.multiprocess"] is True


def check_bind_address(server, place):
    with Flup(place, server) as program:
        assert program.environ("/unix")["PATH_INFO"] == "/unix"
        assert program.address == str(place / "sock")
    tcp = ours(server)(application, bindAddress=("127.0.0.1", 4711))._bind
    assert (tcp.transport, tcp.host, tcp.port) == ("tcp", "127.0.0.1", 4711)
    six = ours(server)(application, bindAddress=("::1", 4711, 0, 0))._bind
    assert (six.transport, six.host) == ("tcp", "::1")


def check_umask(server, place):
    for umask, mode in ((0o022, 0o755), (0o117, 0o660)):
        bind = ours(server)(application, bindAddress=str(place / "x"), umask=umask)._bind
        assert bind.mode == mode


def check_multiplexed(server, place):
    assert settings_of(server, multiplexed=False).max_multiplexed == 1
    assert settings_of(server, multiplexed=True).max_multiplexed > 1
    del place


def check_debug(server, place):
    secret = b"a secret of the program"
    for debug in (True, False):
        address = str(place / f"debug-{debug}")
        with Flup(place, server, "failing", debug=debug, bindAddress=address) as program:
            answer = program.ask()
        assert answer.status.startswith("500")
        assert (secret in answer.body) is debug


def check_roles(server, place):
    roles = (FCGI_RESPONDER, FCGI_AUTHORIZER, FCGI_FILTER)
    assert settings_of(server, roles=roles).roles == ("responder", "authorizer", "filter")
    assert settings_of(server).roles == ("responder",)
    with Flup(place, server, roles=[FCGI_AUTHORIZER]) as program:
        with program.connect(role="authorizer") as frontend:
            assert frontend.ask().status == "200 OK"
        with pytest.raises(PorticoError), program.connect() as frontend:
            frontend.ask()


def check_force_cgi(server, place):
    given = {name.decode(): value.decode() for name, value in environment().items()}
    with Flup(place, server, forceCGI=True, prepared=False, env=given) as program:
        # with a bindAddress flup does not look at it
        until(program._is_up, "the server")
        assert program.ask().status == "200 OK"
    assert ours(server)(application, forceCGI=True)._is_cgi()


def check_timeout(server, place):
    assert settings_of(server, timeout=7).timeout == 7
    assert settings_of(server).timeout == 0
    del place


def check_script_name(server, place):
    with Flup(place, server, scriptName="/app") as program:
        seen = program.environ("/app/x")
        assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/app", "/x")
        assert program.ask("/application").status.startswith("404")
        if server.startswith("scgi"):  # nobody may send such a variable over AJP
            moved = program.environ("/other/x", WSGI_SCRIPT_NAME="/other")
            assert (moved["SCRIPT_NAME"], moved["PATH_INFO"]) == ("/other", "/x")


def check_allowed_servers(server, place):
    del place
    restricted = ours(server)(application, allowedServers=["10.0.0.5"])
    assert restricted._allowed() == ("10.0.0.5/32",)
    assert ours(server)(application)._allowed() is None


def check_logging_level(server, place):
    for level, heard in ((10, True), (40, False)):
        with Flup(place, server, loggingLevel=level) as program:
            program.ask()
            program.signal(signal.SIGHUP)
            program.ends()
        assert ("WSGIServer shutting down (reload requested)" in program.stderr) is heard


def check_min_spare(server, place):
    del place
    if server not in FORKING:  # as many threads at least, as flup has it
        assert settings_of(server, minSpare=7, maxThreads=3).threads == 7
    else:
        assert ours(server)(application, minSpare=3, maxSpare=3)._least == 3


def check_max_spare(server, place):
    del place
    if server not in FORKING:  # threads start when they are needed, and cost nothing idle
        assert settings_of(server, maxSpare=2) == settings_of(server, maxSpare=9)
    else:
        assert ours(server)(application, maxSpare=3)._least == 3
        assert settings_of(server, maxSpare=60).workers == 60  # of maxChildren's default, 50


def check_max_threads(server, place):
    del place
    assert settings_of(server, maxThreads=3).threads == 3
    assert settings_of(server, maxThreads=sys.maxsize).threads == 200
    assert settings_of(server, maxThreads=1_000_000).threads == 10_000


def check_max_children(server, place):
    del place
    assert settings_of(server).workers == 50
    assert settings_of(server, maxChildren=8).workers == 8
    assert settings_of(server).threads == 1


def check_max_requests(server, place):
    del place
    assert settings_of(server, maxRequests=9).max_requests == 9


def check_sock_timeout(server, place):
    del place
    found = settings_of(server, sockTimeout=2.5)
    assert (found.body_timeout, found.write_timeout) == (2.5, 2.5)
    assert settings_of(server, sockTimeout=0).body_timeout == 60


CHECKS = {
    "application": check_application,
    "environ": check_environ,
    "multithreaded": check_multithreaded,
    "multiprocess": check_multiprocess,
    "bindAddress": check_bind_address,
    "umask": check_umask,
    "multiplexed": check_multiplexed,
    "debug": check_debug,
    "roles": check_roles,
    "forceCGI": check_force_cgi,
    "timeout": check_timeout,
    "scriptName": check_script_name,
    "allowedServers": check_allowed_servers,
    "loggingLevel": check_logging_level,
    "minSpare": check_min_spare,
    "maxSpare": check_max_spare,
    "maxThreads": check_max_threads,
    "maxChildren": check_max_children,
    "maxRequests": check_max_requests,
    "sockTimeout": check_sock_timeout,
}


@pytest.mark.parametrize(("server", "name"), ARGUMENTS)
def test_an_argument_is_honoured(server, name, place):
    CHECKS[name](server, place)


# -- what is refused -----------------------------------------------------------------------

FASTCGI = ("fcgi", "fcgi_single", "fcgi_fork")
OTHERS = ("scgi", "scgi_fork", "ajp", "ajp_fork")

REFUSED = [
    (SERVERS, {"maxthreads": 3}, TypeError, "unexpected keyword argument 'maxthreads'"),
    (("fcgi",), {"maxChildren": 3}, TypeError, "'maxChildren'"),
    (FORKING, {"maxThreads": 3}, TypeError, "'maxThreads'"),
    (("fcgi", "scgi", "ajp"), {"maxThreads": "many"}, ConfigError, "a whole number"),
    (FORKING, {"maxRequests": None}, ConfigError, "a whole number"),
    (FORKING, {"maxRequests": -1}, ConfigError, "0 is for no limit"),
    (FORKING, {"maxChildren": 5000}, ConfigError, "have it be 1000 at most"),
    (FORKING, {"minSpare": 0}, ValueError, "at least 1"),
    (FORKING, {"minSpare": 6}, ValueError, "less than minSpare"),
    (FORKING, {"sockTimeout": -1}, ValueError, "negative"),
    (FORKING, {"sockTimeout": "1"}, ConfigError, "a number of seconds"),
    (FORKING, {"timeout": "1"}, ConfigError, "a number of seconds up to"),
    (FORKING, {"timeout": -1}, ConfigError, "or None"),
    (FASTCGI, {"roles": ()}, ConfigError, "must hold FCGI_RESPONDER"),
    (FASTCGI, {"roles": (4,)}, ConfigError, "must hold FCGI_RESPONDER"),
    (FASTCGI, {"roles": 1}, ConfigError, "must hold FCGI_RESPONDER"),
    (OTHERS, {"bindAddress": None}, ConfigError, r"name \(host, port\)"),
    (SERVERS, {"bindAddress": ("localhost", "80")}, ConfigError, r"name \(host, port\)"),
    (SERVERS, {"bindAddress": ("localhost",)}, ConfigError, r"name \(host, port\)"),
    (SERVERS, {"bindAddress": 4000}, ConfigError, r"name \(host, port\)"),
    (SERVERS, {"bindAddress": ("localhost", 70_000)}, ConfigError, r"name \(host, port\)"),
    (SERVERS, {"bindAddress": "\0abstract"}, ConfigError, "open to every user"),
    (SERVERS, {"bindAddress": ""}, ConfigError, "name the path"),
    (("fcgi", "scgi"), {"umask": "022"}, ConfigError, "from 0 to 0o777"),
    (("fcgi", "scgi"), {"umask": -1}, ConfigError, "from 0 to 0o777"),
    (OTHERS, {"scriptName": "app"}, ConfigError, "must begin with a slash"),
    (OTHERS, {"scriptName": 1}, ConfigError, "must begin with a slash"),
    (OTHERS, {"allowedServers": []}, ConfigError, "nobody could connect"),
    (OTHERS, {"allowedServers": ["web.example.org"]}, ConfigError, "no IP address"),
    (OTHERS, {"allowedServers": 5}, ConfigError, "a list of addresses"),
    (OTHERS, {"loggingLevel": "loud"}, ConfigError, "such as logging.INFO"),
]


@pytest.mark.parametrize(
    ("server", "arguments", "kind", "sentence"),
    [(server, *rest) for servers, *rest in REFUSED for server in servers],
)
def test_a_value_that_cannot_be_is_refused_at_once(server, arguments, kind, sentence):
    with pytest.raises(kind, match=sentence):
        ours(server)(application, **arguments)


@pytest.mark.parametrize(
    ("server", "name"),
    [*product(SERVERS, ["jobClass", "jobArgs", "multithreaded", "multiprocess"])],
)
def test_what_flup_takes_out_is_passed_over(server, name):
    assert ours(server)(application, **{name: True}).application is application


def test_the_single_server_passes_over_what_pools_have():
    made = ours("fcgi_single")(application, maxSpare=3, maxThreads=9, maxChildren=4)
    assert made._settings.threads == 1


# -- who may connect -----------------------------------------------------------------------


def opened(server, **arguments):
    """Where a server would listen."""
    made = ours(server)(application, **arguments)
    return _arguments.restrict(made._bind, made._allowed(), made._instead)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("host", ["", "0.0.0.0"])
def test_nobody_named_means_this_machine_alone(server, host, caplog):
    """flup: anybody (defect 2)."""
    assert opened(server, bindAddress=(host, 4000)).host == "127.0.0.1"
    what = "FCGI_WEB_SERVER_ADDRS" if server.startswith("fcgi") else "allowedServers"
    assert what in caplog.text


def test_nobody_named_means_this_machine_alone_in_ipv6_too():
    assert opened("scgi", bindAddress=("", 4000, 0, 0)).host == "::1"


@pytest.mark.parametrize("server", SERVERS)
def test_an_address_that_others_reach_wants_a_name(server):
    what = "FCGI_WEB_SERVER_ADDRS" if server.startswith("fcgi") else "allowedServers"
    with pytest.raises(ConfigError, match=f"can be reached from other machines.*{what}"):
        opened(server, bindAddress=("192.0.2.1", 4000))


@pytest.mark.parametrize("server", ["ajp", "ajp_fork"])
@pytest.mark.parametrize("host", ["", "0.0.0.0", "192.0.2.1"])
def test_ajp_to_other_machines_wants_a_secret(server, host):
    with pytest.raises(ConfigError, match=r"AJP wants a secret there.*portico serve"):
        opened(server, bindAddress=(host, 8009), allowedServers=["192.0.2.7"])


def test_an_inherited_socket_that_others_reach_wants_a_name(place):
    with (
        socket.create_server(("0.0.0.0", 0)) as listener,
        Flup(place, "fcgi", inherited=listener, prepared=False) as program,
    ):
        assert program.ends() == 1
    assert "Here: name the web server in the environment variable FCGI_WEB" in program.stderr


def test_the_named_may_connect(monkeypatch):
    bind = opened("scgi", bindAddress=("0.0.0.0", 4000), allowedServers=["192.0.2.1"])
    assert (bind.host, bind.allow) == ("0.0.0.0", ("192.0.2.1/32",))
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "192.0.2.1, 192.0.2.2")
    bind = opened("fcgi", bindAddress=("0.0.0.0", 4000))
    assert (bind.host, bind.allow) == ("0.0.0.0", ("192.0.2.1/32", "192.0.2.2/32"))


@pytest.mark.parametrize("server", ["fcgi", "scgi", "scgi_fork"])
def test_others_are_turned_away(server, place):
    named = {"allowedServers": ["192.0.2.1"]} if server != "fcgi" else {}
    env = {"FCGI_WEB_SERVER_ADDRS": "192.0.2.1"} if server == "fcgi" else {}
    address = ["127.0.0.1", free_port()]
    with (
        Flup(place, server, bindAddress=address, env=env, **named) as program,
        Frontend(program.protocol, program.address) as frontend,
    ):
        assert frontend.ends() in {"eof", "reset"}


@pytest.mark.parametrize("server", OTHERS)
def test_bind_failures_are_logged_and_run_returns_false(server, place):
    address = ["127.0.0.1", free_port()]
    with Flup(place, server, bindAddress=address):
        with Flup(place, server, bindAddress=address, prepared=False) as second:
            assert second.ends() == 0
        assert "another process listens there" in second.stderr
        assert "returned False" in second.stderr


def test_the_environ_moves_the_root(place):
    """SCRIPT_NAME in `environ` is how flup is told that rewriting hides the script."""
    with Flup(place, "fcgi", environ={"SCRIPT_NAME": ""}) as program:
        for given, wanted in (
            ({"SCRIPT_NAME": "/app.fcgi", "PATH_INFO": "/x"}, "/x"),
            ({"SCRIPT_NAME": "/app.fcgi", "PATH_INFO": "", "REQUEST_URI": "/"}, "/"),
            ({"SCRIPT_NAME": "/app.fcgi", "PATH_INFO": "", "REQUEST_URI": "/a%20b?c"}, "/a b"),
        ):
            answer = program.ask(**given)
            seen = json.loads(bytes(answer.body))["environ"]
            assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("", wanted)


def test_the_environ_decides_the_scheme(place):
    with Flup(place, "scgi", environ={"HTTPS": "on"}) as program:
        assert program.environ()["wsgi.url_scheme"] == "https"
