"""Each fault that can be planted in a script is found, and told in its own sentence."""

import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli_harness import Command, eventually
from hosting_harness import portico_command
from portico import cli
from portico.servers.scripts.examine import Sample, examine
from portico.servers.scripts.findings import KINDS

pytestmark = pytest.mark.slow  # processes, one after another

PYTHON = sys.executable
HEAD = f"#!{PYTHON}\n"
APP = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""
RUN = "import portico\nportico.run(application)\n"
GOOD = HEAD + APP + RUN


def plain(body):
    """A CGI script that writes its own answer."""
    return f"{HEAD}import sys\nsys.stdout.write({body!r})\n"


def write(directory, text, name="app.cgi", mode=0o755):
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


@pytest.fixture
def place(tmp_path):
    """A directory that nobody else may write in."""
    directory = tmp_path / "public_html"
    directory.mkdir(mode=0o755)
    return directory


def look(path, **sample):
    return examine(path, Sample(**{"seconds": 10.0, **sample}))


def wrong(findings):
    return [finding.code for finding in findings if finding.wrong]


@pytest.mark.parametrize("name", ["app.cgi", "app.fcgi", "app.py"])
def test_good_script_has_nothing(name, place):
    assert look(write(place, GOOD, name)) == []


#: The text of a script, what is found first, and words of its sentence.
TEXTS = [
    (GOOD.replace("\n", "\r\n"), "crlf-first-line", f"a program named {PYTHON}\\r"),
    ("\ufeff" + GOOD, "byte-order-mark", "begins with a byte order mark"),
    (GOOD.removeprefix(HEAD), "no-first-line", "does not begin with #!"),
    ("#!\n" + GOOD, "no-first-line", "does not begin with #!"),
    ("#!venv/bin/python\n" + APP, "relative-interpreter", "interpreter venv/bin/python, which is"),
    ("#!/no/such/python3\n" + APP, "no-interpreter", "no program /no/such/python3"),
    ("#!/etc/passwd\n" + APP, "interpreter-not-executable", "/etc/passwd, which the first line"),
    ("#!/usr/bin/env nopython\n" + APP, "no-program-in-path", "looks for nopython by env"),
    ("#!/usr/bin/env python3 -u\n" + GOOD, "env-words", "hands env the words 'python3 -u'"),
    (f"#!{PYTHON} {'x' * 300}\n", "first-line-too-long", "and the system reads 255 of them"),
    (HEAD + "def f(:\n    pass\n", "syntax-error", "line 2 of "),
    (HEAD + "import no_such_module_here\n", "no-module", "has no module no_such_module_here"),
    (HEAD + "from os import nothing\n", "import-error", "raises ImportError: cannot import name"),
    (HEAD + "import portico\nportico.run('missing_site:app')\n", "no-module", "missing_site"),
    (
        HEAD + "import portico\nportico.run('os:app')\n",
        "not-loaded",
        "application 'os:app': its module has no",
    ),
    (HEAD + "1 / 0\n", "raises", "ends by ZeroDivisionError: division by zero"),
    (HEAD + "import time\ntime.sleep(60)\n", "hangs", "no whole answer within 1 seconds"),
    (HEAD + "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "killed", "SIGSEGV"),
    (HEAD + APP, "defines-only", "defines application and starts nothing that serves it"),
    (HEAD + "import sys\nsys.exit(3)\n", "no-output", "ends with status 3 and without output"),
    (HEAD + "while True:\n    print('x' * 9999)\n", "endless-output", "more than 1048576 bytes"),
    (
        HEAD + APP + "print('debug', flush=True)\n" + RUN,
        "output-before-head",
        "'debug\\nContent-Type",
    ),
    (plain("Content-Type: text/plain\n"), "bad-head", "no empty line ends it"),
    (plain("Content-Type: text/plain\noops\n\nbody"), "bad-head", "not a header line: 'oops'"),
    (plain("X-Nothing: 1\n\nbody"), "no-content-type", "neither Content-Type nor Location"),
    (
        plain("Content-Type: text/plain\nContent-Length: 2\n\nok and more"),
        "output-after-body",
        "9 bytes follow the body",
    ),
    (
        plain("Content-Type: text/plain\nContent-Length: 9\n\nok"),
        "body-too-short",
        "the body has 2 bytes and Content-Length announces 9",
    ),
    (
        HEAD + APP.replace("start_response(", "1 / 0; start_response(") + RUN,
        "server-error",
        "it answers 500 Internal Server Error to GET /",
    ),
]


@pytest.mark.parametrize(
    ("text", "code", "words"), TEXTS, ids=[f"{code}-{at}" for at, (_, code, _) in enumerate(TEXTS)]
)
def test_fault_in_the_text(text, code, words, place):
    seconds = 1.0 if code == "hangs" else 10.0
    findings = look(write(place, text), seconds=seconds)
    assert findings[0].code == code, findings
    assert words in findings[0].sentence
    assert wrong(findings)[0] == code


def test_print_is_told_by_its_line(place):
    (place / "noisy.py").write_text("import os\n\nprint('loaded', flush=True)\n")
    findings = look(write(place, HEAD + "import noisy\n" + APP + RUN))
    assert findings[0].sentence.endswith(f"by line 3 of {place / 'noisy.py'}")


def test_output_that_is_no_print_has_no_line(place):
    text = HEAD + "import os\nos.system('echo started')\n" + APP + RUN
    (finding,) = look(write(place, text))
    assert finding.sentence.endswith(
        " before the head of the response, by a subprocess or os.write"
    )


def test_stack_of_what_hangs_is_told(place):
    text = HEAD + "import sys\ndef ask():\n    import time\n    time.sleep(99)\nask()\n"
    finding = look(write(place, text), seconds=1.0)[0]
    assert "line 5 in ask" in finding.detail


def test_traceback_stands_below(place):
    finding = look(write(place, HEAD + "import portico\nportico.run('broken')\n"))[0]
    assert finding.code == "no-module"
    (place / "broken.py").write_text("import json\njson.nothing\n")
    finding = look(place / "app.cgi")[0]
    assert finding.code == "not-loaded"
    assert "its import raised AttributeError: module 'json' has no" in finding.sentence
    assert "Traceback" in finding.detail


# -- modes and owners ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (0o644, "not-executable"),
        (0o775, "writable-file"),
        (0o757, "writable-file"),
        (0o4755, "set-id"),
    ],
)
def test_fault_in_the_mode(mode, code, place):
    (finding,) = look(write(place, GOOD, mode=mode))
    assert finding.code == code
    assert f"mode {mode:o}" in finding.sentence
    assert finding.remedy == f"chmod 755 {place / 'app.cgi'}"


