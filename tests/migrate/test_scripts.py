"""Scripts that start servers, as they are written; none of them is ever run."""

import pytest

from portico.errors import ConfigError
from portico.migrate import detect, gunicorn, script
from portico.migrate.model import CARRIED, LEFT, NEEDLESS


@pytest.fixture
def plan(tmp_path):
    def make(text, name="run.py"):
        (tmp_path / name).write_text(text)
        return script.read(str(tmp_path / name))

    return make


def noted(plan, name):
    return [note.outcome for note in plan.notes if note.entry.name == name]


START = "from flup.server.fcgi import WSGIServer\n"

APPS = [
    ("from a.b import c", "c", "a.b:c"),
    ("from a.b import c as d", "d", "a.b:c"),
    ("from a import make", "make()", "a:make()"),
    ("import a.b", "a.b.c", "a.b:c"),
    ("import a as x", "x.app", "a:app"),
    ("def app(e, s): pass", "app", "{here}/run.py:app"),
    ("app = f(1)", "app", "{here}/run.py:app"),
    ("class App: pass", "App()", "{here}/run.py:App()"),
]


@pytest.mark.parametrize(("before", "expression", "app"), APPS)
def test_how_the_application_is_named(plan, tmp_path, before, expression, app):
    made = plan(
        f"{START}{before}\nif __name__ == '__main__':\n    WSGIServer({expression}).run()\n"
    )
    assert made.settings["app"] == app.format(here=tmp_path)
    assert made.tasks == []
    line = f"portico.run({expression})  # takes the place of line 4"
    assert made.script[:2] == ["import portico", line]


@pytest.mark.parametrize(
    "expression", ["make(1)", "Middleware(app)", "apps['x']", "lambda e, s: []", "f().g", "missing"]
)
def test_an_application_without_a_name_is_told(plan, expression):
    made = plan(f"{START}from a import app\nWSGIServer({expression}).run()\n")
    assert "app" not in made.settings
    assert noted(made, "the application") == [LEFT]
    assert made.tasks


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("WSGIServer(app).run()", True),
        ("if __name__ == '__main__':\n    WSGIServer(app).run()", False),
        ("def main():\n    WSGIServer(app).run()\n\nif __name__ == '__main__':\n    main()", False),
        ("def main():\n    WSGIServer(app).run()\nmain()", True),
    ],
)
def test_a_script_that_starts_when_loaded_is_told(plan, text, is_told):
    made = plan(f"{START}def app(e, s): pass\n{text}\n")
    assert noted(made, "the start") == ([LEFT] if is_told else [])


FLUP = [
    ("fcgi", "bindAddress=('127.0.0.1', 9100)", "fastcgi://127.0.0.1:9100"),
    ("fcgi", "bindAddress='/run/a.sock', umask=0", "fastcgi+unix:///run/a.sock?mode=666"),
    ("fcgi_fork", "bindAddress='/run/a.sock', umask=0o077", "fastcgi+unix:///run/a.sock?mode=600"),
    ("scgi", "", "scgi://localhost:4000"),
    ("scgi_fork", "bindAddress=('127.0.0.1', 1)", "scgi://127.0.0.1:1"),
    ("ajp", "", "ajp://localhost:8009"),
]


@pytest.mark.parametrize(("name", "arguments", "url"), FLUP)
def test_addresses_of_flup(plan, name, arguments, url):
    before = f"from flup.server.{name} import WSGIServer\nfrom a import b\n"
    made = plan(f"{before}WSGIServer(b, {arguments}).run()")
    assert made.settings["bind"] == [url]
    assert f"from portico.compat.flup.server.{name} import WSGIServer" in made.script
    assert any(line.startswith(f'portico.serve(b, "{url}"') for line in made.script)
    assert "nothing changes" in made.front.sentence


