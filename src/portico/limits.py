"""Ceilings on what a peer may send: bytes and counts."""

from __future__ import annotations


class Limits:
    """What a codec accepts at most.

    Attributes:
        max_params_bytes: Octets of all parameters (or headers) of one request.
        max_params: Number of parameters of one request.
        max_response_head_bytes: Client side: octets of a response's head.
    """

    __slots__ = ("max_params", "max_params_bytes", "max_response_head_bytes")

    def __init__(
        self,
        *,
        max_params_bytes: int = 1_048_576,
        max_params: int = 1000,
        max_response_head_bytes: int = 262_144,
    ) -> None:
        self.max_params_bytes = max_params_bytes
        self.max_params = max_params
        self.max_response_head_bytes = max_response_head_bytes
