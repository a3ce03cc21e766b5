"""A timestamp that an examiner attaches to an acquisition of a far vault: checked here, and bound to what the chain records.

Of a far vault this end has what it was shown. The chain is checked as it arrives; its `received` record names the receipt, the
receipt names the manifest's signature, and the authority's answer is over that signature: so nothing else can be attached.
"""

from __future__ import annotations

from dataclasses import dataclass

from evidencesync.acquire.custody_exchange import ChainRecord, ShownChain
from evidencesync.custody.receipt import decode_receipt
from evidencesync.custody.timestamp import Roots, Token, timestamp_details
from evidencesync.errors import ChainError, MissingOrExtraError, TimestampError
from evidencesync.evidence.digest import sha256_of
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.limits import MAX_RECORD
from evidencesync.vault.item import VaultItem
from evidencesync.vault.layout import RECEIPT
from evidencesync.vault.timestamps import HAS_ONE, Answer, load_stamped


@dataclass(frozen=True, slots=True)
class Stamping:
    """An authority's answer that was checked, the acquisition that it is about, and the receipt that names what it is over."""

    number: int
    answer: Answer
    token: Token
    receipt_sha256: str

    @classmethod
    def of(cls, item: VaultItem, number: int, answer: Answer, roots: Roots | None) -> Stamping:
        """Checks an answer against the documents of an acquisition, as the vault has shown them.

        Raises TimestampError, MissingOrExtraError, and ChainError for a signature that the receipt does not name.
        """
        stamped = load_stamped(item, number)
        token = answer.check(stamped, roots)
        with opened_folder(item.layout.acquisition(number)) as folder:
            receipt = load_file(folder, RECEIPT, MAX_RECORD)
        if receipt is None:
            raise MissingOrExtraError(f"acquisition {number} has no {RECEIPT}", hint="Run: evidencesync verify VAULT")
        if decode_receipt(receipt).manifest_signature_sha256 != sha256_of(stamped).hex():
            raise ChainError(
                f"the receipt of acquisition {number} names another signature of its manifest than the vault shows",
                hint="Run: evidencesync verify VAULT",
            )
        return cls(number, answer, token, sha256_of(receipt).hex())

    @property
    def details(self) -> dict[str, str]:
        """What the record states."""
        return timestamp_details(self.token, self.answer.response, self.answer.request)

    def find(self, chain: ShownChain) -> ChainRecord | None:
        """Returns the record of this timestamp, if the chain has one. Raises TimestampError where it names another timestamp."""
        about = (
            one for one in reversed(chain.records) if (one.record.type, one.record.acquisition) == ("timestamped", self.number)
        )
        found = next(about, None)
        if found is not None and found.record.details != self.details:
            raise TimestampError(HAS_ONE.format(number=self.number))
        return found

    def manifest_sha256(self, chain: ShownChain) -> str:
        """Returns the digest of the manifest, as the chain records it. Raises ChainError where it records another receipt."""
        for one in chain.records:
            record = one.record
            if record.type == "received" and record.acquisition == self.number and record.manifest_sha256 is not None:
                if record.receipt_sha256 == self.receipt_sha256:
                    return record.manifest_sha256
                break
        raise ChainError(
            f"the custody chain does not record acquisition {self.number} with the receipt that the vault shows",
            hint="Run: evidencesync verify VAULT",
        )
