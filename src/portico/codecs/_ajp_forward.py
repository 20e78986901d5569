"""The Forward Request of AJP/1.3, decoded into CGI parameters and encoded from them."""

from __future__ import annotations

from portico.codecs._ajp_tables import (
    ARE_DONE,
    ATTRIBUTE_NAMES,
    CONTEXT,
    JVM_ROUTE,
    METHODS,
    PLAIN_HEADERS,
    QUERY_STRING,
    REQ_ATTRIBUTE,
    REQ_ATTRIBUTE_NAMES,
    REQUEST_HEADERS,
    RESERVED_NAMES,
    RESERVED_PREFIXES,
    SECRET,
    SERVLET_PATH,
    SSL_CERT,
    SSL_KEY_SIZE,
    STORED_METHOD,
    STRING_ATTRIBUTES,
)
from portico.codecs._ajp_wire import (
    FORWARD_REQUEST,
    LEAST_CODE,
    NULL,
    REQUEST,
    content_length,
    decode_string,
    encode_string,
    has_break,
)
from portico.errors import ConfigError, LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.head import is_token
from portico.params import merge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: No request attribute is allowed.
NO_NAMES: frozenset[str] = frozenset()

#: Two hexadecimal digits in any case -> the character.
_ESCAPES = {
    high + low: chr(int(high + low, 16))
    for high in "0123456789abcdefABCDEF"
    for low in "0123456789abcdefABCDEF"
}

#: What stands for itself in a path: RFC 3986 §3.3 ``pchar``, and the slash.
_UNQUOTED = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/!$&'()*+,;=:@"
)

#: `REQUEST_HEADERS`, empty for codes that do not exist: a look-up instead of a range check.
_CODED = REQUEST_HEADERS + ("",) * (256 - len(REQUEST_HEADERS))

#: Coded request headers by their environ name, encoded.
_REQUEST_NAMES = {key: f"\xa0{chr(code)}" for code, key in enumerate(REQUEST_HEADERS) if key}

#: String attributes that a server reads over, and the parameters that a client sends in them.
_SENT_ALONE = {CONTEXT: "CONTEXT_PATH", SERVLET_PATH: "SERVLET_PATH", JVM_ROUTE: "JVM_ROUTE"}

#: The marks of base64 as letters.
_BASE64_MARKS = {ord(mark): "a" for mark in "+/="}

_METHOD_CODES = {method: code for code, method in enumerate(METHODS) if method}


def bad_request(message: str, status: int = 400) -> RemoteProtocolError:
    """Make the error that refuses a request with *status*; 0 means without an answer."""
    return RemoteProtocolError(message, section=REQUEST, status_hint=status)


def check_attribute(name: str) -> None:
    """Refuse the name of a request attribute that must not become a parameter.

    Attributes may have any name, so one could pass for any parameter: CVE-2020-1938
    ("Ghostcat") was of this kind.

    Raises:
        ConfigError: why *name* is none to be allowed.
    """
    if not (name.isascii() and name.replace("_", "a").isalnum()):
        reason = "is no name of a variable: it takes letters, digits and underscores"
    elif name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
        reason = (
            "means something of its own to applications, and whoever reaches the socket could"
            " set it: have the web server send another name"
        )
    elif name in REQ_ATTRIBUTE_NAMES:
        reason = f"needs no permission: it becomes {REQ_ATTRIBUTE_NAMES[name]}"
    else:
        return
    raise ConfigError(f"the AJP attribute {name[:80]!a} {reason}", key="ajp_attributes")


#: The environ's name of each header seen before, which costs 0.5 µs to make; bounded, as clients
#: choose the names.
_known_keys = dict(PLAIN_HEADERS)
_MOST_NAMES = 2048


def unquote(path: str) -> str:
    """Percent-decode *path* once, latin-1 to latin-1; what is no escape stays as it is."""
    first, *rest = path.split("%")
    return first + "".join(
        [_ESCAPES[part[:2]] + part[2:] if part[:2] in _ESCAPES else f"%{part}" for part in rest]
    )


