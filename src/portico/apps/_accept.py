"""Which form of an answer a client would rather have."""

from __future__ import annotations

import re


def preference(accept: str, media_type: str) -> tuple[float, int]:
    """Tell how much *accept* wants *media_type*: (quality, how exactly it is named).

    An empty *accept* takes everything.

    Spec: RFC 9110 §12.5.1; of several ranges that match, the most exact gives the quality.
    """
    ranges = {media_type: 2, media_type.partition("/")[0] + "/*": 1, "*/*": 0}
    best = (0.0, -1)
    for element in accept.split(",") if accept.strip() else ["*/*"]:
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        exact = ranges.get(name, -1)
        if exact > best[1]:
            best = (_quality(parameters), exact)
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if re.fullmatch(r"q=(0(\.\d{0,3})?|1(\.0{0,3})?)", parameter, re.ASCII):
            return float(parameter[2:])
    return 1.0
