"""What the tests of real backends share."""

import pytest

from portico.client import pool as pool_module


@pytest.fixture
def connections(monkeypatch):
    """Every connection that a pool makes."""
    made = []
    connect = pool_module.connect

    def counted(*arguments):
        made.append(connect(*arguments))
        return made[-1]

    monkeypatch.setattr(pool_module, "connect", counted)
    return made
