"""Portico and its peers behind one nginx and one Apache, in one run.

Every server of a site runs all the time; the load goes to one after the other, round after round,
in an order that changes, so that a machine whose speed drifts is as unfair to each. CPU time is the
operating system's account of the server's whole process tree. A server that answers anything wrong
gets no figure for that case, and the exit status is 1.

  python bench/serve.py [--quick] [--cases NAME,NAME] [--only NAME,NAME] [--seconds 2] [--rounds 5]
                        [--connections 16] [--against CHECKOUT] [--alone] [--json FILE]

With another checkout of Portico, its servers (before_...) take part as well; with --alone
Portico in one process (alone_...), without a parent and a scoreboard.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import machine
import report
from cases import CASES, UPLOAD, Case
from contestants import Contestant, alone, contestants, counterpart, earlier
from load import Expected, Load, WrongAnswer, ask, digest_of, write_scripts
from machinery import NotStarted, cpu_seconds, find, free_port, memory, nginx_place, start
from machinery import start_nginx, wait_for

Row = dict[str, float]


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


class Field:
    """The servers of one site: they run until *stack* ends.

    Attributes:
        running: Those that came up, with the root of their process trees.
        not_run: Those that did not, with the reason.
    """

    def __init__(
        self, stack: ExitStack, field: list[Contestant], site: Path, directory: Path
    ) -> None:
        self.running: list[Contestant] = []
        self.pids: dict[str, int] = {}
        self.not_run: dict[str, str] = {}
        self.directory = directory
        places = []
        for one in field:
            try:
                port = self._start(stack, one, site)
            except (NotStarted, OSError) as exc:
                self.not_run[one.name] = str(exc)
                say(f"{one.name} does not run: {exc}")
                continue
            self.running.append(one)
            places.append(nginx_place(one.protocol, one.name, port, kept=one.kept))
        self.port = start_nginx(stack, directory, places)

    def _start(self, stack: ExitStack, one: Contestant, site: Path) -> int:
        port = free_port()
        log = self.directory / f"{one.name}.log"
        environ = {"BENCH_SERVER": one.name, **one.environ}
        process = start(stack, one.argv(site, port), log, environ)
        wait_for(port, process, log)
        self.pids[one.name] = process.pid
        return port

    def turn(self, case: Case, one: Contestant, connections: int, seconds: float) -> Row:
        """Give one server its load and look what it costs.

        Raises:
            WrongAnswer: an answer was not what it should be.
        """
        size = self.check(case, one)
        url = f"http://127.0.0.1:{self.port}/{one.name}/{case.path}"
        before = cpu_seconds(self.pids[one.name])
        load = Load(url, self.directory, connections=connections, seconds=seconds, post=case.post)
        sample = load.finish(size)
        used = cpu_seconds(self.pids[one.name]) - before
        self.check(case, one)
        row = {
            "cpu": used / sample.requests * 1e6,
            "rate": sample.rate,
            "p50": sample.p50 / 1000,
            "p99": sample.p99 / 1000,
            "requests": sample.requests,
        }
        if case.large:
            row["mib"] = sample.rate * len(UPLOAD) / 1_048_576
        return row

    def check(self, case: Case, one: Contestant) -> int:
        """Compare one full answer; gives its octets.

        Raises:
            WrongAnswer: it differs.
        """
        content = UPLOAD if case.post else None
        if case.post:
            digest = Expected(one.name, digest_of(UPLOAD))
            ask(self.port, f"/{one.name}/digest", digest, content)
        return ask(self.port, f"/{one.name}/{case.path}", Expected(one.name, case.body), content)


def measure(field: Field, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds of one case."""
    taking = [one for one in field.running if case.suits(one)]
    rows: dict[str, list[Row]] = {one.name: [] for one in taking}
    refused: dict[str, str] = {}
    connections = case.connections or options.connections
    for turn in range(options.rounds + 1):
        order = [one for one in taking if one.name not in refused]
        random.Random(f"{case.name} {turn}").shuffle(order)  # noqa: S311 - the same in each run
        began = time.monotonic()
        for one in order:
            try:
                row = field.turn(case, one, connections, options.seconds if turn else 1)
            except WrongAnswer as exc:
                refused[one.name] = str(exc)
                say(f"  {case.name}: no figure for {one.name}: {exc}")
                continue
            if turn:  # the first round only warms up
                rows[one.name].append(row)
        took = time.monotonic() - began
        say(f"  {case.name}: round {turn} of {options.rounds}, {took:.0f} s")
    return {
        "title": case.title,
        "connections": connections,
        "large": case.large,
        "rounds": {name: found for name, found in rows.items() if name not in refused},
        "refused": refused,
    }


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a first look, in four minutes")
    parser.add_argument("--seconds", type=float, help="of load a turn: 2, or 1 where quick")
    parser.add_argument("--rounds", type=int, help="5, or 2 where quick")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--cases", default="", metavar="NAME,NAME", help="some of the cases")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="some of the servers")
    parser.add_argument("--against", metavar="CHECKOUT", help="an earlier Portico to compare with")
    parser.add_argument("--alone", action="store_true", help="compare with one process as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    options = parser.parse_args()
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.rounds = options.rounds or (2 if options.quick else 5)
    everyone = contestants() + (earlier(options.against) if options.against else [])
    everyone += alone() if options.alone else []
    options.field = _chosen(parser, options.only, everyone)
    options.chosen = _chosen(parser, options.cases, CASES)
    for program in ("nginx", "wrk"):
        if not find(program):
            parser.error(f"{program} must be installed: tools/bench-servers.sh")
    return options


def _chosen(parser: argparse.ArgumentParser, names: str, among: list[Any]) -> list[Any]:
    wanted = list(filter(None, names.split(",")))
    there = [one.name for one in among]
    unknown = [name for name in wanted if name not in there]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(there)}")
    return [one for one in among if not wanted or one.name in wanted]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything and give the results."""
    results: dict[str, Any] = {
        "format": 1,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": machine.describe(),
        "versions": machine.versions({one.package for one in options.field}),
        "options": {key: getattr(options, key) for key in ("seconds", "rounds", "connections")},
        "contestants": {
            one.name: {
                "protocol": one.protocol,
                "package": one.package,
                "front": "Apache" if one.apache else "nginx",
                "kept": one.kept,
                "threads": one.threads,
                "counterpart": counterpart(one),
            }
            for one in options.field
        },
        "not_run": {},
        "cases": {},
        "memory": {},
    }
    for site in dict.fromkeys(case.site for case in options.chosen):
        cases = [case for case in options.chosen if case.site == site]
        field = [one for one in options.field if any(case.suits(one) for case in cases)]
        with ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-"))
            directory = Path(name)
            write_scripts(directory, UPLOAD)
            say(f"{site}: starting {len(field)} servers")
            servers = Field(stack, field, Path(__file__).parent / site, directory)
            results["not_run"].update(servers.not_run)
            for case in cases:
                results["cases"][case.name] = measure(servers, case, options)
            if site == CASES[0].site:
                results["memory"] = {
                    one: [round(part, 2) for part in memory(pid)]
                    for one, pid in servers.pids.items()
                }
    return results


def main() -> int:
    options = parse_options()
    machine.check_open_files(8192)
    try:
        results = run(options)
    except NotStarted as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(report.text(results), end="")
    wrong = any(case["refused"] for case in results["cases"].values())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
