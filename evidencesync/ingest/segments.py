"""Stores segments: builds each from the data that has arrived and from the vault's own, and checks every chunk.

Gaps between known chunks are refined: compared piece by piece with the bytes at the same place of the basis. Nothing that is
read from the basis is trusted or kept: it is read once to compare, and again to build.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from operator import attrgetter

import msgspec

from evidencesync.delta.refine import ABSENT, Anchor, Gap, RefinableGap, by_content, find_gaps, find_pieces, rebuild
from evidencesync.delta.rows import ZERO_DIGEST, Row
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import Buffer, SegmentDigest, chunk_digest_of
from evidencesync.ingest.assembly import Assembly
from evidencesync.ingest.basis import Basis
from evidencesync.ingest.context import IngestContext
from evidencesync.ingest.session_contents import SessionContent
from evidencesync.limits import MIN_CHUNK
from evidencesync.protocol.data_frames import split_blocks
from evidencesync.protocol.flow import RefinePolicy
from evidencesync.vault.layout import Location
from evidencesync.vault.staging import Staging

Place = Anchor[Location]


class RefinedGap(msgspec.Struct, frozen=True):
    """A gap after its pieces were named: their lengths, and where in its basis each lies. `found`: bytes that are not sent."""

    basis: RefinableGap[Location]
    lengths: array[int]
    offsets: array[int]
    found: int

    @property
    def gap(self) -> Gap:
        """The rows it stands for."""
        return self.basis.gap

    def lacked(self) -> list[bool]:
        """Returns which pieces have to be sent."""
        return [offset == ABSENT for offset in self.offsets]

    @property
    def lacks_a_chunk(self) -> bool:
        """Whether a run of pieces that have to be sent is as long as a chunk."""
        run = 0
        for length, offset in zip(self.lengths, self.offsets, strict=True) if self.gap.size - self.found >= MIN_CHUNK else ():
            run = run + length if offset == ABSENT else 0
            if run >= MIN_CHUNK:
                return True
        return False

    def lacked_sizes(self) -> list[int]:
        """Returns the lengths of the pieces that have to be sent."""
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
        """Returns the gaps of a segment that are worth refining, and the place in the basis where its end is."""
        gaps, end = find_gaps(rows, places, before, after)
        return [gap for gap in gaps if self._policy.wants_pieces()], end

    def compare(self, chosen: RefinableGap[Location], lengths: list[int], digests: bytes) -> RefinedGap:
        """Finds the named pieces of a gap in its basis."""
        offsets = find_pieces(self._key, chosen.gap, lengths, digests, self._read(chosen))
        found = sum([length for length, offset in zip(lengths, offsets, strict=True) if offset != ABSENT])
        return RefinedGap(chosen, array("H", lengths), array("i", offsets), found)

    def second_look(self, refined: RefinedGap, first: RefinedGap | None) -> RefinableGap[Location] | None:
        """Returns the gap to be cut again, by content, where the grid lacks a run as long as a chunk; else None.

        Bytes may have been inserted or moved there. Where a second look never helps, it is not tried for a while. `first` is the
        result of the first look, where this is the second.
        """
        size = refined.gap.size
        if refined.gap.phase is not None and refined.lacks_a_chunk and self._second_policy.wants_pieces():
            return by_content(refined.basis)
        if first is not None:
            self._second_policy.record_found(max(refined.found - first.found, 0), size)
        self._policy.record_found(refined.found, size)
        return None

    def build(self, refined: RefinedGap, rows: Sequence[Row], arrived: Iterator[Buffer]) -> list[memoryview]:
        """Builds the bytes of a gap's rows, for the caller to check; too short where a basis has become shorter."""
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


class AlignmentHint(msgspec.Struct):
    """A content as it is announced, of at most `size` bytes, and its last known alignment with a basis.

    Byte `at` of the content corresponds to `place` in the basis.
    """

    content: SessionContent
    size: int = 0
    at: int = 0
    place: Place | None = None


