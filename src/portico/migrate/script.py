"""From a script that starts a server to a plan. The script is read by `ast`, and not run."""

from __future__ import annotations

import ast
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from portico.migrate import gunicorn
from portico.migrate.addresses import Sockets, carry_address
from portico.migrate.files import read as read_text
from portico.migrate.files import refusal
from portico.migrate.launchers import APPLICATIONS, OTHERS, WRAPPERS, Launcher
from portico.migrate.model import (
    CARRIED,
    NEEDLESS,
    NO_WORD,
    UNKNOWN,
    Entry,
    Front,
    Plan,
    State,
)
from portico.migrate.pythonsource import ComputedError, dotted, set_variable, source_of
from portico.migrate.scriptfile import Call, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT_BIND = "127.0.0.1:9000"

#: Where the system's own Python is: such an interpreter line names no environment.
_SYSTEM = {"/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/opt/bin"}


def starts_server(text: str, path: str) -> bool:
    """Whether a script starts a server that is known.

    Raises:
        ConfigError: it is no Python.
    """
    return bool(Script(path, text).find())


def read(path: str) -> Plan:
    """Read a script that starts a server.

    Raises:
        ConfigError: it cannot be read, is no Python, or starts no server that is known.
    """
    script = Script(path, read_text(path))
    calls = script.find()
    if not calls:
        raise refusal(path, 0, "starts no server that is known")
    state = State(Plan(source=path, kind=f"a script that starts {calls[0].title}"))
    for call in calls[1:]:
        entry = script.entry(f"{call.name}()", "", call.node)
        state.plan.leave(entry, f"a second server, {call.title}: only the first is carried over")
    _Ending(state, script, calls[0]).finish()
    return state.finish()


