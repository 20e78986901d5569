"""Show what is wrong with a configuration, or with a script that a web server starts.

  portico check portico.yaml                   every value, and where it came from
  portico check portico.yaml --load            try to load the application as well
  portico check portico.yaml --threads 8       as `portico serve --config portico.yaml` would be
  portico check public_html/app.cgi            run it as a web server does, and tell what fails
  portico check app.fcgi --user www-data       as well, whether that user reaches it

FILE is a YAML file for `portico serve --config`; the environment (PORTICO_...) and the flags count
as they do there. Or it is a script (.cgi, .fcgi, .py, .wsgi, or what begins with #!), for which
--json, --path, --deadline and --user count. The exit status is 0 where nothing is wrong, 2 where
something is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico.cli._trace_view import is_secret
from portico.config import examine, resolve
from portico.config.option import plain
from portico.config.settings import OPTIONS, Settings
from portico.errors import ConfigError
from portico.transports.bind import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.config.mounts import Mount
    from portico.config.resolve import Reading

#: Characters of a value's column at most; a longer value pushes its source to the right.
_MOST_WIDTH = 40

#: What a script's name ends in; a file that begins with ``#!`` is one as well.
_SCRIPT_ENDS = (".py", ".wsgi", ".cgi", ".fcgi")

#: The password in a URL such as ``postgres://user:password@host/``.
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")

_MASK = "***"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("target", metavar="FILE", nargs="?", help="YAML file with options")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--load",
        action="store_true",
        help="load the application too, in a process of its own, within startup_timeout",
    )
    parser.add_argument(
        "--path", default="/", metavar="PATH", help="script: what to ask it for; default: /"
    )
    parser.add_argument(
        "--deadline",
        type=_seconds,
        default=20.0,
        metavar="S",
        help="script: seconds that each run of it may take; default: 20",
    )
    resolve.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look, and say what there is.

    Raises:
        ConfigError: the target is of a kind that cannot be looked at yet.
    """
    if _is_script(arguments.target):
        # lazy: what runs scripts, for scripts alone
        from portico.cli import _check_script  # noqa: PLC0415
        from portico.servers.scripts.examine import Sample  # noqa: PLC0415

        sample = Sample(arguments.user or "", arguments.path, arguments.deadline)
        return _check_script.run(arguments.target, sample, as_json=arguments.json)
    reading = resolve.gather(arguments, os.environ, arguments.target)
    settings = Settings(**reading.values)
    mistakes = sorted(_all_mistakes(reading, settings), key=_line_of)
    if arguments.load and not mistakes:
        from portico.cli._loading import try_loading  # noqa: PLC0415 - only where it is asked for

        fault = try_loading(settings)
        mistakes += [ConfigError(fault, key="app")] if fault else []
    if arguments.json:
        print(json.dumps(_report(reading, settings, mistakes), indent=2))
    elif mistakes:
        for mistake in mistakes:
            print(f"portico: {mistake}", file=sys.stderr)
        count = len(mistakes)
        print(f"portico: {count} mistake{'s' if count > 1 else ''}", file=sys.stderr)
    else:
        _show(reading, settings)
        print(_verdict(arguments, settings))
    return 2 if mistakes else 0


def _is_script(target: str | None) -> bool:
    """Whether a script is meant, and no configuration file.

    Raises:
        ConfigError: neither.
    """
    if target is None:
        return False
    if "://" in target:
        raise ConfigError(
            f"{target}: portico check cannot look at URLs yet; portico request sends one a request"
        )
    if target.endswith(_SCRIPT_ENDS):
        return True
    try:
        with Path(target).open("rb") as file:
            return file.read(5).removeprefix(b"\xef\xbb\xbf")[:2] == b"#!"
    except (OSError, ValueError):  # said where it is read
        return False


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0.1 <= seconds <= 3600:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")


