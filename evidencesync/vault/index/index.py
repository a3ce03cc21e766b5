"""Finds contents, segments and chunks that the vault has already, and rebuilds the index that says so.

The index is a cache with one SQLite file for each case. No lookup reaches another case: a sender to one case learns nothing
about others. The index is never evidence: a file that is damaged, foreign or of an older version is deleted and rebuilt from
published acquisitions, and a lookup that fails finds nothing.
"""

from __future__ import annotations

import base64
import contextlib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Final, TypeVar

import msgspec

from evidencesync.custody.manifest import CheckedLine
from evidencesync.custody.text import UNREADABLE
from evidencesync.delta.rows import Row, is_hook
from evidencesync.errors import EvidenceSyncError, MalformedDocumentError, MissingOrExtraError, StorageError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, SegmentDigest
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import locked_folder, storing
from evidencesync.vault.catalog import acquisition_numbers, case_folders, item_folders, opened_document, read_published
from evidencesync.vault.index.case_index import CaseIndex, KnownContent, RowPlace
from evidencesync.vault.index.recipes import ChunkPlace, RecipeWindows, SegmentReader, iter_long_recipes, open_recipes
from evidencesync.vault.layout import MANIFEST, STATED_HEADS, ItemLayout, Location, Scope, VaultLayout

_MAX_OPEN_CASES: Final = 64
_CACHE: Final = 16 * 1024  # KiB, for the case of the session
_CACHE_OF_OTHERS: Final = 512
_SUFFIX: Final = ".sqlite"
BEYOND_CASES: Final = ".everywhere.sqlite"
"""A file of an earlier version in the index folder: which case has what. It is unused and harmless."""
# The file itself is useless: damaged, not SQLite, other tables or columns. Other errors (locked, full, no permission) do not
# depend on the file.
_USELESS: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT})
# SQLite's error for a file that another process has deleted, to rebuild it, while we had it open.
_MOVED: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
_Result = TypeVar("_Result")
_TRIES = 5


