"""A browser for the tests of pages."""

from functools import partial

import pytest

from browser_harness import run_browser


@pytest.fixture
def browse(tmp_path):
    """Run the browser once; gives what it prints."""
    return partial(run_browser, tmp_path)
