"""From ``gunicorn.conf.py`` to a plan. The file is read by `ast`, and not run."""

from __future__ import annotations

import ast
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from portico.migrate.addresses import Sockets, carry_address
from portico.migrate.files import read as read_text
from portico.migrate.gunicorn_settings import SETTINGS, number
from portico.migrate.model import CARRIED, NEEDLESS, NO_WORD, UNKNOWN, Entry, Front, Plan, State
from portico.migrate.pythonsource import (
    ComputedError,
    Reader,
    imports_of,
    parse,
    set_variable,
    source_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where gunicorn listens if nobody says.
_DEFAULT_BIND = "127.0.0.1:8000"

#: Seconds after which it kills a sync worker if nobody says.
_DEFAULT_TIMEOUT = 30

_APP = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*(\(\))?)?")


def read(path: str) -> Plan:
    """Read a configuration of gunicorn's.

    Raises:
        ConfigError: it cannot be read, or is no Python.
    """
    tree = parse(read_text(path), path)
    state = State(Plan(source=path, kind="gunicorn"))
    _Walk(state, tree).take()
    finish(state)
    return state.finish()


def take_dictionary(state: State, options: ast.Dict, reader: Reader) -> None:
    """Take the settings that a script has in a dictionary."""
    source = state.plan.source
    names = [key.value if isinstance(key, ast.Constant) else "" for key in options.keys]
    for at, (name, value) in enumerate(zip(names, options.values, strict=True)):
        key = options.keys[at]
        line = value.lineno
        shown = "..." if name == "raw_env" else source_of(value)
        if not isinstance(name, str) or name not in SETTINGS:
            written = source_of(key) if key is not None else f"**{source_of(value)}"
            state.plan.note(Entry(written, shown, source, line), UNKNOWN, NO_WORD)
            continue
        if name in names[at + 1 :]:
            state.plan.note(Entry(name, shown, source, line), NEEDLESS, "it is set anew below")
            continue
        try:
            SETTINGS[name](state, Entry(name, shown, source, line, reader.value(value)))
        except ComputedError as error:
            entry = Entry(name, shown, source, line)
            state.plan.leave(entry, f"computed: decide by hand ({error})")


def finish(state: State) -> None:
    """Settle what has to be seen together."""
    _Ending(state).finish()


def has_settings(text: str, path: str) -> bool:
    """Whether a file of Python sets anything of gunicorn's.

    Raises:
        ConfigError: it is no Python.
    """
    return any(name in SETTINGS for name, _, _ in _assignments(parse(text, path).body))


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST, int]]:
    """Give each name that statements set at their own level, with what it is set to."""
    for node in body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value, node.lineno
                elif isinstance(target, (ast.Tuple, ast.List)):
                    yield from _unpacked(target, node)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and isinstance(node.target, ast.Name):
            value = node if isinstance(node, ast.AugAssign) else node.value
            if value is not None:
                yield node.target.id, value, node.lineno
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node, node.lineno
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], node, node.lineno


def _unpacked(target: ast.Tuple | ast.List, node: ast.Assign) -> Iterator[tuple[str, ast.AST, int]]:
    values: list[ast.AST] = [node.value] * len(target.elts)
    if isinstance(node.value, (ast.Tuple, ast.List)) and len(node.value.elts) == len(values):
        values = list(node.value.elts)
    for one, value in zip(target.elts, values, strict=True):
        if isinstance(one, ast.Name):
            yield one.id, value, node.lineno


