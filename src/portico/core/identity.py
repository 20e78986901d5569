"""What tells one request from another in logs: its id, and its place in a trace.

Spec: W3C Trace Context §3.2 (traceparent), version 00.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_HEX = "0123456789abcdef"
_ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
_MOST_ID = 128

#: Parameters by which a web server names a request, best first.
_ID_NAMES = ("HTTP_X_REQUEST_ID", "REQUEST_ID")


def is_id(text: object) -> bool:
    """Whether *text* can be a request's id: 1 to 128 of letters, digits, ``.``, ``_``, ``-``."""
    # strip() stops at the first other character
    return type(text) is str and 0 < len(text) <= _MOST_ID and not text.strip(_ID_CHARACTERS)


def sent_id(environ: "Mapping[str, object]") -> str:
    """Give the id that the web server sent; empty where it sent none that can be one."""
    for name in _ID_NAMES:
        text = environ.get(name)
        if text is not None and is_id(text):
            return str(text)
    return ""


def trace_of(environ: "Mapping[str, object]") -> "tuple[str, str]":
    """Give trace id and parent id of the request's traceparent; both empty without a valid one."""
    text = environ.get("HTTP_TRACEPARENT")
    if type(text) is not str or len(text) != 55 or text[:3] != "00-":
        return "", ""
    trace, parent = text[3:35], text[36:52]
    if (
        text[35] != "-"
        or text[52] != "-"
        or (trace + parent + text[53:]).strip(_HEX)
        or not trace.strip("0")
        or not parent.strip("0")
    ):
        return "", ""
    return trace, parent


def label(environ: "Mapping[str, object]") -> str:
    """Give what a log line about a request ends with, e.g. `` [request 7f-1]``; may be empty."""
    known = environ.get("portico.request_id")
    name = str(known) if is_id(known) else sent_id(environ)
    trace, parent = trace_of(environ)
    parts = []
    if name:
        parts.append(f"request {name}")
    if trace:
        parts.append(f"trace {trace}, parent {parent}")
    return f" [{', '.join(parts)}]" if parts else ""
