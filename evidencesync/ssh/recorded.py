"""What known_hosts files hold for a server, as ssh-keygen finds it there: hashed names, too."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from evidencesync.ssh.route import Hop, environment

_SECONDS: Final = 10.0
_MOST: Final = 100


def recorded_keys(hop: Hop) -> list[str]:
    """The fingerprints of the plain keys that are recorded under a server's very name, where it is looked for."""
    return list(dict.fromkeys(key for file in hop.known_hosts for key in _keys_in(expand_home(file), hop.lookup)))[:_MOST]


def expand_home(name: str) -> Path:
    """A file as ssh names it: `~` is the home folder of the password database, whatever HOME says."""
    if name != "~" and not name.startswith("~/"):
        return Path(name)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir + name[1:])
    except KeyError:
        return Path(name)


def fingerprint_of(encoded: str) -> str | None:
    """The fingerprint of a key as known_hosts files hold it."""
    try:
        digest = hashlib.sha256(base64.b64decode(encoded, validate=True)).digest()
    except (binascii.Error, ValueError):
        return None
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def _keys_in(file: Path, name: str) -> Iterator[str]:
    if not file.is_file():
        return
    try:
        found = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", file],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # then a key is called unknown that may have been changed: it is refused all the same
    for line in found.stdout.decode("utf-8", "backslashreplace").splitlines():
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith(("#", "@")):
            key = fingerprint_of(fields[2])
            if key is not None:
                yield key
