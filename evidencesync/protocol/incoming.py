"""Data frames at the receiving end: they follow the message that announced them, and nothing else may stand between."""

from __future__ import annotations

from dataclasses import dataclass

from evidencesync.errors import ProtocolError
from evidencesync.limits import MAX_CHUNK
from evidencesync.protocol.bitmap import unpack_bits
from evidencesync.protocol.blocks import unpinned
from evidencesync.protocol.compression import MAX_DATA, DataDecoder
from evidencesync.protocol.events import ChunksArrived, FilesArrived, PageArrived, SegmentArrived
from evidencesync.protocol.messages import ChunkData, Files, Page, SegmentData
from evidencesync.protocol.rows import signed_lengths

Announcement = Page | Files | SegmentData | ChunkData
Arrival = PageArrived | FilesArrived | SegmentArrived | ChunksArrived


@dataclass(slots=True)
class _Announced:
    """Data frames that have been announced: what they belong to and what is there of them."""

    head: Announcement
    left: int
    blocks: list[memoryview]


class IncomingData:
    """Collects what was announced."""

    def __init__(self) -> None:
        self._data = DataDecoder()
        self._announced: _Announced | None = None

    @property
    def is_due(self) -> bool:
        """Whether data must come next."""
        return self._announced is not None

    def announce(self, head: Announcement) -> Arrival | None:
        """Data follows; what has arrived where that is none at all."""
        self._announced = _Announced(head, head.size, [])
        return None if head.size else self._complete(self._announced)

    def add(self, body: memoryview) -> Arrival | None:
        """The body of one data frame; what has arrived once it is complete. Raises ProtocolError for what was not announced."""
        announced = self._announced
        if announced is None:
            raise ProtocolError("data that was not announced")
        block = self._data.decode(body)
        if not 0 < len(block) <= announced.left:
            raise ProtocolError("more data than was announced")
        if len(block) < announced.left and len(block) <= MAX_DATA - MAX_CHUNK:
            raise ProtocolError("data in smaller parts than any sender makes")
        announced.left -= len(block)
        announced.blocks.append(unpinned(block))
        return None if announced.left else self._complete(announced)

    def _complete(self, announced: _Announced) -> Arrival:
        self._announced = None
        blocks = announced.blocks
        match announced.head:
            case Page(number=number, with_files=with_files, proofs=proofs):
                return PageArrived(number, b"".join(blocks), with_files, proofs)
            case Files(page=page, count=count, present=present):
                return FilesArrived(page, unpack_bits(present, count), blocks)
            case SegmentData(segment=segment, lengths=lengths):
                return SegmentArrived(segment, signed_lengths(lengths), blocks)
            case ChunkData(segment=segment):
                return ChunksArrived(segment, blocks)
