"""The command ``portico``, also as ``python -m portico``."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line of this process; gives its exit status."""
    if sys.argv[1:2] == ["cgi"] and "REQUEST_METHOD" in os.environ:
        # a process for each request: reading the command line like all others costs it 12 ms
        from portico import entry  # noqa: PLC0415 - likewise

        entry.run_command(sys.argv[2:])
        return 0
    from portico import cli  # noqa: PLC0415 - likewise

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
