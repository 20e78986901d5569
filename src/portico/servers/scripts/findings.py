"""All that can be found about a script, the most important first.

A web server says "Premature end of script headers" to every one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Kind(NamedTuple):
    """What can be found.

    Attributes:
        sentence: What is so; names in braces are filled in.
        remedy: The one thing to change.
        wrong: Whether the script will not serve everywhere; False for what is only good to know.
    """

    sentence: str
    remedy: str
    wrong: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found about one script.

    Attributes:
        code: Which kind.
        sentence: What is so.
        remedy: The one thing to change.
        wrong: Whether it is wrong, or only good to know.
        detail: What belongs below: a traceback, the first bytes of an output; may be empty.
    """

    code: str
    sentence: str
    remedy: str
    wrong: bool
    detail: str = ""


#: By code, in the order in which they are told: what the system refuses to start, then what the
#: web server refuses, then what the script does wrong.
KINDS = {
    # -- the system cannot start it
    "missing": Kind("there is no file {path}", "write it, or name the right one"),
    "no-file": Kind("{path} is no regular file", "name the script itself"),
    "unreadable": Kind("{path} cannot be read: {reason}", "chmod 755 {path}"),
    "too-large": Kind(
        "{path} has {size} bytes, which is no script",
        "name the script, not the program that it starts",
    ),
    "byte-order-mark": Kind(
        "{path} begins with a byte order mark, so the system does not see its first line",
        "save it as UTF-8 without BOM: sed -i '1s/^\\xef\\xbb\\xbf//' {path}",
    ),
    "crlf-first-line": Kind(
        "the first line ends in CR LF, so the system looks for a program named {program}\\r",
        "save {path} with LF line ends: sed -i 's/\\r$//' {path}",
    ),
    "no-first-line": Kind(
        "{path} does not begin with #! and the path of an interpreter",
        "make the first line #!{wanted}",
    ),
    "relative-interpreter": Kind(
        "the first line names the interpreter {program}, which is no absolute path, and the web"
        " server's working directory is another",
        "make the first line #!{wanted}",
    ),
    "no-interpreter": Kind(
        "there is no program {program}, which the first line names",
        "make the first line #!{wanted}",
    ),
    "no-program-in-path": Kind(
        "the first line looks for {program} by env, and there is none in the PATH of a web server,"
        " {search}",
        "make the first line #!{wanted}",
    ),
    "env-words": Kind(
        "the first line hands env the words {words!r} as one name, since the system does not split"
        " them",
        "make the first line #!{wanted}",
    ),
    "interpreter-not-executable": Kind(
        "{program}, which the first line names, may not be executed", "chmod 755 {program}"
    ),
    "first-line-too-long": Kind(
        "the first line has {size} bytes, and the system reads {most} of them",
        "reach the interpreter by a shorter path, such as a symbolic link in your home directory",
    ),
    "first-line-long": Kind(
        "the first line has {size} bytes; Linux before 5.1 reads 127 of them",
        "if it does not start on the host, reach the interpreter by a shorter path",
        wrong=False,
    ),
    "not-executable": Kind("{path} may not be executed (mode {mode})", "chmod 755 {path}"),
    "noexec": Kind(
        "{path} lies on a file system that is mounted noexec, from where nothing can be started",
        "move it to another file system",
    ),
    # -- the web server cannot reach it, or refuses to start it
    "out-of-reach": Kind(
        "{user} may not pass through {place} (mode {mode}) on the way to {path}",
        "chmod o+x {place}, or move what the web server needs out of it",
    ),
    "not-for-user": Kind("{user} may not {verb} {path} (mode {mode})", "chmod {wanted} {path}"),
    "no-such-user": Kind("there is no user {user} here", "name the web server's user with --user"),
    "writable-file": Kind(
        "{path} may be written by others than its owner (mode {mode}), so suexec refuses it",
        "chmod 755 {path}",
    ),
    "writable-directory": Kind(
        "the directory {path} may be written by others than its owner (mode {mode}), so suexec"
        " refuses what lies in it",
        "chmod 755 {path}",
    ),
    "other-owner": Kind(
        "{path} belongs to {owner} and its directory to {other}, so suexec refuses it",
        "upload it as {other}, or chown {other} {path}",
    ),
    "set-id": Kind(
        "{path} has the set-user or set-group bit (mode {mode}), so suexec refuses it",
        "chmod 755 {path}",
    ),
    # -- the interpreter
    "interpreter-fails": Kind(
        "{program} does not start: {reason}",
        "make the first line #!{wanted}",
    ),
    "interpreter-too-old": Kind(
        "{program} is Python {version}, and Portico needs 3.11 or later",
        "make the first line #!{wanted}",
    ),
    "not-python": Kind(
        "{program} is no Python, so only the answer of the script is looked at",
        "nothing, if it is meant to be so",
        wrong=False,
    ),
    "syntax-error": Kind(
        "line {line} of {path} is no Python for {program}: {reason}",
        "correct the line",
    ),
    "crlf": Kind(
        "{path} has CR LF line ends from line {line} on",
        "save it with LF line ends: sed -i 's/\\r$//' {path}",
        wrong=False,
    ),
    # -- what it does when it is started
    "wrong-environment": Kind(
        "{program} has no module {module}, which the virtual environment {other} has",
        "make the first line #!{other}/bin/python",
    ),
    "no-portico": Kind(
        "{program} has no Portico",
        "{program} -m pip install portico",
    ),
    "no-module": Kind(
        "{program} has no module {module}",
        "install it for that interpreter, or add its directory to sys.path in {path}",
    ),
    "works-elsewhere": Kind(
        "it works in {place} and not in the script's own directory, where a web server starts it",
        "name files by their full path, such as with Path(__file__).parent",
    ),
    "environment-needed": Kind(
        "it works with the environment of this shell and not with that of a web server, which has"
        " no {names}",
        "set it at the top of {path}: os.environ[...] = ...",
    ),
    "not-loaded": Kind(
        "application {reason}",
        "correct what the sentence says, or what the traceback below it ends in",
    ),
    "import-error": Kind(
        "its import raises {error}",
        "correct what the traceback ends in",
    ),
    "hangs": Kind(
        "it gives no whole answer within {seconds:g} seconds",
        "find what it waits for where the stack ends; it must not read more than CONTENT_LENGTH"
        " bytes, nor wait for a terminal",
    ),
    "raises": Kind(
        "it ends by {error} before it answers",
        "correct what the traceback ends in",
    ),
    "killed": Kind(
        "it is ended by signal {signal} before it answers",
        "look for what it loads that is compiled for another machine, or for a limit of the host",
    ),
    "defines-only": Kind(
        "it defines {name} and starts nothing that serves it",
        "add at its end: import portico; portico.run({name})",
    ),
    "no-output": Kind(
        "it ends with status {status} and without output",
        "have it call portico.run(application)",
    ),
    "endless-output": Kind(
        "it writes more than {most} bytes without an end",
        "let the sample request be one with a short answer: --path",
    ),
    "output-before-head": Kind(
        "{first} is written before the head of the response, by {where}",
        "write it to standard error: print(..., file=sys.stderr)",
    ),
    "bad-head": Kind(
        "the head of the response is malformed: {reason}",
        "have portico.run write it",
    ),
    "no-content-type": Kind(
        "the head of the response has neither Content-Type nor Location",
        "let the application send a Content-Type",
    ),
    "output-after-body": Kind(
        "{count} bytes follow the body that Content-Length announces: {first}",
        "write nothing to standard output beside the response",
    ),
    "body-too-short": Kind(
        "the body has {count} bytes and Content-Length announces {length}",
        "let the application announce what it sends",
    ),
    "server-error": Kind(
        "it answers {status} to {method} {target}",
        "read the error output below",
    ),
    "fastcgi-fails": Kind(
        "started with a listening socket on descriptor 0, as a FastCGI script, it gives no answer:"
        " {reason}",
        "have it call portico.run(application)",
    ),
    "no-application": Kind(
        "{path} has no callable application, which Passenger looks for",
        "name it so: application = ...",
    ),
    # -- what stands beside it
    "rewrite-loop": Kind(
        "line {line} of {path} rewrites the script's own address to the script again",
        "put RewriteCond %{{REQUEST_FILENAME}} !-f above it",
    ),
    "fastcgi-handler": Kind(
        "line {line} of {path} has the script started as FastCGI, which it does not speak",
        "AddHandler cgi-script {suffix}, or have it call portico.run(application)",
    ),
    "no-authorization": Kind(
        "{path} does not pass the Authorization header on, so the application sees no login by"
        " HTTP, token or API key",
        'add: SetEnvIf Authorization "^(.+)$" HTTP_AUTHORIZATION=$1',
        wrong=False,
    ),
    "cgi-handler": Kind(
        "line {line} of {path} has the FastCGI script started as CGI, once a request",
        "AddHandler fcgid-script {suffix}, where the host has mod_fcgid",
        wrong=False,
    ),
    "other-program": Kind(
        "it calls neither portico.run nor flup; it seems to be {kind}",
        "nothing, if it is meant to be so",
        wrong=False,
    ),
}

_ORDER = {code: number for number, code in enumerate(KINDS)}

#: Octets of a detail at most.
_MOST_DETAIL = 8192


def found(code: str, /, *, detail: str = "", **values: object) -> Finding:
    """Make a finding of a kind; *values* fill its sentence and its remedy."""
    kind = KINDS[code]
    if len(detail) > _MOST_DETAIL:
        detail = "[...]\n" + detail[-_MOST_DETAIL:]
    return Finding(
        code,
        printable(kind.sentence.format(**values)),
        printable(kind.remedy.format(**values)),
        kind.wrong,
        detail.rstrip(),
    )


def by_importance(findings: list[Finding]) -> list[Finding]:
    """Sort: what is wrong first, then in the order of `KINDS`."""
    return sorted(findings, key=lambda finding: (not finding.wrong, _ORDER[finding.code]))


def printable(text: str) -> str:
    """Escape what would move a terminal's cursor or hide text."""
    return "".join(
        [c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text]
    )
