"""Encodes and decodes frames: four bytes length of the body (big-endian), one byte type, body of at most 1 MiB."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Buffer
from evidencesync.limits import FRAME_HEADER, MAX_FRAME_BODY, MAX_PREAMBLE
from evidencesync.protocol.messages import PREAMBLE, Message, encode_message

_HEADER: Final = struct.Struct(">IB")


def encode_frame(frame_type: int, *parts: Buffer) -> bytes:
    """Encodes a frame, its body given in parts. Raises LimitExceededError for a body that no peer would take."""
    size = sum(map(len, parts))
    if size > MAX_FRAME_BODY:
        raise LimitExceededError(f"a frame of {size} bytes is larger than {MAX_FRAME_BODY}")
    return b"".join((_HEADER.pack(size, frame_type), *parts))


def frame_of(message: Message) -> bytes:
    """Encodes a message as a frame."""
    frame_type, body = encode_message(message)
    return encode_frame(frame_type, body)


class FrameDecoder:
    """Decodes frames from bytes as they arrive. Holds at most one incomplete frame.

    Before the first frame it looks for the preamble. Output before it (a login shell's greeting) is kept in `noise`, for a hint;
    more than `limits.MAX_PREAMBLE` of it is a ProtocolError. With `begun` another process has read the preamble already.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self.noise = b""
        self.started = begun
        self._head = b""  # bytes before the first frame, or the beginning of a frame's header
        self._body: bytearray | None = None  # of the frame that has begun
        self._frame_type = 0
        self._filled = 0

    def update(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yields type and body of each frame that is now complete. Bodies stay valid for as long as they are held.

        Raises LimitExceededError as soon as a header announces more than a frame may hold.
        """
        if not self.started:
            found = self._find_preamble(self._head + data)
            if found is None:
                return
            self._head, data = b"", found
        view = memoryview(data)
        if self._body is not None:
            view = self._fill(self._body, view)
            if self._filled < len(self._body):
                return
            whole, self._body = memoryview(self._body), None
            yield self._frame_type, whole
        elif self._head:
            view = memoryview(self._head + data)
            self._head = b""
        while len(view) >= FRAME_HEADER:
            size, frame_type = _HEADER.unpack_from(view)
            if size > MAX_FRAME_BODY:
                raise LimitExceededError(f"the peer announces a frame of {size} bytes; the limit is {MAX_FRAME_BODY}")
            end = FRAME_HEADER + size
            if end > len(view):
                self._body, self._frame_type, self._filled = bytearray(size), frame_type, 0
                self._fill(self._body, view[FRAME_HEADER:])
                return
            yield frame_type, view[FRAME_HEADER:end]
            view = view[end:]
        self._head = bytes(view)

    def _fill(self, body: bytearray, view: memoryview) -> memoryview:
        """Adds to the frame that has begun; returns the bytes beyond it."""
        count = min(len(body) - self._filled, len(view))
        body[self._filled : self._filled + count] = view[:count]
        self._filled += count
        return view[count:]

    def _find_preamble(self, buffer: bytes) -> bytes | None:
        at = buffer.find(PREAMBLE, 0, MAX_PREAMBLE + len(PREAMBLE))
        if at >= 0:
            self.noise = buffer[:at]
            self.started = True
            return buffer[at + len(PREAMBLE) :]
        self._head = buffer
        self.noise = buffer[:MAX_PREAMBLE]
        if len(buffer) >= MAX_PREAMBLE + len(PREAMBLE):
            raise ProtocolError("the other end does not speak the evidencesync protocol")
        return None

    @property
    def is_empty(self) -> bool:
        """Whether the stream is between two frames; if it ends anywhere else, it was cut off."""
        return self.started and not self._head and self._body is None
