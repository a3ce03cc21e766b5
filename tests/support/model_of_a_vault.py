"""A vault as the receiving end sees it, in memory: it knows some of what comes, and some of what it knows proves bad.

When its link is lost it does what `transfer/intake` does: what is stored stays, and so do pages that were read.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from evidencesync.delta.refine import ABSENT, Gap, find_pieces, rebuild
from evidencesync.delta.rows import Row, segment_digest
from evidencesync.evidence.digest import Blake3Digest, blake3_of, chunk_digest_of
from evidencesync.limits import GRID_PIECE
from evidencesync.protocol.data_frames import split_blocks
from evidencesync.protocol.messages import Resumed
from evidencesync.protocol.receiver import (
    ChunksArrived,
    ChunksListed,
    Event,
    FilesArrived,
    FinishRequested,
    PageArrived,
    PageNamed,
    PiecesListed,
    Receiver,
    SegmentArrived,
    SegmentNamed,
    StreamClosed,
    StreamOpened,
)

PIECE_KEY = b"k" * 32


def lines_for(number: int, contents: list[bytes]) -> bytes:
    """Lines that say how long a page's contents are, as a manifest's do."""
    return b"page %d of %s\n" % (number, b",".join(b"%d:%s" % (len(data), blake3_of(data)) for data in contents))


def lengths_in(lines: bytes, count_of: dict[bytes, list[bytes]]) -> list[int]:
    """The lengths that a page's lines state; both ends know the plan, so it is simply looked up."""
    return [len(data) for data in count_of[lines]]


@dataclass
class Knowledge:
    """What the vault has before the transfer, each with whether it is still good when it is read.

    `similar` has bytes that are somewhat like a chunk, by the chunk's digest: they stand where a gap's basis does.
    """

    pages: dict[bytes, bytes] = field(default_factory=dict)
    smalls: dict[bytes, bool] = field(default_factory=dict)
    segments: dict[bytes, tuple[list[Row], bytes, bool]] = field(default_factory=dict)
    chunks: dict[bytes, tuple[bytes, bool]] = field(default_factory=dict)
    similar: dict[bytes, bytes] = field(default_factory=dict)


@dataclass
class _Page:
    lines: bytes | None = None
    contents: list[bytes | None] = field(default_factory=list)
    known: list[bool] = field(default_factory=list)
    with_files: bool = False
    unnamed: bool = False


@dataclass
class _Segment:
    number: int
    rows: list[Row] | None = None
    whole: bytes | None = None
    whole_good: bool = True
    places: list[bytes | None] = field(default_factory=list)
    bad: list[bool] = field(default_factory=list)
    lacked: list[bool] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    named: list[int] = field(default_factory=list)
    found: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)
    lengths: list[int] | None = None
    blocks: list[memoryview] = field(default_factory=list)
    ready: bool = False


