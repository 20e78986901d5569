"""One turn of load on one server: what it costs, and that every answer was right."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cases import IDLE, SLEEPING, UPLOAD, Case
from field import Field, say
from idle import IdleConnections
from load import Expected, Load, Sample, WrongAnswer, ask, digest_of
from machinery import cpu_seconds, memory

if TYPE_CHECKING:
    import argparse

    from contestants import Contestant

Row = dict[str, float]

#: A fast load beside a slow one starts so many seconds later, and ends as much sooner.
_LEAD_SECONDS = 0.5


class Turns:
    """All turns of one case on one field."""

    def __init__(self, field: Field, case: Case, connections: int) -> None:
        self._field = field
        self._case = case
        self._connections = connections
        self._body = case.body()

    def run(self, one: Contestant, seconds: int) -> Row:
        """Give one server its load and look what it costs.

        Raises:
            WrongAnswer: an answer was not what it should be.
        """
        case = self._case
        seconds = max(seconds, case.seconds)
        root = self._field.roots[one.name]
        with ExitStack() as stack:
            size = self._check(one)
            idle = stack.enter_context(self._idle(one)) if case.kind == "idle" else None
            before = cpu_seconds(root)
            if case.kind == "mix":
                fast, slow = self._beside_slow(one, size, seconds)
            else:
                fast, slow = (
                    self._load(one, case.path, self._connections, seconds).finish(size),
                    None,
                )
            used = cpu_seconds(root) - before
            if idle:
                idle.check(IDLE // 20)
            self._check(one)
        return self._row(used, fast, slow)

    def _row(self, used: float, fast: Sample, slow: Sample | None) -> Row:
        requests = fast.requests + (slow.requests if slow else 0)
        row: Row = {
            "cpu": used / requests * 1e6,
            "rate": fast.rate,
            "p50": fast.p50 / 1000,
            "p99": fast.p99 / 1000,
            "requests": fast.requests,
        }
        if slow:
            row["slow_rate"] = slow.rate
        if self._case.large:
            row["mib"] = fast.rate * len(UPLOAD) / 1_048_576
        return {key: round(value, 3) for key, value in row.items()}

    def _load(self, one: Contestant, path: str, connections: int, seconds: int) -> Load:
        url = f"http://127.0.0.1:{self._field.front(one)}/{one.name}/{path}"
        return Load(
            url, self._field.directory,
            connections=connections, seconds=seconds, post=self._case.post,
        )  # fmt: skip

    def _beside_slow(self, one: Contestant, size: int, seconds: int) -> tuple[Sample, Sample]:
        port = self._field.front(one)
        slow_size = ask(port, f"/{one.name}/sleep", Expected(one.name, self._body))
        slow = self._load(one, "sleep", SLEEPING, seconds + 1)
        try:
            time.sleep(_LEAD_SECONDS)
            fast = self._load(one, self._case.path, self._connections, seconds).finish(size)
        finally:
            slow_sample = slow.finish(slow_size)
        return fast, slow_sample

    def _idle(self, one: Contestant) -> IdleConnections:
        gateway = self._field.gateways.get(one.name, 0) if one.holds else 0
        ports = (self._field.front(one), gateway)
        return IdleConnections(one, f"/{one.name}/{self._case.path}", self._body, ports, IDLE)

    def _check(self, one: Contestant) -> int:
        """Compare one full answer; gives its octets.

        Raises:
            WrongAnswer: it differs.
        """
        case = self._case
        port = self._field.front(one)
        content = UPLOAD if case.post else None
        if case.post:
            digest = Expected(one.name, digest_of(UPLOAD))
            ask(port, f"/{one.name}/digest", digest, content)
        return ask(port, f"/{one.name}/{case.path}", Expected(one.name, self._body), content)


def measure(field: Field, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds of one case."""
    taking = [one for one in field.running if case.suits(one)]
    unable = {one.name: one.unable[case.name] for one in taking if case.name in one.unable}
    taking = [one for one in taking if one.name not in unable]
    connections = case.connections or options.connections
    turns = Turns(field, case, connections)
    rows: dict[str, list[Row]] = {one.name: [] for one in taking}
    refused: dict[str, str] = {}
    for number in range(options.rounds + 1):
        order = [one for one in taking if one.name not in refused]
        random.Random(f"{case.name} {number}").shuffle(order)  # noqa: S311 - the same in each run
        began = time.monotonic()
        for one in order:
            try:
                row = turns.run(one, options.seconds if number else one.warm_seconds)
            except WrongAnswer as exc:
                refused[one.name] = str(exc)
                say(f"  {case.name}: no figure for {one.name}: {exc}")
                continue
            if number:  # the first round only warms up
                rows[one.name].append(row)
        took = time.monotonic() - began
        say(f"  {case.name}: round {number} of {options.rounds}, {took:.0f} s")
    return {
        "title": case.title,
        "connections": connections,
        "large": case.large,
        "rounds": {name: found for name, found in rows.items() if name not in refused},
        "refused": refused,
        "unable": unable,
        "memory": {
            one.name: round(memory(field.roots[one.name])[0], 2)
            for one in taking
            if one.name not in refused
        },
    }
