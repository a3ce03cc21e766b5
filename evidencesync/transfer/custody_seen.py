"""An item's chain, held to what this machine has seen of it: nobody signs upon a history that was put back."""

from __future__ import annotations

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.seen import Comparison, SeenChain
from evidencesync.custody.witness import HINT, whose_chain
from evidencesync.errors import ForkedError, RolledBackError
from evidencesync.evidence.moment import Moment
from evidencesync.kept.heads import HeadMemory, Remembered
from evidencesync.transfer.custody_talk import ShownChain


def require_seen(memory: HeadMemory, chain: ShownChain) -> None:
    """A chain must go on where it was seen last. Raises RolledBackError, ForkedError, RememberedHeadsError."""
    subject, present = _subject(chain), _seen(chain)
    remembered = memory.recall(subject)
    if remembered is None:
        return
    hint = HINT.format(vault_id=chain.vault_id)
    if remembered.vault_key != chain.vault_key:
        text = f"the vault {chain.vault_id} has the key {chain.vault_key}; this machine has seen it with {remembered.vault_key}"
        raise ForkedError(text, hint=hint)
    before = remembered.chain
    found = before.compare(present)
    if found is not Comparison.EXTENDS:
        failed = ForkedError if found is Comparison.FORKED else RolledBackError
        raise failed(
            f"{whose_chain(subject)} ends with record {present.sequence}, {present.sha256}; this machine has seen it up to "
            f"record {before.sequence}, {before.sha256}: {found.value}",
            hint=hint,
        )


def remember_seen(memory: HeadMemory, chain: ShownChain, now: Moment) -> None:
    """Keeps how far a chain goes. Raises ForkedError, RememberedHeadsError."""
    memory.remember([Remembered(_subject(chain), chain.vault_key, _seen(chain), now)])


def _subject(chain: ShownChain) -> ChainSubject:
    return ChainSubject(chain.vault_id, chain.name.case.text, chain.name.item.text)


def _seen(chain: ShownChain) -> SeenChain:
    """All of it: it was read from its first record on, and hangs together. A vault never shows an empty one."""
    return SeenChain(len(chain.records), tuple(one.sha256 for one in chain.records))
