"""Restores an acquisition, or a part of it, as a working copy. The vault is only read.

1. The manifest, whose signatures somebody has checked, is read to its end: is everything there that was asked for?  2. Files,
folders, links and special files are made in a draft beside the destination, and every byte is hashed on its way.  3. The
draft is synced, read back from its disk, and compared with the manifest.  4. It is given its metadata.  5. It is renamed.
So there is a whole copy or none. What the system could not hold, or would not set, is counted and named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evidencesync.custody.hardlinks import is_hard_link
from evidencesync.custody.manifest import CheckedLine, WholeEntry
from evidencesync.errors import DigestMismatchError, NotThereError, PathEscapeError
from evidencesync.files.disk import FOLDER_FLAGS, opened_folder, storing, sync_file_system
from evidencesync.restore.draft import TemporaryDestination, open_draft
from evidencesync.restore.metadata import MetadataApplier, MetadataOptions
from evidencesync.restore.refusals import Refusals
from evidencesync.restore.tree import HardLinkTargets, OnDamage, TreeMaker
from evidencesync.restore.wanted import AcquiredManifest, PathSelection
from evidencesync.vault.layout import DATA
from evidencesync.vault.readback import read_back
from evidencesync.vault.space import bytes_on_disk, check_destination
from evidencesync.vault.tree import TreeReader

_RawPath = bytes


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What to restore, and how. `folder` is the acquisition's folder, `manifest_sha256` that of the manifest that was checked."""

    vault: Path
    folder: Path
    manifest_sha256: str
    destination: bytes
    paths: tuple[bytes, ...] = ()
    read_back: bool = True
    devices: bool = False
    on_damage: OnDamage = "fail"
    metadata: MetadataOptions = field(default_factory=MetadataOptions)


@dataclass(slots=True)
class RestoreProgress:
    """The progress of a restore: plain numbers that a display reads at any time."""

    stage: Literal["looking", "writing", "syncing", "read-back", "metadata", "done"] = "looking"
    files: int = 0
    bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    path: _RawPath = b""


_NO_ROOM = "Name a destination with more room, or only some paths; nothing was restored."


@dataclass(frozen=True, slots=True)
class Restored:
    """The result: entries by type, bytes of contents, how many of these share blocks with the vault, and what the copy lacks."""

    counts: dict[str, int]
    bytes: int
    shared_bytes: int
    read_back: bool
    refusals: Refusals


def restore(request: RestoreRequest, progress: RestoreProgress) -> Restored:
    """Restores. After an error nothing is left.

    Raises NotThereError, NoSpaceError, StorageError, NameClashError, UsageError for the destination, and DigestMismatchError
    or MissingOrExtraError for damaged evidence.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(opened_folder(request.folder))
        acquired = AcquiredManifest(folder, request.manifest_sha256)
        draft = stack.enter_context(open_draft(request.destination, request.vault))
        with storing(f"open {DATA}"):
            data = TreeReader(os.open(DATA, FOLDER_FLAGS, dir_fd=folder))
        stack.callback(data.close)
        needed = _survey(acquired, data, request, progress)
        check_destination(draft.fd, needed, folder, _NO_ROOM)
        return _Restoring(request, progress, acquired, draft).run(data)


def _survey(acquired: AcquiredManifest, data: TreeReader, request: RestoreRequest, progress: RestoreProgress) -> int:
    """Step 1. Raises for a path that does not exist, before anything is copied. Returns how many bytes the copies will need."""
    selection = PathSelection(request.paths)
    seen = False
    needed = 0
    for wanted in acquired.entries(selection):
        seen = True
        if wanted.entry.blake3 is not None:
            progress.total_files += 1
            progress.total_bytes += wanted.entry.size or 0
            if not is_hard_link(wanted.entry):
                needed += _on_disk(data, wanted.path)
    selection.check_found()
    if not seen:
        raise NotThereError("the acquisition has no entries")
    return needed


def _on_disk(data: TreeReader, path: bytes) -> int:
    try:
        folder, name = data.locate(path)
        return bytes_on_disk(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except (OSError, PathEscapeError):
        return 0  # copying it will fail, and say why


class _Restoring:
    """One run."""

    def __init__(
        self, request: RestoreRequest, progress: RestoreProgress, acquired: AcquiredManifest, draft: TemporaryDestination
    ) -> None:
        self._request = request
        self._progress = progress
        self._acquired = acquired
        self._draft = draft
        self._refusals = Refusals()

    def run(self, data: TreeReader) -> Restored:
        """Steps 2 to 5."""
        maker = self._make(data)
        if self._request.read_back:
            self._read_back(maker)
        self._apply_metadata(maker)
        return Restored(maker.counts, maker.bytes, maker.shared, self._request.read_back, self._refusals)

    def _entries(self, absent: set[bytes]) -> Iterator[WholeEntry]:
        for wanted in self._acquired.entries(PathSelection(self._request.paths)):
            if wanted.path not in absent:
                yield wanted

    def _make(self, data: TreeReader) -> TreeMaker:
        progress, request = self._progress, self._request
        progress.stage = "writing"

        def report_bytes(size: int) -> None:
            progress.bytes += size

        draft = self._draft.fd, self._draft.names
        maker = TreeMaker(draft, data, self._refusals, devices=request.devices, on_damage=request.on_damage)
        try:
            for wanted in self._acquired.entries(PathSelection(request.paths)):
                progress.path = wanted.path
                maker.make(wanted, report_bytes)
                progress.files += wanted.entry.blake3 is not None
        finally:
            maker.close()
        progress.stage = "syncing"
        sync_file_system(self._draft.fd, "the working copy")
        return maker

    def _read_back(self, maker: TreeMaker) -> None:
        progress = self._progress
        progress.stage, progress.files, progress.bytes = "read-back", 0, 0

        def report_bytes(files: int, size: int) -> None:
            progress.files += files
            progress.bytes += size

        try:
            read_back(self._draft.fd, self._made(maker), report_bytes)
        except DigestMismatchError as error:
            raise DigestMismatchError(error.message, hint="The disk of the working copy is bad; nothing was restored.") from error

    def _made(self, maker: TreeMaker) -> Iterator[CheckedLine]:
        """Yields every file that was written; a file with several names once."""
        links = HardLinkTargets()
        links.broken = maker.links.broken
        for path, entry, _ in self._entries(maker.absent):
            target = links.target_of(path, entry)
            if target is None or target in maker.absent:
                yield path, entry

    def _apply_metadata(self, maker: TreeMaker) -> None:
        self._progress.stage = "metadata"
        applier = MetadataApplier(self._draft.fd, self._refusals, maker.links, self._request.metadata)
        try:
            for wanted in self._entries(maker.absent):
                self._progress.path = wanted.path
                applier.apply(wanted, maker.absent)
            applier.finish()
            sync_file_system(self._draft.fd, "the working copy")
            self._draft.publish()
            applier.finish_root()
        finally:
            applier.close()
        self._progress.stage = "done"
