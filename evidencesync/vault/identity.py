"""Decides whether vault.toml is this vault's: it must say the same as the vault's first record, which the vault's key signed."""

from __future__ import annotations

from typing import Final, NamedTuple

from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.record import decode_record
from evidencesync.custody.sshsig import verify_signature
from evidencesync.errors import MalformedDocumentError, MissingOrExtraError, SignatureError, StorageError, WrongVaultError
from evidencesync.evidence.digest import sha512_of
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.layout import SETTINGS, SIGNATURE_SUFFIX, VaultLayout, record_file
from evidencesync.vault.settings import VaultSettings

FIRST_RECORD: Final = record_file(1, "made")
_HINT: Final = "On the vault's machine: put vault.toml back from a backup. See what else is wrong: evidencesync verify VAULT"


class Identity(NamedTuple):
    """A vault's id, and the fingerprint of its key."""

    vault_id: str
    key: str

    @classmethod
    def of(cls, settings: VaultSettings) -> Identity:
        """Returns what vault.toml states."""
        return cls(settings.id, settings.key)

    def other_than(self, recorded: Identity) -> str:
        """Says, for people, that vault.toml states this identity and the first record another one."""
        return (
            f"{SETTINGS} is of vault {self.vault_id} with the key {self.key}; "
            f"its first record of {recorded.vault_id} with the key {recorded.key}"
        )


def recorded_identity(data: bytes | None, signature: bytes | None, stated: Identity | None = None) -> Identity | None:
    """Returns the identity in a vault's first record; None unless the record has a valid signature by the key that it names.

    A record that agrees with what is `stated` needs no signature: then there is nothing to decide.
    """
    if data is None:
        return None
    try:
        record = decode_record(data)
        found = Identity(record.vault_id, record.actor.key)
        if found == stated:
            return found
        if signature is None or verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(data)).fingerprint != found.key:
            return None
    except (MalformedDocumentError, SignatureError):
        return None  # reported when the chain is checked
    return found


def require_own_settings(layout: VaultLayout, settings: VaultSettings) -> None:
    """Raises WrongVaultError where vault.toml is another vault's, or names another key, as `verify` reports it.

    A first record that is missing, damaged or unreadable accuses nobody of that: who needs the chain finds it.
    """
    stated = Identity.of(settings)
    try:
        with opened_folder(layout.custody) as folder:
            data = load_file(folder, FIRST_RECORD, MAX_RECORD)
            signature = load_file(folder, FIRST_RECORD + SIGNATURE_SUFFIX, MAX_SIGNATURE)
    except (MalformedDocumentError, MissingOrExtraError, StorageError):
        return
    recorded = recorded_identity(data, signature, stated)
    if recorded is not None and recorded != stated:
        raise WrongVaultError(stated.other_than(recorded), hint=_HINT)
