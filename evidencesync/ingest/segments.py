"""A segment on its way at the vault: what is known of it, and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from evidencesync.delta.gaps import RefinableGap
from evidencesync.delta.rows import Row
from evidencesync.evidence.digest import SegmentDigest, chunk_digest_of
from evidencesync.ingest.present import PresentContent
from evidencesync.ingest.refining import Place, RefinedGap
from evidencesync.vault.location import Location


@dataclass(slots=True)
class AlignmentHint:
    """A content as it is announced, of at most `size` bytes, and how it runs along what the vault has.

    `place` is where its byte `at` would be. The latest that is known.
    """

    content: PresentContent
    size: int = 0
    at: int = 0
    place: Place | None = None


@dataclass(slots=True)
class OpenSegment:
    """A segment on its way: its rows once they are known, where each lies in the vault, and what has arrived.

    `refined` are the gaps whose pieces were named, by their number in `gaps`; `named` are those that are named next. `end` is
    where the vault has what stood before the next segment. `kept` are rows that arrived when others had to be
    asked for once more. `twin`: it is said to be known, because another content of this session, which comes before it, has it.
    `promised`: under which digests others may say the same of it, until it is stored.
    """

    number: int
    alignment: AlignmentHint
    start: int
    size: int
    rows: list[Row] | None = None
    places: list[Place | None] = field(default_factory=list)
    gaps: list[RefinableGap[Location]] = field(default_factory=list)
    refined: dict[int, RefinedGap] = field(default_factory=dict)
    named: list[int] = field(default_factory=list)
    kept: dict[int, memoryview] = field(default_factory=dict)
    end: Place | None = None
    lengths: list[int] | None = None
    blocks: list[memoryview] = field(default_factory=list)
    whole: tuple[Location, int] | None = None
    twin: SegmentDigest | None = None
    promised: set[SegmentDigest] = field(default_factory=set)
    ready: bool = False

    def note_end(self, end: Place | None) -> None:
        """Remembers where the vault has what stands before the next segment."""
        self.end = end
        if end is not None:
            self.alignment.at, self.alignment.place = self.start + self.size, end

    def lacked(self, rows: list[Row]) -> list[bool]:
        """Which of its rows have to be sent."""
        return [
            place is None and not row.is_zeros and number not in self.kept
            for number, (place, row) in enumerate(zip(self.places, rows, strict=True))
        ]


def has_digest(data: bytes | memoryview | None, row: Row) -> bool:
    """Whether bytes are those of a chunk."""
    return data is not None and chunk_digest_of(data) == row.digest
