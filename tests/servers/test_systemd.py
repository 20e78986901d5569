"""Units of systemd: as systemd reads them, what is refused, and the command that prints them."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portico import cli
from portico.config.resolve import resolve, show
from portico.config.settings import OPTIONS
from portico.errors import ConfigError
from portico.servers import systemd
from portico.servers.unit import default_name, quote, whole
from servers.golden import deployed, unit, units

#: `systemd-analyze verify` looks whether the command is there.
COMMAND = ("/bin/sh",)

by_systemd = pytest.mark.frontend("systemd")


def analyze(directory, files, level="info"):
    """What `systemd-analyze verify` says of units: a dump where *level* is debug, complaints."""
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(directory / name for name in files)],
        env={"PATH": os.environ["PATH"], "SYSTEMD_LOG_LEVEL": level},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(), done.stderr.decode()


# -- what systemd makes of it ----------------------------------------------------------------


@by_systemd
@pytest.mark.parametrize(("name", "made"), list(units()))
def test_systemd_accepts_it_without_a_word(tmp_path, name, made):
    assert name
    assert analyze(tmp_path, systemd.render(replace(made, command=COMMAND))) == ("", "")


@by_systemd
@pytest.mark.parametrize("activated", [False, True])
def test_systemd_accepts_the_ready_files(tmp_path, activated):
    files = {
        name.rpartition("/")[2]: text.replace("/srv/mysite/venv/bin/portico", COMMAND[0])
        for name, text in deployed()
        if ("socket" in name.partition("/")[0]) == activated
    }
    assert len(files) == 1 + activated
    assert analyze(tmp_path, files) == ("", "")


@by_systemd
def test_verdict_is_not_silence(tmp_path):
    """What the two tests above rely on: a setting that systemd does not know is complained of."""
    files = systemd.render(unit("scgi://127.0.0.1:4000", command=COMMAND))
    broken = {name: text.replace("PrivateTmp=", "PrivateTemp=") for name, text in files.items()}
    assert "PrivateTemp" in analyze(tmp_path, broken)[1]


@by_systemd
@pytest.mark.parametrize(("name", "made"), list(units()))
def test_exposure_stays_low(tmp_path, name, made):
    files = systemd.render(made)
    path = tmp_path / "mysite.service"
    path.write_text(files["mysite.service"])
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (name, done.stdout, done.stderr)


def dumped(text, key):
    """All values of *key* in a dump of units."""
    return re.findall(rf"^\s*{key}: (.*)$", text, re.MULTILINE)


def words(line):
    """The words of a command line in a dump, where systemd quotes as a shell does."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^ ]+)', line)
    return [re.sub(r"\\(.)", r"\1", quoted or plain).replace("$$", "$") for quoted, plain in found]


TEXTS = st.text(
    st.one_of(
        st.sampled_from("%$\\\"' ;#=-@{}~`*[]()&|<>!?:+,\t\n"),
        st.characters(min_codepoint=33, max_codepoint=126),
        st.characters(exclude_categories=("Cs", "Cn")),
    ),
    min_size=1,
    max_size=12,
)

AWKWARD = ["%n $HOME ${HOME}", 'a"b', "a\\", "\\x41", "';'", ";", " a ", "#", "-", "100%%", "\xa0"]


@by_systemd
@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=3, max_size=3))
@example(["x", ";", "\\;"])
@example(AWKWARD[:3])
@example(AWKWARD[3:6])
@example(AWKWARD[8:])
def test_systemd_reads_what_was_meant(texts):
    """Or it is refused: never anything else."""
    app, path, option = texts
    writable = f"/srv/{path}"
    try:
        made = unit(
            "scgi://127.0.0.1:4000",
            application=f"./{app}",
            directory=writable,
            writable=(writable,),
            options=(("access_log", f"/srv/{option}"),),
            command=COMMAND,
        )
        files = systemd.render(made)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is good
        return
    with tempfile.TemporaryDirectory() as directory:
        said, _ = analyze(Path(directory), files, "debug")
    bind = ["--bind", "scgi://127.0.0.1:4000"]
    expected = ["/bin/sh", "serve", f"./{app}", *bind, f"--access-log=/srv/{option}"]
    assert words(dumped(said, "Command Line")[0]) == expected
    assert dumped(said, "WorkingDirectory") == [writable]
    paths = {f"/srv/{option}".rpartition("/")[0], writable}
    assert dumped(said, "ReadWritePaths") == [" ".join(sorted(paths))]
    assert dumped(said, "Description")[0] == f"./{app}, served by Portico"


