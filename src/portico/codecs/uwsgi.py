"""The uwsgi protocol (the wire protocol, not the server): a packet of variables, a body.

Spec: "The uwsgi Protocol", uWSGI documentation.
"""

from __future__ import annotations

from portico.codecs._one_shot import HEAD, OneShotClient, OneShotServer, content_length
from portico.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from portico.head import encode_http
from portico.params import merge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.events import Event
    from portico.limits import Limits

_PACKET = "uwsgi, packet header"
_VARS = "uwsgi, block vars"

_HEADER_BYTES = 4

#: What `datasize` can say.
_MAX_DATA_BYTES = 65_535

#: modifier1: a request as it is, and one whose PATH_INFO still begins with SCRIPT_NAME.
_WSGI = 0
_MANAGE_PATH_INFO = 30


def decode_pairs(block: bytes) -> list[tuple[str, str]]:
    """Decode the variables of a packet: names and values in order, repeats kept, latin-1.

    Raises:
        RemoteProtocolError: the block is malformed; answer 400.
    """
    text = block.decode("latin-1")
    pairs = []
    at = 0
    size = len(block)
    while at < size:
        middle = at + 2 + int.from_bytes(block[at : at + 2], "little")
        end = middle + 2 + int.from_bytes(block[middle : middle + 2], "little")
        if middle == at + 2 or end > size:
            raise _malformed()
        pairs.append((text[at + 2 : middle], text[middle + 2 : end]))
        at = end
    return pairs


def _malformed() -> RemoteProtocolError:
    return RemoteProtocolError(
        "uwsgi variable with an empty name or beyond the packet", section=_VARS, status_hint=400
    )


class ServerCodec(OneShotServer):
    """The application server's side of a uwsgi connection.

    ``UWSGI_*`` variables ask uWSGI to load and run code; they are dropped.
    """

    __slots__ = ()

    protocol = "uwsgi"

    _encode_head = staticmethod(encode_http)

    def _receive_head(self, data: bytes) -> list[Event]:
        modifier1 = data[0]
        if modifier1 not in (_WSGI, _MANAGE_PATH_INFO):
            raise RemoteProtocolError(f"uwsgi modifier1 {modifier1} is not served", section=_PACKET)
        if len(data) < _HEADER_BYTES:
            return self._hold(data, _HEADER_BYTES)
        size = data[1] | data[2] << 8
        if not size:
            raise RemoteProtocolError("uwsgi packet without variables", section=_PACKET)
        self._state = HEAD
        limits = self._limits
        if size > limits.max_params_bytes:
            raise LimitExceeded(
                f"uwsgi variables of {size} octets, {limits.max_params_bytes} allowed",
                option="max_params_bytes",
                section=_PACKET,
                status_hint=431,
            )
        end = _HEADER_BYTES + size
        if len(data) < end:
            return self._hold(data, end)
        environ = self._decode_variables(data, end)
        if modifier1 == _MANAGE_PATH_INFO:
            _strip_script_name(environ)
        length = 0
        if "CONTENT_LENGTH" in environ and environ["CONTENT_LENGTH"] not in {"", "0"}:
            length = content_length(environ["CONTENT_LENGTH"])
        return self._begin(environ, data, end, length)

    def _decode_variables(self, data: bytes, end: int) -> dict[str, str]:
        # 26 variables, CPython 3.11, of what the plainest loop takes: 0.65 for one decode of head
        # and all, so that one index serves octets and text; 0.55 for lengths from single octets
        # instead of int.from_bytes (struct: 0.65); of the rest 0.9 for asking whether the high
        # octet is set, which it hardly ever is, and 0.9 for checks that stand behind the loop.
        text = data[:end].decode("latin-1")
        environ: dict[str, str] = {}
        at = _HEADER_BYTES + 2
        count = 0
        try:
            for count in range(1, self._limits.max_params + 1):  # noqa: B007 - asked for below
                middle = at + data[at - 2]
                if data[at - 1]:
                    middle += 256 * data[at - 1]
                stop = middle + 2 + data[middle]
                if data[middle + 1]:
                    stop += 256 * data[middle + 1]
                environ[text[at:middle]] = text[middle + 2 : stop]
                if stop >= end:
                    break
                at = stop + 2
            else:
                raise LimitExceeded(
                    f"more than {self._limits.max_params} uwsgi variables",
                    option="max_params",
                    section=_VARS,
                    status_hint=431,
                )
        except IndexError:
            raise _malformed() from None
        if stop != end or "" in environ:
            raise _malformed()
        if len(environ) != count:
            environ = merge(decode_pairs(data[_HEADER_BYTES:end]))
        if "UWSGI_" in text:
            environ = {k: v for k, v in environ.items() if not k.startswith("UWSGI_")}
        return environ


def _strip_script_name(environ: dict[str, str]) -> None:
    """Take SCRIPT_NAME off the start of PATH_INFO, on a segment's boundary, as modifier 30 asks."""
    script = environ.get("SCRIPT_NAME", "")
    path = environ.get("PATH_INFO", "")
    if script and (path == script or path.startswith(f"{script}/")):
        environ["PATH_INFO"] = path[len(script) :]


class ClientCodec(OneShotClient):
    """The web server's side of a uwsgi connection.

    Args:
        limits: Bounds the response's head.
        modifier1: 0, or 30 for a PATH_INFO that still begins with SCRIPT_NAME.
    """

    __slots__ = ("_modifier1",)

    protocol = "uwsgi"

    def __init__(self, limits: Limits, *, modifier1: int = _WSGI) -> None:
        super().__init__(limits)
        self._modifier1 = modifier1

    def _encode_request(self, environ: Mapping[str, str], length: int) -> bytes:
        items = dict(environ)
        if length or "CONTENT_LENGTH" in items:
            items["CONTENT_LENGTH"] = str(length)
        parts = [b""]  # the packet's header, once its size is known
        try:
            for pair in items.items():
                for text in pair:
                    octets = text.encode("latin-1")
                    parts += (len(octets).to_bytes(2, "little"), octets)
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"uwsgi variables are latin-1: {exc}") from None
        except OverflowError:
            raise _too_large() from None
        size = sum(map(len, parts))
        if size > _MAX_DATA_BYTES:
            raise _too_large()
        if not size or "" in items:
            raise LocalProtocolError("uwsgi needs variables, and their names are not empty")
        parts[0] = bytes((self._modifier1, size & 255, size >> 8, 0))
        return b"".join(parts)


def _too_large() -> LocalProtocolError:
    return LocalProtocolError(
        f"the environ takes more than the {_MAX_DATA_BYTES} octets a uwsgi packet holds"
    )
