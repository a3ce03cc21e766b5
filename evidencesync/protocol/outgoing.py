"""What a sender gives to the link: frames in order, data cut into frames, and the count of what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from evidencesync.evidence.digest import Buffer
from evidencesync.protocol.blocks import group_parts
from evidencesync.protocol.compression import Compress, DataEncoder
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Message


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
