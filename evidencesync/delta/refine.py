"""Compares a run of missing chunks (a *gap*) in *pieces* with the bytes that are in its place in a basis.

Both ends cut the gap's bytes in the same way, and the source names each piece by a short keyed digest. The key is different in
each session, so nobody can prepare bytes whose digests collide; and a digest is only a hint: a chunk that was assembled wrongly
does not have its own digest, and is requested whole.

A gap is cut in one of two ways. As a *grid* where both neighbours show that bytes were replaced in place: each piece is
compared at the same distance from the neighbours. By its *content* (FastCDC, about 1 KiB) everywhere else: a piece may then be
anywhere in the basis.

All results are guesses: the digest of the chunk decides whether an assembled chunk is right.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, zip_longest
from typing import Final, Generic, TypeVar

import msgspec
from blake3 import blake3
from pyfastcdc import FastCDC

from evidencesync.delta.chunker import PARAMETERS
from evidencesync.delta.rows import Row
from evidencesync.evidence.digest import Buffer
from evidencesync.limits import GRID_PIECE, MAX_PIECE, MEAN_CHUNK, MEAN_PIECE, MIN_PIECE, PIECE_DIGEST

DELTA_PARAMETERS: Final = f"{PARAMETERS} pieces-grid512-fastcdc2020-256-1024-4096-b3x4/1"
"""The name of the way in which contents are cut on every level. Both ends must agree on it."""
ABSENT: Final = -1
"""Instead of an offset: the basis does not have the piece."""
_KEY_CONTEXT: Final = "evidencesync 2026 key for digests of pieces"
_CDC: Final = FastCDC(MEAN_PIECE, min_size=MIN_PIECE, max_size=MAX_PIECE)


class Gap(msgspec.Struct, frozen=True):
    """Consecutive missing rows of a segment: the first, their number, and their total bytes.

    `phase` is None for pieces cut by content. For a grid it is the length of the first piece, 0 for a full one: so the other
    pieces begin at multiples of GRID_PIECE in the basis, where most edits begin and end.
    """

    first: int
    count: int
    size: int
    phase: int | None


def piece_key(session: str) -> bytes:
    """Returns the key of a session's piece digests. It is no secret, but unknown before the session begins."""
    return blake3(session.encode(), derive_key_context=_KEY_CONTEXT).digest()


def grid_lengths(size: int, phase: int) -> list[int]:
    """Returns the lengths of the pieces of a grid over `size` bytes."""
    first = min(phase, size)
    full, last = divmod(size - first, GRID_PIECE)
    return [*([first] if first else []), *([GRID_PIECE] * full), *([last] if last else [])]


def cut_pieces(data: Buffer, phase: int | None) -> list[int]:
    """Cuts a gap's bytes and returns the lengths of the pieces."""
    if phase is not None:
        return grid_lengths(len(data), phase)
    return [chunk.length for chunk in _CDC.cut_buf(data)]


def piece_digests(key: bytes, data: Buffer, lengths: Sequence[int]) -> bytes:
    """Returns the packed digests of consecutive pieces."""
    view = memoryview(data)
    start, digests = 0, []
    hasher = blake3(key=key)  # one for all: to make one takes as long as to hash a piece
    for length in lengths:
        hasher.reset()
        hasher.update(view[start : start + length])
        digests.append(hasher.digest(PIECE_DIGEST))
        start += length
    return b"".join(digests)


def find_pieces(key: bytes, gap: Gap, lengths: Sequence[int], digests: bytes, basis: bytes) -> list[int]:
    """Returns the offset of each piece of a gap in `basis`, or ABSENT.

    `digests` are the packed digests of the source; `lengths` fit the gap. The basis of a grid begins where its gap begins; it
    may be shorter than the gap.
    """
    if gap.phase is None:
        return _find_by_content(key, lengths, digests, basis)
    return _find_in_place(key, lengths, digests, basis)


def _find_in_place(key: bytes, lengths: Sequence[int], digests: bytes, basis: bytes) -> list[int]:
    ends = list(accumulate(lengths))
    there = ends[: bisect_right(ends, len(basis))]
    own = _split(piece_digests(key, basis, lengths[: len(there)]))
    return [
        end - length if digest == named else ABSENT
        for end, length, digest, named in zip_longest(there, lengths, own, _split(digests), fillvalue=0)
    ]


