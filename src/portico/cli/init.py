"""Write the files for a host that starts scripts, and try them: CGI, FastCGI or Passenger.

  portico init mysite.wsgi --directory ~/public_html        app.cgi and .htaccess
  portico init mysite.wsgi --kind fcgi --directory ~/public_html/blog --mount /blog
  portico init mysite.wsgi --kind passenger                 passenger_wsgi.py

The application is looked for in the working directory. Of an existing .htaccess only what Portico
wrote is replaced. What was written is then checked as `portico check SCRIPT` does. The exit status
is 0 where it serves, 2 where it does not or where nothing was written.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from portico.cli import _check_script
from portico.errors import ConfigError
from portico.loader import anchored
from portico.servers import hosting, kit
from portico.servers.hosting import Hosting
from portico.servers.scripts.examine import Sample, examine
from portico.servers.site import Site


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("app", metavar="APP", help="module:callable, module:factory() or a file")
    parser.add_argument(
        "--kind",
        choices=list(hosting.NAMES),
        default="cgi",
        help="what the host starts; default: cgi",
    )
    parser.add_argument(
        "--directory",
        default=".",
        metavar="DIR",
        help="where the host looks for the script, such as public_html; default: here",
    )
    parser.add_argument("--name", metavar="NAME", help="the script's; default: app.cgi or app.fcgi")
    parser.add_argument(
        "--mount",
        metavar="PREFIX",
        help="path of the site, such as /blog; the web server tells it by default",
    )
    parser.add_argument("--python", metavar="PATH", help="interpreter; the present one by default")
    parser.add_argument("--venv", metavar="DIR", help="virtual environment, instead of --python")
    parser.add_argument(
        "--static",
        action="append",
        default=[],
        metavar="URL=DIR",
        help="directory that the web server serves itself; may be repeated",
    )
    parser.add_argument(
        "--warm",
        action=argparse.BooleanOptionalAction,
        help="let a resident server answer, which the first request starts; default for cgi",
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite, and write what will not serve yet"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the files, write nothing")


def run(arguments: argparse.Namespace) -> int:
    """Write, try, and say what there is to do.

    Raises:
        ConfigError: nothing was written.
    """
    directory = Path(os.path.abspath(Path(arguments.directory).expanduser()))  # noqa: PTH100 - as typed, without ..
    kit.check_directory(directory)
    links = [
        _link(text, arguments.mount, directory, force=arguments.force) for text in arguments.static
    ]
    site = _site(arguments, directory, tuple(name for name, _ in links))
    files = kit.plan(site, directory)
    if arguments.dry_run:
        for file in files:
            print(f"# {file.path} (mode {file.mode:o})\n{file.text}")
        return 0
    if not arguments.force:
        _refuse(site, files, directory)
    for file in files:
        done = "wrote" if file.changes else "is there already:"
        kit.write(file)
        print(f"{done} {file.path}")
    for name, target in links:
        _make_link(directory / name, target)
    if site.kind != "passenger" and Path(site.directory).is_relative_to(directory):
        print(
            f"portico: note: {site.directory} lies where visitors look: what is not code there is"
            f" served to them; move it out of {directory}",
            file=sys.stderr,
        )
    return _try(files[0].path, site)


def _site(arguments: argparse.Namespace, directory: Path, static: tuple[str, ...]) -> Hosting:
    if arguments.python and arguments.venv:
        raise ConfigError("--python and --venv both name the interpreter: give one", key="python")
    program = arguments.python or sys.executable
    if arguments.venv:
        program = str(Path(arguments.venv).expanduser() / "bin" / "python")
    found = kit.find_interpreter(program)
    kind, mount = arguments.kind, arguments.mount
    if mount is not None:
        mount = Site(mount=mount.rstrip("/"), script="/x", via="cgi").mount  # checked there
    if kind == "passenger" and (arguments.warm or mount or arguments.static):
        raise ConfigError(
            "Passenger keeps the application running and knows where it is mounted: --warm, --mount"
            " and --static are for cgi and fcgi",
            key="kind",
        )
    warm = kind == "cgi" if arguments.warm is None else arguments.warm
    here = str(Path.cwd())
    return Hosting(
        kind=kind,
        app=anchored(arguments.app),
        directory=here,
        interpreter=found.program,
        prefix=os.path.realpath(found.prefix),
        name=arguments.name or hosting.NAMES[kind],
        path=(here,),
        mount=mount,
        options={"warm": True} if warm else {},
        static=static,
        closed=kit.closed_names(directory),
    )


def _refuse(site: Hosting, files: list[kit.File], directory: Path) -> None:
    """Refuse what would overwrite, or would not serve.

    Raises:
        ConfigError: says what, and that --force does it all the same.
    """
    script = files[0]
    if script.before is not None and script.changes:
        raise ConfigError(
            f"{script.path} is there and says something else: --force overwrites it", key="name"
        )
    sentence = "" if site.kind == "passenger" else kit.refusal(directory)
    if sentence:
        raise ConfigError(f"{sentence} (--force writes all the same)", key="directory")
    reason = kit.why_not_loaded(site)
    if reason:
        sentence, newline, below = reason.partition("\n")
        raise ConfigError(
            f"{sentence}; nothing was written (--force writes all the same){newline}{below}",
            key="app",
        )


def _link(text: str, mount: str | None, directory: Path, *, force: bool) -> tuple[str, Path]:
    """Read URL=DIR; gives the place below the script's directory, and what belongs there."""
    url, equals, target = text.partition("=")
    prefix = (mount or "").rstrip("/")
    name = url.removeprefix(prefix).strip("/")
    if not equals or not name or not target or not url.startswith(f"{prefix}/"):
        raise ConfigError(f"--static {text}: it has the form {prefix}/static=DIR", key="static")
    Site(mount=f"/{name}", script="/x", via="cgi")  # refuses what cannot stand in a configuration
    path = Path(target).expanduser().resolve()
    if not path.is_dir():
        raise ConfigError(f"--static {text}: there is no directory {path}", key="static")
    link = directory / name
    if not link.parent.is_dir():
        raise ConfigError(f"--static {text}: there is no directory {link.parent}", key="static")
    if link.exists() and not link.is_symlink() and link.resolve() != path:
        raise ConfigError(f"--static {text}: {link} is there and something else", key="static")
    if link.is_symlink() and link.resolve() != path and not force:
        raise ConfigError(
            f"{link} leads to {link.readlink()}: --force has it lead to {path}", key="static"
        )
    return name, path


