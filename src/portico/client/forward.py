"""A WSGI application that forwards each request to a backend, over any gateway protocol."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from portico.client.exchange import BODILESS, UNFRAMED, BackendError, Timeouts
from portico.client.pool import Pool
from portico.client.upload import Upload, content_length
from portico.core.pages import error_page
from portico.errors import LocalProtocolError
from portico.head import HOP_BY_HOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from portico.client.exchange import Exchange
    from portico.limits import Limits
    from portico.transports.bind import Bind

#: Parameters that speak of the client's connection, or of a body as it was framed there. The
#: backend has another connection; HTTP_PROXY is httpoxy's.
_NOT_FORWARDED = frozenset(
    {
        "CONTENT_LENGTH",  # set again from its checked value
        "HTTP_CONNECTION",
        "HTTP_CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_EXPECT",
        "HTTP_KEEP_ALIVE",
        "HTTP_PROXY",
        "HTTP_PROXY_CONNECTION",
        "HTTP_TE",
        "HTTP_TRAILER",
        "HTTP_TRANSFER_ENCODING",
        "HTTP_UPGRADE",
    }
)

_NAME_MARKS = str.maketrans("", "", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class Forward:
    """Forwards to one backend; a WSGI application for many threads.

    Both bodies are streamed, in constant memory. A backend that cannot be reached or gives no
    usable answer is a 502, one that stalls a 504, with one line in ``wsgi.errors``. A response
    that breaks off raises `BackendError` in iteration, so that the server cuts it as well.

    An upload of unknown length (no CONTENT_LENGTH, ``wsgi.input_terminated`` true) is streamed
    over FastCGI and AJP; SCGI and uwsgi need a length: 411.

    Args:
        bind: Where the backend listens: a `Bind` or a bind URL.
        timeouts: Bounds of waiting.
        limits: What a response's head may take.
        max_kept: Most idle connections kept; 0 keeps none.
        max_open: Most connections at a time; 0 for no bound. 503 where none becomes free.
        max_requests: Most requests over one connection; 0 for no bound.
        idle_seconds: Longest time a connection is kept unused.
        ping_seconds: How long an AJP backend may take to answer the CPing that precedes each
            request over a kept connection; 0 sends none.
    """

    def __init__(
        self,
        bind: Bind | str,
        *,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        max_kept: int = 8,
        max_open: int = 0,
        max_requests: int = 0,
        idle_seconds: float = 30.0,
        ping_seconds: float = 0.0,
    ) -> None:
        self._pool = Pool(
            bind,
            timeouts=timeouts,
            limits=limits,
            max_kept=max_kept,
            max_open=max_open,
            max_requests=max_requests,
            idle_seconds=idle_seconds,
            ping_seconds=ping_seconds,
        )

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Forward one request (PEP 3333)."""
        try:
            params = forwarded_params(environ)
            length = content_length(environ)
        except LocalProtocolError as exc:
            return _refuse(environ, start_response, 400, str(exc))
        if length is None and not environ.get("wsgi.input_terminated"):
            length = 0
        upload = Upload(environ["wsgi.input"], length)
        upload.probe()
        if upload.length is not None:
            if length is not None and environ.get("CONTENT_LENGTH"):
                params["CONTENT_LENGTH"] = str(length)
        elif self._pool.bind.protocol in UNFRAMED:
            return _refuse(environ, start_response, 411, "an upload of unknown length")
        try:
            exchange = self._pool.open(params, upload)
        except BackendError as exc:
            return _fail(environ, start_response, exc)
        except LocalProtocolError as exc:
            return _refuse(environ, start_response, 431, str(exc))
        return _answer(environ, start_response, exchange)

    def close(self) -> None:
        """Close the idle connections; requests under way go on."""
        self._pool.close()


