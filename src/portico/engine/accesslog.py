"""One line for each request: Apache's combined format with more fields behind it, or JSON.

Nothing that a client sends can end a line early, pass for another field, or reach a terminal as a
control character.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

from portico.core.identity import sent_id, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger("portico")

#: Most characters of a target, of other long headers, and of everything else that is repeated.
_MOST_TARGET = 4096
_MOST_HEADER = 1024
_MOST_NAME = 256

#: Seconds between two lines that say that the log cannot be written.
_FAILURE_SECONDS = 60.0

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_ESCAPES = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 256))}
_ESCAPES |= {ord('"'): '\\"', ord("\\"): "\\\\"}
_BARE_ESCAPES = {**_ESCAPES, ord(" "): "\\x20", ord('"'): "\\x22"}


class Entry:
    """What the log says of a request; taken before the application may change the environ.

    Attributes:
        began: When, seconds of the monotonic clock.
        at: The same by the wall clock, Unix seconds.
        fields: Everything that is repeated of the request, as latin-1 text, cut to a bound.
        id: The request's id.
        trace: Trace id and parent id, or two empty texts.
    """

    __slots__ = ("at", "began", "fields", "id", "trace")

    def __init__(self, environ: Mapping[str, Any], name: str) -> None:
        self.began = time.monotonic()
        self.at = time.time()
        get = environ.get
        self.fields = (
            get("REMOTE_ADDR", "")[:_MOST_NAME],
            get("REMOTE_USER", "")[:_MOST_NAME],
            get("REQUEST_METHOD", "")[:_MOST_NAME],
            (get("REQUEST_URI") or get("PATH_INFO", ""))[:_MOST_TARGET],
            get("SERVER_PROTOCOL", "")[:_MOST_NAME],
            get("HTTP_REFERER", "")[:_MOST_HEADER],
            get("HTTP_USER_AGENT", "")[:_MOST_HEADER],
            get("HTTP_HOST", "")[:_MOST_NAME],
            get("portico.protocol", ""),
            get("portico.bind", ""),
        )
        self.id = name
        self.trace = trace_of(environ)


class AccessLog:
    """Writes the lines of one process; used by many threads.

    Args:
        fd: Where to, opened for appending: each line is one write, so processes may share it.
            Stays the caller's.
        form: ``combined`` or ``json``.
    """

    __slots__ = ("_counter", "_failure_at", "_fd", "_format", "_prefix", "_torn")

    def __init__(self, fd: int, form: str) -> None:
        self._fd = fd
        self._format: Callable[[Entry, int, int, float, bool], str] = (
            JsonLines().format if form == "json" else Combined().format
        )
        # of this process alone, which is forked before
        self._prefix = secrets.token_hex(6)
        self._counter = count(1)
        self._failure_at = -inf
        self._torn = False

    def begin(self, environ: dict[str, Any]) -> Entry:
        """Take note of a request, and give it an id, ``portico.request_id``, in *environ*."""
        name = sent_id(environ) or f"{self._prefix}-{next(self._counter):x}"
        environ["portico.request_id"] = name
        return Entry(environ, name)

    def end(self, entry: Entry, status: int, octets: int, *, complete: bool) -> None:
        """Write the line of a request that is done.

        Args:
            entry: What `begin` gave.
            status: Sent to the client; 499 where that was gone.
            octets: Of the body, as far as it was sent.
            complete: Whether all of the response was sent.
        """
        seconds = time.monotonic() - entry.began
        line = self._format(entry, status, octets, seconds, complete)
        data = f"{line}\n".encode("latin-1", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self._complain(error.strerror or str(error))
            return
        self._torn = written != len(data)
        if self._torn:
            self._complain("no room for a whole line")

    def _complain(self, reason: str) -> None:
        """Say that lines are lost, but not for each of them."""
        now = time.monotonic()
        if now - self._failure_at >= _FAILURE_SECONDS:
            self._failure_at = now
            log.error("cannot write the access log: %s; lines are lost", reason)


class Clock:
    """Local times as text, made once a second."""

    __slots__ = ("_known", "_make")

    def __init__(self, make: Callable[[time.struct_time], tuple[str, str]]) -> None:
        self._make = make
        self._known = (-1, ("", ""))

    def read(self, at: float) -> tuple[str, str]:
        """Give what was made of the second of *at*, Unix seconds."""
        second = int(at)
        known = self._known  # one object, so that no thread sees half of another's
        if known[0] != second:
            self._known = known = (second, self._make(time.localtime(second)))
        return known[1]


def _zone(moment: time.struct_time) -> tuple[str, str]:
    """Give the offset of local time as hours, signed, and minutes."""
    minutes = moment.tm_gmtoff // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02}", f"{abs(minutes) % 60:02}"


# -- combined ------------------------------------------------------------------------------


class Combined:
    """Apache's combined format, and behind it six fields, told apart by spaces.

    Those are the duration in microseconds, the protocol, the worker's process id, the request's
    id, the trace id, and ``X`` where the response was cut.
    """

    __slots__ = ("_clock", "_worker")

    def __init__(self) -> None:
        self._worker = os.getpid()
        self._clock = Clock(_combined_time)

    def format(
        self,
        entry: Entry,
        status: int,
        octets: int,
        seconds: float,
        complete: bool,  # noqa: FBT001 - called once a request, positional for speed
    ) -> str:
        """Give the line without its end."""
        remote, user, method, target, version, referer, agent, _, protocol, _ = entry.fields
        moment, _ = self._clock.read(entry.at)
        request = f"{method} {target} {version}" if method else "-"
        return (
            f"{_bare(remote)} - {_bare(user)} [{moment}]"
            f' "{_quoted(request)}" {status} {octets or "-"}'
            f' "{_quoted(referer) or "-"}" "{_quoted(agent) or "-"}"'
            f" {round(seconds * 1e6)} {_bare(protocol)} {self._worker}"
            f" {entry.id} {entry.trace[0] or '-'} {'-' if complete else 'X'}"
        )


def _combined_time(moment: time.struct_time) -> tuple[str, str]:
    # strftime would name months in the locale's language
    hours, minutes = _zone(moment)
    day = f"{moment.tm_mday:02}/{_MONTHS[moment.tm_mon - 1]}/{moment.tm_year:04}"
    return f"{day}:{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} {hours}{minutes}", ""


def _quoted(text: str) -> str:
    """Escape what stands between quotation marks."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_ESCAPES)