@by_systemd
@pytest.mark.parametrize("path", ["/run/my site/100%.sock", "/run/x/$a\\b;#.sock", "/srv/é/-s"])
def test_systemd_reads_the_path_of_a_socket(tmp_path, path):
    bind = unit("scgi://127.0.0.1:4000").binds[0]
    bind = replace(bind, transport="unix", path=path, host="", port=0)
    made = replace(unit(command=COMMAND), binds=(bind,), activated=True)
    said, _ = analyze(tmp_path, systemd.render(made), "debug")
    (read,) = dumped(said, "ListenStream")
    assert read.encode().decode("unicode_escape").encode("latin-1").decode() == path


def test_plain_words_stay_plain():
    assert quote("fastcgi+unix:///run/a.sock?mode=660&group=www-data") == (
        "fastcgi+unix:///run/a.sock?mode=660&group=www-data"
    )
    assert quote("a b") == '"a b"'
    assert quote("%h/$x", variables=True) == '"%%h/$$x"'
    assert quote("$x") == '"$x"'
    assert whole("/a %b", what="x") == "/a %%b"


# -- what it says ----------------------------------------------------------------------------


def lines(made, name="mysite.service"):
    return systemd.render(made)[name].splitlines()


def test_options_reach_the_command_as_they_were_meant():
    given_options = (("workers", "4"), ("roles", "filter"), ("roles", "responder"), ("debug", "y"))
    given_options = (*given_options[:3], ("debug", "yes"), ("preload", "no"))
    made = unit("scgi://127.0.0.1:4000", options=given_options[:1])
    made = replace(made, options=given_options)
    (line,) = (line for line in lines(made) if line.startswith("ExecStart="))
    command = line.partition("=")[2].split()
    parser = cli._Parser(prog="x", description="")
    cli.import_module("portico.cli.serve").add_arguments(parser)
    settings_, _ = resolve(parser.parse_args(command[2:]), {}, None)
    assert (settings_.workers, settings_.debug, settings_.preload) == (4, True, False)
    assert settings_.roles == ("filter", "responder")


def test_every_setting_has_a_way_into_a_unit(capsys):
    """Those that `--option` refuses have an argument of their own."""
    refused = set()
    for name, option in OPTIONS.items():
        value = (option.example or show(option.default) or "1").strip("[]").split(",")[0]
        value = value.replace("/run/", "/run/mysite/")
        value = {"mounts": "/shop=shop:application", "environment": "TZ=UTC"}.get(name, value)
        status = cli.main([*PRINT, "--option", f"{name}={value}"])
        if status:
            assert "development" in (err := capsys.readouterr().err) or "say it with" in err
            refused.add(name)
    assert refused == {"app", "bind", "mount", "user", "group", "reload"}


def test_times_of_systemd_are_longer_than_the_service_s():
    options = (("graceful_timeout", "90.5"), ("startup_timeout", "120"), ("max_connections", "50"))
    found = lines(unit("scgi://127.0.0.1:4000", options=options))
    assert {"TimeoutStopSec=101", "TimeoutStartSec=130", "LimitNOFILE=356"} <= set(found)


def test_single_process_is_not_asked_to_notify():
    text = "\n".join(lines(unit("scgi://127.0.0.1:4000", options=(("workers", "0"),))))
    assert "Type=exec" in text
    for absent in ("notify", "WatchdogSec", "ExecReload", "TimeoutStartSec"):
        assert absent not in text


def test_group_of_a_socket_is_the_service_s_only_where_it_makes_it():
    url = "scgi+unix:///run/mysite/a.sock?group=www-data"
    assert "SupplementaryGroups=www-data" in lines(unit(url))
    assert "RuntimeDirectory=mysite" in lines(unit(url))
    files = systemd.render(unit(url, activated=True))
    assert "SocketGroup=www-data" in files["mysite.socket"]
    assert "www-data" not in files["mysite.service"]
    assert "RuntimeDirectory=" not in files["mysite.service"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "ProtectHome=yes"),
        ({"directory": "/home/site"}, "ProtectHome=read-only"),
        ({"command": ("/home/site/venv/bin/portico",)}, "ProtectHome=read-only"),
        ({"application": "/root/x.py:app"}, "ProtectHome=read-only"),
        ({"writable": ("/homes/x",)}, "ProtectHome=yes"),
        ({"options": (("log_file", "errors.log"),)}, "ReadWritePaths=/srv/mysite"),
        ({"options": (("access_log", "-"),)}, "StateDirectory=mysite"),
        ({"options": (("log_file", "/var/log/a b/x"),)}, 'ReadWritePaths="/var/log/a b"'),
    ],
)
def test_directories_are_opened_as_needed(more, line):
    assert line in lines(unit("scgi://127.0.0.1:4000", **more))


