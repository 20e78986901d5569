"""Drives dissectors: octets delivered in every way, items as plain values."""

from __future__ import annotations

import gzip
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import strategies as st

from codecs_harness import BYTEWISE_BYTES, PRIMES, deliveries
from portico.trace import dissector
from portico.trace.items import END, FRONTEND, SERVER

HERE = Path(__file__).parent / "captures"
INDEX = json.loads((HERE / "index.yaml").read_text("ascii"))


def captures(protocol):
    """The captures of *protocol*, for parametrize."""
    found = [capture for capture in INDEX["captures"] if capture["protocol"] == protocol]
    assert found
    return [pytest.param(capture, id=capture["id"]) for capture in found]


@cache
def load(file):
    data = (HERE / file).read_bytes()
    return gzip.decompress(data) if file.endswith(".gz") else data


def dissect(protocol, direction, *chunks):
    """The items of *chunks* and their end."""
    what = dissector(protocol, direction)
    items = [item for chunk in chunks for item in what.receive_data(chunk)]
    items += what.receive_eof()
    assert what.faults == sum(len(item.faults) for item in items)
    assert what.offset == sum(map(len, chunks))
    assert what.receive_eof() == []
    check_tiling(items, sum(map(len, chunks)))
    return items


def check_tiling(items, size):
    """Each octet belongs to one item, in order."""
    at = 0
    for item in items:
        assert item.offset == at
        assert item.size > 0 or item.name == END
        at += item.size
    assert at == size


def plain(items):
    """All that items say, as values to compare."""
    return [
        (i.direction, i.offset, i.size, i.name, i.detail, i.fields, i.preview, i.faults)
        for i in items
    ]


def faults(items):
    return [fault for item in items for fault in item.faults]


def assert_same_however_cut(protocol, direction, data, *, every=True):
    """The same items for octets that come whole, byte by byte, and cut in two."""
    whole = plain(dissect(protocol, direction, data))
    for chunks in deliveries(data) if every else _some_deliveries(data):
        assert plain(dissect(protocol, direction, *chunks)) == whole


def _some_deliveries(data):
    sizes = (1,) if len(data) <= BYTEWISE_BYTES else PRIMES
    for size in sizes:
        yield [data[at : at + size] for at in range(0, len(data), size)]
    for at in range(1, len(data), max(1, len(data) // 12)):
        yield [data[:at], data[at:]]


def assert_broken(protocol, direction, data):
    """At least one fault, and each with the place of its rule."""
    found = faults(dissect(protocol, direction, data))
    assert found
    assert all(fault.text and fault.section for fault in found)
    return found


def texts(*params):
    """The first value of each vector, with its id."""
    return [pytest.param(param.values[0], id=param.id) for param in params]


def hostile(samples):
    """Octets made of good and bad samples: cut, joined, damaged; or of nothing."""
    piece = st.one_of(
        st.sampled_from(samples),
        st.binary(max_size=40),
        st.builds(
            lambda data, start, size: data[start : start + size],
            st.sampled_from(samples),
            st.integers(0, 300),
            st.integers(0, 300),
        ),
        st.builds(
            lambda data, at, octet: data[: at % len(data)] + octet + data[at % len(data) + 1 :],
            st.sampled_from([sample for sample in samples if sample]),
            st.integers(0, 10_000),
            st.binary(min_size=0, max_size=2),
        ),
    )
    return st.lists(piece, max_size=4).map(b"".join)


DIRECTIONS = st.sampled_from([FRONTEND, SERVER])
CUTS = st.lists(st.integers(0, 3000), max_size=5)


def assert_survives(protocol, direction, data, cuts):
    """Nothing raised, all octets told, the same items however they are cut."""
    whole = plain(dissect(protocol, direction, data))
    places = sorted({0, len(data), *(at for at in cuts if at < len(data))})
    chunks = [data[a:b] for a, b in pairwise(places)]
    assert plain(dissect(protocol, direction, *chunks)) == whole
    octets = [data[at : at + 1] for at in range(len(data))]
    assert plain(dissect(protocol, direction, *octets)) == whole
