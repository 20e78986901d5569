"""uWSGI's configuration files as uWSGI 2.0.21 reads them (`--show-config` was asked)."""

import pytest

from portico.errors import ConfigError
from portico.migrate import detect
from portico.migrate.uwsgi import read
from portico.migrate.uwsgi_files import Source


@pytest.fixture
def entries(tmp_path):
    """Writes files, and reads the first; gives names and values."""

    def write(text, name="a b.ini", section="", **others):
        (tmp_path / name).write_text(text)
        for other, content in others.items():
            (tmp_path / f"{other}.ini").write_text(content)
        found = Source(str(tmp_path / name) + section)
        return [(entry.name, entry.data) for entry in found.entries]

    return write


@pytest.fixture
def plan(tmp_path):
    def make(text, name="site.ini"):
        (tmp_path / name).write_text(text)
        return read(str(tmp_path / name))

    return make


def outcomes(plan):
    return [(note.entry.name, note.entry.line, note.outcome) for note in plan.notes]


def test_keys_and_values_are_stripped(entries):
    text = "[uwsgi]\n  a  =  b c  \nd=e\nf = \ng\n; h = 1\n# i = 1\n\nj = k ; l\n"
    assert entries(text) == [("a", "b c"), ("d", "e"), ("f", ""), ("g", None), ("j", "k ; l")]


def test_underscores_are_dashes(entries):
    assert entries("[uwsgi]\nmax_requests = 3\n") == [("max-requests", "3")]


def test_other_sections_are_passed_over(entries):
    text = "[other]\na = 1\n[uwsgi]\nb = 2\n[more]\nc = 3\n"
    assert entries(text) == [("b", "2")]
    assert entries(text, section=":more") == [("c", "3")]


def test_no_line_goes_on_behind_a_backslash(entries):
    assert entries("[uwsgi]\na = b\\\nc = d\n") == [("a", "b\\"), ("c", "d")]


def test_included_entries_stand_in_their_place(entries):
    text = "[uwsgi]\na = 1\nini = :more\nini = b.ini:x\nz = 2\n[more]\nm = 3\n"
    found = entries(text, b="[x]\ni = 4\n[uwsgi]\nj = 5\n")
    assert [pair for pair in found if pair[0] != "ini"] == [
        ("a", "1"), ("m", "3"), ("i", "4"), ("z", "2"),
    ]  # fmt: skip


def test_placeholders_are_what_any_entry_says(entries):
    text = "[uwsgi]\na = %(b)/%(later)x\nb = /srv\nlater = %(b)!\nset-placeholder = c=7\nd = %(c)\n"
    assert dict(entries(text))["a"] == "/srv//srv!x"
    assert dict(entries(text))["d"] == "7"
    assert dict(entries("[uwsgi]\na = %(none)\n"))["a"] == "%(none)"


def test_magic_variables(entries, tmp_path):
    text = "[uwsgi]\na = %n|%s|%e|%c|%d|%p|%%|%x\n"
    here = tmp_path.name
    expected = f"a b|a b.ini|ini|{here}|{tmp_path}/|{tmp_path}/a b.ini|%|uwsgi"
    assert entries(text) == [("a", expected)]


def test_xml_has_the_entries_of_its_section(entries):
    text = "<x><uwsgi><socket> /s </socket><master/></uwsgi><uwsgi id='b'><c>1</c></uwsgi></x>"
    assert entries(text, "a.xml") == [("socket", "/s"), ("master", None)]
    assert entries(text, "a.xml", ":b") == [("c", "1")]


def test_numbers_of_yaml_stay_as_they_are_written(entries):
    text = "uwsgi:\n  chmod-socket: 0660\n  vacuum: yes\n  master:\n  env: [A=1, B=2]\n"
    assert entries(text, "a.yml") == [
        ("chmod-socket", "0660"), ("vacuum", "true"), ("master", None), ("env", "A=1"),
        ("env", "B=2"),
    ]  # fmt: skip


