"""Loads a file as Passenger does, in a process of its own: `application` is what counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portico.servers.scripts import interpreter
from portico.servers.scripts.answer import failure
from portico.servers.scripts.findings import Finding, found
from portico.servers.scripts.process import private_directory, run_bounded
from portico.servers.scripts.trial import about_module

if TYPE_CHECKING:
    from portico.servers.scripts.trial import Trial

#: In a file, since a `passenger_wsgi.py` may start it again with another Python, by sys.argv.
_LOADER = """\
import importlib.machinery, importlib.util, os, sys
path = sys.argv[1]
sys.path[0] = os.path.dirname(path)
loader = importlib.machinery.SourceFileLoader("passenger_wsgi", path)
spec = importlib.util.spec_from_file_location("passenger_wsgi", path, loader=loader)
module = importlib.util.module_from_spec(spec)
sys.modules["passenger_wsgi"] = module
loader.exec_module(module)
names = [name for name in sys.argv[2:] if callable(getattr(module, name, None))]
os.write(1, ("\\0" + " ".join(names)).encode())
os._exit(0)
"""


def try_to_load(trial: Trial, *names: str) -> list[Finding]:
    """Load the file; one of *names* has to be a callable in it.

    Raises:
        ConfigError: the system does not start the interpreter.
    """
    with private_directory() as directory:
        loader = Path(directory) / "loader.py"
        loader.write_text(_LOADER, "utf-8")
        if trial.account is not None:
            Path(directory).chmod(0o755)
            loader.chmod(0o644)
        ended = run_bounded(
            [trial.program, str(loader), str(trial.path), *names],
            directory=trial.path.parent,
            environ={**interpreter.bare_environ(), **trial.extra},
            seconds=trial.seconds,
            account=trial.account,
        )
    _, mark, text = ended.out.rpartition(b"\0")
    if ended.hung:
        return [found("hangs", seconds=trial.seconds, detail=ended.words)]
    if mark and text.strip():
        return []
    if mark:
        return [found("no-application", path=trial.path)]
    fault = about_module(trial, ended.words)
    ends = found("no-output", status=ended.status, detail=ended.words)
    return [fault or failure(ended.words, ends)]
