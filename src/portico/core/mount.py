"""Where the application is mounted: SCRIPT_NAME and PATH_INFO, repaired by named rules.

Web servers disagree about the two. Each repair below is certain: it acts only on what the one
server sends that makes the mistake. `EXAMPLES` holds a captured request for each; the tests run
the rules on them, and the documentation prints them.
"""

from portico.errors import RemoteProtocolError
from portico.target import decode_path, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    _Example = tuple[dict[str, str], tuple[str | None, str | None], tuple[str, str]]

#: name -> (what is wrong, what the wire said, what the application gets); (SCRIPT_NAME, PATH_INFO)
#: with None for "not sent". Further parameters of an example stand in front.
EXAMPLES: "dict[str, list[_Example]]" = {
    "apache-proxy": [
        # mod_proxy_fcgi and mod_proxy_scgi put the whole path into SCRIPT_NAME; what ProxyPass
        # left of it stands in SCRIPT_FILENAME, percent-encoded. Observed from Apache 2.4.71.
        (
            {"SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000/hello"},
            ("/app/hello", None),
            ("/app", "/hello"),
        ),
        (
            {"SCRIPT_FILENAME": "proxy:scgi://127.0.0.1:4000/caf%C3%A9/a%20b/x+y"},
            ("/app/caf\xc3\xa9/a b/x+y", None),
            ("/app", "/caf\xc3\xa9/a b/x+y"),
        ),
        ({"SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000/"}, ("/app", None), ("/app", "")),
        # with SetHandler: a file name, so nothing tells where the application begins
        (
            {"SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000//srv/www/app/hello"},
            ("/app/hello", None),
            ("", "/app/hello"),
        ),
        # with proxy-fcgi-pathinfo: cut at the wrong place where the path has escapes
        (
            {
                "SCRIPT_FILENAME": "proxy:fcgi://127.0.0.1:9000/caf%C3%A9/a%20b",
                "REQUEST_URI": "/app/caf%C3%A9/a%20b?x",
            },
            ("/app/", "/caf%C3%A9/a%20b"),
            ("/app", "/caf\xc3\xa9/a b"),
        ),
    ],
    "apache-bare-mount": [
        # mod_proxy_uwsgi sends "/" for the mount point itself. Observed from Apache 2.4.71.
        (
            {"SCRIPT_FILENAME": "proxy:uwsgi://127.0.0.1:3031/", "REQUEST_URI": "/app"},
            ("/app", "/"),
            ("/app", ""),
        ),
        # with a slash, it stands in both
        (
            {"SCRIPT_FILENAME": "proxy:uwsgi://127.0.0.1:3031/", "REQUEST_URI": "/app/"},
            ("/app/", "/"),
            ("/app", "/"),
        ),
    ],
    "apache-rewrite": [
        # a RewriteRule of an .htaccess that leads to a script beside it: the script's name shows,
        # and there is no PATH_INFO. Observed from Apache 2.4.71.
        (
            {"REDIRECT_STATUS": "200", "REDIRECT_URL": "/blog/a b"},
            ("/blog/app.cgi", None),
            ("/blog", "/a b"),
        ),
        (
            {"REDIRECT_STATUS": "200", "REDIRECT_URL": "/"},
            ("/app.cgi", None),
            ("", "/"),
        ),
    ],
    "nginx-stock-fastcgi": [
        # fastcgi_params has no PATH_INFO: the whole path is in SCRIPT_NAME. Observed from 1.22.1.
        ({"SERVER_SOFTWARE": "nginx/1.22.1"}, ("/app/hello", None), ("", "/app/hello")),
    ],
    "no-path-info": [
        # scgi_params of nginx has neither. Observed from nginx 1.22.1.
        ({"REQUEST_URI": "/app/a%20b?x=1"}, (None, None), ("", "/app/a b")),
    ],
    "iis-script-name-twice": [
        # IIS repeats SCRIPT_NAME in PATH_INFO. Microsoft's documentation of
        # allowPathInfoForScriptMappings; wsgiref.handlers.IISCGIHandler has the same rule.
        (
            {"SERVER_SOFTWARE": "Microsoft-IIS/10.0"},
            ("/app.py", "/app.py/hello"),
            ("/app.py", "/hello"),
        ),
    ],
    "iis-wildcard": [
        # A handler mapping for "*", as for wfastcgi, has the whole path in both; the application's
        # virtual directory stands in APPL_MD_PATH. Dumps of IIS 8.5 and 10.
        (
            {"SERVER_SOFTWARE": "Microsoft-IIS/10.0", "APPL_MD_PATH": "/LM/W3SVC/1/ROOT/app"},
            ("/app/hello", "/app/hello"),
            ("/app", "/hello"),
        ),
    ],
    "slash-in-script-name": [
        # lighttpd with the prefix "/" sends it as SCRIPT_NAME unless fix-root-scriptname is set.
        ({"SERVER_SOFTWARE": "lighttpd/1.4.69"}, ("/", "hello"), ("", "/hello")),
    ],
}


