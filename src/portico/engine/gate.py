"""A listener with what its connections share: codec, environ rules, application."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from portico import __version__
from portico.codecs import AUTO, PROTOCOLS, server_codec_maker
from portico.core.environ import EnvironRules
from portico.core.mount import EXAMPLES, Mounting
from portico.core.response import FileWrapper, run_response
from portico.engine.connection import NO_BODY, ROLES
from portico.errors import ConfigError
from portico.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.codecs import ServerCodec
    from portico.config.settings import Settings
    from portico.engine.accesslog import AccessLog
    from portico.engine.handover import Handover
    from portico.engine.leader import Engine
    from portico.transports.listen import Listener


class Gate:
    """One way into the engine.

    Attributes:
        listener: Where connections come from; owned.
        protocol: The name of what is spoken here.
        access: Takes a line for each request; None without an access log.
        corks: Whether its connections begin corked; see `Listener.corks`.
        application: The WSGI callable.
        rules: Makes environs of parameters.
        make_codec: Makes the server side of one connection.
        errors_to_frontend: Whether ``wsgi.errors`` goes to the web server (FastCGI alone).
        name: The bind URL, for log lines; holds no secret.
        run: Serves one request: `run_response`, or what does that under limits of time.
        spoken: Where the listener's protocol is ``auto``: a copy of this gate for each protocol,
            which takes its place in a connection once that shows what it speaks.
    """

    __slots__ = (
        "access", "application", "corks", "engine", "errors_to_frontend", "listener", "make_codec",
        "name", "protocol", "rules", "run", "spoken",
    )  # fmt: skip

    def __init__(
        self,
        listener: Listener,
        application: Callable[..., Any],
        settings: Settings,
        engine: Engine,
        more: Mapping[str, object],
        *,
        access: AccessLog | None = None,
    ) -> None:
        self.listener = listener
        self.application = application
        self.engine = engine
        self.name = str(listener.bind)
        self.access = access
        self.corks = listener.corks
        run = engine.deadlines.run if engine.deadlines.limited else run_response
        # bound here, as a keyword costs each call
        self.run: Callable[..., None] = partial(run, debug=True) if settings.debug else run
        protocol = listener.bind.protocol
        self.protocol = PROTOCOLS.get(protocol, protocol)
        self.errors_to_frontend = _takes_errors(protocol, settings)
        self.make_codec = _codec_maker(protocol, listener, settings)
        base = {"wsgi.input": NO_BODY, **base_keys(self.protocol, self.name, settings, more)}
        for name in settings.disable_repairs:
            if name not in EXAMPLES:
                raise ConfigError(
                    f"there is no repair {name!r}; known: {', '.join(EXAMPLES)}",
                    key="disable_repairs",
                )
        mounting = Mounting(settings.mount, disabled=frozenset(settings.disable_repairs))
        self.rules = EnvironRules(base, mounting)
        self.spoken: dict[str, Gate] = {}
        if protocol == AUTO:
            for name in dict.fromkeys(PROTOCOLS.values()):
                self.spoken[name] = gate = copy(self)
                gate.protocol = name
                gate.errors_to_frontend = _takes_errors(name, settings)
                gate.make_codec = _codec_maker(name, listener, settings)
                gate.rules = EnvironRules({**base, "portico.protocol": name}, mounting)

    def note_refusal(
        self, environ: dict[str, Any], status: int, octets: int, *, aborted: bool = False
    ) -> None:
        """Count a request that Portico answers itself, and give it its access line.

        Args:
            environ: What is known of it.
            status: Of the answer.
            octets: Of its body.
            aborted: Whether the peer did not take it.
        """
        if aborted:
            status = 499
        self.engine.count(self.protocol, status, octets, aborted=aborted)
        if self.access is not None:
            known = {**environ, "portico.protocol": self.protocol, "portico.bind": self.name}
            self.access.end(self.access.begin(known), status, octets, complete=not aborted)

    def standing_at(self, handover: Handover) -> Gate:
        """Give a copy for what other processes hand over; the engine looks up each one's own."""
        gate = copy(self)
        gate.listener = cast("Listener", handover)  # to the poller and accept() it is one
        return gate


def base_keys(
    protocol: str, bind: str, settings: Settings, more: Mapping[str, object]
) -> dict[str, object]:
    """Give what the server itself puts into each environ.

    Args:
        protocol: Name of the protocol.
        bind: The bind URL, without a secret.
        settings: All settings.
        more: Further keys, which may replace these; ``wsgi.errors`` at least.
    """
    return {
        "wsgi.version": (1, 0),
        "wsgi.multithread": settings.threads > 1,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
        "portico.role": "responder",
        "portico.protocol": protocol,
        "portico.bind": bind,
        "portico.version": __version__,
        **more,
    }


def _takes_errors(protocol: str, settings: Settings) -> bool:
    return settings.errors_to == "frontend" and PROTOCOLS.get(protocol) == "fastcgi"


def _codec_maker(
    protocol: str, listener: Listener, settings: Settings
) -> Callable[[], ServerCodec]:
    """Bind the listener's options to the codec of *protocol*."""
    limits = Limits(
        max_params_bytes=settings.max_params_bytes,
        max_params=settings.max_params,
    )
    options: dict[str, object] = {}
    if protocol == "ajp":
        options = listener.bind.ajp_options()
        if settings.ajp_attributes:
            options["allowed_attributes"] = frozenset(settings.ajp_attributes)
    elif PROTOCOLS.get(protocol) == "fastcgi":
        options = {
            "max_conns": settings.max_connections,
            "max_reqs": settings.threads,
            "roles": tuple(ROLES[name] for name in settings.roles),
            # with one thread there would be nobody to serve a second request
            "most": settings.max_multiplexed if settings.threads > 1 else 1,
        }
    return server_codec_maker(protocol, limits, **options)