def test_line_and_file_of_each_entry_are_kept(tmp_path):
    (tmp_path / "a.ini").write_text("\n[uwsgi]\n\nharakiri = x\ninclude = b.ini\n")
    (tmp_path / "b.ini").write_text("[uwsgi]\nsocket = /s\n")
    notes = read(str(tmp_path / "a.ini")).notes
    assert [(n.entry.file, n.entry.line) for n in notes] == [
        (str(tmp_path / "a.ini"), 4), (str(tmp_path / "a.ini"), 5), (str(tmp_path / "b.ini"), 2),
    ]  # fmt: skip


def test_what_counts_under_a_condition_is_told(plan):
    text = "[uwsgi]\nif-env = X\nharakiri = 3\nif-exists = /a\nprocesses = 4\nendif =\nendif =\n"
    text += "for = a b\nenv = %(_)=1\nendfor =\nthreads = 2\n"
    made = plan(text)
    assert [outcome for *_, outcome in outcomes(made)] == ["left"] * 9 + ["carried"]
    assert "timeout" not in made.settings
    assert made.settings["threads"] == 2
    assert "if-env = X in line 2" in made.notes[1].text


@pytest.mark.parametrize("value", ["$(HOME)/x", "@(/etc/hostname)", "%(nothing)", "%t"])
def test_what_is_known_at_the_start_alone_is_told(plan, value):
    made = plan(f"[uwsgi]\npidfile = {value}\n")
    assert outcomes(made) == [("pidfile", 2, "left")]
    assert "pid_file" not in made.settings


def test_a_file_that_is_not_there_is_told(plan):
    made = plan("[uwsgi]\nini = none.ini\nharakiri = 3\n")
    assert outcomes(made) == [("ini", 2, "left"), ("harakiri", 3, "carried")]
    assert "No such file" in made.notes[0].text


def test_the_last_of_two_counts(plan):
    made = plan("[uwsgi]\nprocesses = 2\nworkers = 4\nchdir = /a\nchdir = /b\n")
    assert made.settings["workers"] == 4
    assert made.directory == "/b"
    assert [outcome for *_, outcome in outcomes(made)] == [
        "not needed", "carried", "not needed", "carried",
    ]  # fmt: skip


def test_a_switch_that_is_off_sets_nothing(plan):
    made = plan("[uwsgi]\ncheap = false\ncatch-exceptions = 0\npy-autoreload = 0\n")
    assert not {"on_demand", "debug", "reload"} & made.settings.keys()
    assert {outcome for *_, outcome in outcomes(made)} == {"not needed"}


SOCKETS = [
    ("socket = /run/a.sock", "uwsgi+unix:///run/a.sock"),
    ("socket = 127.0.0.1:3031", "uwsgi://127.0.0.1:3031"),
    ("socket = [::1]:3031", "uwsgi://[::1]:3031"),
    ("socket = fd://3", "uwsgi+fd://3"),
    ("uwsgi-socket = /a b.sock", "uwsgi+unix:///a%20b.sock"),
    ("scgi-socket = localhost:4000", "scgi://localhost:4000"),
    ("socket = /a\nprotocol = fastcgi", "fastcgi+unix:///a"),
    ("socket = /a\nsocket-protocol = http", "fastcgi+unix:///a"),
    ("socket = /a\nchmod-socket", "uwsgi+unix:///a?mode=666"),
    ("socket = /a\nchmod-socket = 664\nchown-socket = root", "uwsgi+unix:///a?mode=664&user=root"),
    ("socket = /a\nchown-socket = :www-data", "uwsgi+unix:///a?group=www-data"),
    ("socket = 127.0.0.1:1\nlisten = 64", "uwsgi://127.0.0.1:1?backlog=64"),
    ("http-socket = 127.0.0.1:8080", "fastcgi://127.0.0.1:8080"),
]


@pytest.mark.parametrize(("text", "url"), SOCKETS)
def test_sockets(plan, text, url):
    made = plan(f"[uwsgi]\n{text}\n")
    assert made.settings["bind"] == [url]
    assert {outcome for *_, outcome in outcomes(made)} == {"carried"}


def test_a_relative_socket_is_beside_its_file(plan, tmp_path):
    made = plan("[uwsgi]\nsocket = run/a.sock\nchdir = /elsewhere\n")
    assert made.settings["bind"] == [f"uwsgi+unix://{tmp_path}/run/a.sock"]


