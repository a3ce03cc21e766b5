"""Which host keys are known. There is no trust on first use: what is not recorded is refused, with the fingerprint."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

from evidencesync.errors import ConfigurationError, HostKeyChangedError, HostKeyError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.outside import open_folder_outside

_DEFAULT_PORT: Final = 22
_MARKERS: Final = frozenset({b"@cert-authority", b"@revoked"})
# In the order in which they are asked for, and none that signs with SHA-1. What is known of a host goes first.
_PLAIN_ALGORITHMS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_CERTIFICATE_ALGORITHMS: Final = tuple(f"{name.removesuffix('@openssh.com')}-cert-v01@openssh.com" for name in _PLAIN_ALGORITHMS)

_Match = tuple[
    list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[object], list[object], list[object], list[object]
]
KnownHostsCallback = Callable[[str, str, int | None], _Match]


@dataclass(frozen=True, slots=True)
class Known:
    """What is recorded for one host: its keys, the authorities that may certify it, and what must never be accepted."""

    keys: tuple[asyncssh.SSHKey, ...]
    authorities: tuple[asyncssh.SSHKey, ...]
    revoked: tuple[asyncssh.SSHKey, ...]
    borrowed: bool = False
    """The lines name the host without this port. As with OpenSSH they vouch for a key that is in them, and say nothing
    against another one: two servers on one machine have two keys."""

    def algorithms(self) -> list[str]:
        """What to ask the server for: the types that are known first, then all others.

        The others too, although none of them can be accepted: only a server that shows its key can be named by its fingerprint.
        """
        known = {key.get_algorithm() for key in self.keys}
        first = [name for name in _PLAIN_ALGORITHMS if name in known or (name.startswith("rsa-") and "ssh-rsa" in known)]
        rest = [name for name in _PLAIN_ALGORITHMS if name not in first]
        return [*(_CERTIFICATE_ALGORITHMS if self.authorities else ()), *first, *rest]


class KnownHosts:
    """The known_hosts files that count, read once. A file that is not there holds no keys.

    Hashed names, `[host]:port`, patterns, `@cert-authority` and `@revoked` mean what they mean to OpenSSH. Names are compared,
    never addresses: who answers at an address is the very thing that a host key is to prove, and behind a jump host the
    address that asyncssh would compare is the jump host's.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._lines: list[tuple[Path, int, bytes]] = []
        self._hosts = asyncssh.SSHKnownHosts()
        for file in files:
            for number, line in enumerate(_read(file).split(b"\n"), start=1):
                clean = _clean(line)
                if clean is not None and _load(self._hosts, clean):
                    self._lines.append((file, number, clean))

    def known(self, host: str, port: int) -> Known:
        """What is recorded for a host. A revocation counts whether it names the port or not, and wins over everything."""
        name = host.lower()
        with_port = None if port == _DEFAULT_PORT else port
        found = self._hosts.match(name, "", with_port)
        # asyncssh looks without the port where nothing is recorded with it, and does not say which it was.
        borrowed = with_port is not None and not any(self._hosts.match(f"[{name}]:{port}", "", None)[:2])
        keys, authorities = tuple(found[0]), tuple(found[1])
        revoked = {*found[2], *self._hosts.match(name, "", None)[2]}
        return Known(
            tuple(key for key in keys if key not in revoked),
            tuple(key for key in authorities if key not in revoked),
            tuple(revoked),
            borrowed,
        )

    def places(self, host: str, port: int) -> list[str]:
        """`file:line` of each line that is about this host, for a message."""
        return list(self._places(host.lower(), None if port == _DEFAULT_PORT else port))

    def _places(self, name: str, port: int | None) -> Iterator[str]:
        for file, number, line in self._lines:
            one = asyncssh.SSHKnownHosts()
            if _load(one, line) and any(one.match(name, "", port)):
                yield f"{safe_text(str(file))}:{number}"

    def callback(self) -> KnownHostsCallback:
        """What asyncssh asks for the keys of a host. It must be a callback: with files, asyncssh would compare addresses too."""

        def match(host: str, _address: str, port: int | None) -> _Match:
            known = self.known(host, port or _DEFAULT_PORT)
            # asyncssh refuses a revoked key before it asks the client object, which then could not name it. A revoked key is
            # not among the known ones, so leaving it out here refuses it as well; certificates need the list.
            revoked = list(known.revoked) if known.authorities else []
            return list(known.keys), list(known.authorities), revoked, [], [], [], []

        return match


