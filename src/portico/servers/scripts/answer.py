"""What a script that ran as CGI has answered, and what is wrong with that."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from portico.errors import RemoteProtocolError
from portico.head import find_end, parse
from portico.servers.scripts.findings import Finding, found
from portico.servers.scripts.process import MOST_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.servers.scripts.process import Ended
    from portico.servers.scripts.source import Source

_TRACEBACK = "Traceback (most recent call last):"

#: The last line of a traceback. Those of Portico's own that wrap another are passed over.
_ERROR = re.compile(r"^(?!portico\.errors\.)([A-Za-z_][\w.]*)(?:: (.*))?$", re.MULTILINE)
_MODULE = re.compile(
    r"^ModuleNotFoundError: No module named '([^']+)'|there is no module '([^']+)' here",
    re.MULTILINE,
)
#: What `portico.run` logs where the application that a text names cannot be loaded.
_NOT_LOADED = re.compile(r"^portico: error \w+: application (.*)$", re.MULTILINE)

_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:|HTTP/\d")

#: Octets that are shown of an output.
_SHOWN = 60

#: Statuses without a body.
_BODILESS = {"204", "304"}


def judge(ended: Ended, source: Source, request: tuple[str, str], seconds: float) -> list[Finding]:
    """Tell what is wrong with a run; empty for a good answer.

    Args:
        ended: The run.
        source: What the script seems to be.
        request: Method and target of the sample request.
        seconds: How long it had.
    """
    words = ended.words
    if ended.hung:
        return [found("hangs", seconds=seconds, detail=words)]
    if ended.flooded:
        return [found("endless-output", most=MOST_OUTPUT, detail=words)]
    if not ended.out:
        return [_without_answer(ended, source)]
    first = ended.out.partition(b"\n")[0]
    if not _HEADER.match(first):
        shown = shorten(ended.out)
        return [found("output-before-head", first=shown, where="it", detail=words)]
    return list(_faults_of_response(ended.out, request, words))


def error_of(words: str) -> str:
    """Name the error that the last traceback in *words* ends in; empty where there is none."""
    _, mark, below = words.rpartition(_TRACEBACK)
    if not mark:
        return ""
    match = _ERROR.search(below)
    return match[0].strip()[:300] if match else "an error"


def missing_module(words: str) -> str:
    """Name the module that could not be found; empty where that was not the matter."""
    matches = _MODULE.findall(words)
    return str("".join(matches[-1])) if matches else ""


def failure(words: str, otherwise: Finding) -> Finding:
    """Tell a failure by its traceback, where there is one."""
    reasons = _NOT_LOADED.findall(words)
    if reasons:
        return found("not-loaded", reason=reasons[-1], detail=words)
    error = error_of(words)
    if not error:
        return otherwise
    of_import = error.startswith(("ImportError", "ModuleNotFound"))
    return found("import-error" if of_import else "raises", error=error, detail=words)


def shorten(data: bytes) -> str:
    """Show the first octets of an output."""
    text = data[:_SHOWN].decode("utf-8", "backslashreplace")
    return repr(text) + (" ..." if len(data) > _SHOWN else "")


def _without_answer(ended: Ended, source: Source) -> Finding:
    if ended.status < 0:
        name = signal.Signals(-ended.status).name
        return found("killed", signal=name, detail=ended.words)
    if source.defines and not source.serves and not error_of(ended.words):
        return found("defines-only", name=source.defines, detail=ended.words)
    return failure(ended.words, found("no-output", status=ended.status, detail=ended.words))


def _faults_of_response(out: bytes, request: tuple[str, str], words: str) -> Iterator[Finding]:
    ends = find_end(out)
    if ends is None:
        yield found("bad-head", reason="no empty line ends it", detail=shorten(out))
        return
    try:
        status, headers = parse(out[: ends[0]])
    except RemoteProtocolError as error:
        yield found("bad-head", reason=error, detail=words)
        return
    fields = {name.lower(): value for name, value in headers}
    if status[:1] == "5":
        method, target = request
        plain = found("server-error", status=status, method=method, target=target, detail=words)
        yield failure(words, plain) if _NOT_LOADED.search(words) else plain
        return
    if not fields.keys() & {"content-type", "location"} and status[:3] not in _BODILESS:
        yield found("no-content-type", detail=words)
    length, body = fields.get("content-length", ""), out[ends[1] :]
    if not length.isdecimal() or request[0] == "HEAD" or status[:3] in _BODILESS:
        return
    more = len(body) - int(length)
    if more > 0:
        yield found(
            "output-after-body", count=more, first=shorten(body[int(length) :]), detail=words
        )
    elif more < 0:
        yield found("body-too-short", count=len(body), length=length, detail=words)
