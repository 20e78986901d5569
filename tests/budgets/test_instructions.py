"""Instructions: what a request costs in codec and core, counted by valgrind, held to a record."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def _budget():
    """Load what lies with the benchmarks, whose directory is nothing for the path."""
    spec = importlib.util.spec_from_file_location("budget", ROOT / "bench" / "budget.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


budget = _budget()

# the counts are made within the first test that wants them: 6 s on two quiet processors
pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]  # under valgrind

RECORDS = budget.load()

#: Appended to a copy of `core.environ`: costs about 5 % of an SCGI request.
SLOWER = """

_finish = EnvironRules.finish


def _slower(self, environ):
    sum(range(300))
    return _finish(self, environ)


EnvironRules.finish = _slower
"""


def core(*arguments):
    """Run the tool that counts; gives what it prints."""
    if shutil.which("valgrind") is None:
        if os.environ.get("CI"):
            pytest.fail("valgrind is not installed, and CI leaves nothing out")
        pytest.skip("valgrind is not installed")
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "core.py", *arguments],
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def counts():
    return budget.Counts(**json.loads(core("--json")))


@pytest.mark.parametrize("case", RECORDS[0].cases)
def test_request_keeps_to_the_budget(case, counts):
    verdict = budget.judge(case, counts, RECORDS)
    assert not verdict.fault, verdict.fault


def test_every_case_is_on_record(counts):
    own = budget.on_record(counts, RECORDS)
    if own is None:
        pytest.skip(budget.not_on_record(counts, RECORDS))  # the cases are held to loose bounds
    assert set(own.cases) == set(counts.cases)


def test_records_have_the_same_cases():
    assert len({frozenset(record.cases) for record in RECORDS}) == 1


def test_cost_is_seen(tmp_path):
    shutil.copytree(ROOT / "src" / "portico", tmp_path / "src" / "portico")
    with (tmp_path / "src" / "portico" / "core" / "environ.py").open("a") as file:
        file.write(SLOWER)
    lines = core("scgi", "--against", str(tmp_path)).splitlines()
    ratios = {line.partition(" ")[2].split()[0]: float(line.split()[-1]) for line in lines}
    assert ratios["get"] < ratios["post"] < 1 / budget.MOST


def record(python="CPython 3.11.7 x86_64", reference=200_000, cost=100_000):
    return budget.Counts(python, reference, {"scgi get": cost})


@pytest.mark.parametrize("cost", [97_100, 100_000, 102_900])
def test_nearly_the_same_passes(cost):
    assert not budget.judge("scgi get", record(cost=cost), [record()]).fault


def test_dearer_request_fails_and_says_all():
    verdict = budget.judge("scgi get", record(cost=103_100), [record()])
    assert verdict.ratio == pytest.approx(1.031)
    for word in ("scgi get", "103,100", "100,000", "1.031", "core.py scgi --functions --against"):
        assert word in verdict.fault


def test_cheaper_request_tightens_the_budget():
    fault = budget.judge("scgi get", record(cost=96_900), [record()]).fault
    assert "0.969" in fault
    assert "core.py --record" in fault


def test_count_of_another_library_is_scaled():
    """As where the reference costs 0.8 % more, for the system's copying does."""
    seen = record(reference=201_600, cost=103_500)
    assert budget.judge("scgi get", seen, [record()]).ratio == pytest.approx(1.0268, abs=1e-4)


@pytest.mark.parametrize(
    "python",
    [
        pytest.param("CPython 3.11.9 x86_64", id="another build"),
        pytest.param("CPython 3.15.0 x86_64", id="another version"),
        pytest.param("CPython 3.11.7 aarch64", id="another machine"),
        pytest.param("PyPy 3.11.7 x86_64", id="another implementation"),
    ],
)
@pytest.mark.parametrize(("cost", "passes"), [(50_000, True), (186_000, True), (189_000, False)])
def test_python_that_is_not_on_record_is_held_loosely(python, cost, passes):
    seen = record(python, reference=300_000, cost=cost)
    assert budget.on_record(seen, [record()]) is None
    fault = budget.judge("scgi get", seen, [record()]).fault
    assert not fault if passes else "no budget is on record" in fault


def test_build_of_the_same_version_is_the_nearest():
    records = [
        record("CPython 3.12.1 x86_64", 230_000),
        record(reference=160_000),
        record(reference=200_000),
    ]
    assert budget.nearest(record(reference=229_000), records) is records[2]
    assert budget.nearest(record("CPython 3.13.0 x86_64", 229_000), records) is records[0]


def test_patch_release_that_costs_the_same_is_on_record():
    known = record()
    assert budget.on_record(record("CPython 3.11.9 x86_64", 201_000), [known]) is known


def test_case_without_a_record_fails():
    seen = record()._replace(cases={"scgi put": 1})
    assert "none on record" in budget.judge("scgi put", seen, [record()]).fault


def test_recording_replaces_its_own_build_alone(tmp_path):
    path = tmp_path / "instructions.json"
    for counts in (record(), record(reference=160_000), record(cost=90_000)):
        budget.store(counts, path)
    assert budget.load(path) == [record(reference=160_000), record(cost=90_000)]