def _make_link(link: Path, target: Path) -> None:
    if link.resolve() == target:
        return
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target)
    print(f"linked {link} to {target}")


def _try(script: Path, site: Hosting) -> int:
    """Check what was written; gives the exit status."""
    findings = examine(script, Sample(user=""))
    _check_script.show(findings)
    if any(finding.wrong for finding in findings):
        print(f"portico: {script} is written and does not serve yet", file=sys.stderr)
        return 2
    print(f"checked: it {'loads' if site.kind == 'passenger' else 'answers /'}")
    print(_NEXT[site.kind].format(script=script, name=site.name, mount=site.mount or ""))
    return 0


_NEXT = {
    "cgi": """
Next: open the site's address, {mount}/, in a browser. Where that is a 500, the host's error log
says which line of .htaccess it forbids; {mount}/{name}/ works without any rewriting. After changes:
portico check {script}""",
    "fcgi": """
Next: open the site's address, {mount}/, in a browser. Where that is a 500, the host's error log
says which line of .htaccess it forbids. After a change of the application, end its processes:
Portico finishes what they do, and the web server starts new ones. After changes here:
portico check {script}""",
    "passenger": """
Next: name this directory as the application's root in the host's panel, which writes the .htaccess;
then touch tmp/restart.txt, also after each change. After changes here:
portico check {script}""",
}
