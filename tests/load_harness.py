"""Visitors who ask without a pause and look at every octet of what they get."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import threading

#: What `APPLICATION` answers with, told by path and body alone.
BLOCK = bytes(range(256))

APPLICATION = '''\
"""Answers that tell whether they are whole, and which version gave them."""

VERSION = "first"
BLOCK = bytes(range(256))


def application(environ, start_response):
    kind, _, number = environ["PATH_INFO"].strip("/").partition("/")
    headers = [("Content-Type", "text/plain"), ("X-Version", VERSION)]
    number = int(number or 0)
    if kind == "echo":
        import hashlib
        digest = hashlib.sha256()
        while piece := environ["wsgi.input"].read(65536):
            digest.update(piece)
        body = [digest.hexdigest().encode()]
    elif kind == "stream":
        body = (BLOCK * 4 for _ in range(number % 40))
    elif kind == "wait":
        import time
        time.sleep(number % 7 / 100)
        body = [b"waited %d" % number]
    else:
        body = [b"plain %d" % number]
    start_response("200 OK", headers)
    return body
'''


def expected(kind, number, sent):
    """The body that a request must get."""
    if kind == "echo":
        return hashlib.sha256(sent).hexdigest().encode()
    if kind == "stream":
        return BLOCK * 4 * (number % 40)
    return b"%s %d" % (b"waited" if kind == "wait" else b"plain", number)


class Visitors:
    """Threads that ask *port* until told to stop; each keeps its own connection to the front.

    Attributes:
        asked: Requests answered so far, right or wrong.
        wrong: What was not as it must be, in words.
        versions: The versions of the application that have answered.
    """

    def __init__(self, port, count=32):
        self.asked = 0
        self.wrong = []
        self.versions = set()
        self._port = port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._visit, args=(number,), daemon=True)
            for number in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a visitor still waits for an answer"

    def _visit(self, first):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=50)
        kinds = itertools.cycle(["plain", "stream", "plain", "echo", "wait"])
        for number, kind in zip(itertools.count(first), kinds, strict=False):
            if self._over.is_set():
                break
            sent = BLOCK * (number % 300) if kind == "echo" else b""
            fault = ""
            try:
                connection.request("POST" if sent else "GET", f"/{kind}/{number}", body=sent)
                response = connection.getresponse()
                body = response.read()
                if response.status != 200 or body != expected(kind, number, sent):
                    fault = f"{kind} {number}: {response.status}, {len(body)} octets: {body[:60]!r}"
            except (OSError, http.client.HTTPException) as error:
                fault = f"{kind} {number}: {error!r}"
                connection.close()
            with self._lock:
                self.asked += 1
                if fault:
                    self.wrong.append(fault)
                else:
                    self.versions.add(response.headers["X-Version"])
        connection.close()
