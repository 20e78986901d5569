"""From wfastcgi's ``Web.config``, and IIS's ``fastCgi`` and ``httpPlatform``, to a plan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portico.migrate.files import read as read_text
from portico.migrate.files import refusal
from portico.migrate.model import (
    CARRIED,
    LEFT,
    NEEDLESS,
    NO_WORD,
    UNKNOWN,
    Entry,
    Front,
    Plan,
    Rule,
    State,
    each,
    kept,
    left,
    needless,
    setting,
)
from portico.migrate.uwsgi_options import number
from portico.migrate.xmlfile import Element, parse

if TYPE_CHECKING:
    from collections.abc import Callable

_BIND = "127.0.0.1:9000"

_IIS = "Portico does not run under IIS yet: behind nginx, Apache or lighttpd it listens on bind"

_FAILS = "a worker that fails at once is replaced after a growing pause"

_HANDLER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
_PERCENT = re.compile(r"%[^%;]+%")


def _directory(text: str) -> str:
    """Take a path, unless it is one of Windows or needs a variable.

    Raises:
        ValueError: it is.
    """
    if _PERCENT.search(text):
        raise ValueError(f"{text} has variables in it")
    if re.match(r"[A-Za-z]:|\\\\", text) or "\\" in text:
        raise ValueError(f"{text} is a path of Windows")
    if not text:
        raise ValueError("it is empty")
    return text


def _seconds(text: str) -> int:
    """Take a number of seconds, or ``hh:mm:ss``.

    Raises:
        ValueError: it is neither.
    """
    if found := re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d)", text):
        hours, minutes, seconds = map(int, found.groups())
        return hours * 3600 + minutes * 60 + seconds
    return number(text)


def _idle(state: State, entry: Entry) -> None:
    try:
        seconds = number(entry.data)
    except ValueError as error:
        state.plan.leave(entry, f"{error}; decide worker_idle_timeout by hand")
        return
    if state.plan.carry(entry, "on_demand", True):
        state.plan.carry(entry, "worker_idle_timeout", seconds)


#: Names of appSettings that wfastcgi takes for itself; all others are variables.
SETTINGS: dict[str, Rule] = {
    "WSGI_HANDLER": kept("handler", "`app`"),
    "WSGI_ALT_VIRTUALENV_HANDLER": kept("alternative", "`app`, in the place of WSGI_HANDLER"),
    "WSGI_ALT_VIRTUALENV_ACTIVATE_THIS": left(
        "install Portico in that environment, and run the portico that is there"),
    "PYTHONPATH": kept("path", "PYTHONPATH of the command"),
    "WSGI_LOG": setting("log_file", _directory),
    "WSGI_RESTART_FILE_REGEX": kept(
        "restart", "send SIGHUP after a change; `reload` is for development", LEFT),
    "SCRIPT_NAME": setting("mount", str),
    **each(("APPINSIGHTS_INSTRUMENTATIONKEY",),
           left("add the middleware of Application Insights in the application")),
    **each(("WSGI_PTVSD_SECRET", "WSGI_PTVSD_ADDRESS"), left("start debugpy in the application")),
}  # fmt: skip

#: Attributes of an ``application`` below ``fastCgi``.
FASTCGI: dict[str, Rule] = {
    "maxInstances": kept("instances", "`workers`; 0 is IIS's own choice"),
    "instanceMaxRequests": setting("max_requests", number),
    "requestTimeout": setting("timeout", _seconds, "of each request: 504 for the client"),
    "activityTimeout": left(
        "how long an answer may pause: the web server's, such as fastcgi_read_timeout"),
    "idleTimeout": Rule(CARRIED, "`on_demand` and `worker_idle_timeout`", _idle),
    "queueLength": left("write ?backlog= behind bind; queue_timeout bounds the wait"),
    "rapidFailsPerMinute": needless(_FAILS),
    "flushNamedPipe": needless("the protocol says where a request ends"),
    "protocol": left(_IIS),
    "signalBeforeTerminateSeconds": setting("graceful_timeout", number),
    "stderrMode": needless("what is wrong stands in the log; debug: yes shows it to visitors"),
    "monitorChangesTo": left("send SIGHUP after a change: systemctl reload"),
    "fullPath": left("the portico of that Python's environment takes its place"),
    "arguments": left("wfastcgi is not needed any more"),
}  # fmt: skip

#: Attributes of ``httpPlatform``.
HTTP_PLATFORM: dict[str, Rule] = {
    "processPath": left(_IIS),
    "arguments": left("name the application: set app to module:callable, or to a file"),
    "requestTimeout": setting("timeout", _seconds, "of each request: 504 for the client"),
    "startupTimeLimit": setting("startup_timeout", _seconds),
    "shutdownTimeLimit": setting("graceful_timeout", _seconds),
    "startupRetryCount": needless("a worker that fails is started again without end"),
    "rapidFailsPerMinute": needless(_FAILS),
    "processesPerApplication": setting("workers", number),
    "stdoutLogEnabled": needless("the log goes to standard error, or to log_file"),
    "stdoutLogFile": setting("log_file", _directory),
    "forwardWindowsAuthToken": left(_IIS),
}


#: Elements of ``Web.config`` -> what becomes of them with all that is within.
ELEMENTS: dict[str, str] = {
    "rewrite": "the web server's rules: rewrite in nginx, mod_rewrite in Apache",
    "httpRedirect": "the web server's rules: return in nginx, Redirect in Apache",
    "staticContent": "let the web server serve files, with its own types and expiry",
    "defaultDocument": "the application answers /, or index in nginx",
    "directoryBrowse": "autoindex in nginx, off unless it is set",
    "httpErrors": "error_page in nginx, ErrorDocument in Apache",
    "customErrors": "error_page in nginx, ErrorDocument in Apache",
    "httpProtocol": "add_header in nginx, Header in Apache",
    "security": "the web server's limits and access rules; max_body_bytes for the body",
    "authentication": "auth_basic in nginx, or the application",
    "authorization": "allow and deny in nginx, or the application",
    "urlCompression": "gzip in nginx",
    "httpCompression": "gzip in nginx",
    "caching": "the web server's cache",
    "httpLogging": "the web server's access log, or access_log",
    "tracing": "portico request --records shows what passes",
    "applicationInitialization": "health asks each new worker before it serves",
    "modules": "modules of IIS; nothing of them is needed",
    "webSocket": "WSGI has none",
    "compilation": "ASP.NET's",
    "httpRuntime": "ASP.NET's; max_body_bytes bounds bodies",
    "sessionState": "ASP.NET's",
    "machineKey": "ASP.NET's",
    "connectionStrings": "set them as environment",
    "validation": "IIS's own",
}

#: Elements that only hold others.
_HOLDERS = {"configuration", "location", "system.webServer", "system.web", "handlers",
            "appSettings", "fastCgi", "environmentVariables", "globalModules",
            "system.applicationHost", "configSections"}  # fmt: skip


def read(path: str) -> Plan:
    """Read a configuration of IIS's.

    Raises:
        ConfigError: it cannot be read, is no XML, or has nothing of Python in it.
    """
    root = parse(read_text(path), path)
    state = State(Plan(source=path, kind="IIS"))
    walk = _Walk(state)
    if root.name not in _HOLDERS | {"httpPlatform"}:
        raise refusal(path, root.line, f"begins with <{root.name}>, not with <configuration>")
    walk.take(root)
    if not walk.has_python:
        raise refusal(
            path, 0, "has no WSGI_HANDLER, no FastCgiModule and no httpPlatform: nothing of Python"
        )
    _finish(state)
    return state.finish()


@dataclass(slots=True)
class _Walk:
    """Goes through the elements; says what becomes of each that holds a value."""

    state: State
    has_python: bool = False

    def take(self, element: Element) -> None:
        plan = self.state.plan
        name = element.name
        if name in _TAKERS:
            _TAKERS[name](self, element)
        elif name in ELEMENTS:
            inner = "".join(f" ({one.name} within)" for one in element.children[:1])
            plan.leave(self._entry(f"<{name}>{inner}", "", element), ELEMENTS[name])
        elif name in _HOLDERS:
            for key, value in element.attributes.items():
                entry = self._entry(f"<{name}> {key}", value, element)
                plan.leave(entry, "one Portico is one site: the web server chooses by path")
        else:
            plan.note(self._entry(f"<{name}>", "", element), UNKNOWN, NO_WORD)
            return
        if name in _HOLDERS:
            for child in element.children:
                self.take(child)

    def _entry(self, name: str, value: str, element: Element) -> Entry:
        return Entry(name, value, self.state.plan.source, element.line, value)

    def _add(self, element: Element) -> None:
        """``add``: a handler, or a name and a value of appSettings."""
        attributes = element.attributes
        if "key" in attributes:
            self._setting(attributes["key"], attributes.get("value", ""), element)
            return
        shown = " ".join(f'{key}="{value}"' for key, value in attributes.items())
        entry = self._entry("<add>", shown, element)
        processor = attributes.get("scriptProcessor", "")
        modules = attributes.get("modules", "")
        if "FastCgiModule" in modules:
            self.has_python = self.has_python or "py" in processor.lower()
            self.state.plan.leave(entry, _IIS)
            path = attributes.get("path", "*")
            if path not in {"*", "*.*", ""}:
                self.state.plan.leave(entry, f"only {path} was Python's: a location in nginx")
        elif "httpPlatformHandler" in modules:
            self.has_python = True
            self.state.plan.leave(entry, _IIS)
        else:
            self.state.plan.leave(entry, "a handler of IIS: let the web server serve files")

    def _setting(self, key: str, value: str, element: Element) -> None:
        plan = self.state.plan
        rule = SETTINGS.get(key)
        if key in {"WSGI_HANDLER", "WSGI_ALT_VIRTUALENV_HANDLER"}:
            self.has_python = True
        if rule is not None:
            rule(self.state, self._entry(key, value, element))
        elif _PERCENT.search(value):
            entry = self._entry(key, _hidden(value), element)
            plan.leave(entry, "it takes variables of Windows: set environment by hand")
        else:
            plan.carry_variable(self._entry(key, _hidden(value), element), key, value)

    def _variable(self, element: Element) -> None:
        """``environmentVariable``: a name and a value."""
        attributes = element.attributes
        self._setting(attributes.get("name", ""), attributes.get("value", ""), element)

    def _clear(self, element: Element) -> None:
        """``clear`` and ``remove``: what the machine's configuration says is not here anyway."""
        shown = " ".join(f'{key}="{value}"' for key, value in element.attributes.items())
        entry = self._entry(f"<{element.name}>", shown, element)
        self.state.plan.note(entry, NEEDLESS, "nothing is inherited")

    def _application(self, element: Element) -> None:
        self._attributes(element, FASTCGI)
        self.has_python = self.has_python or "py" in element.attributes.get("fullPath", "").lower()

    def _platform(self, element: Element) -> None:
        self.has_python = True
        self._attributes(element, HTTP_PLATFORM)

    def _attributes(self, element: Element, table: dict[str, Rule]) -> None:
        for name, value in element.attributes.items():
            entry = self._entry(name, value, element)
            rule = table.get(name)
            if rule is None:
                self.state.plan.note(entry, UNKNOWN, NO_WORD)
            else:
                rule(self.state, entry)
        for child in element.children:
            self.take(child)


