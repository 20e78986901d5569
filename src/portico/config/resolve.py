"""From defaults, file, environment and command line to `Settings`, each value with its source.

Precedence: defaults, then the file, then the environment, then the command line. A setting that
takes several values is replaced as a whole.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from portico.config.settings import OPTIONS, Option, Settings
from portico.errors import ConfigError
from portico.transports.bind import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "PORTICO_"

_METAVARS = {"seconds": "SECONDS", "bytes": "BYTES"}


def flag_of(option: Option) -> str:
    """Give the command-line flag of *option*."""
    return option.flag or "--" + option.name.replace("_", "-")


def environment_name(option: Option) -> str:
    """Give the environment variable of *option*."""
    return _PREFIX + option.name.upper()


def metavar_of(option: Option) -> str:
    """Give the word that stands for the value of *option*; empty for a switch."""
    if option.kind == "bool":
        return ""
    return option.metavar or _METAVARS.get(option.unit, "N")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting, grouped as they are documented.

    The values stay texts, and None where a flag is not given: `resolve` converts and refuses,
    in the same words for all sources.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in OPTIONS.items():
        group = groups.get(option.section)
        if group is None:
            group = groups[option.section] = parser.add_argument_group(option.section)
        keywords: dict[str, Any] = {"dest": name, "default": None, "help": _help(option)}
        if option.kind == "bool":
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            keywords["metavar"] = metavar_of(option)
            keywords["action"] = "append" if option.repeatable else "store"
        group.add_argument(flag_of(option), **keywords)


def resolve(
    namespace: argparse.Namespace, environ: Mapping[str, str], file: str | None = None
) -> tuple[Settings, dict[str, str]]:
    """Find the value of each setting.

    Args:
        namespace: Parsed arguments; attributes that are no settings are passed over.
        environ: The environment. Variables that name no setting are passed over, as Kubernetes
            makes such for a service that is called portico; so are empty ones.
        file: Path of a YAML file, if there is one.

    Returns:
        The settings, and the source of each, such as ``"portico.yaml line 3"``.

    Raises:
        ConfigError: a value or a key of the file is wrong; names it, its source and what is right.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(OPTIONS, "default")
    for name, value, source in (
        *_from_file(file),
        *_from_environment(environ),
        *_from_arguments(namespace),
    ):
        values[name] = OPTIONS[name].read(value, source)
        sources[name] = source
    return Settings(**values), sources


def from_keywords(keywords: Mapping[str, Any]) -> Settings:
    """Make settings of what a caller gave by name.

    Raises:
        ConfigError: there is no such setting, or its value is wrong.
    """
    for name in keywords:
        if name not in OPTIONS:
            raise ConfigError(
                f"there is no setting {name!r}{did_you_mean(name, OPTIONS)}", key=name
            )
    return Settings(**keywords)


def _from_file(path: str | None) -> list[tuple[str, Any, str]]:
    if path is None:
        return []
    from portico.config.load import load  # noqa: PLC0415 - yaml: 15 ms, only for a file

    found = []
    for key, (value, line) in load(path).items():
        source = f"{path} line {line}"
        if key not in OPTIONS:
            raise ConfigError(
                f"{source}: there is no setting {key!r}{did_you_mean(key, OPTIONS)}",
                key=key,
                source=source,
            )
        found.append((key, value, source))
    return found


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    found = []
    for name, option in OPTIONS.items():
        variable = environment_name(option)
        text = environ.get(variable, "")
        if text:
            found.append((name, text, f"environment variable {variable}"))
    return found


def _from_arguments(namespace: argparse.Namespace) -> list[tuple[str, Any, str]]:
    given = vars(namespace)
    return [
        (name, given[name], f"command line, {flag_of(option)}")
        for name, option in OPTIONS.items()
        if given.get(name) is not None
    ]


def _help(option: Option) -> str:
    text = option.doc.replace("`", "")
    if option.default not in (None, (), False):
        unit = f" {option.unit}" if option.unit else ""
        text += f" Default: {show(option.default)}{unit}."
    return text.replace("%", "%%")


def show(value: object) -> str:
    """Write the value of a setting as help texts, the reference and files have it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)
