"""Compares a vault's chains with the heads that this machine remembers, so that nothing is signed on a rolled-back chain.

The remembered heads are read before the vault is asked for a chain. If another push ends in between, the vault then shows at
least as much as was remembered: never less. What a sender sees of the chains in a session is compared and recorded, too, with
the receipt that it keeps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import HINT, ChainComparison, ConsistencyCheck, Keep, KnownChain, whose_chain
from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import decode_record
from evidencesync.errors import (
    EvidenceSyncError,
    ForkedError,
    MalformedDocumentError,
    ProtocolError,
    RememberedHeadsError,
    RolledBackError,
    StorageError,
)
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.exit_codes import SEVERITY_ORDER, ExitCode
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.localstate.receipts import ReceiptDraft
from evidencesync.protocol.messages import Ready, Records
from evidencesync.vault.heads import SEEN, StatedHead, require_stated, stated_heads
from evidencesync.vault.ledger import ChainHead, Ledger
from evidencesync.vault.vault import Vault


def item_subject(vault_id: str, name: ItemName) -> ChainSubject:
    """Returns the subject of an item's chain."""
    return ChainSubject(vault_id, name.case.text, name.item.text)


def recalled_consistency(
    memory: HeadMemory | None, subject: ChainSubject, vault_key: str, keep: Keep | None = None
) -> ConsistencyCheck:
    """Returns a check of a chain against its remembered head. Call it before the chain is read.

    Raises RememberedHeadsError, and ForkedError where the vault had another key.
    """
    remembered = memory.recall(subject) if memory is not None else None
    consistency = ConsistencyCheck(subject, vault_key, remembered.chain if remembered is not None else None, keep or _drop)
    if remembered is not None:
        consistency.require_key(remembered.vault_key)
    return consistency


def require_seen(before: KnownChain | None, subject: ChainSubject, present: KnownChain) -> None:
    """Checks that a whole chain continues the one that was seen last. Raises RolledBackError, ForkedError."""
    found = before.compare(present) if before is not None else ChainComparison.EXTENDS
    if before is not None and found is not ChainComparison.EXTENDS:
        failed = ForkedError if found is ChainComparison.FORKED else RolledBackError
        raise failed(
            f"{whose_chain(subject)} ends with record {present.sequence}, {present.sha256}; this machine has seen it up to "
            f"record {before.sequence}, {before.sha256}: {found.value}",
            hint=HINT.format(vault_id=subject.vault_id),
        )


class VaultAtHand:
    """Checks the chains of a vault on this machine against the remembered heads."""

    def __init__(self, memory: HeadMemory, vault: Vault, name: ItemName | None = None) -> None:
        """Recalls the remembered heads: so make it before the chains are read. `name`: an item whose chain is checked, too.

        Raises RememberedHeadsError, ForkedError.
        """
        settings = vault.settings
        self._memory = memory
        self._chains = [(recalled_consistency(memory, ChainSubject(settings.id), settings.key), vault.ledger)]
        if name is not None:
            ledger = Ledger(vault.layout.item(name).custody)
            self._chains.append((recalled_consistency(memory, item_subject(settings.id, name), settings.key), ledger))

    def require(self) -> None:
        """Checks that the chains continue what was seen. Raises RolledBackError, ForkedError, ChainError, StorageError."""
        for consistency, ledger in self._chains:
            _show(consistency, ledger)
            consistency.finish()

    def remember(self, now: UtcTime) -> None:
        """Checks the chains again and remembers their heads. Call after `require`. Raises ForkedError, RememberedHeadsError."""
        self.require()
        known = [(consistency, consistency.known) for consistency, _ in self._chains]
        self._memory.remember(
            [RememberedHead(one.subject, one.vault_key, chain, now) for one, chain in known if chain is not None]
        )


def code_of(error: EvidenceSyncError) -> ExitCode:
    """The exit code of a problem beside what is shown: what the disk, or this machine's memory, did not give is a gap."""
    return ExitCode.GAPS if isinstance(error, StorageError | RememberedHeadsError) else error.exit_code


def _severity(error: EvidenceSyncError) -> int:
    """Orders problems: the one that decides the exit code is the highest."""
    return -SEVERITY_ORDER.index(code) if (code := code_of(error)) in SEVERITY_ORDER else 0