HTTP = [
    ("from waitress import serve", "serve(b, listen='127.0.0.1:1 [::1]:2')",
     ["fastcgi://127.0.0.1:1", "fastcgi://[::1]:2"]),
    ("import waitress", "waitress.serve(b)", ["fastcgi://127.0.0.1:8080"]),
    ("import waitress", "waitress.serve(b, unix_socket='/s', unix_socket_perms='600')",
     ["fastcgi+unix:///s?mode=600"]),
    ("import bjoern", "bjoern.run(b, '127.0.0.1', 7)", ["fastcgi://127.0.0.1:7"]),
    ("from wsgiref.simple_server import make_server", "make_server('', 8, b).serve_forever()",
     ["fastcgi://127.0.0.1:8"]),
    ("from cheroot.wsgi import Server", "Server(('127.0.0.1', 9), b, numthreads=3).start()",
     ["fastcgi://127.0.0.1:9"]),
    ("from cherrypy.wsgiserver import CherryPyWSGIServer as S", "S(('localhost', 9), b).start()",
     ["fastcgi://localhost:9"]),
    ("from gevent.pywsgi import WSGIServer", "WSGIServer(('127.0.0.1', 9), b).serve_forever()",
     ["fastcgi://127.0.0.1:9"]),
    ("from paste import httpserver", "httpserver.serve(b, host='127.0.0.1', port='9')",
     ["fastcgi://127.0.0.1:9"]),
    ("from werkzeug.serving import run_simple", "run_simple('localhost', 5000, b)",
     ["fastcgi://localhost:5000"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "call", "urls"), HTTP)
def test_addresses_of_http_servers(plan, before, call, urls):
    made = plan(f"{before}\nfrom a import b\n{call}\n")
    assert made.settings["bind"] == urls
    assert made.settings["app"] == "a:b"
    assert made.front.bind == urls[0]
    assert "proxy_pass" in made.front.sentence


def test_gevent_fastcgi(plan):
    made = plan(
        "from gevent_fastcgi.server import FastCGIServer\n"
        "from gevent_fastcgi.wsgi import WSGIRequestHandler\nfrom a import b\n"
        "FastCGIServer(('127.0.0.1', 9), WSGIRequestHandler(b), num_workers=4).serve_forever()\n"
    )
    assert made.settings == {"app": "a:b", "bind": ["fastcgi://127.0.0.1:9"], "workers": 4}


def test_a_cgi_handler_that_has_a_name(plan):
    made = plan("import wsgiref.handlers as h\nfrom a import b\nx = h.CGIHandler()\nx.run(b)\n")
    assert made.settings["app"] == "a:b"
    assert made.script[1].startswith("portico.run(b)")


def test_tracs_frontend(plan):
    made = plan("from trac.web import fcgi_frontend\nfcgi_frontend.run()\n", "trac.fcgi")
    assert made.settings["app"] == "trac.web.main:dispatch_request"
    assert made.script[0] == "from trac.web.main import dispatch_request"


def test_names_and_what_surrounds_the_call(plan, tmp_path):
    made = plan(
        "#!/srv/v/bin/python\nimport os, sys\nfrom flup.server.fcgi import WSGIServer\n"
        "HERE = os.path.dirname(os.path.abspath(__file__))\nPORT = 9000 + 1\n"
        "sys.path.append(HERE + '/lib')\nsys.path.insert(0, os.path.join(HERE, 'first'))\n"
        "sys.path.insert(0, compute())\nos.environ.setdefault('A', 'b')\nfrom a import b\n"
        "WSGIServer(b, bindAddress=('127.0.0.1', PORT), **more).run()\n"
    )
    assert made.program == "/srv/v/bin/portico"
    assert made.variables == {"PYTHONPATH": f"{tmp_path}/first:{tmp_path}/lib"}
    assert made.settings["environment"] == {"A": "b"}
    assert made.settings["bind"] == ["fastcgi://127.0.0.1:9001"]
    assert made.directory == str(tmp_path)
    assert noted(made, "sys.path.insert") == [CARRIED, LEFT]
    assert noted(made, "**more") == [LEFT]


def test_a_name_with_two_values_is_none(plan):
    text = "from waitress import serve\nfrom a import b\nP = 1\nP = 2\nserve(b, port=P)\n"
    assert noted(plan(text), "port") == [LEFT]


def test_what_the_system_python_says_is_no_environment(plan):
    made = plan(f"#!/usr/bin/python3\n{START}from a import b\nWSGIServer(b).run()\n")
    assert made.program == "portico"


def test_a_second_server_is_told(plan):
    made = plan(f"{START}from a import b\nWSGIServer(b).run()\nimport bjoern\nbjoern.run(b)\n")
    assert noted(made, "bjoern.run()") == [LEFT]
    assert made.settings["bind"] == ["fastcgi://127.0.0.1:9000"]


def test_what_is_porticos_already(plan):
    made = plan("import portico\nfrom a import b\nportico.run(b)\n")
    assert noted(made, "run()") == [NEEDLESS]


def test_gunicorn_of_ones_own_without_options(plan):
    text = "from gunicorn.app.base import BaseApplication as B\nclass X(B): pass\nfrom a import b\n"
    made = plan(f"{text}X(b, compute()).run()\n")
    assert made.settings["app"] == "a:b"
    assert noted(made, "X()") == [LEFT]


def test_nothing_is_run(tmp_path):
    mark = tmp_path / "mark"
    text = (
        f"open({str(mark)!r}, 'w')\n{START}bind = open({str(mark)!r}, 'w')\nWSGIServer(a).run()\n"
    )
    (tmp_path / "gunicorn.conf.py").write_text(text)
    detect.read(str(tmp_path / "gunicorn.conf.py"))
    detect.read(str(tmp_path / "gunicorn.conf.py"), "gunicorn")
    assert not mark.exists()


KINDS = [
    ("gunicorn.conf.py", "bind = 'a'\n", "gunicorn"),
    ("settings.py", "workers = 3\n", "gunicorn"),
    ("run", f"#!/usr/bin/env python3\n{START}WSGIServer(a).run()\n", "script"),
    ("x.config", "<configuration/>", "wfastcgi"),
    ("x.xml", "<uwsgi><a/></uwsgi>", "uwsgi"),
    ("x", "[uwsgi]\na = b\n", "uwsgi"),
    ("x.json", '{"uwsgi": {}}', "uwsgi"),
]


@pytest.mark.parametrize(("name", "text", "kind"), KINDS)
def test_whose_a_file_is(tmp_path, name, text, kind):
    (tmp_path / name).write_text(text)
    assert detect.find_kind(str(tmp_path / name)) == kind


BROKEN = [
    pytest.param("a.py", "print 'x'\n", "line 1 is no Python 3", id="python-2"),
    pytest.param("a.py", "\n\nx = (\n", "line 3 is no Python 3", id="syntax"),
    pytest.param("a.py", "x = 1\n", "starts no server", id="no-server"),
    pytest.param("a.py", "x = " + "-" * 100_000 + "1", "Python", id="deep"),
    pytest.param("a.txt", "hello\n", "is of no kind", id="text"),
    pytest.param("Web.config", "<configuration/>", "nothing of Python", id="no-python"),
    pytest.param("Web.config", "<other/>", "not with <configuration>", id="other-root"),
    pytest.param("Web.config", "<!DOCTYPE a []>\n<configuration/>", "DOCTYPE", id="doctype"),
    pytest.param("Web.config", "<configuration>\n<", "line 2 is no valid XML", id="xml"),
]


@pytest.mark.parametrize(("name", "text", "words"), BROKEN)
def test_what_cannot_be_taken_is_refused(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        detect.read(str(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


# -- gunicorn.conf.py ------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path):
    def make(text):
        (tmp_path / "c.py").write_text(text)
        return gunicorn.read(str(tmp_path / "c.py"))

    return make


VALUES = [
    ("workers = 2 * 3 + 1", 7),
    ("import os\nworkers = (os.cpu_count() or 1) * 0 + 2", 2),
    ("a, b = 1, 2\nworkers = a + b", 3),
    ("N: int = 4\nworkers = N", 4),
    ("workers = int('5')", 5),
    ("workers = max(1, min(9, 6))", 6),
    ("import os\nworkers = int(os.getenv('W', '7'))", 7),
    ("from os import environ\nworkers = environ.get('W', 8)", 8),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_that_are_written_are_found(conf, text, value):
    assert conf(text).settings["workers"] == value


@pytest.mark.parametrize(
    "text",
    ["workers = f()", "workers = x", "from x import workers", "workers = 2 ** 3",
     "import os\nworkers = os.environ['W']", "workers = [n for n in (1,)][0]", "workers = 1 / 0",
     "def workers(): pass", "workers = 1\nworkers += 1", "import os\nworkers = os.getenv('W')",
     "workers = open('/etc/passwd').read()", "if x:\n    workers = 3", "for workers in (1,): pass",
     "try:\n    workers = 3\nexcept E:\n    pass"],
)  # fmt: skip
def test_values_that_are_computed_are_told(conf, text):
    made = conf(f"bind = '127.0.0.1:1'\n{text}\n")
    assert LEFT in {note.outcome for note in made.notes}
    assert "workers" not in made.settings or made.settings["workers"] == 1


def test_what_a_value_depends_on_is_told(conf):
    made = conf("import os, multiprocessing as m\nP = os.getenv('PORT', '1')\n"
                "bind = '127.0.0.1:' + P\nworkers = m.cpu_count()\n")  # fmt: skip
    assert noted(made, "bind") == [LEFT, CARRIED]
    assert "PORT" in next(note.text for note in made.notes if note.outcome == LEFT)
    assert any("processors" in told for told in made.remarks)


def test_settings_of_another_file_are_told(conf):
    assert noted(conf("from common import *\nworkers = 2\n"), "*") == [LEFT]


def test_variables_of_the_process_are_carried(conf):
    made = conf("import os\nos.environ['A'] = 'b'\nos.environ.setdefault('LANG', 'C')\nworkers = 2")
    assert made.settings["environment"] == {"A": "b"}
    assert made.variables == {"LANG": "C"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"threads": 1, "timeout": 30}),
        ("timeout = 5", {"threads": 1, "timeout": 5}),
        ("timeout = 0", {"threads": 1}),
        ("threads = 4", {"threads": 4}),
        ("worker_class = 'gthread'", {"threads": 1}),
        ("worker_class = 'gevent'", {}),
        ("worker_class = 'sync'\ntimeout = 9", {"threads": 1, "timeout": 9}),
    ],
)
def test_threads_and_time_limit_are_what_the_workers_had(conf, text, expected):
    made = conf(f"loglevel = 'info'\n{text}\n").settings
    assert {key: made[key] for key in ("threads", "timeout") if key in made} == expected


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        ("'unix:/run/a.sock'", ["fastcgi+unix:///run/a.sock"]),
        ("'unix:run/a.sock'", ["fastcgi+unix://{here}/run/a.sock"]),
        ("['localhost:1', '[::1]:2']", ["fastcgi://localhost:1", "fastcgi://[::1]:2"]),
        ("'localhost'", ["fastcgi://localhost:8000"]),
        ("'fd://3'", ["fastcgi+fd://3"]),
        ("'0.0.0.0:1'", ["fastcgi://127.0.0.1:1"]),
    ],
)
def test_addresses_of_gunicorn(conf, tmp_path, value, urls):
    made = conf(f"bind = {value}\n")
    assert made.settings["bind"] == [url.format(here=tmp_path) for url in urls]


