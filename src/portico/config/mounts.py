"""Several applications by host and path, and the environment that applications get."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from portico.codecs._ajp_tables import RESERVED_NAMES, RESERVED_PREFIXES
from portico.config.refusals import Faults, WrongType, brief
from portico.transports.bind import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Names and values, in order.
Pairs: TypeAlias = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")

#: What a mount may say.
_KEYS = ("app", "environment")

#: Beside what AJP reserves: what FastCGI and SCGI say of a request.
_OWN_NAMES = RESERVED_NAMES | {"FCGI_DATA_LAST_MOD", "FCGI_DATA_LENGTH", "FCGI_ROLE", "SCGI"}

_Found: TypeAlias = list[tuple[tuple[str, ...], str]]


@dataclass(frozen=True, slots=True)
class Mount:
    """One application among several.

    Attributes:
        host: Whose requests it gets: lower case, IPv6 in brackets; ``*.example.org`` has all
            names below; empty for any.
        prefix: Where it lives, without a slash at the end; empty for the root.
        app: The application, as `load_application` takes it.
        environment: What it gets beside its own; values may be secret.
    """

    host: str
    prefix: str
    app: str
    environment: Pairs = field(default=(), repr=False)

    @property
    def place(self) -> str:
        """Host and prefix as they are written in a file."""
        return self.host + self.prefix if self.prefix else f"{self.host}/"


def parse_place(text: str) -> tuple[str, str]:
    """Split ``host/prefix`` into its two parts, each as `Mount` has it.

    Raises:
        ValueError: it is no such thing; says what is.
    """
    if "://" in text:
        raise ValueError(f"{brief(text)} is a URL; write host/prefix, such as example.org/shop")
    host, slash, path = text.partition("/")
    if not host and not slash:
        raise ValueError("an empty place; write / for all paths")
    if not slash and _HOST.fullmatch(host) and "." not in host and host != "localhost":
        raise ValueError(f"{brief(text)} may be a path or a host: write /{host}, or {host}/")
    return _parse_host(host) if host else "", _parse_prefix(slash + path)


def _parse_host(text: str) -> str:
    host = text.lower().removesuffix(".")
    if not host.isascii():
        raise ValueError(f"the host {brief(text)} has to be written in ASCII, as xn--...")
    name, colon, port = host.rpartition(":")
    if ":" in name and not host.startswith("["):
        raise ValueError(f"the host {brief(text)} is no name; IPv6 addresses stand in brackets")
    if colon and port.isdecimal() and name.startswith("[") == name.endswith("]"):
        raise ValueError(f"the host {brief(text)} has a port, which plays no part; write {name}")
    if host.startswith("[") and host.endswith("]"):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            raise ValueError(f"the host {brief(text)} is no IPv6 address") from None
    if host == "*":
        raise ValueError("the host '*' is no host; for any host write the path alone")
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError(
            f"{brief(text)} is no host, such as example.org, *.example.org or [2001:db8::1]"
        )
    return host


def _parse_prefix(text: str) -> str:
    prefix = text.rstrip("/")
    if "//" in text:
        raise ValueError(f"the path {brief(text)} has an empty segment")
    if "?" in prefix or "#" in prefix or not prefix.isprintable():
        raise ValueError(f"the path {brief(text)} is no plain path, such as /shop")
    if "%" in prefix:
        raise ValueError(f"the path {brief(text)} has a % in it; write it decoded")
    if not {".", ".."}.isdisjoint(prefix.split("/")):
        raise ValueError(f"the path {brief(text)} has a segment of dots, which no client sends")
    return prefix


def read_mounts(value: object) -> tuple[Mount, ...]:
    """Read all mounts of a mapping, of texts ``PLACE=APP``, or as they were read before.

    Raises:
        WrongType: it is none of these.
        Faults: all that is wrong within it.
    """
    if isinstance(value, tuple) and all(isinstance(one, Mount) for one in value):
        return value
    mounts: list[Mount] = []
    found: _Found = []
    where: dict[str, str] = {}
    for key, entry in _items(value, "a place and its application, such as /shop=shop:app", found):
        try:
            host, prefix = parse_place(key)
        except ValueError as error:
            found.append(((key,), str(error)))
            host, prefix = "", key
        mount = Mount(host, prefix, *_read_application(key, entry, found))
        other = where.setdefault(mount.place, key)
        if other != key:
            found.append(((key,), f"{brief(key)} is the same place as {brief(other)}"))
        mounts.append(mount)
    if found:
        raise Faults(found)
    return tuple(mounts)


def read_pairs(value: object) -> Pairs:
    """Read names and values of a mapping, of texts ``NAME=VALUE``, or as they were read before.

    Raises:
        WrongType: it is none of these.
        Faults: all that is wrong within it.
    """
    found: _Found = []
    pairs = tuple(
        (name, _read_value(name, text, (name,), found))
        for name, text in _items(value, "NAME=VALUE", found)
    )
    if found:
        raise Faults(found)
    return pairs


def _items(value: object, form: str, found: _Found) -> list[tuple[str, object]]:
    """Give keys and values, whatever form they came in; what is given twice is a mistake."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise WrongType
        return list(value.items())
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, (list, tuple)):
        raise WrongType
    items: dict[str, object] = {}
    for entry in value:
        if isinstance(entry, str):
            key, equals, text = entry.partition("=")
            if not equals:
                # what is no pair may be half of a secret: a value with a blank in it
                found.append(((), f"there is no = where {form} belongs"))
                continue
        elif isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
            key, text = entry
        else:
            raise WrongType
        if key in items:
            found.append(((), f"{brief(key)} is given twice"))
        items[key] = text
    return list(items.items())


