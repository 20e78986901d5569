"""What machine this is, and which versions of everything ran."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from machinery import find


def describe() -> dict[str, str | int]:
    """Give processor, cores, memory, kernel and Python."""
    facts = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", facts, re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(total[1]) / 1_048_576) if total else 0,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions(packages: set[str]) -> dict[str, str]:
    """Give the versions of the programs and of those *packages* that are installed."""
    found = {}
    for name, argv, pattern in (
        ("nginx", ["nginx", "-v"], r"nginx/([\d.]+)"),
        ("wrk", ["wrk", "-v"], r"wrk (\S+)"),
        ("Apache", ["apache2", "-v"], r"Apache/([\d.]+)"),
    ):
        program = find(argv[0])
        if program:
            run = subprocess.run(
                [program, *argv[1:]], capture_output=True, text=True, check=False, timeout=20
            )
            version = re.search(pattern, run.stdout + run.stderr)
            found[name] = version[1] if version else "?"
    for package in sorted(packages):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["portico"] = _revision(found.get("portico", "?"))
    return found


def _revision(version: str) -> str:
    """Add the commit to our own version, and whether the files differ from it."""
    argv = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    try:
        run = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    except OSError:
        return version
    return f"{version} ({run.stdout.strip()})" if run.returncode == 0 else version


def check_open_files(wanted: int) -> None:
    """Raise the limit of open files as far as this user may."""
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - POSIX alone has it

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
