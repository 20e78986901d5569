"""The application that every server under test runs: a small page, and one that takes 50 ms."""

import time

BODY = b"Hello, world! This is a small page.\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def application(environ, start_response):
    """Answer at once, or after 50 ms under ``/sleep``."""
    if environ.get("REQUEST_URI", "").endswith("/sleep"):
        time.sleep(0.05)
    start_response("200 OK", HEADERS)
    return [BODY]
