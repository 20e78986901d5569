"""Request targets: their path, and percent-decoding it once.

Spec: RFC 9112 §3.2 (forms of a target), RFC 3986 §2.1 (percent-encoding).
"""


def decode_path(text: str) -> str:
    """Percent-decode *text* exactly once, to latin-1: one character an octet (PEP 3333).

    What is no escape (``%zz``, a lone ``%``) stays as it is; ``+`` is no blank in a path.
    """
    if "%" not in text:
        return text
    first, *rest = text.split("%")
    decoded = [first]
    for piece in rest:
        code = piece[:2]
        # int() alone would take "+1", " 1" and "1_"; a latin-1 digit is always ASCII here
        if len(code) == 2 and code.isalnum() and code.isascii():
            try:
                decoded.append(chr(int(code, 16)) + piece[2:])
                continue
            except ValueError:
                pass
        decoded.append("%" + piece)
    return "".join(decoded)


def path_of(target: str) -> str:
    """Give the still encoded path of a request target, without query, scheme and host.

    Apache and HAProxy pass an absolute-form target on as the client sent it.
    """
    path = target.partition("?")[0]
    if path[:1] != "/":
        _, mark, rest = path.partition("://")
        if mark:
            slash = rest.find("/")
            return rest[slash:] if slash >= 0 else "/"
    return path
