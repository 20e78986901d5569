"""The relay: offers the one request of a CGI process to resident servers, one after the other."""

import _socket
import os
import sys

from portico.warm import Died, Trouble
from portico.warm.exchange import Exchange, encode_head, say
from portico.warm.seat import Seat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Servers that one request is offered to: each may be killed at any moment, or leave.
_MOST_SERVERS = 8

#: Methods whose request may be repeated where a server died over it (RFC 9110 §9.2.1).
_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})

#: Stands for the length of a body that goes on to the end of file; longer than any other.
_TO_THE_END = 1 << 62


def relay(
    spec: str,
    script: str,
    *,
    directory: str,
    options: str,
    reside: "Callable[[Seat, int], None]",
) -> "int | None":
    """Have the request of this process answered by a resident server.

    Args:
        spec: The application, as a text.
        script: Full path of the script.
        directory: Where the socket lies: private to the user, made if it is missing; empty for one
            of the user's own below the system's directory for temporary files.
        options: All else that a server is started with, as text.
        reside: Becomes the resident server, in a process of its own; does not return before that
            ends.

    Returns:
        The process's exit status; None where the request has not been touched and is to be served
        as plain CGI.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:  # plain CGI knows what to do
            return None
    try:
        _check_system()
        length = _body_length()
        if length is None:  # it answers 400
            return None
        _flush_stdout()
        seat = Seat(spec, script, directory, options)
        return _offer(seat, length, reside)
    except Trouble as trouble:
        text = str(trouble)
    except OSError as error:
        text = (error.strerror or str(error)) + (f": {error.filename}" if error.filename else "")
    except Died:
        text = f"{_MOST_SERVERS} resident servers ended before they took it"
    say(f"portico: warm CGI: {text}; this request is served as plain CGI\n")
    return None


def _offer(seat: "Seat", length: int, reside: "Callable[[Seat, int], None]") -> int:
    """Offer the request to one server after the other.

    Raises:
        Trouble: there is no server to be had.
        Died: as many as may be have died or left.
        OSError: the system refuses what it takes.
    """
    head = encode_head(seat.identity, end=not length)
    repeatable = not length and os.environb.get(b"REQUEST_METHOD") in _SAFE
    for _ in range(_MOST_SERVERS):
        connection = seat.connect()
        if connection is None:
            from portico.warm import start  # noqa: PLC0415 - lazy: most requests find a server

            connection = start.reach(seat, reside)
        exchange = Exchange(connection, length)
        try:
            exchange.begin(seat, head)
            return exchange.relay()
        except Died as death:
            if death.began and not (repeatable and not exchange.answered):
                return _cut_off(exchange)
        finally:
            connection.close()
    raise Died


def _cut_off(exchange: "Exchange") -> int:
    """End a request whose response broke off and that must not be repeated."""
    if exchange.cut:
        say(f"portico: 499: the body ended {exchange.cut} bytes before its CONTENT_LENGTH\n")
        return 1
    say("portico: warm CGI: the response broke off: its application failed, or was ended\n")
    if not exchange.answered:
        exchange.fail(b"502 Bad Gateway", b"The application was ended before it could answer.\n")
    return 1


def _check_system() -> None:
    """Make sure that it is one whose sockets tell who is behind them, as Linux's do.

    Raises:
        Trouble: it is another.
    """
    if not hasattr(_socket, "SO_PEERCRED"):
        raise Trouble("this system does not tell who is behind a socket")


def _flush_stdout() -> None:
    """Let what the script has printed go to standard error: standard output is the wire."""
    if sys.stdout is not None:
        wire = os.dup(1)
        os.dup2(2, 1)
        sys.stdout.flush()
        os.dup2(wire, 1)
        os.close(wire)


def _body_length() -> "int | None":
    """Tell how many octets of standard input are the body; None where plain CGI answers 400.

    Spec: RFC 3875 §4.2.
    """
    text = os.environb.get(b"CONTENT_LENGTH", b"")
    if not text:
        # Apache's mod_cgid passes a chunked upload decoded, without a length, to its end of file.
        coding = os.environb.get(b"HTTP_TRANSFER_ENCODING", b"").lower()
        return _TO_THE_END if b"chunked" in coding else 0
    return int(text) if text.isdigit() and len(text) < 19 else None
