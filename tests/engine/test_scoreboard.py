"""The scoreboard: what one process writes, others read whole; and what it all adds up to."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico import __version__
from portico.engine import scoreboard
from portico.engine.scoreboard import ENTRY_BYTES, Scoreboard
from portico.engine.snapshot import add_counts, snapshot

WAIT = 20


@pytest.fixture
def board():
    return Scoreboard(3)


def request(number, target="/"):
    return {
        "method": "GET", "target": target, "protocol": "scgi", "peer": "127.0.0.1",
        "since": 1000.0, "id": str(number),
    }  # fmt: skip


def worker(pid, **more):
    return {
        "pid": pid, "started": 100.0, "published": 200.0, "rss": 1 << 20, "requests": 10,
        "errors": 2, "aborted": 1, "octets": 5000, "threads": 4, "busy": 0, "connections": 3,
        "waiting": 0, "repairs": {"slash": 2}, "protocols": {"scgi": 10}, "running": [],
    } | more  # fmt: skip


def parent(*children, **more):
    return {
        "pid": 1, "started": 50.0, "state": "serving", "generation": 2, "configured": 2,
        "reloads": 1, "failed_reloads": 0, "last_failure": "", "crashes": 0, "gone": {},
        "binds": ["scgi://127.0.0.1:4000"], "application": "site:app", "children": list(children),
    } | more  # fmt: skip


def child(slot, pid, state="serving"):
    return {"slot": slot, "pid": pid, "generation": 2, "state": state, "started": 100.0}


def in_child(action):
    """Run *action* in a forked process until it returns or is killed; gives the process id."""
    pid = os.fork()
    if not pid:
        try:
            action()
        finally:
            os._exit(0)
    return pid


# -- entries -------------------------------------------------------------------------------


def test_a_slot_is_empty_until_written_and_after_clearing(board):
    assert [board.read(slot) for slot in range(4)] == [None] * 4
    board.write(2, {"a": 1})
    assert [board.read(slot) for slot in range(4)] == [None, None, {"a": 1}, None]
    board.clear(2)
    assert board.read(2) is None
    board.write(2, {"b": 2})
    assert board.read(2) == {"b": 2}


def test_neighbours_are_left_alone(board):
    full = {"text": "x" * (ENTRY_BYTES - 100)}
    for _ in range(3):
        for slot in range(4):
            board.write(slot, full | {"slot": slot})
    assert [board.read(slot) for slot in range(4)] == [full | {"slot": slot} for slot in range(4)]


def test_what_is_beyond_the_board_is_passed_over(board):
    for slot in (-1, 4):
        board.write(slot, {"a": 1})
        board.clear(slot)
        assert board.read(slot) is None
    assert [board.read(slot) for slot in range(4)] == [None] * 4


def test_another_process_reads_what_one_writes(board):
    os.waitpid(in_child(lambda: board.write(1, {"pid": os.getpid()})), 0)
    assert board.read(1)["pid"] not in {0, os.getpid()}


def test_running_requests_are_cut_from_the_end(board):
    running = [request(number, "/" + "x" * 200) for number in range(200)]
    board.write(1, worker(7, running=running))
    entry = board.read(1)
    kept = entry["running"]
    assert 30 < len(kept) < 200
    assert kept == running[: len(kept)]
    assert entry | {"running": []} == worker(7)


@pytest.mark.parametrize("count", range(45, 60))
def test_the_edge_of_what_fits(board, count):
    running = [request(number, "/" + "x" * 200) for number in range(count)]
    board.write(1, worker(7, running=running))
    assert board.read(1)["running"] == running[: len(board.read(1)["running"])]


def test_long_texts_are_cut_where_nothing_else_helps(board):
    board.write(0, parent(last_failure="\x1b" * 100_000))
    entry = board.read(0)
    assert entry["last_failure"] == "\x1b" * 200
    assert entry["application"] == "site:app"


def test_what_cannot_be_cut_is_refused_and_leaves_the_old_entry(board):
    board.write(1, {"a": 1})
    with pytest.raises(ValueError, match="room for"):
        board.write(1, {"numbers": list(range(10_000))})
    assert board.read(1) == {"a": 1}


def test_the_parent_has_room_for_as_many_children_as_there_are_slots():
    board = Scoreboard(1000)
    children = [child(slot, 4_000_000 + slot, "retiring") for slot in range(1, 1001)]
    board.write(0, parent(*children))
    assert board.read(0)["children"] == children


def test_texts_of_any_kind_pass(board):
    text = '\ud800 \x00 \xe9 \U0001f3db " \\ \n'
    board.write(1, {"text": text})
    assert board.read(1) == {"text": text}


def test_it_has_no_name_in_the_file_system(board):
    """Nobody else can open it, and it is gone with its processes."""
    board.write(1, {"mark": "x"})
    maps = Path("/proc/self/maps").read_text().splitlines()
    shared = [line.split(maxsplit=5)[5] for line in maps if line.split()[1] == "rw-s"]
    assert set(shared) == {"/dev/zero (deleted)"}


# -- two processes at once -----------------------------------------------------------------


def entry_of(number):
    """An entry in which every part tells which one it is, of changing length."""
    return {"n": number, "parts": [number] * (number % 1500), "end": number}


def write_on(board):
    number = 0
    while True:
        number += 1
        board.write(1, entry_of(number))


def test_no_reader_sees_half_an_entry(board):
    pid = in_child(lambda: write_on(board))
    try:
        deadline = time.monotonic() + WAIT
        seen = set()
        while len(seen) < 2000:
            assert time.monotonic() < deadline
            entry = board.read(1)
            if entry is not None:
                assert entry == entry_of(entry["n"])
                assert entry["n"] >= max(seen, default=0)
                seen.add(entry["n"])
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert board.read(1) is not None  # the writer died wherever it was


def test_a_writer_that_dies_half_way_leaves_the_entry_before(board, monkeypatch):
    def die(_):
        raise KeyboardInterrupt

    board.write(1, {"n": 1})
    board.write(1, {"n": 2})
    with monkeypatch.context() as patch:
        patch.setattr(scoreboard, "zlib", SimpleNamespace(crc32=die))
        with pytest.raises(KeyboardInterrupt):
            board.write(1, {"n": 3, "more": "x" * 1000})
    assert board.read(1) == {"n": 2}
    board.write(1, {"n": 4})
    assert board.read(1) == {"n": 4}


def test_numbers_start_again_after_the_last(board):
    board._memory[0:8] = b"\xff" * 8
    for number in range(3):
        board.write(0, {"n": number})
        assert board.read(0) == {"n": number}


@given(st.binary(max_size=300), st.integers(0, 2 * ENTRY_BYTES))
def test_octets_of_any_kind_in_the_memory_are_survived(octets, at):
    board = Scoreboard(1)
    board.write(0, parent(child(1, 7)))
    board.write(1, worker(7))
    octets = octets[: len(board._memory) - at]
    board._memory[at : at + len(octets)] = octets
    for slot in (0, 1):
        assert isinstance(board.read(slot), dict | None)
    json.dumps(snapshot(board))


def test_a_deep_entry_is_none_of_ours(board):
    board._publish(1, b"[" * 10_000 + b"]" * 10_000)
    board._publish(2, b"9" * 5000)
    board._publish(3, b"[1]")
    assert [board.read(slot) for slot in (1, 2, 3)] == [None] * 3


# -- snapshots -----------------------------------------------------------------------------


def test_a_snapshot_of_nothing(board):
    found = snapshot(board)
    assert found["portico"] == __version__
    assert found["workers"] == []
    assert found["parent"]["state"] == "starting"
    assert found["total"]["requests"] == 0
    assert found["total"]["repairs"] == {}


def test_a_snapshot_merges_parent_and_workers(board):
    gone = {"requests": 100, "errors": 10, "aborted": 1, "octets": 7}
    board.write(0, parent(child(2, 8), child(1, 7), gone=gone))
    board.write(1, worker(7, busy=1, running=[request(1)]))
    board.write(2, worker(8, protocols={"ajp": 4, "scgi": 6}))
    before = time.time()
    found = snapshot(board)
    assert before <= found["time"] <= time.time()
    assert set(found) == {"portico", "time", "parent", "workers", "total"}
    assert found["parent"] == {
        name: value for name, value in parent().items() if name not in {"gone", "children"}
    }
    first, second = found["workers"]
    assert first == worker(7, busy=1, running=[request(1)]) | child(1, 7, "busy")
    assert second == worker(8, protocols={"ajp": 4, "scgi": 6}) | child(2, 8, "idle")
    assert found["total"] == {
        "requests": 120, "errors": 14, "aborted": 3, "octets": 10_007, "busy": 1, "threads": 8,
        "connections": 6, "waiting": 0, "repairs": {"slash": 4},
        "protocols": {"scgi": 16, "ajp": 4},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "busy", "shown"),
    [
        ("starting", 0, "starting"),
        ("serving", 0, "idle"),
        ("serving", 2, "busy"),
        ("retiring", 2, "retiring"),
    ],
)
def test_state_of_a_worker(board, state, busy, shown):
    board.write(0, parent(child(1, 7, state)))
    board.write(1, worker(7, busy=busy))
    assert snapshot(board)["workers"][0]["state"] == shown


def test_what_an_earlier_worker_left_in_the_slot_is_passed_over(board):
    board.write(0, parent(child(1, 9)))
    board.write(1, worker(7))
    (found,) = snapshot(board)["workers"]
    assert (found["pid"], found["requests"], found["state"]) == (9, 0, "idle")


def test_a_total_never_falls_when_a_worker_ends(board):
    """The reader is in the midst of its look when the parent buries a worker."""
    board.write(0, parent(child(1, 7)))
    board.write(1, worker(7))
    gone = {}
    reads = []

    class Racing:
        def number(self, slot):
            return board.number(slot)

        def read(self, slot):
            reads.append(slot)
            if reads == [0, 1]:
                add_counts(gone, board.read(1))
                board.write(0, parent(gone=gone))
                board.clear(1)
            return board.read(slot)

    found = snapshot(Racing())
    assert reads == [0, 1, 0]
    assert found["total"]["requests"] == 10
    assert found["total"]["repairs"] == {"slash": 2}
    assert snapshot(board)["total"] == found["total"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from([*parent(), *worker(7)]), ANYTHING)
def test_a_snapshot_has_its_form_whatever_a_worker_writes(key, value):
    board = Scoreboard(1)
    board.write(0, parent(child(1, 7)) | {key: value})
    board.write(1, worker(7) | {key: value})
    found = snapshot(board)
    json.dumps(found, allow_nan=False)
    assert set(found["parent"]) == set(parent()) - {"gone", "children"}
    for name, count in found["total"].items():
        if name in {"repairs", "protocols"}:
            assert all(type(number) is int and number >= 0 for number in count.values())
        else:
            assert type(count) is int
            assert count >= 0
    for one in found["workers"]:
        assert set(one) == set(worker(7)) | set(child(1, 7))
        assert type(one["started"]) is float


def test_the_fewest_connections_of_any_worker_that_accepts():
    board = Scoreboard(3)
    assert board.least_staying() == 0
    board.count_staying(1, 7)
    board.count_staying(3, 5)
    assert board.least_staying() == 5
    board.count_staying(2, 0)
    assert board.least_staying() == 0
    board.count_staying(2, None)
    assert board.least_staying() == 5
    board.clear(3)
    assert board.least_staying() == 7
    board.count_staying(4, 1)  # there is no room for it
    board.count_staying(0, 1)  # nor for the parent
    assert board.least_staying() == 7
