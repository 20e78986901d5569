"""Response heads: check what an application gives, encode it, parse what a backend sends.

Spec: RFC 3875 §6 (CGI response), RFC 9110 §5 (fields), PEP 3333 (start_response).
"""

from portico.errors import ApplicationError, LimitExceeded, RemoteProtocolError

#: Names that PEP 3333 ("Other HTTP Features") leaves to the server: they speak of a connection
#: that the application does not have.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)

#: Statuses that need no look at each character.
COMMON_STATUSES = frozenset(
    {
        "200 OK", "201 Created", "204 No Content", "206 Partial Content", "301 Moved Permanently",
        "302 Found", "303 See Other", "304 Not Modified", "400 Bad Request", "401 Unauthorized",
        "403 Forbidden", "404 Not Found", "405 Method Not Allowed", "500 Internal Server Error",
    }
)  # fmt: skip

#: Spellings that need no look at each character; every other name is checked in full, once.
COMMON_NAMES = frozenset(
    {
        "Accept-Ranges", "Allow", "Cache-Control", "Content-Disposition", "Content-Encoding",
        "Content-Language", "Content-Range", "Content-Security-Policy",
        "Content-Type", "Cross-Origin-Opener-Policy", "Date", "ETag", "Expires", "Last-Modified",
        "Link", "Location", "Pragma", "Referrer-Policy", "Retry-After", "Server", "Set-Cookie",
        "Strict-Transport-Security", "Vary", "WWW-Authenticate", "X-Content-Type-Options",
        "X-Frame-Options", "content-type", "location", "set-cookie",
    }
)  # fmt: skip

#: These, and such as were looked at before: another look at X-Request-Id costs 2 µs a response.
_known_names = set(COMMON_NAMES)
_MOST_NAMES = 1024

#: RFC 9110 §5.6.2 ``tchar``, beyond letters and digits.
_TOKEN_MARKS = frozenset("!#$%&'*+-.^_`|~")

_SECTION = "RFC 3875 §6"


def is_token(name: str) -> bool:
    """Whether *name* is an RFC 9110 §5.6.2 token: letters, digits and 15 marks, not empty."""
    return name.isascii() and all(c.isalnum() or c in _TOKEN_MARKS for c in name) and name != ""


def _has_controls(value: str) -> bool:
    """Whether *value* holds an octet that no field value may hold (RFC 9110 §5.5)."""
    return any((c < " " and c != "\t") or c == "\x7f" or c > "\xff" for c in value)


def check_status(status: str) -> None:
    """Refuse a status that is not three digits, a blank and a printable reason.

    Raises:
        ApplicationError: what is wrong, in words for the application's author.
    """
    if status in COMMON_STATUSES and type(status) is str:
        return
    if type(status) is not str:
        raise ApplicationError(f"status must be str, not {type(status).__name__}")
    code = status[:3]
    if len(code) != 3 or not (code.isascii() and code.isdigit()):
        raise ApplicationError(f"status must begin with three digits: {status!a}")
    if status[3:4] not in (" ", "") or _has_controls(status) or "\t" in status:
        raise ApplicationError(f"status must be three digits, a blank and a reason: {status!a}")
    if code < "200":
        raise ApplicationError(f"status {code} is not a final response")


def check_headers(headers: "list[tuple[str, str]]") -> "int | None":
    """Refuse headers that would break the response or speak of the connection.

    Returns:
        The octets that Content-Length promises; None without one.

    Raises:
        ApplicationError: what is wrong, in words for the application's author.
    """
    if type(headers) is not list:
        raise ApplicationError(f"headers must be a list, not {type(headers).__name__}")
    length = None
    for item in headers:
        if type(item) is not tuple or len(item) != 2:
            raise ApplicationError(f"each header must be a (name, value) tuple: {item!a}")
        name, value = item
        if type(name) is not str or type(value) is not str:
            raise ApplicationError(f"header names and values must be str: {item!a}")
        if name not in _known_names:
            if name == "Content-Length" or name.lower() == "content-length":
                if length is not None or not value.isdecimal():
                    raise ApplicationError(f"Content-Length is not one number: {value!a}")
                length = int(value)
                continue
            _check_name(name)
        if not (value.isascii() and value.isprintable()) and _has_controls(value):
            raise ApplicationError(
                f"header {name} has a value with a line break, a control character or a character"
                f" beyond latin-1: {value!a}"
            )
    return length


