"""Portico runs any WSGI application behind any web server, over any gateway protocol.

>>> import portico
>>> portico.run(app)  # doctest: +SKIP

`run`, `serve` and `RequestTimeout` are loaded on first use, so that ``import portico`` costs next
to nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from portico.entry import run
    from portico.errors import RequestTimeout
    from portico.serving import serve

__version__ = "0.1.0"
__all__ = ["RequestTimeout", "run", "serve"]


def __getattr__(name: str) -> object:
    if name == "RequestTimeout":
        from portico import errors  # noqa: PLC0415 - lazy: likewise

        return errors.RequestTimeout
    if name == "run":
        from portico import entry  # noqa: PLC0415 - lazy: 1 ms that a mere import need not pay

        return entry.run
    if name == "serve":
        from portico import serving  # noqa: PLC0415 - lazy: likewise, 30 ms

        return serving.serve
    raise AttributeError(f"module 'portico' has no attribute {name!r}")
