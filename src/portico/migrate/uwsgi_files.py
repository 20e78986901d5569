"""The files of uWSGI: its INI dialect, and the same in XML, YAML and JSON.

As uWSGI 2.0.21 reads them: `%n` and its kin are replaced before anything else, an included file
stands where it is included, `%(name)` is what another entry says, wherever that stands.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from portico.config.load import load
from portico.errors import ConfigError
from portico.migrate.files import is_file, read, refusal
from portico.migrate.model import Entry
from portico.migrate.xmlfile import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Files that one configuration is made of, and entries in all of them, at most.
MOST_FILES = 50
MOST_ENTRIES = 5000

#: Characters that placeholders within placeholders may make of all values.
MOST_GROWTH = 1_048_576

#: Options that include a file, and those of one format alone.
INCLUDES = {"ini", "include", "inherit", "config", "xml", "yaml", "yml", "json"}

_PLACEHOLDER = re.compile(r"%\(([^)]*)\)")
_MAGIC = re.compile(r"%(.)")

#: Magic variables of which only the machine and the moment of the start know the value.
LATE_MAGIC = "tTiIhHkKuUgGjJrRVX0123456789["

#: Begins and ends of uWSGI's logic among options.
_LOGIC = re.compile(r"(if-?\w.*|for(-.*)?)", re.DOTALL)
_LOGIC_END = {"endif", "end-if", "endfor", "end-for"}


class Source:
    """The entries of one configuration, in uWSGI's order.

    Attributes:
        entries: What is configured; names with dashes, placeholders replaced.
        conditional: Entries that count under a condition alone, with the entry that says which.
        missing: Entries that include what cannot be read, with the reason.
        used: Names that placeholders take.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = 0
        self._grown = 0
        self.missing: dict[Entry, str] = {}
        self.conditional: dict[Entry, Entry] = {}
        self.used: set[str] = set()
        file, _, section = _split_section(path)
        raw = list(self._expand(file, section or "uwsgi", ()))
        self.entries = self._fill_in(raw)
        self._find_conditions()

    def _expand(self, path: str, section: str, above: tuple[str, ...]) -> Iterator[Entry]:
        """Give a file's entries, those of the files that it includes in their place.

        Raises:
            ConfigError: the file cannot be read or parsed, or there are too many.
        """
        self._files += 1
        if self._files > MOST_FILES:
            raise refusal(path, 0, f"is one of more than {MOST_FILES} files")
        here = f"{os.path.realpath(path)}:{section}"
        if here in above:
            raise refusal(path, 0, f"includes itself (section {section})")
        found = _read_entries(path, section)
        if not found and not above:
            raise refusal(path, 0, f"has no entries for uWSGI in a section [{section}]")
        for entry in found:
            yield entry
            if entry.name not in INCLUDES or not entry.data:
                continue
            name, _, inner = _split_section(entry.data)
            target = Path(path).parent / name if name else Path(path)
            try:
                yield from self._expand(str(target), inner or "uwsgi", (*above, here))
            except ConfigError as error:
                if not isinstance(error.__cause__, OSError):
                    raise
                self.missing[entry] = str(error)

    def _fill_in(self, raw: list[Entry]) -> list[Entry]:
        """Replace each `%(name)` that another entry has."""
        if len(raw) > MOST_ENTRIES:
            raise refusal(self._path, 0, f"has more than {MOST_ENTRIES} entries")
        values: dict[str, str] = {}
        entries = []
        for entry in raw:
            name, value = entry.name, entry.data or ""
            if name in {"set-placeholder", "set-ph"}:
                name, _, value = value.partition("=")
            values.setdefault(name, value)
        for entry in raw:
            text = self._replace(entry, values) if entry.data else entry.data
            if text is not None and text != entry.data:
                entries.append(_entry(entry.name, text, entry.file, entry.line))
            else:
                entries.append(entry)
        return entries

    def _replace(self, entry: Entry, values: dict[str, str]) -> str:
        text = str(entry.data)

        def value(found: re.Match[str]) -> str:
            name = found[1].replace("_", "-")
            for known in (found[1], name):
                if known in values:
                    self.used.add(known)
                    return values[known]
            return found[0]

        for _ in range(10):  # placeholders in what placeholders stand for
            before, text = text, _PLACEHOLDER.sub(value, text)
            if text == before:
                break
            if len(text) > MOST_GROWTH - self._grown:
                raise refusal(entry.file, entry.line, "has placeholders that grow without end")
        self._grown += len(text)
        return text

    def _find_conditions(self) -> None:
        """Find what stands within `if-...` and `for-...`."""
        open_ones: list[Entry] = []
        for entry in self.entries:
            if entry.name in _LOGIC_END:
                if open_ones:
                    self.conditional[entry] = open_ones.pop()
                continue
            if open_ones:
                self.conditional[entry] = open_ones[-1]
            if is_logic(entry.name):
                open_ones.append(entry)


