"""Reads YAML configuration files, safely, and remembers the line of each key."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from portico.errors import ConfigError


class Entry(NamedTuple):
    """One value of a file.

    Attributes:
        value: As YAML says: text, number, boolean, list, mapping or None.
        line: Line of its key; the first is 1.
    """

    value: Any
    line: int


def load(path: str) -> dict[str, Entry]:
    """Read the mapping in a YAML file.

    Args:
        path: The file; no tag in it makes anything but plain values.

    Returns:
        Its entries by key; none for an empty file.

    Raises:
        ConfigError: the file cannot be read, is no YAML, no mapping, or has a key twice.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the path is what the operator typed
            data = file.read()
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}", source=path
        ) from error
    try:
        return _entries(data, path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = error.problem or "it cannot be parsed"
        raise _refusal(path, line, f"is no valid YAML: {reason}") from error
    except yaml.YAMLError as error:  # octets that are no text
        raise ConfigError(f"{path} is no valid YAML: {error}", source=path) from error
    except ValueError as error:  # a date that is none
        raise ConfigError(f"{path} has an impossible value: {error}", source=path) from error


def _entries(data: bytes, path: str) -> dict[str, Entry]:
    loader = yaml.SafeLoader(data)
    try:
        root = loader.get_single_node()
        if root is None or root.tag == "tag:yaml.org,2002:null":
            return {}
        if not isinstance(root, yaml.MappingNode):
            raise _refusal(path, root.start_mark.line + 1, "has no 'key: value' where one belongs")
        entries: dict[str, Entry] = {}
        for key_node, value_node in root.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refusal(path, line, "has a key that is no word")
            if key in entries:
                raise _refusal(path, line, f"sets {key} again, after line {entries[key].line}")
            entries[key] = Entry(loader.construct_object(value_node, deep=True), line)
        return entries
    finally:
        loader.dispose()


def _refusal(path: str, line: int, fault: str) -> ConfigError:
    source = f"{path} line {line}"
    return ConfigError(f"{source} {fault}", source=source)
