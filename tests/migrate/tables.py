"""What docs/reference/migrate.md and docs/howto/moving-from-uwsgi.md have of the code."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from unittest import mock

from migrate.site import INI
from portico.cli import main
from portico.migrate import wfastcgi
from portico.migrate.gunicorn_settings import SETTINGS
from portico.migrate.launchers import LAUNCHERS
from portico.migrate.model import LEFT
from portico.migrate.uwsgi_options import OPTIONS, PREFIXES

#: Where the site of the how-to lives.
HOME = "/srv/columns"


def _rows(table, head):
    """Rows of a table, those together that share their words."""
    found = {}
    for name, rule in table.items():
        found.setdefault((rule.outcome, rule.text), []).append(name)
    lines = [f"| {head} | | what becomes of it |", "|---|---|---|"]
    for (outcome, text), names in found.items():
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {shown} | {outcome} | {(text or '').replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def uwsgi_table():
    beginnings = {f"{name}...": rule for name, rule in PREFIXES.items()}
    return _rows(OPTIONS | beginnings, "option")


def gunicorn_table():
    return _rows(SETTINGS, "setting")


def wfastcgi_table():
    elements = {f"<{name}>": _Words(LEFT, text) for name, text in wfastcgi.ELEMENTS.items()}
    table = {
        **wfastcgi.SETTINGS,
        **{f"fastCgi {name}": rule for name, rule in wfastcgi.FASTCGI.items()},
        **{f"httpPlatform {name}": rule for name, rule in wfastcgi.HTTP_PLATFORM.items()},
        **elements,
    }
    return _rows(table, "entry")


class _Words:
    """An outcome and a text, as a rule has them."""

    def __init__(self, outcome, text):
        self.outcome = outcome
        self.text = text


def launchers_table():
    lines = ["| call | speaks | listens unless told | threads unless told |", "|---|---|---|---|"]
    for name, launcher in LAUNCHERS.items():
        where = f"`{launcher.starts}`" if launcher.starts else "the web server starts it"
        threads = launcher.threads or "16, Portico's own"
        speaks = launcher.protocol.replace("http", "HTTP").replace("fastcgi", "FastCGI")
        lines.append(f"| `{name}` | {speaks} | {where} | {threads} |")
    return "\n".join(lines) + "\n"


def arguments_table():
    table = {}
    for launcher in LAUNCHERS.values():
        table |= {name: launcher.arguments[name] for name in launcher.arguments}
    return _rows(table, "argument")


def howto_options():
    return f"```ini\n{INI.format(home=HOME)}```\n"


def howto_report():
    """What the how-to's command prints, on a machine that has its directories."""
    return f"```text\n{_howto()[0]}```\n"


def howto_file():
    """The settings of the file that it writes."""
    _, text = _howto()
    return f"```yaml\n{text.partition(chr(10) * 2)[2]}```\n"


def _howto():
    out = io.StringIO()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            Path("columns.ini").write_text(INI.format(home=HOME), "utf-8")
            with (
                mock.patch("portico.config.examine.mistakes", return_value=[]),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                assert main(["migrate", "columns.ini", "-o", "portico.yaml"]) == 0
            text = Path("portico.yaml").read_text("utf-8")
        finally:
            os.chdir(before)
        real = os.path.realpath(directory)
        return [made.replace(real, HOME) for made in (out.getvalue(), text)]


TABLES = {
    "migrate_uwsgi": uwsgi_table,
    "migrate_gunicorn": gunicorn_table,
    "migrate_wfastcgi": wfastcgi_table,
    "migrate_launchers": launchers_table,
    "migrate_arguments": arguments_table,
    "migrate_howto_options": howto_options,
    "migrate_howto_report": howto_report,
    "migrate_howto_file": howto_file,
}
