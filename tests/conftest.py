"""What all tests share: which real servers are here, and what their absence means."""

import os
import shutil
import signal
from pathlib import Path

import pytest

#: Product -> the names its program goes by.
PROGRAMS = {
    "nginx": ("nginx",),
    "apache": ("apache2", "httpd"),
    "lighttpd": ("lighttpd",),
    "haproxy": ("haproxy",),
    "spawn-fcgi": ("spawn-fcgi",),
    "multiwatch": ("multiwatch",),
    "chromium": ("chromium", "chromium-browser"),
    "php-fpm": ("php-fpm8.2", "php-fpm8.3", "php-fpm8.4", "php-fpm"),
    "tomcat": ("java",),
    "uwsgi": ("uwsgi-core", "uwsgi"),
    "systemd": ("systemd-analyze",),
    "strace": ("strace",),
    "wrk": ("wrk",),
}

#: Product -> a file that it needs beside its program.
PARTS = {
    "tomcat": "/usr/share/java/tomcat10-catalina.jar",
    "uwsgi": "/usr/lib/uwsgi/plugins/python3_plugin.so",
}

#: Where distributions keep servers that a user's PATH does not lead to.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])


# A shell without job control has its background jobs ignore SIGINT; what they start inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    """A missing server leaves its tests out, and says so; in CI it is a failure."""
    for mark in (*item.iter_markers("frontend"), *item.iter_markers("peer")):
        for product in mark.args:
            here = any(shutil.which(name, path=SEARCH) for name in PROGRAMS[product])
            if here and Path(PARTS.get(product, "/")).exists():
                continue
            sentence = f"{product} is not installed"
            if os.environ.get("CI"):
                pytest.fail(f"{sentence}, and CI leaves nothing out")
            pytest.skip(sentence)
