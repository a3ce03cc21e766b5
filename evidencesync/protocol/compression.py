"""Data frames: raw or zstd, whichever pays; a declared length is checked before anything is unpacked."""

from __future__ import annotations

import struct
from typing import Final, Literal

import zstandard

from evidencesync.errors import LimitExceededError, ProtocolError
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
_PROBE_EVERY: Final = 16


class DataEncoder:
    """Makes data frames. In `auto` it compresses while that pays and while `link_is_slow` says that the link waits."""

    def __init__(self, compress: Compress) -> None:
        self._compress = compress
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self._skip = 0
        self.link_is_slow = True

    def encode(self, data: bytes) -> bytes:
        """The frame that carries `data`, which is at most MAX_DATA bytes."""
        if self._should_try(len(data)):
            packed = self._zstd.compress(data)
            if len(packed) < len(data) * _PAYS_BELOW:
                return encode_frame(DATA_FRAME, _HEAD.pack(ZSTD, len(data)) + packed)
            self._skip = _PROBE_EVERY
        return encode_frame(DATA_FRAME, _HEAD.pack(RAW, len(data)) + data)

    def _should_try(self, size: int) -> bool:
        if self._compress == "never" or size < 64:
            return False
        if self._compress == "always":
            return True
        if self._skip:
            self._skip -= 1
            return False
        return self.link_is_slow


class DataDecoder:
    """Takes data frames apart."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def decode(self, body: bytes | memoryview) -> bytes | memoryview:
        """The raw bytes. Raises LimitExceededError or ProtocolError before memory is spent on a lie."""
        if len(body) < _HEAD.size:
            raise ProtocolError("a data frame is cut off")
        codec, size = _HEAD.unpack_from(body)
        payload = memoryview(body)[_HEAD.size :]
        if size > MAX_DATA:
            raise LimitExceededError(f"a data frame announces {size} bytes")
        if codec == RAW:
            if len(payload) != size:
                raise ProtocolError("a data frame has another length than it says")
            return payload
        if codec != ZSTD:
            raise ProtocolError(f"unknown codec {codec}")
        return self._unpack(payload, size)

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
