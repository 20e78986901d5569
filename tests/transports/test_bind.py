"""Bind URLs: what they mean, what they refuse, that they print without their secret."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from portico.errors import ConfigError
from portico.transports import bind as bind_module
from portico.transports.bind import Bind, check_exposed, parse

GOOD = [
    pytest.param(
        "fastcgi://127.0.0.1:9000",
        Bind(protocol="fastcgi", host="127.0.0.1", port=9000),
        id="tcp-is-the-default",
    ),
    pytest.param("scgi://[::1]:4000", Bind(protocol="scgi", host="::1", port=4000), id="ipv6"),
    pytest.param(
        "scgi://localhost:0", Bind(protocol="scgi", host="localhost", port=0), id="port-zero"
    ),
    pytest.param(
        "FastCGI+TCP://127.0.0.1:9000/",
        Bind(protocol="fastcgi", host="127.0.0.1", port=9000),
        id="case-and-trailing-slash",
    ),
    pytest.param(
        "scgi://[fe80::1%eth0]:4000",
        Bind(protocol="scgi", host="fe80::1%eth0", port=4000),
        id="ipv6-zone",
    ),
    pytest.param(
        "fastcgi+unix:///run/app.sock?mode=640&group=www-data&user=app",
        Bind(
            protocol="fastcgi",
            transport="unix",
            path="/run/app.sock",
            mode=0o640,
            group="www-data",
            user="app",
        ),
        id="unix",
    ),
    pytest.param(
        "scgi+unix:///run/a%20b%3F.sock",
        Bind(protocol="scgi", transport="unix", path="/run/a b?.sock"),
        id="unix-path-escaped",
    ),
    pytest.param(
        "scgi+unix:///run/%FF.sock",
        Bind(protocol="scgi", transport="unix", path="/run/\udcff.sock"),
        id="unix-path-any-octet",
    ),
    pytest.param(
        "scgi+unix:///run/a?allow_uid=33,www-data&allow_gid=4",
        Bind(
            protocol="scgi",
            transport="unix",
            path="/run/a",
            allow_uid=("33", "www-data"),
            allow_gid=("4",),
        ),
        id="unix-peers",
    ),
    pytest.param("fastcgi+fd://0", Bind(protocol="fastcgi", transport="fd", fd=0), id="descriptor"),
    pytest.param(
        "fastcgi+systemd://web:1",
        Bind(protocol="fastcgi", transport="systemd", name="web:1"),
        id="systemd",
    ),
    pytest.param(
        "fastcgi+systemd://", Bind(protocol="fastcgi", transport="systemd"), id="systemd-only-one"
    ),
    pytest.param("fastcgi+pipe://", Bind(protocol="fastcgi", transport="pipe"), id="pipe"),
    pytest.param(
        "ajp://10.0.0.1:8009?secret=a%26%2B+b&packet_size=65536&allow=10.0.0.2,fd00::/8",
        Bind(
            protocol="ajp",
            host="10.0.0.1",
            port=8009,
            secret="a&++b",  # noqa: S106 - a test's
            packet_size=65_536,
            allow=("10.0.0.2/32", "fd00::/8"),
        ),
        id="ajp-plus-is-no-blank",
    ),
    pytest.param(
        "auto+unix:///run/a?secret=x&packet_size=8192",
        Bind(protocol="auto", transport="unix", path="/run/a", secret="x", packet_size=8192),  # noqa: S106 - a test's
        id="auto-takes-ajp-options",
    ),
    pytest.param(
        "scgi://127.0.0.1:1?backlog=7&reuse_port=yes",
        Bind(protocol="scgi", host="127.0.0.1", port=1, backlog=7, reuse_port=True),
        id="queue",
    ),
    pytest.param(
        "scgi://127.0.0.1:1?allow=::ffff:10.0.0.0/104",
        Bind(protocol="scgi", host="127.0.0.1", port=1, allow=("10.0.0.0/8",)),
        id="allow-mapped-network",
    ),
]

BAD = [
    ("http", "no protocol"),
    ("", "no protocol"),
    ("127.0.0.1:90", "write fastcgi://127.0.0.1:90"),
    ("unix:/run/app.sock", "write fastcgi+unix:///run/app.sock"),
    ("/run/app.sock", "write fastcgi+unix:///run/app.sock"),
    ("://127.0.0.1:90", "no protocol"),
    ("tcp://127.0.0.1:90", "transport tcp and no protocol"),
    ("fast-cgi://127.0.0.1:90", "no protocol"),
    ("fastcgi+unixx:///run/a", "did you mean unix?"),
    ("fastcgi+://127.0.0.1:90", "unknown transport"),
    ("fastcgi://127.0.0.1", "write fastcgi://127.0.0.1:9000"),
    ("fastcgi://[::1]", "write fastcgi://[::1]:9000"),
    ("fastcgi://9000", "write fastcgi://127.0.0.1:9000"),
    ("fastcgi://:9000", "write fastcgi://127.0.0.1:9000"),
    ("fastcgi://*:9000", "names no address"),
    ("fastcgi://::1:9000", "write fastcgi://[::1]:9000"),
    ("fastcgi://[127.0.0.1]:9000", "no IPv6 address"),
    ("fastcgi://a:65536", "0 to 65535"),
    ("fastcgi://a:-1", "0 to 65535"),
    ("fastcgi://a:1_0", "0 to 65535"),
    ("fastcgi://a:" + "9" * 5000, "0 to 65535"),
    ("fastcgi://a b:1", "no address or name"),
    ("fastcgi://me@host:1", "no address or name"),
    ("fastcgi:///run/app.sock", "write fastcgi+unix:///run/app.sock"),
    ("fastcgi+unix://app.sock", "three slashes"),
    ("fastcgi+unix:///run/", "names a directory"),
    ("fastcgi+unix://@app", "abstract"),
    ("fastcgi+unix:///run/a%00b", "abstract"),
    ("fastcgi+fd://", "descriptor"),
    ("fastcgi+fd://stdin", "write fastcgi+fd://0"),
    ("fastcgi+systemd://web:x", "write fastcgi+systemd://web:0"),
    ("fastcgi+pipe://x", "write fastcgi+pipe://"),
    ("scgi://127.0.0.1:1?backlg=3", "did you mean backlog?"),
    ("scgi://127.0.0.1:1?zzzzzz=3", "known: secret, secret_file"),
    ("scgi://127.0.0.1:1?backlog=0", "1 to 65535"),
    ("scgi://127.0.0.1:1?backlog=", "1 to 65535"),
    ("scgi://127.0.0.1:1?backlog=1&backlog=2", "twice"),
    ("scgi://127.0.0.1:1?reuse_port=maybe", "neither yes nor no"),
    ("scgi://127.0.0.1:1?mode=660", "mode belongs to unix binds"),
    ("scgi+unix:///a?allow=10.0.0.1", "allow belongs to tcp"),
    ("scgi+fd://0?backlog=5", "backlog belongs to tcp and unix"),
    ("scgi://127.0.0.1:1?packet_size=8192", "packet_size belongs to ajp and auto"),
    ("ajp://127.0.0.1:1?packet_size=8191", "8192 to 65536"),
    ("ajp://127.0.0.1:1?secret=", "it is empty"),
    ("ajp://127.0.0.1:1?secret=***", "only stands for it"),
    ("ajp://127.0.0.1:1?secret=a&secret_file=/b", "keep one"),
    ("ajp://127.0.0.1:1?secret_file=b", "no absolute path"),
    ("scgi+unix:///a?mode=888", "octal mode"),
    ("scgi+unix:///a?mode=1777", "octal mode"),
    ("scgi+unix:///a?mode=0o660", "octal mode"),
    ("scgi+unix:///a?group=", "it is empty"),
    ("scgi+unix:///a?allow_uid=33,,34", "empty entry"),
    ("scgi://127.0.0.1:1?allow=10.0.0.1/8", "the network is 10.0.0.0/8"),
    ("scgi://127.0.0.1:1?allow=web1", "'web1' is no IP address"),
]


@pytest.mark.parametrize(("url", "expected"), GOOD)
def test_url_is_parsed(url, expected):
    assert parse(url) == expected


@pytest.mark.parametrize(("url", "expected"), GOOD)
def test_printed_url_gives_the_same_bind(url, expected):
    assert parse(expected.to_url(show_secret=True)) == expected
    assert parse(url).to_url(show_secret=True) == expected.to_url(show_secret=True)


@pytest.mark.parametrize(("url", "words"), BAD, ids=[url[:40] for url, _ in BAD])
def test_refusal_says_what_is_wrong_and_what_is_right(url, words):
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.key == "bind"


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text):
    for url in (text, f"ajp://{text}", f"scgi+unix:///{text}", f"ajp://[::1]:1?{text}"):
        try:
            bind = parse(url)
        except ConfigError:
            continue
        assert parse(bind.to_url(show_secret=True)) == bind


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_any_path_and_secret_survive_printing(path, secret):
    plain = Bind(protocol="ajp", transport="unix", path="/x" + path.replace("\0", "").rstrip("/"))
    bind = replace(plain, secret=secret.replace("\0", "-"))
    assume(bind.secret != bind_module.REDACTED)
    assert parse(bind.to_url(show_secret=True)) == bind


@pytest.mark.parametrize(
    "url",
    [
        "ajp://10.0.0.1:8009?secret=hunter2",
        "ajp:127.0.0.1?secret=hunter2",
        "ajp://10.0.0.1?secret=hunter2",
        "ajp://10.0.0.1:8009?secrte=hunter2",
        "scgi://10.0.0.1:8009?secret=hunter2",
        "ajp://10.0.0.1:8009?secret=hunter2&secret=hunter2",
        "ajp://10.0.0.1:8009?secret=hunter2&backlog=x",
    ],
)
def test_secret_is_never_shown(url):
    try:
        bind = parse(url)
        texts = [str(bind), repr(bind)]
        check_exposed(bind)
    except ConfigError as error:
        texts = [str(error), error.key, error.source]
    assert "hunter2" not in "".join(texts)


def test_printed_secret_is_marked_and_not_taken_for_one():
    shown = str(parse("ajp://127.0.0.1:8009?secret=hunter2"))
    assert shown == "ajp://127.0.0.1:8009?secret=***"
    with pytest.raises(ConfigError):
        parse(shown)


def test_bind_cannot_be_changed():
    bind = parse("scgi://127.0.0.1:1")
    with pytest.raises(FrozenInstanceError):
        bind.port = 2
    assert bind.port == 1


@pytest.mark.parametrize(
    "url",
    [
        "scgi://127.0.0.1:1",
        "scgi://127.8.9.1:1",
        "scgi://localhost:1",
        "ajp://[::1]:1",
        "ajp://[::ffff:127.0.0.1]:1",
        "fastcgi+unix:///run/a",
        "fastcgi+fd://0",
        "scgi://0.0.0.0:1?allow=10.0.0.5",
        "ajp://0.0.0.0:1?allow=10.0.0.5&secret=x",
        "ajp://0.0.0.0:1?allow=10.0.0.5&secret_file=/etc/secret",
        "auto://127.0.0.1:1",
        "auto+unix:///run/a",
        "auto://0.0.0.0:1?allow=10.0.0.5&secret=x",
    ],
)
def test_safe_bind_is_accepted(url):
    bind = parse(url)
    check_exposed(bind)
    assert bind.protocol in {"ajp", "auto", "fastcgi", "scgi"}


@pytest.mark.parametrize(
    ("url", "addition"),
    [
        ("scgi://0.0.0.0:1", "allow="),
        ("scgi://[::]:1", "allow="),
        ("scgi://10.1.2.3:1", "allow="),
        ("scgi://[::ffff:10.1.2.3]:1", "allow="),
        ("fastcgi://example.org:1", "allow="),
        ("ajp://10.1.2.3:1?secret=x", "allow="),
        ("ajp://10.1.2.3:1?allow=10.0.0.5", "secret_file="),
        ("auto://10.1.2.3:1?secret=x", "allow="),
        ("auto://10.1.2.3:1?allow=10.0.0.5", "secret_file="),
        ("auto://10.1.2.3:1?allow=10.0.0.5", "name one protocol instead of auto"),
    ],
)
def test_exposed_bind_is_refused_with_what_to_add(url, addition):
    with pytest.raises(ConfigError) as caught:
        check_exposed(parse(url))
    assert addition in str(caught.value)
    assert "\n" not in str(caught.value)


def test_secret_file_is_read_without_its_newline(tmp_path):
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    bind = parse(f"ajp://127.0.0.1:1?secret_file={file}&packet_size=16384")
    assert bind.ajp_options() == {"secret": "s3cret", "packet_size": 16_384}
    assert "s3cret" not in str(bind.with_secret())


def test_bind_without_ajp_options_gives_none():
    assert parse("ajp://127.0.0.1:1").ajp_options() == {}


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
def test_unusable_secret_file_is_refused(tmp_path, content):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        parse(f"ajp://127.0.0.1:1?secret_file={file}").with_secret()
    assert str(file) in str(caught.value)
