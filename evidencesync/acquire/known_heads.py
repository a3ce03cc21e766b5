"""Compares a vault's chains with the heads that this machine remembers, so that nothing is signed on a rolled-back chain.

The remembered heads are read before the vault is asked for a chain. If another push ends in between, the vault then shows at
least as much as was remembered: never less.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import HINT, ChainComparison, ConsistencyCheck, Keep, KnownChain, whose_chain
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.errors import (
    EvidenceSyncError,
    ForkedError,
    NameClashError,
    NotThereError,
    RememberedHeadsError,
    RolledBackError,
    StorageError,
)
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.exit_codes import SEVERITY_ORDER, ExitCode
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.vault.heads import OWN, SEEN, require_stated
from evidencesync.vault.item import VaultItem
from evidencesync.vault.ledger import ChainHead, Ledger
from evidencesync.vault.stated import StatedHead, stated_heads
from evidencesync.vault.vault import Vault


def item_subject(vault_id: str, name: ItemName) -> ChainSubject:
    """Returns the subject of an item's chain."""
    return ChainSubject(vault_id, name.case.text, name.item.text)


def recalled_consistency(
    memory: HeadMemory | None, subject: ChainSubject, keys: VaultKeys, keep: Keep | None = None
) -> ConsistencyCheck:
    """Returns a check of a chain against its remembered head. Call it before the chain is read.

    Raises RememberedHeadsError, and ForkedError where the vault had another key.
    """
    remembered = memory.recall(subject) if memory is not None else None
    consistency = ConsistencyCheck(subject, keys, remembered.chain if remembered is not None else None, keep or _drop)
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


def open_item(memory: HeadMemory, vault: Vault, name: ItemName) -> VaultItem:
    """Opens an item. One that this machine has seen, and that the vault no longer knows, was removed, whatever the vault says.

    Raises what `Vault.item` raises, RolledBackError for a removed one, RememberedHeadsError.
    """
    try:
        return vault.item(name)
    except NotThereError:
        subject = item_subject(vault.settings.id, name)
        with contextlib.suppress(NameClashError):  # what was seen in that folder was another item
            if (seen := memory.recall(subject)) is not None:
                head = StatedHead(seen.chain.sequence, seen.chain.sha256, SEEN)
                require_stated(Ledger(vault.layout.item(name).custody), whose_chain(subject), [head])
        raise


class VaultAtHand:
    """Checks the chains of a vault on this machine against the remembered heads."""

    def __init__(self, memory: HeadMemory, vault: Vault, name: ItemName | None = None) -> None:
        """Recalls the remembered heads: so make it before the chains are read. `name`: an item whose chain is checked, too.

        Raises RememberedHeadsError, ForkedError.
        """
        settings, keys = vault.settings, vault.keys
        self._vault = vault
        self._memory = memory
        self._chains = [(recalled_consistency(memory, ChainSubject(settings.id), keys), vault.ledger)]
        if name is not None:
            ledger = Ledger(vault.layout.item(name).custody)
            self._chains.append((recalled_consistency(memory, item_subject(settings.id, name), keys), ledger))

    def require(self) -> None:
        """Checks that the chains continue what was seen. Raises RolledBackError, ForkedError, ChainError, StorageError."""
        for consistency, ledger in self._chains:
            consistency.keys = self._vault.keys  # the key may have been changed since
            _show(consistency, ledger)
            consistency.finish()

    def remember(self, now: UtcTime) -> None:
        """Checks the chains again and remembers their heads. Call after `require`. Raises ForkedError, RememberedHeadsError."""
        self.require()
        known = [(consistency, consistency.known) for consistency, _ in self._chains]
        self._memory.remember(
            [RememberedHead(one.subject, one.keys.current, chain, now, one.keys.all) for one, chain in known if chain is not None]
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
    the items' chains after that. What cannot be read or is wrong is in `problems`, and hides nothing else. That is so also of the
    lists of trust: as long as they are wrong, the vault lets nobody in from afar.
    """

    def __init__(self, memory: HeadMemory, vault: Vault) -> None:
        self.problems: list[EvidenceSyncError] = []
        self.own: ChainHead | None = None
        """Where the vault's own chain ends; None where that is unknown."""
        self._heads: dict[str, set[StatedHead]] = {}
        seen: set[StatedHead] = set()
        with self._kept():
            remembered = memory.recall_vault(vault.settings.id)
            keys: VaultKeys | None = None  # without the vault's own chain, which is a problem of its own, no key is compared
            with contextlib.suppress(EvidenceSyncError):
                keys = vault.keys if remembered else VaultKeys(vault.settings.key)
            for one in remembered:
                self._take_seen(one, keys, seen)
        with self._kept():
            self.own = require_stated(vault.ledger, OWN, seen)
            if not vault.fetched:
                vault.load_trust()
                _ = vault.low_s  # its first record says how signatures are judged
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

    def _take_seen(self, one: RememberedHead, keys: VaultKeys | None, own: set[StatedHead]) -> None:
        subject, head = one.subject, StatedHead(one.chain.sequence, one.chain.sha256, SEEN)
        if keys is not None and one.vault_key not in keys.all:
            self.problems.append(ForkedError(f"the vault's key is {keys.current}; this machine has seen it with {one.vault_key}"))
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
