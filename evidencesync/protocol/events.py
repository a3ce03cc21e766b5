"""Defines the events that the receiving state machine yields."""

from __future__ import annotations

from dataclasses import dataclass

from evidencesync.delta.rows import Row
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.evidence.path import EvidencePath
from evidencesync.protocol.messages import Finish


@dataclass(frozen=True, slots=True)
class PageNamed:
    """A page is named by its digest. The answer is `answer_page`."""

    number: int
    digest: ChunkDigest


@dataclass(frozen=True, slots=True)
class PageArrived:
    """The lines of a page. With `with_files` all of its small contents follow without being asked for."""

    number: int
    lines: bytes
    with_files: bool


@dataclass(frozen=True, slots=True)
class FilesArrived:
    """Small contents of a page, one after the other, for those whose bit is set."""

    page: int
    present: list[bool]
    blocks: list[memoryview]


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A larger content of at most `size` bytes begins."""

    size: int


@dataclass(frozen=True, slots=True)
class StreamResembles:
    """The content that begins is the file at this path, and may resemble the previous file there."""

    path: EvidencePath


@dataclass(frozen=True, slots=True)
class SegmentNamed:
    """A segment is named by its digest. The answer is `answer_segment`."""

    number: int
    digest: SegmentDigest
    size: int


@dataclass(frozen=True, slots=True)
class ChunksListed:
    """The rows of a segment. The answer is `need_chunks`."""

    number: int
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class SegmentArrived:
    """A whole segment: signed row lengths (negative for zeros), and the bytes of its chunks."""

    number: int
    lengths: list[int]
    blocks: list[memoryview]


@dataclass(frozen=True, slots=True)
class PiecesListed:
    """The pieces of a segment's gaps: the lengths in each, and their digests packed. The answer is `need_pieces`."""

    number: int
    lengths: list[list[int]]
    digests: list[bytes]


@dataclass(frozen=True, slots=True)
class ChunksArrived:
    """The bytes of the chunks that were requested, one after the other, and then those of the requested pieces."""

    number: int
    blocks: list[memoryview]


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The open content is complete; its size and digest, as the source read it."""

    size: int
    blake3: Blake3Digest


@dataclass(frozen=True, slots=True)
class FinishRequested:
    """Everything was sent."""

    finish: Finish


Event = (
    PageNamed
    | PageArrived
    | FilesArrived
    | StreamOpened
    | StreamResembles
    | SegmentNamed
    | ChunksListed
    | PiecesListed
    | SegmentArrived
    | ChunksArrived
    | StreamClosed
    | FinishRequested
)
