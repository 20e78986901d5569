"""The fuzz targets: each takes any octets and fails only where an invariant does.

The invariants, for the codecs of both sides:

- nothing but the codec's own errors escapes, and after one nothing else either;
- what a codec keeps is bounded by its limits, and its events by the octets it was given;
- the same events and the same refusal however the octets are cut;
- what was decoded decodes to the same once it is encoded again;
- after an answered request the connection decodes the next one as if it were the first.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fuzz import client_side, request_side, server_side, several
from fuzz.sides import SIDES

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS: dict[str, Callable[[bytes], None]] = {
    **{f"{name}-server": partial(server_side.target, side) for name, side in SIDES.items()},
    **{f"{name}-client": partial(client_side.target, side) for name, side in SIDES.items()},
    "fastcgi-several": several.target,
    "head": request_side.head,
    "environ": request_side.environ,
}
