"""What was found in another server's configuration, and what has become of each entry."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portico.config.settings import OPTIONS
from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

#: What can become of an entry. One that is carried may leave something over as well.
CARRIED, NEEDLESS, LEFT, UNKNOWN = "carried", "not needed", "left", "unknown"

#: What is said of an entry that no table has.
NO_WORD = "unknown to this tool: decide by hand"

#: Variables that count at the start of a process, so that a file read later comes too late.
_EARLY = re.compile(r"(PYTHON|LD_|LC_|MALLOC_)\w*|LANG|LANGUAGE")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that somebody has configured.

    Attributes:
        name: As it is written.
        value: As it is shown; of variables, which may be secret, the name alone.
        file: Where it stands.
        line: Its line there; 0 for what is not written anywhere, a default.
        data: Its value as it was read.
    """

    name: str
    value: str
    file: str
    line: int
    data: Any = None

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file} line {self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Note:
    """What has become of one entry, or of a part of it.

    Attributes:
        entry: The entry.
        outcome: `CARRIED`, `NEEDLESS`, `LEFT` or `UNKNOWN`.
        text: What it is now, why it is not needed, or what to do instead.
    """

    entry: Entry
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class Front:
    """What the web server's configuration needs.

    Attributes:
        sentence: What to do, in one or two sentences.
        bind: The address that its lines have to lead to, where they change; empty where not.
        body_limit: Largest body that it lets through, bytes; 0 for no limit.
        timeout: Seconds that it waits.
        lines: Lines that it gets beside, such as those for static files.
    """

    sentence: str
    bind: str = ""
    body_limit: int = 0
    timeout: int = 60
    lines: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    """What becomes of one configuration.

    Attributes:
        source: The file.
        kind: Whose it is, as prose has it.
        notes: What has become of each entry, in the order of the files.
        settings: Portico's settings by key, as a file has them.
        origins: Key, or key and name within it -> the entry it comes from.
        directory: Where the command is to run; empty for where it was started.
        umask: Octal digits of the umask that it is to have; empty for any.
        variables: Variables that the command is to have from its start.
        program: The command itself; a virtual environment has its own.
        remarks: What is different without being anybody's entry.
        tasks: What is left to do without being anybody's entry.
        script: Lines of Python that take the place of a script's own.
        front: What the web server needs.
    """

    source: str
    kind: str
    notes: list[Note] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    origins: dict[tuple[str, ...], Entry] = field(default_factory=dict)
    directory: str = ""
    umask: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    program: str = "portico"
    remarks: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    script: list[str] = field(default_factory=list)
    front: Front | None = None
    _places: dict[int, list[int]] = field(default_factory=dict)  # of each entry's notes

    def note(self, entry: Entry, outcome: str, text: str) -> None:
        """Say what has become of *entry*."""
        self._places.setdefault(id(entry), []).append(len(self.notes))
        self.notes.append(Note(entry, outcome, text))

    def leave(self, entry: Entry, text: str) -> None:
        """Say that *entry* is not carried over, and what to do instead."""
        self.note(entry, LEFT, text)

    def carry(self, entry: Entry, key: str, value: object, text: str = "") -> bool:
        """Carry *entry* over as the setting *key*, unless Portico would refuse it.

        Returns:
            Whether it was.
        """
        try:
            converted = OPTIONS[key].read(value)
        except ConfigError as error:
            self.leave(entry, f"Portico would refuse it: {error}")
            return False
        if OPTIONS[key].kind == "float":
            number = round(converted, 3)  # no exponent, which YAML takes for a text
            value = int(number) if number == int(number) else number
        elif OPTIONS[key].kind in {"int", "bool"}:
            value = converted
        self._replace((key,), entry)
        self.settings[key] = value
        self.note(entry, CARRIED, f"{key}: {shown(value)}" + (f"; {text}" if text else ""))
        return True

    def carry_variable(self, entry: Entry, name: str, value: str) -> None:
        """Carry a variable over, to the file or, where that is too late, to the command."""
        if _EARLY.fullmatch(name) and "\0" not in value:
            self._replace(("variables", name), entry)
            self.variables[name] = value
            self.note(entry, CARRIED, f"{name} in the environment of the command")
        else:
            self._carry_within(entry, "environment", name, value, f"environment: {name}")

    def carry_mount(self, entry: Entry, place: str, app: str) -> None:
        """Carry an application at a place of its own over."""
        self._carry_within(entry, "mounts", place, app, f"mounts: {place}: {app}")

    def carry_bind(self, entry: Entry, url: str, text: str = "") -> None:
        """Carry an address over."""
        try:
            OPTIONS["bind"].read([url])
        except ConfigError as error:
            self.leave(entry, f"Portico would refuse it: {error}")
            return
        binds = self.settings.setdefault("bind", [])
        if url in binds:
            self.note(entry, NEEDLESS, f"{url} is there already")
            return
        binds.append(url)
        self.origins["bind", url] = entry
        self.note(entry, CARRIED, f"bind: {url}" + (f"; {text}" if text else ""))

    def _carry_within(self, entry: Entry, key: str, name: str, value: str, shown: str) -> None:
        try:
            OPTIONS[key].read({name: value})
        except ConfigError as error:
            self.leave(entry, f"Portico would refuse it: {error}")
            return
        self._replace((key, name), entry)
        self.settings.setdefault(key, {})[name] = value
        self.note(entry, CARRIED, shown)

    def _replace(self, keys: tuple[str, ...], entry: Entry) -> None:
        """Say of an earlier entry for the same thing that it does not count any more."""
        before = self.origins.get(keys)
        if before is not None and before.line:
            where = f"{entry.name} in line {entry.line} takes its place"
            if entry.file != before.file:
                where = f"{entry.name} in {entry.place} takes its place"
            for at in self._places.get(id(before), []):
                if self.notes[at].outcome == CARRIED:
                    self.notes[at] = Note(before, NEEDLESS, where)
        self.origins[keys] = entry

    def sort(self) -> None:
        """Put the notes into the order of the source."""
        files = list(dict.fromkeys([self.source, *(note.entry.file for note in self.notes)]))
        self.notes.sort(key=lambda note: (files.index(note.entry.file), note.entry.line))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to decide."""
        return not self.tasks and all(note.outcome in {CARRIED, NEEDLESS} for note in self.notes)


def split_variable(text: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``.

    Raises:
        ValueError: it is no such thing.
    """
    name, equals, value = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise ValueError("it is no NAME=VALUE")
    return name, value


def shown(value: object) -> str:
    """Write a value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


# -- tables of what is known ---------------------------------------------------------------


@dataclass(slots=True)
class State:
    """A plan while it is made, with what has to be seen together.

    Attributes:
        plan: The plan.
        kept: By name of the slot, entries that are looked at in the end.
    """

    plan: Plan
    kept: dict[str, list[Entry]] = field(default_factory=dict)

    def last(self, slot: str) -> Entry | None:
        """Give the last entry of a slot, the one that counts."""
        found = self.kept.get(slot)
        return found[-1] if found else None

    def finish(self) -> Plan:
        """List what nobody has looked at, and give the plan in the order of the source."""
        noted = {id(note.entry) for note in self.plan.notes}
        for entry in (one for found in self.kept.values() for one in found):
            if id(entry) not in noted:
                self.plan.leave(entry, "it does not go together with the others: decide by hand")
                noted.add(id(entry))
        self.plan.sort()
        return self.plan


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one option of another server.

    Attributes:
        outcome: What becomes of it, where its value can be taken.
        text: For the reference: what it is in Portico, why it is not needed, what to do instead.
        apply: Does it; where there is none, the text is what is said.
    """

    outcome: str
    text: str
    apply: Callable[[State, Entry], None] | None = None

    def __call__(self, state: State, entry: Entry) -> None:
        """Say what becomes of *entry*."""
        if self.apply is None:
            state.plan.note(entry, self.outcome, self.text)
        else:
            self.apply(state, entry)


def needless(text: str) -> Rule:
    """Make the rule of an option that Portico needs no counterpart of."""
    return Rule(NEEDLESS, text)


def left(text: str) -> Rule:
    """Make the rule of an option that is not carried over."""
    return Rule(LEFT, text)


def setting(key: str, convert: Callable[[Any], object], text: str = "") -> Rule:
    """Make the rule of an option that is a setting of Portico's.

    Args:
        key: The setting.
        convert: Makes its value; raises `ValueError`, with the reason, where it cannot.
        text: What is different.
    """

    def apply(state: State, entry: Entry) -> None:
        try:
            value = convert(entry.data)
        except ValueError as error:
            state.plan.leave(entry, f"{error}; decide {key} by hand")
            return
        state.plan.carry(entry, key, value, text)

    return Rule(CARRIED, f"`{key}`" + (f"; {text}" if text else ""), apply)


def kept(slot: str, text: str, outcome: str = CARRIED) -> Rule:
    """Make the rule of an option that is seen together with others."""

    def apply(state: State, entry: Entry) -> None:
        state.kept.setdefault(slot, []).append(entry)

    return Rule(outcome, text, apply)


def each(names: tuple[str, ...], rule: Rule) -> dict[str, Rule]:
    """Give each of *names* the same rule."""
    return dict.fromkeys(names, rule)
