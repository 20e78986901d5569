"""The answer to a peer that speaks another protocol than the port: a sentence, in its language.

Loaded only when a connection's first octet is not of the protocol spoken. No octet of the peer's
goes into an answer, but for the number of a FastCGI request.
"""

from __future__ import annotations

from struct import Struct

from portico.codecs._ajp_wire import (
    CPING,
    CPONG,
    END_RESPONSE,
    FORWARD_REQUEST,
    PACKETS,
    SEND_BODY_CHUNK,
    SEND_HEADERS,
    encode_string,
)
from portico.codecs._fastcgi_records import (
    FCGI_BEGIN_REQUEST,
    FCGI_STDOUT,
    HEADER_BYTES,
    record,
    tail,
)
from portico.codecs.detect import FIRST_OCTETS as FIRST_OCTETS  # noqa: PLC0414 - an export
from portico.codecs.detect import NoRequest
from portico.errors import RemoteProtocolError
from portico.head import encode_cgi, encode_http
from portico.refusals import status_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.events import Event

#: As prose has them.
_TITLES = {
    "fastcgi": "FastCGI",
    "scgi": "SCGI",
    "ajp": "AJP",
    "uwsgi": "uwsgi",
    "http": "HTTP",
    "http2": "HTTP/2",
    "tls": "TLS",
    "auto": "FastCGI, SCGI, AJP and uwsgi",
}

#: What makes each web server speak a protocol; where it cannot, there is no entry. HTTP/2 and
#: TLS come from the same directives as HTTP.
_DIRECTIVES = {
    "nginx": {
        "fastcgi": "fastcgi_pass",
        "scgi": "scgi_pass",
        "uwsgi": "uwsgi_pass",
        "http": "proxy_pass",
    },
    "Apache's ProxyPass": {
        "fastcgi": "fcgi://",
        "scgi": "scgi://",
        "ajp": "ajp://",
        "uwsgi": "uwsgi://",
        "http": "http://",
    },
    "lighttpd": {
        "fastcgi": "fastcgi.server",
        "scgi": "scgi.server",
        "uwsgi": 'scgi.server with scgi.protocol = "uwsgi"',
        "http": "proxy.server",
    },
}

#: Where each protocol's rule for the first octets is written; for the log.
_SECTIONS = {
    "fastcgi": "FastCGI 1.0 §3.3",
    "scgi": "SCGI, Protocol: netstring",
    "ajp": PACKETS,
    "uwsgi": "uwsgi, packet header",
    "auto": "first octet",
}

#: What an HTTP/2 client sends first (RFC 9113 §3.4).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: What a balancer puts before a connection that it hands on: the PROXY protocol, versions 1, 2.
_PROXY_1 = b"PROXY "
_PROXY_2 = b"\r\n\r\n\x00\r\nQUIT\n"

#: Octets of a method that are waited for; the longest registered one has 17.
_MOST_METHOD = 20

#: Most digits of a netstring's length, as in the SCGI codec.
_MOST_DIGITS = 10

#: Octets of uwsgi's least block of variables: a name of one octet, an empty value.
_LEAST_VARS = 5

_PING = b"\x12\x34\0\x01" + bytes((CPING,))
_PONG = b"AB\0\x01" + bytes((CPONG,))

#: Types of HTTP/2 frames, and the error that makes a client turn to HTTP/1.1 (RFC 9113 §7).
_SETTINGS, _GOAWAY = 4, 7
_HTTP_1_1_REQUIRED = 13

#: A fatal handshake_failure in the record of TLS 1.2, which every version reads (RFC 8446 §6).
_ALERT = bytes.fromhex("15 0303 0002 02 28")

_TWO, _FOUR = Struct(">H"), Struct(">I")


# -- what the peer speaks ------------------------------------------------------------------


def recognise(data: bytes) -> str | None:
    """Tell the protocol of a peer by its first octets.

    Args:
        data: All octets so far; at least one.

    Returns:
        ``"fastcgi"``, ``"scgi"``, ``"ajp"``, ``"uwsgi"``, ``"http"``, ``"http2"``, ``"tls"``,
        ``"ajp-answer"`` (packets of an AJP container), ``"proxy"`` (the PROXY protocol), or
        ``""`` for none of them; None while it takes more octets to tell, or to answer.
    """
    first = data[0]
    protocol = FIRST_OCTETS.get(first)
    if protocol is not None:
        return _PROBES[protocol](data)
    if 0x41 <= first <= 0x5A:
        return _probe_text(data)
    if b"\x16\x03".startswith(data[:2]):
        return "tls" if len(data) > 1 else None
    if _PROXY_2.startswith(data[: len(_PROXY_2)]):
        return "proxy" if len(data) >= len(_PROXY_2) else None
    return ""


