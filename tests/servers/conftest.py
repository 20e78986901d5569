"""What the tests of the web servers share: a directory that any account may pass through."""

import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def directory():
    """A directory as Portico makes it: opened for another account where root needs one."""
    path = Path(tempfile.mkdtemp(prefix="portico-"))
    yield path
    shutil.rmtree(path)


def processes_of(session):
    """The ids of the processes in a session: all that a server started, whatever they became."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="latin-1")
            except OSError:
                continue
            state, _, _, its_session, *_ = stat.rpartition(")")[2].split()
            if int(its_session) == session and state != "Z":  # a zombie is init's to bury
                found.append(int(entry.name))
    return found


@pytest.fixture
def session_members():
    return processes_of