class _Body:
    """The response's blocks, with the backend's error stream passed on as it comes."""

    __slots__ = ("_errors", "_exchange", "_first")

    def __init__(self, first: bytes, exchange: Exchange, errors: Any) -> None:
        self._first = first
        self._exchange = exchange
        self._errors = errors

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, b""
        if first:
            return first
        try:
            return next(self._exchange)
        finally:
            _pass_stderr(self._exchange.take_stderr(), self._errors)

    def close(self) -> None:
        """Give the response up where it has not ended."""
        self._exchange.close()
        _pass_stderr(self._exchange.take_stderr(), self._errors)


def forwarded_params(environ: dict[str, Any]) -> dict[str, str]:
    """Choose what a backend gets to see of *environ*: strings under CGI-style names.

    Raises:
        LocalProtocolError: a value is not latin-1, as PEP 3333 demands.
    """
    params: dict[str, str] = {}
    for name, value in environ.items():
        # lower case, dots and the like: wsgi.*, portico.* and what frameworks keep there
        if type(value) is not str or name in _NOT_FORWARDED or name.translate(_NAME_MARKS):
            continue
        if not value.isascii() and max(value) > "\xff":
            raise LocalProtocolError(f"the environ's {name} is not latin-1")
        params[name] = value
    for token in environ.get("HTTP_CONNECTION", "").split(","):
        # RFC 9110 §7.6.1: what Connection names goes no further than this hop
        params.pop(f"HTTP_{token.strip().upper().replace('-', '_')}", None)
    if environ.get("wsgi.url_scheme") == "https":
        params.setdefault("HTTPS", "on")
    return params


def forwarded_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Drop what a backend's response says of its own connection (RFC 9110 §7.6.1)."""
    dropped = set(HOP_BY_HOP) | {"proxy-connection"}
    for name, value in headers:
        if name.lower() == "connection":
            dropped.update(token.strip().lower() for token in value.split(","))
    dropped.discard("content-length")  # a length is the message's, whatever Connection names
    return [item for item in headers if item[0].lower() not in dropped]


def _answer(
    environ: dict[str, Any], start_response: Callable[..., Any], exchange: Exchange
) -> Iterable[bytes]:
    """Pass a response on: whole where it is here already, else block by block.

    The head waits for the first block, as PEP 3333 has it anyway: a backend that fails before
    that is still answered for.
    """
    errors = environ["wsgi.errors"]
    status = _with_reason(exchange.status)
    bodiless = environ["REQUEST_METHOD"] == "HEAD" or status[:3] in BODILESS
    try:
        if bodiless:
            exchange.settle()
        first = b"" if bodiless else next(exchange, b"")
        _pass_stderr(exchange.take_stderr(), errors)
        start_response(status, forwarded_headers(exchange.headers))
    except BackendError as exc:
        exc.stderr = exchange.take_stderr()
        return _fail(environ, start_response, exc)
    except BaseException:
        exchange.close()
        raise
    if bodiless or exchange.ended:
        return [first, *exchange] if first else []
    return _Body(first, exchange, errors)


def _fail(
    environ: dict[str, Any], start_response: Callable[..., Any], error: BackendError
) -> list[bytes]:
    _pass_stderr(error.stderr, environ["wsgi.errors"])
    return _refuse(environ, start_response, error.status_hint, str(error))


def _pass_stderr(text: str, errors: Any) -> None:
    if text:
        errors.write(text)
        errors.flush()


def _with_reason(status: str) -> str:
    """Add the reason that WSGI wants and that a backend may leave out."""
    code, reason = status[:3], status[4:].strip()
    if not reason:
        try:
            reason = HTTPStatus(int(code)).phrase
        except ValueError:
            reason = "Unknown"
    return f"{code} {reason}"


def _refuse(
    environ: dict[str, Any], start_response: Callable[..., Any], code: int, message: str
) -> list[bytes]:
    """Answer in the backend's place, and say why in one line of ``wsgi.errors``."""
    status = f"{code} {HTTPStatus(code).phrase}"
    line = " ".join(message.split())
    environ["wsgi.errors"].write(f"portico: {code}: {line}\n")
    environ["wsgi.errors"].flush()
    page = error_page(status)
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(page))),
    ]
    start_response(status, headers)
    return [page]