def _all_mistakes(reading: Reading, settings: Settings) -> Iterator[ConfigError]:
    """Give what is wrong with the texts, and then what of the rest cannot work here."""
    yield from reading.mistakes
    known = {mistake.key for mistake in reading.mistakes}
    for mistake in examine.mistakes(settings):
        if mistake.key not in known:
            source = reading.sources.get(mistake.key, "default")
            behind = "" if source == "default" else f" ({source})"
            yield ConfigError(f"{mistake}{behind}", key=mistake.key, source=source)


def _line_of(mistake: ConfigError) -> int:
    """Give the line of a mistake in the file; 0 for all others, which come first."""
    line = mistake.source.rpartition(" line ")[2]
    return int(line) if line.isdecimal() else 0


def _verdict(arguments: argparse.Namespace, settings: Settings) -> str:
    """Say that all is well, and what the command line has to add."""
    missing = [] if settings.app or settings.mounts else ["APP"]
    missing += [] if settings.bind else ["--bind URL"]
    what = arguments.target or "the configuration"
    loaded = ", and the application loads" if arguments.load else ""
    more = f"; portico serve still needs {' and '.join(missing)}" if missing else ""
    return f"{what} is ok{loaded}{more}"


# -- what there is -------------------------------------------------------------------------


def _show(reading: Reading, settings: Settings) -> None:
    """Print every value with its source, by section."""
    rows = {name: list(_rows(name, settings)) for name in OPTIONS}
    flat = [row for part in rows.values() for row in part]
    names = max(len(name) for name, _ in flat)
    values = min(max(len(value) for _, value in flat), _MOST_WIDTH)
    section = ""
    for name, option in OPTIONS.items():
        if option.section != section:
            section = option.section
            print(section)
        (title, value), *more = rows[name]
        print(f"  {title:{names}}  {value:{values}}  {_printable(reading.sources[name])}")
        for title, value in more:
            print(f"  {title:{names}}  {value}".rstrip())
    print()


def _rows(name: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Give the lines of one setting: its name and value, and what is within it."""
    value = _public(name, settings)
    option = OPTIONS[name]
    if not option.is_mapping:
        unit = f" {option.unit}" if option.unit else ""
        shown = resolve.show(tuple(value) if option.repeatable else value)
        yield name, _printable(shown + unit) if shown not in {"", "[]"} else "none"
        return
    yield name, str(len(value) or "none")
    for key, inner in value.items():
        if isinstance(inner, str):
            yield f"  {_printable(key)}", _printable(inner)
            continue
        yield f"  {_printable(key)}", _printable(inner["app"])
        for variable, text in inner["environment"].items():
            yield f"    {variable}", _printable(text)


def _report(reading: Reading, settings: Settings, mistakes: list[ConfigError]) -> dict[str, Any]:
    """Give all of it as JSON has it."""
    values = {
        name: {"value": _public(name, settings), "source": reading.sources[name]}
        for name in OPTIONS
    }
    wrong = [
        {"key": mistake.key, "source": mistake.source, "message": str(mistake)}
        for mistake in mistakes
    ]
    return {"ok": not mistakes, "settings": values, "mistakes": wrong}


def _public(name: str, settings: Settings) -> Any:
    """Give a value as JSON has it, without its secrets."""
    value = getattr(settings, name)
    if name == "bind":
        return [str(parse(url)) for url in value]
    if name == "environment":
        return _masked(value)
    if name == "mounts":
        return {mount.place: _public_mount(mount) for mount in value}
    return plain(value)


def _public_mount(mount: Mount) -> dict[str, Any]:
    return {"app": mount.app, "environment": _masked(mount.environment)}


def _masked(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Give names and values, without what looks secret."""
    return {
        name: _MASK if is_secret(name) and value else _PASSWORD.sub(rf"\1:{_MASK}@", value)
        for name, value in pairs
    }


def _printable(text: str) -> str:
    """Escape what would move a terminal's cursor or hide text."""
    return "".join(
        [c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text]
    )
