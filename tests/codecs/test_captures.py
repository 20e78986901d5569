"""What real web servers sent, decoded: each capture against what its index says of it.

CGI captures are an environment and a standard input, which no codec decodes; their tests stand
with the CGI gateway's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from codecs_harness import ABORTED, COMPLETE, collect, deliveries
from portico.codecs import ajp, fastcgi, scgi, uwsgi
from portico.errors import RemoteProtocolError
from portico.limits import Limits
from portico.params import merge

HERE = Path(__file__).parents[1] / "captures"
INDEX = json.loads((HERE / "index.yaml").read_text("ascii"))
LIMITS = Limits()

#: Octets above which cuts are few: decoding a megabyte takes milliseconds.
LARGE_BYTES = 65_536


def captures(*protocols: str) -> list[object]:
    found = [capture for capture in INDEX["captures"] if capture["protocol"] in protocols]
    assert found
    return [pytest.param(capture, id=capture["id"]) for capture in found]


@cache
def load(file: str) -> bytes:
    data = (HERE / file).read_bytes()
    return gzip.decompress(data) if file.endswith(".gz") else data


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def codec_for(capture):
    """A fresh codec, configured as the web server was."""
    protocol, config = capture["protocol"], capture["config"]
    if protocol == "scgi":
        return scgi.ServerCodec(LIMITS)
    if protocol == "uwsgi":
        return uwsgi.ServerCodec(LIMITS)
    if protocol == "fastcgi":
        return fastcgi.ServerCodec(LIMITS, roles=(1, 2))
    size = 65_536 if "ProxyIOBufferSize 65536" in config else 8192
    secret = config.partition("secret=")[2].partition(" ")[0]
    return ajp.ServerCodec(LIMITS, packet_size=size, secret=secret)


def packets(capture, data: bytes) -> list[tuple[int, bytes]]:
    """Cut *data* into (type, payload) without the codec's help; SCGI and uwsgi: head, body."""
    found = []
    at = 0
    protocol = capture["protocol"]
    if protocol == "scgi":
        start = data.index(b":") + 1
        end = start + int(data[: start - 1])
        return [(0, data[start:end]), (1, data[end + 1 :])]
    if protocol == "uwsgi":
        end = 4 + int.from_bytes(data[1:3], "little")
        return [(0, data[4:end]), (1, data[end:])]
    while at + 4 <= len(data):
        if protocol == "fastcgi":
            size = int.from_bytes(data[at + 4 : at + 6], "big")
            found.append((data[at + 1], data[at + 8 : at + 8 + size]))
            at += 8 + size + data[at + 6]
        else:
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            found.append((data[at + 4] if size else 0, data[at + 4 : at + 4 + size]))
            at += 4 + size
    return found


def places(capture, data: bytes) -> list[int]:
    """Where something begins in *data*, give or take a header."""
    found, at = [], 0
    for _, payload in packets(capture, data):
        at = data.index(payload, at) + len(payload)
        found.append(at)
    return found if len(data) <= LARGE_BYTES else found[:6] + found[-4:]


def params_blocks(capture, data: bytes) -> list[bytes]:
    """The parameters of each request, joined."""
    parts = packets(capture, data)
    if capture["protocol"] != "fastcgi":
        return [parts[0][1]]
    blocks = [b""]
    for kind, payload in parts:
        if kind == 4 and payload:
            blocks[-1] += payload
        elif kind == 4:
            blocks.append(b"")
    return blocks[:-1]


def expected_outcome(expect) -> tuple[str, int, str]:
    length, digest = expect["body_length"], expect["body_sha256"]
    if "body_bytes_after_header" in expect:  # nginx's SCGI announced less than it sent
        length = expect["body_bytes_after_header"]
        digest = expect["body_bytes_after_header_sha256"]
    return COMPLETE if expect["complete"] else ABORTED, length, digest


# The captures themselves.


def test_index_and_directory_agree():
    listed = {HERE / "README.md", HERE / "index.yaml", HERE / ".gitattributes"}
    for capture in INDEX["captures"]:
        names = [capture[key] for key in ("file", "environ_file", "stdin_file") if key in capture]
        listed.update(HERE / name for name in names)
    assert listed == {path for path in HERE.rglob("*") if path.is_file()}


