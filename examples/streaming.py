"""Answers bit by bit: a line every 100 ms, sent the moment it is there.

    portico up examples/streaming.py
    curl -N 'http://127.0.0.1:8080/?lines=50'

Where the client goes away, Portico stops asking for lines and closes the generator.
"""

import time
from urllib.parse import parse_qs

MAX_LINES = 600
PAUSE_SECONDS = 0.1


def application(environ, start_response):
    asked = parse_qs(environ.get("QUERY_STRING", "")).get("lines", ["20"])[0]
    if not (asked.isascii() and asked.isdigit() and len(asked) < 5 and int(asked) <= MAX_LINES):
        start_response("400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"The parameter lines is a whole number up to {MAX_LINES}.\n".encode()]
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),  # browsers wait for more to sniff at otherwise
        ("X-Accel-Buffering", "no"),  # nginx collects lines into a buffer otherwise
    ]
    start_response("200 OK", headers)
    return lines(int(asked))


def lines(count):
    for number in range(1, count + 1):
        yield f"line {number} of {count}\n".encode()
        if number < count:
            time.sleep(PAUSE_SECONDS)