def decode_forward_request(
    payload: bytes, *, allowed: frozenset[str] = NO_NAMES, max_params: int = 1000
) -> tuple[dict[str, str], str]:
    """Decode a Forward Request packet's payload into CGI parameters.

    A header whose name has an underscore is dropped, as nginx and Apache do: ``X_Y`` and
    ``X-Y`` would both become HTTP_X_Y, so that a client could pass off the one for the other.

    Args:
        payload: The packet without its four octets of head.
        allowed: Names of request attributes that become parameters of that name; see
            `check_attribute`.
        max_params: Most headers, and most named attributes, accepted; a count.

    Returns:
        A new environ with SCRIPT_NAME empty and PATH_INFO the whole path; the secret or ``""``.

    Raises:
        RemoteProtocolError: the payload is malformed.
        LimitExceeded: more than *max_params*.
    """
    text = payload.decode("latin-1")  # one decode; slicing str beats decoding slices
    try:
        environ, at = _decode_fields(payload, text)
        at = _decode_headers(payload, text, at, environ, max_params)
        found, named = _decode_attributes(payload, text, at, allowed, max_params)
    except IndexError:
        raise bad_request("a field runs past the end of the request, or lacks its NUL") from None
    environ.update(named)
    path = environ["REQUEST_URI"]
    if "?" in path:  # read here as part of the path, and as a query by who reads REQUEST_URI
        raise bad_request(f"the path holds a query, which has a field of its own: {path[:80]!a}")
    query = found.get(QUERY_STRING)
    if query is not None:
        environ["REQUEST_URI"] = f"{path}?{query}"
        environ["QUERY_STRING"] = query
    for code, name in ATTRIBUTE_NAMES.items():
        if found.get(code):
            environ[name] = found[code]
    if payload[1] == 255:
        method = environ["REQUEST_METHOD"] = found.get(STORED_METHOD, "")
        if not is_token(method):
            raise bad_request(f"not a method: {method[:40]!a}")
    # One look at all values: 0.5 µs, a look at each 2.5. Those set below may hold line breaks.
    if has_break("".join(environ.values())):
        raise _broken(environ)
    if found.get(SSL_CERT):
        environ["SSL_CLIENT_CERT"] = _certificate(found[SSL_CERT])
    if path[:1] == "/":
        environ["PATH_INFO"] = unquote(path) if "%" in path else path
    elif path == "*" and environ["REQUEST_METHOD"] == "OPTIONS":
        environ["PATH_INFO"] = ""  # RFC 9110 §9.3.7: the server itself, no path of it
    else:
        raise bad_request(f"not the path of a request: {path[:80]!a}")
    return environ, found.get(SECRET, "")


def _decode_fields(payload: bytes, text: str) -> tuple[dict[str, str], int]:
    """Decode what precedes the headers."""
    code = payload[1]
    if code != 255 and not 0 < code < len(METHODS):
        raise bad_request(f"unknown method code {code}", 501)
    at = 2
    strings: list[str] = []
    for _ in range(5):
        size = payload[at] << 8 | payload[at + 1]
        at += 2
        if size == NULL:
            strings.append("")
            continue
        end = at + size
        if payload[end]:
            raise bad_request("a string of the forward request does not end in NUL")
        strings.append(text[at:end])
        at = end + 1
    protocol, uri, address, host, server = strings
    if not protocol:
        raise bad_request("the forward request names no protocol")
    environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": METHODS[code] if code != 255 else "",
        "SERVER_PROTOCOL": protocol,
        "REQUEST_URI": uri,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "REMOTE_ADDR": address,
    }
    if host:
        environ["REMOTE_HOST"] = host
    if server:
        environ["SERVER_NAME"] = server
    port = payload[at] << 8 | payload[at + 1]
    if port:
        environ["SERVER_PORT"] = str(port)
    if payload[at + 2]:
        environ["HTTPS"] = "on"
    return environ, at + 3


def _decode_headers(
    payload: bytes, text: str, at: int, environ: dict[str, str], max_params: int
) -> int:
    """Decode the headers into *environ*; inline, since a call per string would double the cost."""
    count = payload[at] << 8 | payload[at + 1]
    if count > max_params:
        raise _too_many(f"{count} headers", max_params)
    at += 2
    for _ in range(count):
        size = payload[at]
        if size == 0xA0:
            key = _CODED[payload[at + 1]]
            if not key:
                raise bad_request(f"unknown header code A0{payload[at + 1]:02X}")
            at += 2
        else:
            if size > 0xA0:
                raise bad_request("a header's name is null or too long")
            end = at + 2 + (size << 8 | payload[at + 1])
            if payload[end]:
                raise bad_request("a header's name does not end in NUL")
            name = text[at + 2 : end]
            known = _known_keys.get(name)
            key = _header_key(name) if known is None else known
            at = end + 1
        size = payload[at] << 8 | payload[at + 1]
        at += 2
        if size == NULL:
            continue  # lighttpd's way to say that a header was taken away
        end = at + size
        if payload[end]:
            raise bad_request("a header's value does not end in NUL")
        if key:
            value = text[at:end]
            environ[key] = _joined(environ, key, value) if key in environ else value
        at = end + 1
    return at


