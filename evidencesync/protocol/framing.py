"""Frames: four bytes length of the body (big-endian), one byte type, body. At most 1 MiB of body."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.limits import FRAME_HEADER, MAX_FRAME_BODY, MAX_PREAMBLE
from evidencesync.protocol.messages import PREAMBLE, Message, encode_message

_HEADER: Final = struct.Struct(">IB")


def encode_frame(frame_type: int, body: bytes) -> bytes:
    """A frame as it travels. Raises LimitExceededError for a body that no peer would take."""
    if len(body) > MAX_FRAME_BODY:
        raise LimitExceededError(f"a frame of {len(body)} bytes is larger than {MAX_FRAME_BODY}")
    return _HEADER.pack(len(body), frame_type) + body


def frame_of(message: Message) -> bytes:
    """A message's frame."""
    return encode_frame(*encode_message(message))


class FrameDecoder:
    """Takes bytes as they arrive, gives whole frames. Holds at most one incomplete frame and what was just fed.

    Before the first frame it looks for the preamble. What stands before it (a login shell's greeting) is kept in `noise`,
    for a hint; more than `limits.MAX_PREAMBLE` of it is a ProtocolError.
    """

    def __init__(self) -> None:
        self.noise = b""
        self.started = False
        self._held: bytes = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Type and body of each frame that is now complete. Bodies are views; use them before the next call.

        Raises LimitExceededError as soon as a header announces more than a frame may hold.
        """
        buffer = self._held + data if self._held else data
        self._held = b""
        if not self.started:
            rest = self._find_preamble(buffer)
            if rest is None:
                return
            buffer = rest
        view = memoryview(buffer)
        position = 0
        while len(view) - position >= FRAME_HEADER:
            size, frame_type = _HEADER.unpack_from(view, position)
            if size > MAX_FRAME_BODY:
                raise LimitExceededError(f"the peer announces a frame of {size} bytes; the limit is {MAX_FRAME_BODY}")
            end = position + FRAME_HEADER + size
            if end > len(view):
                break
            yield frame_type, view[position + FRAME_HEADER : end]
            position = end
        self._held = bytes(view[position:])

    def _find_preamble(self, buffer: bytes) -> bytes | None:
        at = buffer.find(PREAMBLE)
        if at >= 0:
            self.noise = buffer[:at]
            self.started = True
            return buffer[at + len(PREAMBLE) :]
        if len(buffer) > MAX_PREAMBLE:
            self.noise = buffer[:MAX_PREAMBLE]
            raise ProtocolError("the other end does not speak the evidencesync protocol")
        self._held = buffer
        self.noise = buffer
        return None

    @property
    def is_empty(self) -> bool:
        """Whether the stream stands between two frames; an end anywhere else is a cut."""
        return self.started and not self._held
