"""What is wrong with settings on this machine, found before anything is opened or loaded."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from portico.config.examine import binds, mistakes
from portico.config.settings import Settings
from portico.errors import ConfigError


def found(**settings):
    return [(mistake.key, str(mistake)) for mistake in mistakes(Settings(**settings))]


def test_defaults_have_no_mistakes():
    assert found() == []


def test_what_is_there_has_no_mistakes(tmp_path):
    (tmp_path / "site.py").write_text("1 / 0  # is not loaded\n")
    (tmp_path / "secret").write_text("word\n")
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    assert (
        found(
            bind=[
                f"fastcgi+unix://{tmp_path}/app.sock?user={user}&group={group}&allow_uid=0",
                f"ajp://127.0.0.1:8009?secret_file={tmp_path}/secret",
                "auto+fd://0",
                "scgi://0.0.0.0:4000?allow=10.0.0.1",
            ],
            app=f"{tmp_path}/site.py:app",
            mounts={"/a": "some.module", "h.org/": f"{tmp_path}/site.py"},
            user=user,
            group=str(os.getgid()),
            disable_repairs=["iis-wildcard"],
            pid_file=f"{tmp_path}/pid",
            status_socket=f"{tmp_path}/status",
            log_file=f"{tmp_path}/log",
            access_log="-",
        )
        == []
    )


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"bind": "http://127.0.0.1:1"}, "bind", "only fastcgi, fcgi, scgi, ajp, uwsgi, auto"),
        ({"bind": "fcg://127.0.0.1:1"}, "bind", "no protocol 'fcg' can be served"),
        ({"bind": "scgi://0.0.0.0:1"}, "bind", "add allow="),
        ({"bind": "ajp://127.0.0.1:1?secret_file=/nowhere/x"}, "bind", "cannot be read"),
        ({"bind": "scgi+unix:///nowhere/a"}, "bind", "there is no directory /nowhere"),
        ({"bind": "scgi+unix:///usr/bin"}, "bind", "/usr/bin is a directory"),
        ({"bind": "scgi+unix:///run/a?user=no-one-here"}, "bind", "there is no user"),
        ({"bind": "scgi+unix:///run/a?group=no-one-here"}, "bind", "there is no group"),
        ({"bind": "scgi+unix:///run/a?allow_uid=0,no-one-here"}, "bind", "there is no user"),
        (
            {"app": "/nowhere/site.py"},
            "app",
            "application '/nowhere/site.py': there is no such file",
        ),
        ({"mounts": "/a=/nowhere/site.wsgi:app"}, "mounts", "mount /a: application"),
        ({"app": "site", "mounts": "/=other"}, "mounts", "the mount / takes all"),
        ({"user": "no-one-here"}, "user", "there is no user 'no-one-here'"),
        ({"group": "no-one-here"}, "group", "there is no group 'no-one-here'"),
        (
            {"disable_repairs": "iis-wildcrd"},
            "disable_repairs",
            "there is no repair 'iis-wildcrd'; did you mean iis-wildcard?",
        ),
        ({"pid_file": "/nowhere/x"}, "pid_file", "pid_file /nowhere/x: there is no directory"),
        ({"status_socket": "/nowhere/x"}, "status_socket", "there is no directory /nowhere"),
        ({"log_file": "/usr"}, "log_file", "/usr is a directory"),
        ({"access_log": "/nowhere/x"}, "access_log", "there is no directory /nowhere"),
        ({"log_file": "a\0b"}, "log_file", "no path of a file"),
    ],
)
def test_mistake_is_found(settings, key, words):
    ((where, sentence),) = found(**settings)
    assert where == key
    assert words in sentence


def test_all_mistakes_are_found():
    assert [key for key, _ in found(
        bind=["http://127.0.0.1:1", "scgi+unix:///nowhere/a?user=no-one-here"],
        app="nowhere.py",
        user="no-one-here",
        log_file="/nowhere/x",
    )] == ["bind", "bind", "bind", "app", "user", "log_file"]  # fmt: skip


def test_root_of_one_host_leaves_the_rest_to_the_application():
    assert found(app="site", mounts="example.org=other") == []


def test_secrets_are_not_shown():
    ((_, sentence),) = found(bind="ajp://0.0.0.0:1?secret=hunter2")
    assert "hunter2" not in sentence


def test_binds_are_parsed_in_order():
    parsed = binds(Settings(bind="scgi://127.0.0.1:1 auto://127.0.0.1:2"))
    assert [(bind.protocol, bind.port) for bind in parsed] == [("scgi", 1), ("auto", 2)]


@pytest.mark.parametrize(
    ("bind", "words"),
    [((), "nothing to listen on; add --bind"), ("http://127.0.0.1:1", "portico up")],
)
def test_binds_that_cannot_be(bind, words):
    with pytest.raises(ConfigError, match=words) as caught:
        binds(Settings(bind=bind))
    assert caught.value.key == "bind"
