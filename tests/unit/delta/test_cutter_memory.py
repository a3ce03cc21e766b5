"""What a sender holds of a content until it is stored is about what it counts against its window."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest

from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.limits import KIB, MIB

BLOCK = 4 * MIB


def fill_thinly(room: memoryview, chance: random.Random) -> None:
    """16 KiB somewhere in 4 MiB of zeros, as in the image of a large disk that is nearly empty."""
    at = chance.randrange(BLOCK - 16 * KIB)
    room[at : at + 16 * KIB] = chance.randbytes(16 * KIB)


def fill_half(room: memoryview, chance: random.Random) -> None:
    room[: BLOCK // 2] = chance.randbytes(BLOCK // 2)


def fill(room: memoryview, chance: random.Random) -> None:
    room[:] = chance.randbytes(BLOCK)


@pytest.mark.parametrize("filling", [fill_thinly, fill_half, fill], ids=lambda filling: filling.__name__)
def test_segments_that_wait_take_little_more_than_their_chunks(filling: Callable[[memoryview, random.Random], None]) -> None:
    cutter, chance, waiting = SegmentCutter(), random.Random(1), list[Segment]()
    tracemalloc.start()
    try:
        for _ in range(12):
            filling(cutter.buffer(BLOCK), chance)
            waiting += cutter.commit(BLOCK)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    literal = sum(segment.literal_bytes for segment in waiting)
    assert literal
    assert taken < 3 * literal + 3 * BLOCK  # the buffer that is being filled, and what is not a segment yet
