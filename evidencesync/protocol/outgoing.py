"""What a sender gives to the link: frames in order, parts joined and cut into data frames, and counts of all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import Buffer
from evidencesync.protocol.compression import MAX_DATA, Compress, DataEncoder
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Message


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


@dataclass(slots=True)
class SenderCounts:
    """What was sent and what was spared, in bytes of content."""

    literal_bytes: int = 0
    zero_bytes: int = 0


class Outgoing:
    """Frames that are to be sent. Pages and segments go through one of these, so that they keep their order."""

    def __init__(self, compress: Compress, clock: Callable[[], float]) -> None:
        self.counts = SenderCounts()
        self.data = DataEncoder(compress, clock)
        self._frames: list[bytes] = []

    def take(self) -> list[bytes]:
        """The frames to send now, in order."""
        frames, self._frames = self._frames, []
        return frames

    def clear(self) -> None:
        """Drops what was not taken: the link is lost."""
        self._frames.clear()

    def send(self, message: Message) -> None:
        """A message."""
        self._frames.append(frame_of(message))

    def send_lines(self, lines: bytes) -> None:
        """The lines of a page, in one data frame. They are not content, and not counted."""
        self._frames.append(self.data.encode([lines]))

    def send_data(self, parts: Iterable[Buffer], size: int) -> None:
        """Content, `size` bytes in all."""
        self.counts.literal_bytes += size
        for block in group_parts(parts):
            self._frames.append(self.data.encode(block))