def test_directory_that_others_may_write(place):
    place.chmod(0o775)
    (finding,) = look(write(place, GOOD))
    assert finding.code == "writable-directory"
    assert f"the directory {place} may be written by others" in finding.sentence


def test_other_owner(home, venv):
    """Root runs it as its owner; others have the system's directory, which is root's."""
    text = GOOD.replace(PYTHON, str(venv / "bin" / "python"))
    if os.geteuid() == 0:
        path = write(home / "public_html", text + "import os\nassert os.getuid() == 65534\n")
        os.chown(path, 65_534, -1)
        assert wrong(look(path)) == ["other-owner"]
        home.chmod(0o700)
        assert wrong(look(path)) == ["out-of-reach", "other-owner"]
    else:
        name = f"test-{os.getpid()}.cgi"
        path = write(Path(tempfile.gettempdir()), GOOD, name)
        try:
            assert wrong(look(path)) == ["writable-directory", "other-owner"]
        finally:
            path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_runs_nothing_of_others_that_they_cannot_run(place):
    trace = place / "trace"
    path = write(place, f"#!/bin/sh\ntouch {trace}\n")
    os.chown(path, 65_534, -1)
    assert wrong(look(path)) == ["out-of-reach", "other-owner"]
    assert not trace.exists()


def test_file_system_where_nothing_can_be_started(place, monkeypatch):
    told = SimpleNamespace(f_flag=os.ST_NOEXEC | os.ST_NOSUID)
    monkeypatch.setattr(os, "statvfs", lambda _: told)
    (finding,) = look(write(place, GOOD))
    assert finding.code == "noexec"


