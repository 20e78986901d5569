"""Reads the documentation: its blocks, commands, links, and the parts that are generated.

    python tests/docs_harness.py

writes the generated parts anew: what a command prints, and the tables that come from the source.
Read what `git diff` then shows before you commit it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from defects import listing
from migrate import tables as migrations
from portico.cli import main
from portico.core.mount import EXAMPLES
from portico.servers.scripts.findings import KINDS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])

#: Stands above a block that holds what the last command before it prints.
PRINTED = "<!-- the command above prints -->"

#: Stands above a block that holds what the running application of the same page answers.
ANSWERED = "<!-- the running application answers -->"

#: Around a table that is made of the source.
_TABLE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

_SHELL = {"", "sh"}
_SEPARATORS = {"&&", "||", "|", ";", "&", ">"}


class Block(NamedTuple):
    """A fenced block: its language, its text, and where in the page's lines the text stands."""

    language: str
    text: str
    first: int
    last: int


def read_blocks(page):
    """Give the fenced blocks of a page's text, in order."""
    blocks = []
    opened = None
    lines = page.splitlines()
    for number, line in enumerate(lines):
        if opened is None and line.startswith("```"):
            opened = number
        elif opened is not None and line == "```":
            text = "".join(f"{inner}\n" for inner in lines[opened + 1 : number])
            blocks.append(Block(lines[opened][3:].strip(), text, opened + 1, number))
            opened = None
    assert opened is None, f"the block in line {opened} is not closed"
    return blocks


def without_blocks(page):
    """Give the prose of a page's text."""
    lines = page.splitlines()
    for block in read_blocks(page):
        lines[block.first - 1 : block.last + 1] = [""] * (block.last - block.first + 2)
    return "\n".join(lines)


def read_commands(text):
    """Give the words of each `portico` command among the shell lines or unit lines of *text*."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        start = line.removeprefix("ExecStart=")
        if "portico" not in start:
            continue
        command = []
        for word in [*shlex.split(start, comments=True), ";"]:
            if word not in _SEPARATORS:
                command.append(word)
                continue
            if command and Path(command[0]).name == "portico":
                commands.append(["portico", *command[1:]])
            command = []
    return commands


def shown_commands(page):
    """Give the words of each command in a page's shell blocks and systemd units."""
    return [
        command
        for block in read_blocks(page)
        if block.language in {*_SHELL, "ini"}
        for command in read_commands(block.text)
    ]


def marked_blocks(page, mark):
    """Give each block below *mark*, with the last command before it."""
    lines = page.splitlines()
    found = []
    command = None
    for block in read_blocks(page):
        if lines[block.first - 2] == mark:
            assert command, f"no command before line {block.first}"
            found.append((command, block))
        elif block.language in _SHELL:
            command = (read_commands(block.text) or [None])[-1]
    return found


def run(command):
    """Run a command here; gives its exit status and what it prints."""
    out = io.StringIO()
    plain = {"COLUMNS": "80", "NO_COLOR": "1"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(out):
        status = main(command[1:])
    return status, out.getvalue()


def repairs_table():
    """Give the table of what each repair makes of SCRIPT_NAME and PATH_INFO."""
    lines = [
        "| repair | told by | `SCRIPT_NAME`, `PATH_INFO` as sent | as the application gets them |",
        "|---|---|---|---|",
    ]
    for name, examples in EXAMPLES.items():
        for tell, sent, got in examples:
            telling = "<br>".join(f"`{key}` {_code(value)}" for key, value in tell.items())
            before, after = (", ".join(map(_code, pair)) for pair in (sent, got))
            lines.append(f"| `{name}` | {telling} | {before} | {after} |")
    return "\n".join(lines) + "\n"


def _code(value):
    if value is None:
        return "not sent"
    return f"`{ascii(value)[1:-1]}`" if value else "empty"


def findings_table():
    """Give the table of what `portico check SCRIPT` finds, the most important first."""
    lines = ["| it says | to do |", "|---|---|"]
    for kind in KINDS.values():
        note = "" if kind.wrong else "note: "
        lines.append(f"| {note}{_words(kind.sentence)} | {_words(kind.remedy)} |")
    return "\n".join(lines) + "\n"


def _words(template):
    """Write what is filled in later in capitals."""
    text = re.sub(r"(?<!{){(\w+)(?:![a-z])?(?::\w+)?}(?!})", lambda name: name[1].upper(), template)
    text = text.replace("{{", "{").replace("}}", "}")
    return re.sub(r"([\\|*<>$_`])", r"\\\1", text)


#: Generated tables by the name that their comment has.
TABLES = {
    "repairs": repairs_table,
    "defects": listing.table,
    "findings": findings_table,
    **migrations.TABLES,
}


def with_tables(page):
    """Give a page's text with its generated tables as they should be."""
    return _TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", page)


def with_output(page):
    """Give a page's text with what its commands print."""
    lines = page.splitlines(keepends=True)
    for command, block in reversed(marked_blocks(page, PRINTED)):
        lines[block.first : block.last] = [run(command)[1]]
    return "".join(lines)


if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text("utf-8")
        after = with_output(with_tables(before))
        if after != before:
            path.write_text(after, "utf-8")
            print(path.relative_to(ROOT))  # noqa: T201 - says what it wrote