#: Names that a script has: where SCRIPT_NAME ends so, IIS maps scripts and not all paths.
_SCRIPT_ENDS = (".py", ".cgi", ".fcgi", ".exe")


class NotMounted(RemoteProtocolError):  # noqa: N818 - an answer (404) more than an error
    """The request's path lies outside the configured mount point."""


class Mounting:
    """Decides SCRIPT_NAME and PATH_INFO of each request.

    Attributes:
        prefix: Configured mount point, ``""`` or ``"/app"``; None leaves it to the web server.
        counts: How often each repair changed something, by its name.
    """

    __slots__ = ("counts", "disabled", "prefix")

    def __init__(
        self, prefix: "str | None" = None, *, disabled: "frozenset[str]" = frozenset()
    ) -> None:
        self.prefix = None if prefix is None else prefix.rstrip("/")
        self.disabled = disabled
        self.counts = dict.fromkeys(EXAMPLES, 0)

    def apply(self, environ: "dict[str, str]") -> None:
        """Set SCRIPT_NAME and PATH_INFO in place.

        Raises:
            NotMounted: the path is not below the configured prefix; answer 404.
            RemoteProtocolError: a path that does not begin with a slash; answer 400.
        """
        before = (environ.get("SCRIPT_NAME"), environ.get("PATH_INFO"))
        name, script, info = self._repair(environ, *before)
        if name and (script, info) != before:
            self.counts[name] += 1
        if script and script[0] != "/":
            raise RemoteProtocolError(
                f"SCRIPT_NAME does not begin with a slash: {script[:80]!a}",
                section="RFC 3875 §4.1.13",
                status_hint=400,
            )
        if info and info[0] != "/" and not (info == "*" and not script):
            raise RemoteProtocolError(
                f"PATH_INFO does not begin with a slash: {info[:80]!a}",
                section="RFC 3875 §4.1.5",
                status_hint=400,
            )
        if self.prefix is not None:
            script, info = self._split(script + info)
        environ["SCRIPT_NAME"] = script
        environ["PATH_INFO"] = info if info or script else "/"

    def _repair(
        self, environ: "dict[str, str]", script: "str | None", info: "str | None"
    ) -> "tuple[str, str, str]":
        """Find the one repair that fits; gives its name, or "", and the two values."""
        enabled = self.disabled.isdisjoint
        software = environ.get("SERVER_SOFTWARE", "")
        filename = environ.get("SCRIPT_FILENAME", "")
        if filename.startswith("proxy:"):
            if filename.startswith(("proxy:fcgi:", "proxy:scgi:")) and enabled(("apache-proxy",)):
                return "apache-proxy", *_split_proxied(environ, filename, script or "", info)
            if info == "/" and script and enabled(("apache-bare-mount",)):
                target = decode_path(path_of(environ.get("REQUEST_URI", "")))
                slash = "" if target == script and script[-1] != "/" else "/"
                return "apache-bare-mount", script.rstrip("/"), slash
        elif script and (info is None or self.prefix is not None) and "REDIRECT_URL" in environ:
            # with a PATH_INFO both are right, and only a mount point that was told needs more
            if enabled(("apache-rewrite",)):
                return "apache-rewrite", *_split_rewritten(environ, script, info or "")
        elif info is None and script is None:
            if enabled(("no-path-info",)):
                target = decode_path(path_of(environ.get("REQUEST_URI", "")))
                # nginx's DOCUMENT_URI is decoded already
                return "no-path-info", "", target or environ.get("DOCUMENT_URI", "")
        elif info is None and software.startswith("nginx/"):
            if enabled(("nginx-stock-fastcgi",)):
                return "nginx-stock-fastcgi", "", script or ""
        elif software.startswith("Microsoft-IIS/") and script and info:
            repaired = self._repair_iis(environ, script, info)
            if repaired is not None:
                return repaired
        if script and script[-1] == "/" and enabled(("slash-in-script-name",)):
            rest = (info or "").removeprefix("/")
            return "slash-in-script-name", script.rstrip("/"), "/" + rest
        return "", script or "", info or ""

    def _repair_iis(
        self, environ: "dict[str, str]", script: str, info: str
    ) -> "tuple[str, str, str] | None":
        enabled = self.disabled.isdisjoint
        wildcard = script == info and not script.endswith(_SCRIPT_ENDS)
        if wildcard and "APPL_MD_PATH" in environ:
            if enabled(("iis-wildcard",)):
                return "iis-wildcard", *_split_virtual(environ["APPL_MD_PATH"], info)
        elif (info + "/").startswith(script + "/") and enabled(("iis-script-name-twice",)):
            return "iis-script-name-twice", script, info[len(script) :]
        return None

    def _split(self, path: str) -> "tuple[str, str]":
        """Split a whole path at the configured prefix, on whole segments."""
        prefix = self.prefix or ""
        if path == prefix or path.startswith(prefix + "/") or (path == "*" and not prefix):
            return prefix, path[len(prefix) :]
        raise NotMounted(
            f"path {path[:200]!a} is not below the mount point {prefix!r}", status_hint=404
        )


