"""Reads OpenSSH's authorized_keys for our own server: an option that this server does not know or keep lets nobody in.

asyncssh reads such a file more generously: it passes over options that it does not know, `expiry-time` and `From=` (in capitals)
among them, and takes more characters for the end of a line. So it is given only lines, and names, that both read in one way.

A line whose value OpenSSH cannot read lets nobody in there, and must let nobody in here. Where asyncssh reads a value in another
way than OpenSSH (wildcards in `principals`, netmasks in `from`), only values that both read alike are taken.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import asyncssh

_BLANK: Final = " \t"
_KEY_TYPE: Final = re.compile(r"(?:sk-)?(?:ssh|ecdsa|x509v3)-[A-Za-z0-9@.+-]+")
# One option: a name, and perhaps a quoted value, in which only a quote can be escaped. OpenSSH ignores the case of names.
# Two backslashes are no escape for OpenSSH, and are one for asyncssh: such a line is not taken.
_OPTION: Final = re.compile(r'(?P<name>[A-Za-z0-9-]+)(?P<rest>=(?P<quoted>"(?:[^"\\]|\\[^\\])*"))?(?P<end>,|(?=[ \t]))')
# These forbid, or allow, or replace only what our server never does or never takes from a client.
_IDLE: Final = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "no-")
    for name in ("agent-forwarding", "port-forwarding", "pty", "user-rc", "x11-forwarding")
) | {"command", "environment", "permitlisten", "permitopen", "restrict", "tunnel", "touch-required", "no-verify-required"}
_HONOURED: Final = frozenset({"from", "principals", "cert-authority", "no-touch-required"})  # by asyncssh
_VALUES: Final = frozenset(
    {"command", "environment", "from", "permitlisten", "permitopen", "principals", "tunnel", "expiry-time"}
)


def authorized_keys_of(text: str, now: datetime) -> asyncssh.SSHAuthorizedKeys:
    """Returns the keys that may log in at this time. Raises ValueError where there are none."""
    read = [_usable(line.strip(_BLANK + "\r"), now) for line in text.split("\n")]
    lines = [line for line in read if line is not None]
    if not lines:
        raise ValueError("no line of it lets a key log in now")
    return asyncssh.import_authorized_keys("\n".join(lines))


def _usable(line: str, now: datetime) -> str | None:
    """Returns a line as asyncssh is to read it; None for an empty line, a comment, and a line that lets nobody in."""
    if not line or line.startswith("#") or len(line.splitlines()) > 1:
        return None
    if _KEY_TYPE.match(line):
        return line
    names, options = list[str](), list[str]()
    at, more = 0, True
    while more:
        option = _OPTION.match(line, at)
        if option is None or not _holds(option["name"].lower(), option["quoted"], now):
            return None
        names.append(option["name"].lower())
        rest = option["rest"] or ""
        options.append(names[-1] + (rest.lower() if names[-1] == "from" else rest))  # OpenSSH ignores the case of hosts
        at, more = option.end(), option["end"] == ","
    if any(names.count(name) > most for name, most in _MOST_OF_ONE.items()) or (
        "principals" in names and "cert-authority" not in names
    ):
        return None
    return f"{','.join(options)} {line[at:].lstrip(_BLANK)}"


def _holds(name: str, quoted: str | None, now: datetime) -> bool:
    """Whether an option is one that this server knows how to keep, and lets the key in at this time."""
    if (quoted is None) != (name not in _VALUES):
        return False
    value = None if quoted is None else quoted[1:-1].replace('\\"', '"')
    if name == "expiry-time":
        return value is not None and now < expiry_time(value)
    return (name in _IDLE or name in _HONOURED) and (value is None or _is_readable(name, value))


_TIMES: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_TIME: Final = re.compile(r"(?P<digits>[0-9]+)(?P<zone>Z|UTC)?", re.IGNORECASE | re.ASCII)
# A host or a pattern: no number that inet_aton(3) would take for an address, such as `127.1` or `0x7f000001`.
_PATTERN: Final = re.compile(r"[A-Za-z0-9.:*?_-]{1,255}", re.ASCII)
_NUMBERS: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}\.?", re.IGNORECASE | re.ASCII)
_NETWORK: Final = re.compile(r"[0-9A-Fa-f.:]{2,45}/[0-9]{1,3}", re.ASCII)
_NAME: Final = re.compile(r"[^*?!\[\],\\\"]{1,255}")  # asyncssh takes the first of these for patterns
_VARIABLE: Final = re.compile(r"[A-Za-z0-9_]+=.*", re.ASCII | re.DOTALL)
_PLACE: Final = re.compile(r"(?:\[[^\[\]]{0,1000}\]|[^:/\[\]]{0,1000}):(?P<port>\*|[0-9]{1,5})", re.ASCII)
_MOST_PORTS: Final = 65_535
_LAST_TUNNEL: Final = 0x7FFFFFFF - 2
_MOST_OF_ONE: Final[Mapping[str, int]] = MappingProxyType(
    {"command": 1, "from": 1, "principals": 1, "environment": 1024, "permitopen": 4096, "permitlisten": 4096}
)
"""How often OpenSSH takes an option in one line."""


def _is_readable(name: str, value: str) -> bool:
    """Whether OpenSSH takes a value for an option, without its quotes. `expiry-time` must state a time, which may be past."""
    check = _CHECKS.get(name)
    return check is None or check(value)


def expiry_time(value: str) -> datetime:
    """Returns the time that an `expiry-time` states: local, unless it ends with Z or UTC. The oldest one where it states none."""
    oldest = datetime.min.replace(tzinfo=UTC)
    found = _TIME.fullmatch(value)
    form = _TIMES.get(len(found["digits"])) if found is not None else None
    if found is None or form is None:
        return oldest
    try:
        stated = datetime.strptime(found["digits"], form)  # noqa: DTZ007
        return stated.astimezone() if found["zone"] is None else stated.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return oldest


def _are_senders(value: str) -> bool:
    return all(_is_sender(entry.removeprefix("!")) for entry in value.split(","))


def _is_sender(entry: str) -> bool:
    """Whether an entry is an address, a network without bits of a host, or a pattern that is not read as an address either."""
    try:
        if "/" in entry:
            return _NETWORK.fullmatch(entry) is not None and bool(ipaddress.ip_network(entry))
        ipaddress.ip_address(entry)
    except ValueError:
        return "/" not in entry and _PATTERN.fullmatch(entry) is not None and _NUMBERS.fullmatch(entry) is None
    return _PATTERN.fullmatch(entry) is not None  # no zone of an interface


def _are_principals(value: str) -> bool:
    return all(_NAME.fullmatch(entry) for entry in value.split(","))


def _is_variable(value: str) -> bool:
    return _VARIABLE.fullmatch(value) is not None


def _is_place(value: str) -> bool:
    found = _PLACE.fullmatch(value)
    return found is not None and (found["port"] == "*" or 0 < int(found["port"]) <= _MOST_PORTS)


def _is_listening_place(value: str) -> bool:
    return _is_place(value if ":" in value else f"*:{value}")


def _is_tunnel(value: str) -> bool:
    number = re.fullmatch(r"[0-9]{1,10}", value, re.ASCII)
    return value.lower() == "any" or (number is not None and int(value) <= _LAST_TUNNEL)


_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = MappingProxyType(
    {
        "from": _are_senders,
        "principals": _are_principals,
        "environment": _is_variable,
        "permitopen": _is_place,
        "permitlisten": _is_listening_place,
        "tunnel": _is_tunnel,
    }
)
