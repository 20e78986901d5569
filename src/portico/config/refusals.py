"""How readers of settings refuse a value, and how much of it a refusal repeats."""

from __future__ import annotations

#: Characters of a refused text that are repeated to the operator.
_MOST_SHOWN = 80


class WrongType(Exception):  # noqa: N818 - never leaves this room
    """The value is not what `Option.expected` says."""


class Faults(Exception):  # noqa: N818 - never leaves this room
    """What is wrong within a value.

    Attributes:
        found: For each mistake the keys that lead to it, such as ``("/shop", "app")``, and a
            sentence.
    """

    def __init__(self, found: list[tuple[tuple[str, ...], str]]) -> None:
        super().__init__(found)
        self.found = found


def brief(value: object) -> str:
    """Show a refused value; a list or mapping only by its kind, as a bind may hold a secret."""
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "...")
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= 64 else "a number out of all bounds"
    if isinstance(value, float):
        return repr(value)
    return f"a {type(value).__name__}"
