"""Configurations as real projects have them, what becomes of them, and the command that writes it.

    python tests/migrate/samples.py

Read what `git diff` then shows before you commit it.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

from portico.cli import main

DIRECTORY = Path(__file__).with_name("samples")

GOLDEN = Path(__file__).with_name("golden")

#: Stands for the directory of the samples.
HERE = "/srv/here"

SAMPLES = sorted(path.name for path in DIRECTORY.iterdir() if path.is_file())


def migrated(name, *options):
    """What the command says of a sample on a machine with four processors that lacks nothing."""
    before = Path.cwd()
    out, err = io.StringIO(), io.StringIO()
    os.chdir(DIRECTORY)
    try:
        with (
            mock.patch("os.cpu_count", return_value=4),
            mock.patch("portico.migrate.document._WIDTH", 10_000),  # here has any length
            mock.patch("portico.config.examine.mistakes", return_value=[]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = main(["migrate", name, *options])
    finally:
        os.chdir(before)
    text = out.getvalue().replace(str(DIRECTORY), HERE)
    return status, text, err.getvalue()


def golden_text(name):
    """What is compared byte for byte: the output, and the line below it."""
    status, out, err = migrated(name)
    return f"{out}\n# exit status {status}: {err}"


if __name__ == "__main__":
    for sample in SAMPLES:
        (GOLDEN / f"{sample}.yaml").write_text(golden_text(sample), "utf-8")
