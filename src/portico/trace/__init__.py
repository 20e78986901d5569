"""Explains octets of a gateway connection, right or wrong: what `portico decode` shows.

A codec refuses what breaks the rules; a dissector names the rule and goes on where the framing
lets it. Each protocol is one module with a `Dissector` of the same shape, for one direction of one
connection: `receive_data` takes octets however they are cut, `receive_eof` their end, and both give
what is complete by then as `portico.trace.items.Item`. No input makes a dissector raise, and what
it holds is bounded: bodies are counted, and their first octets shown.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from portico.codecs import PROTOCOLS

if TYPE_CHECKING:
    from portico.trace.items import Dissector


def dissector(protocol: str, direction: str) -> Dissector:
    """Make the dissector of one direction of one connection; its module is imported on first use.

    Args:
        protocol: One of `portico.codecs.PROTOCOLS`.
        direction: `portico.trace.items.FRONTEND` or `SERVER`.
    """
    module = import_module(f"portico.trace.{PROTOCOLS[protocol]}")
    return module.Dissector(direction)  # type: ignore[no-any-return]
