"""Loads the applications that the settings name, each with its environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from portico.errors import ConfigError
from portico.loader import load_application

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.config.mounts import Mount
    from portico.config.settings import Settings


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
