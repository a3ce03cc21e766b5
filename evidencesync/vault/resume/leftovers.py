"""Finds what earlier sessions of an item staged and never published, so that the next session can continue from it.

Everything here is a hint: the user of a location reads and hashes the bytes first. A leftover that differs from its journal or
manifest is no finding: it was never evidence. Needs the item's lock for as long as it lives.

A location in a leftover has a negative acquisition number, one for each session, and a path below the session's folder.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.manifest import read_manifest
from evidencesync.delta.rows import Row, segment_digest, segment_digest_of, unpack_segment
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import FOLDER_FLAGS, document_blocks, opened_folder, storing
from evidencesync.files.folders import remove_tree
from evidencesync.vault.index.recipes import ChunkPlace
from evidencesync.vault.item import VaultItem
from evidencesync.vault.journal import JournaledSegment, PlacedContent, TakenContent, read_journal
from evidencesync.vault.layout import DATA, Location
from evidencesync.vault.resume.left_sessions import LeftSession, left_sessions
from evidencesync.vault.staging import ACQUISITION, CONTENTS, content_name
from evidencesync.vault.tree import TreeReader

_UNKNOWN: Final = Blake3Digest(bytes(32))
_DATA: Final = f"{ACQUISITION}/{DATA}/".encode()
_WINDOW_SEGMENTS: Final = 128
_BATCH: Final = 10_000
_SCHEMA: Final = """
CREATE TABLE segments (digest BLOB, session INT, content INT, offset INT, position INT, PRIMARY KEY (digest, session, content))
  WITHOUT ROWID;
