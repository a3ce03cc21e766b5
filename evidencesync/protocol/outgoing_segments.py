"""Tracks a sender's segments until they are stored: how each is opened, its pieces, and the receiver's answers about it."""

from __future__ import annotations

import struct
from itertools import accumulate, islice

import msgspec

from evidencesync.delta.chunker import Segment
from evidencesync.delta.refine import Gap, cut_pieces, piece_digests
from evidencesync.delta.rows import segment_digest
from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import SegmentDigest
from evidencesync.limits import MEAN_CHUNK
from evidencesync.protocol.data_frames import Outgoing
from evidencesync.protocol.flow import AskPolicy, Key, Opening, RepeatMemory, segment_key
from evidencesync.protocol.messages import ChunkData, Chunks, Need, NeedPieces, Pieces, SegmentAnswer, SegmentData, SegmentOffer
from evidencesync.protocol.packing import ZERO_BIT, encode_wire_rows, pack_pieces, unpack_bits, unpack_gaps
from evidencesync.protocol.pages import ContentNotRead


class _CutGap(msgspec.Struct):
    """A gap as it was cut, and which of its pieces the vault lacks: None until the vault has answered."""

    gap: Gap
    lengths: list[int]
    lacked: list[bool] | None = None


class OutgoingPieces:
    """The pieces of a segment's gaps that were named, until the vault has answered which of them it lacks."""

    def __init__(self, key: bytes, number: int, segment: Segment) -> None:
        self._key = key
        self._number = number
        self._segment = segment
        self._gaps: list[_CutGap] = []

    def name(self, gaps: list[Gap]) -> Pieces:
        """Cuts the gaps, and names their pieces."""
        self._gaps, pieces = self._cut(gaps)
        return pieces

    def on_need(self, need: NeedPieces) -> Pieces | None:
        """Handles the answer to the pieces that were named last; returns the pieces of gaps that are to be cut again, or None.

        Raises ProtocolError for an answer that does not fit.
        """
        named = [cut for cut in self._gaps if cut.lacked is None]
        if need.count != sum(len(cut.lengths) for cut in named):
            raise ProtocolError("a request for pieces does not fit its segment")
        bits = iter(unpack_bits(need.missing, need.count))
        cut_again: list[_CutGap] = []
        for cut, again in zip(named, unpack_bits(need.again, len(named)), strict=True):
            cut.lacked = list(islice(bits, len(cut.lengths)))
            if again:
                if cut.gap.phase is None or any(cut.lacked):
                    raise ProtocolError("the pieces of a gap were asked for in a way that is not allowed")
                cut_again.append(cut)
        if not cut_again:
            return None
        cuts, pieces = self._cut([msgspec.structs.replace(cut.gap, phase=None) for cut in cut_again])
        for cut, made in zip(cut_again, cuts, strict=True):
            cut.gap, cut.lengths, cut.lacked = made.gap, made.lengths, None
        return pieces

    def lacked(self) -> list[memoryview]:
        """Returns the bytes of the pieces that the vault lacks, in order."""
        return [piece for cut in self._gaps for piece in _lacked_pieces(self._segment, cut)]

    def _cut(self, gaps: list[Gap]) -> tuple[list[_CutGap], Pieces]:
        cut: list[_CutGap] = []
        digests: list[bytes] = []
        for gap in gaps:
            data = _bytes_of(self._segment, gap)
            cut.append(_CutGap(gap, cut_pieces(data, gap.phase)))
            digests.append(piece_digests(self._key, data, cut[-1].lengths))
        return cut, pack_pieces(self._number, gaps, [made.lengths for made in cut], digests)


def _bytes_of(segment: Segment, gap: Gap) -> bytes:
    return b"".join([part for part in segment.parts[gap.first : gap.first + gap.count] if part is not None])


def _lacked_pieces(segment: Segment, cut: _CutGap) -> list[memoryview]:
    if not cut.lacked or not any(cut.lacked):
        return []
    view = memoryview(_bytes_of(segment, cut.gap))
    starts = accumulate(cut.lengths, initial=0)
    return [
        view[start : start + length] for start, length, wanted in zip(starts, cut.lengths, cut.lacked, strict=False) if wanted
    ]


