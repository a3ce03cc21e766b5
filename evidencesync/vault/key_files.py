"""The files of the vault's own key: the private one, readable by its owner only, and the public one. An ssh-agent may hold it.

The vault's own chain says which key is the vault's. While it changes, the new key's files are drafts, and take their places after
the record of the change: so each is found by what it is, in its place or beside it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
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

from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import SigningKey
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.custody.wire import write_string
from evidencesync.errors import MissingOrExtraError, SignatureError, SigningKeyError
from evidencesync.files.disk import NO_MODES, load_file, load_own_file, remove_if_there, store_new_file, storing, sync_folder
from evidencesync.files.folders import names_in
from evidencesync.limits import MAX_PUBLIC_KEY
from evidencesync.vault.interrupted import is_draft
from evidencesync.vault.layout import VAULT_KEY, VAULT_KEY_PUBLIC

KEY_FILE_MODES: Final = {VAULT_KEY: 0o600, VAULT_KEY_PUBLIC: 0o644}
_FOREIGN_BITS: Final = 0o077
_ALGORITHM: Final = b"ssh-ed25519"
_FROM_BACKUP: Final = "Restore vault_key from a backup."
_TO_AGENT: Final = (
    "On the vault's machine: load it into an ssh-agent (ssh-add), and set SSH_AUTH_SOCK for the account and the command that "
    "runs evidencesync there."
)


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


def new_key_files(comment: str) -> tuple[VaultSigner, dict[str, bytes]]:
    """Makes a new key; returns it, and the bytes of its files by name."""
    key = Ed25519PrivateKey.generate()
    signer = VaultSigner(key)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return signer, {VAULT_KEY: private, VAULT_KEY_PUBLIC: public_key_file(signer.public_key, comment)}


def public_key_file(key: PublicKey, comment: str) -> bytes:
    """Returns the bytes of the public key's file."""
    return (key.line(comment) + "\n").encode()


def make_vault_key(vault_fd: int, comment: str) -> VaultSigner:
    """Makes the key files of a new vault. Their bytes are synced, the folder is not.

    Raises StorageError, NoSpaceError; SigningKeyError where the file system lets others read it, whatever its mode should be.
    """
    signer, files = new_key_files(comment)
    for name, data in files.items():
        store_new_file(vault_fd, name, data, mode=KEY_FILE_MODES[name])
    require_unexposed(vault_fd, VAULT_KEY)
    return signer


def require_unexposed(vault_fd: int, name: str) -> None:
    """Raises SigningKeyError where a private key that was just written can be read by others, whatever its mode should be."""
    if (mode := _mode(vault_fd, name)) & _FOREIGN_BITS:
        raise SigningKeyError(
            f"others could read the vault's key: the file system gives it the mode {mode:04o}",
            hint=f"{NO_MODES} Or make the vault on another file system. Nothing was made.",
        )


def _mode(vault_fd: int, name: str) -> int:
    with storing("look at the vault's key"):
        return stat.S_IMODE(os.stat(name, dir_fd=vault_fd, follow_symlinks=False).st_mode)


def require_usable(key: PublicKey) -> None:
    """Raises SigningKeyError for a key in an agent that is none for a vault: one that has to be touched for each signature."""
    if key.algorithm.startswith("sk-"):
        raise SigningKeyError(
            f"{key.fingerprint} is a key that has to be touched for each signature, and a vault signs while nobody is there",
            hint="Use another key: Ed25519, ECDSA or RSA. A token that asks for no touch may hold it (PKCS#11).",
        )


def load_agent_key(vault_fd: int, fingerprint: str) -> SigningKey:
    """Returns the vault's key in an ssh-agent, which vault_key.pub names. Raises SigningKeyError where it is not there now."""
    public = stated_key_files(vault_fd, fingerprint).get(VAULT_KEY_PUBLIC)
    if public is None:
        text = f"{VAULT_KEY_PUBLIC} is missing, or names another key than the vault's, {fingerprint}, which an ssh-agent holds"
        raise SigningKeyError(text, hint=f"Restore {VAULT_KEY_PUBLIC} from a backup.")
    from evidencesync.ssh_agent import choose_from_agent  # most vaults have their key in a file

    try:
        return choose_from_agent(PublicKey.from_line(public.strip()))
    except SigningKeyError as error:
        raise SigningKeyError(f"the vault's own key is to be in an ssh-agent: {error.message}", hint=_TO_AGENT) from error


