"""The vault's end of a timestamp that an examiner attaches from afar, under the rules of the command on the vault's machine."""

from __future__ import annotations

from typing import NamedTuple

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.timestamp import timestamp_details
from evidencesync.errors import ChainError, NotThereError
from evidencesync.protocol.messages import Attach
from evidencesync.vault.item import VaultItem
from evidencesync.vault.timestamps import Answer, known_record, load_stamped, stated_manifest, store_answer


class GivenTimestamp(NamedTuple):
    """An authority's answer about an acquisition that was handed in, and what a record has to state of it."""

    number: int
    answer: Answer
    details: dict[str, str]

    @classmethod
    def of(cls, item: VaultItem, attach: Attach) -> GivenTimestamp:
        """Checks an answer against the manifest's signature. Which authorities are trusted is for who attaches, and for `verify`.

        Raises ChainError for an acquisition that the chain does not record, TimestampError, MissingOrExtraError.
        """
        stated_manifest(item.ledger, attach.acquisition)
        answer = Answer(attach.response, attach.request)
        token = answer.check(load_stamped(item, attach.acquisition), None)
        return cls(attach.acquisition, answer, timestamp_details(token, answer.response, answer.request))

    def store(self, item: VaultItem, record: CustodyRecord) -> None:
        """Puts the files in place, durably, before the record that names them. Call under the item's lock.

        Raises ChainError for a record that names anything else, TimestampError where there is another timestamp.
        """
        stated = stated_manifest(item.ledger, self.number)
        if (record.acquisition, record.manifest_sha256, record.details) != (self.number, stated, self.details):
            raise ChainError(f"custody record {record.sequence} names another timestamp, or manifest, than it was handed in with")
        known_record(item, self.number, self.details)
        store_answer(item, self.number, self.answer, is_recorded=False)

    def put_back(self, item: VaultItem) -> None:
        """Puts a file back that a record names and that is not there. Call under the item's lock.

        Raises NotThereError where no record names this timestamp, TimestampError where one names another.
        """
        if known_record(item, self.number, self.details) is None:
            raise NotThereError(f"no custody record names this timestamp of acquisition {self.number}")
        store_answer(item, self.number, self.answer, is_recorded=True)