def test_file_that_cannot_be_read(home, venv):
    path = write(home / "public_html", GOOD, mode=0o300)
    done = portico_command(venv, "check", path, "--json", cwd=home, user="nobody")
    assert done.returncode == 2
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["code"] == "unreadable"
    assert "cannot be read: Permission denied" in finding["sentence"]


def test_first_line_that_old_systems_cut(place, tmp_path):
    link = tmp_path / ("p" * 140)
    link.symlink_to(PYTHON)
    path = write(place, GOOD.replace(PYTHON, str(link)))
    findings = look(path)
    assert [f.code for f in findings if not f.wrong] == ["first-line-long"]
    assert "Linux before 5.1 reads 127 of them" in findings[-1].sentence


def test_way_of_the_web_servers_user(home, venv):
    path = write(home / "public_html", GOOD.replace(PYTHON, str(venv / "bin" / "python")))
    assert look(path, user="daemon") == []
    home.chmod(0o700)
    (finding,) = look(path, user="daemon")
    assert finding.code == "out-of-reach"
    assert f"daemon may not pass through {home} (mode 700)" in finding.sentence
    home.chmod(0o755)
    path.chmod(0o700)
    (finding,) = look(path, user="daemon")
    assert finding.code == "not-for-user"
    (finding,) = look(write(home / "public_html", GOOD), user="no-such-user")[:1]
    assert finding.code == "no-such-user"


# -- what it needs -----------------------------------------------------------------------------


def test_variable_that_only_the_shell_has_is_named(place, monkeypatch):
    monkeypatch.setenv("MYSITE_SECRET", "1")
    text = HEAD + "import os\nos.environ['MYSITE_SECRET']\n" + APP + RUN
    (finding,) = look(write(place, text))
    assert finding.code == "environment-needed"
    assert finding.sentence.endswith("which has no MYSITE_SECRET")


def test_working_directory_that_only_the_shell_has(place, tmp_path, monkeypatch):
    (tmp_path / "settings.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    text = HEAD + "open('settings.txt').close()\n" + APP + RUN
    (finding,) = look(write(place, text))
    assert finding.code == "works-elsewhere"
    assert f"it works in {tmp_path} and not" in finding.sentence


def test_module_that_another_environment_has(place):
    packages = place / "venv" / "lib" / "python3.11" / "site-packages"
    (packages / "framework_of_mine").mkdir(parents=True)
    (place / "venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    text = HEAD + "import framework_of_mine.web\n" + APP + RUN
    (finding,) = look(write(place, text))
    assert finding.code == "wrong-environment"
    assert finding.remedy == f"make the first line #!{place}/venv/bin/python"


def test_interpreter_without_portico(place, tmp_path, monkeypatch):
    monkeypatch.setattr("portico.servers.scripts.interpreter.environments", lambda _: iter(()))
    bare = tmp_path / "python3"
    bare.symlink_to(Path(PYTHON).resolve())
    (finding,) = look(write(place, GOOD.replace(HEAD, f"#!{bare} -S\n")))
    assert finding.code == "no-portico"
    assert finding.remedy == f"{bare} -m pip install portico"


def test_old_interpreter(place, tmp_path):
    old = tmp_path / "python2"
    old.write_text(
        "#!/bin/sh\n"
        """printf '\\0{"version": [2, 7, 18], "prefix": "/usr", "portico": false}'\n"""
    )
    old.chmod(0o755)
    (finding,) = look(write(place, GOOD.replace(PYTHON, str(old))))
    assert finding.code == "interpreter-too-old"
    assert "is Python 2.7.18, and Portico needs 3.11" in finding.sentence


def test_interpreter_that_does_not_start(place, tmp_path):
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho cannot open shared object >&2\nexit 127\n")
    broken.chmod(0o755)
    (finding,) = look(write(place, GOOD.replace(PYTHON, str(broken))))
    assert finding.code == "interpreter-fails"
    assert "cannot open shared object" in finding.sentence


# -- FastCGI, Passenger, others -----------------------------------------------------------------


def test_fcgi_script_that_speaks_no_fastcgi(place):
    text = HEAD + "print('Content-Type: text/plain\\n\\nhello')\n"
    findings = look(write(place, text, "app.fcgi"))
    assert wrong(findings) == ["fastcgi-fails"]
    assert findings[-1].code == "other-program"
    assert "a plain CGI script that prints its own head" in findings[-1].sentence


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (HEAD + "1 / 0\n", "raises"),
        (HEAD + "import nothing_of_the_kind\n", "no-module"),
        (HEAD + "import portico\nportico.run('os:nothing')\n", "not-loaded"),
        (HEAD + "import time\ntime.sleep(60)\n", "hangs"),
        (HEAD + APP.replace("start_response(", "1 / 0; start_response(") + RUN, "raises"),
    ],
)
def test_fault_of_a_fcgi_script(text, code, place):
    findings = look(write(place, text, "app.fcgi"), seconds=1.0 if code == "hangs" else 10.0)
    assert wrong(findings) == [code]
    assert "line 3" in findings[0].detail or code != "hangs"


