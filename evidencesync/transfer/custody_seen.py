"""Chains held to what this machine has seen of them: nobody signs upon a history that was put back.

What is remembered is recalled before the vault is asked for a chain. A push that ends in between is remembered, too, and whatever
the vault shows after that goes at least as far.
"""

from __future__ import annotations

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.seen import Comparison, SeenChain
from evidencesync.custody.witness import HINT, ChainWitness, Keep, whose_chain
from evidencesync.errors import ForkedError, RolledBackError
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.moment import Moment
from evidencesync.kept.heads import HeadMemory, Remembered
from evidencesync.vault.ledger import Ledger
from evidencesync.vault.vault import Vault


def item_subject(vault_id: str, name: ItemName) -> ChainSubject:
    """Whose chain an item's is."""
    return ChainSubject(vault_id, name.case.text, name.item.text)


def recalled_witness(memory: HeadMemory | None, subject: ChainSubject, vault_key: str, keep: Keep | None = None) -> ChainWitness:
    """Who holds a chain to what was seen of it. Call before it is shown.

    Raises RememberedHeadsError, and ForkedError where the vault had another key.
    """
    remembered = memory.recall(subject) if memory is not None else None
    witness = ChainWitness(subject, vault_key, remembered.chain if remembered is not None else None, keep or _drop)
    if remembered is not None:
        witness.require_key(remembered.vault_key)
    return witness


def require_seen(before: SeenChain | None, subject: ChainSubject, present: SeenChain) -> None:
    """A chain that was shown whole must go on where it was seen last. Raises RolledBackError, ForkedError."""
    found = before.compare(present) if before is not None else Comparison.EXTENDS
    if before is not None and found is not Comparison.EXTENDS:
        failed = ForkedError if found is Comparison.FORKED else RolledBackError
        raise failed(
            f"{whose_chain(subject)} ends with record {present.sequence}, {present.sha256}; this machine has seen it up to "
            f"record {before.sequence}, {before.sha256}: {found.value}",
            hint=HINT.format(vault_id=subject.vault_id),
        )


class VaultAtHand:
    """A vault on this machine, whose chains are read here, and what was seen of them."""

    def __init__(self, memory: HeadMemory, vault: Vault, name: ItemName | None = None) -> None:
        """`name`: an item whose chain is meant, too. Recalls what was seen; so call before anything is read of the chains.

        Raises RememberedHeadsError, ForkedError.
        """
        settings = vault.settings
        self._memory = memory
        self._chains = [(recalled_witness(memory, ChainSubject(settings.id), settings.key), vault.ledger)]
        if name is not None:
            ledger = Ledger(vault.layout.item(name).custody)
            self._chains.append((recalled_witness(memory, item_subject(settings.id, name), settings.key), ledger))

    def require(self) -> None:
        """The chains must go on where they were seen last. Raises RolledBackError, ForkedError, ChainError, StorageError."""
        for witness, ledger in self._chains:
            _show(witness, ledger)
            witness.settle()

    def remember(self, now: Moment) -> None:
        """Keeps how far the chains go by now. Call after `require`. Raises ForkedError, RememberedHeadsError."""
        self.require()
        known = [(witness, witness.known) for witness, _ in self._chains]
        self._memory.remember([Remembered(one.subject, one.vault_key, chain, now) for one, chain in known if chain is not None])


def _show(witness: ChainWitness, ledger: Ledger) -> None:
    """The records since the last that is known, that one included; where it is not there, the last."""
    files = ledger.files()
    first = witness.sequence if 1 <= witness.sequence <= len(files) else len(files)
    for file in files[first - 1 :] if first else []:
        stored = ledger.load(file)
        witness.show(file.sequence, stored.data, stored.signature)


def _drop(*_: object) -> None:
    """Nothing that is shown is kept."""
