"""`install()`: ``import flup`` gives Portico's stand-in; what flup no longer has says so."""

import subprocess
import sys

import pytest

from engine_harness import WAIT

FIRST = "import sys; import portico.compat.flup as stand_in; stand_in.install()\n"


def run(source, status=0):
    """Run *source* in an interpreter of its own; gives what it wrote."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        capture_output=True, text=True, timeout=WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import flup.server.fcgi; found = flup.server.fcgi.WSGIServer",
        "from flup.server.fcgi import WSGIServer as found",
        "from flup.server.fcgi_fork import WSGIServer as found",
        "from flup.server.fcgi_single import WSGIServer as found",
        "import flup.server.scgi as module; found = module.WSGIServer",
        "from flup.server import scgi_fork; found = scgi_fork.WSGIServer",
        "import importlib; found = importlib.import_module('.server.ajp', 'flup').WSGIServer",
        "from flup.server.ajp_fork import WSGIServer as found",
        "from flup.server.cgi import WSGIServer as found",
        "from flup.client.fcgi_app import FCGIApp as found",
        "import flup.client.scgi_app; found = flup.client.scgi_app.SCGIApp",
        "from flup.server.paste_factory import run_fcgi_thread as found",
        "from flup.server.threadedserver import ThreadedServer as found",
        "import flup.server.fcgi_base; from flup.server import NoDefault as found",
    ],
)
def test_imports_give_our_own(statement):
    assert "portico.compat.flup" in run(f"{FIRST}{statement}\nprint(found.__module__)")


def test_the_modules_are_the_same_under_both_names():
    run(
        FIRST + "import flup.server.scgi, portico.compat.flup.server.scgi as ours\n"
        "assert flup.server.scgi is ours\n"
        "assert flup is stand_in and sys.modules['flup.server'] is stand_in.server"
    )


def test_again_is_nothing_new():
    run(
        FIRST + "before = list(sys.meta_path), dict(sys.modules)\n"
        "stand_in.install()\n"
        "assert before == (sys.meta_path, sys.modules)"
    )


def test_an_imported_flup_is_not_taken_over():
    said = run("import flup.server.fcgi\n" + FIRST, status=1)
    assert "flup was imported already, from" in said
    assert "before the first import of flup" in said


def test_without_install_flup_is_flup():
    said = run("import portico.compat.flup.server.fcgi\nimport flup\nprint(flup.__file__)")
    assert "portico" not in said.rpartition("site-packages")[2]


@pytest.mark.parametrize("package", ["flup", "portico.compat.flup"])
@pytest.mark.parametrize(
    ("module", "instead"),
    [
        ("middleware", "werkzeug.debug.DebuggedApplication"),
        ("middleware.session", "your framework's sessions"),
        ("middleware.gzip", "let the web server compress"),
        ("middleware.error", "pass debug=True to WSGIServer"),
        ("resolver", "a routing library"),
        ("resolver.objectpath", "werkzeug.routing"),
        ("publisher", "Flask or bottle"),
    ],
)
def test_what_ended_with_flup_0_5_says_what_to_use(package, module, instead):
    said = run(f"{FIRST}import {package}.{module}", status=1)
    assert f"flup.{module.partition('.')[0]} is not there: no release of flup for Python 3" in said
    assert instead in said


@pytest.mark.parametrize("module", ["server.threadpool", "server.scgi_base", "nothing"])
def test_internals_are_not_there(module):
    said = run(f"{FIRST}import flup.{module}", status=1)
    assert f"No module named 'flup.{module}'" in said
    assert "not for its internals" in said


def test_what_else_is_missing_is_said_as_ever():
    assert "No module named 'flupper'" in run(f"{FIRST}import flupper", status=1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_lazy_imports_as_mercurial_has_them(when):
    """hgweb.fcgi turns them on before it imports flup."""
    lazy = "from mercurial import demandimport; demandimport.enable()\n"
    both = FIRST + lazy if when == "before" else lazy + FIRST
    run(f"{both}from flup.server.fcgi import WSGIServer\nassert 'portico' in WSGIServer.__module__")


def test_no_engine_is_loaded_for_a_script_that_may_be_cgi():
    run(FIRST + "import flup.server.fcgi\nassert 'portico.engine.leader' not in sys.modules")


#: What pyload does, where flup's signal handlers fail: it takes them away.
PATCHED = """
import threading
from flup.server.threadedserver import ThreadedServer
ThreadedServer._installSignalHandlers = lambda *_: None
from flup.server.scgi import WSGIServer
server = WSGIServer(lambda environ, start_response: [], bindAddress=("127.0.0.1", 0))
thread = threading.Thread(target=server.run)
thread.start()
server._exit()
thread.join()
"""


def test_the_patch_for_threads_does_no_harm():
    assert "Traceback" not in run(FIRST + PATCHED)
