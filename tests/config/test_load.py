"""YAML files: plain values with their lines, nothing else."""

from __future__ import annotations

import pytest

from portico.config.load import MOST_BYTES, MOST_LEVELS, load
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
        "threads": (4, 2, {}),
        "debug": (True, 4, {}),
        "bind": (["a", "b"], 5, {}),
        "mount": (None, 8, {}),
    }


def test_lines_of_the_keys_within(write):
    entry = load(write("mounts:\n  /a: b\n\n  c.d:\n    app: e\n    environment: {F: g}\n"))[
        "mounts"
    ]
    assert entry.value == {"/a": "b", "c.d": {"app": "e", "environment": {"F": "g"}}}
    assert entry.line == 1
    assert entry.lines == {
        ("/a",): 2,
        ("c.d",): 4,
        ("c.d", "app"): 5,
        ("c.d", "environment"): 6,
        ("c.d", "environment", "F"): 6,
    }


@pytest.mark.parametrize(
    "text", ["0644", "1.10", "1_000", "0x1F", "12:30:45", ".5", "1.0e+3", "-0"]
)
def test_literal_numbers_stay_as_they_are_written(text, write):
    path = write(f"a: {{B: {text}, C: [{text}]}}\nd: {{B: {text}}}\n")
    entries = load(path, literal=["a"])
    assert entries["a"].value == {"B": text, "C": [text]}
    assert entries["d"].value["B"] != text


def test_literal_leaves_all_but_numbers_to_yaml(write):
    entries = load(write("a: {B: yes, C: , D: 2026-01-02, E: '7', F: text}\n"), literal=["a"])
    made = entries["a"].value
    assert made["B"] is True
    assert made["C"] is None
    assert not isinstance(made["D"], str)
    assert (made["E"], made["F"]) == ("7", "text")


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
        ("a: 1\nb: !!python/object/apply:os.getcwd []\n", "line 2 has a value of the kind"),
        ("a: 1\nb: !!python/name:os.getcwd x\n", "line 2 is no valid YAML"),
        ("a: 1\nb: !own x\n", "line 2 is no valid YAML"),
        ("a:\n  b: !!set {c}\n", "line 2 has a value of the kind"),
        ("a:\n  b: 1\n  b: 2\n", "line 3 sets b again, after line 2"),
        ("a:\n  ? [1]\n  : 2\n", "line 2 has a key that is no word"),
        ("a:\n  *.example.org: b\n", "a text that begins with * stands in quotes"),
        ("a: &a [*a]\n", "values within values"),
        ("a: &a {b: *a}\n", "values within values"),
        pytest.param("a: " + "[" * 5000, "values within values", id="deep"),
        pytest.param("a: " + "[" * 50 + "]" * 50, f"more than {MOST_LEVELS}", id="levels"),
        pytest.param("a: " + "9" * 5000, "has an impossible value", id="digits"),
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


def test_aliases_of_aliases_are_bounded(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="is beyond 20000 values, anchors counted"):
        load(write("\n".join(lines)))


def test_anchors_within_bounds_are_taken(write):
    entries = load(write("a: &a {B: c}\nd: {e: *a}\n"))
    assert entries["d"].value == {"e": {"B": "c"}}


def test_large_file_is_refused_unparsed(write):
    with pytest.raises(ConfigError, match=f"has more than {MOST_BYTES} octets"):
        load(write("# \n" * (10_000_000 // 3)))


def test_endless_file_is_refused():
    with pytest.raises(ConfigError, match=f"has more than {MOST_BYTES} octets"):
        load("/dev/zero")


def test_all_mistakes_are_told_where_that_is_asked_for(write):
    content = "a: 1\na: 2\nb: !x y\nc: !!set {d}\ne: {f: 1, f: 2}\ng: 2026-02-30\nh: 7\n"
    mistakes = []
    entries = load(write(content), mistakes=mistakes)
    assert {name: entry.value for name, entry in entries.items()} == {"a": 1, "h": 7}
    lines = [mistake.source.rpartition(" ")[2] for mistake in mistakes]
    assert lines[:4] == ["2", "3", "4", "5"]
    assert "impossible value" in str(mistakes[4])
    assert len(mistakes) == 5


def test_file_that_cannot_be_read_is_one_mistake(tmp_path):
    mistakes = []
    assert load(str(tmp_path), mistakes=mistakes) == {}
    assert "cannot be read: Is a directory" in str(mistakes[0])
    assert len(mistakes) == 1
