"""Read a run's results and say what they came to: tables, targets, plots, documentation.

python bench/report.py [FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import figures
import targets
from figures import Results

RESULTS = Path(__file__).parent / "results" / "serve.json"


def _cell(spread: figures.Spread | None, digits: int = 0) -> str:
    if spread is None:
        return "-"
    low, high = f"{spread.low:,.{digits}f}", f"{spread.high:,.{digits}f}"
    return f"{spread.median:,.{digits}f} ({low}-{high})"


def case_table(results: Results, case: str) -> str:
    """Give the table of one case, as text."""
    found = results["cases"][case]
    heads = ["CPU us/request", "requests/s", "p50 ms", "p99 ms"]
    heads += ["MiB/s"] if found["large"] else []
    lines = [f"{case}: {found['title']}, {found['connections']} connections"]
    lines.append(f"{'server':22}{heads[0]:>24}{heads[1]:>26}{heads[2]:>9}{heads[3]:>9}"
                 f"{heads[4] if found['large'] else '':>8}   Portico against it")  # fmt: skip
    for name in figures.names(results, case):
        if name in found["refused"]:
            lines.append(f"{name:22}   no figure: {found['refused'][name]}")
            continue
        if name in found["unable"]:
            lines.append(f"{name:22}   not asked: {found['unable'][name]}")
            continue
        cpu, rate, p50, p99, mib = (
            figures.figure(results, case, name, key) for key in ("cpu", "rate", "p50", "p99", "mib")
        )
        line = f"{name:22}{_cell(cpu, 1):>24}{_cell(rate):>26}"
        line += f"{p50.median if p50 else 0:9.2f}{p99.median if p99 else 0:9.2f}"
        line += f"{mib.median if mib else 0:8.0f}" if found["large"] else f"{'':8}"
        lines.append(line + _against(results, case, name))
    return "\n".join(lines) + "\n"


def _against(results: Results, case: str, name: str) -> str:
    ours = results["contestants"][name]["counterpart"]
    cpu = figures.ratio(results, case, ours, name, "cpu")
    rate = figures.ratio(results, case, ours, name, "rate")
    if ours == name or cpu is None or rate is None:
        return ""
    return f"   {cpu.median:.2f} of its CPU, {rate.median:.2f} times its rate"


def memory_table(results: Results) -> str:
    """Give the table of memory after the load, as text."""
    lines = ["memory after the load, MiB: proportional, private"]
    lines += [
        f"{name:22}{share:10.1f}{private:10.1f}"
        for name, (share, private) in results["memory"].items()
    ]
    return "\n".join(lines) + "\n"


def heading(results: Results) -> str:
    """Give the machine and the versions, as text."""
    machine = results["machine"]
    told = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']},"
        f" {machine['python']}; {results['date']}",
        ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        f"{results['options']['rounds']} rounds of {results['options']['seconds']} s a server and"
        " case, medians (least-most)",
    ]
    told += [f"not run: {name}: {reason}" for name, reason in results["not_run"].items()]
    return "\n".join(told) + "\n"


def text(results: Results) -> str:
    """Give the whole report, as text."""
    parts = [heading(results)]
    parts += [case_table(results, case) for case in results["cases"]]
    parts += [memory_table(results)] if results["memory"] else []
    parts.append(targets.table(results))
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS)
    options = parser.parse_args()
    print(text(json.loads(options.file.read_text("utf-8"))), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