def test_passenger_file_without_application(place):
    assert look(write(place, APP, "passenger_wsgi.py", 0o644)) == []
    (finding,) = look(write(place, "app = None\n", "passenger_wsgi.py", 0o644))
    assert finding.code == "no-application"
    (finding,) = look(write(place, "import nothing_like_it\n", "passenger_wsgi.py", 0o644))
    assert finding.code == "no-module"


def test_module_of_an_application_is_loaded(place):
    assert look(write(place, APP, "site.wsgi", 0o644)) == []
    place.chmod(0o775)  # nobody starts it, so no suexec refuses it
    (finding,) = look(write(place, "app = 1\n1 / 0\n", "site.py", 0o664))
    assert finding.code == "raises"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("print('Content-Type: text/plain\\n\\nx')\n", "a plain CGI script"),
        (
            APP + "from wsgiref.handlers import CGIHandler\nCGIHandler().run(application)\n",
            "wsgiref",
        ),
    ],
)
def test_other_programs_are_a_note(body, kind, place):
    (finding,) = look(write(place, HEAD + body))
    assert (finding.code, finding.wrong) == ("other-program", False)
    assert kind in finding.sentence


def test_shell_script_is_judged_by_its_answer(place):
    text = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n"
    (finding,) = look(write(place, text))
    assert (finding.code, finding.wrong) == ("not-python", False)


def test_line_ends_after_the_first_are_a_note(place):
    (finding,) = look(write(place, GOOD.replace("return [b", "return \\\r\n        [b", 1)))
    assert (finding.code, finding.wrong) == ("crlf", False)


# -- what is no script ---------------------------------------------------------------------------


def test_what_is_no_script(place):
    assert [f.code for f in look(place / "nothing.cgi")] == ["missing"]
    assert [f.code for f in look(place)] == ["no-file"]
    large = write(place, b"#!/bin/sh\n" + bytes(2 << 20))
    assert [f.code for f in look(large)] == ["too-large"]


# -- what stands beside it ------------------------------------------------------------------------

AUTHORIZATION = 'SetEnvIf Authorization "(.*)" HTTP_AUTHORIZATION=$1\n'
LOOPING = "RewriteEngine On\nRewriteRule ^(.*)$ app.cgi/$1 [L]\n" + AUTHORIZATION
GUARDED = LOOPING.replace("RewriteRule", "RewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule")