class ModelVault:
    """Takes events in any rhythm: each answer may be given at once or later, as `chance` has it."""

    def __init__(self, receiver: Receiver, knowledge: Knowledge, plan: dict[bytes, list[bytes]], chance: random.Random) -> None:
        self.streams: list[bytes] = []
        self.pages: list[tuple[bytes, list[bytes]]] = []
        self.literal_bytes = 0
        self.finished = False
        self._receiver = receiver
        self._knowledge = knowledge
        self._plan = plan
        self._chance = chance
        self._later: deque[Callable[[], None]] = deque()
        self._queue: deque[_Segment | StreamOpened | StreamClosed] = deque()
        self._open: dict[int, _Segment] = {}
        self._content: bytearray | None = None
        self._stream_size = 0
        self._stored = 0
        self._pages: dict[int, _Page] = {}
        self._next_page = 0

    def resume(self) -> tuple[Resumed, Receiver]:
        """The link was lost: where it stands, and the receiver of the next link. What was not stored comes again."""
        left = None if self._content is None else self._stream_size - len(self._content)
        resumed = Resumed(self._next_page, self._stored, len(self.streams), stream_open=left is not None, concluding=False)
        self._receiver = Receiver(resumed, left)
        self._later.clear()
        self._queue.clear()
        self._open.clear()
        read = self._next_page
        while (page := self._pages.get(read)) is not None and page.lines is not None:
            read += 1
        self._pages = {number: page for number, page in self._pages.items() if number < read}
        for page in self._pages.values():
            page.unnamed = True  # a sender that names it again must not hear before that that it is stored
        return resumed, self._receiver

    @property
    def has_work(self) -> bool:
        return bool(self._later)

    def work(self) -> None:
        """Gives one answer that was put off."""
        self._later.popleft()()

    def take(self, event: Event) -> None:
        match event:
            case PageNamed():
                page = self._pages.setdefault(event.number, _Page())
                if page.lines is not None:
                    self._answer_read_page(event.number, page)
                else:
                    self._soon(lambda: self._answer_page(event, page))
            case PageArrived():
                page = self._pages.setdefault(event.number, _Page())
                page.with_files = event.with_files
                self._begin_page(event.number, page, event.lines)
            case FilesArrived():
                self._take_files(event)
            case StreamOpened() | StreamClosed():
                self._queue.append(event)
            case SegmentNamed():
                segment = self._enqueue(event.number)
                self._soon(lambda: self._answer_segment(event, segment))
            case ChunksListed():
                segment = self._open.get(event.number) or self._enqueue(event.number)
                self._soon(lambda: self._list(event, segment))
            case PiecesListed():
                self._soon(lambda: self._compare(event, self._open[event.number]))
            case SegmentArrived():
                segment = self._enqueue(event.number)
                segment.lengths, segment.blocks, segment.ready = event.lengths, event.blocks, True
                self.literal_bytes += sum(map(len, event.blocks))
            case ChunksArrived():
                segment = self._open[event.number]
                segment.blocks, segment.ready = event.blocks, True
                self.literal_bytes += sum(map(len, event.blocks))
            case FinishRequested():
                self.finished = True
        self._soon(self._advance)

    def _soon(self, answer: Callable[[], None]) -> None:
        self._later.append(answer)
        while self._later and self._chance.random() < 0.6:
            self.work()

    # Pages.

    def _answer_page(self, event: PageNamed, page: _Page) -> None:
        lines = self._knowledge.pages.get(event.digest)
        self._receiver.answer_page(event.number, known=lines is not None)
        if lines is not None:
            self._begin_page(event.number, page, lines)

    def _answer_read_page(self, number: int, page: _Page) -> None:
        """A page that was read before the link was lost: only what it lacks is asked for."""
        page.unnamed = False
        known = page.known or [False] * len(page.contents)
        missing = [data is None and not there for data, there in zip(page.contents, known, strict=True)]
        self._receiver.answer_page(number, known=True)
        if any(missing):
            self._receiver.want_files(number, missing)

    def _begin_page(self, number: int, page: _Page, lines: bytes) -> None:
        page.lines = lines
        contents = self._plan[lines]
        page.contents = [None] * len(contents)
        if page.with_files:
            return
        page.known = [data in self._knowledge.smalls for data in contents]
        if not all(page.known):
            self._receiver.want_files(number, [not known for known in page.known])

    def _take_files(self, event: FilesArrived) -> None:
        page = self._pages[event.page]
        assert page.lines is not None
        lengths = lengths_in(page.lines, self._plan)
        assert len(event.present) == len(lengths)
        chosen = [number for number, present in enumerate(event.present) if present]
        parts = split_blocks(event.blocks, [lengths[number] for number in chosen])
        for number, part in zip(chosen, list(parts), strict=True):
            page.contents[number] = bytes(part)
            self.literal_bytes += len(part)

    def _store_page(self, number: int, page: _Page) -> bool:
        assert page.lines is not None
        for position, data in enumerate(self._plan[page.lines]):
            if page.contents[position] is not None:
                continue
            if not page.known or not page.known[position]:
                return False
            page.known[position] = False
            if not self._knowledge.smalls[data]:
                self._receiver.want_files(number, [at == position for at in range(len(page.contents))])
                return False
            page.contents[position] = data
        self.pages.append((page.lines, [data for data in page.contents if data is not None]))
        return True

    # Streams.

    def _enqueue(self, number: int) -> _Segment:
        segment = self._open[number] = _Segment(number)
        self._queue.append(segment)
        return segment

    def _answer_segment(self, event: SegmentNamed, segment: _Segment) -> None:
        known = self._knowledge.segments.get(event.digest)
        if known is not None:
            segment.rows, segment.whole, segment.whole_good = known
            segment.ready = True
            assert len(known[1]) == event.size
        self._receiver.answer_segment(event.number, known=known is not None, rows=len(known[0]) if known else 0)

    def _list(self, event: ChunksListed, segment: _Segment) -> None:
        segment.rows, segment.whole = event.rows, None
        found = [None if row.is_zeros else self._knowledge.chunks.get(row.digest) for row in event.rows]
        segment.places = [place[0] if place else None for place in found]
        segment.bad = [place is not None and not place[1] for place in found]
        self._need(segment, event.rows, refine=True)

    def _need(self, segment: _Segment, rows: list[Row], *, refine: bool = False) -> None:
        segment.lacked = [place is None and not row.is_zeros for place, row in zip(segment.places, rows, strict=True)]
        segment.ready, segment.blocks = False, []
        segment.gaps = list(self._some_gaps(rows, segment.lacked)) if refine else []
        segment.named, segment.found = list(range(len(segment.gaps))), {}
        size = sum(row.length for row, lacked in zip(rows, segment.lacked, strict=True) if lacked)
        self._receiver.need_chunks(segment.number, segment.lacked, size, segment.gaps)

    # Pieces.

    def _some_gaps(self, rows: list[Row], lacked: list[bool]) -> Iterator[Gap]:
        """Runs of lacked rows, any of them, cut in any way: what an honest vault may ask for."""
        first = 0
        while first < len(rows):
            count = 0
            while first + count < len(rows) and lacked[first + count] and self._chance.random() < 0.9:
                count += 1
            if count and self._chance.random() < 0.7:
                size = sum(row.length for row in rows[first : first + count])
                phase = self._chance.choice([None, 0, self._chance.randrange(GRID_PIECE)])
                yield Gap(first, count, size, phase)
            first += max(count, 1)

    def _basis_of(self, segment: _Segment, gap: Gap) -> bytes:
        rows = (segment.rows or [])[gap.first : gap.first + gap.count]
        return b"".join(self._knowledge.similar.get(row.digest, b"") for row in rows)

    def _compare(self, event: PiecesListed, segment: _Segment) -> None:
        asked, segment.named = segment.named, []
        missing: list[bool] = []
        spared = 0
        for number, lengths, digests in zip(asked, event.lengths, event.digests, strict=True):
            gap = segment.gaps[number]
            offsets = find_pieces(PIECE_KEY, gap, lengths, digests, self._basis_of(segment, gap))
            if gap.phase is not None and self._chance.random() < 0.3:
                segment.gaps[number] = replace(gap, phase=None)
                segment.named.append(number)
                missing += [False] * len(lengths)
                continue
            if self._chance.random() < 0.1 and offsets[-1] == ABSENT and len(self._basis_of(segment, gap)) >= lengths[-1]:
                offsets[-1] = 0  # as if a digest had fitted by accident
            segment.found[number] = (lengths, offsets)
            missing += [offset == ABSENT for offset in offsets]
            spared += sum(length for length, offset in zip(lengths, offsets, strict=True) if offset != ABSENT)
        self._receiver.need_pieces(event.number, missing, spared, [number in segment.named for number in asked])

    def _advance(self) -> None:
        stored = None
        while self._queue:
            head = self._queue[0]
            if isinstance(head, _Segment):
                data = self._store_segment(head) if head.ready else None
                if data is None:
                    break
                assert self._content is not None
                self._content += data
                del self._open[head.number]
                self._stored = stored = head.number + 1
            elif isinstance(head, StreamOpened):
                assert self._content is None
                self._content = bytearray()
                self._stream_size = head.size
            else:
                self._close_stream(head)
            self._queue.popleft()
        if stored is not None:
            self._receiver.segments_stored(stored)
        before = self._next_page
        while (page := self._pages.get(self._next_page)) is not None and page.lines is not None:
            if page.unnamed or not self._store_page(self._next_page, page):
                break
            del self._pages[self._next_page]
            self._next_page += 1
        if self._next_page != before:
            self._receiver.pages_stored(self._next_page)

    def _store_segment(self, segment: _Segment) -> bytes | None:
        if segment.lengths is not None:
            parts = iter(list(split_blocks(segment.blocks, [length for length in segment.lengths if length > 0])))
            return b"".join(bytes(-length) if length < 0 else bytes(next(parts)) for length in segment.lengths)
        rows = segment.rows or []
        if segment.whole is not None:
            if segment.whole_good:
                return segment.whole
            segment.whole, segment.rows, segment.ready = None, None, False
            self._receiver.ask_again(segment.number)
            return None
        if any(segment.bad):
            segment.places = [None if bad else place for place, bad in zip(segment.places, segment.bad, strict=True)]
            segment.bad = [False] * len(rows)
            self._need(segment, rows)
            return None
        arrived = self._arrived(segment, rows)
        wrong = [row for number, row in enumerate(rows) if number in arrived and chunk_digest_of(arrived[number]) != row.digest]
        if wrong:  # the similar bytes had a piece's digest and were others
            assert segment.found
            self._need(segment, rows)
            return None
        return b"".join(
            bytes(row.length) if row.is_zeros else arrived.get(number, segment.places[number] or b"")
            for number, row in enumerate(rows)
        )

    def _arrived(self, segment: _Segment, rows: list[Row]) -> dict[int, bytes]:
        refined = {row for gap in segment.gaps for row in range(gap.first, gap.first + gap.count)}
        whole = [number for number, lacked in enumerate(segment.lacked) if lacked and number not in refined]
        sizes = [rows[number].length for number in whole]
        for number in range(len(segment.gaps)):
            lengths, offsets = segment.found[number]
            sizes += [length for length, offset in zip(lengths, offsets, strict=True) if offset == ABSENT]
        parts = iter(list(split_blocks(segment.blocks, sizes)))
        arrived = {number: bytes(next(parts)) for number in whole}
        for number, gap in enumerate(segment.gaps):
            data = rebuild(*segment.found[number], self._basis_of(segment, gap), parts)
            assert len(data) == gap.size
            start = 0
            for row in range(gap.first, gap.first + gap.count):
                arrived[row] = data[start : start + rows[row].length]
                start += rows[row].length
        return arrived

    def _close_stream(self, closed: StreamClosed) -> None:
        content, self._content = self._content, None
        assert content is not None
        assert (closed.size, closed.blake3) == (len(content), Blake3Digest(blake3_of(content)))
        self.streams.append(bytes(content))


def digest_of_rows(rows: list[Row]) -> bytes:
    """By what a segment is named."""
    return segment_digest(rows)
