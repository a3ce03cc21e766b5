"""Holds what the intakes of pages and of streams share: lookups, basis, receiver, and the tallies of the receipt."""

from __future__ import annotations

from dataclasses import dataclass, field

from evidencesync.ingest.basis import Basis, Lookup, TreeKey
from evidencesync.ingest.session_contents import SessionContents
from evidencesync.protocol.receiver import Receiver
from evidencesync.vault.layout import Scope


@dataclass(frozen=True, slots=True)
class IngestContext:
    """What both intakes work with: the protocol's end, the lookups and how far they may go, and what the vault has.

    `from_disk`: what is used of the vault is read from its disk, for both digests, and so need not be read back later.
    """

    receiver: Receiver
    index: Lookup
    scope: Scope
    basis: Basis
    from_disk: bool
    piece_key: bytes
    previous: TreeKey
    """The acquisition before this one; its number is 0 where there is none."""
    present: SessionContents
    """What this session has brought."""


@dataclass(slots=True)
class StoredTally:
    """How contents came to lie in the new acquisition: files and bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Counts one content."""
        self.files += 1
        self.bytes += size


@dataclass(slots=True)
class Tallies:
    """The four ways."""

    written: StoredTally = field(default_factory=StoredTally)
    linked: StoredTally = field(default_factory=StoredTally)
    reflinked: StoredTally = field(default_factory=StoredTally)
    copied: StoredTally = field(default_factory=StoredTally)

    def add_assembled(self, size: int, shared: int) -> None:
        """Counts an assembled content: once as a file, its bytes by whether they lie in blocks of a published file."""
        if not shared:
            self.written.add(size)
            return
        self.reflinked.add(shared)
        self.written.bytes += size - shared