@pytest.mark.parametrize(
    ("name", "text", "codes"),
    [
        ("app.cgi", LOOPING, ["rewrite-loop"]),
        ("app.cgi", GUARDED, []),
        ("app.cgi", LOOPING.replace("[L]", "[END]"), []),
        ("app.cgi", LOOPING.replace("(.*)$", "(blog/.*)$"), []),
        ("app.cgi", GUARDED.replace(AUTHORIZATION, ""), ["no-authorization"]),
        ("app.cgi", GUARDED.replace(AUTHORIZATION, "CGIPassAuth On"), []),
        ("app.cgi", "AddHandler fcgid-script .fcgi\n", []),
        ("app.cgi", "AddHandler fcgid-script .cgi\n", []),  # portico.run speaks both
        ("app.fcgi", "AddHandler cgi-script .cgi .fcgi\n", ["cgi-handler"]),
        ("app.fcgi", "AddHandler fcgid-script fcgi\n", []),
    ],
)
def test_htaccess(name, text, codes, place):
    (place / ".htaccess").write_text(text)
    assert [f.code for f in look(write(place, GOOD, name))] == codes


def test_fastcgi_handler_for_a_plain_script(place):
    (place / ".htaccess").write_text("SetHandler fcgid-script\n")
    text = plain("Content-Type: text/plain\n\nhello")
    assert wrong(look(write(place, text))) == ["fastcgi-handler"]


# -- the command ---------------------------------------------------------------------------------


def test_command_tells_findings_in_order(place, capsys):
    path = write(place, GOOD.replace("\n", "\r\n"), mode=0o666)
    assert cli.main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0].startswith("portico: the first line ends in CR LF")
    assert lines[1] == f"  to do: save {path} with LF line ends: sed -i 's/\\r$//' {path}"
    assert "may not be executed" in lines[2]
    assert "suexec refuses it" in lines[4]
    assert lines[-1] == "portico: 3 faults"


def test_command_says_that_all_is_well(place, capsys):
    path = write(place, GOOD)
    assert cli.main(["check", str(path), "--path", "/x?y=1"]) == 0
    assert capsys.readouterr() == (f"{path} is ok: it answers /x?y=1\n", "")


def test_report_of_a_script_as_json(place, capsys):
    path = write(place, GOOD, mode=0o644)
    assert cli.main(["check", str(path), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    (finding,) = report["findings"]
    assert finding["code"] == "not-executable"
    assert set(finding) == {"code", "sentence", "remedy", "wrong", "detail"}


def test_interrupted_check_leaves_nothing(place):
    text = HEAD + f"open({str(place / 'started')!r}, 'w').close()\nimport time\ntime.sleep(99)\n"
    path = write(place, text)
    with Command("check", str(path)) as command:
        eventually((place / "started").exists, "the start of the script")
        command.kill(signal.SIGINT)
        assert command.finish() == 130
        command.assert_left_nothing()


def test_what_a_script_leaves_running_is_ended(place):
    text = HEAD + "import subprocess\nsubprocess.Popen(['sleep', '98'])\n" + APP + RUN
    path = write(place, text)
    with Command("check", str(path)) as command:
        assert command.finish() == 0, command.err
        command.assert_left_nothing()


def test_sentences_and_remedies_are_single_lines():
    for code, kind in KINDS.items():
        assert "\n" not in kind.sentence + kind.remedy, code
        assert not kind.sentence.endswith("."), code


def test_daemons_of_a_script_are_ended(place):
    daemon = "subprocess.Popen(['sleep', '97'], start_new_session=True)\n"
    path = write(place, HEAD + "import subprocess\n" + daemon + APP + RUN)
    with Command("check", str(path)) as command:
        assert command.finish() == 0, command.err
        command.assert_left_nothing()
    assert not any(b"sleep\x0097\0" in line for line in command_lines())


def test_no_resident_server_is_started(place):
    (place / "mysite.py").write_text(APP)
    path = write(place, HEAD + "import portico\nportico.run('mysite', warm=True)\n")
    assert look(path) == []
    assert not any(os.fsencode(path) in line for line in command_lines())


def command_lines():
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    return lines


def test_each_kind_is_planted_here():
    text = Path(__file__).read_text("utf-8")
    assert [code for code in KINDS if f'"{code}"' not in text] == []