# -- what cannot be ---------------------------------------------------------------------------

TCP = "scgi://127.0.0.1:4000"

REFUSED = [
    (TCP, {"name": "a b"}, "name 'a b' is not made of plain letters"),
    (TCP, {"name": "x@"}, "is not made of plain letters"),
    (TCP, {"application": ""}, "needs an application"),
    (TCP, {"application": "--bind"}, "needs an application"),
    (TCP, {"application": "a\nb"}, "holds a character that cannot stand in a unit"),
    (TCP, {"application": "a\udcff"}, "holds a character that cannot stand in a unit"),
    (TCP, {"directory": "srv"}, "is no absolute path"),
    (TCP, {"directory": "/srv/../x"}, "is no absolute path without . and .."),
    (TCP, {"directory": "/srv/"}, "is no absolute path"),
    (TCP, {"directory": "/srv/x "}, "begins or ends with"),
    (TCP, {"directory": "/srv/x\\"}, "begins or ends with"),
    (TCP, {"directory": "/var/tmp"}, "/srv, with --directory"),  # noqa: S108
    (TCP, {"config": "portico.yaml"}, "the configuration file 'portico.yaml' is no absolute path"),
    (TCP, {"command": ("/srv/$x/portico",)}, "holds $"),
    (TCP, {"command": ("portico",)}, "the command 'portico' is no absolute path"),
    (TCP, {"user": "a b"}, "'a b' is no name of a user for systemd"),
    (TCP, {"group": "www-data"}, "--group needs --user"),
    (TCP, {"options": (("pid_file", "/run/x.pid"),)}, "choose /run/mysite/x.pid"),
    (TCP, {"options": (("log_file", "../x.log"),)}, "the log_file '/srv/mysite/../x.log' is no"),
    (TCP, {"options": (("log_file", "/var/log/x.log"),)}, "choose /var/log/mysite/x.log"),
    ("http://127.0.0.1:80", {}, "no protocol 'http' can be served"),
    ("scgi://127.0.0.1:80", {}, "ports below 1024 need root"),
    ("scgi://127.0.0.1:0", {}, "needs a port"),
    ("scgi://0.0.0.0:4000", {}, "add allow="),
    ("scgi://localhost:4000", {"activated": True}, "looks up no names: write 127.0.0.1"),
    ("scgi://a.example:4000?allow=10.0.0.1", {"activated": True}, "write an address"),
    ("scgi+fd://0", {}, "say where to listen"),
    ("scgi+pipe://", {}, "say where to listen"),
    ("scgi+systemd://x", {"activated": True}, "say where to listen"),
    ("ajp://127.0.0.1:8009?secret=abc", {}, "everybody may read a unit"),
    ("scgi+unix:///run/a.sock", {}, "choose /run/mysite/a.sock"),
    ("scgi+unix:///tmp/a.sock", {}, "(PrivateTmp=): choose another place, such as /run/NAME"),
    ("scgi+unix:///run/x/a.sock?user=www-data", {}, "only root can give a socket to user"),
    ("scgi+unix:///run/x/a.sock?group=a%20b", {}, "'a b' is no name of a group"),
    ("scgi+unix:///run/x/../a.sock", {"activated": True}, "without . and .."),
]


@pytest.mark.parametrize(("url", "more", "sentence"), REFUSED)
def test_what_cannot_work_is_refused(url, more, sentence):
    with pytest.raises(ConfigError) as caught:
        systemd.render(unit(url, **more))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("app", "name"),
    [
        ("shop.wsgi:application", "shop"),
        ("site:make_app()", "site"),
        ("/srv/x/my site.py", "my-site"),
        ("mysite.wsgi", "mysite"),
        ("a/b.py:app", "b"),
    ],
)
def test_name_is_derived_from_the_application(app, name):
    assert default_name(app) == name


# -- the command ------------------------------------------------------------------------------

PRINT = ["config", "systemd", "mysite.wsgi", "--command", "/srv/mysite/venv/bin/portico"]
PRINT += ["--directory", "/srv/mysite"]


def run(capsys, *more):
    status = cli.main([*PRINT, *more])
    out, err = capsys.readouterr()
    return status, out, err


def test_units_are_printed_one_below_the_other(capsys):
    status, out, err = run(capsys, "--socket", "--option", "workers=4", "--mount", "/app/")
    options = (("mount", "/app"), ("workers", "4"))
    made = unit("fastcgi://127.0.0.1:9000", activated=True, options=options)
    assert (status, err) == (0, "")
    texts = re.split(r"^# /etc/systemd/system/(\S+)\n", out, flags=re.MULTILINE)[1:]
    printed = dict(zip(texts[::2], [text.rstrip("\n") + "\n" for text in texts[1::2]], strict=True))
    assert printed == systemd.render(made)


