"""Stores segments: puts the next one together from what has arrived and from what the vault has, and checks every chunk."""

from __future__ import annotations

from evidencesync.delta.rows import ZERO_DIGEST, Row
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.ingest.assembly import Assembly
from evidencesync.ingest.refining import Refiner
from evidencesync.ingest.segments import OpenSegment, has_digest
from evidencesync.ingest.side import VaultSide
from evidencesync.protocol.blocks import split_blocks
from evidencesync.vault.location import Location
from evidencesync.vault.staging import Staging


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
