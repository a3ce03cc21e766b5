"""Reads OpenSSH's authorized_keys for our own server: an option that this server does not know or keep lets nobody in.

asyncssh reads such a file more generously: it passes over options that it does not know, `expiry-time` and `From=` (in capitals)
among them, and takes more characters for the end of a line. So it is given only lines, and names, that both read in one way.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import asyncssh

_BLANK: Final = " \t"
_KEY_TYPE: Final = re.compile(r"(?:sk-)?(?:ssh|ecdsa|x509v3)-[A-Za-z0-9@.+-]+")
# One option: a name, and perhaps a quoted value, in which only a quote can be escaped. OpenSSH ignores the case of names.
_OPTION: Final = re.compile(r'(?P<name>[A-Za-z0-9-]+)(?P<rest>=(?P<quoted>"(?:[^"\\]|\\.)*"))?(?P<end>,|(?=[ \t]))')
# These forbid, or allow, or replace only what our server never does or never takes from a client.
_IDLE: Final = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "no-")
    for name in ("agent-forwarding", "port-forwarding", "pty", "user-rc", "x11-forwarding")
) | {"command", "environment", "permitlisten", "permitopen", "restrict", "tunnel", "touch-required", "no-verify-required"}
_ONCE: Final = frozenset({"command", "from", "principals"})  # OpenSSH refuses a line that has one of these twice
_HONOURED: Final = frozenset({"from", "principals", "cert-authority", "no-touch-required"})  # by asyncssh
_VALUES: Final = frozenset(
    {"command", "environment", "from", "permitlisten", "permitopen", "principals", "tunnel", "expiry-time"}
)
_TIMES: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


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
        options.append(names[-1] + (option["rest"] or ""))
        at, more = option.end(), option["end"] == ","
    if any(names.count(name) > 1 for name in _ONCE) or ("principals" in names and "cert-authority" not in names):
        return None
    return f"{','.join(options)} {line[at:].lstrip(_BLANK)}"


def _holds(name: str, quoted: str | None, now: datetime) -> bool:
    """Whether an option is one that this server knows how to keep, and lets the key in at this time."""
    if (quoted is None) != (name not in _VALUES):
        return False
    if name == "expiry-time":
        return quoted is not None and now < _time_of(quoted[1:-1])
    return name in _IDLE or name in _HONOURED


def _time_of(text: str) -> datetime:
    """Returns the time that an `expiry-time` states: local, unless it ends with Z or UTC. The oldest one where it states none."""
    digits = text.upper().removesuffix("UTC").removesuffix("Z")
    try:
        stated = datetime.strptime(digits, _TIMES.get(len(digits), "-"))  # noqa: DTZ007
        return stated.astimezone() if digits == text else stated.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC)
