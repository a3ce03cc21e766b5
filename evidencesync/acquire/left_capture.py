"""Acquires what a capture has left in a vault when its sender never came back: as far as it came, and flagged as that.

The vault has stored it in the staging area of a session that never ended. The journal there names its chunks, so that what a
power cut has damaged is noticed, and ends it. Who signs is whoever publishes it; the header says where it came from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, Final

from evidencesync.acquire.capture import Captured, CaptureReading, CaptureRequest
from evidencesync.acquire.earlier import EarlierFiles
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.reading import StreamBegun, StreamEnded
from evidencesync.acquire.signing import Provenance
from evidencesync.acquire.source_access import Emit, Reading
from evidencesync.acquire.streaming import Digests
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import ManifestHeader, SshPeer
from evidencesync.custody.labels import CAPTURED
from evidencesync.delta.chunker import Segment
from evidencesync.delta.rows import Row, unpack_segment
from evidencesync.errors import InternalError, NotThereError
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import UtcTime, format_utc_time
from evidencesync.files.disk import FOLDER_FLAGS, reading_blocks
from evidencesync.limits import MAX_FILE_SIZE, MIB, SMALL_FILE
from evidencesync.source.command import CommandEnd, CommandLine
from evidencesync.vault.item import VaultItem
from evidencesync.vault.journal import JournaledSegment, PlacedContent, read_journal
from evidencesync.vault.layout import DATA
from evidencesync.vault.resume.left_sessions import LeftSession, left_sessions
from evidencesync.vault.staging import ACQUISITION, CONTENTS, content_name
from evidencesync.vault.tree import TreeReader

STANDARD_INPUT: Final = "standard input"


@dataclass(frozen=True, slots=True)
class LeftCapture:
    """What the sessions of one capture have left. `others`: how many other captures have left something."""

    header: ManifestHeader
    sessions: list[LeftSession]
    others: int

    @property
    def captured(self) -> str:
        """What was captured: standard input, or a command."""
        return self.header.method.options[CAPTURED]

    def sizes(self) -> tuple[int, int]:
        """Reads all of it; returns how many bytes from the first on are as the journal says, and how many the journal names."""
        return sum(one.total_bytes for one in _stored_segments(self.sessions)), max(_journal_end(one)[0] for one in self.sessions)

    @property
    def is_of_command(self) -> bool:
        """Whether a command printed it."""
        return self.captured != STANDARD_INPUT

    @property
    def changed(self) -> UtcTime:
        """When the vault last stored something of it, by its own clock; but not before the capture began."""
        return max(self.header.started, format_utc_time(max([session.changed_ns for session in self.sessions])))


def find_left_capture(item: VaultItem) -> LeftCapture:
    """Finds the capture of which something was stored last. Raises NotThereError where none has left anything, StorageError."""
    sessions = sorted(left_sessions(item, ""), key=lambda session: -session.changed_ns)
    headers = [(session, session.header()) for session in sessions]
    captures = [(session, header) for session, header in headers if header is not None and CAPTURED in header.method.options]
    if not captures:
        raise NotThereError(
            f"no capture has left anything of {item.name} here", hint="See what is there: evidencesync list VAULT"
        )
    by_start: dict[UtcTime, list[tuple[LeftSession, ManifestHeader]]] = {}
    for session, header in captures:
        by_start.setdefault(header.started, []).append((session, header))
    latest = next(iter(by_start.values()))
    return LeftCapture(latest[0][1], [session for session, _ in latest], len(by_start) - 1)


class LeftReading(CaptureReading):
    """Emits what was left. See `Reading`. It begins when the vault's end has the item's lock: nobody else changes it then."""

    def __init__(self, left: LeftCapture, name: bytes, emit: Emit, progress: Progress, now: Callable[[], UtcTime]) -> None:
        self._is_command = left.is_of_command
        request = CaptureRequest(name, CommandLine(shell=left.captured) if self._is_command else None, None, None)
        super().__init__(request, _nothing_to_start, emit, progress, now)
        self._left = left

    def take(self) -> None:
        """See CaptureReading."""
        name = self._request.name
        if self._is_command:
            self._pages.add(b"", Entry("directory", path=""), None)
        self._progress.path = name
        self._emit(StreamBegun(MAX_FILE_SIZE, name), 0)
        digests, beginning, size = Digests(self._hashing), b"", 0
        for segment in _stored_segments(self._left.sessions):
            for length, part in zip(segment.lengths, segment.parts, strict=True):
                if part is None:
                    digests.update_zeros(length)
                else:
                    digests.update(part)
                wanted = max(SMALL_FILE - len(beginning), 0)
                beginning += bytes(min(length, wanted)) if part is None else bytes(part[:wanted])
            self._emit(segment, segment.held_bytes)
            size += segment.total_bytes
        blake3, sha256 = digests.finish()
        self._emit(StreamEnded(size, blake3), 0)
        self._progress.files += 1
        started = self._left.header.started
        came = Captured(size, blake3, sha256, beginning, "link-lost", started, self._left.changed)
        self._add(name, came, "standard-output" if self._is_command else "standard-input", CommandEnd(), 0)


class LeftAccess:
    """See `acquire.source_access.SourceAccess`."""

    is_read_once: Final = True

    def __init__(self, left: LeftCapture, name: bytes) -> None:
        self._left = left
        self._name = name

    def reading(self, emit: Emit, progress: Progress, now: Callable[[], UtcTime], earlier: EarlierFiles | None = None) -> Reading:
        """See `SourceAccess`."""
        del earlier  # nothing of it was there before
        return LeftReading(self._left, self._name, emit, progress, now)

    def drop_stored(self, segments: int) -> None:
        """See `SourceAccess`."""

    def provenance(self, handshake: Handshake, peer: SshPeer | None) -> Provenance:
        """See `SourceAccess`. The digests are of what has arrived: the source's end has told none."""
        del handshake, peer
        by, header = self._left.header.examiner, self._left.header
        note = f"of a capture by {by.principal} with {by.key}: what the vault had received when the link was lost for good"
        return Provenance(header.source, "local", "arrival", None, None, note, "kept")

    def count(self, progress: Progress, is_over: Callable[[], bool]) -> None:
        """See `SourceAccess`."""
        del is_over
        progress.total_files = 1
        progress.is_total_unknown = True


