"""The instructions that requests may cost: what is on record, and what is made of a new count.

Pythons differ in what their compiler made of them, by a fifth and more, and with them every
count. So a record belongs to a build, which is known again by its version and by what the
reference costs it, a program that never changes; and counts are compared as multiples of that.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent.parent / "tests" / "budgets" / "instructions.json"

ABOUT = (
    "Instructions that one request costs in codec and core, by Python; written by"
    " `python bench/core.py --record` and explained in docs/contributing.md."
)

#: Costs up to here pass. The same code is counted the same to the instruction; another seed of
#: the hashes, another path of the checkout, other names in a module move a count by 0.4 % at most.
MOST = 1.03

#: Costs from here pass. Were less no failure, a change that saves a tenth would make room for later
#: ones that cost a tenth, unseen; it is recorded in the commit that saves, and shown by it.
LEAST = 0.97

#: The same for a Python that is not on record, compared with one that is: the ratios of the
#: builds on record differ by a tenth.
MOST_ELSEWHERE = 1.25

#: Within this the reference costs the same, and the build is the same or as good as that.
SAME_BUILD = 0.01


class Counts(NamedTuple):
    """What was counted with one Python.

    Attributes:
        python: Implementation, version and machine.
        reference: Instructions of the reference.
        cases: Those of one request of each case.
    """

    python: str
    reference: int
    cases: dict[str, int]

    def kind(self) -> tuple[str, str, str]:
        """Give what builds must have in common: implementation, minor version, machine."""
        implementation, version, machine = self.python.split()
        return implementation, ".".join(version.split(".")[:2]), machine


class Verdict(NamedTuple):
    """What is to be said of a case.

    Attributes:
        ratio: Of what was seen to what is on record, both as multiples of the reference.
        fault: Why it does not pass; empty where it does.
    """

    ratio: float
    fault: str


def this_python() -> str:
    """Name the Python that runs this."""
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"


def load(path: Path = FILE) -> list[Counts]:
    """Read what is on record."""
    return [Counts(**record) for record in json.loads(path.read_text())["records"]]


def store(counts: Counts, path: Path = FILE) -> None:
    """Put *counts* on record, in the place of what the same build had."""
    records = load(path) if path.exists() else []
    old = on_record(counts, records)
    records = sorted([*(record for record in records if record is not old), counts])
    document = {"about": ABOUT, "records": [record._asdict() for record in records]}
    path.write_text(json.dumps(document, indent=2) + "\n")


def on_record(counts: Counts, records: list[Counts]) -> Counts | None:
    """Give the record of the build that *counts* are of, if there is one."""
    same = [
        record
        for record in records
        if record.kind() == counts.kind()
        and abs(record.reference / counts.reference - 1) <= SAME_BUILD
    ]
    return min(same, key=lambda record: _distance(record, counts), default=None)


def nearest(counts: Counts, records: list[Counts]) -> Counts:
    """Give the record to compare with where the build has none: of its version, if possible."""
    return min(
        records,
        key=lambda record: (record.kind() != counts.kind(), _distance(record, counts)),
    )


def _distance(record: Counts, counts: Counts) -> float:
    return abs(record.reference / counts.reference - 1)


def not_on_record(counts: Counts, records: list[Counts]) -> str:
    """Say that a Python is not on record, and how to put it there."""
    record = nearest(counts, records)
    return (
        f"no budget is on record for this {counts.python}, whose reference costs"
        f" {counts.reference:,} instructions: it is held to {MOST_ELSEWHERE} times the ratios of"
        f" {record.python}. `python bench/core.py --record` puts it on record"
    )


def judge(case: str, counts: Counts, records: list[Counts]) -> Verdict:
    """Compare a case of *counts* with what is on record.

    Args:
        case: Its name.
        counts: Of the present code.
        records: All that is on record; not empty.
    """
    own = on_record(counts, records)
    record = own or nearest(counts, records)
    seen = counts.cases[case]
    if case not in record.cases:
        return Verdict(1.0, f"{case}: {seen:,} instructions, and none on record; {_RECORD}")
    protocol = case.partition(" ")[0]
    ratio = seen / counts.reference / (record.cases[case] / record.reference)
    what = (
        f"{case}: {seen:,} instructions a request, {record.cases[case]:,} on record for"
        f" {record.python}, ratio {ratio:.3f}"
    )
    if own is None:
        most = MOST_ELSEWHERE
        what += f" of the multiples of the reference; {not_on_record(counts, records)}"
    else:
        most = MOST
    if ratio > most:
        return Verdict(
            ratio,
            f"{what}; at most {most}. Which functions grew:"
            f" `python bench/core.py {protocol} --functions --against CHECKOUT`."
            f" If it is worth it, {_RECORD}",
        )
    if own is not None and ratio < LEAST:
        return Verdict(
            ratio, f"{what}; less than {LEAST}, so that the budget must be tightened: {_RECORD}"
        )
    return Verdict(ratio, "")


_RECORD = "`python bench/core.py --record` writes it down"
