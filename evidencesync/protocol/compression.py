"""Encodes and decodes data frames: raw, or zstd where that pays. A declared length is checked before anything is unpacked."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, Literal

import zstandard

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Buffer
from evidencesync.limits import KIB, MAX_FRAME_BODY
from evidencesync.protocol.framing import DATA_FRAME, encode_frame

Compress = Literal["auto", "always", "never"]
RAW: Final = 0
ZSTD: Final = 1
_HEAD: Final = struct.Struct(">BI")
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
                return encode_frame(DATA_FRAME, _HEAD.pack(ZSTD, size), packed)
        return encode_frame(DATA_FRAME, _HEAD.pack(RAW, size), *parts)

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
        if len(body) < _HEAD.size:
            raise ProtocolError("a data frame is cut off")
        codec, size = _HEAD.unpack_from(body)
        payload = body[_HEAD.size :]
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