def remove_old_key(vault_fd: int, keys: VaultKeys) -> bool:
    """Removes an earlier private key from the place of the current one, which an agent holds; returns whether it was there."""
    data = load_own_file(vault_fd, VAULT_KEY, MAX_PUBLIC_KEY)
    if data is None or fingerprint_in(VAULT_KEY, data) not in keys.all[:-1]:
        return False
    with storing("remove the old key of the vault"):
        remove_if_there(vault_fd, VAULT_KEY)
    sync_folder(vault_fd, "the vault's folder")
    return True


def load_vault_key(vault_fd: int, fingerprint: str) -> VaultSigner:
    """Loads the vault's key, which must have that fingerprint: from its place, else from a draft.

    Raises SigningKeyError when it is missing, unreadable, another key, or readable by others than its owner.
    """
    found: SigningKeyError | None = None
    for name in (VAULT_KEY, *_drafts_of(vault_fd, VAULT_KEY), VAULT_KEY):  # twice: a draft may take its place meanwhile
        try:
            signer = _load(vault_fd, name)
            if signer.public_key.fingerprint == fingerprint:
                return signer
            error = SigningKeyError(f"{VAULT_KEY} is not the key that the vault's own chain names", hint=_FROM_BACKUP)
        except SigningKeyError as refused:
            error = refused
        found = found or error
    raise found or SigningKeyError("the vault's key is missing", hint=_FROM_BACKUP)


def _load(vault_fd: int, name: str) -> VaultSigner:
    try:
        data = load_file(vault_fd, name, MAX_PUBLIC_KEY)
    except MissingOrExtraError:
        if name == VAULT_KEY:
            raise
        data = None  # a draft that is a link or the like is nobody's key
    if data is None:
        raise SigningKeyError("the vault's key is missing", hint="Restore vault_key from a backup of the vault.")
    if (mode := _mode(vault_fd, name)) & _FOREIGN_BITS:
        raise SigningKeyError(
            f"others can read the vault's key (mode {mode:04o})",
            hint=f"chmod 600 VAULT/vault_key, and ask who had access. {NO_MODES}",
        )
    signer = _signer_in(data)
    if signer is None:
        raise SigningKeyError("the vault's key cannot be read, or is not an Ed25519 key", hint=_FROM_BACKUP)
    return signer


def _signer_in(data: bytes) -> VaultSigner | None:
    try:
        key = load_ssh_private_key(data, password=None)
    except (ValueError, UnsupportedAlgorithm, TypeError):
        return None
    return VaultSigner(key) if isinstance(key, Ed25519PrivateKey) else None


def stated_key_files(vault_fd: int, fingerprint: str) -> dict[str, bytes]:
    """Returns the bytes of those key files that are of the vault's key, in their places or beside them; those that are there."""
    found: dict[str, bytes] = {}
    for name in KEY_FILE_MODES:
        for one in (name, *_drafts_of(vault_fd, name)):
            data = load_own_file(vault_fd, one, MAX_PUBLIC_KEY)
            if data is not None and fingerprint_in(name, data) == fingerprint:
                found[name] = data
                break
    return found


def are_key_files_in_place(vault_fd: int, stated: Mapping[str, bytes]) -> bool:
    """Whether those key files that are `stated_key_files` lie in their places, and not beside them."""
    return all(load_own_file(vault_fd, name, MAX_PUBLIC_KEY) == stated[name] for name in KEY_FILE_MODES if name in stated)


def fingerprint_in(name: str, data: bytes) -> str | None:
    """Returns the fingerprint of the key in a file of that name; None where there is none."""
    if name == VAULT_KEY:
        signer = _signer_in(data)
        return signer.public_key.fingerprint if signer is not None else None
    try:
        return PublicKey.from_line(data.strip()).fingerprint
    except SignatureError:
        return None


def _drafts_of(vault_fd: int, name: str) -> list[str]:
    return sorted(found for found in names_in(vault_fd) if is_draft(found, name))
