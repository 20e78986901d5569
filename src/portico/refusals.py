"""Answers that Portico gives itself, where no application is asked."""

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def status_line(code: int) -> str:
    """Give status and reason, e.g. ``"400 Bad Request"`` (RFC 9110 §15)."""
    return f"{code} {_REASONS.get(code, 'Refused')}"


def plain_refusal(code: int) -> "tuple[str, list[tuple[str, str]], bytes]":
    """Make a short text answer: status, headers, body."""
    status = status_line(code)
    body = f"{status}\n".encode("ascii")
    return status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))], body
