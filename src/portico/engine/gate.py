"""A listener with what its connections share: codec, environ rules, application."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from portico import __version__
from portico.codecs import PROTOCOLS, server_codec_maker
from portico.core.environ import EnvironRules
from portico.core.mount import EXAMPLES, Mounting
from portico.core.response import FileWrapper
from portico.errors import ConfigError
from portico.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.codecs import ServerCodec
    from portico.config.settings import Settings
    from portico.engine.leader import Engine
    from portico.transports.listen import Listener


class Gate:
    """One way into the engine.

    Attributes:
        listener: Where connections come from; owned.
        application: The WSGI callable.
        rules: Makes environs of parameters.
        make_codec: Makes the server side of one connection.
        name: The bind URL, for log lines; holds no secret.
    """

    __slots__ = ("application", "debug", "engine", "listener", "make_codec", "name", "rules")

    def __init__(
        self,
        listener: Listener,
        application: Callable[..., Any],
        settings: Settings,
        engine: Engine,
        errors: object,
    ) -> None:
        self.listener = listener
        self.application = application
        self.engine = engine
        self.debug = settings.debug
        self.name = str(listener.bind)
        self.make_codec = _codec_maker(listener, settings)
        base = {
            "wsgi.version": (1, 0),
            "wsgi.errors": errors,
            "wsgi.multithread": settings.threads > 1,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            "portico.protocol": PROTOCOLS[listener.bind.protocol],
            "portico.bind": self.name,
            "portico.version": __version__,
        }
        for name in settings.disable_repairs:
            if name not in EXAMPLES:
                raise ConfigError(
                    f"there is no repair {name!r}; known: {', '.join(EXAMPLES)}",
                    key="disable_repairs",
                )
        mounting = Mounting(settings.mount, disabled=frozenset(settings.disable_repairs))
        self.rules = EnvironRules(base, mounting)


def _codec_maker(listener: Listener, settings: Settings) -> Callable[[], ServerCodec]:
    """Bind the listener's options to its protocol's codec."""
    limits = Limits(
        max_params_bytes=settings.max_params_bytes,
        max_params=settings.max_params,
    )
    bind = listener.bind
    options: dict[str, object] = {}
    if bind.protocol == "ajp":
        options = bind.ajp_options()
        if settings.ajp_attributes:
            options["allowed_attributes"] = frozenset(settings.ajp_attributes)
    elif PROTOCOLS.get(bind.protocol) == "fastcgi":
        options = {"max_conns": settings.max_connections, "max_reqs": settings.threads}
    return server_codec_maker(bind.protocol, limits, **options)


class ErrorStream:
    """``wsgi.errors``: text that goes to the process's standard error, whole at each call."""

    __slots__ = ()

    def write(self, text: str) -> int:
        """Write *text*; characters that the stream cannot hold are escaped."""
        stream = sys.stderr
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each of *lines*."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Hand on what is buffered."""
        sys.stderr.flush()
