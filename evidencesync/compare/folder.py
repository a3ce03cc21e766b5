"""Compares a folder with a manifest, without a vault, entry by entry: `compare`.

Manifest and folder are gone through side by side, for both come in the order of the same walk: neither is ever in memory as
a whole. What differs is kept on the disk (`store.py`). What was moved or copied is found at the end, when all that is
left over on either side is known; only where contents were found under names that are not theirs is the manifest read
again, to see whether it lists them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Final

from evidencesync.compare.entry import KINDS, FolderHasher, MetadataComparison, Names
from evidencesync.compare.manifest_file import ExpectedEntry, ManifestFile, is_wrong_name, not_read
from evidencesync.compare.store import Category, Compared, DifferenceStore, FolderDifference, Group
from evidencesync.errors import SourceNotFoundError, UsageError
from evidencesync.evidence.digest import blake3_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields, pair_in_order, walk_order
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import SourceRoot, resolve_source, source_not_found
from evidencesync.source.walker import Found, walk
from evidencesync.vault.file_checks import StoredFile
from evidencesync.vault.layout import DATA
from evidencesync.verify.context import VerifyProgress
from evidencesync.verify.documents import reason

_DEVICES: Final = frozenset({"block-device", "character-device"})
_NOT_THERE: Final = frozenset({"vanished", "skipped"})
_SHOWN: Final = 200
_EMPTY: Final = blake3_of(b"").hex()


def listed_key(entry: Entry, *, with_sha256: bool) -> bytes | None:
    """The key of a content: its digests. None without content, and for an empty file, which matches every other empty file."""
    if entry.blake3 is None or not entry.size:
        return None
    return bytes.fromhex(entry.blake3 + ((entry.sha256 or "") if with_sha256 else ""))


class _Inside:
    """Tells whether a path lies in one of some folders. Ask in walk order: a folder is dropped when the walk has left it."""

    def __init__(self) -> None:
        self._prefixes: list[bytes] = []

    def add(self, order: bytes) -> None:
        self._prefixes.append(order + b"\0" if order else b"")

    def holds(self, order: bytes) -> bool:
        while self._prefixes and not order.startswith(self._prefixes[-1]):
            self._prefixes.pop()
        return bool(self._prefixes)


class SideBySide:
    """Goes through manifest and folder together; a ContentSink.

    A file of more than `most` bytes is larger than all that is listed, so it is none of that, and is not read: to make one of
    many TiB that takes no room costs nothing. `names`: see `MetadataComparison`.
    """

    def __init__(
        self,
        outcome: Compared,
        store: DifferenceStore,
        progress: VerifyProgress,
        most: int,
        names: Names,
        *,
        with_sha256: bool,
    ) -> None:
        self._out = outcome
        self._store = store
        self._progress = progress
        self._most = most
        self._with_sha256 = with_sha256
        self._unknown = _Inside()  # folders of which it is not known (in full) what is in them
        self._skipped = _Inside()  # folders that the manifest says were left out
        over_sftp = outcome.facts.over_sftp
        self._metadata = (
            None
            if outcome.is_data
            else MetadataComparison(
                names, judged=outcome.judged, attributes=outcome.judged and not over_sftp, in_seconds=over_sftp
            )
        )
        self._pending: dict[bytes, list[str]] = {}  # metadata that differs, of files that are being hashed

    def run(self, listed: Iterator[ExpectedEntry], found: Iterator[Found], hasher: FolderHasher) -> None:
        """Compares everything; contents are all known at its end."""
        for left, right in pair_in_order(listed, found, attrgetter("order"), lambda one: walk_order(one.path)):
            if right is None and left is not None:
                self._only_listed(left)
            elif left is None and right is not None:
                self._only_found(right, hasher)
            elif left is not None and right is not None:
                self._compare_entry(left, right, hasher)
        hasher.finish()

    def add_changed_folder(self, path: bytes) -> None:
        """Names came or went in this folder after it was listed: what came was not seen."""
        self._out.changed_folders += 1

    # What is on one side only, or on both.

    def _only_listed(self, listed: ExpectedEntry) -> None:
        entry = listed.entry
        group: Group = "files" if entry.type == "file" or entry.blake3 is not None else "others"
        if entry.blake3 is not None:
            self._out.listed += 1
        elif entry.type == "file" or (entry.flags and not _NOT_THERE.isdisjoint(entry.flags)):
            self._out.counts(group)[Category.NOT_COMPARED] += 1
            return
        if self._unknown.holds(listed.order):
            self._add(Category.UNREADABLE, group, listed.path, "the folder that it should be in cannot be read")
        elif entry.blake3 is not None:
            self._store.add_absent(listed.path, listed_key(entry, with_sha256=self._with_sha256))
        elif self._out.is_data and entry.type != "directory":
            self._out.absent_by_design += 1
        else:
            self._add(Category.MISSING, group, listed.path, f"a {entry.type}")

    def _only_found(self, found: Found, hasher: FolderHasher) -> None:
        order = walk_order(found.path)
        group: Group = "files" if found.entry_type == "file" else "others"
        if found.flag == "vanished":
            return
        if found.flag is not None and found.entry_type == "directory":
            self._unknown.add(order)
        if not found.path and found.flag is None:  # the folder around the single file that the manifest lists
            return
        self._out.found += group == "files"
        if self._skipped.holds(order):
            self._out.counts(group)[Category.NOT_COMPARED] += 1
        elif found.flag is not None:
            self._add(Category.UNREADABLE, group, found.path, os.strerror(found.errno))
        elif group == "files":
            size = found.stat.st_size if found.stat is not None else 0
            if size > self._most:
                self._store.add_unlisted(found.path, None)
            else:
                hasher.add(StoredFile(found.path, size, "", ""))
        else:
            self._add(Category.NEW, group, found.path, f"a {found.entry_type}")

    def _compare_entry(self, listed: ExpectedEntry, found: Found, hasher: FolderHasher) -> None:
        entry = listed.entry
        is_file = found.entry_type == "file"
        if found.flag == "vanished":
            self._only_listed(listed)
            return
        group: Group = "files" if is_file or entry.type == "file" or entry.blake3 is not None else "others"
        self._out.listed += entry.blake3 is not None
        self._out.found += is_file
        if found.flag is not None and found.entry_type == "directory":
            self._unknown.add(listed.order)
        flags = entry.flags or ()
        if entry.blake3 is None and "skipped" in flags:
            self._out.counts(group)[Category.NOT_COMPARED] += 1
            if entry.type == "directory":
                self._skipped.add(listed.order)
        elif entry.blake3 is None and (entry.type == "file" or "vanished" in flags):
            self._add(Category.UNREADABLE, group, found.path, f"listed without content: {', '.join(flags)} at the source")
        elif found.entry_type != entry.type and not (entry.blake3 is not None and is_file) and found.stat is not None:
            self._replace(listed, group, f"a {found.entry_type} in place of a {entry.type}")
        elif found.flag is not None:
            self._add(Category.UNREADABLE, group, found.path, os.strerror(found.errno))
        elif entry.blake3 is not None:
            self._compare_file(listed, found, hasher)
        else:
            self._compare_other(listed, found)

    def _compare_file(self, listed: ExpectedEntry, found: Found, hasher: FolderHasher) -> None:
        entry = listed.entry
        size = found.stat.st_size if found.stat is not None else 0
        if size > self._most:
            key = listed_key(entry, with_sha256=self._with_sha256)
            self._store.add_modified(listed.path, key, None, f"{size} bytes, more than all that is listed: it was not read")
            return
        if differing := self._metadata_differences(listed, found):
            self._pending[listed.path] = differing
        hasher.add(StoredFile(listed.path, size, entry.blake3 or "", entry.sha256 or ""))

    def _compare_other(self, listed: ExpectedEntry, found: Found) -> None:
        """A folder, link or special file of the same kind."""
        entry = listed.entry
        if self._out.is_data and entry.type != "directory":
            self._add(Category.NEW, "others", listed.path, f"a {entry.type}: no vault puts one under {DATA}/")
            return
        try:
            there, wanted = _leads_to(entry, found)
        except OSError as error:
            self._add(Category.UNREADABLE, "others", listed.path, reason(error))
            return
        if wanted is None and entry.type == "symlink":
            self._add(Category.UNREADABLE, "others", listed.path, "listed without a target: it could not be read at the source")
        elif wanted is not None and there != wanted:
            text = f"leads to {safe_text(there, _SHOWN)}, not to {safe_text(wanted, _SHOWN)}"
            self._add(Category.MODIFIED, "others", listed.path, text)
        else:
            self._out.others[Category.MATCHED] += 1
            if differing := self._metadata_differences(listed, found):
                self._count_metadata("others", listed.path, differing)

    def _replace(self, listed: ExpectedEntry, group: Group, detail: str) -> None:
        """Records that a listed name belongs to something of another kind now."""
        if listed.entry.blake3 is None:
            self._add(Category.MODIFIED, group, listed.path, detail)
        else:
            self._store.add_modified(listed.path, listed_key(listed.entry, with_sha256=self._with_sha256), None, detail)

    # Contents.

    def add_same(self, files: list[StoredFile]) -> None:
        """See ContentSink."""
        self._out.files[Category.MATCHED] += len(files)
        self._progress.files += len(files)
        if self._pending:
            for file in files:
                if differing := self._pending.pop(file.path, None):
                    self._count_metadata("files", file.path, differing)

    def add_different(self, file: StoredFile, size: int, digests: list[str]) -> None:
        """See ContentSink."""
        self._progress.files += 1
        key = bytes.fromhex("".join(digests)) if size else None
        if not file.blake3:
            self._store.add_unlisted(file.path, key)
            return
        self._pending.pop(file.path, None)
        self._store.add_modified(file.path, self._key_of(file), key, f"{size} bytes, BLAKE3 {digests[0]}")

    def add_unreadable(self, file: StoredFile, message: str) -> None:
        """See ContentSink."""
        self._pending.pop(file.path, None)
        self._add(Category.UNREADABLE, "files", file.path, message)

    def add_missing(self, file: StoredFile) -> None:
        """See ContentSink."""
        self._pending.pop(file.path, None)
        self._out.found -= 1
        if file.blake3:
            self._store.add_absent(file.path, self._key_of(file))

    def add_bytes(self, size: int, _holes: int = 0, /) -> None:
        """See ContentSink."""
        self._out.bytes += size
        self._progress.bytes += size

    def _key_of(self, file: StoredFile) -> bytes | None:
        """The key of what is listed for a file."""
        if file.blake3 == _EMPTY:
            return None
        return bytes.fromhex(file.blake3 + (file.sha256 if self._with_sha256 else ""))

    # Counting.

    def _add(self, category: Category, group: Group, path: bytes, detail: str) -> None:
        self._store.add(FolderDifference(category, group, path, detail=detail))

    def _metadata_differences(self, listed: ExpectedEntry, found: Found) -> list[str]:
        if self._metadata is None:
            return []
        return self._metadata.differences(listed.entry, listed.attributes, found)

    def _count_metadata(self, group: Group, path: bytes, differing: list[str]) -> None:
        if self._out.metadata is not None:
            self._out.metadata.update(differing)
        if self._out.judged:
            self._add(Category.METADATA, group, path, ", ".join(differing))
        else:
            self._out.counts(group)[Category.METADATA] += 1


def _leads_to(entry: Entry, found: Found) -> tuple[bytes, bytes | None]:
    """Where a link or a device leads, and where the manifest says that it does. Raises OSError."""
    if entry.type == "symlink":
        wanted = None if entry.target is None and entry.target_b64 is None else from_json_fields(entry.target, entry.target_b64)
        return os.readlink(found.name, dir_fd=found.dir_fd), wanted
    if entry.type in _DEVICES and found.stat is not None:
        there = f"{os.major(found.stat.st_rdev)}:{os.minor(found.stat.st_rdev)}"
        return there.encode(), None if entry.device_number is None else entry.device_number.encode()
    return b"", None


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """What is to be compared.

    `trusted` is an allowed_signers file: then the manifest's signature is checked before anything else. `all_digests`:
    SHA-256, too. `metadata`: differences in it count, and attributes are looked at. `is_data`: the folder is an
    acquisition's `data/`, where links and special files are absent by design and metadata is the vault's; the one beside
    the manifest is known to be.
    """

    manifest: Path
    folder: Path
    trusted: bytes | None = None
    all_digests: bool = False
    metadata: bool = False
    is_data: bool = False


def compare_folder(request: CompareRequest, progress: VerifyProgress, now_ns: int) -> Compared:
    """Compares a folder (or a single file) with a manifest. Nothing is written but a temporary file of differences.

    Raises UsageError and SourceNotFoundError where one of the two is not there, IncompleteError where one cannot be read, what
    is wrong with the manifest or its signature, and StorageError where there is no room for all that differs.
    """
    with ExitStack() as stack:
        manifest = stack.enter_context(ManifestFile(request.manifest))
        facts = manifest.facts(request.trusted, now_ns)
        source = _resolve(request.folder)
        if source.is_device:
            raise UsageError(
                f"{safe_text(source.path)} is a device: only folders and files are compared",
                hint="Acquire it again, and see what has changed: evidencesync push, evidencesync diff",
            )
        is_data = request.is_data or _is_own_data(request.manifest, source)
        metadata = None if is_data else Counter(dict.fromkeys(KINDS, 0))
        outcome = Compared(facts, is_data, judged=request.metadata and not is_data, metadata=metadata)
        store = stack.enter_context(closing(DifferenceStore()))
        most = progress.total_bytes = manifest.total_bytes()
        side_by_side = SideBySide(outcome, store, progress, most, manifest.names_of_inodes, with_sha256=request.all_digests)
        root_fd = _open_root(source)
        stack.callback(os.close, root_fd)
        with closing(FolderHasher(root_fd, side_by_side, all_digests=request.all_digests)) as hasher:
            found = walk(source.path, FilterRules.none(), changed=side_by_side.add_changed_folder)
            side_by_side.run(manifest.entries(attributes=outcome.judged), found, hasher)
        needs_contents = store.pair()
        store.finish(_contents(manifest, with_sha256=request.all_digests) if needs_contents else iter(()))
        for (category, group), count in store.counts().items():
            outcome.counts(group)[category] += count
        outcome.differences = store.listed()
        outcome.left_out = store.counts().total() - len(outcome.differences)
    return outcome


def _resolve(folder: Path) -> SourceRoot:
    try:
        return resolve_source(folder)
    except SourceNotFoundError as error:
        if isinstance(error.__cause__, OSError) and not is_wrong_name(error.__cause__):
            raise not_read(error.__cause__, f"look at {safe_text(os.fsencode(folder))}") from error
        raise


def _open_root(source: SourceRoot) -> int:
    # The folder above a file may be named through links, as anywhere: nobody has put them into the evidence.
    path = source.path if source.is_folder else os.path.realpath(os.path.dirname(source.path))
    try:
        return os.open(path, FOLDER_FLAGS)
    except OSError as error:
        raise (source_not_found(path, error) if is_wrong_name(error) else not_read(error, f"open {safe_text(path)}")) from error


def _is_own_data(manifest: Path, source: SourceRoot) -> bool:
    """Whether the folder is the `data/` beside the manifest."""
    above, name = os.path.split(source.path)
    return source.is_folder and name == DATA.encode() and os.path.samefile(above, os.path.dirname(os.path.realpath(manifest)))


def _contents(manifest: ManifestFile, *, with_sha256: bool) -> Iterator[tuple[bytes, bytes]]:
    """Path and key of all that has content."""
    for listed in manifest.entries(attributes=False):
        key = listed_key(listed.entry, with_sha256=with_sha256)
        if key is not None:
            yield listed.path, key
