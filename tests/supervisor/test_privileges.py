"""Taking on an account: in processes of their own, as root and as an ordinary user."""

import grp
import json
import logging
import os
import pwd
import subprocess
import sys

import pytest

from engine_harness import WAIT
from portico.errors import ConfigError
from portico.supervisor.privileges import Account, find_account, warn_if_root

IS_ROOT = os.geteuid() == 0

#: Looks an account up, becomes it, and says what it is then.
BECOME = """
import json, os, sys
from portico.errors import PorticoError
from portico.supervisor.privileges import find_account
first, user, group = json.loads(sys.argv[1])
if first:
    os.setgroups([])
    os.setgid(first)
    os.setuid(first)
try:
    account = find_account(user, group)
    account.become()
except PorticoError as error:
    print(json.dumps({"refused": type(error).__name__ + ": " + str(error)}))
    sys.exit()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
groups = sorted(os.getgroups())
back = []
for become in (os.setuid, os.seteuid, os.setgid, os.setegid):
    try:
        become(0)
        back.append(become.__name__)
    except PermissionError:
        pass
try:
    os.setgroups([0])
    back.append("setgroups")
except PermissionError:
    pass
print(json.dumps({
    "uid": status["Uid"].split(), "gid": status["Gid"].split(),
    "groups": groups, "capabilities": int(status["CapEff"], 16), "back": back,
    "environ": [os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")],
}))
"""


def become(user, group=None, *, first=0):
    """What a process is once it has become somebody; *first* is whom it is before that."""
    done = subprocess.run(
        [sys.executable, "-c", BECOME, json.dumps([first if IS_ROOT else 0, user, group])],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    return json.loads(done.stdout)


def expected(entry, gid):
    return {
        "uid": [str(entry.pw_uid)] * 4,  # real, effective, saved, file system
        "gid": [str(gid)] * 4,
        "groups": sorted(os.getgrouplist(entry.pw_name, gid)),
        "capabilities": 0,
        "back": [],
        "environ": [entry.pw_dir, entry.pw_name, entry.pw_name],
    }


@pytest.mark.parametrize("user", ["nobody", "www-data"])
def test_worker_becomes_a_user_for_good(user):
    entry = pwd.getpwnam(user)
    found = become(user)
    if IS_ROOT:
        assert found == expected(entry, entry.pw_gid)
    else:
        assert f"ConfigError: only root can become user {user}" in found["refused"]


def test_user_and_group_by_number():
    entry = pwd.getpwnam("nobody")
    gid = grp.getgrnam("daemon").gr_gid
    found = become(str(entry.pw_uid), str(gid))
    if IS_ROOT:
        assert found == expected(entry, gid)
    else:
        assert "only root can become user nobody" in found["refused"]


def test_user_without_an_entry_needs_a_group():
    with pytest.raises(ConfigError, match=r"no entry .* add --group") as caught:
        find_account("54321", None)
    assert caught.value.key == "group"
    found = become("54321", "nogroup")
    if IS_ROOT:
        gid = grp.getgrnam("nogroup").gr_gid
        assert (found["uid"], found["gid"]) == (["54321"] * 4, [str(gid)] * 4)
        assert (found["groups"], found["back"]) == ([gid], [])
        assert found["environ"] == ["/", "54321", "54321"]
    else:
        assert "only root can become user 54321" in found["refused"]


def test_group_alone_leaves_the_user():
    gid = grp.getgrnam("nogroup").gr_gid
    found = become(None, "nogroup")
    if IS_ROOT:
        assert (found["uid"], found["gid"]) == (["0"] * 4, [str(gid)] * 4)
        assert found["groups"] == sorted(os.getgrouplist("root", gid))
    else:
        assert "only root can become group nogroup" in found["refused"]


def test_ordinary_user_can_only_be_itself():
    me = pwd.getpwnam("nobody").pw_uid if IS_ROOT else os.geteuid()
    found = become(str(me), first=me)
    assert found["uid"] == [str(me)] * 4
    assert found["environ"][1] in {str(me), *(entry.pw_name for entry in pwd.getpwall())}
    assert "only root can become user daemon" in become("daemon", first=me)["refused"]
    refused = become(str(me), "daemon", first=me)["refused"]
    assert "only root can become group daemon" in refused


def test_nothing_asked_for_changes_nothing():
    assert find_account(None, None) is None
    assert find_account("", "") is None


@pytest.mark.parametrize(
    ("user", "group", "sentence"),
    [
        ("www-dat", None, "there is no user 'www-dat' on this machine; did you mean www-data?"),
        (None, "www-dat", "there is no group 'www-dat' on this machine; did you mean www-data?"),
        ("Zqxj", None, "there is no user 'Zqxj' on this machine"),
        ("\udcff", None, "there is no user '\\udcff' on this machine"),
        ("99999999999", None, "there is no user '99999999999' on this machine"),
        ("4294967295", None, "there is no user '4294967295' on this machine"),
        ("-1", None, "there is no user '-1' on this machine"),
    ],
)
def test_unknown_names_are_refused(user, group, sentence):
    with pytest.raises(ConfigError) as caught:
        find_account(user, group)
    assert str(caught.value) == sentence
    assert caught.value.key == ("user" if user else "group")


#: The system says that it has changed the user, and has not.
STAYS = """
import os
from portico.supervisor import privileges
account = privileges.Account("x", "/", os.getuid() + 1, os.getgid(), tuple(os.getgroups()))
os.geteuid = lambda: 0
os.setuid = os.setgid = os.setgroups = lambda _: None
try:
    account.become()
except privileges.TransportError as error:
    print(error, os.environ.get("LOGNAME") == "x")
"""

#: The user is another, and root is kept as the saved user.
RETURNS = """
import os
from portico.supervisor import privileges
os.setuid = lambda uid: os.setresuid(uid, uid, 0)
os.setgid = lambda gid: os.setresgid(gid, gid, gid)
try:
    privileges.find_account("nobody", None).become()
except Exception as error:
    print(error, os.environ.get("LOGNAME") == "nobody")
"""


@pytest.mark.parametrize("script", [STAYS, RETURNS])
def test_privileges_that_stay_are_noticed(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=True
    )
    if IS_ROOT or script is STAYS:
        assert "privileges are left: this process would not be safe False" in done.stdout
    else:
        assert "only root can become user nobody" in done.stdout


#: As in a container without CAP_SETGID.
REFUSED = """
import os
from portico.supervisor import privileges
def refuse(_):
    raise PermissionError(1, "Operation not permitted")
os.geteuid = lambda: 0
os.setgroups = refuse
try:
    privileges.Account("x", "/", 1, 1, (1,)).become()
except privileges.TransportError as error:
    print(error, type(error.__cause__).__name__, os.getuid())
"""


def test_refusal_of_the_system_is_explained():
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert done.stdout == (
        "cannot become user x (uid 1, gid 1): Operation not permitted PermissionError"
        f" {os.getuid()}\n"
    )


@pytest.mark.parametrize(
    ("me", "account", "warned"),
    [
        (0, None, True),
        (0, Account("nobody", "/", 65534, 65534, ()), False),
        (0, Account("root", "/root", 0, 65534, ()), True),
        (1000, None, False),
    ],
)
def test_serving_as_root_is_one_warning(monkeypatch, caplog, me, account, warned):
    monkeypatch.setattr(os, "geteuid", lambda: me)
    warn_if_root(logging.getLogger("portico"), account)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    assert ("--user" in caplog.text) == warned
