"""One lookup over all that the vault has: what is published, and what earlier sessions of this item left in staging."""

from __future__ import annotations

from collections.abc import Sequence

from evidencesync.delta.rows import Row
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.vault.index.index import Index
from evidencesync.vault.index.recipes import ChunkPlace
from evidencesync.vault.location import Location, Scope
from evidencesync.vault.resume.leftovers import Leftovers


class Lookup:
    """Finds contents, segments and chunks. Whatever it finds is hashed before it is used."""

    def __init__(self, index: Index, leftovers: Leftovers) -> None:
        self._index = index
        self._leftovers = leftovers

    def known(self, scope: Scope) -> int:
        """How many contents may be found, more or less; 0 means that there is no use in asking."""
        return self._index.known(scope) + self._leftovers.count

    def find_contents(self, digests: Sequence[Blake3Digest], scope: Scope) -> dict[Blake3Digest, Location]:
        """Where whole contents lie."""
        found = self._index.find_contents(digests, scope)
        if self._leftovers.count and len(found) < len(digests):
            found.update(self._leftovers.find_contents([digest for digest in digests if digest not in found]))
        return found

    def find_segment(self, digest: SegmentDigest, at: int, scope: Scope) -> tuple[Location, int, list[Row]] | None:
        """Where a segment lies, and its rows. What was staged goes first: only there can an interrupted content go on.

        `at` is the segment's offset in the content that it is looked for.
        """
        found = self._leftovers.find_segment(digest, at) if self._leftovers.count else None
        return found or self._index.find_segment(digest, scope)

    def find_chunks(self, digests: Sequence[ChunkDigest], scope: Scope) -> dict[ChunkDigest, ChunkPlace]:
        """Where chunks lie."""
        found = self._index.find_chunks(digests, scope)
        if self._leftovers.count and len(found) < len(digests):
            found.update(self._leftovers.find_chunks([digest for digest in digests if digest not in found]))
        return found
