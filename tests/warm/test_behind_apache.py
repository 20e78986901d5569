"""Warm CGI behind a real Apache with mod_cgid: many first requests at once, kills under load."""

import http.client
import os
import shutil
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from portico.servers.account import unprivileged
from portico.servers.launch import launch
from portico.servers.script import write_script
from portico.servers.site import Site
from warm_harness import DEADLINE, end_residents, residents, until

pytestmark = [pytest.mark.frontend("apache"), pytest.mark.slow]

APPLICATION = """
import os, decimal, email.message, http.client, xml.dom.minidom
with open(JOURNAL, "a") as journal:
    journal.write(f"{os.getpid()}\\n")

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {environ['QUERY_STRING']}".encode()]
"""


class Served:
    """A site of warm CGI that Apache serves."""

    def __init__(self, port, directory, journal):
        self.port = port
        self.directory = directory
        self.journal = journal

    def ask(self, number):
        """Ask with *number* in the query; gives status, process and query of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", f"/?n={number}", headers={"Connection": "close"})
            response = connection.getresponse()
            pid, _, query = response.read().decode().partition(" ")
            return response.status, pid, query
        finally:
            connection.close()


@pytest.fixture
def served():
    folder = Path(tempfile.mkdtemp(prefix="portico-"))
    folder.chmod(0o755)
    directory, journal = folder / "warm", folder / "journal"
    directory.mkdir(0o700)
    journal.touch()
    if account := unprivileged():
        shutil.chown(directory, account.user)
        shutil.chown(journal, account.user)
    module = folder / "warm_site.py"
    module.write_text(APPLICATION.replace("JOURNAL", repr(str(journal))))
    script = write_script(
        folder, str(module), drops_privileges=True, options={"warm": str(directory)}
    )
    try:
        with launch("apache", Site(via="cgi", script=str(script), listen_port=0)) as apache:
            site = Served(apache.site.listen_port, directory, journal)
            # what Apache's start has asked for is another server's
            end_residents(directory)
            journal.write_text("")
            yield site
            assert "served as plain CGI" not in apache.log()
    finally:
        end_residents(directory)
        shutil.rmtree(folder)


def test_200_first_requests_at_once_start_one_server(served):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(served.ask, range(200)))
    (pid,) = residents(served.directory)
    assert answers == [(200, str(pid), f"n={number}") for number in range(200)]
    assert served.journal.read_text() == f"{pid}\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_ended_under_load_costs_no_request(served, number):
    killed = set()
    over = threading.Event()

    def kill():
        while len(killed) < 6 and not over.is_set():
            for pid in residents(served.directory) - killed:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
                killed.add(pid)
            over.wait(0.4)

    killer = threading.Thread(target=kill)
    killer.start()
    answers = []
    try:
        with ThreadPoolExecutor(8) as pool:
            until(
                lambda: answers.extend(pool.map(served.ask, range(40))) or len(killed) == 6, "six"
            )
    finally:
        over.set()
        killer.join()
    assert {status for status, _, _ in answers} == {200}
    assert len({pid for _, pid, _ in answers}) > 3
