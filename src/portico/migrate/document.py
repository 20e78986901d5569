"""Writes a plan: the file for Portico, the report, and the same as JSON has it."""

from __future__ import annotations

import re
import shlex
import textwrap
from typing import TYPE_CHECKING, Any

from portico.config import examine
from portico.config.settings import OPTIONS, Settings
from portico.errors import ConfigError
from portico.migrate.model import CARRIED, LEFT, NEEDLESS, UNKNOWN, Entry, Note, Plan, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH = 88

#: Characters of an entry's value that the report shows.
_MOST_VALUE = 60

#: What YAML takes for that very text without quotes, in any of its versions.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+~=?&:,-]*")
#: In the name of what nobody should read over a shoulder.
_SECRET = re.compile(r"pass|secret|token|key|dsn|credential|salt", re.IGNORECASE)

_WORDS = {"y", "n", "yes", "no", "true", "false", "on", "off", "null"}

_HEADS = {
    LEFT: "Not carried over: decide by hand",
    UNKNOWN: "Unknown to this tool: decide by hand",
    CARRIED: "Carried over",
    NEEDLESS: "Not needed",
}


def command_line(plan: Plan, file: str) -> str:
    """Give the command that serves what the plan says, as a shell takes it.

    Args:
        plan: The plan.
        file: Where the settings will stand.
    """
    parts = []
    if plan.directory:
        parts.append(f"cd {shlex.quote(plan.directory)} &&")
    if plan.umask:
        parts.append(f"umask {plan.umask} &&")
    parts += [f"{name}={shlex.quote(value)}" for name, value in plan.variables.items()]
    parts.append(shlex.join([plan.program, "serve", "--config", file]))
    return printable(" ".join(parts))


def mistakes(plan: Plan) -> list[str]:
    """Say what `portico check` finds wrong on this machine, such as a directory that is missing."""
    try:
        settings = Settings(**_read(plan))
        return [str(error) for error in examine.mistakes(settings)]
    except ConfigError as error:
        return [str(error)]
    except OSError as error:  # a name that is too long for a file
        return [f"{error.filename}: {error.strerror}"]


def _read(plan: Plan) -> dict[str, Any]:
    return {key: OPTIONS[key].read(value) for key, value in plan.settings.items()}


# -- the file ------------------------------------------------------------------------------


def settings_text(plan: Plan) -> str:
    """Write the settings as YAML, each with the place that it comes from."""
    lines = []
    for key in (key for key in OPTIONS if key in plan.settings):
        value = plan.settings[key]
        if isinstance(value, dict):
            lines.append(f"{key}:")
            for name, inner in value.items():
                lines.append(_line(f"  {quoted(name)}: {quoted(inner)}", plan, (key, name)))
        elif isinstance(value, list) and value:
            lines.append(f"{key}:")
            lines += [_line(f"  - {quoted(one)}", plan, (key, one)) for one in value]
        else:
            text = quoted(value) if isinstance(value, str) else shown(value)
            lines.append(_line(f"{key}: {text}", plan, (key,)))
    return "".join(f"{line}\n" for line in lines)


def _line(text: str, plan: Plan, keys: tuple[str, ...]) -> str:
    entry = plan.origins.get(keys)
    if entry is None:
        return text
    return f"{text}  # {printable(_origin(plan, entry))}"


def quoted(text: str) -> str:
    """Write a text as YAML takes it for that very text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and not text.endswith(":"):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def printable(text: str) -> str:
    """Escape what would end a comment, move a terminal's cursor or hide text."""
    return "".join(
        [c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text]
    )


def document(plan: Plan, file: str, front: str) -> str:
    """Write the whole file: the report as comments, and the settings.

    Args:
        plan: The plan.
        file: Where the settings will stand.
        front: Lines for the web server.
    """
    told = "".join(f"# {line}".rstrip() + "\n" for line in report(plan, file, front).splitlines())
    return f"{told}\n{settings_text(plan)}"


# -- the report ----------------------------------------------------------------------------


