"""What each web server cannot do of the conformance list, and why: flags of `cases.FLAGS`.

Observed from nginx 1.22.1, Apache httpd 2.4.71 with mod_fcgid 2.3.9 and lighttpd 1.4.69, with
the configuration that ``portico config`` prints: as it is, before a Unix socket (AJP: TCP), and
with ``--stream``, before TCP.
"""

from __future__ import annotations

_NGINX = {
    "double-slash": "merge_slashes is on by default",
    "early-output": "once a response begins, it sends no more of the upload",
}

#: Of a site with ``--stream``: uploads are passed on as they come, except over SCGI.
_NGINX_UNBUFFERED = {
    "unread": "it closes after a response that came before the whole body, without announcing it"
}

_APACHE = {"double-slash": "MergeSlashes is on by default"}

_APACHE_NO_CHUNKS = {"chunked": "it answers 411 to an upload without a length"}

_APACHE_BUFFERED = {"streams": "it gathers a response up to 8 KiB, unless told to flush"}

_LIGHTTPD = {
    "double-slash": "its URL normalization merges slashes",
    "odd-methods": "it answers 501 to methods that it does not know",
    "reason": "it sends reasons of its own",
    "get-body": "it answers 400 to a GET with a body",
}

_CLOSED = {
    "shows-cut": "a response without a length ends with the connection, and a Unix socket cannot"
    " be reset; of TCP, some take a reset for the end, now and then"
}

_CLOSED_UNBUFFERED = {
    "shows-cut": "a response with X-Accel-Buffering: no ends with the connection for it, whatever"
    " FastCGI says, and a Unix socket cannot be reset"
}

_SCRIPT = {"shows-cut": "it ends the response as if it were whole"}

#: Product, route of `portico.servers.catalog` -> flag -> reason.
_ALWAYS: dict[tuple[str, str], dict[str, str]] = {
    ("nginx", "fastcgi"): _NGINX,
    ("nginx", "scgi"): _NGINX,
    ("nginx", "uwsgi"): _NGINX,
    ("apache", "fastcgi"): _APACHE,
    ("apache", "scgi"): {**_APACHE, **_APACHE_NO_CHUNKS, **_CLOSED},
    ("apache", "ajp"): {
        **_APACHE,
        "exact-target": "it decodes the path and encodes it again in its own way",
    },
    ("apache", "uwsgi"): {**_APACHE, **_APACHE_NO_CHUNKS, **_CLOSED},
    ("apache", "fcgid"): {**_APACHE, **_SCRIPT},
    ("apache", "cgi"): {**_APACHE, **_SCRIPT},
    ("lighttpd", "fastcgi"): {
        **_LIGHTTPD,
        "shows-cut": "now and then it takes a closed connection for the response's end",
    },
    ("lighttpd", "scgi"): {**_LIGHTTPD, **_CLOSED},
    ("lighttpd", "uwsgi"): {**_LIGHTTPD, **_CLOSED},
    ("lighttpd", "cgi"): {**_LIGHTTPD, **_SCRIPT},
    ("lighttpd", "spawn"): {
        **_LIGHTTPD,
        "shows-cut": "now and then it takes a closed connection for the response's end",
    },
}

#: What is true only as the configuration is printed by default, and only with ``--stream``.
_BUFFERED = {
    ("nginx", "fastcgi"): _CLOSED_UNBUFFERED,
    ("nginx", "scgi"): _CLOSED,
    ("nginx", "uwsgi"): _CLOSED,
    ("apache", "fastcgi"): _APACHE_BUFFERED,
    ("apache", "fcgid"): _APACHE_BUFFERED,
}
_STREAMING = {
    ("nginx", "fastcgi"): _NGINX_UNBUFFERED,
    ("nginx", "uwsgi"): _NGINX_UNBUFFERED,
}


def lacks(product: str, via: str, *, streaming: bool) -> dict[str, str]:
    """What the route cannot do, by flag, each with its reason."""
    configured = _STREAMING if streaming else _BUFFERED
    return {**_ALWAYS[product, via], **configured.get((product, via), {})}
