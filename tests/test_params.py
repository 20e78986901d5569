"""Repeated parameters: joined, overridden, or refused."""

import pytest

from portico.errors import RemoteProtocolError
from portico.params import SINGLE, merge


@pytest.mark.parametrize(
    ("pairs", "environ"),
    [
        ([], {}),
        ([("A", "1"), ("B", "2")], {"A": "1", "B": "2"}),
        ([("HTTP_X", "1"), ("HTTP_X", "2"), ("HTTP_X", "")], {"HTTP_X": "1, 2, "}),
        ([("HTTP_X", ""), ("HTTP_X", "2")], {"HTTP_X": ", 2"}),
        ([("HTTP_COOKIE", "a=1"), ("HTTP_COOKIE", "b=2")], {"HTTP_COOKIE": "a=1; b=2"}),
        ([("HTTP_HOST", "a"), ("HTTP_HOST", "a")], {"HTTP_HOST": "a"}),
        ([("SCRIPT_NAME", "/a"), ("SCRIPT_NAME", "")], {"SCRIPT_NAME": ""}),
        ([("SCRIPT_NAME", ""), ("SCRIPT_NAME", "/a")], {"SCRIPT_NAME": "/a"}),
        ([("", "1"), ("", "2")], {"": "2"}),
    ],
)
def test_merge(pairs, environ):
    assert merge(pairs) == environ


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_two_values_of_what_there_is_one_of_are_refused(name):
    with pytest.raises(RemoteProtocolError, match=name) as caught:
        merge([(name, "1"), ("HTTP_X", "a"), (name, "2")])
    assert caught.value.status_hint == 400
    with pytest.raises(RemoteProtocolError):
        merge([(name, ""), (name, "2")])
    assert merge([(name, "1"), (name, "1")]) == {name: "1"}


def test_order_is_that_of_first_appearance():
    pairs = [("B", "1"), ("HTTP_A", "1"), ("B", "2"), ("C", "1"), ("HTTP_A", "2")]
    assert list(merge(pairs)) == ["B", "HTTP_A", "C"]
