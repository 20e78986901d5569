"""Medians, ratios, aims and the tables made of them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "bench"))

import figures
import pages
import peers
import plots
import report
import targets
from cases import CASES
from contestants import Contestant, alone, contestants, counterpart, earlier
from targets import Target, verdict

RESULTS = ROOT / "bench" / "results" / "serve.json"


def row(cpu, rate):
    return {"cpu": cpu, "rate": rate, "p50": 0.5, "p99": 2.0, "requests": 1000}


@pytest.fixture
def results():
    """Three rounds in which the machine slows down, of which ratios must know nothing."""
    case = {
        "title": "36 octets",
        "connections": 16,
        "large": False,
        "rounds": {
            "portico_fastcgi": [row(10, 3000), row(20, 1500), row(50, 500)],
            "uwsgi_fastcgi": [row(20, 2000), row(40, 1000), row(80, 500)],
        },
        "refused": {"flup_fastcgi": "200 answers of 10 octets took 1990: -10"},
        "unable": {"gevent_fastcgi": "it does not"},
        "memory": {"portico_fastcgi": 20.0, "uwsgi_fastcgi": 10.0},
    }
    names = ["portico_fastcgi", "uwsgi_fastcgi", "flup_fastcgi", "gevent_fastcgi"]
    return {
        "date": "2026-11-25T10:00+00:00",
        "machine": {
            "processor": "P", "cores": 2, "memory_gib": 4, "kernel": "Linux 6",
            "python": "CPython 3",
        },
        "versions": {"nginx": "1.22", "uWSGI": "2.0.31"},
        "options": {"rounds": 3, "seconds": 1, "connections": 16},
        "contestants": {
            name: {"protocol": "fastcgi", "package": "p", "counterpart": "portico_fastcgi"}
            for name in names
        },
        "not_run": {"bjoern_http": "no libev"},
        "cases": {"hello": case},
        "memory": {"portico_fastcgi": [20.0, 15.0], "uwsgi_fastcgi": [10.0, 9.0]},
        "cgi": {"bare": [10.0, 12.0, 30.0], "portico": [11.0, 13.2, 31.4]},
    }  # fmt: skip


def test_a_spread_is_median_least_and_most():
    assert figures.spread([3.0, 1.0, 2.0, 9.0]) == (2.5, 1.0, 9.0)


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds(results):
    cpu = figures.ratio(results, "hello", "portico_fastcgi", "uwsgi_fastcgi", "cpu")
    assert cpu == (0.5, 0.5, 0.625)
    rate = figures.ratio(results, "hello", "portico_fastcgi", "uwsgi_fastcgi", "rate")
    assert rate == (1.5, 1.0, 1.5)


@pytest.mark.parametrize("name", ["flup_fastcgi", "gevent_fastcgi", "nobody"])
def test_no_figure_no_ratio(results, name):
    assert figures.figure(results, "hello", name, "cpu") is None
    assert figures.ratio(results, "hello", "portico_fastcgi", name, "cpu") is None
    assert figures.ratio(results, "page", "portico_fastcgi", name, "cpu") is None


def test_rounds_of_a_refused_server_do_not_count(results):
    """Even if some were right before a wrong one."""
    results["cases"]["hello"]["rounds"]["flup_fastcgi"] = [row(1, 9999)]
    assert figures.figure(results, "hello", "flup_fastcgi", "rate") is None


@pytest.mark.parametrize(
    ("target", "cpu", "rate", "words"),
    [
        (("hello", "portico_fastcgi", "uwsgi_fastcgi", 0.5, 1.5), 0.5, 1.5, ("met", "met")),
        (
            ("hello", "portico_fastcgi", "uwsgi_fastcgi", 0.4, 2.0),
            0.5,
            1.5,
            ("missed by 25%", "missed by 25%"),
        ),
        (
            ("hello", "portico_fastcgi", "flup_fastcgi", 0.1, 1.0),
            None,
            None,
            ("no figure", "no figure"),
        ),
        (("hello", "portico_fastcgi", "", 0, 1500), None, 1500, ("", "met")),
        (("hello", "portico_fastcgi", "", 0, 1506), None, 1500, ("", "missed by 0.4%")),
        (("memory", "portico_fastcgi", "uwsgi_fastcgi", 1.0, 0), 2.0, None, ("missed by 100%", "")),
        (("cgi", "portico", "", 1.25, 0), 1.2, None, ("met", "")),
        (("sleep", "portico_fastcgi", "", 0, 310), None, None, ("", "no figure")),
    ],
    ids=["met", "missed", "refused", "alone", "just missed", "memory", "cgi", "not run"],
)
def test_aims(results, target, cpu, rate, words):
    found = verdict(results, Target(*target))
    assert found.cpu == (cpu if cpu is None else pytest.approx(cpu))
    assert found.rate == rate
    assert found.words() == words


def test_aims_name_contestants_that_there_are():
    known = {one.name for one in contestants()} | {"", "portico"}
    assert {name for one in targets.TARGETS for name in (one.ours, one.peer)} <= known


def test_counterparts_are_ours_and_behind_the_same_web_server():
    there = {one.name: one for one in contestants()}
    for one in there.values():
        mine = there[counterpart(one)]
        assert mine.ours
        assert mine.apache == one.apache


def test_names_of_contestants_are_their_own():
    names = [one.name for one in contestants()]
    assert len(names) == len(set(names))


def test_a_command_is_filled_in():
    one = Contestant("x", "http", "x", ("run", "{file}", "a {port} {module}", "{directory}"))
    argv = one.argv(Path("/sites/page.py"), 81)
    assert argv == ["run", "/sites/page.py", "a 81 page", "/sites"]


def test_the_text_says_who_has_no_figure_and_why(results):
    text = report.text(results)
    assert "flup_fastcgi: no figure: 200 answers of 10 octets took 1990: -10\n" in text
    assert "gevent_fastcgi: not asked: it does not\n" in text
    assert "not run: bjoern_http: no libev\n" in text
    (line,) = (line for line in text.splitlines() if line.startswith("uwsgi_fastcgi    40.0"))
    assert line.split() == [
        "uwsgi_fastcgi", "40.0", "(20.0-80.0)", "1,000", "(500-2,000)", "0.50", "2.00", "10.0",
        "0.50", "(0.50-0.62)", "1.50", "(1.00-1.50)",
    ]  # fmt: skip


def test_pages_change_between_their_markers_alone(results):
    page = "before\n<!-- measured: memory -->\nold\n<!-- end -->\nafter\n"
    made = pages.with_results(page, results)
    assert made.startswith("before\n<!-- measured: memory -->\n\n| server |")
    assert made.endswith("| uwsgi_fastcgi | 10.0 | 9.0 |\n\n<!-- end -->\nafter\n")
    assert pages.with_results(made, results) == made


@pytest.mark.parametrize("name", sorted(pages.PARTS))
def test_each_part_has_a_place_in_the_documentation(name):
    texts = [path.read_text("utf-8") for path in pages.PAGES]
    assert sum(text.count(f"<!-- measured: {name} -->") for text in texts) == 1


@pytest.mark.parametrize("path", pages.PAGES, ids=lambda path: path.name)
def test_the_documentation_says_what_was_measured(path):
    """`python bench/report.py --write-docs` writes it."""
    text = path.read_text("utf-8")
    assert pages.with_results(text, json.loads(RESULTS.read_text("utf-8"))) == text


def test_the_table_beside_the_results_is_theirs():
    results = json.loads(RESULTS.read_text("utf-8"))
    assert RESULTS.with_suffix(".txt").read_text("utf-8") == report.text(results)


def test_every_peer_is_pinned():
    assert all(version for version in peers.pins().values())
    packages = {one.package for one in contestants()}
    assert packages - peers.pins().keys() == {"portico", "Tomcat"}


def test_the_reason_why_a_peer_is_missing():
    output = "Collecting x\n  error: subprocess-exited-with-error\n  fatal error: ev.h: no such\n"
    assert peers.reason(output) == "fatal error: ev.h: no such"
    assert peers.reason("") == "pip said nothing"


def test_bars_are_grouped_by_protocol_and_named_by_product(results):
    results["contestants"]["portico_fastcgi"]["package"] = "portico"
    bars = plots.groups(results, "cpu", ("hello",))
    assert bars == {"FastCGI": {"Portico": (20, 10, 50), "p": (40, 20, 80)}}
    assert set(plots.groups(results, "cpu", ("hello", "page"))) == {"FastCGI, hello"}


def test_plots_in_the_documentation_are_those_that_are_drawn():
    text = (ROOT / "docs" / "reference" / "performance.md").read_text("utf-8")
    assert re.findall(r"results/([\w-]+)\.svg", text) == [name for name, *_ in plots.PLOTS]


def test_fields_of_cases_name_contestants_that_there_are():
    known = {one.name for one in contestants()}
    assert {name for case in CASES for name in case.field} <= known
    assert {name for one in contestants() for name in (*one.only, *one.unable)} <= {
        case.name for case in CASES
    }


def test_earlier_versions_take_part_where_portico_does():
    ours = [one for one in contestants() if one.ours]
    for variants in (earlier("/elsewhere"), alone()):
        assert [one.protocol for one in variants] == [one.protocol for one in ours]
        for case in CASES:
            taking = [case.suits(one) for one in ours]
            assert [case.suits(one) for one in variants] == taking


@pytest.mark.parametrize("case", [case for case in CASES if case.site == CASES[0].site])
def test_what_must_come_is_what_the_application_answers(case):
    assert len(case.body()) == {
        "hello": 36, "page": 8192, "body": 2**20, "chunks": 2**20, "upload": 8, "sleep": 36,
        "mix": 36, "idle": 36,
    }[case.name]  # fmt: skip


def test_sites_are_pages_of_some_8_kib():
    """In a process of their own: Django can be set up once in each."""
    sites = [case.name for case in CASES if case.site != CASES[0].site]
    assert len(sites) == 2
    for name in sites:
        code = (
            f"from cases import CASES; print(*(len(c.body()) for c in CASES if c.name == '{name}'))"
        )
        said = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT / "bench", capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        assert 7500 < int(said) < 8700