class _Ending:
    """Makes the plan of one launching call."""

    def __init__(self, state: State, script: Script, call: Call) -> None:
        self.state = state
        self.plan = state.plan
        self.script = script
        self.call = call
        self.base = os.path.dirname(os.path.abspath(script.path))  # noqa: PTH100, PTH120
        self.application: ast.expr | None = None

    def finish(self) -> None:
        self._names()
        call = self.call
        name = call.name.rpartition(".")[2]
        written = self.script.entry(f"{name}()", "", call.node)
        if call.title == "gunicorn":
            self._gunicorn(written)
        elif call.launcher is None:
            if call.name.startswith("portico."):
                self.plan.note(written, NEEDLESS, OTHERS[call.name])
            else:
                self.plan.leave(written, OTHERS[call.name])
            self.plan.tasks.append("Set app to module:callable, or to a file, and bind.")
        else:
            self._launcher(call.launcher, written)
        self._surroundings()

    # -- what stands around the call ---------------------------------------------------------

    def _names(self) -> None:
        """Learn the names that the script gives values once and for all."""
        counts: dict[str, int] = {}
        assignments = []
        for node in ast.walk(self.script.tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        counts[target.id] = counts.get(target.id, 0) + 1
                        assignments.append((target.id, node.value))
            elif isinstance(node, (ast.AugAssign, ast.For)) and isinstance(node.target, ast.Name):
                counts[node.target.id] = 2
        for name, value in assignments:
            if counts[name] == 1:
                try:
                    self.script.reader.define(name, value)
                except ComputedError:
                    continue

    def _surroundings(self) -> None:
        """Carry interpreter, paths, directory and variables over."""
        first = self.script.text.partition("\n")[0]
        if found := re.fullmatch(r"#!\s*(/\S*)/python[\w.]*(\s.*)?", first):
            entry = Entry("the interpreter", first[2:].strip(), self.script.path, 1)
            if found[1] not in _SYSTEM:
                self.plan.program = f"{found[1]}/portico"
                told = f"{self.plan.program}; install it there: {found[1]}/pip install portico"
                self.plan.note(entry, CARRIED, told)
        spec = str(self.plan.settings.get("app", ""))
        own = spec.startswith(os.path.abspath(self.script.path))  # noqa: PTH100
        for node in ast.walk(self.script.tree):
            if isinstance(node, ast.stmt):
                self._around(node, is_own=own)
        if self.plan.directory and self.plan.directory != self.base:
            before = self.plan.variables.get("PYTHONPATH", "")
            self.plan.variables["PYTHONPATH"] = f"{before}:{self.base}".lstrip(":")
        self.plan.directory = self.plan.directory or self.base  # where Python looks for modules

    def _around(self, node: ast.stmt, *, is_own: bool) -> None:
        variable = set_variable(node, self.script.imports)
        call = node.value if isinstance(node, ast.Expr) else None
        name = dotted(call.func, self.script.imports) if isinstance(call, ast.Call) else ""
        if variable is None and name not in {"sys.path.insert", "sys.path.append", "os.chdir"}:
            return
        entry = self.script.entry("os.environ" if variable else name, "", node)
        if is_own and name != "os.chdir":
            self.plan.note(entry, NEEDLESS, "the script does that when it is loaded")
            return
        try:
            if variable is not None:
                key, value = map(self.script.reader.value, variable)
                entry = self.script.entry("os.environ", f"{key}=...", node)
                self.plan.carry_variable(entry, str(key), str(value))
            elif isinstance(call, ast.Call) and call.args:
                self._path(entry, name, str(self.script.reader.value(call.args[-1])))
        except ComputedError as error:
            self.plan.leave(entry, f"computed: decide by hand ({error})")

    def _path(self, entry: Entry, name: str, text: str) -> None:
        full = os.path.normpath(str(PurePosixPath(self.base) / text))
        if name == "os.chdir":
            self.plan.directory = full
            self.plan.note(entry, CARRIED, f"cd {full}, before the command")
            return
        before = self.plan.variables.get("PYTHONPATH")
        paths = [full, before] if name == "sys.path.insert" else [before, full]
        self.plan.variables["PYTHONPATH"] = ":".join(filter(None, paths))
        self.plan.note(entry, CARRIED, f"PYTHONPATH of the command: {full}")

    # -- the call ------------------------------------------------------------------------------

    def _launcher(self, launcher: Launcher, written: Entry) -> None:
        for name, node in self._arguments(launcher):
            self._argument(launcher, name, node)
        self._application(launcher, written)
        binds = self._binds(launcher)
        if launcher.threads and "threads" not in self.plan.settings:
            self.plan.settings["threads"] = launcher.threads
            default = Entry(f"the default of {launcher.title}", "", self.plan.source, 0)
            self.plan.origins["threads",] = default
        self._replacement(binds)

    def _arguments(self, launcher: Launcher) -> Iterator[tuple[str, ast.expr]]:
        node = self.call.node
        for number, argument in enumerate(node.args):
            if isinstance(argument, ast.Starred):
                self._unseen(argument, "*")
                return
            if number < len(launcher.positional):
                yield launcher.positional[number], argument
            else:
                yield f"argument {number + 1}", argument
        for keyword in node.keywords:
            if keyword.arg is None:
                self._unseen(keyword.value, "**")
            else:
                yield keyword.arg, keyword.value

    def _unseen(self, node: ast.expr, stars: str) -> None:
        entry = self.script.entry(f"{stars}{source_of(node)}", "", node)
        self.plan.leave(entry, "computed: decide by hand (arguments that are not written here)")

    def _argument(self, launcher: Launcher, name: str, node: ast.expr) -> None:
        if name in {"app", "application", "wsgi_app"}:
            self.application = node
            return
        rule = launcher.arguments.get(name)
        entry = self.script.entry(name, source_of(node), node)
        if rule is None:
            self.plan.note(entry, UNKNOWN, NO_WORD)
            return
        self.script.reader.asked, self.script.reader.is_local = [], False
        try:
            value = self.script.reader.value(node)
        except ComputedError as error:
            if rule.apply is None:
                rule(self.state, entry)
            else:
                self.plan.leave(entry, f"computed: decide by hand ({error})")
            self.state.kept.setdefault("computed", []).append(entry)
            return
        for variable in dict.fromkeys(self.script.reader.asked):
            told = f"the environment variable {variable} counts no longer, its default is taken"
            self.plan.leave(entry, told)
        rule(self.state, Entry(name, entry.value, entry.file, entry.line, value))

    def _application(self, launcher: Launcher, written: Entry) -> None:
        node = self.application
        if node is None and launcher.title == "wsgiref's CGI handler":
            node = self._run_argument()
        if node is None and self.call.name in APPLICATIONS:
            self.plan.carry(written, "app", APPLICATIONS[self.call.name])
            return
        while isinstance(node, ast.Call) and dotted(node.func, self.script.imports) in WRAPPERS:
            node = node.args[0] if node.args else None
        if node is None:
            self.plan.leave(written, "its application is not written there: set app")
            self.plan.tasks.append("Set app to module:callable, or to a file.")
            return
        self.application = node
        self._carry_application(node)

    def _carry_application(self, node: ast.expr) -> None:
        entry = self.script.entry("the application", source_of(node), node)
        spec = self._spec(node)
        if not spec:
            self.plan.leave(
                entry,
                f"give it a name that a module has, such as application = {source_of(node)}, and"
                " make that app",
            )
            self.plan.tasks.append("Set app to module:callable, or to a file.")
            return
        self.plan.carry(entry, "app", spec)
        statement = self.script.statement(self.call.node)
        if spec.startswith("/") and self._starts_when_loaded():
            started = self.script.entry("the start", "", statement)
            self.plan.leave(
                started,
                "loading the script starts its server: put that below"
                ' if __name__ == "__main__":, or take the lines for the script',
            )

    def _run_argument(self) -> ast.expr | None:
        """Find what ``run`` of a handler is given."""
        for node in ast.walk(self.script.tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "run"
                and node.args
                and node.lineno >= self.call.node.lineno
            ):
                return node.args[0]
        return None

    def _spec(self, node: ast.expr) -> str:
        """Write the application as ``module:callable``; empty where it is no such thing."""
        script = self.script
        call = ""
        if isinstance(node, ast.Call) and not node.args and not node.keywords:
            node, call = node.func, "()"
        if isinstance(node, ast.Name):
            if node.id in script.members:
                module, name = script.members[node.id]
                return f"{module}:{name}{call}"
            if node.id in script.imports or not self._is_global(node.id):
                return ""
            full = os.path.abspath(script.path)  # noqa: PTH100
            return f"{full}:{node.id}{call}"
        name = dotted(node, script.imports)
        first = name.partition(".")[0]
        if name and (first in script.imports.values() or name.rpartition(".")[0] in
                     script.imports.values()):  # fmt: skip
            module, _, member = name.rpartition(".")
            return f"{module}:{member}{call}"
        return ""

    def _is_global(self, name: str) -> bool:
        """Whether the file has *name* once it is loaded."""
        for node in ast.walk(self.script.tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
                return self.script.at_top(node)
            if isinstance(node, ast.Assign) and self.script.at_top(node):
                targets = [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
                if name in targets:
                    return True
        return False

    def _starts_when_loaded(self) -> bool:
        script = self.script
        if script.at_top(self.call.node):
            return True
        function: ast.AST = self.call.node
        while function in script.parents and not isinstance(function, ast.FunctionDef):
            function = script.parents[function]
        if not isinstance(function, ast.FunctionDef):
            return False
        return any(
            isinstance(node, ast.Call)
            and dotted(node.func, script.imports) == function.name
            and script.at_top(node)
            for node in ast.walk(script.tree)
        )

    # -- where it listens ----------------------------------------------------------------------

    def _binds(self, launcher: Launcher) -> list[str]:
        """Carry the addresses over; none where the web server starts the script."""
        state, plan = self.state, self.plan
        protocol = self._protocol(launcher)
        sockets = Sockets(
            protocol="fastcgi" if protocol == "http" else protocol,
            base=self.base,
            mode=self._mode(),
            backlog=self._backlog(),
        )
        found = [(entry, _address(entry.data)) for entry in state.kept.get("address", [])]
        host, port = state.last("host"), state.last("port")
        if host is not None or port is not None:
            default_host, _, default_port = launcher.starts.rpartition(":")
            name = str(host.data if host is not None else default_host) or "127.0.0.1"
            number = port.data if port is not None else default_port
            entry = port if port is not None else host
            if entry is not None:
                found.append((entry, f"{name}:{number}"))
            if host is not None and port is not None:
                plan.note(host, CARRIED, "in the bind URL")
        for entry in state.kept.get("listen", []):
            found += [(entry, one) for one in str(entry.data).split()]
        urls = []
        for entry, address in found:
            if address is None:
                plan.note(entry, NEEDLESS, "the web server starts the script, with a socket")
            elif url := carry_address(plan, entry, address, sockets):
                urls.append(url)
        if not found and launcher.starts and not state.kept.get("computed"):
            default = Entry(f"the default of {launcher.title}", "", plan.source, 0)
            url = f"{sockets.protocol}://{launcher.starts}"
            plan.settings["bind"] = [url]
            plan.origins["bind", url] = default
            urls = [url]
        self._details()
        if not urls:
            custom = Entry("where FastCGI applications listen by custom", "", plan.source, 0)
            url = f"fastcgi://{_DEFAULT_BIND}"
            plan.settings["bind"] = [url]
            plan.origins["bind", url] = custom
        self._front(launcher, protocol, urls)
        return urls

    def _protocol(self, launcher: Launcher) -> str:
        if entry := self.state.last("protocol"):
            name = {"fcgi": "fastcgi"}.get(str(entry.data), str(entry.data))
            if name in {"fastcgi", "scgi", "ajp"}:
                self.plan.note(entry, CARRIED, f"{name} in the bind URL")
                return name
            self.plan.leave(entry, "Portico speaks fastcgi, scgi, uwsgi and ajp")
        if entry := self.state.last("server"):
            name = str(entry.data)
            speaks = {"flup": "fastcgi", "cgi": "fastcgi"}.get(name, launcher.protocol)
            self.plan.note(entry, CARRIED, "Portico takes its place")
            return speaks
        return launcher.protocol

    def _mode(self) -> str:
        """Give the mode of Unix sockets, octal; empty for Portico's own."""
        mode = ""
        if entry := self.state.last("umask"):
            if isinstance(entry.data, int) and 0 <= entry.data <= 0o777:
                mode = f"{0o666 & ~entry.data:03o}"
                self.plan.note(entry, CARRIED, f"?mode={mode} in the bind URL of a Unix socket")
            elif entry.data is None:
                self.plan.note(entry, NEEDLESS, "it is none")
            else:
                self.plan.leave(entry, "write ?mode= behind bind")
        if entry := self.state.last("perms"):
            text = f"{entry.data:o}" if isinstance(entry.data, int) else str(entry.data)
            if re.fullmatch(r"0?[0-7]{1,3}", text):
                mode = text
                self.plan.note(entry, CARRIED, f"?mode={mode} in the bind URL of a Unix socket")
            else:
                self.plan.leave(entry, "write ?mode= behind bind")
        return mode

    def _backlog(self) -> int:
        entry = self.state.last("backlog")
        if entry is None:
            return 0
        if isinstance(entry.data, int) and 0 < entry.data <= 65_535:
            self.plan.note(entry, CARRIED, f"?backlog={entry.data} in the bind URL")
            return entry.data
        self.plan.leave(entry, "write ?backlog= behind bind")
        return 0

    def _details(self) -> None:
        """Carry what belongs to addresses and roles over."""
        plan = self.plan
        for entry in self.state.kept.get("allowed", []):
            plan.leave(entry, "write ?allow= behind bind, for an address that others can reach")
        for entry in self.state.kept.get("roles", []):
            names = {1: "responder", 2: "authorizer", 3: "filter"}
            values = entry.data if isinstance(entry.data, list) else [entry.data]
            if values and all(isinstance(one, int) and one in names for one in values):
                plan.carry(entry, "roles", [names[value] for value in values])
            else:
                plan.leave(entry, "set roles")

    def _front(self, launcher: Launcher, protocol: str, urls: list[str]) -> None:
        plan = self.plan
        if protocol == "http":
            plan.front = Front(
                f"{launcher.title} speaks HTTP, Portico FastCGI (or SCGI, uwsgi, AJP): in the"
                " place of the location with proxy_pass, nginx gets this.",
                urls[0] if urls else "",
            )
        elif urls:
            plan.front = Front(f"nothing changes: Portico speaks {protocol} on the same address.")
        else:
            plan.front = Front(
                "nothing changes where it goes on starting the script, with the lines above. With"
                " the settings below, a service listens that nothing has to start; portico config"
                " prints the web server's lines for that."
            )

    def _replacement(self, binds: list[str]) -> None:
        """Write the lines that take the place of the script's own."""
        plan = self.plan
        name = source_of(self.application) if self.application is not None else ""
        if not name:
            spec = str(plan.settings.get("app", "application"))
            module, _, member = spec.partition(":")
            plan.script.append(f"from {module} import {member.removesuffix('()')}")
            name = member
        options = "".join(
            f", {key}={plan.settings[key]!r}"
            for key in ("threads", "workers", "mount", "debug", "max_requests", "timeout")
            if key in plan.settings
        )
        line = f"line {self.call.node.lineno}"
        plan.script.append("import portico")
        if binds:
            urls = ", ".join(f'"{url}"' for url in binds)
            plan.script.append(
                f"portico.serve({name}, {urls}{options})  # takes the place of {line}"
            )
        else:
            plan.script.append(f"portico.run({name}{options})  # takes the place of {line}")
        module, _, _ = self.call.name.rpartition(".")
        if module.startswith("flup."):
            plan.script += [
                "",
                "or, with the import alone changed:",
                "",
                f"from portico.compat.{module} import WSGIServer",
            ]

    # -- gunicorn ----------------------------------------------------------------------------

    def _gunicorn(self, written: Entry) -> None:
        """Carry a dictionary of options over, and the application beside it."""
        node = self.call.node
        if node.args:
            self.application = node.args[0]
            self._carry_application(node.args[0])
        options = None
        for argument in [*node.args[1:], *(keyword.value for keyword in node.keywords)]:
            found = self._dictionary(argument)
            options = found if found is not None else options
        if options is None:
            self.plan.leave(written, "its options are not written there: decide by hand")
        else:
            gunicorn.take_dictionary(self.state, options, self.script.reader)
        gunicorn.finish(self.state)

    def _dictionary(self, node: ast.expr) -> ast.Dict | None:
        if isinstance(node, ast.Dict):
            return node
        if isinstance(node, ast.Name):
            for one in ast.walk(self.script.tree):
                if (
                    isinstance(one, ast.Assign)
                    and isinstance(one.value, ast.Dict)
                    and any(isinstance(t, ast.Name) and t.id == node.id for t in one.targets)
                ):
                    return one.value
        return None


def _address(value: Any) -> str | None:
    """Write what Python code has for an address; None for a socket that is inherited."""
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2:
        return f"{value[0]}:{value[1]}"
    if isinstance(value, int):
        return f":{value}"
    return str(value)
