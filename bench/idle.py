"""Idle kept connections: clients that have asked once and now only wait, by the thousand."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from load import WAIT, Expected, WrongAnswer, ask_on
from portico.codecs import client_codec
from portico.events import ResponseBodyReceived, ResponseEnded
from portico.limits import Limits

if TYPE_CHECKING:
    from contestants import Contestant


class IdleConnections:
    """Connections that have each brought a right answer and stay open.

    All are open to the web server; as many more to the gateway itself, in its own protocol, where
    that keeps connections: a web server would share a few among its clients.
    """

    def __init__(
        self, one: Contestant, path: str, body: bytes, ports: tuple[int, int], count: int
    ) -> None:
        self._one = one
        self._path = path
        self._body = body
        front, gateway = ports
        self._fronts: list[socket.socket] = []
        self._gateways: list[socket.socket] = []
        try:
            for port, sockets in ((front, self._fronts), (gateway, self._gateways)):
                for _ in range(count if port else 0):
                    sockets.append(socket.create_connection(("127.0.0.1", port), WAIT))
            self.check(1)
        except OSError as exc:
            self.close()
            raise WrongAnswer(f"{count} connections are too many: {exc}") from exc
        except WrongAnswer:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close them all."""
        for sock in self._fronts + self._gateways:
            with suppress(OSError):
                sock.close()

    def check(self, step: int) -> None:
        """Ask on every *step*-th connection and compare.

        Raises:
            WrongAnswer: one is closed, or answers wrongly.
        """
        expected = Expected(self._one.name, self._body)
        for sock in self._fronts[::step]:
            ask_on(sock, self._path, expected)
        for sock in self._gateways[::step]:
            if self._one.protocol == "http":
                ask_on(sock, self._path, expected)
            else:
                self._ask_gateway(sock)

    def _ask_gateway(self, sock: socket.socket) -> None:
        """One request of FastCGI or AJP, by our codec, on a connection that is to stay."""
        codec = client_codec(self._one.protocol, Limits(), keep_open=True)
        params = {
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": self._path,
            "PATH_INFO": self._path,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
        }
        body = b""
        try:
            sock.sendall(codec.send_request(params))
            while True:
                data = sock.recv(65_536)
                if not data:
                    raise WrongAnswer("an idle connection was closed")
                for event in codec.receive_data(data):
                    if type(event) is ResponseBodyReceived:
                        body += event.data
                    elif type(event) is ResponseEnded:
                        if body != self._body or not event.reusable:
                            raise WrongAnswer("an idle connection brought a wrong answer")
                        return
        except OSError as exc:
            raise WrongAnswer(f"an idle connection: {exc}") from exc
