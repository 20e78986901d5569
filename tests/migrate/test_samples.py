"""Configurations as real projects have them: what is printed, and that Portico takes it."""

import json
import re
import shlex

import pytest
import yaml

from migrate.samples import DIRECTORY, GOLDEN, HERE, SAMPLES, golden_text, migrated
from portico import cli
from portico.cli import serve
from portico.cli.migrate import LEFT_OVER

EACH = pytest.mark.parametrize("name", SAMPLES)

#: What a golden file ends with beside the command's output.
STATUS = re.compile(r"\n# exit status (\d): ")


@EACH
def test_text_is_what_was_reviewed(name):
    """Otherwise: python tests/migrate/samples.py."""
    assert golden_text(name) == (GOLDEN / f"{name}.yaml").read_text("utf-8")


def test_no_golden_file_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.yaml" for name in SAMPLES}


@EACH
def test_status_says_whether_something_is_left(name):
    status, text, _ = migrated(name)
    left = re.search(r"decide by hand:$|^# Still to do:", text, re.MULTILINE)
    assert status == (LEFT_OVER if left else 0)


#: Directories that samples name, which are here below the test's own.
ROOTS = re.compile(r"(?<![\w/.])/(?=(srv|run|var|tmp)/)")


@EACH
def test_portico_check_takes_what_is_printed(name, tmp_path, monkeypatch, capsys):
    """On a machine that has the directories and files which the sample names."""
    text = ROOTS.sub(f"{tmp_path}/", (DIRECTORY / name).read_text("utf-8"))
    source = tmp_path / name
    source.write_text(text, "utf-8")
    for path in re.findall(rf"{re.escape(str(tmp_path))}/[\w./-]+", text):
        _make(path, tmp_path)
    for word in ("run/vassal", "run/columns", "srv/shop"):
        (tmp_path / word).mkdir(parents=True, exist_ok=True)
    for word in ("run/shop", "var/log/shop", "var/log/columns"):
        (tmp_path / word).mkdir(parents=True, exist_ok=True)
    (tmp_path / "shop.wsgi").touch()
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "portico.yaml"
    status = cli.main(["migrate", name, "-o", str(output)])
    out, err = capsys.readouterr()
    assert status in {0, LEFT_OVER}, err
    assert "On this machine" not in out
    assert cli.main(["check", str(output)]) == 0, capsys.readouterr().err
    _command_parses(out, output, monkeypatch)


def _make(path, tmp_path):
    """Make what a path of a sample may be: a file with a suffix, or a directory."""
    made = tmp_path / path
    if made.suffix in {".py", ".wsgi"}:
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
    elif made.suffix not in {".sock", ".pid", ".log"}:
        made.mkdir(parents=True, exist_ok=True)
    else:
        made.parent.mkdir(parents=True, exist_ok=True)


def _command_parses(report, output, monkeypatch):
    """The printed command starts `portico serve`, with the file that was written."""
    line = re.search(r"it is started by:\n\n  (.*)", report)[1]
    words = shlex.split(line)
    at = next(number for number, word in enumerate(words) if word.rpartition("/")[2] == "portico")
    assert words[at + 1 :] == ["serve", "--config", str(output)]
    before = words[:at]
    while before[:1] in (["cd"], ["umask"]):
        assert before[2] == "&&"
        before = before[3:]
    assert all(re.fullmatch(r"[A-Z_]+=.+", word) for word in before)
    ran = []
    monkeypatch.setattr(serve, "run", lambda arguments: ran.append(arguments.config) or 0)
    assert cli.main(words[at + 1 :]) == 0
    assert ran == [str(output)]


def settings_of(text):
    return yaml.safe_load(STATUS.split(text)[0])


@pytest.mark.parametrize("name", ["emperor.yaml", "emperor.json"])
def test_all_formats_of_uwsgi_mean_the_same(name):
    expected = settings_of(migrated("emperor.xml")[1])
    assert expected["bind"] == ["fastcgi://127.0.0.1:9001"]
    assert expected["environment"] == {"WIKI_HOME": "/srv/wiki", "TZ": "UTC"}
    assert settings_of(migrated(name)[1]) == expected


@EACH
def test_json_has_the_same_settings(name):
    status, text, _ = migrated(name)
    plain = json.loads(migrated(name, "--json")[1])
    assert plain["settings"] == settings_of(text)
    assert plain["complete"] == (status == 0)
    assert plain["source"] == name
    assert plain["command"] in text
    for entry in plain["entries"]:
        assert entry["outcome"] in {"carried", "not needed", "left", "unknown"}
        assert entry["text"]
    assert HERE not in plain["source"]


def test_values_of_variables_stand_in_the_settings_alone():
    _, text, _ = migrated("gunicorn.conf.py")
    assert text.count("not shown in the report") == 1
    _, text, _ = migrated("inventory.ini")
    assert text.count("very secret") == 1
