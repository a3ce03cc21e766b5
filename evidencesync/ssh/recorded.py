"""Reads from known_hosts files what they state about a host key, for two cases in which ssh itself is not enough.

They may revoke a key under a name without a port, which ssh does not look up for a server with another port than 22. And if ssh's
log says that a key was refused, the server may have forged that line.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.errors import HostKeyError
from evidencesync.evidence.display import safe_text
from evidencesync.files.temporary import temporary_folder, writing_temporary
from evidencesync.home import read_named
from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.ssh.known_hosts import as_ssh_finds, quoted
from evidencesync.ssh.route import Hop, environment

_SECONDS: Final = 10.0
_MARKER: Final = b"@revoked"
_HINT: Final = "A known_hosts file has lines with @revoked; ssh-keygen finds those of a host."


def held_to_revocations(hop: Hop, stack: contextlib.ExitStack) -> Hop:
    """The same hop with one more known_hosts file: a key that is revoked for the host is revoked for the host with a port, too.

    So ssh itself refuses such a key, before it authenticates us. The file exists until the stack is closed. Raises HostKeyError
    if it cannot be known which keys are revoked.
    """
    if hop.lookup == hop.host.lower():
        return hop  # ssh looks for that name itself
    keys = {key for file in hop.known_hosts for key in _revoked_in(as_ssh_finds(file), hop.host.lower())}
    if not keys:
        return hop
    file = stack.enter_context(temporary_folder()) / "revoked"
    with writing_temporary():
        file.write_text("".join(f"{_MARKER.decode()} * {key}\n" for key in sorted(keys)), "ascii")
    files = " ".join(map(quoted, [*hop.system_known_hosts, str(file)]))
    return msgspec.structs.replace(hop, arguments=("-o", f"GlobalKnownHostsFile={files}", *hop.arguments))


def is_recorded(hop: Hop, fingerprint: str) -> bool:
    """Whether the files that ssh reads record this key for a server, and none revokes it, so that ssh accepts it.

    False also if that cannot be known.
    """
    if hop.has_revocations_elsewhere:
        return False
    try:
        lines = [line for file in hop.known_hosts for line in _lines_about(as_ssh_finds(file), hop.lookup)]
        revoked = {key for file in hop.known_hosts for key in _revoked_in(as_ssh_finds(file), hop.host.lower())}
    except HostKeyError:
        return False
    marks = {line[0] for line in lines if fingerprint_of(line[-1]) == fingerprint}
    return marks == {""} and fingerprint not in {fingerprint_of(key.split()[1]) for key in revoked}


def fingerprint_of(encoded: str) -> str | None:
    """The fingerprint of a key in base64, as known_hosts files hold it; None for a malformed key."""
    try:
        digest = hashlib.sha256(base64.b64decode(encoded, validate=True)).digest()
    except (binascii.Error, ValueError):
        return None
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def _revoked_in(file: Path, name: str) -> set[str]:
    """The keys that a file revokes for a name, each with its type."""
    found = _lines_about(file, name, with_word=_MARKER)
    return {f"{kind} {key}" for mark, kind, key in found if mark == _MARKER.decode() and fingerprint_of(key) is not None}


def _lines_about(file: Path, name: str, with_word: bytes = b"") -> list[tuple[str, str, str]]:
    """The lines of a file about a name: marker, type and key of each. None of them if the file does not hold `with_word`.

    A file that cannot be read counts as empty: ssh cannot read it either.
    """
    try:
        if with_word not in read_named(file, MAX_TRUST_FILE, again=True):
            return []
    except (OSError, ValueError):
        return []
    try:
        found = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", file],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unknown(f"ssh-keygen: {error}") from error
    lines = [line.split() for line in found.stdout.decode("ascii", "backslashreplace").splitlines() if not line.startswith("#")]
    marked = [line if line[0].startswith("@") else ["", *line] for line in lines if line]
    return [(line[0], line[2], line[3]) for line in marked if len(line) >= 4]


def _unknown(reason: str) -> HostKeyError:
    return HostKeyError(f"it cannot be known which host keys are revoked: {safe_text(reason, 200)}", hint=_HINT)
