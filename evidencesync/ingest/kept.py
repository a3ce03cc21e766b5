"""Finds contents that a sender has not read, because it takes them to be what the previous acquisition has at their path.

The sender's word is not taken for that: every byte of the file is read, and must have the digest that the sender names.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.delta.recipe import Recipe, RecipeBuilder, RowSpool
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import Sha256Digest
from evidencesync.files.large_hash import ContentReadError, LargeHasher
from evidencesync.ingest.basis import Basis
from evidencesync.ingest.context import IngestContext
from evidencesync.limits import MIB
from evidencesync.protocol.receiver import StreamKept
from evidencesync.vault.layout import Location

_BLOCK: Final = 4 * MIB


class FoundFile(NamedTuple):
    """A published file that was read from end to end. `sha256`: where it was read from the disk, for both digests."""

    location: Location
    sha256: Sha256Digest | None


class KeptFiles:
    """Finds and reads such files, one after the other."""

    def __init__(self, context: IngestContext) -> None:
        self._basis = context.basis
        self._previous = context.previous
        self._hasher = LargeHasher(with_sha256=context.from_disk, all_cores=True)

    def close(self) -> None:
        """Ends the threads."""
        self._hasher.close()

    def find(self, kept: StreamKept) -> FoundFile | None:
        """Returns the file; None where there is none, or it has another size or other bytes."""
        found = self._basis.find_path(self._previous, kept.path.raw)
        if found is None or found.size != kept.size:
            return None
        location = found._replace(blake3=kept.blake3)
        fd = self._basis.fd_of(location)
        if fd is None:
            return None
        try:
            hashed = self._hasher.hash(fd, kept.size, lambda _size, _holes: None)
        except ContentReadError:
            self._basis.record_damage(location)
            return None
        if (hashed.size, hashed.blake3) != (kept.size, kept.blake3.hex()):
            self._basis.record_damage(location)
            return None
        return FoundFile(location, None if hashed.sha256 is None else Sha256Digest(bytes.fromhex(hashed.sha256)))


def cut_again(basis: Basis, location: Location, spool: RowSpool) -> Recipe:
    """Returns the recipe of a published file, cut as its sender did: for a vault whose file system makes no links.

    Raises DigestMismatchError where it cannot be read any more.
    """
    cutter, builder = SegmentCutter(), RecipeBuilder(spool)

    def add(segments: list[Segment]) -> None:
        for segment in segments:
            builder.add_segment(segment.rows())

    for start in range(0, location.size, _BLOCK):
        data = basis.read(location, start, min(_BLOCK, location.size - start))
        if data is None:
            raise DigestMismatchError("a published file has vanished while it was being used")
        cutter.buffer(len(data))[:] = data
        add(cutter.commit(len(data)))
    add(cutter.finish())
    return builder.finish(location.blake3)