@pytest.mark.parametrize("capture", captures("fastcgi", "scgi", "uwsgi", "ajp"))
def test_file_is_what_was_captured(capture):
    data = load(capture["file"])
    assert (len(data), sha256(data)) == (capture["raw_length"], capture["raw_sha256"])


# Every protocol.


@pytest.mark.parametrize("capture", captures("fastcgi", "scgi", "uwsgi", "ajp"))
def test_requests_and_bodies_are_what_was_sent(capture):
    requests = collect(codec_for(capture), [load(capture["file"])], eof=True)
    assert [(r.outcome, len(r.body), sha256(r.body)) for r in requests] == [
        expected_outcome(request["expect"]) for request in capture["requests"]
    ]


@pytest.mark.parametrize("capture", captures("fastcgi", "scgi", "uwsgi", "ajp"))
def test_capture_decodes_the_same_however_it_is_cut(capture):
    data = load(capture["file"])
    whole = collect(codec_for(capture), [data], eof=True)
    spread = 200 if len(data) <= LARGE_BYTES else 10
    for chunks in deliveries(data, places(capture, data), spread):
        assert collect(codec_for(capture), chunks, eof=True) == whole


@pytest.mark.parametrize("capture", captures("fastcgi", "scgi", "uwsgi", "ajp"))
def test_capture_cut_short_is_no_complete_request(capture):
    """An end of file anywhere before the end never looks like a complete last request."""
    data = load(capture["file"])
    whole = collect(codec_for(capture), [data], eof=True)
    for at in sorted({1, 3, len(data) // 3, len(data) // 2, len(data) - 1}):
        try:
            requests = collect(codec_for(capture), [data[:at]], eof=True)
        except RemoteProtocolError:
            continue  # within a head
        for request, full in zip(requests, whole, strict=False):
            assert request == full or request.outcome == ABORTED
            assert request.environ == full.environ
            assert full.body.startswith(request.body)


# FastCGI, SCGI, uwsgi: parameters.


def interesting(protocol: str) -> set[str]:
    return {
        name
        for capture in INDEX["captures"]
        if capture["protocol"] == protocol
        for request in capture["requests"]
        for name in request["expect"]["variables"]
    }


INTERESTING = {protocol: interesting(protocol) for protocol in ("fastcgi", "scgi", "uwsgi")}


def expected_environ(expect) -> dict[str, str]:
    """The interesting variables as a codec reports them."""
    pairs = [
        (name, value)
        for name, values in expect["variables"].items()
        for value in (values if type(values) is list else [values])
    ]
    environ = merge(pairs)
    framing = expect["framing"]
    if "body_bytes_after_header" in expect:
        environ["CONTENT_LENGTH"] = environ["HTTP_CONTENT_LENGTH"]
    if framing.get("modifier1") == 30:
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(environ["SCRIPT_NAME"])
    return environ


@pytest.mark.parametrize("capture", captures("fastcgi", "scgi", "uwsgi"))
def test_environ_is_what_was_sent(capture):
    requests = collect(codec_for(capture), [load(capture["file"])], eof=True)
    names = INTERESTING[capture["protocol"]]
    for request, recorded in zip(requests, capture["requests"], strict=True):
        seen = {name: value for name, value in request.environ.items() if name in names}
        assert seen == expected_environ(recorded["expect"])


@pytest.mark.parametrize("capture", captures("fastcgi", "scgi", "uwsgi"))
def test_all_parameters_in_order(capture):
    codec = {"fastcgi": fastcgi, "scgi": scgi, "uwsgi": uwsgi}[capture["protocol"]]
    blocks = params_blocks(capture, load(capture["file"]))
    for block, request in zip(blocks, capture["requests"], strict=True):
        pairs = codec.decode_pairs(block)
        flat = "".join(f"{name}\0{value}\0" for name, value in pairs).encode("latin-1")
        expect = request["expect"]
        assert (len(pairs), sha256(flat)) == (expect["variable_count"], expect["variables_sha256"])


# FastCGI alone.


@pytest.mark.parametrize(
    "capture",
    [
        param
        for param in captures("fastcgi")
        if param.values[0]["requests"][0]["expect"]["framing"]["role"] == 2
    ],
)
def test_authorizers_are_refused_unless_allowed(capture):
    codec = fastcgi.ServerCodec(LIMITS)
    assert codec.receive_data(load(capture["file"])) == []
    reply = codec.data_to_send()
    assert reply[:8] == b"\1\3\0\1\0\x08\0\0"  # END_REQUEST for request 1
    assert reply[12] == 3  # FCGI_UNKNOWN_ROLE


# AJP alone.

#: Attributes by what the index calls them.
AJP_ATTRIBUTES = {
    "ssl_cert": "SSL_CLIENT_CERT",
    "ssl_cipher": "SSL_CIPHER",
    "ssl_session": "SSL_SESSION_ID",
    "ssl_key_size": "SSL_CIPHER_USEKEYSIZE",
    "stored_method": "REQUEST_METHOD",
    "query_string": "QUERY_STRING",
    "AJP_REMOTE_PORT": "REMOTE_PORT",
    "AJP_LOCAL_ADDR": "SERVER_ADDR",
    "AJP_SSL_PROTOCOL": "SSL_PROTOCOL",
}

#: Attributes that make no parameter: the secret, and what no operator allowed.
AJP_DROPPED = {"secret", "JK_CUSTOM"}


def header_pairs(headers) -> list[tuple[str, str]]:
    """Headers as parameters; those with an underscore in their name are dropped."""
    pairs = []
    for name, value in headers:
        key = name.upper().replace("-", "_")
        if "_" not in name:
            pairs.append((key if key.startswith("CONTENT_") else f"HTTP_{key}", value))
    return pairs


def ajp_environ(recorded) -> dict[str, str]:
    expect = recorded["expect"]
    forward = expect["forward_request"]
    path = forward["req_uri"]
    environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": forward["method"],
        "SERVER_PROTOCOL": forward["protocol"],
        "REQUEST_URI": path,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": "",
        "REMOTE_ADDR": forward["remote_addr"],
        "SERVER_NAME": forward["server_name"],
        "SERVER_PORT": str(forward["server_port"]),
    }
    if forward["remote_host"]:
        environ["REMOTE_HOST"] = forward["remote_host"]
    if forward["is_ssl"]:
        environ["HTTPS"] = "on"
    # The index leaves 16 KiB of headers out where the client's arrived as they were.
    environ |= merge(header_pairs(expect.get("headers") or recorded["http"]["headers"]))
    for name, value in expect["attributes"] + expect["req_attributes"]:
        if name not in AJP_DROPPED:
            environ[AJP_ATTRIBUTES[name]] = str(value)
            if name == "query_string":
                environ["REQUEST_URI"] = f"{path}?{value}"
    return environ


@pytest.mark.parametrize("capture", captures("ajp"))
def test_ajp_environ_is_what_was_sent(capture):
    requests = collect(codec_for(capture), [load(capture["file"])], eof=True)
    for request, recorded in zip(requests, capture["requests"], strict=True):
        assert request.environ == ajp_environ(recorded)


@pytest.mark.parametrize("capture", captures("ajp"))
def test_ajp_forward_requests_decode_alone(capture):
    forwards = [p for kind, p in packets(capture, load(capture["file"])) if p[:1] == b"\x02"]
    for payload, recorded in zip(forwards, capture["requests"], strict=False):
        environ, secret = ajp.decode_forward_request(payload)
        assert environ == ajp_environ(recorded)
        assert secret == dict(recorded["expect"]["attributes"]).get("secret", "")


@pytest.mark.parametrize("capture", captures("ajp"))
def test_ajp_pings_are_answered(capture):
    codec = codec_for(capture)
    codec.receive_data(load(capture["file"]))
    assert codec.data_to_send().startswith(b"AB\0\x01\x09" if capture["cpings"] else b"")


@pytest.mark.parametrize(
    "capture", [param for param in captures("ajp") if param.values[0]["cpings"]]
)
def test_ajp_secret_is_compared(capture):
    data = load(capture["file"])
    with pytest.raises(RemoteProtocolError, match="secret") as caught:
        ajp.ServerCodec(LIMITS, secret=capture["id"]).receive_data(data)
    assert caught.value.status_hint == 403
    requests = collect(ajp.ServerCodec(LIMITS), [data])
    assert len(requests) == len(capture["requests"])
