"""Compares a vault's chains with the heads that this machine remembers, so that nothing is signed on a rolled-back chain.

The remembered heads are read before the vault is asked for a chain. If another push ends in between, the vault then shows at
least as much as was remembered: never less.
"""

from __future__ import annotations

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import HINT, ChainComparison, ConsistencyCheck, Keep, KnownChain, whose_chain
from evidencesync.errors import ForkedError, RolledBackError
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.vault.ledger import Ledger
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


def _show(consistency: ConsistencyCheck, ledger: Ledger) -> None:
    """Shows the check the records from the remembered one on, that one included; where it is not there, the last record."""
    files = ledger.files()
    first = consistency.sequence if 1 <= consistency.sequence <= len(files) else len(files)
    for file in files[first - 1 :] if first else []:
        stored = ledger.load(file)
        consistency.show(file.sequence, stored.data, stored.signature)


def _drop(*_: object) -> None:
    """Keeps nothing of the records that are shown."""
