"""Which key is the vault's: vault.toml names the first one, and the vault's own chain each change of it.

vault.toml stays as it is, and names what the first record names: that is the vault's identity. A change is in force when its
record is in the chain, and then for every later record.
"""

from __future__ import annotations

from typing import Final

from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.vault_keys import AGENT, HELD_BY, KEY_CHANGED, VaultKeys
from evidencesync.errors import ChainError, UntrustedSignerError
from evidencesync.evidence.digest import sha512_of
from evidencesync.vault.ledger import Ledger, StoredRecord

_VERIFY: Final = "See what else is wrong: evidencesync verify VAULT"


class OwnKeys:
    """Reads the keys of one vault, and what was added since, each time that it is asked."""

    def __init__(self, ledger: Ledger, vault_id: str, first: str) -> None:
        self._ledger = ledger
        self._vault_id = vault_id
        self._keys = VaultKeys(first)

    def read(self) -> VaultKeys:
        """Returns the vault's keys. Raises ChainError, SignatureError and what reading the chain raises."""
        last = self._keys.changes[-1].number if self._keys.changes else 0
        for file in self._ledger.files():
            if file.kind == KEY_CHANGED and file.sequence > last:
                self._keys = self._changed(self._ledger.load(file))
        return self._keys

    def is_in_agent(self) -> bool:
        """Whether the record that names the current key says that an ssh-agent holds it. Raises as `read` does."""
        naming = [file for file in self._ledger.files() if file.kind in ("made", KEY_CHANGED)]
        return bool(naming) and self._ledger.load(naming[-1]).record.details.get(HELD_BY) == AGENT

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Returns the records of all changes, and their signatures, which prove the current key to who knows an earlier one."""
        files = [file for file in self._ledger.files() if file.kind == KEY_CHANGED]
        return [(stored.data, stored.signature) for stored in map(self._ledger.load, files)]

    def _changed(self, stored: StoredRecord) -> VaultKeys:
        record = stored.record
        what = f"custody record {record.sequence} of the vault's own chain, which changes its key,"
        if record.vault_id != self._vault_id:
            raise ChainError(f"{what} is of another vault", hint=_VERIFY)
        signer = verify_signature(stored.signature, CUSTODY_NAMESPACE, sha512_of(stored.data)).fingerprint
        if signer != self._keys.current:
            raise UntrustedSignerError(
                f"{what} is signed by {signer}, and not by the key before, {self._keys.current}", hint=_VERIFY
            )
        return self._keys.with_change(record)
