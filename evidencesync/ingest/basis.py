"""Finds and reads contents that the vault already has, published or left in staging.

Nothing from here is trusted: the caller checks every byte against the digest that it must have.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence

from evidencesync.delta.rows import Row
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, ContentHasher, SegmentDigest, new_blake3
from evidencesync.evidence.entry import Entry
from evidencesync.files.copying import BlockSharing
from evidencesync.files.disk import close_quietly, forget_cached
from evidencesync.files.holes import extents
from evidencesync.limits import KIB, MIB
from evidencesync.vault.index.index import Index
from evidencesync.vault.index.recipes import ChunkPlace
from evidencesync.vault.layout import THIS_SESSION, Location, Scope
from evidencesync.vault.resume.leftovers import Leftovers, is_leftover
from evidencesync.vault.tree import TreeReader

_ZEROS = bytes(256 * KIB)
_BLOCK = 1 * MIB
_MAX_OPEN_FILES = 32
_MAX_OPEN_TREES = 32
TreeKey = tuple[str, str, int]


class Basis:
    """Opens and reads published files by location. `from_disk`: every read comes from the disk, not from the page cache."""

    def __init__(self, open_tree: Callable[[TreeKey], TreeReader], *, from_disk: bool) -> None:
        self.damaged: set[Location] = set()
        self.sharing = BlockSharing()
        self._open_tree = open_tree
        self._from_disk = from_disk
        self._trees: OrderedDict[TreeKey, TreeReader] = OrderedDict()
        self._latest: tuple[TreeKey, TreeReader] | None = None
        self._files: OrderedDict[tuple[TreeKey, bytes], int] = OrderedDict()

    def close(self) -> None:
        """Closes everything."""
        for fd in self._files.values():
            close_quietly(fd)
        for tree in self._trees.values():
            tree.close()
        self._files.clear()
        self._trees.clear()
        self._latest = None

    def tree(self, key: TreeKey) -> TreeReader:
        """Returns the files of one acquisition: case folder, item folder, number. Raises when it is not there."""
        if self._latest is not None and self._latest[0] == key:  # nearly always: this is called for each file
            return self._latest[1]
        found = self._trees.get(key)
        if found is None:
            found = self._trees[key] = self._open_tree(key)
            if len(self._trees) > _MAX_OPEN_TREES:
                self._trees.popitem(last=False)[1].close()
        self._trees.move_to_end(key)
        self._latest = key, found
        return found

    def fd_of(self, location: Location) -> int | None:
        """Returns a descriptor of the file, which is not the caller's to close; None when it cannot be opened."""
        key = (tree_key(location), location.path)
        fd = self._files.get(key)
        if fd is None:
            try:
                fd, _ = self.tree(tree_key(location)).open_file(location.path)
                if self._from_disk:
                    forget_cached(fd)
            except (EvidenceSyncError, OSError):
                self.record_damage(location)
                return None
            self._files[key] = fd
            if len(self._files) > _MAX_OPEN_FILES:
                close_quietly(self._files.popitem(last=False)[1])
        self._files.move_to_end(key)
        return fd

    def read(self, location: Location, offset: int, length: int) -> bytes | None:
        """Reads bytes of a published file, unchecked; None when they cannot be read."""
        fd = self.fd_of(location)
        if fd is None:
            return None
        try:
            data = os.pread(fd, length, offset)
        except OSError:
            data = b""
        if len(data) != length:
            self.record_damage(location)
            return None
        return data

    def is_zeros(self, location: Location, offset: int, length: int) -> bool:
        """Returns whether a range of a published file holds zeros alone. Holes are not read: see `evidencesync.files.holes`."""
        fd = self.fd_of(location)
        seen = 0
        try:
            for start, size, is_hole in extents(fd, offset, offset + length, len(_ZEROS)) if fd is not None else ():
                if not is_hole and self.read(location, start, size) != _ZEROS[:size]:
                    return False
                seen += size
        except OSError:
            self.record_damage(location)
        return seen == length

    def read_whole(self, location: Location) -> tuple[bytes, os.stat_result] | None:
        """Reads a small published file once, without keeping it open. Returns its bytes, and its status when it was opened."""
        try:
            fd, status = self.tree(tree_key(location)).open_file(location.path)
            try:
                if self._from_disk:
                    forget_cached(fd)
                data = os.read(fd, location.size + 1) if status.st_size == location.size else b""
            finally:
                close_quietly(fd)
        except (EvidenceSyncError, OSError):
            self.record_damage(location)
            return None
        return data, status

    def begins_with(self, location: Location, length: int, blake3: Blake3Digest) -> bool:
        """Returns whether the first `length` bytes of a published file have this digest. They are read."""
        hasher = new_blake3()
        for start in range(0, length, _BLOCK):
            data = self.read(location, start, min(_BLOCK, length - start))
            if data is None:
                return False
            hasher.update(data)
        return hasher.digest() == blake3

    def is_same_file(self, location: Location, entry: Entry, mtime_ns: int | None) -> bool:
        """Returns whether a published file has an entry's size, time and, read from end to end, both of its digests."""
        try:
            fd, status = self.tree(tree_key(location)).open_file(location.path)
            close_quietly(fd)
        except (EvidenceSyncError, OSError):
            return False  # there need not be one
        if status.st_size != entry.size or status.st_mtime_ns != mtime_ns:
            return False
        hasher = ContentHasher()
        for start in range(0, location.size, _BLOCK):
            data = self.read(location, start, min(_BLOCK, location.size - start))
            if data is None:
                return False
            hasher.update(data)
        blake3, sha256 = hasher.digests()
        return (blake3.hex(), sha256.hex()) == (entry.blake3, entry.sha256)

    def find_path(self, key: TreeKey, path: bytes) -> Location | None:
        """Returns the file at a path of an acquisition. What it holds is not known: the digest in the location is all zeros."""
        try:
            fd, status = self.tree(key).open_file(path)
            close_quietly(fd)
        except (EvidenceSyncError, OSError):
            return None  # there need not be one
        return Location(*key, path, status.st_size, Blake3Digest(bytes(32)))

    def record_damage(self, location: Location) -> None:
        """Records that a published file is damaged, for the count in the acknowledgement; `verify` reports the damage itself.

        What was only staged was never evidence: it is simply not used.
        """
        if len(self.damaged) < 1000 and not is_leftover(location) and location.acquisition != THIS_SESSION:
            self.damaged.add(location)