# -- Web.config --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "app"),
    [
        ("app.app", "app:app"),
        ("django.core.wsgi.get_wsgi_application()", "django.core.wsgi:get_wsgi_application()"),
        ("a.b.c", "a.b:c"),
        ("app", None),
        ("a.b('c')", None),
    ],
)
def test_handlers_of_wfastcgi(tmp_path, handler, app):
    path = tmp_path / "Web.config"
    path.write_text(
        f'<configuration><appSettings><add key="WSGI_HANDLER" value="{handler}"/></appSettings>'
        "</configuration>"
    )
    made = detect.read(str(path))
    assert made.settings.get("app") == app
    assert bool(made.tasks) == (app is None)
    assert made.settings["threads"] == 1


def test_the_handler_behind_a_virtual_environment(tmp_path):
    path = tmp_path / "web.config"
    path.write_text(
        '<configuration><appSettings><add key="WSGI_ALT_VIRTUALENV_HANDLER" value="a.app"/>'
        '<add key="WSGI_HANDLER" value="ptvs_virtualenv_proxy.get_virtualenv_handler()"/>'
        "</appSettings></configuration>"
    )
    made = detect.read(str(path))
    assert made.settings["app"] == "a:app"
    assert noted(made, "WSGI_HANDLER") == [NEEDLESS]
