"""``portico check``: what it shows of a configuration, what it finds, and what it hides."""

from __future__ import annotations

import json
import os
import time

import pytest

from cli_harness import Command, eventually, one_sentence
from portico import cli
from portico.config.settings import OPTIONS

SITE = "def application(environ, start_response):\n    return []\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory of its own, and no setting in the environment."""
    for name in [name for name in os.environ if name.startswith("PORTICO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.py").write_text(SITE)
    return tmp_path


@pytest.fixture
def check(place, capsys):
    """Writes a file and runs the command on it; gives status, output and errors."""

    def run(text, *words):
        (place / "p.yaml").write_text(text)
        status = cli.main(["check", "p.yaml", *words])
        return status, *capsys.readouterr()

    return run


def row(out, name):
    """The columns of the line that shows *name*."""
    (line,) = (line for line in out.splitlines() if line.split()[:1] == [name])
    return line.split(maxsplit=1)[1]


# -- what is shown ---------------------------------------------------------------------------


def test_every_value_is_shown_with_its_source(check, monkeypatch):
    monkeypatch.setenv("PORTICO_MAX_PARAMS", "40")
    text = "app: site.py\nbind: [scgi://127.0.0.1:4000]\n\nhead_timeout: 3\n"
    status, out, err = check(text, "--workers", "4")
    assert (status, err) == (0, "")
    assert row(out, "app").split() == ["site.py", "p.yaml", "line", "1"]
    assert row(out, "bind").split() == ["[scgi://127.0.0.1:4000]", "p.yaml", "line", "2"]
    assert row(out, "head_timeout").split() == ["3", "seconds", "p.yaml", "line", "4"]
    assert row(out, "workers").split() == ["4", "processes", "command", "line,", "--workers"]
    assert row(out, "max_params").endswith("environment variable PORTICO_MAX_PARAMS")
    assert row(out, "threads").split() == ["16", "threads", "default"]
    assert row(out, "log_file").split() == ["none", "default"]
    assert out.splitlines()[-1] == "p.yaml is ok"


def test_values_stand_in_columns_by_section(check):
    _, out, _ = check("app: site.py\n")
    *lines, empty, _ = out.splitlines()
    assert empty == ""
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads == list(dict.fromkeys(option.section for option in OPTIONS.values()))
    shown = [line for line in lines if line.startswith("  ")]
    assert [line.split()[0] for line in shown] == list(OPTIONS)
    ends = {line.index("default") for line in shown if line.endswith("default")}
    assert len(ends) == 1


def test_mounts_and_environments_are_shown_within(check):
    text = """\
mounts:
  /shop: site.py
  "*.example.org/x":
    app: site.py:application
    environment: {TITLE: "\u00e9", MODE: 0644}
environment: {TZ: UTC}
"""
    status, out, err = check(text)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("  mounts "))
    assert lines[at].split() == ["mounts", "2", "p.yaml", "line", "1"]
    assert [line.split() for line in lines[at + 1 : at + 5]] == [
        ["/shop", "site.py"],
        ["*.example.org/x", "site.py:application"],
        ["TITLE", "\u00e9"],
        ["MODE", "0644"],
    ]
    assert row(out, "TZ") == "UTC"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "; portico serve still needs APP and --bind URL"),
        ("app: site.py\n", "; portico serve still needs --bind URL"),
        ("mounts: {/a: site.py}\nbind: scgi://127.0.0.1:1\n", ""),
        ("bind: scgi://127.0.0.1:1\n", "; portico serve still needs APP"),
    ],
)
def test_what_the_command_line_has_to_add_is_no_mistake(check, text, missing):
    status, out, _ = check(text)
    assert status == 0
    assert out.splitlines()[-1] == f"p.yaml is ok{missing}"


def test_without_a_file_it_is_about_the_rest(capsys):
    assert cli.main(["check", "--threads", "3", "--app", "site.py"]) == 0
    out = capsys.readouterr().out
    assert row(out, "threads").endswith("command line, --threads")
    assert out.splitlines()[-1].startswith("the configuration is ok")


HIDING = """\
bind: ["ajp://127.0.0.1:8009?secret=hunter2"]
environment:
  DB_PASSWORD: hunter2
  API_TOKEN: hunter2
  DATABASE_URL: postgres://me:hunter2@db/x
mounts:
  /a: {app: site.py, environment: {SECRET_KEY: hunter2, URL: "amqp://me:hunter2@h"}}
"""


