"""Pieces: how a run of lacked chunks (a *gap*) is compared with the bytes that stand in its place in a basis.

Both ends cut the gap's bytes alike and the source names each piece by a short keyed digest. The key is of one session, so
nobody can prepare bytes whose digests collide; and a digest is only a hint: a chunk that was put together wrongly does not
have its own digest, and is asked for whole.

A gap is cut in one of two ways. As a *grid* where both neighbours say that bytes were replaced in place: piece for piece
is compared at the same distance from the neighbours. By its *content* (FastCDC, about 1 KiB) everywhere else: a piece may
then lie anywhere in the basis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile, zip_longest
from typing import Final

from blake3 import blake3
from pyfastcdc import FastCDC

from evidencesync.delta.chunker import PARAMETERS
from evidencesync.evidence.digest import Buffer
from evidencesync.limits import GRID_PIECE, MAX_PIECE, MEAN_PIECE, MIN_PIECE, PIECE_DIGEST

DELTA_PARAMETERS: Final = f"{PARAMETERS} pieces-grid512-fastcdc2020-256-1024-4096-b3x4/1"
"""Names how contents are cut on every level. Both ends must agree on it."""
ABSENT: Final = -1
"""In place of an offset: a piece that the basis does not have."""
_KEY_CONTEXT: Final = "evidencesync 2026 key for digests of pieces"
_CDC: Final = FastCDC(MEAN_PIECE, min_size=MIN_PIECE, max_size=MAX_PIECE)


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive rows of a segment that are lacked: the first, how many, and their bytes in all.

    `phase` is None for pieces cut by content. For a grid it is the length of the first piece, 0 for a full one: it puts
    the others where the basis has its own multiples of GRID_PIECE, for edits mostly keep to those.
    """

    first: int
    count: int
    size: int
    phase: int | None


def piece_key(session: str) -> bytes:
    """The key of a session's piece digests. Not a secret; only not known before the session has begun."""
    return blake3(session.encode(), derive_key_context=_KEY_CONTEXT).digest()


def grid_lengths(size: int, phase: int) -> list[int]:
    """The pieces of a grid over `size` bytes."""
    first = min(phase, size)
    full, last = divmod(size - first, GRID_PIECE)
    return [*([first] if first else []), *([GRID_PIECE] * full), *([last] if last else [])]


def cut_pieces(data: Buffer, phase: int | None) -> list[int]:
    """The lengths of the pieces of a gap's bytes."""
    if phase is not None:
        return grid_lengths(len(data), phase)
    return [chunk.length for chunk in _CDC.cut_buf(data)]


def piece_digests(key: bytes, data: Buffer, lengths: Sequence[int]) -> bytes:
    """The digests of consecutive pieces, packed."""
    view = memoryview(data)
    ends = list(accumulate(lengths))
    return b"".join(
        [blake3(view[end - length : end], key=key).digest(PIECE_DIGEST) for end, length in zip(ends, lengths, strict=True)]
    )


def find_pieces(key: bytes, gap: Gap, lengths: Sequence[int], digests: bytes, basis: bytes) -> list[int]:
    """Where in `basis` each piece of a gap lies, or ABSENT.

    `digests` are those of the source, packed; `lengths` fit the gap. The basis of a grid begins where its gap begins; where
    it ends before, it has nothing.
    """
    if gap.phase is None:
        return _find_by_content(key, lengths, digests, basis)
    return _find_in_place(key, lengths, digests, basis)


def _find_in_place(key: bytes, lengths: Sequence[int], digests: bytes, basis: bytes) -> list[int]:
    there = list(takewhile(lambda end: end <= len(basis), accumulate(lengths)))
    own = _split(piece_digests(key, basis, lengths[: len(there)]))
    return [
        end - length if digest == named else ABSENT
        for end, length, digest, named in zip_longest(there, lengths, own, _split(digests), fillvalue=0)
    ]


def _find_by_content(key: bytes, lengths: Sequence[int], digests: bytes, basis: bytes) -> list[int]:
    """The length counts as a part of the name: with it, four bytes of digest are enough for thousands of pieces."""
    cuts = cut_pieces(basis, None) if basis else []
    names = zip(_split(piece_digests(key, basis, cuts)), cuts, strict=True)
    places = dict(zip(names, accumulate(cuts, initial=0), strict=False))
    return [places.get(name, ABSENT) for name in zip(_split(digests), lengths, strict=True)]


def _split(packed: bytes) -> list[bytes]:
    return [packed[start : start + PIECE_DIGEST] for start in range(0, len(packed), PIECE_DIGEST)]


def rebuild(lengths: Sequence[int], offsets: Sequence[int], basis: bytes, arrived: Iterator[Buffer]) -> bytes:
    """A gap's bytes out of the basis and the pieces that arrived. A basis that has become too short gives fewer bytes."""
    return b"".join(
        [
            next(arrived) if offset == ABSENT else basis[offset : offset + length]
            for length, offset in zip(lengths, offsets, strict=True)
        ]
    )
