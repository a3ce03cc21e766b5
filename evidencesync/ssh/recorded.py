"""Host keys that known_hosts files revoke under a name without a port, which ssh does not look for where there is a port."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import pwd
import subprocess
from pathlib import Path
from typing import Final

from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.ssh.route import Hop, environment

_SECONDS: Final = 10.0
_MARKER: Final = b"@revoked"


def is_revoked(hop: Hop, fingerprint: str) -> bool:
    """Whether a key is revoked for the host, whatever the port. `ssh-keygen` finds the lines: hashed names, too."""
    if hop.lookup == hop.host.lower():
        return False  # ssh has looked for that name itself
    return any(fingerprint in _revoked_in(_expand_home(file), hop.host.lower()) for file in hop.known_hosts)


def fingerprint_of(encoded: str) -> str | None:
    """The fingerprint of a key as known_hosts files hold it."""
    try:
        digest = hashlib.sha256(base64.b64decode(encoded, validate=True)).digest()
    except (binascii.Error, ValueError):
        return None
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def _expand_home(name: str) -> Path:
    """A file as ssh names it: `~` is the home folder of the password database, whatever HOME says."""
    if name != "~" and not name.startswith("~/"):
        return Path(name)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir + name[1:])
    except KeyError:
        return Path(name)


def _revoked_in(file: Path, name: str) -> set[str]:
    """The fingerprints that a file revokes for a name. What cannot be read, ssh could not read either."""
    try:
        if not file.is_file():
            return set()
        with file.open("rb") as stream:
            if _MARKER not in stream.read(MAX_TRUST_FILE):
                return set()
        found = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", file],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return set()
    lines = [line.split() for line in found.stdout.decode("utf-8", "backslashreplace").splitlines()]
    keys = {fingerprint_of(line[3]) for line in lines if len(line) >= 4 and line[0] == _MARKER.decode()}
    return {key for key in keys if key is not None}
