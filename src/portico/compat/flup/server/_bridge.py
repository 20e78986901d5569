"""The application as flup calls it: with more in its environ, and less demanded of it."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from portico.compat.flup.server import NoDefault
from portico.compat.flup.server._failure import FailedRequest
from portico.core.mount import Mounting, NotMounted
from portico.core.pages import error_page, traceback_text
from portico.core.response import FileWrapper
from portico.errors import RequestAborted
from portico.target import decode_path, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: What the server says itself, whatever the argument `environ` has.
_OWN = (
    "wsgi.version", "wsgi.input", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess",
    "wsgi.run_once",
)  # fmt: skip


class Bridge:
    """Calls an application as flup's servers do.

    Adds the argument `environ`, divides the path by `scriptName`, and takes bytes for texts and
    texts in latin-1 for bytes, as flup does and PEP 3333 does not.

    Args:
        application: The WSGI callable.
        environ: What is added to the environ of each request; read at each.
        script_name: Where the application is; `NoDefault` or None leaves it to the web server.
        named_by_server: Whether WSGI_SCRIPT_NAME in a request takes the place of *script_name*.
        on_error: Answers a request whose application has raised before it answered; flup's
            `error`, where a subclass has one of its own.
    """

    __slots__ = ("_application", "_environ", "_named_by_server", "_on_error", "_script_name")

    def __init__(
        self,
        application: Callable[..., Any],
        environ: Mapping[str, Any],
        script_name: Any = NoDefault,
        *,
        named_by_server: bool = False,
        on_error: Callable[[FailedRequest], object] | None = None,
    ) -> None:
        self._application = application
        self._environ = environ
        self._script_name = script_name
        self._named_by_server = named_by_server
        self._on_error = on_error

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        if self._environ:
            self._add(environ)
        try:
            self._divide(environ)
        except NotMounted as error:
            environ["wsgi.errors"].write(f"portico: 404: {error}\n")
            page = error_page("404 Not Found")
            length = str(len(page))
            headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", length)]
            start_response("404 Not Found", headers)
            return [page]

        sent = False

        def start(
            status: Any, headers: Any, exc_info: Any = None
        ) -> Callable[[bytes | str], object]:
            if type(headers) is list:
                headers = [(_text(name), _text(value)) for name, value in headers]
            write = start_response(_text(status), headers, exc_info)

            def send(data: bytes | str) -> object:
                nonlocal sent
                sent = sent or bool(data)
                return write(_octets(data))

            return send

        answer: Iterable[bytes] | None = None
        try:
            answer = _answer(self._application(environ, start))
            if self._on_error is not None and type(answer) is _Blocks:
                answer.begin()
        except Exception as error:
            if type(answer) is _Blocks:
                answer.close()
            if self._on_error is None or sent or isinstance(error, RequestAborted):
                raise
            return [self._explain(environ, start_response, error)]
        return answer

    def _explain(
        self, environ: dict[str, Any], start_response: Callable[..., Any], error: Exception
    ) -> bytes:
        """Have the subclass's `error` answer; in the clause where the exception is handled."""
        request = FailedRequest(getattr(self._on_error, "__self__", None), environ)
        environ["wsgi.errors"].write(traceback_text(error))
        if self._on_error is not None:
            self._on_error(request)
        status, headers, body = request.answer()
        start_response(status, headers, sys.exc_info())
        return body

    def _add(self, environ: dict[str, Any]) -> None:
        added = self._environ
        own = {name: environ[name] for name in _OWN}
        environ.update(added)
        environ.update(own)
        if "HTTPS" in added:
            secure = str(environ["HTTPS"]).lower() in {"on", "1"}
            environ["wsgi.url_scheme"] = "https" if secure else "http"
        script = environ["SCRIPT_NAME"]
        if "SCRIPT_NAME" in added and not environ["PATH_INFO"]:
            # the web server took its own value off the path, not this one
            target = decode_path(path_of(environ.get("REQUEST_URI", "")))
            if f"{target}/".startswith(f"{script.rstrip('/')}/"):
                environ["PATH_INFO"] = target[len(script) :]

    def _divide(self, environ: dict[str, Any]) -> None:
        """Set SCRIPT_NAME and PATH_INFO by the path that was named; raises `NotMounted`."""
        name = self._script_name
        if self._named_by_server and "WSGI_SCRIPT_NAME" in environ:
            name = environ["WSGI_SCRIPT_NAME"]
            if name.lower() == "none":
                return
        if name is not NoDefault and name is not None:
            Mounting(name).apply(environ)


def warn_of_script_name(name: object) -> None:
    """Say that flup wants no scriptName for SCGI any more; the web server names it."""
    if name is not NoDefault and name is not None:
        warnings.warn(
            "scriptName is deprecated, as in flup: have the web server send SCRIPT_NAME",
            DeprecationWarning,
            stacklevel=3,
        )


def _text(value: Any) -> Any:
    return value.decode("latin-1") if type(value) is bytes else value


def _octets(value: Any) -> Any:
    return value.encode("latin-1") if type(value) is str else value


def _answer(result: Any) -> Any:
    """Give what the application returned, with bytes where it has texts."""
    kind = type(result)
    if kind is FileWrapper:  # leaves by the kernel
        return result
    if kind is list or kind is tuple:
        return kind(map(_octets, result)) if any(type(one) is str for one in result) else result
    return _Blocks(result)


class _Blocks:
    """An iterable whose texts become bytes as they come."""

    __slots__ = ("_blocks", "_first", "_result")

    def __init__(self, result: Any) -> None:
        self._result = result
        self._blocks: Iterator[Any] | None = None
        self._first = b""

    def begin(self) -> None:
        """Have the application make the first block, whatever it raises."""
        while not self._first:
            try:
                self._first = next(self)
            except StopIteration:
                return

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._blocks is None:
            self._blocks = iter(self._result)
        block: bytes = _octets(next(self._blocks))
        return block

    def close(self) -> None:
        """Close the application's iterable, if that can be closed."""
        close = getattr(self._result, "close", None)
        if close is not None:
            close()
