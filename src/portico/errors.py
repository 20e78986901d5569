"""The exception tree, split by who is at fault, because that decides what happens next."""


class PorticoError(Exception):
    """Everything that Portico raises on purpose."""


class ProtocolError(PorticoError):
    """A gateway protocol was broken, by one side or the other."""


class RemoteProtocolError(ProtocolError):
    """The peer sent bytes that no conforming peer sends.

    The connection is finished; it is answered only if `status_hint` is set.

    Attributes:
        section: Where the rule is written, e.g. ``"FastCGI 1.0 §3.3"``.
        status_hint: HTTP status to answer with if an answer is still possible; 0 means none.
    """

    def __init__(self, message: str, *, section: str = "", status_hint: int = 0) -> None:
        super().__init__(message)
        self.section = section
        self.status_hint = status_hint


class LimitExceeded(RemoteProtocolError):  # noqa: N818 - the event, not the class, is the news
    """The grammar is fine, a ceiling is passed.

    Attributes:
        option: Name of the option that raises the ceiling.
    """

    def __init__(
        self, message: str, *, option: str, section: str = "", status_hint: int = 0
    ) -> None:
        super().__init__(message, section=section, status_hint=status_hint)
        self.option = option


class LocalProtocolError(ProtocolError):
    """The caller broke the protocol: a bug in Portico or in what embeds it."""


class ApplicationError(PorticoError):
    """The WSGI application broke PEP 3333; answered 500 and reported to ``wsgi.errors``.

    Attributes:
        answered: Whether that answer has been sent by whoever raised it.
    """

    answered = False


class RequestAborted(PorticoError, OSError):  # noqa: N818 - the event, not the class, is the news
    """The frontend gave the request up; surfaces in ``wsgi.input.read()`` and on writing.

    An `OSError` as well, since that is what applications expect of a broken upload.
    """


class RequestTimeout(PorticoError):  # noqa: N818 - the event, not the class, is the news
    """The request ran longer than `timeout`; raised in the application wherever it is just then.

    The client has its answer by then, 504 or a cut response; reading and writing raise it again.
    """

    def __init__(self, message: str = "the request ran longer than timeout allows") -> None:
        super().__init__(message)


class ConfigError(PorticoError):
    """The operator asked for something impossible; exit status 2.

    Attributes:
        key: The setting at fault, or ``""``.
        source: Where its value came from, e.g. ``"command line"`` or ``"portico.yaml line 3"``.
    """

    def __init__(self, message: str, *, key: str = "", source: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.source = source


class TransportError(PorticoError):
    """The system refused a socket operation; the `OSError` is the ``__cause__``."""
