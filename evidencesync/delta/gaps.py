"""Where in what is already there the bytes of lacked chunks should be compared: next to where their neighbours were found.

Nothing here is certain, and nothing has to be: what a guess gives is checked by the digest of the chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from evidencesync.delta.refine import Gap
from evidencesync.delta.rows import Row
from evidencesync.limits import GRID_PIECE, MEAN_CHUNK

_File = TypeVar("_File")
_MARGIN: Final = 2 * MEAN_CHUNK  # looked at beyond the gap's own size, for bytes that were moved a little


@dataclass(frozen=True, slots=True)
class Anchor(Generic[_File]):
    """An offset in a published file that stands for a position in the new content."""

    file: _File
    offset: int

    def moved(self, count: int) -> Anchor[_File]:
        """The same, so many bytes further on."""
        return Anchor(self.file, self.offset + count)


@dataclass(frozen=True, slots=True)
class BasisRange(Generic[_File]):
    """Bytes of a published file to compare with. It may be shorter than that."""

    file: _File
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class RefinableGap(Generic[_File]):
    """A gap, and the ranges to compare it with, one after the other."""

    gap: Gap
    ranges: tuple[BasisRange[_File], ...]


@dataclass(frozen=True, slots=True)
class _Run:
    first: int
    count: int
    size: int


def find_gaps(
    rows: Sequence[Row],
    places: Sequence[Anchor[_File] | None],
    before: Anchor[_File] | None,
    after: Anchor[_File] | None,
) -> tuple[list[RefinableGap[_File]], Anchor[_File] | None]:
    """The gaps of a segment that have a neighbour, and the anchor at the segment's end.

    `places` says where each row was found. `before` and `after` are what is known of the segment's own neighbours. The
    anchor at the end goes on through a gap: in a content that changed everywhere it is all there is.
    """
    found: list[RefinableGap[_File]] = []
    left = before
    for run in _runs(rows, places):
        if run.size:
            right = _right_of(rows, places, run.first + run.count, after)
            if left is not None or right is not None:
                found.append(_refinable(run, left, right))
            left = left.moved(run.size) if left is not None else None
            continue
        place = places[run.first]
        left = place if place is not None else left
        left = left.moved(rows[run.first].length) if left is not None else None
    return found, left


def by_content(gap: RefinableGap[_File]) -> RefinableGap[_File]:
    """A gap that was compared as a grid, to be compared by its content with the same bytes and those around them."""
    ranges = tuple(_between(part.file, part.offset - _MARGIN, part.offset + part.length + _MARGIN) for part in gap.ranges)
    return RefinableGap(replace(gap.gap, phase=None), ranges)


def _runs(rows: Sequence[Row], places: Sequence[Anchor[_File] | None]) -> Iterator[_Run]:
    """Maximal runs of lacked rows, and every other row by itself with size 0."""
    first = size = 0
    for number, (row, place) in enumerate(zip(rows, places, strict=True)):
        if place is None and not row.is_zeros:
            size += row.length
            continue
        if size:
            yield _Run(first, number - first, size)
        yield _Run(number, 1, 0)
        first, size = number + 1, 0
    if size:
        yield _Run(first, len(rows) - first, size)


def _right_of(
    rows: Sequence[Row], places: Sequence[Anchor[_File] | None], end: int, after: Anchor[_File] | None
) -> Anchor[_File] | None:
    """What a row's end corresponds to, by the next row that was found; zeros between them are taken to be there, too."""
    zeros = 0
    for row, place in zip(rows[end:], places[end:], strict=True):
        if place is not None:
            return place.moved(-zeros)
        if not row.is_zeros:
            return None
        zeros += row.length
    return after.moved(-zeros) if after is not None else None


def _refinable(run: _Run, left: Anchor[_File] | None, right: Anchor[_File] | None) -> RefinableGap[_File]:
    """A grid unless two neighbours contradict each other: most changes are in place, and a second look finds the others."""
    begin = left if left is not None else right.moved(-run.size) if right is not None else None
    if begin is not None and begin.offset >= 0 and right in (None, begin.moved(run.size)):
        gap = Gap(run.first, run.count, run.size, -begin.offset % GRID_PIECE)
        return RefinableGap(gap, (BasisRange(begin.file, begin.offset, run.size),))
    reach = run.size + _MARGIN
    ranges: list[BasisRange[_File]] = []
    if left is not None:
        ranges.append(_between(left.file, left.offset, left.offset + reach))
    if right is not None:
        start = right.offset - reach
        if left is not None and left.file == right.file and left.offset <= right.offset:
            ranges[0] = _between(left.file, left.offset, min(left.offset + reach, right.offset))
            start = max(start, ranges[0].offset + ranges[0].length)
        ranges.append(_between(right.file, start, right.offset))
    return RefinableGap(Gap(run.first, run.count, run.size, None), tuple(part for part in ranges if part.length))


def _between(file: _File, start: int, end: int) -> BasisRange[_File]:
    start = max(start, 0)
    return BasisRange(file, start, max(end - start, 0))
