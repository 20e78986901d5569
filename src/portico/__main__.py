"""``python -m portico``: the same as the command ``portico``."""

import sys

from portico.cli import main

sys.exit(main())