def refusal(
    shown: asyncssh.SSHKey | None, host: str, port: int, *, known_hosts: KnownHosts, address: str, reason: str
) -> HostKeyError:
    """The error for a key that was refused. `shown` is None where a certificate was refused; `address` is for the hint."""
    name = safe_text(host if port == _DEFAULT_PORT else f"[{host}]:{port}")
    hint = f"Compare the fingerprint with the server's administrator by another way, then: evidencesync host trust {address}"
    if shown is None:
        return HostKeyError(f"the host certificate of {name} was refused: {safe_text(reason, 200)}", hint=hint)
    what = f"{safe_text(shown.get_algorithm())} {shown.get_fingerprint()}"
    known = known_hosts.known(host, port)
    places = ", ".join(known_hosts.places(host, port)[:5])
    if shown in known.revoked:
        return HostKeyChangedError(f"{name} shows a host key that is marked as revoked: {what} ({places})")
    if known.keys and not known.borrowed:
        types = {key.get_algorithm() for key in known.keys}
        manner = "another host key" if shown.get_algorithm() in types else "a host key of another type"
        recorded = ", ".join(sorted(key.get_fingerprint() for key in known.keys)[:5])
        return HostKeyChangedError(
            f"{name} shows {manner} than the one recorded: {what}; recorded is {recorded} ({places})",
            hint="Do not go on before the server's administrator has confirmed the new key by another way. "
            f"Then remove the recorded line and run: evidencesync host trust {address}",
        )
    return HostKeyError(f"the host key of {name} is not known: {what}", hint=hint)


def remember_host_key(file: Path, name: str, key: str) -> None:
    """Adds a key (its type and itself) to a known_hosts file, for `host trust` after a person has said yes.

    Durable when this returns.

    The line is one write at the end of the file, so two at once don't mix; a torn last line is closed first. Raises
    ConfigurationError where the file can't be written.
    """
    line = f"{name} {key}\n".encode()
    try:
        descriptor = _open_to_add(file)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise ConfigurationError(f"{safe_text(str(file))} could not be written whole")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"{safe_text(str(file))} can't be written: {error.strerror}") from error


def _open_to_add(file: Path) -> int:
    """A known_hosts file, made where it is missing. A link to a file that is there is its owner's business. Raises OSError."""
    shown = safe_text(str(file), 200)
    folder = open_folder_outside(file.parent, shown, (), "Name another file: --known-hosts FILE", follow=True)
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(file.name, flags, dir_fd=folder)
        except FileNotFoundError:
            return os.open(file.name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def _read(file: Path) -> bytes:
    """A regular file's bytes; nothing for one that is not there. A device (`/dev/null`) is a trick, not a record."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(f"known hosts can't be read from {safe_text(str(file))}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigurationError(
            f"{safe_text(str(file))} is not a regular file; host keys are always checked",
            hint="Name a known_hosts file, or remove the setting.",
        )
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_TRUST_FILE + 1)
    if len(data) > MAX_TRUST_FILE:
        raise ConfigurationError(f"{safe_text(str(file))} is larger than any known_hosts file ({MAX_TRUST_FILE} bytes)")
    return data


def _clean(line: bytes) -> bytes | None:
    """Marker, names, type and key of a line; None for one that has none. Like OpenSSH, a line that makes no sense is skipped.

    An empty name (`host,,other`) would match where asyncssh looks up an empty address, and a comment is nobody's business.
    """
    fields = line.split()
    if not fields or fields[0].startswith(b"#"):
        return None
    marker = [fields.pop(0)] if fields[0].startswith(b"@") else []
    if len(fields) < 3 or (marker and marker[0] not in _MARKERS):
        return None
    names = b",".join(name for name in fields[0].split(b",") if name)
    clean = b" ".join([*marker, names, *fields[1:3]])
    return clean if names and clean.isascii() else None


def _load(hosts: asyncssh.SSHKnownHosts, line: bytes) -> bool:
    try:
        hosts.load(line.decode("ascii"))
    except ValueError:
        return False
    return True
