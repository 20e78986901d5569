"""FastCGI's Authorizer as a WSGI application: whether a request may pass (FastCGI 1.0 §6.3)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: What a header's name begins with that becomes a variable of the request let pass.
_PREFIX = "Variable-"

#: Headers that describe the answer's own body.
_OWN = frozenset({"content-type", "content-length"})


def as_authorizer(application: Callable[..., Any]) -> Callable[..., Any]:
    """Make an Authorizer of *application*.

    With status 200 the request passes, and each header becomes a variable of it:
    ``("AUTH_METHOD", "token")`` leaves as ``Variable-AUTH_METHOD: token``. Any other status is the
    answer that the client gets, its headers unchanged.

    Args:
        application: A WSGI callable.
    """

    def authorizer(
        environ: dict[str, Any], start_response: Callable[..., Callable[[bytes], None]]
    ) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            if status[:3] == "200":
                headers = [(_variable(name), value) for name, value in headers]
            return start_response(status, headers, exc_info)

        return application(environ, start)  # type: ignore[no-any-return]

    return authorizer


def _variable(name: str) -> str:
    lower = name.lower()
    if lower in _OWN or lower.startswith(_PREFIX.lower()):
        return name
    return _PREFIX + name
