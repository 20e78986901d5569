"""The generated page: up to date, complete; the sample file loads."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from portico.config import document
from portico.config.resolve import environment_name, flag_of, resolve
from portico.config.settings import OPTIONS, Settings

COMMITTED = Path(__file__).parents[2] / document.PAGE


def test_committed_page_is_up_to_date():
    """Otherwise: python -m portico.config.document."""
    assert COMMITTED.read_text(encoding="utf-8") == document.page()


@pytest.mark.parametrize("name", list(OPTIONS))
def test_page_tells_all_about_each_option(name):
    _, _, after = document.page().partition(f"### {name}\n")
    entry = after.partition("\n#")[0]
    option = OPTIONS[name]
    assert f"`{flag_of(option)}" in entry
    assert f"`{environment_name(option)}`" in entry
    assert "- default: " in entry


def test_sample_file_says_what_the_defaults_are(tmp_path):
    file = tmp_path / "portico.yaml"
    file.write_text(document.sample())
    settings, sources = resolve(argparse.Namespace(), {}, str(file))
    assert settings == Settings()
    said = {name for name, source in sources.items() if source != "default"}
    assert said == {name for name, option in OPTIONS.items() if not option.example}


def test_examples_in_the_sample_file_are_accepted(tmp_path):
    """All at once: what stands right behind # is taken in, what stands behind a blank is prose."""
    file = tmp_path / "portico.yaml"
    file.write_text(re.sub(r"^#(?=\S|  )", "", document.sample(), flags=re.MULTILINE))
    settings, sources = resolve(argparse.Namespace(), {}, str(file))
    assert set(sources) == set(OPTIONS)
    assert "default" not in sources.values()
    assert settings.mount == "/app"
    assert settings.environment[1] == ("TZ", "UTC")
    wide = settings.mounts[-1]
    assert (wide.host, wide.prefix, wide.app) == ("*.example.org", "/blog", "/srv/blog/blog.wsgi")
    assert wide.environment == (("BLOG_TITLE", "Columns"),)


@pytest.mark.parametrize("name", ["mounts", "environment"])
def test_page_shows_mappings_by_example(name, tmp_path):
    _, _, after = document.page().partition(f"### {name}\n")
    block = after.partition("\n## ")[0].partition("```yaml\n")[2].partition("```")[0]
    file = tmp_path / "portico.yaml"
    file.write_text(block)
    settings, _ = resolve(argparse.Namespace(), {}, str(file))
    assert getattr(settings, name)


def test_command_rewrites_the_page(tmp_path):
    assert document.main([str(tmp_path / "options.md")]) == 0
    assert (tmp_path / "options.md").read_text(encoding="utf-8") == document.page()


def test_command_elsewhere_says_where_to_run_it(tmp_path, capsys):
    assert document.main([str(tmp_path / "none" / "options.md")]) == 2
    assert "project's directory" in capsys.readouterr().err