def _nothing_to_start() -> int:
    raise InternalError("nothing is started for what was left")


def _stored_segments(sessions: list[LeftSession]) -> Iterator[Segment]:
    """Yields each segment that is stored, up to the first that is not as the journal says.

    A later session of the same capture takes over the file of the one before, and begins a journal of its own: so the longest
    journal is right for the longest file.
    """
    journals = [(session, *_journal_end(session)) for session in sessions]
    session = max(journals, key=lambda one: one[1])[0]
    places = {f"{CONTENTS}/{content_name(0)}".encode(), *(path for _, _, path in journals if path is not None)}
    files = [(one.size_of(place), one, place) for one in sessions for place in places]
    size, holder, place = max(files, key=lambda one: one[0])
    journal = session.open_journal()
    if not size or journal is None:
        return
    with journal, closing(TreeReader(os.open(holder.path, FOLDER_FLAGS))) as tree:
        fd, _ = tree.open_file(place)
        with reading_blocks(fd) as file:
            for record in read_journal(journal):
                if isinstance(record, JournaledSegment) and record.content == 0:
                    segment = _read_segment(file, unpack_segment(record.packed))
                    if segment is None:
                        return
                    yield segment


def _read_segment(file: BinaryIO, rows: list[Row]) -> Segment | None:
    """Reads the next segment of a file; None where it is not there as it should be."""
    segment = Segment()
    for row in rows:
        part: memoryview | None = None
        if row.is_zeros:
            left = row.length
            while left and (block := file.read(min(left, MIB))) and not block.strip(b"\0"):
                left -= len(block)
            if left:
                return None
        else:
            part = memoryview(file.read(row.length))
            if len(part) < row.length or chunk_digest_of(part) != row.digest:
                return None
            segment.literal_bytes += row.length
        segment.lengths.append(row.length)
        segment.parts.append(part)
    return segment


def _journal_end(session: LeftSession) -> tuple[int, bytes | None]:
    """Returns how much of the capture a session's journal names, and where its file lies if it was whole already."""
    length, place, journal = 0, None, session.open_journal()
    if journal is not None:
        with journal:
            for record in read_journal(journal):
                if isinstance(record, JournaledSegment) and record.content == 0:
                    length += record.length
                elif isinstance(record, PlacedContent) and record.content == 0:
                    place = f"{ACQUISITION}/{DATA}/".encode() + record.path
    return length, place
