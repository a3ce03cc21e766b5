"""Leftovers: what earlier sessions of an item staged and never published, as something the next session can build on.

Everything here is a hint. Whoever uses a location reads and hashes the bytes first, and a leftover that is not what the
journal or the manifest says is no finding: it was never evidence. Needs the item's lock for as long as it lives.

A location in a leftover has a negative acquisition number, one for each session, and a path below the session's folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from evidencesync.custody.documents import ManifestHeader
from evidencesync.delta.rows import Row
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.vault.disk import FOLDER_FLAGS, opened_folder, storing
from evidencesync.vault.folders import remove_tree
from evidencesync.vault.item import Item
from evidencesync.vault.left_session import DATA_PATH, LeftSession, open_left_sessions
from evidencesync.vault.leftover_index import LeftoverIndex
from evidencesync.vault.location import Location
from evidencesync.vault.recipes import ChunkPlace
from evidencesync.vault.tree import TreeReader


class Leftovers:
    """The staging areas of one item but one's own, the latest first. Not thread-safe."""

    def __init__(self, item: Item, own_session: str) -> None:
        item.require_lock()
        self._item = item
        self._sessions = open_left_sessions(item, own_session)
        self._index = LeftoverIndex(self._sessions)
        self._have_contents = False

    def load(self) -> None:
        """Reads all journals; takes a second or two for each TiB."""
        self._index.load_journals()

    @property
    def count(self) -> int:
        """How many sessions there are to go on from."""
        return len(self._sessions)

    def close(self) -> None:
        """Lets go of everything. Safe to call again."""
        self._index.close()
        for session in self._sessions:
            session.close()

    # What was staged.

    def open_tree(self, acquisition: int) -> TreeReader:
        """The files of one session, by their paths below its folder."""
        with storing("open a staging area"):
            return TreeReader(os.open(self._session(acquisition).path, FOLDER_FLAGS))

    def path_of(self, location: Location) -> Path:
        """The file of a location."""
        return self._session(location.acquisition).path / os.fsdecode(location.path)

    def manifests(self) -> Iterator[tuple[int, Path]]:
        """The manifests of all sessions, each with its acquisition number. They end wherever they end."""
        for session in self._sessions:
            if session.manifest.is_file() and not session.manifest.is_symlink():
                yield session.acquisition, session.manifest

    def small_file(self, acquisition: int, path: bytes, size: int, blake3: Blake3Digest) -> Location | None:
        """A file that a session's manifest lists, if it was really stored: lines are written before files."""
        session = self._session(acquisition)
        location = session.location(DATA_PATH + path, size, blake3)
        return location if session.size_of(location.path) == size else None

    def origin_of(self, location: Location) -> tuple[str, int] | None:
        """The session that a staged file belongs to, and its number among that session's contents."""
        session = self._session(location.acquisition)
        content = session.content_at(location.path)
        return None if content is None else (session.name, content)

    # Looking up.

    def find_contents(self, digests: Sequence[Blake3Digest]) -> dict[Blake3Digest, Location]:
        """Small contents that some session has stored, by their digests."""
        if not self._have_contents:
            self._have_contents = True
            for acquisition, manifest in self.manifests():
                self._index.load_manifest(acquisition, manifest)
        found: dict[Blake3Digest, Location] = {}
        for digest in digests:
            listed = self._index.find_content(digest)
            if listed is not None and (location := self.small_file(*listed, digest)) is not None:
                found[digest] = location
        return found

    def find_segment(self, digest: SegmentDigest) -> tuple[Location, int, list[Row]] | None:
        """Where a segment lies: a staged file, an offset, and its rows."""
        return self._index.find_segment(digest)

    def find_chunks(self, digests: Sequence[ChunkDigest]) -> dict[ChunkDigest, ChunkPlace]:
        """Where chunks lie, near the segment that was found last (or at the beginning of what was staged last)."""
        return self._index.find_chunks(digests)

    # Removing.

    def remove_continued(self, header: ManifestHeader) -> int:
        """Removes the staging areas of earlier attempts at this very acquisition, now that it is published; how many.

        An attempt is one by the same examiner at the same source, or one that ended before it had said whose it is. Others
        stay for those who began them. Raises StorageError.
        """
        continued = [session.name for session in self._sessions if session.is_attempt_at(header) or session.is_empty()]
        with opened_folder(self._item.layout.incoming) as incoming:
            for name in continued:
                remove_tree(incoming, name)
        return len(continued)

    def count_continued(self, header: ManifestHeader) -> int:
        """How many earlier attempts at this very acquisition there are."""
        return sum(session.is_attempt_at(header) for session in self._sessions)

    def _session(self, acquisition: int) -> LeftSession:
        return self._sessions[-acquisition - 1]


def is_leftover(location: Location) -> bool:
    """Whether a location is in what was staged, and so never was evidence."""
    return location.acquisition < 0
