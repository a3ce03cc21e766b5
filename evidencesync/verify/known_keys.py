"""Follows the vault's keys while its own chain is read, and says which of them may have signed what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.vault_keys import KEY_CHANGED, VaultKeys
from evidencesync.errors import LimitExceededError, UntrustedSignerError
from evidencesync.vault.layout import parse_record_file

NOT_KNOWN: Final = "a change of the vault's key is damaged, gone or unreadable: which key came after it is not known"


@dataclass(slots=True)
class KnownKeys:
    """The vault's keys, as far as its own chain was read. `lost`: a record that may change the key could not be followed."""

    keys: VaultKeys
    lost: bool = False

    def may_sign(self, subject: ChainSubject, record: CustodyRecord, key: PublicKey) -> str:
        """Returns the key that must sign a record, if the vault must: in its own chain the one of that place, else any it had.

        Whether an item's record is of the key's time is judged later, when it is known what states it.
        """
        return self.keys.at(record.sequence) if subject.item is None else self.keys.named(key.fingerprint)

    def slug(self) -> str:
        """What a signature is called by a key that is none of the vault's: where a change was lost, it may be the vault's."""
        return "not-compared" if self.lost else "wrong-signer"

    def text(self, said: str) -> str:
        """Returns what is said of such a signature, with the reason why it is not judged."""
        return f"{said}; but {NOT_KNOWN}" if self.lost else said

    def pass_over(self, name: str) -> None:
        """Takes note of a record of the vault's own chain that could not be read, or is damaged."""
        filed = parse_record_file(name)
        self.lost = self.lost or (filed is not None and filed[1] == KEY_CHANGED)

    def follow(self, record: CustodyRecord, *, is_signed: bool) -> str | None:
        """Takes a `key-changed` record of the vault's own chain; returns what is wrong with it, if its signature is good."""
        if not is_signed:
            self.lost = True
            return None
        try:
            self.keys = self.keys.with_change(record)
        except (UntrustedSignerError, LimitExceededError) as error:
            return error.message
        return None

    def reason_out_of_time(self, key: PublicKey, stated_by: int | None) -> str | None:
        """Why a signature by one of the vault's keys is not of that key's time; None where it is."""
        fingerprint = key.fingerprint
        if self.keys.in_time(fingerprint, stated_by):
            return None
        if stated_by is not None and stated_by < next((one.number for one in self.keys.changes if one.key == fingerprint), 0):
            return f"signed with {fingerprint}, which became the vault's key after this was stated"
        ended = next(
            (one.number for before, one in zip(self.keys.all, self.keys.changes, strict=False) if before == fingerprint), 0
        )
        return (
            f"signed with {fingerprint}, which the vault gave up in record {ended} of its own chain, and it had not stated this "
            "before that: who has the old key can have signed it since"
        )
