"""Where values come from: precedence, sources, refusals that name them."""

from __future__ import annotations

import argparse

import pytest

from portico.config.resolve import (
    add_arguments,
    environment_name,
    flag_of,
    from_keywords,
    gather,
    resolve,
    show,
)
from portico.config.settings import OPTIONS, Settings
from portico.errors import ConfigError


def arguments(*words, positional=False):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_arguments(parser, positional=positional)
    return parser.parse_args(words)


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file; gives its path."""

    def write(text):
        path = tmp_path / "portico.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_nothing_said_gives_the_defaults():
    settings, sources = resolve(arguments(), {})
    assert settings == Settings()
    assert sources == dict.fromkeys(OPTIONS, "default")


def test_the_nearer_source_wins(file):
    path = file("threads: 2\nmax_params: 20\nhead_timeout: 3\n")
    environ = {"PORTICO_THREADS": "4", "PORTICO_MAX_PARAMS": "40"}
    settings, sources = resolve(arguments("--threads", "8"), environ, path)
    assert (settings.threads, settings.max_params, settings.head_timeout) == (8, 40, 3.0)
    assert sources["threads"] == "command line, --threads"
    assert sources["max_params"] == "environment variable PORTICO_MAX_PARAMS"
    assert sources["head_timeout"] == f"{path} line 3"
    assert sources["mount"] == "default"


@pytest.mark.parametrize("name", list(OPTIONS))
def test_every_option_has_a_flag_a_variable_and_a_key(name, file):
    option = OPTIONS[name]
    value = {
        "bind": "scgi://127.0.0.1:4000",
        "mount": "/app",
        "disable_repairs": "some-name",
        "ajp_attributes": "SSL_CLIENT_S_DN",
        "health": "/health",
        "max_params_bytes": "7777",
        "app": "shop:app",
        "mounts": "/shop=shop:app",
        "environment": "TZ=UTC",
    }.get(name, "yes" if option.kind == "bool" else "77")
    if option.choices:
        value = option.choices[-1]
    if name == "max_params":
        value = "77"
    words = [flag_of(option)] if option.kind == "bool" else [flag_of(option), value]
    by_flag, _ = resolve(arguments(*words), {})
    by_variable, _ = resolve(arguments(), {environment_name(option): value})
    written = f"{{{value.replace('=', ': ')}}}" if option.is_mapping else value
    by_key, _ = resolve(arguments(), {}, file(f"{name}: {written}\n"))
    assert by_flag == by_variable == by_key
    assert by_flag != Settings()


def test_names_are_derived():
    assert flag_of(OPTIONS["head_timeout"]) == "--head-timeout"
    assert flag_of(OPTIONS["disable_repairs"]) == "--disable-repair"
    assert environment_name(OPTIONS["head_timeout"]) == "PORTICO_HEAD_TIMEOUT"


def test_repeated_flags_add_up_and_replace_the_file(file):
    path = file("bind: [scgi://127.0.0.1:1, scgi://127.0.0.1:2]\n")
    settings, _ = resolve(arguments(), {}, path)
    assert settings.bind == ("scgi://127.0.0.1:1", "scgi://127.0.0.1:2")
    given = arguments("--bind", "scgi://127.0.0.1:3", "--bind", "scgi://127.0.0.1:4")
    settings, _ = resolve(given, {}, path)
    assert settings.bind == ("scgi://127.0.0.1:3", "scgi://127.0.0.1:4")


def test_a_switch_can_be_turned_off_again():
    settings, sources = resolve(arguments("--no-debug"), {"PORTICO_DEBUG": "1"})
    assert settings.debug is False
    assert sources["debug"] == "command line, --debug"


def test_foreign_and_empty_variables_are_passed_over():
    """Kubernetes sets PORTICO_PORT and more for a service called portico."""
    environ = {
        "PORTICO_PORT": "tcp://10.0.0.1:80",
        "PORTICO_SERVICE_HOST": "10.0.0.1",
        "PORTICO_THREADS": "",
        "THREADS": "3",
    }
    settings, sources = resolve(arguments(), environ)
    assert settings == Settings()
    assert set(sources.values()) == {"default"}


def test_other_arguments_are_passed_over():
    settings, _ = resolve(argparse.Namespace(server="nginx", config=None, threads="3"), {})
    assert settings.threads == 3


def test_application_by_itself_wins(file):
    path = file("app: one\n")
    environ = {"PORTICO_APP": "two"}
    given = arguments("three", positional=True)
    settings, sources = resolve(given, environ, path)
    assert (settings.app, sources["app"]) == ("three", "command line, APP")
    settings, sources = resolve(arguments(positional=True), environ, path)
    assert (settings.app, sources["app"]) == ("two", "environment variable PORTICO_APP")
    settings, sources = resolve(arguments(positional=True), {}, path)
    assert (settings.app, sources["app"]) == ("one", f"{path} line 1")


def test_application_by_itself_has_no_flag():
    def flags(**options):
        parser = argparse.ArgumentParser()
        add_arguments(parser, **options)
        return parser.format_help().split()

    assert "--app" in flags()
    assert "--app" not in flags(positional=True)


def test_mappings_are_replaced_whole(file):
    path = file("environment: {A: 1, B: 2}\nmounts: {/a: a, /b: b}\n")
    given = arguments(
        "--environment", "C=3", "--environment", "D=x=y", "--app-at", "h.org/c=c.py:app"
    )
    settings, _ = resolve(given, {"PORTICO_ENVIRONMENT": "E=5"}, path)
    assert settings.environment == (("C", "3"), ("D", "x=y"))
    (mount,) = settings.mounts
    assert (mount.host, mount.prefix, mount.app) == ("h.org", "/c", "c.py:app")


NESTED = """\
threads: 0
mounts:
  /shop: shop
  /shop/:
    app: other
    environ: {A: b}

  example.org:81: third
  /blog:
    environment:
      TITLE: yes
      PATH_INFO: /
