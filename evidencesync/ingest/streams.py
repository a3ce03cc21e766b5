"""Assembles larger contents from what arrives and from what the vault has, in order, and digests every byte of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial

from evidencesync.delta.refine import Anchor
from evidencesync.delta.rows import Row, segment_digest
from evidencesync.errors import DigestMismatchError, LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Blake3Digest, SegmentDigest, Sha256Digest
from evidencesync.ingest.assembly import AssembledContent, Assembly
from evidencesync.ingest.basis import tree_key
from evidencesync.ingest.context import IngestContext
from evidencesync.ingest.segments import AlignmentHint, OpenSegment, Place, Refiner, SegmentStore, rows_of
from evidencesync.limits import MAX_OPEN_SEGMENTS, MAX_UNLISTED_CONTENTS, SMALL_FILE
from evidencesync.protocol.events import (
    ChunksArrived,
    ChunksListed,
    PiecesListed,
    SegmentArrived,
    SegmentNamed,
    StreamClosed,
    StreamOpened,
    StreamResembles,
)
from evidencesync.protocol.receiver import Receiver
from evidencesync.vault.content import StagedContent
from evidencesync.vault.layout import Location
from evidencesync.vault.resume.leftovers import Leftovers
from evidencesync.vault.staging import Staging


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """How many segments and how many streams are stored, and how many bytes the open stream may still have."""

    segments: int
    streams: int
    left: int | None


class StreamIntake:
    """Takes the events of streams in the order they come; stores segments strictly in order of their numbers."""

    def __init__(self, vault: IngestContext, staging: Staging, leftovers: Leftovers) -> None:
        self.literal_bytes = 0
        self._contents: deque[AssembledContent] = deque()
        self._receiver = vault.receiver
        self._index = vault.index
        self._scope = vault.scope
        self._basis = vault.basis
        self._staging = staging
        self._leftovers = leftovers
        self._refiner = Refiner(vault.basis, vault.piece_key)
        self._segments = SegmentStore(vault, staging, self._refiner)
        self._from_disk = vault.from_disk
        self._previous = vault.previous
        self._present = vault.present
        self._content = vault.present.begin()
        self._promised: dict[SegmentDigest, tuple[int, AlignmentHint]] = {}  # not stored yet; the first of each
        self._queue: deque[AlignmentHint | OpenSegment | StreamClosed] = deque()
        self._open: dict[int, OpenSegment] = {}
        self._assembly: Assembly | None = None
        self._streams = 0
        self._stream_size = 0
        self._alignment = AlignmentHint(self._content)  # of the content that was opened last, and how much of it was announced
        self._announced = 0
        self._stored = 0
        self._acknowledged = 0

    @property
    def is_idle(self) -> bool:
        """Whether everything that was announced is assembled."""
        return not self._queue and self._assembly is None

    @property
    def zero_bytes(self) -> int:
        """How many bytes were runs of zeros."""
        return self._segments.zero_bytes

    @property
    def stored(self) -> StoredCounts:
        """Where a sender has to go on whose link was lost."""
        left = self._stream_size - self._assembly.size if self._assembly is not None else None
        return StoredCounts(self._stored, self._streams, left)

    def rewind(self, receiver: Receiver) -> None:
        """Drops what has not been stored: it comes again, and is answered through this receiver."""
        self._receiver = receiver
        self._queue.clear()
        self._open.clear()
        self._promised.clear()
        self._acknowledged = self._stored
        self._alignment = AlignmentHint(self._content)
        self._announced = self._assembly.size if self._assembly is not None else 0

    def take(self, blake3: Blake3Digest) -> AssembledContent | None:
        """A complete content, which is the caller's from now on.

        Contents come in the order in which they are listed: those before it are of files that could not be read to their
        end. They are let go.
        """
        if all(content.blake3 != blake3 for content in self._contents):
            return None
        while (content := self._contents.popleft()).blake3 != blake3:
            self._present.drop(content.present)
            _discard(content.staged)
        return content

    def close(self) -> None:
        """Lets go of every content that no page has taken."""
        assembly, self._assembly = self._assembly, None
        if assembly is not None:
            assembly.close()
        for content in self._contents:
            if content.staged is not None:
                content.staged.close()
        self._contents.clear()

    def on_opened(self, event: StreamOpened) -> None:
        """A content begins."""
        self._alignment, self._announced = AlignmentHint(self._present.begin(), event.size), 0
        self._enqueue_event(self._alignment)

    def on_resembles(self, event: StreamResembles) -> None:
        """The content that begins may be like the file that was at its path before: a place to compare pieces with."""
        found = self._basis.find_path(self._previous, event.path.raw)
        if found is not None:
            self._alignment.place = Anchor(found, 0)

    def on_closed(self, event: StreamClosed) -> None:
        """A content ends."""
        self._enqueue_event(event)

    def on_named(self, event: SegmentNamed) -> None:
        """A segment is named: the vault has it, or its rows are asked for."""
        segment = self._enqueue(event.number, event.size)
        found = self._present.find_segment(event.digest)
        if found is None and self._is_promised(event.digest, segment):
            segment.twin, segment.ready = event.digest, True
            self._receiver.answer_segment(event.number, known=True, rows=0)
            self.advance()
            return
        if found is None:
            found = self._index.find_segment(event.digest, segment.start, self._scope)
        if found is not None:
            location, offset, rows = found
            if sum(row.length for row in rows) == event.size:
                segment.rows, segment.whole, segment.ready = rows, (location, offset), True
                segment.set_end(Anchor(location, offset + event.size))
        self._promise(segment, event.digest)
        self._receiver.answer_segment(event.number, known=segment.ready, rows=len(segment.rows or ()))
        self.advance()

    def on_listed(self, event: ChunksListed) -> None:
        """The rows of a segment: what the vault lacks is asked for."""
        segment = self._open.get(event.number) or self._enqueue(event.number, sum(row.length for row in event.rows))
        segment.rows = event.rows
        segment.whole = None
        self._promise(segment, segment_digest(event.rows))
        wanted = [row.digest for row in event.rows if not row.is_zeros]
        found = self._index.find_chunks(wanted, self._scope)
        segment.places = []
        for row in event.rows:
            place = found.get(row.digest)
            usable = place is not None and place[2] == row.length
            segment.places.append(Anchor(place[0], place[1]) if place is not None and usable else None)
        before, after = self._neighbours(segment)
        segment.gaps, end = self._refiner.choose(event.rows, segment.places, before, after)
        segment.set_end(end)
        self._ask_for_missing(segment, event.rows)
        self.advance()

    def on_pieces(self, event: PiecesListed) -> None:
        """The pieces of gaps: those that the basis lacks are asked for."""
        segment = self._open[event.number]
        asked, segment.named = segment.named, []
        missing: list[bool] = []
        spared = 0
        for number, lengths, digests in zip(asked, event.lengths, event.digests, strict=True):
            refined = self._refiner.compare(segment.gaps[number], lengths, digests)
            second = self._refiner.second_look(refined, segment.refined.get(number))
            segment.refined[number] = refined
            if second is not None:
                segment.gaps[number] = second
                segment.named.append(number)
            missing += [False] * len(lengths) if second is not None else refined.lacked()
            spared += 0 if second is not None else refined.found
        self._receiver.need_pieces(event.number, missing, spared, [number in segment.named for number in asked])

    def on_segment(self, event: SegmentArrived) -> None:
        """A whole segment that was not asked about."""
        segment = self._enqueue(event.number, sum(map(abs, event.lengths)))
        segment.lengths, segment.blocks, segment.ready = event.lengths, event.blocks, True
        segment.rows = rows_of(event.lengths, event.blocks)
        self._promise(segment, segment_digest(segment.rows))
        self.literal_bytes += sum(map(len, event.blocks))
        self.advance()

    def on_chunks(self, event: ChunksArrived) -> None:
        """The rows and pieces that were asked for."""
        segment = self._open[event.number]
        segment.blocks = event.blocks
        segment.ready = True
        self.literal_bytes += sum(map(len, event.blocks))
        self.advance()

    def advance(self) -> None:
        """Stores what is next in order, as far as it is there."""
        while self._queue:
            head = self._queue[0]
            if isinstance(head, OpenSegment):
                if not head.ready or not self._store(head):
                    break
                del self._open[head.number]
                self._stored = head.number + 1
            elif isinstance(head, AlignmentHint):
                self._stream_size = head.size
                new_content = partial(self._staging.new_content, self._streams)
                self._content = head.content
                self._assembly = Assembly(
                    new_content, self._take_over, self._basis, self._staging.rows, from_disk=self._from_disk
                )
            else:
                self._complete(head)
            self._queue.popleft()
        if self._stored != self._acknowledged:
            self._acknowledged = self._stored
            self._receiver.segments_stored(self._stored)

    def _enqueue_event(self, event: AlignmentHint | StreamClosed) -> None:
        # Between two of them stands at least one open segment, but for the rare file that was emptied while it was read.
        if len(self._queue) > 4 * MAX_OPEN_SEGMENTS:
            raise LimitExceededError("too many contents at once")
        self._queue.append(event)
        self.advance()

    def _enqueue(self, number: int, size: int) -> OpenSegment:
        segment = self._open[number] = OpenSegment(number, self._alignment, self._announced, size)
        self._announced += size
        self._queue.append(segment)
        return segment

    def _neighbours(self, segment: OpenSegment) -> tuple[Place | None, Place | None]:
        """Where the vault has what stands before a segment and after it, as far as that is known or can be guessed.

        Nearest is best. Segments are not listed in the order of their numbers, so a guess is made from what is known latest.
        """
        previous, following = self._open.get(segment.number - 1), self._open.get(segment.number + 1)
        alignment = segment.alignment
        before = previous.end if previous is not None and previous.alignment is alignment else None
        if before is None and alignment.place is not None:
            before = alignment.place.moved(segment.start - alignment.at)
        after = None
        if following is not None and following.alignment is alignment and following.whole is not None:
            after = Anchor(*following.whole)
        return before, after

    def _ask_for_missing(self, segment: OpenSegment, rows: list[Row]) -> None:
        missing = segment.lacked(rows)
        size = sum(row.length for row, lacked in zip(rows, missing, strict=True) if lacked)
        segment.blocks = []
        segment.refined = {}
        segment.named = list(range(len(segment.gaps)))
        segment.ready = False
        self._receiver.need_chunks(segment.number, missing, size, [gap.gap for gap in segment.gaps])

    # Storing.

    def _store(self, segment: OpenSegment) -> bool:
        """Whether it is stored. If not, a basis has proved bad, and what is missing was asked for."""
        if self._assembly is None:
            raise ProtocolError("a segment without a stream")
        if segment.twin is not None and segment.rows is None:
            found = self._present.find_segment(segment.twin)
            if found is not None and sum(row.length for row in found[2]) == segment.size:
                segment.whole, segment.rows = found[:2], found[2]
        offset = self._assembly.size
        if segment.rows is not None and self._segments.store(self._assembly, self._streams, segment):
            self._keep(segment, offset, segment.rows)
            return True
        segment.ready, segment.twin = False, None
        if segment.rows is None:
            self._receiver.ask_again(segment.number)
        else:
            self._ask_for_missing(segment, segment.rows)
        return False

    def _promise(self, segment: OpenSegment, digest: SegmentDigest) -> None:
        """Remembers that a segment is on its way: what comes after it is stored after it."""
        if digest not in self._promised:
            self._promised[digest] = segment.number, segment.alignment
            segment.promised.add(digest)

    def _is_promised(self, digest: SegmentDigest, segment: OpenSegment) -> bool:
        """Whether a content before the one of this segment will have it: it is on its way, or stored in what is not whole yet."""
        earlier = self._promised.get(digest)
        if earlier is not None:
            return earlier[1] is not segment.alignment
        return self._present.is_coming(digest, segment.alignment.content)

    def _keep(self, segment: OpenSegment, offset: int, rows: list[Row]) -> None:
        """A segment is stored: later contents of this session may have it, too."""
        self._present.add_segment(self._content, offset, rows)
        for digest in segment.promised:
            del self._promised[digest]

    def _take_over(self, location: Location) -> StagedContent | None:
        """A file that an interrupted session had begun, to go on with it: its own bytes may be overwritten."""
        leftovers = self._leftovers
        if not leftovers.may_take(location):
            return None
        files = self._basis.tree(tree_key(location))
        staged = self._staging.take_over(leftovers.name_of(location), files, location.path, self._streams)
        if staged is not None:
            leftovers.mark_taken(location)
        return staged

    def _complete(self, closed: StreamClosed) -> None:
        """The third check of a content, after size and order: its whole digest is the one that the source computed."""
        assembly = self._assembly
        self._streams += 1
        if assembly is None:
            raise ProtocolError("the end of a content that was not begun")
        blake3 = Blake3Digest(assembly.blake3.digest())
        if closed.size != assembly.size or closed.blake3 != blake3:
            raise DigestMismatchError(
                f"a content arrived that is not the one that was read at the source: {closed.size} bytes, "
                f"BLAKE3 {closed.blake3.hex()}"
            )
        if assembly.size <= SMALL_FILE:  # it shrank while it was read, and comes with its page: see PageIntake
            assembly.discard()
            self._present.drop(self._content)
            self._assembly = None
            return
        if len(self._contents) >= MAX_UNLISTED_CONTENTS:
            raise LimitExceededError("too many contents that no page lists")
        existing = assembly.existing
        staged = sha256 = None
        if existing is None or existing.size != assembly.size or existing.blake3 != blake3:
            staged, existing = assembly.in_staging(), None
            staged.finish()
        elif assembly.sha256 is not None:
            sha256 = Sha256Digest(assembly.sha256.digest())
        recipe = assembly.recipe.finish(blake3)
        self._present.complete(self._content, blake3, assembly.size, staged, existing)
        self._contents.append(
            AssembledContent(blake3, assembly.size, recipe, staged, assembly.shared, existing, sha256, self._content)
        )
        self._assembly = None


def _discard(staged: StagedContent | None) -> None:
    if staged is not None:
        staged.discard()