def _header_key(name: str) -> str:
    """The environ's name of a header; empty for one that is dropped."""
    if not (name.replace("-", "").isalnum() and name.isascii()):  # 0.2 µs; is_token takes 2
        if not is_token(name):
            raise bad_request(f"header name is not a token: {name[:80]!a}")
        if "_" in name:
            return ""
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        key = f"HTTP_{key}"
    if len(_known_keys) < _MOST_NAMES and len(name) < 64:
        _known_keys[name] = key
    return key


def _joined(environ: dict[str, str], key: str, value: str) -> str:
    """The value of a header that came again."""
    if key == "CONTENT_LENGTH":
        raise bad_request("content-length came twice")
    # Its name as a header's: a later CONTENT_TYPE is an override where parameters travel.
    name = "HTTP_CONTENT_TYPE" if key == "CONTENT_TYPE" else key
    return merge([(name, environ[key]), (name, value)])[name]


def _decode_attributes(
    payload: bytes, text: str, at: int, allowed: frozenset[str], max_params: int
) -> tuple[dict[int, str], dict[str, str]]:
    """Decode the attributes, to the end of *payload*: by code, and what named ones set."""
    found: dict[int, str] = {}
    named: dict[str, str] = {}
    count = 0
    while True:
        code = payload[at]
        at += 1
        if code == REQ_ATTRIBUTE:
            count += 1
            if count > max_params:
                raise _too_many(f"more than {max_params} attributes", max_params)
            name, at = decode_string(payload, text, at)
            value, at = decode_string(payload, text, at)
            if not name or value is None:
                continue
            key = REQ_ATTRIBUTE_NAMES.get(name) or (name if name in allowed else "")
            if key:
                named[key] = value
        elif code == ARE_DONE:
            break
        elif code == SSL_KEY_SIZE:
            if "SSL_CIPHER_USEKEYSIZE" in named:
                raise bad_request(f"attribute {code:02X} came twice")
            named["SSL_CIPHER_USEKEYSIZE"] = str(payload[at] << 8 | payload[at + 1])
            at += 2
        elif code in STRING_ATTRIBUTES:
            value, at = decode_string(payload, text, at)
            if code in found:
                raise bad_request(f"attribute {code:02X} came twice")
            if value is not None:
                found[code] = value
        else:
            # Nothing tells how long it is. No answer: no server sends such a thing.
            raise bad_request(f"unknown attribute {code:02X}", 0)
    if at != len(payload):
        raise bad_request("octets follow the end of the forward request")
    return found, named


def _too_many(what: str, max_params: int) -> LimitExceeded:
    return LimitExceeded(
        f"{what}, {max_params} allowed", option="max_params", section=REQUEST, status_hint=431
    )


def _broken(environ: dict[str, str]) -> RemoteProtocolError:
    name = next(name for name, value in environ.items() if has_break(value))
    return bad_request(f"parameter {name[:80]} holds a line break or NUL")


def _certificate(value: str) -> str:
    """Give a client's certificate as mod_ssl's SSL_CLIENT_CERT has it: PEM.

    The Apache modules send PEM; isapi_redirect may send the bare base64.
    """
    if "\0" in value:
        raise bad_request("the client's certificate holds NUL")
    if "-----BEGIN" in value:
        return value
    text = "".join(value.split())
    if not (text.isascii() and text.translate(_BASE64_MARKS).isalnum()):
        raise bad_request("the client's certificate is no PEM text")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))


