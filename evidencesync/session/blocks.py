"""Takes data frames and lists of rows apart, and checks what they claim."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.limits import MAX_CHUNK, MAX_ZERO_EXTENT, MIN_CHUNK, MIN_ZERO_RUN
from evidencesync.session.sender import ZERO_BIT


def split_blocks(blocks: Iterable[memoryview], sizes: Iterable[int]) -> Iterator[memoryview]:
    """Parts of these sizes out of data frames, one after the other. Raises ProtocolError unless they fit exactly.

    A part lies in one frame as a whole, so nothing is copied.
    """
    frames = iter(blocks)
    frame = memoryview(b"")
    for size in sizes:
        if not frame:
            frame = next(frames, frame)
        if len(frame) < size:
            raise ProtocolError("a part of what was announced is missing or lies in two data frames")
        yield frame[:size]
        frame = frame[size:]
    if frame or next(frames, None) is not None:
        raise ProtocolError("more data than was announced")


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


def unpinned(block: memoryview) -> memoryview:
    """Data without the large buffer it arrived in, where nearly all of that may be something else, and is not counted.

    A frame of full size in all that a link reads ahead is left where it is: to copy everything would cost time.
    """
    return memoryview(bytes(block)) if 10 * len(block) < memoryview(block.obj).nbytes else block
