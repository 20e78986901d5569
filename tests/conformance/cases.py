"""The conformance list: what an application must see and a client must get, on every route.

Each `Case` is one request to one of `applications`, and a check of the reply. A test module has
a `Route` and runs the cases of `cases_for` over it; `fronts` tells what a web server lacks.
"""

from __future__ import annotations

# for what they put on the list
import conformance.request_cases
import conformance.response_cases  # noqa: F401 - likewise
from conformance.listing import CASES, FLAGS, Case, cases_for

__all__ = ["CASES", "FLAGS", "Case", "cases_for"]
