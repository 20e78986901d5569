"""A host as `portico init` meets it: Apache with AllowOverride All, and a virtual environment."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import portico
from cli_harness import eventually, free_port
from portico.servers import account, apache, launch

WAIT = 20

#: Shows what it gets; knows `/stop` and `/post`.
SITE = """\
import json

def application(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {name: value for name, value in environ.items() if isinstance(value, str)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**seen, "body": body.decode()}).encode()]
"""

#: What a host's Apache loads for CGI; each can be left out.
MODULES = ("authz_core", "unixd", "mime", "dir", "alias", "cgid", "setenvif", "rewrite", "env")

_CONFIG = """\
ServerRoot "{directory}"
DefaultRuntimeDir "{directory}"
PidFile "{directory}/httpd.pid"
ErrorLog "{directory}/error.log"
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
StartServers 1
<IfModule mime_module>
    TypesConfig /dev/null
    AddType text/css .css
</IfModule>
{user}
<IfModule cgid_module>
    ScriptSock "{directory}/cgid"
</IfModule>
<IfModule fcgid_module>
    FcgidIPCDir "{directory}/fcgid"
    FcgidProcessTableFile "{directory}/fcgid_table"
    FcgidProcessLifeTime 60
</IfModule>
DocumentRoot "{root}"
<Directory />
    AllowOverride None
    Require all denied
</Directory>
<Directory "{root}">
    AllowOverride All
    Options {options}
    Require all granted
</Directory>
"""


def make_venv(directory):
    """A virtual environment with Portico that any account may use; gives its directory."""
    home = directory / "venv"
    subprocess.run(
        [base_interpreter(), "-m", "venv", "--without-pip", home], check=True, timeout=WAIT * 3
    )
    (packages,) = home.glob("lib/python*/site-packages")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(portico.__file__).parent, packages / "portico", ignore=ignored)
    return home


def base_interpreter():
    """An interpreter that is not of the tests' environment, and that Apache's account may run."""
    who = account.unprivileged()
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        path = Path(name).resolve()
        parents = [place for place in path.parents if place.is_dir()]
        if path.exists() and (who is None or all(account.may(who, p, 1) for p in parents)):
            return str(path)
    raise AssertionError("no Python interpreter that Apache's account may run")


@contextmanager
def host(root, *modules, options="FollowSymLinks"):
    """Apache over *root*, with these modules and Options; gives its port."""
    directory = Path(tempfile.mkdtemp(prefix="portico-"))
    directory.chmod(0o711)
    binary = launch.find_binary("apache")
    (found,) = [p for p in launch._apache_modules(binary) if (p / "mod_authz_core.so").is_file()][
        :1
    ]
    (directory / "modules").symlink_to(found)
    who = account.unprivileged()
    mpm = "mpm_prefork" if "cgi" in modules else "mpm_event"
    port = free_port()
    text = _CONFIG.format(
        directory=directory,
        root=root,
        options=options,
        port=port,
        user=f"User {who.user}\nGroup {who.group}" if who else "",
        modules="\n".join(line for name in (mpm, *modules) for line in apache._load_one(name)),
    )
    (directory / "httpd.conf").write_text(text)
    with (directory / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [binary, "-d", directory, "-f", directory / "httpd.conf", "-DFOREGROUND"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        eventually(lambda: _is_up(process, directory, port, modules), "Apache's start")
        yield port
    finally:
        launch._end(process, signal.SIGTERM, 5.0)
        shutil.rmtree(directory)


def _is_up(process, directory, port, modules):
    assert process.poll() is None, launch._words_of(directory)
    ready = "cgid" not in modules or any(path.is_socket() for path in directory.glob("cgid*"))
    return ready and launch._answers("127.0.0.1", port)


def fetch(port, path, method="GET", body=None, **headers):
    """Send a request; gives status, headers and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)) as connection:
        connection.request(method, path, body, {"Host": "localhost", **headers})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def portico_command(venv, *words, cwd, user=None, **environ):
    """Run `portico` of the virtual environment, as *user* where root does; gives what became."""
    return subprocess.run(
        [venv / "bin" / "python", "-m", "portico", *map(str, words)],
        cwd=cwd,
        env={"PATH": os.defpath, **environ},
        capture_output=True,
        text=True,
        timeout=WAIT * 3,
        check=False,
        user=user if os.geteuid() == 0 else None,
    )
