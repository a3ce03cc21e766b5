"""Leftovers: what earlier sessions of an item staged and never published, as something the next session can build on.

Everything here is a hint. Whoever uses a location reads and hashes the bytes first, and a leftover that is not what the
journal or the manifest says is no finding: it was never evidence. Needs the item's lock for as long as it lives.

A location in a leftover has a negative acquisition number, one for each session, and a path below the session's folder.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.manifest import ManifestReader, decode_header, read_manifest
from evidencesync.delta.recipe import Row, segment_digest, segment_digest_of, unpack_segment
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.evidence.entry import Entry
from evidencesync.limits import MAX_HEADER_LINE, MIB
from evidencesync.vault.disk import FOLDER_FLAGS, READ_FLAGS, opened_folder, storing
from evidencesync.vault.folders import remove_tree
from evidencesync.vault.item import Item
from evidencesync.vault.journal import JOURNAL, JournaledSegment, read_journal
from evidencesync.vault.layout import DATA, INCOMING, MANIFEST
from evidencesync.vault.location import Location
from evidencesync.vault.recipes import ChunkPlace
from evidencesync.vault.staging import ACQUISITION, CONTENTS, content_name, is_session_id
from evidencesync.vault.tree import TreeReader

_UNKNOWN: Final = Blake3Digest(bytes(32))
_DATA: Final = f"{ACQUISITION}/{DATA}/".encode()
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


@dataclass(slots=True)
class _Session:
    name: str
    path: Path
    journal: BinaryIO | None
    files: dict[int, tuple[bytes, int]]
    """Path below the session's folder and size, for each content of the journal that has a file."""


