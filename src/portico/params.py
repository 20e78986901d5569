"""Request parameters that came more than once: what is joined, overridden or refused.

The codecs decode straight into a ``dict`` and come here only for a name that is in it already.
"""

from __future__ import annotations

from portico.errors import RemoteProtocolError

#: What a request has one of: two different values are an attack or a bug, never an override.
SINGLE = frozenset(
    {
        "CONTENT_LENGTH",
        "HTTPS",
        "HTTP_AUTHORIZATION",
        "HTTP_CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_HOST",
        "HTTP_TRANSFER_ENCODING",
        "REMOTE_ADDR",
        "REMOTE_USER",
        "REQUEST_METHOD",
    }
)


def repeated(name: str, known: str, value: str) -> str:
    """Give the value of a parameter that came as *known* and comes again as *value*.

    nginx and HAProxy send a repeated request header as a repeated parameter: such values are
    joined as RFC 9110 §5.3 says for field lines, cookies as RFC 6265 §5.4. Any other repeat is
    an administrator's override (``include fastcgi_params; fastcgi_param SCRIPT_NAME "";`` makes
    nginx send both), so the last one counts; clients cannot choose such names.

    Raises:
        RemoteProtocolError: two different values of a parameter in `SINGLE`; answer 400.
    """
    if name in SINGLE:
        if known != value:
            raise RemoteProtocolError(
                f"parameter {name!a} came with two different values",
                section="RFC 3875 §4.1",
                status_hint=400,
            )
        return value
    if not name.startswith("HTTP_"):
        return value
    return f"{known}; {value}" if name == "HTTP_COOKIE" else f"{known}, {value}"


def merge(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Turn parameters with repeats into an environ, each repeat as `repeated` says.

    Args:
        pairs: Names and values in the order received.

    Raises:
        RemoteProtocolError: as `repeated`.
    """
    environ: dict[str, str] = {}
    for name, value in pairs:
        known = environ.get(name)
        environ[name] = value if known is None else repeated(name, known, value)
    return environ
