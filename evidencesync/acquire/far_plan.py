"""Plans which bytes of an acquisition a far vault has to send, and which of them can be patched from what lies here.

Of each file it is known which chunks it has (the rows of chunks), or, of a small one, which digest. Runs of zeros do not travel,
nor what a basis on this machine has, nor a content that an earlier file of the copy has; of a chunk that changed, only pieces do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from evidencesync.acquire.evidence import EvidenceStream
from evidencesync.acquire.local_basis import BasisFile, LocalBasis
from evidencesync.custody.manifest import WholeEntry
from evidencesync.delta.patch import OlderBytes
from evidencesync.delta.recipe import Recipe
from evidencesync.delta.rows import RecipeSegment, Row
from evidencesync.evidence.digest import blake3_of
from evidencesync.limits import KIB, MAX_PATCHED, SMALL_FILE
from evidencesync.restore.contents import Acquired
from evidencesync.restore.tree import HardLinkTargets

_PART: Final = MAX_PATCHED  # is asked for at once: what a lost link cuts off is asked for again
_MOST_REMEMBERED: Final = 1 << 16  # contents of the copy that are not fetched again
_MARGIN: Final = 16 * KIB  # of older bytes, where it is not known where they end
_WORTH_PATCHING: Final = 2 * KIB  # a smaller file takes less than a patch
_IN_VAIN: Final = 8  # patches in a row: then only one in eight is tried, until one has something


class PlannedRun(NamedTuple):
    """A part of a file that comes from one place: `asked` of the vault, `here` (with its bytes), `zeros`, or `again`.

    `rows`: the chunks of which it is made; none where they are not known. `older`: what it may be patched from. `again`: all of
    the file is that at `earlier`.
    """

    path: bytes
    offset: int
    length: int
    kind: Literal["asked", "here", "zeros", "again"]
    rows: tuple[Row, ...] = ()
    data: bytes = b""
    earlier: bytes = b""
    older: OlderBytes | None = None


class FarPlan:
    """The plan of one acquisition. `recipes`: the rows of contents, by digest, as far as they are known."""

    def __init__(
        self, acquired: Acquired, stream: EvidenceStream, basis: LocalBasis | None, recipes: dict[bytes, Recipe]
    ) -> None:
        self.given_up = b""
        """A file that was not made: no more of it is planned."""
        self._acquired = acquired
        self._stream = stream
        self._basis = basis
        self._recipes = recipes
        self._in_vain = self._passed = 0

    def runs(self) -> Iterator[PlannedRun]:
        """Yields all that is wanted, in the manifest's order."""
        links = HardLinkTargets()
        remembered: OrderedDict[str, bytes] = OrderedDict()
        for wanted in self._acquired.entries():
            path, entry, _ = wanted
            if entry.blake3 is None:
                continue
            size = entry.size or 0
            earlier = links.target_of(path, entry) or (remembered.get(entry.blake3) if size else None)
            if earlier is not None and self._acquired.draft_fd is not None:
                yield PlannedRun(path, 0, size, "again", earlier=earlier)
                continue
            yield from self.runs_of(wanted)
            remembered[entry.blake3] = path
            if len(remembered) > _MOST_REMEMBERED:
                remembered.popitem(last=False)

    def runs_of(self, wanted: WholeEntry) -> Iterator[PlannedRun]:
        """Yields those of one file, wherever the same content may be."""
        path, entry, _ = wanted
        size, blake3_hex = entry.size or 0, entry.blake3 or ""
        if not size:
            yield PlannedRun(path, 0, 0, "zeros")
        elif size <= SMALL_FILE:
            yield self._small(path, size, blake3_hex)
        elif (recipe := self._recipes.get(bytes.fromhex(blake3_hex))) is None:
            for offset in range(0, size, _PART):
                if path == self.given_up:
                    return
                yield PlannedRun(path, offset, min(_PART, size - offset), "asked")
        else:
            yield from self._large(path, recipe)

    def note_patched(self, *, has_helped: bool) -> None:
        """Hears of the outcome of a patch: where older bytes are of no use, fewer of them are named."""
        self._in_vain = 0 if has_helped else self._in_vain + 1

    def _small(self, path: bytes, size: int, blake3_hex: str) -> PlannedRun:
        data = self._basis.read_small(path) if self._basis is not None else b""
        if len(data) == size and blake3_of(data).hex() == blake3_hex:
            return PlannedRun(path, 0, size, "here", data=data)
        return PlannedRun(path, 0, size, "asked", older=self._older(data) if size >= _WORTH_PATCHING else None)

    def _large(self, path: bytes, recipe: Recipe) -> Iterator[PlannedRun]:
        basis = self._basis.open_file(path) if self._basis is not None else None
        try:
            for segment in recipe.segments():
                if path == self.given_up:
                    return
                self._stream.keep_alive()
                yield from self._segment(path, segment, basis)
        finally:
            if basis is not None:
                basis.close()

    def _segment(self, path: bytes, segment: RecipeSegment, basis: BasisFile | None) -> Iterator[PlannedRun]:
        """Yields the runs of a segment: neighbours that have to be asked for are one, up to _PART bytes."""
        asked: list[Row] = []
        offset = start = segment.offset
        place = 0  # where in the older file what is asked for may begin
        for row in segment.rows():
            before = basis.place if basis is not None else 0
            data = None if basis is None else basis.find(row, offset)
            is_asked = data is None and not row.is_zeros
            if asked and (not is_asked or offset + row.length - start > _PART):
                end = basis.place - row.length if basis is not None and data is not None else None
                yield self._asked(path, start, offset - start, asked, basis, (place, end))
                asked = []
            if not asked:
                start, place = offset, before
            if is_asked:
                asked.append(row)
            elif data is None:
                yield PlannedRun(path, offset, row.length, "zeros")
            else:
                yield PlannedRun(path, offset, row.length, "here", data=data)
            offset += row.length
        if asked:
            yield self._asked(path, start, offset - start, asked, basis, (place, None))

    def _asked(
        self, path: bytes, start: int, length: int, rows: list[Row], basis: BasisFile | None, places: tuple[int, int | None]
    ) -> PlannedRun:
        """`places`: where the older bytes begin and end, if that is known; what lies behind another place is not looked at."""
        older = None
        if basis is not None:
            begin, end = places
            if end is None or not begin <= end <= begin + 2 * length:
                end = begin + length + _MARGIN
            older = self._older(basis.read_between(begin, end))
        return PlannedRun(path, start, length, "asked", tuple(rows), older=older)

    def _older(self, data: bytes) -> OlderBytes | None:
        if not data or not self._stream.may_patch:
            return None
        if self._in_vain >= _IN_VAIN:
            self._passed += 1
            if self._passed % _IN_VAIN:
                return None
        return OlderBytes(self._stream.piece_key, data)
