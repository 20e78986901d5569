"""What the tests of flup's API share: a short directory, as sockets want one."""

import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def place():
    path = Path(tempfile.mkdtemp(prefix="flup-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
