"""The page on moving from flup says what is so."""

import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

import docs_harness as docs
from engine_harness import WAIT
from flup_harness import SERVERS
from portico.compat.flup import _MODULES
from portico.compat.flup._absent import _INSTEAD
from portico.compat.flup.server import _arguments

PAGE = (docs.ROOT / "docs" / "howto" / "moving-from-flup.md").read_text("utf-8")


def section(title):
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text):
    """The names in the first column of a section's table."""
    lines = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in lines for name in re.findall(r"`([^`]+)`", cell)]


def test_every_argument_is_described():
    wanted = {
        name
        for server in SERVERS
        for name in inspect.signature(import_module(f"flup.server.{server}").WSGIServer).parameters
    }
    wanted |= {*_arguments.THREADS, *_arguments.PROCESSES}
    assert set(first_cells(section("Arguments"))) == wanted - {"kw"}


def test_every_module_is_named():
    named = set(first_cells(PAGE.partition("\n## ")[0]))
    short = {name.rpartition(".")[2] for name in named}
    public = {name.rpartition(".")[2] for name in _MODULES if name.count(".") == 2}
    assert short == public - {"fcgi_base", "threadedserver"}
    assert set(SERVERS) <= short


def test_what_is_gone_is_named():
    named = first_cells(section("What flup no longer has either"))
    assert {name.split(".")[1] for name in named} == set(_INSTEAD)


@pytest.mark.parametrize(
    "line", sorted(set(re.findall(r"^(?:from|import) portico.*$", PAGE, re.MULTILINE)))
)
def test_imports_work(line):
    subprocess.run([sys.executable, "-c", line], check=True, timeout=WAIT)