class OpenSegment(msgspec.Struct):
    """A segment that is not stored yet: its rows once they are known, where each lies in the vault, and what has arrived.

    `refined`: the gaps whose pieces were named, by their number in `gaps`; `named`: the gaps whose pieces come next. `end`: the
    place in the basis where the segment ends. `kept`: rows that arrived before others had to be requested again. `twin`: the
    digest of this segment in an earlier content of this session, for which it was answered as known. `promised`: the digests
    under which later segments may be answered as known because of this one, until it is stored.
    """

    number: int
    alignment: AlignmentHint
    start: int
    size: int
    rows: list[Row] | None = None
    places: list[Place | None] = msgspec.field(default_factory=list)
    gaps: list[RefinableGap[Location]] = msgspec.field(default_factory=list)
    refined: dict[int, RefinedGap] = msgspec.field(default_factory=dict)
    named: list[int] = msgspec.field(default_factory=list)
    kept: dict[int, memoryview] = msgspec.field(default_factory=dict)
    end: Place | None = None
    lengths: list[int] | None = None
    blocks: list[memoryview] = msgspec.field(default_factory=list)
    whole: tuple[Location, int] | None = None
    twin: SegmentDigest | None = None
    promised: set[SegmentDigest] = msgspec.field(default_factory=set)
    ready: bool = False

    def set_end(self, end: Place | None) -> None:
        """Records the place in the basis where the segment ends."""
        self.end = end
        if end is not None:
            self.alignment.at, self.alignment.place = self.start + self.size, end

    def lacked(self, rows: list[Row]) -> list[bool]:
        """Returns which of its rows have to be sent."""
        return [
            place is None and not row.is_zeros and number not in self.kept
            for number, (place, row) in enumerate(zip(self.places, rows, strict=True))
        ]


def has_digest(data: bytes | memoryview | None, row: Row) -> bool:
    """Returns whether bytes have a chunk's digest."""
    return data is not None and chunk_digest_of(data) == row.digest


def rows_of(lengths: list[int], blocks: list[memoryview]) -> list[Row]:
    """Returns the rows of a segment that arrived whole, from its lengths (negative for zeros) and its bytes."""
    parts = iter(list(split_blocks(blocks, [length for length in lengths if length > 0])))
    return [Row(length, chunk_digest_of(next(parts))) if length > 0 else Row(-length, ZERO_DIGEST) for length in lengths]


class _Stretch(msgspec.Struct):
    """Rows that are handled at once: chunks that lie one behind the other in a published file; or else one row.

    `first` is the number of the first row. `data` are the bytes, once they are there; None for zeros.
    """

    first: int
    rows: list[Row]
    place: Place | None
    data: bytes | memoryview | None = None

    @property
    def is_zeros(self) -> bool:
        """Whether it is a run of zeros."""
        return self.rows[0].is_zeros

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return sum([row.length for row in self.rows])


def _stretches(rows: list[Row], places: Sequence[Place | None]) -> Iterator[_Stretch]:
    """Cuts the rows of a segment into stretches, by where each row was found."""
    stretch: _Stretch | None = None
    end: Place | None = None
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        if stretch is not None and place is not None and place == end and not row.is_zeros and not stretch.is_zeros:
            stretch.rows.append(row)
        else:
            if stretch is not None:
                yield stretch
            stretch = _Stretch(number, [row], place)
        end = place.moved(row.length) if place is not None else None
    if stretch is not None:
        yield stretch


def _split(data: bytes, rows: list[Row]) -> list[memoryview]:
    """Returns the bytes of each row."""
    view = memoryview(data)
    ends = list(accumulate([row.length for row in rows]))
    return [view[end - row.length : end] for row, end in zip(rows, ends, strict=True)]


