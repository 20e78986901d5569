"""Listeners: what they take, whom they let in, what they say when they cannot open."""

from __future__ import annotations

import errno
import os
import select
import socket

import pytest

from portico.errors import ConfigError, TransportError
from portico.transports import listen
from portico.transports.bind import parse
from portico.transports.listen import Listener, open_listener, open_listeners
from portico.transports.stream import Stream

#: Seconds; a test that reaches it fails.
LONG = 10.0


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")

LOOPBACK = [
    "scgi://127.0.0.1:0",
    pytest.param("scgi://[::1]:0", marks=needs_ipv6),
    "scgi://localhost:0",
]


@pytest.fixture
def opened():
    """Opens listeners that are closed at the end."""
    listeners = []

    def make(url):
        listeners.append(open_listener(parse(url)))
        return listeners[-1]

    yield make
    for listener in listeners:
        listener.close()


def names(directory):
    return [entry.name for entry in directory.iterdir()]


def dial(listener):
    """Connect to *listener*; gives our socket."""
    bind = listener.bind
    if bind.transport == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(bind.path)
        return sock
    return socket.create_connection((bind.host, bind.port), LONG)


def accept(listener):
    """Accept one connection, which is there already or on its way."""
    ready, _, _ = select.select([listener.fd], [], [], LONG)
    assert ready
    return listener.accept()


@pytest.mark.parametrize("url", [*LOOPBACK, "unix"])
def test_listener_accepts_raw_descriptors(opened, url, tmp_path):
    listener = opened(f"scgi+unix://{tmp_path}/s" if url == "unix" else url)
    with dial(listener) as client:
        fd, address = accept(listener)
        assert isinstance(fd, int)
        assert not os.get_inheritable(fd)
        os.write(fd, b"hello")
        os.close(fd)
        assert client.recv(10) == b"hello"
        assert listener.permits(fd, address)
        assert not listener.checks_peers


def test_accept_does_not_wait(opened):
    with pytest.raises(BlockingIOError):
        opened("scgi://127.0.0.1:0").accept()


@pytest.mark.parametrize("url", LOOPBACK)
def test_port_zero_becomes_the_real_port(opened, url):
    listener = opened(url)
    assert listener.bind.port > 0
    assert str(listener.bind).endswith(str(listener.bind.port))


def test_accepted_connections_inherit_nodelay(opened):
    listener = opened("scgi://127.0.0.1:0")
    with dial(listener):
        fd, _ = accept(listener)
        with socket.socket(fileno=fd) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@needs_ipv6
def test_wildcard_ipv6_leaves_ipv4_to_others(opened):
    six = opened("scgi://[::]:0?allow=::1")
    four = opened(f"scgi://0.0.0.0:{six.bind.port}?allow=127.0.0.1")
    assert four.bind.port == six.bind.port


def test_a_port_can_be_shared_where_asked_for(opened):
    first = opened("scgi://127.0.0.1:0?reuse_port=yes")
    second = opened(f"scgi://127.0.0.1:{first.bind.port}?reuse_port=yes")
    assert second.fd != first.fd


def test_a_port_is_taken_again_right_after_a_close(opened):
    first = opened("scgi://127.0.0.1:0")
    with dial(first):
        fd, _ = accept(first)
        os.close(fd)  # closed here first: TIME_WAIT is on this side
    first.close()
    assert opened(str(first.bind)).bind.port == first.bind.port


def test_close_is_done_once(opened):
    listener = opened("scgi://127.0.0.1:0")
    fd = listener.fd
    listener.close()
    listener.close()
    assert listener.fd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# -- refusals ------------------------------------------------------------------------------


def test_taken_port_says_so_and_keeps_the_cause(opened):
    """flup raised TypeError in place of the message (``e[1]`` on an OSError)."""
    first = opened("scgi://127.0.0.1:0")
    with pytest.raises(TransportError, match="is taken, another process listens there") as caught:
        opened(str(first.bind))
    assert caught.value.__cause__.errno == errno.EADDRINUSE
    assert "\n" not in str(caught.value)


def test_foreign_address_says_so(opened):
    with pytest.raises(TransportError, match=r"no address 192\.0\.2\.1"):
        opened("scgi://192.0.2.1:0?allow=127.0.0.1")


def test_unknown_name_says_so(opened):
    with pytest.raises(TransportError, match=r"name nowhere\.invalid is unknown"):
        opened("scgi://nowhere.invalid:0?allow=127.0.0.1")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "CAP_NET_BIND_SERVICE"), (errno.EAFNOSUPPORT, "cannot listen on")],
)
def test_other_failures_have_a_sentence(number, words):
    bind = parse("scgi://127.0.0.1:80")
    assert words in str(listen._explain(bind, OSError(number, os.strerror(number))))


def test_exposed_bind_does_not_open(opened):
    """flup's AJP and SCGI servers, and scgi's, let everyone in by default."""
    for url in ("scgi://0.0.0.0:0", "scgi://[::]:0", "ajp://0.0.0.0:0?allow=127.0.0.1"):
        with pytest.raises(ConfigError, match="can be reached from other machines"):
            opened(url)


