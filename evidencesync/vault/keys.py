"""Makes and loads the vault's own key: Ed25519, in OpenSSH's format, readable by its owner only."""

from __future__ import annotations

import os
import stat
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from evidencesync.custody.sshsig import PublicKey
from evidencesync.custody.wire import write_string
from evidencesync.errors import SigningKeyError
from evidencesync.files.disk import NO_MODES, load_file, store_new_file, storing
from evidencesync.limits import MAX_PUBLIC_KEY
from evidencesync.vault.layout import VAULT_KEY, VAULT_KEY_PUBLIC

_PRIVATE_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_FOREIGN_BITS: Final = 0o077
_ALGORITHM: Final = b"ssh-ed25519"


class VaultSigner:
    """Signs with the vault's key; a `custody.sshsig.SigningKey`."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self._public_key = PublicKey.from_line(line)

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies its signatures."""
        return self._public_key

    def sign(self, data: bytes) -> bytes:
        """Returns an SSH signature blob over `data` (RFC 8709, clause 6)."""
        return write_string(_ALGORITHM) + write_string(self._key.sign(data))


def make_vault_key(vault_fd: int, comment: str) -> VaultSigner:
    """Makes the key files of a new vault. Their bytes are synced, the folder is not.

    Raises StorageError, NoSpaceError; SigningKeyError where the file system lets others read it, whatever its mode should be.
    """
    key = Ed25519PrivateKey.generate()
    signer = VaultSigner(key)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    store_new_file(vault_fd, VAULT_KEY, private, mode=_PRIVATE_MODE)
    if (mode := _mode(vault_fd)) & _FOREIGN_BITS:
        raise SigningKeyError(
            f"others could read the vault's key: the file system gives it the mode {mode:04o}",
            hint=f"{NO_MODES} Or make the vault on another file system. Nothing was made.",
        )
    public = signer.public_key.line(comment) + "\n"
    store_new_file(vault_fd, VAULT_KEY_PUBLIC, public.encode(), mode=_PUBLIC_MODE)
    return signer


def _mode(vault_fd: int) -> int:
    with storing("look at the vault's key"):
        return stat.S_IMODE(os.stat(VAULT_KEY, dir_fd=vault_fd, follow_symlinks=False).st_mode)


def load_vault_key(vault_fd: int, fingerprint: str) -> VaultSigner:
    """Loads the vault's key, which must have that fingerprint.

    Raises SigningKeyError when it is missing, unreadable, another key, or readable by others than its owner.
    """
    data = load_file(vault_fd, VAULT_KEY, MAX_PUBLIC_KEY)
    if data is None:
        raise SigningKeyError("the vault's key is missing", hint="Restore vault_key from a backup of the vault.")
    if (mode := _mode(vault_fd)) & _FOREIGN_BITS:
        raise SigningKeyError(
            f"others can read the vault's key (mode {mode:04o})",
            hint=f"chmod 600 VAULT/vault_key, and ask who had access. {NO_MODES}",
        )
    try:
        key = load_ssh_private_key(data, password=None)
    except (ValueError, UnsupportedAlgorithm, TypeError) as error:
        raise SigningKeyError("the vault's key cannot be read", hint="Restore vault_key from a backup.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError("the vault's key is not an Ed25519 key", hint="Restore vault_key from a backup.")
    signer = VaultSigner(key)
    if signer.public_key.fingerprint != fingerprint:
        raise SigningKeyError("vault_key is not the key that vault.toml names", hint="Restore vault_key from a backup.")
    return signer
