"""``--reload``: changed code is loaded by itself, and a mistake in it is not the end."""

import signal
import subprocess
import sys

import pytest

from cli_harness import WAIT, Command, eventually, one_sentence
from portico import cli
from portico.supervisor import codewatch

pytestmark = pytest.mark.slow  # processes, one after another

APPLICATION = """\
import shop_texts

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [shop_texts.GREETING]
"""


class Project(Command):
    """A service under development in a directory of the test's."""

    def __init__(self, directory, path, *options):
        self.bind = f"scgi+unix://{directory}/app.sock"
        words = ("serve", "site.py", "--bind", self.bind, "--reload", *options)
        super().__init__(*words, cwd=directory, env={"PYTHONPATH": str(path)})

    def answer(self):
        done = subprocess.run(
            [sys.executable, "-m", "portico", "request", f"{self.bind}:/"],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        return done.stdout

    def await_answer(self, words):
        eventually(lambda: self.answer() == words, f"{words!r} after {self.err}")


@pytest.fixture(params=["told", "looking"])
def path(request, tmp_path_factory):
    """Where modules are looked for first: without watchfiles, or with."""
    directory = tmp_path_factory.mktemp("path")
    if request.param == "looking":
        (directory / "watchfiles.py").write_text("raise ImportError\n")
    else:
        pytest.importorskip("watchfiles")
    return directory


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site.py").write_text(APPLICATION)
    (tmp_path / "shop_texts.py").write_text("GREETING = b'first'\n")
    return tmp_path


def test_changed_code_is_loaded_by_itself(site, path):
    texts = site / "shop_texts.py"
    with Project(site, path) as project:
        project.await_text("serving", "err")
        assert project.answer() == "first"
        texts.write_text("GREETING = b'the second'\n")
        project.await_text("shop_texts.py has changed", "err")
        project.await_answer("the second")
        texts.write_text("GREETING = = b'a mistake'\n")
        project.await_text("not reloaded: (?:.|\n)*SyntaxError", "err")
        assert project.answer() == "the second"
        (site / "unrelated.txt").write_text("nothing")
        texts.write_text("GREETING = b'the third one'\n")
        project.await_answer("the third one")
        assert "unrelated" not in project.err
        project.kill(signal.SIGTERM)
        assert project.finish() == 0
        assert "Traceback" not in project.err.rpartition("generation 2")[2]
        project.assert_left_nothing()


def test_file_is_replaced_by_one_of_the_same_length_at_once(site, path):
    """As editors do it; what was compiled within that second must not be taken for it."""
    with Project(site, path) as project:
        project.await_text("serving", "err")
        for words in ("again", "third", "forth"):
            (site / "new").write_text(f"GREETING = b'{words}'\n")
            (site / "new").rename(site / "shop_texts.py")
            project.await_answer(words)
        assert not (site / "__pycache__").exists()


def test_mistake_in_a_new_package_is_mended(site, path):
    """No worker that serves has loaded it."""
    with Project(site, path) as project:
        project.await_text("serving", "err")
        package = site / "shop" / "texts"
        package.mkdir(parents=True)
        (site / "shop" / "__init__.py").write_text("from shop import texts")
        (package / "__init__.py").write_text("GREETING = = b'a mistake'\n")
        (site / "site.py").write_text(APPLICATION.replace("shop_texts", "shop.texts"))
        project.await_text("not reloaded: (?:.|\n)*SyntaxError", "err")
        (package / "__init__.py").write_text("GREETING = b'mended'\n")
        project.await_answer("mended")


def test_change_while_the_code_is_being_loaded(site, path):
    """What is loaded may be the file from before."""
    (site / "site.py").write_text(
        "import os, pathlib, time\n"
        f"{APPLICATION}\n"
        "pathlib.Path('loaded').touch()\n"
        "while not os.path.exists('go'):\n"
        "    time.sleep(0.01)\n"
    )
    with Project(site, path) as project:
        eventually((site / "loaded").exists, "the import")
        (site / "shop_texts.py").write_text("GREETING = b'the second'\n")
        (site / "go").touch()
        project.await_text("shop_texts.py has changed", "err")
        project.await_answer("the second")


def test_change_while_no_worker_watches(site, path):
    """The process that they are forked from has loaded what was there before."""
    words = ("--preload", "--on-demand", "--worker-idle-timeout", "0.3")
    with Project(site, path, *words) as project:
        project.await_text("serving", "err")
        assert project.answer() == "first"
        project.await_text("has nothing to do and leaves", "err")
        eventually(lambda: len(project.children()) == 1, "the end of the worker")
        (site / "shop_texts.py").write_text("GREETING = b'the second'\n")
        project.await_answer("the second")


def test_all_workers_load_what_has_changed(site, path):
    with Project(site, path, "--preload", "--workers", "3") as project:
        project.await_text("serving", "err")
        assert project.answer() == "first"
        (site / "shop_texts.py").write_text("GREETING = b'the second'\n")
        project.await_text(r"reloaded: generation \d serves", "err")
        project.await_answer("the second")
        assert project.running()


def test_changed_configuration_is_loaded_by_itself(site, path):
    file = site / "portico.yaml"
    file.write_text("environment: {GREETING: first}\n")
    (site / "shop_texts.py").write_text("import os\nGREETING = os.environ['GREETING'].encode()\n")
    with Project(site, path, "--config", "portico.yaml") as project:
        project.await_text("serving", "err")
        assert project.answer() == "first"
        file.write_text("environments: {GREETING: a mistake}\n")
        project.await_text("not reloaded: (?:.|\n)*there is no setting 'environments'", "err")
        file.write_text("environment: {GREETING: the second}\n")
        project.await_answer("the second")


def test_start_with_a_mistake_fails(site, path):
    (site / "shop_texts.py").write_text("GREETING = = b'a mistake'\n")
    with Project(site, path) as project:
        assert project.finish() == 2
        assert "SyntaxError" in project.err
        project.assert_left_nothing()
        assert not (site / "app.sock").exists()


def test_without_a_parent_nothing_can_be_reloaded(capsys):
    arguments = ["serve", "site:app", "--bind", "scgi://127.0.0.1:0", "--reload", "--workers", "0"]
    assert cli.main(arguments) == 2
    assert "reload needs a parent process" in one_sentence(capsys.readouterr().err)


def test_only_packages_are_looked_into(tmp_path):
    """A directory of code may lie beside anything."""
    for name in ("shop/texts", "data/shop", "shop/pictures"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("shop", "shop/texts", "data/shop"):
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "shop" / "itself").symlink_to(tmp_path / "shop")
    found = codewatch._packages([str(tmp_path), str(tmp_path / "gone")])
    assert {str(tmp_path / name) for name in ("", "shop", "shop/texts")} <= found
    assert not any("data" in path or "pictures" in path for path in found)
