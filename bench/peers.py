"""Install the peers that pyproject.toml pins, each as far as this machine lets it.

A peer that cannot be built takes no other with it: it is named, with the reason, and left out.

  .venv-bench/bin/python bench/peers.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"

#: Package -> why it is not here; beside the environment's own files.
MISSING = Path(sys.prefix) / "peers-missing.json"

_PIP = [
    sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
    "--no-warn-script-location",
]  # fmt: skip


def pins() -> dict[str, str]:
    """Give package and version of all that the extra ``bench`` pins."""
    extras = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    pairs = [line.partition("==") for line in extras["bench"]]
    return {name: version for name, _, version in pairs}


def is_installed(package: str, version: str) -> bool:
    """Tell whether *package* is here, in *version*."""
    try:
        return metadata.version(package) == version
    except metadata.PackageNotFoundError:
        return False


def missing() -> dict[str, str]:
    """Give why packages could not be installed, as far as it was tried."""
    if not MISSING.exists():
        return {}
    found: dict[str, str] = json.loads(MISSING.read_text("utf-8"))
    return found


def reason(output: str) -> str:
    """Give the line of pip's that says most."""
    lines = [line.strip() for line in output.splitlines()]
    telling = [line for line in lines if "error:" in line.lower()]
    telling = [line for line in telling if "subprocess-exited" not in line] or telling or lines
    return telling[0] if telling else "pip said nothing"


def _pip(packages: list[str]) -> str:
    """Install; gives nothing, or what pip says."""
    run = subprocess.run([*_PIP, *packages], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def main() -> int:
    wanted = {name: pin for name, pin in pins().items() if not is_installed(name, pin)}
    if not wanted:
        return 0
    packages = [f"{name}=={pin}" for name, pin in wanted.items()]
    print(f"Installing {', '.join(packages)} ...", file=sys.stderr)
    failed = {}
    if _pip(packages):
        for name, package in zip(wanted, packages, strict=True):
            output = _pip([package])
            if output:
                failed[name] = reason(output)
                print(f"{package} cannot be installed: {failed[name]}", file=sys.stderr)
    MISSING.write_text(json.dumps(failed, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
