"""Portico and its peers behind one nginx and one Apache, in one run.

Every server of a site runs all the time; the load goes to one after the other, round after round,
in an order that changes, so that a machine whose speed drifts is as unfair to each. CPU time is the
operating system's account of the server's whole process tree. A server that answers anything wrong
gets no figure for that case, and the exit status is 1.

  python bench/serve.py [--quick] [--cases NAME,NAME] [--only NAME,NAME] [--seconds 2] [--rounds 5]
                        [--connections 16] [--against CHECKOUT] [--alone] [--json FILE]
                        [--publish]

With another checkout of Portico, its servers (before_...) take part as well; with --alone
Portico in one process (alone_...), without a parent and a scoreboard. --publish writes
bench/results and the tables of the documentation.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import cgi_start
import machine
import pages
import plots
import report
from cases import CASES, LONG
from contestants import alone, contestants, counterpart, earlier
from field import Field, say
from machinery import NotStarted, find, memory
from targets import TARGETS
from turns import measure

#: The servers of the aims, which a first look is content with.
AIMED = {name for target in TARGETS for name in (target.ours, target.peer)}


#: The scripts of `cgi_start` that are compared here.
_CGI = ("bare", "portico", "wsgiref")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a first look, in four minutes")
    parser.add_argument("--seconds", type=int, help="of load a turn: 2, or 1 where quick")
    parser.add_argument("--rounds", type=int, help="5, or 1 where quick")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--cases", default="", metavar="NAME,NAME", help="some of the cases")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="some of the servers")
    parser.add_argument("--against", metavar="CHECKOUT", help="an earlier Portico to compare with")
    parser.add_argument("--alone", action="store_true", help="compare with one process as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument(
        "--publish", action="store_true", help="write bench/results and the documentation's tables"
    )
    options = parser.parse_args()
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.rounds = options.rounds or (1 if options.quick else 5)
    everyone = contestants() + (earlier(options.against) if options.against else [])
    everyone += alone() if options.alone else []
    options.field = _chosen(parser, options.only, everyone)
    options.chosen = _chosen(parser, options.cases, CASES)
    if options.quick:
        options.field = [
            one
            for one in options.field
            if options.only or one.name in AIMED or one.only or one not in contestants()
        ]
        options.chosen = [one for one in options.chosen if options.cases or one.name not in LONG]
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
        "cgi": {},
    }
    for site in dict.fromkeys(case.site for case in options.chosen):
        cases = [case for case in options.chosen if case.site == site]
        field = [one for one in options.field if any(case.suits(one) for case in cases)]
        with ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-bench-"))
            say(f"{site}: starting {len(field)} servers")
            servers = Field(stack, field, Path(__file__).parent / site, Path(name))
            results["not_run"].update(servers.not_run)
            results["versions"].update(servers.versions)
            for case in cases:
                results["cases"][case.name] = measure(servers, case, options)
            if site == CASES[0].site:
                results["memory"] = {
                    one: [round(part, 2) for part in memory(pid)]
                    for one, pid in servers.roots.items()
                }
    if not options.cases:
        say("CGI processes")
        results["cgi"] = start_cgi(10 if options.quick else 40)
    return results


def start_cgi(runs: int) -> dict[str, list[float]]:
    """Give the wall milliseconds of CGI processes, in turns: bare interpreter, Portico, wsgiref."""
    wall: dict[str, list[float]] = {name: [] for name in _CGI}
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as name:
        try:
            commands = cgi_start.write_scripts(Path(name), _CGI)
        except RuntimeError as error:
            raise NotStarted(f"CGI: {error}") from error
        for _ in range(runs):
            for one, command in commands.items():
                wall[one].append(round(cgi_start.run_once(command)[0], 3))
    return wall


def publish(results: dict[str, Any]) -> None:
    """Write the results where the documentation and its plots take them from."""
    place = report.RESULTS
    place.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    place.with_suffix(".txt").write_text(report.text(results), "utf-8")
    pages.write_docs(results)
    try:
        plots.write(results, place.parent)
    except ImportError as exc:
        say(f"no plots: {exc}")


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
    if options.publish:
        publish(results)
    print(report.text(results), end="")
    return status(results)


def status(results: dict[str, Any]) -> int:
    """Give the exit status: 1 where a server answered wrongly, or our own did not run."""
    wrong = any(case["refused"] for case in results["cases"].values())
    absent = any(name.startswith("portico_") for name in results["not_run"])
    return 1 if wrong or absent else 0


if __name__ == "__main__":
    sys.exit(main())
