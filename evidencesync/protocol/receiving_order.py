"""Checks that pages, streams and segments arrive in order, as they were asked for, and within the window."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import msgspec

from evidencesync.delta.refine import Gap
from evidencesync.delta.rows import Row
from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.evidence.path import walk_order
from evidencesync.limits import (
    MAX_OPEN_PAGES,
    MAX_OPEN_ROWS,
    MAX_OPEN_SEGMENTS,
    MAX_SEGMENT,
    MAX_SEGMENT_ROWS,
    MAX_SEGMENT_ZEROS,
    MIB,
    WINDOW,
    ZERO_WEIGHT,
)
from evidencesync.protocol.messages import (
    ChunkData,
    Chunks,
    Close,
    Files,
    Kept,
    Need,
    NeedPieces,
    Open,
    Page,
    PageAnswer,
    PageOffer,
    PagesStored,
    Pieces,
    Resembles,
    SegmentAnswer,
    SegmentData,
    SegmentOffer,
    SegmentsStored,
    Want,
)
from evidencesync.protocol.packing import check_lengths, decode_wire_rows, pack_bits, pack_gaps, signed_lengths, unpack_pieces

_SLACK: Final = 40 * MIB  # one page's contents and one segment: a sender checks its window before it adds an item, not after


class Window:
    """Enforces the window on the sender: the bytes, zeros and rows that may be open. Raises LimitExceededError."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], int] = {}
        self._held_bytes = 0
        self._rows: dict[int, int] = {}
        self._open_rows = 0

    def hold_page(self, number: int, size: int) -> None:
        """Counts bytes of a page."""
        self._hold(("page", number), size)

    def hold_segment(self, number: int, size: int) -> None:
        """Counts bytes of a segment."""
        self._hold(("segment", number), size)

    def hold_zeros(self, number: int, count: int) -> None:
        """Counts zeros: they take no memory, but time to hash, so they count against the window, too."""
        if count > MAX_SEGMENT_ZEROS + MAX_SEGMENT:
            raise LimitExceededError("a segment stands for more zeros than an honest one")
        self._hold(("segment", number), count // ZERO_WEIGHT)

    def hold_rows(self, number: int, count: int) -> None:
        """The rows that a segment is known to have; they take memory, however small the chunks are."""
        self._open_rows += count - self._rows.get(number, 0)
        self._rows[number] = count
        if self._open_rows > MAX_OPEN_ROWS + MAX_SEGMENT_ROWS:
            raise LimitExceededError("too many rows of segments at once")

    def release_page(self, number: int) -> None:
        """A page is stored."""
        self._held_bytes -= self._held.pop(("page", number), 0)

    def release_segment(self, number: int) -> None:
        """A segment is stored."""
        self._open_rows -= self._rows.pop(number, 0)
        self._held_bytes -= self._held.pop(("segment", number), 0)

    def _hold(self, key: tuple[str, int], size: int) -> None:
        self._held[key] = self._held.get(key, 0) + size
        self._held_bytes += size
        if self._held_bytes > WINDOW + _SLACK:
            raise LimitExceededError("the sender has sent more than its window allows")


class StreamOrder:
    """Checks the order of streams. `left`: how many bytes the open stream may still have, None where none is open.

    Raises ProtocolError for a message out of order, LimitExceededError for a stream that is too long.
    """

    def __init__(self, next_stream: int, left: int | None) -> None:
        self._next = next_stream
        self._left = left
        self._ended = False
        self._kept = b""  # the last path of a Kept
        self._is_fresh = False  # open, and still without segments: only then Resembles may come

    @property
    def is_open(self) -> bool:
        """Whether a stream is open."""
        return self._left is not None

    def open(self, message: Open) -> None:
        """The next stream begins."""
        if self._ended or self._left is not None or message.stream != self._next:
            raise ProtocolError("a stream is opened out of order")
        self._left = message.size
        self._is_fresh = True

    def keep(self, message: Kept) -> None:
        """Handles Kept, which stands for a whole stream. Each path comes once, in the walk's order: it makes the vault read."""
        key = walk_order(message.path)
        if self._ended or self._left is not None or message.stream != self._next or key <= self._kept:
            raise ProtocolError("a kept file is out of order")
        self._kept = key
        self._next += 1

    def end(self) -> None:
        """No stream may begin any more."""
        self._ended = True

    def resembles(self, message: Resembles) -> None:
        """Handles Resembles: before all segments, and once, because each may make the vault open a file."""
        if self._left is None or message.stream != self._next or not self._is_fresh:
            raise ProtocolError("a hint is out of order")
        self._is_fresh = False

    def begin_segment(self) -> None:
        """Records that a segment of the open stream begins: Resembles may no longer come."""
        self._is_fresh = False

    def spend(self, size: int) -> None:
        """Counts bytes against the stream's size: so a few bytes cannot cause hours of hashing zeros."""
        if self._left is None or size > self._left:
            raise LimitExceededError("a stream is longer than it was announced")
        self._left -= size

    def close(self, message: Close) -> None:
        """The open stream ends."""
        if self._left is None or message.stream != self._next:
            raise ProtocolError("a stream is closed that is not open")
        self._left = None
        self._next += 1


class _Stage(Enum):
    NAMED = auto()
    LACKED = auto()
    LISTED = auto()
    REFINING = auto()
    PIECED = auto()
    NEEDED = auto()
    HERE = auto()


class SegmentOrder:
    """Checks the order of segments, from their announcement until they are stored.

    Raises ProtocolError or LimitExceededError for a segment that is out of order or larger than any sender makes.
    """

    def __init__(self, next_segment: int, streams: StreamOrder, window: Window) -> None:
        self._next = next_segment
        self._streams = streams
        self._window = window
        self._stages: dict[int, _Stage] = {}
        self._named_bytes: dict[int, int] = {}
        self._needed_bytes: dict[int, int] = {}
        self._gaps: dict[int, list[Gap]] = {}  # whose pieces are to be named

    # The sender's messages.

    def name(self, message: SegmentOffer) -> None:
        """A segment is named."""
        self._begin(message.segment, _Stage.NAMED)
        self._streams.spend(message.size)
        self._named_bytes[message.segment] = message.size
        self._window.hold_zeros(message.segment, message.size)

    def list_chunks(self, message: Chunks) -> list[Row]:
        """The rows of a segment, checked."""
        rows = decode_wire_rows(message.rows)
        check_lengths([-row.length if row.is_zeros else row.length for row in rows])
        if sum(row.length for row in rows if not row.is_zeros) > MAX_SEGMENT:
            raise LimitExceededError("a segment is too long")
        if message.segment in self._stages:
            self._move(message.segment, {_Stage.LACKED}, _Stage.LISTED)
            if sum(row.length for row in rows) != self._named_bytes[message.segment]:
                raise LimitExceededError("a segment is longer than it was said to be")
        else:
            self._begin(message.segment, _Stage.LISTED)
            self._streams.spend(sum(row.length for row in rows))
            self._window.hold_zeros(message.segment, sum(row.length for row in rows if row.is_zeros))
        self._window.hold_rows(message.segment, len(rows))
        return rows

    def list_pieces(self, message: Pieces) -> tuple[list[list[int]], list[bytes]]:
        """For every gap of a segment the lengths of its pieces, and their digests packed."""
        self._move(message.segment, {_Stage.REFINING}, _Stage.PIECED)
        return unpack_pieces(message, self._gaps[message.segment])

    def announce(self, head: SegmentData) -> None:
        """Handles a whole segment that follows without a request."""
        lengths = signed_lengths(head.lengths)
        if sum(length for length in lengths if length > 0) != head.size or head.size > MAX_SEGMENT:
            raise ProtocolError("a segment's data does not fit its rows")
        if head.segment in self._stages:
            raise ProtocolError("a segment was sent twice")
        self._begin(head.segment, _Stage.HERE)
        self._window.hold_rows(head.segment, len(lengths))
        zeros = -sum(length for length in lengths if length < 0)
        self._streams.spend(head.size + zeros)
        self._window.hold_segment(head.segment, head.size)
        self._window.hold_zeros(head.segment, zeros)

    def announce_chunks(self, head: ChunkData) -> None:
        """Handles the requested parts of a segment, which follow."""
        self._move(head.segment, {_Stage.NEEDED}, _Stage.HERE)
        if head.size != self._needed_bytes.pop(head.segment):
            raise ProtocolError("chunks that are not those that were needed")

    # What the vault answers.

    def answer(self, number: int, *, known: bool, rows: int = 0) -> SegmentAnswer:
        """Answers whether the vault has a named segment of `rows` rows, which the sender's window bounds, too."""
        self._move(number, {_Stage.NAMED}, _Stage.HERE if known else _Stage.LACKED)
        self._window.hold_rows(number, rows)
        return SegmentAnswer(number, known)

    def ask_again(self, number: int) -> SegmentAnswer:
        """Takes back that a named segment is known: its basis has proved bad. Its rows will be listed."""
        self._move(number, {_Stage.HERE}, _Stage.LACKED)
        return SegmentAnswer(number, known=False)

    def need_chunks(self, number: int, missing: list[bool], size: int, gaps: Sequence[Gap] = ()) -> Need:
        """Asks for rows of a segment, `size` bytes in all; none where everything is known.

        The pieces of `gaps`, which are runs of these rows, are to be named first: see `need_pieces`.
        """
        stage = _Stage.REFINING if gaps else _Stage.NEEDED
        self._move(number, {_Stage.LISTED, _Stage.HERE}, stage)
        self._window.hold_segment(number, size)  # also what pieces will spare: a sender holds it, and it bounds their number
        self._needed_bytes[number] = size
        if gaps:
            self._gaps[number] = list(gaps)
        return Need(number, len(missing), pack_bits(missing), pack_gaps(gaps))

    def need_pieces(self, number: int, missing: list[bool], spared: int, again: Sequence[bool]) -> NeedPieces:
        """Asks for pieces of a segment's gaps; the others have `spared` bytes. With them come the rows outside of gaps.

        `again` says which of the gaps are to be cut once more, by content, before anything comes.
        """
        cut_again = [
            msgspec.structs.replace(gap, phase=None) for gap, cut in zip(self._gaps.pop(number), again, strict=True) if cut
        ]
        if cut_again:
            self._gaps[number] = cut_again
        self._move(number, {_Stage.PIECED}, _Stage.REFINING if cut_again else _Stage.NEEDED)
        self._needed_bytes[number] -= spared
        return NeedPieces(number, len(missing), pack_bits(missing), pack_bits(again))

    def stored(self, count: int) -> SegmentsStored:
        """All segments below `count` are stored."""
        for number in [number for number in self._stages if number < count]:
            del self._stages[number]
            self._named_bytes.pop(number, None)
            self._needed_bytes.pop(number, None)
            self._gaps.pop(number, None)
            self._window.release_segment(number)
        return SegmentsStored(count)

    def _begin(self, number: int, stage: _Stage) -> None:
        if number != self._next or not self._streams.is_open:
            raise ProtocolError("a segment is out of order")
        if len(self._stages) >= MAX_OPEN_SEGMENTS:
            raise LimitExceededError("too many segments at once")
        self._streams.begin_segment()
        self._next += 1
        self._stages[number] = stage

    def _move(self, number: int, allowed: set[_Stage], stage: _Stage) -> None:
        if self._stages.get(number) not in allowed:
            raise ProtocolError("a segment is out of order")
        self._stages[number] = stage


class _PageStage(Enum):
    NAMED = auto()
    LACKED = auto()
    HERE = auto()


class PageOrder:
    """Checks the order of pages, from their announcement until they are stored. Raises ProtocolError or LimitExceededError."""

    def __init__(self, next_page: int, window: Window) -> None:
        self.next_page = next_page
        self._window = window
        self._ended = False
        self._stages: dict[int, _PageStage] = {}
        self._files_due: dict[int, deque[bytes | None]] = {}  # what was asked for; None for all of a page's, unasked

    # What the sender does.

    def name(self, message: PageOffer) -> None:
        """A page is named."""
        self._begin(message.number, _PageStage.NAMED)

    def announce(self, head: Page) -> None:
        """The lines of a page follow."""
        if head.number in self._stages:
            self._move(head.number, {_PageStage.LACKED}, _PageStage.HERE)
        else:
            self._begin(head.number, _PageStage.HERE)
        if head.with_files:
            self._files_due[head.number] = deque([None])
        self._window.hold_page(head.number, head.size)

    def announce_files(self, head: Files) -> None:
        """Checks that Files answer one request, each once and with exactly the requested files: others are not stored."""
        due = self._files_due.get(head.page)
        if not due:
            raise ProtocolError("files that nobody asked for")
        asked = due.popleft()
        if head.present != (pack_bits([True] * head.count) if asked is None else asked):
            raise ProtocolError("files that are not those that were asked for")
        self._window.hold_page(head.page, head.size)

    def end(self) -> None:
        """No page may begin any more."""
        self._ended = True

    # What the vault answers.

    def answer(self, number: int, *, known: bool) -> PageAnswer:
        """Whether the vault has a named page."""
        self._move(number, {_PageStage.NAMED}, _PageStage.HERE if known else _PageStage.LACKED)
        return PageAnswer(number, known)

    def want_files(self, page: int, missing: list[bool]) -> Want:
        """Small contents of a page are asked for."""
        packed = pack_bits(missing)
        self._files_due.setdefault(page, deque()).append(packed)
        return Want(page, len(missing), packed)

    def stored(self, count: int) -> PagesStored:
        """All pages below `count` are stored."""
        for number in [number for number in self._stages if number < count]:
            del self._stages[number]
            self._files_due.pop(number, None)
            self._window.release_page(number)
        return PagesStored(count)

    def _begin(self, number: int, stage: _PageStage) -> None:
        if self._ended or number != self.next_page:
            raise ProtocolError("a page is out of order")
        if len(self._stages) >= MAX_OPEN_PAGES:
            raise LimitExceededError("too many pages at once")
        self.next_page += 1
        self._stages[number] = stage

    def _move(self, number: int, allowed: set[_PageStage], stage: _PageStage) -> None:
        if self._stages.get(number) not in allowed:
            raise ProtocolError("a page is out of order")
        self._stages[number] = stage
