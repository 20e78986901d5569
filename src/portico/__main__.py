"""The command ``portico``, also as ``python -m portico``."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> int:
    """Run the command line of this process; gives its exit status."""
    if sys.argv[1:2] == ["cgi"] and "REQUEST_METHOD" in os.environ:
        # a process for each request: reading the command line like all others costs it 12 ms
        _serve_cgi(sys.argv[2:])
        return 0
    from portico import cli  # noqa: PLC0415 - likewise

    return cli.main()


def _serve_cgi(arguments: list[str]) -> None:
    """Serve the one request of a process that was started as ``portico cgi``.

    Args:
        arguments: The application, and options of the form ``--name`` or ``--name=value``.

    Raises:
        SystemExit: as `run`.
    """
    from portico import entry  # noqa: PLC0415 - likewise

    spec = ""
    options: dict[str, Any] = {}
    for word in _without_query(arguments):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            options[name[2:].replace("-", "_")] = value if equals else True
        elif not spec:
            spec = word
        else:
            spec = ""
            break
    if not spec:
        from portico.core.unloadable import Unloadable  # noqa: PLC0415 - likewise

        entry.run(Unloadable("portico cgi takes one application, and options as --name=value"))
        return
    is_file = os.path.isfile(spec)  # noqa: PTH113 - 3 ms
    if is_file:
        spec = os.path.abspath(spec)  # noqa: PTH100 - likewise
    # the script, in the place of Python's own: files beside it are found, and its changes seen
    sys.argv[:] = [spec if is_file else os.path.join(os.getcwd(), spec)]  # noqa: PTH109, PTH118
    entry.run(spec, warm=options.pop("warm", False), **options)


def _without_query(arguments: list[str]) -> list[str]:
    """Leave out what whoever sent the request has put into the command line.

    A web server appends the words of a query without ``=`` (RFC 3875 §4.4), perhaps with
    backslashes before what a shell would take for its own.
    """
    query = os.environ.get("QUERY_STRING", "")
    if not query or "=" in query:
        return arguments
    from urllib.parse import unquote  # noqa: PLC0415 - lazy: 8 ms, and such queries are rare

    words = [unquote(word).replace("\\", "") for word in query.split("+")]
    tail = [word.replace("\\", "") for word in arguments[-len(words) :]]
    return arguments[: -len(words)] if tail == words else arguments


if __name__ == "__main__":
    sys.exit(main())
