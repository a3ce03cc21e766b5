"""Sends a transfer between `Ready` and `Finish`, as a state machine without I/O, and keeps everything that is not stored yet.

Two things are sent, each numbered from 0 in order. *Pages* are runs of manifest lines, together with the contents of their small
files. *Segments* are parts of larger contents, between `Open` and `Close` of their stream. Bytes are kept until the receiver has
stored them; `has_room` bounds them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from evidencesync.delta.chunker import Segment
from evidencesync.errors import ProtocolError
from evidencesync.evidence.digest import Blake3Digest
from evidencesync.limits import MAX_OPEN_PAGES, MAX_OPEN_ROWS, MAX_OPEN_SEGMENTS, WINDOW
from evidencesync.protocol.data_frames import Compress, Outgoing
from evidencesync.protocol.messages import (
    Close,
    Kept,
    KeptLost,
    Message,
    Need,
    NeedPieces,
    Open,
    PageAnswer,
    PagesStored,
    Resembles,
    Resumed,
    SegmentAnswer,
    SegmentsStored,
    Want,
)
from evidencesync.protocol.outgoing_segments import OutgoingSegments, StoredBefore
from evidencesync.protocol.pages import ContentNotRead, OutgoingPages, PageContent


class SentPage(msgspec.Struct, frozen=True):
    """A page of manifest lines."""

    number: int


class SentSegment(msgspec.Struct, frozen=True):
    """A segment of the open stream."""

    number: int


class OpenedStream(msgspec.Struct, frozen=True):
    """A stream's beginning. `next_segment` is the number of its first segment."""

    stream: int
    size: int
    path: bytes
    next_segment: int


class ClosedStream(msgspec.Struct, frozen=True):
    """A stream's end. `next_segment` is the number of the first segment after it."""

    stream: int
    size: int
    blake3: Blake3Digest
    next_segment: int


class KeptStream(msgspec.Struct, frozen=True):
    """A content that was not read, in place of a stream. `next_page` is the number of the page that lists it."""

    stream: int
    size: int
    blake3: Blake3Digest
    path: bytes
    next_page: int

    @property
    def message(self) -> Kept:
        """What is sent of it."""
        return Kept(self.stream, self.size, self.blake3, self.path)


Sent = SentPage | SentSegment | OpenedStream | ClosedStream | KeptStream
_COMPACTED: Final = 1024  # items that are stored are looked for behind others where there are more, and twice as many as then


class ReplayLog:
    """Remembers the order of what was sent and is not stored, a few bytes for each item, to send it again over a new link."""

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque()
        self._most = _COMPACTED
        self._pages = 0
        self._segments = 0

    def add(self, sent: Sent) -> None:
        """Records an item that was sent."""
        self._sent.append(sent)

    def drop_stored(self, *, pages: int, segments: int) -> None:
        """Forgets all pages and segments below these numbers, which are stored."""
        self._pages, self._segments = pages, segments
        while self._sent and self._is_stored(self._sent[0]):
            self._sent.popleft()
        if len(self._sent) > self._most:
            self._sent = deque(sent for sent in self._sent if not self._is_stored(sent))
            self._most = max(_COMPACTED, 2 * len(self._sent))

    def since(self, resumed: Resumed) -> Iterator[Sent]:
        """Yields the items that must be sent again to a receiver in this state."""
        streams_begun = resumed.streams + resumed.stream_open
        for sent in self._sent:
            match sent:
                case SentPage(number):
                    has = number < resumed.pages
                case SentSegment(number):
                    has = number < resumed.segments
                case OpenedStream(stream):
                    has = stream < streams_begun
                case _:
                    has = sent.stream < resumed.streams
            if not has:
                yield sent

    def _is_stored(self, sent: Sent) -> bool:
        """Returns whether an item is stored. A stream's beginning or end is stored if a segment after it is."""
        match sent:
            case SentPage(number):
                return number < self._pages
            case SentSegment(number):
                return number < self._segments
            case OpenedStream() | ClosedStream():
                return sent.next_segment < self._segments
            case KeptStream():
                return sent.next_page < self._pages


