"""Judges the values of options in authorized_keys at least as strictly as OpenSSH does (auth-options.c, match.c, addrmatch.c).

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
MOST_OF_ONE: Final[Mapping[str, int]] = MappingProxyType(
    {"command": 1, "from": 1, "principals": 1, "environment": 1024, "permitopen": 4096, "permitlisten": 4096}
)
"""How often OpenSSH takes an option in one line."""


def is_readable(name: str, value: str) -> bool:
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
