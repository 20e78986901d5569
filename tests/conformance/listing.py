"""The machinery of the conformance list: a case, the list, what checks share."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conformance.applications import pattern
from conformance.route import DEADLINE, Reply, Request, Route

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What a front may be unable to do: flag -> what the cases that need it rely on.
FLAGS = {
    "encoded-slash": "%2F in a path reaches the application (Apache answers 404)",
    "double-slash": "slashes in a row are kept (nginx, Apache and lighttpd merge them)",
    "empty-path": "the bare mount point has an empty PATH_INFO (some send a slash)",
    "exact-target": "REQUEST_URI is the target as the client sent it",
    "repeated-headers": "repeated request headers arrive joined (fcgiwrap keeps the first)",
    "authorization": "Authorization reaches the application (Apache's CGI hides it)",
    "latin-1": "header values beyond ASCII pass unchanged, both ways",
    "odd-methods": "methods that no standard knows pass",
    "get-body": "a GET may have a body (lighttpd answers 400)",
    "chunked": "uploads without a length reach the application (SCGI and uwsgi cannot tell one)",
    "expect": "100 Continue is sent when the client waits for it",
    "keep-alive": "the client's connection is kept after a response of known framing",
    "unread": "a client's connection is kept after a body that nobody read",
    "reason": "the reason phrase of an unknown status passes",
    "streams": "each block reaches the client before the next is made",
    "early-output": "a response may begin while the request's body is being sent",
    "shows-cut": "a response that broke off without a length looks broken off",
    "abort": "the application learns within seconds that the client is gone",
    "bodiless-205": "205 passes",
    "http-1.0": "HTTP/1.0 without Host is served",
    "sized": "Content-Length of a response passes to the client (Apache is told to let it pass)",
}


@dataclass(frozen=True)
class Case:
    """One line of the list.

    Attributes:
        name: Unique; becomes the test's id.
        app: Name in `applications`; the first segment of the path.
        check: Raises `AssertionError`; gets the reply and the route that it came over.
        rest: Target behind the application's name, encoded, with its query.
        request: What else the client sends.
        needs: Flags without which the case is left out.
        otherwise: Replaces `check` on routes that lack a needed flag.
        slow: Whether it moves tens of megabytes.
    """

    name: str
    app: str
    check: Callable[[Reply, Route], None]
    rest: str = ""
    request: Request = field(default_factory=Request)
    needs: tuple[str, ...] = ()
    otherwise: Callable[[Reply, Route], None] | None = None
    slow: bool = False

    @property
    def target(self) -> str:
        return (f"/{self.app}" if self.app else "") + self.rest

    def run(self, route: Route) -> None:
        """Send the request over *route* and check the reply."""
        lacking = any(flag in route.lacks for flag in self.needs)
        check = self.otherwise if lacking and self.otherwise else self.check
        check(route.ask(asking(self.target, self.request)), route)


CASES: list[Case] = []


def cases_for(lacks: dict[str, str]) -> list[Case]:
    """The cases for a route that lacks *lacks*; those that need a lacking flag are left out."""
    assert lacks.keys() <= FLAGS.keys(), "an unknown flag"
    assert all(lacks.values()), "a flag without its reason"
    return [
        case for case in CASES if case.otherwise or not any(flag in lacks for flag in case.needs)
    ]


def case(name, app, rest="", *, needs=(), otherwise=None, slow=False, **request):
    """Put the decorated check on the list."""

    def add(check):
        made = Case(name, app, check, rest, Request(**request), tuple(needs), otherwise, slow)
        assert set(needs) <= FLAGS.keys(), name
        assert all(other.name != name for other in CASES), name
        CASES.append(made)
        return check

    return add


def asking(target: str, request: Request | None = None, **more) -> Request:
    """*request* for *target*."""
    given = {} if request is None else dict(vars(request))
    return Request(**{**given, "target": target, **more})


def told(reply: Reply) -> dict:
    """What an application reported as JSON."""
    assert (reply.code, reply.complete) == (200, True), reply
    return json.loads(reply.body)


def journal(route: Route, name: str) -> tuple[Path, tuple[tuple[str, str], ...]]:
    """A fresh journal, and the header that tells an application of it."""
    path = route.journals / f"{name}-{time.monotonic_ns()}"
    path.touch()
    path.chmod(0o666)  # the application may run as somebody else
    return path, (("X-Journal", str(path)),)


def wait_until_noted(path: Path, text: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while text not in path.read_text("ascii").splitlines():
        assert time.monotonic() < deadline, f"{text!r} was never noted"
        time.sleep(0.01)


def is_plain_500(reply: Reply, route: Route) -> None:
    assert reply.code == 500
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body
    assert reply.complete
    assert route.ask(Request("/env")).code == 200, "the next request suffers"


def refused(code: int) -> Callable[[Reply, Route], None]:
    """A check for a front that answers *code* itself."""

    def check(reply: Reply, route: Route) -> None:
        assert (reply.code, reply.complete) == (code, True)
        assert route.ask(Request("/env")).code == 200, "the next request suffers"

    return check


def followed(case_reply, route, request):
    """Send *request* and a plain one over one connection; gives the first's reply.

    What a bodiless response leaves behind on the connection shows in the second.
    """
    with route.connect() as connection:
        reply = connection.ask(request)
        if (reply.header("Connection") or "").lower() == "close":
            assert connection.at_end(), "octets behind the response"
        else:
            second = connection.ask(Request("/listed/5"))
            assert (second.code, second.body) == (200, pattern(5))
    assert (reply.code, reply.body) == (case_reply.code, case_reply.body), reply
    return reply
