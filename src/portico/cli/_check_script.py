"""`portico check SCRIPT`: prints what is found about a script that a web server starts."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from portico.servers.scripts.examine import Sample, examine, is_loaded

if TYPE_CHECKING:
    from portico.servers.scripts.findings import Finding


def run(path: str, sample: Sample, *, as_json: bool) -> int:
    """Look at one script; gives the exit status."""
    findings = examine(Path(path), sample)
    wrong = [finding for finding in findings if finding.wrong]
    if as_json:
        report = {
            "ok": not wrong,
            "script": str(Path(path).absolute()),
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(report, indent=2))
        return 2 if wrong else 0
    show(findings)
    if not wrong:
        loaded = is_loaded(Path(path))
        print(f"{path} is ok: it {'loads' if loaded else f'answers {sample.target}'}")
    return 2 if wrong else 0


def show(findings: list[Finding]) -> None:
    """Print findings on standard error: a sentence, what to change, and what belongs below."""
    for finding in findings:
        mark = "" if finding.wrong else "note: "
        print(f"portico: {mark}{finding.sentence}", file=sys.stderr)
        print(f"  to do: {finding.remedy}", file=sys.stderr)
        for line in finding.detail.splitlines():
            print(f"  | {line}", file=sys.stderr)
    count = sum(finding.wrong for finding in findings)
    if count:
        print(f"portico: {count} fault{'s' if count > 1 else ''}", file=sys.stderr)
