"""Warm CGI: hand the one request to a resident server, which the first request starts.

A CGI process costs what its application imports. Here it imports none of it: it sends the request
over a private Unix socket, in FastCGI, to a server that the first request has started, and passes
the response on. Whatever stands in the way, the request is served as plain CGI.

What makes that safe is that the server says first whether it takes the request (`GO`, on the
stream for errors) and the body is not touched before: until then nothing has happened, and another
server, or this process, may take the request. A resident server is never told a request that it
could still run after this process has given up: the channel for its `GO` is closed first.

Imports next to nothing, as CGI does.

Spec: FastCGI 1.0 §3.3 (records), §3.4 (pairs), §5 (streams); RFC 3875.
"""

#: What a resident server writes first to the stream for errors: whether it takes the request.
GO = b"portico: go\n"
LEAVE = b"portico: leave\n"

#: The parameter by which it sees that script and options are those that it was started with.
IDENTITY = "PORTICO_RESIDENT"

#: Seconds that everything takes at most which does not depend on an application.
PATIENCE = 0.05


class Trouble(Exception):  # noqa: N818 - the reader wants to know what it is
    """Why no resident server answers: this request is plain CGI's."""


class Died(Exception):  # noqa: N818 - likewise
    """A resident server went away, or is about to; the next one may take the request.

    Attributes:
        began: Whether it had taken the request.
    """

    def __init__(self, *, began: bool = False) -> None:
        super().__init__("the resident server ended")
        self.began = began
