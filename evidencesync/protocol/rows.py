"""The rows of a segment as they stand in messages: packed, taken apart, and checked."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from evidencesync.delta.rows import Row
from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.digest import ChunkDigest
from evidencesync.limits import MAX_CHUNK, MAX_ZERO_EXTENT, MIN_CHUNK, MIN_ZERO_RUN

ZERO_BIT: Final = 1 << 31
"""Set in a row length of SegmentData for a run of zeros."""
_WIRE_ROW: Final = struct.Struct("<I16s")


def encode_wire_rows(rows: Sequence[Row]) -> bytes:
    """The rows as they stand in a Chunks message."""
    return b"".join([_WIRE_ROW.pack(row.length, row.digest) for row in rows])


def decode_wire_rows(packed: bytes) -> list[Row]:
    """The rows of a Chunks message, not yet checked."""
    if len(packed) % _WIRE_ROW.size:
        raise ProtocolError("a list of chunks is cut off")
    return [Row(length, ChunkDigest(digest)) for length, digest in _WIRE_ROW.iter_unpack(packed)]


def signed_lengths(packed: bytes) -> list[int]:
    """Row lengths of SegmentData; a run of zeros as a negative number. Each is checked."""
    if len(packed) % 4:
        raise ProtocolError("a segment's rows are cut off")
    lengths: list[int] = []
    for (value,) in struct.iter_unpack("<I", packed):
        length = value & ~ZERO_BIT
        lengths.append(-length if value & ZERO_BIT else length)
    check_lengths(lengths)
    return lengths


def check_lengths(lengths: list[int]) -> None:
    """Signed row lengths of one segment, as they can only be cut. Raises LimitExceededError.

    A chunk below the minimum is the last before a run of zeros or of its segment, and a short run of zeros goes on with a
    run before it: what the vault remembers of a content (24 bytes a row) stays small against the content.
    """
    following = [*lengths[1:], -1]
    for before, length, after in zip([-1, *lengths], lengths, following, strict=False):
        least, most = (MIN_CHUNK, MAX_CHUNK) if length > 0 else (MIN_ZERO_RUN, MAX_ZERO_EXTENT)
        may_be_short = after < 0 if length > 0 else before < 0
        if not 0 < abs(length) <= most or (abs(length) < least and not may_be_short):
            raise LimitExceededError(f"a chunk or a run of zeros of {abs(length)} bytes")
