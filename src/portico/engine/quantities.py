"""How a service's figures are written for people."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def amount(octets: float) -> str:
    """Write octets in at most eight characters: 999 B, 1.5 KiB, 120 MiB."""
    unit = 0
    while octets >= 999.5 and unit < len(_UNITS) - 1:
        octets /= 1024
        unit += 1
    digits = 1 if unit and octets < 9.95 else 0
    return f"{octets:.{digits}f} {_UNITS[unit]}"
