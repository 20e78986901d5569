"""The results as rows of words, and as the tables of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import figures
import targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from figures import Results, Spread

ROOT = Path(__file__).parents[1]

#: The pages with tables between markers.
PAGES = [ROOT / "README.md", ROOT / "docs" / "reference" / "performance.md"]

#: Around what is made of the results.
_MARKED = re.compile(r"(<!-- measured: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

#: README's rows: case, ours, peer and the words for the three.
TELLING = [
    ("hello", "portico_fastcgi", "uwsgi_fastcgi", "36 octets, FastCGI", "uWSGI, in C"),
    ("hello", "portico_fastcgi", "gunicorn_http", "36 octets", "gunicorn's gthread, HTTP"),
    ("hello", "portico_fastcgi", "flup_fastcgi", "36 octets, FastCGI", "flup"),
    ("page", "portico_scgi", "uwsgi_scgi", "8 KiB, SCGI", "uWSGI, in C"),
    ("upload", "portico_fastcgi", "uwsgi_fastcgi", "1 MiB upload, FastCGI", "uWSGI, in C"),
    ("hello", "portico_ajp", "tomcat_ajp", "36 octets, AJP", "Tomcat, in Java"),
]


def machine(results: Results) -> str:
    """Give processor, cores, kernel, Python and date in a line."""
    found = results["machine"]
    return (
        f"{found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB,"
        f" {found['kernel']}, {found['python']}; {results['date']}"
    )


def versions(results: Results) -> str:
    """Give all versions in a line."""
    return ", ".join(f"{name} {version}" for name, version in results["versions"].items())


def rounds(results: Results) -> str:
    """Say what a figure is made of."""
    options = results["options"]
    return (
        f"{options['rounds']} rounds of {options['seconds']} s for each server and case;"
        " medians, with the least and the most"
    )


def _range(spread: Spread | None, digits: int = 0) -> str:
    if spread is None:
        return "-"
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}-{spread.high:,.{digits}f})"


def case_headings(results: Results, case: str) -> list[str]:
    """Give the headings of a case's table."""
    heads = ["server", "CPU µs a request", "requests/s", "p50 ms", "p99 ms"]
    heads += ["MiB/s"] if results["cases"][case]["large"] else []
    heads += ["slow ones/s"] if case == "mix" else []
    return [*heads, "MiB", "Portico: of its CPU", "times its rate"]


def case_row(results: Results, case: str, name: str) -> list[str]:
    """Give a server's row of a case's table; empty where it has no figure."""
    found = results["cases"][case]
    figure = {
        key: figures.figure(results, case, name, key)
        for key in ("cpu", "rate", "p50", "p99", "mib", "slow_rate")
    }
    if figure["cpu"] is None:
        return []
    cells = [name, _range(figure["cpu"], 1), _range(figure["rate"])]
    cells += [f"{one.median:.2f}" if (one := figure[key]) else "-" for key in ("p50", "p99")]
    more = (["mib"] if found["large"] else []) + (["slow_rate"] if case == "mix" else [])
    cells += [f"{one.median:,.0f}" if (one := figure[key]) else "-" for key in more]
    cells.append(f"{found['memory'][name]:.1f}" if name in found["memory"] else "-")
    return cells + _against(results, case, name)


def _against(results: Results, case: str, name: str) -> list[str]:
    ours = results["contestants"][name]["counterpart"]
    cpu = figures.ratio(results, case, ours, name, "cpu")
    rate = figures.ratio(results, case, ours, name, "rate")
    if ours == name or cpu is None or rate is None:
        return ["", ""]
    return [_range(cpu, 2), _range(rate, 2)]


def remark(results: Results, case: str, name: str) -> str:
    """Say why a server has no row."""
    found = results["cases"][case]
    if name in found["refused"]:
        return f"no figure: {found['refused'][name]}"
    return f"not asked: {found['unable'].get(name, 'it takes no part')}"


def memory_rows(results: Results) -> list[list[str]]:
    """Give the table of memory after all load of application.py, with headings."""
    rows = [["server", "proportional MiB", "private MiB"]]
    rows += [
        [name, f"{shared:.1f}", f"{private:.1f}"]
        for name, (shared, private) in results["memory"].items()
    ]
    return rows


def cgi_rows(results: Results) -> list[list[str]]:
    """Give the table of CGI processes, with headings."""
    rows = [["script", "wall ms", "over a bare interpreter"]]
    for name, values in results.get("cgi", {}).items():
        over = figures.cgi_over_bare(results, name)
        rows.append(
            [name, _range(figures.spread(values), 1), f"{over.median:+.2f}" if over else "-"]
        )
    return rows


def markdown(rows: list[list[str]]) -> str:
    """Give rows, the first of them headings, as a table of Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows[1:]
    ]
    return "\n".join(lines) + "\n"


def _setting(results: Results) -> str:
    lines = [machine(results), versions(results), rounds(results)]
    lines += [f"`{name}` was not run: {why}" for name, why in results["not_run"].items()]
    return "".join(f"- {' '.join(line.split())}.\n" for line in lines)


def _aims(results: Results) -> str:
    return markdown([targets.headings(), *targets.rows(results)])


def _cases(results: Results) -> str:
    parts = []
    for case, found in results["cases"].items():
        rows = [case_headings(results, case)]
        remarks = []
        for name in figures.names(results, case):
            cells = case_row(results, case, name)
            if cells:
                rows.append(cells)
            else:
                remarks.append(f"- `{name}`: {remark(results, case, name)}\n")
        parts.append(f"### {case}\n\n{found['title']}; {found['connections']} connections.\n")
        parts.append(markdown(rows))
        parts += ["".join(remarks)] if remarks else []
    return "\n".join(parts)


def _telling(results: Results) -> str:
    rows = [["what", "against", "CPU a request", "requests/s"]]
    for case, ours, peer, what, whom in TELLING:
        cpu = figures.ratio(results, case, ours, peer, "cpu")
        rate = figures.ratio(results, case, ours, peer, "rate")
        if cpu and rate:
            rows.append([what, whom, f"{cpu.median:.2f}", f"{rate.median:.2f}"])
    sleep = figures.figure(results, "sleep", "portico_fastcgi", "rate")
    words = (
        f"\n50 ms of sleep, 16 threads: {sleep.median:.0f} requests/s of 320.\n" if sleep else ""
    )
    told = results["machine"]
    where = f"{told['cores']} cores of {told['processor']}, {told['python']}"
    return markdown(rows) + words + f"\n{where}, {results['date'][:10]}.\n"


#: What the markers' names stand for.
PARTS: dict[str, Callable[[Results], str]] = {
    "setting": _setting,
    "aims": _aims,
    "cases": _cases,
    "memory": lambda results: markdown(memory_rows(results)),
    "cgi": lambda results: markdown(cgi_rows(results)),
    "telling": _telling,
}


def with_results(page: str, results: Results) -> str:
    """Give a page's text with the parts between its markers as the results say."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{PARTS[found[2]](results)}\n{found[3]}"

    return _MARKED.sub(made, page)


def write_docs(results: Results) -> None:
    """Write the pages anew."""
    for path in PAGES:
        path.write_text(with_results(path.read_text("utf-8"), results), "utf-8")