class Index:
    """All lookups of a receiver. May be used from several threads; one lookup runs at a time.

    `notices` has texts, for people, about files that could not be used; a lookup never fails because of the cache. `is_full` is
    set when the disk had no room for it.
    """

    def __init__(self, layout: VaultLayout) -> None:
        self.notices: list[str] = []
        self.is_full = False
        self.moved = False
        """Whether the last query failed because another process was rebuilding the file: then it may be repeated."""
        self._layout = layout
        self._lock = threading.Lock()
        self._open: OrderedDict[str, CaseIndex] = OrderedDict()
        self._windows = RecipeWindows(layout)
        self._segments = SegmentReader(layout)
        self._near: RowPlace | None = None

    def close(self) -> None:
        """Closes all files. The index may be used again afterwards."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def known(self, scope: Scope) -> int:
        """Returns how many contents a lookup can find; with 0 a lookup is of no use."""
        item = scope.item if scope.lookup == "item" else None
        with self._lock:
            return self._ask(scope.case, lambda index: index.count(item)) or 0

    def find_contents(self, digests: Sequence[Blake3Digest], scope: Scope) -> dict[Blake3Digest, Location]:
        """Finds whole contents: in the scope's own item, else in its case."""
        with self._lock:
            return self._ask(scope.case, _content_query(digests, scope)) or {} if digests else {}

    def find_segment(self, digest: SegmentDigest, scope: Scope) -> tuple[Location, int, list[Row]] | None:
        """Finds one segment: a published file, an offset, and the rows that its digest is over.

        The file with the last segment is tried first: contents that are found in order can be linked. Hash the bytes before
        they are used.
        """
        with self._lock:
            for place in self._places_of(digest, scope):
                segment = self._segments.read(place, digest)
                if segment is not None:
                    self._near = place
                    return place.location, place.offset, segment.rows()
        return None

    def find_chunks(self, digests: Sequence[ChunkDigest], scope: Scope) -> dict[ChunkDigest, ChunkPlace]:
        """Finds chunks, in the recipes around hooks and around the last segment that was found.

        One chunk in sixteen is a hook, so a chunk is found when one of its neighbours in `digests` is.
        """
        found: dict[ChunkDigest, ChunkPlace] = {}
        with self._lock:
            self._search_windows(digests, scope, found)
            hooks = [digest for digest in digests if digest not in found and is_hook(digest)]
            if hooks:
                for place in (self._ask(scope.case, _hook_query(hooks, scope)) or {}).values():
                    self._windows.load(place)
                self._search_windows(hooks, scope, found)
            if self._near is not None and len(found) < len(digests):
                self._windows.load(self._near)
            self._search_windows(digests, scope, found)
        return found

    def acquisitions(self, case: str) -> set[tuple[str, int]]:
        """Returns item folder and number of every acquisition of a case that is in the index."""
        with self._lock:
            return self._ask(case, lambda index: index.acquisitions()) or set()

    def add_acquisition(self, case: str, item: str, number: int, contents: Iterable[KnownContent]) -> bool:
        """Adds a published acquisition by its manifest's contents and its chunks.bin; False when that was not possible.

        All or nothing, in one transaction. `case` and `item` are folder names. Errors (also in the manifest or the chunks.bin)
        are added to `notices`.
        """
        try:
            with open_recipes(self._layout, case, item, number) as file, self._lock:
                recipes = iter_long_recipes(file)
                return self._ask(case, lambda index: index.add(item, number, contents, recipes)) is not None
        except EvidenceSyncError as error:
            self.notices.append(f"acquisition {number} of {safe_text(case)}/{safe_text(item)}: {error.message}")
            return False

    def forget(self, case: str) -> None:
        """Deletes a case's index, so that it can be rebuilt."""
        with self._lock:
            self._close(case)
            self._remove(f"{case}{_SUFFIX}")

    def remove_beyond_cases(self) -> None:
        """Removes what lies beside the cases' indexes: of stated heads (`vault.stated`), and a file of an earlier version."""
        with self._lock:
            self._remove(BEYOND_CASES)
            self._remove(STATED_HEADS)

    def _places_of(self, digest: SegmentDigest, scope: Scope) -> Iterator[RowPlace]:
        following = self._segments.follows(scope)
        if following is not None:
            yield following
        yield from (self._ask(scope.case, _segment_query([digest], scope)) or {}).values()

    def _search_windows(self, digests: Sequence[ChunkDigest], scope: Scope, found: dict[ChunkDigest, ChunkPlace]) -> None:
        for digest in digests:
            if digest not in found:
                place = self._windows.find(digest, scope)
                if place is not None:
                    found[digest] = place

    def _ask(self, case: str, question: Callable[[CaseIndex], _Result]) -> _Result | None:
        """Runs one query on a case's index; None when it fails. A useless file is deleted."""
        self.moved = False
        try:
            return question(self._case(case))
        except sqlite3.Error as error:
            self.moved = _code(error) in _MOVED
            self.notices.append(f"index of {safe_text(case)}: {safe_text(str(error), 200)}")
            self.is_full |= _code(error) == sqlite3.SQLITE_FULL
            useless = _is_useless(error)
        self._close(case)
        if useless:
            self._remove(f"{case}{_SUFFIX}")
        return None

    def _case(self, case: str) -> CaseIndex:
        if case in self._open:
            self._open.move_to_end(case)
            return self._open[case]
        path = self._layout.index / f"{case}{_SUFFIX}"
        if path.is_symlink():
            raise sqlite3.DatabaseError("not a file of ours")
        with contextlib.suppress(OSError):  # then it cannot be opened either, which is reported
            self._layout.index.mkdir(mode=0o700, exist_ok=True)
        opened = CaseIndex(path, case, _CACHE_OF_OTHERS if self._open else _CACHE)
        self._open[case] = opened
        if len(self._open) > _MAX_OPEN_CASES:
            self._open.popitem(last=False)[1].close()
        return opened

    def _close(self, case: str) -> None:
        opened = self._open.pop(case, None)
        if opened is not None:
            opened.close()

    def _remove(self, name: str) -> None:
        with contextlib.suppress(StorageError), locked_folder(self._layout.index, "the index", wait=True):
            for suffix in ("-journal", "-wal", "-shm", ""):
                with storing("remove a useless index"):
                    (self._layout.index / f"{name}{suffix}").unlink(missing_ok=True)


def _is_useless(error: sqlite3.Error) -> bool:
    code = _code(error)
    return code is None or code in _USELESS