_TAKERS: dict[str, Callable[[_Walk, Element], None]] = {
    "add": _Walk._add,  # noqa: SLF001 - a table of the class's own methods, here and below
    "environmentVariable": _Walk._variable,  # noqa: SLF001
    "clear": _Walk._clear,  # noqa: SLF001
    "remove": _Walk._clear,  # noqa: SLF001
    "application": _Walk._application,  # noqa: SLF001
    "httpPlatform": _Walk._platform,  # noqa: SLF001
}


def _hidden(value: str) -> str:
    return "..." if value else ""


def _finish(state: State) -> None:
    plan = state.plan
    _application(state)
    for entry in state.kept.get("path", []):
        _python_path(plan, entry)
    for entry in state.kept.get("restart", []):
        if entry.data:
            plan.leave(entry, "send SIGHUP after a change; reload: yes is for development")
        else:
            plan.note(entry, NEEDLESS, "nothing is watched unless reload: yes")
    default = Entry("wfastcgi's default", "", plan.source, 0)
    for entry in state.kept.get("instances", []):
        if entry.data == "0":
            plan.leave(entry, "IIS chose the number of processes: set workers")
        else:
            setting("workers", number)(state, entry)
    plan.settings["threads"] = 1
    plan.origins["threads",] = default
    plan.remarks.append(
        "wfastcgi served one request at a time in each process: the file has threads: 1. Raise it"
        " where the application is safe with threads."
    )
    listen = Entry("where FastCGI applications listen by custom", "", plan.source, 0)
    plan.settings["bind"] = [f"fastcgi://{_BIND}"]
    plan.origins["bind", f"fastcgi://{_BIND}"] = listen
    plan.front = Front(
        "Portico does not run under IIS yet. nginx gets this; portico config has Apache's and"
        " lighttpd's lines as well.",
        f"fastcgi://{_BIND}",
        timeout=max(60, int(plan.settings.get("timeout", 0))),
    )


