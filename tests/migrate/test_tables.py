"""Every row of the tables: what is said of an option is what becomes of it."""

import re
import subprocess

import pytest

from peers_harness import find
from portico.migrate import gunicorn, uwsgi, wfastcgi
from portico.migrate.gunicorn_settings import SETTINGS
from portico.migrate.launchers import LAUNCHERS
from portico.migrate.model import CARRIED, LEFT
from portico.migrate.script import read as read_script
from portico.migrate.uwsgi_options import OPTIONS, PREFIXES, rule_of

#: A value that each carried option of uWSGI takes; a number serves for all others.
UWSGI = {
    "module": "a.b", "wsgi": "a.b", "w": "a.b", "wsgi-file": "/a.py", "file": "/a.py",
    "callable": "c\nmodule = a.b", "mount": "/x=a.b", "env": "A=b", "catch-exceptions": "true",
    "protocol": "scgi\nsocket = /s", "socket-protocol": "scgi\nsocket = /s",
    "chmod-socket": "660\nsocket = /s", "chmod": "660\nsocket = /s", "C": "660\nsocket = /s",
    "chown-socket": "a:b\nsocket = /s", "listen": "5\nsocket = /s",
    "static-map": "/a=/b", "static-map2": "/a=/b", "plugins": "python3", "plugin": "python3",
    "need-plugin": "python3", "need-plugins": "python3", "stats": "/s", "stats-server": "/s",
    "cheap": "true", "max-vars": "500",
}  # fmt: skip


def value_of(name, rule):
    if name in UWSGI:
        return UWSGI[name]
    return "/s/5" if rule.outcome == CARRIED and "`bind`" in rule.text else "5"


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_of_uwsgi(name, tmp_path):
    path = tmp_path / "a.ini"
    path.write_text(f"[uwsgi]\n{name} = {value_of(name, OPTIONS[name])}\n")
    notes = [note for note in uwsgi.read(str(path)).notes if note.entry.line == 2]
    assert [note.outcome for note in notes][:1] == [OPTIONS[name].outcome], notes
    assert all(note.text for note in notes)
    if OPTIONS[name].apply is None:
        assert notes[0].text == OPTIONS[name].text


@pytest.mark.parametrize("start", PREFIXES)
def test_each_beginning_of_an_option(start, tmp_path):
    path = tmp_path / "a.ini"
    path.write_text(f"[uwsgi]\n{start}zzz = 1\n")
    (note,) = uwsgi.read(str(path)).notes
    assert (note.outcome, note.text) == (LEFT, PREFIXES[start].text)


def test_at_least_sixty_options_are_carried_over():
    assert sum(rule.outcome == CARRIED for rule in OPTIONS.values()) >= 60
    assert rule_of("nonsense") is None


#: Of plugins, and of later and earlier uWSGIs.
ELSEWHERE = {
    "asyncio", "carbon", "coroae", "fastrouter", "fastrouter-to", "gevent", "greenlet", "http11",
    "gevent-early-monkey-patch", "gevent-monkey-patch", "max-requests-delta", "rawrouter",
    "rsyslog", "sslrouter", "statsd", "tornado", "ugreen", "socket", "zeromq",
}  # fmt: skip


