"""Takes an upload of any size in a few kilobytes of memory; answers its size and its SHA-256.

In one terminal the first line, in another the other two:

    portico up examples/upload.py
    curl -T big.iso http://127.0.0.1:8080/
    sha256sum big.iso
"""

import hashlib

BLOCK_BYTES = 65_536


def application(environ, start_response):
    if environ["REQUEST_METHOD"] not in {"POST", "PUT"}:
        return answer(start_response, "200 OK", "Send a file: curl -T FILE and this address.\n")
    digest = hashlib.sha256()
    size = 0
    for block in blocks(environ):
        digest.update(block)
        size += len(block)
    return answer(start_response, "200 OK", f"{size} octets, SHA-256 {digest.hexdigest()}\n")


def blocks(environ):
    """Yield the body; an upload that breaks off raises `OSError`, it does not look whole."""
    if environ.get("wsgi.input_terminated"):
        # The input ends by itself, which matters for an upload that announces no length.
        while block := environ["wsgi.input"].read(BLOCK_BYTES):
            yield block
        return
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left and (block := environ["wsgi.input"].read(min(left, BLOCK_BYTES))):
        left -= len(block)
        yield block


def answer(start_response, status, text):
    body = text.encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]
