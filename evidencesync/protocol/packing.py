"""Packs rows, gaps, pieces and bitmaps into message fields, and checks them when they are unpacked."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from evidencesync.delta.refine import Gap, grid_lengths
from evidencesync.delta.rows import Row
from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.digest import ChunkDigest
from evidencesync.limits import (
    GRID_PIECE,
    MAX_CHUNK,
    MAX_PIECE,
    MAX_ZERO_EXTENT,
    MIN_CHUNK,
    MIN_PIECE,
    MIN_ZERO_RUN,
    PIECE_DIGEST,
)
from evidencesync.protocol.messages import Pieces

_GAP: Final = struct.Struct("<HHH")
_BY_CONTENT: Final = 0xFFFF


def pack_gaps(gaps: Sequence[Gap]) -> bytes:
    """Packs gaps for a Need message."""
    return b"".join([_GAP.pack(gap.first, gap.count, _BY_CONTENT if gap.phase is None else gap.phase) for gap in gaps])


def unpack_gaps(packed: bytes, wanted_sizes: Sequence[int]) -> list[Gap]:
    """Unpacks the gaps of a Need. `wanted_sizes` has the length of every row that is needed, and 0 for the others.

    Raises ProtocolError unless they are in order, do not overlap, and have needed rows only.
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
    """Makes the message that names the pieces of gaps. The lengths of a grid are known to both ends, and not sent."""
    lengths = [length for gap, cut in zip(gaps, cuts, strict=True) if gap.phase is None for length in cut]
    return Pieces(segment, struct.pack(f"<{len(lengths)}H", *lengths), b"".join(digests))


def unpack_pieces(pieces: Pieces, gaps: Sequence[Gap]) -> tuple[list[list[int]], list[bytes]]:
    """Returns for every gap the lengths of its pieces, and their digests, packed. Raises ProtocolError unless they fit."""
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


ZERO_BIT: Final = 1 << 31
"""Set in a row length of SegmentData for a run of zeros."""
_WIRE_ROW: Final = struct.Struct("<I16s")


def encode_wire_rows(rows: Sequence[Row]) -> bytes:
    """Packs rows for a Chunks message."""
    return b"".join([_WIRE_ROW.pack(row.length, row.digest) for row in rows])


def decode_wire_rows(packed: bytes) -> list[Row]:
    """Unpacks the rows of a Chunks message, unchecked."""
    if len(packed) % _WIRE_ROW.size:
        raise ProtocolError("a list of chunks is cut off")
    return [Row(length, ChunkDigest(digest)) for length, digest in _WIRE_ROW.iter_unpack(packed)]


def signed_lengths(packed: bytes) -> list[int]:
    """Unpacks and checks the row lengths of SegmentData; a run of zeros is a negative number."""
    if len(packed) % 4:
        raise ProtocolError("a segment's rows are cut off")
    lengths: list[int] = []
    for (value,) in struct.iter_unpack("<I", packed):
        length = value & ~ZERO_BIT
        lengths.append(-length if value & ZERO_BIT else length)
    check_lengths(lengths)
    return lengths


def check_lengths(lengths: list[int]) -> None:
    """Checks the signed row lengths of one segment against the rules of cutting. Raises LimitExceededError.

    A chunk below the minimum is the last one before a run of zeros or of its segment, and a short run of zeros continues a run
    before it. So the vault's memory for a content (24 bytes a row) stays small against the content.
    """
    following = [*lengths[1:], -1]
    for before, length, after in zip([-1, *lengths], lengths, following, strict=False):
        least, most = (MIN_CHUNK, MAX_CHUNK) if length > 0 else (MIN_ZERO_RUN, MAX_ZERO_EXTENT)
        may_be_short = after < 0 if length > 0 else before < 0
        if not 0 < abs(length) <= most or (abs(length) < least and not may_be_short):
            raise LimitExceededError(f"a chunk or a run of zeros of {abs(length)} bytes")


def pack_bits(bits: Iterable[bool]) -> bytes:
    """Packs bits into bytes, the last one filled up with zeros."""
    value = 0
    count = 0
    for bit in bits:
        value |= bit << count
        count += 1
    return value.to_bytes((count + 7) // 8, "little")


def unpack_bits(packed: bytes, count: int) -> list[bool]:
    """Unpacks `count` bits. Raises ProtocolError for a bitmap of another length or with bits beyond the end."""
    value = int.from_bytes(packed, "little")
    if len(packed) != (count + 7) // 8 or value >> count:
        raise ProtocolError("a bitmap does not fit what it answers")
    return [bool(value >> position & 1) for position in range(count)]
