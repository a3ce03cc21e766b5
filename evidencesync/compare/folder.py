"""`compare`: a folder against a manifest, without a vault.

Manifest and folder are gone through side by side, for both come in the order of the same walk: neither is ever in memory as
a whole. What differs is kept on the disk (`compare_store.py`). What was moved or copied is found at the end, when all that is
left over on either side is known; only where contents were found under names that are not theirs is the manifest read
again, to see whether it lists them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from evidencesync.compare.contents import FolderHasher
from evidencesync.compare.manifest_file import ManifestFile, is_wrong_name, not_read
from evidencesync.compare.metadata import KINDS
from evidencesync.compare.store import Compared, DifferenceStore
from evidencesync.compare.walk import SideBySide, listed_key
from evidencesync.errors import SourceNotFoundError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import SourceRoot, resolve_source, source_not_found
from evidencesync.source.walker import walk
from evidencesync.vault.layout import DATA
from evidencesync.verify.context import VerifyProgress


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
        most = manifest.total_bytes()
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