def _read_application(key: str, entry: object, found: _Found) -> tuple[str, Pairs]:
    """Read what stands at a place: the application, or a mapping with that and more."""
    if isinstance(entry, str) or not isinstance(entry, dict):
        return _read_spec(key, entry, (key,), found), ()
    for name in entry:
        if name not in _KEYS:
            hint = did_you_mean(str(name), _KEYS)
            found.append(((key, name), f"a mount has no {brief(name)}{hint}"))
    if "app" in entry:
        spec = _read_spec(key, entry["app"], (key, "app"), found)
    else:
        found.append(((key,), f"{brief(key)} has no app"))
        spec = ""
    environment = entry.get("environment", {})
    if not isinstance(environment, dict):
        what = "names and values"
        found.append(((key, "environment"), f"environment is {brief(environment)}, must be {what}"))
        return spec, ()
    return spec, _read_environment(key, environment, found)


def _read_spec(key: str, value: object, keys: tuple[str, ...], found: _Found) -> str:
    if isinstance(value, str) and value.strip():
        return value
    shown = brief(value)
    found.append((keys, f"the app of {brief(key)} is {shown}, must be module:callable or a file"))
    return ""


def _read_environment(key: str, given: Mapping[str, object], found: _Found) -> Pairs:
    """Read what one mount adds to its environment, and to the environ of its requests."""
    pairs = []
    for name, value in given.items():
        keys = (key, "environment", name)
        if name in _OWN_NAMES or name.startswith(RESERVED_PREFIXES):
            found.append((keys, f"{brief(name)} is what a request itself says; take another name"))
        else:
            pairs.append((name, _read_value(name, value, keys, found)))
    return tuple(pairs)


def _read_value(name: str, value: object, keys: tuple[str, ...], found: _Found) -> str:
    """Read one value; it may be secret, so a refusal does not repeat it."""
    if not _NAME.fullmatch(name):
        fault = "is no name of a variable: letters, digits and _, no digit first"
    elif isinstance(value, bool):
        fault = "is yes or no to YAML; put the text that it is to be in quotes"
    elif value is None:
        fault = "has no value; write '' for an empty one"
    elif not isinstance(value, (str, int, float)):
        fault = f"is a {type(value).__name__}, must be a text; put it in quotes"
    elif "\0" in (text := str(value)) or not _is_encodable(text):
        fault = "has a NUL or half a character in it, which no variable can hold"
    else:
        return text
    found.append((keys, f"{brief(name)} {fault}"))
    return ""


def _is_encodable(text: str) -> bool:
    """Whether *text* can be octets; YAML's escapes make surrogates that cannot."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
