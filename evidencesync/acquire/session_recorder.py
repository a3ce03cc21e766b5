"""Records what a sender keeps of a session (the receipt), and checks the vault's chains against the remembered heads."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from evidencesync.acquire.known_heads import recalled_consistency
from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import ConsistencyCheck
from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.record import decode_record
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.errors import MalformedDocumentError, ProtocolError
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.localstate.receipts import ReceiptDraft
from evidencesync.protocol.messages import Ready, Records


class SessionRecorder(msgspec.Struct, frozen=True):
    """The memory of heads and the receipt draft of a push; either may be missing."""

    memory: HeadMemory | None = None
    draft: ReceiptDraft | None = None

    def begin(self) -> None:
        """Begins the receipt anew, for a new attempt."""
        if self.draft is not None:
            self.draft.begin()

    def watch(self, vault_id: str, keys: VaultKeys, name: ItemName, changes: Iterable[tuple[bytes, bytes]] = ()) -> ShownChains:
        """Returns the checks for the chains of this vault; keeps the `changes` that prove its key with the receipt.

        Raises RememberedHeadsError, ForkedError for another key.
        """
        item = self._consistency(ChainSubject(vault_id, name.case.text, name.item.text), keys)
        own = self._consistency(ChainSubject(vault_id), keys)
        own.place = name.place
        if self.draft is not None:
            for data, signature in changes:
                self.draft.add_record(decode_record(data), data, signature, proves_key=True)
        return ShownChains(item, own)

    def add_manifest(self, lines: bytes) -> None:
        """Adds the next lines of the manifest to the receipt."""
        if self.draft is not None:
            self.draft.add_manifest(lines)

    def sync_manifest(self) -> None:
        """Makes the receipt's manifest durable; all lines were added."""
        if self.draft is not None:
            self.draft.sync_manifest()

    def _consistency(self, subject: ChainSubject, keys: VaultKeys) -> ConsistencyCheck:
        return recalled_consistency(self.memory, subject, keys, self._keep)

    def _keep(self, record: CustodyRecord, data: bytes, signature: bytes) -> None:
        if self.draft is not None:
            self.draft.add_record(record, data, signature)


class ShownChains(msgspec.Struct):
    """Checks the records that a vault shows, of an item's chain and of its own."""

    item: ConsistencyCheck
    own: ConsistencyCheck
    _more: bool = False

    def take(self, batch: Records) -> None:
        """Checks records that the vault shows. Raises the errors of ConsistencyCheck, and ProtocolError for a wrong order."""
        if not batch.records:
            raise ProtocolError("the vault shows records, and there are none")
        for number, (data, signature) in enumerate(batch.records, batch.first):
            self._check_for(data).show(number, data, signature)
        self._more = batch.more

    def finish_handshake(self, ready: Ready) -> None:
        """Checks, at the end of the handshake, that the chains continue what was seen, up to the head that `ready` states."""
        if self._more:
            raise ProtocolError("the vault does not show all the records that it has announced")
        self.item.finish()
        self.item.require_head(ready.chain_sequence, ready.chain_head_sha256.hex() if ready.chain_head_sha256 else None)
        previous = ready.previous_manifest_sha256
        self.item.require_received(ready.acquisition - 1, previous.hex() if previous else None)
        self.own.finish()

    def conclude(self, acquired: bytes, received: bytes) -> None:
        """Adds the two records of a published acquisition, and checks that the vault's own chain states the item's new head."""
        self.item.extend(acquired, received)
        if self.item.known is not None:
            self.own.require_stated(self.item.known.sequence, self.item.known.sha256)

    def remembered(self, seen: UtcTime) -> list[RememberedHead]:
        """Returns the heads to remember from now on."""
        return [
            RememberedHead(one.subject, one.keys.current, one.known, seen, one.keys.all)
            for one in (self.item, self.own)
            if one.known is not None
        ]

    def _check_for(self, data: bytes) -> ConsistencyCheck:
        """Returns the check of the chain that a record claims to be in; the check then verifies that."""
        try:
            return self.item if decode_record(data).case is not None else self.own
        except MalformedDocumentError as error:
            raise ProtocolError(f"the vault shows as a record what is none: {error.message}") from error
