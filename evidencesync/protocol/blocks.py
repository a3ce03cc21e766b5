"""What travels in data frames: parts put together for them, and taken out of them again without copying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import Buffer
from evidencesync.protocol.compression import MAX_DATA


def group_parts(parts: Iterable[Buffer]) -> Iterator[list[Buffer]]:
    """The parts in groups that fit a data frame. No part is split: a receiver need not put any together."""
    block: list[Buffer] = []
    size = 0
    for part in parts:
        if size + len(part) > MAX_DATA:
            yield block
            block, size = [], 0
        block.append(part)
        size += len(part)
    if block:
        yield block


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


def unpinned(block: memoryview) -> memoryview:
    """Data without the large buffer it arrived in, where nearly all of that may be something else, and is not counted.

    A frame of full size in all that a link reads ahead is left where it is: to copy everything would cost time.
    """
    return memoryview(bytes(block)) if 10 * len(block) < memoryview(block.obj).nbytes else block