def is_logic(name: str) -> bool:
    """Whether an option begins a condition or a loop, or ends one."""
    return name in _LOGIC_END or bool(_LOGIC.fullmatch(name))


def _split_section(path: str) -> tuple[str, str, str]:
    """Split ``file:section``; a file of that whole name goes before."""
    if is_file(path):
        return path, "", ""
    return path.rpartition(":") if ":" in path else (path, "", "")


def _read_entries(path: str, section: str) -> list[Entry]:
    suffix = Path(path).suffix.lower()
    if suffix in {".yaml", ".yml", ".json", ".js"}:
        read(path)  # whether it can be, in the words for all files
        return list(_from_mapping(path, section))
    text = read(path)
    if suffix == ".xml" or text.lstrip().startswith("<"):
        return list(_from_xml(_without_magic(text, path), path, section))
    return list(_from_ini(text, path, section))


def _entry(name: str, value: str | None, path: str, line: int) -> Entry:
    name = name.replace("_", "-") if not name.startswith("_") else name
    shown = value or ""
    if name == "env":  # it may be secret
        shown = shown.partition("=")[0] + "=..." if "=" in shown else shown
    return Entry(name, shown, path, line, value)


def _from_ini(text: str, path: str, section: str) -> Iterator[Entry]:
    here = ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in ";#":
            continue
        line = _without_magic(line, path, here)
        if line.startswith("["):
            here = line[1:].partition("]")[0]
        elif not here:
            raise refusal(path, number, "stands before any section, such as [uwsgi]")
        elif here == section:
            name, equals, value = line.partition("=")
            yield _entry(name.strip(), value.strip() if equals else None, path, number)


def _from_xml(text: str, path: str, section: str) -> Iterator[Entry]:
    root = parse(text, path)
    tops = [root, *root.children]
    for top in (one for one in tops if one.name == "uwsgi"):
        if top.attributes.get("id", "uwsgi") != section:
            continue
        for element in top.children:
            yield _entry(element.name, element.text.strip() or None, path, element.line)


def _from_mapping(path: str, section: str) -> Iterator[Entry]:
    found = load(path, literal=(section,))
    if section not in found:
        return
    top = found[section]
    if not isinstance(top.value, dict):
        raise refusal(path, top.line, f"has no options below {section}")
    for name, value in top.value.items():
        line = top.lines[name,]
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, (dict, list)):
                raise refusal(path, line, f"has values within values below {name}")
            text = str(one).lower() if isinstance(one, bool) else str(one)
            said = None if one is None else _without_magic(text, path)
            yield _entry(name, said, path, line)


def _without_magic(text: str, path: str, section: str = "uwsgi") -> str:
    """Replace `%n`, `%d` and their kin; one that uWSGI does not know is nothing to it."""
    if "%" not in text:
        return text
    full = Path(path).absolute()
    values = {
        **dict.fromkeys("oOsS", full.name),
        **dict.fromkeys("pP", str(full)),
        **dict.fromkeys("dD", f"{full.parent}/"),
        **dict.fromkeys("eE", full.suffix[1:]),
        **dict.fromkeys("nN", full.stem),
        **dict.fromkeys("cC", full.parent.name),
        "v": str(full.parent),
        "x": section,
        "%": "%",
    }

    def value(found: re.Match[str]) -> str:
        letter = found[1]
        return values.get(letter, found[0] if letter == "(" or letter in LATE_MAGIC else "")

    return _MAGIC.sub(value, text)
