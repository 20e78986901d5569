"""`portico init`: what it writes, what it leaves alone, and what it refuses."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hosting_harness import SITE, portico_command
from portico import cli
from portico.errors import ConfigError
from portico.servers import hosting
from portico.servers.hosting import Hosting, merge

BLOCK = f"{hosting.BEGIN}\nOptions +ExecCGI\n{hosting.END}\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with an application, and a directory for scripts."""
    for name in ("site", "www"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "site" / "mysite.py").write_text(SITE)
    monkeypatch.chdir(tmp_path / "site")
    return tmp_path


def init(place, *words):
    return cli.main(["init", "mysite:application", "--directory", str(place / "www"), *words])


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def texts(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# -- what is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
def test_script_is_for_its_owner_alone_to_write(umask, place, capsys):
    before = os.umask(umask)
    try:
        assert init(place) == 0
    finally:
        os.umask(before)
    script, rules = place / "www" / "app.cgi", place / "www" / ".htaccess"
    assert (mode(script), mode(rules)) == (0o755, 0o644)
    data = script.read_bytes()
    assert data.startswith(f"#!{sys.executable}\n".encode())
    assert b"\r" not in data
    assert b"portico.run('mysite:application', warm=True)" in data
    assert "checked: it answers /" in capsys.readouterr().out
    assert sorted(texts(place / "www")) == [".htaccess", "app.cgi"]


def test_second_run_changes_nothing(place, capsys):
    assert init(place) == 0
    before = texts(place / "www")
    assert init(place) == 0
    assert texts(place / "www") == before
    assert "is there already" in capsys.readouterr().out


def test_what_others_wrote_into_htaccess_stays(place):
    rules = place / "www" / ".htaccess"
    rules.write_text("# BEGIN cPanel\nRewriteEngine on\n# END cPanel")
    rules.chmod(0o640)
    assert init(place) == 0
    first = rules.read_text()
    assert first.startswith("# BEGIN cPanel\nRewriteEngine on\n# END cPanel\n\n# portico: begin\n")
    rules.write_text(first + "# mine\n")
    assert init(place, "--kind", "fcgi") == 0
    second = rules.read_text()
    assert second.startswith("# BEGIN cPanel\nRewriteEngine on\n# END cPanel\n\n# portico: begin\n")
    assert second.endswith("# portico: end\n# mine\n")
    assert second.count("# portico: begin") == 1
    assert "RewriteRule ^ app.fcgi [L]" in second
    assert "app.cgi" not in second
    assert mode(rules) == 0o640


@pytest.mark.parametrize(
    ("existing", "merged"),
    [
        ("", BLOCK),
        ("# x\n", f"# x\n\n{BLOCK}"),
        ("# x\n\n", f"# x\n\n{BLOCK}"),
        ("# x", f"# x\n\n{BLOCK}"),
        (f"# x\n{hosting.BEGIN}\nold\n{hosting.END}\n# y\n", f"# x\n{BLOCK}# y\n"),
        (f"{hosting.BEGIN}\r\nold\r\n{hosting.END}\r\n# y\r\n", f"{BLOCK}# y\r\n"),
    ],
)
def test_merging(existing, merged):
    assert merge(existing, BLOCK) == merged
    assert merge(merged, BLOCK) == merged


@pytest.mark.parametrize(
    "existing",
    [
        f"{hosting.BEGIN}\n",
        f"{hosting.END}\n",
        f"{hosting.END}\n{hosting.BEGIN}\n",
        BLOCK + BLOCK,
    ],
)
def test_markers_that_are_no_pair_are_refused(existing):
    with pytest.raises(ConfigError, match="and not one pair"):
        merge(existing, BLOCK)


def test_dry_run_writes_nothing(place, capsys):
    assert init(place, "--dry-run") == 0
    out = capsys.readouterr().out
    assert f"# {place / 'www' / 'app.cgi'} (mode 755)\n#!{sys.executable}\n" in out
    assert "RewriteRule ^ app.cgi [L]" in out
    assert texts(place / "www") == {}


def test_options_reach_the_files(place):
    words = ["--name", "site.cgi", "--mount", "/blog/", "--no-warm"]
    assert init(place, *words) == 0
    text = (place / "www" / "site.cgi").read_text()
    assert text.endswith("portico.run('mysite:application', mount='/blog')\n")
    rules = (place / "www" / ".htaccess").read_text()
    assert "RewriteBase /blog\n" in rules
    assert "RewriteRule ^ site.cgi [L]" in rules


def test_files_are_named_by_their_full_path(place):
    assert cli.main(["init", "mysite.py", "--directory", "../www"]) == 0
    text = (place / "www" / "app.cgi").read_text()
    assert f"portico.run({str(place / 'site' / 'mysite.py')!r}, warm=True)" in text


def test_environments_beside_the_script_are_closed(place):
    (place / "www" / "my.env").mkdir()
    (place / "www" / "my.env" / "pyvenv.cfg").write_text("")
    assert init(place) == 0
    assert "|^my[.]env(?:/|$) - [NC,F]" in (place / "www" / ".htaccess").read_text()


def test_static_directory_becomes_a_link(place, capsys):
    assets = place / "site" / "assets"
    assets.mkdir()
    assert init(place, "--static", "/static=assets") == 0
    link = place / "www" / "static"
    assert link.readlink() == assets
    assert "RewriteRule ^static/ - [L]" in (place / "www" / ".htaccess").read_text()
    other = place / "site" / "other"
    other.mkdir()
    assert init(place, "--static", "/static=other") == 2
    assert f"{link} leads to {assets}" in capsys.readouterr().err
    assert init(place, "--static", "/static=other", "--force") == 0
    assert link.readlink() == other


def test_application_where_visitors_look_is_told(place, monkeypatch, capsys):
    (place / "www" / "mysite.py").write_text(SITE)
    monkeypatch.chdir(place / "www")
    assert init(place) == 0
    assert f"{place / 'www'} lies where visitors look" in capsys.readouterr().err


# -- interpreters that no first line can name ---------------------------------------------------


@pytest.mark.parametrize("name", ["my python", "p" * 120])
def test_interpreter_behind_a_path_that_no_first_line_takes(name, place, capsys):
    directory = place / name
    directory.mkdir()
    (directory / "python").symlink_to(sys.executable)
    where = f"import sys; sys.path[:] = {sys.path!r}"
    (place / "site" / "sitecustomize.py").write_text(where)
    script = place / "www" / "app.cgi"
    words = hosting.script(str(directory / "python"), sys.path, "mysite", {})
    script.write_text(words)
    script.chmod(0o755)
    assert words.startswith("#!/bin/sh\n'''exec' ")
    assert cli.main(["check", str(script)]) == 2  # no such module here: Python read it
    assert "there is no module 'mysite' here" in capsys.readouterr().err
    (place / "www" / "mysite.py").write_text(SITE)
    assert cli.main(["check", str(script)]) == 0, capsys.readouterr().err


def test_interpreter_that_no_shell_takes_either():
    with pytest.raises(ConfigError, match="reach it by a symbolic link"):
        hosting.start("/home/o'neil's files/python")


# -- what is refused -----------------------------------------------------------------------------

REFUSED = [
    (["--directory", "nowhere"], "nowhere is not there: mkdir -p it"),
    (["--directory", "mysite.py"], "mysite.py is no directory"),
    (["--python", "/no/such/python"], "there is no interpreter /no/such/python"),
    (["--python", "/bin/true"], "/bin/true does not start: it is no Python"),
    (["--venv", "nowhere"], "nowhere/bin/python"),
    (["--venv", "x", "--python", "y"], "--python and --venv both name the interpreter"),
    (["--name", "a b.cgi"], "the script's name is 'a b.cgi'"),
    (["--mount", "blog"], "mount point"),
    (["--mount", '/a"b'], "mount point"),
    (["--static", "static"], "--static static: it has the form /static=DIR"),
    (["--static", "/static=nowhere"], "there is no directory"),
    (["--static", "/a/b=."], "there is no directory"),
    (["--static", "/../b=."], "mount point"),
    (["--mount", "/blog", "--static", "/static=."], "it has the form /blog/static=DIR"),
    (["--kind", "passenger", "--warm"], "Passenger keeps the application running"),
]


@pytest.mark.parametrize(("words", "sentence"), REFUSED)
def test_wrong_input_gets_a_sentence(words, sentence, place, capsys):
    assert init(place, *words) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert texts(place / "www") == {}


def test_application_that_does_not_load_is_not_written(place, capsys):
    (place / "site" / "mysite.py").write_text("import nothing_of_this_name\n")
    assert init(place) == 2
    err = capsys.readouterr().err
    first = err.splitlines()[0]
    assert "cannot be loaded: its import raised ModuleNotFoundError" in first
    assert first.endswith("nothing was written (--force writes all the same)")
    assert "Traceback" in err
    assert texts(place / "www") == {}
    assert init(place, "--force") == 2
    assert "is written and does not serve yet" in capsys.readouterr().err
    assert sorted(texts(place / "www")) == [".htaccess", "app.cgi"]


def test_script_of_others_is_not_overwritten(place, capsys):
    script = place / "www" / "app.cgi"
    script.write_text("#!/bin/sh\n")
    assert init(place) == 2
    assert f"{script} is there and says something else" in capsys.readouterr().err
    assert texts(place / "www") == {"app.cgi": b"#!/bin/sh\n"}
    assert init(place, "--force") == 0


def test_directory_that_others_may_write_is_refused(place, capsys):
    (place / "www").chmod(0o775)
    assert init(place) == 2
    assert f"chmod 755 {place / 'www'} (--force" in capsys.readouterr().err
    assert texts(place / "www") == {}


def test_directory_that_is_closed_is_refused(venv, home):
    (home / "public_html").chmod(0o555)
    words = ["init", "mysite", "--directory", home / "public_html"]
    done = portico_command(venv, *words, cwd=home / "site", user="nobody")
    assert done.returncode == 2
    assert done.stderr == f"portico: {home}/public_html is not yours to write in\n"


def test_htaccess_that_is_no_text_is_left_alone(place, capsys):
    (place / "www" / ".htaccess").write_bytes(b"\xff\xfe\x00")
    assert init(place) == 2
    assert "is not UTF-8, and is left as it is" in capsys.readouterr().err
    assert texts(place / "www") == {".htaccess": b"\xff\xfe\x00"}


def test_interpreter_without_portico_is_refused(place, tmp_path, capsys):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    assert init(place, "--venv", str(tmp_path / "v")) == 2
    assert "has no Portico: " in capsys.readouterr().err


# -- Passenger -----------------------------------------------------------------------------------


def load(path):
    """As Passenger's loader does: a source loader under the name `passenger_wsgi`."""
    loader = importlib.machinery.SourceFileLoader("passenger_wsgi", str(path))
    spec = importlib.util.spec_from_file_location("passenger_wsgi", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_passenger_file_has_an_application(place, capsys):
    assert init(place, "--kind", "passenger") == 0
    assert sorted(texts(place / "www")) == ["passenger_wsgi.py"]
    assert "checked: it loads" in capsys.readouterr().out
    with contextlib.chdir(place):
        application = load(place / "www" / "passenger_wsgi.py").application
    answer = application({"wsgi.input": io.BytesIO(), "PATH_INFO": "/x"}, lambda *_: None)
    assert json.loads(b"".join(answer))["PATH_INFO"] == "/x"


def test_passenger_with_another_python_goes_over_once(venv, home):
    done = portico_command(
        venv,
        "init",
        "mysite",
        "--kind",
        "passenger",
        "--directory",
        home / "site",
        cwd=home / "site",
    )
    assert done.returncode == 0, done.stderr
    loader = home / "loader.py"
    loader.write_text(
        "import importlib.util, os, sys\n"
        "print('start', os.path.realpath(sys.prefix), flush=True)\n"
        "spec = importlib.util.spec_from_file_location('passenger_wsgi', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print('application', callable(module.application))\n"
    )
    base = Path(venv / "bin" / "python").resolve()
    done = subprocess.run(
        [base, loader, home / "site" / "passenger_wsgi.py"],
        capture_output=True,
        text=True,
        env={"PATH": os.defpath},
        timeout=30,
        check=True,
    )
    first, second, last = done.stdout.splitlines()
    assert first != second
    assert second == f"start {os.path.realpath(venv)}"
    assert last == "application True"


def test_passenger_file_does_not_go_over_for_ever(tmp_path):
    """Where going over does not lead to the prefix that was meant, once is enough."""
    site = Hosting(
        kind="passenger",
        app="mysite",
        directory=str(tmp_path),
        interpreter=sys.executable,
        prefix="/no/such/prefix",
        name="passenger_wsgi.py",
        path=(str(tmp_path),),
    )
    (tmp_path / "mysite.py").write_text(SITE)
    path = tmp_path / "passenger_wsgi.py"
    path.write_text(hosting.render(site) + "print('loaded', os.environ['PORTICO_PREFIX'])\n")
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "loaded /no/such/prefix\n"
