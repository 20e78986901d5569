"""What the pages of the bundled applications have in common: colours, icon, readable text."""

from __future__ import annotations

#: Start of a style sheet: the colours, light and dark, and the fonts.
PALETTE = """
:root {
  color-scheme: light dark;
  --paper: #fbf9f5; --ink: #2c2a26; --quiet: #6b655b; --line: #e4ddd1; --field: #f3eee5;
  --link: #23597f; --warn: #8a4b12;
  --sky-top: #dbe7ef; --sky-low: #fbf9f5;
  --stone: #f7f2e9; --shade: #e6dccb; --edge: #c2b49d; --deep: #d8ccb8; --carved: #857660;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --ink: #e4dfd5; --quiet: #a09a8e; --line: #2c313a; --field: #1c2027;
    --link: #93c1e2; --warn: #e3ab6d;
    --sky-top: #1d2a3a; --sky-low: #14171c;
    --stone: #4b525d; --shade: #373d47; --edge: #6a727e; --deep: #2d333c; --carved: #c3c9d1;
  }
}
"""

#: Address of the icon.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' "
    "fill='%23857660'%3E%3Cpath d='M8 1 15 5H1zM1 14h14v1H1zM2 6h2v7H2zM7 6h2v7H7zM12 6h2v7h-2z'"
    "/%3E%3C/svg%3E"
)


def readable(text: str) -> tuple[str, str]:
    """Turn a native string of the environ into what a person can read.

    Returns:
        (shown, raw): *shown* is decoded where the octets are UTF-8 and has every character that
        would not show, or would act on a terminal, escaped; *raw* is the string's own ASCII
        form, or empty if it is the same as what is shown.
    """
    if text.isascii() and text.isprintable():
        return text, ""
    try:
        decoded = text.encode("latin-1").decode()
    except UnicodeError:
        decoded = text
    shown = "".join(char if char.isprintable() else escaped(char) for char in decoded)
    raw = "".join(escaped(char) if ord(char) > 126 or ord(char) < 32 else char for char in text)
    return shown, "" if raw == shown else raw


def escaped(char: str) -> str:
    """Write *char* as Python escapes it in a literal."""
    return char.encode("unicode_escape").decode()
