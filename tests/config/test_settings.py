"""Settings: their bounds, and what a refusal says."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.config.settings import OPTIONS, Settings
from portico.errors import ConfigError
from portico.limits import Limits

NUMBERS = [option for option in OPTIONS.values() if option.kind in {"int", "float"}]


def test_defaults_need_nothing():
    settings = Settings()
    assert settings.threads == 16
    assert settings.bind == ()
    assert settings.mount is None


def test_every_field_is_an_option_with_prose():
    assert list(OPTIONS) == [field.name for field in fields(Settings)]
    for option in OPTIONS.values():
        assert option.doc.endswith(".")
        assert option.section


def test_limits_and_settings_agree():
    settings, limits = Settings(), Limits()
    assert settings.max_params_bytes == limits.max_params_bytes
    assert settings.max_params == limits.max_params


def test_settings_cannot_be_changed():
    settings = Settings()
    with pytest.raises(FrozenInstanceError):
        settings.threads = 1
    assert settings.threads == 16


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_bounds_are_inclusive_and_named(option):
    assert option.unit
    for bound, beyond in ((option.least, -1), (option.most, 1)):
        assert option.read(bound if option.kind == "float" else int(bound)) == bound
        with pytest.raises(ConfigError) as caught:
            option.read(str(int(bound) + beyond * 2), "the test")
        text = str(caught.value)
        assert text.startswith(f"{option.name} is '")
        assert f"{option.least:_} to {option.most:_}" in text
        assert text.endswith("(the test)")
        assert (caught.value.key, caught.value.source) == (option.name, "the test")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("threads", "8", 8),
        ("threads", 8, 8),
        ("max_params_bytes", "1_000_000", 1_000_000),
        ("head_timeout", "0.5", 0.5),
        ("head_timeout", 5, 5.0),
        ("debug", "Yes", True),
        ("debug", "off", False),
        ("debug", True, True),
        ("mount", "/app", "/app"),
        ("mount", "/", "/"),
        ("mount", None, None),
        ("log_level", "debug", "debug"),
        ("disable_repairs", "a  b\nc", ("a", "b", "c")),
        ("disable_repairs", ["a"], ("a",)),
        ("disable_repairs", [], ()),
        (
            "bind",
            "scgi://127.0.0.1:1 scgi://127.0.0.1:2",
            ("scgi://127.0.0.1:1", "scgi://127.0.0.1:2"),
        ),
    ],
)
def test_value_is_converted(name, value, expected):
    converted = OPTIONS[name].read(value)
    assert converted == expected
    assert type(converted) is type(expected)
    assert getattr(Settings(**{name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("threads", "many", "threads is 'many', must be a whole number of threads"),
        ("threads", 1.5, "threads is 1.5"),
        ("threads", True, "threads is True"),
        ("threads", None, "threads is a NoneType"),
        ("threads", "9" * 5000, "999...', must be"),
        ("head_timeout", "nan", "head_timeout is 'nan', must be a number of seconds"),
        ("head_timeout", "inf", "head_timeout is 'inf'"),
        ("head_timeout", False, "head_timeout is False"),
        pytest.param("head_timeout", 10**5000, "is a number out of all bounds", id="huge-float"),
        pytest.param("threads", 10**5000, "is a number out of all bounds", id="huge-int"),
        ("debug", "perhaps", "debug is 'perhaps', must be yes or no"),
        ("debug", 1, "debug is 1"),
        ("mount", "app", "mount: 'app' does not begin with a slash"),
        ("mount", "", "mount: '' does not begin with a slash"),
        ("mount", "/a//b", "mount: '/a//b' is no plain path"),
        ("mount", "/a?b", "is no plain path"),
        ("mount", 7, "mount is 7, must be a text"),
        ("log_level", "loud", "log_level is 'loud', must be one of debug, info, warning, error"),
        ("disable_repairs", 7, "disable_repairs is 7, must be a list of texts"),
        ("disable_repairs", [7], "disable_repairs is a list, must be a list of texts"),
        ("bind", "scgi://127.0.0.1", "bind URL 'scgi://127.0.0.1' has no port"),
    ],
)
def test_refusal_says_what_is_accepted(name, value, words):
    with pytest.raises(ConfigError) as caught:
        Settings(**{name: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.key == name


@given(
    st.sampled_from(list(OPTIONS)),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.lists(st.text(max_size=8), max_size=3),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    ),
)
def test_any_value_is_taken_or_refused(name, value):
    try:
        settings = Settings(**{name: value})
    except ConfigError:
        return
    assert Settings(**{name: getattr(settings, name)}) == settings


def test_secrets_are_not_shown():
    environment = {"KEY": "hunter2"}
    settings = Settings(
        bind="ajp://127.0.0.1:8009?secret=hunter2",
        environment=environment,
        mounts={"/a": {"app": "a", "environment": environment}},
    )
    assert "hunter2" not in repr(settings)
    for value in (["hunter2"], "KEY=a hunter2", {"KEY": ["hunter2"]}, {"A": "hunter2\0"}):
        with pytest.raises(ConfigError) as caught:
            Settings(environment=value)
        assert "hunter2" not in str(caught.value)
    for bad in (
        {"url": "ajp://127.0.0.1:1?secret=hunter2"},
        [{"ajp://127.0.0.1:1?secret=hunter2": None}],
        ["ajp://127.0.0.1?secret=hunter2"],
    ):
        with pytest.raises(ConfigError) as caught:
            Settings(bind=bad)
        assert "hunter2" not in str(caught.value)
