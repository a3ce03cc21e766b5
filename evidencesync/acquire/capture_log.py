"""Keeps what was read of a capture until the vault has stored it, so that another session can go on where the vault stands.

A capture cannot be read again. Where the vault's process has ended, what it had stored lies in its staging area: the next
session names it, segment by segment, and the vault finds it there. So of what is stored a name is kept, 32 bytes for some MiB;
of all else the bytes: in memory, and what is more in a file (`acquire.spool`), where there is one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec

from evidencesync.acquire.reading import SourceEvent, SourceRead, StreamEnded
from evidencesync.acquire.spool import Spool, SpooledSegment
from evidencesync.delta.chunker import Segment
from evidencesync.delta.rows import segment_digest
from evidencesync.errors import InternalError, InterruptedRunError, StorageError
from evidencesync.evidence.digest import CHUNK_DIGEST_SIZE, SegmentDigest
from evidencesync.limits import MIB, WINDOW
from evidencesync.protocol.outgoing_segments import StoredBefore

_MOST_HELD: Final = WINDOW + 16 * MIB  # a sender's window, and what waits for it
_NO_DIGEST: Final = SegmentDigest(bytes(CHUNK_DIGEST_SIZE))
_SIZE: Final = 8
_NAME: Final = CHUNK_DIGEST_SIZE + 2 * _SIZE


class _Names:
    """The names of the segments that are stored, in order, packed: a capture of a TiB has half a million of them."""

    def __init__(self) -> None:
        self._packed = bytearray()

    def __len__(self) -> int:
        return len(self._packed) // _NAME

    def add(self, name: StoredBefore) -> None:
        """Adds the next one."""
        self._packed += name.digest + b"".join([size.to_bytes(_SIZE, "little") for size in (name.total_bytes, name.zero_bytes)])

    def __getitem__(self, number: int) -> StoredBefore:
        packed = bytes(self._packed[number * _NAME : (number + 1) * _NAME])
        digest, sizes = SegmentDigest(packed[:CHUNK_DIGEST_SIZE]), packed[CHUNK_DIGEST_SIZE:]
        return StoredBefore(digest, int.from_bytes(sizes[:_SIZE], "little"), int.from_bytes(sizes[_SIZE:], "little"))


class _Other(msgspec.Struct, frozen=True):
    """What is no segment, and how many segments come before it."""

    event: SourceEvent
    size: int
    after: int


class CaptureLog:
    """The events of one capture, in order. One thread adds, another one reads them, and a third one says what is stored."""

    def __init__(self, *, may_go_on: bool, spool: Spool | None = None) -> None:
        """`may_go_on`: whether there may be a further session. Else no name is computed."""
        self._may_go_on = may_go_on
        self._spool = spool
        self._size = self._dropped = 0  # bytes of the first stream: of all its segments, and of those that are stored
        self._in_first: int | None = None  # how many segments the first stream has, once it has ended
        self._changed = threading.Condition()
        self._names = _Names()
        self._held: deque[Segment | SpooledSegment] = deque()  # the segments after those
        self._held_bytes = 0
        self._others: list[_Other] = []
        self._error: BaseException | None = None
        self._is_closed = False

    def add(self, event: SourceEvent, size: int) -> None:
        """Adds the next event. Waits while as much is held as may be. Raises InterruptedRunError after `close`."""
        with self._changed:
            if isinstance(event, Segment):
                self._held.append(self._kept(event))
                self._size += event.total_bytes if self._in_first is None else 0
            else:
                count = len(self._names) + len(self._held)
                self._others.append(_Other(event, size, count))
                if isinstance(event, StreamEnded) and self._in_first is None:
                    self._in_first = count
            self._changed.notify_all()

    def _kept(self, segment: Segment) -> Segment | SpooledSegment:
        """Returns a segment as it is kept: in memory where there is room, else in the spool, if it takes it."""
        if self._spool is not None and self._in_first is None and self._held_bytes >= _MOST_HELD and not self._is_closed:
            spooled = self._spool.put(segment, self._size)
            if spooled is not None:
                return spooled
        self._changed.wait_for(lambda: self._held_bytes < _MOST_HELD or self._is_closed)
        if self._is_closed:
            raise InterruptedRunError("the run has ended")
        self._held_bytes += segment.held_bytes
        return segment

    def keep_rest(self) -> tuple[int, int] | None:
        """Puts all of the first stream into the spool that the vault has not stored; returns where it begins and ends.

        None where there is no spool, or nothing is left. Raises StorageError where not all of it could be kept.
        """
        with self._changed:
            at = self._dropped
            if self._spool is None or at == self._size:
                return None
            for number, segment in enumerate(self._held, len(self._names)):
                if self._in_first is not None and number >= self._in_first:
                    break
                if isinstance(segment, Segment) and self._spool.put(segment, at) is None:
                    raise StorageError(f"only bytes before {at:,} of the capture are kept")
                at += segment.total_bytes
            self._spool.end(at)
            return self._dropped, at

    def fail(self, error: BaseException) -> None:
        """Records that nothing more comes: `events` raises this in its place."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the waiting of all threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def drop_stored(self, segments: int) -> None:
        """Keeps only the names of the first so many segments: the vault has stored them."""
        with self._changed:
            while len(self._names) < segments and self._held:
                segment = self._held.popleft()
                if self._in_first is None or len(self._names) < self._in_first:
                    self._dropped += segment.total_bytes
                self._names.add(StoredBefore(self._name_of(segment), segment.total_bytes, segment.zero_bytes))
                if isinstance(segment, Segment):
                    self._held_bytes -= segment.held_bytes
                elif self._spool is not None:
                    self._spool.release(segment)
            self._changed.notify_all()

    def _loaded(self, spooled: SpooledSegment) -> Segment:
        if self._spool is None:
            raise InternalError("a segment is said to be in a spool, and there is none")
        return self._spool.load(spooled)

    def _name_of(self, segment: Segment | SpooledSegment) -> SegmentDigest:
        if isinstance(segment, SpooledSegment):
            return segment.digest
        return segment_digest(segment.rows()) if self._may_go_on else _NO_DIGEST

    def events(self) -> Iterator[tuple[SourceEvent, int]]:
        """Yields all events from the first on, with their sizes, as they come, up to the last one.

        Raises the error that was recorded instead of more. May be called again: another session gets all of it, too.
        """
        segments = others = 0
        while True:
            found = self._wait_for(segments, others)
            if found is None:
                return
            yield found
            if isinstance(found[0], SourceRead):
                return
            if isinstance(found[0], Segment | StoredBefore):
                segments += 1
            else:
                others += 1

    def _wait_for(self, segments: int, others: int) -> tuple[SourceEvent, int] | None:
        with self._changed:
            while not self._is_closed:
                if others < len(self._others) and self._others[others].after <= segments:
                    return self._others[others].event, self._others[others].size
                if segments < len(self._names):
                    return self._names[segments], 0
                if segments < len(self._names) + len(self._held):
                    held = self._held[segments - len(self._names)]
                    segment = held if isinstance(held, Segment) else self._loaded(held)
                    return segment, segment.held_bytes
                if self._error is not None:
                    raise self._error
                self._changed.wait()
        return None