@pytest.mark.parametrize(
    "words", [[], ["--json"], ["--threads", "0"], ["--threads", "0", "--json"]]
)
def test_secrets_are_not_shown(check, words):
    _, out, err = check(HIDING, *words)
    assert "hunter2" not in out + err
    if not words:
        assert "postgres://me:***@db/x" in out
        assert "ajp://127.0.0.1:8009?secret=***" in out
        assert row(out, "DB_PASSWORD") == "***"


def test_controls_in_values_are_escaped(check):
    _, out, _ = check('environment: {A: "x\\e[2Jy\\n"}\n')
    assert row(out, "A") == r"x\x1b[2Jy\n"


# -- what is wrong -----------------------------------------------------------------------------

WRONG = """\
bind: [http://127.0.0.1:1]
threads: 0
thread: 8
threads: 9
mounts:
  /shop: site.py
  /shop/: site.py
  /blog: {ap: site.py}
environment: [A]
log_file: /nowhere/x
workers: {}
"""


def test_all_mistakes_are_told_in_the_order_of_their_lines(check):
    status, out, err = check(WRONG, "--debug")
    assert (status, out) == (2, "")
    *lines, last = err.splitlines()
    assert last == f"portico: {len(lines)} mistakes"
    words = [
        "no protocol 'http' can be served",
        "threads is 0, must be a whole number of threads from 1 to 10_000 (p.yaml line 2)",
        "p.yaml line 3: there is no setting 'thread'; did you mean threads?",
        "p.yaml line 4 sets threads again, after line 2",
        "mounts: '/shop/' is the same place as '/shop' (p.yaml line 7)",
        "mounts: a mount has no 'ap'; did you mean app? (p.yaml line 8)",
        "mounts: '/blog' has no app (p.yaml line 8)",
        "environment: there is no = where NAME=VALUE belongs (p.yaml line 9)",
        "log_file /nowhere/x: there is no directory /nowhere (p.yaml line 10)",
        "workers is a dict, must be a whole number of processes from 0 to 1_000 (p.yaml line 11)",
    ]
    assert len(lines) == len(words)
    for line, text in zip(lines, words, strict=True):
        assert line.startswith("portico: ")
        assert text in line


def test_mistakes_of_all_sources_are_told(check, monkeypatch):
    monkeypatch.setenv("PORTICO_DEBUG", "perhaps")
    status, _, err = check("threads: many\n", "--workers", "x")
    assert status == 2
    assert "(environment variable PORTICO_DEBUG)" in err
    assert "(command line, --workers)" in err
    assert "(p.yaml line 1)" in err
    assert err.endswith("portico: 3 mistakes\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [\n", "is no valid YAML"),
        (b"- a\n", "has no 'key: value' where one belongs"),
        (b"\xff\xfe\xff", "is no valid YAML"),
        (b"x" * 10_000_000, "octets, which no configuration needs"),
        (b"threads: 0\n", "threads is 0"),
    ],
)
def test_one_mistake_is_one_sentence_and_the_count(place, capsys, content, words):
    (place / "p.yaml").write_bytes(content)
    assert cli.main(["check", "p.yaml"]) == 2
    out, err = capsys.readouterr()
    sentence, count = err.splitlines()
    assert out == ""
    assert words in sentence
    assert count == "portico: 1 mistake"


def test_missing_file_is_a_mistake(capsys):
    assert cli.main(["check", "nowhere.yaml"]) == 2
    assert "nowhere.yaml cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["http://127.0.0.1/", "scgi://127.0.0.1:1/x"])
def test_what_cannot_be_looked_at_yet_gets_a_sentence(target, capsys):
    assert cli.main(["check", target]) == 2
    sentence = one_sentence(capsys.readouterr().err)
    assert sentence.startswith(f"portico: {target}: portico check cannot look at ")


@pytest.mark.parametrize("name", ["site.py", "run", "nothing.fcgi"])
def test_a_script_is_no_configuration(name, place, capsys):
    """What is found about one: tests/hosting."""
    (place / "run").write_text("#!/no/such/program\n")
    status = cli.main(["check", name])
    out, err = capsys.readouterr()
    assert (status, out) == ((0, "site.py is ok: it loads\n") if name == "site.py" else (2, ""))
    assert "setting" not in err


# -- JSON --------------------------------------------------------------------------------------


