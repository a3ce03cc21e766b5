"""Data frames: raw or zstd, whichever pays; a declared length is checked before anything is unpacked."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Literal

import zstandard

from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Buffer
from evidencesync.limits import KIB, MAX_FRAME_BODY
from evidencesync.protocol.framing import encode_frame
from evidencesync.protocol.messages import DATA_FRAME

Compress = Literal["auto", "always", "never"]
RAW: Final = 0
ZSTD: Final = 1
_HEAD: Final = struct.Struct(">BI")
MAX_DATA: Final = MAX_FRAME_BODY - 4 * KIB
"""Raw bytes in one data frame; what zstd adds to data that does not compress still fits."""
_LEVEL: Final = 1
_PAYS_BELOW: Final = 0.9  # of the raw size; above, unpacking costs more than the link gains
_SAMPLE: Final = 8 * KIB


class DataEncoder:
    """Makes data frames. In `auto` it compresses what a sample says will compress, while `link_is_slow`."""

    def __init__(self, compress: Compress) -> None:
        self._compress = compress
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self.link_is_slow = True

    def encode(self, parts: Sequence[Buffer]) -> bytes:
        """The frame that carries the parts, one after the other; at most MAX_DATA bytes together."""
        size = sum(map(len, parts))
        if self._should_try(parts, size):
            packed = self._zstd.compress(b"".join(parts))
            if len(packed) < size * _PAYS_BELOW:
                return encode_frame(DATA_FRAME, _HEAD.pack(ZSTD, size), packed)
        return encode_frame(DATA_FRAME, _HEAD.pack(RAW, size), *parts)

    def _should_try(self, parts: Sequence[Buffer], size: int) -> bool:
        if self._compress == "never" or size < 64:
            return False
        if self._compress == "always" or size <= 2 * _SAMPLE:
            return True
        if not self.link_is_slow:
            return False
        # Two samples of a frame cost a hundredth of compressing it, and data changes from one megabyte to the next.
        samples = (memoryview(parts[0])[:_SAMPLE], memoryview(parts[len(parts) // 2])[:_SAMPLE])
        return any(len(self._zstd.compress(sample)) < len(sample) * _PAYS_BELOW for sample in samples)


class DataDecoder:
    """Takes data frames apart."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def decode(self, body: memoryview) -> memoryview:
        """The raw bytes. Raises LimitExceededError or ProtocolError before memory is spent on a lie."""
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
            # The frame's own header says how much the library would allocate: that, too, is the peer's word.
            if zstandard.frame_content_size(payload) != size:
                raise ProtocolError("a compressed frame has another length than it says")
            raw: bytes = self._zstd.decompress(payload, max_output_size=size, read_across_frames=False, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ProtocolError("a compressed frame cannot be unpacked") from error
        if len(raw) != size:
            raise ProtocolError("a compressed frame has another length than it says")
        return raw
