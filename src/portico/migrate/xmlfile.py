"""Reads XML with the line of each element; a document type, and with it entities, is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from portico.migrate.files import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Levels of elements within each other.
MOST_LEVELS = 100


@dataclass(slots=True)
class Element:
    """One element.

    Attributes:
        name: Its tag.
        attributes: Their names and values.
        line: Where it begins.
        children: The elements in it.
        text: What stands in it beside them.
    """

    name: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def walk(self) -> Iterator[tuple[tuple[str, ...], Element]]:
        """Give each element below with the tags that lead to it, its own last."""
        for child in self.children:
            yield (child.name,), child
            for path, element in child.walk():
                yield (child.name, *path), element


def parse(text: str, path: str) -> Element:
    """Parse a document; gives its outermost element.

    Raises:
        ConfigError: it is no XML, has a document type, or is too deep.
    """
    parser = expat.ParserCreate("utf-8")
    top = Element("", {}, 0)
    open_elements = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > MOST_LEVELS:
            raise refusal(
                path, parser.CurrentLineNumber, f"has more than {MOST_LEVELS} levels of elements"
            )
        element = Element(name, attributes, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_: str) -> None:
        open_elements.pop()

    def characters(data: str) -> None:
        open_elements[-1].text += data

    def doctype(*_: object) -> None:
        raise refusal(
            path,
            parser.CurrentLineNumber,
            "has a DOCTYPE, which may define entities without end; take it out",
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = doctype
    parser.buffer_text = True  # or each line of a long text would be copied again
    try:
        parser.Parse(text.encode("utf-8", "surrogateescape"), True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise refusal(path, error.lineno, f"is no valid XML: {reason}") from error
    (root,) = top.children
    return root
