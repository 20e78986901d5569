"""YAML files: plain values with their lines, nothing else."""

from __future__ import annotations

import pytest

from portico.config.load import load
from portico.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def make(content):
        path = tmp_path / "portico.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return make


def test_values_and_lines(write):
    entries = load(write("# a comment\nthreads: 4\n\ndebug: yes\nbind:\n  - a\n  - b\nmount:\n"))
    assert entries == {
        "threads": (4, 2),
        "debug": (True, 4),
        "bind": (["a", "b"], 5),
        "mount": (None, 8),
    }


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "null\n"])
def test_empty_file_says_nothing(write, content):
    assert load(write(content)) == {}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(write, encoding):
    assert (
        load(write("mount: /\u00e9t\u00e9\n".encode(encoding)))["mount"].value == "/\u00e9t\u00e9"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n- b\n", "line 1 has no 'key: value'"),
        ("just a text\n", "line 1 has no 'key: value'"),
        ("a: 1\nb: [1\nc: 2\n", "line 3 is no valid YAML"),
        ("a: 1\n\tb: 2\n", "line 2 is no valid YAML"),
        ("a: 1\nb: 2\na: 3\n", "line 3 sets a again, after line 1"),
        ("? [1]\n: 2\n", "line 1 has a key that is no word"),
        ("a: 1\n---\nb: 2\n", "line 2 is no valid YAML"),
        ("a: 1\nb: !!python/object/apply:os.getcwd []\n", "line 2 is no valid YAML"),
        ("a: *nowhere\n", "line 1 is no valid YAML"),
        ("a: 2026-02-30\n", "has an impossible value"),
        (b"a: \x00\n", "is no valid YAML"),
        (b"a: \xff\n", "is no valid YAML"),
    ],
)
def test_bad_file_is_refused_with_its_line(write, content, words):
    path = write(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert words in str(caught.value)
    assert path in str(caught.value)
    assert path in caught.value.source


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        load(str(tmp_path / "none.yaml"))