def _bare(text: str) -> str:
    """Escape a field that ends with a space; ``-`` stands for nothing."""
    return text.translate(_BARE_ESCAPES) if text else "-"


# -- JSON lines ----------------------------------------------------------------------------


class JsonLines:
    """One JSON object a line, in ASCII."""

    __slots__ = ("_clock", "_encode", "_worker")

    def __init__(self) -> None:
        from json.encoder import encode_basestring_ascii  # noqa: PLC0415 - 4 ms for this alone

        self._worker = os.getpid()
        self._clock = Clock(_json_time)
        self._encode = encode_basestring_ascii

    def format(
        self,
        entry: Entry,
        status: int,
        octets: int,
        seconds: float,
        complete: bool,  # noqa: FBT001 - as above
    ) -> str:
        """Give the line without its end."""
        remote, user, method, target, version, referer, agent, host, protocol, bind = entry.fields
        trace, parent = entry.trace
        moment, zone = self._clock.read(entry.at)
        q = self._quote
        # json.dumps of a dict makes an encoder each time: 3.0 µs against 2.3
        text = (
            f'{{"time":"{moment}.{int(entry.at % 1 * 1000):03}{zone}"'
            f',"remote":{q(remote)},"user":{q(user)}'
            f',"method":{q(method)},"target":{q(target)},"http":{q(version)}'
            f',"status":{status},"octets":{octets},"duration_ms":{seconds * 1000:.3f}'
            f',"referer":{q(referer)},"agent":{q(agent)},"host":{q(host)}'
            f',"protocol":{q(protocol)},"bind":{q(bind)},"worker":{self._worker}'
            f',"id":{q(entry.id)},"trace":{q(trace)},"parent":{q(parent)}'
            f',"aborted":{"true" if status == 499 else "false"}'
            f',"complete":{"true" if complete else "false"}}}'
        )
        return text.replace("\x7f", "\\u007f")  # the one control character that JSON lets pass

    def _quote(self, octets: str) -> str:
        """Write latin-1 text as the JSON of the UTF-8 that it most often is; null for nothing."""
        if not octets.isascii():
            octets = octets.encode("latin-1", "replace").decode("utf-8", "backslashreplace")
        return self._encode(octets) if octets else "null"


def _json_time(moment: time.struct_time) -> tuple[str, str]:
    hours, minutes = _zone(moment)
    day = f"{moment.tm_year:04}-{moment.tm_mon:02}-{moment.tm_mday:02}"
    return f"{day}T{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}", f"{hours}:{minutes}"