def test_a_name_is_judged_by_its_address(opened, monkeypatch):
    def resolve(_host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ConfigError, match="can be reached"):
        opened("scgi://localhost:0")


def test_peer_users_need_a_unix_socket():
    with socket.create_server(("127.0.0.1", 0)) as server:
        bind = parse(f"scgi+fd://{server.fileno()}?allow_uid=0")
        with pytest.raises(ConfigError, match="allow_uid and allow_gid are for Unix sockets"):
            Listener(server, bind)


def test_pipes_are_not_of_this_system(opened):
    with pytest.raises(ConfigError, match="no named pipes"):
        opened("fastcgi+pipe://")


def test_unreadable_secret_file_stops_the_start(opened, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        opened(f"ajp://127.0.0.1:0?secret_file={tmp_path}/none")


def test_secret_is_read_at_opening(opened, tmp_path):
    """Later the process may have dropped the privilege to read it."""
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    listener = opened(f"ajp://127.0.0.1:0?secret_file={file}")
    file.unlink()
    assert listener.bind.ajp_options() == {"secret": "s3cret"}


def test_all_or_none_open(tmp_path):
    good = parse(f"scgi+unix://{tmp_path}/s")
    with pytest.raises(TransportError):
        open_listeners([good, parse(f"scgi+unix://{tmp_path}/missing/s")])
    assert names(tmp_path) == []
    listeners = open_listeners([good, parse("scgi://127.0.0.1:0")])
    assert len(listeners) == 2
    for listener in listeners:
        listener.close()


# -- who may connect -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "permitted"),
    [
        ("10.0.0.5", True),
        ("::ffff:10.0.0.5", True),
        ("10.0.0.6", False),
        ("192.168.7.7", True),
        ("fd00::5", True),
        ("fe80::1%eth0", False),
        ("127.0.0.1", False),
    ],
)
def test_networks_decide(opened, host, permitted):
    listener = opened("scgi://127.0.0.1:0?allow=10.0.0.5,192.168.0.0/16,fd00::/8")
    assert listener.checks_peers
    for _ in range(2):  # the second verdict is remembered
        assert listener.permits(-1, (host, 50_000)) is permitted


def test_a_list_is_not_used_up_by_its_first_lookup(opened):
    """flup6 and flipflop held the list in an iterator: the second server was refused."""
    listener = opened("scgi://127.0.0.1:0?allow=10.0.0.1,10.0.0.2,10.0.0.3")
    hosts = ["10.0.0.3", "10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert [listener.permits(-1, (host, 1)) for host in hosts] == [True] * 4


def test_remembered_verdicts_are_bounded(opened):
    listener = opened("scgi://127.0.0.1:0?allow=10.0.0.0/8")
    for number in range(5000):
        host = f"10.0.{number // 250}.{number % 250}"
        assert listener.permits(-1, (host, 1))
    assert len(listener._known) <= 4096


def test_real_peer_is_judged(opened):
    for allowed, permitted in (("127.0.0.1", True), ("10.0.0.1", False)):
        listener = opened(f"scgi://127.0.0.1:0?allow={allowed}")
        with dial(listener):
            fd, address = accept(listener)
            assert listener.permits(fd, address) is permitted
            os.close(fd)


@pytest.mark.parametrize(
    ("query", "permitted"),
    [
        ("allow_uid={uid}", True),
        ("allow_gid={gid}", True),
        ("allow_uid={uid}&allow_gid=54321", True),
        ("allow_uid=54321&allow_gid={gid}", True),
        ("allow_uid=54321", False),
        ("allow_gid=54321,54322", False),
    ],
)
def test_peer_credentials_decide(opened, tmp_path, query, permitted):
    options = query.format(uid=os.getuid(), gid=os.getgid())
    listener = opened(f"scgi+unix://{tmp_path}/s?{options}")
    assert listener.checks_peers
    with dial(listener):
        fd, address = accept(listener)
        assert listener.permits(fd, address) is permitted
        os.close(fd)


def test_peer_without_credentials_is_refused(opened, tmp_path):
    listener = opened(f"scgi+unix://{tmp_path}/s?allow_uid={os.getuid()}")
    reading, writing = os.pipe()
    assert listener.permits(reading, "") is False
    os.close(reading)
    os.close(writing)


def test_unknown_user_stops_the_start_and_leaves_no_file(opened, tmp_path):
    with pytest.raises(ConfigError, match="no user 'nobody-here'"):
        opened(f"scgi+unix://{tmp_path}/s?allow_uid=nobody-here")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("10.0.0.5", 99), "10.0.0.5:99"),
        (("::1", 99, 0, 0), "[::1]:99"),
        (("::ffff:10.0.0.5", 99, 0, 0), "10.0.0.5:99"),
        ("odd", "odd"),
        (None, "None"),
    ],
)
def test_tcp_peer_has_a_name(opened, address, name):
    assert opened("scgi://127.0.0.1:0").peer_name(address) == name


