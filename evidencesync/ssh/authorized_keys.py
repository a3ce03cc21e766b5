"""Reads OpenSSH's authorized_keys for our own server: an option that this server does not know or keep lets nobody in.

asyncssh reads such a file more generously: it passes over options that it does not know, `expiry-time` and `From=` (in capitals)
among them, and takes more characters for the end of a line. So it is given only lines, and names, that both read in one way.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import asyncssh

from evidencesync.ssh.key_options import MOST_OF_ONE, expiry_time, is_readable

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
    if any(names.count(name) > most for name, most in MOST_OF_ONE.items()) or (
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
    return (name in _IDLE or name in _HONOURED) and (value is None or is_readable(name, value))
