"""Holds what the intakes of pages and of streams share: receiver, lookups, basis, and the tallies for the receipt."""

from __future__ import annotations

import msgspec

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.ingest.basis import Basis, Lookup, TreeKey
from evidencesync.ingest.session_contents import SessionContents
from evidencesync.protocol.receiver import Receiver
from evidencesync.vault.layout import Scope


class IngestContext(msgspec.Struct, frozen=True):
    """Gives both intakes the receiver, the lookups with their scope, and the contents that the vault has.

    `from_disk`: a basis is read from the disk, for both digests, and so need not be read back later.
    """

    receiver: Receiver
    index: Lookup
    scope: Scope
    basis: Basis
    from_disk: bool
    piece_key: bytes
    previous: TreeKey
    """The acquisition before this one; its number is 0 where there is none."""
    session_contents: SessionContents
    """The contents that this session has received so far."""
    events: Events = NO_EVENTS


class StoredTally(msgspec.Struct):
    """Counts the contents that were stored in one way: files and bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Counts one content."""
        self.files += 1
        self.bytes += size


class Tallies(msgspec.Struct):
    """Counts contents by how they were stored in the new acquisition."""

    written: StoredTally = msgspec.field(default_factory=StoredTally)
    linked: StoredTally = msgspec.field(default_factory=StoredTally)
    reflinked: StoredTally = msgspec.field(default_factory=StoredTally)
    copied: StoredTally = msgspec.field(default_factory=StoredTally)

    def add_assembled(self, size: int, shared: int) -> None:
        """Counts an assembled content: once as a file, its bytes by whether their blocks are shared with a published file."""
        if not shared:
            self.written.add(size)
            return
        self.reflinked.add(shared)
        self.written.bytes += size - shared
