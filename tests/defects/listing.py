"""The defects found by reading other servers, by number; those that cannot exist here, and why.

The numbers are those of the review in which they were found. docs/reference/defects.md is made
of this list and of the names of the tests.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent

#: Origin -> module of its tests, first and last number.
ORIGINS = {
    "flup": ("test_flup", 1, 37),
    "flup6": ("test_flup6", 38, 42),
    "wfastcgi": ("test_wfastcgi", 43, 56),
    "gevent-fastcgi": ("test_gevent_fastcgi", 57, 64),
    "scgi": ("test_scgi", 65, 67),
    "uWSGI": ("test_others", 68, 68),
    "gunicorn": ("test_others", 69, 69),
    "Plack": ("test_others", 70, 70),
    "Go": ("test_others", 71, 71),
}


class Defect(NamedTuple):
    """One defect of another server.

    Attributes:
        wrong: What that server does.
        avoided: How it is avoided here, or why it cannot exist here.
    """

    wrong: str
    avoided: str


DEFECTS = {
    1: Defect(
        "Parameters are parsed record by record, so what follows a cut pair becomes new variables.",
        "Parameters are decoded once their stream has ended, all records joined.",
    ),
    2: Defect(
        "AJP and SCGI servers let anyone connect unless told otherwise.",
        "A TCP bind beyond loopback is refused without `allow`.",
    ),
    3: Defect(
        "AJP knows no secret, and any request attribute becomes an environ key.",
        "The secret is checked; attributes set three parameters, and none that means something.",
    ),
    4: Defect(
        "Line breaks in a status or header split the response.",
        "A control character in a head is the application's error, 500.",
    ),
    5: Defect(
        "Names from the wire reach the environ unfiltered, HTTP_PROXY among them.",
        "Only letters, digits and underscores; own keys are set last; HTTP_PROXY is dropped.",
    ),
    6: Defect(
        "A PATH_INFO made of REQUEST_URI, and every one over AJP, stays percent-encoded.",
        "It is decoded exactly once.",
    ),
    7: Defect(
        "A prefix is taken off within a segment, `/app` off `/application`.",
        "Prefixes match whole segments; a path outside is 404.",
    ),
    8: Defect(
        "Whatever is at a Unix socket's path is deleted, and the umask is changed for its mode.",
        "Only a stale socket is replaced; the file appears with its mode, and goes at the end.",
    ),
    9: Defect(
        "Debug logs go to files of fixed names in a directory that all share.",
        "Logs go to standard error; temporary files have no name.",
    ),
    10: Defect(
        "SCGI takes lengths like `1_0`, allocates what they say, and looks at no order or magic.",
        "Up to ten plain digits, checked against `max_params_bytes` first; both are required.",
    ),
    11: Defect(
        "Reading beyond an SCGI body waits for ever.",
        "Reads end at the body's end.",
    ),
    12: Defect(
        "A connection lost while the application reads leaves threads waiting.",
        "The read raises, and the thread is free.",
    ),
    13: Defect(
        "Multiplexed requests get a thread each without a cap, and bodies are taken in unasked.",
        "`threads` is the cap; a body is read as the application reads it.",
    ),
    14: Defect(
        "An abort sets a flag that nobody looks at.",
        "A read that waits for the body raises at once.",
    ),
    15: Defect(
        "After a request that is not to keep the connection, the peer's closing is awaited.",
        "This side closes, or drains for a bounded time without a thread.",
    ),
    16: Defect(
        "An error of accept ends the server.",
        "A shortage pauses accepting; other errors concern one connection.",
    ),
    17: Defect(
        "select() fails for descriptors beyond 1024, and connections drop.",
        "epoll, kqueue and poll are used.",
    ),
    18: Defect(
        "No wait has a bound, and each idle connection holds a thread.",
        "Every wait has a timeout; idle connections wait in the poller.",
    ),
    19: Defect(
        "Malformed records raise what nobody handles, and the socket stays open.",
        "They are refused with one line in the log, and the connection closes.",
    ),
    20: Defect(
        "The pool of processes never grows, since octets are compared with text.",
        "Workers are processes; on demand, more of them come as requests wait.",
    ),
    21: Defect(
        "An idle server ignores SIGTERM and SIGINT.",
        "A wake-up descriptor ends the wait; the process ends gracefully.",
    ),
    22: Defect(
        "SIGUSR1 ends the parent and leaves its children.",
        "It has the log files opened anew, in all processes, and ends none.",
    ),
    23: Defect(
        "A bind that fails raises a TypeError in place of the reason.",
        "One sentence names the address and what to do.",
    ),
    24: Defect(
        "All exceptions around a job are swallowed, SystemExit too.",
        "Each is reported with its traceback, and ends its request alone.",
    ),
    25: Defect(
        "Signal handlers are installed off the main thread, which fails.",
        "Off the main thread no signals are taken.",
    ),
    26: Defect(
        "FCGI_GET_VALUES is always answered with nothing.",
        "It is answered with all three values.",
    ),
    27: Defect(
        "`readline(n)` gives more than n octets.",
        "It gives n at most.",
    ),
    28: Defect(
        "HEAD, 204 and 304 get a wrong Content-Length, and no length is checked.",
        "They get none that is made up; Content-Length is held to, both ways.",
    ),
    29: Defect(
        "A response that failed half-way ends as if it were complete.",
        "It is cut in the protocol's own way.",
    ),
    30: Defect(
        "An application's error over AJP is answered with status 200.",
        "It is 500 over every protocol.",
    ),
    31: Defect(
        "AJP loses PATCH, chunked bodies and large heads, and always promises reuse.",
        "All are implemented; a head beyond `packet_size` is a 500; reuse is told truly.",
    ),
    32: Defect(
        "An empty SCGI body reads as text.",
        "Every read gives octets.",
    ),
    33: Defect(
        "CGI writes octets to a text stream, and reads text.",
        "Both are the raw descriptors.",
    ),
    34: Defect(
        "The clients fail on Python 3, break beyond 64 KiB, loop on unknown ids, do not stream.",
        "They stream, split parameters, and refuse unknown ids.",
    ),
    35: Defect(
        "Error pages need `cgitb`, which Python has dropped.",
        "No dropped module is used.",
    ),
    36: Defect(
        "Bodies leave in 8 KiB records, three writes each, copied again and again.",
        "Records of 65528 octets in gathered writes, without copies.",
    ),
    37: Defect(
        "`maxRequests` counts connections.",
        "`max_requests` counts requests, on however few connections.",
    ),
    38: Defect(
        "Debugging is on by default: visitors see local variables, with status 200.",
        "It is off by default; errors are a plain 500.",
    ),
    39: Defect(
        "An exception of the application, or a missing SERVER_NAME, gets no answer.",
        "It gets a whole 500; SERVER_NAME is filled in.",
    ),
    40: Defect(
        "An unknown management record ends the connection.",
        "It is answered FCGI_UNKNOWN_TYPE.",
    ),
    41: Defect(
        "The list in FCGI_WEB_SERVER_ADDRS is used up by its first look-up.",
        "It is a tuple of networks.",
    ),
    42: Defect(
        "SCGI and AJP do not import, PATH_INFO keeps SCRIPT_NAME, values must be ASCII.",
        "They import; `mount` splits the path; values are latin-1.",
    ),
    43: Defect(
        "The client's X-Original-URL header becomes PATH_INFO.",
        "No request header has a say in the path.",
    ),
    44: Defect(
        "Tracebacks and output go to FCGI_STDERR, which IIS shows to visitors.",
        "They go to the process's standard error.",
    ),
    45: Defect(
        "SCRIPT_NAME is compared without case and without segments, then cut off.",
        "It is compared exactly, by whole segments.",
    ),
    46: Defect(
        "A configuration file can open a remote debugger's port.",
        "There is no debugger; nothing listens but the binds.",
    ),
    47: Defect(
        "An unknown id, a foreign octet or a cut pair ends the process.",
        "It is discarded, or refused with its connection.",
    ),
    48: Defect(
        "The body is gathered in memory before the application starts.",
        "The application starts with the parameters' end, and pulls the body.",
    ),
    49: Defect(
        "Partial writes are ignored, and the framing breaks.",
        "What is left is written when the peer takes more.",
    ),
    50: Defect(
        "A file watcher ends the process in the middle of requests.",
        "With `--reload` new workers load changed code; the old ones finish what they have.",
    ),
    51: Defect(
        "Each piece of output is followed by an end of STDOUT.",
        "STDOUT ends once, with the response.",
    ),
    52: Defect(
        "An application that starts no response gets half a head, or no end.",
        "The answer is a whole 500.",
    ),
    53: Defect(
        "FCGI_KEEP_CONN, roles and aborts are ignored; a missing PATH_INFO is a KeyError.",
        "All are heeded; PATH_INFO is filled in.",
    ),
    54: Defect(
        "Standard output is replaced for each request, and what is bound to it gets lost.",
        "The streams stay what they are.",
    ),
    55: Defect(
        "A log file that cannot be written stops the start.",
        "One sentence says so at the start; later the file that is open goes on being used.",
    ),
    56: Defect(
        "Errors of imports are hidden, and the module imports on Windows alone.",
        "The error is told as it is; every module imports.",
    ),
    57: Defect(
        "The traceback is the body, or stands behind what was sent.",
        "Neither: a plain 500, or a cut.",
    ),
    58: Defect(
        "A chunk beyond 65535 octets breaks the response.",
        "It is split into records.",
    ),
    59: Defect(
        "FCGI_DATA, or STDIN after its end, ends the reader.",
        "The one is passed over, the other refused.",
    ),
    60: Defect(
        "Parameters, bodies and requests of a connection have no cap.",
        "Each has a ceiling, with an option that the refusal names.",
    ),
    61: Defect(
        "The environ has keys of octets, unknown values are answered, `close` is forgotten.",
        "Text alone; unknown names are left out; `close` is called on every path.",
    ),
    62: Defect(
        "A stale socket blocks the start, workers fail, and an import changes the `os` module.",
        "A stale socket is replaced; imports change nothing; workers that fail are replaced.",
    ),
    63: Defect(
        "Socket buffers of 1024 octets, spooling to disk from 1024 on, two sends a record.",
        "The system's buffers, a spool in memory, one write.",
    ),
    64: Defect(
        "A C extension frees memory that it does not own.",
        "It is pure Python.",
    ),
    65: Defect(
        "It listens on all interfaces by default.",
        "There is no default bind, and such a bind is refused without `allow`.",
    ),
    66: Defect(
        "A bad length ends the worker, and heads are gathered in quadratic time.",
        "It is a 400; an incomplete head is looked at once it can be complete.",
    ),
    67: Defect(
        "A request that finds all workers busy is dropped, and SIGTERM loses requests.",
        "It waits, up to `queue_timeout`; running requests finish.",
    ),
    68: Defect(
        "A pair cut by a record fails, ids are those of the last record, connections close.",
        "Pairs are joined, ids kept apart, connections kept.",
    ),
    69: Defect(
        "The scheme comes from the wire, a bad length is 0, repeats override, lists are exact.",
        "The scheme is HTTPS's; the others are refused; `allow` takes networks.",
    ),
    70: Defect(
        "The socket is made with umask 0, and PATH_INFO is always made of REQUEST_URI.",
        "The file appears with its mode; a PATH_INFO that was sent is kept.",
    ),
    71: Defect(
        "Truncated parameters pass, ids are unbounded, one blocked body stalls the others.",
        "They are refused; ids are capped; each request has its own state.",
    ),
}

#: Numbers without a test: what they are about does not exist here.
ABSENT = frozenset({64})


def origin_of(number: int) -> str:
    """Give the server that a defect was found in."""
    return next(name for name, (_, first, last) in ORIGINS.items() if first <= number <= last)


def find_tests() -> dict[int, list[tuple[str, str]]]:
    """Find the tests by the number in their name: module and name, in their order."""
    found: dict[int, list[tuple[str, str]]] = {}
    for module in dict.fromkeys(module for module, _, _ in ORIGINS.values()):
        for node in ast.parse((HERE / f"{module}.py").read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            number = re.match(r"test_defect_(\d\d)_", node.name)
            found.setdefault(int(number[1]) if number else 0, []).append((module, node.name))
    return found


def table() -> str:
    """Give the table of docs/reference/defects.md."""
    tests = find_tests()
    lines = ["| | found in | defect | here | tests |", "|---|---|---|---|---|"]
    for number, (wrong, avoided) in DEFECTS.items():
        names = "<br>".join(f"`{name}`" for _, name in tests.get(number, []))
        cells = (number, origin_of(number), wrong, avoided, names or "none: it cannot exist")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
