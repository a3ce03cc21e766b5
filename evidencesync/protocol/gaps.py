"""Gaps and their pieces as they stand in messages, and the checks that both ends hold each other to."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from evidencesync.delta.refine import Gap, grid_lengths
from evidencesync.errors import ProtocolError
from evidencesync.limits import GRID_PIECE, MAX_PIECE, MIN_PIECE, PIECE_DIGEST
from evidencesync.protocol.messages import Pieces

_GAP: Final = struct.Struct("<HHH")
_BY_CONTENT: Final = 0xFFFF


def pack_gaps(gaps: Sequence[Gap]) -> bytes:
    """Gaps as they stand in Need."""
    return b"".join([_GAP.pack(gap.first, gap.count, _BY_CONTENT if gap.phase is None else gap.phase) for gap in gaps])


def unpack_gaps(packed: bytes, wanted_sizes: Sequence[int]) -> list[Gap]:
    """The gaps of a Need. `wanted_sizes` has the length of every row that is needed, and 0 for the others.

    Raises ProtocolError unless they are in order, apart, and of needed rows only.
    """
    if len(packed) % _GAP.size:
        raise ProtocolError("a list of gaps is cut off")
    gaps: list[Gap] = []
    end = 0
    for first, count, phase in _GAP.iter_unpack(packed):
        sizes = wanted_sizes[first : first + count]
        if first < end or not count or len(sizes) != count or not all(sizes):
            raise ProtocolError("a gap is not a run of chunks that are needed")
        if phase >= GRID_PIECE and phase != _BY_CONTENT:
            raise ProtocolError("a gap begins with an impossible piece")
        gaps.append(Gap(first, count, sum(sizes), None if phase == _BY_CONTENT else phase))
        end = first + count
    return gaps


def pack_pieces(segment: int, gaps: Sequence[Gap], cuts: Sequence[Sequence[int]], digests: Sequence[bytes]) -> Pieces:
    """The message that names the pieces of gaps. The lengths of a grid are known to both ends."""
    lengths = [length for gap, cut in zip(gaps, cuts, strict=True) if gap.phase is None for length in cut]
    return Pieces(segment, struct.pack(f"<{len(lengths)}H", *lengths), b"".join(digests))


def unpack_pieces(pieces: Pieces, gaps: Sequence[Gap]) -> tuple[list[list[int]], list[bytes]]:
    """For every gap the lengths of its pieces and their digests, packed. Raises ProtocolError unless they fit the gaps."""
    if len(pieces.lengths) % 2:
        raise ProtocolError("a list of pieces is cut off")
    stated = iter(struct.unpack(f"<{len(pieces.lengths) // 2}H", pieces.lengths))
    cuts: list[list[int]] = []
    for gap in gaps:
        if gap.phase is not None:
            cuts.append(grid_lengths(gap.size, gap.phase))
            continue
        cut: list[int] = []
        left = gap.size
        while left:
            length = next(stated, 0)
            if not min(MIN_PIECE, left) <= length <= min(MAX_PIECE, left):
                raise ProtocolError("the pieces of a gap do not fit it")
            cut.append(length)
            left -= length
        cuts.append(cut)
    if next(stated, None) is not None:
        raise ProtocolError("more pieces than the gaps hold")
    digests: list[bytes] = []
    start = 0
    for cut in cuts:
        digests.append(pieces.digests[start : start + len(cut) * PIECE_DIGEST])
        start += len(cut) * PIECE_DIGEST
    if start != len(pieces.digests):
        raise ProtocolError("there is not one digest for each piece")
    return cuts, digests