def _split_proxied(
    environ: "dict[str, str]", filename: str, script: str, info: "str | None"
) -> "tuple[str, str]":
    """Split the path as Apache's ProxyPass did, told by SCRIPT_FILENAME.

    It reads ``proxy:fcgi://host:port`` and then, still percent-encoded, the rest of the path
    behind the mount point.
    """
    authority = filename.partition("://")[2]
    slash = authority.find("/")
    rest = decode_path(authority[slash:]) if slash >= 0 else ""
    whole = script if info is None else decode_path(path_of(environ.get("REQUEST_URI", script)))
    if rest and whole.endswith(rest):
        return whole[: len(whole) - len(rest)], rest
    if rest in {"", "/"}:
        return whole, ""
    return ("", whole) if info is None else (script, info)


def _split_rewritten(environ: "dict[str, str]", script: str, info: str) -> "tuple[str, str]":
    """Split the path that the client asked for at the directory of the script that it became.

    REDIRECT_URL is that path, decoded; with QualifyRedirectURL it is a whole URL.
    """
    if environ.get("REDIRECT_STATUS") != "200":  # an ErrorDocument is no other name of the target
        return script, info
    target = environ["REDIRECT_URL"]
    if target[:1] != "/":
        target = decode_path(path_of(environ.get("REQUEST_URI", "")))
    place = script.rpartition("/")[0]
    if (target + "/").startswith(script + "/"):  # it named the script itself
        return script, info
    if (target + "/").startswith(place + "/"):
        return place, target[len(place) :]
    if info and target.endswith(info):
        return target[: len(target) - len(info)], info
    return script, info


def _split_virtual(application: str, path: str) -> "tuple[str, str]":
    """Split *path* behind the virtual directory that an IIS application path names.

    IIS compares without case; the client's spelling is kept.
    """
    prefix = application.partition("/ROOT")[2].rstrip("/")
    if (path.lower() + "/").startswith(prefix.lower() + "/"):
        return path[: len(prefix)], path[len(prefix) :]
    return "", path
