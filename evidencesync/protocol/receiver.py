"""Receives a transfer, as a state machine without I/O: frames in, events out (defined here); answers in, frames out.

It enforces the order of messages; the caller handles the events. Numbers of pages and segments go up by one; each is named,
listed or sent once before it is stored; data frames follow the message that announced them, with nothing in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from evidencesync.delta.refine import Gap
from evidencesync.delta.rows import Row
from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.evidence.path import EvidencePath
from evidencesync.limits import MAX_CHUNK
from evidencesync.protocol.data_frames import MAX_DATA, DataDecoder, copy_if_small
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import DATA_FRAME, decode_message, frame_of
from evidencesync.protocol.messages import (
    Alive,
    ChunkData,
    Chunks,
    Close,
    Failure,
    Files,
    Finish,
    Kept,
    KeptLost,
    Message,
    Open,
    Page,
    PageOffer,
    Pieces,
    Resembles,
    Resumed,
    SegmentData,
    SegmentOffer,
    Withdraw,
)
from evidencesync.protocol.packing import signed_lengths, unpack_bits
from evidencesync.protocol.receiving_order import PageOrder, SegmentOrder, StreamOrder, Window

Announcement = Page | Files | SegmentData | ChunkData
FROM_THE_START: Final = Resumed(0, 0, 0, stream_open=False, concluding=False)


class PageNamed(msgspec.Struct, frozen=True):
    """A page is named by its digest. The answer is `answer_page`."""

    number: int
    digest: ChunkDigest


class PageArrived(msgspec.Struct, frozen=True):
    """The lines of a page. With `with_files` all of its small contents follow without being asked for."""

    number: int
    lines: bytes
    with_files: bool


class FilesArrived(msgspec.Struct, frozen=True):
    """Small contents of a page, one after the other, for those whose bit is set."""

    page: int
    present: list[bool]
    blocks: list[memoryview]


class StreamOpened(msgspec.Struct, frozen=True):
    """A larger content of at most `size` bytes begins."""

    size: int


class StreamResembles(msgspec.Struct, frozen=True):
    """The content that begins is the file at this path, and may resemble the previous file there."""

    path: EvidencePath


class StreamKept(msgspec.Struct, frozen=True):
    """A larger content is the one at this path in the previous acquisition. Where it is not, the answer is `keep_lost`."""

    stream: int
    size: int
    blake3: Blake3Digest
    path: EvidencePath


class SegmentNamed(msgspec.Struct, frozen=True):
    """A segment is named by its digest. The answer is `answer_segment`."""

    number: int
    digest: SegmentDigest
    size: int


class ChunksListed(msgspec.Struct, frozen=True):
    """The rows of a segment. The answer is `need_chunks`."""

    number: int
    rows: list[Row]


class SegmentArrived(msgspec.Struct, frozen=True):
    """A whole segment: signed row lengths (negative for zeros), and the bytes of its chunks."""

    number: int
    lengths: list[int]
    blocks: list[memoryview]


class PiecesListed(msgspec.Struct, frozen=True):
    """The pieces of a segment's gaps: the lengths in each, and their digests packed. The answer is `need_pieces`."""

    number: int
    lengths: list[list[int]]
    digests: list[bytes]


class ChunksArrived(msgspec.Struct, frozen=True):
    """The bytes of the chunks that were requested, one after the other, and then those of the requested pieces."""

    number: int
    blocks: list[memoryview]


class StreamClosed(msgspec.Struct, frozen=True):
    """The open content is complete; its size and digest, as the source read it."""

    size: int
    blake3: Blake3Digest


class FinishRequested(msgspec.Struct, frozen=True):
    """Everything was sent."""

    finish: Finish


class WithdrawalRequested(msgspec.Struct, frozen=True):
    """There will be no acquisition."""


Event = (
    PageNamed
    | PageArrived
    | FilesArrived
    | StreamOpened
    | StreamResembles
    | StreamKept
    | SegmentNamed
    | ChunksListed
    | PiecesListed
    | SegmentArrived
    | ChunksArrived
    | StreamClosed
    | FinishRequested
    | WithdrawalRequested
)


