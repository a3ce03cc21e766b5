"""The receiving end of a transfer as a state machine: frames in, events out; answers in, frames out.

It knows the order in which messages may come and holds every peer to it. What a page or a segment means for a vault is
the business of whoever takes the events. Numbers of pages and segments go up by one; each is named, listed or sent once
before it is stored; data frames follow the message that announced them and nothing else may stand between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from evidencesync.delta.refine import Gap
from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.evidence.path import EvidencePath
from evidencesync.limits import (
    MAX_CHUNK,
    MAX_OPEN_PAGES,
    MAX_OPEN_ROWS,
    MAX_OPEN_SEGMENTS,
    MAX_SEGMENT,
    MAX_SEGMENT_ROWS,
    MAX_SEGMENT_ZEROS,
    WINDOW,
    ZERO_WEIGHT,
)
from evidencesync.protocol.bitmap import pack_bits, unpack_bits
from evidencesync.protocol.compression import MAX_DATA, DataDecoder
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import (
    DATA_FRAME,
    Alive,
    ChunkData,
    Chunks,
    Close,
    Failure,
    Files,
    Finish,
    Message,
    Need,
    NeedPieces,
    Open,
    Page,
    PageAnswer,
    PageOffer,
    PagesStored,
    Pieces,
    Resembles,
    Resumed,
    SegmentAnswer,
    SegmentData,
    SegmentOffer,
    SegmentsStored,
    Want,
    decode_message,
)
from evidencesync.session.blocks import check_lengths, signed_lengths, unpinned
from evidencesync.session.events import (
    ChunksArrived,
    ChunksListed,
    Event,
    FilesArrived,
    FinishRequested,
    PageArrived,
    PageNamed,
    PiecesListed,
    SegmentArrived,
    SegmentNamed,
    StreamClosed,
    StreamOpened,
    StreamResembles,
)
from evidencesync.session.gaps import pack_gaps, unpack_pieces
from evidencesync.session.sender import decode_wire_rows

FROM_THE_START: Final = Resumed(0, 0, 0, stream_open=False, concluding=False)
_SLACK = 40 * 1024 * 1024  # one page's contents and one segment beyond the window: a sender looks before it adds, not after


class _PageStage(Enum):
    NAMED = auto()
    LACKED = auto()
    HERE = auto()


class _SegmentStage(Enum):
    NAMED = auto()
    LACKED = auto()
    LISTED = auto()
    REFINING = auto()
    PIECED = auto()
    NEEDED = auto()
    HERE = auto()


@dataclass(slots=True)
class _Incoming:
    """Data frames that have been announced: what they belong to and what is there of them."""

    head: Page | Files | SegmentData | ChunkData
    left: int
    blocks: list[memoryview]


class Receiver:
    """State of the receiving end. Feed it frames; take events; answer; send what `take_output` gives.

    A session that goes on over a new link has a new one, which begins where the last one stood. `stream_left`: how many
    bytes the open stream may still have.
    """

    def __init__(self, resumed: Resumed = FROM_THE_START, stream_left: int | None = None) -> None:
        self._data = DataDecoder()
        self._output: list[bytes] = []
        self._incoming: _Incoming | None = None
        self._pages: dict[int, _PageStage] = {}
        self._segments: dict[int, _SegmentStage] = {}
        self._named_bytes: dict[int, int] = {}
        self._rows: dict[int, int] = {}
        self._open_rows = 0
        self._needed_bytes: dict[int, int] = {}
        self._gaps: dict[int, list[Gap]] = {}  # whose pieces are to be named
        self._files_due: dict[int, deque[bytes | None]] = {}  # what was asked for; None for all of a page's, unasked
        self._next_page = resumed.pages
        self._next_segment = resumed.segments
        self._next_stream = resumed.streams
        self._stream_left = stream_left
        self._first_segment: int | None = None  # of the open stream, as long as it may still be said what it is like
        self._held_bytes = 0
        self._held: dict[tuple[str, int], int] = {}
        self._finished = False

    def take_output(self) -> bytes:
        """The answers to send now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # Frames.

    def receive(self, frame_type: int, body: memoryview) -> Iterator[Event]:
        """The events of one frame. Raises ProtocolError or LimitExceededError; a peer's Failure is raised as its error."""
        if frame_type == DATA_FRAME:
            yield from self._on_data(body)
            return
        if self._incoming is not None:
            raise ProtocolError("a message stands where data was announced")
        message = decode_message(frame_type, body)
        if self._finished:
            raise ProtocolError("a message after the end")
        yield from self._on_message(message)

    def _on_message(self, message: Message) -> Iterator[Event]:
        match message:
            case PageOffer():
                self._new_page(message.number, _PageStage.NAMED)
                yield PageNamed(message.number, ChunkDigest(message.digest))
            case Page() | Files() | SegmentData() | ChunkData():
                yield from self._announce(message)
            case Open():
                self._open(message)
                yield StreamOpened(message.size)
            case Resembles():
                yield self._resembles(message)
            case SegmentOffer():
                self._new_segment(message.segment, _SegmentStage.NAMED)
                self._spend(message.size)
                self._named_bytes[message.segment] = message.size
                self._hold_zeros(message.segment, message.size)
                yield SegmentNamed(message.segment, SegmentDigest(message.digest), message.size, message.proof)
            case Chunks():
                yield self._list_chunks(message)
            case Pieces():
                self._move_segment(message.segment, {_SegmentStage.REFINING}, _SegmentStage.PIECED)
                yield PiecesListed(message.segment, *unpack_pieces(message, self._gaps[message.segment]))
            case Close():
                yield self._close(message)
            case Alive():
                return
            case Finish():
                self._check_complete(message)
                yield FinishRequested(message)
            case Failure():
                raise error_of(message)
            case _:
                raise ProtocolError(f"a {type(message).__name__} message is out of order")

    # Data.

    def _announce(self, head: Page | Files | SegmentData | ChunkData) -> Iterator[Event]:
        match head:
            case Page():
                if head.number in self._pages:
                    self._move_page(head.number, {_PageStage.LACKED}, _PageStage.HERE)
                else:
                    self._new_page(head.number, _PageStage.HERE)
                if head.with_files:
                    self._files_due[head.number] = deque([None])
                self._hold(("page", head.number), head.size)
            case Files():
                self._check_files(head)
                self._hold(("page", head.page), head.size)
            case SegmentData():
                self._check_segment_data(head)
            case ChunkData():
                self._move_segment(head.segment, {_SegmentStage.NEEDED}, _SegmentStage.HERE)
                if head.size != self._needed_bytes.pop(head.segment):
                    raise ProtocolError("chunks that are not those that were needed")
        self._incoming = _Incoming(head, head.size, [])
        if head.size == 0:
            yield self._complete(self._incoming)

    def _check_files(self, head: Files) -> None:
        """Files answer one request, each once and with all that was asked for: nobody keeps what he did not want."""
        due = self._files_due.get(head.page)
        if not due:
            raise ProtocolError("files that nobody asked for")
        asked = due.popleft()
        if head.present != (pack_bits([True] * head.count) if asked is None else asked):
            raise ProtocolError("files that are not those that were asked for")

    def _check_segment_data(self, head: SegmentData) -> None:
        lengths = signed_lengths(head.lengths)
        if sum(length for length in lengths if length > 0) != head.size or head.size > MAX_SEGMENT:
            raise ProtocolError("a segment's data does not fit its rows")
        if head.segment in self._segments:
            raise ProtocolError("a segment was sent twice")
        self._new_segment(head.segment, _SegmentStage.HERE)
        self._hold_rows(head.segment, len(lengths))
        zeros = -sum(length for length in lengths if length < 0)
        self._spend(head.size + zeros)
        self._hold(("segment", head.segment), head.size)
        self._hold_zeros(head.segment, zeros)

    def _on_data(self, body: memoryview) -> Iterator[Event]:
        incoming = self._incoming
        if incoming is None:
            raise ProtocolError("data that was not announced")
        block = self._data.decode(body)
        if not 0 < len(block) <= incoming.left:
            raise ProtocolError("more data than was announced")
        if len(block) < incoming.left and len(block) <= MAX_DATA - MAX_CHUNK:
            raise ProtocolError("data in smaller parts than any sender makes")
        incoming.left -= len(block)
        incoming.blocks.append(unpinned(block))
        if not incoming.left:
            yield self._complete(incoming)

    def _complete(self, incoming: _Incoming) -> Event:
        self._incoming = None
        blocks = incoming.blocks
        match incoming.head:
            case Page(number=number, with_files=with_files, proofs=proofs):
                return PageArrived(number, b"".join(blocks), with_files, proofs)
            case Files(page=page, count=count, present=present):
                return FilesArrived(page, unpack_bits(present, count), blocks)
            case SegmentData(segment=segment, lengths=lengths):
                return SegmentArrived(segment, signed_lengths(lengths), blocks)
            case ChunkData(segment=segment):
                return ChunksArrived(segment, blocks)

    # Streams.

    def _open(self, message: Open) -> None:
        if self._stream_left is not None or message.stream != self._next_stream:
            raise ProtocolError("a stream is opened out of order")
        self._stream_left = message.size
        self._first_segment = self._next_segment

    def _resembles(self, message: Resembles) -> StreamResembles:
        """A hint stands before all segments, and once: each may make the vault open a file."""
        if self._stream_left is None or message.stream != self._next_stream or self._first_segment != self._next_segment:
            raise ProtocolError("a hint is out of order")
        self._first_segment = None
        return StreamResembles(EvidencePath(message.path))

    def _close(self, message: Close) -> StreamClosed:
        if self._stream_left is None or message.stream != self._next_stream:
            raise ProtocolError("a stream is closed that is not open")
        self._stream_left = None
        self._next_stream += 1
        return StreamClosed(message.size, Blake3Digest(message.blake3))

    def _list_chunks(self, message: Chunks) -> ChunksListed:
        rows = decode_wire_rows(message.rows)
        check_lengths([-row.length if row.is_zeros else row.length for row in rows])
        if sum(row.length for row in rows if not row.is_zeros) > MAX_SEGMENT:
            raise LimitExceededError("a segment is too long")
        if message.segment in self._segments:
            self._move_segment(message.segment, {_SegmentStage.LACKED}, _SegmentStage.LISTED)
            if sum(row.length for row in rows) != self._named_bytes[message.segment]:
                raise LimitExceededError("a segment is longer than it was said to be")
        else:
            self._new_segment(message.segment, _SegmentStage.LISTED)
            self._spend(sum(row.length for row in rows))
            self._hold_zeros(message.segment, sum(row.length for row in rows if row.is_zeros))
        self._hold_rows(message.segment, len(rows))
        return ChunksListed(message.segment, rows)

    def _spend(self, size: int) -> None:
        """Counts against what the stream may hold: a few bytes may not buy hours of hashing zeros."""
        if self._stream_left is None or size > self._stream_left:
            raise LimitExceededError("a stream is longer than it was announced")
        self._stream_left -= size

    def _check_complete(self, message: Finish) -> None:
        if self._stream_left is not None or message.pages != self._next_page:
            raise ProtocolError("the end was announced before everything was sent")
        self._finished = True

    # Answers.

    def answer_page(self, number: int, *, known: bool) -> None:
        """Says whether the vault has a named page."""
        self._move_page(number, {_PageStage.NAMED}, _PageStage.HERE if known else _PageStage.LACKED)
        self._send(PageAnswer(number, known))

    def want_files(self, page: int, missing: list[bool]) -> None:
        """Asks for small contents of a page."""
        packed = pack_bits(missing)
        self._files_due.setdefault(page, deque()).append(packed)
        self._send(Want(page, len(missing), packed))

    def pages_stored(self, count: int) -> None:
        """All pages below `count` are stored."""
        for number in [number for number in self._pages if number < count]:
            del self._pages[number]
            self._files_due.pop(number, None)
            self._release(("page", number))
        self._send(PagesStored(count))

    def answer_segment(self, number: int, *, known: bool, rows: int = 0) -> None:
        """Says whether the vault has a named segment, and how many rows it has: the sender's window bounds these, too."""
        self._move_segment(number, {_SegmentStage.NAMED}, _SegmentStage.HERE if known else _SegmentStage.LACKED)
        self._hold_rows(number, rows)
        self._send(SegmentAnswer(number, known))

    def ask_again(self, number: int) -> None:
        """Takes back that a named segment is known: its basis has proved bad. Its rows will be listed."""
        self._move_segment(number, {_SegmentStage.HERE}, _SegmentStage.LACKED)
        self._send(SegmentAnswer(number, known=False))

    def need_chunks(self, number: int, missing: list[bool], size: int, gaps: Sequence[Gap] = ()) -> None:
        """Asks for rows of a segment, `size` bytes in all; none where everything is known.

        The pieces of `gaps`, which are runs of these rows, are to be named first: see `need_pieces`.
        """
        stage = _SegmentStage.REFINING if gaps else _SegmentStage.NEEDED
        self._move_segment(number, {_SegmentStage.LISTED, _SegmentStage.HERE}, stage)
        self._hold(("segment", number), size)  # also what pieces will spare: a sender holds it, and it bounds their number
        self._needed_bytes[number] = size
        if gaps:
            self._gaps[number] = list(gaps)
        self._send(Need(number, len(missing), pack_bits(missing), pack_gaps(gaps)))

    def need_pieces(self, number: int, missing: list[bool], spared: int, again: Sequence[bool]) -> None:
        """Asks for pieces of a segment's gaps; the others have `spared` bytes. With them come the rows outside of gaps.

        `again` says which of the gaps are to be cut once more, by content, before anything comes.
        """
        cut_again = [replace(gap, phase=None) for gap, cut in zip(self._gaps.pop(number), again, strict=True) if cut]
        if cut_again:
            self._gaps[number] = cut_again
        self._move_segment(number, {_SegmentStage.PIECED}, _SegmentStage.REFINING if cut_again else _SegmentStage.NEEDED)
        self._needed_bytes[number] -= spared
        self._send(NeedPieces(number, len(missing), pack_bits(missing), pack_bits(again)))

    def segments_stored(self, count: int) -> None:
        """All segments below `count` are stored."""
        for number in [number for number in self._segments if number < count]:
            del self._segments[number]
            self._named_bytes.pop(number, None)
            self._needed_bytes.pop(number, None)
            self._gaps.pop(number, None)
            self._open_rows -= self._rows.pop(number, 0)
            self._release(("segment", number))
        self._send(SegmentsStored(count))

    # Bookkeeping.

    def _send(self, message: Message) -> None:
        self._output.append(frame_of(message))

    def _new_page(self, number: int, stage: _PageStage) -> None:
        if number != self._next_page:
            raise ProtocolError("a page is out of order")
        if len(self._pages) >= MAX_OPEN_PAGES:
            raise LimitExceededError("too many pages at once")
        self._next_page += 1
        self._pages[number] = stage

    def _move_page(self, number: int, allowed: set[_PageStage], stage: _PageStage) -> None:
        if self._pages.get(number) not in allowed:
            raise ProtocolError("a page is out of order")
        self._pages[number] = stage

    def _new_segment(self, number: int, stage: _SegmentStage) -> None:
        if number != self._next_segment or self._stream_left is None:
            raise ProtocolError("a segment is out of order")
        if len(self._segments) >= MAX_OPEN_SEGMENTS:
            raise LimitExceededError("too many segments at once")
        self._next_segment += 1
        self._segments[number] = stage

    def _move_segment(self, number: int, allowed: set[_SegmentStage], stage: _SegmentStage) -> None:
        if self._segments.get(number) not in allowed:
            raise ProtocolError("a segment is out of order")
        self._segments[number] = stage

    def _hold(self, key: tuple[str, int], size: int) -> None:
        self._held[key] = self._held.get(key, 0) + size
        self._held_bytes += size
        if self._held_bytes > WINDOW + _SLACK:
            raise LimitExceededError("the sender has sent more than its window allows")

    def _hold_zeros(self, segment: int, count: int) -> None:
        """Zeros take no memory, but hashing them takes time: so they count against the window, too."""
        if count > MAX_SEGMENT_ZEROS + MAX_SEGMENT:
            raise LimitExceededError("a segment stands for more zeros than an honest one")
        self._hold(("segment", segment), count // ZERO_WEIGHT)

    def _hold_rows(self, segment: int, count: int) -> None:
        """The rows that a segment is known to have; they take memory, however small the chunks are."""
        self._open_rows += count - self._rows.get(segment, 0)
        self._rows[segment] = count
        if self._open_rows > MAX_OPEN_ROWS + MAX_SEGMENT_ROWS:
            raise LimitExceededError("too many rows of segments at once")

    def _release(self, key: tuple[str, int]) -> None:
        self._held_bytes -= self._held.pop(key, 0)
