"""wsgi.input against io.BytesIO, its end and its cuts, and the spool's order."""

import io
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.core.input import RequestBody, Spool
from portico.errors import RequestAborted

BODIES = st.lists(
    st.one_of(st.sampled_from([b"\n", b"\r\n", b"a", b"ab\n", b"\n\n"]), st.binary(max_size=12)),
    max_size=12,
)
SIZES = st.one_of(st.integers(-2, 20), st.none(), st.just("none given"))
CALLS = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readlines", "next"]), SIZES), max_size=12
)


def body_of(pieces, first=0):
    """A RequestBody with the first pieces here already and the others to be fed."""
    feeding = iter([piece for piece in pieces[first:] if piece])
    asked = []

    def feed():
        asked.append(True)
        piece = next(feeding, b"")
        assert piece or asked.count("end") == 0, "asked again after the end"
        if not piece:
            asked.append("end")
        return piece

    return RequestBody(b"".join(pieces[:first]), feed)


def call(stream, name, size):
    if name == "next":
        return next(iter(stream), None)
    return getattr(stream, name)(*(() if size == "none given" else (size,)))


@given(BODIES, st.integers(0, 12), CALLS)
def test_reads_as_bytesio_does(pieces, first, calls):
    ours = body_of(pieces, first)
    theirs = io.BytesIO(b"".join(pieces))
    for name, size in calls:
        assert call(ours, name, size) == call(theirs, name, size)
    assert ours.read() == theirs.read()
    assert (ours.read(), ours.readline(), ours.readlines(), ours.read(5)) == (b"", b"", [], b"")


@given(BODIES, st.integers(0, 12))
def test_iterates_lines_as_bytesio_does(pieces, first):
    assert list(body_of(pieces, first)) == list(io.BytesIO(b"".join(pieces)))


def test_no_body_is_empty():
    body = RequestBody()
    assert (body.read(), body.read(1), body.readline(), list(body)) == (b"", b"", b"", [])


def test_nothing_is_asked_for_that_was_not_wanted():
    asked = []

    def feed():
        asked.append(True)
        return b"bcd\nef"

    body = RequestBody(b"a", feed)
    assert body.read(0) == body.readline(0) == b""
    assert (body.read(1), asked) == (b"a", [])
    assert body.readline() == b"bcd\n"
    assert body.read(2) == b"ef"
    assert len(asked) == 1


def test_a_cut_body_raises_where_it_is_cut_and_again():
    def gone():
        raise RequestAborted("cut")

    for read in (
        lambda body: body.read(),
        lambda body: body.read(10),
        lambda body: body.readline(),
        lambda body: body.readlines(),
        list,
    ):
        body = RequestBody(b"begun", gone)
        for _ in range(2):
            with pytest.raises(OSError, match="cut"):
                read(body)


def test_what_came_before_a_cut_can_be_read():
    def gone():
        raise RequestAborted("cut")

    body = RequestBody(b"one\ntwo", gone)
    assert body.readline() == b"one\n"
    assert body.read(3) == b"two"
    with pytest.raises(RequestAborted):
        body.read(1)


def test_a_large_body_is_read_in_bounded_pieces():
    left = [1000]

    def feed():
        left[0] -= 1
        return b"x" * 65_536 if left[0] >= 0 else b""

    body = RequestBody(b"", feed)
    total = 0
    while piece := body.read(10_000):
        total += len(piece)
        assert len(body._buffer) <= 65_536
    assert total == 65_536_000


# The spool.


@given(
    st.integers(0, 40),
    st.lists(st.one_of(st.binary(min_size=1, max_size=15), st.integers(1, 20)), max_size=30),
)
def test_spool_is_first_in_first_out(memory_bytes, steps):
    """Octets are appended, numbers taken: as if it were one bytearray."""
    files = []

    def make_file():
        files.append(io.BytesIO())
        return files[-1]

    spool = Spool(memory_bytes, make_file)
    expected = bytearray()
    for step in steps:
        if isinstance(step, bytes):
            spool.append(step)
            expected += step
            continue
        taken = spool.take(step)
        assert expected.startswith(taken)
        assert bool(taken) == bool(expected)
        assert len(taken) <= step
        del expected[: len(taken)]
    while taken := spool.take():
        assert expected.startswith(taken)
        del expected[: len(taken)]
    assert not expected
    spool.close()
    assert all(file.closed for file in files)
    assert len(files) <= 1


def test_spool_stays_in_memory_up_to_its_bound():
    files = []

    def make_file():
        files.append(tempfile.TemporaryFile())  # noqa: SIM115 - the spool closes it
        return files[-1]

    spool = Spool(10, make_file)
    spool.append(b"0123456789")
    assert files == []
    spool.append(b"a")
    assert len(files) == 1
    assert (spool.take(4), spool.take(), spool.take(), spool.take()) == (
        b"0123", b"456789", b"a", b"",
    )  # fmt: skip
    spool.append(b"more")
    assert spool.take() == b"more"
    spool.close()
    assert files[0].closed
    assert spool.take() == b""
    spool.close()


def test_spool_that_is_read_to_its_end_takes_up_no_disk():
    with tempfile.TemporaryFile() as file:
        spool = Spool(4, lambda: file)
        for _ in range(3):
            spool.append(b"in file")
            spool.append(b", more")
            assert spool.size == 13
            assert spool.take(7) == b"in file"
            assert spool.size == 13  # what has been read is there still
            assert spool.take() == b", more"
            assert spool.size == 0
            assert file.seek(0, 2) == 0
            assert spool.take() == b""
        spool.append(b"ab")
        assert spool.take() == b"ab"
    spool = Spool(4, tempfile.TemporaryFile)
    spool.append(b"mem")
    assert spool.size == 3


def test_spool_reports_a_full_disk():
    def make_file():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        Spool(0, make_file).append(b"x")
