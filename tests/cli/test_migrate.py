"""``portico migrate``: where its words go, its exit statuses, and what it never does."""

import json
import os

import pytest
import yaml

from cli_harness import one_sentence
from portico import cli

INI = "[uwsgi]\nmodule = a.b\nsocket = 127.0.0.1:3031\nthreads = 2\nmaster = true\n"


@pytest.fixture
def migrate(tmp_path, monkeypatch, capsys):
    """Runs the command beside a file; gives status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(text, *words, name="uwsgi.ini"):
        (tmp_path / name).write_text(text)
        return cli.main(["migrate", name, *words]), *capsys.readouterr()

    return run


def test_the_configuration_is_standard_output(migrate):
    status, out, err = migrate(INI)
    assert status == 0
    assert yaml.safe_load(out) == {
        "bind": ["uwsgi://127.0.0.1:3031"], "app": "a.b:application", "threads": 2,
    }  # fmt: skip
    assert "#   portico serve --config portico.yaml" in out.splitlines()
    assert one_sentence(err) == "portico: uwsgi.ini: 3 carried, 1 not needed, 0 left, 0 unknown"


@pytest.mark.parametrize("line", ["cron = 1 2 3", "unheard-of = 1", "uid = no-such-user-here"])
def test_what_is_left_shows_in_the_status(migrate, line):
    status, out, _ = migrate(f"{INI}{line}\n")
    assert status == 3
    assert "decide by hand" in out or "Still to do" in out


def test_an_output_is_a_new_file(migrate, tmp_path):
    status, out, _ = migrate(INI, "-o", "new.yaml")
    assert status == 0
    assert f"portico serve --config {tmp_path}/new.yaml" in out
    assert not out.startswith("#")
    assert yaml.safe_load((tmp_path / "new.yaml").read_text())["threads"] == 2
    assert cli.main(["check", "new.yaml"]) == 0


def test_nothing_is_overwritten(migrate, tmp_path):
    (tmp_path / "old.yaml").write_text("threads: 9\n")
    status, out, err = migrate(INI, "-o", "old.yaml")
    assert (status, out) == (2, "")
    assert "is there already" in one_sentence(err)
    assert (tmp_path / "old.yaml").read_text() == "threads: 9\n"


def test_a_symbolic_link_is_not_followed(migrate, tmp_path):
    (tmp_path / "link.yaml").symlink_to(tmp_path / "elsewhere")
    assert migrate(INI, "-o", "link.yaml")[0] == 2
    assert not (tmp_path / "elsewhere").exists()


def test_an_output_that_cannot_be_written(migrate):
    status, _, err = migrate(INI, "-o", "none/new.yaml")
    assert status == 1
    assert "cannot be written" in one_sentence(err)


def test_who_may_not_read_the_source_may_not_read_the_output(migrate, tmp_path):
    (tmp_path / "uwsgi.ini").touch()
    (tmp_path / "uwsgi.ini").chmod(0o600)
    migrate(f"{INI}env = SECRET=x\n", "-o", "new.yaml")
    assert (tmp_path / "new.yaml").stat().st_mode & 0o777 == 0o600


def test_json(migrate):
    status, out, _ = migrate(f"{INI}cron = 1\n", "--json")
    found = json.loads(out)
    assert status == 3
    assert found["complete"] is False
    assert found["settings"]["threads"] == 2
    assert found["entries"][-1] == {
        "file": "uwsgi.ini", "line": 6, "name": "cron", "value": "1", "outcome": "left",
        "text": "a timer of systemd, or cron",
    }  # fmt: skip


def test_a_value_of_a_variable_is_in_the_settings_alone(migrate):
    _, out, err = migrate(f"{INI}env = SECRET_KEY=hidden\n", "-o", "new.yaml")
    assert "hidden" not in out + err


def test_what_would_move_a_cursor_is_escaped(migrate):
    status, out, _ = migrate(f"{INI}unheard-of = \x1b[2Jx\u2028y\nenv = A=\x1b\u2028\x85b\n")
    assert status == 3
    assert not any(not c.isprintable() for line in out.split("\n") for c in line)
    assert yaml.safe_load(out)["environment"] == {"A": "\x1b\u2028\x85b"}


def test_words_for_the_shell_are_quoted(migrate):
    _, out, _ = migrate(f"{INI}chdir = /a b; rm -rf /\nenv = LANG=$(x)'\n", "-o", "x.yaml")
    assert "cd '/a b; rm -rf ' &&" in out
    _, out, _ = migrate(f"{INI}env = LC_ALL=`x`'\n", "-o", "y.yaml")
    assert """LC_ALL='`x`'"'"'' portico serve""" in out


BAD = [
    pytest.param(["none.ini"], "cannot be read: No such file", id="missing"),
    pytest.param(["a" * 300 + ".ini:b"], "cannot be read: File name too long", id="long"),
    pytest.param(["."], "is no regular file", id="directory"),
    pytest.param(["a\0b"], "is no path of a file", id="nul"),
    pytest.param(["uwsgi.ini", "--from", "nothing"], "invalid choice", id="kind"),
    pytest.param(["uwsgi.ini", "--from", "wfastcgi"], "is no valid XML", id="other-kind"),
    pytest.param(["uwsgi.ini:none"], "no entries for uWSGI in a section [none]", id="section"),
]


@pytest.mark.parametrize(("words", "sentence"), BAD)
def test_what_cannot_be_taken_is_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uwsgi.ini").write_text(INI)
    assert cli.main(["migrate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in one_sentence(err)


def test_a_large_file_is_refused(migrate):
    status, _, err = migrate("[uwsgi]\n" + "; x\n" * 300_000)
    assert status == 2
    assert "more than 1048576 octets" in one_sentence(err)


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.ini")
    assert cli.main(["migrate", str(tmp_path / "pipe.ini")]) == 2
    assert "is no regular file" in capsys.readouterr().err


def test_a_section_is_named_behind_the_file(migrate, tmp_path):
    migrate("[one]\nthreads = 5\nsocket = 127.0.0.1:1\nmodule = a\n")
    assert cli.main(["migrate", "uwsgi.ini:one", "-o", "o.yaml"]) == 0
    assert yaml.safe_load((tmp_path / "o.yaml").read_text())["threads"] == 5


def test_what_may_be_secret_is_not_in_the_report(migrate, tmp_path):
    text = f"{INI}db_password = hidden\nenv = DB=%(db_password)\napi-key = hidden\n"
    _, out, err = migrate(text, "-o", "new.yaml")
    assert "hidden" not in out + err
    _, out, _ = migrate(text, "--json")
    assert json.loads(out)["settings"]["environment"] == {"DB": "hidden"}
    assert "hidden" not in json.dumps(json.loads(out)["entries"])
    assert "hidden" in (tmp_path / "new.yaml").read_text()


def test_many_entries_for_one_thing(migrate):
    lines = [f"env = A={number}" for number in range(3000)]
    status, out, _ = migrate(INI + "\n".join(lines), "--json")
    found = json.loads(out)
    assert status == 0
    assert found["settings"]["environment"] == {"A": "2999"}
    outcomes = [entry["outcome"] for entry in found["entries"] if entry["name"] == "env"]
    assert outcomes == ["not needed"] * 2999 + ["carried"]