def report(plan: Plan, file: str, front: str) -> str:
    """Say all that a person has to know, as plain text."""
    parts = [
        f"Portico's counterpart of {printable(plan.source)} ({plan.kind}).",
        "",
        f"Saved as {printable(file)}, it is started by:",
        "",
        f"  {command_line(plan, file)}",
        "",
    ]
    if plan.script:
        parts += [
            "In the script itself:",
            "",
            *(f"  {printable(line)}".rstrip() for line in plan.script),
            "",
        ]
    tasks = [*plan.tasks, *(f"On this machine: {told}" for told in mistakes(plan))]
    parts += _list("Still to do", tasks)
    parts += _notes(plan, LEFT) + _notes(plan, UNKNOWN)
    parts += _list("Different from before", plan.remarks)
    if plan.front is not None:
        parts += [*_paragraph(f"The web server: {plan.front.sentence}"), ""]
        lines = _front_lines(plan, front)
        parts += [*(f"  {printable(line)}".rstrip() for line in lines), ""] if lines else []
    parts += _notes(plan, CARRIED) + _notes(plan, NEEDLESS)
    return "\n".join(parts)


def _origin(plan: Plan, entry: Entry, *, value: str = "") -> str:
    """Name an entry with its place; the plan's own file goes without saying."""
    written = f"{entry.name} = {value}" if value else entry.name
    if not entry.line:
        return written
    place = f"line {entry.line}" if entry.file == plan.source else entry.place
    return f"{place}, {written}"


def _told(plan: Plan, note: Note) -> str:
    value = public_value(note.entry)
    value = value if len(value) <= _MOST_VALUE else value[: _MOST_VALUE - 3] + "..."
    name = _origin(plan, note.entry, value=value)
    return name if note.outcome == UNKNOWN else f"{name}: {note.text}"


def _front_lines(plan: Plan, front: str) -> list[str]:
    if plan.front is None or not plan.front.lines:
        return front.splitlines()
    return [*front.splitlines(), "# and in server { }", *plan.front.lines]


def public_value(entry: Entry) -> str:
    """Give the value of an entry, unless its name says that it may be secret."""
    return "..." if entry.value and _SECRET.search(entry.name) else entry.value


def _notes(plan: Plan, outcome: str) -> list[str]:
    found = [_told(plan, note) for note in plan.notes if note.outcome == outcome]
    return _list(_HEADS[outcome], found)


def _list(head: str, sentences: list[str]) -> list[str]:
    return [f"{head}:", "", *_items(sentences), ""] if sentences else []


def _items(sentences: list[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from textwrap.wrap(
            printable(sentence), _WIDTH, initial_indent="- ", subsequent_indent="  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(printable(text), _WIDTH, break_long_words=False, break_on_hyphens=False)


def summary(plan: Plan) -> str:
    """Count what has become of the entries, in one sentence."""
    counts = {outcome: sum(note.outcome == outcome for note in plan.notes) for outcome in _HEADS}
    words = [f"{counts[outcome]} {outcome}" for outcome in (CARRIED, NEEDLESS, LEFT, UNKNOWN)]
    todo = len(plan.tasks) + len(mistakes(plan))
    more = f"; {todo} still to do" if todo else ""
    return f"{printable(plan.source)}: {', '.join(words)}{more}"


def as_json(plan: Plan, file: str, front: str) -> dict[str, Any]:
    """Give the plan as JSON has it."""
    return {
        "source": plan.source,
        "kind": plan.kind,
        "complete": is_complete(plan),
        "command": command_line(plan, file),
        "directory": plan.directory or None,
        "umask": plan.umask or None,
        "environment": plan.variables,
        "settings": plan.settings,
        "entries": [
            {
                "file": note.entry.file,
                "line": note.entry.line or None,
                "name": note.entry.name,
                "value": public_value(note.entry),
                "outcome": note.outcome,
                "text": note.text,
            }
            for note in plan.notes
        ],
        "script": plan.script,
        "web_server": None
        if plan.front is None
        else {
            "sentence": plan.front.sentence,
            "lines": _front_lines(plan, front),
        },
        "to_do": [*plan.tasks, *mistakes(plan)],
        "different": plan.remarks,
    }


def is_complete(plan: Plan) -> bool:
    """Whether nothing is left to decide or to do."""
    return plan.is_complete and not mistakes(plan)
