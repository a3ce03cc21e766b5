"""Gaps of a segment at the vault: what they are compared with is read here, and what is found is put together.

Nothing that is read is trusted, and nothing of it is kept in between: it is read once to compare, and again to build.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evidencesync.delta.refine import ABSENT, Anchor, Gap, RefinableGap, by_content, find_gaps, find_pieces, rebuild
from evidencesync.delta.rows import Row
from evidencesync.evidence.digest import Buffer
from evidencesync.ingest.basis import Basis
from evidencesync.limits import MIN_CHUNK
from evidencesync.protocol.flow import RefinePolicy
from evidencesync.vault.layout import Location

Place = Anchor[Location]


@dataclass(frozen=True, slots=True)
class RefinedGap:
    """A gap after its pieces were named: their lengths, and where in its basis each lies."""

    basis: RefinableGap[Location]
    lengths: array[int]
    offsets: array[int]

    @property
    def gap(self) -> Gap:
        """The rows it stands for."""
        return self.basis.gap

    def lacked(self) -> list[bool]:
        """Which pieces have to be sent."""
        return [offset == ABSENT for offset in self.offsets]

    @property
    def found(self) -> int:
        """How many bytes need not be sent."""
        return self.gap.size - sum(self.lacked_sizes())

    @property
    def longest_lack(self) -> int:
        """The length of the longest run of pieces that have to be sent."""
        longest = run = 0
        for length, offset in zip(self.lengths, self.offsets, strict=True):
            run = run + length if offset == ABSENT else 0
            longest = max(longest, run)
        return longest

    def lacked_sizes(self) -> list[int]:
        """The lengths of the pieces that have to be sent."""
        return [length for length, offset in zip(self.lengths, self.offsets, strict=True) if offset == ABSENT]


class Refiner:
    """Chooses gaps, compares their pieces, and builds them."""

    def __init__(self, basis: Basis, key: bytes) -> None:
        self._basis = basis
        self._key = key
        self._policy = RefinePolicy()
        self._second_policy = RefinePolicy()

    def choose(
        self, rows: Sequence[Row], places: Sequence[Place | None], before: Place | None, after: Place | None
    ) -> tuple[list[RefinableGap[Location]], Place | None]:
        """The gaps of a segment that are worth refining, and what its end corresponds to."""
        gaps, end = find_gaps(rows, places, before, after)
        return [gap for gap in gaps if self._policy.wants_pieces()], end

    def compare(self, chosen: RefinableGap[Location], lengths: list[int], digests: bytes) -> RefinedGap:
        """Where the named pieces of a gap lie in its basis."""
        offsets = find_pieces(self._key, chosen.gap, lengths, digests, self._read(chosen))
        return RefinedGap(chosen, array("H", lengths), array("i", offsets))

    def second_look(self, refined: RefinedGap, first: RefinedGap | None) -> RefinableGap[Location] | None:
        """What to compare a gap with once more, by its content: a grid that lacks a run as long as a chunk.

        Something may have been moved there, a little or far. Where that never helps it is not tried for a while. `first` is
        what the first look gave, where this was the second.
        """
        size = refined.gap.size
        if refined.gap.phase is not None and refined.longest_lack >= MIN_CHUNK and self._second_policy.wants_pieces():
            return by_content(refined.basis)
        if first is not None:
            self._second_policy.note_found(max(refined.found - first.found, 0), size)
        self._policy.note_found(refined.found, size)
        return None

    def build(self, refined: RefinedGap, rows: Sequence[Row], arrived: Iterator[Buffer]) -> list[memoryview]:
        """The bytes of a gap's rows, to be checked; too short where a basis has become so."""
        data = memoryview(rebuild(refined.lengths, refined.offsets, self._read(refined.basis), arrived))
        parts: list[memoryview] = []
        start = 0
        for row in rows[refined.gap.first : refined.gap.first + refined.gap.count]:
            parts.append(data[start : start + row.length])
            start += row.length
        return parts

    def _read(self, chosen: RefinableGap[Location]) -> bytes:
        parts: list[bytes] = []
        for part in chosen.ranges:
            length = max(min(part.length, part.file.size - part.offset), 0)
            parts.append((self._basis.read(part.file, part.offset, length) if length else None) or b"")
        return b"".join(parts)
