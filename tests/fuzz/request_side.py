"""Targets for what all protocols share: response heads, and the finishing of an environ."""

from __future__ import annotations

from fuzz.client_side import check_head
from fuzz.plan import Plan
from portico.core.environ import EnvironRules
from portico.core.mount import EXAMPLES, Mounting
from portico.errors import ApplicationError, RemoteProtocolError
from portico.head import check_headers, check_status, encode_cgi, encode_http, find_end, parse

#: Mount points, by the low bits of the first octet.
_PREFIXES = (None, "", "/app", "/app/", "/a b")

#: What the server sets itself; the wire reaches none of it.
_BASE = {"wsgi.version": (1, 0), "wsgi.errors": object(), "portico.bind": "here"}

#: What PEP 3333 wants in every environ.
_REQUIRED = ("REQUEST_METHOD", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL")


def head(data: bytes) -> None:
    """Hold `portico.head` to find, parse and encode one head alike, whatever the octets."""
    plan = Plan(data)
    stream = plan.stream
    end = find_end(stream)
    check_found_piecewise(stream, plan.chunks(), end)
    block = stream if end is None else stream[: end[0]]
    try:
        status, headers = parse(block, max_bytes=plan.limits().max_response_head_bytes)
    except RemoteProtocolError:
        return
    check_head(status, headers)
    assert not any(name.lower() == "status" for name, _ in headers)
    for encode in (encode_cgi, encode_http):
        octets = encode(status, headers)
        assert find_end(octets) == (len(octets) - 2, len(octets))
        assert parse(octets[:-2]) == (status, headers)
    for check in (lambda: check_status(status), lambda: check_headers(headers)):
        try:
            check()
        except ApplicationError:
            continue


def check_found_piecewise(stream: bytes, chunks: list[bytes], end: tuple[int, int] | None) -> None:
    """Hold a head that arrives in pieces to end where the same head does in one."""
    held = bytearray()
    found = None
    for chunk in chunks:
        start = max(0, len(held) - 3)
        held += chunk
        found = find_end(held, start)
        if found:
            break
    assert found == end, f"{found} in pieces of {stream!r}, {end} in one"


def pairs(stream: bytes) -> dict[str, str]:
    """Names and values from NUL-separated text."""
    strings = stream.decode("latin-1").split("\0")
    return dict(zip(strings[::2], strings[1::2], strict=False))


def environ(data: bytes) -> None:
    """Hold the finishing of an environ to PEP 3333 and to the rules of `portico.core`."""
    plan = Plan(data)
    prefix = _PREFIXES[plan.options % len(_PREFIXES)]
    disabled = frozenset(name for number, name in enumerate(EXAMPLES) if plan.step(0) == number + 1)
    received = pairs(plan.stream)
    rules = EnvironRules(_BASE, Mounting(prefix, disabled=disabled))
    first = finished(rules, received)
    learnt = finished(rules, received)
    assert first == learnt, "a second look at the same parameters gives another environ"
    check_environ(first, received, prefix)


def finished(rules: EnvironRules, received: dict[str, str]) -> dict[str, object] | int:
    """The environ, or the status that refuses the request."""
    try:
        return rules.finish(dict(received))
    except RemoteProtocolError as exc:
        assert exc.status_hint in (400, 404), "a refusal that answers nothing"  # noqa: PT017
        return exc.status_hint


def check_environ(environ, received: dict[str, str], prefix: str | None) -> None:
    if type(environ) is int:
        assert environ == 400 or prefix, "nothing is mounted elsewhere, yet 404"
        return
    for name, value in _BASE.items():
        assert environ[name] is value, f"{name} came from the wire"
    assert environ["wsgi.url_scheme"] in ("http", "https")
    for name, value in environ.items():
        if name in _BASE or name == "wsgi.url_scheme":
            continue
        assert name.replace("_", "a").isalnum(), f"no meta-variable: {name}"
        assert name.isascii()
        assert type(value) is str
        value.encode("latin-1")
    assert all(environ[name] for name in _REQUIRED)
    assert "QUERY_STRING" in environ
    assert "HTTP_PROXY" not in environ, "httpoxy"
    assert environ.get("CONTENT_LENGTH", "0").isdecimal()
    assert sum(map(len, environ)) <= sum(map(len, received)) + 500
    check_paths(environ["SCRIPT_NAME"], environ["PATH_INFO"], prefix)


def check_paths(script: str, info: str, prefix: str | None) -> None:
    assert script == "" or script[0] == "/"
    assert info == "" or info[0] == "/" or (info == "*" and not script)
    if prefix is not None:
        assert script == prefix.rstrip("/")
        assert info == "" or info[0] == "/" or not script