Arrival = PageArrived | FilesArrived | SegmentArrived | ChunksArrived


class _Announced(msgspec.Struct):
    """Announced data: the message that announced it, the bytes that are still missing, and the frames that have arrived."""

    head: Announcement
    left: int
    blocks: list[memoryview]


class IncomingData:
    """Collects announced data."""

    def __init__(self) -> None:
        self._data = DataDecoder()
        self._announced: _Announced | None = None
        self.content_bytes = 0
        """Bytes of content that have arrived; the lines of pages are none."""

    @property
    def is_due(self) -> bool:
        """Whether data must come next."""
        return self._announced is not None

    @property
    def is_content_due(self) -> bool:
        """Whether content must come next."""
        announced = self._announced
        return announced is not None and not isinstance(announced.head, Page)

    def announce(self, head: Announcement) -> Arrival | None:
        """Records that data follows; returns the event at once where its size is 0."""
        self._announced = _Announced(head, head.size, [])
        return None if head.size else self._complete(self._announced)

    def add(self, body: memoryview) -> Arrival | None:
        """Adds the body of a data frame; returns the event once the data is complete. Raises ProtocolError where none is due."""
        announced = self._announced
        if announced is None:
            raise ProtocolError("data that was not announced")
        block = self._data.decode(body)
        if not 0 < len(block) <= announced.left:
            raise ProtocolError("more data than was announced")
        if len(block) < announced.left and len(block) <= MAX_DATA - MAX_CHUNK:
            raise ProtocolError("data in smaller parts than any sender makes")
        announced.left -= len(block)
        if self.is_content_due:
            self.content_bytes += len(block)
        announced.blocks.append(copy_if_small(block))
        return None if announced.left else self._complete(announced)

    def _complete(self, announced: _Announced) -> Arrival:
        self._announced = None
        blocks = announced.blocks
        match announced.head:
            case Page(number=number, with_files=with_files):
                return PageArrived(number, b"".join(blocks), with_files)
            case Files(page=page, count=count, present=present):
                return FilesArrived(page, unpack_bits(present, count), blocks)
            case SegmentData(segment=segment, lengths=lengths):
                return SegmentArrived(segment, signed_lengths(lengths), blocks)
            case ChunkData(segment=segment):
                return ChunksArrived(segment, blocks)