class Leftovers:
    """The staging areas of one item but one's own, the latest first. Not thread-safe."""

    def __init__(self, item: Item, own_session: str) -> None:
        item.require_lock()
        self._item = item
        self._database = sqlite3.connect("", check_same_thread=False)  # a temporary file that nobody else sees
        self._database.executescript(_SCHEMA)
        self._have_contents = False
        self._near: _Near | None = None
        self._window: dict[ChunkDigest, ChunkPlace] = {}
        self._window_from: _Near | None = None
        self._sessions = [
            session for name in _sessions_of(item, own_session) if (session := _open_session(item.layout.incoming / name, name))
        ]

    def load(self) -> None:
        """Reads all journals; takes a second or two for each TiB."""
        for number, session in enumerate(self._sessions):
            if session.journal is not None:
                self._load_journal(number, session, session.journal)

    @property
    def count(self) -> int:
        """How many sessions there are to go on from."""
        return len(self._sessions)

    def close(self) -> None:
        """Lets go of everything. Safe to call again."""
        self._database.close()
        for session in self._sessions:
            if session.journal is not None:
                session.journal.close()

    def open_tree(self, acquisition: int) -> TreeReader:
        """The files of one session, by their paths below its folder."""
        with storing("open a staging area"):
            return TreeReader(os.open(self._session(acquisition).path, FOLDER_FLAGS))

    def manifests(self) -> Iterator[tuple[int, Path]]:
        """The manifests of all sessions, each with its acquisition number. They end wherever they end."""
        for number, session in enumerate(self._sessions):
            path = session.path / ACQUISITION / MANIFEST
            if path.is_file() and not path.is_symlink():
                yield -number - 1, path

    def small_file(self, acquisition: int, path: bytes, size: int, blake3: Blake3Digest) -> Location | None:
        """A file that a session's manifest lists, if it was really stored: lines are written before files."""
        location = self._place(acquisition, _DATA + path, size, blake3)
        return location if self._has_file(location) else None

    def find_contents(self, digests: Sequence[Blake3Digest]) -> dict[Blake3Digest, Location]:
        """Small contents that some session has stored, by their digests."""
        if not self._have_contents:
            self._have_contents = True
            for acquisition, manifest in self.manifests():
                self._load_manifest(acquisition, manifest)
        found: dict[Blake3Digest, Location] = {}
        for digest in digests:
            row = self._database.execute("SELECT session, path, size FROM contents WHERE blake3 = ?", (digest,)).fetchone()
            if row is not None and (location := self.small_file(row[0], row[1], row[2], digest)) is not None:
                found[digest] = location
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

    def path_of(self, location: Location) -> Path:
        """The file of a location."""
        return self._session(location.acquisition).path / os.fsdecode(location.path)

    def remove_continued(self, header: ManifestHeader) -> int:
        """Removes the staging areas of earlier attempts at this very acquisition, now that it is published; how many.

        An attempt is one by the same examiner at the same source, or one that ended before it had said whose it is. Others
        stay for those who began them. Raises StorageError.
        """
        continued = [session.name for session in self._sessions if _is_attempt(session, header) or _is_empty(session)]
        with opened_folder(self._item.layout.incoming) as incoming:
            for name in continued:
                remove_tree(incoming, name)
        return len(continued)

    def count_continued(self, header: ManifestHeader) -> int:
        """How many earlier attempts at this very acquisition there are."""
        return sum(_is_attempt(session, header) for session in self._sessions)

    # Loading.

    def _load_journal(self, number: int, session: _Session, journal: BinaryIO) -> None:
        ends: dict[int, int] = {}
        batch: list[tuple[bytes, int, int, int, int]] = []
        for record in read_journal(journal):
            if not isinstance(record, JournaledSegment):
                placed = _file_of(session.path, _DATA + record.path)
                if placed[1]:  # else it has not left contents/: it was about to, or a power cut has taken that back
                    session.files[record.content] = placed
                continue
            offset = ends.get(record.content, 0)
            ends[record.content] = offset + record.length
            batch.append((segment_digest_of(record.packed), number, record.content, offset, record.position))
            if len(batch) >= _BATCH:
                self._add_segments(batch)
                batch = []
        self._add_segments(batch)
        for content in ends:
            if content not in session.files:
                session.files[content] = _file_of(session.path, f"{CONTENTS}/{content_name(content)}".encode())

    def _add_segments(self, batch: list[tuple[bytes, int, int, int, int]]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO segments VALUES (?, ?, ?, ?, ?)", sorted(batch))

    def _load_manifest(self, acquisition: int, manifest: Path) -> None:
        with manifest.open("rb") as file, contextlib.suppress(EvidenceSyncError):  # it ends wherever the session did
            for path, line in read_manifest(iter(lambda: file.read(MIB), b""), ManifestReader()):
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

    def _session(self, acquisition: int) -> _Session:
        return self._sessions[-acquisition - 1]

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
        path, size = self._sessions[near.session].files.get(near.content, (b"", 0))
        if size <= near.offset:
            return None
        return self._place(-near.session - 1, path, size, _UNKNOWN)

    def _place(self, acquisition: int, path: bytes, size: int, blake3: Blake3Digest) -> Location:
        return Location(self._item.name.case.folder, self._item.name.item.folder, acquisition, path, size, blake3)

    def _has_file(self, location: Location) -> bool:
        try:
            found = os.lstat(self.path_of(location))
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == location.size


def is_leftover(location: Location) -> bool:
    """Whether a location is in what was staged, and so never was evidence."""
    return location.acquisition < 0


def _sessions_of(item: Item, own_session: str) -> list[str]:
    """The other sessions' folders, the one that was written to last first."""
    with opened_folder(item.layout.root) as root, opened_folder(INCOMING, root) as incoming, storing("list staging areas"):
        times = {
            name: os.stat(name, dir_fd=incoming, follow_symlinks=False).st_mtime_ns
            for name in os.listdir(incoming)
            if is_session_id(name) and name != own_session
        }
    return sorted(times, key=lambda name: -times[name])


def _open_session(path: Path, name: str) -> _Session | None:
    try:
        journal = os.fdopen(os.open(path / JOURNAL, READ_FLAGS), "rb")
    except OSError:
        journal = None
    return _Session(name, path, journal, {}) if path.is_dir() and not path.is_symlink() else None


def _is_attempt(session: _Session, header: ManifestHeader) -> bool:
    try:
        with (session.path / ACQUISITION / MANIFEST).open("rb") as file:
            theirs = decode_header(file.readline(MAX_HEADER_LINE))
    except (EvidenceSyncError, OSError):
        return False
    mine = header.source
    return (theirs.examiner.key, theirs.source.host, theirs.source.path, theirs.source.path_b64) == (
        header.examiner.key,
        mine.host,
        mine.path,
        mine.path_b64,
    )


def _is_empty(session: _Session) -> bool:
    """Whether nothing at all was received: the header is what comes first, and is handed to the system at once."""
    try:
        return not os.path.getsize(session.path / ACQUISITION / MANIFEST) and not os.listdir(session.path / CONTENTS)
    except OSError:
        return False


def _file_of(session: Path, path: bytes) -> tuple[bytes, int]:
    try:
        found = os.lstat(os.fsencode(session) + b"/" + path)
    except (OSError, ValueError):
        return path, 0
    return path, found.st_size if stat.S_ISREG(found.st_mode) else 0
