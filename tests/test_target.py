"""Request targets: percent-decoding once, and the path of every form."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.target import decode_path, path_of


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        ("", ""),
        ("/", "/"),
        ("/a%20b", "/a b"),
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/caf%c3%a9", "/caf\xc3\xa9"),
        ("/caf\xc3\xa9", "/caf\xc3\xa9"),
        ("/a%2Fb", "/a/b"),
        ("/a+b", "/a+b"),
        ("/%00", "/\0"),
        ("/%FF", "/\xff"),
        ("/%2541", "/%41"),
        ("/%25", "/%"),
        ("/%", "/%"),
        ("/%%", "/%%"),
        ("/%4", "/%4"),
        ("/%%41", "/%A"),
        ("/%4%41", "/%4A"),
        ("/%zz", "/%zz"),
        ("/%+1", "/%+1"),
        ("/%-1", "/%-1"),
        ("/% 1", "/% 1"),
        ("/%1_", "/%1_"),
        ("/%\xb2\xb2", "/%\xb2\xb2"),
        ("%41%42", "AB"),
    ],
)
def test_decode(encoded, decoded):
    assert decode_path(encoded) == decoded


@given(st.text(st.sampled_from("%0123456789abcdefABCDEFgz/+ \xe9"), max_size=30))
def test_decodes_as_the_standard_library_does(text):
    assert decode_path(text) == unquote_to_bytes(text.encode("latin-1")).decode("latin-1")


@given(st.binary(max_size=30))
def test_every_octet_comes_back(octets):
    encoded = "".join(f"%{octet:02X}" for octet in octets)
    assert decode_path(encoded).encode("latin-1") == octets


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a%20b?x=/y", "/a%20b"),
        ("/?", "/"),
        ("//a//b", "//a//b"),
        ("/a?b?c", "/a"),
        ("http://www.example.test/a/b?x", "/a/b"),
        ("HTTP://www.example.test:80/a", "/a"),
        ("https://[::1]:80/a", "/a"),
        ("http://www.example.test", "/"),
        ("http://www.example.test?x=/y", "/"),
        ("/http://www.example.test/a", "/http://www.example.test/a"),
        ("/a?http://www.example.test/", "/a"),
        ("*", "*"),
        ("", ""),
        ("?x", ""),
    ],
)
def test_path_of(target, path):
    assert path_of(target) == path
