"""Send one request to an application server, as a web server would, and print the answer.

URL is a bind URL, then the path and query to ask for:

  scgi://127.0.0.1:4000/path?x=1
  fastcgi+unix:///run/app.sock:/path?x=1    the socket's path, a colon, the request's path

Options of the bind URL, such as AJP's secret, are given with --option, since what follows a
question mark is the request's query.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast
from urllib.parse import quote

from portico import __version__
from portico.errors import ConfigError
from portico.head import is_token
from portico.target import decode_path, path_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from portico.client.exchange import Exchange

#: Headers that are parameters of their own (RFC 3875 §4.1.2, §4.1.3).
_OWN_NAMES = {"HTTP_CONTENT_LENGTH": "CONTENT_LENGTH", "HTTP_CONTENT_TYPE": "CONTENT_TYPE"}

_SPOOL_BYTES = 1 << 20


class Target(NamedTuple):
    """A URL taken apart: the bind URL, and the request target."""

    bind: str
    target: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("url", metavar="URL", help="where the server listens, and what to ask for")
    parser.add_argument(
        "-X", "--method", metavar="METHOD", help="GET by default; POST where there is data"
    )
    parser.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="'Name: value'",
        help="a request header; may be repeated",
    )
    parser.add_argument(
        "-d",
        "--data",
        metavar="DATA|@FILE",
        help="the request's body, or the file that holds it; @- is standard input",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, over what would be sent; empty VALUE allowed; may be repeated",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the bind URL, such as secret_file for AJP; may be repeated",
    )
    parser.add_argument(
        "-i", "--include", action="store_true", help="print the response's head as well"
    )
    parser.add_argument(
        "--role",
        choices=("responder", "authorizer", "filter"),
        default="responder",
        help="what a FastCGI application is asked to be; responder by default",
    )
    parser.add_argument(
        "--data-file",
        metavar="FILE",
        help="the file that a FastCGI filter is to work on; its size and time go along",
    )
    parser.add_argument(
        "--records",
        action="store_true",
        help="show each record or packet on standard error as it passes: > sent, < received",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds of each single wait; 60 by default",
    )


def run(arguments: argparse.Namespace) -> int:
    """Send the request, print the response.

    Returns:
        Exit status: 0 whatever the response's status is, 1 where there was no whole response.

    Raises:
        ConfigError: the command line is wrong.
    """
    # lazy: socket, threading and a codec, which a wrong command line need not load
    from portico.client.exchange import BackendError, Timeouts  # noqa: PLC0415
    from portico.client.pool import Pool  # noqa: PLC0415
    from portico.errors import LocalProtocolError  # noqa: PLC0415

    where = split_url(arguments.url, arguments.option)
    if not 0 < arguments.timeout < float("inf"):
        raise ConfigError("--timeout takes seconds, more than 0", key="--timeout")
    _check_role(arguments)
    body, size = _open_body(arguments.data)
    timeouts = Timeouts(connect=arguments.timeout, read=arguments.timeout, write=arguments.timeout)
    try:
        environ = make_environ(arguments, where, size)
        with ExitStack() as stack:
            data = _open_data(arguments.data_file, environ, stack)
            tap = _show_records(where.bind, stack) if arguments.records else None
            pool = Pool(where.bind, timeouts=timeouts, max_kept=0, role=arguments.role, tap=tap)
            exchange = stack.enter_context(pool.open(environ, body, data=data))
            _print(exchange, head=arguments.include)
    except BackendError as error:
        _print_stderr(error.stderr)
        sys.stdout.flush()
        print(f"portico: {where.bind.partition('?')[0]}: {error}", file=sys.stderr)
        return 1
    except LocalProtocolError as error:
        raise ConfigError(f"the request cannot be sent: {error}") from error
    finally:
        if not isinstance(body, bytes):
            body.close()
    return 0


def _check_role(arguments: argparse.Namespace) -> None:
    """Refuse what a role does not take.

    Raises:
        ConfigError: says what to add or leave out.
    """
    role = arguments.role
    if (role == "filter") != (arguments.data_file is not None):
        raise ConfigError(
            "a filter works on a file: --role filter and --data-file FILE go together",
            key="--data-file",
        )
    if role == "authorizer" and arguments.data is not None:
        raise ConfigError("an authorizer gets no body: leave --data out", key="--data")


def _open_data(path: str | None, environ: dict[str, str], stack: ExitStack) -> BinaryIO | None:
    """Open a filter's file and tell of it in *environ*, as FastCGI 1.0 §6.4 says.

    Raises:
        ConfigError: it cannot be read, or has no size.
    """
    if path is None:
        return None
    try:
        file = stack.enter_context(open(path, "rb"))  # noqa: PTH123, SIM115 - the stack closes it; a plain path
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}", key="--data-file") from exc
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path} is no plain file, it has no size", key="--data-file")
    environ.setdefault("FCGI_DATA_LENGTH", str(found.st_size))
    environ.setdefault("FCGI_DATA_LAST_MOD", str(max(0, int(found.st_mtime))))
    return file


def _show_records(bind: str, stack: ExitStack) -> Callable[[bytes, bool], None]:
    """Give what shows records as they pass, and what is left of them when *stack* is left."""
    # lazy: the rooms of this option alone
    from portico.cli._trace_view import Live  # noqa: PLC0415
    from portico.transports.bind import parse  # noqa: PLC0415

    live = Live(parse(bind).protocol)
    stack.callback(live.end)
    return live.take


def split_url(url: str, options: list[str]) -> Target:
    """Take URL apart.

    Raises:
        ConfigError: it is none, or an option is no ``NAME=VALUE``.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or not rest:
        raise ConfigError(f"not a URL like scgi://127.0.0.1:4000/path: {url!r}", key="URL")
    if rest.startswith("/"):
        address, colon, target = rest.partition(":/")
        target = f"/{target}" if colon else "/"
        if not colon and "?" in address:
            raise ConfigError(
                "a Unix socket's path ends with a colon before the path to ask for:"
                " fastcgi+unix:///run/app.sock:/path?x=1",
                key="URL",
            )
    else:
        end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        address, target = rest[:end], rest[end:]
        if not target.startswith("/"):
            target = f"/{target}"
    if any(c <= " " or c >= "\x7f" for c in target):
        raise ConfigError("the path and query are percent-encoded ASCII without blanks", key="URL")
    pairs = [_pair(option, "--option") for option in options]
    query = "&".join(
        f"{name}={quote(value, safe='/', encoding='latin-1')}" for name, value in pairs
    )
    return Target(f"{scheme}://{address}" + (f"?{query}" if query else ""), target)