def test_unix_peer_is_named_by_path_and_user(opened, tmp_path):
    listener = opened(f"scgi+unix://{tmp_path}/s")
    with dial(listener):
        fd, address = accept(listener)
        assert listener.peer_name(address) == f"unix:{tmp_path}/s"
        named = listener.peer_name(address, fd)
        assert named == (
            f"unix:{tmp_path}/s (uid {os.getuid()}, gid {os.getgid()}, pid {os.getpid()})"
        )
        os.close(fd)


# -- inherited -----------------------------------------------------------------------------


def inherited_url(sock, query=""):
    """Hand a duplicate over, as an inherited descriptor is."""
    return f"fastcgi+fd://{os.dup(sock.fileno())}{query}"


def test_inherited_socket_is_taken_over(opened):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = inherited_url(server)
        listener = opened(url)
        assert not os.get_inheritable(listener.fd)
        assert str(listener.bind) == url
        with socket.create_connection(server.getsockname()):
            fd, address = accept(listener)
            assert listener.permits(fd, address)
            os.close(fd)


def test_inherited_socket_obeys_the_web_servers_list(opened, monkeypatch):
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "10.0.0.1, 10.0.0.2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = opened(inherited_url(server))
        assert listener.checks_peers
        assert listener.permits(-1, ("10.0.0.2", 1))
        assert not listener.permits(-1, ("127.0.0.1", 1))
        told = opened(inherited_url(server, "?allow=127.0.0.1"))
        assert told.permits(-1, ("127.0.0.1", 1))  # allow= stands in for it


def test_inherited_unix_socket_has_no_addresses_to_check(opened, monkeypatch, tmp_path):
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "10.0.0.1")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
        server.listen()
        listener = opened(inherited_url(server))
        assert not listener.checks_peers
        listener.close()
        assert (tmp_path / "s").exists()  # the file is its maker's


def test_inherited_exposed_socket_is_refused(opened):
    with socket.create_server(("0.0.0.0", 0)) as server:
        with pytest.raises(ConfigError, match="can be reached from other machines"):
            opened(inherited_url(server))
        assert opened(inherited_url(server, "?allow=127.0.0.1")).checks_peers


def test_what_does_not_listen_is_refused(opened):
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TransportError, match="no listening socket"):
        opened(f"fastcgi+fd://{ours.fileno()}")


def test_systemd_socket_is_found_by_name(opened, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fd = os.dup(server.fileno())
        monkeypatch.setattr(listen.systemd, "find", lambda name, _: {"web": fd}[name])
        listener = opened("fastcgi+systemd://web")
        assert listener.fd == fd
        assert listener.bind == parse("fastcgi+systemd://web")


def test_kernel_queues_as_many_connections_as_backlog_says(opened, tmp_path):
    listener = opened(f"scgi+unix://{tmp_path}/app.sock?mode=600&backlog=2")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(10)]
    try:
        for client in clients:
            client.setblocking(False)
        results = [client.connect_ex(listener.bind.path) for client in clients]
        taken = results.count(0)
        assert results == [0] * taken + [errno.EAGAIN] * (10 - taken)
        assert taken in (2, 3)  # Linux lets one more in
    finally:
        for client in clients:
            client.close()


# Corked connections: what Linux holds back until the close.


def corked(listener):
    """Whether a connection that is accepted now is corked."""
    with socket.create_connection(("127.0.0.1", listener.bind.port)):
        select.select([listener.fd], [], [], LONG)
        fd, _ = listener.accept()
        with socket.socket(fileno=fd) as accepted:
            return bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


linux = pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="TCP_CORK is Linux's")


@linux
@pytest.mark.parametrize(
    ("protocol", "wanted"),
    [("scgi", True), ("uwsgi", True), ("fastcgi", True), ("fcgi", True), ("ajp", False),
     ("auto", False)],
)  # fmt: skip
def test_connections_for_one_request_are_corked(opened, protocol, wanted):
    listener = opened(f"{protocol}://127.0.0.1:0")
    assert listener.corks is wanted
    assert corked(listener) is wanted


@linux
@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [("scgi", "uwsgi", True), ("scgi", "ajp", False), ("ajp", "scgi", False)],
)
def test_a_renewed_listener_is_never_corked_anew(opened, before, after, wanted):
    """Processes that still accept on it would not know of it."""
    listener = opened(f"{before}://127.0.0.1:0")
    renewed = listener.renewed(parse(f"{after}://127.0.0.1:{listener.bind.port}"))
    assert renewed.corks is wanted
    assert corked(renewed) is wanted


@linux
def test_an_inherited_socket_is_left_as_it_is(opened):
    with socket.create_server(("127.0.0.1", 0)) as made:
        listener = opened(f"scgi+fd://{os.dup(made.fileno())}")
        assert listener.corks is False


@linux
def test_uncorked_octets_leave_at_once(opened):
    listener = opened("scgi://127.0.0.1:0")
    with socket.create_connection(("127.0.0.1", listener.bind.port)) as peer:
        select.select([listener.fd], [], [], LONG)
        stream = Stream(listener.accept()[0])
        stream.write(b"held", LONG)
        stream.uncork()
        with socket.socket(fileno=os.dup(stream.fd)) as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 0
        peer.settimeout(LONG)
        assert peer.recv(10) == b"held"
        stream.close()
        stream.uncork()  # a closed one is left alone