class _Walk:
    """Goes through the statements, and says what becomes of each setting."""

    def __init__(self, state: State, tree: ast.Module) -> None:
        self.state = state
        self.plan = state.plan
        self.tree = tree
        self.reader = Reader(state.plan.source, imports_of(tree))
        self.helpers: dict[str, list[Entry]] = {}

    def take(self) -> None:
        entries = []
        for node in self.tree.body:
            found = list(_assignments([node]))
            for name, value, line in found:
                entries.append(self._read(name, value, line))
            if not found:
                self._statement(node)
        last = {entry.name: entry for entry in entries}
        for entry in entries:
            if entry.name in SETTINGS and last[entry.name] is not entry:
                line = last[entry.name].line
                self.plan.note(entry, NEEDLESS, f"line {line} sets it anew")
            elif entry.data is _TAKEN:
                continue
            elif entry.name in SETTINGS:
                self._apply(entry)
            elif not entry.name.startswith("_"):
                why = "no setting of gunicorn's"
                if entry.name in self.reader.used:
                    why = "its value stands where it is used"
                self.plan.note(entry, NEEDLESS, why)

    def _read(self, name: str, node: ast.AST, line: int) -> Entry:
        """Make the entry of one assignment; what is not written there is told at once."""
        source = self.plan.source
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self.reader.forget(name)
            return Entry(name, "a function", source, line, _FUNCTION)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.reader.forget(name)
            entry = Entry(name, "imported", source, line, _TAKEN)
            if name == "*":
                told = f"settings of {source_of(node)} are not seen: migrate that file as well"
                self.plan.leave(entry, told)
            elif name in SETTINGS:
                self.plan.leave(entry, f"computed: decide by hand ({source_of(node)})")
            return entry
        shown = source_of(node) if name in SETTINGS else ""  # others may be secret
        shown = "..." if name == "raw_env" else shown
        try:
            value = self.reader.define(name, node)
        except ComputedError as error:
            entry = Entry(name, shown, source, line, _TAKEN)
            if name in SETTINGS:
                self.plan.leave(entry, f"computed: decide by hand ({error})")
            else:
                self.plan.note(entry, NEEDLESS, "no setting of gunicorn's")
            return entry
        entry = Entry(name, shown, source, line, value)
        if name in SETTINGS:
            self._depends(entry)
        return entry

    def _depends(self, entry: Entry) -> None:
        """Say what a value depends on that this machine, now, may have otherwise."""
        for variable in self.reader.asked:
            self.plan.leave(
                entry,
                f"the environment variable {variable} counts no longer, its default is taken:"
                " a variable PORTICO_... does the same for each option",
            )
        if self.reader.is_local:
            self.plan.remarks.append(
                f"{entry.name} in line {entry.line} depends on the machine's processors: the file"
                f" has what it is here, with {os.cpu_count() or 1}."
            )

    def _statement(self, node: ast.stmt) -> None:
        """List what a statement that is run may set."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.Pass) or self._variable(node):
            return
        known = False
        for inner in ast.walk(node):
            if isinstance(inner, ast.stmt) and inner is not node:
                for name, value, line in _assignments([inner]):
                    self.reader.forget(name)
                    if name in SETTINGS:
                        known = True
                        entry = Entry(name, source_of(value), self.plan.source, line)
                        self.plan.leave(
                            entry, f"it counts under a condition, of line {node.lineno}: decide"
                            " by hand",
                        )  # fmt: skip
        if not known:
            kind = type(node).__name__.lower()
            entry = Entry(f"a statement ({kind})", "", self.plan.source, node.lineno)
            self.plan.leave(entry, "computed: decide by hand (nothing of the file is run)")

    def _variable(self, node: ast.stmt) -> bool:
        """Carry a variable over that the file puts into the environment; whether it was one."""
        if not (found := set_variable(node, self.reader.imports)):
            return False
        try:
            name, value = self.reader.value(found[0]), self.reader.value(found[1])
        except ComputedError:
            return False
        if not (isinstance(name, str) and isinstance(value, str)):
            return False
        entry = Entry("os.environ", f"{name}=...", self.plan.source, node.lineno)
        self.plan.carry_variable(entry, name, value)
        return True

    def _apply(self, entry: Entry) -> None:
        rule = SETTINGS[entry.name]
        is_hook = rule.text.startswith("a hook") or entry.name == "ssl_context"
        if entry.data is _FUNCTION and not is_hook:
            self.plan.leave(entry, "computed: decide by hand (a function has this name)")
        else:
            rule(self.state, entry)


_FUNCTION = object()
_TAKEN = object()


class _Ending:
    """What has to be seen together."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.plan = state.plan
        self.base = os.path.dirname(os.path.abspath(state.plan.source))  # noqa: PTH100, PTH120

    def finish(self) -> None:
        self._surroundings()
        self._application()
        self._concurrency()
        self._jitter()
        self._sockets()
        for key in ("log_file", "access_log", "pid_file"):
            value = self.plan.settings.get(key)
            if value and value != "-" and not value.startswith("/"):
                self.plan.settings[key] = self._full(value)

    def _full(self, path: str) -> str:
        return os.path.normpath(str(PurePosixPath(self.plan.directory or self.base) / path))

    def _texts(self, slot: str) -> Iterator[tuple[Entry, str]]:
        """Give the entries of a slot whose value is a text; say so of others."""
        for entry in self.state.kept.get(slot, []):
            if isinstance(entry.data, str) and entry.data:
                yield entry, entry.data
            elif entry.data in (None, ""):
                self.plan.note(entry, NEEDLESS, "it is empty")
            else:
                self.plan.leave(entry, f"{entry.value} is no text")

    def _surroundings(self) -> None:
        plan = self.plan
        for entry, text in self._texts("chdir"):
            plan.directory = os.path.normpath(str(PurePosixPath(self.base) / text))
            plan.note(entry, CARRIED, f"cd {plan.directory}, before the command")
        for entry, text in self._texts("pythonpath"):
            paths = [self._full(one) for one in text.split(",")]
            plan.variables["PYTHONPATH"] = ":".join(paths)
            plan.note(entry, CARRIED, f"PYTHONPATH of the command: {':'.join(paths)}")
        for entry in self.state.kept.get("umask", []):
            value = entry.data
            try:
                bits = int(value, 8) if isinstance(value, str) else int(value)
            except (ValueError, TypeError):
                bits = -1
            if 0 <= bits <= 0o777:
                plan.umask = f"{bits:03o}"
                plan.note(entry, CARRIED, f"umask {plan.umask}, before the command")
            else:
                plan.leave(entry, f"{entry.value} is no umask")

    def _application(self) -> None:
        plan = self.plan
        for entry, text in self._texts("app"):
            if not _APP.fullmatch(text):
                plan.leave(
                    entry,
                    f"Portico takes no arguments there: write a file with application = {text},"
                    " and make that app",
                )
                continue
            plan.carry(entry, "app", text if ":" in text else f"{text}:application")
        if "app" not in plan.settings:
            plan.tasks.append(
                "The application stood on gunicorn's command line, gunicorn APP: set app to it."
            )

    def _concurrency(self) -> None:
        plan, state = self.plan, self.state
        default = Entry("gunicorn's default", "", plan.source, 0)
        worker = state.last("class")
        threads = state.last("threads")
        kind = str(worker.data) if worker is not None else "sync"
        if threads is not None:
            plan.carry(threads, "threads", threads.data)
            if threads.data != 1 and kind == "sync":
                kind = "gthread"
        is_sync = kind == "sync"
        if worker is not None:
            self._worker_class(worker, kind)
        elif threads is None:
            plan.settings["threads"] = 1
            plan.origins["threads",] = default
            plan.remarks.append(
                "gunicorn's sync workers have one thread, Portico's 16: the file has threads: 1."
                " Raise it where the application is safe with threads."
            )
        for entry in state.kept.get("connections", []):
            plan.leave(entry, SETTINGS[entry.name].text)
        timeout = state.last("timeout")
        if timeout is not None and timeout.data == 0:
            plan.note(timeout, NEEDLESS, "there is no limit unless timeout is set")
        elif timeout is not None and not is_sync:
            plan.leave(
                timeout,
                f"with {kind} workers it was no limit of requests: set timeout, which is one",
            )
        elif timeout is not None:
            self._timeout(timeout)
        elif is_sync:
            plan.settings["timeout"] = _DEFAULT_TIMEOUT
            plan.origins["timeout",] = default

    def _timeout(self, entry: Entry) -> None:
        try:
            self.plan.carry(
                entry, "timeout", number(entry.data), "of each request: 504 for the client"
            )
        except ValueError as error:
            self.plan.leave(entry, str(error))

    def _worker_class(self, entry: Entry, kind: str) -> None:
        plan = self.plan
        if kind in {"sync", "gthread"}:
            if "threads" not in plan.settings:
                plan.settings["threads"] = 1
                plan.origins["threads",] = entry
            plan.note(entry, CARRIED, f"threads: {plan.settings['threads']}")
        elif "uvicorn" in kind or "asgi" in kind:
            plan.leave(
                entry, "Portico serves WSGI alone; an application for ASGI stays where it is"
            )
        else:
            plan.leave(
                entry,
                "Portico serves in threads: set threads to the number of requests that may run at"
                " once, and take monkey patches out",
            )

    def _jitter(self) -> None:
        entry = self.state.last("jitter")
        if entry is None:
            return
        most = self.plan.settings.get("max_requests", 0)
        try:
            jitter = number(entry.data)
        except ValueError as error:
            self.plan.leave(entry, str(error))
            return
        if not most:
            self.plan.note(entry, NEEDLESS, "without max_requests nothing is spread")
            return
        percent = min(100, max(0, round(100 * jitter / most)))
        self.plan.carry(entry, "recycle_jitter", percent, "in percent of max_requests")

    def _sockets(self) -> None:
        plan, state = self.plan, self.state
        backlog = state.last("backlog")
        size = 0
        if backlog is not None:
            if isinstance(backlog.data, int) and 0 < backlog.data <= 65_535:
                size = backlog.data
                plan.note(backlog, CARRIED, f"?backlog={size} in the bind URL")
            else:
                plan.leave(backlog, f"{backlog.value} is no number of connections")
        mode = f"{0o666 & ~int(plan.umask, 8):03o}" if plan.umask else ""
        sockets = Sockets(
            protocol="fastcgi",
            base=plan.directory or self.base,
            mode=mode,
            group=str(plan.settings.get("group", "")),
            backlog=size,
        )
        binds = state.kept.get("bind") or []
        urls: list[str] = []
        for entry in binds:
            addresses = entry.data if isinstance(entry.data, list) else [entry.data]
            for one in addresses:
                if not isinstance(one, str):
                    plan.leave(entry, f"{one!r} is no address")
                elif url := self._address(entry, one, sockets):
                    urls.append(url)
        if not binds and not any(note.entry.name == "bind" for note in plan.notes):
            default = Entry("gunicorn's default", "", plan.source, 0)
            plan.settings["bind"] = [f"fastcgi://{_DEFAULT_BIND}"]
            plan.origins["bind", f"fastcgi://{_DEFAULT_BIND}"] = default
            urls = [f"fastcgi://{_DEFAULT_BIND}"]
        elif not urls:
            plan.tasks.append("No address is known: set bind.")
        if any("+unix:" in url for url in urls) and not mode:
            plan.remarks.append(
                "gunicorn's Unix sockets let everybody connect, Portico's have mode 660: add"
                " ?group=www-data to bind, with the web server's group."
            )
        if urls:
            plan.front = Front(
                "gunicorn speaks HTTP, Portico FastCGI (or SCGI, uwsgi, AJP): in the place of the"
                " location with proxy_pass, nginx gets this. What X-Forwarded-For and"
                " X-Forwarded-Proto said, each request says itself.",
                urls[0],
                timeout=max(60, int(plan.settings.get("timeout", 0))),
            )

    def _address(self, entry: Entry, address: str, sockets: Sockets) -> str:
        plain: Any = address.strip()
        if plain.startswith("unix:"):
            plain = plain.removeprefix("unix:").removeprefix("//")
        elif plain.startswith("tcp://"):
            plain = plain.removeprefix("tcp://")
        elif re.fullmatch(r"[\w.-]+", plain):
            plain = f"{plain}:8000"
        return carry_address(self.plan, entry, plain, sockets)
