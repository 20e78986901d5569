"""The `.htaccess` beside a script: what of it keeps the script from answering well."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portico.servers.scripts.findings import Finding, found

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Octets of an `.htaccess` that are looked at.
_MOST_BYTES = 262_144

#: What keeps a rule from rewriting its own result: the script is a file, or the request has been
#: redirected once.
_GUARDS = re.compile(r"!-f|REDIRECT_STATUS|-l\b", re.IGNORECASE)

_FASTCGI = {"fcgid-script", "fastcgi-script"}
_CGI = {"cgi-script"}


@dataclass(slots=True)
class _Read:
    handlers: dict[str, int] = field(default_factory=dict)
    passes_authorization: bool = False
    leads_to_script: bool = False
    loop: int = 0


def look_beside(path: Path, *, fastcgi_too: bool) -> Iterator[Finding]:
    """Look at the `.htaccess` in the script's directory, if there is one.

    Args:
        path: The script.
        fastcgi_too: Whether the script speaks FastCGI and CGI, as one for Portico does.
    """
    file = path.parent / ".htaccess"
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    read = _Read()
    _read(text, path, read)
    if read.loop:
        yield found("rewrite-loop", line=read.loop, path=file)
    for handler, line in read.handlers.items():
        if handler in _FASTCGI and not fastcgi_too:
            yield found("fastcgi-handler", line=line, path=file, suffix=path.suffix)
        elif handler in _CGI and path.suffix == ".fcgi" and not read.handlers.keys() & _FASTCGI:
            yield found("cgi-handler", line=line, path=file, suffix=path.suffix)
    if read.leads_to_script and not read.passes_authorization:
        yield found("no-authorization", path=file)


def _read(text: str, path: Path, read: _Read) -> None:
    conditions: list[str] = []
    whole = ""
    for number, line in enumerate(text.splitlines(), 1):
        whole += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        words, whole = whole.split(), ""
        if not words or words[0].startswith("#"):
            continue
        name = words[0].lower()
        if name == "rewritecond":
            conditions.append(" ".join(words[1:]))
        elif name == "rewriterule":
            _read_rule(words[1:], conditions, number, path, read)
            conditions = []
        else:
            _read_other(name, words[1:], number, path, read)


def _read_rule(
    words: list[str], conditions: list[str], number: int, path: Path, read: _Read
) -> None:
    pattern, target, *flags = [*words, "", ""][: max(len(words), 2)]
    said = " ".join(flags)
    if "HTTP_AUTHORIZATION" in said.upper():
        read.passes_authorization = True
    leads = re.search(rf"(?:^|/){re.escape(path.name)}(/|\?|$)", target.strip('"'))
    if leads is None:
        return
    read.leads_to_script = True
    if leads[1] != "/":  # Apache tells that the address stays the same, and lets it be
        return
    guarded = "END" in said or any(
        _GUARDS.search(condition) or (path.name in condition.replace("\\", "") and "!" in condition)
        for condition in conditions
    )
    if not guarded and _matches(pattern, path.name):
        read.loop = read.loop or number


def _matches(pattern: str, name: str) -> bool:
    """Whether a rule would take the script's own address."""
    negated = pattern.startswith("!")
    try:
        found_it = re.search(pattern.removeprefix("!").strip('"'), name) is not None
    except re.error:  # PCRE knows more
        return False
    return found_it is not negated


def _read_other(name: str, words: list[str], number: int, path: Path, read: _Read) -> None:
    sets = name in {"setenvif", "setenvifnocase"} and "HTTP_AUTHORIZATION" in " ".join(words)
    if sets or (name == "cgipassauth" and words[:1] == ["On"]):
        read.passes_authorization = True
    elif name == "addhandler" and path.suffix.lstrip(".") in {w.lstrip(".") for w in words[1:]}:
        read.handlers.setdefault(words[0].lower(), number)
    elif name == "sethandler" and words:
        read.handlers.setdefault(words[0].strip('"').lower(), number)
    elif name == "directoryindex" and path.name in words:
        read.leads_to_script = True
