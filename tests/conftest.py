"""What all tests share: which real servers are here, and what their absence means."""

import os
import shutil

import pytest

#: Product -> the names its program goes by.
PROGRAMS = {
    "nginx": ("nginx",),
    "apache": ("apache2", "httpd"),
    "lighttpd": ("lighttpd",),
    "haproxy": ("haproxy",),
    "spawn-fcgi": ("spawn-fcgi",),
    "chromium": ("chromium", "chromium-browser"),
}

#: Where distributions keep servers that a user's PATH does not lead to.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])


def pytest_runtest_setup(item):
    """A missing web server leaves its tests out, and says so; in CI it is a failure."""
    for mark in item.iter_markers("frontend"):
        for product in mark.args:
            if any(shutil.which(name, path=SEARCH) for name in PROGRAMS[product]):
                continue
            sentence = f"{product} is not installed"
            if os.environ.get("CI"):
                pytest.fail(f"{sentence}, and CI leaves nothing out")
            pytest.skip(sentence)
