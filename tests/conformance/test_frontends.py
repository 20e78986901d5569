"""The conformance list over every real web server and route that `portico config` knows.

A route that connects is run twice: as the configuration is printed by default, at the root of
the site and before a Unix socket (AJP: TCP, with a secret); and with ``--stream``, below a path
and before TCP. A route that starts a script is run at the root, and below a path for the cases
that tell where the application is mounted. CGI is run twice as well: plain, and warm.
"""

import pytest

from conformance.applications import pattern
from conformance.cases import CASES, cases_for
from conformance.fronts import lacks
from conformance.listing import journal
from conformance.route import Request
from conformance.running import Running
from portico.servers import catalog

MOST_MEMORY = 60_000_000

#: Beginnings of the names of cases that can tell one mount point from another.
ABOUT_PATHS = ("path-", "query-", "environ-", "redirect-")

#: Name -> product, route, whether the site streams, whether it is warm CGI.
FRONTS = {
    f"{product.name}-{via}{'-warm' if warm else ''}{'-streaming' if streaming else ''}": (
        product.name,
        via,
        streaming,
        warm,
    )
    for product in catalog.PRODUCTS.values()
    for via in product.routes
    for warm in ((False, True) if via == "cgi" else (False,))
    for streaming in (False, True)
}


def starts_script(name):
    product, via, *_ = FRONTS[name]
    return catalog.PRODUCTS[product].routes[via].starts_script


def lacks_of(name):
    product, via, streaming, _ = FRONTS[name]
    return lacks(product, via, streaming=streaming)


def cases_of(name):
    for case in cases_for(lacks_of(name)):
        by_script_below_a_path = starts_script(name) and FRONTS[name][2]
        if not by_script_below_a_path or case.name.startswith(ABOUT_PATHS):
            yield case


def param(name, *values, slow=False):
    marks = [pytest.mark.frontend(FRONTS[name][0])]
    if slow:
        marks.append(pytest.mark.slow)
    identity = "-".join([name, *(value.name for value in values)])
    return pytest.param(name, *values, id=identity, marks=marks)


class Switch:
    """Keeps one web server running, until another is asked for."""

    def __init__(self):
        self.name = ""
        self.running = None

    def to(self, name):
        if name != self.name:
            self.off()
            product, via, streaming, warm = FRONTS[name]
            mount = "/app" if streaming else ""
            self.running = Running(
                product, via, mount, lacks_of(name), streaming=streaming, warm=warm
            )
            self.name = name
        return self.running

    def off(self):
        if self.running is not None:
            running, self.running, self.name = self.running, None, ""
            said = running.said()
            warmed = running.warm is not None and bool(list(running.warm.glob("*.sock")))
            running.stop()
            assert "internal error" not in said
            assert "served as plain CGI" not in said
            assert warmed == (running.warm is not None)


@pytest.fixture(scope="module")
def fronts():
    switch = Switch()
    yield switch
    switch.off()


@pytest.mark.parametrize(
    ("name", "case"),
    [param(name, case, slow=case.slow) for name in FRONTS for case in cases_of(name)],
)
def test_case(fronts, name, case):
    running = fronts.to(name)
    case.run(running.route)
    if running.application is not None:
        assert running.application.most_memory() < MOST_MEMORY


@pytest.mark.parametrize("name", FRONTS)
def test_only_early_output_has_no_check_of_what_happens_instead(name):
    run = set(cases_for(lacks_of(name)))
    left_out = {flag for case in CASES if case not in run for flag in case.needs}
    assert left_out <= {"early-output"}


STALLING = [name for name in FRONTS if "early-output" in lacks_of(name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [param(name) for name in STALLING])
def test_upload_stops_where_the_response_begins(fronts, name):
    """Instead of the cases that need ``early-output``: all but what buffers hold is lost.

    With a response under way, the front stops for good as soon as the application takes no more
    for a moment; how soon it would without being made to, is a race.
    """
    running = fronts.to(name)
    body = pattern(50_000_000)
    path, headers = journal(running.route, "late")
    request = Request("/late_echo", "POST", headers=headers, body=body)
    with running.route.connect() as connection, connection.sending(request) as sender:
        reply = connection.read_head(request)
        connection.wait_until_it_takes_no_more(sender, 1)
        path.write_text("go on\n", "ascii")
        got = 0
        while not connection.is_silent_for(1):
            data = connection.read_some()
            assert data, "the response ended"
            got += len(data)
    assert reply.code == 200
    assert got < len(body)
    assert running.route.ask(Request("/env")).code == 200