class KnownHeads:
    """What is known of all chains of a vault on this machine, so that a command that shows them misses nothing without a word.

    Made in the order opposite to that of a push's writes, as in `verify`: the memory is read, then the vault's own chain, and
    the items' chains after that. What cannot be read or is wrong is in `problems`, and hides nothing else.
    """

    def __init__(self, memory: HeadMemory, vault: Vault) -> None:
        self.problems: list[EvidenceSyncError] = []
        self.own: ChainHead | None = None
        """Where the vault's own chain ends; None where that is unknown."""
        self._heads: dict[str, set[StatedHead]] = {}
        seen: set[StatedHead] = set()
        with self._kept():
            for one in memory.recall_vault(vault.settings.id):
                self._take_seen(one, vault.settings.key, seen)
        with self._kept():
            self.own = require_stated(vault.ledger, "the vault's own chain", seen)
        with self._kept():
            stated, unread = stated_heads(vault.ledger)
            for place, heads in stated.items():
                self._heads.setdefault(place, set()).update(heads)
            if unread is not None:
                raise unread

    @property
    def places(self) -> list[str]:
        """All items of which something is known, as `CASE/ITEM` (the folders' names)."""
        return sorted(self._heads)

    def of(self, place: str) -> set[StatedHead]:
        """Returns what is known of an item's chain."""
        return self._heads.get(place, set())

    def worst_problem(self) -> EvidenceSyncError | None:
        """Returns the problem that decides the exit code; None where there is none."""
        return max(self.problems, key=_severity, default=None)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except EvidenceSyncError as error:
            self.problems.append(error)

    def _take_seen(self, one: RememberedHead, vault_key: str, own: set[StatedHead]) -> None:
        subject, head = one.subject, StatedHead(one.chain.sequence, one.chain.sha256, SEEN)
        if one.vault_key != vault_key:
            self.problems.append(ForkedError(f"the vault's key is {vault_key}; this machine has seen it with {one.vault_key}"))
        elif subject.case is None or subject.item is None:
            own.add(head)
        else:
            self._heads.setdefault(ItemName(Title(subject.case), Title(subject.item)).place, set()).add(head)


def _show(consistency: ConsistencyCheck, ledger: Ledger) -> None:
    """Shows the check the records from the remembered one on, that one included; where it is not there, the last record."""
    files = ledger.files(consistency.sequence)
    first = consistency.sequence if 1 <= consistency.sequence <= len(files) else len(files)
    for file in files[first - 1 :] if first else []:
        stored = ledger.load(file)
        consistency.show(file.sequence, stored.data, stored.signature)


def _drop(*_: object) -> None:
    """Keeps nothing of the records that are shown."""


@dataclass(frozen=True, slots=True)
class SessionRecorder:
    """The memory of heads and the receipt draft of a push; either may be missing."""

    memory: HeadMemory | None = None
    draft: ReceiptDraft | None = None

    def begin(self) -> None:
        """Begins the receipt anew, for a new attempt."""
        if self.draft is not None:
            self.draft.begin()

    def watch(self, vault_id: str, vault_key: PublicKey, name: ItemName) -> ShownChains:
        """Returns the checks for the chains of this vault. Raises RememberedHeadsError, ForkedError for another key."""
        item = self._consistency(ChainSubject(vault_id, name.case.text, name.item.text), vault_key)
        own = self._consistency(ChainSubject(vault_id), vault_key)
        own.place = name.place
        return ShownChains(item, own)

    def add_manifest(self, lines: bytes) -> None:
        """Adds the next lines of the manifest to the receipt."""
        if self.draft is not None:
            self.draft.add_manifest(lines)

    def sync_manifest(self) -> None:
        """Makes the receipt's manifest durable; all lines were added."""
        if self.draft is not None:
            self.draft.sync_manifest()

    def _consistency(self, subject: ChainSubject, vault_key: PublicKey) -> ConsistencyCheck:
        return recalled_consistency(self.memory, subject, vault_key.fingerprint, self._keep)

    def _keep(self, record: CustodyRecord, data: bytes, signature: bytes) -> None:
        if self.draft is not None:
            self.draft.add_record(record, data, signature)


@dataclass(slots=True)
class ShownChains:
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
        self.own.finish()

    def conclude(self, acquired: bytes, received: bytes) -> None:
        """Adds the two records of a published acquisition, and checks that the vault's own chain states the item's new head."""
        self.item.extend(acquired, received)
        if self.item.known is not None:
            self.own.require_stated(self.item.known.sequence, self.item.known.sha256)

    def remembered(self, seen: UtcTime) -> list[RememberedHead]:
        """Returns the heads to remember from now on."""
        return [
            RememberedHead(one.subject, one.vault_key, one.known, seen) for one in (self.item, self.own) if one.known is not None
        ]

    def _check_for(self, data: bytes) -> ConsistencyCheck:
        """Returns the check of the chain that a record claims to be in; the check then verifies that."""
        try:
            return self.item if decode_record(data).case is not None else self.own
        except MalformedDocumentError as error:
            raise ProtocolError(f"the vault shows a record that is none: {error.message}") from error
