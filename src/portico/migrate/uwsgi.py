"""From uWSGI's options to a plan."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import PurePosixPath

from portico.migrate.addresses import Sockets, carry_address
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
from portico.migrate.uwsgi_files import INCLUDES, LATE_MAGIC, Source, is_logic
from portico.migrate.uwsgi_options import rule_of

#: What Portico serves, by the option that names the socket; `socket` has what `protocol` says.
_PROTOCOLS = {
    "uwsgi-socket": "uwsgi",
    "fastcgi-socket": "fastcgi",
    "scgi-socket": "scgi",
    "http-socket": "fastcgi",
}

_NAMES = {"fcgi": "fastcgi", "http": "fastcgi", "http11": "fastcgi"}

_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LATE = re.compile(rf"%[{re.escape(LATE_MAGIC)}]")

#: Options whose value has percent signs of its own.
_PERCENT = {"log-format", "logformat", "logformat-strftime", "env"}


def read(path: str) -> Plan:
    """Read a configuration of uWSGI's.

    Raises:
        ConfigError: it cannot be read or parsed.
    """
    source = Source(path)
    state = State(Plan(source=path, kind="uWSGI"))
    for entry in source.entries:
        _take(state, source, entry)
    _Ending(state).finish()
    return state.finish()


def _take(state: State, source: Source, entry: Entry) -> None:
    """Say what becomes of one entry, or keep it until all are seen."""
    plan = state.plan
    condition = source.conditional.get(entry)
    if condition is not None and not is_logic(entry.name):
        told = f"{condition.name} = {condition.value} in line {condition.line}"
        plan.leave(entry, f"it counts under a condition, {told}: decide by hand")
    elif is_logic(entry.name):
        plan.leave(entry, "Portico has no conditions: what stands below it is listed, not carried")
    elif entry.name in INCLUDES:
        _take_include(plan, source, entry)
    elif entry.name in {"set-placeholder", "set-ph"}:
        plan.note(entry, NEEDLESS, "its value stands where it is used")
    elif reason := _computed(entry):
        plan.leave(entry, reason)
    elif rule := rule_of(entry.name):
        rule(state, entry)
    elif entry.name in source.used:
        plan.note(entry, NEEDLESS, "its value stands where it is used")
    else:
        plan.note(entry, UNKNOWN, NO_WORD)


def _take_include(plan: Plan, source: Source, entry: Entry) -> None:
    if entry in source.missing:
        plan.leave(entry, f"{source.missing[entry]}; what it says is not carried over")
    elif not entry.data:
        plan.leave(entry, "it names no file")
    else:
        plan.note(entry, NEEDLESS, "its entries are in this file, each with its place")


def _computed(entry: Entry) -> str:
    """Say why a value is known when uWSGI starts alone; empty where it is known now."""
    text = entry.data or ""
    if entry.name in _PERCENT - {"env"}:
        return ""
    if found := re.search(r"\$\(([^)]*)\)", text):
        return (
            f"it takes {found[1]} from the environment of uWSGI's start: decide by hand"
            " (each option of Portico's has a variable, PORTICO_...)"
        )
    if re.search(r"@\([^)]*\)", text):
        return "it takes the contents of a file: decide by hand"
    if found := re.search(r"%\([^)]*\)", text):
        return f"nothing says what {found[0]} is: decide by hand"
    if entry.name not in _PERCENT and (found := _LATE.search(text)):
        return f"{found[0]} is known when uWSGI starts alone: decide by hand"
    return ""


class _Ending:
    """What has to be seen together: the application, its sockets, its surroundings."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.plan = state.plan
        self.base = os.path.dirname(os.path.abspath(state.plan.source))  # noqa: PTH100, PTH120
        self.lines: list[str] = []

    def finish(self) -> None:
        self._surroundings()
        self._application()
        self._mounts()
        self._sockets()
        self._files()
        self._static()
        self._plugins()
        self._differences()

    def _superseded(self, slot: str) -> Entry | None:
        """Give the entry of a slot that counts, and say so of the others."""
        found = self.state.kept.get(slot, [])
        for entry in found[:-1]:
            last = found[-1]
            self.plan.note(entry, NEEDLESS, f"{last.name} in {last.place} takes its place")
        return found[-1] if found else None

    def _surroundings(self) -> None:
        plan = self.plan
        if (entry := self._superseded("chdir")) and entry.data:
            plan.directory = os.path.normpath(os.path.join(self.base, entry.data))  # noqa: PTH118
            plan.note(entry, CARRIED, f"cd {plan.directory}, before the command")
        elif entry:
            plan.leave(entry, "it names no directory")
        if entry := self._superseded("home"):
            home = self._from_base(entry.data or "")
            plan.program = f"{home}/bin/portico"
            plan.note(
                entry, CARRIED, f"{plan.program}; install it there: {home}/bin/pip install portico"
            )
        paths = []
        for entry in self.state.kept.get("pythonpath", []):
            if entry.data and ":" not in entry.data:
                paths.append(self._from_directory(entry.data))
                plan.note(entry, CARRIED, f"PYTHONPATH of the command: {paths[-1]}")
            else:
                plan.leave(entry, "it is no directory that PYTHONPATH can have")
        if paths:
            before = plan.variables.get("PYTHONPATH")
            plan.variables["PYTHONPATH"] = ":".join([*paths, *([before] if before else [])])
        if entry := self._superseded("umask"):
            if re.fullmatch(r"[0-7]{1,4}", entry.data or ""):
                plan.umask = str(entry.data)
                plan.note(entry, CARRIED, f"umask {plan.umask}, before the command")
            else:
                plan.leave(entry, f"{entry.data!r} is no octal number")

    def _from_base(self, path: str) -> str:
        return os.path.normpath(str(PurePosixPath(self.base) / path))

    def _from_directory(self, path: str) -> str:
        return os.path.normpath(str(PurePosixPath(self.plan.directory or self.base) / path))

    # -- the application -------------------------------------------------------------------

    def _application(self) -> None:
        plan = self.plan
        entry = self._superseded("app")
        name = self._superseded("callable")
        if entry is None:
            if name is not None and not self.state.kept.get("mount"):
                plan.leave(name, "there is no module or file that it is in: set app")
            if not self.state.kept.get("mount"):
                plan.tasks.append(
                    "No application is named: set app to module:callable, or to a file."
                )
            return
        is_file = entry.name in {"wsgi-file", "file"}
        spec, fault = self._spec(entry.data or "", name, is_file=is_file)
        if fault:
            plan.leave(entry, fault)
            plan.tasks.append("Set app to module:callable, or to a file.")
            if name is not None:
                plan.leave(name, "it belongs to what is left above")
            return
        if plan.carry(entry, "app", spec) and name is not None:
            used = spec.endswith(f":{name.data}")
            plan.note(
                name,
                CARRIED if used else NEEDLESS,
                f"app: {spec}" if used else "the module names its callable itself",
            )

    def _spec(self, text: str, name: Entry | None, *, is_file: bool) -> tuple[str, str]:
        """Write an application as Portico does; or say why that cannot be."""
        target, colon, inner = text.rpartition(":")
        if not colon or "/" in inner:
            target, inner = text, ""
        inner = inner or (str(name.data or "") if name is not None else "") or "application"
        if not _CALLABLE.fullmatch(inner):
            return "", (
                f"{inner} is no name: write a file with application = {inner}, and make that app"
            )
        if is_file:
            target = self._from_directory(target)
        elif not _MODULE.fullmatch(target):
            return "", f"{target!r} is no module"
        return f"{target}:{inner}", ""

    def _mounts(self) -> None:
        plan = self.plan
        name = self.state.last("callable")
        for entry in self.state.kept.get("mount", []):
            place, equals, app = (entry.data or "").partition("=")
            if not equals:
                plan.leave(entry, "it is no PLACE=APPLICATION")
                continue
            is_file = "/" in app or app.rpartition(":")[0 if ":" in app else 2].endswith(
                (".py", ".wsgi")
            )
            spec, fault = self._spec(app, name, is_file=is_file)
            if fault:
                plan.leave(entry, fault)
            elif place == "/" and not plan.settings.get("app"):
                plan.carry(entry, "app", spec, "the root")
            else:
                plan.carry_mount(entry, place, spec)
        if name is not None and not self.state.kept.get("app") and self.state.kept.get("mount"):
            plan.note(name, CARRIED, "behind the colon of each mount")

    # -- sockets ---------------------------------------------------------------------------

    def _sockets(self) -> None:
        plan, kept = self.plan, self.state.kept
        slots = [slot for slot in ("socket", *_PROTOCOLS) if kept.get(slot)]
        options = self._socket_options(has_any=bool(slots))
        urls = []
        for slot in slots:
            for entry in kept[slot]:
                protocol = _PROTOCOLS.get(slot) or self._protocol()
                if not protocol:
                    plan.leave(entry, "Portico does not speak the protocol that is set for it")
                    continue
                http = slot == "http-socket" or self._is_http()
                told = "proxy_pass becomes fastcgi_pass" if http else ""
                sockets = replace(options, protocol=protocol)
                address = self._default_host(entry.data or "")
                if url := carry_address(plan, entry, address, sockets, told):
                    urls.append((url, http))
        self._front(urls)

    def _default_host(self, address: str) -> str:
        """Give what uWSGI listens on: a path unless there is a colon in it."""
        return f"0.0.0.0{address}" if address.startswith(":") else address

    def _protocol(self) -> str:
        entry = self.state.last("protocol")
        name = str(entry.data or "") if entry else "uwsgi"
        name = _NAMES.get(name, name)
        return name if name in {"uwsgi", "fastcgi", "scgi"} else ""

    def _is_http(self) -> bool:
        entry = self.state.last("protocol")
        return bool(entry and entry.data in {"http", "http11"})

    def _socket_options(self, *, has_any: bool) -> Sockets:
        """Give what holds for all sockets, and say what has become of it."""
        plan = self.plan
        options = Sockets(protocol="uwsgi", base=self.base)
        if entry := self._superseded("protocol"):
            if self._protocol():
                plan.note(entry, CARRIED, f"{self._protocol()} in the bind URL of socket")
            else:
                plan.leave(entry, "Portico speaks fastcgi, scgi, uwsgi and ajp")
        if entry := self._superseded("chmod"):
            mode = entry.data or "666"
            if re.fullmatch(r"0?[0-7]{1,3}", mode):
                options = replace(options, mode=mode)
                self._told(entry, f"?mode={int(mode, 8):03o} in the bind URL", has_any=has_any)
            else:
                plan.leave(entry, f"{mode!r} is no octal mode; write ?mode= behind a bind")
        if entry := self._superseded("chown"):
            user, _, group = (entry.data or "").partition(":")
            options = replace(options, user=user, group=group)
            shown = [f"{key}={name}" for key, name in (("user", user), ("group", group)) if name]
            self._told(entry, f"?{'&'.join(shown)} in the bind URL", has_any=has_any)
        if entry := self._superseded("listen"):
            if (entry.data or "").isdecimal() and int(entry.data[:9]) > 0:
                options = replace(options, backlog=int(entry.data[:9]))
                self._told(entry, f"?backlog={options.backlog} in the bind URL", has_any=has_any)
            else:
                plan.leave(entry, f"{entry.data!r} is no number; write ?backlog= behind a bind")
        return options

    def _told(self, entry: Entry, text: str, *, has_any: bool) -> None:
        if has_any:
            self.plan.note(entry, CARRIED, text)
        else:
            self.plan.leave(entry, f"there is no socket; {text}, once there is one")

    def _front(self, urls: list[tuple[str, bool]]) -> None:
        plan = self.plan
        if not urls:
            plan.tasks.append(
                "No socket is named that Portico can serve (Debian's uwsgi adds one of its own,"
                " /run/uwsgi/app/NAME/socket): set bind."
            )
            return
        limit = int(plan.settings.get("max_body_bytes", 0))
        timeout = int(plan.settings.get("timeout", 0)) or 60
        changed = next((url for url, http in urls if http), "")
        if changed:
            plan.front = Front(
                "uWSGI spoke HTTP here and Portico does not: in the place of the location with"
                " proxy_pass, nginx gets this.",
                changed,
                limit,
                timeout,
            )
        else:
            plan.front = Front(
                "nothing changes: Portico speaks what uWSGI spoke, on the same address; uwsgi_pass"
                " and include uwsgi_params stay."
                if any(url.startswith("uwsgi") for url, _ in urls)
                else "nothing changes: Portico speaks the same protocol on the same address.",
            )

    # -- the rest --------------------------------------------------------------------------

    def _files(self) -> None:
        """Make relative paths whole: uWSGI opens these files where it was started."""
        for key in ("log_file", "access_log", "pid_file", "status_socket"):
            value = self.plan.settings.get(key)
            if value and not value.startswith("/"):
                self.plan.settings[key] = self._from_base(value)

    def _static(self) -> None:
        found = []
        for entry in self.state.kept.get("static", []):
            place, equals, path = (entry.data or "").partition("=")
            if not equals or not place.startswith("/"):
                self.plan.leave(entry, "let the web server serve files")
                continue
            path = self._from_directory(path)
            line = f"location {_nginx(place.rstrip('/') + '/')} {{ alias {_nginx(path + '/')}; }}"
            found.append(line)
            self.plan.leave(entry, f"the web server serves files: in nginx, {line}")
        if found and self.plan.front is not None:
            front = self.plan.front
            sentence = front.sentence
            if sentence.startswith("nothing changes: "):
                sentence = sentence.removeprefix("nothing changes: ") + " Files need lines more."
                sentence = sentence[0].upper() + sentence[1:]
            self.plan.front = Front(
                sentence, front.bind, front.body_limit, front.timeout, tuple(found)
            )

    def _plugins(self) -> None:
        for entry in self.state.kept.get("plugins", []):
            words = re.split(r"[,\s]+", entry.data or "")
            other = [word for word in words if not re.fullmatch(r"\d*:?python\d*|", word)]
            known = {"http", "router_static", "logfile", "syslog", "rsyslog", "corerouter"}
            if not other:
                self.plan.note(entry, NEEDLESS, "Portico is in Python")
            elif set(other) <= known:
                self.plan.note(entry, NEEDLESS, "what it is for is listed by its own options")
            else:
                self.plan.leave(entry, f"Portico has no plugins: {', '.join(other)}")

    def _differences(self) -> None:
        """Set what uWSGI has where nothing is said and Portico has otherwise; tell the rest."""
        plan = self.plan
        default = Entry("uWSGI's default", "", plan.source, 0)
        if "threads" not in plan.settings:
            plan.settings["threads"] = 1
            plan.origins["threads",] = default
            plan.remarks.append(
                "uWSGI's workers have one thread unless threads says otherwise, Portico's 16: the"
                " file has threads: 1. Raise it where the application is safe with threads."
            )
        names = {note.entry.name for note in plan.notes}
        if not names & {"lazy-apps", "lazy"}:
            plan.remarks.append(
                "uWSGI loads the application once and forks; Portico loads it in each worker."
                " preload: yes does as uWSGI did, and saves memory."
            )
        if not names & {"disable-logging", "L", "req-logger", "logger-req"}:
            plan.remarks.append(
                "uWSGI wrote a line for each request to its log; access_log does that, and the web"
                " server has such a log too."
            )
        plan.remarks.append(
            "`import uwsgi`, and with it uwsgidecorators, works under uWSGI alone: look for it in"
            " the application."
        )


def _nginx(text: str) -> str:
    """Write a word of nginx's configuration."""
    if re.fullmatch(r"[\w./-]+", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
