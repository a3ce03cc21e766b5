"""Receives streams: assembles larger contents in order, from arriving data and the vault's own, and digests every byte."""

from __future__ import annotations

from collections import deque
from functools import partial

import msgspec

from evidencesync.delta.refine import Anchor
from evidencesync.delta.rows import Row, segment_digest
from evidencesync.errors import DigestMismatchError, LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Blake3Digest, SegmentDigest, Sha256Digest
from evidencesync.ingest.assembly import AssembledContent, Assembly
from evidencesync.ingest.basis import tree_key
from evidencesync.ingest.context import IngestContext
from evidencesync.ingest.kept import KeptFiles
from evidencesync.ingest.segments import AlignmentHint, OpenSegment, Place, Refiner, SegmentStore, rows_of
from evidencesync.limits import MAX_OPEN_SEGMENTS, MAX_UNLISTED_CONTENTS, SMALL_FILE
from evidencesync.protocol.receiver import (
    ChunksArrived,
    ChunksListed,
    PiecesListed,
    Receiver,
    SegmentArrived,
    SegmentNamed,
    StreamClosed,
    StreamKept,
    StreamOpened,
    StreamResembles,
)
from evidencesync.vault.layout import Location
from evidencesync.vault.resume.leftovers import Leftovers
from evidencesync.vault.staged_files import StagedContent
from evidencesync.vault.staging import Staging


class StoredCounts(msgspec.Struct, frozen=True):
    """How many segments and streams are stored, and how many bytes the open stream may still have (None: none is open)."""

    segments: int
    streams: int
    left: int | None


