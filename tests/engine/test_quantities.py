"""How figures are written."""

import pytest

from portico.engine.quantities import amount


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"), (999, "999 B"), (999.5, "1.0 KiB"), (1536, "1.5 KiB"), (1_023_400, "999 KiB"),
        (1_023_900, "1.0 MiB"), (20_000_000, "19 MiB"), (2**50, "1.0 PiB"), (2**53, "8.0 PiB"),
    ],
)  # fmt: skip
def test_amounts_are_short(octets, text):
    assert amount(octets) == text
