"""Builds the tree of a new acquisition: new files, links, copies, and contents that were assembled from streams."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from evidencesync.custody.manifest import CheckedLine
from evidencesync.delta.recipe import Recipe, RowSpool
from evidencesync.errors import DigestMismatchError, ProtocolError
from evidencesync.evidence.digest import Blake3Digest, blake3_of, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import checked_file_time
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

    def append_single(self, content: Blake3Digest, size: int) -> None:
        """Appends the recipe of a content of one chunk."""

    def add_to_sums(self, lines: Iterable[CheckedLine]) -> None:
        """Adds the files among a page's lines to the sums files."""


class ListedFile(msgspec.Struct, frozen=True, gc=False):
    """A content that the manifest lists. What is used of its entry more than once is decoded once."""

    path: bytes
    entry: Entry
    size: int
    blake3: Blake3Digest
    mtime_ns: int | None

    @classmethod
    def of(cls, path: bytes, entry: Entry) -> ListedFile:
        """Makes it of a checked entry that has a content."""
        blake3: Blake3Digest = bytes.fromhex(entry.blake3 or "")  # type: ignore[assignment]  # as in `blake3_of`
        return cls(path, entry, entry.size or 0, blake3, _mtime(entry))


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
        self._events = context.events

    def make_directory(self, path: bytes, entry: Entry) -> None:
        """Makes a directory."""
        self._staging.tree.make_directory(path, _mtime(entry))

    def write(self, file: ListedFile, content: bytes | memoryview) -> None:
        """Writes a file from bytes that arrived. Raises DigestMismatchError unless they have the digest of its entry."""
        if blake3_of(content) != file.blake3:
            shown = safe_text(file.path, 300)
            raise DigestMismatchError(f"a file arrived that is not the one that was read at the source: {shown}")
        if content and self._link_again(file):
            return
        staging = self._staging
        staging.tree.create_file(file.path, content, file.mtime_ns)
        if content:
            staging.append_single(file.blake3, file.size)
            self._record_file(file)
        staging.count_stored(file.size)
        self.tallies.written.add(file.size)
        self._events.entry("new", file.path, file.entry)
        self.verified_on_disk.append(0)

    def store_known(self, file: ListedFile, location: Location) -> bool:
        """Links or copies a small file that the vault has, after checking its bytes; False where they are not right."""
        read = self._basis.read_whole(location)
        if read is None:
            return False
        data, status = read
        if blake3_of(data) != file.blake3 or (self._from_disk and sha256_of(data).hex() != file.entry.sha256):
            self._basis.record_damage(location)
            return False
        if self._link(file, location, status) or self._link_again(file):
            return True
        self._staging.tree.create_file(file.path, data, file.mtime_ns)
        self._record_file(file)
        self._staging.append_single(file.blake3, file.size)
        self.tallies.copied.add(file.size)
        self._events.entry("copied", file.path, file.entry)
        self.verified_on_disk.append(0)
        return True

    def store_large(self, file: ListedFile) -> bool:
        """Places a content that came in a stream; False while it is not assembled. Raises DigestMismatchError for another one."""
        content = self._streams.take(file.blake3)
        if content is None:
            if self._streams.is_idle:
                raise ProtocolError("a file is listed whose content was not sent")
            return False
        if content.size != file.size or (content.sha256 is not None and content.sha256.hex() != file.entry.sha256):
            raise DigestMismatchError("a content is not the one that the manifest lists")
        if content.existing is not None:
            self._store_existing(file, content, content.existing)
            self._session_contents.place(content.session_content, file.path)
        elif content.staged is not None and content.recipe is not None:
            if self._link_again(file):
                self._session_contents.place(content.session_content, file.path)
                content.staged.discard()
                return True
            try:
                self._staging.adopt(file.path, content.staged, file.mtime_ns)
            finally:
                content.staged.close()
            self._session_contents.place(content.session_content, file.path)
            self._record_file(file)
            self._staging.append_recipe(content.recipe)
            self.tallies.add_assembled(file.size, content.shared)
            self._events.entry("reflinked" if content.shared else "new", file.path, file.entry)
            self.verified_on_disk.append(0)
        return True

    def _store_existing(self, file: ListedFile, content: AssembledContent, location: Location) -> None:
        """Places a content that a published file has as a whole: linked within the item, else copied or reflinked."""
        if self._link(file, location) or self._link_again(file):
            return
        if self._previous is not None:
            # The content was found under another name or time; the previous acquisition may have this very file as well.
            same = Location(self._scope.case, self._scope.item, self._previous, file.path, content.size, content.blake3)
            if self._basis.is_same_file(same, file.entry, file.mtime_ns) and self._link(file, same):
                return
        fd = self._basis.fd_of(location)
        if fd is None:
            raise DigestMismatchError("a published file has vanished while it was being used")
        method = self._staging.tree.copy(file.path, fd, content.size, file.mtime_ns)
        self._record_file(file)
        if content.recipe is not None:
            self._staging.append_recipe(content.recipe)
        else:
            with self._staging.more_rows() as rows:
                self._staging.append_recipe(cut_again(self._basis, location, rows))
        (self.tallies.reflinked if method == "reflinked" else self.tallies.copied).add(content.size)
        self._events.entry("reflinked" if method == "reflinked" else "copied", file.path, file.entry)
        self.verified_on_disk.append(0)

    def _record_file(self, file: ListedFile) -> None:
        """Remembers a new file, for later hard links to it."""
        self._session_contents.add_file(file.blake3, file.mtime_ns, file.path, file.size)

    def _link_again(self, file: ListedFile) -> bool:
        """Links to a file that this session has made before, with the same content and time; False where there is none."""
        earlier = self._session_contents.find_file(file.blake3, file.mtime_ns)
        return earlier is not None and self._link(file, earlier)

    def _link(self, file: ListedFile, location: Location, found: os.stat_result | None = None) -> bool:
        leftover = is_leftover(location)
        if not leftover and (location.case != self._scope.case or location.item != self._scope.item):
            return False
        tree = self._basis.tree(tree_key(location))
        if not self._staging.tree.link(file.path, tree, location.path, file.size, file.mtime_ns, found):
            return False
        if leftover:  # the leftover is removed in the end: so the file counts as written for this acquisition
            self._staging.append_single(file.blake3, file.size)
            self.tallies.written.add(file.size)
            self._events.entry("new", file.path, file.entry)
            self.verified_on_disk.append(0)
            return True
        self.tallies.linked.add(file.size)
        self._events.entry("linked", file.path, file.entry)
        # What this session has written may not be on the disk yet: it is read back under each of its names.
        self.verified_on_disk.append(self._from_disk and location.acquisition != THIS_SESSION)
        return True


def _mtime(entry: Entry) -> int | None:
    return checked_file_time(entry.mtime) if entry.mtime is not None else None
