"""The sending end of a transfer, between `Ready` and `Finish`: what goes out, what is waited for, what may be let go.

Two things are sent, each numbered from 0 in order. *Pages* are runs of manifest lines, together with the contents of
the small files in them. *Segments* are parts of larger contents, between `Open` and `Close` of their stream. Bytes stay
here until the receiver says that they are stored; `has_room` bounds how many there are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Final

from evidencesync.delta.chunker import Segment
from evidencesync.delta.possession import Possession
from evidencesync.delta.recipe import Row, segment_digest
from evidencesync.delta.refine import Gap, cut_pieces, piece_digests
from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import Blake3Digest, Buffer, ChunkDigest, SegmentDigest, chunk_digest_of
from evidencesync.limits import LEAST_PROVEN, MAX_OPEN_PAGES, MAX_OPEN_ROWS, MAX_OPEN_SEGMENTS, MEAN_CHUNK, WINDOW
from evidencesync.protocol.bitmap import pack_bits, unpack_bits
from evidencesync.protocol.compression import MAX_DATA, Compress, DataEncoder
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import (
    ChunkData,
    Chunks,
    Close,
    Files,
    Message,
    Need,
    NeedPieces,
    Open,
    Page,
    PageAnswer,
    PageOffer,
    PagesStored,
    Resembles,
    Resumed,
    SegmentAnswer,
    SegmentData,
    SegmentOffer,
    SegmentsStored,
    Want,
)
from evidencesync.session.flow import AskPolicy, Opening
from evidencesync.session.gaps import pack_pieces, unpack_gaps
from evidencesync.session.replay import ClosedStream, OpenedStream, ReplayLog, SentPage, SentSegment

ZERO_BIT: Final = 1 << 31
"""Set in a row length of SegmentData for a run of zeros."""
_WIRE_ROW: Final = struct.Struct("<I16s")


@dataclass(slots=True)
class _OpenPage:
    lines: bytes
    contents: list[bytes]
    held_bytes: int
    answered: bool = False
    lines_sent: bool = False
    files_asked: bool = False


@dataclass(slots=True)
class _Refining:
    """What a vault asked of a segment when it asked for pieces first: the rows it wants whole, and the gaps."""

    whole: list[bool]
    gaps: list[_CutGap]


@dataclass(slots=True)
class _CutGap:
    """A gap as it was cut, and which of its pieces are lacked: None until the vault has said so."""

    gap: Gap
    lengths: list[int]
    lacked: list[bool] | None = None


@dataclass(slots=True)
class _OpenSegment:
    segment: Segment
    named: bool = False
    answered: bool = False
    listed: bool = False
    refined: bool = False
    refining: _Refining | None = None


@dataclass(slots=True)
class SenderCounts:
    """What was sent and what was spared, in bytes of content."""

    literal_bytes: int = 0
    reused_bytes: int = 0
    zero_bytes: int = 0


class Sender:
    """State of the sending end. Call `take_output` after every call, and send what it gives in that order.

    `possession` proves that we have what we ask for, to a vault that looks in other cases than ours.
    """

    def __init__(
        self,
        *,
        knows_nothing: bool,
        has_previous: bool,
        piece_key: bytes,
        compress: Compress,
        clock: Callable[[], float],
        possession: Possession | None = None,
    ) -> None:
        self.counts = SenderCounts()
        self._piece_key = piece_key
        self._possession = possession
        self._has_previous = has_previous
        self.data = DataEncoder(compress, clock)
        self._segment_policy = AskPolicy(peer_knows_nothing=knows_nothing, by_name=possession is not None)
        self._page_policy = AskPolicy(peer_knows_nothing=not has_previous)
        self._file_policy = AskPolicy(peer_knows_nothing=knows_nothing)
        self._pages: dict[int, _OpenPage] = {}
        self._segments: dict[int, _OpenSegment] = {}
        self._next_page = 0
        self._next_segment = 0
        self._next_stream = 0
        self._pages_stored = 0
        self._segments_stored = 0
        self._held_bytes = 0
        self._open_rows = 0
        self._output: list[bytes] = []
        self._log = ReplayLog()

    # What the local side asks.

    @property
    def has_room(self) -> bool:
        """Whether more may be added: the window of bytes and of open things is not full."""
        return (
            self._held_bytes < WINDOW
            and len(self._pages) < MAX_OPEN_PAGES
            and len(self._segments) < MAX_OPEN_SEGMENTS
            and self._open_rows < MAX_OPEN_ROWS
        )

    @property
    def pages_sent(self) -> int:
        """How many pages there are so far."""
        return self._next_page

    @property
    def all_stored(self) -> bool:
        """Whether the receiver has stored everything that was added."""
        return not self._pages and not self._segments

    def take_output(self) -> list[bytes]:
        """The frames to send now, in order."""
        output, self._output = self._output, []
        return output

    # What the local side adds.

    def add_page(self, lines: bytes, contents: list[bytes]) -> None:
        """A page of whole manifest lines, and the contents of its small files in line order (empty files have none)."""
        number = self._next_page
        self._next_page += 1
        held = len(lines) + sum(map(len, contents))
        page = self._pages[number] = _OpenPage(lines, contents, held)
        self._held_bytes += held
        self._log.add(SentPage(number))
        if self._page_policy.opening() is Opening.BYTES:
            self._send_lines(number, page)
            return
        self._send(PageOffer(number, chunk_digest_of(lines)))

    def open_stream(self, size: int, path: bytes = b"") -> None:
        """A content of at most `size` bytes follows in segments, and is the file at `path`."""
        self._log.add(OpenedStream(self._next_stream, size, path, self._next_segment))
        self._send_open(self._next_stream, size, path)

    def add_segment(self, segment: Segment) -> None:
        """The next segment of the open stream."""
        number = self._next_segment
        self._next_segment += 1
        self._segments[number] = _OpenSegment(segment)
        self._held_bytes += segment.held_bytes
        self._open_rows += len(segment.lengths)
        self.counts.zero_bytes += segment.total_bytes - segment.literal_bytes
        self._log.add(SentSegment(number))
        self._announce(number)

    def _announce(self, number: int) -> None:
        held = self._segments[number] = _OpenSegment(self._segments[number].segment)
        segment = held.segment
        match self._segment_policy.opening():
            case Opening.NAME:
                held.named = True
                name = segment_digest(segment.rows())
                self._send(SegmentOffer(number, name, segment.total_bytes, self._proof(name, segment)))
            case Opening.LIST:
                self._send_chunk_list(number, held)
            case Opening.BYTES:
                self._send_segment(number, segment)

    def close_stream(self, size: int, blake3: Blake3Digest) -> None:
        """The open stream's content ends here; this is its digest as it was read."""
        self._log.add(ClosedStream(self._next_stream, size, blake3, self._next_segment))
        self._send(Close(self._next_stream, size, blake3))
        self._next_stream += 1

    def resume(self, resumed: Resumed) -> None:
        """Goes on over a new link, where the receiver says it stands. Raises ProtocolError where it cannot stand there."""
        self._output.clear()
        self._release_pages(resumed.pages)
        self._release_segments(resumed.segments)
        for sent in self._log.since(resumed):
            match sent:
                case SentPage(number):
                    page = self._pages[number]
                    self._pages[number] = _OpenPage(page.lines, page.contents, page.held_bytes)
                    self._send(PageOffer(number, chunk_digest_of(page.lines)))
                case SentSegment(number):
                    self._announce(number)
                case OpenedStream(stream, size, path):
                    self._send_open(stream, size, path)
                case ClosedStream(stream, size, blake3):
                    self._send(Close(stream, size, blake3))

    # What the peer says.

    def receive(self, message: Message) -> None:
        """An answer of the receiver. Raises ProtocolError for one that answers nothing that was asked."""
        match message:
            case PageAnswer():
                self._on_page_answer(message)
            case Want():
                self._on_want(message)
            case PagesStored():
                self._release_pages(message.count)
            case SegmentAnswer():
                self._on_segment_answer(message)
            case Need():
                self._on_need(message)
            case NeedPieces():
                self._on_need_pieces(message)
            case SegmentsStored():
                self._release_segments(message.count)
            case _:
                raise ProtocolError(f"a {type(message).__name__} message is out of order")

    def _on_page_answer(self, answer: PageAnswer) -> None:
        page = self._open_page(answer.number)
        if page.answered or page.lines_sent:
            raise ProtocolError("a page was answered twice")
        page.answered = True
        if answer.known:
            page.files_asked = bool(page.contents)
            self._page_policy.note_known()
        else:
            self._page_policy.note_parts(1, 1)
            self._send_lines(answer.number, page)

    def _on_want(self, want: Want) -> None:
        page = self._open_page(want.page)
        if want.count != len(page.contents):
            raise ProtocolError("a request for files does not fit its page")
        missing = unpack_bits(want.missing, want.count)
        page.files_asked = False
        self._file_policy.note_parts(sum(missing), want.count)
        self._send_files(want.page, page, missing)

    def _on_segment_answer(self, answer: SegmentAnswer) -> None:
        held = self._open_segment(answer.segment)
        # A segment said to be known may be asked for later, when the vault finds that its basis is damaged.
        if not held.named or held.listed or (answer.known and held.answered):
            raise ProtocolError("a segment was answered that was not asked for")
        held.answered = True
        if answer.known:
            self._segment_policy.note_known()
        else:
            self._send_chunk_list(answer.segment, held)

    def _on_need(self, need: Need) -> None:
        held = self._open_segment(need.segment)
        parts = held.segment.parts
        if need.count != len(parts) or held.refining is not None:
            raise ProtocolError("a request for chunks does not fit its segment")
        missing = unpack_bits(need.missing, need.count)
        if any(wanted and part is None for wanted, part in zip(missing, parts, strict=True)):
            raise ProtocolError("a run of zeros was asked for")
        if need.gaps:
            self._send_pieces(held, need, missing)
            return
        self._send_chunks(need.segment, held.segment, _chosen(parts, missing))

    def _send_pieces(self, held: _OpenSegment, need: Need, missing: list[bool]) -> None:
        """Names the pieces of the gaps. Once in a segment: it is work, and a vault that was wrong asks for chunks whole."""
        if held.refined:
            raise ProtocolError("the pieces of a segment were asked for twice")
        lengths = held.segment.lengths
        gaps = unpack_gaps(need.gaps, [length if wanted else 0 for length, wanted in zip(lengths, missing, strict=True)])
        for gap in gaps:
            missing[gap.first : gap.first + gap.count] = [False] * gap.count
        held.refined = True
        held.refining = _Refining(missing, [])
        held.refining.gaps += self._name_pieces(need.segment, held.segment, gaps)

    def _name_pieces(self, number: int, segment: Segment, gaps: list[Gap]) -> list[_CutGap]:
        cut: list[_CutGap] = []
        digests: list[bytes] = []
        for gap in gaps:
            data = _bytes_of(segment, gap)
            cut.append(_CutGap(gap, cut_pieces(data, gap.phase)))
            digests.append(piece_digests(self._piece_key, data, cut[-1].lengths))
        self._send(pack_pieces(number, gaps, [made.lengths for made in cut], digests))
        return cut

    def _on_need_pieces(self, need: NeedPieces) -> None:
        held = self._open_segment(need.segment)
        named = [cut for cut in held.refining.gaps if cut.lacked is None] if held.refining is not None else []
        if held.refining is None or need.count != sum(len(cut.lengths) for cut in named):
            raise ProtocolError("a request for pieces does not fit its segment")
        bits = iter(unpack_bits(need.missing, need.count))
        cut_again: list[_CutGap] = []
        for cut, again in zip(named, unpack_bits(need.again, len(named)), strict=True):
            cut.lacked = list(islice(bits, len(cut.lengths)))
            if again:
                if cut.gap.phase is None or any(cut.lacked):
                    raise ProtocolError("the pieces of a gap were asked for in a way that is not allowed")
                cut_again.append(cut)
        if cut_again:
            gaps = [replace(cut.gap, phase=None) for cut in cut_again]
            for cut, made in zip(cut_again, self._name_pieces(need.segment, held.segment, gaps), strict=True):
                cut.gap, cut.lengths, cut.lacked = made.gap, made.lengths, None
            return
        parts = _chosen(held.segment.parts, held.refining.whole)
        for cut in held.refining.gaps:
            parts += _lacked_pieces(held.segment, cut)
        held.refining = None
        self._send_chunks(need.segment, held.segment, parts)

    def _send_chunks(self, number: int, segment: Segment, parts: list[memoryview]) -> None:
        size = sum(map(len, parts))
        if size < segment.literal_bytes or size >= MEAN_CHUNK:  # a little that is new, among zeros, says nothing of the rest
            self._segment_policy.note_parts(size, segment.literal_bytes)
        self._send(ChunkData(number, size))
        self._send_data(parts, size)

    def _release_pages(self, count: int) -> None:
        if not self._pages_stored <= count <= self._next_page:
            raise ProtocolError("the receiver says it stored pages that were not sent")
        for number in range(self._pages_stored, count):
            page = self._pages.pop(number)
            self._held_bytes -= page.held_bytes
            if page.files_asked:  # and nothing was wanted: no answer is what a vault says that has them all
                self._file_policy.note_known()
        self._pages_stored = count
        self._log.note_stored(pages=count, segments=self._segments_stored)

    def _release_segments(self, count: int) -> None:
        if not self._segments_stored <= count <= self._next_segment:
            raise ProtocolError("the receiver says it stored segments that were not sent")
        for number in range(self._segments_stored, count):
            segment = self._segments.pop(number).segment
            self._held_bytes -= segment.held_bytes
            self._open_rows -= len(segment.lengths)
        self._segments_stored = count
        self._log.note_stored(pages=self._pages_stored, segments=count)

    # How things are sent.

    def _send(self, message: Message) -> None:
        self._output.append(frame_of(message))

    def _send_open(self, stream: int, size: int, path: bytes) -> None:
        self._send(Open(stream, size))
        if path and self._has_previous:
            self._send(Resembles(stream, path))

    def _send_lines(self, number: int, page: _OpenPage) -> None:
        page.lines_sent = True
        with_files = bool(page.contents) and self._file_policy.opening() is Opening.BYTES
        page.files_asked = bool(page.contents) and not with_files
        self._send(Page(number, len(page.lines), with_files, b"" if with_files else self._proofs(page.contents)))
        self._output.append(self.data.encode([page.lines]))
        if with_files:
            self._send_files(number, page, [True] * len(page.contents))

    def _proofs(self, contents: list[bytes]) -> bytes:
        possession = self._possession
        if possession is None:
            return b""
        return b"".join([possession.of_content(content) for content in contents if len(content) >= LEAST_PROVEN])

    def _proof(self, name: SegmentDigest, segment: Segment) -> bytes:
        if self._possession is None or segment.literal_bytes < LEAST_PROVEN:
            return b""
        return self._possession.of_segment(name, [part for part in segment.parts if part is not None])

    def _send_files(self, number: int, page: _OpenPage, present: list[bool]) -> None:
        chosen = [content for content, wanted in zip(page.contents, present, strict=True) if wanted]
        size = sum(map(len, chosen))
        self._send(Files(number, len(present), pack_bits(present), size))
        self._send_data(chosen, size)

    def _send_chunk_list(self, number: int, held: _OpenSegment) -> None:
        held.listed = True
        rows = held.segment.rows()
        self._send(Chunks(number, b"".join([_WIRE_ROW.pack(row.length, row.digest) for row in rows])))

    def _send_segment(self, number: int, segment: Segment) -> None:
        lengths = [
            length | ZERO_BIT if part is None else length for length, part in zip(segment.lengths, segment.parts, strict=True)
        ]
        size = segment.literal_bytes
        self._send(SegmentData(number, struct.pack(f"<{len(lengths)}I", *lengths), size))
        self._send_data([part for part in segment.parts if part is not None], size)

    def _send_data(self, parts: Iterable[Buffer], size: int) -> None:
        self.counts.literal_bytes += size
        for block in _blocks(parts):
            self._output.append(self.data.encode(block))

    # What is open.

    def _open_page(self, number: int) -> _OpenPage:
        page = self._pages.get(number)
        if page is None:
            raise ProtocolError("the receiver speaks of a page that is not open")
        return page

    def _open_segment(self, number: int) -> _OpenSegment:
        held = self._segments.get(number)
        if held is None:
            raise ProtocolError("the receiver speaks of a segment that is not open")
        return held


def _chosen(parts: list[memoryview | None], wanted: list[bool]) -> list[memoryview]:
    return [part for part, chosen in zip(parts, wanted, strict=True) if chosen and part is not None]


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


def _blocks(parts: Iterable[Buffer]) -> Iterator[list[Buffer]]:
    """The parts in groups that fit a data frame. No part is split: a receiver need not put any together."""
    block: list[Buffer] = []
    size = 0
    for part in parts:
        if size + len(part) > MAX_DATA:
            yield block
            block, size = [], 0
        block.append(part)
        size += len(part)
    if block:
        yield block


def decode_wire_rows(packed: bytes) -> list[Row]:
    """The rows of a Chunks message, not yet checked."""
    if len(packed) % _WIRE_ROW.size:
        raise ProtocolError("a list of chunks is cut off")
    return [Row(length, ChunkDigest(digest)) for length, digest in _WIRE_ROW.iter_unpack(packed)]