@pytest.mark.parametrize("text", [":3031", "0.0.0.0:3031", "*:3031", "10.0.0.7:3031"])
def test_an_address_that_others_can_reach_becomes_loopback(plan, text):
    made = plan(f"[uwsgi]\nsocket = {text}\n")
    assert made.settings["bind"] == ["uwsgi://127.0.0.1:3031"]
    assert [outcome for *_, outcome in outcomes(made)] == ["left", "carried"]
    assert "allow=" in made.notes[0].text


@pytest.mark.parametrize("text", ["socket = @abstract", "socket = a:b", "socket =", "socket = =0"])
def test_what_is_no_address_is_told(plan, text):
    made = plan(f"[uwsgi]\n{text}\n")
    assert "bind" not in made.settings or text == "socket = =0"
    assert made.notes[0].outcome == ("carried" if text == "socket = =0" else "left")


APPS = [
    ("module = a.b:c", "a.b:c"),
    ("wsgi = a.b", "a.b:application"),
    ("module = a.b\ncallable = c", "a.b:c"),
    ("module = a.b:make()", "a.b:make()"),
    ("wsgi-file = /x/a.py", "/x/a.py:application"),
    ("file = b.wsgi\nchdir = /x\ncallable = app", "/x/b.wsgi:app"),
]


@pytest.mark.parametrize(("text", "app"), APPS)
def test_applications(plan, text, app):
    made = plan(f"[uwsgi]\n{text}\n")
    assert made.settings["app"] == app
    assert {outcome for *_, outcome in outcomes(made)} == {"carried"}


@pytest.mark.parametrize(
    "text", ["module = a.b:make('x')", "module = a b", "module =", "callable = c"]
)
def test_an_application_that_has_no_name_is_told(plan, text):
    made = plan(f"[uwsgi]\n{text}\n")
    assert "app" not in made.settings
    assert made.notes[0].outcome == "left"
    assert any("app" in task for task in made.tasks)


def test_variables_that_python_reads_go_to_the_command(plan):
    made = plan("[uwsgi]\nenv = LANG=C.UTF-8\nenv = A=b=c\nenv = PYTHONPATH=/y\npythonpath = /x\n")
    assert made.variables == {"LANG": "C.UTF-8", "PYTHONPATH": "/x:/y"}
    assert made.settings["environment"] == {"A": "b=c"}


BROKEN = [
    pytest.param("a.ini", "[other]\na = 1\n", "no section [uwsgi]", id="other-section"),
    pytest.param("a.ini", "a = 1\n[uwsgi]\nb = 2\n", "line 1 stands before", id="early"),
    pytest.param("a.ini", "[uwsgi]\nini = a.ini\n", "includes itself", id="loop"),
    pytest.param("a.ini", "[uwsgi]\n\x00\n", "line 2 has a NUL", id="nul"),
    pytest.param("a.ini", "[app:main]\nuse = egg:x\n", "PasteDeploy", id="paste"),
    pytest.param("a.xml", "<uwsgi><a></uwsgi>", "line 1 is no valid XML", id="xml"),
    pytest.param("a.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]>\n<uwsgi><c>&a;</c></uwsgi>", "DOCTYPE",
                 id="doctype"),
    pytest.param("a.xml", "<uwsgi>" + "<a>" * 200 + "</a>" * 200 + "</uwsgi>", "levels", id="deep"),
    pytest.param("a.yaml", "uwsgi:\n  a: 1\n  a: 2\n", "line 3 sets a again", id="twice"),
    pytest.param("a.yaml", "uwsgi:\n  a: [[1]]\n", "line 2 has values within", id="nested"),
    pytest.param("a.yaml", "other: 1\n", "no uwsgi:", id="other-yaml"),
    pytest.param("a.json", '{"uwsgi": ', "no valid YAML", id="json"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "words"), BROKEN)
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        detect.read(str(path))
    assert words in str(caught.value)
    assert str(path) in caught.value.source


def test_placeholders_do_not_grow_without_end(tmp_path):
    lines = ["[uwsgi]", "a0 = " + "x" * 1000]
    lines += [f"a{n} = " + f"%(a{n - 1})" * 50 for n in range(1, 9)]
    path = tmp_path / "a.ini"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="grow without end"):
        read(str(path))