def encode_forward_request(
    environ: Mapping[str, str], *, secret: str = "", packet_size: int = 8192
) -> bytes:
    """Encode CGI parameters as a Forward Request packet.

    The path is REQUEST_URI's where that has one, and else SCRIPT_NAME and PATH_INFO, quoted. As
    mod_proxy_ajp does it, ``AJP_NAME`` is sent as a request attribute called ``NAME``; and
    CONTEXT_PATH, SERVLET_PATH and JVM_ROUTE as the attributes that have codes of their own.

    Raises:
        LocalProtocolError: a value holds a line break or NUL, or is not latin-1.
        LimitExceeded: the request does not fit a packet of *packet_size* octets.
    """
    method = environ.get("REQUEST_METHOD", "GET")
    code = _METHOD_CODES.get(method, 255)
    target, query = _target(environ)
    port = content_length(environ.get("SERVER_PORT", "")) or 0
    secure = environ.get("HTTPS", "").lower() in ("on", "1")
    host = environ.get("REMOTE_HOST", "")
    headers = _request_headers(environ)
    parts = [
        chr(FORWARD_REQUEST),
        chr(code),
        _checked(environ.get("SERVER_PROTOCOL", "HTTP/1.1")),
        _checked(target),
        _checked(environ.get("REMOTE_ADDR", "")),
        _checked(host) if host else "\xff\xff",
        _checked(environ.get("SERVER_NAME", "")),
        f"{chr(port >> 8)}{chr(port & 255)}" if port < 65_536 else "\0\0",
        "\1" if secure else "\0",
        f"{chr(len(headers) >> 8)}{chr(len(headers) & 255)}",
        *headers,
        *_request_attributes(environ, secret, query),
        f"{chr(STORED_METHOD)}{_checked(method)}" if code == 255 else "",
        chr(ARE_DONE),
    ]
    text = "".join(parts)
    size = len(text)
    if size > packet_size - 4:
        raise LimitExceeded(
            f"the request's head takes {size + 4} octets, an AJP packet holds"
            f" {packet_size}: raise packet_size here and in the backend",
            option="packet_size",
            section=REQUEST,
            status_hint=431,
        )
    try:
        return f"\x12\x34{chr(size >> 8)}{chr(size & 255)}{text}".encode("latin-1")
    except UnicodeEncodeError:
        raise LocalProtocolError("a parameter is not latin-1") from None


def _checked(value: str) -> str:
    """Encode a string, refusing what a server refuses to take."""
    if has_break(value):
        raise LocalProtocolError(f"a parameter holds a line break or NUL: {value[:80]!a}")
    return encode_string(value)


def _quoted(path: str) -> str:
    return "".join([c if c in _UNQUOTED else f"%{ord(c):02X}" for c in path])


def _target(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The path to ask for, percent-encoded, and the query; None where there is none."""
    path, mark, query = environ.get("REQUEST_URI", "").partition("?")
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    if not path.startswith("/") and path != "*":
        path = _quoted(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")) or "/"
    query = environ.get("QUERY_STRING") or query
    return path, query if query or mark else None


def _request_headers(environ: Mapping[str, str]) -> list[str]:
    headers: list[str] = []
    for key, value in environ.items():
        name = _REQUEST_NAMES.get(key)
        if name is None:
            if not key.startswith("HTTP_") or key in ("HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"):
                continue
            plain = key[5:].replace("_", "-").title()
            if not is_token(plain):
                continue
            if len(plain) >= LEAST_CODE:
                raise LocalProtocolError("a header's name is too long for AJP")
            name = encode_string(plain)
        elif not value and key in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            continue
        headers.append(f"{name}{_checked(value)}")
    return headers


def _request_attributes(environ: Mapping[str, str], secret: str, query: str | None) -> list[str]:
    attributes: list[str] = []
    if secret:
        attributes.append(f"{chr(SECRET)}{encode_string(secret.encode().decode('latin-1'))}")
    if query is not None:
        attributes.append(f"{chr(QUERY_STRING)}{_checked(query)}")
    for code, key in ATTRIBUTE_NAMES.items():
        if environ.get(key):
            attributes.append(f"{chr(code)}{_checked(environ[key])}")
    for code, key in _SENT_ALONE.items():
        if environ.get(key):
            attributes.append(f"{chr(code)}{_checked(environ[key])}")
    certificate = environ.get("SSL_CLIENT_CERT")
    if certificate:
        attributes.append(f"{chr(SSL_CERT)}{encode_string(certificate)}")
    size = content_length(environ.get("SSL_CIPHER_USEKEYSIZE", ""))
    if size is not None and size < 65_536:
        attributes.append(f"{chr(SSL_KEY_SIZE)}{chr(size >> 8)}{chr(size & 255)}")
    for name, key in REQ_ATTRIBUTE_NAMES.items():
        if environ.get(key):
            attributes.append(f"{chr(REQ_ATTRIBUTE)}{encode_string(name)}{_checked(environ[key])}")
    for key, value in environ.items():
        if key.startswith("AJP_") and key not in REQ_ATTRIBUTE_NAMES and key != "AJP_":
            attributes.append(f"{chr(REQ_ATTRIBUTE)}{_checked(key[4:])}{_checked(value)}")
    return attributes
