"""What a run should show, as data, and whether it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import figures

if TYPE_CHECKING:
    from figures import Results


class Target(NamedTuple):
    """One cell of the table of aims.

    Attributes:
        case: Of which case; ``memory`` for what the processes take after all of the load.
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
    return f"missed by {abs(value / aim - 1):.0%}"


def verdict(results: Results, target: Target) -> Verdict:
    """Hold *results* against one aim."""
    case, ours, peer = target[:3]
    if case == "memory":
        mine, other = figures.memory(results, ours), figures.memory(results, peer)
        return Verdict(target, mine / other if mine and other else None, None)
    if not peer:
        rate = figures.figure(results, case, ours, "rate")
        return Verdict(target, None, rate.median if rate else None)
    cpu = figures.ratio(results, case, ours, peer, "cpu")
    rate = figures.ratio(results, case, ours, peer, "rate")
    return Verdict(target, cpu.median if cpu else None, rate.median if rate else None)


def verdicts(results: Results) -> list[Verdict]:
    """Hold *results* against every aim."""
    return [verdict(results, target) for target in TARGETS]


def table(results: Results) -> str:
    """Give the table of aims, as text."""
    lines = [f"{'case':8}{'Portico':17}{'against':17}{'CPU (memory)':>14}{'aim':>7}  {'':16}"
             f"{'requests/s':>12}{'aim':>7}"]  # fmt: skip
    for found in verdicts(results):
        target = found.target
        words = found.words()
        line = f"{target.case:8}{target.ours:17}{target.peer or '-':17}"
        line += _pair(found.cpu, target.cpu, words[0], 14)
        line += _pair(found.rate, target.rate, words[1], 12)
        lines.append(line.rstrip())
    return "aims\n" + "\n".join(lines) + "\n"


def _pair(value: float | None, aim: float, word: str, width: int) -> str:
    digits = 0 if aim > 10 else 2
    shown = "-" if value is None else f"{value:.{digits}f}"
    wanted = f"{aim:.{digits}f}" if aim else ""
    return f"{shown if aim else '':>{width}}{wanted:>7}  {word:16}"
