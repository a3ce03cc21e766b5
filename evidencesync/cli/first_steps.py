"""Says what comes after `init`: the line that lets an examiner log in to the new vault, and what is typed on the other machine.

It describes this machine as far as anybody can read it. Nothing here is trusted or changed: a person looks at it, and pastes it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from evidencesync.errors import SignatureError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.home import account_name, read_named
from evidencesync.limits import MAX_PUBLIC_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evidencesync.custody.publickey import PublicKey
    from evidencesync.ssh.address import Address

SSHD_FOLDER: Final = Path("/etc/ssh")
_HOST_KEY_FILE: Final = "ssh_host_ed25519_key"  # assumed to be sshd's: what else HostKey may name, not everybody can read
_OTHER_ROUTE: Final = (
    "(where others reach this machine by another name or port: ssh://USER@NAME:PORT, and ssh://USER@NAME:PORT/PATH for the vault)"
)
_MAX_SSHD_CONFIG: Final = 256 * 1024
_PORT: Final = re.compile(r"\s*port(?:\s+|\s*=\s*)\"?(?P<port>[0-9]{1,5})\"?\s*(?:#.*)?", re.IGNORECASE)
_MATCH: Final = re.compile(r"\s*match\s", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class FirstSteps:
    """What a person pastes: lines for `authorized_keys` on this machine, and commands for the examiner's. Empty without a key.

    Both are empty where the vault's path cannot be typed in an address, and the commands where this machine's name cannot.
    """

    authorized_keys: list[str]
    commands: list[str]

    @classmethod
    def into(cls, root: Path, trusted: Sequence[tuple[PublicKey, str]]) -> FirstSteps:
        """The steps for a vault, and for the keys that it trusts with their signers' names."""
        path = str(root)
        if not trusted or safe_text(path) != path:
            return cls([], [])
        # Not shell_text: sshd gives this to the account's login shell, which may know no $'...' (dash). POSIX sh quotes so.
        served = shlex.join([*_this_program(), "serve", "--vault", path]).replace('"', '\\"')
        lines = [f'restrict,command="{served}" {key.line(who)}' for key, who in trusted]
        address = _address(path)
        return cls(lines, [] if address is None else list(_commands(address)))

    def lines(self) -> Iterator[str]:
        """The steps for people. What is pasted stands on lines of its own."""
        if self.authorized_keys:
            yield "next       add to ~/.ssh/authorized_keys on this machine:"
            yield from self.authorized_keys
        if self.commands:
            yield "then       type on the examiner's machine:"
            if "--fingerprint" in self.commands[0].split():
                where = SSHD_FOLDER / _HOST_KEY_FILE
                yield f"           (fingerprint from {where}; if sshd uses another key, compare it yourself)"
            yield f"           {_OTHER_ROUTE}"
            yield from self.commands


def _this_program() -> list[str]:
    """The command line that starts this program from anywhere: sshd's PATH is not the user's. A link stays: updates move it."""
    given = sys.argv[0] if sys.argv else ""
    found = given if "/" in given else shutil.which(given)
    if found is not None and os.path.basename(found) == "evidencesync":
        return [os.path.abspath(found)]
    return [sys.executable, "-m", "evidencesync"] if sys.executable else ["evidencesync"]


def _address(path: str) -> Address | None:
    """The vault's address as seen from another machine; None if a name cannot stand in one."""
    from evidencesync.ssh.address import Address

    account = account_name()
    try:
        address = Address.parse(f"{account}@{os.uname().nodename}:{path}" if account else f"{os.uname().nodename}:{path}")
    except UsageError:
        return None
    port = _port()
    return msgspec.structs.replace(address, port=None if port == 22 else port)


def _commands(address: Address) -> Iterator[str]:
    """What the examiner types. The host key's fingerprint comes along, so that nobody has to ask for it."""
    server = address.host_text if address.port is None else msgspec.structs.replace(address, path="").display()
    fingerprint = _host_key()
    known = [] if fingerprint is None else ["--fingerprint", fingerprint]
    yield shell_text("evidencesync", "host", "trust", server, *known)
    yield shell_text("evidencesync", "push", "SOURCE", address.display(), "--case", "CASE", "--item", "ITEM")


def _port() -> int:
    """The port of this machine's SSH server: the one by which this session came, else that of its configuration, else 22."""
    session = os.environ.get("SSH_CONNECTION", "").split()
    if len(session) == 4 and session[3].isascii() and session[3].isdigit() and 0 < int(session[3]) < 65536:
        return int(session[3])
    try:
        files = [*sorted((SSHD_FOLDER / "sshd_config.d").glob("*.conf")), SSHD_FOLDER / "sshd_config"]
    except OSError:
        files = []
    return next((port for file in files for port in _ports(file) if 0 < port < 65536), 22)


def _ports(file: Path) -> Iterator[int]:
    for line in _read(file, _MAX_SSHD_CONFIG).decode("utf-8", "replace").splitlines():
        if _MATCH.match(line):
            return
        if (found := _PORT.fullmatch(line)) is not None:
            yield int(found["port"])


def _host_key() -> str | None:
    """The fingerprint of the host key that an SSH client asks for first; None if there is none where it usually lies."""
    from evidencesync.custody.publickey import PublicKey

    try:
        return PublicKey.from_line(_read(SSHD_FOLDER / f"{_HOST_KEY_FILE}.pub", MAX_PUBLIC_KEY)).fingerprint
    except SignatureError:
        return None


def _read(file: Path, most: int) -> bytes:
    """A file of this machine's; empty if it cannot be read, or is too large to be meant."""
    try:
        data = read_named(file, most, again=True)
    except OSError:
        return b""
    return data if len(data) <= most else b""
