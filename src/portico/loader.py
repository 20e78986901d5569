"""Finds the WSGI application that is named by a text: a module, or a file, and a callable in it.

Imports next to nothing: a CGI script names its application so, for each request.
"""

import os
import sys

from portico.errors import ConfigError, RequestAborted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

#: What a module's application is called where the operator does not say, in this order.
DEFAULT_NAMES = ("application", "app")


def missing_file(spec: str) -> str:
    """Say that *spec* names a file that is not there; empty for all else."""
    try:
        target, _ = _split(spec)
        if _is_file(target) and not os.path.isfile(target):
            return f"application {spec!r}: there is no such file (looked from {os.getcwd()})"
    except ConfigError as error:  # names neither
        return str(error)
    return ""


def load_application(spec: str, *, directory: "str | None" = None) -> "Callable[..., Any]":
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
    _look_in(directory or os.getcwd())
    try:
        module = _import_file(target, directory) if _is_file(target, directory) else _import(target)
    except RequestAborted:  # the web server has ended this CGI process
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(_import_failure(spec, target, error), key="app") from error
    return _find_callable(spec, module, name)


def stand_in(spec: str, directory: "str | None", *, debug: bool = False) -> "Callable[..., Any]":
    """Import the application named by *spec*, or give one that answers 500 and says why in the log.

    Args:
        spec: As `load_application` takes it.
        directory: Likewise.
        debug: Whether that answer shows the reason.
    """
    try:
        return load_application(spec, directory=directory)
    except ConfigError as error:
        from portico.core.unloadable import Unloadable  # noqa: PLC0415 - lazy: only failures need it

        return Unloadable(str(error), debug=debug)


def anchored(spec: str) -> str:
    """Name the application so that it is found from any working directory: files by full path.

    Raises:
        ConfigError: *spec* names no module or file.
    """
    target, name = _split(spec)
    if not _is_file(target):
        return spec
    path = os.path.abspath(target)
    return f"{path}:{name}" if name else path


def _split(spec: str) -> "tuple[str, str]":
    """Split *spec* into module or path, and callable; a drive letter's colon splits nothing."""
    head, colon, tail = spec.rpartition(":")
    if not colon or "/" in tail or "\\" in tail or os.path.isfile(spec):
        return spec, ""
    if not head:
        raise ConfigError(f"application {spec!r} names no module or file", key="app")
    return head, tail


def _look_in(directory: str) -> None:
    """Let modules be imported from *directory*, before all other places."""
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _import(name: str) -> "ModuleType":
    __import__(name)  # as `importlib.import_module` does, which costs 1 ms to load
    return sys.modules[name]


def _is_file(target: str, directory: "str | None" = None) -> bool:
    """Whether a file is meant: ``site.wsgi`` may be one, or the module that Django makes."""
    if target.endswith(".wsgi") and os.sep not in target:
        return os.path.isfile(os.path.join(directory or "", target))
    return target.endswith(".py") or os.sep in target


def _import_file(path: str, directory: "str | None") -> "ModuleType":
    import importlib.util  # noqa: PLC0415 - lazy: files alone need it
    from importlib.machinery import SourceFileLoader  # noqa: PLC0415 - likewise

    full = os.path.realpath(os.path.join(directory or "", path))
    if not os.path.isfile(full):
        raise FileNotFoundError(f"no such file: {path}")
    _look_in(os.path.dirname(full))
    name = os.path.splitext(os.path.basename(full))[0].replace("-", "_")
    if name in sys.modules or not name.isidentifier():
        name = f"portico_application_{name}"
    loader = SourceFileLoader(name, full)
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
            f" (looked from {os.getcwd()} and in the Python path)"
        )
    text = _traceback(error)
    kind = type(error).__name__
    return f"application {spec!r} cannot be loaded: its import raised {kind}: {error}\n{text}"


def _is_foreign(error: "FileNotFoundError") -> bool:
    """Whether the application's own code raised *error* (it has an errno then)."""
    return error.errno is not None


def _find_callable(spec: str, module: "ModuleType", name: str) -> "Callable[..., Any]":
    if not name:
        for candidate in DEFAULT_NAMES:
            default = getattr(module, candidate, None)
            if callable(default):
                return default  # type: ignore[no-any-return] # it is callable
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
        except RequestAborted:  # as above
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"application {spec!r}: its factory raised {type(error).__name__}: {error}\n"
                f"{_traceback(error)}",
                key="app",
            ) from error
    if not callable(found):
        raise ConfigError(
            f"application {spec!r}: {name} is a {type(found).__name__} and cannot be called",
            key="app",
        )
    return found  # type: ignore[no-any-return] # it is callable


def _traceback(error: BaseException) -> str:
    import traceback  # noqa: PLC0415 - lazy: only failures need it

    return "".join(traceback.format_exception(error)).rstrip()
