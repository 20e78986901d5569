"""Whatever is configured, each entry is carried over or listed; and what is carried is taken."""

import json
import string

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from portico.config.settings import OPTIONS as OWN
from portico.errors import ConfigError
from portico.migrate import document, gunicorn, script, uwsgi, wfastcgi
from portico.migrate.gunicorn_settings import SETTINGS
from portico.migrate.launchers import LAUNCHERS
from portico.migrate.model import CARRIED, LEFT, NEEDLESS, UNKNOWN, Entry, Plan
from portico.migrate.uwsgi_files import INCLUDES
from portico.migrate.uwsgi_options import OPTIONS

MANY = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

VALUES = st.one_of(
    st.sampled_from(
        ["", "1", "0", "true", "off", "-5", "99999999999999999999", "/a", "a.b:c", ":1", "@x",
         "127.0.0.1:80", "A=b", "/x=y.z", "$(A)", "%(b)", "%k", "file:/a", "a'b", '"', "# x",
         "660", "fd://0", "[::]:1", "é\u2028x", "x" * 300],
    ),
    st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), max_size=20),
)  # fmt: skip

NAMES = st.one_of(
    st.sampled_from(sorted(OPTIONS)), st.text(string.ascii_lowercase + "-_", min_size=1)
)


def check(plan, lines):
    """Each line has a note, each note a text, and Portico takes what is printed."""
    noted = {note.entry.line for note in plan.notes}
    assert lines <= noted
    for note in plan.notes:
        assert note.outcome in {CARRIED, NEEDLESS, LEFT, UNKNOWN}
        assert note.text
    text = document.document(plan, "portico.yaml", "")
    found = yaml.safe_load(text) or {}
    assert found == plan.settings
    for key, value in found.items():
        OWN[key].read(value)
    json.dumps(document.as_json(plan, "portico.yaml", ""))
    assert not any(not c.isprintable() for line in text.split("\n") for c in line)


@MANY
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
@example([("w", "x" * 300), ("ini ", "x" * 300)])
@example([("json", "")])
@example([("socket", "/a"), ("socket", "/a"), ("chmod-socket", "9"), ("callable", "x")])
@example([("-", "1"), ("strict", ""), ("http-socket", ":1"), ("listen", "0")])
def test_options_of_uwsgi(tmp_path, pairs):
    path = tmp_path / "a.ini"
    lines = [f"{name} = {value}" for name, value in pairs if name not in INCLUDES - {"json"}]
    path.write_text("\n".join(["[uwsgi]", "threads = 2", *lines]), "utf-8")
    check(uwsgi.read(str(path)), set(range(2, len(lines) + 3)))


LITERALS = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10**20), st.floats(allow_nan=False),
    st.text(max_size=10), st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["127.0.0.1:1", "unix:/a", "a.b:c", "A=b", "/a"]),
).map(repr)  # fmt: skip

EXPRESSIONS = st.one_of(
    LITERALS,
    st.sampled_from(
        ["f()", "x", "os.cpu_count() + 1", "1 / 0", "'a' * 3", "'%s' % 1", "2 ** 99", "[*a]", "-1",
         "'%999999999d' % 1", "lambda: 1", "x if y else z", "{**a}", "f'{1!r}'", "int('x')"],
    ),
)  # fmt: skip


@MANY
@given(st.lists(st.tuples(st.sampled_from(sorted(SETTINGS)), EXPRESSIONS), max_size=8))
@example([("bind", "[1]"), ("bind", "'a'"), ("umask", "'9'"), ("max_requests", "1")])
@example([("timeout", "1e-05"), ("graceful_timeout", "0.25")])
@example([("max_requests_jitter", "1"), ("max_requests", "1e300"), ("threads", "None")])
def test_settings_of_gunicorn(tmp_path, pairs):
    path = tmp_path / "c.py"
    lines = [f"{name} = {value}" for name, value in pairs]
    path.write_text("\n".join(["import os", "workers = 3", *lines]), "utf-8")
    check(gunicorn.read(str(path)), set(range(2, len(lines) + 3)))


