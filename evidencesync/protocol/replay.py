"""What a sender has sent and not yet seen stored, in order: where it goes on from after a link was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from evidencesync.evidence.digest import Blake3Digest
from evidencesync.protocol.messages import Resumed


@dataclass(frozen=True, slots=True)
class SentPage:
    """A page of manifest lines."""

    number: int


@dataclass(frozen=True, slots=True)
class SentSegment:
    """A segment of the open stream."""

    number: int


@dataclass(frozen=True, slots=True)
class OpenedStream:
    """A stream's beginning. `next_segment` is the number of its first segment."""

    stream: int
    size: int
    path: bytes
    next_segment: int


@dataclass(frozen=True, slots=True)
class ClosedStream:
    """A stream's end. `next_segment` is the number of the first segment after it."""

    stream: int
    size: int
    blake3: Blake3Digest
    next_segment: int


Sent = SentPage | SentSegment | OpenedStream | ClosedStream


class ReplayLog:
    """Remembers no more than what is open, and the ends of streams between that: a few bytes for each."""

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque()
        self._pages = 0
        self._segments = 0

    def add(self, sent: Sent) -> None:
        """Something was sent."""
        self._sent.append(sent)

    def note_stored(self, *, pages: int, segments: int) -> None:
        """All pages and all segments below these numbers are stored."""
        self._pages, self._segments = pages, segments
        while self._sent and self._is_stored(self._sent[0]):
            self._sent.popleft()

    def since(self, resumed: Resumed) -> Iterator[Sent]:
        """What has to be sent again to a receiver that stands there."""
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
        """Whether it can be forgotten. A stream's beginning and end are told by a segment after them that is stored."""
        match sent:
            case SentPage(number):
                return number < self._pages
            case SentSegment(number):
                return number < self._segments
            case OpenedStream() | ClosedStream():
                return sent.next_segment < self._segments