def _application(state: State) -> None:
    plan = state.plan
    handler, other = state.last("handler"), state.last("alternative")
    for entry in state.kept.get("handler", [])[:-1] + state.kept.get("alternative", [])[:-1]:
        plan.note(entry, NEEDLESS, "a later line sets it anew")
    named = other or handler
    if named is None:
        plan.tasks.append("No application is named: set app to module:callable, or to a file.")
        return
    if other is not None and handler is not None:
        plan.note(handler, NEEDLESS, "WSGI_ALT_VIRTUALENV_HANDLER names the application")
    text = str(named.data)
    module, dot, name = text.rpartition(".")
    if not (dot and _HANDLER.fullmatch(text)):
        plan.leave(named, f"{text!r} is no module.callable")
        plan.tasks.append("Set app to module:callable, or to a file.")
        return
    plan.carry(named, "app", f"{module}:{name}")


def _python_path(plan: Plan, entry: Entry) -> None:
    found: list[str] = []
    if not entry.data:
        plan.note(entry, NEEDLESS, "it is empty")
    for one in filter(None, str(entry.data).split(";")):
        try:
            found.append(_directory(one))
        except ValueError as error:
            plan.leave(entry, f"{error}: set PYTHONPATH, or start Portico in the site's directory")
    if found:
        plan.variables["PYTHONPATH"] = ":".join(found)
        plan.note(entry, CARRIED, f"PYTHONPATH of the command: {':'.join(found)}")
