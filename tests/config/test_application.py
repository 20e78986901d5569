"""Finding the WSGI application that the operator named."""

import os
import sys
import threading

import pytest

from portico.config.application import load, name_of
from portico.config.settings import Settings
from portico.errors import ConfigError
from portico.loader import load_application, missing_file

ANSWER = "def {name}(environ, start_response):\n    return [b'{name}']\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A directory of the test's own as the working directory; imports are forgotten."""
    modules = set(sys.modules)
    environ = dict(os.environ)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.environ.clear()
    os.environ.update(environ)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(path, *names, more=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(ANSWER.format(name=name) for name in names) + more)
    return path


def called(application):
    return application({}, None)[0].decode()


# -- modules -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "spec", "found"),
    [
        (["application"], "site_one", "application"),
        (["app"], "site_one", "app"),
        (["app", "application"], "site_one", "application"),
        (["app", "other"], "site_one:other", "other"),
        (["app"], "site_one:", "app"),
    ],
)
def test_module(place, names, spec, found):
    write(place / "site_one.py", *names)
    assert called(load_application(spec)) == found


def test_module_in_a_package(place):
    write(place / "package" / "__init__.py")
    write(place / "package" / "wsgi.py", "application")
    assert called(load_application("package.wsgi")) == "application"
    assert called(load_application("package.wsgi:application")) == "application"


def test_attribute_of_an_object(place):
    write(
        place / "site_two.py",
        more="class Site:\n    def wsgi(self, e, s): return [b'method']\nsite = Site()\n",
    )
    assert called(load_application("site_two:site.wsgi")) == "method"


def test_factory(place):
    write(place / "site_three.py", "app", more="def make(): return app\n")
    assert called(load_application("site_three:make()")) == "app"


def test_default_that_cannot_be_called_is_passed_over(place):
    write(place / "site_four.py", "app", more="application = None\n")
    assert called(load_application("site_four")) == "app"


def test_module_is_looked_for_in_the_directory_named(place):
    write(place / "elsewhere" / "site_five.py", "app")
    write(place / "elsewhere" / "beside.py", "app")
    assert called(load_application("site_five", directory=str(place / "elsewhere"))) == "app"
    __import__("beside")


def test_own_module_goes_before_an_installed_one(place):
    write(place / "hypothesis_like.py", "app")
    load_application("hypothesis_like")
    assert sys.path[0] == str(place)
    load_application("hypothesis_like")
    assert sys.path.count(str(place)) == 1


# -- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "spec"),
    [
        ("site.py", "site.py"),
        ("site.wsgi", "site.wsgi"),
        ("deep/down/site.py", "deep/down/site.py"),
        ("deep/site.wsgi", "./deep/site.wsgi"),
        ("with-dashes.and.dots.wsgi", "with-dashes.and.dots.wsgi"),
        ("deep/script", "deep/script"),
        ("threading.py", "threading.py"),
        ("12.py", "12.py"),
        ("class.py", "class.py"),
        ("a:b/site.py", "a:b/site.py"),
    ],
)
def test_file(place, file, spec):
    write(place / file, "application", "other")
    assert called(load_application(spec)) == "application"
    assert called(load_application(f"{spec}:other")) == "other"
    assert called(load_application(str(place / file))) == "application"


def test_file_does_not_replace_a_module_of_its_name(place):
    write(place / "threading.py", "application")
    load_application("threading.py")
    assert sys.modules["threading"] is threading


def test_file_imports_what_lies_beside_it(place):
    write(place / "deep" / "neighbour_of_site.py", more="text = b'neighbour'\n")
    write(
        place / "deep" / "site.wsgi",
        more="from neighbour_of_site import text\ndef app(e, s): return [text]\n",
    )
    assert called(load_application("deep/site.wsgi")) == "neighbour"


def test_file_knows_where_it_is(place):
    """Applications look for their templates and data beside their own file."""
    file = write(place / "site_one.py", "app", more="PLACE = __file__\n")
    load_application("site_one.py")
    module = sys.modules["site_one"]
    assert file.samefile(module.PLACE)
    assert module.__spec__.has_location


def test_file_may_hold_dataclasses_and_pickles(place):
    """Both look the module up by its name."""
    write(
        place / "site.wsgi",
        "app",
        more="import pickle\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Point:\n    x: int\n"
        "assert pickle.loads(pickle.dumps(Point(1))) == Point(1)\n",
    )
    assert called(load_application("site.wsgi")) == "app"