@pytest.mark.peer("uwsgi")
def test_uwsgi_knows_the_options_of_the_table():
    command = [find("uwsgi"), "--plugin", "python3", "--plugin", "http", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    known = set()
    for names in re.findall(r"^\s+((?:-\w\|)?--[\w_-]+)", done.stdout, re.MULTILINE):
        known |= {name.lstrip("-").replace("_", "-") for name in names.split("|")}
    assert len(known) > 500
    assert set(OPTIONS) - known - ELSEWHERE == set()


#: A value of each carried setting of gunicorn's; a number serves for all others.
GUNICORN = {
    "wsgi_app": '"a.b:c"', "bind": '"127.0.0.1:1"', "worker_class": '"sync"', "chdir": '"/a"',
    "preload_app": "True", "reload": "True", "pythonpath": '"/a"', "raw_env": '["A=b"]',
    "user": '"root"', "group": '"root"', "pidfile": '"/a"', "accesslog": '"/a"',
    "errorlog": '"/a"', "loglevel": '"info"', "max_requests_jitter": "5\nmax_requests = 100",
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_of_gunicorn(name, tmp_path):
    path = tmp_path / "c.py"
    path.write_text(f"{name} = {GUNICORN.get(name, '5')}\n")
    notes = [note for note in gunicorn.read(str(path)).notes if note.entry.line == 1]
    assert [note.outcome for note in notes][:1] == [SETTINGS[name].outcome], notes
    if SETTINGS[name].apply is None:
        assert notes[0].text == SETTINGS[name].text


HOOKS = [name for name, rule in SETTINGS.items() if rule.text.startswith("a hook")]


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_of_gunicorn(name, tmp_path):
    path = tmp_path / "c.py"
    path.write_text(f"bind = '127.0.0.1:1'\n\ndef {name}(server):\n    pass\n")
    notes = [note for note in gunicorn.read(str(path)).notes if note.entry.line == 3]
    assert [(note.outcome, note.text) for note in notes] == [(LEFT, SETTINGS[name].text)]


def test_gunicorn_has_hooks():
    assert len(HOOKS) > 10


WFASTCGI = {
    "WSGI_HANDLER": "a.b", "WSGI_ALT_VIRTUALENV_HANDLER": "a.b", "PYTHONPATH": "/a",
    "WSGI_LOG": "/a", "SCRIPT_NAME": "/a", "WSGI_RESTART_FILE_REGEX": ".*py",
}  # fmt: skip


@pytest.mark.parametrize("name", wfastcgi.SETTINGS)
def test_each_setting_of_wfastcgi(name, tmp_path):
    path = tmp_path / "Web.config"
    value = WFASTCGI.get(name, "5")
    path.write_text(
        '<configuration><appSettings><add key="WSGI_HANDLER" value="x.y"/>\n'
        f'<add key="{name}" value="{value}"/></appSettings></configuration>'
    )
    notes = [note for note in wfastcgi.read(str(path)).notes if note.entry.line == 2]
    assert [note.outcome for note in notes] == [wfastcgi.SETTINGS[name].outcome]


IIS = [("application", name) for name in wfastcgi.FASTCGI]
IIS += [("httpPlatform", name) for name in wfastcgi.HTTP_PLATFORM]


@pytest.mark.parametrize(("element", "name"), IIS)
def test_each_attribute_of_iis(element, name, tmp_path):
    table = wfastcgi.FASTCGI if element == "application" else wfastcgi.HTTP_PLATFORM
    path = tmp_path / "applicationHost.config"
    value = "/p/5" if name == "stdoutLogFile" else "5"
    path.write_text(
        f'<configuration><httpPlatform/>\n<fastCgi><{element} {name}="{value}"/></fastCgi>'
        "</configuration>"
    )
    notes = [note for note in wfastcgi.read(str(path)).notes if note.entry.line == 2]
    assert notes[0].outcome == table[name].outcome
    assert notes[0].entry.name == name


@pytest.mark.parametrize("name", wfastcgi.ELEMENTS)
def test_each_element_of_iis(name, tmp_path):
    path = tmp_path / "Web.config"
    path.write_text(f"<configuration><httpPlatform/>\n<{name}><a b='c'/></{name}></configuration>")
    (note,) = [note for note in wfastcgi.read(str(path)).notes if note.entry.line == 2]
    assert (note.outcome, note.text) == (LEFT, wfastcgi.ELEMENTS[name])


ARGUMENTS = {
    "bindAddress": '("127.0.0.1", 5)', "listener": '("127.0.0.1", 5)', "environ": "{}",
    "bind_addr": '("127.0.0.1", 5)', "unix_socket": '"/s"', "host": '"127.0.0.1", port=5',
    "hostname": '"127.0.0.1"', "scriptName": '"/a"', "url_prefix": '"/a"',
    "listen": '"127.0.0.1:5"',
    "multithreaded": "False", "threaded": "False", "use_reloader": "True", "reloader": "True",
    "socket": '"/s"', "protocol": '"scgi"', "server": '"wsgiref"', "pidfile": '"/p"',
    "errlog": '"/e"', "unix_socket_perms": '"600"', "roles": "(1,)", "role": "1",
    "socket_mode": "0o600",
}  # fmt: skip

CALLS = [(name, argument) for name, found in LAUNCHERS.items() for argument in found.arguments]


@pytest.mark.parametrize(("name", "argument"), CALLS)
def test_each_argument_of_a_launcher(name, argument, tmp_path):
    module, _, function = name.rpartition(".")
    value = ARGUMENTS.get(argument, "5")
    path = tmp_path / "run.py"
    path.write_text(
        f"from {module} import {function}\nfrom site_module import application\n"
        f"{function}({argument}={value},\n  application=application)\n"
    )
    notes = [note for note in read_script(str(path)).notes if note.entry.name == argument]
    rule = LAUNCHERS[name].arguments[argument]
    assert [note.outcome for note in notes] == [rule.outcome]
