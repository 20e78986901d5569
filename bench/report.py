"""Read a run's results and say what they came to: text, plots, and the documentation's tables.

  python bench/report.py [FILE] [--write-docs] [--plots]

prints the tables; with --write-docs it writes the tables of docs/ and README.md anew, with --plots
the plots of bench/results. Nothing is written by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import figures
import pages
import targets
from figures import Results

RESULTS = Path(__file__).parent / "results" / "serve.json"


def aligned(rows: list[list[str]], left: int = 1) -> str:
    """Give rows of cells as columns; the first *left* of them flush left."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at < left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def case_table(results: Results, case: str) -> str:
    """Give the table of one case, as text."""
    found = results["cases"][case]
    rows = [pages.case_headings(results, case)]
    remarks = []
    for name in figures.names(results, case):
        cells = pages.case_row(results, case, name)
        if cells:
            rows.append(cells)
        else:
            remarks.append(f"{name}: {pages.remark(results, case, name)}\n")
    title = f"{case}: {found['title']}, {found['connections']} connections\n"
    return title + aligned(rows) + "".join(remarks)


def heading(results: Results) -> str:
    """Give the machine and the versions, as text."""
    told = [pages.machine(results), pages.versions(results), pages.rounds(results)]
    told += [f"not run: {name}: {reason}" for name, reason in results["not_run"].items()]
    return "\n".join(told) + "\n"


def text(results: Results) -> str:
    """Give the whole report, as text."""
    parts = [heading(results)]
    parts += [case_table(results, case) for case in results["cases"]]
    if results["memory"]:
        parts.append("memory after the load\n" + aligned(pages.memory_rows(results)))
    if results.get("cgi"):
        parts.append("one CGI process\n" + aligned(pages.cgi_rows(results)))
    aims = [row for row in targets.rows(results) if "no figure" not in {row[5], row[8]}]
    if aims:
        parts.append("aims\n" + aligned([targets.headings(), *aims], left=3))
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS)
    parser.add_argument("--write-docs", action="store_true", help="write docs/ and README.md anew")
    parser.add_argument("--plots", action="store_true", help="write bench/results/*.svg anew")
    options = parser.parse_args()
    results = json.loads(options.file.read_text("utf-8"))
    print(text(results), end="")
    if options.write_docs:
        pages.write_docs(results)
    if options.plots:
        import plots  # noqa: PLC0415 - matplotlib takes a second, and may not be here

        plots.write(results, RESULTS.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
