"""From defaults, file, environment and command line to `Settings`, each value with its source.

Precedence: defaults, then the file, then the environment, then the command line. A setting that
takes several values is replaced as a whole.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from portico.config.settings import OPTIONS, Settings
from portico.errors import ConfigError
from portico.transports.bind import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.config.option import Option

_PREFIX = "PORTICO_"

#: Settings that `portico.run` and `portico.serve` do not take, and what to do instead.
_COMMAND_ONLY = {
    "app": "here the application itself is given",
    "environment": "here the script sets os.environ before it imports the application",
    "mounts": "here a portico.core.dispatch.Dispatcher is the application",
}

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


def add_arguments(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add a flag for each setting, grouped as they are documented.

    The values stay texts, and None where a flag is not given: `resolve` converts and refuses,
    in the same words for all sources.

    Args:
        parser: Gets the arguments.
        positional: Whether APP stands by itself, without the flag.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, option in OPTIONS.items():
        if option.positional and positional:
            parser.add_argument(name, metavar=metavar_of(option), nargs="?", help=_help(option))
            continue
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


class Reading(NamedTuple):
    """What was said of the settings.

    Attributes:
        values: By name, what is said and right.
        sources: Of each setting, such as ``"portico.yaml line 3"``.
        mistakes: All that is wrong, in the order of precedence.
    """

    values: dict[str, Any]
    sources: dict[str, str]
    mistakes: list[ConfigError]


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
    reading = gather(namespace, environ, file)
    if reading.mistakes:
        raise reading.mistakes[0]
    return Settings(**reading.values), reading.sources


def gather(
    namespace: argparse.Namespace, environ: Mapping[str, str], file: str | None = None
) -> Reading:
    """Find the value of each setting and all mistakes; the arguments are those of `resolve`."""
    values: dict[str, Any] = {}
    sources = dict.fromkeys(OPTIONS, "default")
    said, mistakes = _from_file(file) if file is not None else ([], [])
    for name, value, source, locate in (
        *said,
        *_from_environment(environ),
        *_from_arguments(namespace),
    ):
        converted, found = OPTIONS[name].examine(value, source, locate)
        mistakes += found
        sources[name] = source
        if not found:
            values[name] = converted
    return Reading(values, sources, mistakes)


def from_keywords(keywords: Mapping[str, Any]) -> Settings:
    """Make settings of what a caller gave by name.

    Raises:
        ConfigError: there is no such setting, its value is wrong, or it is for `portico serve`
            alone.
    """
    for name in keywords:
        if name not in OPTIONS:
            raise ConfigError(
                f"there is no setting {name!r}{did_you_mean(name, OPTIONS)}", key=name
            )
        if name in _COMMAND_ONLY:
            raise ConfigError(f"{name} is for the command alone: {_COMMAND_ONLY[name]}", key=name)
    return Settings(**keywords)


_Locate: TypeAlias = "Callable[[tuple[str, ...]], str]"
_Said: TypeAlias = "list[tuple[str, Any, str, _Locate | None]]"


def _from_file(path: str) -> tuple[_Said, list[ConfigError]]:
    from portico.config.load import Entry, load  # noqa: PLC0415 - yaml: 15 ms, only for a file

    def locating(entry: Entry) -> _Locate:
        def locate(keys: tuple[str, ...]) -> str:
            """Name the line of the innermost key that has one."""
            while keys and keys not in entry.lines:
                keys = keys[:-1]
            return f"{path} line {entry.lines[keys] if keys else entry.line}"

        return locate

    said: _Said = []
    mistakes: list[ConfigError] = []
    literal = [name for name, option in OPTIONS.items() if option.is_mapping]
    for key, entry in load(path, literal=literal, mistakes=mistakes).items():
        source = f"{path} line {entry.line}"
        if key in OPTIONS:
            said.append((key, entry.value, source, locating(entry)))
            continue
        mistakes.append(
            ConfigError(
                f"{source}: there is no setting {key!r}{did_you_mean(key, OPTIONS)}",
                key=key,
                source=source,
            )
        )
    return said, mistakes


def _from_environment(environ: Mapping[str, str]) -> _Said:
    found: _Said = []
    for name, option in OPTIONS.items():
        variable = environment_name(option)
        text = environ.get(variable, "")
        if text:
            found.append((name, text, f"environment variable {variable}", None))
    return found


def _from_arguments(namespace: argparse.Namespace) -> _Said:
    given = vars(namespace)
    return [
        (name, given[name], f"command line, {_word(option)}", None)
        for name, option in OPTIONS.items()
        if given.get(name) is not None
    ]


def _word(option: Option) -> str:
    """Name an option as the command line has it."""
    return metavar_of(option) if option.positional else flag_of(option)


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
