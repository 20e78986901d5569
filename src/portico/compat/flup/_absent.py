"""The parts of flup that ended with its release 0.5, and what to use for each."""

from __future__ import annotations

_INSTEAD = {
    "middleware": "use your framework's sessions (or beaker), let the web server compress, and for"
    " error pages pass debug=True to WSGIServer or use werkzeug.debug.DebuggedApplication",
    "resolver": "use a routing library, such as werkzeug.routing or the router of your framework",
    "publisher": "use a framework, such as Flask or bottle, whose routes call functions",
}


def refusal(name: str) -> ImportError:
    """Give the error that importing *name*, a module of flup 0.5, ends with."""
    return ImportError(
        f"flup.{name} is not there: no release of flup for Python 3 has it, and neither has"
        f" portico.compat.flup; {_INSTEAD[name]}",
        name=f"flup.{name}",
    )