def test_protocol_chooses_the_usual_address(capsys):
    assert "--bind scgi://127.0.0.1:4000" in run(capsys, "--via", "scgi")[1]
    assert "--bind fastcgi://127.0.0.1:9000" in run(capsys, "--via", "fcgi")[1]


def test_present_command_and_directory_are_the_default(capsys, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/srv/x/bin/../bin/python")
    monkeypatch.chdir("/usr")
    assert cli.main(["config", "systemd", "site:app"]) == 0
    out = capsys.readouterr().out
    assert "WorkingDirectory=/usr\n" in out
    assert "ExecStart=/srv/x/bin/python -m portico serve site:app " in out


def test_installed_command_goes_first(tmp_path, capsys, monkeypatch):
    (tmp_path / "portico").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    status = cli.main(["config", "systemd", "site:app"])
    # below the temporary directory, of which the service has one of its own
    assert (status, f"the command {tmp_path}/portico is below" in capsys.readouterr().err) == (
        2,
        str(tmp_path).startswith(("/tmp/", "/var/tmp/")),  # noqa: S108
    )


def test_file_with_options_says_where_it_listens(tmp_path, capsys, monkeypatch):
    file = tmp_path / "portico.yaml"
    file.write_text("bind: [uwsgi://127.0.0.1:3031]\ngraceful_timeout: 99\n")
    monkeypatch.setattr("portico.servers.unit._PRIVATE", ())
    status, out, err = run(capsys, "--config", str(file))
    assert (status, err) == (0, "")
    assert f"--config {file} --bind uwsgi://127.0.0.1:3031\n" in out
    assert "TimeoutStopSec=109" in out
    file.write_text("user: www-data\n")
    status, _, err = run(capsys, "--config", str(file))
    assert status == 2
    assert f"{file} line 1: leave user to systemd, and say --user here" in err


def test_files_are_written_and_none_is_lost(tmp_path, capsys):
    words_ = ["--socket", "--output", str(tmp_path)]
    for _ in range(2):
        status, out, err = run(capsys, *words_)
        assert (status, err) == (0, "")
        assert out == f"wrote {tmp_path}/mysite.service\nwrote {tmp_path}/mysite.socket\n"
    made = unit("fastcgi://127.0.0.1:9000", activated=True)
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == systemd.render(made)
    (tmp_path / "mysite.socket").write_text("mine")
    status, out, err = run(capsys, *words_, "--option", "workers=9")
    assert (status, out) == (2, "")
    assert "mysite.service exists and says something else" in err
    assert "workers=9" not in (tmp_path / "mysite.service").read_text()
    assert (tmp_path / "mysite.socket").read_text() == "mine"


SAID = [
    (["--option", "worker=4"], "there is no 'worker'; did you mean workers?"),
    (["--option", "workers"], "write workers=VALUE"),
    (["--option", "workers=many"], "workers is 'many', must be a whole number"),
    (["--option", "user=x"], "say it with --user"),
    (["--option", "reload=yes"], "it is for development"),
    (["--listen", "8080"], "--listen is for web servers, not for systemd"),
    (["--stream"], "--stream is for web servers, not for systemd"),
    (["--via", "cgi"], "does not listen for 'cgi'"),
    (["--config", "/nowhere/x.yaml"], "/nowhere/x.yaml"),
    (["--output", "/nowhere"], "cannot write to /nowhere: No such file or directory"),
]


@pytest.mark.parametrize(("more", "sentence"), SAID)
def test_impossible_request_is_refused_in_a_sentence(capsys, more, sentence):
    status, out, err = run(capsys, *more)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert sentence in err


def test_service_without_an_application_is_refused(capsys):
    assert cli.main(["config", "systemd"]) == 2
    assert capsys.readouterr().err.endswith("portico config systemd APP\n")


@pytest.mark.parametrize("more", [["--socket"], ["--user", "x"], ["--option", "a=b"]])
def test_web_servers_take_no_argument_of_systemd(capsys, more):
    status = cli.main(["config", "nginx", *more])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert f"{more[0]} is for systemd, not for nginx" in err


def test_web_server_has_one_address(capsys):
    status = cli.main(["config", "nginx", "--bind", TCP, "--bind", "scgi://127.0.0.1:4001"])
    assert status == 2
    assert "nginx connects to one address: give one --bind" in capsys.readouterr().err