def test_main_part_of_a_script_does_not_run(place):
    write(place / "app.py", "app", more="if __name__ == '__main__':\n    raise SystemExit(9)\n")
    assert called(load_application("app.py")) == "app"


# -- what cannot be loaded -----------------------------------------------------------------


def refusal(spec):
    with pytest.raises(ConfigError) as caught:
        load_application(spec)
    assert caught.value.key == "app"
    sentence, _, rest = str(caught.value).partition("\n")
    return sentence, rest


def test_no_such_module():
    sentence, rest = refusal("nowhere_to_be_found")
    assert sentence.startswith("application 'nowhere_to_be_found' cannot be loaded: there is no")
    assert os.getcwd() in sentence  # noqa: PTH109 - as the text has it
    assert rest == ""


def test_no_such_module_in_a_package(place):
    write(place / "package_two" / "__init__.py")
    sentence, rest = refusal("package_two.wsgi")
    assert "there is no file or module 'package_two.wsgi' here" in sentence
    assert rest == ""


def test_no_such_file():
    assert refusal("nowhere.py") == (
        "application 'nowhere.py' cannot be loaded: no such file: nowhere.py",
        "",
    )


@pytest.mark.parametrize("spec", ["nowhere.wsgi", "nowhere.wsgi:app", "dir.wsgi"])
def test_what_may_be_a_file_or_a_module_is_neither(place, spec):
    (place / "dir.wsgi").mkdir()
    sentence, rest = refusal(spec)
    assert "there is no file or module" in sentence
    assert rest == ""


def test_file_goes_before_a_module_of_that_name(place):
    write(place / "site.wsgi", "application")
    write(place / "site" / "wsgi.py", "app")
    assert called(load_application("site.wsgi")) == "application"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("import something_that_is_missing", "ModuleNotFoundError"),
        ("open('missing.ini')", "FileNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import sys; sys.exit('no settings')", "SystemExit"),
    ],
)
@pytest.mark.parametrize("spec", ["broken", "broken.py"])
def test_import_that_raises(place, line, kind, spec):
    write(place / "broken.py", "app", more=line + "\n")
    sentence, rest = refusal(spec)
    assert sentence.startswith(f"application '{spec}' cannot be loaded: its import raised {kind}")
    assert rest.startswith("Traceback (most recent call last):")
    assert "broken.py" in rest
    assert "broken" not in sys.modules


def test_import_that_was_mended_is_tried_again(place):
    path = write(place / "mended.py", more="1 / 0\n")
    refusal("mended.py")
    write(path, "app")
    path.touch()
    os.utime(path, (1, 1))  # the compiled file is recognised by the time
    assert called(load_application("mended.py")) == "app"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("site_six", "neither a callable 'application' nor 'app'; name one: site_six:NAME"),
        ("site_six:missing", "has no 'missing'"),
        ("site_six:thing.missing", "has no 'missing'"),
        ("site_six:thing", "thing is a int and cannot be called"),
        ("site_six:make()", "make() is a NoneType and cannot be called"),
        (":app", "names no module or file"),
        ("site_six:fail()", "its factory raised ValueError: what is missing"),
        ("site_six:leave()", "its factory raised SystemExit: 4"),
        ("site_six:thing()", "its factory raised TypeError"),
        ("", "cannot be loaded"),
        (".", "cannot be loaded"),
        (".relative", "cannot be loaded"),
        ("a b", "cannot be loaded"),
        ("nul\0l", "cannot be loaded"),
        ("nul\0l.py", "cannot be loaded"),
    ],
)
def test_what_is_no_application(place, spec, text):
    write(
        place / "site_six.py",
        more="thing = 3\ndef make(): return None\n"
        "def fail(): raise ValueError('what is missing')\n"
        "def leave(): raise SystemExit(4)\n",
    )
    assert text in refusal(spec)[0]


def test_script_that_serves_itself_is_told_apart(place):
    """The commonest slip: a CGI script without the check for __main__."""
    write(place / "app.cgi", "application", more="import portico\nportico.run(application)\n")
    sentence, _ = refusal("./app.cgi")
    assert "SystemExit" in sentence


# -- what the settings name ------------------------------------------------------------------

#: Says what it found in the environment when it was loaded, and what its request brings.
TELLING = """\
import os
seen = {name: os.environ.get(name) for name in ("A", "B", "C")}

def app(environ, start_response):
    start_response("200 OK", [])
    return [__name__, seen, environ]
"""


def ask(application, path="/", **more):
    return application({"SCRIPT_NAME": "", "PATH_INFO": path, **more}, lambda *_: None)