def make_environ(arguments: argparse.Namespace, where: Target, size: int | None) -> dict[str, str]:
    """Build the parameters that a web server would send (RFC 3875 §4.1).

    Args:
        arguments: The command line's.
        where: The URL.
        size: Octets of the body; None without one.

    Raises:
        ConfigError: a header or parameter is malformed.
    """
    target = where.target.partition("#")[0]
    method = arguments.method or ("GET" if size is None else "POST")
    if not is_token(method):
        raise ConfigError(f"not a method: {method!r}", key="--method")
    environ = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": method,
        "REQUEST_URI": target,
        "REQUEST_SCHEME": "http",
        "SCRIPT_NAME": "",
        "PATH_INFO": decode_path(path_of(target)),
        "QUERY_STRING": target.partition("?")[2],
        "DOCUMENT_ROOT": "/",
        "SERVER_NAME": "localhost",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": f"Portico/{__version__}",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": f"portico-request/{__version__}",
        "HTTP_ACCEPT": "*/*",
    }
    if size is not None:
        environ["CONTENT_LENGTH"] = str(size)
        environ["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
    environ.update(_headers(arguments.header))
    for pair in arguments.env:
        name, value = _pair(pair, "--env")
        environ[name] = value
    return environ


def _headers(lines: list[str]) -> dict[str, str]:
    """Turn headers into parameters; repeats are joined."""
    params: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = _latin(value.strip(" \t"))
        if not colon or not is_token(name) or any(c in "\r\n\0" for c in value):
            raise ConfigError(f"not a header like 'Name: value': {line!r}", key="--header")
        key = f"HTTP_{name.upper().replace('-', '_')}"
        key = _OWN_NAMES.get(key, key)
        mark = "; " if key == "HTTP_COOKIE" else ", "
        params[key] = f"{params[key]}{mark}{value}" if key in params else value
    return params


def _pair(text: str, flag: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``."""
    name, mark, value = text.partition("=")
    if not mark or not (name.isascii() and name.replace("_", "a").isalnum()):
        raise ConfigError(f"not NAME=VALUE: {text!r}", key=flag)
    if "\0" in value:
        raise ConfigError(f"{name} holds a NUL", key=flag)
    return name, _latin(value)


def _latin(text: str) -> str:
    """Give the octets that were typed, one character each, as parameters are (PEP 3333)."""
    return os.fsencode(text).decode("latin-1")


def _open_body(data: str | None) -> tuple[bytes | BinaryIO, int | None]:
    """Give the body and its octets; None without one."""
    if data is None:
        return b"", None
    if not data.startswith("@"):
        body = os.fsencode(data)
        return body, len(body)
    if data == "@-":
        return _spool(sys.stdin.buffer)
    try:
        file = open(data[1:], "rb")  # noqa: SIM115, PTH123 - the caller closes it; "-" aside, a plain path
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file, os.fstat(file.fileno()).st_size
        with file:
            return _spool(file)
    except OSError as exc:
        raise ConfigError(f"cannot read {data[1:]}: {exc.strerror}", key="--data") from exc


def _spool(source: BinaryIO) -> tuple[BinaryIO, int]:
    """Read what has no length of its own, since most protocols need one."""
    spool = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(source, spool)
    size = spool.tell()
    spool.seek(0)
    return cast("BinaryIO", spool), size


def _print(exchange: Exchange, *, head: bool) -> None:
    """Print the response as it comes, raw, and the backend's error stream aside."""
    out = sys.stdout.buffer
    if head:
        lines = [exchange.status, *(f"{name}: {value}" for name, value in exchange.headers), "", ""]
        out.write("\r\n".join(lines).encode("latin-1"))
        out.flush()
    try:
        _print_stderr(exchange.take_stderr())
        for block in exchange:
            out.write(block)
            out.flush()
            _print_stderr(exchange.take_stderr())
    finally:
        _print_stderr(exchange.take_stderr())
    if exchange.app_status:  # 0 is the normal value (FastCGI 1.0 §5.5)
        print(f"appStatus: {exchange.app_status}", file=sys.stderr)


def _print_stderr(text: str) -> None:
    for line in text.splitlines():
        print(f"stderr: {line}", file=sys.stderr)