def _find_by_content(key: bytes, lengths: Sequence[int], digests: bytes, basis: bytes) -> list[int]:
    """Finds pieces by length and digest: with the length, four bytes of digest are enough for thousands of pieces."""
    cuts = cut_pieces(basis, None) if basis else []
    names = zip(_split(piece_digests(key, basis, cuts)), cuts, strict=True)
    places = dict(zip(names, accumulate(cuts, initial=0), strict=False))
    return [places.get(name, ABSENT) for name in zip(_split(digests), lengths, strict=True)]


def _split(packed: bytes) -> list[bytes]:
    return [packed[start : start + PIECE_DIGEST] for start in range(0, len(packed), PIECE_DIGEST)]


def rebuild(lengths: Sequence[int], offsets: Sequence[int], basis: bytes, arrived: Iterator[Buffer]) -> bytes:
    """Assembles a gap's bytes from the basis and the received pieces. A basis that has become shorter gives fewer bytes."""
    return b"".join(
        [
            next(arrived) if offset == ABSENT else basis[offset : offset + length]
            for length, offset in zip(lengths, offsets, strict=True)
        ]
    )


_File = TypeVar("_File")
_MARGIN: Final = 2 * MEAN_CHUNK  # read beyond the gap's own size, for bytes that moved a little


class Anchor(Generic[_File], msgspec.Struct, frozen=True):
    """An offset in a published file that corresponds to a position in the new content."""

    file: _File
    offset: int

    def moved(self, count: int) -> Anchor[_File]:
        """Returns the anchor `count` bytes further on."""
        return Anchor(self.file, self.offset + count)


class BasisRange(Generic[_File], msgspec.Struct, frozen=True):
    """A range of a published file to compare with. The file may end before it."""

    file: _File
    offset: int
    length: int


class RefinableGap(Generic[_File], msgspec.Struct, frozen=True):
    """A gap, and the ranges to compare it with, in this order."""

    gap: Gap
    ranges: tuple[BasisRange[_File], ...]


class _Run(msgspec.Struct, frozen=True):
    first: int
    count: int
    size: int


def find_gaps(
    rows: Sequence[Row],
    places: Sequence[Anchor[_File] | None],
    before: Anchor[_File] | None,
    after: Anchor[_File] | None,
) -> tuple[list[RefinableGap[_File]], Anchor[_File] | None]:
    """Finds the gaps of a segment that have a neighbour, and the anchor at the segment's end.

    `places` has where each row was found. `before` and `after` are the anchors of the segment's neighbours, if known. The
    anchor at the end continues through a gap: in a content that changed everywhere there is no other.
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
    """Turns a gap that was compared as a grid into one to compare by content, with the same bytes and those around them."""
    ranges = tuple(_between(part.file, part.offset - _MARGIN, part.offset + part.length + _MARGIN) for part in gap.ranges)
    return RefinableGap(msgspec.structs.replace(gap.gap, phase=None), ranges)


def _runs(rows: Sequence[Row], places: Sequence[Anchor[_File] | None]) -> Iterator[_Run]:
    """Yields maximal runs of missing rows, and every other row alone, with size 0."""
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
    """Finds the anchor of a row's end by the next row that was found; zeros between the two are assumed in the basis, too."""
    zeros = 0
    for row, place in zip(rows[end:], places[end:], strict=True):
        if place is not None:
            return place.moved(-zeros)
        if not row.is_zeros:
            return None
        zeros += row.length
    return after.moved(-zeros) if after is not None else None


def _refinable(run: _Run, left: Anchor[_File] | None, right: Anchor[_File] | None) -> RefinableGap[_File]:
    """Makes a grid, unless two neighbours contradict each other: most changes are in place, a second pass finds the others."""
    begin = left if left is not None else right.moved(-run.size) if right is not None else None
    if begin is not None and begin.offset >= 0 and right in (None, begin.moved(run.size)):
        gap = Gap(run.first, run.count, run.size, -begin.offset % GRID_PIECE)
        return RefinableGap(gap, (BasisRange(begin.file, begin.offset, run.size),))
    length = run.size + _MARGIN
    ranges: list[BasisRange[_File]] = []
    if left is not None:
        ranges.append(_between(left.file, left.offset, left.offset + length))
    if right is not None:
        start = right.offset - length
        if left is not None and left.file == right.file and left.offset <= right.offset:
            ranges[0] = _between(left.file, left.offset, min(left.offset + length, right.offset))
            start = max(start, ranges[0].offset + ranges[0].length)
        ranges.append(_between(right.file, start, right.offset))
    return RefinableGap(Gap(run.first, run.count, run.size, None), tuple(part for part in ranges if part.length))


def _between(file: _File, start: int, end: int) -> BasisRange[_File]:
    start = max(start, 0)
    return BasisRange(file, start, max(end - start, 0))