def _probe_text(data: bytes) -> str | None:
    """Tell what begins with a capital letter: HTTP above all (RFC 9112 §3)."""
    if _PREFACE.startswith(data[: len(_PREFACE)]):
        return "http2" if len(data) >= len(_PREFACE) else None
    if data.startswith(_PROXY_1):
        return "proxy"
    if data.startswith(b"AB") and data[2:3] and data[2] < 0x20:  # a packet of less than 8 KiB
        return "ajp-answer"
    method, _, target = data.partition(b" ")
    letters = method.replace(b"-", b"")
    if letters.isalpha() and letters.isupper() and len(method) <= _MOST_METHOD:
        if not target:
            return None
        if target[0] in b"/*hH" or method == b"CONNECT":
            return "http"
    return ""


def _probe_fastcgi(data: bytes) -> str | None:
    """Tell FastCGI by its first record: the begin of a request, or a question about values."""
    kind = data[1:2]
    if kind == b"\x09":
        return "fastcgi"
    if not b"\x01".startswith(kind):
        return ""
    if len(data) < HEADER_BYTES:
        return None
    return "fastcgi" if data[2] or data[3] else ""


def _probe_scgi(data: bytes) -> str | None:
    digits, colon, _ = data[: _MOST_DIGITS + 1].partition(b":")
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return ""
    return "scgi" if colon else None


def _probe_ajp(data: bytes) -> str | None:
    if not b"\x12\x34".startswith(data[:2]):
        return ""
    if len(data) < len(_PING):
        return None
    return "ajp" if data[4] == FORWARD_REQUEST else ""


def _probe_uwsgi(data: bytes) -> str | None:
    """Tell uwsgi by a first name that fits into its packet; zeros alone are none."""
    if len(data) < 6:
        return None
    size = data[1] | data[2] << 8
    name = data[4] | data[5] << 8
    return "uwsgi" if size >= _LEAST_VARS and 0 < name <= size - 4 else ""


_PROBES: dict[str, Callable[[bytes], str | None]] = {
    "fastcgi": _probe_fastcgi,
    "scgi": _probe_scgi,
    "ajp": _probe_ajp,
    "uwsgi": _probe_uwsgi,
}


# -- what it is told -----------------------------------------------------------------------


def advice(spoken: str, heard: str) -> str:
    """Say in ASCII what the port speaks, and what to change for that.

    Args:
        spoken: The protocol of the listener, or ``"auto"``.
        heard: What `recognise` gave.
    """
    speaks = f"This port speaks {_TITLES[spoken]}"
    if heard == "proxy":
        return (
            f"{speaks}, without the PROXY protocol before it. In HAProxy take send-proxy away;"
            " in nginx's stream, proxy_protocol."
        )
    if heard == "ajp-answer":
        if spoken in {"ajp", "auto"}:
            return (
                "AJP packets to an application server begin with the octets 12 34; these begin"
                " with AB, as only its answers do."
            )
        heard = "ajp"
    source = heard if heard in FIRST_OCTETS.values() else "http"
    sentences = [f"{speaks}, not {_TITLES[heard]}."]
    changes = _changes("fastcgi" if spoken == "auto" else spoken, source)
    if changes:
        sentences.append(f"In {'; in '.join(changes)}.")
    if source != "http":
        sentences.append(f"Or let Portico listen on {source}:// or auto:// here.")
    elif spoken == "ajp":
        sentences.append("For nginx and lighttpd let Portico listen on fastcgi:// or auto:// here.")
    return " ".join(sentences)


def _changes(wanted: str, source: str) -> list[str]:
    """Give for each web server what to write instead of what makes it speak *source*."""
    return [
        f"{product} use {directives[wanted]} instead of {directives[source]}"
        for product, directives in _DIRECTIVES.items()
        if wanted in directives and source in directives
    ]


# -- in its language -----------------------------------------------------------------------


def _plain(text: str) -> tuple[list[tuple[str, str]], bytes]:
    body = f"{text}\n".encode("ascii")
    return [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))], body


# The web server is the gateway, and what it finds behind it is no backend for it: 502. A client
# of HTTP has asked the wrong server: 400.
_BAD_GATEWAY = status_line(502)
_BAD_REQUEST = status_line(400)


def _answer_http(data: bytes, text: str) -> bytes:
    headers, body = _plain(text)
    head = encode_http(_BAD_REQUEST, [*headers, ("Connection", "close")])
    return head if data.startswith(b"HEAD ") else head + body


