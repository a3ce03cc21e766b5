"""Queues a sender's outgoing frames in order, packs content into data frames, and counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import Buffer
from evidencesync.protocol.compression import MAX_DATA, Compress, DataEncoder
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Message


def group_parts(parts: Iterable[Buffer]) -> Iterator[list[Buffer]]:
    """Groups parts so that each group fits a data frame. No part is split: so a receiver need not join any."""
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
    """Splits data frames into parts of these sizes, one after the other. Raises ProtocolError unless they fit exactly.

    Each part lies in one frame, so nothing is copied.
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


def copy_if_small(block: memoryview) -> memoryview:
    """Copies data that is small against the buffer it arrived in: otherwise it would keep a large, uncounted buffer alive.

    A larger part is left where it is: copying everything would cost time.
    """
    return memoryview(bytes(block)) if 10 * len(block) < memoryview(block.obj).nbytes else block


@dataclass(slots=True)
class SenderCounts:
    """Counts bytes of content: `literal_bytes` were sent, `zero_bytes` lay in runs of zeros.

    `stored_bytes` the receiver says it has stored: `arrived_bytes` of these were sent, and `known_bytes` it had already.
    """

    literal_bytes: int = 0
    zero_bytes: int = 0
    stored_bytes: int = 0
    arrived_bytes: int = 0
    known_bytes: int = 0

    def add_stored(self, size: int, sent: int, zeros: int = 0) -> None:
        """Counts `size` bytes that are stored; `sent` is more than that where some were sent twice."""
        self.stored_bytes += size
        self.arrived_bytes += sent
        self.known_bytes += max(size - sent - zeros, 0)


class Outgoing:
    """Queues frames to be sent. Pages and segments share one queue, so that they keep their order."""

    def __init__(self, compress: Compress, clock: Callable[[], float]) -> None:
        self.counts = SenderCounts()
        self.data = DataEncoder(compress, clock)
        self._frames: list[bytes] = []

    def take(self) -> list[bytes]:
        """Returns the frames to send now, in order, and empties the queue."""
        frames, self._frames = self._frames, []
        return frames

    def clear(self) -> None:
        """Drops the frames that were not taken: the link is lost."""
        self._frames.clear()

    def send(self, message: Message) -> None:
        """Queues a message."""
        self._frames.append(frame_of(message))

    def send_lines(self, lines: bytes) -> None:
        """Queues the lines of a page, in one data frame. They are not content, and not counted."""
        self._frames.append(self.data.encode([lines]))

    def send_data(self, parts: Iterable[Buffer], size: int) -> None:
        """Queues content, `size` bytes in all."""
        self.counts.literal_bytes += size
        for block in group_parts(parts):
            self._frames.append(self.data.encode(block))
