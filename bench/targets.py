"""What a run should show, as data, and whether it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import figures

if TYPE_CHECKING:
    from figures import Results


class Target(NamedTuple):
    """One cell of the table of aims.

    Attributes:
        case: Of which case; ``memory`` for what the processes take after all of the load, ``cgi``
            for the start of a CGI process, whose figure is milliseconds over a bare interpreter.
        ours: Which Portico.
        peer: Against whom; empty for a figure that stands for itself.
        cpu: At most this part of the peer's CPU time a request, or of its memory; 0 for no aim.
        rate: At least so many times the peer's requests a second, or so many of them; 0 for none.
    """

    case: str
    ours: str
    peer: str
    cpu: float
    rate: float


def _all() -> list[Target]:
    found = []
    for case in ("hello", "page"):
        found += [
            Target(case, "portico_fastcgi", "uwsgi_fastcgi", 1.0, 1.2),
            Target(case, "portico_scgi", "uwsgi_scgi", 1.1, 1.0),
            Target(case, "portico_uwsgi", "uwsgi_uwsgi", 1.25, 0.95),
        ]
    found += [
        Target("hello", "portico_fastcgi", "flup_fastcgi", 0.1, 1.0),
        Target("hello", "portico_scgi", "flup_scgi", 0.1, 1.0),
        Target("hello", "portico_fastcgi", "gunicorn_http", 0.1, 1.0),
        Target("hello", "portico_scgi", "gunicorn_http", 0.1, 1.0),
        Target("hello", "portico_uwsgi", "gunicorn_http", 0.1, 1.0),
        Target("hello", "portico_uwsgi", "gunicorn_uwsgi", 0.2, 1.0),
        Target("hello", "portico_ajp", "flup_ajp", 1 / 6, 1.0),
        Target("hello", "portico_ajp", "tomcat_ajp", 1.5, 1.0),
    ]
    found += [
        Target(case, "portico_fastcgi", "uwsgi_fastcgi", 1.2, 1.0)
        for case in ("body", "chunks", "upload")
    ]
    found.append(Target("sleep", "portico_fastcgi", "", 0, 310))
    found += [
        Target("memory", f"portico_{protocol}", f"uwsgi_{protocol}", 1.0, 0)
        for protocol in ("fastcgi", "scgi", "uwsgi")
    ]
    found.append(Target("cgi", "portico", "", 1.5, 0))
    return found


TARGETS = _all()


class Verdict(NamedTuple):
    """One aim, and what came of it; a figure that there is not is None."""

    target: Target
    cpu: float | None
    rate: float | None

    def words(self) -> tuple[str, str]:
        """Say for CPU time (or memory) and rate: met, or by how much it is missed."""
        return (
            _word(self.cpu, self.target.cpu, least=False),
            _word(self.rate, self.target.rate, least=True),
        )


def _word(value: float | None, aim: float, *, least: bool) -> str:
    if not aim:
        return ""
    if value is None:
        return "no figure"
    if value >= aim if least else value <= aim:
        return "met"
    by = abs(value / aim - 1)
    return f"missed by {by:.0%}" if by >= 0.01 else f"missed by {by:.1%}"


def verdict(results: Results, target: Target) -> Verdict:
    """Hold *results* against one aim."""
    case, ours, peer = target[:3]
    if case == "memory":
        mine, other = figures.memory(results, ours), figures.memory(results, peer)
        return Verdict(target, mine / other if mine and other else None, None)
    if case == "cgi":
        over = figures.cgi_over_bare(results, ours)
        return Verdict(target, over.median if over else None, None)
    if not peer:
        rate = figures.figure(results, case, ours, "rate")
        return Verdict(target, None, rate.median if rate else None)
    cpu = figures.ratio(results, case, ours, peer, "cpu")
    rate = figures.ratio(results, case, ours, peer, "rate")
    return Verdict(target, cpu.median if cpu else None, rate.median if rate else None)


def verdicts(results: Results) -> list[Verdict]:
    """Hold *results* against every aim."""
    return [verdict(results, target) for target in TARGETS]


def headings() -> list[str]:
    """Give the headings of `rows`."""
    return ["case", "Portico", "against", "CPU", "aim", "", "requests/s", "aim", ""]


def rows(results: Results) -> list[list[str]]:
    """Give the table of aims: a row each, a cell a word or number."""
    found = []
    for one in verdicts(results):
        target = one.target
        words = one.words()
        cells = [target.case, target.ours, target.peer or "-"]
        unit = {"memory": " of memory", "cgi": " ms"}.get(target.case, "")
        cells += _cells(one.cpu, target.cpu, words[0], unit, "at most")
        cells += _cells(one.rate, target.rate, words[1], "", "at least")
        found.append(cells)
    return found


def _cells(value: float | None, aim: float, word: str, unit: str, bound: str) -> list[str]:
    if not aim:
        return ["", "", ""]
    shown = "-" if value is None else f"{value:.3g}{unit}"
    return [shown, f"{bound} {aim:.3g}", word]
