"""A Django site as CGI under Apache's mod_cgid: plain, warm, and a bare interpreter beside them."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import django

import portico
from portico.servers.account import unprivileged
from portico.servers.launch import launch
from portico.servers.script import find_interpreter
from portico.servers.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SITES = Path(__file__).with_name("sites")

#: What the site needs; copied where Apache's account reaches it.
_PACKAGES = ("django", "asgiref", "sqlparse", "portico")

#: Of the requests, seconds.
_PATIENCE = 30

_BARE = """\
#!{interpreter}
import os
body = open({page!r}, "rb").read()
head = b"Content-Type: text/html\\r\\nContent-Length: %d\\r\\nStatus: 200 OK\\r\\n\\r\\n"
os.write(1, head % len(body) + body)
"""

_DJANGO = """\
#!{interpreter}
import sys

sys.path.insert(0, {packages!r})

import portico

portico.run({site!r}, warm={warm!r})
"""


@contextmanager
def asking() -> Iterator[dict[str, Callable[[], float]]]:
    """Run Apache before the three; gives for each what asks once and tells the milliseconds.

    Raises:
        RuntimeError: one does not answer as the others do.
    """
    with ExitStack() as last:
        place = Path(tempfile.mkdtemp(prefix="portico-"))
        last.callback(shutil.rmtree, place)
        place.chmod(0o755)
        packages = place / "packages"
        for name in _PACKAGES:
            found = importlib.util.find_spec(name)
            if found is None or found.origin is None:
                raise RuntimeError(f"{name} is not installed")
            shutil.copytree(Path(found.origin).parent, packages / name)
        shutil.copytree(_SITES, place / "sites")
        warm = place / "warm"
        warm.mkdir(0o700)
        last.callback(end_residents, warm)
        account = unprivileged()
        interpreter = find_interpreter(account) if account else sys.executable
        if account:
            shutil.chown(warm, account.user)
        page = place / "page.html"
        common = {"packages": str(packages), "site": f"{place}/sites/django_pages.py"}
        texts = {
            "plain": _DJANGO.format(interpreter=interpreter, warm=False, **common),
            "warm": _DJANGO.format(interpreter=interpreter, warm=str(warm), **common),
            "bare": _BARE.format(interpreter=interpreter, page=str(page)),
        }
        askers = {}
        for name, text in texts.items():
            script = place / f"{name}-site" / "app.cgi"
            script.parent.mkdir()
            script.write_text(text)
            script.chmod(0o755)
            site = Site(via="cgi", script=str(script), mount="/app", listen_port=0)
            port = last.enter_context(launch("apache", site)).site.listen_port
            body = _ask(port)[1]
            if name == "plain":
                page.write_bytes(body)
            elif body != page.read_bytes():
                raise RuntimeError(f"{name} CGI answers otherwise: {body[:500]!r}")
            askers[name] = lambda port=port: _ask(port)[0]
        yield askers


def _ask(port: int) -> tuple[float, bytes]:
    """Ask once, over a connection of its own; gives milliseconds and the body."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    connection.request("GET", "/app/django", headers={"Connection": "close"})
    response = connection.getresponse()
    body = response.read()
    took = (time.perf_counter() - began) * 1000
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {body[:500]!r}")
    return took, body


def end_residents(directory: Path) -> None:
    """End the servers that listen in *directory*."""
    for path in directory.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
            sock.connect(str(path))
            data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            with suppress(ProcessLookupError):
                os.kill(struct.unpack("3i", data)[0], signal.SIGTERM)


def versions() -> str:
    """Name what is measured."""
    return f"Portico {portico.__version__}, Django {django.get_version()}"
