"""Finds the WSGI application that the operator named."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from portico.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from portico.config.mounts import Mount
    from portico.config.settings import Settings

#: What a module's application is called where the operator does not say, in this order.
DEFAULT_NAMES = ("application", "app")


def load(settings: Settings) -> Callable[..., Any]:
    """Load what the settings name, in this process: one application, or all that are mounted.

    `os.environ` gets the environment of the settings first. What a mount adds is there while its
    application is loaded, and afterwards where nobody else gives that name another value.

    Raises:
        ConfigError: an application cannot be loaded, and which; or none is named.
    """
    os.environ.update(settings.environment)
    require_application(settings)
    if settings.app is not None and not settings.mounts:
        return load_application(settings.app)
    from portico.core.dispatch import Dispatcher  # noqa: PLC0415 - most have no mounts

    fallback = None if settings.app is None else load_application(settings.app)
    dispatcher = Dispatcher(
        [
            (mount.host, mount.prefix, _load_mount(mount), dict(mount.environment))
            for mount in settings.mounts
        ],
        fallback,
    )
    os.environ.update(_undisputed(settings))
    return dispatcher


def require_application(settings: Settings) -> None:
    """Refuse settings that name no application.

    Raises:
        ConfigError: says how to name one.
    """
    if settings.app is None and not settings.mounts:
        raise ConfigError(
            "no application is named: portico serve APP, or app in the file", key="app"
        )


def name_of(settings: Settings) -> str:
    """Name what is served, for log lines."""
    names = [f"{mount.app} at {mount.place}" for mount in settings.mounts]
    if settings.app is not None:
        names.insert(0, settings.app)
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _load_mount(mount: Mount) -> Callable[..., Any]:
    """Load one application with its own environment, and put back what that was before."""
    before = {name: os.environ.get(name) for name, _ in mount.environment}
    os.environ.update(mount.environment)
    try:
        return load_application(mount.app)
    except ConfigError as error:
        raise ConfigError(f"mount {mount.place}: {error}", key="mounts") from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _undisputed(settings: Settings) -> dict[str, str]:
    """Give what mounts add to the environment and nobody else sets to another value."""
    wanted: dict[str, set[str]] = {}
    for pairs in (settings.environment, *(mount.environment for mount in settings.mounts)):
        for name, value in pairs:
            wanted.setdefault(name, set()).add(value)
    return {name: values.pop() for name, values in wanted.items() if len(values) == 1}


def missing_file(spec: str) -> str:
    """Say that *spec* names a file that is not there; empty for all else."""
    try:
        target, _ = _split(spec)
        if _is_file(target) and not Path(target).is_file():
            return f"application {spec!r}: there is no such file (looked from {Path.cwd()})"
    except ConfigError as error:  # names neither
        return str(error)
    return ""


def load_application(spec: str, *, directory: str | None = None) -> Callable[..., Any]:
    """Import the application named by *spec*.

    Args:
        spec: ``module:callable``, ``module:factory()``, or the path of a ``.py`` or ``.wsgi``
            file, also with ``:callable``. Without one, ``application`` and then ``app``.
        directory: Where modules are looked for first; the working directory by default.

    Raises:
        ConfigError: it cannot be loaded. The first line is a sentence; the traceback, where
            there is one, follows below.
    """
    target, name = _split(spec)
    _look_in(Path(directory) if directory else Path.cwd())
    try:
        module = _import_file(target) if _is_file(target) else importlib.import_module(target)
    except (Exception, SystemExit) as error:
        raise ConfigError(_import_failure(spec, target, error), key="app") from error
    return _find_callable(spec, module, name)


def anchored(spec: str) -> str:
    """Name the application so that it is found from any working directory: files by full path.

    Raises:
        ConfigError: *spec* names no module or file.
    """
    target, name = _split(spec)
    if not _is_file(target):
        return spec
    path = str(Path(target).absolute())
    return f"{path}:{name}" if name else path


def _split(spec: str) -> tuple[str, str]:
    """Split *spec* into module or path, and callable; a drive letter's colon splits nothing."""
    head, colon, tail = spec.rpartition(":")
    if not colon or "/" in tail or "\\" in tail or Path(spec).is_file():
        return spec, ""
    if not head:
        raise ConfigError(f"application {spec!r} names no module or file", key="app")
    return head, tail


def _look_in(directory: Path) -> None:
    """Let modules be imported from *directory*, before all other places."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _is_file(target: str) -> bool:
    """Whether a file is meant: ``site.wsgi`` may be one, or the module that Django makes."""
    if target.endswith(".wsgi") and os.sep not in target:
        return Path(target).is_file()
    return target.endswith(".py") or os.sep in target


def _import_file(path: str) -> ModuleType:
    full = Path(path).resolve()
    if not full.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    _look_in(full.parent)
    name = full.stem.replace("-", "_")
    if name in sys.modules or not name.isidentifier():
        name = f"portico_application_{name}"
    loader = SourceFileLoader(name, str(full))
    # by location: the application may look for its files beside its own, `__file__`
    spec = importlib.util.spec_from_file_location(name, full, loader=loader)
    if spec is None:  # pragma: no cover - a loader was given, so there is always a spec
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look it up there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_failure(spec: str, target: str, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and not _is_foreign(error):
        return f"application {spec!r} cannot be loaded: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name in {target, target.partition(".")[0]}:
        kind = "file or module" if target.endswith(".wsgi") else "module"
        name = target if target.endswith(".wsgi") else error.name
        return (
            f"application {spec!r} cannot be loaded: there is no {kind} {name!r} here"
            f" (looked from {Path.cwd()} and in the Python path)"
        )
    text = "".join(traceback.format_exception(error)).rstrip()
    kind = type(error).__name__
    return f"application {spec!r} cannot be loaded: its import raised {kind}: {error}\n{text}"


def _is_foreign(error: FileNotFoundError) -> bool:
    """Whether the application's own code raised *error* (it has an errno then)."""
    return error.errno is not None


def _find_callable(spec: str, module: ModuleType, name: str) -> Callable[..., Any]:
    if not name:
        for candidate in DEFAULT_NAMES:
            default = getattr(module, candidate, None)
            if callable(default):
                return cast("Callable[..., Any]", default)
        raise ConfigError(
            f"application {spec!r}: its module has neither a callable 'application' nor 'app';"
            f" name one: {spec}:NAME",
            key="app",
        )
    is_factory = name.endswith("()")
    found: Any = module
    for part in name.removesuffix("()").split("."):
        found = getattr(found, part, None)
        if found is None:
            raise ConfigError(f"application {spec!r}: its module has no {part!r}", key="app")
    if is_factory:
        try:
            found = found()
        except (Exception, SystemExit) as error:
            text = "".join(traceback.format_exception(error)).rstrip()
            raise ConfigError(
                f"application {spec!r}: its factory raised {type(error).__name__}: {error}\n{text}",
                key="app",
            ) from error
    if not callable(found):
        raise ConfigError(
            f"application {spec!r}: {name} is a {type(found).__name__} and cannot be called",
            key="app",
        )
    return cast("Callable[..., Any]", found)
