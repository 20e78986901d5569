"""The estimate of which requests are slow."""

import pytest

from portico.engine.pace import SHORT, SLOW, SLOW_SECONDS, UNTRIED, Pace, target_of


def test_nothing_is_slow_at_first():
    pace = Pace()
    assert not pace.active
    assert pace.guess("/any") == SHORT


def test_suspicion_makes_active():
    pace = Pace()
    pace.suspect(1.0)
    assert pace.active
    assert pace.guess("/any") == SHORT


def test_target_is_learnt():
    pace = Pace()
    pace.note("/slow", SLOW_SECONDS, 1.0)
    assert pace.active
    assert pace.guess("/slow") == SLOW
    assert pace.guess("/other") == SHORT


def test_target_with_a_query_is_learnt_for_its_path_as_well():
    pace = Pace()
    pace.note("/slow?id=1", 1.0, 1.0)
    assert pace.guess("/slow?id=1") == SLOW
    assert pace.guess("/slow?id=2") == SLOW
    assert pace.guess("/slow") == SLOW


def test_whole_target_counts_before_its_path():
    pace = Pace()
    pace.note("/page?slow", 1.0, 1.0)
    for _ in range(40):
        pace.note("/page?fast", 0.0001, 1.0)
    assert pace.guess("/page?slow") == SLOW
    assert pace.guess("/page?fast") == SHORT


def test_unknown_target_is_untried_where_most_are_slow():
    pace = Pace()
    for number in range(4):
        pace.note(f"/{number}", 1.0, 1.0)
    assert pace.guess("/new") == UNTRIED
    assert pace.guess("/0") == SLOW


def test_level_falls_with_short_calls():
    pace = Pace()
    for number in range(4):
        pace.note(f"/{number}", 1.0, 1.0)
    assert pace.guess("/new") == UNTRIED
    pace.note("/fast", 0.0001, 1.0)
    assert pace.guess("/new") == SHORT


def test_one_delay_does_not_make_a_short_target_slow():
    """A busy machine delays short calls too."""
    pace = Pace()
    for _ in range(5):
        pace.note("/short", 0.0002, 1.0)
    pace.note("/short", 2.0, 1.0)
    assert pace.guess("/short") == SHORT


def test_target_that_becomes_slow_is_slow_after_some_calls():
    pace = Pace()
    pace.note("/page", 0.0002, 1.0)
    for _ in range(30):
        pace.note("/page", 0.05, 1.0)
    assert pace.guess("/page") == SLOW


def test_target_that_becomes_short_is_short_after_some_calls():
    pace = Pace()
    pace.note("/page", 0.05, 1.0)
    for _ in range(30):
        pace.note("/page", 0.0002, 1.0)
    assert pace.guess("/page") == SHORT


def test_everything_is_forgotten_after_seconds_without_slow_calls():
    pace = Pace()
    pace.note("/slow", 1.0, 10.0)
    pace.note("/short", 0.0001, 14.9)
    assert pace.active
    pace.note("/short", 0.0001, 15.1)
    assert not pace.active
    assert pace.guess("/slow") == SHORT


def test_fast_is_what_was_known_before():
    pace = Pace()
    pace.note("/page", 0.0001, 3.0)
    assert pace.fast_at == 0.0
    pace.note("/page", 0.0001, 4.0)
    assert pace.fast_at == 4.0
    pace.note("/page", 1.0, 5.0)
    assert pace.fast_at == 4.0


def test_number_of_targets_is_bounded():
    pace = Pace()
    for number in range(5000):
        pace.note(f"/{number}?{number}", 1.0, 1.0)
    assert len(pace._known) <= 1025


def test_size_of_targets_is_bounded():
    """A thousand remembered ones must not hold a thousand requests' worth of octets."""
    environ = {"REQUEST_URI": "/" + "x" * 1_000_000 + "?" + "y" * 1_000_000}
    assert len(target_of(environ)) <= 1000


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        ({"REQUEST_URI": "/a%20b?c=d", "PATH_INFO": "/a b"}, "/a%20b?c=d"),
        ({"REQUEST_URI": "", "PATH_INFO": "/a b"}, "/a b"),
        ({"PATH_INFO": "/a b"}, "/a b"),
        ({}, ""),
    ],
)
def test_target_is_as_the_client_sent_it(environ, target):
    assert target_of(environ) == target