def _code(error: sqlite3.Error) -> int | None:
    """Returns SQLite's primary result code; None where Python itself raised the error."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _content_query(digests: Sequence[Blake3Digest], scope: Scope) -> Callable[[CaseIndex], dict[Blake3Digest, Location]]:
    return lambda index: index.find_contents(digests, scope.item, only_item=scope.lookup == "item")


def _segment_query(digests: Sequence[SegmentDigest], scope: Scope) -> Callable[[CaseIndex], dict[SegmentDigest, RowPlace]]:
    return lambda index: index.find_segments(digests, scope.item, only_item=scope.lookup == "item")


def _hook_query(digests: Sequence[ChunkDigest], scope: Scope) -> Callable[[CaseIndex], dict[ChunkDigest, RowPlace]]:
    return lambda index: index.find_hooks(digests, scope.item, only_item=scope.lookup == "item")


def known_contents(lines: Iterable[CheckedLine]) -> Iterator[KnownContent]:
    """Yields what an index stores of a manifest's lines."""
    for path, line in lines:
        if isinstance(line, Entry) and line.blake3 is not None:
            yield Blake3Digest(bytes.fromhex(line.blake3)), path, line.size or 0


class _Line(msgspec.Struct, gc=False):
    path: str | None = None
    path_b64: str | None = None
    size: int | None = None
    blake3: str | None = None


_LINES: Final = msgspec.json.Decoder(_Line)
_READ_LINES: Final = 1 << 20


def published_contents(item: ItemLayout, number: int, pages: Iterable[tuple[int, int]] | None) -> Iterator[KnownContent]:
    """Yields what an index stores of a manifest that this process has checked and published: nothing else is decoded again.

    `pages`: offset and length of the whole lines that are wanted; None: all. Raises as `read_published` does.
    """
    with opened_document(item, number, MANIFEST) as file:
        for block in _all_lines(file) if pages is None else _lines_at(file, pages):
            try:
                for line in _LINES.decode_lines(block):
                    if line.blake3 is not None:
                        path = line.path.encode() if line.path is not None else base64.b64decode(line.path_b64 or "")
                        yield Blake3Digest(bytes.fromhex(line.blake3)), path, line.size or 0
            except UNREADABLE as error:
                raise MalformedDocumentError("a manifest is not what was published just now") from error


def _all_lines(file: BinaryIO) -> Iterator[bytes]:
    while lines := file.readlines(_READ_LINES):
        yield b"".join(lines)


def _lines_at(file: BinaryIO, pages: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    for offset, length in pages:
        file.seek(offset)
        yield file.read(length)


class Reindexed(msgspec.Struct, frozen=True):
    """What was added to the index, and what could not be added."""

    cases: int
    acquisitions: int
    left_out: tuple[str, ...]


def catch_up(vault: VaultLayout, index: Index, case: str) -> Reindexed:
    """Adds every published acquisition of a case that the index does not have: after a crash, or when it was lost.

    `case` is a folder name. What cannot be read is left out, and reported: the index is a cache, and `verify` judges damage.
    """
    known = index.acquisitions(case)  # before the folders: others may publish meanwhile
    published: set[tuple[str, int]] = set()
    unread: set[str] = set()
    for item in item_folders(vault, case):
        try:
            published |= {(item, number) for number in acquisition_numbers(ItemLayout(vault.case(case) / item))}
        except (StorageError, MissingOrExtraError) as error:
            unread.add(item)
            index.notices.append(error.message)
    if (
        not {one for one in known if one[0] not in unread} <= published
    ):  # the index of another vault, or of an older state of this one
        index.forget(case)
        known = set()
    left_out = [f"{safe_text(case)}/{safe_text(item)}" for item in sorted(unread)]
    missing = sorted(published - known)
    for item, number in missing:
        layout = ItemLayout(vault.case(case) / item)
        if not _add(index, case, item, number, layout):
            left_out.append(f"{safe_text(case)}/{safe_text(item)}/{number}")
    return Reindexed(1, len(missing) + len(unread) - len(left_out), tuple(left_out))


def _add(index: Index, case: str, item: str, number: int, layout: ItemLayout) -> bool:
    """Adds an acquisition; again where another process was rebuilding the index."""
    for _ in range(_TRIES):
        if index.add_acquisition(case, item, number, known_contents(read_published(layout, number))):
            return True
        if not index.moved:
            return False
    return False


def rebuild(vault: VaultLayout, index: Index) -> Reindexed:
    """Deletes the whole index and rebuilds it."""
    index.remove_beyond_cases()
    cases = case_folders(vault)
    done = []
    for case in cases:
        index.forget(case)
        try:
            done.append(catch_up(vault, index, case))
        except StorageError as error:
            index.notices.append(error.message)
            done.append(Reindexed(1, 0, (safe_text(case),)))
    left_out = tuple(name for part in done for name in part.left_out)
    return Reindexed(len(cases), sum(part.acquisitions for part in done), left_out)