@MANY
@given(
    st.sampled_from(sorted(LAUNCHERS)),
    st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(
                    sorted({name for found in LAUNCHERS.values() for name in found.arguments})
                ),
                st.just("nonsense"),
            ),
            EXPRESSIONS,
        ),
        max_size=6,
        unique_by=lambda pair: pair[0],
    ),
    st.booleans(),
)
def test_arguments_of_launchers(tmp_path, name, pairs, is_named):
    module, _, function = name.rpartition(".")
    path = tmp_path / "run.py"
    lines = [f"{key}={value}," for key, value in pairs]
    head = [f"from {module} import {function}", "from a.b import c", f"{function}("]
    head[-1] += "application=c," if is_named else "application=make(1),"
    path.write_text("\n".join([*head, *lines, ")"]), "utf-8")
    plan = script.read(str(path))
    check(plan, {4 + at for at in range(len(lines))})


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10)
ESCAPED = TEXTS.map(
    lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
)
ELEMENTS = st.one_of(
    st.tuples(st.sampled_from([*wfastcgi.SETTINGS, "TZ", "A B"]), ESCAPED).map(
        lambda pair: f'<add key="{pair[0]}" value="{pair[1]}"/>'
    ),
    st.tuples(st.sampled_from([*wfastcgi.FASTCGI, "other"]), ESCAPED).map(
        lambda pair: f'<application {pair[0]}="{pair[1]}"/>'
    ),
    st.sampled_from([f"<{name}><x/></{name}>" for name in (*wfastcgi.ELEMENTS, "unheard")]),
    st.sampled_from(["<clear/>", '<remove name="x"/>', '<location path="x"/>', "<add/>"]),
)


@MANY
@given(st.lists(ELEMENTS, max_size=8))
def test_elements_of_iis(tmp_path, elements):
    path = tmp_path / "Web.config"
    head = '<configuration><add key="WSGI_HANDLER" value="a.b"/>'
    path.write_text("\n".join([head, *elements, "</configuration>"]), "utf-8")
    check(wfastcgi.read(str(path)), set(range(1, len(elements) + 2)))


@MANY
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(tmp_path, text):
    for name, reader in (("a.ini", uwsgi), ("a.py", gunicorn), ("b.py", script), ("c", wfastcgi)):
        path = tmp_path / name
        path.write_bytes(("[uwsgi]\n" if name == "a.ini" else "").encode()
                         + text.encode("utf-8", "surrogatepass"))  # fmt: skip
        try:
            plan = reader.read(str(path))
        except ConfigError:
            continue
        check(plan, set())


@given(st.text())
def test_yaml_has_any_text_as_it_is(text):
    assert yaml.safe_load(f"a: {document.quoted(text)}  # b") == {"a": text}


@pytest.mark.parametrize(
    "text", ["yes", "No", "null", "1", "0x1", "1e3", "~", "a: b", "a #b", "- a", "2026-11-25", "",
             "=", "<<", "a:", "@a", "`a", "%a", "&a", "*a", "!a", "|", "👍", "a\tb", "\ufeff"]
)  # fmt: skip
def test_yaml_takes_no_text_for_something_else(text):
    assert yaml.safe_load(f"a: {document.quoted(text)}") == {"a": text}
    assert yaml.safe_load(f"{document.quoted(text)}: 1") == {text: 1}


def test_settings_are_checked_as_they_are_carried():
    plan = Plan("a", "b")
    entry = Entry("n", "v", "a", 1)
    assert not plan.carry(entry, "threads", 0)
    plan.carry_variable(entry, "1A", "b")
    plan.carry_variable(entry, "LANG", "C")
    plan.carry_mount(entry, "x", "a:b")
    plan.carry_bind(entry, "http")
    assert [note.outcome for note in plan.notes] == [LEFT, LEFT, CARRIED, LEFT, LEFT]
    assert plan.settings == {}
    assert plan.variables == {"LANG": "C"}