def tree_key(location: Location) -> TreeKey:
    """Returns which acquisition a location is in."""
    return location[:3]


class Lookup:
    """Finds contents, segments and chunks in the index and in leftovers. The caller hashes what is found before it uses it."""

    def __init__(self, index: Index, leftovers: Leftovers) -> None:
        self._index = index
        self._leftovers = leftovers

    def known(self, scope: Scope) -> int:
        """Returns about how many contents may be found; 0: lookups will find nothing."""
        return self._index.known(scope) + self._leftovers.count

    def find_contents(self, digests: Sequence[Blake3Digest], scope: Scope) -> dict[Blake3Digest, Location]:
        """Returns where whole contents lie."""
        found = self._index.find_contents(digests, scope)
        if self._leftovers.count and len(found) < len(digests):
            found.update(self._leftovers.find_contents([digest for digest in digests if digest not in found]))
        return found

    def find_segment(self, digest: SegmentDigest, at: int, scope: Scope) -> tuple[Location, int, list[Row]] | None:
        """Returns where a segment lies, and its rows. Leftovers go first: only a leftover can be continued.

        `at` is the segment's offset in the content that it is looked up for.
        """
        found = self._leftovers.find_segment(digest, at) if self._leftovers.count else None
        return found or self._index.find_segment(digest, scope)

    def find_chunks(self, digests: Sequence[ChunkDigest], scope: Scope) -> dict[ChunkDigest, ChunkPlace]:
        """Returns where chunks lie."""
        found = self._index.find_chunks(digests, scope)
        if self._leftovers.count and len(found) < len(digests):
            found.update(self._leftovers.find_chunks([digest for digest in digests if digest not in found]))
        return found