def test_one_application_is_what_is_loaded(place):
    write(place / "site_seven.py", "app")
    application = load(Settings(app="site_seven:app"))
    assert application is sys.modules["site_seven"].app


def test_environment_is_set_before_the_application_is_loaded(place):
    (place / "telling_one.py").write_text(TELLING)
    application = load(Settings(app="telling_one", environment={"A": "1", "B": "\u00e9"}))
    _, seen, environ = ask(application)
    assert seen == {"A": "1", "B": "\u00e9", "C": None}
    assert os.environ["A"] == "1"
    assert "A" not in environ


def test_mounts_are_all_loaded(place):
    for name in ("one", "two", "three"):
        (place / f"mounted_{name}.py").write_text(TELLING)
    application = load(
        Settings(
            app="mounted_three",
            mounts={"/a": "mounted_one", "example.org/b": "mounted_two.py"},
        )
    )
    assert ask(application, "/a/x")[0] == "mounted_one"
    assert ask(application, "/b", HTTP_HOST="example.org:80")[0] == "mounted_two"
    assert ask(application, "/b", HTTP_HOST="other.org")[0] == "mounted_three"
    environ = ask(application, "/a/x")[2]
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/a", "/x")


def test_each_mount_is_loaded_with_its_own_environment(place):
    for name in ("four", "five", "six"):
        (place / f"mounted_{name}.py").write_text(TELLING)
    os.environ["B"] = "before"
    application = load(
        Settings(
            app="mounted_six",
            environment={"A": "all"},
            mounts={
                "/4": {"app": "mounted_four", "environment": {"A": "four", "B": "four", "C": "x"}},
                "/5": {"app": "mounted_five", "environment": {"B": "five"}},
            },
        )
    )
    assert ask(application, "/4")[1] == {"A": "four", "B": "four", "C": "x"}
    assert ask(application, "/5")[1] == {"A": "all", "B": "five", "C": None}
    assert ask(application, "/6")[1] == {"A": "all", "B": "before", "C": None}
    assert {name: ask(application, "/4")[2].get(name) for name in "ABC"} == {
        "A": "four",
        "B": "four",
        "C": "x",
    }
    assert not {"A", "C"} & set(ask(application, "/5")[2])
    # A and B are disputed, so they are what they were; nobody disputes C
    assert (os.environ["A"], os.environ["B"], os.environ["C"]) == ("all", "before", "x")


def test_environment_of_mounts_that_agree_stays(place):
    for name in ("seven", "eight"):
        (place / f"mounted_{name}.py").write_text(TELLING)
    own = {"environment": {"A": "same"}}
    load(
        Settings(
            mounts={"/7": {"app": "mounted_seven", **own}, "/8": {"app": "mounted_eight", **own}}
        )
    )
    assert os.environ["A"] == "same"


def test_mount_that_cannot_be_loaded_is_named_and_leaves_the_environment(place):
    write(place / "broken_mount.py", more="1 / 0\n")
    mount = {"app": "broken_mount", "environment": {"A": "1"}}
    with pytest.raises(ConfigError) as caught:
        load(Settings(mounts={"example.org/shop": mount}))
    sentence, _, rest = str(caught.value).partition("\n")
    assert sentence.startswith("mount example.org/shop: application 'broken_mount' cannot be")
    assert rest.startswith("Traceback")
    assert caught.value.key == "mounts"
    assert "A" not in os.environ


def test_settings_that_name_nothing():
    with pytest.raises(ConfigError, match="no application is named: portico serve APP, or app"):
        load(Settings())


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"app": "site:app"}, "site:app"),
        ({"mounts": "/a=x"}, "x at /a"),
        ({"app": "y", "mounts": "/a=x h.org=z"}, "y, x at /a, z at h.org/"),
        ({"mounts": "/a=a /b=b /c=c /d=d /e=e"}, "a at /a, b at /b, c at /c and 2 more"),
    ],
)
def test_name_for_the_log(settings, name):
    assert name_of(Settings(**settings)) == name


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere.py", "there is no such file"),
        ("deep/nowhere.wsgi:app", "there is no such file"),
        (".", ""),
        (":app", "names no module or file"),
        ("nul\0l.py", "there is no such file"),
        ("here.py:app", ""),
        ("nowhere.wsgi", ""),
        ("no_such_module:app", ""),
    ],
)
def test_missing_files_are_told_without_loading(place, spec, words):
    write(place / "here.py", more="1 / 0\n")
    fault = missing_file(spec)
    assert words in fault
    assert bool(words) == bool(fault)