environment:
  OK: fine
  NO GOOD: x
thread: 1
"""


def test_all_mistakes_are_gathered_with_their_lines(file):
    path = file(NESTED)
    reading = gather(arguments("--head-timeout", "x"), {"PORTICO_DEBUG": "perhaps"}, path)
    found = [(mistake.key, mistake.source.rpartition("line ")[2]) for mistake in reading.mistakes]
    assert found == [
        ("thread", "16"),
        ("threads", "1"),
        ("mounts", "6"),
        ("mounts", "4"),
        ("mounts", "8"),
        ("mounts", "9"),
        ("mounts", "11"),
        ("mounts", "12"),
        ("environment", "15"),
        ("debug", "environment variable PORTICO_DEBUG"),
        ("head_timeout", "command line, --head-timeout"),
    ]
    assert "did you mean environment?" in str(reading.mistakes[2])
    assert "'/blog' has no app" in str(reading.mistakes[5])
    assert not {"threads", "mounts", "environment", "debug"} & set(reading.values)


def test_what_is_right_is_gathered_beside_mistakes(file):
    reading = gather(arguments(), {}, file("threads: 0\nworkers: 3\n"))
    assert reading.values == {"workers": 3}
    assert len(reading.mistakes) == 1


@pytest.mark.parametrize("name", ["app", "mounts", "environment"])
def test_keywords_that_are_for_the_command_alone(name):
    with pytest.raises(ConfigError, match=f"{name} is for the command alone: here "):
        from_keywords({name: ()})


def test_unknown_key_is_refused_with_line_and_neighbour(file):
    path = file("threads: 2\n\nhead_timout: 3\n")
    with pytest.raises(ConfigError, match=r"did you mean head_timeout\?") as caught:
        resolve(arguments(), {}, path)
    assert str(caught.value).startswith(f"{path} line 3: there is no setting 'head_timout'")
    assert (caught.value.key, caught.value.source) == ("head_timout", f"{path} line 3")


@pytest.mark.parametrize(
    ("words", "environ", "text", "source"),
    [
        (["--threads", "0"], {}, "", "command line, --threads"),
        ([], {"PORTICO_THREADS": "x"}, "", "environment variable PORTICO_THREADS"),
        ([], {}, "debug: no\nthreads: {}\n", "line 2"),
    ],
)
def test_refusal_names_its_source(words, environ, text, source, file):
    path = file(text) if text else None
    with pytest.raises(ConfigError, match="must be a whole number of threads from 1") as caught:
        resolve(arguments(*words), environ, path)
    assert source in str(caught.value)
    assert source in caught.value.source
    assert caught.value.key == "threads"


def test_bad_value_is_refused_even_where_another_wins():
    with pytest.raises(ConfigError, match="PORTICO_THREADS"):
        resolve(arguments("--threads", "4"), {"PORTICO_THREADS": "x"})


def test_keywords_make_settings():
    settings = from_keywords({"bind": ("scgi://127.0.0.1:1",), "threads": 4})
    assert settings == Settings(bind=("scgi://127.0.0.1:1",), threads=4)


def test_unknown_keyword_is_refused():
    with pytest.raises(ConfigError, match=r"no setting 'thread'; did you mean threads\?"):
        from_keywords({"thread": 4})


def test_help_names_default_and_unit():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = " ".join(parser.format_help().split())
    assert "--head-timeout SECONDS" in text
    assert "Default: 10 seconds." in text
    assert "--debug, --no-debug" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (False, "no"), (10.0, "10"), (0.5, "0.5"), (None, ""), (("a", "b"), "[a, b]")],
)
def test_values_are_written(value, text):
    assert show(value) == text
