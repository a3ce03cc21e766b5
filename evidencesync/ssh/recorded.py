"""What known_hosts files say of a host key, where ssh's own word is not enough.

They may revoke one under a name without a port, which ssh does not look for where there is a port. And where ssh's log says that
a key was refused, the server may have put that there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import hashlib
import subprocess
from pathlib import Path
from typing import Final

from evidencesync.errors import HostKeyError
from evidencesync.evidence.display import safe_text
from evidencesync.home import read_named
from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.ssh.known_hosts import as_ssh_finds, quoted
from evidencesync.ssh.route import Hop, environment

_SECONDS: Final = 10.0
_MARKER: Final = b"@revoked"
_HINT: Final = "A known_hosts file has lines with @revoked; ssh-keygen finds those of a host."


def held_to_revocations(hop: Hop, stack: contextlib.ExitStack) -> Hop:
    """The same way to a server, with a file more: what is revoked for the host without a port is revoked for it with one.

    So ssh refuses such a key itself, before it says who we are. The file lives as long as the stack. Raises HostKeyError where
    it cannot be known what is revoked.
    """
    if hop.lookup == hop.host.lower():
        return hop  # ssh looks for that name itself
    keys = {key for file in hop.known_hosts for key in _revoked_in(as_ssh_finds(file), hop.host.lower())}
    if not keys:
        return hop
    import tempfile  # it is slow to import, and hardly ever needed

    try:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evidencesync-")), "revoked")
        file.write_text("".join(f"{_MARKER.decode()} * {key}\n" for key in sorted(keys)), "ascii")
    except OSError as error:
        raise _unknown(error.strerror or str(error)) from error
    files = " ".join(map(quoted, [*hop.system_known_hosts, str(file)]))
    return dataclasses.replace(hop, arguments=("-o", f"GlobalKnownHostsFile={files}", *hop.arguments))


def is_recorded(hop: Hop, fingerprint: str) -> bool:
    """Whether the files that ssh looks in record this key for a server, and none revokes it: so ssh does not refuse it.

    False also where that cannot be known.
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
    """The fingerprint of a key as known_hosts files hold it."""
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
    """What a file has about a name: mark, type and key of each line; none where the whole file lacks a word.

    A file that cannot be read, ssh cannot read either.
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
