"""What is served: the service as configured, and each generation of workers that serves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.config.settings import Settings
    from portico.supervisor.logfiles import LogFiles
    from portico.supervisor.privileges import Account
    from portico.transports.bind import Bind
    from portico.transports.listen import Listener


@dataclass(frozen=True, slots=True)
class Service:
    """One reading of the configuration.

    Attributes:
        settings: All settings.
        binds: Where to listen.
        load: Gives the application; called in each worker, as it may import anything. Raises
            `ConfigError`.
        name: How the operator names the application.
        files: The log files, which a reload does not change.
        read: Files that this was read from; looked at for changes in development.
        least: With `on_demand`: how many workers stay though they have nothing to do; a count.
    """

    settings: Settings
    binds: tuple[Bind, ...]
    load: Callable[[], Callable[..., Any]]
    name: str
    files: LogFiles
    read: tuple[str, ...] = ()
    least: int = 0


@dataclass(slots=True, eq=False)
class Generation:
    """The workers that were started with one reading of the configuration.

    Attributes:
        number: 1 for the first.
        service: What they serve.
        listeners: Where they listen; owned by the parent, and shared with other generations.
        wanted: How many workers there are to be.
        account: Whom they become; None if they stay who the parent is.

    Raises:
        ConfigError: there is no such user or group.
    """

    number: int
    service: Service
    listeners: list[Listener]
    wanted: int = field(init=False)
    account: Account | None = field(init=False)

    def __post_init__(self) -> None:
        settings = self.service.settings
        self.wanted = settings.workers
        # lazy: there are no such accounts on Windows, where one process serves alone
        from portico.supervisor.privileges import find_account  # noqa: PLC0415

        self.account = find_account(settings.user, settings.group)

    def own_files(self) -> None:
        """Let its workers open the log files anew, whoever they are."""
        if self.account is not None:
            self.service.files.give_to(self.account.uid, self.account.gid)

    @property
    def needed(self) -> int:
        """How many workers must serve for the generation to serve."""
        return max(1, self.service.least) if self.service.settings.on_demand else self.wanted
