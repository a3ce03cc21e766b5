"""Remembers the contents that this session has received, so that a repeated one is neither sent nor written twice.

A remembered place is a hint: the bytes there are hashed before they are used, like all bytes of a basis. The memory is
bounded; a content that was dropped from it is requested again.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from evidencesync.delta.rows import Row, pack_segment, segment_digest_of, unpack_segment
from evidencesync.errors import MissingOrExtraError
from evidencesync.evidence.digest import Blake3Digest, SegmentDigest
from evidencesync.limits import MIB
from evidencesync.vault.layout import THIS_SESSION, Location, Scope
from evidencesync.vault.staged_files import StagedContent
from evidencesync.vault.tree import TreeReader

_REMEMBERED_BYTES: Final = 12 * MIB
"""Memory for each kind: it holds about the latest 20 GiB of large contents, and the latest 25,000 files."""
_OVERHEAD: Final = 400  # bytes of an entry besides rows and paths
_STAGED: Final = b"\0"  # prefix of a large content's path in a Location here; no path of evidence can contain it


class SessionContent(msgspec.Struct):
    """A larger content of this session: first it is assembled, then it is complete, in the end it has a path in `data/`.

    `staged` has its bytes until then; or `existing` is a file that has them all. `is_gone`: no line of the manifest named it.
    """

    number: int
    blake3: Blake3Digest | None = None
    size: int = 0
    staged: StagedContent | None = None
    existing: Location | None = None
    path: bytes | None = None
    is_gone: bool = False
    segments: int = 0


class _Segment(msgspec.Struct, frozen=True):
    content: SessionContent
    offset: int
    packed: bytes


class SessionContents:
    """Remembers contents and segments of one session. For one thread."""

    def __init__(self, scope: Scope, room: int = _REMEMBERED_BYTES) -> None:
        """`room`: bytes of memory, for segments, small contents and files each."""
        self._scope = scope
        self._room = room
        self._segments: dict[SegmentDigest, _Segment] = {}
        self._segment_bytes = 0
        self._contents: dict[int, SessionContent] = {}
        self._small: dict[Blake3Digest, tuple[bytes, int]] = {}  # path and size: a Location is made of what is found
        self._small_bytes = 0
        self._files: dict[tuple[Blake3Digest, int | None], tuple[bytes, int]] = {}
        self._file_bytes = 0
        self._count = 0

    # Large contents.

    def begin(self) -> SessionContent:
        """Returns a new entry for a larger content that is about to be assembled."""
        self._count += 1
        return SessionContent(self._count)

    def add_segment(self, content: SessionContent, offset: int, rows: list[Row]) -> None:
        """Remembers a stored segment of a content, and its offset."""
        packed = pack_segment(rows)
        digest = segment_digest_of(packed)
        if digest in self._segments:
            return
        self._segments[digest] = _Segment(content, offset, packed)
        self._contents[content.number] = content
        content.segments += 1
        self._segment_bytes += len(packed) + _OVERHEAD
        while self._segment_bytes > self._room:
            self._forget(next(iter(self._segments)))

    def complete(
        self, content: SessionContent, blake3: Blake3Digest, size: int, staged: StagedContent | None, existing: Location | None
    ) -> None:
        """Marks a content as complete: staged, or in an existing file."""
        content.blake3, content.size, content.staged, content.existing = blake3, size, staged, existing

    def place(self, content: SessionContent, path: bytes) -> None:
        """Records a content's path in `data/`."""
        content.path, content.staged = path, None
        if content.number in self._contents:
            self._segment_bytes += len(path)

    def drop(self, content: SessionContent) -> None:
        """Marks a content as gone: no line of the manifest named it."""
        content.is_gone, content.staged = True, None

    def find_segment(self, digest: SegmentDigest) -> tuple[Location, int, list[Row]] | None:
        """Returns where a segment of a complete content lies, and its rows."""
        found = self._segments.get(digest)
        location = self._location(found.content) if found is not None else None
        return None if found is None or location is None else (location, found.offset, unpack_segment(found.packed))

    def is_coming(self, digest: SegmentDigest, content: SessionContent) -> bool:
        """Returns whether another content that is still being assembled has this segment."""
        found = self._segments.get(digest)
        return found is not None and found.content is not content and found.content.blake3 is None and not found.content.is_gone

    def _location(self, content: SessionContent) -> Location | None:
        if content.is_gone or content.blake3 is None:
            return None
        if content.existing is not None:
            return content.existing
        name = _STAGED + b"%d" % content.number
        return self._at(name, content.size, content.blake3)

    def _forget(self, digest: SegmentDigest) -> None:
        segment = self._segments.pop(digest)
        content = segment.content
        content.segments -= 1
        self._segment_bytes -= len(segment.packed) + _OVERHEAD
        if not content.segments:
            self._contents.pop(content.number, None)
            self._segment_bytes -= len(content.path or b"")

    # Small contents.

    def add_small(self, blake3: Blake3Digest, path: bytes, size: int) -> None:
        """Remembers a small content that is listed here: it will be stored at its path before any later one is stored."""
        if blake3 in self._small:
            return
        self._small[blake3] = path, size
        self._small_bytes += len(path) + _OVERHEAD
        while self._small_bytes > self._room:
            oldest = next(iter(self._small))
            self._small_bytes -= len(self._small.pop(oldest)[0]) + _OVERHEAD

    def find_small(self, blake3: Blake3Digest, size: int) -> Location | None:
        """Returns where a small content lies, or will lie when it is needed."""
        found = self._small.get(blake3)
        return self._at(*found, blake3) if found is not None and found[1] == size else None

    # Files.

    def add_file(self, blake3: Blake3Digest, mtime_ns: int | None, path: bytes, size: int) -> None:
        """Remembers a new file in `data/`: a later one with the same content and time becomes a hard link to it."""
        key = blake3, mtime_ns
        if key in self._files:
            return
        self._files[key] = path, size
        self._file_bytes += len(path) + _OVERHEAD
        while self._file_bytes > self._room:
            oldest = next(iter(self._files))
            self._file_bytes -= len(self._files.pop(oldest)[0]) + _OVERHEAD

    def find_file(self, blake3: Blake3Digest, mtime_ns: int | None) -> Location | None:
        """Returns a file of this session with this content and time."""
        found = self._files.get((blake3, mtime_ns))
        return None if found is None else self._at(*found, blake3)

    def _at(self, path: bytes, size: int, blake3: Blake3Digest) -> Location:
        return Location(self._scope.case, self._scope.item, THIS_SESSION, path, size, blake3)

    # Reading.

    def tree(self, data_fd: int) -> TreeReader:
        """Returns a reader of the locations that `find_segment` and `find_small` return. Takes over a descriptor of `data/`."""
        return _SessionTree(data_fd, self._contents)


class _SessionTree(TreeReader):
    """Reads files of a `data/` that is being built, and contents that have no path in it yet."""

    def __init__(self, data_fd: int, contents: dict[int, SessionContent]) -> None:
        super().__init__(data_fd)
        self._contents = contents

    def locate(self, path: bytes) -> tuple[int, bytes]:
        """See TreeReader. Raises MissingOrExtraError for a content that has no path yet."""
        return super().locate(self._placed(path))

    def open_file(self, path: bytes) -> tuple[int, os.stat_result]:
        """See TreeReader."""
        content = self._content(path)
        if content is not None and content.staged is not None and content.staged.fd >= 0:
            fd = os.dup(content.staged.fd)
            return fd, os.fstat(fd)
        return super().open_file(path)

    def _placed(self, path: bytes) -> bytes:
        if not path.startswith(_STAGED):
            return path
        content = self._content(path)
        if content is None or content.path is None:
            raise MissingOrExtraError("a content of this session has no place yet, or is not known any more")
        return content.path

    def _content(self, path: bytes) -> SessionContent | None:
        return self._contents.get(int(path[1:])) if path.startswith(_STAGED) else None
