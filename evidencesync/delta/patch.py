"""What differs between a part of a file and older bytes: who has these names their pieces, and is told how to patch them.

Both ends cut their bytes by content, in the same way (`delta.refine`). The length and a short keyed digest of each older piece
are sent; whoever has the newer bytes answers with runs: so many bytes that follow, then so many of the older pieces. All of it is
a guess: what was put together is compared with the digests of its chunks, and asked for whole where it is not right.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from evidencesync.delta.refine import cut_pieces, piece_digests
from evidencesync.errors import ProtocolError
from evidencesync.limits import PIECE_DIGEST

_NAME: Final = struct.Struct(f"<H{PIECE_DIGEST}s")


class PatchRun(NamedTuple):
    """So many of the bytes that follow, and then `pieces` of the older ones, from number `first` on."""

    fresh: int
    first: int
    pieces: int


class OlderBytes:
    """The bytes that a part is to be patched from."""

    def __init__(self, key: bytes, data: bytes) -> None:
        """`key`: of the session's piece digests."""
        lengths = cut_pieces(data, None) if data else []
        digests = piece_digests(key, data, lengths)
        self._data = data
        self._starts = [*accumulate(lengths, initial=0)]
        packed = (digests[at : at + PIECE_DIGEST] for at in range(0, len(digests), PIECE_DIGEST))
        self.names = b"".join(map(_NAME.pack, lengths, packed))
        """Length and digest of each piece, packed."""

    def patched(self, runs: Sequence[tuple[int, int, int]], fresh: memoryview, size: int) -> bytes:
        """Returns the newer bytes. Raises ProtocolError for runs that do not make `size` bytes of these and of all of `fresh`."""
        parts: list[memoryview | bytes] = []
        used = made = 0
        for length, first, count in runs:
            if first + count >= len(self._starts):
                raise ProtocolError("a part is patched from older bytes that nobody has named")
            parts += (fresh[used : used + length], self._data[self._starts[first] : self._starts[first + count]])
            used += length
            made += length + self._starts[first + count] - self._starts[first]
            if made > size:
                break
        if (used, made) != (len(fresh), size):
            raise ProtocolError("a part is patched to another length than it has")
        return b"".join(parts)


def find_patch(key: bytes, names: bytes, data: bytes) -> tuple[list[PatchRun], bytes]:
    """Returns the runs that make `data` of the older pieces with these names, and the bytes that follow.

    Raises ProtocolError for names that are cut off.
    """
    if len(names) % _NAME.size:
        raise ProtocolError("a list of pieces is cut off")
    older = [*_NAME.iter_unpack(names)]
    places = {name: number for number, name in reversed([*enumerate(older)])}
    lengths = cut_pieces(data, None) if data else []
    digests = piece_digests(key, data, lengths)
    runs: list[PatchRun] = []
    fresh: list[bytes] = []
    waiting = first = count = start = 0  # bytes that follow, and the run of older pieces after them
    for number, length in enumerate(lengths):
        name = (length, digests[number * PIECE_DIGEST : (number + 1) * PIECE_DIGEST])
        goes_on = count and first + count < len(older) and older[first + count] == name
        place = first + count if goes_on else places.get(name)
        if count and not goes_on:
            runs.append(PatchRun(waiting, first, count))
            waiting = count = 0
        if place is None:
            waiting += length
            fresh.append(data[start : start + length])
        else:
            first, count = (first, count + 1) if goes_on else (place, 1)
        start += length
    if waiting or count:
        runs.append(PatchRun(waiting, first if count else 0, count))
    return runs, b"".join(fresh)
