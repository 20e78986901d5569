"""First octets of peers that speak something else than the port: data only."""

from portico.codecs import client_codec
from portico.limits import Limits

#: Stands in everything that a peer may choose; no answer and no log line may show it.
MARK = "Zq7reflectedZq7"

ENVIRON = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "",
    "PATH_INFO": f"/{MARK}",
    "QUERY_STRING": MARK,
    "REQUEST_URI": f"/{MARK}?{MARK}",
    "SERVER_NAME": f"{MARK}.test",
    "SERVER_PORT": "80",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.7",
    "CONTENT_LENGTH": "11",
}

GATEWAYS = ("fastcgi", "scgi", "ajp", "uwsgi")

#: Name -> what `recognise` calls it, the octets, and how many of them decide.
INTRUDERS = {
    **{
        name: (name, client_codec(name, Limits()).send_request(ENVIRON, b"Hello World"), least)
        for name, least in (("fastcgi", 8), ("scgi", 4), ("ajp", 5), ("uwsgi", 6))
    },
    "uwsgi-30": (
        "uwsgi",
        client_codec("uwsgi", Limits(), modifier1=30).send_request(ENVIRON, b"Hello World"),
        6,
    ),
    "http-get": ("http", f"GET /{MARK} HTTP/1.1\r\nHost: {MARK}\r\n\r\n".encode(), 5),
    "http-post": (
        "http",
        f"POST /{MARK} HTTP/1.0\r\nContent-Length: 15\r\n\r\n{MARK}".encode(),
        6,
    ),
    "http-absolute": ("http", f"GET http://{MARK}/ HTTP/1.1\r\n\r\n".encode(), 5),
    "http-options": ("http", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 9),
    "http-connect": ("http", f"CONNECT {MARK}:443 HTTP/1.1\r\n\r\n".encode(), 9),
    "http-long-method": ("http", b"VERSION-CONTROL / HTTP/1.1\r\n\r\n", 17),
    "http-pri": ("http", b"PRI / HTTP/1.1\r\n\r\n", 5),
    "http-ab": ("http", b"AB / HTTP/1.1\r\n\r\n", 4),
    "http2": (
        "http2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000006 04 00 00000000 0003 00000064"),
        24,
    ),
    # of openssl s_client -connect, as far as its server name
    "tls": ("tls", bytes.fromhex("16 0301 0136 01 000132 0303") + MARK.encode() * 20, 2),
    "ajp-answer": ("ajp-answer", b"AB\0\x02\x05\x01", 3),
    # 32 octets, whose number is a blank's
    "ajp-answer-with-a-blank": ("ajp-answer", b"AB\0 \x03\0\x1c" + bytes(29), 3),
    "ajp-answer-large": ("ajp-answer", b"AB\x1f\xf0\x03\x1f\xec" + bytes(99), 3),
    "proxy-1": ("proxy", f"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n{MARK}".encode(), 6),
    "proxy-2": ("proxy", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12), 12),
}

#: Octets of no protocol that is known, and how many of them decide.
GARBAGE = {
    "letters": (b"garbage\r\n", 1),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", 5),
    "smtp": (b"EHLO mail.test\r\n", 6),
    "lower-case-http": (b"get / HTTP/1.1\r\n", 1),
    "endless-method": (b"A" * 100, 21),
    "capitals-and-a-break": (b"QUIT\r\n", 5),
    "capitals-and-blanks": (b"AB  \r\n", 4),
    "octets": (b"\xfe\xed\xfa\xce", 1),
    "leading-zero": (b"07:", 1),
    "tls-of-no-version": (b"\x16\x05\x01", 2),
    "blank-line-and-http": (b"\r\nGET / HTTP/1.1\r\n", 3),
}

#: As `GARBAGE`, but begun like a gateway protocol: no stranger to the port that speaks it.
HALF_RIGHT = {
    "fastcgi-stdin": ("fastcgi", bytes.fromhex("01 05 0001 0000 0000"), 2),
    "fastcgi-without-id": ("fastcgi", bytes.fromhex("01 01 0000 0008 0000"), 8),
    "scgi-without-colon": ("scgi", b"70CONTENT_LENGTH", 3),
    "scgi-endless-digits": ("scgi", b"1" * 40, 11),
    "ajp-half-magic": ("ajp", b"\x12\x35\0\1\2", 2),
    "ajp-shutdown": ("ajp", b"\x12\x34\0\1\x07", 5),
    "uwsgi-zeros": ("uwsgi", bytes(40), 6),
    "uwsgi-name-too-long": ("uwsgi", b"\0\x06\0\0\x09\0abcd", 6),
}