class Sender:
    """The state of the sending end. Call `take_output` after every call, and send its frames in order.

    `first_page` is the number of the first page of this sender, where earlier pages come from another one.
    """

    def __init__(
        self,
        *,
        knows_nothing: bool,
        has_previous: bool,
        piece_key: bytes,
        compress: Compress,
        clock: Callable[[], float],
        first_page: int = 0,
    ) -> None:
        self._out = Outgoing(compress, clock)
        self.counts = self._out.counts
        self.data = self._out.data
        self._has_previous = has_previous
        self._pages = OutgoingPages(self._out, first_page, knows_nothing=knows_nothing, has_previous=has_previous)
        self._segments = OutgoingSegments(self._out, knows_nothing=knows_nothing, piece_key=piece_key)
        self._next_stream = 0
        self._kept: dict[int, KeptStream] = {}  # whose page is not stored
        self._log = ReplayLog()

    # State.

    @property
    def has_room(self) -> bool:
        """Whether more may be added: the window of bytes and of open things is not full."""
        return (
            self._pages.held_bytes + self._segments.held_bytes < WINDOW
            and self._pages.open < MAX_OPEN_PAGES
            and self._segments.open < MAX_OPEN_SEGMENTS
            and self._segments.rows < MAX_OPEN_ROWS
            and len(self._kept) < MAX_OPEN_SEGMENTS
        )

    @property
    def pages_sent(self) -> int:
        """How many pages there are so far."""
        return self._pages.count

    @property
    def all_stored(self) -> bool:
        """Whether the receiver has stored everything that was added."""
        return not self._pages.open and not self._segments.open

    @property
    def stored(self) -> tuple[int, int]:
        """How many pages, and how many segments, the receiver says that it has stored."""
        return self._pages.stored, self._segments.stored

    def take_output(self) -> list[bytes]:
        """The frames to send now, in order."""
        return self._out.take()

    # Adding items.

    def add_page(self, lines: bytes, contents: Sequence[PageContent]) -> None:
        """A page of whole manifest lines, and the contents of its small files in line order (empty files have none)."""
        self._log.add(SentPage(self._pages.count))
        self._pages.add(lines, contents)

    def open_stream(self, size: int, path: bytes = b"") -> None:
        """A content of at most `size` bytes follows in segments, and is the file at `path`."""
        self._log.add(OpenedStream(self._next_stream, size, path, self._segments.count))
        self._send_open(self._next_stream, size, path)

    def add_segment(self, segment: Segment) -> None:
        """The next segment of the open stream."""
        self._log.add(SentSegment(self._segments.count))
        self._segments.add(segment)

    def add_stored_before(self, before: StoredBefore) -> None:
        """The next segment of the open stream, whose bytes are not here any more: the receiver is expected to have it."""
        self._log.add(SentSegment(self._segments.count))
        self._segments.add_stored_before(before)

    def close_stream(self, size: int, blake3: Blake3Digest) -> None:
        """The open stream's content ends here; this is its digest as it was read."""
        self._log.add(ClosedStream(self._next_stream, size, blake3, self._segments.count))
        self._out.send(Close(self._next_stream, size, blake3))
        self._segments.end_stream()
        self._next_stream += 1

    def keep_stream(self, size: int, blake3: Blake3Digest, path: bytes) -> None:
        """In place of a stream: the content is the one at `path` in the previous acquisition. The next page lists it."""
        kept = self._kept[self._next_stream] = KeptStream(self._next_stream, size, blake3, path, self._pages.count)
        self._log.add(kept)
        self._out.send(kept.message)
        self._next_stream += 1

    def resume(self, resumed: Resumed) -> None:
        """Resumes over a new link, from the receiver's state. Raises ProtocolError for an impossible state."""
        self._out.clear()
        self._release_pages(resumed.pages)
        self._release_segments(resumed.segments)
        self.counts.begin_link()
        for sent in self._log.since(resumed):
            match sent:
                case SentPage(number):
                    self._pages.name_again(number)
                case SentSegment(number):
                    self._segments.announce(number)
                case OpenedStream(stream, size, path):
                    self._send_open(stream, size, path)
                case ClosedStream(stream, size, blake3):
                    self._out.send(Close(stream, size, blake3))
                case KeptStream():
                    self._out.send(sent.message)

    # Answers of the receiver.

    def receive(self, message: Message) -> None:
        """Handles an answer of the receiver. Raises ProtocolError for one that does not fit.

        Raises ContentNotRead where the receiver lacks what was not read.
        """
        match message:
            case PageAnswer():
                self._pages.on_answer(message)
            case Want():
                self._pages.on_want(message)
            case PagesStored():
                self._release_pages(message.count)
            case SegmentAnswer():
                self._segments.on_answer(message)
            case Need():
                self._segments.on_need(message)
            case NeedPieces():
                self._segments.on_need_pieces(message)
            case SegmentsStored():
                self._release_segments(message.count)
            case KeptLost(stream) if stream in self._kept:
                raise ContentNotRead
            case _:
                raise ProtocolError(f"the message {type(message).__name__} is out of order")

    def _release_pages(self, count: int) -> None:
        self._pages.release(count)
        while self._kept and (first := next(iter(self._kept.values()))).next_page < count:
            del self._kept[first.stream]
            self.counts.add_stored(first.size, 0, 0)
        self._log.drop_stored(pages=count, segments=self._segments.stored)

    def _release_segments(self, count: int) -> None:
        self._segments.release(count)
        self._log.drop_stored(pages=self._pages.stored, segments=count)

    def _send_open(self, stream: int, size: int, path: bytes) -> None:
        self._out.send(Open(stream, size))
        if path and self._has_previous:
            self._out.send(Resembles(stream, path))