class StreamIntake:
    """Handles the events of streams in the order they come; stores segments strictly in order of their numbers."""

    def __init__(self, context: IngestContext, staging: Staging, leftovers: Leftovers) -> None:
        self.literal_bytes = 0
        self._contents: deque[AssembledContent] = deque()
        self._receiver = context.receiver
        self._index = context.index
        self._scope = context.scope
        self._basis = context.basis
        self._staging = staging
        self._leftovers = leftovers
        self._refiner = Refiner(context.basis, context.piece_key)
        self._segments = SegmentStore(context, staging, self._refiner)
        self._from_disk = context.from_disk
        self._previous = context.previous
        self._session_contents = context.session_contents
        self._content = context.session_contents.begin()
        self._promised: dict[SegmentDigest, tuple[int, AlignmentHint]] = {}  # not stored yet; the first of each
        self._queue: deque[AlignmentHint | OpenSegment | StreamClosed | StreamKept] = deque()
        self._kept = KeptFiles(context)
        self._is_lost = False  # a kept content was not found: nothing after it is stored
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
        """Where a sender that has reconnected has to continue."""
        left = self._stream_size - self._assembly.size if self._assembly is not None else None
        return StoredCounts(self._stored, self._streams, left)

    def rewind(self, receiver: Receiver) -> None:
        """Drops what has not been stored: the sender sends it again, and is answered through this receiver."""
        self._receiver = receiver
        self._queue.clear()
        self._is_lost = False  # the answer may be lost, too
        self._open.clear()
        self._promised.clear()
        self._acknowledged = self._stored
        self._alignment = AlignmentHint(self._content)
        self._announced = self._assembly.size if self._assembly is not None else 0

    def take(self, blake3: Blake3Digest) -> AssembledContent | None:
        """Hands over a complete content to the caller; None where it is not complete yet.

        Contents come in the order in which pages list them: the ones before it belong to files that could not be read to their
        end, and are discarded.
        """
        if all(content.blake3 != blake3 for content in self._contents):
            return None
        while (content := self._contents.popleft()).blake3 != blake3:
            self._session_contents.drop(content.session_content)
            _discard(content.staged)
        return content

    def close(self) -> None:
        """Closes every content that no page has taken."""
        self._kept.close()
        assembly, self._assembly = self._assembly, None
        if assembly is not None:
            assembly.close()
        for content in self._contents:
            if content.staged is not None:
                content.staged.close()
        self._contents.clear()

    def on_opened(self, event: StreamOpened) -> None:
        """Handles the beginning of a content."""
        self._alignment, self._announced = AlignmentHint(self._session_contents.begin(), event.size), 0
        self._enqueue_event(self._alignment)

    def on_resembles(self, event: StreamResembles) -> None:
        """Aligns the content that begins with the file at its path in the previous acquisition, as a basis for pieces."""
        found = self._basis.find_path(self._previous, event.path.raw)
        if found is not None:
            self._alignment.place = Anchor(found, 0)

    def on_closed(self, event: StreamClosed | StreamKept) -> None:
        """Handles the end of a content, or one that the previous acquisition is said to have at a path."""
        self._enqueue_event(event)

    def on_named(self, event: SegmentNamed) -> None:
        """Handles a segment that is named by its digest: the vault has it, or requests its rows."""
        segment = self._enqueue(event.number, event.size)
        found = self._session_contents.find_segment(event.digest)
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
        """Handles the rows of a segment: requests those that the vault lacks."""
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
        """Handles the pieces of gaps: requests those that the basis lacks."""
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
        """Handles a whole segment that was sent without being named first."""
        segment = self._enqueue(event.number, sum(map(abs, event.lengths)))
        segment.lengths, segment.blocks, segment.ready = event.lengths, event.blocks, True
        segment.rows = rows_of(event.lengths, event.blocks)
        self._promise(segment, segment_digest(segment.rows))
        self.literal_bytes += sum(map(len, event.blocks))
        self.advance()

    def on_chunks(self, event: ChunksArrived) -> None:
        """Handles the rows and pieces that were requested."""
        segment = self._open[event.number]
        segment.blocks = event.blocks
        segment.ready = True
        self.literal_bytes += sum(map(len, event.blocks))
        self.advance()

    def advance(self) -> None:
        """Stores the next segments in order, as far as they have arrived."""
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
                    head.size, new_content, self._take_over, self._basis, self._staging.rows, from_disk=self._from_disk
                )
            elif isinstance(head, StreamKept):
                if not self._take_kept(head):
                    break
            else:
                self._complete(head)
            self._queue.popleft()
        if self._stored != self._acknowledged:
            self._acknowledged = self._stored
            self._receiver.segments_stored(self._stored)

    def _enqueue_event(self, event: AlignmentHint | StreamClosed | StreamKept) -> None:
        # At least one open segment stands between two of them, except for the rare file that was emptied while it was read.
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
        """Returns the places in the basis just before a segment and just after it, as far as they are known or can be guessed.

        The nearest known place is best. Segments are not listed in the order of their numbers, so the guess uses the latest
        known alignment.
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
        """Stores a segment; returns False where its basis is damaged, and the missing rows were requested instead."""
        if self._assembly is None:
            raise ProtocolError("a segment without a stream")
        if segment.twin is not None and segment.rows is None:
            found = self._session_contents.find_segment(segment.twin)
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
        """Remembers a segment that is not stored yet: later segments are stored after it, and may rely on it."""
        if digest not in self._promised:
            self._promised[digest] = segment.number, segment.alignment
            segment.promised.add(digest)

    def _is_promised(self, digest: SegmentDigest, segment: OpenSegment) -> bool:
        """Returns whether an earlier content of this session will have this segment by the time that this one is stored."""
        earlier = self._promised.get(digest)
        if earlier is not None:
            return earlier[1] is not segment.alignment
        return self._session_contents.is_coming(digest, segment.alignment.content)

    def _keep(self, segment: OpenSegment, offset: int, rows: list[Row]) -> None:
        """Remembers a stored segment for later contents of this session."""
        self._session_contents.add_segment(self._content, offset, rows)
        for digest in segment.promised:
            del self._promised[digest]

    def _take_over(self, location: Location) -> StagedContent | None:
        """Takes over a file that an interrupted session had begun, to continue it; None where it may not be overwritten."""
        leftovers = self._leftovers
        if not leftovers.may_take(location):
            return None
        files = self._basis.tree(tree_key(location))
        staged = self._staging.take_over(leftovers.name_of(location), files, location.path, self._streams)
        if staged is not None:
            leftovers.mark_taken(location)
        return staged

    def _complete(self, closed: StreamClosed) -> None:
        """Completes a content, if its digest is the one that the source computed: the third check, after size and order."""
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
        if assembly.size <= SMALL_FILE:  # it shrank while it was read, and is sent with its page: see PageIntake
            assembly.discard()
            self._session_contents.drop(self._content)
            self._assembly = None
            return
        existing = assembly.existing
        staged = sha256 = None
        if existing is None or existing.size != assembly.size or existing.blake3 != blake3:
            staged, existing = assembly.in_staging(), None
            staged.finish()
        elif assembly.sha256 is not None:
            sha256 = Sha256Digest(assembly.sha256.digest())
        recipe = assembly.recipe.finish(blake3)
        self._session_contents.complete(self._content, blake3, assembly.size, staged, existing)
        self._add_content(
            AssembledContent(blake3, assembly.size, recipe, staged, assembly.shared, existing, sha256, self._content)
        )
        self._assembly = None

    def _take_kept(self, kept: StreamKept) -> bool:
        """Takes a content from the previous acquisition; False where it is not there as it was: the sender then ends this."""
        found = None if self._is_lost else self._kept.find(kept)
        if found is None:
            if not self._is_lost:
                self._receiver.keep_lost(kept.stream)
            self._is_lost = True
            return False
        self._streams += 1
        content = self._session_contents.begin()
        self._session_contents.complete(content, kept.blake3, kept.size, None, found.location)
        self._add_content(AssembledContent(kept.blake3, kept.size, None, None, 0, found.location, found.sha256, content))
        return True

    def _add_content(self, content: AssembledContent) -> None:
        if len(self._contents) >= MAX_UNLISTED_CONTENTS:
            raise LimitExceededError("too many contents that no page lists")
        self._contents.append(content)


def _discard(staged: StagedContent | None) -> None:
    if staged is not None:
        staged.discard()