CREATE TABLE places (session INT, content INT, path BLOB, PRIMARY KEY (session, content)) WITHOUT ROWID;
CREATE TABLE taken (name TEXT, path BLOB, session INT, content INT, PRIMARY KEY (name, path)) WITHOUT ROWID;
CREATE TABLE contents (blake3 BLOB, session INT, path BLOB, size INT, PRIMARY KEY (blake3, session)) WITHOUT ROWID;
"""


class _Near(NamedTuple):
    """A record of a journal, near which the next lookups probably succeed."""

    session: int
    content: int
    offset: int
    position: int


class Leftovers:
    """The staging areas of an item except the current session's, the latest first. Not thread-safe."""

    def __init__(self, item: VaultItem, own_session: str) -> None:
        item.require_lock()
        self._item = item
        self._database = sqlite3.connect("", check_same_thread=False)  # a private temporary file
        self._database.executescript(_SCHEMA)
        self._have_contents = False
        self._near: _Near | None = None
        self._first: _Near | None = None  # of what was staged last
        self._window: dict[ChunkDigest, ChunkPlace] = {}
        self._window_from: _Near | None = None
        self._journal: tuple[int, BinaryIO | None] | None = None  # the one that was read last
        self._located: tuple[tuple[int, int], Location | None] | None = None
        self._in_use: Location | None = None
        self._header: ManifestHeader | None = None
        self._sessions = left_sessions(item, own_session)

    def load(self) -> None:
        """Reads all journals; takes a second or two for each TiB."""
        for number in range(len(self._sessions)):
            journal = self._journal_of(number)
            if journal is not None:
                self._load_journal(number, journal)

    @property
    def count(self) -> int:
        """The number of earlier sessions."""
        return len(self._sessions)

    def close(self) -> None:
        """Closes all files. Safe to call again."""
        self._database.close()
        self._close_journal()

    def open_tree(self, acquisition: int) -> TreeReader:
        """Opens the files of one session, by their paths below its folder."""
        with storing("open a staging area"):
            return TreeReader(os.open(self._session(acquisition).path, FOLDER_FLAGS))

    def manifests(self) -> Iterator[tuple[int, Path]]:
        """Yields the manifests of all sessions, each with its acquisition number. A manifest may end anywhere."""
        for number, session in enumerate(self._sessions):
            if (path := session.manifest()) is not None:
                yield -number - 1, path

    def small_file(self, acquisition: int, path: bytes, size: int, blake3: Blake3Digest) -> Location | None:
        """Returns a file that a session's manifest lists, if it was really stored: lines are written before files."""
        location = self._place(acquisition, _DATA + path, size, blake3)
        return location if self._has_file(location) else None

    def has_other_names(self, location: Location) -> bool:
        """Whether a staged file has another hard link: perhaps to a published file."""
        with contextlib.suppress(OSError, ValueError):
            path = os.fsencode(self._session(location.acquisition).path) + b"/" + location.path
            return os.lstat(path).st_nlink > 1
        return False

    def find_contents(self, digests: Sequence[Blake3Digest]) -> dict[Blake3Digest, Location]:
        """Finds small contents that some session has stored, by their digests."""
        if not self._have_contents:
            self._have_contents = True
            for acquisition, manifest in self.manifests():
                self._load_manifest(acquisition, manifest)
        query = "SELECT session, path, size FROM contents WHERE blake3 = ? ORDER BY session DESC"
        found: dict[Blake3Digest, Location] = {}
        for digest in digests:
            for acquisition, path, size in self._database.execute(query, (digest,)):
                if (location := self.small_file(acquisition, path, size, digest)) is not None:
                    found[digest] = location
                    break
        return found

    def find_segment(self, digest: SegmentDigest, at: int) -> tuple[Location, int, list[Row]] | None:
        """Finds a segment: a staged file, an offset, and its rows. `at` is the offset of the wanted segment in its content.

        The segment after the last hit is tried first: a content may contain the same segment many times. Then a file that has
        it at the same offset, and is not in use for another content: that file can be continued.
        """
        if at and self._near is not None and (following := self._following(self._near, digest)) is not None:
            return self._found(following, digest)
        query = "SELECT session, content, offset, position FROM segments WHERE digest = ? ORDER BY offset != ?, session, content"
        second: _Near | None = None
        for place in map(_Near._make, self._database.execute(query, (digest, at)).fetchall()):
            location = self._location(place)
            if location is None:  # it was moved into the new acquisition, or is gone
                key = (digest, place.session, place.content)
                self._database.execute("DELETE FROM segments WHERE digest = ? AND session = ? AND content = ?", key)
            elif location == self._in_use and not at:
                second = second or place
            else:
                return self._found(place, digest)
        return None if second is None else self._found(second, digest)

    def _following(self, near: _Near, digest: SegmentDigest) -> _Near | None:
        """Returns the record after one, if it is the next segment of the same content and has this digest."""
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
        """Finds chunks near the last segment that was found (or at the beginning of what was staged last)."""
        near = self._near or self._first
        if near is not None and near != self._window_from:
            self._load_window(near)
        return {digest: self._window[digest] for digest in digests if digest in self._window}

    # Earlier attempts at the same acquisition.

    def set_header(self, header: ManifestHeader) -> None:
        """Sets the header of the current acquisition, by which earlier attempts at it are recognised."""
        self._header = header
        for session in self._sessions:
            session.attempt = session.is_attempt_at(header)

    def may_take(self, location: Location) -> bool:
        """Whether a file may be moved and continued: only that of an earlier attempt, because it may be overwritten."""
        return self._session(location.acquisition).attempt is True

    def mark_taken(self, location: Location) -> None:
        """Marks a file as moved into the current staging area; its next segments are still found in it."""
        self._in_use = location

    def name_of(self, location: Location) -> str:
        """Returns the session of a location."""
        return self._session(location.acquisition).name

    def remove_continued(self) -> None:
        """Removes the staging areas of earlier attempts at this acquisition, after it was published, or was not wanted.

        An attempt is a session of the same examiner with the same source, or an empty one. Others stay: their examiners may
        resume them. What cannot be removed stays for `clean`: it does not affect what is published.
        """
        with contextlib.suppress(EvidenceSyncError), opened_folder(self._item.layout.incoming) as incoming:
            for session in self._sessions:
                if session.attempt or (session.attempt is False and session.is_empty()):
                    with contextlib.suppress(EvidenceSyncError):
                        remove_tree(incoming, session.name)

    def count_continued(self) -> int:
        """Returns the number of earlier attempts at this acquisition."""
        return sum(session.attempt is True for session in self._sessions)

    # Loading.

    def _load_journal(self, number: int, journal: BinaryIO) -> None:
        ends: dict[int, int] = {}
        batch: list[tuple[bytes, int, int, int, int]] = []
        for record in read_journal(journal):
            match record:
                case PlacedContent(content, path):
                    ends.pop(content, None)
                    self._database.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (number, content, _DATA + path))
                case TakenContent(content, session, path):
                    self._database.execute("INSERT OR IGNORE INTO taken VALUES (?, ?, ?, ?)", (session, path, number, content))
                case JournaledSegment(content):
                    offset = ends.get(content, 0)
                    self._first = self._first or _Near(number, content, offset, record.position)
                    ends[content] = offset + record.length
                    batch.append((segment_digest_of(record.packed), number, content, offset, record.position))
            if len(batch) >= _BATCH:
                self._add_segments(batch)
                batch = []
        self._add_segments(batch)

    def _add_segments(self, batch: list[tuple[bytes, int, int, int, int]]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO segments VALUES (?, ?, ?, ?, ?)", sorted(batch))

    def _load_manifest(self, acquisition: int, manifest: Path) -> None:
        # It may end anywhere, with the session; what cannot be read of it is ignored.
        with contextlib.suppress(EvidenceSyncError, OSError), manifest.open("rb") as file:
            for path, line in read_manifest(document_blocks(file)):
                if isinstance(line, Entry) and line.blake3 is not None:
                    row = (bytes.fromhex(line.blake3), acquisition, path, line.size or 0)
                    self._database.execute("INSERT OR IGNORE INTO contents VALUES (?, ?, ?, ?)", row)

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

    # Finding.

    def _session(self, acquisition: int) -> LeftSession:
        return self._sessions[-acquisition - 1]

    def _journal_of(self, number: int) -> BinaryIO | None:
        """Opens the journal of a session; one is open at a time."""
        if self._journal is None or self._journal[0] != number:
            self._close_journal()
            self._journal = (number, self._sessions[number].open_journal())
        return self._journal[1]

    def _close_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None and journal[1] is not None:
            journal[1].close()

    def _records(self, near: _Near) -> Iterator[JournaledSegment]:
        journal = self._journal_of(near.session)
        if journal is not None:
            if not near.position:
                journal.seek(0)
            for record in read_journal(journal, near.position):
                if isinstance(record, JournaledSegment):
                    yield record

    def _location(self, near: _Near) -> Location | None:
        """Returns the file of a record, if it is as long as the record says."""
        key = (near.session, near.content)
        if self._located is None or self._located[0] != key:
            self._located = (key, self._locate(*key))
        location = self._located[1]
        return None if location is None or location.size <= near.offset else location

    def _locate(self, number: int, content: int) -> Location | None:
        """Finds the current file of a session's content: a later session may have taken it over."""
        for _ in self._sessions:
            placed = self._database.execute("SELECT path FROM places WHERE session = ? AND content = ?", (number, content))
            paths = [path for (path,) in placed] + [f"{CONTENTS}/{content_name(content)}".encode()]
            for path in paths:
                in_use = self._in_use
                if in_use is not None and (in_use.acquisition, in_use.path) == (-number - 1, path):
                    return in_use
                if size := self._sessions[number].size_of(path):
                    return self._place(-number - 1, path, size, _UNKNOWN)
            further = [self._taken(number, path) for path in paths]
            number, content = next((place for place in further if place is not None), (-1, 0))
            if number < 0:
                return None
        return None

    def _taken(self, number: int, path: bytes) -> tuple[int, int] | None:
        query = "SELECT session, content FROM taken WHERE name = ? AND path = ?"
        found: tuple[int, int] | None = self._database.execute(query, (self._sessions[number].name, path)).fetchone()
        return found

    def _place(self, acquisition: int, path: bytes, size: int, blake3: Blake3Digest) -> Location:
        return Location(self._item.name.case.folder, self._item.name.item.folder, acquisition, path, size, blake3)

    def _has_file(self, location: Location) -> bool:
        return self._session(location.acquisition).size_of(location.path) == location.size


def is_leftover(location: Location) -> bool:
    """Whether a location is in a staging area, and so never was evidence."""
    return location.acquisition < 0