class StoredBefore(msgspec.Struct, frozen=True):
    """A segment that an earlier session of the same vault has stored, and whose bytes are not here any more."""

    digest: SegmentDigest
    total_bytes: int
    zero_bytes: int


class _OpenSegment(msgspec.Struct):
    segment: Segment
    content: int
    """The number of the content that it is a part of."""
    named: bool = False
    answered: bool = False
    listed: bool = False
    repeats: bool = False
    """Whether the same segment seems to have been sent before: then the answer does not show what the vault had at the start."""
    refined: bool = False
    pieces: OutgoingPieces | None = None
    whole: list[bool] = msgspec.field(default_factory=list)
    """The rows that are requested whole, where pieces of other rows are named first."""
    sent: int = 0
    """How many bytes of its content were sent."""
    sent_before: int = 0
    """How many of them on earlier links."""
    before: StoredBefore | None = None
    """Set where the segment's own bytes are not here: it can be named, and nothing else."""


class OutgoingSegments:
    """Tracks segments from `add` until they are stored."""

    def __init__(self, out: Outgoing, *, knows_nothing: bool, piece_key: bytes) -> None:
        self.held_bytes = 0
        self.rows = 0
        """How many rows the open segments have."""
        self.count = 0
        """How many segments there are so far."""
        self.stored = 0
        """How many of them the receiver has stored."""
        self._out = out
        self._piece_key = piece_key
        self._policy = AskPolicy(peer_knows_nothing=knows_nothing)
        self._segments: dict[int, _OpenSegment] = {}
        self._sent = RepeatMemory()
        self._content = 0
        self._sending: list[Key] = []  # of the open stream: within one content nothing is found before it is whole

    @property
    def open(self) -> int:
        """How many are not stored yet."""
        return len(self._segments)

    def add(self, segment: Segment) -> None:
        """Sends the next segment of the open stream, or its name or list."""
        number = self.count
        self.count += 1
        held = self._segments[number] = _OpenSegment(segment, self._content)
        key = segment_key(segment)
        if key is not None:
            held.repeats = self._sent.has(key)
            self._sending.append(key)
        self.held_bytes += segment.held_bytes
        self.rows += len(segment.lengths)
        self._out.counts.zero_bytes += segment.zero_bytes
        self.announce(number)

    def add_stored_before(self, before: StoredBefore) -> None:
        """Names the next segment of the open stream, whose bytes are not here any more."""
        self._segments[self.count] = _OpenSegment(Segment(), self._content, before=before)
        self._out.counts.zero_bytes += before.zero_bytes
        self.announce(self.count)
        self.count += 1

    def end_stream(self) -> None:
        """Ends the open stream: from now on its segments count as sent before."""
        self._content += 1
        self._policy.begin_content()
        for key in self._sending:
            self._sent.add(key)
        self._sending.clear()

    def announce(self, number: int) -> None:
        """Announces a segment: for the first time, or again over a new link."""
        before = self._segments[number]
        if before.before is not None:
            before.named, before.answered = True, False
            self._out.send(SegmentOffer(number, before.before.digest, before.before.total_bytes, proof=b""))
            return
        held = self._segments[number] = _OpenSegment(
            before.segment, before.content, repeats=before.repeats, sent=before.sent, sent_before=before.sent
        )
        segment = held.segment
        match Opening.NAME if held.repeats else self._policy.opening():
            case Opening.NAME:
                held.named = True
                name = segment_digest(segment.rows())
                self._out.send(SegmentOffer(number, name, segment.total_bytes, proof=b""))
            case Opening.LIST:
                self._send_chunk_list(number, held)
            case Opening.BYTES:
                self._send_segment(number, held)

    def on_answer(self, answer: SegmentAnswer) -> None:
        """Handles whether the vault has a segment that was named. Raises ProtocolError where it was not named."""
        held = self._segment(answer.segment)
        # A segment said to be known may be asked for later, when the vault finds that its basis is damaged.
        if not held.named or held.listed or (answer.known and held.answered):
            raise ProtocolError("a segment was answered that was not asked for")
        held.answered = True
        if held.before is not None:
            if not answer.known:
                raise ContentNotRead
            return
        if held.repeats:
            self._sent.record_answer(known=answer.known)
        if answer.known:
            if not held.repeats:
                self._policy.record_known()
        else:
            self._send_chunk_list(answer.segment, held)

    def on_need(self, need: Need) -> None:
        """Handles a request for rows of a segment. Raises ProtocolError for a request that does not fit its segment."""
        held = self._segment(need.segment)
        parts = held.segment.parts
        if need.count != len(parts) or held.pieces is not None or held.before is not None:
            raise ProtocolError("a request for chunks does not fit its segment")
        missing = unpack_bits(need.missing, need.count)
        if any(wanted and part is None for wanted, part in zip(missing, parts, strict=True)):
            raise ProtocolError("a run of zeros was asked for")
        if need.gaps:
            self._send_pieces(held, need, missing)
            return
        self._send_chunks(need.segment, held, _chosen(parts, missing))

    def on_need_pieces(self, need: NeedPieces) -> None:
        """Handles a request for pieces. Raises ProtocolError for a request that does not fit its segment."""
        held = self._segment(need.segment)
        if held.pieces is None:
            raise ProtocolError("a request for pieces does not fit its segment")
        named_again = held.pieces.on_need(need)
        if named_again is not None:
            self._out.send(named_again)
            return
        parts = _chosen(held.segment.parts, held.whole) + held.pieces.lacked()
        held.pieces = None
        self._send_chunks(need.segment, held, parts)

    def release(self, count: int) -> None:
        """Releases all segments below `count`, which are stored. Raises ProtocolError where they were not all sent."""
        if not self.stored <= count <= self.count:
            raise ProtocolError("the receiver says it stored segments that were not sent")
        for number in range(self.stored, count):
            held = self._segments.pop(number)
            segment = held.before or held.segment
            self._out.counts.add_stored(segment.total_bytes, held.sent, held.sent_before, segment.zero_bytes)
            self.held_bytes -= held.segment.held_bytes
            self.rows -= len(held.segment.lengths)
        self.stored = count

    def _send_pieces(self, held: _OpenSegment, need: Need, missing: list[bool]) -> None:
        """Names the pieces of the gaps, once for each segment: it costs work, and a vault can request whole chunks instead."""
        if held.refined:
            raise ProtocolError("the pieces of a segment were asked for twice")
        lengths = held.segment.lengths
        gaps = unpack_gaps(need.gaps, [length if wanted else 0 for length, wanted in zip(lengths, missing, strict=True)])
        for gap in gaps:
            missing[gap.first : gap.first + gap.count] = [False] * gap.count
        held.refined = True
        held.whole = missing
        held.pieces = OutgoingPieces(self._piece_key, need.segment, held.segment)
        self._out.send(held.pieces.name(gaps))

    def _send_chunks(self, number: int, held: _OpenSegment, parts: list[memoryview]) -> None:
        size, segment = sum(map(len, parts)), held.segment
        # A few new bytes among zeros say nothing about other segments.
        if not held.repeats and (size < segment.literal_bytes or size >= MEAN_CHUNK):
            self._policy.record_parts(size, segment.literal_bytes)
            if held.content != self._content:
                self._policy.begin_content()  # an answer that comes late tells nothing of the content that has begun since
        held.sent += size
        self._out.send(ChunkData(number, size))
        self._out.send_data(parts, size)

    def _send_chunk_list(self, number: int, held: _OpenSegment) -> None:
        held.listed = True
        self._out.send(Chunks(number, encode_wire_rows(held.segment.rows())))

    def _send_segment(self, number: int, held: _OpenSegment) -> None:
        segment = held.segment
        lengths = [
            length | ZERO_BIT if part is None else length for length, part in zip(segment.lengths, segment.parts, strict=True)
        ]
        size = segment.literal_bytes
        self._out.send(SegmentData(number, struct.pack(f"<{len(lengths)}I", *lengths), size))
        held.sent += size
        self._out.send_data([part for part in segment.parts if part is not None], size)

    def _segment(self, number: int) -> _OpenSegment:
        held = self._segments.get(number)
        if held is None:
            raise ProtocolError("the receiver speaks of a segment that is not open")
        return held


def _chosen(parts: list[memoryview | None], wanted: list[bool]) -> list[memoryview]:
    return [part for part, chosen in zip(parts, wanted, strict=True) if chosen and part is not None]