def _answer_http2(_: bytes, text: str) -> bytes:
    """Encode SETTINGS, which must come first, and GOAWAY with the text as its debug data."""
    settings = bytes((0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0))
    payload = _FOUR.pack(0) + _FOUR.pack(_HTTP_1_1_REQUIRED) + text.encode("ascii")
    return settings + _FOUR.pack(len(payload))[1:] + bytes((_GOAWAY, 0, 0, 0, 0, 0)) + payload


def _answer_uwsgi(_: bytes, text: str) -> bytes:
    headers, body = _plain(text)
    return encode_http(_BAD_GATEWAY, headers) + body


def _answer_scgi(_: bytes, text: str) -> bytes:
    headers, body = _plain(text)
    return encode_cgi(_BAD_GATEWAY, headers) + body


def _answer_fastcgi(data: bytes, text: str) -> bytes:
    """Encode a whole response; a management record has no request that could be answered."""
    if data[1] != FCGI_BEGIN_REQUEST:
        return b""
    request_id = data[2] << 8 | data[3]
    headers, body = _plain(text)
    content = encode_cgi(_BAD_GATEWAY, headers) + body
    return record(FCGI_STDOUT, request_id, content) + tail(request_id)


def _answer_ajp(_: bytes, text: str) -> bytes:
    headers, body = _plain(text)
    fields = "".join(f"{encode_string(name)}{encode_string(value)}" for name, value in headers)
    packets = (
        b"".join((
            bytes((SEND_HEADERS,)),
            _TWO.pack(int(_BAD_GATEWAY[:3])),
            encode_string(_BAD_GATEWAY[4:]).encode("latin-1"),
            _TWO.pack(len(headers)),
            fields.encode("latin-1"),
        )),
        bytes((SEND_BODY_CHUNK,)) + _TWO.pack(len(body)) + body + b"\0",
        bytes((END_RESPONSE, 0)),
    )  # fmt: skip
    return b"".join(b"AB" + _TWO.pack(len(packet)) + packet for packet in packets)


_ANSWERS: dict[str, Callable[[bytes, str], bytes]] = {
    "fastcgi": _answer_fastcgi,
    "scgi": _answer_scgi,
    "ajp": _answer_ajp,
    "ajp-answer": _answer_ajp,
    "uwsgi": _answer_uwsgi,
    "http": _answer_http,
    "http2": _answer_http2,
    "tls": lambda _data, _text: _ALERT,
    "proxy": lambda _data, _text: b"",
}


class ServerCodec(NoRequest):
    """The application server's side of a connection whose first octet was refused.

    It waits for as many octets as it takes to know the peer's protocol, raises, and then
    `refuse` gives the answer. AJP's CPing is answered meanwhile: with the pong comes the request
    that can be refused.

    Args:
        spoken: The protocol of the listener, or ``"auto"``.
        fault: What its codec said of the first octet; raised again for what is no protocol.
    """

    __slots__ = ("_answer", "_fault", "_held", "_out", "_pinged", "_spoken")

    protocol = "foreign"

    def __init__(self, spoken: str, fault: RemoteProtocolError) -> None:
        self._spoken = spoken
        self._fault = fault.with_traceback(None)  # its frames hold what holds this codec
        self._held = b""
        self._out = b""
        self._pinged = False
        self._answer = b""

    def receive_data(self, data: bytes) -> list[Event]:
        """Take octets from the peer; never an event.

        Raises:
            RemoteProtocolError: its protocol is known, or is none.
        """
        held = self._held + data
        while held.startswith(_PING):
            held = held[len(_PING) :]
            self._out += _PONG
            self._pinged = True
        self._held = held
        heard = recognise(held) if held else None
        if heard is None:
            return []
        if not heard or (self._pinged and heard != "ajp"):
            raise self._fault
        text = advice(self._spoken, heard)
        self._answer = _ANSWERS[heard](held, text)
        raise RemoteProtocolError(text, section=_SECTIONS[self._spoken], status_hint=502)

    def receive_eof(self) -> list[Event]:
        """Take the peer's end of file.

        Raises:
            RemoteProtocolError: it came before the peer's protocol was known.
        """
        raise self._fault

    def data_to_send(self) -> bytes:
        """Give, once, the CPongs that are owed."""
        out, self._out = self._out, b""
        return out

    def refuse(self, status: int) -> bytes:  # noqa: ARG002 - the answer's status is its own
        """Give the answer to the peer, in its language; empty where none would be understood."""
        return self._answer
