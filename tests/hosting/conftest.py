"""What the tests of the kit share: a home directory with a site, and a virtual environment."""

import shutil
import tempfile
from pathlib import Path

import pytest

from hosting_harness import SITE, make_venv


@pytest.fixture(scope="session")
def venv():
    """A virtual environment with Portico, for any account."""
    directory = Path(tempfile.mkdtemp(prefix="portico-"))
    directory.chmod(0o755)
    yield make_venv(directory)
    shutil.rmtree(directory)


@pytest.fixture
def home():
    """A home directory: `mysite.py` in `site`, and an empty `public_html`."""
    directory = Path(tempfile.mkdtemp(prefix="portico-"))
    for path in (directory, directory / "site", directory / "public_html"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    (directory / "site" / "mysite.py").write_text(SITE)
    yield directory
    shutil.rmtree(directory)
