"""The four protocols as the fuzz targets see them: how to make a codec, and what is known of it."""

from __future__ import annotations

from fuzz.plan import CLOSE, LARGE_PACKETS, VARIANT
from fuzz.wire import as_request_1, packets, records
from portico.codecs import ajp, fastcgi, scgi, uwsgi

SECRET = "open"  # noqa: S105 - a test's

#: A request that every protocol carries without loss.
GOOD = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_URI": "/good?yes",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/good",
    "QUERY_STRING": "yes",
    "REMOTE_ADDR": "192.0.2.1",
    "SERVER_NAME": "example.test",
    "SERVER_PORT": "80",
}

#: The most a length or a record's header takes.
_HEADERS_BYTES = 64
RECORD_BYTES = 8 + 65_535 + 255


class Side:
    """One protocol.

    Attributes:
        name: The protocol.
        one_shot: Whether a connection carries one request and its end ends the response.
        answers_in_step: Whether requests that follow an answered one decode the same, however
            they arrived: AJP's peer sends in turns, FastCGI's answer changes what a record means.
    """

    def __init__(self, name: str, module, *, one_shot: bool, answers_in_step: bool) -> None:
        self.name = name
        self.module = module
        self.one_shot = one_shot
        self.answers_in_step = answers_in_step

    def server(self, plan, limits):
        options = {}
        if self.name == "fastcgi" and plan.has(VARIANT):
            options = {"roles": (1, 2)}
        elif self.name == "ajp":
            options = _ajp_options(plan)
        return self.module.ServerCodec(limits, **options)

    def client(self, plan, limits, *, keep_open: bool | None = None):
        """Make the client's codec; uwsgi's with modifier 0, since a decoded path is split."""
        options = {}
        if self.name == "ajp":
            options = _ajp_options(plan)
        if not self.one_shot:
            options["keep_open"] = not plan.has(CLOSE) if keep_open is None else keep_open
        return self.module.ClientCodec(limits, **options)

    def server_holds_bytes(self, limits) -> int:
        """Most octets that the server's codec may keep, beside what was just delivered."""
        if self.name == "fastcgi":  # parameters, a record on its way, what came too early
            return limits.max_params_bytes + 2 * RECORD_BYTES + 1_048_576
        if self.name == "ajp":  # a packet on its way, what came unasked
            return 65_536 + 131_072
        return min(limits.max_params_bytes, 65_535 if self.name == "uwsgi" else 1 << 62) + (
            _HEADERS_BYTES
        )

    def client_holds_bytes(self, limits) -> int:
        """Most octets of a backend's that the client's codec may keep."""
        if self.name == "fastcgi":
            return limits.max_response_head_bytes + 2 * RECORD_BYTES
        return 65_536 if self.name == "ajp" else limits.max_response_head_bytes + 1

    def check_replies(self, octets: bytes) -> None:
        """Hold what a server's codec sends of its own accord to the protocol."""
        if self.name == "fastcgi":
            for kind, request_id, content in records(octets):
                assert (kind in (10, 11)) == (request_id == 0), "a reply's request id"
                assert kind in (3, 10, 11), "no reply of the codec's own"
                assert kind == 10 or len(content) == 8
        elif self.name == "ajp":
            for payload in packets(octets):
                wish = payload[:1] == b"\x06" and len(payload) == 3 and payload[1:] != b"\0\0"
                assert payload == b"\x09" or wish, "neither CPong nor Get Body Chunk"
        else:
            assert octets == b"", "these protocols have no replies"

    def own(self, octets: bytes) -> bytes:
        """What was sent for one request, as a client that asks for one at a time gets it."""
        return as_request_1(octets) if self.name == "fastcgi" else octets

    def carried(self, environ: dict[str, str], body: bytes) -> dict[str, str]:
        """What of a decoded request travels again: all but two spellings of the same."""
        carried = dict(environ)
        if self.one_shot:
            if "CONTENT_LENGTH" in carried:
                carried["CONTENT_LENGTH"] = str(len(body))
        elif self.name == "ajp":
            carried.pop("HTTP_TRANSFER_ENCODING", None)
            for name in ("CONTENT_LENGTH", "CONTENT_TYPE"):
                if carried.get(name) == "":
                    del carried[name]
            if body:
                carried["CONTENT_LENGTH"] = str(len(body))
        return carried


def _ajp_options(plan) -> dict[str, object]:
    return {
        "packet_size": 65_536 if plan.has(LARGE_PACKETS) else 8192,
        "secret": SECRET if plan.has(VARIANT) else "",
    }


SIDES = {
    side.name: side
    for side in (
        Side("fastcgi", fastcgi, one_shot=False, answers_in_step=False),
        Side("scgi", scgi, one_shot=True, answers_in_step=False),
        Side("ajp", ajp, one_shot=False, answers_in_step=True),
        Side("uwsgi", uwsgi, one_shot=True, answers_in_step=False),
    )
}
