"""The order of segments at the receiving end: which are open, how far each is, and what was asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto

from evidencesync.delta.refine import Gap
from evidencesync.delta.rows import Row
from evidencesync.errors import LimitExceededError, ProtocolError
from evidencesync.limits import MAX_OPEN_SEGMENTS, MAX_SEGMENT
from evidencesync.protocol.bitmap import pack_bits
from evidencesync.protocol.gaps import pack_gaps, unpack_pieces
from evidencesync.protocol.messages import (
    ChunkData,
    Chunks,
    Need,
    NeedPieces,
    Pieces,
    SegmentAnswer,
    SegmentData,
    SegmentOffer,
    SegmentsStored,
)
from evidencesync.protocol.rows import check_lengths, decode_wire_rows, signed_lengths
from evidencesync.protocol.stream_order import StreamOrder
from evidencesync.protocol.window import Window


class _Stage(Enum):
    NAMED = auto()
    LACKED = auto()
    LISTED = auto()
    REFINING = auto()
    PIECED = auto()
    NEEDED = auto()
    HERE = auto()


class SegmentOrder:
    """Segments from their announcement until they are stored.

    Raises ProtocolError or LimitExceededError for any that is out of order or larger than any sender makes.
    """

    def __init__(self, next_segment: int, streams: StreamOrder, window: Window) -> None:
        self._next = next_segment
        self._streams = streams
        self._window = window
        self._stages: dict[int, _Stage] = {}
        self._named_bytes: dict[int, int] = {}
        self._needed_bytes: dict[int, int] = {}
        self._gaps: dict[int, list[Gap]] = {}  # whose pieces are to be named

    # What the sender does.

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
        """A whole segment follows that nobody asked for."""
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
        """What was needed of a segment follows."""
        self._move(head.segment, {_Stage.NEEDED}, _Stage.HERE)
        if head.size != self._needed_bytes.pop(head.segment):
            raise ProtocolError("chunks that are not those that were needed")

    # What the vault answers.

    def answer(self, number: int, *, known: bool, rows: int = 0) -> SegmentAnswer:
        """Says whether the vault has a named segment, and how many rows it has: the sender's window bounds these, too."""
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
        cut_again = [replace(gap, phase=None) for gap, cut in zip(self._gaps.pop(number), again, strict=True) if cut]
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
