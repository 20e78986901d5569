"""Responses of scripts whose name begins with ``nph-``: the web server passes them on unparsed.

Loaded where such a script is run; it is a way around servers that hold responses back.

Spec: RFC 3875 §5 (NPH scripts); RFC 9110 §5.6.7 (dates); RFC 9112 §4 (status line).
"""

import time

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip

#: Octets that a head may have before its end is looked for no more: it is none then.
_MOST_BYTES = 1_048_576


class NphHead:
    """Makes an HTTP response of a CGI response whose octets come piece by piece.

    Args:
        environ: SERVER_PROTOCOL and SERVER_SOFTWARE are taken from it.
    """

    __slots__ = ("_head", "_protocol", "_software")

    def __init__(self, environ: "dict[str, str]") -> None:
        protocol = environ.get("SERVER_PROTOCOL", "")
        self._protocol = b"HTTP/1.0" if protocol == "HTTP/1.0" else b"HTTP/1.1"
        self._software = environ.get("SERVER_SOFTWARE", "").encode("latin-1", "replace")
        self._head: bytes | None = b""

    def convert(self, data: bytes) -> bytes:
        """Give what is to be sent for *data*; empty while the head is not whole."""
        if self._head is None:
            return data
        self._head += data
        head, end, body = self._head.partition(b"\r\n\r\n")
        if not end and len(self._head) < _MOST_BYTES:
            return b""
        self._head = None
        return self._make(head) + body

    def _make(self, head: bytes) -> bytes:
        """Make a head of lines, among them ``Status``."""
        status = b"200 OK"
        lines = []
        is_dated = False
        for line in head.split(b"\r\n"):
            if line[:8].lower() == b"status: ":
                status = line[8:]
                continue
            is_dated = is_dated or line[:5].lower() == b"date:"
            lines.append(line)
        if not is_dated:
            lines.append(b"Date: " + _date(time.time()))
        if self._software:
            lines.append(b"Server: " + self._software)
        # the web server knows nothing of the response's end: that is the connection's
        lines.append(b"Connection: close")
        return b"\r\n".join((self._protocol + b" " + status, *lines, b"", b""))


def _date(seconds: float) -> bytes:
    """Format a time as HTTP does; strftime would speak the locale's language."""
    t = time.gmtime(seconds)
    text = (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year}"
        f" {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
    )
    return text.encode("ascii")