def test_report_as_json(check):
    text = "threads: 3\nmounts: {/a: site.py}\nenvironment: {A: b}\n"
    status, out, err = check(text, "--json")
    report = json.loads(out)
    assert (status, err, report["ok"], report["mistakes"]) == (0, "", True, [])
    assert list(report["settings"]) == list(OPTIONS)
    assert report["settings"]["threads"] == {"value": 3, "source": "p.yaml line 1"}
    assert report["settings"]["debug"] == {"value": False, "source": "default"}
    assert report["settings"]["environment"]["value"] == {"A": "b"}
    assert report["settings"]["mounts"]["value"] == {"/a": {"app": "site.py", "environment": {}}}


def test_mistakes_as_json(check):
    status, out, err = check("threads: 0\nhed_timeout: 3\n", "--json")
    report = json.loads(out)
    assert (status, err, report["ok"]) == (2, "", False)
    first, second = report["mistakes"]
    assert (first["key"], first["source"]) == ("threads", "p.yaml line 1")
    assert (second["key"], second["source"]) == ("hed_timeout", "p.yaml line 2")
    assert "did you mean head_timeout?" in second["message"]


# -- loading -----------------------------------------------------------------------------------


def loading(*words, place):
    """Run the command in a process of its own; gives it once it has ended."""
    with Command("check", *words, "--load", cwd=place) as command:
        status = command.finish()
        command.assert_left_nothing()
        return status, command.out, command.err


def test_application_that_loads(place):
    for name in ("site.py", "shop.py"):
        (place / name).write_text("print('hello')\n" + SITE)
    (place / "p.yaml").write_text("app: site.py\nmounts: {/a: shop}\nenvironment: {A: b}\n")
    status, out, err = loading("p.yaml", place=place)
    assert (status, err) == (0, "hello\nhello\n")
    last = out.splitlines()[-1]
    assert last.startswith("p.yaml is ok, and the application loads; portico serve still needs")


def test_environment_and_mounts_are_what_is_loaded_with(place):
    (place / "site.py").write_text("import os\nassert os.environ['A'] == 'b c'\n" + SITE)
    (place / "p.yaml").write_text("mounts: {/a: {app: site.py, environment: {A: b c}}}\n")
    assert loading("p.yaml", place=place)[0] == 0
    (place / "p.yaml").write_text("mounts: {/a: {app: site.py, environment: {A: d}}}\n")
    status, out, err = loading("p.yaml", place=place)
    assert (status, out) == (2, "")
    assert err.startswith("portico: mount /a: application 'site.py' cannot be loaded: its import")
    assert "AssertionError" in err
    assert err.endswith("portico: 1 mistake\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 / 0", "its import raised ZeroDivisionError"),
        ("import os; os._exit(7)", "loading the application ended its process, with status 7"),
        ("import os; os.kill(os.getpid(), 9)", "ended its process, by signal 9"),
        ("raise KeyboardInterrupt", "loading the application raised KeyboardInterrupt"),
        ("import time; time.sleep(600)", "does not load within 0.5 seconds"),
    ],
)
def test_application_that_does_not_load(place, line, words):
    (place / "site.py").write_text(f"{line}\n{SITE}")
    more = ["--startup-timeout", "0.5"] if "0.5" in words else []
    status, out, err = loading("--app", "site.py", *more, place=place)
    assert (status, out) == (2, "")
    assert words in err


def test_nothing_to_load(place):
    status, _, err = loading(place=place)
    assert status == 2
    assert "no application is named" in err


def test_nothing_is_loaded_where_a_mistake_is(place):
    (place / "site.py").write_text("raise SystemExit('loaded')\n")
    status, _, err = loading("--app", "site.py", "--threads", "0", place=place)
    assert status == 2
    assert "loaded" not in err


def test_what_the_application_leaves_running_is_ended(place):
    """A thread that does not end, and a process that has the standard streams."""
    (place / "site.py").write_text(
        "import subprocess, sys, threading\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "threading.Thread(target=threading.Event().wait).start()\n" + SITE
    )
    started = time.monotonic()
    with Command("check", "--app", "site.py", "--load", cwd=place) as command:
        eventually(lambda: len(command.see_children()) == 2, "the application's process")
        assert command.finish() == 0
        command.assert_left_nothing()
    assert time.monotonic() - started < 30, "it did not wait for startup_timeout"


def test_interruption_ends_what_is_loading(place):
    (place / "site.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    with Command("check", "--app", "site.py", "--load", cwd=place) as command:
        command.await_text("begun", "err")
        command.kill(2)
        assert command.finish() == 130
        command.assert_left_nothing()
