"""Encodes and decodes data frames (raw, or zstd where that pays), and queues a sender's frames in their order.

A declared length is checked before anything is unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec
import zstandard

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Buffer
from evidencesync.limits import KIB, MAX_FRAME_BODY
from evidencesync.protocol.framing import DATA_FRAME, DATA_HEAD, MESSAGE_TYPES, encode_frame, frame_of
from evidencesync.protocol.messages import ChunkData, Files, Message, Page, SegmentData

Compress = Literal["auto", "always", "never"]
RAW: Final = 0
ZSTD: Final = 1
MAX_DATA: Final = MAX_FRAME_BODY - 4 * KIB
"""Raw bytes in one data frame; what zstd adds to data that does not compress still fits."""
_LEVEL: Final = 1
_PAYS_BELOW: Final = 0.9  # of the raw size; above, unpacking costs more than the link gains
_SAMPLES: Final = 8
_SAMPLE: Final = 4 * KIB
_FAR_SLOWER: Final = 8  # where the compressor is so many times faster than the link, trying costs next to nothing
_LEAST: Final = 64  # bytes; below, a frame's own header is more than could be saved
_MEASURED: Final = 128 * KIB  # smaller frames say nothing about the compressor's rate
_FIRST_RATE: Final = 200e6  # bytes a second, until it was measured
_BRINGS_CONTENT: Final = {
    number: kind is not Page for number, kind in MESSAGE_TYPES.items() if kind in (Page, Files, SegmentData, ChunkData)
}


class DataEncoder:
    """Makes data frames.

    In `auto` a frame is compressed when it then arrives sooner: when the compressor saves bytes faster than the link takes them.
    How well a frame compresses is estimated from eight samples, how fast the compressor is was measured on earlier frames, and
    `link_rate` (bytes a second, None while it is not known) was measured by the sender. On a link that is far slower than the
    compressor nothing is estimated: every frame is compressed, and sent compressed where that pays.
    """

    def __init__(self, compress: Compress, clock: Callable[[], float]) -> None:
        self.link_rate: float | None = None
        self._compress = compress
        self._clock = clock
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self._rate = _FIRST_RATE

    def encode(self, parts: Sequence[Buffer]) -> bytes:
        """Returns a frame with the parts, one after the other; at most MAX_DATA bytes together."""
        size = sum(map(len, parts))
        if self._should_try(parts, size):
            started = self._clock()
            packed = self._zstd.compress(b"".join(parts))
            if size > _MEASURED:
                now = size / max(self._clock() - started, 1e-6)
                self._rate += (now - self._rate) / 8
            if len(packed) < size * _PAYS_BELOW:
                return encode_frame(DATA_FRAME, DATA_HEAD.pack(ZSTD, size), packed)
        return encode_frame(DATA_FRAME, DATA_HEAD.pack(RAW, size), *parts)

    def _should_try(self, parts: Sequence[Buffer], size: int) -> bool:
        if self._compress != "auto":
            return self._compress == "always"
        if size <= _SAMPLES * _SAMPLE:
            return size >= _LEAST
        if self.link_rate is not None:
            if self.link_rate * _FAR_SLOWER < self._rate:
                return True
            if self.link_rate >= self._rate:
                return False
        sample = _sample(parts, size)
        left = len(self._zstd.compress(sample)) / len(sample)
        if left >= _PAYS_BELOW:
            return False
        return self.link_rate is None or self._rate * (1 - left) > self.link_rate


def _sample(parts: Sequence[Buffer], size: int) -> bytes:
    """Returns samples from eight places, evenly apart, of `size` bytes in several parts."""
    taken: list[memoryview] = []
    start = 0
    for part in parts:
        view = memoryview(part)
        while len(taken) < _SAMPLES and (at := size * len(taken) // _SAMPLES - start) < len(view):
            taken.append(view[at : at + _SAMPLE])
        start += len(view)
    return b"".join(taken)


class DataDecoder:
    """Decodes data frames."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def decode(self, body: memoryview) -> memoryview:
        """Returns the raw bytes. Raises LimitExceededError or ProtocolError before memory is allocated for a false length."""
        if len(body) < DATA_HEAD.size:
            raise ProtocolError("a data frame is cut off")
        codec, size = DATA_HEAD.unpack_from(body)
        payload = body[DATA_HEAD.size :]
        if size > MAX_DATA:
            raise LimitExceededError(f"a data frame announces {size} bytes")
        if codec == RAW:
            if len(payload) != size:
                raise ProtocolError("a data frame has another length than it says")
            return payload
        if codec != ZSTD:
            raise ProtocolError(f"unknown codec {codec}")
        return memoryview(self._unpack(payload, size))

    def _unpack(self, payload: memoryview, size: int) -> bytes:
        try:
            # The frame's own header says how much the library would allocate: that comes from the peer, too.
            if zstandard.frame_content_size(payload) != size:
                raise ProtocolError("a compressed frame has another length than it says")
            raw: bytes = self._zstd.decompress(payload, max_output_size=size, read_across_frames=False, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ProtocolError("a compressed frame cannot be unpacked") from error
        if len(raw) != size:
            raise ProtocolError("a compressed frame has another length than it says")
        return raw


class ContentCounter:
    """Counts bytes of content in frames that arrive and that nobody has checked yet: for a display alone."""

    def __init__(self) -> None:
        self._whole = 0
        self._is_content = False

    def add(self, frame_type: int, body: memoryview) -> None:
        """Counts the next frame."""
        if frame_type != DATA_FRAME:
            self._is_content = _BRINGS_CONTENT.get(frame_type, self._is_content)
        elif self._is_content and len(body) >= DATA_HEAD.size:
            self._whole += min(DATA_HEAD.unpack_from(body)[1], MAX_DATA)

    def total(self, data_begun: int) -> int:
        """Returns how many bytes have come, with those of a data frame that has begun."""
        return self._whole + (data_begun if self._is_content else 0)


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


class SenderCounts(msgspec.Struct):
    """Counts bytes of content: `literal_bytes` were sent, `zero_bytes` lay in runs of zeros.

    `stored_bytes`, without zeros, the receiver says it has stored: it had `known_bytes` of these already, and the others were
    sent, `acknowledged_on_link` of them on the present link: what is sent twice, because a link was lost, counts there once.
    """

    literal_bytes: int = 0
    zero_bytes: int = 0
    stored_bytes: int = 0
    acknowledged_on_link: int = 0
    known_bytes: int = 0

    def begin_link(self) -> None:
        """A new link begins."""
        self.acknowledged_on_link = 0

    def add_stored(self, size: int, sent: int, sent_before: int, zeros: int = 0) -> None:
        """Counts `size` bytes that are stored, `zeros` included; `sent` is more than the others where some were sent twice.

        `sent_before`: how many of `sent` were sent on earlier links.
        """
        self.stored_bytes += size - zeros
        self.acknowledged_on_link += sent - sent_before
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
