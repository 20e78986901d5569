"""How Portico's cost grows: with workers, open connections, octets of head and octets of body.

  python bench/scale.py [--parts workers,connections,heads,bodies] [--rounds 5] [--seconds 1]
                        [--quick] [--results DIRECTORY] [--json]
  python bench/scale.py --write-docs

All servers of a part run all the time; the load goes to one cell after the other, round after
round. The first round looks at every octet of an answer and warms up; its figures are not
counted. CPU time is the operating system's account of the server's whole process tree. A cell
whose server answered anything wrong has no figure, and the exit status is 1.

A whole run writes scale.json, scale.txt and scale-*.svg to bench/results; with --quick or --parts
it writes them where --results says, or not at all. --write-docs brings the tables in
docs/reference/scale.md up to date with bench/results/scale.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
import _scale_report as report
import machine
from _scale_load import WrongAnswer
from _scale_parts import PARTS, Cell
from figures import spread
from machinery import NotStarted

if TYPE_CHECKING:
    from _scale_lines import Results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "reference" / "scale.md"


def measure(part: str, rounds: int, seconds: float) -> list[Cell]:
    """Run one part, all cells in turn, round after round.

    Raises:
        NotStarted: a server does not start.
    """
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-scale-"))
        cells = list(PARTS[part](stack, Path(name)))
        for turn in range(rounds + 1):
            begun = time.monotonic()
            for cell in cells:
                if not cell.wrong:
                    one_turn(cell, turn, seconds if turn else min(seconds, 0.3))
            taken = time.monotonic() - begun
            print(f"  {part}: round {turn} of {rounds}, {taken:.0f} s", file=sys.stderr)
    return cells


def one_turn(cell: Cell, turn: int, seconds: float) -> None:
    """Let *cell* be measured once, or say what is wrong with it."""
    gc.collect()
    gc.disable()  # the generator's own pauses are nobody's figure
    try:
        if not turn:
            cell.check()
        figures = cell.run(seconds * cell.share)
    except WrongAnswer as error:
        cell.wrong = str(error)
        cell.samples.clear()
        print(f"  {cell.part}, {cell.series}, {cell.x}: no figure: {error}", file=sys.stderr)
        return
    finally:
        gc.enable()
    if turn:
        cell.samples.append(figures)
    else:
        cell.first = figures


def results_of(cells: list[Cell], rounds: int, seconds: float) -> Results:
    """Give what was measured as JSON has it, each figure with its least and its most."""
    return {
        "machine": machine.describe(),
        "portico": machine.versions({"portico"})["portico"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": rounds,
        "seconds": seconds,
        "cells": [
            {
                "part": cell.part,
                "series": cell.series,
                "x": cell.x,
                "wrong": cell.wrong,
                "first": {key: round(value, 3) for key, value in cell.first.items()},
                "figures": {
                    key: [round(value, 3) for value in spread([one[key] for one in cell.samples])]
                    for key in (cell.samples[0] if cell.samples else ())
                },
            }
            for cell in cells
        ],
    }


def write(results: Results, directory: Path) -> None:
    """Write the results, their tables and their charts."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "scale.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (directory / "scale.txt").write_text(report.text(results), "utf-8")
    report.draw(results, directory)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="How Portico's cost grows.", epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--parts", default=",".join(PARTS), metavar="PART,PART")
    parser.add_argument("--rounds", type=int, help="that count; 5, with --quick 2")
    parser.add_argument("--seconds", type=float, help="of load a turn; 1, with --quick 0.25")
    parser.add_argument("--quick", action="store_true", help="a trial, in less than two minutes")
    parser.add_argument("--results", type=Path, metavar="DIRECTORY", help="where to write")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    parser.add_argument("--write-docs", action="store_true", help="write the page, run nothing")
    options = parser.parse_args()
    options.parts = [part for part in options.parts.split(",") if part]
    unknown = set(options.parts) - set(PARTS)
    if unknown or not options.parts:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (0.25 if options.quick else 1.0)
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("a round and some time are needed")
    if not options.results and not options.quick and options.parts == list(PARTS):
        options.results = RESULTS
    return options


def main() -> int:
    options = arguments()
    if options.write_docs:
        results = json.loads((RESULTS / "scale.json").read_text("utf-8"))
        PAGE.write_text(report.page(PAGE.read_text("utf-8"), results), "utf-8")
        return 0
    cells: list[Cell] = []
    try:
        for part in options.parts:
            cells += measure(part, options.rounds, options.seconds)
    except NotStarted as error:
        print(f"Portico does not start: {error}", file=sys.stderr)
        return 1
    results = results_of(cells, options.rounds, options.seconds)
    if options.results:
        write(results, options.results)
    print(json.dumps(results, indent=1) if options.json else report.text(results), end="")
    return 1 if any(cell.wrong for cell in cells) else 0


if __name__ == "__main__":
    sys.exit(main())
