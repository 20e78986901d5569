"""The fuzz targets, on their corpus and on mutations of it; and that they notice what is wrong.

`make fuzz` does the same with coverage as its guide, and for longer.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.plan import CONTROLS_BYTES, FLOOD, plan
from fuzz.run import NAMES, WORDS, Report, table
from fuzz.seeds import SOURCES, seeds
from fuzz.targets import TARGETS
from portico import head
from portico.codecs import _fastcgi_records, _one_shot, ajp, fastcgi, scgi
from portico.core.environ import EnvironRules
from portico.events import BodyReceived, RequestReceived
from vectors.ajp import PLAIN, octets

CORPUS = Path(__file__).with_name("corpus")

#: Octets of the whole corpus: it is read by every run of the tests, and kept in the repository.
MOST_CORPUS_BYTES = 400_000

EXAMPLES = 500

each_target = pytest.mark.parametrize("name", list(TARGETS))


def corpus(name: str) -> list[Path]:
    return sorted((CORPUS / name).iterdir())


def test_each_target_has_a_corpus_and_no_other_has():
    directories = {path.name for path in CORPUS.iterdir()}
    assert set(TARGETS) == set(NAMES) == set(SOURCES) == directories


@each_target
def test_seeds_are_in_the_corpus(name):
    """What `python tests/fuzz/seeds.py` writes is what is committed."""
    for file, data in seeds(name).items():
        assert (CORPUS / name / file).read_bytes() == data, f"{name}/{file}: write the seeds anew"


def test_corpus_is_small():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) <= MOST_CORPUS_BYTES


@each_target
def test_corpus_holds_the_invariants(name):
    for path in corpus(name):
        try:
            TARGETS[name](path.read_bytes())
        except Exception as exc:
            exc.add_note(f"input: {path}")
            raise


@each_target
def test_a_flood_is_bounded(name):
    """A few of the corpus, repeated beyond every fixed ceiling."""
    for path in corpus(name)[::25]:
        data = path.read_bytes()
        TARGETS[name](data[: CONTROLS_BYTES - 1] + bytes([FLOOD]) + data[CONTROLS_BYTES:])


@st.composite
def mutations(draw, name: str) -> bytes:
    """An input of the corpus with some octets changed, cut out, repeated or put in."""
    paths = corpus(name)
    pick = st.integers(0, len(paths) - 1)
    data = bytearray(paths[draw(pick)].read_bytes().ljust(CONTROLS_BYTES, b"\0"))
    data[:CONTROLS_BYTES] = draw(st.binary(min_size=7, max_size=7)) + b"\0"
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(CONTROLS_BYTES, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 100])))
        kind = draw(st.sampled_from(["octets", "word", "repeat", "splice", "drop"]))
        if kind == "octets":
            data[start:end] = draw(st.binary(max_size=4))
        elif kind == "word":
            data[start:end] = draw(st.sampled_from(WORDS)).encode("latin-1")
        elif kind == "repeat":
            data[start:start] = data[start:end]
        elif kind == "splice":
            data[start:] = paths[draw(pick)].read_bytes()[CONTROLS_BYTES:]
        else:
            del data[start:end]
    return bytes(data)


@each_target
def test_mutations_hold_the_invariants(name):
    # The corpus is found by name, so that each target has examples of its own.
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(data=mutations(name))
    def holds(data):
        TARGETS[name](data)

    holds()


# That the targets notice.


def notices(name: str, *, flood: bool = False) -> str:
    """The first complaint of a target about its corpus; fails where there is none."""
    for path in corpus(name):
        data = path.read_bytes()
        if flood:
            data = data[: CONTROLS_BYTES - 1] + bytes([FLOOD]) + data[CONTROLS_BYTES:]
        try:
            TARGETS[name](data)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is what is looked for
            return f"{type(exc).__name__}: {exc}"
    raise AssertionError(f"{name} notices nothing")


def test_another_error_is_noticed(monkeypatch):
    def broken(_block):
        raise IndexError("as from a field past the end")

    monkeypatch.setattr(_fastcgi_records, "decode_pairs", broken)
    assert notices("fastcgi-server").startswith("IndexError")


@pytest.mark.parametrize("name", ["scgi-server", "uwsgi-server"])
def test_a_hoard_is_noticed(name, monkeypatch):
    hoard = []
    original = _one_shot.OneShotServer.receive_data

    def receive_data(self, data):
        hoard.append(data)
        self._held = bytearray(b"".join(hoard)) if self._state == _one_shot.DONE else self._held
        return original(self, data)

    monkeypatch.setattr(_one_shot.OneShotServer, "receive_data", receive_data)
    assert "octets are kept" in notices(name, flood=True)


def test_events_that_depend_on_the_cut_are_noticed(monkeypatch):
    def receive_body(self, data):
        self._left -= len(data)
        return [BodyReceived(0, data)]

    monkeypatch.setattr(_one_shot.OneShotServer, "_receive_body", receive_body)
    assert "AssertionError" in notices("scgi-server")


def test_a_request_that_does_not_travel_again_is_noticed(monkeypatch):
    original = scgi.ClientCodec._encode_request

    def encode(self, environ, length):
        kept = {name: value for name, value in environ.items() if name != "REQUEST_METHOD"}
        return original(self, kept, length)

    monkeypatch.setattr(scgi.ClientCodec, "_encode_request", encode)
    assert "AssertionError" in notices("scgi-server")


def test_an_answer_that_does_not_travel_is_noticed(monkeypatch):
    def encode(status, headers):
        return head.encode_cgi(status, headers[:-1])

    monkeypatch.setattr(scgi.ServerCodec, "_encode_head", staticmethod(encode))
    assert "AssertionError" in notices("scgi-server")


def test_a_connection_out_of_step_is_noticed(monkeypatch):
    original = ajp.ServerCodec._end

    def end(self):
        self._secret = b"another"
        return original(self)

    monkeypatch.setattr(ajp.ServerCodec, "_end", end)
    # One request alone: what follows shows in the check of the next one, and nowhere else.
    for step in range(16):
        data = plan(octets(PLAIN), script=bytes([step << 4, 0, 0]))
        if step not in (4, 5):
            with pytest.raises(AssertionError, match="secret"):
                TARGETS["ajp-server"](data)


def test_an_abort_that_looks_complete_is_noticed(monkeypatch):
    monkeypatch.setattr(ajp.ServerCodec, "abort", lambda *_: None)
    assert "AssertionError" in notices("ajp-server")


def test_wire_data_among_our_keys_is_noticed(monkeypatch):
    original = EnvironRules.finish

    def finish(self, environ):
        return original(self, environ) | {"wsgi.errors": "from the wire"}

    monkeypatch.setattr(EnvironRules, "finish", finish)
    assert "came from the wire" in notices("environ")


def test_a_head_with_a_line_break_is_noticed(monkeypatch):
    monkeypatch.setattr(head, "_has_controls", lambda _: False)
    with pytest.raises(AssertionError, match="line break"):
        TARGETS["head"](plan(b"A: b\rc\n\n"))


def test_a_request_reported_twice_is_noticed(monkeypatch):
    original = fastcgi.ServerCodec.receive_data

    def receive_data(self, data):
        events = original(self, data)
        twice = [event for event in events if type(event) is RequestReceived]
        return events + twice

    monkeypatch.setattr(fastcgi.ServerCodec, "receive_data", receive_data)
    assert "taken twice" in notices("fastcgi-server")


# The table that `make fuzz` prints.


def test_table_says_what_libfuzzer_said():
    log = (
        "#2\tINITED cov: 10 ft: 20 corp: 3/40b exec/s: 0 rss: 50Mb\n"
        "#4096\tNEW    cov: 12 ft: 25 corp: 5/1200b lim: 48 exec/s: 2048 rss: 51Mb L: 9/48\n"
        "stat::number_of_executed_units: 8000\n"
    )
    lines = table([Report("scgi-server", 4.0, log, []), Report("head", 2.0, "", ["head-crash-1"])])
    _, first, second = (line.split() for line in lines.splitlines())
    assert first == ["scgi-server", "8,000", "2,000", "12", "25", "5", "(1200b)", "none"]
    assert second == ["head", "0", "0", "()", "head-crash-1"]