def _check_name(name: str) -> None:
    if not is_token(name):
        raise ApplicationError(f"header name is not a token: {name!a}")
    lower = name.lower()
    if lower in HOP_BY_HOP:
        raise ApplicationError(f"header {name} belongs to the web server, not the application")
    if lower == "status":
        raise ApplicationError("the status is the first argument of start_response, not a header")
    if len(_known_names) < _MOST_NAMES and len(name) < 64:
        _known_names.add(name)


def encode_cgi(status: str, headers: "list[tuple[str, str]]") -> bytes:
    """Encode a checked head as CGI (RFC 3875 §6.3), blank line included.

    ``Status`` comes last: HAProxy 2.6 answers 302 where a ``Location`` follows it.
    """
    lines = ""
    for name, value in headers:  # in place; joining what a comprehension makes is two calls more
        lines += f"{name}: {value}\r\n"
    return f"{lines}Status: {status}\r\n\r\n".encode("latin-1")


def encode_http(status: str, headers: "list[tuple[str, str]]") -> bytes:
    """Encode a checked head as HTTP/1.1 (RFC 9112 §4), as the uwsgi protocol wants it."""
    lines = ""
    for name, value in headers:  # in place; joining what a comprehension makes is two calls more
        lines += f"{name}: {value}\r\n"
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1")


def find_end(buffer: "bytes | bytearray", start: int = 0) -> "tuple[int, int] | None":
    """Find the blank line that ends a head; line ends are LF or CR LF.

    Args:
        buffer: What has arrived so far.
        start: Where to begin to look; step back three octets from the last end.

    Returns:
        Where the head's last line ends and where the body begins, or None.
    """
    at = buffer.find(b"\n", start)
    while at != -1:
        if buffer[at + 1 : at + 2] == b"\n":
            return at + 1, at + 2
        if buffer[at + 1 : at + 3] == b"\r\n":
            return at + 1, at + 3
        at = buffer.find(b"\n", at + 1)
    return None


def parse(block: bytes, *, max_bytes: int = 262_144) -> "tuple[str, list[tuple[str, str]]]":
    """Parse a response head: CGI, or with an HTTP status line.

    Args:
        block: The head without its blank line.
        max_bytes: Most octets accepted.

    Returns:
        The status (``"200 OK"`` when none is given, ``"302 Found"`` with a ``Location``
        alone), and the headers without ``Status``.

    Raises:
        RemoteProtocolError: a line that is no header, or a malformed status.
        LimitExceeded: more than *max_bytes*.

    Spec: RFC 3875 §6.2, §6.3.
    """
    if len(block) > max_bytes:
        raise LimitExceeded(
            f"response head of {len(block)} octets, {max_bytes} allowed",
            option="max_response_head_bytes",
            section=_SECTION,
            status_hint=502,
        )
    status = ""
    headers: list[tuple[str, str]] = []
    lines = block.decode("latin-1").split("\n")
    if lines[0].startswith("HTTP/"):
        # blanks and tabs alone: str.strip also takes octets of a reason, 85 and A0
        status = lines.pop(0).removesuffix("\r").partition(" ")[2].strip(" \t")
        if not status:
            raise RemoteProtocolError(
                "status line without a status", section=_SECTION, status_hint=502
            )
    for raw in lines:
        line = raw.removesuffix("\r")
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or not is_token(name):
            raise RemoteProtocolError(
                f"not a header line: {line[:80]!a}", section=_SECTION, status_hint=502
            )
        value = value.strip(" \t")
        if _has_controls(value):
            raise RemoteProtocolError(
                f"header {name} has a control character in its value",
                section=_SECTION,
                status_hint=502,
            )
        if name.lower() == "status":
            status = value
        else:
            headers.append((name, value))
    if not status:
        has_location = any(name.lower() == "location" for name, _ in headers)
        status = "302 Found" if has_location else "200 OK"
    code = status[:3]
    if (
        not (len(code) == 3 and code.isascii() and code.isdigit())
        or status[3:4] not in {"", " "}
        or _has_controls(status)
    ):
        raise RemoteProtocolError(
            f"malformed status: {status[:80]!a}", section=_SECTION, status_hint=502
        )
    return status, headers
