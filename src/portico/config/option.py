"""What is known of one setting, and how its values are read, from wherever they come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from portico.config.mounts import Mount, read_mounts, read_pairs
from portico.config.refusals import Faults, WrongType, brief
from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_TRUTH = {"yes": True, "true": True, "on": True, "1": True,
          "no": False, "false": False, "off": False, "0": False}  # fmt: skip

#: What a value must be, as a refusal says it; of numbers and choices more is known.
_EXPECTED = {
    "bool": "yes or no",
    "tuple[str, ...]": "a list of texts",
    "tuple[tuple[str, str], ...]": "names and values",
    "tuple[Mount, ...]": "places and their applications",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What is known of one setting.

    Attributes:
        name: Its name in `Settings`, and its YAML key.
        kind: Its type as declared, e.g. ``"int"``.
        default: Its value where nothing is said.
        section: Heading under which it is documented.
        doc: One or two sentences.
        unit: Unit of a number, in the plural; empty for none.
        flag: Command-line flag where it does not follow from the name.
        positional: Whether commands that are about its value take that without the flag.
        metavar: Stands for the value in help texts.
        least: Least number accepted.
        most: Greatest number accepted.
        choices: All texts accepted; empty for any.
        check: Raises `ValueError` or `ConfigError` for a text that cannot be.
        example: Stands in the sample file where the default says nothing; of a mapping, the lines
            below its key.
    """

    name: str = ""
    kind: str = ""
    default: Any
    section: str
    doc: str
    unit: str = ""
    flag: str = ""
    positional: bool = False
    metavar: str = ""
    least: float = 0
    most: float = 0
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None
    example: str = ""

    @property
    def repeatable(self) -> bool:
        """Whether it takes several values."""
        return self.kind.startswith("tuple")

    @property
    def is_mapping(self) -> bool:
        """Whether a file has a mapping for it."""
        return self.repeatable and self.kind != "tuple[str, ...]"

    @property
    def expected(self) -> str:
        """What a value must be, as a refusal says it."""
        if self.kind in {"int", "float"}:
            number = "a whole number" if self.kind == "int" else "a number"
            unit = f" of {self.unit}" if self.unit else ""
            return f"{number}{unit} from {self.least:,} to {self.most:,}".replace(",", "_")
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return _EXPECTED.get(self.kind, "a text")

    def read(self, value: object, source: str = "") -> Any:
        """Convert *value*, a text or of the right type already, and check it.

        Args:
            value: From the command line, the environment, a file or a caller.
            source: Where it came from, for the refusal.

        Raises:
            ConfigError: names the setting, the source and what is accepted.
        """
        converted, mistakes = self.examine(value, source)
        if mistakes:
            raise mistakes[0]
        return converted

    def examine(
        self,
        value: object,
        source: str = "",
        locate: Callable[[tuple[str, ...]], str] | None = None,
    ) -> tuple[Any, list[ConfigError]]:
        """Convert *value* as `read` does, and find all that is wrong with it.

        Args:
            value: As for `read`.
            source: As for `read`.
            locate: Gives the source of what is within the value, by the keys that lead there.

        Returns:
            The converted value, None where there is none; and the mistakes.
        """
        try:
            return _READERS[self.kind](self, value), []
        except Faults as faults:
            found = [(f"{self.name}: {sentence}", keys) for keys, sentence in faults.found]
        except WrongType:
            found = [(f"{self.name} is {brief(value)}, must be {self.expected}", ())]
        except ConfigError as error:
            found = [(str(error), ())]
        except ValueError as error:
            found = [(f"{self.name}: {error}", ())]
        mistakes = []
        for text, keys in found:
            where = locate(keys) if locate else source
            behind = f" ({where})" if where else ""
            mistakes.append(ConfigError(text + behind, key=self.name, source=where))
        return None, mistakes


def option(default: T, **declared: Any) -> T:
    """Declare a setting; the keywords are the attributes of `Option`."""
    declared["default"] = default
    made = Option(**declared)
    # a bind or a variable may hold a secret, which no repr() may show
    hidden = made.section == "listening" or made.metavar == "NAME=VALUE"
    return field(default=default, repr=not hidden, metadata={"option": made})


def plain(value: object) -> Any:
    """Give a setting's value as JSON has it, and as `Option.read` takes it."""
    if not isinstance(value, tuple):
        return value
    if value and isinstance(value[0], Mount):
        return {
            mount.place: {"app": mount.app, "environment": dict(mount.environment)}
            for mount in value
        }
    if value and isinstance(value[0], tuple):
        return dict(value)
    return list(value)


def _read_int(option: Option, value: object) -> int:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise WrongType from None
    if type(value) is not int or not option.least <= value <= option.most:
        raise WrongType
    return value


def _read_float(option: Option, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise WrongType
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise WrongType from None
    if not option.least <= number <= option.most:  # refuses NaN as well
        raise WrongType
    return number


def _read_bool(_: Option, value: object) -> bool:
    truth = _TRUTH.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(truth, bool):
        raise WrongType
    return truth


def _read_text(option: Option, value: object) -> str:
    if not isinstance(value, str) or (option.choices and value not in option.choices):
        raise WrongType
    if option.check is not None:
        option.check(value)
    return value


def _read_text_or_none(option: Option, value: object) -> str | None:
    if type(value) is int and option.check is None:  # a user's number, which YAML takes for one
        value = brief(value)
    return None if value is None else _read_text(option, value)


def _read_texts(option: Option, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, (list, tuple)):
        raise WrongType
    return tuple(_read_text(option, entry) for entry in value)


_READERS: dict[str, Callable[[Option, object], Any]] = {
    "int": _read_int,
    "float": _read_float,
    "bool": _read_bool,
    "str": _read_text,
    "str | None": _read_text_or_none,
    "tuple[str, ...]": _read_texts,
    "tuple[tuple[str, str], ...]": lambda _, value: read_pairs(value),
    "tuple[Mount, ...]": lambda _, value: read_mounts(value),
}
