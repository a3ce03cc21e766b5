"""What the journals and manifests of leftovers say, to be looked up by digest. All of it is a hint."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.delta.rows import Row, segment_digest, segment_digest_of, unpack_segment
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.evidence.entry import Entry
from evidencesync.limits import MIB
from evidencesync.vault.journal import JournaledSegment, PlacedContent, TakenContent, read_journal
from evidencesync.vault.left_session import DATA_PATH, LeftSession
from evidencesync.vault.location import Location
from evidencesync.vault.recipes import ChunkPlace
from evidencesync.vault.staging import CONTENTS, content_name

_WINDOW_SEGMENTS: Final = 128
_BATCH: Final = 10_000
_SCHEMA: Final = """
CREATE TABLE segments (digest BLOB PRIMARY KEY, session INT, content INT, offset INT, position INT) WITHOUT ROWID;
CREATE TABLE contents (blake3 BLOB PRIMARY KEY, session INT, path BLOB, size INT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class _Near:
    """A record of a journal: where what is looked for next probably lies."""

    session: int
    content: int
    offset: int
    position: int


class LeftoverIndex:
    """Finds segments, chunks and small contents in sessions that were left behind. Not thread-safe."""

    def __init__(self, sessions: Sequence[LeftSession]) -> None:
        self._sessions = sessions
        self._database = sqlite3.connect("", check_same_thread=False)  # a temporary file that nobody else sees
        self._database.executescript(_SCHEMA)
        self._near: _Near | None = None
        self._window: dict[ChunkDigest, ChunkPlace] = {}
        self._window_from: _Near | None = None

    def close(self) -> None:
        """Forgets everything. Safe to call again."""
        self._database.close()

    # Loading.

    def load_journals(self) -> None:
        """Reads all journals; takes a second or two for each TiB."""
        taken: dict[tuple[str, int], tuple[LeftSession, int]] = {}
        for number, session in enumerate(self._sessions):
            if session.journal is not None:
                self._load_journal(number, session, session.journal, taken)
        by_name = {session.name: session for session in self._sessions}
        for (name, content), (taker, own) in taken.items():
            place = _last_place(taker, own, taken)
            if place is not None and name in by_name:
                by_name[name].files.setdefault(content, place)

    def _load_journal(
        self, number: int, session: LeftSession, journal: BinaryIO, taken: dict[tuple[str, int], tuple[LeftSession, int]]
    ) -> None:
        ends: dict[int, int] = {}
        batch: list[tuple[bytes, int, int, int, int]] = []
        placed: dict[int, bytes] = {}
        for record in read_journal(journal):
            match record:
                case PlacedContent(content, path):
                    placed[content] = DATA_PATH + path
                case TakenContent(content, origin, number_there):
                    taken[origin, number_there] = session, content
                    ends.setdefault(content, 0)
                case JournaledSegment(content, packed, position):
                    offset = ends.get(content, 0)
                    ends[content] = offset + record.length
                    batch.append((segment_digest_of(packed), number, content, offset, position))
            if len(batch) >= _BATCH:
                self._add_segments(batch)
                batch = []
        self._add_segments(batch)
        for content in ends:  # one that was about to get its place may still lie where it was
            session.add_file(content, f"{CONTENTS}/{content_name(content)}".encode())
            if content in placed:
                session.add_file(content, placed[content])

    def _add_segments(self, batch: list[tuple[bytes, int, int, int, int]]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO segments VALUES (?, ?, ?, ?, ?)", sorted(batch))

    def load_manifest(self, acquisition: int, manifest: Path) -> None:
        """Remembers the contents that a session's manifest lists."""
        with manifest.open("rb") as file, contextlib.suppress(EvidenceSyncError):  # it ends wherever the session did
            for path, line in read_manifest(iter(lambda: file.read(MIB), b""), ManifestReader()):
                if isinstance(line, Entry) and line.blake3 is not None:
                    row = (bytes.fromhex(line.blake3), acquisition, path, line.size or 0)
                    self._database.execute("INSERT OR IGNORE INTO contents VALUES (?, ?, ?, ?)", row)

    # Finding.

    def find_content(self, digest: Blake3Digest) -> tuple[int, bytes, int] | None:
        """Acquisition number, evidence path and size of a file that some manifest lists with that digest."""
        query = "SELECT session, path, size FROM contents WHERE blake3 = ?"
        found: tuple[int, bytes, int] | None = self._database.execute(query, (digest,)).fetchone()
        return found

    def find_segment(self, digest: SegmentDigest) -> tuple[Location, int, list[Row]] | None:
        """Where a segment lies: a staged file, an offset, and its rows.

        What follows the segment that was found last goes first: a content may hold the same segment many times.
        """
        if self._near is not None and (following := self._following(self._near, digest)) is not None:
            return self._found(following, digest)
        query = "SELECT session, content, offset, position FROM segments WHERE digest = ?"
        place = self._database.execute(query, (digest,)).fetchone()
        return None if place is None else self._found(_Near(*place), digest)

    def _following(self, near: _Near, digest: SegmentDigest) -> _Near | None:
        """The record after one, if it is that of the same content's next segment and has this digest."""
        records = self._records(near)
        here, following = next(records, None), next(records, None)
        if here is None or following is None or following.content != here.content:
            return None
        if segment_digest_of(following.packed) != digest:
            return None
        return _Near(near.session, near.content, near.offset + here.length, following.position)

    def _found(self, near: _Near, digest: SegmentDigest) -> tuple[Location, int, list[Row]] | None:
        record = next(self._records(near), None)
        location = self._location(near)
        if record is None or location is None:
            return None
        with contextlib.suppress(EvidenceSyncError):
            rows = unpack_segment(record.packed)
            if segment_digest(rows) == digest:
                self._near = near
                return location, near.offset, rows
        return None

    def find_chunks(self, digests: Sequence[ChunkDigest]) -> dict[ChunkDigest, ChunkPlace]:
        """Where chunks lie, near the segment that was found last (or at the beginning of what was staged last)."""
        near = self._near or next((_Near(number, *start) for number, start in self._starts()), None)
        if near is not None and near != self._window_from:
            self._load_window(near)
        return {digest: self._window[digest] for digest in digests if digest in self._window}

    def _load_window(self, near: _Near) -> None:
        self._window_from = near
        self._window = {}
        location, offset = self._location(near), near.offset
        for _, record in zip(range(_WINDOW_SEGMENTS), self._records(near), strict=False):
            if record.content != near.content or location is None:
                return
            with contextlib.suppress(EvidenceSyncError):
                for row in unpack_segment(record.packed):
                    if not row.is_zeros:
                        self._window.setdefault(row.digest, ChunkPlace(location, offset, row.length))
                    offset += row.length

    def _starts(self) -> Iterator[tuple[int, tuple[int, int, int]]]:
        for number, session in enumerate(self._sessions):
            if session.journal is not None and session.files:
                yield number, (min(session.files), 0, 0)

    def _records(self, near: _Near) -> Iterator[JournaledSegment]:
        journal = self._sessions[near.session].journal
        if journal is not None:
            if not near.position:
                journal.seek(0)
            for record in read_journal(journal, near.position):
                if isinstance(record, JournaledSegment):
                    yield record

    def _location(self, near: _Near) -> Location | None:
        """The file of a record, if it reaches as far as the record says."""
        place = self._sessions[near.session].files.get(near.content)
        return place if place is not None and place.size > near.offset else None


def _last_place(session: LeftSession, content: int, taken: dict[tuple[str, int], tuple[LeftSession, int]]) -> Location | None:
    """Where a content lies that was taken over, perhaps more than once."""
    seen: set[tuple[str, int]] = set()
    while content not in session.files and (session.name, content) in taken and (session.name, content) not in seen:
        seen.add((session.name, content))
        session, content = taken[session.name, content]
    return session.files.get(content)
