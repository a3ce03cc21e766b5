"""Builds the tree of a new acquisition: new files, links, copies, and contents that were assembled from streams."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from evidencesync.connection.event_log import EntryKind
from evidencesync.custody.manifest import CheckedLine
from evidencesync.delta.recipe import Recipe, RowSpool
from evidencesync.errors import DigestMismatchError, ProtocolError
from evidencesync.evidence.digest import Blake3Digest, blake3_of, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.ingest.assembly import AssembledContent
from evidencesync.ingest.basis import tree_key
from evidencesync.ingest.context import IngestContext, Tallies
from evidencesync.ingest.kept import cut_again
from evidencesync.ingest.streams import StreamIntake
from evidencesync.vault.layout import THIS_SESSION, Location
from evidencesync.vault.resume.leftovers import is_leftover
from evidencesync.vault.staged_files import StagedContent
from evidencesync.vault.tree import TreeWriter


class StagingArea(Protocol):
    """The staging area, as far as the tree builder uses it."""

    @property
    def tree(self) -> TreeWriter:
        """The writer of its `data/`."""

    def adopt(self, path: bytes, content: StagedContent, mtime_ns: int | None) -> None:
        """Moves a finished content to its place in `data/`."""

    def count_stored(self, size: int) -> None:
        """Counts bytes that were written."""

    def append_manifest(self, lines: bytes) -> None:
        """Appends lines to the manifest."""

    def more_rows(self) -> AbstractContextManager[RowSpool]:
        """Opens a further spool of rows."""

    def append_recipe(self, recipe: Recipe) -> None:
        """Appends a recipe to chunks.bin."""

    def add_to_sums(self, lines: Iterable[CheckedLine]) -> None:
        """Adds the files among a page's lines to the sums files."""


