"""Reads YAML configuration files, safely, and remembers the line of each key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

#: Octets of the largest file that is read: some thousands of mounts, and seconds of parsing.
MOST_BYTES = 262_144

#: Values in one file, each use of an anchor counted: aliases of aliases grow exponentially.
MOST_VALUES = 20_000

#: Levels of mappings and lists within each other; no setting has more than three.
MOST_LEVELS = 10

_TAG = "tag:yaml.org,2002:"

#: What the parser raises for a file that it cannot take.
_UNREADABLE = (yaml.YAMLError, ValueError, OverflowError, RecursionError)

_NUMBERS = (_TAG + "int", _TAG + "float")


class Entry(NamedTuple):
    """One value of a file.

    Attributes:
        value: As YAML says: text, number, boolean, list, mapping or None.
        line: Line of its key; the first is 1.
        lines: Lines of the keys within it, by their path: ``("/shop", "app")``.
    """

    value: Any
    line: int
    lines: Mapping[tuple[str, ...], int]


def load(
    path: str, *, literal: Container[str] = (), mistakes: list[ConfigError] | None = None
) -> dict[str, Entry]:
    """Read the mapping in a YAML file.

    Args:
        path: The file; no tag in it makes anything but plain values.
        literal: Keys below which a number stays the text that it is written as: ``0644``, ``1.10``.
        mistakes: Takes what is wrong where reading can go on, instead of an exception.

    Returns:
        Its entries by key; none for an empty file.

    Raises:
        ConfigError: the file cannot be read, is no YAML, no mapping, has a key twice, or is
            larger than any configuration.
    """
    found: list[ConfigError] = []
    try:
        entries = _entries(_read(path), path, literal, found)
    except ConfigError as error:
        found.append(error)
        entries = {}
    except _UNREADABLE as error:
        found.append(_explain(path, error))
        entries = {}
    if mistakes is None and found:
        raise found[0]
    if mistakes is not None:
        mistakes += found
    return entries


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the path is what the operator typed
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}", source=path
        ) from error
    except ValueError:  # a NUL in the path
        raise ConfigError(f"{path!r} is no path of a file", source=path) from None
    if len(data) > MOST_BYTES:
        raise ConfigError(
            f"{path} has more than {MOST_BYTES} octets, which no configuration needs", source=path
        )
    return data


def _explain(path: str, error: Exception) -> ConfigError:
    """Say what the parser could not take."""
    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = error.problem or "it cannot be parsed"
        if error.context == "while scanning an alias":
            reason += "; a text that begins with * stands in quotes"
        made = _refusal(path, line, f"is no valid YAML: {reason}")
    elif isinstance(error, yaml.YAMLError):  # octets that are no text
        reason = " ".join(str(error).split())
        made = ConfigError(f"{path} is no valid YAML: {reason}", source=path)
    elif isinstance(error, RecursionError):
        made = ConfigError(f"{path} has values within values without end", source=path)
    else:  # a date that is none
        made = ConfigError(f"{path} has an impossible value: {error}", source=path)
    made.__cause__ = error
    return made


def _entries(
    data: bytes, path: str, literal: Container[str], mistakes: list[ConfigError]
) -> dict[str, Entry]:
    """Make the entries; one with a mistake is left out, and the mistake told."""
    loader = yaml.SafeLoader(data)
    try:
        root = loader.get_single_node()
        if root is None or root.tag == _TAG + "null":
            return {}
        if not isinstance(root, yaml.MappingNode):
            raise _refusal(path, root.start_mark.line + 1, "has no 'key: value' where one belongs")
        entries: dict[str, Entry] = {}
        maker = _Maker(loader, path, mistakes)
        for key, line, node in maker.pairs(root):
            lines: dict[tuple[str, ...], int] = {}
            before = len(mistakes)
            try:
                value = maker.make(node, (), lines, literal=key in literal)
            except _UNREADABLE as error:
                mistakes.append(_explain(path, error))
            if len(mistakes) == before:
                entries[key] = Entry(value, line, lines)
        return entries
    finally:
        loader.dispose()


class _Maker:
    """Makes values of the nodes of one file; notes what they may not be."""

    def __init__(self, loader: yaml.SafeLoader, path: str, mistakes: list[ConfigError]) -> None:
        self._loader = loader
        self._path = path
        self._mistakes = mistakes
        self._count = 0

    def pairs(self, node: yaml.MappingNode) -> list[tuple[str, int, yaml.Node]]:
        """Give key, line and value of each entry of a mapping whose key is a new word."""
        known: dict[str, int] = {}
        found = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(line, "has a key that is no word")
            elif key in known:
                self._note(line, f"sets {key} again, after line {known[key]}")
            else:
                known[key] = line
                found.append((key, line, value_node))
        return found

    def make(
        self,
        node: yaml.Node,
        keys: tuple[str, ...],
        lines: dict[tuple[str, ...], int],
        *,
        literal: bool,
    ) -> Any:
        """Make the value of *node*, which stands below *keys*, and note the lines within it.

        Raises:
            ConfigError: the whole file has too many values.
            YAMLError, ValueError, OverflowError: a value that YAML itself cannot make.
        """
        self._count += 1
        line = node.start_mark.line + 1
        if self._count > MOST_VALUES:
            raise _refusal(self._path, line, f"is beyond {MOST_VALUES} values, anchors counted")
        if len(keys) > MOST_LEVELS:
            self._note(line, f"has values within values, more than {MOST_LEVELS}")
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            made = {}
            for key, key_line, value in self.pairs(node):
                lines[*keys, key] = key_line
                made[key] = self.make(value, (*keys, key), lines, literal=literal)
            return made
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.make(value, (*keys, ""), lines, literal=literal) for value in node.value]
        if literal and isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS:
            return node.value
        if isinstance(node, yaml.CollectionNode):  # sets, pairs: no setting takes any
            self._note(line, f"has a value of the kind {node.tag!a}")
            return None
        return self._loader.construct_object(node)

    def _note(self, line: int, fault: str) -> None:
        self._mistakes.append(_refusal(self._path, line, fault))


def _refusal(path: str, line: int, fault: str) -> ConfigError:
    source = f"{path} line {line}"
    return ConfigError(f"{source} {fault}", source=source)
