"""Stores segments: puts the next one together from what has arrived and from what the vault has, and checks every chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from evidencesync.delta.refine import RefinableGap
from evidencesync.delta.rows import ZERO_DIGEST, Row
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import SegmentDigest, chunk_digest_of
from evidencesync.ingest.assembly import Assembly
from evidencesync.ingest.present import PresentContent
from evidencesync.ingest.refining import Place, RefinedGap, Refiner
from evidencesync.ingest.side import VaultSide
from evidencesync.protocol.outgoing import split_blocks
from evidencesync.vault.layout import Location
from evidencesync.vault.staging import Staging


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


def rows_of(lengths: list[int], blocks: list[memoryview]) -> list[Row]:
    """The rows of a segment that arrived whole: lengths, negative for zeros, and its bytes."""
    parts = iter(list(split_blocks(blocks, [length for length in lengths if length > 0])))
    return [Row(length, chunk_digest_of(next(parts))) if length > 0 else Row(-length, ZERO_DIGEST) for length in lengths]


class SegmentStore:
    """Appends segments to the content that is being assembled, in recipe and journal, too."""

    def __init__(self, vault: VaultSide, staging: Staging, refiner: Refiner) -> None:
        self.zero_bytes = 0
        self._vault = vault
        self._staging = staging
        self._refiner = refiner

    def store(self, assembly: Assembly, stream: int, segment: OpenSegment) -> bool:
        """Appends a segment, and gives True; or False, where a basis proved bad, and nothing of it was appended.

        Then its `rows` are None where they have to be listed first; else its `places` are those that are left.
        """
        rows = segment.rows or []
        if segment.lengths is not None:
            self._store_arrived(assembly, rows, segment.blocks)
        else:
            if segment.whole is not None:
                stored = self._store_known(assembly, segment, rows, segment.whole)
            else:
                stored = self._store_mixed(assembly, segment, rows)
            if not stored:
                return False
        assembly.recipe.add_segment(rows)
        self._staging.journal.add_segment(stream, rows)
        self._staging.note_stored(sum(row.length for row in rows if not row.is_zeros))
        return True

    def _store_arrived(self, assembly: Assembly, rows: list[Row], blocks: list[memoryview]) -> None:
        parts = iter(list(split_blocks(blocks, [row.length for row in rows if not row.is_zeros])))
        for row in rows:
            self._put(assembly, row, b"" if row.is_zeros else next(parts), None)

    def _store_known(self, assembly: Assembly, segment: OpenSegment, rows: list[Row], whole: tuple[Location, int]) -> bool:
        """A segment that one published file has as a whole; every chunk of it is checked before it counts.

        Of a file in another case the assembly is told nothing: so it neither links it nor shares its blocks.
        """
        location, offset = whole
        own = self._vault.scope.is_own_case(location)
        basis = self._vault.basis_of(location)
        parts: list[bytes] = []
        for row in rows:
            data = b"" if row.is_zeros else basis.read(location, offset, row.length)
            good = (not own or basis.is_zeros(location, offset, row.length)) if row.is_zeros else has_digest(data, row)
            if data is None or not good:
                basis.note_damage(location)
                segment.whole, segment.rows, segment.ready = None, None, False
                return False
            parts.append(data)
            offset += row.length
        offset = whole[1]
        for row, part in zip(rows, parts, strict=True):
            self._put(assembly, row, part, (location, offset) if own else None)
            offset += row.length
        return True

    def _put(self, assembly: Assembly, row: Row, part: bytes | memoryview, place: tuple[Location, int] | None) -> None:
        """The next row, and where it was found."""
        if row.is_zeros:
            self.zero_bytes += row.length
            assembly.add_zeros(row.length, place)
        else:
            assembly.add(part, place)

    def _store_mixed(self, assembly: Assembly, segment: OpenSegment, rows: list[Row]) -> bool:
        """Chunks from anywhere in the vault, and what arrived. All are checked before the first is used."""
        parts: dict[int, bytes | memoryview] = self._arrived(segment, rows)
        basis = self._vault.basis
        bad = False
        for number, (row, place) in enumerate(zip(rows, segment.places, strict=True)):
            if place is not None:
                data = basis.read(place.file, place.offset, row.length)
                if data is not None and has_digest(data, row):
                    parts[number] = data
                    continue
                basis.note_damage(place.file)
                segment.places[number] = None
            elif row.is_zeros or number in parts:
                continue
            bad = True
        if bad:
            return False
        for number, row in enumerate(rows):
            place = segment.places[number]
            self._put(assembly, row, parts.get(number, b""), None if place is None else (place.file, place.offset))
        return True

    def _arrived(self, segment: OpenSegment, rows: list[Row]) -> dict[int, bytes | memoryview]:
        """The rows that have arrived, whole or in pieces. One of a gap that was put together wrongly is not among them."""
        wanted = segment.lacked(rows)
        gaps = list(segment.refined.values())  # in the order of the gaps: a second look does not change it
        for refined in gaps:
            wanted[refined.gap.first : refined.gap.first + refined.gap.count] = [False] * refined.gap.count
        whole = [number for number, lacked in enumerate(wanted) if lacked]
        sizes = [rows[number].length for number in whole]
        sizes += [length for refined in gaps for length in refined.lacked_sizes()]
        arrived = iter(list(split_blocks(segment.blocks, sizes)))
        for number, part in zip(whole, arrived, strict=False):
            if not has_digest(part, rows[number]):
                raise DigestMismatchError("a chunk arrived that is not the one that was announced")
            segment.kept[number] = part
        for refined in gaps:
            built = self._refiner.build(refined, rows, arrived)
            segment.kept |= {
                number: part for number, part in enumerate(built, start=refined.gap.first) if has_digest(part, rows[number])
            }
        segment.gaps = []  # what is still lacked is asked for whole
        return dict(segment.kept)