class TreeBuilder:
    """Makes the files and directories that a manifest lists. Every content is checked against its entry first."""

    def __init__(self, context: IngestContext, streams: StreamIntake, staging: StagingArea, previous: int | None) -> None:
        """`previous` is the number of the previous acquisition, if there is one."""
        self.tallies = Tallies()
        self.verified_on_disk = bytearray()
        """One byte for each content in manifest order: 1 where the disk was read for both digests when it was linked."""
        self._context = context
        self._scope = context.scope
        self._basis = context.basis
        self._from_disk = context.from_disk
        self._streams = streams
        self._staging = staging
        self._session_contents = context.session_contents
        self._previous = previous

    def make_directory(self, path: bytes, entry: Entry) -> None:
        """Makes a directory."""
        self._staging.tree.make_directory(path, _mtime(entry))

    def write(self, path: bytes, entry: Entry, content: bytes | memoryview) -> None:
        """Writes a file from bytes that arrived. Raises DigestMismatchError unless they have the digest of its entry."""
        if blake3_of(content).hex() != entry.blake3:
            raise DigestMismatchError(f"a file arrived that is not the one that was read at the source: {safe_text(path, 300)}")
        if content and self._link_again(path, entry, len(content)):
            return
        self._staging.tree.create_file(path, content, _mtime(entry))
        if content:
            self._staging.append_recipe(Recipe(blake3_of_entry(entry), len(content), b""))
            self._record_file(path, entry, len(content))
        self._staging.count_stored(len(content))
        self.tallies.written.add(len(content))
        self._record_kind("new", path, entry)
        self.verified_on_disk.append(0)

    def store_known(self, path: bytes, entry: Entry, location: Location) -> bool:
        """Links or copies a small file that the vault has, after checking its bytes; False where they are not right."""
        size = entry.size or 0
        basis = self._context.basis
        read = basis.read_whole(location)
        if read is None:
            return False
        data, status = read
        if blake3_of(data).hex() != entry.blake3 or (self._from_disk and sha256_of(data).hex() != entry.sha256):
            basis.record_damage(location)
            return False
        if self._link(path, entry, location, size, status) or self._link_again(path, entry, size):
            return True
        self._staging.tree.create_file(path, data, _mtime(entry))
        self._record_file(path, entry, size)
        self._staging.append_recipe(Recipe(blake3_of_entry(entry), size, b""))
        self.tallies.copied.add(size)
        self._record_kind("copied", path, entry)
        self.verified_on_disk.append(0)
        return True

    def store_large(self, path: bytes, entry: Entry, size: int) -> bool:
        """Places a content that came in a stream; False while it is not assembled. Raises DigestMismatchError for another one."""
        content = self._streams.take(blake3_of_entry(entry))
        if content is None:
            if self._streams.is_idle:
                raise ProtocolError("a file is listed whose content was not sent")
            return False
        if content.size != size or (content.sha256 is not None and content.sha256.hex() != entry.sha256):
            raise DigestMismatchError("a content is not the one that the manifest lists")
        if content.existing is not None:
            self._store_existing(path, entry, content, content.existing)
            self._session_contents.place(content.session_content, path)
        elif content.staged is not None and content.recipe is not None:
            if self._link_again(path, entry, size):
                self._session_contents.place(content.session_content, path)
                content.staged.discard()
                return True
            try:
                self._staging.adopt(path, content.staged, _mtime(entry))
            finally:
                content.staged.close()
            self._session_contents.place(content.session_content, path)
            self._record_file(path, entry, size)
            self._staging.append_recipe(content.recipe)
            self.tallies.add_assembled(size, content.shared)
            self._record_kind("reflinked" if content.shared else "new", path, entry)
            self.verified_on_disk.append(0)
        return True

    def _store_existing(self, path: bytes, entry: Entry, content: AssembledContent, location: Location) -> None:
        """Places a content that a published file has as a whole: linked within the item, else copied or reflinked."""
        if self._link(path, entry, location, content.size) or self._link_again(path, entry, content.size):
            return
        if self._previous is not None:
            # The content was found under another name or time; the previous acquisition may have this very file as well.
            scope, number = self._scope, self._previous
            same = Location(scope.case, scope.item, number, path, content.size, content.blake3)
            if self._basis.is_same_file(same, entry, _mtime(entry)) and self._link(path, entry, same, content.size):
                return
        fd = self._basis.fd_of(location)
        if fd is None:
            raise DigestMismatchError("a published file has vanished while it was being used")
        method = self._staging.tree.copy(path, fd, content.size, _mtime(entry))
        self._record_file(path, entry, content.size)
        if content.recipe is not None:
            self._staging.append_recipe(content.recipe)
        else:
            with self._staging.more_rows() as rows:
                self._staging.append_recipe(cut_again(self._basis, location, rows))
        (self.tallies.reflinked if method == "reflinked" else self.tallies.copied).add(content.size)
        self._record_kind("reflinked" if method == "reflinked" else "copied", path, entry)
        self.verified_on_disk.append(0)

    def _record_kind(self, kind: EntryKind, path: bytes, entry: Entry) -> None:
        self._context.events.entry(kind, path, entry)

    def _record_file(self, path: bytes, entry: Entry, size: int) -> None:
        """Remembers a new file, for later hard links to it."""
        self._session_contents.add_file(blake3_of_entry(entry), _mtime(entry), path, size)

    def _link_again(self, path: bytes, entry: Entry, size: int) -> bool:
        """Links to a file that this session has made before, with the same content and time; False where there is none."""
        earlier = self._session_contents.find_file(blake3_of_entry(entry), _mtime(entry))
        return earlier is not None and self._link(path, entry, earlier, size)

    def _link(self, path: bytes, entry: Entry, location: Location, size: int, found: os.stat_result | None = None) -> bool:
        if not is_leftover(location) and (location.case, location.item) != (self._scope.case, self._scope.item):
            return False
        tree = self._basis.tree(tree_key(location))
        if not self._staging.tree.link(path, tree, location.path, size, _mtime(entry), found):
            return False
        if is_leftover(location):  # the leftover is removed in the end: so the file counts as written for this acquisition
            self._staging.append_recipe(Recipe(blake3_of_entry(entry), size, b""))
            self.tallies.written.add(size)
            self._record_kind("new", path, entry)
            self.verified_on_disk.append(0)
            return True
        self.tallies.linked.add(size)
        self._record_kind("linked", path, entry)
        # What this session has written may not be on the disk yet: it is read back under each of its names.
        self.verified_on_disk.append(int(self._from_disk and location.acquisition != THIS_SESSION))
        return True


def blake3_of_entry(entry: Entry) -> Blake3Digest:
    """Returns the BLAKE3 that an entry states."""
    return Blake3Digest(bytes.fromhex(entry.blake3 or ""))


def _mtime(entry: Entry) -> int | None:
    return parse_file_time(entry.mtime) if entry.mtime is not None else None