class SegmentStore:
    """Appends segments to the content that is being assembled, and to its recipe and the journal."""

    def __init__(self, context: IngestContext, staging: Staging, refiner: Refiner) -> None:
        self.zero_bytes = 0
        self._context = context
        self._staging = staging
        self._refiner = refiner

    def store(self, assembly: Assembly, stream: int, segment: OpenSegment) -> bool:
        """Appends a segment and returns True; or False where a basis is damaged, and nothing of the segment was appended.

        Then its `rows` are None where the sender has to list them first; else its `places` are those that are still good.
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
        self._staging.count_stored(sum(row.length for row in rows if not row.is_zeros))
        return True

    def _store_arrived(self, assembly: Assembly, rows: list[Row], blocks: list[memoryview]) -> None:
        """Appends a segment that arrived whole. Between two runs of zeros its bytes are taken as they came, block by block."""
        left = deque(blocks)
        for is_zeros, stretch in groupby(rows, attrgetter("is_zeros")):
            due = sum([row.length for row in stretch])
            if is_zeros:
                self._put_zeros(assembly, due, None)
                continue
            while due:
                block = left.popleft()
                part, rest = block[:due], block[due:]
                assembly.add(part)
                due -= len(part)
                if rest:
                    left.appendleft(rest)

    def _store_known(self, assembly: Assembly, segment: OpenSegment, rows: list[Row], whole: tuple[Location, int]) -> bool:
        """Appends a segment that one published file has as a whole; every chunk is checked before any is used."""
        starts = accumulate([row.length for row in rows], initial=whole[1])
        stretches = list(_stretches(rows, [Anchor(whole[0], start) for _, start in zip(rows, starts, strict=False)]))
        if any(self._load(stretch) for stretch in stretches):
            segment.whole, segment.rows, segment.ready = None, None, False
            return False
        self._put_all(assembly, stretches)
        return True

    def _store_mixed(self, assembly: Assembly, segment: OpenSegment, rows: list[Row]) -> bool:
        """Appends chunks from anywhere in the vault, and chunks that arrived. All are checked before the first is used."""
        arrived = self._arrived(segment, rows)
        stretches = list(_stretches(rows, segment.places))
        is_whole = True
        for stretch in stretches:
            if stretch.place is not None:
                for number in self._load(stretch):
                    segment.places[number] = None
                    is_whole = False
            elif not stretch.is_zeros:
                stretch.data = arrived.get(stretch.first)
                is_whole = is_whole and stretch.data is not None
        if is_whole:
            self._put_all(assembly, stretches)
        return is_whole

    def _load(self, stretch: _Stretch) -> list[int]:
        """Reads a stretch from the published file that has it; returns the numbers of the rows that are not what they must be."""
        basis, place = self._context.basis, stretch.place
        if place is None:
            return []
        numbers = range(stretch.first, stretch.first + len(stretch.rows))
        if stretch.is_zeros:
            bad = [] if basis.is_zeros(place.file, place.offset, stretch.length) else [*numbers]
        else:
            data = stretch.data = basis.read(place.file, place.offset, stretch.length)
            parts = _split(data, stretch.rows) if data is not None else [None] * len(stretch.rows)
            bad = [number for number, row, part in zip(numbers, stretch.rows, parts, strict=True) if not has_digest(part, row)]
        if bad:
            basis.record_damage(place.file)
        return bad

    def _put_all(self, assembly: Assembly, stretches: list[_Stretch]) -> None:
        """Appends stretches that are complete."""
        for stretch in stretches:
            place = None if stretch.place is None else (stretch.place.file, stretch.place.offset)
            if stretch.data is None:
                self._put_zeros(assembly, stretch.length, place)
            else:
                assembly.add(stretch.data, place)

    def _put_zeros(self, assembly: Assembly, length: int, place: tuple[Location, int] | None) -> None:
        """Appends a run of zeros. `place` is where it was found."""
        self.zero_bytes += length
        assembly.add_zeros(length, place)

    def _arrived(self, segment: OpenSegment, rows: list[Row]) -> dict[int, bytes | memoryview]:
        """Returns the rows that have arrived, whole or in pieces; without the rows of gaps that do not have the right digest."""
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
        segment.gaps = []  # what is still missing is requested whole
        return dict(segment.kept)
