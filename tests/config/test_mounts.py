"""Mounts and environments: what is taken, in every form, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.codecs._ajp_tables import RESERVED_NAMES
from portico.config.mounts import Mount, parse_place, read_mounts, read_pairs
from portico.config.option import plain
from portico.config.refusals import Faults, WrongType
from portico.config.settings import OPTIONS, Settings

# -- places ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/", ("", "")),
        ("/shop", ("", "/shop")),
        ("/shop/", ("", "/shop")),
        ("/shop/deep", ("", "/shop/deep")),
        ("/\u00e9t\u00e9", ("", "/\u00e9t\u00e9")),
        ("/a b", ("", "/a b")),
        ("example.org", ("example.org", "")),
        ("example.org/", ("example.org", "")),
        ("Example.ORG./shop/", ("example.org", "/shop")),
        ("*.Example.org", ("*.example.org", "")),
        ("*.example.org/x", ("*.example.org", "/x")),
        ("localhost", ("localhost", "")),
        ("intranet/", ("intranet", "")),
        ("intranet/wiki", ("intranet", "/wiki")),
        ("my_host.example", ("my_host.example", "")),
        ("xn--bcher-kva.example", ("xn--bcher-kva.example", "")),
        ("127.0.0.1/x", ("127.0.0.1", "/x")),
        ("[::1]", ("[::1]", "")),
        ("[2001:DB8:0:0::1]/x", ("[2001:db8::1]", "/x")),
    ],
)
def test_place_is_host_and_prefix(text, place):
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write / for all paths"),
        ("shop", "may be a path or a host: write /shop, or shop/"),
        ("https://example.org/shop", "is a URL; write host/prefix"),
        ("example.org:8080", "has a port, which plays no part; write example.org"),
        ("[::1]:80/x", "has a port, which plays no part; write [::1]"),
        ("*", "for any host write the path alone"),
        ("*/x", "for any host write the path alone"),
        ("*.", "is no host"),
        ("*.*.example.org", "is no host"),
        ("www.*.org", "is no host"),
        ("-a.example", "is no host"),
        ("a..example", "is no host"),
        ("a b.example", "is no host"),
        ("a" * 64 + ".example", "is no host"),
        (".".join(["abcdefgh"] * 30), "is no host"),
        ("::1", "IPv6 addresses stand in brackets"),
        ("2001:db8::1", "IPv6 addresses stand in brackets"),
        ("[::1", "is no host"),
        ("[::g]", "is no IPv6 address"),
        ("[127.0.0.1]", "is no IPv6 address"),
        ("b\u00fccher.example", "has to be written in ASCII, as xn--"),
        ("//", "empty segment"),
        ("/a//b", "empty segment"),
        ("/a?b", "no plain path"),
        ("/a#b", "no plain path"),
        ("/a\n", "no plain path"),
        ("/a%20b", "has a % in it; write it decoded"),
        ("/a/../b", "segment of dots"),
        ("/.", "segment of dots"),
    ],
)
def test_what_is_no_place(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_place(text)


@given(st.text(max_size=30))
def test_any_text_is_a_place_or_refused(text):
    try:
        host, prefix = parse_place(text)
    except ValueError as error:
        refusal = str(error)
        assert len(refusal.splitlines()) == 1
        return
    assert parse_place(Mount(host, prefix, "x").place) == (host, prefix)


# -- mounts ----------------------------------------------------------------------------------


def refusals(read, value):
    with pytest.raises(Faults) as caught:
        read(value)
    return caught.value.found


def test_mounts_have_three_forms():
    mounts = (Mount("", "/shop", "shop:app"), Mount("example.org", "", "site.py"))
    assert read_mounts({"/shop": "shop:app", "example.org": {"app": "site.py"}}) == mounts
    assert read_mounts(["/shop=shop:app", "example.org=site.py"]) == mounts
    assert read_mounts("/shop=shop:app  example.org=site.py") == mounts
    assert read_mounts(mounts) == mounts


def test_application_of_a_flag_may_hold_equals_signs():
    assert read_mounts(["/a=/srv/x=y/site.py"])[0].app == "/srv/x=y/site.py"


def test_places_read_back():
    for place in ("/", "/a", "example.org/", "example.org/a", "[::1]/"):
        (mount,) = read_mounts({place: "x"})
        assert mount.place == place


def test_mount_with_an_environment():
    (mount,) = read_mounts({"/a": {"app": "x", "environment": {"A": "b", "N": 7, "F": 1.5}}})
    assert mount.environment == (("A", "b"), ("N", "7"), ("F", "1.5"))


def test_plain_values_read_back():
    value = {"/a": {"app": "x", "environment": {"A": "b"}}, "h.org/": {"app": "y"}}
    settings = Settings(mounts=value, environment={"C": "d"}, bind="scgi://127.0.0.1:1")
    values = {name: plain(getattr(settings, name)) for name in OPTIONS}
    assert Settings(**values) == settings


@pytest.mark.parametrize(
    ("value", "keys", "words"),
    [
        ({"/a": "x", "/a/": "y"}, ("/a/",), "is the same place as '/a'"),
        ({"a.b": "x", "A.b./": "y"}, ("A.b./",), "is the same place as 'a.b'"),
        ({"/a": ""}, ("/a",), "the app of '/a' is '', must be"),
        ({"/a": None}, ("/a",), "is a NoneType, must be module:callable or a file"),
        ({"/a": ["x"]}, ("/a",), "is a list, must be"),
        ({"/a": True}, ("/a",), "is True, must be"),
        ({"/a": {}}, ("/a",), "'/a' has no app"),
        ({"/a": {"app": 7}}, ("/a", "app"), "is 7, must be"),
        ({"/a": {"app": "x", "ap": "y"}}, ("/a", "ap"), "has no 'ap'; did you mean app?"),
        ({"/a": {"app": "x", "zz": 1}}, ("/a", "zz"), "known: app, environment"),
        ({"/a": {"app": "x", "environment": "A=b"}}, ("/a", "environment"), "must be names and"),
        (
            {"/a": {"app": "x", "environment": {"HTTP_HOST": "b"}}},
            ("/a", "environment", "HTTP_HOST"),
            "is what a request itself says",
        ),
        (
            {"/a": {"app": "x", "environment": {"wsgi.input": "b"}}},
            ("/a", "environment", "wsgi.input"),
            "is what a request itself says",
        ),
        ({"shop": "x"}, ("shop",), "may be a path or a host"),
        (["/a"], (), "there is no = where"),
        (["/a=x", "/a=y"], (), "'/a' is given twice"),
    ],
)
def test_mistake_within_mounts(value, keys, words):
    ((where, sentence),) = refusals(read_mounts, value)
    assert where == keys
    assert words in sentence


def test_all_mistakes_are_found():
    value = {"shop": "", "/a": {"ap": 1, "environment": {"1": "x", "B": None}}, "/a/": "y"}
    assert len(refusals(read_mounts, value)) == 7


@pytest.mark.parametrize("name", sorted({*RESERVED_NAMES, "HTTP_X", "REDIRECT_X", "SCGI"}))
def test_what_a_request_says_is_no_mounts_to_say(name):
    refusals(read_mounts, {"/a": {"app": "x", "environment": {name: "y"}}})


@pytest.mark.parametrize("value", [7, True, None, [7], {7: "x"}, [["/a", "x"]]])
@pytest.mark.parametrize("read", [read_mounts, read_pairs])
def test_what_is_no_mapping_at_all(read, value):
    with pytest.raises(WrongType):
        read(value)


# -- environments ----------------------------------------------------------------------------


def test_environment_has_three_forms():
    pairs = (("A", "b"), ("_C", "d=e"), ("F", ""))
    assert read_pairs({"A": "b", "_C": "d=e", "F": ""}) == pairs
    assert read_pairs(["A=b", "_C=d=e", "F="]) == pairs
    assert read_pairs(" A=b _C=d=e F= ") == pairs
    assert read_pairs(pairs) == pairs
    assert read_pairs(["A=b c"]) == (("A", "b c"),)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"A": True}, "'A' is yes or no to YAML; put the text that it is to be in quotes"),
        ({"A": None}, "'A' has no value; write '' for an empty one"),
        ({"A": ["b"]}, "'A' is a list, must be a text"),
        ({"A": {"b": "c"}}, "'A' is a dict, must be a text"),
        ({"A": "b\0"}, "'A' has a NUL"),
        ({"A": "\ud800"}, "'A' has a NUL or half a character"),
        ({"A-B": "c"}, "'A-B' is no name of a variable"),
        ({"1A": "c"}, "is no name"),
        ({"": "c"}, "is no name"),
        ({"\u00c4": "c"}, "is no name"),
        ({"A\n": "c"}, "is no name"),
        (["A"], "there is no = where NAME=VALUE belongs"),
        (["A=1", "A=2"], "'A' is given twice"),
    ],
)
def test_mistake_within_an_environment(value, words):
    ((_, sentence),) = refusals(read_pairs, value)
    assert words in sentence