class Receiver:
    """The state of the receiving end. Call `receive` with frames, handle the events, answer, and send `take_output`.

    After a new link there is a new Receiver, which begins where the last one stood. `stream_left`: how many bytes the open stream
    may still have.
    """

    def __init__(self, resumed: Resumed = FROM_THE_START, stream_left: int | None = None) -> None:
        window = self._window = Window()
        self._streams = StreamOrder(resumed.streams, stream_left)
        self._pages = PageOrder(resumed.pages, window)
        self._segments = SegmentOrder(resumed.segments, self._streams, window)
        self._data = IncomingData()
        self._output: list[bytes] = []
        self._finished = False

    def content_bytes(self, data_begun: int) -> int:
        """Returns how many bytes of content have arrived on this link, stored or not, with those of a data frame that has begun.

        May be called in another thread.
        """
        return self._data.content_bytes + (data_begun if self._data.is_content_due else 0)

    def take_output(self) -> bytes:
        """Returns the answers to send now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # Frames.

    def receive(self, frame_type: int, body: memoryview) -> Iterator[Event]:
        """Yields the events of one frame. Raises ProtocolError or LimitExceededError; a peer's Failure is raised as its error."""
        if frame_type == DATA_FRAME:
            arrival = self._data.add(body)
            if arrival is not None:
                yield arrival
            return
        message = decode_message(frame_type, body)
        if self._data.is_due and not isinstance(message, Failure):  # a Failure may come at any time
            raise ProtocolError("a message stands where data was announced")
        yield from self._on_message(message)

    def _on_message(self, message: Message) -> Iterator[Event]:
        match message:
            case PageOffer():
                self._pages.name(message)
                yield PageNamed(message.number, ChunkDigest(message.digest))
            case Page() | Files() | SegmentData() | ChunkData():
                yield from self._announce(message)
            case Open() | Resembles() | Kept() | Close():
                yield self._on_stream(message)
            case SegmentOffer():
                self._segments.name(message)
                yield SegmentNamed(message.segment, SegmentDigest(message.digest), message.size)
            case Chunks():
                yield ChunksListed(message.segment, self._segments.list_chunks(message))
            case Pieces():
                yield PiecesListed(message.segment, *self._segments.list_pieces(message))
            case Alive():
                return
            case Finish() | Withdraw():
                yield self._end(message)
            case Failure():
                raise error_of(message)
            case _:
                raise ProtocolError(f"the message {type(message).__name__} is out of order")

    def _on_stream(self, message: Open | Resembles | Kept | Close) -> Event:
        match message:
            case Open():
                self._streams.open(message)
                return StreamOpened(message.size)
            case Resembles():
                self._streams.resembles(message)
                return StreamResembles(EvidencePath(message.path))
            case Kept():
                self._streams.keep(message)
                return StreamKept(message.stream, message.size, Blake3Digest(message.blake3), EvidencePath(message.path))
            case Close():
                self._streams.close(message)
                return StreamClosed(message.size, Blake3Digest(message.blake3))

    def _announce(self, head: Announcement) -> Iterator[Event]:
        match head:
            case Page():
                self._pages.announce(head)
            case Files():
                self._pages.announce_files(head)
            case SegmentData():
                self._segments.announce(head)
            case ChunkData():
                self._segments.announce_chunks(head)
        arrival = self._data.announce(head)
        if arrival is not None:
            yield arrival

    def _end(self, message: Finish | Withdraw) -> Event:
        """Checks Finish: then nothing new may begin, but requested data may still come. Withdraw may come at any time before."""
        is_early = isinstance(message, Finish) and (self._streams.is_open or message.pages != self._pages.next_page)
        if self._finished or is_early:
            raise ProtocolError("the end was announced before everything was sent")
        self._finished = True
        if isinstance(message, Withdraw):
            return WithdrawalRequested()
        self._streams.end()
        self._pages.end()
        return FinishRequested(message)

    # Answers.

    def answer_page(self, number: int, *, known: bool) -> None:
        """Answers whether the vault has a named page."""
        self._send(self._pages.answer(number, known=known))

    def want_files(self, page: int, missing: list[bool]) -> None:
        """Asks for small contents of a page."""
        self._send(self._pages.want_files(page, missing))

    def hold_page(self, number: int, size: int) -> None:
        """Counts bytes of a page that arrived over an earlier link against the window."""
        self._window.hold_page(number, size)

    def pages_stored(self, count: int) -> None:
        """All pages below `count` are stored."""
        self._send(self._pages.stored(count))

    def keep_lost(self, stream: int) -> None:
        """Answers that a kept content is not there, or not as it was."""
        self._send(KeptLost(stream))

    def answer_segment(self, number: int, *, known: bool, rows: int = 0) -> None:
        """Answers whether the vault has a named segment of `rows` rows, which the sender's window bounds, too."""
        self._send(self._segments.answer(number, known=known, rows=rows))

    def ask_again(self, number: int) -> None:
        """Takes back that a named segment is known: its basis has proved bad. Its rows will be listed."""
        self._send(self._segments.ask_again(number))

    def need_chunks(self, number: int, missing: list[bool], size: int, gaps: Sequence[Gap] = ()) -> None:
        """Asks for rows of a segment, `size` bytes in all; none where everything is known.

        The pieces of `gaps`, which are runs of these rows, are to be named first: see `need_pieces`.
        """
        self._send(self._segments.need_chunks(number, missing, size, gaps))

    def need_pieces(self, number: int, missing: list[bool], spared: int, again: Sequence[bool]) -> None:
        """Asks for pieces of a segment's gaps; the others have `spared` bytes. With them come the rows outside of gaps.

        `again` says which of the gaps are to be cut once more, by content, before anything comes.
        """
        self._send(self._segments.need_pieces(number, missing, spared, again))

    def segments_stored(self, count: int) -> None:
        """All segments below `count` are stored."""
        self._send(self._segments.stored(count))

    def _send(self, message: Message) -> None:
        self._output.append(frame_of(message))
